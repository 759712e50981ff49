//! What a caller is told when a call fails: one type, turned into a gRPC status in one place.
//!
//! Every status carries `google.rpc.ErrorInfo` (reason, domain `hanse`, metadata field, advice, request_id, logged), a
//! `BadRequest` when a field is to blame, `Help` with what to do, and `RetryInfo` when waiting helps. An object of
//! another tenant and one that does not exist give the same bytes.
//!
//! What this never does: show the inside of a failure. Internal causes go to the log with the request id.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use hanse_proto::{ERROR_DOMAIN, LEADER_TRAILER};
use hanse_state::rejection::Rejection;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Where a caller reads on.
const HELP: &str = "docs/operations.md";

/// Longest text of a message or an advice; a name in it may come from a hostile caller.
const TEXT_MAX: usize = 600;

/// A call that failed. One pointer wide, so that every `Result` of the handlers stays small.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}: {}", .0.reason, .0.message)]
pub struct ApiError(Box<Fault>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    code: Code,
    reason: &'static str,
    message: String,
    field: Option<String>,
    advice: String,
    retry: Option<Duration>,
    leader: Option<String>,
    request_id: Option<String>,
    logged: bool,
}

impl ApiError {
    fn new(code: Code, reason: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self(Box::new(Fault {
            code,
            reason,
            message: cut(message.into()),
            field: None,
            advice: cut(advice.into()),
            retry: None,
            leader: None,
            request_id: None,
            logged: false,
        }))
    }

    fn with_retry(mut self, after: Duration) -> Self {
        self.0.retry = Some(after);
        self
    }

    fn with_leader(mut self, leader: Option<String>) -> Self {
        self.0.leader = leader.filter(|leader| !leader.is_empty());
        self
    }

    pub(crate) fn with_field(mut self, field: &str) -> Self {
        self.0.field = (!field.is_empty()).then(|| field.to_string());
        self
    }

    /// A field of the request has a value that cannot be taken.
    pub fn invalid(field: &str, why: &str, advice: &str) -> Self {
        Self::new(Code::InvalidArgument, "INVALID_FIELD", format!("{field}: {why}"), advice).with_field(field)
    }

    /// The object is not there, or the caller may not know that it is.
    pub fn not_found(field: &str, name: &str) -> Self {
        // The same words, reason and advice as the state's own refusal, so that the two cannot be told apart.
        Rejection::NotFound { field: field.into(), what: name.into() }.into()
    }

    /// No session, or one that is over.
    pub fn unauthenticated(reason: &'static str, message: &str) -> Self {
        Self::new(Code::Unauthenticated, reason, message, "log in (`hanse login`) and send the token as a bearer token")
    }

    /// The caller's role does not allow this.
    pub fn denied(message: &str, advice: &str) -> Self {
        Self::new(Code::PermissionDenied, "PERMISSION_DENIED", message, advice)
    }

    /// A limit of this replica is reached; nothing happened.
    pub fn exhausted(reason: &'static str, message: &str, retry_s: u64) -> Self {
        let advice = format!("try again in {retry_s} s");
        Self::new(Code::ResourceExhausted, reason, message, advice).with_retry(Duration::from_secs(retry_s))
    }

    /// The disk of the leader is full, and no other replica has taken the lead yet; nothing happened.
    pub fn disk_full(replica: u64, shortage: &hanse_raft::Shortage) -> Self {
        let message = format!("the disk of replica {replica} is full: {shortage}");
        let advice = "make room on that replica's disk (`hanse doctor` there tells more); it goes on by itself";
        Self::new(Code::ResourceExhausted, "DISK_FULL", message, advice).with_retry(Duration::from_secs(5))
    }

    /// There is no room for an artifact's content beside what the log needs; nothing was written.
    pub(crate) fn store_full(message: &str) -> Self {
        let advice =
            "make room on that replica's disk, or delete artifacts that nothing uses (`hanse artifact delete`)";
        Self::new(Code::ResourceExhausted, "DISK_FULL", message, advice).with_retry(Duration::from_secs(30))
    }

    /// The cluster cannot be put at a version while not every replica is known to speak it; nothing happened.
    pub fn unspoken(unspoken: &hanse_raft::Unspoken) -> Self {
        let advice = "start those named with the newer build and ask again; one that is gone for ever is taken out first \
                      (`hanse replica remove`)";
        Self::new(Code::FailedPrecondition, "VERSION_NOT_SPOKEN", unspoken.to_string(), advice).with_field("version")
    }

    /// There is a state in which this would work, and it is not the present one.
    pub fn precondition(reason: &'static str, message: &str, advice: &str) -> Self {
        Self::new(Code::FailedPrecondition, reason, message, advice)
    }

