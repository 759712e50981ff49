//! The whole state and what applying to it gives.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::account::{Account, Session};
use crate::artifact::{Artifact, Publisher};
use crate::audit::AuditHead;
use crate::billing::{Plan, UsageKey};
use crate::chain::Chain;
use crate::chain::node::Node;
use crate::cluster::Cluster;
use crate::cluster::version::Version;
use crate::command::Outcome;
use crate::consortium::Consortium;
use crate::consortium::proposal::Proposal;
use crate::contract::Contract;
use crate::dedup::Dedup;
use crate::digest::Digest;
use crate::digests::Digests;
use crate::event::{Event, Record};
use crate::host::Host;
use crate::ids::{
    AccountId, ChainKey, CloudId, ConsortiumId, ContractKey, HostId, NodeKey, OperationId, PlanId, ProposalKey,
    PublisherId, TenantId,
};
use crate::operation::Operation;
use crate::rejection::Rejection;
use crate::tenant::Tenant;
use crate::time::Millis;

/// Everything the platform knows that changes; live in memory, a clone is a cheap snapshot. What only grows (audit,
/// usage, logs of operations) is not here but in [`Record`]s.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Number of the last applied request: higher with each, and at least the index of its log entry.
    pub revision: u64,
    /// Log time: strictly later with every entry.
    pub now: Millis,
    /// Rolling digest over all that was applied; see [`State::digest`].
    pub digest: Digest,
    /// Digests of the latest revisions.
    pub digests: Digests,
    /// Outcomes of the latest requests.
    pub dedup: Dedup,
    /// Head of the audit chain.
    pub audit: AuditHead,
    /// Number of the last usage record.
    pub last_usage: u64,
    /// Number of the last operation.
    pub last_operation: u64,
    /// Number of the last record of the operations' log.
    pub last_operation_log: u64,
    /// The platform; `None` until the first leader has named it.
    pub cluster: Option<Cluster>,
    /// By id.
    pub accounts: OrdMap<AccountId, Account>,
    /// By hash of the token.
    pub sessions: OrdMap<Digest, Session>,
    /// By id.
    pub tenants: OrdMap<TenantId, Tenant>,
    /// By id.
    pub consortiums: OrdMap<ConsortiumId, Consortium>,
    /// By consortium and number.
    pub proposals: OrdMap<ProposalKey, Proposal>,
    /// By consortium and chain.
    pub chains: OrdMap<ChainKey, Chain>,
    /// By chain and number.
    pub nodes: OrdMap<NodeKey, Node>,
    /// By chain and name.
    pub contracts: OrdMap<ContractKey, Contract>,
    /// By id.
    pub hosts: OrdMap<HostId, Host>,
    /// By number, at most [`crate::operation::OPERATIONS_MAX`].
    pub operations: OrdMap<OperationId, Operation>,
    /// By id.
    pub plans: OrdMap<PlanId, Plan>,
    /// Milliseconds of running time, summed.
    pub usage: OrdMap<UsageKey, u64>,
    /// By hash, at most [`crate::artifact::ARTIFACTS_MAX`]; since version 4.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub artifacts: OrdMap<Digest, Artifact>,
    /// By id, at most [`crate::artifact::PUBLISHERS_MAX`]; since version 4.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub publishers: OrdMap<PublisherId, Publisher>,
    /// By id, at most [`crate::cloud::CLOUDS_MAX`]; since version 5.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub clouds: OrdMap<CloudId, crate::cloud::Cloud>,
    /// By the id of the host that each becomes; since version 5.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub machines: OrdMap<HostId, crate::cloud::Machine>,
    /// The highest generation that a removed node of a chain of this name had: nodes of a later chain begin above it, so that
    /// whatever is still on its way to a host is older than they are; since version 5.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub retired: OrdMap<ChainKey, u64>,
}

/// What applying one request did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Entry of the outcome: this one, or the first one of a replay.
    pub revision: u64,
    /// What the caller is told.
    pub outcome: Result<Outcome, Rejection>,
    /// Whether the request had been applied before; nothing was done now.
    pub replayed: bool,
    /// What changed, in order of resource name.
    pub events: Vec<Event>,
    /// History to append.
    pub records: Vec<Record>,
    /// Each of them as [`crate::codec::encode_record`] gives it: made for the digest, and kept for the disk.
    pub encoded_records: Vec<Vec<u8>>,
    /// This replica's state is not the leader's: it must stop.
    pub diverged: Option<Divergence>,
}

/// Two replicas applied the same log and hold different states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("state differs at revision {revision}: here {ours}, the leader has {theirs}")]
pub struct Divergence {
    /// After which entry.
    pub revision: u64,
    /// Digest here.
    pub ours: Digest,
    /// Digest of the leader.
    pub theirs: Digest,
}

impl State {
    /// The rolling digest: equal on two replicas at the same revision, or one of them is wrong.
    ///
    /// Each entry mixes in its index, outcome and records; each thousandth the whole encoded state, from cluster version 2
    /// on without what was mixed in before.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The version the cluster is at; the first one before it has a name.
    pub fn version(&self) -> Version {
        self.cluster.as_ref().map_or(Version::FIRST, |cluster| cluster.version)
    }

    /// The digest after `revision`, if it is among the latest [`DIGESTS_KEPT`](crate::DIGESTS_KEPT).
    pub fn digest_at(&self, revision: u64) -> Option<Digest> {
        self.digests.get(revision)
    }

    /// The number of the last record of each kind of history ([`Record::kind`]) that belongs to this state.
    pub fn heads(&self) -> [(&'static str, u64); 3] {
        [("audit", self.audit.count), ("operation", self.last_operation_log), ("usage", self.last_usage)]
    }
}
