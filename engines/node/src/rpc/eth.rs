//! `eth_`, `net_` and `web3_`: what foundry's `cast` and other clients ask.

use std::ops::Deref;

use alloy_eips::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use jsonrpsee::types::Params;
use serde_json::{Value, json};

use super::types::{self, BlockRef, invalid, quantity};
use super::{Handler, Reply, internal, logs, refuse, refuse_for_now, simulate};
use crate::block::{Block, Tx};
use crate::consensus::wire::Message;
use crate::mempool::AdmitError;
use crate::node::Shared;
use crate::state::AccountRecord;
use crate::store::{Snapshot, StoredReceipt};

/// Blocks that one `eth_feeHistory` may cover.
const FEE_HISTORY_MAX: u64 = 1024;
/// Slots that one `eth_getProof` may ask for; each costs a walk from the root.
const PROOF_SLOTS_MAX: usize = 256;

/// Names and handlers.
pub(super) const METHODS: &[(&str, Handler)] = &[
    ("web3_clientVersion", |_, _| Ok(json!(client_version()))),
    ("web3_sha3", |_, params| Ok(json!(keccak256(params.one::<Bytes>()?)))),
    ("net_version", |shared, _| Ok(json!(shared.genesis.chain_id.to_string()))),
    ("net_listening", |_, _| Ok(json!(true))),
    ("net_peerCount", |shared, _| Ok(quantity(shared.net.connected() as u64))),
    ("eth_chainId", |shared, _| Ok(quantity(shared.genesis.chain_id))),
    ("eth_blockNumber", |shared, _| Ok(quantity(shared.status().height))),
    ("eth_syncing", syncing),
    ("eth_accounts", |_, _| Ok(json!([]))),
    ("eth_gasPrice", |shared, _| Ok(quantity(shared.rules.base_fee))),
    ("eth_maxPriorityFeePerGas", |_, _| Ok(quantity(0))),
    ("eth_feeHistory", fee_history),
    ("eth_getBlockByNumber", get_block),
    ("eth_getBlockByHash", get_block),
    ("eth_getBlockTransactionCountByNumber", transaction_count_of_block),
    ("eth_getBlockTransactionCountByHash", transaction_count_of_block),
    ("eth_getBlockReceipts", block_receipts),
    ("eth_getTransactionByHash", transaction),
    ("eth_getTransactionReceipt", receipt),
    ("eth_getTransactionCount", transaction_count),
    ("eth_getBalance", balance),
    ("eth_getCode", code),
    ("eth_getStorageAt", storage),
    ("eth_getProof", proof),
    ("eth_sendRawTransaction", send),
    ("eth_call", simulate::call),
    ("eth_estimateGas", simulate::estimate),
    ("eth_getLogs", logs::get),
];

fn client_version() -> String {
    format!("hanse-node/{}", env!("CARGO_PKG_VERSION"))
}

fn syncing(shared: &Shared, _: Params<'_>) -> Reply {
    let status = shared.status().clone();
    if !status.syncing {
        return Ok(json!(false));
    }
    let best = shared.net.peers().map(|peer| peer.height()).max().unwrap_or(status.height);
    Ok(json!({
        "startingBlock": quantity(status.height),
        "currentBlock": quantity(status.height),
        "highestBlock": quantity(best),
    }))
}

/// Percentiles of one fee history; every block's answer repeats them.
const PERCENTILES_MAX: usize = 100;

