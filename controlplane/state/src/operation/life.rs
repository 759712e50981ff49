//! Steps of an operation that changes a chain which was made before.

use std::cmp::Ordering;

use super::apply::{Wanted, configure_step, of_node, prepare_step, start_step};
use super::{StepState, Work};
use crate::chain::height::{AtHeight, HaltStage, HeightStage};
use crate::chain::life::{NodeWish, Wish};
use crate::chain::moving::MoveStage;
use crate::chain::node::{Health, Node, NodeAct, NodeState};
use crate::chain::query::nodes_of;
use crate::chain::rollout_apply::is_under_way;
use crate::chain::{Chain, ChainState};
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
                Some(Wish::Run | Wish::Pause { .. } | Wish::Watch) => StepState::Pending,
            };
            of_nodes(stop_step).chain([of_chain("grace", grace)]).chain(of_nodes(remove_step)).collect()
        }
        Work::Roll | Work::Upgrade | Work::Reconfigure | Work::RollBack => {
            of_nodes(roll_step).chain([verify_rolled(state, key)]).collect()
        }
        Work::Grow | Work::Replace => {
            let joined = |key: &&NodeKey| {
                let number = chain.and_then(|chain| chain.rollout.as_ref()).map_or(0, |rollout| rollout.number);
                state.nodes.get(*key).is_some_and(|node| node.joined == number)
            };
            let steps = |new: bool, step: fn(&State, &NodeKey) -> Wanted| {
                nodes.iter().filter(move |key| joined(key) == new).map(move |node| step(state, node))
            };
            let prepare = steps(true, |state, key| of(state, key, "prepare", prepare_step));
            let configure = steps(true, |state, key| of(state, key, "configure", configure_step));
            let start = steps(true, run_step);
            let rolled = steps(false, roll_step);
            prepare.chain(configure).chain(start).chain(rolled).chain([verify_rolled(state, key)]).collect()
        }
        Work::Move => {
            let steps = |key: &NodeKey| {
                let moved = |stage, name| move_step(state, key, stage, name);
                [
                    moved(MoveStage::Fence, "fence"),
                    moved(MoveStage::Carry, "carry"),
                    moved(MoveStage::Clear, "clear"),
                    of(state, key, "configure", configure_step),
                    run_step(state, key),
                ]
            };
            nodes.iter().flat_map(steps).chain([verify_told(state, key)]).collect()
        }
        Work::UpgradeAt => {
            let exchanged = chain.and_then(height).is_none_or(|at| at.stage != HeightStage::Telling);
            let roll: fn(&State, &NodeKey) -> Wanted = if exchanged { roll_step } else { roll_later };
            let verify = verify_rolled(state, key);
            let later = !exchanged && verify.state != StepState::Failed;
            let verify = if later { Wanted { state: StepState::Pending, ..verify } } else { verify };
            of_nodes(tell_step).chain([halt_step(state, key)]).chain(of_nodes(roll)).chain([verify]).collect()
        }
        Work::Adopt => {
            let taken = |key: &NodeKey| {
                let at = |stage, name| taken_step(state, key, stage, name);
                let started = of_taken(state, key, "start", start_step);
                [
                    at(MoveStage::Fence, "fence"),
                    at(MoveStage::Carry, "carry"),
                    of_taken(state, key, "configure", configure_step),
                    started,
                ]
            };
            nodes.iter().flat_map(taken).chain([verify_taken(state, key)]).collect()
        }
        Work::Seat => nodes.iter().map(|node| seat_step(state, node, true)).collect(),
        Work::Unseat => nodes.iter().map(|node| seat_step(state, node, false)).collect(),
        Work::Shrink => {
            let left = nodes.iter().filter(|key| state.nodes.get(*key).is_none_or(|node| node.leaves));
            let left: Vec<&NodeKey> = left.collect();
            let leave = left.iter().map(|node| leave_step(state, node));
            leave.chain(left.iter().map(|node| remove_step(state, node))).collect()
        }
        Work::Undelete if chain.is_some_and(|chain| !chain.wish.is_run()) => of_nodes(stop_step).collect(),
        Work::Resume | Work::Undelete => {
            of_nodes(run_step).chain([of_chain("verify", verify_state(chain.map(|chain| chain.state)))]).collect()
        }
    }
}

