//! `eth_` for blocks, transactions and receipts, `net_` and `web3_`: what wallets and libraries ask all day.

use std::ops::Deref;

use alloy_consensus::Transaction;
use alloy_eips::{Decodable2718, Encodable2718};
use alloy_primitives::{B256, Bytes, keccak256};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::types::{self, Args, BlockRef, invalid, quantity};
use super::{Handler, Reply, internal, logs, refuse, refuse_for_now, simulate, state};
use crate::block::{Block, Tx};
use crate::mempool::AdmitError;
use crate::node::Shared;
use crate::store::{Snapshot, StoredReceipt};

/// Names and handlers.
pub(super) const METHODS: &[(&str, Handler)] = &[
    ("web3_clientVersion", |_, _| Ok(json!(client_version()))),
    ("web3_sha3", |_, params| Ok(json!(keccak256(Args::new(&params).need::<Bytes>("data")?)))),
    ("net_version", |shared, _| Ok(json!(shared.genesis.chain_id.to_string()))),
    ("net_listening", |_, _| Ok(json!(true))),
    ("net_peerCount", |shared, _| Ok(quantity(shared.net.connected() as u64))),
    ("eth_chainId", |shared, _| Ok(quantity(shared.genesis.chain_id))),
    ("eth_blockNumber", |shared, _| Ok(quantity(shared.status().height))),
    ("eth_syncing", |shared, _| Ok(syncing(shared))),
    ("eth_accounts", |_, _| Ok(json!([]))),
    ("eth_getBlockByNumber", get_block),
    ("eth_getBlockByHash", get_block),
    ("eth_getBlockTransactionCountByNumber", transaction_count_of_block),
    ("eth_getBlockTransactionCountByHash", transaction_count_of_block),
    ("eth_getUncleCountByBlockNumber", uncle_count),
    ("eth_getUncleCountByBlockHash", uncle_count),
    ("eth_getBlockReceipts", block_receipts),
    ("eth_getTransactionByHash", transaction),
    ("eth_getTransactionByBlockNumberAndIndex", transaction_by_index),
    ("eth_getTransactionByBlockHashAndIndex", transaction_by_index),
    ("eth_getRawTransactionByHash", raw_transaction),
    ("eth_getTransactionReceipt", receipt),
    ("eth_getTransactionCount", state::transaction_count),
    ("eth_getBalance", state::balance),
    ("eth_getCode", state::code),
    ("eth_getStorageAt", state::storage),
    ("eth_getProof", state::proof),
    ("eth_sendRawTransaction", send),
    ("eth_call", simulate::call),
    ("eth_estimateGas", simulate::estimate),
    ("eth_createAccessList", simulate::access_list),
    ("eth_getLogs", logs::get),
];

