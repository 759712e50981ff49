//! What must be so once the faults have ended: one leader whom all follow, equal logs and states, everything as wished.

use hanse_raft::ReplicaId;
use hanse_state::State;
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::consortium::proposal::{Proposal, ProposalState};
use hanse_state::operation::OperationState;
use openraft::async_runtime::watch::WatchReceiver;

use crate::world::World;

/// How far the cluster has healed.
pub(crate) enum Healing {
    /// All is as it must be.
    Done,
    /// Something is missing that may still come.
    Waits(String),
    /// Something is wrong that no time mends.
    Never(String),
}

/// Gives how far the cluster has healed.
pub(crate) fn healing(world: &World) -> Healing {
    if !world.proved {
        return Healing::Waits(format!("no write and read yet, phase {:?}, clients {:?}", world.phase, world.busy));
    }
    let all: Vec<_> =
        world.rafts.values().map(|(raft, machine)| (raft.metrics().borrow_watched().clone(), machine.view())).collect();
    let Some((lead, truth)) = all.iter().find(|(m, _)| m.current_leader == Some(m.id)) else {
        return Healing::Waits("no leader".into());
    };
    let members: Vec<ReplicaId> = lead.membership_config.membership().nodes().map(|(id, _)| *id).collect();
    for id in members {
        let Some((metrics, view)) = all.iter().find(|(m, _)| m.id == id) else {
            return Healing::Waits(format!("member {id} is down"));
        };
        if metrics.current_leader != Some(lead.id)
            || metrics.last_log_index != lead.last_log_index
            || view.applied != truth.applied
        {
            return Healing::Waits(format!("replica {id}: {metrics}, the leader: {lead}"));
        }
        if view.state != truth.state {
            let text = format!("equal states: replica {id} differs from {} after {:?}", lead.id, view.applied);
            return Healing::Never(text);
        }
    }
    as_wished(world, &truth.state)
}

/// Nodes, operations and votes of the state, and what is on the hosts.
fn as_wished(world: &World, state: &State) -> Healing {
    if let Some(orphan) = world.hosts.orphan(state) {
        return Healing::Never(orphan);
    }
    let is_ill = |it: &&Node| it.state != NodeState::Running || it.health != Health::Healthy;
    if let Some(it) = state.nodes.values().find(is_ill) {
        return Healing::Waits(format!("{} is {:?} and {:?}: {}", it.key, it.state, it.health, it.state_reason));
    }
    if let Some(it) = state.operations.values().find(|it| it.state != OperationState::Succeeded) {
        return Healing::Waits(format!("operation {:?} is {:?}: {:?}", it.kind, it.state, it.cause));
    }
    let is_late = |it: &&Proposal| it.state == ProposalState::Open && it.deadline <= state.now;
    if let Some(it) = state.proposals.values().find(is_late) {
        return Healing::Waits(format!("proposal {} is open after its deadline", it.key));
    }
    world.hosts.silent(state).map_or(Healing::Done, Healing::Waits)
}
