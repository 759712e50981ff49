//! Looking at a node that is not the platform's: whether it is still of the pinned chain, and what it says of itself.

use hanse_engines_core::EngineError;
use hanse_planner::{InstanceView, Run};
use hanse_state::State;
use hanse_state::ids::NodeKey;

use super::act::Trouble;
use super::look::{REASONS_MAX, cut};
use super::node::engine_of;
use super::{World, figures};
use crate::observed::NodeView;
use crate::watched::{Watched, pinned, plan, stranger};

/// Looks at node `key` and keeps what was seen; a silent node is an error, so that it is asked again after a pause.
pub(super) async fn look(world: &World, state: &State, key: &NodeKey) -> Result<(), Trouble> {
    let asked = ask(world, state, key).await;
    let run = match &asked {
        Ok(_) => Run::Running,
        Err(trouble) => Run::Unreachable { reason: trouble.to_string() },
    };
    world.observed.saw(key, InstanceView { generation: generation(state, key), run });
    figures::saw(world, key, asked.is_ok());
    match asked {
        Ok(view) => {
            world.observed.heard(key, view);
            Ok(())
        }
        Err(trouble) => {
            world.observed.silent(key);
            Err(trouble)
        }
    }
}

fn generation(state: &State, key: &NodeKey) -> u64 {
    state.nodes.get(key).map_or(0, |node| node.generation)
}

async fn ask(world: &World, state: &State, key: &NodeKey) -> Result<NodeView, Trouble> {
    let stale = |what: &str| Trouble::Stale(format!("{key}: {what}"));
    let node = state.nodes.get(key).ok_or_else(|| stale("is gone"))?;
    let chain = state.chains.get(&key.chain).ok_or_else(|| stale("its chain is gone"))?;
    let endpoint = node.watched.as_ref().ok_or_else(|| stale("is not only watched"))?;
    let plan = plan(state, node, endpoint).ok_or_else(|| stale("cannot be named"))?;
    let (engine, adapter) = (engine_of(world, chain)?, Watched::new(endpoint));
    let stranger = stranger(engine.as_ref(), &adapter, &plan, pinned(chain)).await?;
    let mut view = NodeView {
        generation: node.generation,
        height: 0,
        block_hash: String::new(),
        block_time_ms: 0,
        peers: 0,
        syncing: false,
        reasons: stranger.into_iter().collect(),
        pid: 0,
        at_ms: (world.clock)().0,
    };
    if view.reasons.is_empty() {
        let health = engine.health(&adapter, &plan).await.map_err(silent)?;
        let before = world.observed.node(key).map(|view| (view.height, view.block_time_ms));
        figures::heard(world, key, &health, before);
        view.height = health.height;
        view.block_hash = health.block_hash;
        view.block_time_ms = health.block_time_ms;
        view.peers = health.peers;
        view.syncing = health.syncing;
        view.reasons = health.reasons.iter().take(REASONS_MAX).map(|reason| cut(reason)).collect();
    }
    Ok(view)
}

fn silent(error: EngineError) -> Trouble {
    Trouble::Stale(format!("it does not say how it is: {error}"))
}
