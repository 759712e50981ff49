//! What to do next, as pure functions of the state, what was seen of the world, and the time.
//!
//! A reconciler on the leader asks for one thing at a time and gets a [`Step`]: wait and why, do one [`Act`], or done.
//! Nothing is remembered between two questions, so a new leader that has seen nothing asks the same questions and, as
//! every act looks before it makes, nothing is ever made twice.
//!
//! One file a lifecycle. What a planner never does: change anything, take an event as input, or fail.

mod billing;
mod chain;
pub mod change;
mod contract;
pub mod diagnose;
mod hang;
pub mod height;
mod machine;
mod moving;
mod node;
mod proposal;
mod repair;
mod replica;
mod rollout;
mod seat;

use std::collections::{BTreeMap, BTreeSet};

use hanse_state::Millis;
use hanse_state::chain::node::{NodeAct, NodeFact};
use hanse_state::ids::{ChainKey, ContractKey, HostId, NodeKey, ProposalKey};

pub use billing::plan_metering;
pub use chain::plan_chain;
pub use contract::plan_contract;
pub use hang::{HANG_BEHIND, HANG_LOOKS, HANG_MS, HANG_START_MS, Quiet};
pub use machine::plan_machine;
pub use node::{HEALTH_PERIOD_MS, HEALTH_SILENCE_MS, START_GRACE_MS, plan_node};
pub use proposal::plan_proposals;
pub use repair::{BACKOFF_MS_BASE, BACKOFF_MS_MAX, may_disturb, plan_repair, quorum};
pub use replica::{LAG_MAX, MembershipView, ReplicaAct, plan_replicas};
pub use rollout::{ROLL_BEHIND_MAX, ROLL_LIMIT_MS};

/// What the leader has seen of the world since it became leader; lives in its memory only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// By node; a node that was not looked at yet is not in it.
    pub nodes: BTreeMap<NodeKey, NodeView>,
    /// Public keys of the validators by chain, as its ledger says; only of chains that a node is to leave.
    pub validators: BTreeMap<ChainKey, BTreeSet<String>>,
    /// Since when nodes whose process runs give no answer, or stand still; by this leader's looks alone.
    pub quiet: BTreeMap<NodeKey, Quiet>,
    /// Nodes whose process had ended when this leader asked whether they stand at the height they were told of, with the generation
    /// that had: they do not, or the log says so by now.
    pub placed: BTreeMap<NodeKey, u64>,
    /// Since when it leads: of the time before it knows nothing, so no silence began then.
    pub since: Millis,
    /// How patient it is configured to be.
    pub limits: Limits,
}

/// How patient this replica is configured to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a node that has worked is seen to do nothing before it counts as hanging, milliseconds.
    pub hang_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { hang_ms: HANG_MS }
    }
}

/// What was seen of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// What the adapter said, `None` if it was not asked yet.
    pub instance: Option<InstanceView>,
    /// What the node itself last said; a view of an older generation must be dropped when the generation changes.
    pub health: Option<HealthView>,
}

/// What the adapter said of a node's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    /// Generation that was last ensured on the host; 0 if the host has nothing of it.
    pub generation: u64,
    /// Whether it runs.
    pub run: Run,
}

/// Whether a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// Files are there, nothing was ever started.
    Prepared,
    /// Alive.
    Running,
    /// Ended.
    Exited {
        /// Exit code, `None` for a signal.
        code: Option<i32>,
        /// In words.
        reason: String,
    },
    /// The host has nothing of it.
    Missing,
    /// The host could not be asked.
    Unreachable {
        /// Why.
        reason: String,
    },
}

/// What a node said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthView {
    /// Generation of the process that said it.
    pub generation: u64,
    /// Height of its last block.
    pub height: u64,
    /// Peers that it is connected to.
    pub peers: u64,
    /// Whether it is catching up.
    pub syncing: bool,
    /// What keeps it from following its chain, in its own words; empty if it says that it is ready.
    pub reasons: Vec<String>,
    /// When it said so, on the leader's clock.
    pub at: Millis,
}

/// The answer of a planner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be done now.
    Wait {
        /// For what, in words that people see.
        reason: String,
    },
    /// Do this, then ask again.
    Do(Act),
    /// As wished.
    Done,
}

impl Step {
    pub(crate) fn wait(reason: impl Into<String>) -> Self {
        Self::Wait { reason: reason.into() }
    }
}

