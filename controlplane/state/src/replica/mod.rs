//! The replicas of the control plane: who was ordered, who is in, who must never come back.
//!
//! An order of a person is the wish of a record; the leader carries it out in Raft's own membership and records what it
//! saw there. Ids come from here, only grow and are never given twice. A replica's *incarnation* is the random name of
//! its data folder: a replica that shows another one than it was first seen with has lost what it promised.

pub(crate) mod apply;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::time::Millis;

/// Replicas that a cluster has at most, without those that are gone; more voters only slow every write.
pub const REPLICAS_MAX: usize = 7;
/// Replicas that a cluster ever had at most; those that are gone are remembered, so that they are refused.
pub const REPLICAS_EVER_MAX: usize = 1_024;
/// Greatest id; far from the end of the numbers, so that adding one is always possible.
pub const REPLICA_ID_MAX: u64 = 1 << 40;
/// Longest `host:port`.
pub const ADDRESS_MAX: usize = 262;
/// Longest reason.
pub const REASON_MAX: usize = 200;

/// All replicas the log knows of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    /// Greatest id that was ever given; only grows.
    pub last_id: u64,
    /// By id, those that are gone too.
    pub by_id: OrdMap<u64, Replica>,
}

/// One replica as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replica {
    /// `host:port` of its peer listener.
    pub peer_address: String,
    /// `host:port` of its API listener.
    pub api_address: String,
    /// What it shall be.
    pub wish: Wish,
    /// What the leader last saw it to be.
    pub standing: Standing,
    /// The replica that goes once this one votes.
    pub replaces: Option<u64>,
    /// Random name of its data folder, once the leader has heard from it.
    pub incarnation: Option<String>,
    /// Whether the latest order goes ahead in spite of what makes it unsafe.
    pub forced: bool,
    /// Why it is wished so, in the words of who ordered it.
    pub reason: String,
    /// When it was ordered, or first recorded.
    pub ordered_at: Millis,
    /// When `standing` changed last.
    pub since: Millis,
}

/// What a replica shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Receives the log without a vote.
    Learner,
    /// Votes.
    Voter,
    /// No longer belongs to the cluster.
    Gone,
}

/// What a replica was last seen to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Not yet a member.
    Ordered,
    /// Receives the log without a vote.
    Learner,
    /// Votes.
    Voter,
    /// Was removed for ever.
    Gone,
}

impl Replicas {
    /// Whether nothing is known; then nothing is written.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the replica was removed: nothing it says counts any more.
    pub fn is_gone(&self, id: u64) -> bool {
        self.by_id.get(&id).is_some_and(|replica| replica.standing == Standing::Gone)
    }

    /// The incarnation that the replica was first seen with.
    pub fn incarnation(&self, id: u64) -> Option<&str> {
        self.by_id.get(&id)?.incarnation.as_deref()
    }

    /// Replicas that are not gone, by id.
    pub fn present(&self) -> impl Iterator<Item = (u64, &Replica)> {
        self.by_id.iter().filter(|(_, replica)| replica.standing != Standing::Gone).map(|(id, replica)| (*id, replica))
    }
}

/// Orders a new replica, which gets an id of its own. By an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddReplica {
    /// `host:port` of its peer listener, at most [`ADDRESS_MAX`] characters.
    pub peer_address: String,
    /// `host:port` of its API listener, at most [`ADDRESS_MAX`] characters.
    pub api_address: String,
    /// Whether it shall vote once it has caught up.
    pub vote: bool,
    /// The replica that goes once this one votes; then `vote` must be true.
    pub replaces: Option<u64>,
    /// Greatest id in Raft's membership as the leader sees it; the new id is greater.
    pub floor: u64,
    /// Why, at most [`REASON_MAX`] characters; may be empty.
    pub reason: String,
}

/// Orders that a learner shall vote. By an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteReplica {
    /// Which.
    pub replica: u64,
    /// Whether although it lags or is not heard; then `reason` must say why.
    pub forced: bool,
    /// Why, at most [`REASON_MAX`] characters; may be empty.
    pub reason: String,
}

/// Orders that a replica leaves the cluster for ever. By an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveReplica {
    /// Which.
    pub replica: u64,
    /// Whether although no majority of the rest is heard; then `reason` must say why.
    pub forced: bool,
    /// Why, at most [`REASON_MAX`] characters; may be empty.
    pub reason: String,
}

/// Orders another replica to take the lead. Changes nothing here but the audit trail. By an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferLeader {
    /// Which replica leads afterwards.
    pub replica: u64,
    /// Why, at most [`REASON_MAX`] characters; may be empty.
    pub reason: String,
}

/// Records what the leader saw of a replica in Raft's membership. By the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordReplica {
    /// Which.
    pub replica: u64,
    /// What was seen.
    pub fact: ReplicaFact,
}

/// What was seen of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ReplicaFact {
    /// It is a member; the first members of a cluster become known by this.
    Member {
        /// `host:port` of its peer listener.
        peer_address: String,
        /// `host:port` of its API listener.
        api_address: String,
        /// Whether it votes.
        votes: bool,
    },
    /// It answered with this incarnation after it had stored something.
    Heard {
        /// Random name of its data folder, 32 hex digits.
        incarnation: String,
    },
    /// It is no longer a member.
    Gone,
}
