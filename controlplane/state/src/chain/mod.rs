//! Chains and their nodes: what was ordered, and how far the world has come.

pub mod adopting;
pub(crate) mod adopting_apply;
pub(crate) mod anchor;
pub(crate) mod apply;
pub mod governance;
pub mod height;
pub(crate) mod height_apply;
pub mod imported;
pub(crate) mod imported_apply;
pub mod life;
pub(crate) mod life_apply;
pub mod moving;
pub(crate) mod moving_apply;
pub mod node;
pub(crate) mod node_apply;
pub mod outfit;
pub(crate) mod outfit_apply;
pub mod query;
pub mod repair;
pub mod rollout;
pub(crate) mod rollout_apply;
pub mod seat;
pub(crate) mod seat_apply;
pub mod template;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use self::adopting::Adoption;
use self::governance::GovernanceSpec;
use self::imported::Imported;
use self::life::Wish;
use self::outfit::{Outfit, Refit};
use self::rollout::Rollout;
use crate::digest::{Blob, Digest};
use crate::ids::{ChainId, ChainKey, OperationId, ProposalKey, TenantId};
use crate::time::Millis;

/// Greatest chain id: what a JSON number of every client holds exactly (2^53 - 1).
pub const CHAIN_ID_MAX: u64 = (1 << 53) - 1;
/// Accounts with a balance at genesis.
pub const ALLOC_MAX: usize = 256;
/// Greatest genesis in bytes.
pub const GENESIS_BYTES_MAX: usize = 1 << 20;
/// Longest reason that is kept of what a host or node said.
pub const REASON_MAX: usize = 500;
/// Fewest validators of a chain that goes on while one of them starts anew.
pub const ENDURING_MIN: usize = 4;

/// What is ordered: part of the artifact that members sign, so its fields and their order never change in version 1, which
/// is the one without governance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSpec {
    /// Its name in the consortium.
    pub chain: ChainId,
    /// Name of the template, `evm-standard`.
    pub template: String,
    /// Version of the template, 1.
    pub template_version: u32,
    /// EIP-155 chain id, unique on the platform, from 1 to [`CHAIN_ID_MAX`].
    pub chain_id: u64,
    /// Values of the template's parameters; those left out take the template's default.
    pub parameters: BTreeMap<String, u64>,
    /// One for each node, in order `n0`, `n1`, ...
    pub nodes: Vec<NodeSpec>,
    /// Balances at genesis: `0x` and 40 lower-case hex digits to wei in decimal.
    pub alloc: BTreeMap<String, String>,
    /// Who may change the chain while it runs; without it its validators and rules stay as they are at genesis.
    /// Came with cluster version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governance: Option<GovernanceSpec>,
    /// Key whose checkpoints of the audit trail the chain records, the text of the platform's `audit.vkey`; without it nobody's.
    /// Came with cluster version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
}

/// One node that is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Member that owns it and pays for it.
    pub owner: TenantId,
}

/// Life of a chain: `Requested` → `Provisioning` → `Running` ⇄ `Degraded`; `Failed` if a node is blocked before it ran.
/// While all its nodes change their program at one height `Halted`, between `Running` and `Running`.
/// From any of them by order: `Stopping` → `Paused`, and back; or `Stopping` → `Deleted`, back while the grace lasts, and
/// then `Removing` until nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChainState {
    /// Ordered, nothing has been touched.
    Requested,
    /// Nodes are being made.
    Provisioning,
    /// Every node runs and is healthy.
    Running,
    /// It ran, but a node is down, unhealthy or blocked.
    Degraded,
    /// A node is blocked and the chain never ran; a person must act.
    Failed,
    /// Its nodes are being stopped. Came with cluster version 4, as all that follow.
    Stopping,
    /// Its nodes are stopped and keep everything.
    Paused,
    /// Its nodes are stopped, and removed when the grace is over.
    Deleted,
    /// Its nodes are being removed with all they hold.
    Removing,
    /// It was made outside of the platform and is only watched. Came with cluster version 5.
    Imported,
    /// Its nodes stand at the height at which their program is exchanged: planned, and nothing to be repaired. Came with
    /// cluster version 6.
    Halted,
}

/// The genesis file that every node starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The file.
    pub bytes: Blob,
    /// Its SHA-256.
    pub sha256: Digest,
    /// When it was recorded.
    pub recorded_at: Millis,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its key.
    pub key: ChainKey,
    /// What was ordered.
    pub spec: ChainSpec,
    /// Hash of the artifact that ordered it.
    pub artifact_hash: Digest,
    /// The vote that ordered it; number 0 if it was imported.
    pub proposal: ProposalKey,
    /// The operation that makes it; number 0 if it was imported.
    pub operation: OperationId,
    /// How far it is; a pure function of its nodes.
    pub state: ChainState,
    /// Why it is so, in words.
    pub state_reason: String,
    /// Since when.
    pub state_since: Millis,
    /// Once recorded it never changes.
    pub genesis: Option<Genesis>,
    /// When it first had every node running and healthy.
    pub ran_at: Option<Millis>,
    /// Goes up with every change.
    pub version: u64,
    /// When it was ordered.
    pub created_at: Millis,
    /// What is wished for it. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "Wish::is_run")]
    pub wish: Wish,
    /// The operation that changes it, or the last that did. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<OperationId>,
    /// Its latest rolling change. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// How many nodes it ever had, once some were added: numbers are never given twice. 0 before. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nodes_ever: u32,
    /// What its nodes are to run, as was voted. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Outfit::is_default")]
    pub outfit: Outfit,
    /// The change of that which is under way, or the last. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refit: Option<Refit>,
    /// Public keys of nodes that are gone: no node of this chain has one of them again. Bounded by the votes that made the nodes.
    /// Came with cluster version 5.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub retired_keys: BTreeSet<String>,
    /// Public keys of validators whose nodes were given up with their hosts: its ledger goes on counting them until it says otherwise.
    /// Came with cluster version 6.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lost: BTreeSet<String>,
    /// Of a chain that was made outside of the platform: what it is known by. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// How often each of its nodes is started again by the platform within an hour, 0 for never; `None` as every chain's. Came
    /// with cluster version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts_per_hour: Option<u32>,
    /// Of one of others: that its consortium agreed to its being taken over, and how far that is. Came with cluster version 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
}

/// For fields that are not written while they are 0.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The genesis was made from all nodes' identities. By the system; a different second one is rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordGenesis {
    /// Of which chain.
    pub chain: ChainKey,
    /// The file.
    pub bytes: Blob,
}

/// A signed transaction is about to be handed to the chain. By whoever may send; written before it goes out, so that none
/// leaves without a record, while one that the ledger then refuses has a record too. Came with cluster version 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordTransaction {
    /// To which chain.
    pub chain: ChainKey,
    /// SHA-256 of its bytes: what was sent can be compared, and is not kept here.
    pub sha256: Digest,
    /// How many bytes it has.
    pub bytes: u64,
}
