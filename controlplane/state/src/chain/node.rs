//! A node: one process on one host, fenced by its generation.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use super::adopting::Adopting;
use super::height::{HaltStage, NodeHalt};
use super::imported::Endpoint;
use super::life::NodeWish;
use super::moving::Moving;
use super::outfit::Outfit;
use super::seat::Seat;
use crate::digest::Blob;
use crate::ids::{ChainKey, HostId, NodeKey, TenantId};
use crate::time::Millis;

/// Automatic restarts within an hour of log time, of a chain of which nothing else was said.
pub const RESTART_BUDGET: usize = 5;

/// Life of a node: `Requested` → `Preparing` → `Prepared` → `Configured` → `Starting` → `Running` ⇄ `Restarting`;
/// `Blocked` from anywhere, until a person restarts it. By order of its chain `Stopping` → `Stopped` from anywhere and back,
/// or `Removing` until it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeState {
    /// Ordered; perhaps not placed yet.
    Requested,
    /// Its home and keys are being made on the host.
    Preparing,
    /// Its identity is known.
    Prepared,
    /// Genesis and configuration are on the host.
    Configured,
    /// The process was asked to start.
    Starting,
    /// The process runs.
    Running,
    /// The process is to be started again, as a new generation.
    Restarting,
    /// Nothing more is tried until a person acts.
    Blocked,
    /// The process is to be stopped. Came with cluster version 4, as all that follow.
    Stopping,
    /// The process was seen to be stopped, and nothing older can start it; everything it holds stays.
    Stopped,
    /// It is to be removed with all it holds.
    Removing,
    /// It goes to another host, and runs nowhere meanwhile. Came with cluster version 5.
    Moving,
    /// It is not the platform's and is only watched. Came with cluster version 5.
    Watched,
}

/// The name of a node's instance on its host, within the cluster. The one place that names instances: two ways of naming would
/// make two instances of one node.
pub fn instance_object(key: &NodeKey) -> String {
    format!("{}.{}.{}", key.chain.consortium, key.chain.chain, key.node)
}

/// Whether an instance of this name is, or was, of a node of the chain; see [`instance_object`].
pub fn is_object_of(object: &str, chain: &ChainKey) -> bool {
    object.strip_prefix(&format!("{}.{}.", chain.consortium, chain.chain)).is_some_and(|node| !node.is_empty())
}

/// What the node last said of itself while running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Health {
    /// Not heard yet in this generation.
    Unknown,
    /// It answers and takes part.
    Healthy,
    /// It runs but does not answer or does not take part.
    Unhealthy,
}

/// What a leader is about to do to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeAct {
    /// Make its home and keys.
    Prepare,
    /// Write genesis and configuration.
    Configure,
    /// Start the process.
    Start,
    /// Stop the process.
    Stop,
    /// Remove it with all it holds. Came with cluster version 4.
    Remove,
    /// Stop and fence it where it leaves. Came with cluster version 5, as all that follow.
    Fence,
    /// Carry its home over.
    Carry,
    /// Remove it where it leaves.
    Clear,
    /// Have it take its seat among the validators, or give it up, on its ledger.
    Seat,
    /// Give a home that was taken over back to its owner. Came with cluster version 6.
    Return,
}

impl NodeAct {
    /// Its word: the name of a step in an operation.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Configure => "configure",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Remove => "remove",
            Self::Fence => "fence",
            Self::Carry => "carry",
            Self::Clear => "clear",
            Self::Seat => "seat",
            Self::Return => "return",
        }
    }
}

/// A committed wish of a leader: the fence before the world is touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What.
    pub act: NodeAct,
    /// For which generation.
    pub generation: u64,
    /// When.
    pub at: Millis,
}

/// Who the node is on its chain's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeIdentity {
    /// Its network id, as its engine writes it.
    pub node_id: String,
    /// Its consensus public key, as its engine writes it.
    pub public_key: String,
    /// What it contributes to the genesis, as its engine writes it; public. Came with cluster version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contribution: Option<Blob>,
}

/// Greatest contribution of a node in bytes.
pub const CONTRIBUTION_BYTES_MAX: usize = 128 << 10;