/// One thing to do. Acts on a host are: commit `RecordIntent`, ensure, commit the fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Make the node's home and keys on its host: intent `Prepare`, fact `Prepared`.
    Prepare {
        /// Which.
        node: NodeKey,
        /// Its generation.
        generation: u64,
    },
    /// Make the genesis of all nodes' identities and commit `RecordGenesis`.
    Genesis {
        /// Of which chain.
        chain: ChainKey,
    },
    /// Write genesis and configuration on the host: intent `Configure`, fact `Configured`.
    Configure {
        /// Which.
        node: NodeKey,
        /// Its generation.
        generation: u64,
    },
    /// Make the process of this generation run: intent `Start`, fact `Started`. One of the generation that runs already
    /// is adopted, one of an older is replaced.
    Start {
        /// Which.
        node: NodeKey,
        /// Its generation.
        generation: u64,
    },
    /// Look at the process and ask the node how it is; only what the leader has seen changes.
    CheckHealth {
        /// Which.
        node: NodeKey,
        /// Its generation.
        generation: u64,
    },
    /// Commit `RecordNodeFact` with a change of health.
    RecordHealth {
        /// Which.
        node: NodeKey,
        /// Its generation.
        generation: u64,
        /// `Healthy` or `Unhealthy`.
        fact: NodeFact,
    },
    /// Commit `RestartNode`: the next generation is started from there.
    Restart {
        /// Which.
        node: NodeKey,
        /// The generation that is replaced.
        generation: u64,
        /// Why.
        reason: String,
    },
    /// Commit `RecordNodeFact` `Failed`: a person must act.
    Block {
        /// Which.
        node: NodeKey,
        /// Its generation.
        generation: u64,
        /// Why.
        reason: String,
    },
    /// Stop the process for good as far as older generations go: intent `Stop`, fact `Stopped`.
    Stop {
        /// Which.
        node: NodeKey,
        /// Its generation, the first that may run again.
        generation: u64,
    },
    /// Remove the node from its host with all it holds: intent `Remove`, fact `Removed`.
    Remove {
        /// Which.
        node: NodeKey,
        /// Its generation.
        generation: u64,
    },
    /// Commit `RollNode`: it is configured and started anew from there.
    Roll {
        /// Which.
        node: NodeKey,
        /// The generation that is replaced.
        generation: u64,
        /// Number of the rollout.
        number: u64,
    },
    /// Commit `HaltRollout`: a node has not come back.
    HaltRollout {
        /// Of which chain.
        chain: ChainKey,
        /// Which.
        number: u64,
        /// Why.
        reason: String,
    },
    /// Commit `RollBackChain` as the system: the height of a change comes before all nodes know of it.
    CallOff {
        /// Of which chain.
        chain: ChainKey,
        /// Why.
        reason: String,
    },
    /// Commit `ExchangeProgram`: its nodes stand at the height.
    Exchange {
        /// Of which chain.
        chain: ChainKey,
        /// Number of the rolling change that told them.
        number: u64,
    },
    /// Commit `RecordUnseated`: the ledger does not count a lost key any more.
    Unseated {
        /// Of which chain.
        chain: ChainKey,
        /// Which key.
        public_key: String,
    },
    /// Commit `ReleaseNode`: a node that leaves does not validate.
    Release {
        /// Which.
        node: NodeKey,
        /// Its generation.
        generation: u64,
    },
    /// One step of a move: intent and fact of `act`, on the host that the node leaves and the one that it goes to.
    MoveStep {
        /// Which.
        node: NodeKey,
        /// Its generation.
        generation: u64,
        /// `Fence`, `Carry`, `Clear` or `Return`.
        act: NodeAct,
    },
    /// Commit `MoveNode`: its host is drained.
    Move {
        /// Which.
        node: NodeKey,
        /// The generation that is replaced.
        generation: u64,
        /// Where it goes.
        to: HostId,
        /// Why.
        reason: String,
        /// Whether an outage was agreed to.
        accept_outage: bool,
    },
    /// The next step of a seat among the validators that was decided, on the ledger: intent `Seat`, fact `Seating` while it
    /// waits, and `Seated` once the ledger's validators say so.
    Seat {
        /// Which.
        node: NodeKey,
        /// Its generation.
        generation: u64,
    },
    /// Commit `EndAdoption`: every node of a chain of others was taken over and is well.
    EndAdoption {
        /// Which.
        chain: ChainKey,
    },
    /// Commit `PurgeChain`: the grace of a deleted chain is over.
    Purge {
        /// Which.
        chain: ChainKey,
    },
    /// Send the contract's transaction to a node of the chain and commit the fact `Sent`.
    SendContract {
        /// Which.
        contract: ContractKey,
    },
    /// Look whether the transaction is in a block and commit `Deployed` or `Failed` if so.
    LookContract {
        /// Which.
        contract: ContractKey,
    },
    /// Order a cloud's machine, or adopt what is there of its token: intent `Create`, fact `Launched`.
    CreateMachine {
        /// Which.
        machine: HostId,
    },
    /// Look whether a machine answers with its key; if so, fact `Answers`.
    LookMachine {
        /// Which.
        machine: HostId,
    },
    /// Delete a machine in its cloud: intent `Delete`, fact `Gone`.
    DeleteMachine {
        /// Which.
        machine: HostId,
    },
    /// Commit `CloseProposal`.
    CloseProposal {
        /// Which.
        proposal: ProposalKey,
    },
    /// Commit `Meter`.
    Meter {
        /// Up to when.
        until: Millis,
    },
}
