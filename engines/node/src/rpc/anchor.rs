//! `consensus_anchors`: the heads of a control plane's audit trail that this chain holds.

use jsonrpsee::types::Params;
use serde_json::{Value, json};

use super::types::invalid;
use super::{Handler, Reply, internal};
use crate::NodeError;
use crate::anchor::{ADDRESS, Anchored, Recorded, before};
use crate::node::Shared;

/// Names and handlers.
pub(super) const METHODS: &[(&str, Handler)] = &[("consensus_anchors", anchors)];

/// Heads of one answer, unless less is asked for.
const HEADS_DEFAULT: usize = 20;
const HEADS_MAX: usize = 1_000;

/// `consensus_anchors(limit, height)`: null on a chain without an anchor. `latest` is what the next head must continue, null if
/// nothing; `heads` those recorded in block `height` (the newest block without it) and before, the newest first. `older_height`
/// is where to go on; if that block is pruned here, `pruned` says so.
fn anchors(shared: &Shared, params: Params<'_>) -> Reply {
    let Some(rules) = shared.rules.anchor.as_deref() else { return Ok(Value::Null) };
    let mut params = params.sequence();
    let limit: Option<usize> = params.optional_next()?;
    let height: Option<u64> = params.optional_next()?;
    let limit = limit.unwrap_or(HEADS_DEFAULT);
    if limit > HEADS_MAX {
        return Err(invalid(format!("limit: {limit} is more than {HEADS_MAX}")));
    }
    let report = || -> Result<Value, NodeError> {
        let snapshot = shared.store.snapshot()?;
        let (trust, last) = rules.read(snapshot.latest())?;
        let from = height.map_or(last.height, |height| height.min(last.height));
        let (heads, older) = before(&snapshot, from, limit)?;
        let oldest = snapshot.oldest_block()?;
        Ok(json!({
            "address": ADDRESS,
            "key": trust.key.to_string(),
            "era": trust.era,
            "latest": (last.size > 0 && last.era == trust.era).then(|| head(&last)),
            "heads": heads.iter().map(place).collect::<Vec<_>>(),
            "older_height": older,
            "pruned": older.is_some_and(|height| height < oldest),
        }))
    };
    report().map_err(internal)
}

fn head(it: &Recorded) -> Value {
    json!({
        "size": it.size,
        "root": it.root,
        "chain": it.chain,
        "time_ms": it.at_ms,
        "era": it.era,
        "height": it.height,
    })
}

fn place(it: &Anchored) -> Value {
    let mut value = head(&it.head);
    value["block_hash"] = json!(it.block_hash);
    value["transaction_hash"] = json!(it.transaction);
    value
}
