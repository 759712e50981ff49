//! The one way to sled: nothing is acknowledged before it is durable, and what is read is checked.
//!
//! sled 0.34.7 calls `sync_file_range` in `flush`, which loses acknowledged writes in a power cut (RELIABILITY.md 0.1).
//! So two threads stand before it. The *writer* applies batches in the order they came (then they can be read). The
//! *syncer* takes as many waiting batches as there are, flushes, fsyncs `db`, new files of `blobs` and the folder, then
//! writes the high-water mark, and only then acknowledges them, in order. After the first failure nothing is
//! acknowledged any more: a failed fsync is never tried again, for the kernel may have dropped the pages.
//!
//! Every value is sealed (codec): version, its own key, CRC-32. All keys live in one tree so that one batch is atomic:
//! `l`+index (log), `m/…` (vote, purged, committed, applied), `h/`kind`\0`seq (history). Numbers are big-endian.
//!
//! It never repairs: whatever does not fit is [`StoreError::Lost`].

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::{Bound, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::codec::{self, LogIdV1, VoteV1};
use crate::error::StoreError;
use crate::mark::{Mark, MarkFile};

/// Batches that may wait for a thread; more make the caller wait.
const QUEUE_MAX: usize = 1_024;
/// Batches made durable by one flush at most.
const GROUP_MAX: usize = 512;
/// Memory sled may use as cache.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// How long to wait for the lock of a store whose last holder is just ending.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Between two tries for the lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Called with the result once the batch is durable.
pub(crate) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// One change of one key; `None` deletes.
pub(crate) type Op = (Vec<u8>, Option<Vec<u8>>);

/// A key with its checked body.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// How the mark changes once the batch is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MarkChange {
    /// The last entry is this.
    Last(Option<LogIdV1>),
    /// The vote is this.
    Vote(VoteV1),
}

/// A batch on its way.
struct Job {
    ops: Vec<Op>,
    mark: Option<MarkChange>,
    written: Option<oneshot::Sender<Result<(), StoreError>>>,
    done: Option<Done>,
}

/// The store of one replica; a clone is another handle.
#[derive(Clone)]
pub struct Durable {
    inner: Arc<Inner>,
}

struct Inner {
    db: RwLock<Option<sled::Db>>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    failed: Arc<OnceLock<String>>,
}

