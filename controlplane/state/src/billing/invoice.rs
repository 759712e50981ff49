//! Invoices as pure functions of running time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{UsageKey, UsageRecord};
use crate::State;
use crate::ids::{NodeKey, TenantId};
use crate::money::price_micro;
use crate::time::Month;

/// One node at one price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceLine {
    /// Which node.
    pub node: NodeKey,
    /// Running time in milliseconds.
    pub ms: u64,
    /// Price for an hour in millionths; `None` while no price was in force.
    pub rate_micro_per_node_hour: Option<u64>,
    /// Price of the line in millionths, rounded half up; 0 without a price.
    pub amount_micro: i128,
}

/// What a tenant owes for a month by what is metered so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceDraft {
    /// Who pays.
    pub tenant: TenantId,
    /// For which month (UTC).
    pub month: Month,
    /// Currency of the tenant's plan; `None` if it has no price yet.
    pub currency: Option<String>,
    /// By node and price.
    pub lines: Vec<InvoiceLine>,
    /// Sum of the lines in millionths.
    pub total_micro: i128,
    /// Running time in milliseconds for which no price was in force.
    pub unpriced_ms: u64,
}

/// Returns the draft from the sums that the state keeps. A tenant without usage gets an empty draft.
pub fn invoice_draft(state: &State, tenant: &TenantId, month: Month) -> InvoiceDraft {
    let sums = state
        .usage
        .iter()
        .filter(|(key, _)| key.tenant == *tenant && key.month == month)
        .map(|(key, ms)| ((key.node.clone(), key.rate_micro_per_node_hour), *ms))
        .collect();
    let plan = state.tenants.get(tenant).and_then(|tenant| state.plans.get(&tenant.plan));
    draft(tenant, month, plan.map(|plan| plan.currency.clone()), &sums)
}

/// Returns the draft from the usage records of history alone; it equals [`invoice_draft`] or the books are wrong.
pub fn recompute_invoice(records: impl Iterator<Item = UsageRecord>, tenant: &TenantId, month: Month) -> InvoiceDraft {
    let mut sums: BTreeMap<(NodeKey, Option<u64>), u64> = BTreeMap::new();
    let mut currency = None;
    for record in records.filter(|record| record.tenant == *tenant && record.from.month() == month) {
        let key = (record.node.clone(), record.rate_micro_per_node_hour);
        let sum = sums.entry(key).or_default();
        *sum = sum.saturating_add(record.to.since(record.from));
        currency = record.currency.or(currency);
    }
    draft(tenant, month, currency, &sums)
}

fn draft(
    tenant: &TenantId,
    month: Month,
    currency: Option<String>,
    sums: &BTreeMap<(NodeKey, Option<u64>), u64>,
) -> InvoiceDraft {
    let lines: Vec<InvoiceLine> = sums
        .iter()
        .map(|((node, rate), ms)| InvoiceLine {
            node: node.clone(),
            ms: *ms,
            rate_micro_per_node_hour: *rate,
            amount_micro: rate.map_or(0, |rate| price_micro(*ms, rate)),
        })
        .collect();
    let total_micro = lines.iter().map(|line| line.amount_micro).sum();
    let unpriced = lines.iter().filter(|line| line.rate_micro_per_node_hour.is_none());
    let unpriced_ms = unpriced.map(|line| line.ms).fold(0, u64::saturating_add);
    // A currency stands only where a price does, so that both ways to the draft agree.
    let priced = lines.iter().any(|line| line.rate_micro_per_node_hour.is_some());
    let currency = if priced { currency } else { None };
    InvoiceDraft { tenant: tenant.clone(), month, currency, lines, total_micro, unpriced_ms }
}

/// Adds running time to a sum.
pub(crate) fn add(usage: &mut imbl::OrdMap<UsageKey, u64>, key: UsageKey, ms: u64) {
    let sum = usage.get(&key).copied().unwrap_or(0).saturating_add(ms);
    usage.insert(key, sum);
}
