//! What a ledger holds of a control plane's audit trail, and what it takes to record more.

use serde::{Deserialize, Serialize};

/// Heads of an audit trail that a chain holds, as one of its nodes says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchors {
    /// The key whose checkpoints the chain records, in the text form of a signed note's key.
    pub key: String,
    /// How often the chain's members have set it. What was recorded in an earlier era binds no more.
    pub era: u64,
    /// What the next head must continue; `None` if nothing.
    pub latest: Option<AnchoredHead>,
    /// Heads, the newest first, with their places.
    pub heads: Vec<AnchoredHead>,
    /// The block in which the next older one is; `None` if there is none.
    pub older_height: Option<u64>,
    /// Whether the node no longer keeps that block.
    pub pruned: bool,
}

/// A head and where it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchoredHead {
    /// How many records the trail had, at least 1.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: [u8; 32],
    /// Chain hash of the last of them.
    pub chain: [u8; 32],
    /// The control plane's log time of the checkpoint, milliseconds since 1970.
    pub time_ms: u64,
    /// The era in which it was recorded.
    pub era: u64,
    /// The block that recorded it.
    pub height: u64,
    /// That block's hash, 0x-hex; empty if it was not asked for.
    pub block_hash: String,
    /// The transaction's hash, 0x-hex; empty if it was not asked for.
    pub transaction: String,
}

/// A head to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorOrder {
    /// Numeric chain id (EIP-155).
    pub chain_id: u64,
    /// The signed checkpoint.
    pub checkpoint: String,
    /// The proof that its tree continues the one recorded last.
    pub proof: Vec<[u8; 32]>,
}
