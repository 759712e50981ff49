//! Figures for people: what nodes use, what hosts have left, what each look at a node saw, and what chains carry, into the
//! time series.
//!
//! What this never does: write to the log, judge, or keep an act waiting: figures are asked for beside everything else.

use std::future::Future;
use std::pin::Pin;

use hanse_engines_core::{EngineError, NodeHealth, Signed};
use hanse_planner::diagnose::DoubleSign;
use hanse_state::chain::node::{Node, NodeState};
use hanse_state::chain::query::nodes_of;
use hanse_state::host::HostState;
use hanse_state::ids::{ChainKey, HostId, NodeKey};
use hanse_state::{State, name};

use super::World;
use super::act::Trouble;
use super::node::{Site, engine_of, public};
use crate::observed::NodeView;
use crate::series::Metric;
use crate::watched::{Watched, plan as watched_plan};

/// How often a node is asked for proofs of double signing.
const PROOFS_EVERY_MS: u64 = 60_000;
/// Most blocks whose transactions are counted at once; more come when a chain is caught up with, and are left out.
const BLOCKS_MAX: u64 = 90;
/// A node that was heard longer ago is not asked.
const HEARD_MS: u64 = 10_000;

/// A block is overdue after so many times the time from block to block, and not before [`OVERDUE_MS_MIN`].
const OVERDUE_TIMES: u64 = 3;
/// Looks are seconds apart: what is younger may have a successor that was not seen yet.
const OVERDUE_MS_MIN: u64 = 15_000;
/// A host that took longer to answer says nothing of its clock: the middle is off by up to half of it.
const ANSWER_MS_MAX: u64 = 1_000;

type Asking = Pin<Box<dyn Future<Output = Result<(), Trouble>> + Send>>;

/// Plans a question to every host and about every running node whose figures are due.
pub(super) fn plan(world: &World, state: &State, mut start: impl FnMut(String, Asking)) {
    let (now, series) = ((world.clock)().0, world.observed.series());
    for (id, host) in &state.hosts {
        if host.state != HostState::Distrusted && series.is_due(&name::host(id), now) {
            let (world, state, id) = (world.clone(), state.clone(), id.clone());
            start(desk(&name::host(&id)), Box::pin(async move { ask_host(&world, &state, &id).await }));
        }
    }
    for (key, node) in &state.nodes {
        if node.state == NodeState::Running && node.watched.is_none() && series.is_due(&name::node(key), now) {
            let (world, state, key) = (world.clone(), state.clone(), key.clone());
            start(desk(&name::node(&key)), Box::pin(async move { ask_node(&world, &state, &key).await }));
        }
    }
    for key in state.chains.keys() {
        if series.is_due(&name::chain(key), now)
            && let Some((node, view)) = head(world, state, key)
        {
            let (world, state) = (world.clone(), state.clone());
            let ask = async move { count_transactions(&world, &state, &node, &view).await };
            start(desk(&name::chain(key)), Box::pin(ask));
        }
    }
}

/// The node of `chain` that was heard lately and has the highest block, the first of those.
fn head(world: &World, state: &State, chain: &ChainKey) -> Option<(NodeKey, NodeView)> {
    let now = (world.clock)().0;
    let is_looked_at = |node: &Node| matches!(node.state, NodeState::Running | NodeState::Watched);
    let nodes = state.nodes.iter().filter(|(key, node)| key.chain == *chain && is_looked_at(node));
    let views = nodes.filter_map(|(key, _)| Some((key.clone(), world.observed.node(key)?)));
    let fresh = views.filter(|(_, view)| now.saturating_sub(view.at_ms) < HEARD_MS && view.height > 0);
    fresh.reduce(|best, it| if it.1.height > best.1.height { it } else { best })
}

