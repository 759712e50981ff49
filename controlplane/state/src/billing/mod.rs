//! Who owes what: exact running time of nodes, a price for it, and an invoice that anyone can compute again.

pub(crate) mod apply;
pub mod invoice;
pub mod query;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeKey, PlanId, TenantId};
use crate::time::{Millis, Month};

/// Plans on the platform.
pub const PLANS_MAX: usize = 100;
/// Prices of a plan over time.
pub const RATES_MAX: usize = 1_000;
/// Nodes that one metering entry covers; the rest follow in the next.
pub const METER_NODES_MAX: usize = 2_000;

/// The plan that every tenant has in this version.
pub const STANDARD_PLAN: &str = "standard";

/// A price from a moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// From when.
    pub effective_from: Millis,
    /// Millionths of the currency for one node running one hour.
    pub rate_micro_per_node_hour: u64,
}

/// A price plan: prices are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// Three upper-case letters; one for the plan's life.
    pub currency: String,
    /// By time, each later than the one before.
    pub rates: Vec<Rate>,
}

/// Running time of one node at one price: history on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// Number of the record.
    pub seq: u64,
    /// Entry that wrote it.
    pub revision: u64,
    /// Who pays.
    pub tenant: TenantId,
    /// Which node.
    pub node: NodeKey,
    /// From when.
    pub from: Millis,
    /// Until when (not included); in the same month as `from`.
    pub to: Millis,
    /// The tenant's plan.
    pub plan: PlanId,
    /// Currency, `None` if no price was in force.
    pub currency: Option<String>,
    /// Price in force at `from`, `None` if there was none.
    pub rate_micro_per_node_hour: Option<u64>,
}

/// What usage is summed by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UsageKey {
    /// Who pays.
    pub tenant: TenantId,
    /// When.
    pub month: Month,
    /// Which node.
    pub node: NodeKey,
    /// At which price.
    pub rate_micro_per_node_hour: Option<u64>,
}

/// Sets a price from a moment on. By an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPlan {
    /// Which plan.
    pub plan: PlanId,
    /// Three upper-case letters.
    pub currency: String,
    /// Millionths of the currency for one node running one hour.
    pub rate_micro_per_node_hour: u64,
    /// From when; never in the past. From this entry on if `None`.
    pub effective_from: Option<Millis>,
}

/// Writes the running time of every node up to a moment. By the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// Up to when; never later than this entry.
    pub until: Millis,
}
