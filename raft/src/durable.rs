//! The one way to what is not in the log: history, in files of its own (`history/files`), and in sled how far it was
//! written and what was applied.
//!
//! sled 0.34.7 calls `sync_file_range` in `flush`, which loses acknowledged writes in a power cut (RELIABILITY.md 0.1),
//! and what it writes without an fsync soon after may leave it unopenable. So changes are first kept in memory, where
//! they can be read at once; a thread appends what has gathered to the files of history and syncs those, then hands the rest
//! and the heads of history to sled in one batch, flushes, and fsyncs `db`, new files of `blobs` and the folder, each second
//! or when asked. So history is never behind what sled says of it. A change that a power cut takes was made by an entry that is durable
//! in the log (`wal`), and the replay makes it again. After the first failure nothing is said to be durable any more: a
//! failed fsync is never tried again, for the kernel may have dropped the pages.
//!
//! Before a batch is written the file system is asked for the blocks it needs, so that a full disk is known before anything
//! is: then the batch stays in memory, and goes when there is room.
//!
//! Every value is sealed (codec): version, its own key, CRC-32. Keys: `m/…` (applied, log, heads; in sled),
//! `h/`kind`\0`seq (history; in the files). Numbers are big-endian.
//!
//! It never repairs: whatever does not fit is [`StoreError::Lost`].

mod sled_dir;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use self::sled_dir::{Files, guarded, open_sled};
use crate::codec::{self, HeadsV1};
use crate::error::StoreError;
use crate::history::files::Files as History;
use crate::history::{self, parse_key};
use crate::snapshot::Heads;
use crate::space::{self, Shortage, Space};
use crate::wal::{Done, Folder, Wal};

/// Folder of history.
const HISTORY_DIR: &str = "history";
/// How far the files of history are durable: `HeadsV1`.
pub(crate) const HEADS: &[u8] = b"m/heads";
/// How long a change stays in memory only: a replay after a power cut makes so much again.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Bytes of changes that are flushed without waiting for that.
const FLUSH_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of changes at which the caller waits for the disk.
const PENDING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of changes held for want of room at which a follower takes no more entries.
const HELD_BYTES_MAX: usize = PENDING_BYTES_MAX / 2;

/// One change: a key and its sealed value.
pub(crate) type Op = (Vec<u8>, Vec<u8>);

/// Changes that are not yet durable, by key.
type Layer = BTreeMap<Vec<u8>, Vec<u8>>;

/// The store of one replica; a clone is another handle.
#[derive(Clone)]
pub struct Durable {
    inner: Arc<Inner>,
}

struct Inner {
    db: RwLock<Option<sled::Db>>,
    history: Arc<History>,
    layers: Arc<Layers>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Closed with the store.
    log: OnceLock<Wal>,
    space: Space,
}

/// What waits for the disk. A reader looks here first, then into sled: a change leaves only when it is there.
#[derive(Default)]
struct Layers {
    state: Mutex<Waiting>,
    /// Wakes the thread.
    wake: Condvar,
    /// Wakes callers that wait for room.
    room: Notify,
    failed: OnceLock<String>,
}

#[derive(Default)]
struct Waiting {
    /// Newest changes.
    pending: Layer,
    pending_bytes: usize,
    /// When the oldest of them came.
    since: Option<Instant>,
    /// Changes that the thread is just writing.
    flushing: Arc<Layer>,
    /// Who waits until everything up to now is durable.
    waiters: Vec<Done>,
    closed: bool,
}

impl Layers {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the value to put under a key.
pub(crate) fn put(key: Vec<u8>, body: &[u8]) -> Op {
    let sealed = codec::seal(&key, body);
    (key, sealed)
}

impl Durable {
    /// Opens the store of a data folder.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if it cannot be read, [`StoreError::Busy`] if it is in use.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let dir = data_dir.join("store");
        fs::create_dir_all(&dir).map_err(|e| StoreError::io("make the data folder", e))?;
        let db = open_sled(&dir)?;
        let mut files = Files::open(&dir)?;
        guarded("flush the store", || db.flush())?;
        files.sync()?;
        // sled holds the lock of the data folder: from here on history is ours too.
        let folder = Folder::open(&data_dir.join(HISTORY_DIR)).map_err(|e| StoreError::io("open history", e))?;
        let history = Arc::new(History::open(Arc::new(folder), &durable_heads(&db)?)?);
        File::open(data_dir).and_then(|f| f.sync_all()).map_err(|e| StoreError::io("sync the data folder", e))?;
        let layers = Arc::new(Layers::default());
        let space = Space::new(data_dir);
        let flusher =
            Flusher { db: db.clone(), history: history.clone(), layers: layers.clone(), files, space: space.clone() };
        let thread = std::thread::Builder::new().name("hanse-store".into()).spawn(move || flusher.run());
        let thread = Mutex::new(Some(thread.map_err(|e| StoreError::io("start the thread of the store", e))?));
        let (db, log) = (RwLock::new(Some(db)), OnceLock::new());
        Ok(Self { inner: Arc::new(Inner { db, history, layers, thread, log, space }) })
    }

