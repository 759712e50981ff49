//! The one way to sled, which holds what only grows (history) and how far it was written.
//!
//! sled 0.34.7 calls `sync_file_range` in `flush`, which loses acknowledged writes in a power cut (RELIABILITY.md 0.1),
//! and what it writes without an fsync soon after may leave it unopenable. So changes are first kept in memory, where
//! they can be read at once; a thread hands what has gathered to sled in one batch, flushes, and fsyncs `db`, new files of
//! `blobs` and the folder, each second or when asked. A change that a power cut takes was made by an entry that is durable
//! in the log (`wal`), and the replay makes it again. After the first failure nothing is said to be durable any more: a
//! failed fsync is never tried again, for the kernel may have dropped the pages.
//!
//! Every value is sealed (codec): version, its own key, CRC-32. Keys: `m/…` (applied, log), `h/`kind`\0`seq (history).
//! Numbers are big-endian.
//!
//! It never repairs: whatever does not fit is [`StoreError::Lost`].

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::{Bound, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::codec;
use crate::error::StoreError;
use crate::wal::{Done, Wal};

/// Memory sled may use as cache.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// How long to wait for the lock of a store whose last holder is just ending.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Between two tries for the lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// How long a change stays in memory only: a replay after a power cut makes so much again.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Bytes of changes that are flushed without waiting for that.
const FLUSH_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of changes at which the caller waits for the disk.
const PENDING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// One change: a key and its sealed value.
pub(crate) type Op = (Vec<u8>, Vec<u8>);

/// A key with its checked body.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// Changes that are not yet durable, by key.
type Layer = BTreeMap<Vec<u8>, Vec<u8>>;

/// The store of one replica; a clone is another handle.
#[derive(Clone)]
pub struct Durable {
    inner: Arc<Inner>,
}

struct Inner {
    db: RwLock<Option<sled::Db>>,
    layers: Arc<Layers>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Closed with the store.
    log: OnceLock<Wal>,
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

/// Runs what may panic inside sled; a panic is a lost store.
fn guarded<T>(what: &str, step: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(e))) => Err(StoreError::io(what, e)),
        Ok(Err(e)) => Err(StoreError::lost(what, e)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(StoreError::lost(what, format!("sled panicked: {}", text.unwrap_or_default())))
        }
    }
}

/// Says whether an error of the system speaks of what is in a file rather than of the system.
fn unreadable(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::NotFound
            | ErrorKind::Other
    )
}

