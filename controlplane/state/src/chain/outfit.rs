//! What a chain's nodes run and how they are set, and the changes of it by vote.
//!
//! A chain has an [`Outfit`], which was voted on; every node has the one that it runs with. A vote changes the chain's and begins a
//! rolling change, which brings the nodes to it one after another; halted in the middle, some have the one and some the other, and
//! whatever happens to a node meanwhile (a restart, a move, a repair) happens with its own. While the change is not *settled*, a
//! person may have the nodes go back to what they had before: those that were reached, one after another.
//!
//! What this never does: say whether a ledger can be read by an older program (its engine is asked before), or look into a program.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::height::AtHeight;
use crate::digest::Digest;
use crate::ids::ChainKey;
use crate::time::{DAY_MS, Millis, SECOND_MS};

/// Shortest time in which a node must be well again before a change of what it runs halts.
pub const LIMIT_MS_MIN: u64 = 10 * SECOND_MS;
/// Longest.
pub const LIMIT_MS_MAX: u64 = DAY_MS;

/// A program for nodes that the platform keeps as an artifact: what was voted on is what runs, since the hash is of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The artifact's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its hash.
    pub sha256: Digest,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.name, self.version, self.sha256)
    }
}

/// What a node runs. Came with cluster version 5, as everything here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outfit {
    /// Its program; `None` is the platform's own, as each replica has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
    /// Settings of its node by the names of the template's; those left out are as the ledger's driver has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, u64>,
}

impl Outfit {
    /// Whether it is what nodes have that no vote has changed.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// All of it in words.
    pub fn words(&self) -> String {
        let program = self.program_words();
        if self.settings.is_empty() {
            return program;
        }
        let settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        format!("{program} with {}", settings.join(", "))
    }

    /// Its program in words.
    pub fn program_words(&self) -> String {
        self.program.as_ref().map_or_else(|| "the platform's own program".to_owned(), ToString::to_string)
    }
}

/// A change of what a chain's nodes run, under way or the last that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refit {
    /// What the nodes had before, and go back to as long as it is not settled. Once they go back: what was given up.
    pub before: Outfit,
    /// Number of the rolling change that began it.
    pub rollout: u64,
    /// When that was.
    pub since: Millis,
    /// When every node had it and was well; there is no way back from then on but another vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Millis>,
    /// Why the nodes go back to what they had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<String>,
    /// The height at which all nodes change at once, if that is how. Came with cluster version 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<AtHeight>,
}

/// Has the nodes that an unsettled change of their program has reached go back to the one before, one after another. By an
/// administrator or operator, or by the system, which calls off a change at a height that comes before all nodes know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollBackChain {
    /// Which.
    pub chain: ChainKey,
    /// Why.
    pub reason: String,
    /// Whether it was agreed to although nobody knows that the program before can read what the new one wrote.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_risk: bool,
    /// Number of the chain's last rolling change when its ledger was asked whether there is a way back: what has begun since, it was
    /// not asked of. Came with cluster version 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}
