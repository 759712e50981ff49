//! What is asked of the API, its answers, and why there is none.

use super::data::{
    Audit, AuditTree, Block, Chain, ChainAccount, Consortium, Governance, Host, HostCheck, Invoice, Node, Operation,
    Proposal, Session, Status, Tenant, Transaction,
};

use super::cloud::{Cloud, Machine};
use super::plan::{Plan, Planned};
use super::watch::{Artifact, Finding, Series, Sought, Window};

/// What the explorer's search box found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A block.
    Block(Block),
    /// A transaction.
    Transaction(Transaction),
    /// An account.
    Account(ChainAccount),
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// See [`Status`].
    Status(Status),
    /// See [`Session`].
    Session(Session),
    /// By name.
    Tenants(Vec<Tenant>),
    /// By name.
    Consortiums(Vec<Consortium>),
    /// By name.
    Proposals(Vec<Proposal>),
    /// By name.
    Chains(Vec<Chain>),
    /// By name.
    Nodes(Vec<Node>),
    /// By name.
    Hosts(Vec<Host>),
    /// By name.
    Clouds(Vec<Cloud>),
    /// By name.
    Machines(Vec<Machine>),
    /// What was found on one host, in the order it was looked at.
    Preflight(Vec<HostCheck>),
    /// Newest first.
    Operations(Vec<Operation>),
    /// Newest first.
    Audit(Vec<Audit>),
    /// None where the replica has no key or is too old.
    AuditTree(Option<AuditTree>),
    /// One tenant and month.
    Invoice(Invoice),
    /// Of one chain.
    Governance(Governance),
    /// Newest first.
    Blocks(Vec<Block>),
    /// The most serious first.
    Findings(Vec<Finding>),
    /// By resource and figure, a counter's rate after the counter.
    Series(Vec<Series>),
    /// By hash.
    Artifacts(Vec<Artifact>),
    /// Of one change.
    Plan(Plan),
    /// What a search found.
    Found(Found),
}

/// An answer with where it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The data.
    pub payload: Payload,
    /// Revision of the state it was read from.
    pub revision: u64,
}

/// What is asked of the API. Each is one call and has one place in the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Query {
    /// Cluster status, answered by any replica.
    Status,
    /// Who am I.
    Session,
    /// All tenants.
    Tenants,
    /// All consortiums.
    Consortiums,
    /// Proposals of a consortium (resource name), or of all.
    Proposals(Option<String>),
    /// One proposal with ballots and artifact (resource name).
    Proposal(String),
    /// Chains of all consortiums.
    Chains,
    /// Nodes of all chains.
    Nodes,
    /// All hosts.
    Hosts,
    /// All clouds.
    Clouds,
    /// Machines of all clouds.
    Machines,
    /// A look at a host (resource name) before nodes are placed there.
    Preflight(String),
    /// The last operations.
    Operations,
    /// One operation with its steps.
    Operation(String),
    /// The last audit entries.
    Audit,
    /// Size and root of the tree over them.
    AuditTree,
    /// The last audit entries without the platform's bookkeeping.
    Recent,
    /// Draft invoice of (tenant id, month).
    Invoice(String, String),
    /// Who decides on a chain (resource name).
    Governance(String),
    /// What is wrong.
    Findings,
    /// Figures over time, and how far back.
    Series(Sought, Window),
    /// Software that the platform keeps.
    Artifacts,
    /// What a change would do.
    Plan(Planned),
    /// Last blocks of a chain.
    Blocks(String),
    /// Search in a chain: (chain, height | hash | address).
    Find(String, String),
}

/// Why a call failed, in the words of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// What to make of it.
    pub kind: FailureKind,
    /// Reason word: `NO_LEADER`, `QUOTA_EXCEEDED`, ...
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub advice: String,
    /// Field that was wrong, or empty.
    pub field: Box<str>,
    /// Request id of a write, or empty.
    pub request_id: Box<str>,
}

/// Classes of failure that the console treats differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailureKind {
    /// No replica or no leader; goes away by itself.
    Unavailable,
    /// No or expired session.
    Unauthenticated,
    /// May not.
    Denied,
    /// A write whose outcome is not known; ask again with the same id.
    OutcomeUnknown,
    /// Everything else, said in words.
    #[default]
    Other,
}
