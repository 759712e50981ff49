//! What must be so once the faults have ended: one leader whom all follow, equal logs and states, everything as wished.

use std::collections::{BTreeMap, BTreeSet};

use hanse_raft::{Member, ReplicaId};
use hanse_state::State;
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::consortium::proposal::{Proposal, ProposalState};
use hanse_state::operation::{OperationKind, OperationState};
use hanse_state::replica::{Replica, Standing, Wish};
use openraft::async_runtime::watch::WatchReceiver;

use crate::types::Metrics;
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
    match united(world) {
        Ok(state) => as_wished(world, &state),
        Err(other) => other,
    }
}

/// Gives the state that all replicas agree on, under one leader and with the membership that was ordered.
///
/// # Errors
/// What keeps them from it.
pub(crate) fn united(world: &World) -> Result<State, Healing> {
    let all: Vec<_> =
        world.rafts.values().map(|(raft, machine)| (raft.metrics().borrow_watched().clone(), machine.view())).collect();
    let Some((lead, truth)) = all.iter().find(|(m, _)| m.current_leader == Some(m.id)) else {
        return Err(Healing::Waits("no leader".into()));
    };
    let members: Vec<ReplicaId> = lead.membership_config.membership().nodes().map(|(id, _)| *id).collect();
    for id in members {
        let Some((metrics, view)) = all.iter().find(|(m, _)| m.id == id) else {
            return Err(Healing::Waits(format!("member {id} is down")));
        };
        if metrics.current_leader != Some(lead.id)
            || metrics.last_log_index != lead.last_log_index
            || view.applied != truth.applied
        {
            return Err(Healing::Waits(format!("replica {id}: {metrics}, the leader: {lead}")));
        }
        if view.state != truth.state {
            let text = format!("equal states: replica {id} differs from {} after {:?}", lead.id, view.applied);
            return Err(Healing::Never(text));
        }
    }
    match as_ordered(world, lead, &truth.state) {
        Healing::Done => Ok(truth.state.clone()),
        other => Err(other),
    }
}

/// The membership: openraft's is the state's, no order is open, and who was removed has ended.
fn as_ordered(world: &World, lead: &Metrics, state: &State) -> Healing {
    let Some(cluster) = &state.cluster else { return Healing::Waits("no cluster yet".into()) };
    let membership = lead.membership_config.membership();
    if membership.get_joint_config().len() > 1 {
        return Healing::Waits(format!("a joint configuration: {membership}"));
    }
    let voters: BTreeSet<u64> = membership.voter_ids().map(|id| id.0).collect();
    let members: BTreeMap<u64, &Member> = membership.nodes().map(|(id, member)| (id.0, member)).collect();
    for (id, it) in &cluster.replicas.by_id {
        let is_done = match it.standing {
            Standing::Ordered => false,
            Standing::Learner => it.wish == Wish::Learner && members.contains_key(id) && !voters.contains(id),
            Standing::Voter => it.wish == Wish::Voter && voters.contains(id),
            Standing::Gone => it.wish == Wish::Gone && !members.contains_key(id) && !world.roster.lives(ReplicaId(*id)),
        };
        if !is_done {
            return Healing::Waits(format!("order of replica {id} is not done: {it:?}, in openraft {membership}"));
        }
        let at = members.get(id).map(|it| (&it.peer_address, &it.api_address));
        if at.is_some_and(|at| at != (&it.peer_address, &it.api_address)) {
            return Healing::Never(format!("replica {id} is at {at:?} in openraft, in the state {it:?}"));
        }
        let took_over = |(_, newer): (&u64, &Replica)| newer.replaces == Some(*id) && newer.standing == Standing::Voter;
        if it.wish != Wish::Gone && cluster.replicas.by_id.iter().any(took_over) {
            return Healing::Never(format!("replica {id} was replaced and stays"));
        }
    }
    if let Some(id) = members.keys().find(|id| !cluster.replicas.by_id.contains_key(*id)) {
        return Healing::Waits(format!("replica {id} is a member and not in the state"));
    }
    match world.roster.ended().iter().find(|id| !cluster.replicas.is_gone(id.0)) {
        Some(id) => Healing::Never(format!("{id} has ended as removed, and was not")),
        None => Healing::Done,
    }
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
    // A contract may have failed, with a reason.
    let is_open = |state, kind: &OperationKind| match state {
        OperationState::Succeeded => false,
        OperationState::Failed => !matches!(kind, OperationKind::DeployContract(_)),
        OperationState::Running => true,
    };
    if let Some(it) = state.operations.values().find(|it| is_open(it.state, &it.kind)) {
        return Healing::Waits(format!("operation {:?} is {:?}: {:?}", it.kind, it.state, it.cause));
    }
    let is_late = |it: &&Proposal| it.state == ProposalState::Open && it.deadline <= state.now;
    if let Some(it) = state.proposals.values().find(is_late) {
        return Healing::Waits(format!("proposal {} is open after its deadline", it.key));
    }
    if let Some(wrong) = world.hosts.chains.wrong(state) {
        return Healing::Never(wrong);
    }
    world.hosts.silent(state).map_or(Healing::Done, Healing::Waits)
}