/// Counts the transactions of the blocks since the last count, over the time in which they were made.
async fn count_transactions(world: &World, state: &State, key: &NodeKey, view: &NodeView) -> Result<(), Trouble> {
    let (series, resource, now) = (world.observed.series(), name::chain(&key.chain), (world.clock)().0);
    series.asked(&resource, now);
    let Some((height, time)) = series.counted(&resource, (view.height, view.block_time_ms)) else { return Ok(()) };
    let blocks = view.height.checked_sub(height);
    if blocks == Some(0) {
        let every = series.last(&name::node(key), Metric::BlockTime).and_then(|(_, ms)| u64::try_from(ms).ok());
        // Of a ledger that cannot say there is no figure, so there is no zero either.
        let was_told = series.last(&resource, Metric::Transactions).is_some();
        if was_told && is_overdue(now.saturating_sub(view.block_time_ms), every) {
            series.record(&resource, Metric::Transactions, now, 0);
        }
    }
    let (Some(1..=BLOCKS_MAX), Some(1..)) = (blocks, view.block_time_ms.checked_sub(time)) else { return Ok(()) };
    let stale = |what: &str| Trouble::Stale(format!("{key}: {what}"));
    let node = state.nodes.get(key).ok_or_else(|| stale("is gone"))?;
    let counted = if let Some(endpoint) = &node.watched {
        let chain = state.chains.get(&key.chain).ok_or_else(|| stale("its chain is gone"))?;
        let plan = watched_plan(state, node, endpoint).ok_or_else(|| stale("cannot be named"))?;
        engine_of(world, chain)?.transactions(&Watched::new(endpoint), &plan, height + 1..=view.height).await
    } else {
        let site = Site::reach(world, state, key).await?;
        site.engine.transactions(site.adapter.as_ref(), &site.plan, height + 1..=view.height).await
    };
    let count = match counted {
        Ok(count) => count,
        // A ledger that cannot say has no such figure; blocks that a node no longer keeps are not counted.
        Err(EngineError::Unsupported(_) | EngineError::NotFound(_)) => return Ok(()),
        Err(error) => return Err(Trouble::Stale(format!("its blocks cannot be read: {error}"))),
    };
    let rate = count.saturating_mul(1_000_000) / (view.block_time_ms - time);
    series.record(&resource, Metric::Transactions, now, number(rate));
    Ok(())
}

/// Whether a chain whose newest block is so old and whose blocks come so often should have made another one long ago. Between two
/// blocks that are on time nothing is known of what is carried.
fn is_overdue(age_ms: u64, every_ms: Option<u64>) -> bool {
    every_ms.is_some_and(|every| age_ms > every.saturating_mul(OVERDUE_TIMES).max(OVERDUE_MS_MIN))
}

/// How far the clock of a host that was asked at `before` and had answered at `after` is from ours; `None` if it took so long that
/// the time at which it read its clock is not known well enough.
fn clock_offset(clock_ms: u64, before: u64, after: u64) -> Option<i64> {
    let took = after.checked_sub(before)?;
    (took <= ANSWER_MS_MAX).then(|| number(clock_ms).saturating_sub(number(before.midpoint(after))))
}

