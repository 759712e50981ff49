//! Opening the log: every segment is read from the oldest to the newest, every record is checked.
//!
//! The log ends at the first record that is not right. That is the torn end of a write that was never acknowledged only if
//! the high-water mark does not reach it and no later record is a witness that it had been durable; then it is zeroed.
//! Everything else is [`StoreError::Lost`], in words that name the place. What lies beyond the mark is written again and
//! synced before it counts: after a failed fsync the pages that are read here may never have reached the disk.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::frame::{self, Frame, HeaderV1, Kind, Salt};
use super::index::{Index, Slot};
use super::mark::{MARK_FILE, MarkFile, MarkV1};
use super::segment::{self, Ends, Options, PAGE_BYTES, Prepared, Segment};
use crate::codec::{self, CodecError, EntryV1, LogIdV1, VoteV1};
use crate::error::StoreError;

/// A log that was opened.
pub(super) struct Opened {
    pub(super) index: Index,
    /// Oldest first; the last one is written to.
    pub(super) segments: VecDeque<Segment>,
    /// Segments that are prepared beyond it: none or one.
    pub(super) prepared: Option<Prepared>,
    pub(super) ends: Ends,
    pub(super) log: u64,
    pub(super) lsn: u64,
    pub(super) crc: u32,
    /// End of the records in the last segment; nothing but its header is still to be written if 0.
    pub(super) offset: usize,
    /// The records of the last page, up to the offset.
    pub(super) tail: Vec<u8>,
    pub(super) mark_file: MarkFile,
    pub(super) mark: MarkV1,
    /// Whether nothing was ever written to it.
    pub(super) pristine: bool,
}

/// Opens the log of a folder, making it if there is none and `existed` is not said.
///
/// # Errors
/// [`StoreError::Lost`] if anything that was acknowledged is missing or other; [`StoreError::Io`].
pub(super) fn open(disk: &Arc<dyn Disk>, options: &Options, existed: bool) -> Result<Opened, StoreError> {
    let mut names = list(disk.as_ref())?;
    for name in names.iter().filter(|name| name.ends_with(segment::NEW_SUFFIX)) {
        disk.remove(name).map_err(|e| StoreError::io("remove a half-made file of the log", e))?;
    }
    let marked = names.iter().any(|name| name == MARK_FILE);
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number(name)).collect();
    if numbers.is_empty() && (marked || existed) {
        let gone = if marked { "its segments are gone" } else { "its folder is gone" };
        return Err(StoreError::lost("log", gone));
    }
    if numbers.is_empty() {
        segment::create_first(disk.as_ref(), options)?;
        names = list(disk.as_ref())?;
        numbers = names.iter().filter_map(|name| segment::number(name)).collect();
    }
    let mark = if marked { Some(MarkFile::open(disk.as_ref())?) } else { None };
    let leftovers = older_than_a_gap(&mut numbers);
    let (scan, active) = read_all(disk, options, &numbers, mark.as_ref().map(|(_, mark)| *mark))?;
    if let Some((_, mark)) = &mark {
        scan.check_mark(mark)?;
    }
    scan.check_holes(&numbers)?;
    let (mark_file, before) = match mark {
        Some(found) => found,
        None if scan.pristine() => {
            let first = scan.mark(0, None);
            (MarkFile::create(disk.as_ref(), &first)?, first)
        }
        None => return Err(StoreError::lost("high-water mark", "its file is gone, but the log has records")),
    };
    let opened = make_sound(disk, scan, active, mark_file, before)?;
    for number in leftovers {
        disk.remove(&segment::name(number)).map_err(|e| StoreError::io("remove an old segment of the log", e))?;
    }
    Ok(opened)
}

pub(super) fn list(disk: &dyn Disk) -> Result<Vec<String>, StoreError> {
    disk.list().map_err(|e| StoreError::io("list the files of the log", e))
}

/// Keeps the segments up to the newest that follow each other, and gives those before the gap: a removal that a power
/// cut undid. If an entry in them is still needed, [`Scan::check_holes`] finds it missing.
pub(super) fn older_than_a_gap(numbers: &mut Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    let rest = numbers.split_off(gap.map_or(0, |at| at + 1));
    std::mem::replace(numbers, rest)
}

/// The newest segment that is in use, as it was read.
pub(super) struct Active {
    data: Vec<u8>,
    /// End of the records.
    offset: usize,
    prepared: Option<Prepared>,
}

