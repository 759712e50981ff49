//! What the drivers of ledgers share that speak Ethereum's JSON-RPC: the transport, the explorer's questions, and the
//! explorer's forms.
//!
//! A ledger's driver calls these and adds what is its own (a finer clock, another name for the proposer). Everything goes
//! through [`Adapter::dial`], which stays on the host's loopback. It never retries, and never signs.

pub mod explorer;
pub mod rpc;

use std::ops::RangeInclusive;

use alloy_primitives::keccak256;
use hanse_adapters_core::{Adapter, AdapterError};
use hanse_engines_core::{Account, BlockRef, EngineError, NodePlan, Result, Transaction};
use serde_json::{Value, json};

use rpc::Rpc;

/// Largest raw transaction; Ethereum's nodes take no larger one into their pools.
pub const RAW_BYTES_MAX: usize = 131_072;
/// Questions in one request: far below what nodes take.
const BATCH: usize = 30;
/// How nodes refuse a transaction because they have it: Ethereum's, and CometBFT's of which the cache is older than its index.
const KNOWN: &[&str] = &["already known", "already in mempool", "tx already exists in cache"];
/// Where the newest state is.
pub const LATEST: &str = "latest";

/// Returns a block as the node says it, with the hashes of its transactions; see [`explorer::block`].
///
/// # Errors
/// `NotFound`, `Invalid` (hash), and those of [`Rpc::one`].
pub async fn block(host: &dyn Adapter, node: &NodePlan, which: &BlockRef) -> Result<Value> {
    let (method, name) = match which {
        BlockRef::Latest => ("eth_getBlockByNumber", LATEST.to_owned()),
        BlockRef::Height(height) => ("eth_getBlockByNumber", format!("{height:#x}")),
        BlockRef::Hash(hash) => ("eth_getBlockByHash", hex_of("block hash", hash, 32)?),
    };
    let found = Rpc::new(host, node).one(method, json!([name, false])).await?;
    if found.is_null() { Err(EngineError::NotFound(format!("block {name}"))) } else { Ok(found) }
}

/// Returns how many transactions are in the blocks of `heights` together, by as few requests as nodes take.
///
/// # Errors
/// `NotFound` (also of blocks that the node does not keep), and those of [`Rpc::one`].
pub async fn transactions(host: &dyn Adapter, node: &NodePlan, heights: RangeInclusive<u64>) -> Result<u64> {
    let method = "eth_getBlockTransactionCountByNumber";
    let calls: Vec<_> = heights.map(|height| (method, json!([format!("{height:#x}")]))).collect();
    let mut count = 0;
    for calls in calls.chunks(BATCH) {
        for (answer, (_, height)) in Rpc::new(host, node).all(calls).await?.iter().zip(calls) {
            if answer.is_null() {
                return Err(EngineError::NotFound(format!("block {height}")));
            }
            count += explorer::quantity(answer).ok_or_else(|| nonsense(node, method, answer))?;
        }
    }
    Ok(count)
}

/// Returns the chain's id.
///
/// # Errors
/// Those of [`Rpc::one`].
pub async fn chain_id(host: &dyn Adapter, node: &NodePlan) -> Result<u64> {
    let answer = Rpc::new(host, node).one("eth_chainId", json!([])).await?;
    explorer::quantity(&answer).ok_or_else(|| nonsense(node, "eth_chainId", &answer))
}

/// Returns a transaction, waiting ones included.
///
/// # Errors
/// `NotFound`, `Invalid` (hash), and those of [`Rpc::one`].
pub async fn transaction(host: &dyn Adapter, node: &NodePlan, hash: &str) -> Result<Transaction> {
    let hash = hex_of("transaction hash", hash, 32)?;
    let calls = [("eth_getTransactionByHash", json!([hash])), ("eth_getTransactionReceipt", json!([hash]))];
    let answers = Rpc::new(host, node).all(&calls).await?;
    let [found, receipt] = answers.as_slice() else { return Err(nonsense(node, "a batch", &json!(answers))) };
    if found.is_null() {
        return Err(EngineError::NotFound(format!("transaction {hash}")));
    }
    explorer::transaction(found, receipt).ok_or_else(|| nonsense(node, "eth_getTransactionByHash", found))
}

