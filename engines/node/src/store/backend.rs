//! The store's file: redb's own backend, whose writes wait for room on the disk (see [`crate::room`]).
//!
//! redb gives a file up for good after a failed write. A write that waits is no failure to it, and readers, who share
//! the file, go on meanwhile.

use std::fs::File;
use std::io::Error;
use std::ops::Bound;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::NodeError;
use crate::room::Room;

/// A file and the room it has.
#[derive(Debug)]
pub(super) struct PatientFile {
    file: FileBackend,
    room: Room,
}

impl PatientFile {
    pub(super) fn open(path: &Path, room: Room) -> Result<Self, NodeError> {
        let options = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = options.map_err(NodeError::io("cannot open", path))?;
        let file = FileBackend::new(file).map_err(NodeError::store("open its file"))?;
        Ok(Self { file, room })
    }
}

impl StorageBackend for PatientFile {
    fn len(&self) -> Result<u64, Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.room.insist(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.room.insist(|| self.file.write(offset, data))
    }

    fn close(&self) -> Result<(), Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
