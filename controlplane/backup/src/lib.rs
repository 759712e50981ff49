//! Backups of the platform: what is in one, how it is sealed in a file, and how it is checked.
//!
//! Three layers. [`content`]: a head, the whole encoded state, the history records by kind and number, an end; the
//! leader makes it and whoever asked receives it as bytes. [`seal`]: those bytes cut into chunks, each encrypted with
//! AES-256-GCM under a key of this one file (or, if the operator insists, only chained by SHA-256), so that a changed,
//! missing, doubled, moved or added byte is found. [`chain`]: reading one file or a whole backup and the incremental ones
//! after it, and proving that the state is the one that was digested, that history has no gap and that the audit chain
//! holds from its first record to the state's head. [`mod@file`]: a file that appears whole or not at all.
//!
//! What this never does: talk to a cluster, trust a length it has not checked, or give anything out of a chunk that did
//! not open.

pub mod chain;
pub mod content;
pub mod file;
pub mod seal;

use hanse_state::audit::AuditError;

pub use chain::{Chain, Verified};
pub use content::{Content, End, Head, Item, Span};
pub use file::NewFile;
pub use seal::{Key, Protection, Reader, Writer};

/// Why a backup cannot be made or trusted.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system refused.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// The answer of the system.
        #[source]
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("this is not a backup of Hanse")]
    NotABackup,
    /// The file is of another version.
    #[error("the backup has format {found}, this build reads {known}: use a newer build")]
    Version {
        /// What the file says.
        found: u16,
        /// What this build reads.
        known: u16,
    },
    /// The key does not open the file.
    #[error("the key is not the one the backup was sealed with, or the file's first bytes are damaged")]
    WrongKey,
    /// A key was given for a file without encryption, or none for one with it.
    #[error("the backup is {found}: {advice}")]
    Protection {
        /// What it is.
        found: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The key file is something else.
    #[error("this is not a backup key: a key is made by `hanse backup keygen`")]
    NotAKey,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// A chunk was changed, moved, doubled or cut off.
    #[error("chunk {chunk} was changed, moved or cut off: nothing of this file may be used")]
    Damaged {
        /// Which, from 0.
        chunk: u64,
    },
    /// The content is not what a backup holds.
    #[error("the content is broken: {0}")]
    Content(String),
    /// The audit chain is broken.
    #[error("the audit trail is broken")]
    Audit(#[source] AuditError),
    /// The files given are not a backup and the incremental ones after it.
    #[error("the files do not follow one another: {0}")]
    NotAChain(String),
}

impl BackupError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn content(why: impl Into<String>) -> Self {
        Self::Content(why.into())
    }
}
