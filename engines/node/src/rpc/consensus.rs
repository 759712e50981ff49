//! `consensus_*`: what the control plane's driver and operators ask about the node itself.

use jsonrpsee::types::Params;
use serde_json::{Value, json};

use super::types::{BlockRef, quantity};
use super::{Handler, Reply, internal, refuse};
use crate::consensus::evidence::{Evidence, Signed};
use crate::consensus::wire::CertificateForm;
use crate::genesis::GenesisValidator;
use crate::governance::{self, DELAY};
use crate::keys::NodeId;
use crate::node::Shared;
use crate::ready;

/// Names and handlers.
pub(super) const METHODS: &[(&str, Handler)] = &[
    ("consensus_status", status),
    ("consensus_validators", validators),
    ("consensus_certificate", certificate),
    ("consensus_evidence", evidence),
    ("consensus_peers", peers),
];

fn status(shared: &Shared, _: Params<'_>) -> Reply {
    let status = shared.status().clone();
    Ok(json!({
        "node_id": shared.me,
        "version": env!("CARGO_PKG_VERSION"),
        "chain_id": shared.genesis.chain_id,
        "genesis_hash": shared.genesis.hash(),
        "height": status.height,
        "round": status.round,
        "peers": shared.net.connected(),
        "syncing": status.syncing,
        "latest_block_hash": status.hash,
        "latest_block_time_ms": status.time_ms,
        "equivocations": status.equivocations,
        "validator": status.validator,
        "halted": shared.halted(),
        "not_ready": ready::check(shared).into_reasons(),
        "protocol": shared.protocol,
    }))
}

/// `consensus_validators(height)`: who votes on a height, up to two after the newest block, which is what is decided;
/// without a height, on the next.
fn validators(shared: &Shared, params: Params<'_>) -> Reply {
    let height: Option<u64> = params.sequence().optional_next()?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let head = snapshot.head().map_err(internal)?.unwrap_or(0);
    let height = height.unwrap_or(head + 1);
    if height > head + DELAY {
        return Err(refuse(format!("height {height} is not decided yet; ask for up to {}", head + DELAY)));
    }
    let all = governance::validators_at(snapshot.latest(), &shared.genesis, height).map_err(internal)?;
    Ok(validator_list(all))
}

pub(super) fn validator_list(mut all: Vec<GenesisValidator>) -> Value {
    all.sort_by_key(|v| v.public_key.node_id());
    let one = |v: &GenesisValidator| {
        json!({
            "node_id": v.public_key.node_id(),
            "public_key": v.public_key,
            "power": v.power,
        })
    };
    json!(all.iter().map(one).collect::<Vec<_>>())
}

/// `consensus_certificate(height)`: a JSON number, or a block as Ethereum names it.
fn certificate(shared: &Shared, params: Params<'_>) -> Reply {
    let which: Value = params.one()?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let number = match which.as_u64() {
        Some(number) => Some(number),
        None => serde_json::from_value::<BlockRef>(which)
            .map_err(|_| super::types::invalid("height"))?
            .resolve(&snapshot)?,
    };
    let Some(number) = number else { return Ok(Value::Null) };
    let bytes = snapshot.certificate(number).map_err(internal)?;
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return Ok(Value::Null) };
    let form =
        CertificateForm::read(&bytes).map_err(|reason| refuse(format!("certificate {number} is damaged: {reason}")))?;
    let signatures: Vec<_> = form
        .signatures
        .iter()
        .map(|(signer, signature)| json!({ "node_id": NodeId(*signer), "signature": signature }))
        .collect();
    Ok(json!({
        "height": form.height,
        "height_hex": quantity(form.height),
        "round": form.round,
        "block_hash": form.value,
        "signatures": signatures,
    }))
}

/// Stored evidence of double signing, with the bytes that were signed, so that anyone can verify it.
fn evidence(shared: &Shared, _: Params<'_>) -> Reply {
    let all = shared.store.evidence().map_err(internal)?;
    let signed = |record: &Evidence, signed: &Signed| {
        json!({
            "block_hash": signed.value,
            "pol_round": signed.pol_round,
            "signature": signed.signature,
            "signed_bytes": record.signed_bytes(&shared.chain, signed),
        })
    };
    let list: Vec<_> = all
        .iter()
        .map(|record| {
            json!({
                "node_id": record.validator(),
                "kind": record.kind,
                "height": record.height,
                "round": record.round,
                "first": signed(record, &record.first),
                "second": signed(record, &record.second),
            })
        })
        .collect();
    Ok(json!(list))
}

fn peers(shared: &Shared, _: Params<'_>) -> Reply {
    let list: Vec<_> = shared
        .net
        .peers()
        .map(|peer| {
            json!({
                "node_id": peer.config.node_id,
                "address": peer.config.address,
                "outbound": peer.is_outbound(),
                "inbound": peer.is_inbound(),
                "height": peer.height(),
                "allowed": peer.is_allowed(),
                "dropped_messages": peer.dropped(),
            })
        })
        .collect();
    Ok(json!(list))
}
