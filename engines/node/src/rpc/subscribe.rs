//! `eth_subscribe` over WebSocket: `newHeads`, `logs`, `newPendingTransactions`, `syncing`.
//!
//! Each subscription is a task that follows a watched number and reads the rest from the store, so a client that is a few
//! blocks late still gets every block, and nothing piles up for one that is slow. A client that takes nothing for
//! `rpc.slow_ms_max`, or falls further behind than is kept, is cut with a reason in its stream and in the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jsonrpsee::core::traits::IdProvider;
use jsonrpsee::core::{SubscriptionError, to_json_raw_value};
use jsonrpsee::server::{PendingSubscriptionSink, SubscriptionSink};
use jsonrpsee::types::{ErrorObjectOwned, Params, SubscriptionId};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::logs::{Criteria, FilterRequest};
use super::types::{self, Args, invalid};
use super::{eth, internal};
use crate::node::Shared;
use crate::store::Snapshot;

/// Blocks that a subscription may be behind.
const BLOCKS_BEHIND_MAX: u64 = 1_000;
/// How often it is looked whether catching up has begun or ended.
const SYNC_LOOK: Duration = Duration::from_millis(500);

/// 32 hex digits that cannot be guessed.
pub(super) fn random_id() -> String {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the system's source of randomness works: keys were made with it");
    format!("0x{}", hex::encode(bytes))
}

/// Ids in the form that Ethereum's clients expect.
#[derive(Debug)]
pub(super) struct Ids;

impl IdProvider for Ids {
    fn next_id(&self) -> SubscriptionId<'static> {
        SubscriptionId::Str(random_id().into())
    }
}

/// What a client wants to be told.
enum Topic {
    Heads,
    Logs(Criteria),
    Pending { full: bool },
    Syncing,
}

impl Topic {
    fn read(params: &Params<'_>) -> Result<Self, ErrorObjectOwned> {
        let mut args = Args::new(params);
        let name: String = args.need("subscription name")?;
        match name.as_str() {
            "newHeads" => Ok(Self::Heads),
            "newPendingTransactions" => Ok(Self::Pending { full: args.maybe("full")?.unwrap_or(false) }),
            "syncing" => Ok(Self::Syncing),
            "logs" => {
                let filter: FilterRequest = args.maybe("filter")?.unwrap_or_default();
                Ok(Self::Logs(filter.split()?.1))
            }
            other => Err(invalid(format!(
                "no \"{other}\" subscription in eth namespace; there are newHeads, logs, newPendingTransactions, syncing"
            ))),
        }
    }
}

/// Why a subscription ended.
enum End {
    /// The client left or unsubscribed.
    Closed,
    /// The client did not keep up.
    Slow(String),
    /// The node failed.
    Failed(ErrorObjectOwned),
}

impl From<ErrorObjectOwned> for End {
    fn from(error: ErrorObjectOwned) -> Self {
        Self::Failed(error)
    }
}

/// Serves one subscription until the client leaves, unsubscribes or is cut.
pub(super) async fn serve(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    shared: Arc<Shared>,
) -> Result<(), SubscriptionError> {
    let topic = match Topic::read(&params) {
        Ok(topic) => topic,
        Err(error) => {
            pending.reject(error).await;
            return Ok(());
        }
    };
    // Taken before the client hears of the subscription, so that it misses nothing after.
    let (heads, admitted) = (shared.feed.heads(), shared.feed.admitted());
    // The client may be gone already.
    let Ok(sink) = pending.accept().await else { return Ok(()) };
    shared.metrics.subscriptions.fetch_add(1, Ordering::Relaxed);
    let work = async {
        match topic {
            Topic::Heads => follow_blocks(&shared, &sink, heads, header).await,
            Topic::Logs(criteria) => {
                follow_blocks(&shared, &sink, heads, move |snapshot, number| criteria.in_block(snapshot, number)).await
            }
            Topic::Pending { full } => follow_pool(&shared, &sink, admitted, full).await,
            Topic::Syncing => follow_sync(&shared, &sink).await,
        }
    };
    let end = tokio::select! {
        end = work => end,
        () = sink.closed() => End::Closed,
    };
    shared.metrics.subscriptions.fetch_sub(1, Ordering::Relaxed);
    match end {
        End::Closed => Ok(()),
        End::Slow(reason) => {
            shared.metrics.slow_subscribers.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(reason, "a subscription is cut");
            Err(SubscriptionError::from(reason))
        }
        End::Failed(error) => Err(SubscriptionError::from(error.message().to_owned())),
    }
}

