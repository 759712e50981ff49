//! What the screens show: the console's own types, apart from the API's.
//!
//! `convert` makes them from answers of the API, so that a new API field changes one file and a console can be older or
//! newer than the replicas. Times are milliseconds since the epoch, 0 for "not yet". State words are upper case as in
//! the API without prefixes (`RUNNING`). Texts are as received: the drawing code cleans them.

pub use super::governance::{AllowList, AnchorSeen, DoubleSigning, Governance, ListChange, Validator, ValidatorSet};
pub use super::host::{Host, HostCheck};
pub use super::query::{Failure, FailureKind, Found, Loaded, Payload, Query};

/// The cluster as one replica sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Name given at the first start.
    pub cluster: String,
    /// Uuid of the cluster, part of every ballot.
    pub cluster_id: String,
    /// False until the first administrator exists.
    pub bootstrapped: bool,
    /// Id of the leader, if the answering replica knows one.
    pub leader: Option<String>,
    /// Raft term.
    pub term: u64,
    /// Last applied revision of the answering replica.
    pub revision: u64,
    /// Version the cluster is at; 0 if unknown.
    pub version: u32,
    /// Every replica, by id.
    pub replicas: Vec<Replica>,
}

/// One control-plane process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// Id.
    pub id: String,
    /// `LEADER`, `FOLLOWER`, `CANDIDATE`, `LEARNER`, `DOWN`, `UNKNOWN`.
    pub role: String,
    /// Where its API answers.
    pub address: String,
    /// Entries it applied, as far as known.
    pub applied: Option<u64>,
    /// Entries behind the leader, as far as known.
    pub lag: Option<u64>,
    /// Program version, empty if unknown.
    pub version: String,
    /// Oldest and newest cluster version its build speaks, as far as known.
    pub speaks: Option<(u32, u32)>,
    /// Digest of its state, empty if unknown.
    pub digest: String,
}

/// Who is logged in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// `name` or `name@tenant`.
    pub account: String,
    /// Upper-case role word.
    pub role: String,
    /// Tenant of the account, empty for platform accounts.
    pub tenant: String,
    /// End of the session.
    pub expires_at: i64,
}

/// A customer organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// Resource name.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// State word.
    pub state: String,
    /// When it was made.
    pub created_at: i64,
}

/// Organisations that run chains together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consortium {
    /// Resource name.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// `FORMING` or `ACTIVE`.
    pub state: String,
    /// Who founded it.
    pub founder: String,
    /// Members, by tenant.
    pub members: Vec<Member>,
    /// What needs which majority: (action, policy), by action.
    pub policies: Vec<(String, String)>,
    /// How long a vote stays open, in milliseconds.
    pub voting_period_ms: u64,
    /// When it was made.
    pub created_at: i64,
}

/// A tenant in a consortium.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Id of the tenant.
    pub tenant: String,
    /// Votes it has.
    pub weight: u64,
    /// State word.
    pub state: String,
    /// Ed25519 public key, hex.
    pub key: String,
}

/// Something a consortium votes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// Resource name.
    pub name: String,
    /// Headline.
    pub title: String,
    /// Kind of the action it orders.
    pub action: String,
    /// `OPEN`, `PASSED`, `REJECTED`, `EXPIRED`.
    pub state: String,
    /// Why, in words.
    pub reason: String,
    /// Policy word.
    pub policy: String,
    /// Who opened it.
    pub by: String,
    /// When it opened.
    pub opened_at: i64,
    /// When voting ends.
    pub deadline: i64,
    /// When it was decided, 0 while open.
    pub decided_at: i64,
    /// Weight of yes, no, abstain and of everybody.
    pub tally: Tally,
    /// Who may vote, by tenant.
    pub ballots: Vec<Ballot>,
    /// What is voted on, as text.
    pub artifact: String,
    /// SHA-256 of the artifact, hex.
    pub artifact_hash: String,
    /// The operation its passing began, empty if none.
    pub operation: String,
    /// The resource its passing made, empty if none.
    pub ordered: String,
}

