//! Steps of an operation that changes a chain which was made before.

use super::apply::{Wanted, of_node, start_step};
use super::{StepState, Work};
use crate::chain::ChainState;
use crate::chain::life::Wish;
use crate::chain::node::{Node, NodeState};
use crate::ids::{ChainKey, NodeId, NodeKey};
use crate::{State, name};

/// The steps by the facts: always the same ones in the same order, also when nodes or the chain are gone.
pub(super) fn steps(state: &State, key: &ChainKey, work: Work, nodes: &[NodeId]) -> Vec<Wanted> {
    let chain = state.chains.get(key);
    let nodes: Vec<NodeKey> = nodes.iter().map(|node| NodeKey::new(key.clone(), *node)).collect();
    let of_nodes = |step: fn(&State, &NodeKey) -> Wanted| nodes.iter().map(move |node| step(state, node));
    let of_chain = |step: &'static str, state: StepState| Wanted {
        name: step,
        target: name::chain(key),
        state,
        detail: String::new(),
    };
    match work {
        Work::Pause => of_nodes(stop_step).collect(),
        Work::Delete => {
            let grace = match chain.map(|chain| &chain.wish) {
                Some(Wish::Delete { purging: false, .. }) => StepState::Running,
                Some(Wish::Delete { purging: true, .. }) | None => StepState::Done,
                Some(Wish::Run | Wish::Pause { .. }) => StepState::Pending,
            };
            of_nodes(stop_step).chain([of_chain("grace", grace)]).chain(of_nodes(remove_step)).collect()
        }
        Work::Undelete if chain.is_some_and(|chain| !chain.wish.is_run()) => of_nodes(stop_step).collect(),
        Work::Resume | Work::Undelete => {
            let verify = match chain.map(|chain| chain.state) {
                Some(ChainState::Running) => StepState::Done,
                Some(ChainState::Failed) => StepState::Failed,
                Some(_) | None => StepState::Running,
            };
            of_nodes(|state, key| run_step(state, key)).chain([of_chain("verify", verify)]).collect()
        }
    }
}

fn run_step(state: &State, key: &NodeKey) -> Wanted {
    state.nodes.get(key).map_or_else(|| of_gone("start", key), start_step)
}

fn stop_step(state: &State, key: &NodeKey) -> Wanted {
    let step = |node: &Node| {
        let state = match node.state {
            NodeState::Stopped | NodeState::Removing => StepState::Done,
            NodeState::Blocked => StepState::Failed,
            NodeState::Stopping if node.intent.is_some() => StepState::Running,
            _ => StepState::Pending,
        };
        of_node("stop", node, state)
    };
    state.nodes.get(key).map_or_else(|| of_gone("stop", key), step)
}

fn remove_step(state: &State, key: &NodeKey) -> Wanted {
    let step = |node: &Node| {
        let state = match node.state {
            NodeState::Removing if node.intent.is_some() => StepState::Running,
            NodeState::Blocked if node.wish == crate::chain::life::NodeWish::Remove => StepState::Failed,
            _ => StepState::Pending,
        };
        of_node("remove", node, state)
    };
    state.nodes.get(key).map_or_else(|| of_gone("remove", key), step)
}

/// What is gone from the state was seen to be gone from its host.
fn of_gone(step: &'static str, key: &NodeKey) -> Wanted {
    Wanted { name: step, target: name::node(key), state: StepState::Done, detail: String::new() }
}
