//! The write-ahead log: openraft's entries and vote, durable with one write and one fdatasync for a whole group.
//!
//! Files of one folder, `<number>.log` (`segment`), hold a chain of records (`frame`); the last one is appended to by one
//! thread (`writer`), the next one is made ahead of need by another (`pool`). `mark` says, apart from the data, how far
//! was acknowledged, at the cost of no sync. At open every record is read and checked (`scan`). What is recent stays in
//! memory (`index`). The file system is behind a seam (`disk`), so that tests can cut the power in it.
//!
//! It never acknowledges what is not durable, never syncs again after a failed sync, and never shortens itself by what
//! may have been acknowledged: that is [`StoreError::Lost`].

mod disk;
mod frame;
mod index;
mod look;
mod mark;
mod pool;
mod scan;
mod segment;
mod writer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot, watch};

pub use disk::{Disk, DiskFile, Folder};
pub(crate) use frame::{HeaderV1, Kind, Place, Salt, decode as decode_frame, encode as encode_frame};
pub(crate) use look::{Looked, look};
pub(crate) use mark::{MarkV1, decode as decode_mark, encode as encode_mark};
pub use segment::Options;

use crate::codec::{self, EntryV1, LogIdV1, VoteV1};
use crate::error::StoreError;
use crate::meter::Histogram;
use crate::types::{Entry, Payload};
use index::{Index, Slot, Spot};
use pool::{Maker, Pool};
use writer::{Change, Job, Writer};

/// Jobs that may wait for the log thread; more make the caller wait.
const QUEUE_MAX: usize = 1_024;
/// A sync that takes longer is left to the log's thread, so that a slow disk does not hold up what else a replica does. The
/// first one after a disk has become slow is not seen coming.
const SYNC_HERE_US_MAX: u64 = 1_000;
/// What an entry takes in a record besides its payload, at most.
const ENTRY_OVERHEAD: usize = 1_024;

/// Called with the result once the change is durable.
pub(crate) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The log of one replica; a clone is another handle.
#[derive(Clone)]
pub struct Wal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    jobs: Mutex<Option<Sender<Job>>>,
    /// The thread's; gone with it.
    writer: Weak<Mutex<Writer>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pool: Pool,
    log: u64,
    pristine: bool,
    body_bytes_max: usize,
}

/// What the log thread and the readers share.
struct Shared {
    live: Mutex<Live>,
    committed: Mutex<Option<LogIdV1>>,
    failed: OnceLock<String>,
    room: Semaphore,
    /// How long the syncs took.
    fsync: Histogram,
    /// Index of the last entry that was added.
    appended: watch::Sender<u64>,
    /// How long the last sync took, in microseconds.
    sync_us: AtomicU64,
}

/// What can be read.
struct Live {
    index: Index,
    files: BTreeMap<u64, Arc<dyn DiskFile>>,
    vote: Option<VoteV1>,
    purged: Option<LogIdV1>,
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(&self) -> MutexGuard<'_, Option<LogIdV1>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the room that an entry takes at most.
fn room(entry: &Entry) -> usize {
    index::weight(entry) + ENTRY_OVERHEAD
}

/// One entry to read.
struct Piece {
    id: LogIdV1,
    entry: Option<Arc<Entry>>,
    place: Option<(Spot, Arc<dyn DiskFile>)>,
}

impl Wal {
    /// Opens the log of a folder and checks every record, or makes a new one, unless `existed`. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if anything that was acknowledged is missing or other than it was.
    pub(crate) fn open(disk: Arc<dyn Disk>, options: Options, existed: bool) -> Result<Self, StoreError> {
        let opened = scan::open(&disk, &options, existed)?;
        let spawn_failed = |e| StoreError::io("start a thread of the log", e);
        let active = opened.segments.back().map_or(0, |segment| segment.number);
        let (maker, files_thread) =
            Maker::spawn(disk, options, opened.prepared.clone(), active).map_err(spawn_failed)?;
        let pool = maker.pool();
        let mut opened = opened;
        let index = std::mem::replace(&mut opened.index, Index::new(None, 0));
        let files = opened.segments.iter().map(|segment| (segment.number, segment.file.clone())).collect();
        let live = Live { index, files, vote: opened.ends.vote, purged: opened.ends.purged };
        let shared = Arc::new(Shared {
            live: Mutex::new(live),
            committed: Mutex::new(opened.mark.committed),
            failed: OnceLock::new(),
            room: Semaphore::new(QUEUE_MAX),
            fsync: Histogram::default(),
            appended: watch::Sender::new(0),
            sync_us: AtomicU64::new(u64::MAX),
        });
        let (log, pristine) = (opened.log, opened.pristine);
        let writer = Writer::new(shared.clone(), maker, opened)?;
        let (jobs, queue) = channel();
        let writer = Arc::new(Mutex::new(writer));
        let lent = Arc::downgrade(&writer);
        let run = move || Writer::run(&writer, &queue);
        let log_thread = std::thread::Builder::new().name("hanse-log".into()).spawn(run).map_err(spawn_failed)?;
        let threads = Mutex::new(vec![log_thread, files_thread]);
        let body_bytes_max = options.body_bytes_max();
        let jobs = Mutex::new(Some(jobs));
        Ok(Self { inner: Arc::new(Inner { shared, jobs, writer: lent, threads, pool, log, pristine, body_bytes_max }) })
    }