fn verify_state(chain: Option<ChainState>) -> StepState {
    match chain {
        Some(ChainState::Running) => StepState::Done,
        Some(ChainState::Failed) => StepState::Failed,
        Some(_) | None => StepState::Running,
    }
}

/// Failed with the reason while the rollout is halted.
fn verify_rolled(state: &State, key: &ChainKey) -> Wanted {
    let chain = state.chains.get(key);
    let halted = chain.and_then(|chain| chain.rollout.as_ref()?.halted.clone());
    let verify = verify_state(chain.map(|chain| chain.state));
    let (state, detail) = halted.map_or((verify, String::new()), |reason| (StepState::Failed, reason));
    Wanted { name: "verify", target: name::chain(key), state, detail }
}

/// As [`verify_rolled`], and not done before every other node was told.
fn verify_told(state: &State, key: &ChainKey) -> Wanted {
    let verify = verify_rolled(state, key);
    let chain = state.chains.get(key);
    let tells = chain.and_then(|chain| Some(is_under_way(state, chain, chain.rollout.as_ref()?))).unwrap_or(false);
    if verify.state != StepState::Done || !tells {
        return verify;
    }
    Wanted { state: StepState::Running, detail: "the other nodes are told where it is".into(), ..verify }
}

/// Done once the chain is a chain as any other, and runs.
fn verify_taken(state: &State, key: &ChainKey) -> Wanted {
    let verify = verify_rolled(state, key);
    let is_others = state.chains.get(key).is_some_and(|chain| chain.wish == Wish::Watch);
    if is_others && verify.state != StepState::Failed {
        return Wanted { state: StepState::Pending, ..verify };
    }
    verify
}

/// As [`of`], and pending while the node is its owner's.
fn of_taken(state: &State, key: &NodeKey, step: &'static str, wanted: fn(&Node) -> Wanted) -> Wanted {
    let is_owners = |node: &&Node| node.watched.is_some();
    match state.nodes.get(key).filter(is_owners) {
        Some(node) => of_node(step, node, StepState::Pending),
        None => of(state, key, step, wanted),
    }
}

/// As [`move_step`], and pending while the node is its owner's or goes back to it.
fn taken_step(state: &State, key: &NodeKey, stage: MoveStage, step: &'static str) -> Wanted {
    let goes_back = |node: &&Node| node.moving.as_ref().is_some_and(|moving| moving.stage == MoveStage::Return);
    match state.nodes.get(key).filter(|node| node.watched.is_some() || goes_back(node)) {
        Some(node) => of_node(step, node, StepState::Pending),
        None => move_step(state, key, stage, step),
    }
}

fn of(state: &State, key: &NodeKey, step: &'static str, wanted: fn(&Node) -> Wanted) -> Wanted {
    state.nodes.get(key).map_or_else(|| of_gone(step, key), wanted)
}

fn run_step(state: &State, key: &NodeKey) -> Wanted {
    of(state, key, "start", start_step)
}

/// Done once the node runs and is healthy in the rollout.
fn roll_step(state: &State, key: &NodeKey) -> Wanted {
    let rollout = state.chains.get(&key.chain).and_then(|chain| chain.rollout.as_ref());
    let number = rollout.map_or(0, |rollout| rollout.number);
    let Some(node) = state.nodes.get(key) else { return of_gone("roll", key) };
    let is_well = node.state == NodeState::Running && node.health == Health::Healthy;
    let state = match (node.rolled >= number, is_well) {
        (true, true) => StepState::Done,
        (true, false) if node.state == NodeState::Blocked => StepState::Failed,
        (true, false) => StepState::Running,
        (false, _) => StepState::Pending,
    };
    of_node("roll", node, state)
}