    /// Has the log closed with the store.
    pub(crate) fn attach(&self, log: Wal) {
        // One store has one log; a second call would come from the same open.
        let _ = self.inner.log.set(log);
    }

    /// Gives the log beside the store.
    pub(crate) fn log(&self) -> Option<&Wal> {
        self.inner.log.get()
    }

    /// Gives the room of the data folder.
    pub(crate) fn space(&self) -> &Space {
        &self.inner.space
    }

    /// Gives why nothing new is taken for want of room; `None` while all is well.
    pub(crate) fn short_of_space(&self) -> Option<Shortage> {
        let log = || self.inner.log.get().and_then(Wal::short_of_space).map(|_| self.inner.space.now());
        self.inner.space.short().or_else(log)
    }

    /// Says whether entries of a leader are taken: while there is a reserve for them in the log and in memory.
    ///
    /// # Errors
    /// The shortage.
    pub(crate) fn takes_entries(&self) -> Result<(), Shortage> {
        let log_short = self.inner.log.get().is_some_and(|log| log.short_of_space().is_some());
        let much_held = self.inner.space.held() && self.inner.layers.lock().pending_bytes >= HELD_BYTES_MAX;
        if log_short || much_held { Err(self.inner.space.now()) } else { Ok(()) }
    }

    /// Takes changes; they can be read when this returns, and are durable some time later. Waits while too many are not.
    ///
    /// # Errors
    /// [`StoreError::Failed`] after a failed write, [`StoreError::Closed`]; nothing changed then.
    pub(crate) async fn write(&self, mut ops: Vec<Op>) -> Result<(), StoreError> {
        loop {
            let room = self.inner.layers.room.notified();
            tokio::pin!(room);
            // Listen before looking: a flush that ends in between is not missed.
            room.as_mut().enable();
            match self.take(ops, None)? {
                None => return Ok(()),
                Some(refused) => ops = refused,
            }
            if tokio::time::timeout(space::LOOK_EVERY, room).await.is_err() && self.inner.space.ending() {
                return Err(StoreError::Closed);
            }
        }
    }

    /// Takes changes and returns when they, and all before them, are durable.
    ///
    /// # Errors
    /// [`StoreError`]: they may or may not be durable. [`StoreError::Full`]: they are kept in memory, as by
    /// [`Durable::write`], until there is room.
    pub(crate) async fn write_durably(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (sender, wait) = oneshot::channel();
        // The waiter may have been dropped with its task; the write stands all the same.
        self.take(ops, Some(Box::new(move |result| drop(sender.send(result)))))?;
        wait.await.map_err(|_| StoreError::Closed)?
    }

    /// As [`Durable::write_durably`], but waits while the disk is full.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Closed`] if the replica ends meanwhile.
    pub(crate) async fn write_patiently(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        loop {
            match self.write_durably(ops.clone()).await {
                Err(StoreError::Full(_)) => self.inner.space.pause().await?,
                written => return written,
            }
        }
    }

    /// As [`Durable::write_durably`], blocking the thread.
    pub(crate) fn write_now(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (sender, wait) = std::sync::mpsc::channel();
        self.take(ops, Some(Box::new(move |result| drop(sender.send(result)))))?;
        wait.recv().map_err(|_| StoreError::Closed)?
    }

    /// Adds changes unless there are too many, then gives them back; those that are waited for are always taken.
    fn take(&self, ops: Vec<Op>, wait: Option<Done>) -> Result<Option<Vec<Op>>, StoreError> {
        let layers = &self.inner.layers;
        let mut state = layers.lock();
        if let Some(cause) = layers.failed.get() {
            return Err(StoreError::Failed(cause.clone()));
        }
        if state.closed {
            return Err(StoreError::Closed);
        }
        if wait.is_none() && state.pending_bytes >= PENDING_BYTES_MAX {
            return Ok(Some(ops));
        }
        let differs = |(key, value): &&Op| {
            parse_key(key).is_some() && state.pending.get(key).is_some_and(|before| before != value)
        };
        if let Some((key, _)) = ops.iter().find(differs) {
            return Err(StoreError::lost(describe(key), "another one was already made"));
        }
        for (key, value) in ops {
            state.pending_bytes += key.len() + value.len();
            state.pending.insert(key, value);
        }
        let idle = state.since.is_none();
        if !state.pending.is_empty() {
            state.since.get_or_insert_with(Instant::now);
        }
        let waited = wait.is_some();
        state.waiters.extend(wait);
        if waited || idle || state.pending_bytes >= FLUSH_BYTES {
            layers.wake.notify_one();
        }
        Ok(None)
    }