    /// Gives the id drawn when the log was made.
    pub(crate) fn id(&self) -> u64 {
        self.inner.log
    }

    /// Says whether nothing had ever been written to it when it was opened.
    pub(crate) fn pristine(&self) -> bool {
        self.inner.pristine
    }

    /// Gives why the log cannot grow; new requests are then refused, while what is left of the segment is used for what
    /// consensus itself must write. `None` while all is well.
    #[must_use]
    pub fn short_of_space(&self) -> Option<String> {
        self.inner.pool.short()
    }

    /// Gives how long the syncs took.
    pub(crate) fn fsync_times(&self) -> &Histogram {
        &self.inner.shared.fsync
    }

    /// Gives the purged and the last entry.
    pub(crate) fn ends(&self) -> (Option<LogIdV1>, Option<LogIdV1>) {
        let live = self.inner.shared.live();
        (live.purged, live.index.last())
    }

    /// Gives the last durable vote.
    pub(crate) fn vote(&self) -> Option<VoteV1> {
        self.inner.shared.live().vote
    }

    /// Gives the entry known to be committed.
    pub(crate) fn committed(&self) -> Option<LogIdV1> {
        *self.inner.shared.committed()
    }

    /// Keeps the entry known to be committed; a later sync carries it, for it only says how far to replay at once.
    pub(crate) fn set_committed(&self, committed: Option<LogIdV1>) {
        *self.inner.shared.committed() = committed;
    }

    /// Adds entries; they can be read when this returns, and `done` is called when they are durable: later by the log's
    /// thread, or, if `here` and the disk is quick and nothing waits, before this returns. Only one call that changes the log
    /// may be under way at a time; openraft's core makes one after another.
    ///
    /// # Errors
    /// [`StoreError::Failed`] after a failed write, [`StoreError::Lost`] if they do not follow the last one; nothing is
    /// written then.
    pub(crate) async fn append(&self, entries: Vec<Entry>, here: bool, done: Done) -> Result<(), StoreError> {
        self.room().await?;
        let entries: Vec<_> = entries.into_iter().map(Arc::new).collect();
        let mut live = self.inner.shared.live();
        let mut last = live.index.last();
        for entry in &entries {
            let index = entry.log_id.index;
            if last.is_some_and(|id| id.index + 1 != index) {
                return Err(StoreError::lost("log", format!("openraft appends entry {index} after {last:?}")));
            }
            if let Payload::Normal(bytes) = &entry.payload
                && bytes.0.len() + ENTRY_OVERHEAD > self.inner.body_bytes_max
            {
                let why = std::io::Error::other(format!("entry {index} has {} bytes", bytes.0.len()));
                return Err(StoreError::io("write an entry that is longer than a segment holds", why));
            }
            last = Some(entry.log_id.into());
        }
        for entry in &entries {
            let slot = Slot { id: entry.log_id.into(), spot: None, entry: Some(entry.clone()) };
            live.index.push(slot).map_err(|why| StoreError::lost("log", why))?;
        }
        match self.try_here(entries, here, live, done) {
            None => {}
            Some((entries, done)) => self.send(Change::Append(entries), done)?,
        }
        self.inner.shared.appended.send_replace(last.map_or(0, |id| id.index));
        Ok(())
    }

    /// Writes entries here and now, if that is wished, quick, and in order; gives them back if not.
    fn try_here(
        &self,
        entries: Vec<Arc<Entry>>,
        here: bool,
        live: MutexGuard<'_, Live>,
        done: Done,
    ) -> Option<(Vec<Arc<Entry>>, Done)> {
        // The writer publishes what it wrote under this lock.
        drop(live);
        let shared = &self.inner.shared;
        // This call holds one place: whatever else is on its way would hold another.
        let alone = shared.room.available_permits() + 1 == QUEUE_MAX;
        if !here || !alone || shared.sync_us.load(Ordering::Relaxed) > SYNC_HERE_US_MAX {
            return Some((entries, done));
        }
        let Some(writer) = self.inner.writer.upgrade() else { return Some((entries, done)) };
        // Busy, or it panicked: then the queue has nobody any more, and says so.
        let Ok(mut writer) = writer.try_lock() else { return Some((entries, done)) };
        match writer.serve_here(entries, done) {
            Err(back) => Some(back),
            Ok(false) => None,
            Ok(true) => {
                drop(writer);
                // Without a place, or after the end, somebody else makes the thread look.
                if let Ok(place) = shared.room.try_acquire() {
                    place.forget();
                    let _ = self.send(Change::Look, Box::new(|_| {}));
                }
                None
            }
        }
    }