pub(super) fn read_all(
    disk: &Arc<dyn Disk>,
    options: &Options,
    numbers: &[u64],
    mark: Option<MarkV1>,
) -> Result<(Scan, Active), StoreError> {
    let mut rest = numbers.iter().copied();
    let mut number = rest.next().ok_or_else(|| StoreError::lost("log", "its segments are gone"))?;
    let (mut file, mut data) = read_segment(disk.as_ref(), number)?;
    let mut scan = Scan::begin(number, &data, options, mark)?;
    loop {
        match scan.segment(number, file, &data, mark)? {
            End::Open(offset) => {
                let prepared = check_prepared(disk.as_ref(), rest)?;
                return Ok((scan, Active { data, offset, prepared }));
            }
            End::Sealed => {
                let gone = || StoreError::lost(format!("log segment {}", number + 1), "its file is gone");
                number = rest.next().ok_or_else(gone)?;
                (file, data) = read_segment(disk.as_ref(), number)?;
            }
        }
    }
}

pub(super) fn read_segment(disk: &dyn Disk, number: u64) -> Result<(Arc<dyn DiskFile>, Vec<u8>), StoreError> {
    let step = || {
        let file = disk.open(&segment::name(number))?;
        let mut data = vec![0; usize::try_from(file.bytes()?).map_err(std::io::Error::other)?];
        file.read_at(&mut data, 0)?;
        Ok((file, data))
    };
    step().map_err(|e| StoreError::io(format!("read log segment {number}"), e))
}

/// Checks that the segments after the one in use are blank: one is made ahead.
fn check_prepared(disk: &dyn Disk, numbers: impl Iterator<Item = u64>) -> Result<Option<Prepared>, StoreError> {
    let mut prepared = None;
    for number in numbers {
        let (file, data) = read_segment(disk, number)?;
        if data.iter().take(PAGE_BYTES).any(|b| *b != 0) {
            let why = "it is in use, but the segment before it has no end";
            return Err(StoreError::lost(format!("log segment {number}"), why));
        }
        prepared = prepared.or(Some((number, file)));
    }
    Ok(prepared)
}

/// How a segment ends.
enum End {
    /// With the record that says so.
    Sealed,
    /// At this offset.
    Open(usize),
}

/// What the records up to here say.
pub(super) struct Scan {
    pub(super) log: u64,
    lsn: u64,
    crc: u32,
    pub(super) ends: Ends,
    pub(super) index: Index,
    pub(super) segments: VecDeque<Segment>,
    /// CRC and ends at the record the mark speaks of.
    at_mark: Option<(u32, Ends)>,
    /// Bytes beyond the mark, in sealed segments: to be written again.
    again: Vec<(Arc<dyn DiskFile>, usize, Vec<u8>)>,
    /// Offset in the last segment of the first record beyond the mark.
    beyond: Option<usize>,
    /// Records other than headers.
    records: u64,
}

impl Scan {
    /// Takes what the header of the oldest segment says of all before it.
    fn begin(number: u64, data: &[u8], options: &Options, mark: Option<MarkV1>) -> Result<Self, StoreError> {
        let what = || format!("log segment {number}");
        let salt = Salt { log: 0, segment: number };
        let first = frame::decode(data, salt).map_err(|e| StoreError::lost(what(), format!("its header: {e}")))?;
        if first.kind != Kind::Header {
            return Err(StoreError::lost(what(), "it does not begin with a header"));
        }
        let header: HeaderV1 = codec::decode(first.body).map_err(StoreError::unreadable(what()))?;
        let ends = Ends { purged: header.purged, last: header.last, vote: header.vote };
        let (lsn, crc) = (first.place.lsn.saturating_sub(1), first.place.previous);
        Ok(Self {
            log: header.log,
            lsn,
            crc,
            ends,
            index: Index::new(header.last, options.kept_bytes_max),
            segments: VecDeque::new(),
            at_mark: mark.filter(|mark| mark.lsn == lsn).map(|_| (crc, ends)),
            again: Vec::new(),
            beyond: None,
            records: 0,
        })
    }

