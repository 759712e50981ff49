//! The files of the log: their names, their making, and what is known of each.
//!
//! A segment is really written, with zeros, and synced with its name before it is used: so an append changes no metadata
//! and one fdatasync suffices. It grows no more; the next one is made while this one fills (`pool`).

use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::frame::{self, HeaderV1, Kind, Place, Salt};
use super::index::Spot;
use crate::codec::{self, LogIdV1, VoteV1};
use crate::error::StoreError;

/// The unit in which the kernel writes a file; groups are padded to it, so that it never has to read before it writes.
pub(super) const PAGE_BYTES: usize = 4_096;
/// End of the name of a file that is being made.
pub(super) const NEW_SUFFIX: &str = ".new";
const SUFFIX: &str = ".log";
/// Zeros written by one call.
const ZEROS: usize = 256 * 1024;

/// Sizes of a log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length of the first segment: small, so that a new replica starts at once. A multiple of 4096.
    pub first_bytes: u64,
    /// Length of all others. A multiple of 4096, at most 1 GiB.
    pub segment_bytes: u64,
    /// Bytes of recent entries kept in memory.
    pub kept_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { first_bytes: 1024 * 1024, segment_bytes: 16 * 1024 * 1024, kept_bytes_max: 32 * 1024 * 1024 }
    }
}

impl Options {
    /// Longest body of a record: two fit in a segment.
    pub(super) fn body_bytes_max(&self) -> usize {
        usize::try_from(self.segment_bytes / 2).unwrap_or(usize::MAX).saturating_sub(PAGE_BYTES)
    }
}

/// The state after a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// Entries up to this one are purged.
    pub(super) purged: Option<LogIdV1>,
    /// The last entry.
    pub(super) last: Option<LogIdV1>,
    /// The vote.
    pub(super) vote: Option<VoteV1>,
}

impl Ends {
    /// Purges; a snapshot may lie beyond the last entry.
    pub(super) fn purge(&mut self, upto: LogIdV1) {
        self.purged = Some(upto);
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
        }
    }
}

/// A segment in use.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    /// Highest index of an entry in it: it can go when that is purged.
    pub(super) highest: Option<u64>,
}

/// A segment that was made ahead: its number and file.
pub(super) type Prepared = (u64, Arc<dyn DiskFile>);

/// Gives the name of a segment's file.
pub(super) fn name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// Reads a segment's number out of a file's name.
pub(super) fn number(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// Says where a record lies.
pub(super) fn spot(segment: u64, offset: usize, bytes: usize) -> Result<Spot, String> {
    let short = |n: usize| u32::try_from(n).map_err(|e| format!("a segment of that length is none of ours: {e}"));
    Ok(Spot { segment, offset: short(offset)?, bytes: short(bytes)? })
}

/// Makes a segment of zeros that begins with `start`; file and name are durable when this returns. What a failure leaves
/// behind has a name that the next open removes.
pub(super) fn create(disk: &dyn Disk, number: u64, bytes: u64, start: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    let (new, zeros) = (format!("{number:020}{NEW_SUFFIX}"), vec![0; ZEROS]);
    let write = || {
        let file = disk.create(&new)?;
        let mut at = 0;
        while at < bytes {
            let part = (bytes - at).min(ZEROS as u64);
            file.write_at(&zeros[..usize::try_from(part).unwrap_or(ZEROS)], at)?;
            at += part;
        }
        file.write_at(start, 0)?;
        file.sync()?;
        Ok(file)
    };
    let file = match write() {
        Ok(file) => file,
        Err(error) => {
            // Half a segment would take the very space that is missing. If it cannot go, the next open removes it.
            let _ = disk.remove(&new);
            return Err(error);
        }
    };
    disk.rename(&new, &name(number))?;
    disk.sync()?;
    Ok(file)
}

/// Makes the first segment of a new log, with its header.
pub(super) fn create_first(disk: &dyn Disk, options: &Options) -> Result<(), StoreError> {
    // The only source of chance in std; it need not be secret, only different for each log.
    let log = std::hash::RandomState::new().build_hasher().finish();
    let header = HeaderV1 { log, segment: 1, bytes: options.first_bytes, purged: None, last: None, vote: None };
    let mut bytes = Vec::new();
    let place = Place { lsn: 1, synced: 0, previous: 0 };
    frame::encode(&mut bytes, Salt { log, segment: 1 }, Kind::Header, place, |out| {
        out.extend_from_slice(&codec::encode(&header));
    });
    create(disk, 1, options.first_bytes, &bytes).map_err(|e| StoreError::io("make the first segment of the log", e))?;
    Ok(())
}