fn fee_history(shared: &Shared, params: Params<'_>) -> Reply {
    let mut params = params.sequence();
    let count: Value = params.next()?;
    let newest: BlockRef = params.next()?;
    let percentiles: Option<Vec<f64>> = params.optional_next()?;
    if percentiles.as_ref().is_some_and(|p| p.len() > PERCENTILES_MAX) {
        return Err(invalid("reward percentiles (at most 100)"));
    }
    let count = match &count {
        Value::Number(n) => n.as_u64(),
        Value::String(s) => u64::from_str_radix(s.trim_start_matches("0x"), 16).ok(),
        _ => None,
    }
    .ok_or_else(|| invalid("block count"))?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let newest = newest.resolve(&snapshot)?.ok_or_else(|| refuse("there is no such block"))?;
    let count = count.min(FEE_HISTORY_MAX).min(newest + 1);
    let oldest = newest + 1 - count;
    let (mut used, mut fees) = (Vec::new(), Vec::new());
    for number in oldest..=newest {
        let block = require(&snapshot, number)?;
        let header = block.header();
        fees.push(quantity(header.base_fee_per_gas.unwrap_or_default()));
        used.push(header.gas_used as f64 / header.gas_limit as f64);
    }
    // It never changes.
    fees.push(quantity(shared.rules.base_fee));
    let mut answer = json!({
        "oldestBlock": quantity(oldest),
        "baseFeePerGas": fees,
        "baseFeePerBlobGas": vec![quantity(0); count as usize + 1],
        "gasUsedRatio": used,
        "blobGasUsedRatio": vec![0.0; count as usize],
    });
    if let Some(percentiles) = percentiles.filter(|p| !p.is_empty()) {
        let row = vec![quantity(0); percentiles.len()];
        answer["reward"] = json!(vec![row; count as usize]);
    }
    Ok(answer)
}

/// A block up to the head; it is there unless it was pruned.
pub(super) fn require(snapshot: &Snapshot, number: u64) -> Result<Block, jsonrpsee::types::ErrorObjectOwned> {
    if let Some(block) = snapshot.block(number).map_err(internal)? {
        return Ok(block);
    }
    let oldest = snapshot.oldest_block().map_err(internal)?;
    Err(refuse(format!("block {number} is not kept; this node keeps block 0 and those from {oldest} on")))
}

fn find(
    snapshot: &Snapshot,
    which: &BlockRef,
) -> Result<Option<(Block, Vec<StoredReceipt>)>, jsonrpsee::types::ErrorObjectOwned> {
    let Some(number) = which.resolve(snapshot)? else { return Ok(None) };
    let block = require(snapshot, number)?;
    let receipts = snapshot.receipts(number).map_err(internal)?.unwrap_or_default();
    Ok(Some((block, receipts)))
}

fn get_block(shared: &Shared, params: Params<'_>) -> Reply {
    let mut params = params.sequence();
    let which: BlockRef = params.next()?;
    let full: bool = params.optional_next()?.unwrap_or(false);
    let snapshot = shared.store.snapshot().map_err(internal)?;
    match find(&snapshot, &which)? {
        Some((block, receipts)) => types::block(&block, &receipts, full),
        None => Ok(Value::Null),
    }
}

fn transaction_count_of_block(shared: &Shared, params: Params<'_>) -> Reply {
    let which: BlockRef = params.one()?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let found = find(&snapshot, &which)?;
    Ok(found.map_or(Value::Null, |(block, _)| quantity(block.transactions().len() as u64)))
}

fn block_receipts(shared: &Shared, params: Params<'_>) -> Reply {
    let which: BlockRef = params.one()?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let found = find(&snapshot, &which)?;
    Ok(found.map_or(Value::Null, |(block, list)| json!(types::receipts(&block, &list))))
}

fn transaction(shared: &Shared, params: Params<'_>) -> Reply {
    let hash: B256 = params.one()?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    if let Some((number, index)) = snapshot.transaction(hash).map_err(internal)? {
        let block = require(&snapshot, number)?;
        let receipts = snapshot.receipts(number).map_err(internal)?.unwrap_or_default();
        let place = Some((number, block.hash(), u64::from(index)));
        let found = block.transactions().get(index as usize).zip(receipts.get(index as usize));
        let (tx, receipt) = found.ok_or_else(|| refuse("the transaction's block is damaged"))?;
        return types::transaction(tx, receipt.from, place);
    }
    match shared.mempool.get(hash) {
        Some((tx, from)) => types::transaction(&tx, from, None),
        None => Ok(Value::Null),
    }
}

fn receipt(shared: &Shared, params: Params<'_>) -> Reply {
    let hash: B256 = params.one()?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let Some((number, index)) = snapshot.transaction(hash).map_err(internal)? else {
        return Ok(Value::Null);
    };
    let block = require(&snapshot, number)?;
    let stored = snapshot.receipts(number).map_err(internal)?.unwrap_or_default();
    Ok(types::receipts(&block, &stored).into_iter().nth(index as usize).unwrap_or(Value::Null))
}

