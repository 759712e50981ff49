//! Rolling changes of a running chain: every node is configured and started anew, one after another.
//!
//! A rollout brings what the platform has now (the list of peers, the node's program) and what was voted (see `outfit`) to nodes
//! that run already. It goes on only
//! while every other node is well, and halts by itself, with the reason, when one does not come back; a person then lets it go
//! on or starts another. Nodes that a vote adds join by one, for the others learn of a peer only when they are configured; nodes
//! that a vote takes out run until the ledger says that they do not validate any more, and are removed then.

use serde::{Deserialize, Serialize};

use crate::ids::{ChainKey, NodeId, NodeKey};
use crate::time::Millis;

/// A rolling change of a chain, under way, halted or done: it is done when no node is below its number. Came with cluster
/// version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// From 1; goes up with each of the chain.
    pub number: u64,
    /// Why it was begun.
    pub reason: String,
    /// When it was begun.
    pub since: Millis,
    /// Why it goes no further, until a person lets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
    /// The node that moved and that the others learn of; it is well only once they have. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<NodeId>,
    /// In which time a node must be well again before it halts; `None` is the planner's own limit. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_ms: Option<u64>,
    /// Whether each node keeps what it runs: it only learns where another one is now, while a change of what they run is
    /// halted. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_is: bool,
}

/// Configures and starts every node of a chain anew, one after another. By an administrator or operator. Came with cluster
/// version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollChain {
    /// Which.
    pub chain: ChainKey,
    /// Why.
    pub reason: String,
    /// Whether it may be done to a chain that makes no block while one of its nodes starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_outage: bool,
}

/// Stops a rollout where it is. By the system when a node does not come back, or by an administrator or operator. Came with
/// cluster version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaltRollout {
    /// Of which chain.
    pub chain: ChainKey,
    /// Which: another one is left alone.
    pub number: u64,
    /// Why.
    pub reason: String,
}

/// Lets a halted rollout go on. By an administrator or operator. Came with cluster version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContinueRollout {
    /// Of which chain.
    pub chain: ChainKey,
    /// Why.
    pub reason: String,
}

/// Configures and starts one node anew, as its chain's rollout wants. By the system. Came with cluster version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollNode {
    /// Which.
    pub node: NodeKey,
    /// The generation that is replaced.
    pub generation: u64,
    /// Number of the rollout.
    pub number: u64,
}

/// The ledger says that a node which leaves does not validate: it is removed now. By the system. Came with cluster version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseNode {
    /// Which.
    pub node: NodeKey,
    /// Its generation.
    pub generation: u64,
}
