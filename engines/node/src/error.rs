//! What can go wrong in a node, one variant an operation that failed.
//!
//! Display names the subject, never the source; [`NodeError::chain`] prints the whole chain in one
//! line for the person who started the node.

use std::path::PathBuf;

/// An operation of the node that failed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file could not be read, written or synced.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried, as a verb phrase ("cannot read").
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A field of a file is wrong; nothing was started.
    #[error("{file}: field {field}: {reason}; {action}")]
    Invalid {
        /// The file's name.
        file: String,
        /// The field, as a path.
        field: String,
        /// Why it is refused.
        reason: String,
        /// What the operator can do.
        action: String,
    },
    /// An address of the configuration cannot be listened on.
    #[error("config.toml: field {field}: cannot listen on {address}; stop what uses the port or choose another")]
    Listen {
        /// `p2p_listen` or `rpc_listen`.
        field: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The store failed; the write had no effect (redb transactions are atomic).
    #[error("the ledger's store failed to {what}")]
    Store {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store or the log holds bytes this version cannot read.
    #[error("{what} is damaged or of another version: {reason}")]
    Corrupt {
        /// Which data.
        what: &'static str,
        /// Why it cannot be read.
        reason: String,
    },
    /// TLS could not be set up from the node's key.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// Consensus cannot go on safely; the node stops rather than guess.
    #[error("consensus stopped: {0}")]
    Consensus(String),
    /// The JSON-RPC server could not start.
    #[error("the JSON-RPC server failed: {0}")]
    Rpc(String),
    /// Another node, asked by a command, did not answer or refused; its words.
    #[error("{0}")]
    Asked(String),
    /// A thread or task of the node ended in a panic.
    #[error("{0} ended unexpectedly")]
    Task(&'static str),
}

impl NodeError {
    /// The error and its causes in one line.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            line.push_str(": ");
            line.push_str(&cause.to_string());
            source = cause.source();
        }
        line
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    pub(crate) fn store<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        move |source| Self::Store { what, source: Box::new(source) }
    }

    pub(crate) fn invalid(
        file: &str,
        field: impl Into<String>,
        reason: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Self::Invalid { file: file.to_owned(), field: field.into(), reason: reason.into(), action: action.into() }
    }
}