fn client_version() -> String {
    format!("hanse-node/v{}/{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH)
}

/// `false`, or how far the node is.
pub(super) fn syncing(shared: &Shared) -> Value {
    let status = shared.status().clone();
    if !status.syncing {
        return json!(false);
    }
    let best = shared.net.peers().map(|peer| peer.height()).max().unwrap_or(status.height);
    json!({
        "startingBlock": quantity(status.height),
        "currentBlock": quantity(status.height),
        "highestBlock": quantity(best),
    })
}

/// A block up to the head; it is there unless it was pruned.
pub(super) fn require(snapshot: &Snapshot, number: u64) -> Result<Block, ErrorObjectOwned> {
    if let Some(block) = snapshot.block(number).map_err(internal)? {
        return Ok(block);
    }
    let oldest = snapshot.oldest_block().map_err(internal)?;
    Err(refuse(format!("block {number} is not kept; this node keeps block 0 and those from {oldest} on")))
}

/// A block with its receipts, if it is there.
pub(super) fn find(
    snapshot: &Snapshot,
    which: &BlockRef,
) -> Result<Option<(Block, Vec<StoredReceipt>)>, ErrorObjectOwned> {
    let Some(number) = which.resolve(snapshot)? else { return Ok(None) };
    let block = require(snapshot, number)?;
    let receipts = snapshot.receipts(number).map_err(internal)?.unwrap_or_default();
    Ok(Some((block, receipts)))
}

fn get_block(shared: &Shared, params: Params<'_>) -> Reply {
    let mut args = Args::new(&params);
    let which: BlockRef = args.need("block")?;
    let full: bool = args.maybe("full")?.unwrap_or(false);
    let snapshot = shared.store.snapshot().map_err(internal)?;
    match find(&snapshot, &which)? {
        Some((block, receipts)) => types::block(&block, &receipts, full),
        None => Ok(Value::Null),
    }
}

fn transaction_count_of_block(shared: &Shared, params: Params<'_>) -> Reply {
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let found = find(&snapshot, &Args::new(&params).need("block")?)?;
    Ok(found.map_or(Value::Null, |(block, _)| quantity(block.transactions().len() as u64)))
}

/// There are no uncles on a chain without forks.
fn uncle_count(shared: &Shared, params: Params<'_>) -> Reply {
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let which: BlockRef = Args::new(&params).need("block")?;
    Ok(which.resolve(&snapshot)?.map_or(Value::Null, |_| quantity(0)))
}

fn block_receipts(shared: &Shared, params: Params<'_>) -> Reply {
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let found = find(&snapshot, &Args::new(&params).need("block")?)?;
    Ok(found.map_or(Value::Null, |(block, list)| json!(types::receipts(&block, &list))))
}

/// A transaction of a block with its receipt.
fn at_index(block: &Block, receipts: &[StoredReceipt], index: u64) -> Reply {
    let place = usize::try_from(index).unwrap_or(usize::MAX);
    match block.transactions().get(place).zip(receipts.get(place)) {
        Some((tx, receipt)) => types::transaction(tx, receipt.from, Some((block, index))),
        None => Ok(Value::Null),
    }
}

fn transaction(shared: &Shared, params: Params<'_>) -> Reply {
    let hash: B256 = Args::new(&params).need("hash")?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    if let Some((number, index)) = snapshot.transaction(hash).map_err(internal)? {
        let block = require(&snapshot, number)?;
        let receipts = snapshot.receipts(number).map_err(internal)?.unwrap_or_default();
        return at_index(&block, &receipts, u64::from(index));
    }
    match shared.mempool.get(hash) {
        Some((tx, from)) => types::transaction(&tx, from, None),
        None => Ok(Value::Null),
    }
}

/// `0x`-number, as Ethereum writes small numbers.
struct Index(u64);

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no number that starts with 0x")))
    }
}

fn transaction_by_index(shared: &Shared, params: Params<'_>) -> Reply {
    let mut args = Args::new(&params);
    let which: BlockRef = args.need("block")?;
    let index: Index = args.need("index")?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    match find(&snapshot, &which)? {
        Some((block, receipts)) => at_index(&block, &receipts, index.0),
        None => Ok(Value::Null),
    }
}

fn raw_transaction(shared: &Shared, params: Params<'_>) -> Reply {
    let hash: B256 = Args::new(&params).need("hash")?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let encoded = |tx: &Tx| json!(Bytes::from(tx.encoded_2718()));
    if let Some((number, index)) = snapshot.transaction(hash).map_err(internal)? {
        let block = require(&snapshot, number)?;
        return Ok(block.transactions().get(index as usize).map_or(Value::Null, encoded));
    }
    Ok(shared.mempool.get(hash).map_or(Value::Null, |(tx, _)| encoded(&tx)))
}

fn receipt(shared: &Shared, params: Params<'_>) -> Reply {
    let hash: B256 = Args::new(&params).need("hash")?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let Some((number, index)) = snapshot.transaction(hash).map_err(internal)? else {
        return Ok(Value::Null);
    };
    let block = require(&snapshot, number)?;
    let stored = snapshot.receipts(number).map_err(internal)?.unwrap_or_default();
    Ok(types::receipts(&block, &stored).into_iter().nth(index as usize).unwrap_or(Value::Null))
}

fn send(shared: &Shared, params: Params<'_>) -> Reply {
    let raw: Bytes = Args::new(&params).need("transaction")?;
    let tx = Tx::decode_2718_exact(raw.deref()).map_err(|e| invalid(format!("the transaction cannot be read: {e}")))?;
    let nonce = tx.nonce();
    match shared.admit(tx) {
        Ok(hash) => {
            // Before the answer: what a client knows to be taken must not be lost with this process.
            shared.journal.keep(hash, &raw);
            shared.gossip.push(raw);
            Ok(json!(hash))
        }
        Err(AdmitError::Node(error)) => Err(internal(error)),
        Err(error) if error.is_passing() => {
            tracing::debug!(nonce, %error, "a transaction is refused for now");
            Err(refuse_for_now(error.to_string()))
        }
        Err(error) => Err(refuse(error.to_string())),
    }
}
