//! What a node is on its chain, how it becomes that, and which chain it is of.

use hanse_adapters_core::Adapter;

use crate::{NodeIdentity, NodePlan};

/// What a node is to be on its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It votes on blocks.
    Validator,
    /// It follows.
    Follower,
}

/// A node of a chain with the way to its host.
#[derive(Clone, Copy)]
pub struct Seat<'a> {
    /// Its host.
    pub host: &'a dyn Adapter,
    /// The node.
    pub node: &'a NodePlan,
    /// Who it is.
    pub identity: &'a NodeIdentity,
}

/// How far something is that takes several blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// As wished; the chain says so.
    Done,
    /// The next act was done or nothing can be done now: ask again.
    Waits {
        /// For what, in words that people see.
        reason: String,
    },
}

/// What tells a chain from every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainMark {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of its first block, `0x` and lower-case hex.
    pub first_block: String,
}