    /// This replica cannot answer at this moment and another may; the call had no effect.
    pub fn not_leader(leader: Option<String>) -> Self {
        let (reason, message) = match &leader {
            Some(_) => ("NOT_LEADER", "another replica leads at this moment"),
            None => ("NO_LEADER", "no replica leads at this moment: an election is under way or a majority is missing"),
        };
        let this = Self::new(Code::Unavailable, reason, message, "try again with the same request id");
        this.with_leader(leader).with_retry(Duration::from_millis(300))
    }

    /// The platform is so new that its first leader has not written down its name and members yet; the call had no effect.
    pub fn beginning() -> Self {
        let message = "the platform is new: its first leader is still writing down its name and members";
        let this = Self::new(Code::Unavailable, "BEGINNING", message, "try again with the same request id");
        this.with_retry(Duration::from_millis(300))
    }

    /// The leader could not be connected to; nothing happened.
    pub fn leader_unreachable(leader: String) -> Self {
        let message = format!("the leader at {leader} cannot be reached from this replica");
        let this = Self::new(Code::Unavailable, "LEADER_UNREACHABLE", message, "try again with the same request id");
        this.with_leader(Some(leader)).with_retry(Duration::from_millis(500))
    }

    /// This replica has stopped taking calls.
    pub fn stopping() -> Self {
        Self::new(Code::Unavailable, "STOPPING", "this replica is stopping", "connect to another replica")
    }

    /// The write was proposed and its answer did not come in time: it may still happen, or have happened.
    pub fn outcome_unknown() -> Self {
        let message = "the request was proposed and no answer came in time: it may or may not have happened";
        let advice = "ask again with the same request id: it is never done twice";
        Self::new(Code::DeadlineExceeded, "OUTCOME_UNKNOWN", message, advice)
    }

    /// A change was sent to a node and no usable answer came: the ledger may have taken it.
    pub fn node_outcome_unknown(node: &str, why: &str) -> Self {
        let message = format!("{node}: {why}; it may or may not have happened");
        let advice = "send the same bytes again: the ledger takes a transaction once; or look it up by its hash";
        Self::new(Code::DeadlineExceeded, "OUTCOME_UNKNOWN", message, advice)
    }

    /// A node or its host could not answer; nothing on the platform changed.
    pub fn node_unavailable(node: &str, why: &str) -> Self {
        let message = format!("{node}: {why}");
        let advice = "look at the node's state and log; another try may reach another node";
        Self::new(Code::Unavailable, "NODE_UNAVAILABLE", message, advice).with_retry(Duration::from_secs(1))
    }

    /// A host cannot take nodes as it is; nothing was changed.
    pub fn unfit_host(host: &str, why: &str) -> Self {
        let message = format!("{host}: {why}");
        let advice = "repair what is named and ask again; or enrol it whatever was found (accept_findings)";
        Self::new(Code::FailedPrecondition, "HOST_UNFIT", message, advice).with_field("host")
    }

    /// Homes of others cannot be taken over as they are; nothing was changed.
    pub fn unfit_homes(chain: &str, why: &str) -> Self {
        let message = format!("{chain}: {why}");
        let advice = "repair what is named and ask again; `--dry-run` shows everything that was found";
        Self::new(Code::FailedPrecondition, "HOME_UNFIT", message, advice).with_field("nodes")
    }

    /// The ledger answered with a refusal in its own words.
    pub fn ledger_refused(why: &str) -> Self {
        let advice = "read the ledger's words; nothing was retried";
        Self::new(Code::FailedPrecondition, "LEDGER_REFUSED", why, advice)
    }

    /// The ledger has no such block, transaction or account.
    pub fn not_on_ledger(what: &str) -> Self {
        let message = format!("{what} is not on this chain");
        Self::new(Code::NotFound, "NOT_ON_LEDGER", message, "check the hash or height; a new transaction takes a block")
    }

    /// The ledger cannot do this at all.
    pub fn unsupported(what: &str) -> Self {
        let message = format!("this ledger cannot {what}");
        Self::new(Code::Unimplemented, "UNSUPPORTED_BY_LEDGER", message, "use another template")
    }

    /// A fault of ours. The cause is logged, the caller sees only which part failed.
    pub fn internal(part: &str, cause: impl Display) -> Self {
        tracing::error!(part, %cause, "internal failure");
        let message = format!("{part} failed; the cause is in this replica's log");
        Self::new(Code::Internal, "INTERNAL", message, "ask the platform's operator to look at the log")
    }

