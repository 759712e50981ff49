//! The high-water mark: a small file that says how far this replica has acknowledged.
//!
//! It holds the last log id and the vote that were durable when they were acknowledged. It is written after the data it
//! speaks of (temporary file, fsync, rename, fsync of the folder), and lowered before entries are truncated. So at open
//! the data must reach it; where they do not, the store has forgotten something and the replica is lost.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codec::{self, LogIdV1, VoteV1};
use crate::error::StoreError;

/// Key under which the mark is sealed, so that no other sealed value can pass for it.
const MARK_KEY: &[u8] = b"mark";
/// Name of the file in the data folder.
const MARK_FILE: &str = "mark";

/// What was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The last entry.
    pub(crate) last: Option<LogIdV1>,
    /// The vote.
    pub(crate) vote: Option<VoteV1>,
}

/// Gives the bytes of the file.
pub(crate) fn encode(mark: &Mark) -> Vec<u8> {
    codec::seal(MARK_KEY, &codec::encode(mark))
}

/// The mark's file, held by the one thread that syncs.
#[derive(Debug)]
pub(crate) struct MarkFile {
    path: PathBuf,
    temporary: PathBuf,
    folder: File,
}

impl MarkFile {
    /// Opens the mark of a data folder.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let folder = File::open(data_dir).map_err(|e| StoreError::io("open the data folder", e))?;
        Ok(Self { path: data_dir.join(MARK_FILE), temporary: data_dir.join("mark.new"), folder })
    }

    /// Reads the mark; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if it is damaged.
    pub(crate) fn read(&self) -> Result<Option<Mark>, StoreError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io("read the high-water mark", e)),
        };
        let body = codec::unseal(MARK_KEY, &bytes).map_err(StoreError::unreadable("high-water mark"))?;
        codec::decode(body).map(Some).map_err(StoreError::unreadable("high-water mark"))
    }

    /// Replaces the mark; it is durable when this returns.
    pub(crate) fn write(&self, mark: &Mark) -> Result<(), StoreError> {
        let step = || {
            let mut file = File::create(&self.temporary)?;
            file.write_all(&encode(mark))?;
            file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            self.folder.sync_all()
        };
        step().map_err(|e| StoreError::io("write the high-water mark", e))
    }
}
