//! The domain of Hanse and the one door through which it changes.
//!
//! [`apply`] takes the state and one logged [`Request`] and gives an [`Applied`]: first every check, then every change.
//! It is pure: no clock, randomness, IO or hash order, so every replica that applies the same log holds the same state.

use serde::{Deserialize, Serialize};

/// Everything the platform knows that changes; live in memory, a clone is a cheap snapshot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Index of the last applied log entry.
    pub revision: u64,
}

/// What a log entry holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Format of this request.
    pub version: u16,
}

/// A line of history to be appended to disk: audit, usage, operation log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Number within its kind; the same on every replay.
    pub seq: u64,
}

/// What applying one request did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Index of the entry.
    pub revision: u64,
    /// History to append.
    pub records: Vec<Record>,
}

/// Applies one logged request: all checks, then all changes.
pub fn apply(state: &mut State, index: u64, _request: &Request) -> Applied {
    state.revision = index;
    Applied { revision: index, records: Vec::new() }
}
