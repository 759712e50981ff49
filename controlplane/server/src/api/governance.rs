//! Asking a chain's nodes who decides on it.
//!
//! What is in force comes from one node, the best; evidence is kept by each node that saw it, so all that run are asked
//! and their answers joined. The caller learns who gave none.

use std::collections::BTreeMap;
use std::time::Duration;

use hanse_engines_core::{Evidence, Governance};
use hanse_proto::v1 as pb;
use hanse_state::chain::Chain;
use hanse_state::chain::node::{Node, NodeState};
use hanse_state::name;

use super::convert::chain::nodes_of;
use super::node_call::{reach_chain, reach_node};
use super::{Call, convert};
use crate::error::ApiError;

/// How long the other nodes may take: evidence of one that hangs is not worth a caller's patience.
const OTHERS_LIMIT: Duration = Duration::from_secs(2);

/// The governance of a chain and the node that was asked for it.
///
/// # Errors
/// No node runs, or the best one gives no answer; the ledger has no such thing.
pub(super) async fn ask(call: &Call, chain: &Chain) -> Result<(String, pb::ChainGovernance), ApiError> {
    let best = reach_chain(call, &chain.key).await?;
    let own = best.ask(best.engine.governance(&*best.adapter, &best.plan));
    let others = nodes_of(&call.state, &chain.key)
        .filter(|node| node.state == NodeState::Running && name::node(&node.key) != best.name)
        .map(|node| async move { (name::node(&node.key), evidence_of(call, node).await) });
    let (own, others) = futures::future::join(own, futures::future::join_all(others)).await;
    let own: Governance = own?;
    let (mut all, mut silent_nodes) = (own.evidence.clone(), Vec::new());
    for (node, evidence) in others {
        match evidence {
            Some(evidence) => all.extend(evidence),
            None => silent_nodes.push(node),
        }
    }
    // One fault is proven once, whoever proves it.
    let place = |it: Evidence| ((it.height, it.round, it.node_id.clone(), it.kind.clone()), it);
    let all: BTreeMap<_, _> = all.into_iter().map(place).collect();
    let governance = convert::governance::governance(&call.state, chain, own, all.into_values().collect());
    Ok((best.name, pb::ChainGovernance { silent_nodes, ..governance }))
}

/// What a node has kept of double signing; nothing if it gives no answer in time.
async fn evidence_of(call: &Call, node: &Node) -> Option<Vec<Evidence>> {
    let answer = async {
        let reached = reach_node(call, node).await?;
        reached.ask(reached.engine.governance(&*reached.adapter, &reached.plan)).await
    };
    match tokio::time::timeout(OTHERS_LIMIT, answer).await {
        Ok(Ok(said)) => Some(said.evidence),
        Ok(Err(error)) => {
            tracing::debug!(node = %node.key, %error, "asked for evidence");
            None
        }
        Err(_) => None,
    }
}
