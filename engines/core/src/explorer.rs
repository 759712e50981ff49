//! What an explorer shows of a ledger.

use serde::{Deserialize, Serialize};

/// A block for the explorer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Height.
    pub height: u64,
    /// Hash, 0x-hex.
    pub hash: String,
    /// Hash of the block before.
    pub parent_hash: String,
    /// Made at, milliseconds since 1970.
    pub time_ms: u64,
    /// State root, 0x-hex.
    pub state_root: String,
    /// Proposer's address or id.
    pub proposer: String,
    /// Gas used by all transactions.
    pub gas_used: u64,
    /// Gas that its transactions may use together.
    pub gas_limit: u64,
    /// Wei a unit of gas costs at least, decimal; `None` if the ledger has no such price.
    pub base_fee: Option<String>,
    /// Hashes of the transactions, in order.
    pub transactions: Vec<String>,
}

/// One entry that a contract wrote while a transaction ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Contract's address, 0x-hex.
    pub address: String,
    /// Topics in order, 0x-hex.
    pub topics: Vec<String>,
    /// Data, 0x-hex.
    pub data: String,
}

/// A transaction for the explorer; `block` is `None` while it waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Hash, 0x-hex.
    pub hash: String,
    /// Height of its block.
    pub block: Option<u64>,
    /// Hash of its block.
    pub block_hash: Option<String>,
    /// Place in its block, from 0; `None` while it waits.
    pub index: Option<u32>,
    /// Sender.
    pub from: String,
    /// Receiver; `None` creates a contract.
    pub to: Option<String>,
    /// Amount in wei, decimal.
    pub value: String,
    /// Sender's sequence number.
    pub nonce: u64,
    /// Input, 0x-hex.
    pub input: String,
    /// Gas it may use.
    pub gas_limit: u64,
    /// Wei a unit of gas cost, decimal; while it waits, what it offers.
    pub gas_price: String,
    /// Whether it succeeded; `None` while it waits.
    pub success: Option<bool>,
    /// Gas used; `None` while it waits.
    pub gas_used: Option<u64>,
    /// Fee paid in wei, decimal; `None` while it waits.
    pub fee: Option<String>,
    /// Created contract's address.
    pub contract: Option<String>,
    /// What contracts wrote, in order; empty while it waits.
    pub logs: Vec<Log>,
}

/// An account for the explorer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Address, 0x-hex.
    pub address: String,
    /// Balance in wei, decimal.
    pub balance: String,
    /// Transactions sent.
    pub nonce: u64,
    /// Size of its code in bytes; 0 if it is no contract.
    pub code_bytes: u64,
    /// Height at which this was read.
    pub height: u64,
}

/// How to name a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockRef {
    /// The newest.
    Latest,
    /// By height.
    Height(u64),
    /// By hash, 0x-hex.
    Hash(String),
}
