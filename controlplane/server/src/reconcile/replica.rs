//! The membership of the control plane: the leader carries out what was ordered, one step a round.
//!
//! Each step is planned anew from the log and from Raft's own membership, so it does not matter which leader did the one
//! before, or whether it was interrupted half-way.

use hanse_planner::{MembershipView, ReplicaAct, plan_replicas};
use hanse_raft::{ChangeError, Member, ReplicaId, Status};
use hanse_state::replica::RecordReplica;
use hanse_state::{Command, State, name};

use super::World;
use super::act::Trouble;

/// What the leader sees of the membership, from its replica's status.
pub fn view(status: &Status) -> MembershipView {
    let last = status.last_log_index.unwrap_or(0);
    // The leader lacks nothing of its own log, and it is not among those it replicates to.
    let lag = status.matched.iter().filter_map(|(id, matched)| Some((id.0, last.saturating_sub((*matched)?))));
    let lag = lag.chain([(status.id.0, 0)]).collect();
    let address = |member: &Member| (member.peer_address.clone(), member.api_address.clone());
    let own = [(status.id.0, status.incarnation.clone())];
    MembershipView {
        own: status.id.0,
        members: status.members.iter().map(|(id, member)| (id.0, address(member))).collect(),
        voters: status.voters.iter().map(|id| id.0).collect(),
        last_log_index: last,
        joint: status.joint,
        heard: status.heard.iter().map(|id| id.0).collect(),
        lag,
        incarnations: status.incarnations.iter().map(|(id, it)| (id.0, it.clone())).chain(own).collect(),
    }
}

/// The next step and the name it is known by on the desk, if there is one.
pub(super) fn plan(world: &World, state: &State) -> Option<(String, ReplicaAct)> {
    let replicas = &state.cluster.as_ref()?.replicas;
    let act = plan_replicas(replicas, &world.replica.membership())?;
    // One name for all: two steps never run beside each other.
    Some((name::replica(0), act))
}

/// Carries out one step.
pub(super) async fn carry_out(world: &World, act: ReplicaAct) -> Result<(), Trouble> {
    let replica = &world.replica;
    match act {
        ReplicaAct::Record { replica, fact } => {
            world.order(Command::RecordReplica(RecordReplica { replica, fact })).await?;
            return Ok(());
        }
        ReplicaAct::AddLearner { replica: id, peer_address, api_address } => {
            tracing::info!(replica = id, peer = %peer_address, "a new replica becomes a learner");
            replica.add_learner(ReplicaId(id), Member { peer_address, api_address }).await
        }
        ReplicaAct::Promote { replica: id } => {
            tracing::info!(replica = id, "a learner becomes a voter");
            replica.promote(ReplicaId(id)).await
        }
        ReplicaAct::Remove { replica: id } => {
            tracing::info!(replica = id, "a replica leaves the cluster");
            replica.remove(ReplicaId(id)).await
        }
        ReplicaAct::HandOver { to } => {
            tracing::info!(to, "this leader is to leave the cluster and hands the lead over");
            replica.transfer_leader(ReplicaId(to)).await.map_err(|error| ChangeError::Refused(error.to_string()))
        }
    }
    .map_err(|error| Trouble::Stale(format!("the membership was not changed: {error}")))
}
