//! A change of program that all nodes of a chain make at one height.
//!
//! A program that changes what blocks do must make the same block first on every node, or their chain falls apart. A vote names
//! the height: while the chain runs its nodes are *told*, one after another, to stop before they execute that block; they stop by
//! themselves, and the platform writes down of each that it stands there ([`NodeFact::Halted`](super::node::NodeFact::Halted)). Only
//! when all do (or enough, and the others are away) one entry begins the exchange ([`ExchangeProgram`]): every node that stands
//! there gets the next program and goes on. One that was away learns of it when it comes back: with the program before it goes
//! as far as the height, stands there, and only then gets the next one.
//!
//! Until the exchange begins it can be called off, and is by itself if the height comes before all are told; then those that were
//! told are told otherwise. Afterwards the way back is the one of every change of program
//! ([`RollBackChain`](super::outfit::RollBackChain)), while nothing was made with the next one.
//!
//! What this never does: know a height (the leader sees those), or start the next program on a node that was not seen to stand there.

use serde::{Deserialize, Serialize};

use super::Chain;
use super::outfit::Outfit;
use crate::ids::ChainKey;

/// The height of a change. Came with cluster version 6, as everything here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtHeight {
    /// The first block that the next program makes; every node stops before it executes it.
    pub height: u64,
    /// What the nodes run from there on.
    pub to: Outfit,
    /// How far it is.
    pub stage: HeightStage,
}

/// Life of a change at a height: `Telling` → `Exchanging`; `CalledOff` from the one, `Back` from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HeightStage {
    /// The nodes are told one after another, and run on until the height.
    Telling,
    /// It was called off before anything was exchanged: those that were told are told otherwise, one after another.
    CalledOff,
    /// The nodes that stand at the height get the next program, all at once: the chain makes no block meanwhile.
    Exchanging,
    /// They go back to the program before, all at once, and make the block with it.
    Back,
}

/// The change at a height that is under way on a chain, if one is.
pub fn open(chain: &Chain) -> Option<&AtHeight> {
    chain.refit.as_ref().filter(|refit| refit.settled_at.is_none())?.at.as_ref()
}

/// The height at which a node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeHalt {
    /// The block that it does not execute.
    pub height: u64,
    /// How far it is.
    pub stage: HaltStage,
}

/// Life of a node's halt, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HaltStage {
    /// Its configuration is to say so; a process that was started before does not know.
    Ordered,
    /// Its process was started with a configuration that says so.
    Told,
    /// It was seen to stand there.
    Reached,
}

/// Begins the exchange of the program at the height. By the system, once its nodes stand there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeProgram {
    /// Of which chain.
    pub chain: ChainKey,
    /// Number of the rolling change that told them.
    pub number: u64,
}