    /// Reads one segment to its end.
    fn segment(
        &mut self,
        number: u64,
        file: Arc<dyn DiskFile>,
        data: &[u8],
        mark: Option<MarkV1>,
    ) -> Result<End, StoreError> {
        self.segments.push_back(Segment { number, file: file.clone(), highest: None });
        self.beyond = None;
        let mut offset = 0;
        loop {
            let frame = match self.next(number, data, offset) {
                Ok(frame) => frame,
                Err(why) => {
                    self.judge(number, data, offset, &why, mark)?;
                    return Ok(End::Open(offset));
                }
            };
            self.apply(number, data.len(), offset, &frame)?;
            if mark.is_none_or(|mark| self.lsn > mark.lsn) && self.beyond.is_none() {
                self.beyond = Some(offset);
            }
            if mark.is_some_and(|mark| self.lsn == mark.lsn) {
                self.at_mark = Some((self.crc, self.ends));
            }
            offset += frame.bytes;
            if frame.kind == Kind::Seal {
                if let Some(from) = self.beyond {
                    self.again.push((file, from, data[from..offset].to_vec()));
                }
                return Ok(End::Sealed);
            }
        }
    }

    /// Gives the next record of the chain.
    fn next<'a>(&self, number: u64, data: &'a [u8], offset: usize) -> Result<Frame<'a>, CodecError> {
        let salt = Salt { log: self.log, segment: number };
        let frame = frame::decode(data.get(offset..).unwrap_or_default(), salt)?;
        let expected = self.lsn + 1;
        if frame.place.lsn != expected || frame.place.previous != self.crc {
            let found = frame.place.lsn;
            return Err(CodecError::Body(format!("record {found} is there, which does not follow {}", self.lsn)));
        }
        if (frame.kind == Kind::Header) != (offset == 0) {
            return Err(CodecError::Body(format!("a {:?} record has no place there", frame.kind)));
        }
        Ok(frame)
    }

    /// Decides whether a bad record is the torn end of what was never acknowledged.
    fn judge(
        &self,
        number: u64,
        data: &[u8],
        offset: usize,
        why: &CodecError,
        mark: Option<MarkV1>,
    ) -> Result<(), StoreError> {
        let bad = self.lsn + 1;
        let lost = |proof: String| {
            let ends =
                self.ends.last.map_or_else(|| "before the first entry".into(), |id| format!("at entry {}", id.index));
            let text =
                format!("record {bad} at byte {offset} cannot be read ({why}), but {proof}; the log ends {ends}");
            Err(StoreError::lost(format!("log segment {number}"), text))
        };
        if let Some(mark) = mark.filter(|mark| mark.lsn >= bad) {
            let (lsn, last, vote) = (mark.lsn, mark.last, mark.vote);
            return lost(format!("records up to {lsn} were acknowledged (last entry {last:?}, vote {vote:?})"));
        }
        let salt = Salt { log: self.log, segment: number };
        let from = offset.next_multiple_of(frame::ALIGN).min(data.len());
        match frame::find_witness(&data[from..], salt, bad) {
            Some(at) => lost(format!("the record at byte {} shows that it was acknowledged", from + at)),
            None => Ok(()),
        }
    }

    /// Takes one record in.
    fn apply(&mut self, number: u64, length: usize, offset: usize, frame: &Frame<'_>) -> Result<(), StoreError> {
        let what = || format!("log segment {number}, byte {offset}");
        let lost = |why: String| StoreError::lost(what(), why);
        match frame.kind {
            Kind::Header => self.check_header(number, length, frame)?,
            Kind::Entry => {
                let entry: EntryV1 = codec::decode(frame.body).map_err(StoreError::unreadable(what()))?;
                let spot = segment::spot(number, offset, frame.bytes).map_err(lost)?;
                self.index.push(Slot { id: entry.id, spot: Some(spot), entry: None }).map_err(lost)?;
                self.ends.last = Some(entry.id);
                if let Some(segment) = self.segments.back_mut() {
                    segment.highest = segment.highest.max(Some(entry.id.index));
                }
            }
            Kind::Vote => {
                let vote: VoteV1 = codec::decode(frame.body).map_err(StoreError::unreadable(what()))?;
                self.ends.vote = Some(vote);
            }
            Kind::Truncate => {
                let keep: Option<LogIdV1> = codec::decode(frame.body).map_err(StoreError::unreadable(what()))?;
                self.index.truncate(keep);
                self.ends.last = keep;
            }
            Kind::Purge => {
                let upto: LogIdV1 = codec::decode(frame.body).map_err(StoreError::unreadable(what()))?;
                self.index.purge(upto);
                self.ends.purge(upto);
            }
            Kind::Seal => {}
        }
        if frame.kind != Kind::Header {
            self.records += 1;
        }
        (self.lsn, self.crc) = (frame.place.lsn, frame.crc);
        Ok(())
    }

    fn check_header(&self, number: u64, length: usize, frame: &Frame<'_>) -> Result<(), StoreError> {
        let what = format!("log segment {number}");
        let header: HeaderV1 = codec::decode(frame.body).map_err(StoreError::unreadable(what.as_str()))?;
        if header.log != self.log || header.segment != number {
            return Err(StoreError::lost(what, "it belongs to another log"));
        }
        if header.bytes != length as u64 {
            return Err(StoreError::lost(what, format!("it has {length} bytes, {} belong to it", header.bytes)));
        }
        let said = Ends { purged: header.purged, last: header.last, vote: header.vote };
        if said != self.ends {
            return Err(StoreError::lost(
                what,
                format!("its header says {said:?}, the records before it {:?}", self.ends),
            ));
        }
        Ok(())
    }

    /// Compares what was read with what was acknowledged.
    pub(super) fn check_mark(&self, mark: &MarkV1) -> Result<(), StoreError> {
        if mark.log != self.log {
            return Err(StoreError::lost("high-water mark", "it belongs to another log"));
        }
        // The record may be in a segment that was removed since; the mark is older then.
        let Some((crc, ends)) = self.at_mark else { return Ok(()) };
        if crc != mark.crc || ends.last != mark.last || ends.vote != mark.vote {
            let why = format!(
                "record {} is another than the one that was acknowledged: {:?} and {:?} were, {:?} and {:?} are there",
                mark.lsn, mark.last, mark.vote, ends.last, ends.vote
            );
            return Err(StoreError::lost("log", why));
        }
        Ok(())
    }

    /// Checks that every entry after the purged ones is there.
    pub(super) fn check_holes(&self, numbers: &[u64]) -> Result<(), StoreError> {
        let (base, purged) = (self.index.base().map(|id| id.index), self.ends.purged.map(|id| id.index));
        if base > purged {
            let from = purged.map_or(0, |index| index + 1);
            let why = format!(
                "a hole: entries {from} to {} are missing; they were in segments before {}, which are gone",
                base.unwrap_or_default(),
                numbers.first().copied().unwrap_or_default()
            );
            return Err(StoreError::lost("log", why));
        }
        Ok(())
    }

    fn pristine(&self) -> bool {
        self.records == 0 && self.lsn == 1
    }

    fn mark(&self, number: u64, committed: Option<LogIdV1>) -> MarkV1 {
        let (last, vote) = (self.ends.last, self.ends.vote);
        MarkV1 { number, log: self.log, lsn: self.lsn, crc: self.crc, last, vote, committed }
    }
}

