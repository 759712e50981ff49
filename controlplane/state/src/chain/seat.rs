//! Who validates on a chain whose ledger lets validators in and out by transactions of its own.
//!
//! The consortium votes which of its nodes are validators; the leader then has the ledger's own transactions made, signed on
//! the nodes' hosts by the operators' keys that lie there, of those members only that voted for it. A seat counts as taken or
//! given up when the ledger's set of validators says so, and not before. A node without a [`Seat`] validates if it is there
//! since genesis.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{ChainKey, TenantId};
use crate::time::Millis;

/// What was last decided on a node's part in its chain's consensus, and what the ledger says. Came with cluster version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// Whether it is to validate.
    pub wished: bool,
    /// Whether it validates, by the ledger's word; before its first, whether it did at genesis.
    pub held: bool,
    /// Members that voted for it: the operators of their nodes act for it on the ledger, and no others.
    pub consent: BTreeSet<TenantId>,
    /// When it was decided.
    pub since: Millis,
    /// What it waits for, in words; empty if for nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waits: String,
    /// Whether it may be done to a chain that then has no validator to miss.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_outage: bool,
    /// Whether the decision before was the other way and was being carried out: what was begun may still come about on the
    /// ledger, which has to say that it did not. Came with cluster version 6.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsure: bool,
}

impl Seat {
    /// Whether the ledger does not say yet what was decided.
    pub fn is_due(&self) -> bool {
        self.wished != self.held || self.unsure
    }
}

/// The ledger says that the key of a node that was given up validates no more. By the system. Came with cluster version 6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordUnseated {
    /// On which chain.
    pub chain: ChainKey,
    /// Which key, as its engine writes it.
    pub public_key: String,
}

/// Fewest of `validators` equal validators by which a BFT chain makes blocks: more than two thirds.
pub const fn quorum(validators: usize) -> usize {
    validators * 2 / 3 + 1
}