fn header(snapshot: &Snapshot, number: u64) -> Result<Vec<Value>, ErrorObjectOwned> {
    Ok(vec![types::header(&eth::require(snapshot, number)?)?])
}

/// Sends what `of_block` finds in each new block.
async fn follow_blocks(
    shared: &Arc<Shared>,
    sink: &SubscriptionSink,
    mut heads: watch::Receiver<u64>,
    of_block: impl Fn(&Snapshot, u64) -> Result<Vec<Value>, ErrorObjectOwned> + Send + Sync + 'static,
) -> End {
    let of_block = Arc::new(of_block);
    let mut next = *heads.borrow_and_update() + 1;
    loop {
        if heads.changed().await.is_err() {
            return End::Closed;
        }
        let head = *heads.borrow_and_update();
        if head.saturating_sub(next) > BLOCKS_BEHIND_MAX {
            return End::Slow(format!("the subscription is {} blocks behind", head - next));
        }
        while next <= head {
            match read(shared, Arc::clone(&of_block), next).await {
                Ok(found) => {
                    for value in found {
                        if let Err(end) = send(shared, sink, &value).await {
                            return end;
                        }
                    }
                }
                Err(error) => return End::Failed(error),
            }
            next += 1;
        }
    }
}

/// Reads on a thread that may wait, a few at a time: the threads of the runtime serve the peers too.
async fn read<F>(shared: &Arc<Shared>, of_block: Arc<F>, number: u64) -> Result<Vec<Value>, ErrorObjectOwned>
where
    F: Fn(&Snapshot, u64) -> Result<Vec<Value>, ErrorObjectOwned> + Send + Sync + 'static,
{
    let stopped = || ErrorObjectOwned::owned(-32603, "the node stops", None::<()>);
    let _turn = shared.rpc.readers.acquire().await.map_err(|_| stopped())?;
    let shared = Arc::clone(shared);
    let work = move || of_block(&shared.store.snapshot().map_err(internal)?, number);
    tokio::task::spawn_blocking(work).await.map_err(|_| stopped())?
}

async fn follow_pool(shared: &Shared, sink: &SubscriptionSink, mut admitted: watch::Receiver<u64>, full: bool) -> End {
    let mut next = *admitted.borrow_and_update();
    loop {
        if admitted.changed().await.is_err() {
            return End::Closed;
        }
        let hashes = match shared.feed.admitted_since(next) {
            Ok((hashes, end)) => {
                next = end;
                hashes
            }
            Err(slow) => return End::Slow(format!("the subscription missed {} transactions", slow.missed)),
        };
        for hash in hashes {
            let value = match (full, full.then(|| shared.mempool.get(hash)).flatten()) {
                (false, _) => json!(hash),
                (true, Some((tx, from))) => match types::transaction(&tx, from, None) {
                    Ok(value) => value,
                    Err(error) => return End::Failed(error),
                },
                // In a block already.
                (true, None) => continue,
            };
            if let Err(end) = send(shared, sink, &value).await {
                return end;
            }
        }
    }
}

/// Says at once how it stands, then each change.
async fn follow_sync(shared: &Shared, sink: &SubscriptionSink) -> End {
    let mut said = None;
    let mut clock = tokio::time::interval(SYNC_LOOK);
    loop {
        clock.tick().await;
        let status = eth::syncing(shared);
        let is_syncing = status.is_object();
        if said != Some(is_syncing) {
            said = Some(is_syncing);
            let value = if is_syncing { json!({ "syncing": true, "status": status }) } else { json!(false) };
            if let Err(end) = send(shared, sink, &value).await {
                return end;
            }
        }
    }
}

async fn send(shared: &Shared, sink: &SubscriptionSink, value: &Value) -> Result<(), End> {
    let message = to_json_raw_value(value).map_err(|e| End::Slow(e.to_string()))?;
    let patience = Duration::from_millis(shared.rpc.config.slow_ms_max);
    match sink.send_timeout(message, patience).await {
        Ok(()) => Ok(()),
        Err(jsonrpsee::server::SendTimeoutError::Closed(_)) => Err(End::Closed),
        Err(jsonrpsee::server::SendTimeoutError::Timeout(_)) => {
            Err(End::Slow(format!("the client has read nothing for {} ms", patience.as_millis())))
        }
    }
}
