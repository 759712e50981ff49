//! Looking at running nodes: the process on its host, and what the node says of itself. Heartbeats stay in the leader's
//! memory; only a change of health becomes an entry, through the planner.

use std::future::Future;

use hanse_adapters_core::RunState;
use hanse_planner::{Ill, NodeSeen, RunSeen};
use hanse_state::chain::node::NodeState;
use hanse_state::ids::NodeKey;
use hanse_state::{State, name};

use super::World;
use super::node::{Site, Trouble, exit_words};
use crate::observed::NodeView;

/// Plans a look at every node whose last one is older than the health period.
pub(super) fn plan<F>(world: &World, state: &State, mut start: F)
where
    F: FnMut(String, std::pin::Pin<Box<dyn Future<Output = Result<(), Trouble>> + Send>>),
{
    let now = (world.clock)();
    for (key, node) in &state.nodes {
        let watched = match node.state {
            NodeState::Starting | NodeState::Running | NodeState::Restarting => true,
            NodeState::Requested | NodeState::Preparing | NodeState::Prepared => false,
            NodeState::Configured | NodeState::Blocked => false,
        };
        let due = world.observed.seen(key).is_none_or(|seen| now.since(seen.at) >= world.timing.health_ms);
        if watched && due {
            let (world, state, key) = (world.clone(), state.clone(), key.clone());
            start(format!("look at {}", name::node(&key)), Box::pin(async move { look(&world, &state, &key).await }));
        }
    }
}

async fn look(world: &World, state: &State, key: &NodeKey) -> Result<(), Trouble> {
    let seen = match Site::reach(world, state, key).await {
        Ok(site) => look_at(world, &site, key).await,
        Err(Trouble::Engine(error)) => unreachable(world, key, &error.to_string()),
        Err(trouble @ (Trouble::Order(_) | Trouble::Stale(_))) => return Err(trouble),
    };
    world.observed.saw(key, seen);
    Ok(())
}

async fn look_at(world: &World, site: &Site, key: &NodeKey) -> NodeSeen {
    let at = (world.clock)();
    let status = match site.adapter.look(&site.plan.key).await {
        Ok(Some(status)) => status,
        Ok(None) => return NodeSeen { generation: 0, run: RunSeen::Absent, ill: None, at },
        Err(error) => return unreachable(world, key, &error.to_string()),
    };
    let run = run_seen(&status.run);
    let RunState::Running { pid, .. } = status.run else {
        return NodeSeen { generation: status.generation, run, ill: None, at };
    };
    let ill = match site.engine.health(site.adapter.as_ref(), &site.plan).await {
        Ok(health) => {
            world.observed.heard(key, NodeView {
                height: health.height,
                block_hash: health.block_hash,
                block_time_ms: health.block_time_ms,
                peers: health.peers,
                syncing: health.syncing,
                pid,
                at_ms: at.0,
            });
            health.syncing.then(|| ill_since(world, key, "is catching up with its peers"))
        }
        Err(error) => Some(ill_since(world, key, &error.to_string())),
    };
    NodeSeen { generation: status.generation, run, ill, at }
}

fn unreachable(world: &World, key: &NodeKey, reason: &str) -> NodeSeen {
    let ill = Some(ill_since(world, key, reason));
    let generation = world.observed.seen(key).map_or(0, |seen| seen.generation);
    NodeSeen { generation, run: RunSeen::Unreachable { reason: reason.into() }, ill, at: (world.clock)() }
}

/// An illness keeps its beginning over many looks.
fn ill_since(world: &World, key: &NodeKey, reason: &str) -> Ill {
    let since = world.observed.seen(key).and_then(|seen| seen.ill).map_or_else(world.clock, |ill| ill.since);
    Ill { since, reason: reason.into() }
}

/// The planner's view of a process.
pub(super) fn run_seen(run: &RunState) -> RunSeen {
    match run {
        RunState::Prepared => RunSeen::Absent,
        RunState::Running { .. } => RunSeen::Running,
        RunState::Exited { .. } => RunSeen::Exited { reason: exit_words(run) },
    }
}