    /// Follows the index of the last entry that was added since the log was opened; 0 before the first.
    pub(crate) fn appended(&self) -> watch::Receiver<u64> {
        self.inner.shared.appended.subscribe()
    }

    /// Keeps a vote; durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: it may or may not be durable.
    pub(crate) async fn save_vote(&self, vote: VoteV1) -> Result<(), StoreError> {
        self.room().await?;
        self.durably(|done| self.send(Change::Vote(vote), done)).await
    }

    /// Drops the entries after `keep`; durable when this returns.
    ///
    /// # Errors
    /// As [`Wal::save_vote`].
    pub(crate) async fn truncate_after(&self, keep: Option<LogIdV1>) -> Result<(), StoreError> {
        self.room().await?;
        let change = |done| {
            self.inner.shared.live().index.truncate(keep);
            self.send(Change::Truncate(keep), done)
        };
        self.durably(change).await
    }

    /// Drops the entries up to `upto`, which may lie beyond the last. What only they can make again must be durable.
    ///
    /// # Errors
    /// [`StoreError`]; a later failure shows at the next change.
    pub(crate) async fn purge(&self, upto: LogIdV1) -> Result<(), StoreError> {
        self.room().await?;
        let mut live = self.inner.shared.live();
        live.index.purge(upto);
        live.purged = Some(upto);
        drop(live);
        self.send(Change::Purge(upto), Box::new(|_| {}))
    }

    /// Waits for a place in the queue.
    async fn room(&self) -> Result<(), StoreError> {
        if let Some(cause) = self.inner.shared.failed.get() {
            return Err(StoreError::Failed(cause.clone()));
        }
        self.inner.shared.room.acquire().await.map_err(|_| StoreError::Closed)?.forget();
        Ok(())
    }

    async fn durably(&self, change: impl FnOnce(Done) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let (sender, wait) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            // The waiter may have been dropped with its task; the change stands all the same.
            let _ = sender.send(result);
        });
        change(done)?;
        wait.await.map_err(|_| StoreError::Closed)?
    }

    fn send(&self, change: Change, done: Done) -> Result<(), StoreError> {
        let jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(Job { change, done }).map_err(|_| StoreError::Closed)
    }

    /// Gives the entries there are of `from..to`, up to about `bytes_max`, if all of them are in memory.
    pub(crate) fn read_kept(&self, from: u64, to: u64, bytes_max: Option<usize>) -> Option<Vec<Entry>> {
        let pieces = self.pieces(from, to, bytes_max, true)?;
        Some(pieces.into_iter().filter_map(|piece| piece.entry.map(|entry| Entry::clone(&entry))).collect())
    }

    /// Gives the entries there are of `from..to`, up to about `bytes_max`. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if one cannot be read.
    pub(crate) fn read(&self, from: u64, to: u64, bytes_max: Option<usize>) -> Result<Vec<Entry>, StoreError> {
        let pieces = self.pieces(from, to, bytes_max, false).unwrap_or_default();
        pieces.into_iter().map(|piece| self.read_piece(piece)).collect()
    }

    /// Says where the entries are; `None` if `kept` and one is not in memory.
    fn pieces(&self, from: u64, to: u64, bytes_max: Option<usize>, kept: bool) -> Option<Vec<Piece>> {
        let live = self.inner.shared.live();
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        for slot in live.index.range(from, to) {
            if kept && slot.entry.is_none() {
                return None;
            }
            bytes += slot
                .entry
                .as_ref()
                .map_or_else(|| slot.spot.map_or(0, |spot| spot.bytes as usize), |entry| index::weight(entry));
            if !pieces.is_empty() && bytes_max.is_some_and(|max| bytes > max) {
                break;
            }
            let place = slot.spot.and_then(|spot| Some((spot, live.files.get(&spot.segment)?.clone())));
            pieces.push(Piece { id: slot.id, entry: slot.entry.clone(), place });
        }
        Some(pieces)
    }

    fn read_piece(&self, piece: Piece) -> Result<Entry, StoreError> {
        let what = format!("log entry {}", piece.id.index);
        if let Some(entry) = piece.entry {
            return Ok(Entry::clone(&entry));
        }
        let Some((spot, file)) = piece.place else { return Err(StoreError::lost(what, "its segment is gone")) };
        let mut bytes = vec![0; spot.bytes as usize];
        file.read_at(&mut bytes, u64::from(spot.offset)).map_err(|e| StoreError::io(format!("read {what}"), e))?;
        let salt = Salt { log: self.inner.log, segment: spot.segment };
        let frame = decode_frame(&bytes, salt).map_err(StoreError::unreadable(what.as_str()))?;
        let entry: EntryV1 = codec::decode(frame.body).map_err(StoreError::unreadable(what.as_str()))?;
        if entry.id != piece.id {
            return Err(StoreError::lost(what, format!("{:?} lies in its place", entry.id)));
        }
        entry.try_into().map_err(StoreError::unreadable(what))
    }

    /// Ends the threads after what they hold is done, and marks that. Blocks until then.
    pub fn close(&self) {
        self.inner.pool.give_up();
        drop(self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }
}