/// Weights of a vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Weight for.
    pub yes: u64,
    /// Weight against.
    pub no: u64,
    /// Weight that abstained.
    pub abstain: u64,
    /// Weight of the whole electorate.
    pub total: u64,
    /// Weight of yes that decides.
    pub needed: u64,
}

/// One voter and its choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ballot {
    /// Id of the tenant.
    pub tenant: String,
    /// Its votes.
    pub weight: u64,
    /// `YES`, `NO`, `ABSTAIN`; empty while it has not voted.
    pub choice: String,
    /// When, 0 while it has not voted.
    pub at: i64,
}

/// A blockchain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Resource name.
    pub name: String,
    /// Engine and template: `evm-standard v1`.
    pub template: String,
    /// EVM chain id.
    pub chain_id: u64,
    /// State word.
    pub state: String,
    /// Why, empty if there is nothing to say.
    pub reason: String,
    /// Since when.
    pub since: i64,
    /// Last block seen, none before the first.
    pub height: Option<u64>,
    /// Nodes that run and are healthy, and all.
    pub nodes_ready: (u64, u64),
    /// The operation that makes or changes it.
    pub operation: String,
    /// The proposal that ordered it.
    pub proposal: String,
    /// SHA-256 of the genesis, empty before it exists.
    pub genesis_hash: String,
    /// What it holds of the audit trail, none if it records none or nobody has looked.
    pub anchor: Option<AnchorSeen>,
    /// Parameters by name.
    pub parameters: Vec<(String, String)>,
    /// Its rolling change under way, as `2 of 5`; empty if there is none.
    pub rolling: String,
    /// Why that goes no further, empty unless it is halted.
    pub halted: String,
    /// The program that its nodes are to run, as `name version`; empty if that is the platform's own.
    pub program: String,
    /// Settings of its nodes that were voted on, by name.
    pub settings: Vec<(String, String)>,
    /// Whether the nodes that a change of their program has reached can still be had to go back.
    pub way_back: bool,
    /// Whether it is wished to rest.
    pub paused: bool,
    /// When its nodes are removed with all they hold; 0 unless it is deleted.
    pub purge_at: i64,
    /// How many of how many members' accounts change it while it runs, as it was ordered; none if nobody can.
    pub governors: Option<(u32, usize)>,
    /// When it was made.
    pub created_at: i64,
    /// How often each of its nodes is started again by the platform within an hour; 0 for never.
    pub repairs: u32,
    /// Whether that is every chain's number.
    pub repairs_default: bool,
}

/// A blockchain node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Resource name.
    pub name: String,
    /// Tenant that pays.
    pub owner: String,
    /// Host id, empty while unplaced.
    pub host: String,
    /// State word.
    pub state: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: i64,
    /// `HEALTHY`, `UNHEALTHY`, `UNKNOWN`.
    pub health: String,
    /// What keeps it from following its chain, in its own words; empty if it is ready or does not answer.
    pub says: String,
    /// `VALIDATOR`, `FOLLOWER`, or `TO_VALIDATE`, `TO_FOLLOW` until its ledger says so; and what that waits for.
    pub seat: (String, String),
    /// Counts every start ordered anew.
    pub generation: u64,
    /// Last block it reported.
    pub height: Option<u64>,
    /// Ports for peers and for JSON-RPC.
    pub ports: (u32, u32),
    /// Restarts within the hour.
    pub restarts: u64,
    /// How often it is started again by the platform before it waits for a person.
    pub repairs_left: u32,
    /// While its chain is taken over: its owner's home folder; empty otherwise.
    pub taken_from: String,
    /// Peers it is connected to.
    pub peers: u64,
    /// Node id on the ledger, empty before it is prepared.
    pub identity: String,
}

