//! What the leader saw of a node last. In the leader's memory only; a new leader begins with nothing and looks again.

use hanse_state::Millis;

/// The last look at one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// Generation that the host was last asked to run; 0 if the host knows nothing of the node.
    pub generation: u64,
    /// Its process.
    pub run: RunSeen,
    /// `None` while it answers as it should, else since when and why not. Says nothing unless it runs.
    pub ill: Option<Ill>,
    /// When it was looked at.
    pub at: Millis,
}

/// A node that does not answer as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ill {
    /// Since when, by the leader's clock.
    pub since: Millis,
    /// What was seen instead, in words.
    pub reason: String,
}

/// The process of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunSeen {
    /// The host has nothing, or files only.
    Absent,
    /// It lives.
    Running,
    /// It ended.
    Exited {
        /// How, and its last words.
        reason: String,
    },
    /// The host cannot be asked, so nothing is known.
    Unreachable {
        /// Why.
        reason: String,
    },
}
