//! Reads of this area, from a snapshot of the state.

use super::{Plan, UsageKey};
use crate::ids::{PlanId, TenantId};
use crate::page::{Page, page};
use crate::time::Month;
use crate::{Rejection, State, name};

pub use super::invoice::{InvoiceDraft, InvoiceLine, invoice_draft, recompute_invoice};

/// Returns the plan.
///
/// # Errors
/// `NotFound`.
pub fn get_plan<'a>(state: &'a State, id: &PlanId) -> Result<&'a Plan, Rejection> {
    state.plans.get(id).ok_or_else(|| Rejection::NotFound { field: "plan".into(), what: name::plan(id) })
}

/// Returns plans after key `after`, at most `limit`.
///
/// # Errors
/// `InvalidName` if `after` is not a key.
pub fn list_plans(state: &State, after: Option<&str>, limit: usize) -> Result<Page<Plan>, Rejection> {
    page(&state.plans, after, limit, |_, _| true)
}

/// The summed running time of a tenant in a month, by node and price.
pub fn usage<'a>(state: &'a State, tenant: &'a TenantId, month: Month) -> impl Iterator<Item = (&'a UsageKey, u64)> {
    let of = move |key: &UsageKey| key.tenant == *tenant && key.month == month;
    state.usage.iter().filter(move |(key, _)| of(key)).map(|(key, ms)| (key, *ms))
}

/// What a node of `tenant` costs from now on: the currency and its millionths for an hour; `None` if no price is in force.
pub fn price_now(state: &State, tenant: &TenantId) -> Option<(String, u64)> {
    let plan = state.plans.get(&state.tenants.get(tenant)?.plan)?;
    let (rate, _) = super::apply::rate_at(state, &plan.id, state.now);
    rate.map(|rate| (plan.currency.clone(), rate))
}
