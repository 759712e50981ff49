//! Long-running work as people see it: steps that follow from facts.
//!
//! Nothing sets a step by hand: after every change the steps are computed again from the chain, its nodes or the
//! contract, and what differs is written with its time. So an operation cannot disagree with the world it describes.

pub(crate) mod apply;
mod life;
pub mod query;

use serde::{Deserialize, Serialize};

use crate::ids::{ChainKey, ContractKey, NodeId, OperationId};
use crate::time::Millis;

/// Operations kept in memory; beyond it the oldest finished ones leave (their log is history on disk).
pub const OPERATIONS_MAX: usize = 10_000;

/// Longest output that is kept of a step.
pub const OUTPUT_BYTES_MAX: usize = 4_096;
/// Operations, the newest ones, whose steps' outputs are kept.
pub const OUTPUTS_KEPT: u64 = 100;

/// What an operation makes, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    /// A chain and its nodes.
    CreateChain(ChainKey),
    /// A contract on its chain.
    DeployContract(ContractKey),
    /// A change of a chain that was made before. Came with cluster version 4.
    ChangeChain {
        /// Which.
        chain: ChainKey,
        /// What is done.
        work: Work,
        /// With which of its nodes, in order.
        nodes: Vec<NodeId>,
    },
}

/// What is done with a chain that was made before. Came with cluster version 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Work {
    /// Its nodes are stopped.
    Pause,
    /// Its nodes are started again.
    Resume,
    /// Its nodes are stopped, and removed when the grace is over.
    Delete,
    /// The deletion is taken back.
    Undelete,
    /// Nodes are added.
    Grow,
    /// Nodes leave.
    Shrink,
    /// Its nodes are configured and started anew, one after another.
    Roll,
    /// A node goes to another host with its key. Came with cluster version 5, as what follows.
    Move,
    /// A node is made anew at another host, because its host is lost; the others learn of it.
    Replace,
    /// Its nodes are brought to another program, one after another.
    Upgrade,
    /// Its nodes are set otherwise, one after another.
    Reconfigure,
    /// Those of its nodes that were brought to another program go back to the one before.
    RollBack,
    /// Nodes become validators.
    Seat,
    /// Validators become nodes that follow.
    Unseat,
    /// Its nodes change their program at one height. Came with cluster version 6.
    UpgradeAt,
    /// The nodes of a chain of others are taken over, one after another. Came with cluster version 6.
    Adopt,
}

/// Life of an operation: `Running`, then `Succeeded`; `Failed` until a person unblocks what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OperationState {
    /// Under way.
    Running,
    /// Done, for ever.
    Succeeded,
    /// Stopped; see the cause.
    Failed,
}

/// Life of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Under way.
    Running,
    /// Done.
    Done,
    /// Stopped; see the detail.
    Failed,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What: `place`, `prepare`, `genesis`, `configure`, `start`, `verify`, `send`, `mine`, `stop`, `grace`, `remove`, `roll`, `leave`, `fence`, `carry`, `clear`, `seat`, `tell`, `halt`.
    pub name: String,
    /// Of what: a resource name.
    pub target: String,
    /// How far.
    pub state: StepState,
    /// In words: what it waits for, or why it failed.
    pub detail: String,
    /// When it began.
    pub started_at: Option<Millis>,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// What was done for it on a host last, and what programs printed there: masked, at most [`OUTPUT_BYTES_MAX`] bytes. Gone once
    /// [`OUTPUTS_KEPT`] operations have begun after this one. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it makes.
    pub kind: OperationKind,
    /// Who asked for it: an actor's name.
    pub by: String,
    /// The request that started it.
    pub request_id: String,
    /// How far.
    pub state: OperationState,
    /// In order.
    pub steps: Vec<Step>,
    /// When it began.
    pub started_at: Millis,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// Why it failed.
    pub cause: Option<String>,
    /// The later operation that wants something else of the same thing; this one has failed for good. Came with cluster
    /// version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<OperationId>,
}

/// A change of a step, for the operation's log on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationLog {
    /// Number of the record.
    pub seq: u64,
    /// Entry that changed it.
    pub revision: u64,
    /// Log time.
    pub at: Millis,
    /// Which operation.
    pub operation: OperationId,
    /// Which step, `None` for the operation as a whole.
    pub step: Option<String>,
    /// Target of the step or of the operation.
    pub target: String,
    /// New state: `Pending`, `Running`, `Done`, `Succeeded`, `Failed`.
    pub state: String,
    /// In words.
    pub detail: String,
}
