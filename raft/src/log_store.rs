//! openraft's log and vote over the write-ahead log.
//!
//! `append` returns when the entries can be read; its callback is called when they are durable, in order with votes. The
//! log is a run without holes from the entry after `purged` to `last`; that is checked at open and at each append.
//!
//! It never skips an entry it cannot read, and never lets an entry go whose history is not durable.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use futures::{Stream, TryStreamExt};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, RaftLogReader};

use crate::durable::Durable;
use crate::error::StoreError;
use crate::types::{Entry, LogId, ReplicaId, Types, Vote};
use crate::wal::Wal;

/// Bytes of entries given to one call to a peer, so that a message stays far under the limit; one entry may exceed it.
const REPLICATE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The log of one replica; a clone is another handle.
#[derive(Clone)]
pub struct LogStore {
    wal: Wal,
    /// What must be durable before entries go; none for a log by itself.
    store: Option<Durable>,
    /// This replica. As a leader it has the entry on its way to the others while it syncs; a follower only waits for its sync,
    /// so it may as well make it at once.
    own: Option<ReplicaId>,
}

impl LogStore {
    /// Puts openraft's view before a log that was opened and checked.
    pub(crate) fn new(wal: Wal, store: Option<Durable>) -> Self {
        Self { wal, store, own: None }
    }

    /// Tells the log whose it is; until then it takes all entries for its own.
    pub fn belong_to(&mut self, own: ReplicaId) {
        self.own = Some(own);
    }

    /// Index up to which the log is purged.
    pub(crate) fn purged_index(&self) -> Option<u64> {
        self.wal.ends().0.map(|id| id.index)
    }

    async fn read(&self, from: u64, to: u64, bytes_max: Option<usize>) -> Result<Vec<Entry>, io::Error> {
        if let Some(entries) = self.wal.read_kept(from, to, bytes_max) {
            return Ok(entries);
        }
        let wal = self.wal.clone();
        let read = move || wal.read(from, to, bytes_max);
        Ok(tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??)
    }
}

/// Gives the half-open range of indexes.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(n) => *n,
        Bound::Excluded(n) => n.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(n) => n.saturating_add(1),
        Bound::Excluded(n) => *n,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = bounds(&range);
        self.read(from, to, None).await
    }

    /// Entries to apply, a few at a time: a long log is never in memory as a whole.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = bounds(&range);
        let log = self.clone();
        let chunks = futures::stream::try_unfold(from, move |next| {
            let log = log.clone();
            async move {
                let entries = if next < to { log.read(next, to, Some(REPLICATE_BYTES_MAX)).await? } else { Vec::new() };
                let chunk = entries.last().map(|last| last.log_id.index + 1);
                let entries = entries.into_iter().map(Ok::<Entry, io::Error>);
                Ok::<_, io::Error>(chunk.map(|next| (futures::stream::iter(entries), next)))
            }
        });
        Box::pin(chunks.try_flatten())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.wal.vote().map(Into::into))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, Some(REPLICATE_BYTES_MAX)).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let (purged, last) = self.wal.ends();
        Ok(LogState { last_purged_log_id: purged.map(Into::into), last_log_id: last.map(Into::into) })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        Ok(self.wal.save_vote((*vote).into()).await?)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.wal.set_committed(committed.map(Into::into));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.wal.committed().map(Into::into))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let done = Box::new(move |result: Result<(), StoreError>| callback.io_completed(result.map_err(Into::into)));
        let leads = |entry: &Entry| self.own.is_none_or(|own| entry.log_id.leader_id.node_id == own);
        let here = !entries.iter().any(leads);
        Ok(self.wal.append(entries, here, done).await?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let (purged, last) = self.wal.ends();
        let keep = last_log_id.map(Into::into).or(purged);
        // Nothing to drop is written down all the same: an answer means that what came before is durable.
        let nothing = last.map(|id| id.index) <= keep.map(|id| id.index);
        Ok(self.wal.truncate_after(if nothing { last } else { keep }).await?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        if self.wal.ends().0.is_some_and(|purged| purged.index >= log_id.index) {
            return Ok(());
        }
        // Only these entries could make the history again that is still in memory.
        if let Some(store) = &self.store {
            match store.write_durably(Vec::new()).await {
                // They stay: openraft asks again with the next snapshot.
                Err(StoreError::Full(shortage)) => {
                    tracing::warn!(%shortage, "the log is not shortened: history waits for room on the disk");
                    return Ok(());
                }
                written => written?,
            }
        }
        Ok(self.wal.purge(log_id.into()).await?)
    }
}
