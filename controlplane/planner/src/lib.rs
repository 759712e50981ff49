//! What to do next, as pure functions.
//!
//! A planner takes the state and what was last seen of the world, and says one [`Step`]: wait (and for what), do
//! something, or nothing. It is total: every input gives a step. It never acts and remembers nothing, so a new leader
//! that looks again plans the same, and a step that was half done is planned again, by its key, until its fact is in
//! the log.

mod chain;
mod node;
mod seen;
mod upkeep;

pub use chain::{ChainAct, ContractAct, plan_chain, plan_contract};
pub use node::{NodeStep, RESTART_BACKOFF_MS, plan_node};
pub use seen::{Ill, NodeSeen, RunSeen};
pub use upkeep::{due_metering, due_proposals};

/// What to do next about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<A> {
    /// Nothing can be done now.
    Wait {
        /// For what, in words an operator can act on.
        reason: String,
    },
    /// Do this; it is safe to do it twice.
    Do(A),
    /// Wish and world agree.
    Done,
}

impl<A> Step<A> {
    pub(crate) fn wait(reason: impl Into<String>) -> Self {
        Self::Wait { reason: reason.into() }
    }
}
