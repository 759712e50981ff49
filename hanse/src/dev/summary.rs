//! The demo's summary: every value read from the replicas, the chain and the bill, none remembered from the telling.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use hanse_client::pb;
use serde_json::{Value, json};

use super::Told;
use super::ground::Ground;
use super::people::client;
use super::story::{CHAIN, CONSORTIUM, wait_for};

/// Asks everyone once more and returns the summary.
pub(crate) async fn gather(ground: &Ground, told: &Told, seconds: &BTreeMap<String, f64>) -> Result<Value> {
    let replicas = replicas(ground, told).await?;
    let founder = told.people.founder()?;
    let status = founder.call(pb::GetStatusRequest {}).await?;
    let nodes = founder
        .call(pb::ListNodesRequest { consortium: CONSORTIUM.into(), chain: CHAIN.into(), ..Default::default() })
        .await?
        .nodes;
    let get = pb::GetChainGovernanceRequest { consortium: CONSORTIUM.into(), chain: CHAIN.into() };
    let governance = founder.call(get).await?.governance.context("the chain has validators")?;
    let get = pb::GetConsortiumRequest { consortium: CONSORTIUM.into() };
    let consortium = founder.call(get).await?.consortium.context("the consortium is there")?;
    let money = |money: &Option<pb::Money>| {
        money.as_ref().map_or(Value::Null, |money| json!({"amount": money.amount, "currency": money.currency}))
    };
    let tally = told.proposal.tally.unwrap_or_default();
    Ok(json!({
        "replicas": replicas,
        "leader": status.leader_id,
        "revision": status.revision,
        "consortium": {
            "id": consortium.consortium,
            "state": consortium.state().as_str_name().trim_start_matches("CONSORTIUM_STATE_"),
            "members": consortium.members.iter().map(|member| member.tenant.clone()).collect::<Vec<_>>(),
        },
        "proposal": {
            "id": told.proposal.name,
            "outcome": told.proposal.outcome().as_str_name().trim_start_matches("PROPOSAL_OUTCOME_"),
            "tally": {"yes": tally.yes, "no": tally.no, "abstain": tally.abstain, "total": tally.total},
            "artifact_hash": told.proposal.artifact_hash,
        },
        "governance": {
            "threshold": governance.threshold,
            "members": governance.members.iter().map(|member| member.tenant.clone()).collect::<Vec<_>>(),
            "validators": governance.validators.len(),
        },
        "chain": {"id": told.chain.name, "height": told.chain.height},
        "nodes": nodes.iter().map(|node| json!({
            "id": node.name,
            "state": node.state().as_str_name().trim_start_matches("NODE_STATE_"),
            "height": node.height,
            "host": node.host,
            "rpc": format!("http://127.0.0.1:{}", node.rpc_port),
        })).collect::<Vec<_>>(),
        "contract": {"address": told.contract},
        "transfer": {"hash": told.transfer.hash, "block": told.transfer.block},
        "invoice": {
            "id": told.draft.name,
            "total": money(&told.draft.total),
            "recomputed_total": money(&told.draft.recomputed_total),
        },
        "seconds": seconds,
    }))
}

/// Each replica's own word, taken when all say the digest of one revision.
async fn replicas(ground: &Ground, told: &Told) -> Result<Vec<Value>> {
    let mut clients = Vec::new();
    for (id, (api, _)) in &ground.layout.replicas {
        let alone = client(ground, vec![format!("127.0.0.1:{api}")])?;
        alone.set_token(Some(&told.people.token))?;
        clients.push((id.to_string(), alone));
    }
    wait_for("every replica at one revision", || async {
        let mut rows = Vec::new();
        for (id, alone) in &clients {
            let status = alone.call(pb::GetStatusRequest {}).await?;
            let row = status.replicas.into_iter().find(|row| row.id == *id).context("a replica knows itself")?;
            rows.push(row);
        }
        let same = rows.windows(2).all(|pair| pair[0].digest_revision == pair[1].digest_revision);
        Ok(same.then_some(rows))
    })
    .await
    .map(|rows| {
        rows.iter()
            .map(|row| {
                json!({
                    "id": row.id,
                    "role": row.role().as_str_name().trim_start_matches("REPLICA_ROLE_"),
                    "revision": row.digest_revision,
                    "digest": row.digest,
                })
            })
            .collect()
    })
}

/// The summary for people.
pub(crate) fn words(summary: &Value) -> String {
    let text = |pointer: &str| match summary.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    [
        format!("leader      {} at revision {}", text("/leader"), text("/revision")),
        format!("proposal    {} {}", text("/proposal/id"), text("/proposal/outcome")),
        format!("chain       {} at height {}", text("/chain/id"), text("/chain/height")),
        format!("contract    {}", text("/contract/address")),
        format!("transfer    {} in block {}", text("/transfer/hash"), text("/transfer/block")),
        format!("invoice     {} {}", text("/invoice/total/amount"), text("/invoice/total/currency")),
    ]
    .join("\n")
}
