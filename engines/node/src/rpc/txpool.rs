//! `txpool_`: what waits for a block. `pending` can run, `queued` has a gap before its nonce.

use std::collections::BTreeMap;

use alloy_consensus::Transaction;
use alloy_primitives::{Address, U256};
use jsonrpsee::types::Params;
use serde_json::{Map, Value, json};

use super::types::{self, Args, quantity};
use super::{Handler, Reply, refuse};
use crate::block::Tx;
use crate::node::Shared;

/// Names and handlers.
pub(super) const METHODS: &[(&str, Handler)] = &[
    ("txpool_status", |shared, _| {
        let (ready, gapped) = shared.mempool.counts();
        Ok(json!({ "pending": quantity(ready as u64), "queued": quantity(gapped as u64) }))
    }),
    ("txpool_content", |shared, _| content(shared, types_of)),
    ("txpool_inspect", |shared, _| content(shared, |tx, _| Ok(json!(summary(tx))))),
    ("txpool_contentFrom", content_from),
];

/// A transaction as text without its input, about.
const TRANSACTION_BYTES: usize = 1_000;

type Shown = fn(&Tx, Address) -> Reply;

fn types_of(tx: &Tx, from: Address) -> Reply {
    types::transaction(tx, from, None)
}

/// In the form of go-ethereum.
fn summary(tx: &Tx) -> String {
    let to = tx.to().map_or_else(|| "contract creation".to_owned(), |to| to.to_string());
    format!("{to}: {} wei + {} gas × {} wei", tx.value(), tx.gas_limit(), U256::from(tx.max_fee_per_gas()))
}

fn content(shared: &Shared, shown: Shown) -> Reply {
    let mut sides = [BTreeMap::<Address, Map<String, Value>>::new(), BTreeMap::new()];
    let (mut bytes, bytes_max) = (0, shared.rpc.config.response_bytes_max as usize);
    for (sender, tx, is_ready) in shared.mempool.content(None) {
        // Two digits a byte, and the names of the fields.
        bytes += 2 * tx.input().len() + TRANSACTION_BYTES;
        if bytes > bytes_max {
            return Err(refuse("the pool holds more than fits into one answer; ask txpool_contentFrom for one sender"));
        }
        let side = &mut sides[usize::from(!is_ready)];
        side.entry(sender).or_default().insert(tx.nonce().to_string(), shown(&tx, sender)?);
    }
    let [pending, queued] = sides;
    Ok(json!({ "pending": pending, "queued": queued }))
}

fn content_from(shared: &Shared, params: Params<'_>) -> Reply {
    let address: Address = Args::new(&params).need("address")?;
    let mut sides = [Map::new(), Map::new()];
    for (sender, tx, is_ready) in shared.mempool.content(Some(address)) {
        sides[usize::from(!is_ready)].insert(tx.nonce().to_string(), types_of(&tx, sender)?);
    }
    let [pending, queued] = sides;
    Ok(json!({ "pending": pending, "queued": queued }))
}
