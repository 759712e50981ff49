//! A node that goes to another host with its key: the order, and how far it is.
//!
//! First the host it leaves stops and fences it, so that nothing older can start it there; then its home (key, what it has signed,
//! data) is carried over and compared; then the host it leaves has nothing of it any more; only then does it belong to the other
//! host and is configured and started there, as a new generation. Until then its ports on both hosts are its own.
//!
//! A host that cannot be reached cannot fence, so nothing is carried from it and nothing is started elsewhere with that key. Who
//! knows that the host is lost can give the key up: the node gets a new one at its new host and follows the chain, and whether it
//! validates is decided on the ledger; what is left at the lost host is removed as soon as it answers, and never run again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{HostId, NodeKey};
use crate::time::Millis;

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MoveStage {
    /// The host it leaves stops and fences it.
    Fence,
    /// Its home is carried over.
    Carry,
    /// The host it leaves removes it.
    Clear,
    /// A home that was taken over goes back to its owner. Came with cluster version 6.
    Return,
}

/// A move under way. Came with cluster version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moving {
    /// Where it goes.
    pub to: HostId,
    /// Its port of the chain's network there.
    pub p2p_port: u16,
    /// Its port of the JSON-RPC there.
    pub rpc_port: u16,
    /// Its further ports there, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// How far it is.
    pub stage: MoveStage,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Millis,
}

/// Moves a node to another host. By the system from a host that is drained, or by an administrator or operator; giving the key up
/// by an administrator alone. To the host where it is: takes a move back whose fence is not there yet. Came with cluster version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveNode {
    /// Which.
    pub node: NodeKey,
    /// The generation that is replaced: two leaders cannot move it twice.
    pub generation: u64,
    /// Where it goes.
    pub to: HostId,
    /// Why.
    pub reason: String,
    /// Whether it may be done although the chain makes no block meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_outage: bool,
    /// Whether its host is lost and its key is given up with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

/// A host was seen to have nothing any more of a node that was given up there. By the system. Came with cluster version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordEvicted {
    /// Which host.
    pub host: HostId,
    /// Which node.
    pub node: NodeKey,
}
