//! How calls on adapters fail, in classes that say what to do next.

/// How a call on an adapter failed, by what the caller should do next.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// Nothing happened and trying again later may help (host unreachable, connection refused, time-out before sending).
    #[error("{subject}: {reason}")]
    Transient {
        /// What failed (host, file, instance).
        subject: String,
        /// Why, in words an operator can act on.
        reason: String,
    },
    /// The host or its keeper said no: wrong host key, credential refused, permission. A person must act.
    #[error("{subject}: {reason}")]
    Denied {
        /// What was refused.
        subject: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The request can never succeed as it is (bad path, checksum differs, port in use). A person must act.
    #[error("{subject}: {reason}")]
    Invalid {
        /// What is wrong.
        subject: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The call was sent and no answer came: it may or may not have happened. Look again before acting.
    #[error("{subject}: outcome unknown: {reason}")]
    Unknown {
        /// What was asked.
        subject: String,
        /// What was seen instead of an answer.
        reason: String,
    },
}

/// Result of an adapter's call.
pub type Result<T> = std::result::Result<T, AdapterError>;
