//! Transfers as fast as a network takes them.
//!
//! All are signed beforehand. Each sender belongs to one connection, each connection to one node, so that nonces arrive
//! in order; batches of `eth_sendRawTransaction` go out while fewer than a bound are under way. What counts is what
//! stands in blocks: those whose arrival at node 0 falls into the time, after a few seconds of warming up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::network::{Figures, NODES, Network};
use crate::rpc::Rpc;
use crate::transfers::{Accounts, SENDERS};

/// Not counted at the beginning.
const WARM_UP: Duration = Duration::from_secs(5);
/// A slow network's second block is waited for so much longer.
const SLOW_MAX: Duration = Duration::from_secs(90);
/// Transfers in one batch.
const BATCH: usize = 50;
/// Sent and not yet in a block, in all.
const UNDER_WAY_MAX: usize = 9_000;
/// Signed for each second of the load; more than either network gets through.
const SIGNED_PER_S: usize = 5_000;

#[derive(Debug, Default)]
struct Shared {
    taken: AtomicUsize,
    in_blocks: AtomicUsize,
    refused: AtomicUsize,
    stop: AtomicBool,
}

/// Loads the network for `length` and notes what it got through.
pub(crate) async fn run(
    network: &Network,
    accounts: &mut Accounts,
    length: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let each = SIGNED_PER_S * (length + WARM_UP).as_secs() as usize / (SENDERS - 1);
    let mut queues: Vec<Vec<Vec<String>>> = (0..NODES).map(|_| Vec::new()).collect();
    for sender in 1..SENDERS {
        queues[sender % NODES].push(accounts.ahead(sender, each, network.gas_price)?);
    }
    let shared = Arc::new(Shared::default());
    let mut tasks = JoinSet::new();
    for (address, senders) in network.rpc.iter().zip(queues) {
        let rpc = Rpc::connect(*address).await?;
        tasks.spawn(send(rpc, senders, Arc::clone(&shared)));
    }
    let watched = watch(network, length, &shared, figures).await;
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        if let Some(refusal) = task.context("a sender's task")?? {
            figures.first_refusal = refusal;
        }
    }
    figures.refused = shared.refused.load(Ordering::Relaxed);
    watched?;
    drain(network, &shared).await
}

/// Sends what belongs to one connection, a batch of each sender in turn; returns the first refusal.
async fn send(mut rpc: Rpc, senders: Vec<Vec<String>>, shared: Arc<Shared>) -> Result<Option<String>> {
    let mut first = None;
    let longest = senders.iter().map(Vec::len).max().unwrap_or(0);
    for from in (0..longest).step_by(BATCH) {
        for transfers in &senders {
            while shared.taken.load(Ordering::Relaxed) > shared.in_blocks.load(Ordering::Relaxed) + UNDER_WAY_MAX {
                if shared.stop.load(Ordering::Relaxed) {
                    return Ok(first);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if shared.stop.load(Ordering::Relaxed) {
                return Ok(first);
            }
            let batch = &transfers[from.min(transfers.len())..(from + BATCH).min(transfers.len())];
            let calls = batch.iter().enumerate().map(
                |(id, raw)| json!({ "jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [raw] }),
            );
            let answers = rpc.post(Value::Array(calls.collect()).to_string()).await?;
            for answer in answers.as_array().context("a batch's answer")? {
                if let Some(error) = answer.get("error") {
                    first.get_or_insert_with(|| error.to_string());
                    shared.refused.fetch_add(1, Ordering::Relaxed);
                } else {
                    shared.taken.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
    Ok(first)
}

/// Follows the blocks for warm-up and `length`.
async fn watch(network: &Network, length: Duration, shared: &Shared, figures: &mut Figures) -> Result<()> {
    let mut rpc = Rpc::connect(network.rpc[0]).await?;
    let mut height = rpc.height().await?;
    let start = Instant::now();
    let (mut counted, mut first, mut last) = (0, None, None);
    // A network that gets through little is given time for two blocks that count, so that it has a figure at all.
    while start.elapsed() < WARM_UP + length || (last.is_none() && start.elapsed() < WARM_UP + length + SLOW_MAX) {
        if rpc.height().await? <= height {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        height += 1;
        let arrived = Instant::now();
        let transactions = rpc.transactions(height).await?;
        shared.in_blocks.fetch_add(transactions, Ordering::Relaxed);
        if start.elapsed() < WARM_UP {
            continue;
        }
        // Time runs from the first block's arrival to the last one's: the first block's transfers are before it.
        match first {
            None => first = Some((arrived, network.cpu_s()?)),
            Some(_) => {
                counted += transactions;
                figures.blocks_under_load += 1;
                last = Some((arrived, network.cpu_s()?));
            }
        }
    }
    let ((first, cpu_before), (last, cpu_after)) = first.zip(last).context("no two blocks under load")?;
    figures.transfers = counted;
    figures.per_s = counted as f64 / (last - first).as_secs_f64();
    figures.cpu_us_per_transfer = (cpu_after - cpu_before) * 1e6 / counted.max(1) as f64;
    Ok(())
}

/// Waits until nothing is under way any more, so that disk and memory are those of all of it.
async fn drain(network: &Network, shared: &Shared) -> Result<()> {
    let mut rpc = Rpc::connect(network.rpc[0]).await?;
    let mut empty = 0;
    let mut height = rpc.height().await?;
    let until = Instant::now() + Duration::from_secs(30);
    while empty < 2 && Instant::now() < until {
        if rpc.height().await? <= height {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        height += 1;
        let transactions = rpc.transactions(height).await?;
        shared.in_blocks.fetch_add(transactions, Ordering::Relaxed);
        empty = if transactions == 0 { empty + 1 } else { 0 };
    }
    Ok(())
}
