//! Rules of prices and running time: every millisecond is written once, at the price in force when it began.

use super::{METER_NODES_MAX, Meter, PLANS_MAX, Plan, RATES_MAX, Rate, SetPlan, UsageKey, UsageRecord, invoice};
use crate::apply::Cx;
use crate::chain::node::Node;
use crate::command::Outcome;
use crate::event::Record;
use crate::ids::{NodeKey, PlanId};
use crate::money::RATE_MICRO_MAX;
use crate::time::Millis;
use crate::{Rejection, State, check, name};

pub(crate) fn set_plan(state: &mut State, cx: &mut Cx<'_>, c: &SetPlan) -> Result<Outcome, Rejection> {
    let resource = name::plan(&c.plan);
    if c.currency.len() != 3 || !c.currency.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(check::invalid("currency", &c.currency, "three upper-case letters (ISO 4217)"));
    }
    check::range("rate_micro_per_node_hour", c.rate_micro_per_node_hour, 0, RATE_MICRO_MAX)?;
    let effective_from = c.effective_from.unwrap_or(cx.now);
    if effective_from < cx.now {
        let rule = format!("not before {} (log time): what is metered keeps its price", cx.now.0);
        return Err(check::invalid("effective_from", effective_from.0, rule));
    }
    let is_new = !state.plans.contains_key(&c.plan);
    if is_new {
        check::quota("plan", "the number of plans", state.plans.len(), PLANS_MAX)?;
    }
    let new = || Plan { id: c.plan.clone(), currency: c.currency.clone(), rates: Vec::new() };
    let mut plan = state.plans.get(&c.plan).cloned().unwrap_or_else(new);
    if plan.currency != c.currency {
        return Err(check::invalid("currency", &c.currency, format!("{}, as the plan has it", plan.currency)));
    }
    if let Some(last) = plan.rates.last().filter(|last| effective_from <= last.effective_from) {
        let rule = format!("after {}, the plan's last price", last.effective_from.0);
        return Err(check::invalid("effective_from", effective_from.0, rule));
    }
    check::quota("plan", "the number of the plan's prices", plan.rates.len(), RATES_MAX)?;

    plan.rates.push(Rate { effective_from, rate_micro_per_node_hour: c.rate_micro_per_node_hour });
    state.plans.insert(c.plan.clone(), plan);
    if is_new {
        cx.created(resource.clone())
    } else {
        cx.updated(resource.clone())
    }
    Ok(Outcome::Done { resource })
}

pub(crate) fn meter(state: &mut State, cx: &mut Cx<'_>, c: &Meter) -> Result<Outcome, Rejection> {
    let until = c.until.min(cx.now);
    let is_behind = |node: &&Node| node.metered_until.is_some_and(|metered| metered < until);
    // Those that are furthest behind come first, so that a bounded entry starves nobody.
    let mut behind: Vec<(Option<Millis>, NodeKey)> =
        state.nodes.values().filter(is_behind).map(|node| (node.metered_until, node.key.clone())).collect();
    behind.sort();

    let before = state.last_usage;
    for (_, key) in behind.into_iter().take(METER_NODES_MAX) {
        let Some(mut node) = state.nodes.get(&key).cloned() else { continue };
        settle(state, cx, &mut node, until);
        state.nodes.insert(key, node);
    }
    match state.last_usage - before {
        0 => Ok(Outcome::Unchanged { resource: "usage".into() }),
        records => {
            cx.updated("usage".into());
            Ok(Outcome::Metered { records })
        }
    }
}

/// Writes what a node ran until now and stops its meter; nothing if it was not running.
pub(crate) fn stop(state: &mut State, cx: &mut Cx<'_>, node: &mut Node) {
    let now = cx.now;
    settle(state, cx, node, now);
    node.metered_until = None;
}

/// Writes what a node ran up to `until`, cut where a month ends or a price begins.
fn settle(state: &mut State, cx: &mut Cx<'_>, node: &mut Node, until: Millis) {
    let Some(mut from) = node.metered_until else { return };
    let Some(plan) = state.tenants.get(&node.owner).map(|tenant| tenant.plan.clone()) else { return };
    while from < until {
        let (rate, next_price) = rate_at(state, &plan, from);
        let to = until.min(from.month().end()).min(next_price.unwrap_or(until));
        let currency = rate.and_then(|_| state.plans.get(&plan)).map(|plan| plan.currency.clone());
        state.last_usage += 1;
        cx.record(Record::Usage(UsageRecord {
            seq: state.last_usage,
            revision: cx.revision,
            tenant: node.owner.clone(),
            node: node.key.clone(),
            from,
            to,
            plan: plan.clone(),
            currency,
            rate_micro_per_node_hour: rate,
        }));
        let key = UsageKey {
            tenant: node.owner.clone(),
            month: from.month(),
            node: node.key.clone(),
            rate_micro_per_node_hour: rate,
        };
        invoice::add(&mut state.usage, key, to.since(from));
        from = to;
    }
    node.metered_until = Some(from);
}

/// The price in force at `at`, and when the next one begins.
pub(super) fn rate_at(state: &State, plan: &PlanId, at: Millis) -> (Option<u64>, Option<Millis>) {
    let rates = state.plans.get(plan).map(|plan| plan.rates.as_slice()).unwrap_or_default();
    let begun = rates.partition_point(|rate| rate.effective_from <= at);
    let rate = begun.checked_sub(1).and_then(|last| rates.get(last)).map(|rate| rate.rate_micro_per_node_hour);
    (rate, rates.get(begun).map(|next| next.effective_from))
}
