//! The high-water mark: how far this replica has acknowledged, apart from the data itself.
//!
//! It is written, but not synced, after the sync of a group and before its acknowledgement: so it never runs ahead of
//! the data in a power cut, and after `kill -9` it is exact, for the kernel still has it. Two slots in different pages
//! take turns, so that a write cut in two leaves the one before. It is synced when the log is idle, at each new segment
//! and at the end; a power cut before that leaves an older mark, and the `synced` number in each record says the rest.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskFile};
use crate::codec::{self, CodecError, LogIdV1, VoteV1};
use crate::error::StoreError;

/// Key under which a slot is sealed, so that no other sealed value can pass for it.
const KEY: &[u8] = b"mark";
/// Name of the file.
pub(super) const MARK_FILE: &str = "mark";
/// Name of the file before it is complete.
const NEW_FILE: &str = "mark.new";
/// Distance of the slots: the unit in which disks and kernels lose things.
const SLOT_BYTES: u64 = 4_096;
/// Longest slot: one sector, which is written as a whole or not at all.
const MARK_BYTES_MAX: usize = 512;
const SLOTS: u64 = 2;

/// What was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkV1 {
    /// Counts the marks: the higher one holds.
    pub(crate) number: u64,
    /// Id of the log it belongs to.
    pub(crate) log: u64,
    /// Last durable record.
    pub(crate) lsn: u64,
    /// Its CRC, which stands for everything up to it.
    pub(crate) crc: u32,
    /// The last entry then.
    pub(crate) last: Option<LogIdV1>,
    /// The vote then.
    pub(crate) vote: Option<VoteV1>,
    /// Entries known to be committed then: only says how far to replay at once after a restart.
    pub(crate) committed: Option<LogIdV1>,
}

/// Gives the bytes of a slot.
pub(crate) fn encode(mark: &MarkV1) -> Vec<u8> {
    let sealed = codec::seal(KEY, &codec::encode(mark));
    let length = u16::try_from(sealed.len()).expect("a mark fits a sector");
    let mut slot = Vec::with_capacity(MARK_BYTES_MAX);
    slot.extend_from_slice(&length.to_be_bytes());
    slot.extend_from_slice(&sealed);
    assert!(slot.len() <= MARK_BYTES_MAX, "a mark fits a sector");
    slot
}

/// Reads a slot.
pub(crate) fn decode(slot: &[u8]) -> Result<MarkV1, CodecError> {
    let Some((length, rest)) = slot.split_first_chunk::<2>() else { return Err(CodecError::Truncated(slot.len())) };
    let length = usize::from(u16::from_be_bytes(*length));
    let sealed = rest.get(..length).ok_or(CodecError::Truncated(slot.len()))?;
    codec::decode(codec::unseal(KEY, sealed)?)
}

/// The mark's file.
pub(super) struct MarkFile {
    file: Arc<dyn DiskFile>,
}

impl MarkFile {
    /// Makes the file of a new log; it is durable when this returns.
    pub(super) fn create(disk: &dyn Disk, mark: &MarkV1) -> Result<Self, StoreError> {
        let step = || {
            let file = disk.create(NEW_FILE)?;
            file.write_at(&vec![0; usize::try_from(SLOT_BYTES * SLOTS).unwrap_or_default()], 0)?;
            for slot in 0..SLOTS {
                file.write_at(&encode(mark), slot * SLOT_BYTES)?;
            }
            file.sync()?;
            disk.rename(NEW_FILE, MARK_FILE)?;
            disk.sync()?;
            Ok(Self { file })
        };
        step().map_err(|e| StoreError::io("make the high-water mark", e))
    }

    /// Opens the file and gives the newer readable slot.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if none is readable.
    pub(super) fn open(disk: &dyn Disk) -> Result<(Self, MarkV1), StoreError> {
        let io = |e| StoreError::io("read the high-water mark", e);
        let file = disk.open(MARK_FILE).map_err(io)?;
        let bytes = file.bytes().map_err(io)?;
        let mut newest: Option<MarkV1> = None;
        let mut damage = None;
        for slot in 0..SLOTS {
            let mut buffer = [0; MARK_BYTES_MAX];
            let read = if bytes < slot * SLOT_BYTES + MARK_BYTES_MAX as u64 {
                Err(CodecError::Truncated(usize::try_from(bytes).unwrap_or(usize::MAX)))
            } else {
                file.read_at(&mut buffer, slot * SLOT_BYTES).map_err(io)?;
                decode(&buffer)
            };
            match read {
                Ok(mark) if newest.is_none_or(|n| n.number < mark.number) => newest = Some(mark),
                Ok(_) => {}
                Err(error) => damage = Some(error),
            }
        }
        match (newest, damage) {
            (Some(mark), None) => Ok((Self { file }, mark)),
            (Some(mark), Some(error)) => {
                tracing::warn!(%error, "one of the two high-water marks is damaged; the other one holds");
                Ok((Self { file }, mark))
            }
            (None, error) => Err(StoreError::lost("high-water mark", error.unwrap_or(CodecError::Truncated(0)))),
        }
    }

    /// Writes a mark over the older one; not yet durable.
    pub(super) fn write(&self, mark: &MarkV1) -> Result<(), StoreError> {
        let at = mark.number % SLOTS * SLOT_BYTES;
        self.file.write_at(&encode(mark), at).map_err(|e| StoreError::io("write the high-water mark", e))
    }

    /// Makes the marks durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync().map_err(|e| StoreError::io("sync the high-water mark", e))
    }
}
