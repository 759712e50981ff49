//! What a replica says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::{Instant, RaftMetrics, ServerState};

use crate::machine::View;
use crate::types::{Member, ReplicaId, Types};

/// What a replica does in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Orders requests.
    Leader,
    /// Follows the leader and may vote.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Has stopped.
    Stopped,
}

/// A replica's own view; local, possibly behind.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its id.
    pub id: ReplicaId,
    /// What it does.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<ReplicaId>,
    /// Last entry in its log.
    pub last_log_index: Option<u64>,
    /// Last entry it knows a majority has.
    pub committed: Option<u64>,
    /// Last entry it applied.
    pub applied: Option<u64>,
    /// Last entry its newest snapshot covers.
    pub snapshot: Option<u64>,
    /// Last entry gone from its log.
    pub purged: Option<u64>,
    /// Digest of its state, hex.
    pub digest: String,
    /// Revision of that digest: the number of the last request applied.
    pub digest_revision: u64,
    /// The members by id.
    pub members: BTreeMap<ReplicaId, Member>,
    /// Those of them that vote; of a joint configuration, both halves.
    pub voters: BTreeSet<ReplicaId>,
    /// Whether a change of the voters is under way.
    pub joint: bool,
    /// On the leader: those who answered it lately, itself included.
    pub heard: BTreeSet<ReplicaId>,
    /// Random name of this replica's data folder.
    pub incarnation: String,
    /// The same of the others, as far as they have answered this replica after they had stored something.
    pub incarnations: BTreeMap<ReplicaId, String>,
    /// On the leader: the last entry each member is known to have.
    pub matched: BTreeMap<ReplicaId, Option<u64>>,
}

/// Puts openraft's metrics and the view together.
pub(crate) fn status(
    metrics: &RaftMetrics<Types>,
    view: &View,
    snapshot: Option<u64>,
    silence_max: Duration,
    incarnation: &str,
    incarnations: BTreeMap<ReplicaId, String>,
) -> Status {
    let role = match (&metrics.running_state, metrics.state) {
        (Err(_), _) | (_, ServerState::Shutdown) => Role::Stopped,
        (Ok(()), ServerState::Leader) => Role::Leader,
        (Ok(()), ServerState::Follower) => Role::Follower,
        (Ok(()), ServerState::Candidate) => Role::Candidate,
        (Ok(()), ServerState::Learner) => Role::Learner,
    };
    let matched = metrics.replication.iter().flatten().map(|(id, at)| (*id, at.as_ref().map(|l| l.index))).collect();
    let membership = metrics.membership_config.membership();
    let mut heard: BTreeSet<ReplicaId> = metrics
        .heartbeat
        .iter()
        .flatten()
        .filter_map(|(id, at)| at.as_ref().filter(|at| at.elapsed() < silence_max).map(|_| *id))
        .collect();
    if role == Role::Leader {
        heard.insert(metrics.id);
    }
    Status {
        id: metrics.id,
        role,
        term: metrics.current_term,
        leader: metrics.current_leader,
        last_log_index: metrics.last_log_index,
        committed: metrics.local_committed.map(|id| id.index),
        applied: view.applied.map(|id| id.index),
        snapshot,
        purged: metrics.purged.map(|id| id.index),
        digest: view.state.digest().to_string(),
        digest_revision: view.state.revision,
        members: metrics.membership_config.nodes().map(|(id, m)| (*id, m.clone())).collect(),
        voters: membership.voter_ids().collect(),
        joint: membership.get_joint_config().len() > 1,
        heard,
        incarnation: incarnation.to_owned(),
        incarnations,
        matched,
    }
}
