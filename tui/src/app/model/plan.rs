//! What a change of a chain would do, as the server foresees it; dialogs show it before anybody confirms.

/// What is asked about, by resource name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planned {
    /// A chain's nodes are stopped.
    Pause(String),
    /// A paused chain's nodes run again.
    Resume(String),
    /// A chain's deletion is taken back.
    Undelete(String),
    /// A chain's nodes are started anew, one after another.
    Roll(String),
    /// Nodes of a chain that an upgrade has reached go back.
    RollBack(String),
    /// A node is started anew.
    Restart(String),
    /// A node goes to the best host.
    Move(String),
    /// An open proposal passes.
    Proposal(String),
}

/// The answer, in the server's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Why it would be refused; empty if it would not.
    pub refused: String,
    /// What it would do, a sentence each.
    pub words: Vec<String>,
    /// What a person should know before.
    pub risks: Vec<String>,
}
