//! Moving a node to another host, step after step; and moving nodes off hosts that are drained, one of a chain at a time.

use hanse_state::State;
use hanse_state::chain::Chain;
use hanse_state::chain::ENDURING_MIN;
use hanse_state::chain::moving::MoveStage;
use hanse_state::chain::node::{Health, Node, NodeAct, NodeState};
use hanse_state::chain::query::nodes_of;
use hanse_state::cluster::version::Version;
use hanse_state::host::spread::elsewhere;
use hanse_state::host::{Host, HostState, Reach};

use crate::node::obstacle;
use crate::{Act, Step, may_disturb};

/// Returns the next step of a move that is under way, be it to another host or from its owner's home and back.
pub(crate) fn plan_move(state: &State, node: &Node) -> Step {
    let (Some(moving), Some(from)) = (&node.moving, &node.host) else {
        return Step::wait("it moves, and its next state says how");
    };
    let (act, hosts) = match moving.stage {
        MoveStage::Fence => (NodeAct::Fence, vec![from]),
        MoveStage::Carry => (NodeAct::Carry, vec![from, &moving.to]),
        MoveStage::Clear => (NodeAct::Clear, vec![from, &moving.to]),
        MoveStage::Return => (NodeAct::Return, vec![from]),
    };
    match hosts.into_iter().find_map(|id| obstacle(state, id)) {
        Some(reason) => Step::wait(reason),
        None => Step::Do(Act::MoveStep { node: node.key.clone(), generation: node.generation, act }),
    }
}

/// Returns the next move of one of the chain's nodes off a host that is drained; `None` if there is none to be made.
pub(crate) fn plan_drain(state: &State, chain: &Chain) -> Option<Step> {
    if state.version() < Version::MOVES {
        return None;
    }
    let drained = |node: &&Node| host_of(state, node).is_some_and(|host| host.state == HostState::Draining);
    let stays = |node: &&Node| node.wish.is_run() && node.identity.is_some() && node.state != NodeState::Moving;
    let all: Vec<&Node> = nodes_of(state, &chain.key).filter(stays).filter(drained).collect();
    // One that cannot go keeps none of the others there.
    let can_go = |node: &&&Node| !is_on_docker(state, node) && elsewhere(state, node).is_some();
    let node = *all.iter().find(can_go).or(all.first())?;
    let host = host_of(state, node)?;
    let wait = |why: String| Some(Step::wait(format!("{} is to leave hosts/{}: {why}", node.key.node, host.id)));
    if let Some(other) = nodes_of(state, &chain.key).find(|other| other.moving.is_some()) {
        return wait(format!("{} moves", other.key.node));
    }
    // One that has just arrived is well only when it was heard.
    let ill = nodes_of(state, &chain.key).find(|other| other.wish.is_run() && other.key != node.key && !is_well(other));
    if let Some(other) = ill.filter(|_| !host.outage_accepted) {
        return wait(format!("{} is not well", other.key.node));
    }
    if is_on_docker(state, node) {
        return wait(
            "its home is not carried from a Docker Engine: make a new node by vote, and let this one leave".into(),
        );
    }
    // The others are started anew once it is there.
    let founders = nodes_of(state, &chain.key).filter(|node| node.validates()).count();
    let is_small = founders < ENDURING_MIN;
    if (is_small || !may_disturb(state, &node.key)) && !host.outage_accepted {
        return wait("its chain would make no block meanwhile; `--accept-outage` of the drain agrees to that".into());
    }
    let Some(to) = elsewhere(state, node) else {
        return wait("no other host that is ready has a slot for it".into());
    };
    Some(Step::Do(Act::Move {
        node: node.key.clone(),
        generation: node.generation,
        to,
        reason: format!("hosts/{} is drained: {}", host.id, host.state_reason),
        accept_outage: host.outage_accepted,
    }))
}

fn host_of<'a>(state: &'a State, node: &Node) -> Option<&'a Host> {
    node.host.as_ref().and_then(|id| state.hosts.get(id))
}

fn is_on_docker(state: &State, node: &Node) -> bool {
    host_of(state, node).is_some_and(|host| matches!(host.reach, Reach::Docker { .. }))
}

fn is_well(node: &Node) -> bool {
    node.state == NodeState::Running && node.health == Health::Healthy
}
