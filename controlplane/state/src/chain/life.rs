//! What becomes of a chain after it was made: the wish for it, and the orders that change the wish.
//!
//! A chain is wished to run, to rest, or to go. A paused chain's nodes are stopped and keep everything; a deleted one's
//! are stopped too, so that whoever still needs it notices, and only when the grace is over are they removed with all they
//! hold. Every change of the wish raises the nodes' generations, so that nothing that was begun before can end after it.
//!
//! Pausing and resuming are acts of the platform's operators or of the consortium by vote; deleting is the consortium's
//! alone, and taking a deletion back is the consortium's or an administrator's. What is voted on is a [`ChangeChain`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NodeSpec;
use super::outfit::Program;
use crate::cluster::version::Version;
use crate::ids::{ChainId, ChainKey, NodeId, ProposalId};
use crate::time::{DAY_MS, Millis, SECOND_MS};

/// Shortest time between a deletion and the removal of what is deleted.
pub const GRACE_MS_MIN: u64 = SECOND_MS;
/// Longest time between a deletion and the removal of what is deleted.
pub const GRACE_MS_MAX: u64 = 365 * DAY_MS;

/// What is wished for a chain. Came with cluster version 4.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Wish {
    /// Its nodes run.
    #[default]
    Run,
    /// Its nodes are stopped and keep everything.
    Pause {
        /// Since when.
        since: Millis,
        /// Why.
        reason: String,
    },
    /// Its nodes are stopped, and removed once the grace is over.
    Delete {
        /// Since when.
        since: Millis,
        /// From then on the nodes are removed with all they hold.
        purge_at: Millis,
        /// Whether it was paused when it was deleted: then it is so again when the deletion is taken back.
        was_paused: bool,
        /// The removal has begun: nothing can be taken back any more.
        purging: bool,
    },
    /// It was made outside of the platform: it is watched and never touched. Came with cluster version 5.
    Watch,
}

impl Wish {
    /// Whether its nodes are to run.
    pub fn is_run(&self) -> bool {
        *self == Self::Run
    }
}

/// What is wished for one node. Came with cluster version 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeWish {
    /// It runs.
    #[default]
    Run,
    /// It is stopped and keeps everything.
    Stop,
    /// It runs until the ledger says that it does not validate, and is removed then.
    Leave,
    /// It is stopped and removed with all it holds.
    Remove,
    /// It is not the platform's: it is watched and never touched. Came with cluster version 5.
    Watch,
}

impl NodeWish {
    /// Whether the node is to run.
    pub fn is_run(&self) -> bool {
        *self == Self::Run
    }
}

/// A change of a chain that its consortium votes on: part of the artifact that members sign, so its fields and their order
/// never change in version 3. Came with cluster version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeChain {
    /// Its name in the consortium.
    pub chain: ChainId,
    /// The vote that ordered it: a later chain of the same name is another one.
    pub ordered_by: ProposalId,
    /// What is changed.
    pub change: Change,
}

/// What is changed on a chain by vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Its nodes are stopped and keep everything.
    Pause {},
    /// Its nodes run again.
    Resume {},
    /// Its nodes are stopped at once, and removed with all they hold when the grace is over.
    Delete {
        /// From [`GRACE_MS_MIN`] to [`GRACE_MS_MAX`].
        grace_ms: u64,
    },
    /// A deletion is taken back while its grace lasts.
    Undelete {},
    /// Nodes that follow the chain are made, named after those there were; the others are started anew one after another, to
    /// learn of them. Whether one validates is decided on the ledger.
    AddNodes {
        /// One for each node.
        nodes: Vec<NodeSpec>,
        /// Whether it may be done to a chain that makes no block while one of its nodes starts.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_outage: bool,
    },
    /// Nodes leave: each is removed once the ledger says that it does not validate.
    RemoveNodes {
        /// Which.
        nodes: Vec<NodeId>,
        /// Whether it may be done to a chain that could lose a validator before and cannot afterwards. Came with cluster
        /// version 5.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_outage: bool,
    },
    /// The nodes run another program, one after another. Came with cluster version 5.
    Upgrade {
        /// Which; `None` is the platform's own, as each replica has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<Program>,
        /// In which time each node must be well again, or the change halts: [`LIMIT_MS_MIN`](super::outfit::LIMIT_MS_MIN) to
        /// [`LIMIT_MS_MAX`](super::outfit::LIMIT_MS_MAX); five minutes if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_ms: Option<u64>,
        /// Whether it may be done to a chain that makes no block while one of its nodes starts.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_outage: bool,
        /// The first block that all nodes make with it: they stop there and change at once. Left out: one after another, at
        /// whatever height. Came with cluster version 6.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_height: Option<u64>,
    },
    /// Nodes that follow the chain become validators, one after another, by the ledger's own transactions. Cannot pass without the
    /// yes of whoever owns one. Came with cluster version 5, as what follows.
    AddValidators {
        /// Which.
        nodes: Vec<NodeId>,
        /// Whether it may be done to a chain that then makes no block until those that are not well are well again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_outage: bool,
    },
    /// Validators become nodes that follow, one after another, likewise.
    RemoveValidators {
        /// Which.
        nodes: Vec<NodeId>,
        /// Whether it may be done to a chain that could miss a validator before and cannot afterwards.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_outage: bool,
    },
    /// A chain of others is taken over: an operator then says where its nodes are. Cannot pass without the yes of whoever is to own one.
    /// Came with cluster version 6.
    Adopt {
        /// Hash of the first block that it is pinned to: a later chain of the same name is another one.
        first_block: String,
        /// Who is to own each of its nodes, in their order.
        nodes: Vec<NodeSpec>,
        /// Whether it may be done to a chain that makes no block while one of its nodes starts.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_outage: bool,
    },
    /// The nodes are set otherwise, one after another. Came with cluster version 5.
    Reconfigure {
        /// By the names of the template's settings; those that are not named stay as they are.
        settings: BTreeMap<String, u64>,
        /// As of [`Change::Upgrade`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_ms: Option<u64>,
        /// As of [`Change::Upgrade`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_outage: bool,
    },
}

impl Change {
    /// The cluster version that it came with.
    pub const fn since(&self) -> Version {
        match self {
            Self::Upgrade { at_height: Some(_), .. } => Version::HEIGHTS,
            Self::Adopt { .. } => Version::ADOPTS,
            Self::Upgrade { .. }
            | Self::Reconfigure { .. }
            | Self::RemoveNodes { accept_outage: true, .. }
            | Self::AddValidators { .. }
            | Self::RemoveValidators { .. } => Version(5),
            Self::Pause {}
            | Self::Resume {}
            | Self::Delete { .. }
            | Self::Undelete {}
            | Self::AddNodes { .. }
            | Self::RemoveNodes { accept_outage: false, .. } => Version(4),
        }
    }
}

/// Stops a chain's nodes, which keep everything; its time meters stop with this entry. By an administrator or operator.
/// Came with cluster version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseChain {
    /// Which.
    pub chain: ChainKey,
    /// Why.
    pub reason: String,
}

/// Has a paused chain's nodes run again. By an administrator or operator. Came with cluster version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeChain {
    /// Which.
    pub chain: ChainKey,
    /// Why.
    pub reason: String,
}

/// Takes a deletion back while its grace lasts. By an administrator. Came with cluster version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndeleteChain {
    /// Which.
    pub chain: ChainKey,
    /// Why.
    pub reason: String,
}

/// Begins the removal of a deleted chain whose grace is over. By the system. Came with cluster version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeChain {
    /// Which.
    pub chain: ChainKey,
}
