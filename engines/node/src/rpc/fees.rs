//! What gas costs: `eth_gasPrice`, `eth_maxPriorityFeePerGas`, `eth_blobBaseFee`, `eth_feeHistory`.
//!
//! Blocks are rarely full on a chain whose members agree on its load, so the suggested tip is zero.

use std::time::Instant;

use alloy_consensus::Transaction;
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::types::{Args, BlockRef, invalid, quantity};
use super::{Handler, Reply, eth, internal, refuse, refuse_for_now, simulate};
use crate::block::Block;
use crate::node::Shared;
use crate::store::StoredReceipt;

/// Blocks that one `eth_feeHistory` may cover.
const FEE_HISTORY_MAX: u64 = 1024;
/// Percentiles of one fee history; every block's answer repeats them.
const PERCENTILES_MAX: usize = 100;
/// EIP-4844: the least that blob gas costs. There are no blobs here, so it never rises.
const BLOB_BASE_FEE: u64 = 1;

/// Names and handlers.
pub(super) const METHODS: &[(&str, Handler)] = &[
    ("eth_gasPrice", |shared, _| Ok(quantity(shared.rules.base_fee))),
    ("eth_maxPriorityFeePerGas", |_, _| Ok(quantity(0))),
    ("eth_blobBaseFee", |_, _| Ok(quantity(BLOB_BASE_FEE))),
    ("eth_feeHistory", history),
];

/// A count, as a number or in hex.
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let count = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            },
            _ => None,
        };
        count.map(Self).ok_or_else(|| serde::de::Error::custom("is no number of blocks"))
    }
}

fn history(shared: &Shared, params: Params<'_>) -> Reply {
    let mut args = Args::new(&params);
    let Count(count) = args.need("block count")?;
    let newest: BlockRef = args.need("newest block")?;
    let percentiles: Vec<f64> = args.maybe("reward percentiles")?.unwrap_or_default();
    check(&percentiles)?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let newest = newest.resolve(&snapshot)?.ok_or_else(|| refuse("there is no such block"))?;
    let count = count.min(FEE_HISTORY_MAX).min(newest + 1);
    if count == 0 {
        return Ok(json!({ "oldestBlock": quantity(0), "gasUsedRatio": [] }));
    }
    let oldest = newest + 1 - count;
    let (mut fees, mut used, mut rewards) = (Vec::new(), Vec::new(), Vec::new());
    let until = simulate::deadline(shared);
    for number in oldest..=newest {
        if Instant::now() >= until {
            return Err(refuse_for_now("fee history timeout exceeded; ask for fewer blocks"));
        }
        // A block that is gone is an error of `require`.
        let header = match snapshot.header(number).map_err(internal)? {
            Some(header) => header,
            None => eth::require(&snapshot, number)?.header().clone(),
        };
        fees.push(quantity(header.base_fee_per_gas.unwrap_or(0)));
        used.push(header.gas_used as f64 / header.gas_limit as f64);
        if !percentiles.is_empty() {
            let block = eth::require(&snapshot, number)?;
            let receipts = snapshot.receipts(number).map_err(internal)?.unwrap_or_default();
            rewards.push(tips(&block, &receipts, &percentiles));
        }
    }
    // It never changes.
    fees.push(quantity(shared.rules.base_fee));
    let mut answer = json!({
        "oldestBlock": quantity(oldest),
        "baseFeePerGas": fees,
        "gasUsedRatio": used,
        "baseFeePerBlobGas": vec![quantity(BLOB_BASE_FEE); used.len() + 1],
        "blobGasUsedRatio": vec![0.0; used.len()],
    });
    if !percentiles.is_empty() {
        answer["reward"] = json!(rewards);
    }
    Ok(answer)
}

fn check(percentiles: &[f64]) -> Result<(), ErrorObjectOwned> {
    if percentiles.len() > PERCENTILES_MAX {
        return Err(invalid(format!("reward percentiles: at most {PERCENTILES_MAX}")));
    }
    let in_range = percentiles.iter().all(|p| (0.0..=100.0).contains(p));
    if !in_range || percentiles.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err(invalid("reward percentiles: must rise from 0 to 100"));
    }
    Ok(())
}

/// The tips at these percentiles of the block's gas.
fn tips(block: &Block, receipts: &[StoredReceipt], percentiles: &[f64]) -> Vec<String> {
    let fee = block.header().base_fee_per_gas.unwrap_or(0);
    let mut paid: Vec<_> = block
        .transactions()
        .iter()
        .zip(receipts)
        .map(|(tx, receipt)| (tx.effective_tip_per_gas(fee).unwrap_or(0), receipt.gas_used))
        .collect();
    paid.sort_unstable();
    let at = |percentile: &f64| {
        let goal = (block.header().gas_used as f64 * percentile / 100.0) as u64;
        let mut sum = 0;
        let found = paid.iter().find(|(_, gas)| {
            sum += gas;
            sum >= goal
        });
        format!("{:#x}", found.map_or(0, |(tip, _)| *tip))
    };
    percentiles.iter().map(at).collect()
}