fn height(chain: &Chain) -> Option<&AtHeight> {
    chain.refit.as_ref()?.at.as_ref()
}

/// Done once its process knows at which height it stops.
fn tell_step(state: &State, key: &NodeKey) -> Wanted {
    let Some(node) = state.nodes.get(key) else { return of_gone("tell", key) };
    let is_told_only = state.chains.get(&key.chain).and_then(height).is_some_and(|at| at.stage == HeightStage::Telling);
    let at = match node.halt.map(|halt| halt.stage) {
        Some(HaltStage::Told | HaltStage::Reached) => StepState::Done,
        None if !is_told_only => StepState::Done,
        Some(HaltStage::Ordered) if node.state == NodeState::Blocked => StepState::Failed,
        Some(HaltStage::Ordered) => StepState::Running,
        None => StepState::Pending,
    };
    of_node("tell", node, at)
}

/// Done once its nodes stand at the height and the exchange has begun.
fn halt_step(state: &State, key: &ChainKey) -> Wanted {
    let target = name::chain(key);
    let of = |state: StepState, detail: String| Wanted { name: "halt", target: target.clone(), state, detail };
    let Some(at) = state.chains.get(key).and_then(height).filter(|at| at.stage == HeightStage::Telling) else {
        return of(StepState::Done, String::new());
    };
    let nodes = || nodes_of(state, key);
    let told = |node: &Node| node.halt.is_some_and(|halt| halt.stage >= HaltStage::Told);
    if !nodes().all(told) {
        return of(StepState::Pending, String::new());
    }
    let stand = nodes().filter(|node| node.stands_at() == Some(at.height)).count();
    of(StepState::Running, format!("{stand} of {} nodes stand before block {}", nodes().count(), at.height))
}

fn roll_later(state: &State, key: &NodeKey) -> Wanted {
    of(state, key, "roll", |node| of_node("roll", node, StepState::Pending))
}

/// Done once the ledger says that the node validates, or does not, as it was decided.
fn seat_step(state: &State, key: &NodeKey, validate: bool) -> Wanted {
    let Some(node) = state.nodes.get(key) else { return of_gone("seat", key) };
    let seat = node.seat.as_ref().filter(|seat| seat.wished == validate);
    let is_meant = node.intent.as_ref().is_some_and(|intent| intent.act == NodeAct::Seat);
    let at = match seat {
        Some(seat) if seat.held == validate && !seat.unsure => StepState::Done,
        Some(_) if is_meant => StepState::Running,
        Some(_) | None => StepState::Pending,
    };
    let waits = seat.map(|seat| seat.waits.clone()).unwrap_or_default();
    let detail = if at == StepState::Running { waits } else { String::new() };
    Wanted { name: "seat", target: name::node(key), state: at, detail }
}

fn leave_step(state: &State, key: &NodeKey) -> Wanted {
    let Some(node) = state.nodes.get(key) else { return of_gone("leave", key) };
    let is_let_go = node.wish == NodeWish::Remove;
    let words = "it is removed once the ledger says that it does not validate: its members take it out first";
    let (state, detail) = if is_let_go { (StepState::Done, "") } else { (StepState::Running, words) };
    Wanted { name: "leave", target: name::node(key), state, detail: detail.into() }
}

/// Done once the move is further, or over.
fn move_step(state: &State, key: &NodeKey, stage: MoveStage, step: &'static str) -> Wanted {
    let Some(node) = state.nodes.get(key) else { return of_gone(step, key) };
    let at = match node.moving.as_ref().map(|moving| moving.stage.cmp(&stage)) {
        None | Some(Ordering::Greater) => StepState::Done,
        Some(Ordering::Less) => StepState::Pending,
        Some(Ordering::Equal) if node.state == NodeState::Blocked => StepState::Failed,
        Some(Ordering::Equal) => StepState::Running,
    };
    of_node(step, node, at)
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
            NodeState::Blocked if node.wish == NodeWish::Remove => StepState::Failed,
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
