//! Reading a log without changing anything: for whoever looks into the folder of a stopped replica.
//!
//! It checks what an open checks; the end that a power cut tore stays as it is.

use std::sync::Arc;

use super::disk::Disk;
use super::frame::{self, Salt};
use super::index::Index;
use super::mark::MarkFile;
use super::scan;
use super::segment::{self, Ends, Options};
use crate::codec::{self, EntryV1, LogIdV1, VoteV1};
use crate::error::StoreError;

/// A log that was read and checked, and in which nothing was changed.
pub(crate) struct Looked {
    index: Index,
    log: u64,
    /// Entries up to this one are purged.
    pub(crate) purged: Option<LogIdV1>,
    /// The last entry.
    pub(crate) last: Option<LogIdV1>,
    /// The vote.
    pub(crate) vote: Option<VoteV1>,
    /// The entry known to be committed.
    pub(crate) committed: Option<LogIdV1>,
    /// Segments in use.
    pub(crate) segments: usize,
}

/// Reads the log of a folder and checks it as [`scan::open`] does, but changes nothing.
///
/// # Errors
/// As [`scan::open`].
pub(crate) fn look(disk: &Arc<dyn Disk>) -> Result<Looked, StoreError> {
    let names = scan::list(disk.as_ref())?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number(name)).collect();
    let (_, mark) = MarkFile::open(disk.as_ref())?;
    scan::older_than_a_gap(&mut numbers);
    let (found, _) = scan::read_all(disk, &Options::default(), &numbers, Some(mark))?;
    found.check_mark(&mark)?;
    found.check_holes(&numbers)?;
    let Ends { purged, last, vote } = found.ends;
    let committed = mark.committed.filter(|id| last.is_some_and(|last| id.index <= last.index));
    let segments = found.segments.len();
    Ok(Looked { index: found.index, log: found.log, purged, last, vote, committed, segments })
}

impl Looked {
    /// Hands up to `limit` entries from `from` on to `step`; gives what it made of them.
    ///
    /// # Errors
    /// [`StoreError`] if one cannot be read any more; what `step` says.
    pub(crate) fn entries<T>(
        &self,
        disk: &dyn Disk,
        from: u64,
        limit: usize,
        mut step: impl FnMut(&EntryV1) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut made = Vec::new();
        let mut current: Option<(u64, Vec<u8>)> = None;
        for slot in self.index.range(from, u64::MAX).take(limit) {
            let what = format!("log entry {}", slot.id.index);
            let spot = slot.spot.ok_or_else(|| StoreError::lost(what.as_str(), "it lies nowhere"))?;
            let data = match current.take().filter(|(number, _)| *number == spot.segment) {
                Some((_, data)) => data,
                None => scan::read_segment(disk, spot.segment)?.1,
            };
            let salt = Salt { log: self.log, segment: spot.segment };
            let record = data.get(spot.offset as usize..).unwrap_or_default();
            let frame = frame::decode(record, salt).map_err(StoreError::unreadable(what.as_str()))?;
            let entry: EntryV1 = codec::decode(frame.body).map_err(StoreError::unreadable(what))?;
            made.push(step(&entry)?);
            current = Some((spot.segment, data));
        }
        Ok(made)
    }
}
