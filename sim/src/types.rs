//! openraft's types, filled in as the raft crate fills them, but over the simulated runtime.

use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

use hanse_raft::ReplicaId;
use hanse_state::Applied;

use crate::runtime::SimRuntime;

/// The encoded request that an entry carries.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct EntryBytes(pub(crate) Arc<[u8]>);

impl fmt::Debug for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What applying one entry answers: nothing for Raft's own entries.
pub(crate) type Answer = Option<Arc<Applied>>;

openraft::declare_raft_types!(
    /// openraft's types, filled in.
    pub(crate) Types:
        D = EntryBytes,
        R = Answer,
        NodeId = ReplicaId,
        Node = hanse_raft::Member,
        Term = u64,
        LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, ReplicaId>,
        Vote = openraft::impls::Vote<Self::LeaderId>,
        Payload = openraft::EntryPayload<EntryBytes, ReplicaId, hanse_raft::Member>,
        Entry = openraft::Entry<Self::LeaderId, Self::Payload>,
        AsyncRuntime = SimRuntime,
);

pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, ReplicaId>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<EntryBytes, ReplicaId, hanse_raft::Member>;
pub(crate) type Entry = openraft::Entry<LeaderId, Payload>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, ReplicaId, hanse_raft::Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, ReplicaId, hanse_raft::Member>;
pub(crate) type SnapshotData = Cursor<Vec<u8>>;
pub(crate) type Snapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;
pub(crate) type Raft = openraft::Raft<Types, crate::machine::Machine>;
pub(crate) type Metrics = openraft::RaftMetrics<Types>;