    /// The records on this replica's disk are not the trail that the cluster agreed on; nothing is signed.
    pub fn broken_trail(why: impl Display) -> Self {
        tracing::error!(%why, "the audit trail on this replica's disk is broken");
        let message = format!("the audit trail on the leader's disk is broken: {why}");
        let advice =
            "compare with the other replicas' trails and the witness; then put a new replica in this one's place";
        Self::new(Code::DataLoss, "AUDIT_BROKEN", message, advice)
    }

    /// Adds the request's id to what the caller sees.
    #[must_use]
    pub fn with_request(mut self, id: &str) -> Self {
        if self.0.request_id.is_none() && !id.is_empty() {
            self.0.request_id = Some(id.chars().take(64).collect());
        }
        self
    }

    /// Says that the log itself refused this request id: whatever became of earlier attempts, nothing changed.
    #[must_use]
    pub(crate) fn by_the_log(mut self) -> Self {
        self.0.logged = true;
        self
    }

    /// The field to blame.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// The machine-readable reason.
    pub fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.0.code
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let this = Self::new(code_of(&rejection), rejection.reason(), rejection.message(), rejection.advice());
        this.with_field(rejection.field())
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let error = *error.0;
        let mut metadata = HashMap::new();
        for (key, value) in [("field", &error.field), ("request_id", &error.request_id), ("leader", &error.leader)] {
            if let Some(value) = value {
                metadata.insert(key.to_string(), value.clone());
            }
        }
        if error.logged {
            metadata.insert(hanse_proto::LOGGED_KEY.to_string(), "true".to_string());
        }
        if !error.advice.is_empty() {
            metadata.insert("advice".to_string(), error.advice.clone());
        }
        let mut details = ErrorDetails::with_error_info(error.reason, ERROR_DOMAIN, metadata);
        if let (Code::InvalidArgument, Some(field)) = (error.code, &error.field) {
            details.add_bad_request_violation(field.clone(), error.message.clone());
        }
        if !error.advice.is_empty() {
            details.add_help_link(error.advice.clone(), HELP);
        }
        if let Some(retry) = error.retry {
            details.set_retry_info(Some(retry));
        }
        let mut status = Status::with_error_details(error.code, error.message, details);
        if let Some(leader) = error.leader.and_then(|leader| MetadataValue::try_from(leader).ok()) {
            status.metadata_mut().insert(LEADER_TRAILER, leader);
        }
        status
    }
}

/// Where each refusal of the state belongs among the codes of gRPC (AIP-193).
fn code_of(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::NotFound { .. } => Code::NotFound,
        Rejection::AlreadyExists { .. } => Code::AlreadyExists,
        Rejection::PermissionDenied { .. } | Rejection::NotAMember { .. } | Rejection::WrongKey { .. } => {
            Code::PermissionDenied
        }
        Rejection::InvalidName { .. }
        | Rejection::InvalidValue { .. }
        | Rejection::ParameterOutOfRange { .. }
        | Rejection::UnknownParameter { .. }
        | Rejection::RequestIdReused { .. } => Code::InvalidArgument,
        Rejection::QuotaExceeded { .. } => Code::ResourceExhausted,
        Rejection::SessionOver { .. } => Code::Unauthenticated,
        Rejection::AccountUnusable { .. }
        | Rejection::AlreadyVoted { .. }
        | Rejection::DeadlinePassed { .. }
        | Rejection::ArtifactMismatch { .. }
        | Rejection::TooFewHosts { .. }
        | Rejection::HostKeyChanged { .. }
        | Rejection::QuorumAtRisk { .. }
        | Rejection::WrongState { .. }
        | Rejection::StaleGeneration { .. }
        | Rejection::ConflictingFact { .. }
        | Rejection::RestartBudgetSpent { .. }
        | Rejection::RequestTooOld { .. }
        | Rejection::TooNew { .. } => Code::FailedPrecondition,
    }
}

