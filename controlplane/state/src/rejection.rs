//! The typed "no" of the domain: every replica decides it alike, and it leaves no trace but its audit record.
//!
//! Each has a reason (stable, for programs), the field at fault, a message (what and why) and advice (what to do).

use serde::{Deserialize, Serialize};

use crate::cluster::version::Version;
use crate::time::Millis;

/// Why a command was refused. `field` is the command's field at fault, `what` a resource name or short noun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The named thing does not exist.
    #[error("{what} does not exist")]
    NotFound {
        /// Field that names it.
        field: String,
        /// Resource name.
        what: String,
    },
    /// The name is taken.
    #[error("{what} exists already")]
    AlreadyExists {
        /// Field that names it.
        field: String,
        /// Resource name.
        what: String,
    },
    /// The text does not have the form that the field needs.
    #[error("{field} {value:?} is not valid: it must be {rule}")]
    InvalidName {
        /// Field at fault.
        field: String,
        /// What was given, cut.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// The value has the right form but lies outside its limits or contradicts another.
    #[error("{field} is {value}: it must be {rule}")]
    InvalidValue {
        /// Field at fault.
        field: String,
        /// What was given, cut.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// A template's parameter is outside its range.
    #[error("{parameter} is {value}: template {template} takes {min} to {max}")]
    ParameterOutOfRange {
        /// Name of the parameter.
        parameter: String,
        /// What was given.
        value: u64,
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
        /// Template and version.
        template: String,
    },
    /// The template knows no such parameter.
    #[error("template {template} has no parameter {parameter:?}; it has {known}")]
    UnknownParameter {
        /// Name given.
        parameter: String,
        /// Template and version.
        template: String,
        /// Names it has.
        known: String,
    },
    /// The actor may not do this.
    #[error("{actor} may not {action}: {needs}")]
    PermissionDenied {
        /// Who asked.
        actor: String,
        /// Which command.
        action: String,
        /// What it takes.
        needs: String,
    },
    /// The session in which it was asked had ended when it was carried out.
    #[error("the session of {actor} is over")]
    SessionOver {
        /// Who asked.
        actor: String,
    },
    /// The account is suspended or locked.
    #[error("{account} is {state}")]
    AccountUnusable {
        /// Resource name of the account.
        account: String,
        /// `suspended` or `locked until ...`.
        state: String,
    },
    /// The tenant has no vote in the consortium, or had none when the proposal opened.
    #[error("tenants/{tenant} is not a voting member of {what}")]
    NotAMember {
        /// Field that names the tenant.
        field: String,
        /// The tenant.
        tenant: String,
        /// The consortium or proposal.
        what: String,
    },
    /// The signature is not the member key's over the exact text.
    #[error("the signature is not by {holder}'s recorded key {key} over exactly this text")]
    WrongKey {
        /// Field of the signature.
        field: String,
        /// Who must sign.
        holder: String,
        /// The key on record.
        key: String,
    },
    /// One ballot a member.
    #[error("tenants/{voter} has already voted {choice} on {proposal}")]
    AlreadyVoted {
        /// The voter.
        voter: String,
        /// Its choice on record.
        choice: String,
        /// Resource name of the proposal.
        proposal: String,
    },
    /// Voting is over by time.
    #[error("the deadline of {proposal} passed {} ms ago in log time", now.since(*deadline))]
    DeadlinePassed {
        /// Resource name of the proposal.
        proposal: String,
        /// When it ended.
        deadline: Millis,
        /// Log time of the entry.
        now: Millis,
    },
    /// The ballot is about another artifact.
    #[error("the ballot is over artifact {given}, but {proposal} has artifact {expected}")]
    ArtifactMismatch {
        /// Resource name of the proposal.
        proposal: String,
        /// Hash of the proposal's artifact.
        expected: String,
        /// Hash on the ballot.
        given: String,
    },
    /// Not enough free slots on ready hosts.
    #[error("{needed} nodes need a slot each, but ready hosts have {free} free")]
    TooFewHosts {
        /// Slots needed.
        needed: u64,
        /// Slots free.
        free: u64,
    },
    /// The host showed another key than the pinned one.
    #[error("hosts/{host} showed host key {seen}, but {expected} is pinned")]
    HostKeyChanged {
        /// The host.
        host: String,
        /// Fingerprint on record.
        expected: String,
        /// Fingerprint seen.
        seen: String,
    },
    /// A chain would have fewer nodes than its quorum. Since version 4.
    #[error("{chain} of {nodes} nodes tolerates {tolerated} that are down, and {down} would be")]
    QuorumAtRisk {
        /// Resource name of the chain.
        chain: String,
        /// Its nodes.
        nodes: u64,
        /// How many would be down.
        down: u64,
        /// How many may be.
        tolerated: u64,
    },
    /// A bound of the platform is reached.
    #[error("{what} has reached its limit of {limit}")]
    QuotaExceeded {
        /// Field at fault.
        field: String,
        /// What is bounded.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// The thing is not in a state in which this can be done.
    #[error("{what} is {state}: {needs}")]
    WrongState {
        /// Field that names it.
        field: String,
        /// Resource name.
        what: String,
        /// Its state.
        state: String,
        /// What would have to hold.
        needs: String,
    },
    /// The fence: the act or fact is about an older generation of the node.
    #[error("{node} is at generation {current}, this is about generation {given}")]
    StaleGeneration {
        /// Resource name of the node.
        node: String,
        /// Generation on record.
        current: u64,
        /// Generation given.
        given: u64,
    },
    /// A different fact is already on record.
    #[error("{what} is already recorded differently")]
    ConflictingFact {
        /// Field at fault.
        field: String,
        /// What is on record.
        what: String,
    },
    /// Automatic restarts of the last hour are used up.
    #[error("{node} was restarted {budget} times within an hour")]
    RestartBudgetSpent {
        /// Resource name of the node.
        node: String,
        /// Restarts allowed in an hour.
        budget: u64,
    },
    /// The request id is older than the window of remembered requests.
    #[error("request id {request_id} is older than the {window} requests that are remembered")]
    RequestTooOld {
        /// The id.
        request_id: String,
        /// How many are remembered.
        window: u64,
    },
    /// The request id was used for a different command or by another account.
    #[error("request id {request_id} was used for a different request at revision {revision}")]
    RequestIdReused {
        /// The id.
        request_id: String,
        /// Revision of its first use.
        revision: u64,
    },
    /// The command came with a newer cluster version than the cluster is at. Since version 2.
    #[error("{command} needs cluster version {since}, the cluster is at {version}")]
    TooNew {
        /// Which command.
        command: String,
        /// The version it came with.
        since: Version,
        /// The version of the cluster.
        version: Version,
    },
}

impl Rejection {
    /// A stable name for programs, upper snake case.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "NOT_FOUND",
            Self::AlreadyExists { .. } => "ALREADY_EXISTS",
            Self::InvalidName { .. } => "INVALID_NAME",
            Self::InvalidValue { .. } => "INVALID_VALUE",
            Self::ParameterOutOfRange { .. } => "PARAMETER_OUT_OF_RANGE",
            Self::UnknownParameter { .. } => "UNKNOWN_PARAMETER",
            Self::PermissionDenied { .. } => "PERMISSION_DENIED",
            Self::SessionOver { .. } => "SESSION_OVER",
            Self::AccountUnusable { .. } => "ACCOUNT_UNUSABLE",
            Self::NotAMember { .. } => "NOT_A_MEMBER",
            Self::WrongKey { .. } => "WRONG_KEY",
            Self::AlreadyVoted { .. } => "ALREADY_VOTED",
            Self::DeadlinePassed { .. } => "DEADLINE_PASSED",
            Self::ArtifactMismatch { .. } => "ARTIFACT_MISMATCH",
            Self::TooFewHosts { .. } => "TOO_FEW_HOSTS",
            Self::HostKeyChanged { .. } => "HOST_KEY_CHANGED",
            Self::QuorumAtRisk { .. } => "QUORUM_AT_RISK",
            Self::QuotaExceeded { .. } => "QUOTA_EXCEEDED",
            Self::WrongState { .. } => "WRONG_STATE",
            Self::StaleGeneration { .. } => "STALE_GENERATION",
            Self::ConflictingFact { .. } => "CONFLICTING_FACT",
            Self::RestartBudgetSpent { .. } => "RESTART_BUDGET_SPENT",
            Self::RequestTooOld { .. } => "REQUEST_TOO_OLD",
            Self::RequestIdReused { .. } => "REQUEST_ID_REUSED",
            Self::TooNew { .. } => "TOO_NEW",
        }
    }

    /// The field of the command at fault.
    pub fn field(&self) -> &str {
        match self {
            Self::NotFound { field, .. }
            | Self::AlreadyExists { field, .. }
            | Self::InvalidName { field, .. }
            | Self::InvalidValue { field, .. }
            | Self::WrongKey { field, .. }
            | Self::NotAMember { field, .. }
            | Self::QuotaExceeded { field, .. }
            | Self::WrongState { field, .. }
            | Self::ConflictingFact { field, .. } => field,
            Self::ParameterOutOfRange { .. } | Self::UnknownParameter { .. } => "action.chain.parameters",
            Self::PermissionDenied { .. } | Self::SessionOver { .. } | Self::AccountUnusable { .. } => "actor",
            Self::AlreadyVoted { .. } => "voter",
            Self::DeadlinePassed { .. } => "proposal",
            Self::ArtifactMismatch { .. } => "artifact_hash",
            Self::TooFewHosts { .. } => "action.chain.nodes",
            Self::HostKeyChanged { .. } | Self::QuorumAtRisk { .. } => "host",
            Self::StaleGeneration { .. } => "generation",
            Self::RestartBudgetSpent { .. } => "node",
            Self::RequestTooOld { .. } | Self::RequestIdReused { .. } => "request_id",
            Self::TooNew { .. } => "version",
        }
    }

    /// What happened and why, one sentence.
    pub fn message(&self) -> String {
        self.to_string()
    }

    /// What the caller can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "check the name; list what exists to see the names in use",
            Self::AlreadyExists { .. } => "choose another name, or use the existing one",
            Self::InvalidName { .. } | Self::InvalidValue { .. } => {
                "correct the field and send it with a new request id"
            }
            Self::ParameterOutOfRange { .. } | Self::UnknownParameter { .. } => {
                "choose a value within the template's range; `hanse template get` prints it"
            }
            Self::PermissionDenied { .. } => "ask an account that holds the role, or an administrator to grant it",
            Self::SessionOver { .. } => "log in again and repeat the call with the same request id",
            Self::AccountUnusable { .. } => "wait until the lock ends, or ask an administrator to restore the account",
            Self::NotAMember { .. } => "only members of the electorate vote; the founder can invite the tenant",
            Self::WrongKey { .. } => "sign exactly the documented text with the private key of the recorded member key",
            Self::AlreadyVoted { .. } => "a ballot is final; nothing needs to be done",
            Self::DeadlinePassed { .. } => "open a new proposal with the same action",
            Self::ArtifactMismatch { .. } => "read the proposal again, check its artifact, and sign its hash",
            Self::TooFewHosts { .. } => "enrol more hosts, uncordon one, or ask for fewer nodes",
            Self::HostKeyChanged { .. } => {
                "compare the key at the host's own console; if the change was meant, an administrator accepts the new \
                 fingerprint, else treat the host as taken over"
            }
            Self::QuorumAtRisk { .. } => {
                "wait until the other nodes are well, or force it and say why: the chain makes no blocks meanwhile"
            }
            Self::QuotaExceeded { .. } => "remove what is no longer needed, or ask the operator to raise the limit",
            Self::WrongState { .. } => "look at the current state and try again when it allows this",
            Self::StaleGeneration { .. } => "read the node again; another leader or restart has taken over",
            Self::ConflictingFact { .. } => "look at the thing again; the recorded fact stands",
            Self::RestartBudgetSpent { .. } => "look at the node's log, then restart it by hand",
            Self::RequestTooOld { .. } => "read the state to see whether it was done; send a new request id if not",
            Self::RequestIdReused { .. } => "make a new request id for each different request",
            Self::TooNew { .. } => {
                "once every replica runs the newer build, an administrator raises the cluster: `hanse cluster upgrade`; \
                 then send it with a new request id"
            }
        }
    }
}