/// Returns an account at the newest block.
///
/// # Errors
/// `Invalid` (address), and those of [`Rpc::one`].
pub async fn account(host: &dyn Adapter, node: &NodePlan, address: &str) -> Result<Account> {
    let address = hex_of("address", address, 20)?;
    // The height is asked last: what was read is the state at it or at a block just before.
    let calls = [
        ("eth_getBalance", json!([address, LATEST])),
        ("eth_getTransactionCount", json!([address, LATEST])),
        ("eth_getCode", json!([address, LATEST])),
        ("eth_blockNumber", json!([])),
    ];
    let answers = Rpc::new(host, node).all(&calls).await?;
    explorer::account(&address, &answers).ok_or_else(|| nonsense(node, "a batch", &json!(answers)))
}

/// Sends a signed transaction and returns its hash; one that is known already is a success.
///
/// # Errors
/// `Invalid` (size), `Node` with the ledger's reason, `Host(Unknown)` if nobody knows whether it arrived.
pub async fn send_raw(host: &dyn Adapter, node: &NodePlan, raw: &[u8]) -> Result<String> {
    if raw.is_empty() || raw.len() > RAW_BYTES_MAX {
        let reason = format!("must have 1 to {RAW_BYTES_MAX} bytes");
        return Err(EngineError::Invalid { field: "raw transaction".into(), reason });
    }
    let text = format!("0x{}", hex::encode(raw));
    match Rpc::changing(host, node).one("eth_sendRawTransaction", json!([text])).await {
        Ok(hash) => hash.as_str().map(str::to_owned).ok_or_else(|| {
            // It took the transaction, or something else listens on that port: only a look tells.
            let reason = format!("eth_sendRawTransaction answered {hash}, which is no hash");
            EngineError::Host(AdapterError::Unknown { subject: format!("node {}", node.key), reason })
        }),
        // What it says of a transaction that it was handed before, whether or not its index has it yet.
        Err(EngineError::Node { reason, .. }) if KNOWN.iter().any(|known| reason.contains(known)) => {
            Ok(format!("0x{}", hex::encode(keccak256(raw))))
        }
        Err(refusal @ EngineError::Node { .. }) => {
            // Waiting already, or in a block already (its sequence number is used then): that is what was wanted.
            // Hashed here: not every node's `web3_sha3` takes its argument for hex.
            let hash = format!("0x{}", hex::encode(keccak256(raw)));
            let found = Rpc::new(host, node).one("eth_getTransactionByHash", json!([hash])).await?;
            if found.is_null() { Err(refusal) } else { Ok(hash) }
        }
        Err(other) => Err(other),
    }
}

/// Calls a contract without changing anything and returns what it returned.
///
/// # Errors
/// `Node` with the revert reason, `Invalid` (address), and those of [`Rpc::one`].
pub async fn call(host: &dyn Adapter, node: &NodePlan, to: &str, input: &[u8]) -> Result<Vec<u8>> {
    let to = hex_of("contract address", to, 20)?;
    let request = json!([{ "to": to, "input": format!("0x{}", hex::encode(input)) }, LATEST]);
    let output = Rpc::new(host, node).one("eth_call", request).await?;
    explorer::bytes(&output).ok_or_else(|| nonsense(node, "eth_call", &output))
}

/// Returns `text` as 0x and lower-case hex of `bytes` bytes.
///
/// # Errors
/// `Invalid` names `field`.
pub fn hex_of(field: &str, text: &str, bytes: usize) -> Result<String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() == bytes * 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(format!("0x{}", digits.to_ascii_lowercase()));
    }
    let reason = format!("must be 0x and {} hex digits", bytes * 2);
    Err(EngineError::Invalid { field: field.into(), reason })
}

/// The node said no, or nonsense.
pub fn refused(node: &NodePlan, reason: String) -> EngineError {
    EngineError::Node { node: node.key.to_string(), reason }
}

/// The node answered `method` with something that is no answer.
pub fn nonsense(node: &NodePlan, method: &str, answer: &Value) -> EngineError {
    let shown: String = answer.to_string().chars().take(200).collect();
    refused(node, format!("answered {method} with something that this program cannot read: {shown}"))
}
