//! openraft's log and vote over the durable store.
//!
//! `append` returns when the entries can be read; its callback is called when they are durable, in order with votes. The
//! log is a run without holes from the entry after `purged` to `last`; that is checked at open, entry by entry, and at
//! each append. Truncation first lowers the high-water mark, then deletes: so the mark never speaks of what is gone.
//!
//! It never skips an entry it cannot read.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, TryStreamExt};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, RaftLogReader};

use crate::codec::{self, EntryV1, LogIdV1, VoteV1};
use crate::durable::{Durable, MarkChange, Op, put};
use crate::error::StoreError;
use crate::mark::Mark;
use crate::types::{Entry, LogId, Types, Vote};

const VOTE: &[u8] = b"m/vote";
const PURGED: &[u8] = b"m/purged";
const COMMITTED: &[u8] = b"m/committed";
/// Entries read from disk at once while the log is checked.
const CHECK_CHUNK: usize = 64;
/// Bytes of entries given to one call to a peer, so that a message stays far under the limit; one entry may exceed it.
const REPLICATE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Gives the key of an entry.
pub(crate) fn log_key(index: u64) -> Vec<u8> {
    let mut key = vec![b'l'];
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// The log of one replica; a clone is another handle.
#[derive(Clone)]
pub struct LogStore {
    store: Durable,
    ends: Arc<Mutex<Ends>>,
}

/// What is known without reading.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    purged: Option<LogId>,
    last: Option<LogId>,
}

impl LogStore {
    /// Reads and checks the whole log against the mark. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Lost`] on a bad checksum, a hole, or a mark above the data.
    pub(crate) fn open(store: Durable, mark: Mark) -> Result<Self, StoreError> {
        let purged: Option<LogIdV1> = read_meta(&store, PURGED)?;
        let vote: Option<VoteV1> = read_meta(&store, VOTE)?;
        let (last, marked) = check_entries(&store, purged, mark)?;
        check_mark(purged, last, marked, vote, mark)?;
        let ends = Ends { purged: purged.map(Into::into), last: last.or(purged).map(Into::into) };
        Ok(Self { store, ends: Arc::new(Mutex::new(ends)) })
    }

    /// Index up to which the log is purged.
    pub(crate) fn purged_index(&self) -> Option<u64> {
        self.ends().purged.map(|id| id.index)
    }