/// Work that takes a while.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// Resource name.
    pub name: String,
    /// Kind word.
    pub kind: String,
    /// Resource it works on.
    pub target: String,
    /// Who began it.
    pub by: String,
    /// Request that began it.
    pub request_id: String,
    /// `RUNNING`, `SUCCEEDED`, `FAILED`.
    pub state: String,
    /// Steps in their order.
    pub steps: Vec<Step>,
    /// When it began.
    pub started_at: i64,
    /// When it ended, 0 while it runs.
    pub ended_at: i64,
    /// Why it failed.
    pub cause: String,
}

impl Operation {
    /// Returns how many steps are done.
    pub fn done(&self) -> usize {
        self.steps.iter().filter(|s| s.state == "DONE").count()
    }
}

/// A step of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub name: String,
    /// To which part.
    pub target: String,
    /// `PENDING`, `RUNNING`, `DONE`, `FAILED`.
    pub state: String,
    /// Progress or cause.
    pub detail: String,
    /// What was done on a host for it, in lines; empty if nothing is kept or shown.
    pub output: String,
    /// When it began.
    pub started_at: i64,
    /// When it ended.
    pub ended_at: i64,
}

/// The Merkle tree over the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditTree {
    /// Entries in it.
    pub size: u64,
    /// Its root, hex.
    pub root: String,
}

/// An entry of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Number.
    pub seq: u64,
    /// Revision it belongs to.
    pub revision: u64,
    /// When.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// From where.
    pub source: String,
    /// Which command.
    pub action: String,
    /// On what.
    pub resource: String,
    /// `ok` or the reason of the refusal.
    pub outcome: String,
    /// Request id.
    pub request_id: String,
    /// What changed, JSON.
    pub detail: String,
    /// Hash of this entry.
    pub hash: String,
}

/// A draft invoice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invoice {
    /// Resource name.
    pub name: String,
    /// Tenant id.
    pub tenant: String,
    /// `2026-11`.
    pub month: String,
    /// Currency; empty when no plan was in force.
    pub currency: String,
    /// Lines by node and rate.
    pub lines: Vec<InvoiceLine>,
    /// Sum in micro units.
    pub total_micro: i128,
    /// The same sum computed anew from the usage records.
    pub recomputed_micro: i128,
    /// Milliseconds without a price.
    pub unpriced_ms: u64,
    /// Up to when usage is metered.
    pub metered_until: i64,
    /// What a person should know.
    pub note: String,
}

/// Usage of one node at one rate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvoiceLine {
    /// Resource name of the node.
    pub node: String,
    /// Metered milliseconds.
    pub ms: u64,
    /// Micro units an hour; none without a plan.
    pub rate_micro: Option<u64>,
    /// Amount in micro units.
    pub micro: i128,
}

/// A block of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Height.
    pub height: u64,
    /// Hash.
    pub hash: String,
    /// Hash of the block before.
    pub parent: String,
    /// When.
    pub at: i64,
    /// Who proposed it.
    pub proposer: String,
    /// State root.
    pub state_root: String,
    /// Gas used and limit.
    pub gas: (u64, u64),
    /// Hashes of its transactions.
    pub transactions: Vec<String>,
}

/// A transaction of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Hash.
    pub hash: String,
    /// Block height, none while pending.
    pub height: Option<u64>,
    /// Sender.
    pub from: String,
    /// Receiver; empty for a deployment.
    pub to: String,
    /// Value in wei.
    pub value: String,
    /// Gas used.
    pub gas_used: u64,
    /// `SUCCEEDED`, `REVERTED`, `PENDING`.
    pub state: String,
    /// Address of the contract it made, or empty.
    pub contract: String,
    /// Input, hex.
    pub input: String,
    /// Further facts (name, value), e.g. nonce and logs.
    pub facts: Vec<(String, String)>,
}

/// An account of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainAccount {
    /// Address.
    pub address: String,
    /// Balance in wei.
    pub balance: String,
    /// Number of transactions sent.
    pub nonce: u64,
    /// Bytes of code, 0 for a plain account.
    pub code_bytes: u64,
}
