//! What a running node says of itself, by CometBFT's RPC.

use hanse_adapters_core::Adapter;
use hanse_engines_core::{NodeHealth, NodePlan, Result};
use hanse_engines_evm::nonsense;
use hanse_engines_evm::rpc::Rpc;
use serde_json::{Value, json};

use crate::time;

/// Asks the node.
pub(crate) async fn health(host: &dyn Adapter, node: &NodePlan) -> Result<NodeHealth> {
    let rpc = Rpc::new(host, node).at(crate::port(node, crate::CONSENSUS_RPC)?);
    let calls = [("status", json!({})), ("net_info", json!({})), ("abci_info", json!({}))];
    let answers = rpc.all(&calls).await?;
    let [status, net, app] = answers.as_slice() else { return Err(nonsense(node, "a batch", &json!(answers))) };
    read(status, net, app).ok_or_else(|| nonsense(node, "status", status))
}

fn read(status: &Value, net: &Value, app: &Value) -> Option<NodeHealth> {
    let sync = &status["sync_info"];
    Some(NodeHealth {
        height: number(&sync["latest_block_height"])?,
        block_hash: format!("0x{}", sync["latest_block_hash"].as_str()?.to_ascii_lowercase()),
        block_time_ms: time::ms(sync["latest_block_time"].as_str()?)?,
        peers: u32::try_from(number(&net["n_peers"])?).ok()?,
        syncing: sync["catching_up"].as_bool()?,
        version: app["response"]["version"].as_str()?.to_owned(),
        // It says nothing of itself but where it stands.
        reasons: Vec::new(),
        power: Some(number(&status["validator_info"]["voting_power"])?),
    })
}

/// CometBFT writes large numbers as text.
pub(crate) fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_nonsense_is_not() {
        let status = json!({
            "sync_info": {
                "latest_block_hash": "AB", "latest_block_height": "20",
                "latest_block_time": "2026-11-29T12:59:07.036327245Z", "catching_up": false,
            },
            "validator_info": { "voting_power": "1000" },
        });
        let (net, app) = (json!({ "n_peers": "3" }), json!({ "response": { "version": "v1" } }));
        let health = read(&status, &net, &app).expect("a good answer");
        assert_eq!((health.height, health.peers, health.power, health.syncing), (20, 3, Some(1000), false));
        assert_eq!((health.block_hash.as_str(), health.block_time_ms), ("0xab", 1_795_957_147_036));
        assert!(read(&json!({}), &net, &app).is_none());
        assert!(read(&status, &json!({ "n_peers": 3 }), &app).is_none());
    }
}
