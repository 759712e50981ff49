//! Ethereum's JSON: blocks, transactions, receipts, logs, and what requests name blocks by.

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rlp::Encodable;
use jsonrpsee::types::ErrorObjectOwned;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{internal, refuse};
use crate::block::{Block, Tx};
use crate::exec;
use crate::store::{Snapshot, StateView, StoredLog, StoredReceipt};

/// A number as Ethereum writes it.
pub(super) fn quantity(value: u64) -> Value {
    json!(format!("{value:#x}"))
}

/// A block by tag, number, or hash (EIP-1898).
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum BlockRef {
    Name(String),
    Number {
        #[serde(rename = "blockNumber")]
        number: String,
    },
    Hash {
        #[serde(rename = "blockHash")]
        hash: B256,
    },
}

impl Default for BlockRef {
    fn default() -> Self {
        Self::Name("latest".to_owned())
    }
}

impl BlockRef {
    /// The block's number, or `None` if there is no such block (yet).
    pub(super) fn resolve(&self, snapshot: &Snapshot) -> Result<Option<u64>, ErrorObjectOwned> {
        let head = snapshot.head().map_err(internal)?.unwrap_or(0);
        let name = match self {
            Self::Hash { hash } => return snapshot.block_number(*hash).map_err(internal),
            Self::Name(name) | Self::Number { number: name } => name.as_str(),
        };
        match name {
            // A decided block is final at once, so all four are the same block.
            "latest" | "pending" | "safe" | "finalized" => return Ok(Some(head)),
            "earliest" => return Ok(Some(0)),
            _ => {}
        }
        if name.len() == 66 {
            let hash: B256 = name.parse().map_err(|_| invalid(format!("block {name}")))?;
            return snapshot.block_number(hash).map_err(internal);
        }
        let digits = name.strip_prefix("0x").ok_or_else(|| invalid(format!("block {name}")))?;
        let number = u64::from_str_radix(digits, 16).map_err(|_| invalid(format!("block {name}")))?;
        Ok((number <= head).then_some(number))
    }

    /// The number of the block and the state after it.
    pub(super) fn state<'a>(&self, snapshot: &'a Snapshot) -> Result<(u64, StateView<'a>), ErrorObjectOwned> {
        let number = self.resolve(snapshot)?.ok_or_else(|| refuse("there is no such block"))?;
        match snapshot.state_at(number).map_err(internal)? {
            Some(state) => Ok((number, state)),
            None => {
                let (oldest, head) = (snapshot.oldest_state().map_err(internal)?, snapshot.head().map_err(internal)?);
                Err(refuse(format!(
                    "state of block {number} is not kept; this node keeps those of blocks {oldest} to {}",
                    head.unwrap_or(0)
                )))
            }
        }
    }
}

/// The caller's parameters are wrong.
pub(super) fn invalid(what: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32602, format!("invalid parameter: {}", what.into()), None::<()>)
}

/// A block; `full` gives whole transactions instead of their hashes.
pub(super) fn block(block: &Block, receipts: &[StoredReceipt], full: bool) -> Result<Value, ErrorObjectOwned> {
    let mut value = to_value(block.header())?;
    let transactions = if full {
        block
            .transactions()
            .iter()
            .zip(receipts)
            .zip(0u64..)
            .map(|((tx, receipt), index)| transaction(tx, receipt.from, Some((block.number(), block.hash(), index))))
            .collect::<Result<Vec<_>, _>>()?
    } else {
        block.transactions().iter().map(|tx| json!(tx.tx_hash())).collect()
    };
    value["hash"] = json!(block.hash());
    value["size"] = quantity(block.raw().length() as u64);
    value["totalDifficulty"] = quantity(0);
    value["transactions"] = json!(transactions);
    value["uncles"] = json!([]);
    value["withdrawals"] = json!([]);
    Ok(value)
}

/// A transaction; `place` is block number, hash and index once it is in a block.
pub(super) fn transaction(tx: &Tx, from: Address, place: Option<(u64, B256, u64)>) -> Result<Value, ErrorObjectOwned> {
    let mut value = to_value(tx)?;
    value["hash"] = json!(tx.tx_hash());
    value["from"] = json!(from);
    value["gasPrice"] = json!(format!("{:#x}", tx.effective_gas_price(Some(0))));
    value["blockNumber"] = place.map_or(Value::Null, |(number, _, _)| quantity(number));
    value["blockHash"] = place.map_or(Value::Null, |(_, hash, _)| json!(hash));
    value["transactionIndex"] = place.map_or(Value::Null, |(_, _, index)| quantity(index));
    Ok(value)
}

/// All receipts of a block.
pub(super) fn receipts(block: &Block, receipts: &[StoredReceipt]) -> Vec<Value> {
    let mut first_log = 0;
    let mut all = Vec::new();
    for ((index, tx), receipt) in (0u64..).zip(block.transactions()).zip(receipts) {
        let place = Place { block, tx: *tx.tx_hash(), index };
        let logs: Vec<_> = (first_log..).zip(&receipt.logs).map(|(n, entry)| log(entry, &place, n)).collect();
        first_log += receipt.logs.len() as u64;
        all.push(json!({
            "type": quantity(u64::from(receipt.tx_type)),
            "status": quantity(u64::from(receipt.success)),
            "transactionHash": tx.tx_hash(),
            "transactionIndex": quantity(index),
            "blockHash": block.hash(),
            "blockNumber": quantity(block.number()),
            "from": receipt.from,
            "to": tx.to(),
            "contractAddress": receipt.contract.filter(|_| tx.is_create()),
            "gasUsed": quantity(receipt.gas_used),
            "cumulativeGasUsed": quantity(receipt.cumulative_gas_used),
            "effectiveGasPrice": format!("{:#x}", tx.effective_gas_price(Some(0))),
            "logsBloom": exec::bloom(receipt),
            "logs": logs,
        }));
    }
    all
}

/// Where a log stands.
pub(super) struct Place<'a> {
    pub(super) block: &'a Block,
    pub(super) tx: B256,
    pub(super) index: u64,
}

/// A log; `number` counts the logs of its block.
pub(super) fn log(entry: &StoredLog, place: &Place<'_>, number: u64) -> Value {
    json!({
        "address": entry.address,
        "topics": entry.topics,
        "data": entry.data,
        "blockHash": place.block.hash(),
        "blockNumber": quantity(place.block.number()),
        "blockTimestamp": quantity(place.block.header().timestamp),
        "transactionHash": place.tx,
        "transactionIndex": quantity(place.index),
        "logIndex": quantity(number),
        "removed": false,
    })
}

/// What `eth_call` and `eth_estimateGas` run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CallRequest {
    pub(super) from: Option<Address>,
    pub(super) to: Option<Address>,
    pub(super) gas: Option<U256>,
    pub(super) gas_price: Option<U256>,
    pub(super) max_fee_per_gas: Option<U256>,
    pub(super) value: Option<U256>,
    pub(super) data: Option<Bytes>,
    pub(super) input: Option<Bytes>,
    pub(super) access_list: Option<alloy_eips::eip2930::AccessList>,
}

fn to_value<T: serde::Serialize>(value: &T) -> Result<Value, ErrorObjectOwned> {
    serde_json::to_value(value).map_err(|e| refuse(format!("cannot be shown: {e}")))
}