/// On the desk figures have names of their own: they wait for nothing and nothing waits for them.
fn desk(resource: &str) -> String {
    format!("figures of {resource}")
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

async fn ask_host(world: &World, state: &State, id: &HostId) -> Result<(), Trouble> {
    let (series, resource) = (world.observed.series(), name::host(id));
    series.asked(&resource, (world.clock)().0);
    let host = state.hosts.get(id).ok_or_else(|| Trouble::Stale(format!("host {id} is gone")))?;
    let asked = async {
        let adapter = world.hosts.connect(host).await?;
        // The connection and the certificates take a time of their own.
        let before = (world.clock)().0;
        let load = adapter.load().await;
        let after = (world.clock)().0;
        if load.is_ok() {
            world.observed.reached_with(id, adapter.expiries().await);
        }
        load.map(|load| load.map(|load| (clock_offset(load.clock_ms, before, after), load)))
    };
    let answer = asked.await;
    let now = (world.clock)().0;
    let (offset, load) = match answer {
        Ok(Some(answer)) => answer,
        Ok(None) => return Ok(()),
        Err(error) => {
            series.record(&resource, Metric::Reachable, now, 0);
            return Err(error.into());
        }
    };
    series.record(&resource, Metric::Reachable, now, 1);
    series.record_ratio(&resource, Metric::Cpu, now, load.cpu_busy_ticks, load.cpu_total_ticks);
    series.record(&resource, Metric::Load, now, number(load.load_milli));
    series.record(
        &resource,
        Metric::Memory,
        now,
        number(load.memory_bytes.saturating_sub(load.memory_available_bytes)),
    );
    series.record(&resource, Metric::DiskFree, now, number(load.disk_free_bytes));
    if let Some(offset) = offset {
        series.record(&resource, Metric::ClockOffset, now, offset);
    }
    Ok(())
}

async fn ask_node(world: &World, state: &State, key: &NodeKey) -> Result<(), Trouble> {
    let (series, resource) = (world.observed.series(), name::node(key));
    series.asked(&resource, (world.clock)().0);
    if let Some(node) = state.nodes.get(key) {
        series.record(&resource, Metric::Starts, (world.clock)().0, number(node.generation));
    }
    let site = Site::reach(world, state, key).await?;
    let proofs = double_signs(world, state, &site).await;
    let Some(usage) = site.adapter.usage(&site.plan.key).await? else { return proofs };
    let now = (world.clock)().0;
    series.record_share(&resource, Metric::Cpu, now, usage.cpu_ms);
    series.record(&resource, Metric::Memory, now, number(usage.memory_bytes));
    if let Some(bytes) = usage.disk_bytes {
        series.record(&resource, Metric::DiskUsed, now, number(bytes));
    }
    proofs
}

/// Asks a node for the proofs of double signing that it keeps, once a minute.
async fn double_signs(world: &World, state: &State, site: &Site) -> Result<(), Trouble> {
    let (series, now) = (world.observed.series(), (world.clock)().0);
    let about = format!("proofs at {}", name::node(&site.node.key));
    if !series.is_due_after(&about, now, PROOFS_EVERY_MS) {
        return Ok(());
    }
    series.asked(&about, now);
    let found = match site.engine.governance(site.adapter.as_ref(), &site.plan).await {
        Ok(found) => found,
        Err(EngineError::Unsupported(_)) => return Ok(()),
        Err(error) => return Err(Trouble::Stale(format!("proofs of double signing cannot be read: {error}"))),
    };
    let nodes: Vec<&Node> = nodes_of(state, &site.node.key.chain).collect();
    let named = |node: &&&Node, validator: &str| {
        node.identity.as_ref().is_some_and(|it| site.engine.is_named(&public(it), validator))
    };
    let proofs = found.evidence.into_iter().map(|it| DoubleSign {
        node: nodes.iter().find(|node| named(node, &it.node_id)).map(|node| node.key.clone()),
        height: it.height,
        round: it.round,
        node_id: it.node_id,
        kind: it.kind,
    });
    world.observed.double_signed(&site.node.key.chain, proofs);
    Ok(())
}

/// Keeps whether the process of a node runs.
pub(super) fn saw(world: &World, key: &NodeKey, runs: bool) {
    world.observed.series().record(&name::node(key), Metric::Up, (world.clock)().0, i64::from(runs));
}

/// Keeps what a node said of itself; `before` is its height and block time in the last look.
pub(super) fn heard(world: &World, key: &NodeKey, health: &NodeHealth, before: Option<(u64, u64)>) {
    let (series, resource, now) = (world.observed.series(), name::node(key), (world.clock)().0);
    series.record(&resource, Metric::Height, now, number(health.height));
    series.record(&resource, Metric::Peers, now, i64::from(health.peers));
    series.record(&resource, Metric::Syncing, now, i64::from(health.syncing));
    let (chain, best) = (name::chain(&key.chain), world.observed.best_height(key, now).max(health.height));
    series.record(&chain, Metric::Height, now, number(best));
    series.record(&chain, Metric::Peers, now, i64::from(health.peers));
    if health.height == best && health.block_time_ms > 0 {
        series.record(&chain, Metric::BlockAge, now, number(now.saturating_sub(health.block_time_ms)));
    }
    let Some((height, time)) = before else { return };
    if let (Some(blocks), Some(took)) =
        (health.height.checked_sub(height).filter(|blocks| *blocks > 0), health.block_time_ms.checked_sub(time))
    {
        series.record(&resource, Metric::BlockTime, now, number(took / blocks));
    }
}

/// Keeps the round in which a validator last signed.
pub(super) fn signed(world: &World, key: &NodeKey, signed: Signed) {
    let (series, now) = (world.observed.series(), (world.clock)().0);
    for resource in [name::node(key), name::chain(&key.chain)] {
        series.record(&resource, Metric::Round, now, i64::from(signed.round));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_blocks_on_time_nothing_is_known() {
        let minute = Some(60_000);
        assert_eq!([59_000, 120_000, 180_001].map(|age| is_overdue(age, minute)), [false, false, true]);
        assert_eq!([4_000, 15_000, 15_001].map(|age| is_overdue(age, Some(1_000))), [false, false, true]);
        assert!(!is_overdue(u64::MAX, None), "of a chain whose pace is not known nothing is overdue");
        assert!(!is_overdue(u64::MAX, Some(u64::MAX)));
    }

    #[test]
    fn a_slow_answer_says_nothing_of_the_clock() {
        assert_eq!(clock_offset(10_600, 10_000, 11_000), Some(100));
        assert_eq!(clock_offset(9_000, 10_000, 10_200), Some(-1_100));
        assert_eq!(clock_offset(10_600, 10_000, 11_001), None);
        assert_eq!(clock_offset(10_600, 10_000, 9_999), None, "our clock was set back meanwhile");
    }
}