/// Opens sled, waiting for a holder that is just ending.
fn open_sled(dir: &Path) -> Result<sled::Db, StoreError> {
    let existed = dir.join("db").exists();
    let until = Instant::now() + LOCK_WAIT;
    loop {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        match guarded("open the store", || config.open()) {
            Ok(db) => return Ok(db),
            Err(StoreError::Io { source, .. }) if source.to_string().contains("could not acquire lock") => {
                if Instant::now() >= until {
                    return Err(StoreError::Busy { dir: dir.to_owned() });
                }
                std::thread::sleep(LOCK_RETRY);
            }
            // What sled finds unreadable is lost; what the system refuses (space, rights, memory) may pass.
            Err(StoreError::Io { what, source }) if existed && unreadable(source.kind()) => {
                return Err(StoreError::lost(what, source));
            }
            Err(e) => return Err(e),
        }
    }
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
        File::open(data_dir).and_then(|f| f.sync_all()).map_err(|e| StoreError::io("sync the data folder", e))?;
        let layers = Arc::new(Layers::default());
        let flusher = Flusher { db: db.clone(), layers: layers.clone(), files };
        let thread = std::thread::Builder::new().name("hanse-store".into()).spawn(move || flusher.run());
        let thread = Mutex::new(Some(thread.map_err(|e| StoreError::io("start the thread of the store", e))?));
        Ok(Self { inner: Arc::new(Inner { db: RwLock::new(Some(db)), layers, thread, log: OnceLock::new() }) })
    }

    /// Has the log closed with the store.
    pub(crate) fn attach(&self, log: Wal) {
        // One store has one log; a second call would come from the same open.
        let _ = self.inner.log.set(log);
    }

    /// Gives why the log beside the store cannot grow; `None` while all is well.
    pub(crate) fn short_of_space(&self) -> Option<String> {
        self.inner.log.get().and_then(Wal::short_of_space)
    }

    /// Takes changes; they can be read when this returns, and are durable some time later. Waits while too many are not.
    ///
    /// # Errors
    /// [`StoreError::Failed`] after a failed write, [`StoreError::Closed`]; nothing changed then.
    pub(crate) async fn write(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        loop {
            let room = self.inner.layers.room.notified();
            tokio::pin!(room);
            // Listen before looking: a flush that ends in between is not missed.
            room.as_mut().enable();
            if self.take(&ops, None)? {
                return Ok(());
            }
            room.await;
        }
    }

    /// Takes changes and returns when they, and all before them, are durable.
    ///
    /// # Errors
    /// [`StoreError`]: they may or may not be durable.
    pub(crate) async fn write_durably(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (sender, wait) = oneshot::channel();
        // The waiter may have been dropped with its task; the write stands all the same.
        self.take(&ops, Some(Box::new(move |result| drop(sender.send(result)))))?;
        wait.await.map_err(|_| StoreError::Closed)?
    }

    /// As [`Durable::write_durably`], blocking the thread.
    pub(crate) fn write_now(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (sender, wait) = std::sync::mpsc::channel();
        self.take(&ops, Some(Box::new(move |result| drop(sender.send(result)))))?;
        wait.recv().map_err(|_| StoreError::Closed)?
    }

    /// Adds changes unless there are too many; one that is waited for is always taken.
    fn take(&self, ops: &[Op], wait: Option<Done>) -> Result<bool, StoreError> {
        let layers = &self.inner.layers;
        let mut state = layers.lock();
        if let Some(cause) = layers.failed.get() {
            return Err(StoreError::Failed(cause.clone()));
        }
        if state.closed {
            return Err(StoreError::Closed);
        }
        if wait.is_none() && state.pending_bytes >= PENDING_BYTES_MAX {
            return Ok(false);
        }
        for (key, value) in ops {
            state.pending_bytes += key.len() + value.len();
            state.pending.insert(key.clone(), value.clone());
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
        Ok(true)
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
        let value = match waiting {
            Some(value) => Some(value),
            None => guarded("read the store", || db.get(key))?.map(|value| value.to_vec()),
        };
        let Some(value) = value else { return Ok(None) };
        let body = codec::unseal(key, &value).map_err(StoreError::unreadable(describe(key)))?;
        Ok(Some(body.to_vec()))
    }

    /// Gives up to `limit` keys and bodies of a range, in order, checked. Blocks on the disk.
    pub(crate) fn range(&self, range: impl RangeBounds<Vec<u8>>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let db = self.db()?;
        let bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>) = (range.start_bound().cloned(), range.end_bound().cloned());
        let mut rows = Layer::new();
        let state = self.inner.layers.lock();
        for layer in [&*state.flushing, &state.pending] {
            rows.extend(layer.range(bounds.clone()).take(limit).map(|(key, value)| (key.clone(), value.clone())));
        }
        drop(state);
        let stored = guarded("read the store", || db.range(bounds).take(limit).collect::<Result<Vec<_>, _>>())?;
        for (key, value) in stored {
            rows.entry(key.to_vec()).or_insert_with(|| value.to_vec());
        }
        let mut found = Vec::with_capacity(rows.len().min(limit));
        for (key, value) in rows.into_iter().take(limit) {
            let body = codec::unseal(&key, &value).map_err(StoreError::unreadable(describe(&key)))?.to_vec();
            found.push((key, body));
        }
        Ok(found)
    }

    /// Gives the last key and body before `key`, checked. Blocks on the disk.
    pub(crate) fn last_before(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        let db = self.db()?;
        let below: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Excluded(key));
        let state = self.inner.layers.lock();
        let last = |layer: &Layer| layer.range::<[u8], _>(below).next_back().map(|(k, v)| (k.clone(), v.clone()));
        // Of equal keys the newer value is kept: `max_by` gives the last one.
        let waiting = last(&state.flushing).into_iter().chain(last(&state.pending)).max_by(|a, b| a.0.cmp(&b.0));
        drop(state);
        let stored = guarded("read the store", || db.get_lt(key))?.map(|(k, v)| (k.to_vec(), v.to_vec()));
        let Some((key, value)) = stored.into_iter().chain(waiting).max_by(|a, b| a.0.cmp(&b.0)) else {
            return Ok(None);
        };
        let body = codec::unseal(&key, &value).map_err(StoreError::unreadable(describe(&key)))?.to_vec();
        Ok(Some((key, body)))
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

/// Names a key in words for an error.
fn describe(key: &[u8]) -> String {
    format!("record {}", String::from_utf8_lossy(key).escape_debug())
}

/// The thread that makes changes durable.
struct Flusher {
    db: sled::Db,
    layers: Arc<Layers>,
    files: Files,
}

impl Flusher {
    fn run(mut self) {
        while let Some((layer, waiters)) = self.next() {
            let result = self.flush(&layer);
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
        let mut batch = sled::Batch::default();
        for (key, value) in layer {
            batch.insert(key.as_slice(), value.as_slice());
        }
        guarded("write to the store", || self.db.apply_batch(batch))?;
        guarded("flush the store", || self.db.flush())?;
        self.files.sync()
    }
}

/// What lies under sled and must be synced by us.
struct Files {
    db: File,
    folder: File,
    blobs: PathBuf,
    synced: HashSet<OsString>,
}

impl Files {
    fn open(dir: &Path) -> Result<Self, StoreError> {
        let open = |path: &Path| File::open(path).map_err(|e| StoreError::io(format!("open {}", path.display()), e));
        Ok(Self { db: open(&dir.join("db"))?, folder: open(dir)?, blobs: dir.join("blobs"), synced: HashSet::new() })
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.sync_files().map_err(|e| StoreError::io("fsync the store", e))
    }

    /// sled writes a value too long for a segment to a file of its own and never syncs that.
    fn sync_files(&mut self) -> std::io::Result<()> {
        self.db.sync_all()?;
        if self.blobs.is_dir() {
            let mut present = HashSet::new();
            for entry in fs::read_dir(&self.blobs)? {
                let entry = entry?;
                let name = entry.file_name();
                if !self.synced.contains(&name) {
                    match File::open(entry.path()) {
                        Ok(file) => file.sync_all()?,
                        // sled collected it meanwhile.
                        Err(e) if e.kind() == ErrorKind::NotFound => continue,
                        Err(e) => return Err(e),
                    }
                }
                present.insert(name);
            }
            if present != self.synced {
                File::open(&self.blobs)?.sync_all()?;
                self.synced = present;
            }
        }
        self.folder.sync_all()
    }
}