/// Writes what lies beyond the mark again, zeroes what lies behind the last record, and marks the result.
fn make_sound(
    disk: &Arc<dyn Disk>,
    scan: Scan,
    active: Active,
    mark_file: MarkFile,
    before: MarkV1,
) -> Result<Opened, StoreError> {
    let committed = before.committed.filter(|id| scan.ends.last.is_some_and(|last| id.index <= last.index));
    let mark = scan.mark(before.number + 1, committed);
    let pristine = scan.pristine();
    let Active { data, offset, prepared } = active;
    let Some(last) = scan.segments.back() else { return Err(StoreError::lost("log", "its segments are gone")) };
    let step = || {
        for (file, from, bytes) in &scan.again {
            file.write_at(bytes, *from as u64)?;
            file.sync()?;
        }
        let mut changed = false;
        if let Some(from) = scan.beyond {
            last.file.write_at(&data[from..offset], from as u64)?;
            changed = true;
        }
        let mut at = offset;
        while at < data.len() {
            let end = (at / PAGE_BYTES * PAGE_BYTES + PAGE_BYTES).min(data.len());
            if data[at..end].iter().any(|b| *b != 0) {
                last.file.write_at(&vec![0; end - at], at as u64)?;
                changed = true;
            }
            at = end;
        }
        if changed { last.file.sync() } else { Ok(()) }
    };
    step().map_err(|e| StoreError::io("write the end of the log again", e))?;
    mark_file.write(&mark)?;
    mark_file.sync()?;
    disk.sync().map_err(|e| StoreError::io("sync the folder of the log", e))?;
    let tail = data[offset / PAGE_BYTES * PAGE_BYTES..offset].to_vec();
    Ok(Opened {
        index: scan.index,
        segments: scan.segments,
        prepared,
        ends: scan.ends,
        log: scan.log,
        lsn: scan.lsn,
        crc: scan.crc,
        offset,
        tail,
        mark_file,
        mark,
        pristine,
    })
}
