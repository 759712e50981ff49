//! Keeps short what a start must do again: a snapshot after so many requests, and one at the orderly end.
//!
//! openraft asks for a snapshot after so many entries. An entry may hold hundreds of requests (`batch`), and it is requests
//! that a start applies again and compares with history; so they are counted here too. What it makes again is compared with
//! what lies on disk a run at a time.
//!
//! What this never does: hold up the end for long, or make a snapshot while the disk is full.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use tokio_util::sync::CancellationToken;

use crate::durable::Durable;
use crate::error::StoreError;
use crate::machine::{Core, Machine};
use crate::types::Types;

/// Requests after the newest snapshot at which another is made: some seconds of a start.
const REQUESTS_MAX: u64 = 100_000;
/// How often they are counted.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Requests that are not worth a snapshot at the end: a start does them again in less time than it takes to make one.
const END_REQUESTS_MIN: u64 = 1_000;
/// How long the end waits for its snapshot.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Asks for snapshots until `end`.
pub(crate) async fn keep_short(raft: Raft<Types, Machine>, core: Arc<Core>, end: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut asked_at = 0;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = looks.tick() => {}
        }
        let (revision, kept) = core.revisions();
        if revision.saturating_sub(kept.max(asked_at)) < REQUESTS_MAX {
            continue;
        }
        asked_at = revision;
        if raft.trigger().snapshot().await.is_err() {
            // The core has stopped, and says why itself.
            return;
        }
    }
}

/// Makes a last snapshot, if there is something to gain and room for it.
pub(crate) async fn shorten(raft: &Raft<Types, Machine>, core: &Core) {
    let (revision, kept) = core.revisions();
    let wanted = core.view().applied;
    if revision.saturating_sub(kept) < END_REQUESTS_MIN || core.store.short_of_space().is_some() {
        return;
    }
    if raft.trigger().snapshot().await.is_err() {
        return;
    }
    let made = raft.wait(Some(END_LIMIT)).metrics(|now| now.snapshot >= wanted, "a snapshot at the end").await;
    if let Err(error) = made {
        tracing::warn!(%error, "no snapshot at the end; the next start takes longer");
    }
}

/// History that a replay made, by kind in the order of its numbers: entry, number, record.
pub(crate) type Replayed = BTreeMap<&'static str, Vec<(u64, u64, Vec<u8>)>>;

/// Gives the first entry whose record is not what lies on disk. Blocks on the disk.
pub(crate) fn differs(store: &Durable, kind: &str, made: &[(u64, u64, Vec<u8>)]) -> Result<Option<u64>, StoreError> {
    let (Some((_, first, _)), Some((_, last, _))) = (made.first(), made.last()) else { return Ok(None) };
    // One read for all of them: a replay makes hundreds of thousands.
    let found: BTreeMap<u64, Vec<u8>> = store.records(kind, *first, *last, made.len())?.into_iter().collect();
    Ok(made.iter().find(|(_, seq, body)| found.get(seq) != Some(body)).map(|(index, _, _)| *index))
}