    fn ends(&self) -> Ends {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_ends(&self, change: impl FnOnce(&mut Ends)) {
        change(&mut self.ends.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn read(&self, from: u64, to: u64, bytes_max: Option<usize>) -> Result<Vec<Entry>, io::Error> {
        let store = self.store.clone();
        let read = move || read_entries(&store, from, to, bytes_max);
        Ok(tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??)
    }
}

/// Reads one record of a few bytes.
fn read_meta<T: serde::de::DeserializeOwned>(store: &Durable, key: &[u8]) -> Result<Option<T>, StoreError> {
    let Some(body) = store.get(key)? else { return Ok(None) };
    codec::decode(&body).map(Some).map_err(StoreError::unreadable(String::from_utf8_lossy(key)))
}

/// Reads an entry's body, which must be of this index.
fn decode_entry(index: u64, body: &[u8]) -> Result<EntryV1, StoreError> {
    let entry: EntryV1 = codec::decode(body).map_err(StoreError::unreadable(format!("log entry {index}")))?;
    if entry.id.index != index {
        return Err(StoreError::lost(format!("log entry {index}"), format!("it says it is entry {}", entry.id.index)));
    }
    Ok(entry)
}

/// Gives the index in a log key.
fn index_of(key: &[u8]) -> Result<u64, StoreError> {
    let bytes = key.get(1..).and_then(|k| <[u8; 8]>::try_from(k).ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| StoreError::lost("log", "a key of another length"))
}

/// Walks the log; gives its last id and the id found at the mark's index.
fn check_entries(
    store: &Durable,
    purged: Option<LogIdV1>,
    mark: Mark,
) -> Result<(Option<LogIdV1>, Option<LogIdV1>), StoreError> {
    let mut expected = purged.map_or(0, |id| id.index + 1);
    let mut last: Option<LogIdV1> = None;
    let mut marked = None;
    let mut from = Bound::Included(log_key(0));
    loop {
        let rows = store.range((from, Bound::Included(log_key(u64::MAX))), CHECK_CHUNK)?;
        let Some((key, _)) = rows.last() else { return Ok((last, marked)) };
        from = Bound::Excluded(key.clone());
        for (key, body) in rows {
            let index = index_of(&key)?;
            if index != expected {
                return Err(StoreError::lost("log", format!("a hole: entry {expected} is missing, {index} is there")));
            }
            let entry = decode_entry(index, &body)?;
            let before = last.or(purged);
            if before.is_some_and(|b| (b.term, b.leader) > (entry.id.term, entry.id.leader)) {
                return Err(StoreError::lost(format!("log entry {index}"), "its term is below the one before"));
            }
            if mark.last.is_some_and(|m| m.index == index) {
                marked = Some(entry.id);
            }
            last = Some(entry.id);
            expected = index + 1;
        }
    }
}

/// Compares the data with what was acknowledged.
fn check_mark(
    purged: Option<LogIdV1>,
    last: Option<LogIdV1>,
    marked: Option<LogIdV1>,
    vote: Option<VoteV1>,
    mark: Mark,
) -> Result<(), StoreError> {
    if let Some(acknowledged) = mark.last
        && purged.is_none_or(|p| p.index < acknowledged.index)
    {
        let reached = last.map_or(-1, |id| i128::from(id.index));
        if reached < i128::from(acknowledged.index) {
            let why = format!("entries up to {} were acknowledged, the log ends at {reached}", acknowledged.index);
            return Err(StoreError::lost("log", why));
        }
        if marked != Some(acknowledged) {
            let why = format!("{acknowledged:?} was acknowledged, {marked:?} is there");
            return Err(StoreError::lost("log", why));
        }
    }
    if let Some(acknowledged) = mark.vote {
        let order = |v: VoteV1| (v.term, v.replica, v.committed);
        if vote.is_none_or(|v| order(v) < order(acknowledged)) {
            return Err(StoreError::lost("vote", format!("{acknowledged:?} was acknowledged, {vote:?} is there")));
        }
    }
    Ok(())
}

/// Reads the entries `from..to` that are there, in order and without a hole.
fn read_entries(store: &Durable, from: u64, to: u64, bytes_max: Option<usize>) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut next = from;
    while next < to {
        // A byte limit means that few may fit: read them little by little.
        let chunk =
            usize::try_from(to - next).unwrap_or(usize::MAX).min(if bytes_max.is_some() { 32 } else { usize::MAX });
        let rows = store.range(log_key(next)..log_key(to), chunk)?;
        if rows.is_empty() {
            break;
        }
        for (key, body) in rows {
            let index = index_of(&key)?;
            if !entries.is_empty() && index != next {
                return Err(StoreError::lost("log", format!("a hole before entry {index}")));
            }
            let mirror = decode_entry(index, &body)?;
            bytes += body.len();
            if !entries.is_empty() && bytes_max.is_some_and(|max| bytes > max) {
                return Ok(entries);
            }
            entries.push(mirror.try_into().map_err(StoreError::unreadable(format!("log entry {index}")))?);
            next = index + 1;
        }
    }
    Ok(entries)
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
        let store = self.store.clone();
        let vote: Option<VoteV1> =
            tokio::task::spawn_blocking(move || read_meta(&store, VOTE)).await.map_err(io::Error::other)??;
        Ok(vote.map(Into::into))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, Some(REPLICATE_BYTES_MAX)).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let ends = self.ends();
        Ok(LogState { last_purged_log_id: ends.purged, last_log_id: ends.last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let mirror = VoteV1::from(*vote);
        let ops = vec![put(VOTE.to_vec(), &codec::encode(&mirror))];
        Ok(self.store.write_durably(ops, Some(MarkChange::Vote(mirror))).await?)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // Not synced: it only says how far to replay at once after a restart, and a later flush carries it.
        let op: Op = match committed {
            Some(id) => put(COMMITTED.to_vec(), &codec::encode(&LogIdV1::from(id))),
            None => (COMMITTED.to_vec(), None),
        };
        Ok(self.store.write(vec![op], None, None).await?)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let store = self.store.clone();
        let committed: Option<LogIdV1> =
            tokio::task::spawn_blocking(move || read_meta(&store, COMMITTED)).await.map_err(io::Error::other)??;
        Ok(committed.map(Into::into))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let before = self.ends();
        let mut last = before.last;
        let mut ops = Vec::new();
        for entry in entries {
            if last.is_some_and(|id| id.index + 1 != entry.log_id.index) {
                let why = format!("openraft appends entry {} after {last:?}", entry.log_id.index);
                return Err(StoreError::lost("log", why).into());
            }
            last = Some(entry.log_id);
            ops.push(put(log_key(entry.log_id.index), &codec::encode(&EntryV1::from(&entry))));
        }
        let mark = MarkChange::Last(last.map(Into::into));
        let done = Box::new(move |result: Result<(), StoreError>| callback.io_completed(result.map_err(Into::into)));
        self.store.write(ops, Some(mark), Some(done)).await?;
        self.set_ends(|ends| ends.last = last);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let ends = self.ends();
        let keep = last_log_id.or(ends.purged);
        let (Some(last), from) = (ends.last, keep.map_or(0, |id| id.index + 1)) else { return Ok(()) };
        if last.index < from {
            return Ok(());
        }
        self.store.write_durably(Vec::new(), Some(MarkChange::Last(keep.map(Into::into)))).await?;
        let ops = (from..=last.index).map(|index| (log_key(index), None)).collect();
        self.store.write_durably(ops, None).await?;
        self.set_ends(|ends| ends.last = keep);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let ends = self.ends();
        if ends.purged.is_some_and(|purged| purged >= log_id) {
            return Ok(());
        }
        let from = ends.purged.map_or(0, |id| id.index + 1);
        let to = ends.last.map_or(0, |id| id.index).min(log_id.index);
        let mut ops: Vec<Op> = vec![put(PURGED.to_vec(), &codec::encode(&LogIdV1::from(log_id)))];
        ops.extend((from..=to).map(|index| (log_key(index), None)));
        self.store.write(ops, None, None).await?;
        self.set_ends(|ends| {
            ends.purged = Some(log_id);
            ends.last = ends.last.max(Some(log_id));
        });
        Ok(())
    }
}
