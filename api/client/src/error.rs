//! Why a call failed, in the same form whether the server or the client found out.

use std::fmt;
use std::ops::{Deref, DerefMut};

use hanse_proto::LOGGED_KEY;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Reasons that the client itself gives or acts on; all others come from the server as they are.
pub mod reason {
    /// The configuration cannot be used.
    pub const CLIENT_CONFIG: &str = "CLIENT_CONFIG";
    /// No replica could be reached.
    pub const UNREACHABLE: &str = "UNREACHABLE";
    /// The overall time ran out.
    pub const TIMEOUT: &str = "TIMEOUT";
    /// The server cannot tell whether the write happened; ask again with the same request id.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
    /// The answer cannot be used.
    pub const BAD_RESPONSE: &str = "BAD_RESPONSE";
}

/// Whether a failed call changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing changed.
    None,
    /// Nobody knows; asking again with the same request id tells, and never does it twice.
    Unknown,
}

/// Why a call failed; its parts are read through to [`ErrorParts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError(Box<ErrorParts>);

/// The parts of a [`ClientError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorParts {
    /// gRPC code.
    pub code: Code,
    /// Stable reason in UPPER_SNAKE; never empty.
    pub reason: String,
    /// Request field at fault; empty if none.
    pub field: String,
    /// What happened, for people.
    pub message: String,
    /// What to do, for people; empty if nobody knows.
    pub advice: String,
    /// Request id of the write; empty for reads.
    pub request_id: String,
    /// Whether anything changed.
    pub effect: Effect,
}

impl ClientError {
    /// Returns an error that the client found itself, without effect on the server.
    pub fn local(code: Code, reason: &str, message: impl Into<String>, advice: &str) -> ClientError {
        ClientError::from(ErrorParts {
            code,
            reason: reason.to_owned(),
            field: String::new(),
            message: message.into(),
            advice: advice.to_owned(),
            request_id: String::new(),
            effect: Effect::None,
        })
    }

    /// Returns the error that a status tells of.
    pub fn from_status(status: &Status) -> ClientError {
        let info = status.get_details_error_info();
        let metadata =
            |key: &str| info.as_ref().and_then(|info| info.metadata.get(key)).filter(|text| !text.is_empty()).cloned();
        let field = metadata("field").or_else(|| {
            let mut violations = status.get_details_bad_request()?.field_violations;
            (!violations.is_empty()).then(|| violations.remove(0).field)
        });
        let advice = metadata("advice").or_else(|| {
            let mut links = status.get_details_help()?.links;
            (!links.is_empty()).then(|| links.remove(0).description)
        });
        let reason = match info {
            Some(ref info) if !info.reason.is_empty() => info.reason.clone(),
            _ if is_local(status) => reason::UNREACHABLE.to_owned(),
            _ => code_name(status.code()).to_owned(),
        };
        let message = if is_local(status) { local_message(status) } else { status.message().to_owned() };
        ClientError::from(ErrorParts {
            code: status.code(),
            reason,
            field: field.unwrap_or_default(),
            message,
            advice: advice.unwrap_or_default(),
            request_id: String::new(),
            effect: Effect::None,
        })
    }
}

impl From<ErrorParts> for ClientError {
    fn from(parts: ErrorParts) -> ClientError {
        ClientError(Box::new(parts))
    }
}

impl Deref for ClientError {
    type Target = ErrorParts;

    fn deref(&self) -> &ErrorParts {
        &self.0
    }
}

impl DerefMut for ClientError {
    fn deref_mut(&mut self) -> &mut ErrorParts {
        &mut self.0
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)?;
        if !self.field.is_empty() {
            write!(f, " (field {})", self.field)?;
        }
        Ok(())
    }
}

impl std::error::Error for ClientError {}

/// Returns whether the status was made on this side, because the connection failed, rather than sent by a replica.
pub(crate) fn is_local(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// Returns whether the log itself refused the request, which is certain for every attempt with its id.
pub(crate) fn is_logged(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.metadata.get(LOGGED_KEY).is_some_and(|it| it == "true"))
}

/// Returns the UPPER_SNAKE name of a code.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Returns the innermost cause: "connection refused" says more to people than "transport error".
fn local_message(status: &Status) -> String {
    /// More nesting than any transport has; a cycle would otherwise never end.
    const DEPTH_MAX: usize = 16;
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    for _ in 0..DEPTH_MAX {
        let Some(error) = source else { break };
        text = error.to_string();
        source = error.source();
    }
    text
}