    fn db(&self) -> Result<sled::Db, StoreError> {
        self.inner.db.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)
    }

    /// Gives the body under a key, checked. Blocks on the disk.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let db = self.db()?;
        let state = self.inner.layers.lock();
        let waiting = state.pending.get(key).or_else(|| state.flushing.get(key)).cloned();
        drop(state);
        let value = match (waiting, parse_key(key)) {
            (Some(value), _) => Some(value),
            (None, Some((kind, seq))) => {
                return Ok(self.inner.history.read(kind, seq, seq, 1)?.pop().map(|(_, body)| body));
            }
            (None, None) => guarded("read the store", || db.get(key))?.map(|value| value.to_vec()),
        };
        let Some(value) = value else { return Ok(None) };
        let body = codec::unseal(key, &value).map_err(StoreError::unreadable(describe(key)))?;
        Ok(Some(body.to_vec()))
    }

    /// Gives up to `limit` records of a kind from `from` to `last`, in order, checked. Blocks on the disk.
    pub(crate) fn records(
        &self,
        kind: &str,
        from: u64,
        last: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.db()?;
        // First what waits: a record leaves there only when it is in the files.
        let mut waiting = Layer::new();
        if from <= last {
            let bounds = history::key(kind, from)..=history::key(kind, last);
            let state = self.inner.layers.lock();
            for layer in [&*state.flushing, &state.pending] {
                let found = layer.range(bounds.clone()).take(limit);
                waiting.extend(found.map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        let mut records = self.inner.history.read(kind, from, last, limit)?;
        let after = records.last().map_or(from.saturating_sub(1), |(seq, _)| *seq);
        for (key, value) in waiting {
            let Some((_, seq)) = parse_key(&key).filter(|(_, seq)| *seq > after) else { continue };
            if records.len() < limit {
                let body = codec::unseal(&key, &value).map_err(StoreError::unreadable(describe(&key)))?;
                records.push((seq, body.to_vec()));
            }
        }
        Ok(records)
    }

    /// Gives the last record of every kind of history.
    pub(crate) fn heads(&self) -> Result<Heads, StoreError> {
        self.db()?;
        let state = self.inner.layers.lock();
        let mut heads = Heads::new();
        // In order of key: the last one of a kind stands.
        for layer in [&*state.flushing, &state.pending] {
            heads.extend(layer.keys().filter_map(|key| parse_key(key)).map(|(kind, seq)| (kind.to_owned(), seq)));
        }
        drop(state);
        for (kind, last) in self.inner.history.heads() {
            let head = heads.entry(kind).or_insert(last);
            *head = last.max(*head);
        }
        Ok(heads)
    }

    /// Gives how many records of history were read from disk since the start.
    pub(crate) fn records_read(&self) -> u64 {
        self.inner.history.looked_at()
    }

    /// Ends the log and the store after what they hold is durable, and lets the folder go. Blocks until then.
    pub fn close(&self) {
        if let Some(log) = self.inner.log.get() {
            log.close();
        }
        self.inner.layers.lock().closed = true;
        self.inner.layers.wake.notify_all();
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the store panicked");
        }
        drop(self.inner.db.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.layers.lock().closed = true;
        self.layers.wake.notify_all();
    }
}

/// Reads how far the files of history are durable.
fn durable_heads(db: &sled::Db) -> Result<Heads, StoreError> {
    if guarded("read the store", || db.scan_prefix(b"h/").next().transpose())?.is_some() {
        let why = "its history lies in sled, as builds before the files of history kept it";
        return Err(StoreError::lost("store", why));
    }
    let Some(value) = guarded("read the store", || db.get(HEADS))? else { return Ok(Heads::new()) };
    let body = codec::unseal(HEADS, &value).map_err(StoreError::unreadable("heads of history"))?;
    let heads: HeadsV1 = codec::decode(body).map_err(StoreError::unreadable("heads of history"))?;
    Ok(heads.last)
}

/// Names a key in words for an error.
fn describe(key: &[u8]) -> String {
    format!("record {}", String::from_utf8_lossy(key).escape_debug())
}

/// The thread that makes changes durable.
struct Flusher {
    db: sled::Db,
    history: Arc<History>,
    layers: Arc<Layers>,
    files: Files,
    space: Space,
}

impl Flusher {
    fn run(mut self) {
        while let Some((layer, mut waiters)) = self.next() {
            let room = self.make_room(&layer, &mut waiters);
            if let Err(StoreError::Full(shortage)) = room {
                // The log makes these changes again at the next start.
                tracing::warn!(%shortage, "history that waited for room is not in the store");
                return;
            }
            let result = room.and_then(|()| self.flush(&layer));
            if let Err(error) = &result {
                // The first cause stays; a second failure is its consequence.
                let _ = self.layers.failed.set(error.to_string());
                tracing::error!(%error, "the store failed; history is kept no more");
            } else {
                // After a failure the changes stay readable.
                self.layers.lock().flushing = Arc::default();
            }
            self.layers.room.notify_waiters();
            for done in waiters {
                done(result.clone());
            }
        }
    }

    /// Waits until the file system has given the blocks that a layer needs. While it does not, whoever waits for the disk
    /// is told so.
    ///
    /// # Errors
    /// [`StoreError::Full`] if the end comes first; what the system answers otherwise.
    fn make_room(&mut self, layer: &Layer, waiters: &mut Vec<Done>) -> Result<(), StoreError> {
        let failed = self.layers.failed.get().is_some();
        if failed || layer.is_empty() {
            return Ok(());
        }
        let bytes = layer.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() as u64;
        loop {
            match self.files.reserve(bytes).and_then(|()| self.history.reserve(bytes)) {
                Ok(()) => {
                    self.space.hold(false);
                    return Ok(());
                }
                Err(error) if space::is_full(&error) => self.space.hold(true),
                Err(error) => return Err(StoreError::io("reserve blocks for the store", error)),
            }
            let shortage = self.space.now();
            for done in waiters.drain(..) {
                done(Err(StoreError::Full(shortage.clone())));
            }
            let state = self.layers.lock();
            if state.closed {
                return Err(StoreError::Full(shortage));
            }
            let woken = self.layers.wake.wait_timeout(state, space::LOOK_EVERY);
            waiters.append(&mut woken.unwrap_or_else(PoisonError::into_inner).0.waiters);
        }
    }

    /// Waits for something to do; `None` at the end, when all is durable.
    fn next(&self) -> Option<(Arc<Layer>, Vec<Done>)> {
        let mut state = self.layers.lock();
        loop {
            let age = state.since.map(|since| since.elapsed());
            let due = age.is_some_and(|age| age >= FLUSH_EVERY) || state.pending_bytes >= FLUSH_BYTES;
            let failed = self.layers.failed.get().is_some();
            if !state.waiters.is_empty() || !failed && (due || state.closed && !state.pending.is_empty()) {
                // After a failure everything stays readable where it is.
                if !failed {
                    state.flushing = Arc::new(std::mem::take(&mut state.pending));
                    (state.pending_bytes, state.since) = (0, None);
                }
                return Some((state.flushing.clone(), std::mem::take(&mut state.waiters)));
            }
            if state.closed {
                return None;
            }
            state = match age.filter(|_| !failed) {
                None => self.layers.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(age) => {
                    let rest = FLUSH_EVERY.saturating_sub(age);
                    self.layers.wake.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn flush(&mut self, layer: &Layer) -> Result<(), StoreError> {
        if let Some(cause) = self.layers.failed.get() {
            return Err(StoreError::Failed(cause.clone()));
        }
        if layer.is_empty() {
            return Ok(());
        }
        let is_history = |(key, _): &(&Vec<u8>, &Vec<u8>)| parse_key(key).is_some();
        self.history.append(layer.iter().filter(is_history))?;
        let mut batch = sled::Batch::default();
        for (key, value) in layer.iter().filter(|op| !is_history(op)) {
            batch.insert(key.as_slice(), value.as_slice());
        }
        if layer.iter().any(|op| is_history(&op)) {
            let (key, value) = put(HEADS.to_vec(), &codec::encode(&HeadsV1 { last: self.history.heads() }));
            batch.insert(key, value);
        }
        guarded("write to the store", || self.db.apply_batch(batch))?;
        guarded("flush the store", || self.db.flush())?;
        self.files.sync()
    }
}
