//! Why a command ends with another code than 0, and what it says.

use hanse_client::{ClientError, Code, Effect, KeyError, reason};
use serde_json::json;

use crate::output::harmless;

/// Exit codes of CONSOLE.md, section 12.
pub(crate) mod exit {
    /// All is well.
    pub(crate) const OK: i32 = 0;
    /// The server failed, or nobody knows.
    pub(crate) const SERVER: i32 = 1;
    /// The command line, a local file or a missing flag.
    pub(crate) const USAGE: i32 = 2;
    /// There is no such thing.
    pub(crate) const NOT_FOUND: i32 = 3;
    /// Not logged in, or not allowed.
    pub(crate) const DENIED: i32 = 4;
    /// It clashes with what is.
    pub(crate) const CONFLICT: i32 = 5;
    /// Still running when the time was over.
    pub(crate) const TIMEOUT: i32 = 6;
    /// No replica or no leader.
    pub(crate) const UNAVAILABLE: i32 = 7;
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The server refused, or could not be reached.
    #[error("{0}")]
    Client(#[source] ClientError),
    /// The command line or something on this machine.
    #[error("{message}")]
    Local {
        /// What is wrong.
        message: String,
        /// What to do; empty if it is plain.
        advice: String,
    },
    /// The work itself failed, or a check found something.
    #[error("{0}")]
    Failed(String),
    /// It had not ended in time.
    #[error("{0}")]
    StillRunning(String),
}

impl CliError {
    /// Returns an error of the command line or this machine.
    pub(crate) fn local(message: impl Into<String>, advice: impl Into<String>) -> CliError {
        CliError::Local { message: message.into(), advice: advice.into() }
    }

    /// Returns the error of a file.
    pub(crate) fn file(path: &std::path::Path, error: &dyn std::fmt::Display) -> CliError {
        CliError::local(format!("{}: {error}", path.display()), "")
    }

    /// Returns the exit code.
    pub(crate) fn exit_code(&self) -> i32 {
        let error = match self {
            CliError::Local { .. } => return exit::USAGE,
            CliError::Failed(_) => return exit::SERVER,
            CliError::StillRunning(_) => return exit::TIMEOUT,
            CliError::Client(error) => error,
        };
        match error.code {
            Code::InvalidArgument | Code::OutOfRange => exit::USAGE,
            Code::NotFound => exit::NOT_FOUND,
            Code::Unauthenticated | Code::PermissionDenied => exit::DENIED,
            Code::Aborted | Code::FailedPrecondition | Code::AlreadyExists => exit::CONFLICT,
            Code::DeadlineExceeded => exit::TIMEOUT,
            Code::Unavailable => exit::UNAVAILABLE,
            _ if error.reason == reason::UNREACHABLE => exit::UNAVAILABLE,
            _ => exit::SERVER,
        }
    }

    /// Returns what goes to stderr, for people.
    pub(crate) fn for_people(&self) -> String {
        let (advice, more) = match self {
            CliError::Client(error) => (advice(error), more(error)),
            CliError::Local { advice, .. } => (advice.clone(), String::new()),
            CliError::Failed(_) | CliError::StillRunning(_) => (String::new(), String::new()),
        };
        let mut text = format!("hanse: {}\n", harmless(&self.to_string()));
        if !advice.is_empty() {
            text.push_str(&format!("  what to do: {}\n", harmless(&advice)));
        }
        text + &more
    }

    /// Returns what goes to stderr with `-o json`.
    pub(crate) fn for_scripts(&self) -> serde_json::Value {
        let mut value = json!({ "message": self.to_string(), "exit_code": self.exit_code() });
        if let CliError::Local { advice, .. } = self
            && !advice.is_empty()
        {
            value["advice"] = json!(advice);
        }
        if let CliError::Client(error) = self {
            value["code"] = json!(format!("{:?}", error.code));
            value["reason"] = json!(error.reason);
            value["field"] = json!(error.field);
            value["message"] = json!(error.message);
            value["advice"] = json!(advice(error));
            value["request_id"] = json!(error.request_id);
            value["effect"] = json!(match error.effect {
                Effect::None => "none",
                Effect::Unknown => "unknown",
            });
        }
        json!({ "error": value })
    }
}

/// Returns the server's advice, or ours where only the client knows.
fn advice(error: &ClientError) -> String {
    if !error.advice.is_empty() {
        return error.advice.clone();
    }
    match error.code {
        Code::Unauthenticated => "Log in with `hanse login ACCOUNT`.".to_owned(),
        Code::Unavailable => "Check --endpoint and whether a majority of the replicas runs.".to_owned(),
        _ => String::new(),
    }
}

fn more(error: &ClientError) -> String {
    match error.effect {
        Effect::None => String::new(),
        Effect::Unknown => {
            format!("  it may have happened; ask again safely with --request-id {}\n", harmless(&error.request_id))
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        CliError::Client(error)
    }
}

impl From<KeyError> for CliError {
    fn from(error: KeyError) -> CliError {
        let advice = match &error {
            KeyError::File { .. } | KeyError::Random => "",
            KeyError::Format { .. } => "Make a key with `hanse key generate FILE`.",
        };
        CliError::local(error.to_string(), advice)
    }
}

impl From<hanse_client::ballot::BallotError> for CliError {
    fn from(error: hanse_client::ballot::BallotError) -> CliError {
        CliError::local(error.to_string(), "")
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> CliError {
        CliError::local(format!("input or output: {error}"), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_conventions() {
        for (code, expected) in [
            (Code::NotFound, exit::NOT_FOUND),
            (Code::Unauthenticated, exit::DENIED),
            (Code::PermissionDenied, exit::DENIED),
            (Code::Aborted, exit::CONFLICT),
            (Code::AlreadyExists, exit::CONFLICT),
            (Code::FailedPrecondition, exit::CONFLICT),
            (Code::DeadlineExceeded, exit::TIMEOUT),
            (Code::Unavailable, exit::UNAVAILABLE),
            (Code::InvalidArgument, exit::USAGE),
            (Code::Internal, exit::SERVER),
        ] {
            let error = CliError::Client(ClientError::local(code, "REASON", "text", ""));
            assert_eq!(error.exit_code(), expected, "{code:?}");
        }
    }

    #[test]
    fn an_unknown_outcome_says_how_to_ask_again() {
        let mut error = ClientError::local(Code::DeadlineExceeded, "OUTCOME_UNKNOWN", "not \u{1b}known", "");
        error.effect = Effect::Unknown;
        error.request_id = "0190".to_owned();
        let text = CliError::Client(error).for_people();
        assert!(text.contains("--request-id 0190") && !text.contains('\u{1b}'), "{text}");
    }
}