/// Parses `[address, block]`.
fn address_at(
    shared: &Shared,
    params: Params<'_>,
) -> Result<(Snapshot, Address, BlockRef), jsonrpsee::types::ErrorObjectOwned> {
    let mut params = params.sequence();
    let address: Address = params.next()?;
    let which: BlockRef = params.optional_next()?.unwrap_or_default();
    Ok((shared.store.snapshot().map_err(internal)?, address, which))
}

fn transaction_count(shared: &Shared, params: Params<'_>) -> Reply {
    let (snapshot, address, which) = address_at(shared, params)?;
    let (_, state) = which.state(&snapshot)?;
    let nonce = state.account(address).map_err(internal)?.map_or(0, |account| account.nonce);
    let pending = matches!(&which, BlockRef::Name(name) if name == "pending");
    let nonce = if pending { shared.mempool.next_nonce(address, nonce) } else { nonce };
    Ok(quantity(nonce))
}

fn balance(shared: &Shared, params: Params<'_>) -> Reply {
    let (snapshot, address, which) = address_at(shared, params)?;
    let (_, state) = which.state(&snapshot)?;
    let account = state.account(address).map_err(internal)?;
    Ok(json!(account.map_or(U256::ZERO, |account| account.balance)))
}

fn code(shared: &Shared, params: Params<'_>) -> Reply {
    let (snapshot, address, which) = address_at(shared, params)?;
    let (_, state) = which.state(&snapshot)?;
    let account = state.account(address).map_err(internal)?;
    let code = match account {
        Some(account) => snapshot.code(account.code_hash).map_err(internal)?,
        None => None,
    };
    Ok(json!(code.unwrap_or_default()))
}

fn storage(shared: &Shared, params: Params<'_>) -> Reply {
    let mut params = params.sequence();
    let address: Address = params.next()?;
    let slot: U256 = params.next()?;
    let which: BlockRef = params.optional_next()?.unwrap_or_default();
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let (_, state) = which.state(&snapshot)?;
    Ok(json!(B256::from(state.slot(address, slot).map_err(internal)?)))
}

/// `eth_getProof` (EIP-1186).
fn proof(shared: &Shared, params: Params<'_>) -> Reply {
    let mut params = params.sequence();
    let address: Address = params.next()?;
    let slots: Vec<U256> = params.next()?;
    let which: BlockRef = params.optional_next()?.unwrap_or_default();
    if slots.len() > PROOF_SLOTS_MAX {
        return Err(invalid(format!("storage keys: {}, at most {PROOF_SLOTS_MAX}", slots.len())));
    }
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let (_, state) = which.state(&snapshot)?;
    let proof = state.prove(address, &slots).map_err(internal)?;
    let account = proof.account.unwrap_or(AccountRecord::ABSENT);
    let storage = proof.storage.iter();
    Ok(json!({
        "address": address,
        "balance": account.balance,
        "nonce": quantity(account.nonce),
        "codeHash": account.code_hash,
        "storageHash": account.storage_root,
        "accountProof": proof.nodes,
        "storageProof": storage
            .map(|slot| json!({ "key": slot.slot, "value": slot.value, "proof": slot.nodes }))
            .collect::<Vec<_>>(),
    }))
}

fn send(shared: &Shared, params: Params<'_>) -> Reply {
    let raw: Bytes = params.one()?;
    let tx = Tx::decode_2718_exact(raw.deref()).map_err(|e| invalid(format!("the transaction cannot be read: {e}")))?;
    match shared.admit(tx) {
        Ok(hash) => {
            shared.net.broadcast(&Message::Transactions(vec![raw]), None);
            Ok(json!(hash))
        }
        Err(AdmitError::Node(error)) => Err(internal(error)),
        Err(error) if error.is_passing() => Err(refuse_for_now(error.to_string())),
        Err(error) => Err(refuse(error.to_string())),
    }
}
