//! Ethereum's JSON: blocks, transactions, receipts, logs, and what requests name blocks by.

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256};
use alloy_rlp::Encodable;
use jsonrpsee::types::params::ParamsSequence;
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{internal, refuse};
use crate::block::{Block, Tx};
use crate::exec;
use crate::store::{Snapshot, StoredLog, StoredReceipt};

/// A number as Ethereum writes it.
pub(super) fn quantity(value: u64) -> Value {
    json!(format!("{value:#x}"))
}

/// A block by tag, number or hash, also in the object form of EIP-1898.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum BlockRef {
    /// "latest", "safe" or "finalized": a decided block is final at once, so all three are the same block.
    #[default]
    Latest,
    /// "pending": the newest block; only nonces count what waits in the pool.
    Pending,
    /// A number; "earliest" is 0.
    Number(u64),
    /// A hash.
    Hash(B256),
}

/// EIP-1898. `requireCanonical` says nothing here: a stored block is always canonical.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BlockObject {
    block_number: Option<String>,
    block_hash: Option<B256>,
    #[serde(rename = "requireCanonical")]
    _require_canonical: Option<bool>,
}

impl<'de> Deserialize<'de> for BlockRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        match Value::deserialize(deserializer)? {
            Value::String(name) => Self::parse(&name).map_err(D::Error::custom),
            object @ Value::Object(_) => {
                let object: BlockObject = serde_json::from_value(object).map_err(D::Error::custom)?;
                match (object.block_number, object.block_hash) {
                    (Some(number), None) => Self::parse(&number).map_err(D::Error::custom),
                    (None, Some(hash)) => Ok(Self::Hash(hash)),
                    _ => Err(D::Error::custom("give either blockNumber or blockHash")),
                }
            }
            _ => Err(D::Error::custom("a block is a tag, a 0x number, a hash or an object with one of them")),
        }
    }
}

impl BlockRef {
    fn parse(name: &str) -> Result<Self, String> {
        let digits = match name {
            "latest" | "safe" | "finalized" => return Ok(Self::Latest),
            "pending" => return Ok(Self::Pending),
            "earliest" => return Ok(Self::Number(0)),
            _ => name.strip_prefix("0x"),
        };
        let Some(digits) = digits else {
            return Err(format!(
                "\"{name}\" is neither latest, pending, safe, finalized or earliest nor a number that starts with 0x"
            ));
        };
        if digits.len() == 64 {
            return name.parse().map(Self::Hash).map_err(|_| format!("{name} is no hash"));
        }
        u64::from_str_radix(digits, 16).map(Self::Number).map_err(|_| format!("{name} is no block number"))
    }

    /// The block's number, or `None` if there is no such block (yet).
    pub(super) fn resolve(&self, snapshot: &Snapshot) -> Result<Option<u64>, ErrorObjectOwned> {
        let head = snapshot.head().map_err(internal)?.unwrap_or(0);
        match self {
            Self::Latest | Self::Pending => Ok(Some(head)),
            Self::Number(number) => Ok((*number <= head).then_some(*number)),
            Self::Hash(hash) => snapshot.block_number(*hash).map_err(internal),
        }
    }
}

/// Positional parameters, taken one after the other; an error names the one that is wrong.
pub(super) struct Args<'a>(ParamsSequence<'a>);

impl<'a> Args<'a> {
    pub(super) fn new(params: &'a Params<'_>) -> Self {
        Self(params.sequence())
    }

    /// The next parameter, which must be there.
    pub(super) fn need<T: Deserialize<'a>>(&mut self, name: &str) -> Result<T, ErrorObjectOwned> {
        self.0.next().map_err(|error| wrong(name, &error))
    }

    /// The next parameter, `None` if it is null or left out.
    pub(super) fn maybe<T: Deserialize<'a>>(&mut self, name: &str) -> Result<Option<T>, ErrorObjectOwned> {
        self.0.optional_next().map_err(|error| wrong(name, &error))
    }
}

/// jsonrpsee keeps the reason in `data`, where people do not look.
fn wrong(name: &str, error: &ErrorObjectOwned) -> ErrorObjectOwned {
    let reason = error.data().and_then(|data| serde_json::from_str::<String>(data.get()).ok());
    invalid(match reason {
        // jsonrpsee's words for the end of the list.
        Some(reason) if reason == "No more params" => format!("{name} is missing"),
        Some(reason) => format!("{name}: {reason}"),
        None => format!("{name} cannot be read"),
    })
}

/// The caller's parameters are wrong.
pub(super) fn invalid(what: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32602, format!("invalid parameter: {}", what.into()), None::<()>)
}

/// A block's header, as subscriptions send it.
pub(super) fn header(block: &Block) -> Result<Value, ErrorObjectOwned> {
    let mut value = to_value(block.header())?;
    value["hash"] = json!(block.hash());
    Ok(value)
}

/// A block; `full` gives whole transactions instead of their hashes.
pub(super) fn block(block: &Block, receipts: &[StoredReceipt], full: bool) -> Result<Value, ErrorObjectOwned> {
    let mut value = header(block)?;
    let transactions = if full {
        block
            .transactions()
            .iter()
            .zip(receipts)
            .zip(0u64..)
            .map(|((tx, receipt), index)| transaction(tx, receipt.from, Some((block, index))))
            .collect::<Result<Vec<_>, _>>()?
    } else {
        block.transactions().iter().map(|tx| json!(tx.tx_hash())).collect()
    };
    value["size"] = quantity(block.raw().length() as u64);
    value["totalDifficulty"] = quantity(0);
    value["transactions"] = json!(transactions);
    value["uncles"] = json!([]);
    value["withdrawals"] = json!([]);
    Ok(value)
}

/// A transaction; `place` is its block and its index there, once it is in one.
pub(super) fn transaction(tx: &Tx, from: Address, place: Option<(&Block, u64)>) -> Result<Value, ErrorObjectOwned> {
    let mut value = to_value(tx)?;
    // What a transaction pays for gas is known with its block; until then it is what it would pay at most.
    let price =
        place.map_or(tx.max_fee_per_gas(), |(block, _)| tx.effective_gas_price(block.header().base_fee_per_gas));
    value["hash"] = json!(tx.tx_hash());
    value["from"] = json!(from);
    value["gasPrice"] = json!(format!("{price:#x}"));
    value["blockNumber"] = place.map_or(Value::Null, |(block, _)| quantity(block.number()));
    value["blockTimestamp"] = place.map_or(Value::Null, |(block, _)| quantity(block.header().timestamp));
    value["blockHash"] = place.map_or(Value::Null, |(block, _)| json!(block.hash()));
    value["transactionIndex"] = place.map_or(Value::Null, |(_, index)| quantity(index));
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
            // As geth has it: the address that the transaction was to make, whether it did or failed.
            "contractAddress": tx.is_create().then(|| receipt.from.create(tx.nonce())),
            "gasUsed": quantity(receipt.gas_used),
            "cumulativeGasUsed": quantity(receipt.cumulative_gas_used),
            "effectiveGasPrice": format!("{:#x}", tx.effective_gas_price(block.header().base_fee_per_gas)),
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

fn to_value<T: serde::Serialize>(value: &T) -> Result<Value, ErrorObjectOwned> {
    serde_json::to_value(value).map_err(|e| refuse(format!("cannot be shown: {e}")))
}
