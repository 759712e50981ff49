//! A replica's disk: what was written and what is durable are two things.
//!
//! Writes are seen at once, become durable in the order in which they were made, some simulated time later, and only
//! then are they acknowledged. A crash keeps what is durable and, for each seed another, a first part of what was on its
//! way: never more, never out of order. The writer ([`Disk::write_out`]) is a task of the replica's host and dies with it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hanse_raft::ReplicaId;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::{Notify, oneshot};

use crate::dice::Dice;
use crate::mutant::Mutant;
use crate::types::{Entry, LogId, SnapshotMeta, Types, Vote};
use crate::world::Shared;

/// A snapshot as it lies on the disk.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) meta: SnapshotMeta,
    pub(crate) bytes: Arc<[u8]>,
}

/// Everything a disk holds.
#[derive(Clone, Default)]
pub(crate) struct Content {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) log: BTreeMap<u64, Entry>,
    pub(crate) snapshot: Option<Saved>,
}

impl Content {
    /// Last position, counting what was purged.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.log.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }

    /// Whether the entry is there, or covered by a snapshot.
    pub(crate) fn has(&self, id: LogId) -> bool {
        let covered = self.snapshot.as_ref().and_then(|saved| saved.meta.last_log_id);
        let found = self.log.get(&id.index).map(|entry| entry.log_id);
        found.map_or_else(|| covered.max(self.purged).is_some_and(|last| last.index >= id.index), |found| found == id)
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Vote(vote) => self.vote = Some(*vote),
            Write::Committed(committed) => self.committed = *committed,
            Write::Append(entries) => {
                self.log.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
            }
            Write::Truncate(from) => drop(self.log.split_off(from)),
            Write::Purge(upto) => {
                self.purged = self.purged.max(Some(*upto));
                self.log = self.log.split_off(&(upto.index + 1));
            }
            Write::Snapshot(saved) => {
                let covers = |kept: &Saved| kept.meta.last_log_id > saved.meta.last_log_id;
                if !self.snapshot.as_ref().is_some_and(covers) {
                    self.snapshot = Some(saved.clone());
                }
            }
        }
    }
}

/// One write.
enum Write {
    Vote(Vote),
    Committed(Option<LogId>),
    Append(Vec<Entry>),
    Truncate(u64),
    Purge(LogId),
    Snapshot(Saved),
}

enum Done {
    Nobody,
    Flushed(IOFlushed<Types>),
    Told(oneshot::Sender<()>),
}

struct Inner {
    seen: Content,
    durable: Content,
    queue: VecDeque<(Write, Done)>,
    dice: Dice,
    /// Longest time of one write, in milliseconds; a fault raises it.
    slow_ms: u64,
}

/// A disk; a clone is another handle. It outlives its replica's crashes.
#[derive(Clone)]
pub(crate) struct Disk {
    id: ReplicaId,
    shared: Shared,
    inner: Arc<Mutex<Inner>>,
    wake: Arc<Notify>,
}

impl Disk {
    pub(crate) fn new(id: ReplicaId, shared: Shared, seed: u64) -> Self {
        let dice = Dice::new(seed ^ id.0, "disk");
        let (seen, durable) = (Content::default(), Content::default());
        let inner = Inner { seen, durable, queue: VecDeque::new(), dice, slow_ms: 5 };
        Self { id, shared, inner: Arc::new(Mutex::new(inner)), wake: Arc::new(Notify::new()) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what is durable.
    pub(crate) fn durable<T>(&self, look: impl FnOnce(&Content) -> T) -> T {
        look(&self.inner().durable)
    }

    /// Looks at what the replica sees.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Content) -> T) -> T {
        look(&self.inner().seen)
    }

    /// Sets how long a write may take at most.
    pub(crate) fn set_slow(&self, slow_ms: u64) {
        self.inner().slow_ms = slow_ms;
    }

    /// The power goes: what is not durable is gone, but for a first part that had just arrived.
    pub(crate) fn crash(&self) {
        let mut inner = self.inner();
        let queued = u64::try_from(inner.queue.len()).expect("a queue in memory");
        let arrived = if inner.dice.chance(50) { inner.dice.range(0, queued) } else { 0 };
        let queue = std::mem::take(&mut inner.queue);
        for (write, _) in queue.iter().take(usize::try_from(arrived).expect("at most the queue's length")) {
            inner.durable.apply(write);
        }
        if self.shared.has(Mutant::IdAfterWipe) {
            inner.durable = Content::default();
        }
        inner.seen = inner.durable.clone();
    }

    /// Makes writes durable in order, for ever.
    pub(crate) async fn write_out(self) {
        loop {
            let (count, delay_ms) = {
                let mut inner = self.inner();
                let slow_ms = inner.slow_ms;
                (inner.queue.len(), inner.dice.range(0, slow_ms))
            };
            if count == 0 {
                self.wake.notified().await;
                continue;
            }
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            let done: Vec<(Write, Done)> = {
                let mut inner = self.inner();
                let batch: Vec<_> = inner.queue.drain(..count).collect();
                batch.iter().for_each(|(write, _)| inner.durable.apply(write));
                batch
            };
            for (write, done) in done {
                if let Write::Vote(vote) = &write {
                    self.shared.world().oracle.vote_durable(self.id, *vote);
                }
                match done {
                    Done::Nobody => {}
                    Done::Flushed(callback) => callback.io_completed(Ok(())),
                    // The writer may have given up.
                    Done::Told(sender) => drop(sender.send(())),
                }
            }
        }
    }

    fn push(&self, write: Write, done: Done) {
        let mut inner = self.inner();
        inner.seen.apply(&write);
        inner.queue.push_back((write, done));
        self.wake.notify_one();
    }

    async fn durably(&self, write: Write) -> Result<(), io::Error> {
        let (sender, receiver) = oneshot::channel();
        self.push(write, Done::Told(sender));
        receiver.await.map_err(io::Error::other)
    }

    /// Writes a snapshot; durable when this returns.
    pub(crate) async fn save_snapshot(&self, saved: Saved) -> Result<(), io::Error> {
        self.durably(Write::Snapshot(saved)).await
    }
}

impl RaftLogReader<Types> for Disk {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.seen(|content| content.log.range(range).map(|(_, entry)| entry.clone()).collect()))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.seen(|content| content.vote))
    }
}

impl RaftLogStorage<Types> for Disk {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(self.seen(|content| LogState { last_purged_log_id: content.purged, last_log_id: content.last() }))
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if self.shared.has(Mutant::SkipVote) {
            self.inner().seen.vote = Some(*vote);
            self.shared.world().oracle.vote_durable(self.id, *vote);
            return Ok(());
        }
        self.durably(Write::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.push(Write::Committed(committed), Done::Nobody);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.seen(|content| content.committed))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let before = entries.first().and_then(|first| first.log_id.index.checked_sub(1));
        let before = self.seen(|content| {
            before.and_then(|index| {
                content.log.get(&index).map(|e| e.log_id).or(content.purged.filter(|p| p.index == index))
            })
        });
        self.shared.world().appended(self.id, before, &entries);
        if self.shared.has(Mutant::AckBeforeDurable) {
            self.push(Write::Append(entries), Done::Nobody);
            callback.io_completed(Ok(()));
        } else {
            self.push(Write::Append(entries), Done::Flushed(callback));
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        let cut: Vec<LogId> = self.seen(|content| content.log.range(from..).map(|(_, entry)| entry.log_id).collect());
        self.shared.world().truncated(self.id, &cut);
        self.durably(Write::Truncate(from)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.durably(Write::Purge(upto)).await
    }
}
