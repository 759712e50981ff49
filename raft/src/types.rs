//! The names of Raft in this crate: replica ids, members, what an entry carries and what applying it answers.
//!
//! openraft calls a replica a node; outside this crate that word means a blockchain node, so it ends here.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use hanse_state::Applied;
use serde::{Deserialize, Serialize};

/// Id of a replica; given once in the configuration and never used again for another machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for ReplicaId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl FromStr for ReplicaId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Where a replica is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// `host:port` of its peer service.
    pub peer_address: String,
    /// `host:port` of its public API.
    pub api_address: String,
}

/// The encoded requests that one log entry carries (`hanse_state::codec`, joined by `batch`); raft never looks inside.
/// A clone is another handle on the same bytes: an entry goes to the log, to every peer and to the state machine.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryBytes(pub Bytes);

impl fmt::Debug for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryBytes({} bytes)", self.0.len())
    }
}

impl fmt::Display for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What applying one entry answers, request by request: nothing for Raft's own entries.
pub(crate) type EntryAnswer = Vec<Applied>;

openraft::declare_raft_types!(
    /// openraft's types, filled in.
    pub Types:
        D = EntryBytes,
        R = EntryAnswer,
        NodeId = ReplicaId,
        Node = Member,
        Term = u64,
        LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, ReplicaId>,
        Vote = openraft::impls::Vote<Self::LeaderId>,
        Payload = openraft::EntryPayload<EntryBytes, ReplicaId, Member>,
        Entry = openraft::Entry<Self::LeaderId, Self::Payload>,
        AsyncRuntime = openraft::impls::TokioRuntime,
);

/// Term and replica that led it.
pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, ReplicaId>;
/// Position of an entry.
pub(crate) type LogId = openraft::LogId<LeaderId>;
/// Vote of a replica.
pub(crate) type Vote = openraft::Vote<LeaderId>;
/// What an entry carries.
pub(crate) type Payload = openraft::EntryPayload<EntryBytes, ReplicaId, Member>;
/// One entry of the log.
pub(crate) type Entry = openraft::Entry<LeaderId, Payload>;
/// The replicas and who of them votes.
pub(crate) type Membership = openraft::Membership<ReplicaId, Member>;
/// A membership and the entry that made it.
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, ReplicaId, Member>;
/// What a snapshot covers.
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, ReplicaId, Member>;
