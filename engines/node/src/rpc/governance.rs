//! `consensus_governance`: who governs the chain, what is in force, what is decided and not in force yet.

use alloy_primitives::{Address, B256};
use jsonrpsee::types::Params;
use serde_json::{Value, json};

use super::consensus::validator_list;
use super::{Handler, Reply, internal};
use crate::NodeError;
use crate::governance::{ADDRESS, Layout, ListId};
use crate::keys::PublicKey;
use crate::node::Shared;
use crate::store::StateView;

/// Names and handlers.
pub(super) const METHODS: &[(&str, Handler)] = &[("consensus_governance", governance)];

fn governance(shared: &Shared, _: Params<'_>) -> Reply {
    if shared.genesis.governance.is_none() {
        return Ok(Value::Null);
    }
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let height = snapshot.head().map_err(internal)?.unwrap_or(0) + 1;
    report(shared, snapshot.latest(), height).map_err(internal)
}

/// What counts at `height`, the next block's, and what will.
fn report(shared: &Shared, mut state: StateView<'_>, height: u64) -> Result<Value, NodeError> {
    let mut layout = Layout::new(&mut state);
    let pending = layout.sets_after(height)?.into_iter();
    let pending: Vec<_> =
        pending.map(|(from, set)| json!({ "from_height": from, "validators": validator_list(set) })).collect();
    let upgrade = layout.upgrade()?;
    Ok(json!({
        "address": ADDRESS,
        "chain_id": shared.genesis.chain_id,
        "genesis_hash": shared.genesis.hash(),
        "next_height": height,
        "members": layout.members()?,
        "threshold": layout.threshold()?,
        "sequence": layout.sequence()?,
        "validators": validator_list(layout.validators_at(height)?),
        "pending_validators": pending,
        "nodes": list(&mut layout, ListId::Nodes, height, |key| json!(PublicKey(key.0)))?,
        "senders": list(&mut layout, ListId::Senders, height, |account| json!(Address::from_word(account)))?,
        "deployers": list(&mut layout, ListId::Deployers, height, |account| json!(Address::from_word(account)))?,
        "upgrade": (upgrade.version != 0).then(|| json!({ "version": upgrade.version, "after_height": upgrade.height })),
        "protocol_needed": upgrade.needed_at(height),
    }))
}

/// A list: whether it is in force, whom it names, and what will change with the next blocks.
fn list(
    layout: &mut Layout<'_, StateView<'_>>,
    id: ListId,
    height: u64,
    name: fn(B256) -> Value,
) -> Result<Value, NodeError> {
    let restricted = layout.restricted(id)?;
    let entries = layout.entries(id)?;
    let now: Vec<_> = entries.iter().filter(|(_, span)| span.holds_at(height)).map(|(who, _)| name(*who)).collect();
    let changing = entries.iter().filter(|(_, span)| span.holds_at(height) != span.stays());
    let pending: Vec<_> = changing
        .map(|(who, span)| {
            let from_height = if span.stays() { span.from } else { span.until };
            json!({ "entry": name(*who), "allowed": span.stays(), "from_height": from_height })
        })
        .collect();
    Ok(json!({
        "restricted": restricted.holds_at(height),
        "restricted_soon": restricted.stays(),
        "entries": now,
        "pending": pending,
    }))
}