/// How far a validator was seen to have signed, in the order of its chain. Came with cluster version 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// Height of the block.
    pub height: u64,
    /// Round of that height.
    pub round: u32,
    /// Step of that round, as the ledger numbers its steps.
    pub step: u32,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its key.
    pub key: NodeKey,
    /// Who pays for it.
    pub owner: TenantId,
    /// Where it is; `None` until a slot is free. While it moves, the host that it leaves.
    pub host: Option<HostId>,
    /// Port of the chain's network on the host; 0 until placed.
    pub p2p_port: u16,
    /// Port of the JSON-RPC on the host; 0 until placed.
    pub rpc_port: u16,
    /// Starts at 1, goes up with every restart; older ones are fenced off.
    pub generation: u64,
    /// How far it is.
    pub state: NodeState,
    /// Why, or what it waits for, in words.
    pub state_reason: String,
    /// Since when.
    pub state_since: Millis,
    /// While running.
    pub health: Health,
    /// Known once prepared, never changes.
    pub identity: Option<NodeIdentity>,
    /// Whether genesis and configuration are on the host.
    pub configured: bool,
    /// The last committed wish that has no fact yet.
    pub intent: Option<Intent>,
    /// Automatic restarts within the last hour, oldest first, at most
    /// [`RESTARTS_PER_HOUR_MAX`](super::repair::RESTARTS_PER_HOUR_MAX).
    pub restarts: Vec<Millis>,
    /// Running time up to here is billed; `None` while not running.
    pub metered_until: Option<Millis>,
    /// Its further ports on the host, by the names of its chain's template. Came with cluster version 3.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// The last it was seen to have signed; never goes back. Came with cluster version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
    /// What is wished for it. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "NodeWish::is_run")]
    pub wish: NodeWish,
    /// Whether a vote has it leave its chain, whatever is wished meanwhile. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves: bool,
    /// Number of the last rolling change that reached it; 0 before the first. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rolled: u64,
    /// Number of the rolling change by which it joined; 0 of those that are there since genesis. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub joined: u64,
    /// The move to another host that is under way. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
    /// What it runs, whatever is voted until a rolling change reaches it. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Outfit::is_default")]
    pub outfit: Outfit,
    /// What a vote decided on its part in the consensus; without it nothing but its genesis did. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seat: Option<Seat>,
    /// Where a node that is not the platform's answers. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched: Option<Endpoint>,
    /// The height at which it stops for its chain's change of program. Came with cluster version 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt: Option<NodeHalt>,
    /// Whether it ran the next program of a change at a height and was not configured with the one before since: until then it is asked
    /// whether there is a way back. Came with cluster version 6.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returns: bool,
    /// While its chain is taken over: from where. Came with cluster version 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopting: Option<Adopting>,
}

impl Node {
    /// Whether it counts as a validator of its chain: by its ledger's last word, or since genesis.
    pub fn validates(&self) -> bool {
        self.seat.as_ref().map_or(self.joined == 0, |seat| seat.held)
    }

    /// The height at which it was seen to stand for its chain's change of program: nothing of it is to be repaired then.
    pub fn stands_at(&self) -> Option<u64> {
        self.halt.filter(|halt| halt.stage == HaltStage::Reached).map(|halt| halt.height)
    }
}

/// For fields that are not written while they are 0.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A leader is about to act. By the system; an older generation is rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordIntent {
    /// On which node.
    pub node: NodeKey,
    /// Of which generation.
    pub generation: u64,
    /// What.
    pub act: NodeAct,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum NodeFact {
    /// Home and keys exist.
    Prepared {
        /// Who it is.
        identity: NodeIdentity,
    },
    /// Genesis and configuration are written.
    Configured,
    /// The process of this generation runs.
    Started,
    /// It answers and takes part.
    Healthy,
    /// It runs but does not answer or does not take part.
    Unhealthy {
        /// Why.
        reason: String,
    },
    /// It cannot go on without a person.
    Failed {
        /// Why.
        reason: String,
    },
    /// Tried without effect; it will be tried again.
    Waiting {
        /// For what.
        reason: String,
    },
    /// Its home says that it has signed up to here. Came with cluster version 3.
    Signed {
        /// How far.
        signed: Signed,
    },
    /// Its process is stopped, and no older generation can be started on its host. Came with cluster version 4.
    Stopped,
    /// Its host has nothing of it any more. Came with cluster version 4.
    Removed,
    /// The host that it leaves has stopped it, and starts nothing older. Came with cluster version 5, as all that follow.
    Fenced,
    /// Its home is at the host it goes to, whole.
    Carried,
    /// The host that it leaves has nothing of it any more.
    Cleared,
    /// The ledger's validators say whether it is one of them, as it is wished. Came with cluster version 5, as what follows.
    Seated {
        /// Whether it is.
        validates: bool,
    },
    /// Its seat waits.
    Seating {
        /// For what.
        reason: String,
    },
    /// It stands before it executes the block at which it was told to stop. Came with cluster version 6.
    Halted {
        /// That block.
        height: u64,
    },
    /// Its owner's home has all that the platform's had, and can be started again; the host has nothing of it any more. Came with
    /// cluster version 6.
    Returned,
}

/// Something was seen of a node. By the system; an older generation is rejected, a known fact changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordNodeFact {
    /// Of which node.
    pub node: NodeKey,
    /// Of which generation.
    pub generation: u64,
    /// What.
    pub fact: NodeFact,
    /// What was done on the host for it, for the step of the operation; empty if nothing is to be kept. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// Starts a node again as a new generation. By the system within its budget, or by an operator by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartNode {
    /// Which.
    pub node: NodeKey,
    /// The generation that is to be replaced: two leaders cannot restart it twice.
    pub generation: u64,
    /// Why.
    pub reason: String,
    /// Whether it may be done by hand although the chain makes no block meanwhile. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_outage: bool,
}
