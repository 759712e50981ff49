//! sled's folder: opening it, calling it, and syncing what it writes.
//!
//! sled may panic on what it finds, never syncs its file, and refuses a folder whose last holder is just ending; here each
//! becomes an answer or an error. It never repairs.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};

use crate::error::StoreError;

/// What sled may write for a batch: a few short values, but it writes whole pages anew.
const RESERVE_BYTES: u64 = 8 << 20;
/// What must be free besides.
const BESIDE_BYTES: u64 = 4 << 20;
/// Memory sled may use as cache; it holds a handful of keys.
const CACHE_BYTES: u64 = 1024 * 1024;
/// How long to wait for the lock of a store whose last holder is just ending.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Between two tries for the lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// Runs what may panic inside sled; a panic is a lost store.
pub(super) fn guarded<T>(what: &str, step: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, StoreError> {
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
pub(super) fn open_sled(dir: &Path) -> Result<sled::Db, StoreError> {
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

/// What lies under sled and must be synced by us.
pub(super) struct Files {
    db: File,
    /// Up to here the blocks of `db` are ours.
    reserved: u64,
    folder: File,
    blobs: PathBuf,
    synced: HashSet<OsString>,
}

impl Files {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let failed = |path: &Path, e| StoreError::io(format!("open {}", path.display()), e);
        let path = dir.join("db");
        // To write is the right to reserve; sled alone writes.
        let db = File::options().read(true).write(true).open(&path).map_err(|e| failed(&path, e))?;
        let folder = File::open(dir).map_err(|e| failed(dir, e))?;
        Ok(Self { db, reserved: 0, folder, blobs: dir.join("blobs"), synced: HashSet::new() })
    }

    /// Has blocks given for changes, beyond the end of the file; its length stays as it is. `bytes` of history beside them
    /// must find room too, with what has no blocks ahead: new files.
    pub(super) fn reserve(&mut self, bytes: u64) -> std::io::Result<()> {
        let length = self.db.metadata()?.len();
        if self.reserved < length.saturating_add(RESERVE_BYTES) {
            // More than is needed now, so that it is seldom asked; less where there is not so much.
            let ask = |size| fallocate(&self.db, FallocateFlags::KEEP_SIZE, length, size).map(|()| size);
            match ask(2 * RESERVE_BYTES).or_else(|_| ask(RESERVE_BYTES)) {
                Ok(size) => self.reserved = length + size,
                // The file system cannot reserve: what is free must do.
                Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let stat = rustix::fs::fstatvfs(&self.db)?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < bytes.saturating_add(BESIDE_BYTES) {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
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
