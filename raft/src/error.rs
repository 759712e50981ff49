//! What can go wrong in a replica, and whether it had effect.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hanse_state::Rejection;

use crate::codec::CodecError;
use crate::space::Shortage;
use crate::types::{Member, ReplicaId};
use crate::versions::Unspoken;

/// Failure of what lies on this replica's disk.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// What is on disk is less than, or other than, what this replica once acknowledged. It must never serve again: a
    /// replica that forgets a vote or an entry can undo what the cluster has promised.
    #[error("the store of this replica is lost: {what}: {why}")]
    Lost {
        /// Which part.
        what: String,
        /// What was found.
        why: String,
    },
    /// What is on disk is of a cluster version that this build does not speak. Nothing is wrong with it.
    #[error("this build is too old for this replica: the {what} cannot be read: {why}")]
    TooOld {
        /// Which part.
        what: String,
        /// What was found.
        why: String,
    },
    /// Another process has the store open. Nothing changed.
    #[error("the store {} is in use by another process", dir.display())]
    Busy {
        /// Its folder.
        dir: PathBuf,
    },
    /// The operating system refused. After a failed write or fsync nothing further is acknowledged.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// The answer of the system.
        #[source]
        source: Arc<io::Error>,
    },
    /// There is no room on the disk. Nothing was written; it may be tried again.
    #[error("the disk is full: {0}")]
    Full(Shortage),
    /// An earlier write failed; the replica has stopped acknowledging.
    #[error("the store has failed before: {0}")]
    Failed(String),
    /// The store was closed by the end of the replica.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Builds [`StoreError::Lost`].
    pub(crate) fn lost(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Lost { what: what.into(), why: why.to_string() }
    }

    /// Builds [`StoreError::Io`].
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source: Arc::new(source) }
    }

    /// Gives a closure that turns a codec error of `what` into [`StoreError::Lost`].
    pub(crate) fn unreadable(what: impl Into<String>) -> impl FnOnce(CodecError) -> Self {
        move |error| Self::lost(what, error)
    }

    /// Gives a closure that says what it means that a state of `what` was not understood.
    pub(crate) fn unread_state(what: &'static str) -> impl FnOnce(hanse_state::CodecError) -> Self {
        move |error| match error {
            hanse_state::CodecError::ClusterVersion { .. } => {
                Self::TooOld { what: what.into(), why: error.to_string() }
            }
            hanse_state::CodecError::NotThis { .. }
            | hanse_state::CodecError::Version { .. }
            | hanse_state::CodecError::Body { .. } => Self::lost(what, error),
        }
    }

    /// Says whether this replica must be replaced by a new one; the program then exits with 78.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Says what a person should do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Lost { .. } => {
                "keep the data folder for inspection and do not start it again; the other replicas go on while they are a \
                 majority. Let a new one with a new id and an empty folder take its place: hanse replica replace"
            }
            Self::TooOld { .. } => TOO_OLD_ADVICE,
            Self::Busy { .. } => "stop the other process that runs with this data folder",
            Self::Io { .. } | Self::Failed(_) => "check the disk (space, rights, health) and start the replica again",
            Self::Full(_) => "make room on this disk; nothing else is to be done",
            Self::Closed => "start the replica again",
        }
    }
}

/// What to do about a build that is too old.
const TOO_OLD_ADVICE: &str = "start it with the build that the other replicas run; its data is unharmed";

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        Self::other(error)
    }
}

/// Failure of a replica to start or to go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RaftError {
    /// Its disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its configuration contradicts itself. Nothing changed.
    #[error("configuration: {0}")]
    Config(String),
    /// It cannot listen for its peers. Nothing changed.
    #[error("cannot listen for peers on {address}")]
    Listen {
        /// The address.
        address: String,
        /// The answer of the system.
        #[source]
        source: Arc<io::Error>,
    },
    /// Its certificates cannot be used. Nothing changed.
    #[error("peer TLS: {0}")]
    Tls(String),
    /// The first membership could not be written.
    #[error("cannot make the first membership: {0}")]
    Bootstrap(String),
    /// An entry holds a request this program does not know; it may be older than the leader.
    #[error("entry {index} holds a request this program cannot read: {why}")]
    UnknownRequest {
        /// Index of the entry.
        index: u64,
        /// Why.
        why: String,
    },
    /// This build does not speak the version that the cluster is at.
    #[error("this build is too old for the cluster: {0}")]
    TooOld(String),
    /// This replica computed another state than the leader; it must not serve.
    #[error("this replica has diverged at entry {index}: {why}")]
    Diverged {
        /// Index of the entry.
        index: u64,
        /// What differs.
        why: String,
    },
    /// The data folder is another replica's. Nothing changed.
    #[error("the data folder {} belongs to {found}, this is {wanted}", dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Who started.
        wanted: String,
    },
    /// The data folder was emptied or exchanged: the cluster knows this replica with another.
    #[error("the data folder of this replica was emptied or exchanged: {0}")]
    Emptied(String),
    /// This replica was removed from the cluster for ever.
    #[error("this replica was removed from the cluster: {0}")]
    Removed(String),
    /// openraft stopped by itself.
    #[error("consensus stopped: {0}")]
    Fatal(String),
    /// It was shut down.
    #[error("the replica was shut down")]
    Stopped,
}

impl RaftError {
    /// Says whether this replica must be replaced by a new one; the program then exits with 78.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Store(e) if e.is_lost())
            || matches!(self, Self::Diverged { .. } | Self::Foreign { .. } | Self::Emptied(_))
    }

    /// Says whether this build cannot read what the cluster writes; the program then exits with 80, and a newer build goes
    /// on with the same data.
    #[must_use]
    pub fn is_too_old(&self) -> bool {
        matches!(self, Self::TooOld(_) | Self::UnknownRequest { .. } | Self::Store(StoreError::TooOld { .. }))
    }

    /// Says whether this replica no longer belongs to the cluster; the program then exits with 79.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        matches!(self, Self::Removed(_))
    }
}

/// The leader, as far as this replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its id.
    pub id: ReplicaId,
    /// Where it is reached.
    pub member: Member,
}

/// Why a proposal gave no answer, and whether it had effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// This replica does not lead. No effect.
    #[error("this replica is not the leader")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Leader>,
    },
    /// Not every replica can read it: it puts the cluster at a version that some do not speak, or gave no word on. No effect.
    #[error("{0}")]
    Unspoken(Unspoken),
    /// It came with a newer version than the cluster is at. No effect.
    #[error("{0}")]
    TooNew(Rejection),
    /// The replica cannot take it now. No effect.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The disk of this replica is full, and no other has taken the lead yet. No effect.
    #[error("the disk of the leader is full: {0}")]
    DiskFull(Shortage),
    /// The request is longer than an entry may be. No effect.
    #[error("the request has {bytes} bytes, at most {limit} fit in an entry")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most an entry may have.
        limit: usize,
    },
    /// It was handed over and no answer came: it may or may not take effect. Ask again with the same request id.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// The replica has stopped. No effect.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why a linearizable read gave no state.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// This replica does not lead.
    #[error("this replica is not the leader")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Leader>,
    },
    /// No majority confirmed the lead in time.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why a change of the membership was not made, as far as known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// This replica does not lead. No effect.
    #[error("this replica is not the leader")]
    NotLeader,
    /// It cannot be made, or not now. No effect.
    #[error("refused: {0}")]
    Refused(String),
    /// It may have had effect; look at the membership.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}