/// Gives the value to put under a key.
pub(crate) fn put(key: Vec<u8>, body: &[u8]) -> Op {
    let sealed = codec::seal(&key, body);
    (key, Some(sealed))
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
    /// Opens the store of a data folder and gives it with the mark that was beside it.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if it cannot be read or the mark is missing or damaged, [`StoreError::Busy`] if it is in use.
    pub(crate) fn open(data_dir: &Path) -> Result<(Self, Mark), StoreError> {
        let dir = data_dir.join("store");
        let existed = dir.exists();
        fs::create_dir_all(&dir).map_err(|e| StoreError::io("make the data folder", e))?;
        let mark_file = MarkFile::open(data_dir)?;
        let mark = mark_file.read()?;
        if !existed && mark.is_some_and(|m| m != Mark::default()) {
            return Err(StoreError::lost("store", "its folder is gone, but the high-water mark is there"));
        }
        let db = open_sled(&dir)?;
        if mark.is_none() && guarded("read the store", || db.first())?.is_some() {
            return Err(StoreError::lost("high-water mark", "its file is gone, but the store has data"));
        }
        let files = Files::open(&dir)?;
        if mark.is_none() {
            guarded("flush the store", || db.flush())?;
            File::open(data_dir).and_then(|f| f.sync_all()).map_err(|e| StoreError::io("sync the data folder", e))?;
            mark_file.write(&Mark::default())?;
        }
        let inner = Self::start(db, files, mark_file, mark.unwrap_or_default());
        Ok((Self { inner: Arc::new(inner) }, mark.unwrap_or_default()))
    }

    fn start(db: sled::Db, files: Files, mark_file: MarkFile, mark: Mark) -> Inner {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let (sync_jobs, sync_queue) = mpsc::channel(QUEUE_MAX);
        let failed = Arc::new(OnceLock::new());
        let writer = Writer { db: db.clone(), failed: failed.clone(), next: sync_jobs };
        let syncer = Syncer { db: db.clone(), failed: failed.clone(), files, mark_file, mark };
        let threads =
            vec![std::thread::spawn(move || writer.run(queue)), std::thread::spawn(move || syncer.run(sync_queue))];
        Inner { db: RwLock::new(Some(db)), jobs: Mutex::new(Some(jobs)), threads: Mutex::new(threads), failed }
    }

    /// Hands a batch over; returns when it can be read, and calls `done`, if given, when it is durable.
    pub(crate) async fn write(
        &self,
        ops: Vec<Op>,
        mark: Option<MarkChange>,
        done: Option<Done>,
    ) -> Result<(), StoreError> {
        let (written, wait) = oneshot::channel();
        self.send(Job { ops, mark, written: Some(written), done }).await?;
        wait.await.map_err(|_| StoreError::Closed)?
    }

    /// Hands a batch over and returns when it, and all before it, are durable.
    pub(crate) async fn write_durably(&self, ops: Vec<Op>, mark: Option<MarkChange>) -> Result<(), StoreError> {
        let (sender, wait) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            // The waiter may have been dropped with its task; the write stands all the same.
            let _ = sender.send(result);
        });
        self.send(Job { ops, mark, written: None, done: Some(done) }).await?;
        wait.await.map_err(|_| StoreError::Closed)?
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        if let Some(cause) = self.inner.failed.get() {
            return Err(StoreError::Failed(cause.clone()));
        }
        let jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        jobs.ok_or(StoreError::Closed)?.send(job).await.map_err(|_| StoreError::Closed)
    }

    fn db(&self) -> Result<sled::Db, StoreError> {
        self.inner.db.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)
    }

    /// Gives the body under a key, checked. Blocks on the disk.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let db = self.db()?;
        let Some(value) = guarded("read the store", || db.get(key))? else { return Ok(None) };
        let body = codec::unseal(key, &value).map_err(StoreError::unreadable(describe(key)))?;
        Ok(Some(body.to_vec()))
    }

    /// Gives up to `limit` keys and bodies of a range, in order, checked. Blocks on the disk.
    pub(crate) fn range(&self, range: impl RangeBounds<Vec<u8>>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let db = self.db()?;
        let bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>) = (range.start_bound().cloned(), range.end_bound().cloned());
        let rows = guarded("read the store", || db.range(bounds).take(limit).collect::<Result<Vec<_>, _>>())?;
        let mut found = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            let body = codec::unseal(&key, &value).map_err(StoreError::unreadable(describe(&key)))?.to_vec();
            found.push((key.to_vec(), body));
        }
        Ok(found)
    }

    /// Gives the last key and body before `key`, checked. Blocks on the disk.
    pub(crate) fn last_before(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        let db = self.db()?;
        let Some((key, value)) = guarded("read the store", || db.get_lt(key))? else { return Ok(None) };
        let body = codec::unseal(&key, &value).map_err(StoreError::unreadable(describe(&key)))?.to_vec();
        Ok(Some((key.to_vec(), body)))
    }

    /// Ends both threads after what they hold is done, and lets the folder go. Blocks until then.
    pub fn close(&self) {
        drop(self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        drop(self.inner.db.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Names a key in words for an error.
fn describe(key: &[u8]) -> String {
    match key.split_first() {
        Some((b'l', index)) if index.len() == 8 => {
            let index = index.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
            format!("log entry {index}")
        }
        _ => format!("record {}", String::from_utf8_lossy(key).escape_debug()),
    }
}

/// The thread that applies batches.
struct Writer {
    db: sled::Db,
    failed: Arc<OnceLock<String>>,
    next: mpsc::Sender<Job>,
}

impl Writer {
    fn run(self, mut queue: mpsc::Receiver<Job>) {
        while let Some(mut job) = queue.blocking_recv() {
            let result = self.apply(std::mem::take(&mut job.ops));
            if let Err(error) = &result {
                // The first cause stays; a second failure is its consequence.
                let _ = self.failed.set(error.to_string());
            }
            if let Some(written) = job.written.take() {
                // Nobody waits any more: the batch is applied all the same.
                let _ = written.send(result.clone());
            }
            match (result, job.done.take()) {
                (Ok(()), None) => {}
                (Ok(()), done) => {
                    if self.next.blocking_send(Job { done, ..job }).is_err() {
                        return;
                    }
                }
                (Err(error), Some(done)) => done(Err(error)),
                (Err(_), None) => {}
            }
        }
    }

    fn apply(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        if let Some(cause) = self.failed.get() {
            return Err(StoreError::Failed(cause.clone()));
        }
        if ops.is_empty() {
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        for (key, value) in ops {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        guarded("write to the store", || self.db.apply_batch(batch))
    }
}

/// The thread that makes batches durable.
struct Syncer {
    db: sled::Db,
    failed: Arc<OnceLock<String>>,
    files: Files,
    mark_file: MarkFile,
    mark: Mark,
}

impl Syncer {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while let Some(first) = queue.blocking_recv() {
            group.push(first);
            while group.len() < GROUP_MAX
                && let Ok(job) = queue.try_recv()
            {
                group.push(job);
            }
            let result = self.sync(&group);
            if let Err(error) = &result {
                let _ = self.failed.set(error.to_string());
                tracing::error!(%error, "the store failed; this replica acknowledges nothing any more");
            }
            for done in group.drain(..).filter_map(|job| job.done) {
                done(result.clone());
            }
        }
    }

    fn sync(&mut self, group: &[Job]) -> Result<(), StoreError> {
        if let Some(cause) = self.failed.get() {
            return Err(StoreError::Failed(cause.clone()));
        }
        guarded("flush the store", || self.db.flush())?;
        self.files.sync()?;
        let mut mark = self.mark;
        for change in group.iter().filter_map(|job| job.mark) {
            match change {
                MarkChange::Last(last) => mark.last = last,
                MarkChange::Vote(vote) => mark.vote = Some(vote),
            }
        }
        if mark != self.mark {
            self.mark_file.write(&mark)?;
            self.mark = mark;
        }
        Ok(())
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