fn cut(text: String) -> String {
    if text.len() <= TEXT_MAX { text } else { text.chars().take(TEXT_MAX / 4).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use hanse_state::Millis;
    use hanse_state::cluster::version::Version;

    fn t() -> String {
        "x".to_string()
    }

    /// One of each, in the order of the enum.
    fn every_rejection() -> Vec<Rejection> {
        vec![
            Rejection::NotFound { field: t(), what: t() },
            Rejection::AlreadyExists { field: t(), what: t() },
            Rejection::InvalidName { field: t(), value: t(), rule: t() },
            Rejection::InvalidValue { field: t(), value: t(), rule: t() },
            Rejection::ParameterOutOfRange { parameter: t(), value: 1, min: 2, max: 3, template: t() },
            Rejection::UnknownParameter { parameter: t(), template: t(), known: t() },
            Rejection::PermissionDenied { actor: t(), action: t(), needs: t() },
            Rejection::SessionOver { actor: t() },
            Rejection::AccountUnusable { account: t(), state: t() },
            Rejection::NotAMember { field: t(), tenant: t(), what: t() },
            Rejection::WrongKey { field: t(), holder: t(), key: t() },
            Rejection::AlreadyVoted { voter: t(), choice: t(), proposal: t() },
            Rejection::DeadlinePassed { proposal: t(), deadline: Millis(1), now: Millis(2) },
            Rejection::ArtifactMismatch { proposal: t(), expected: t(), given: t() },
            Rejection::TooFewHosts { needed: 2, free: 1 },
            Rejection::HostKeyChanged { host: t(), expected: t(), seen: t() },
            Rejection::QuorumAtRisk { chain: t(), nodes: 4, down: 2, tolerated: 1 },
            Rejection::QuotaExceeded { field: t(), what: t(), limit: 1 },
            Rejection::WrongState { field: t(), what: t(), state: t(), needs: t() },
            Rejection::StaleGeneration { node: t(), current: 2, given: 1 },
            Rejection::ConflictingFact { field: t(), what: t() },
            Rejection::RestartBudgetSpent { node: t(), budget: 5 },
            Rejection::RequestTooOld { request_id: t(), window: 1 },
            Rejection::RequestIdReused { request_id: t(), revision: 1 },
            Rejection::TooNew { command: t(), since: Version(2), version: Version(1) },
        ]
    }

    /// The table that clients rely on: a change of a line is a change of the contract.
    const TABLE: &str = "\
NOT_FOUND NotFound
ALREADY_EXISTS AlreadyExists
INVALID_NAME InvalidArgument
INVALID_VALUE InvalidArgument
PARAMETER_OUT_OF_RANGE InvalidArgument
UNKNOWN_PARAMETER InvalidArgument
PERMISSION_DENIED PermissionDenied
SESSION_OVER Unauthenticated
ACCOUNT_UNUSABLE FailedPrecondition
NOT_A_MEMBER PermissionDenied
WRONG_KEY PermissionDenied
ALREADY_VOTED FailedPrecondition
DEADLINE_PASSED FailedPrecondition
ARTIFACT_MISMATCH FailedPrecondition
TOO_FEW_HOSTS FailedPrecondition
HOST_KEY_CHANGED FailedPrecondition
QUORUM_AT_RISK FailedPrecondition
QUOTA_EXCEEDED ResourceExhausted
WRONG_STATE FailedPrecondition
STALE_GENERATION FailedPrecondition
CONFLICTING_FACT FailedPrecondition
RESTART_BUDGET_SPENT FailedPrecondition
REQUEST_TOO_OLD FailedPrecondition
REQUEST_ID_REUSED InvalidArgument
TOO_NEW FailedPrecondition
";

    #[test]
    fn every_refusal_has_its_code_reason_field_and_advice() {
        let mut table = String::new();
        for rejection in every_rejection() {
            let status = Status::from(ApiError::from(rejection.clone()));
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.domain, ERROR_DOMAIN);
            assert_eq!(info.metadata.get("field").map(String::as_str), Some(rejection.field()), "{rejection:?}");
            assert_eq!(info.metadata.get("advice").map(String::as_str), Some(rejection.advice()), "{rejection:?}");
            assert!(status.get_details_help().is_some(), "{rejection:?}");
            let blamed = status.get_details_bad_request().is_some();
            assert_eq!(blamed, status.code() == Code::InvalidArgument, "{rejection:?}");
            table.push_str(&format!("{} {:?}\n", info.reason, status.code()));
        }
        assert_eq!(table, TABLE);
    }

    #[test]
    fn who_leads_stands_in_a_trailer_and_waiting_is_told_in_time() {
        let status = Status::from(ApiError::not_leader(Some("10.0.0.2:7400".into())));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.metadata().get(LEADER_TRAILER).unwrap(), "10.0.0.2:7400");
        assert!(status.get_details_retry_info().is_some());
        assert!(Status::from(ApiError::not_leader(None)).metadata().get(LEADER_TRAILER).is_none());
        let unknown = Status::from(ApiError::outcome_unknown());
        assert_eq!(unknown.code(), Code::DeadlineExceeded);
        assert_eq!(unknown.get_details_error_info().unwrap().reason, "OUTCOME_UNKNOWN");
    }

    #[test]
    fn an_internal_cause_is_not_told_and_long_names_are_cut() {
        let status = Status::from(ApiError::internal("history", "secret path"));
        assert!(!String::from_utf8_lossy(status.details()).contains("secret path"));
        assert!(!status.message().contains("secret path"));
        let long = Status::from(ApiError::not_found("tenant", &"ü".repeat(5_000)));
        assert!(long.message().len() < TEXT_MAX && long.details().len() < 2_000);
    }
}
