//! The files of history: for each kind a row of segments, the last of which grows.
//!
//! `<kind>-<first seq>.records` holds records one after the other ([`segment`]); when it is full, an index is written
//! beside it (`.index`), both are durable, and only then the next one is made. So a page is one or two positioned reads
//! wherever it lies, and a start looks through the last segment of each kind alone, however many there are; of the others
//! it checks that they are there, whole, and follow one another. Only the last one's places are in memory.
//!
//! What is durable is said by the heads that the store keeps: a record up to there that cannot be read is a loss, found
//! at the start or when it is read. What lies beyond, in the last segment, is what a power cut tore: sound records stay
//! (a replay must make the same), the rest is written over with zeros. Nothing else is ever changed or removed.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{parse_key, segment};
use crate::error::StoreError;
use crate::wal::{Disk, DiskFile};

/// Length at which a segment is full; a start reads so much of each kind at most.
const SEGMENT_BYTES: u32 = 32 * 1024 * 1024;
/// Records read from the disk at once.
const PIECE: u64 = 512;
/// Bytes that are read from the disk at once: what one segment may hold, and its last record.
const PIECE_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Reserved with every batch, besides its length: heads of records, and what the end of a segment takes (its index, the head
/// of the next one), for which the rest of the reserve is given back first.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1024 * 1024;
/// Zeros written at once.
const ZEROS: usize = 1024 * 1024;
/// Ends of the names.
const RECORDS: &str = ".records";
const INDEX: &str = ".index";

/// A full segment.
#[derive(Clone, Copy, Debug)]
struct Full {
    first: u64,
    count: u32,
}

/// The segment that grows.
#[derive(Clone)]
struct Growing {
    first: u64,
    file: Arc<dyn DiskFile>,
    /// Where each record begins, and where the last one ends.
    places: Vec<u32>,
}

impl Growing {
    fn next(&self) -> u64 {
        self.first + self.places.len() as u64 - 1
    }

    fn end(&self) -> u32 {
        self.places.last().copied().unwrap_or_default()
    }
}

/// One kind: records from 1 on without a hole.
struct Row {
    full: Vec<Full>,
    growing: Growing,
}

/// Where a record lies, and how many follow it there.
struct Found {
    first: u64,
    count: u64,
    /// The segment that grows, with the places that were asked for.
    growing: Option<(Arc<dyn DiskFile>, Vec<u32>)>,
}

/// All files of history of one replica.
pub struct Files {
    disk: Arc<dyn Disk>,
    segment_bytes: u32,
    rows: RwLock<BTreeMap<String, Row>>,
    looked_at: AtomicU64,
}

fn name(kind: &str, first: u64, end: &str) -> String {
    format!("{kind}-{first:020}{end}")
}

fn parse_name(name: &str) -> Option<(&str, u64)> {
    let (kind, first) = name.strip_suffix(RECORDS)?.rsplit_once('-')?;
    Some((kind, first.parse().ok()?))
}

fn of_kind(kind: &str, seq: u64) -> String {
    format!("history record {seq} of {kind}")
}

fn failed(what: &str) -> impl Fn(io::Error) -> StoreError {
    move |e| StoreError::io(format!("{what} history"), e)
}

/// A file that is missing or too short is lost; what else the system says may pass.
fn missing(what: String) -> impl Fn(io::Error) -> StoreError {
    move |e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => StoreError::lost(what.clone(), e),
        _ => StoreError::io(format!("read {what}"), e),
    }
}

impl Files {
    /// Opens what is on the disk and checks that it reaches `durable`. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if it does not, or a file is gone or cut short.
    pub fn open(disk: Arc<dyn Disk>, durable: &BTreeMap<String, u64>) -> Result<Self, StoreError> {
        Self::open_sized(disk, durable, SEGMENT_BYTES)
    }

    /// As [`Files::open`], with segments of another length.
    ///
    /// # Errors
    /// As [`Files::open`].
    pub fn open_sized(
        disk: Arc<dyn Disk>,
        durable: &BTreeMap<String, u64>,
        segment_bytes: u32,
    ) -> Result<Self, StoreError> {
        let mut kinds: BTreeMap<String, Vec<u64>> = durable.keys().map(|kind| (kind.clone(), Vec::new())).collect();
        for name in disk.list().map_err(failed("list"))? {
            if let Some((kind, first)) = parse_name(&name) {
                kinds.entry(kind.to_owned()).or_default().push(first);
            }
        }
        let files = Self { disk, segment_bytes, rows: RwLock::default(), looked_at: AtomicU64::new(0) };
        let mut rows = BTreeMap::new();
        for (kind, mut firsts) in kinds {
            firsts.sort_unstable();
            let last = durable.get(&kind).copied().unwrap_or(0);
            if let Some(row) = files.open_row(&kind, firsts, last)? {
                rows.insert(kind, row);
            }
        }
        *files.rows.write().unwrap_or_else(PoisonError::into_inner) = rows;
        Ok(files)
    }

    fn open_row(&self, kind: &str, mut firsts: Vec<u64>, durable: u64) -> Result<Option<Row>, StoreError> {
        // A segment that was just being made when the power went has no sound head, and nothing durable in it.
        while let Some(first) = firsts.last().copied().filter(|first| *first > durable) {
            if self.has_head(kind, first)?.is_ok() {
                break;
            }
            self.disk.remove(&name(kind, first, RECORDS)).map_err(failed("remove torn"))?;
            self.disk.sync().map_err(failed("sync"))?;
            firsts.pop();
        }
        let Some(growing) = firsts.last().copied() else {
            if durable == 0 {
                return Ok(None);
            }
            return Err(StoreError::lost("history", format!("records of {kind} up to {durable} are gone")));
        };
        if firsts[0] != 1 {
            return Err(StoreError::lost("history", format!("records of {kind} before {} are gone", firsts[0])));
        }
        let mut full = Vec::with_capacity(firsts.len());
        for pair in firsts.windows(2) {
            full.push(self.check_full(kind, pair[0], pair[1])?);
        }
        Ok(Some(Row { full, growing: self.open_growing(kind, growing, durable)? }))
    }

    /// Looks at the head of a segment.
    fn has_head(&self, kind: &str, first: u64) -> Result<Result<(), crate::CodecError>, StoreError> {
        let what = format!("history from record {first} of {kind}");
        let file = self.disk.open(&name(kind, first, RECORDS)).map_err(missing(what.clone()))?;
        let bytes = file.bytes().map_err(missing(what.clone()))?;
        let mut head = vec![0; segment::head(kind, first).len()];
        if bytes < head.len() as u64 {
            return Ok(Err(crate::CodecError::Truncated(usize::try_from(bytes).unwrap_or_default())));
        }
        file.read_at(&mut head, 0).map_err(missing(what))?;
        Ok(segment::check_head(&head, kind, first))
    }

    /// Checks that a full segment is there, and that the next one follows it.
    fn check_full(&self, kind: &str, first: u64, next: u64) -> Result<Full, StoreError> {
        let what = format!("history from record {first} of {kind}");
        let unfit = || StoreError::lost(what.clone(), format!("the next segment begins with record {next}"));
        let count = u32::try_from(next - first).map_err(|_| unfit())?;
        self.has_head(kind, first)?.map_err(StoreError::unreadable(what.clone()))?;
        let index = self.disk.open(&name(kind, first, INDEX)).map_err(missing(format!("the index of {what}")))?;
        let mut head = vec![0; usize::try_from(segment::index_head_bytes(kind)).unwrap_or_default()];
        index.read_at(&mut head, 0).map_err(missing(format!("the index of {what}")))?;
        let end = segment::check_index_head(&head, kind, first, count);
        let end = end.map_err(StoreError::unreadable(format!("the index of {what}")))?;
        let wanted = head.len() as u64 + (u64::from(count) + 1) * segment::PLACE_BYTES;
        let records = self.disk.open(&name(kind, first, RECORDS)).map_err(missing(what.clone()))?;
        let bytes = |file: &Arc<dyn DiskFile>| file.bytes().map_err(missing(what.clone()));
        if bytes(&index)? < wanted || bytes(&records)? < u64::from(end) {
            return Err(StoreError::lost(what.clone(), "it is cut short"));
        }
        Ok(Full { first, count })
    }

    /// Looks through the last segment; what a power cut tore beyond the durable records is written over.
    fn open_growing(&self, kind: &str, first: u64, durable: u64) -> Result<Growing, StoreError> {
        let what = format!("history from record {first} of {kind}");
        self.has_head(kind, first)?.map_err(StoreError::unreadable(what.clone()))?;
        let file = self.disk.open(&name(kind, first, RECORDS)).map_err(missing(what.clone()))?;
        let (places, why) = segment::scan(&file, kind, first).map_err(missing(what.clone()))?;
        self.looked_at.fetch_add(places.len() as u64 - 1, Ordering::Relaxed);
        let growing = Growing { first, file, places };
        if growing.next() <= durable {
            return Err(StoreError::lost(of_kind(kind, growing.next()), why));
        }
        let (mut at, bytes) = (u64::from(growing.end()), growing.file.bytes().map_err(missing(what))?);
        if at < bytes {
            tracing::info!(kind, after = growing.next() - 1, "history ends in what a power cut tore; it is cleared");
        }
        while at < bytes {
            let length = usize::try_from(bytes - at).unwrap_or(ZEROS).min(ZEROS);
            growing.file.write_at(&vec![0; length], at).map_err(failed("clear the end of"))?;
            at += length as u64;
        }
        // What was read may lie in the kernel's cache only: an earlier process may have been killed before its sync.
        growing.file.sync().map_err(failed("sync"))?;
        Ok(growing)
    }

    /// Gives the last record of every kind.
    #[must_use]
    pub fn heads(&self) -> BTreeMap<String, u64> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let last = rows.iter().map(|(kind, row)| (kind.clone(), row.growing.next() - 1));
        last.filter(|(_, last)| *last > 0).collect()
    }

    /// Gives how many records were read from disk and checked since the start.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.looked_at.load(Ordering::Relaxed)
    }

    /// Appends sealed records, in order of kind and number; they are durable when this returns. One that is there must be
    /// the same. Only one call at a time. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError`]: any part may be on disk; [`StoreError::Lost`] if a number is left out or a record differs.
    pub fn append<'a>(&self, records: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> Result<(), StoreError> {
        let mut batch: Option<Batch<'_>> = None;
        for (at, sealed) in records {
            let (kind, seq) = parse_key(at).ok_or_else(|| StoreError::lost("history", "a key of another shape"))?;
            if batch.as_ref().is_none_or(|batch| batch.kind != kind) {
                batch.take().map_or(Ok(()), |batch| batch.finish(self))?;
                batch = Some(Batch::begin(self, kind)?);
            }
            if let Some(batch) = &mut batch {
                batch.push(self, seq, sealed)?;
            }
        }
        batch.map_or(Ok(()), |batch| batch.finish(self))
    }

    /// Has blocks given for so many bytes to append, to every kind that there is.
    ///
    /// # Errors
    /// What the system answers; nothing changed but what is free.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.values().try_for_each(|row| row.growing.file.reserve(u64::from(row.growing.end()), bytes + RESERVE_BYTES))
    }

    /// Gives the segment that grows; no lock is held while it is written, for only one call writes.
    fn growing(&self, kind: &str) -> Growing {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)[kind].growing.clone()
    }

    fn change(&self, kind: &str, change: impl FnOnce(&mut Row)) {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        change(rows.get_mut(kind).expect("a batch begins with its row"));
    }

    /// Makes a segment that begins with `first`; its name is durable when this returns, its content is not.
    fn create(&self, kind: &str, first: u64) -> Result<Growing, StoreError> {
        let head = segment::head(kind, first);
        let step = || {
            let file = self.disk.create(&name(kind, first, RECORDS))?;
            file.write_at(&head, 0)?;
            self.disk.sync()?;
            Ok(file)
        };
        let file = step().map_err(failed("begin a segment of"))?;
        Ok(Growing { first, file, places: vec![u32::try_from(head.len()).unwrap_or(u32::MAX)] })
    }

    /// Makes a segment and its index durable.
    fn seal(&self, kind: &str, segment: &Growing) -> Result<(), StoreError> {
        let step = || {
            segment.file.release()?;
            segment.file.sync()?;
            let index = self.disk.create(&name(kind, segment.first, INDEX))?;
            index.write_at(&segment::index(kind, segment.first, &segment.places), 0)?;
            index.sync()?;
            self.disk.sync()
        };
        step().map_err(failed("end a segment of"))
    }

    /// Gives up to `limit` records from `from` to `last`, checked. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if one of them is damaged or gone.
    pub fn read(&self, kind: &str, from: u64, last: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let mut records = Vec::new();
        self.each(kind, from, last, limit, |seq, bytes| {
            let body = segment::open(bytes, kind, seq).map_err(StoreError::unreadable(of_kind(kind, seq)))?;
            records.push((seq, body.to_vec()));
            Ok(())
        })?;
        Ok(records)
    }

    /// Hands records over as they are in the file.
    fn each(
        &self,
        kind: &str,
        from: u64,
        last: u64,
        limit: usize,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (mut seq, mut rest) = (from.max(1), limit as u64);
        while rest > 0 && seq <= last {
            let wanted = rest.min(PIECE).min(last - seq + 1);
            let Some(found) = self.find(kind, seq, wanted) else { return Ok(()) };
            let (file, places) = match found.growing {
                Some(growing) => growing,
                None => self.full_places(kind, &found, seq)?,
            };
            let (begin, end) = (places[0], places[places.len() - 1]);
            if !places.is_sorted() || end - begin > PIECE_BYTES_MAX {
                return Err(StoreError::lost(of_kind(kind, seq), "its index is damaged"));
            }
            let mut bytes = vec![0; (end - begin) as usize];
            file.read_at(&mut bytes, u64::from(begin)).map_err(missing(of_kind(kind, seq)))?;
            for pair in places.windows(2) {
                take(seq, &bytes[(pair[0] - begin) as usize..(pair[1] - begin) as usize])?;
                seq += 1;
            }
            self.looked_at.fetch_add(found.count, Ordering::Relaxed);
            rest -= found.count;
        }
        Ok(())
    }

    /// Finds the segment that holds a record.
    fn find(&self, kind: &str, seq: u64, wanted: u64) -> Option<Found> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let row = rows.get(kind)?;
        let growing = &row.growing;
        if seq >= growing.first {
            let at = usize::try_from(seq - growing.first).ok()?;
            let count = wanted.min(growing.next().saturating_sub(seq));
            if count == 0 {
                return None;
            }
            let places = growing.places[at..=at + usize::try_from(count).ok()?].to_vec();
            return Some(Found { first: growing.first, count, growing: Some((growing.file.clone(), places)) });
        }
        let segment = row.full[row.full.partition_point(|segment| segment.first <= seq).checked_sub(1)?];
        let count = wanted.min(segment.first + u64::from(segment.count) - seq);
        Some(Found { first: segment.first, count, growing: None })
    }

    /// Reads where the records of a full segment lie.
    fn full_places(&self, kind: &str, found: &Found, seq: u64) -> Result<(Arc<dyn DiskFile>, Vec<u32>), StoreError> {
        let what = || missing(of_kind(kind, seq));
        let index = self.disk.open(&name(kind, found.first, INDEX)).map_err(what())?;
        let mut bytes = vec![0; usize::try_from((found.count + 1) * segment::PLACE_BYTES).unwrap_or_default()];
        let at = segment::index_head_bytes(kind) + (seq - found.first) * segment::PLACE_BYTES;
        index.read_at(&mut bytes, at).map_err(what())?;
        let file = self.disk.open(&name(kind, found.first, RECORDS)).map_err(what())?;
        Ok((file, segment::places(&bytes)))
    }
}

/// Records of one kind on their way to the last segment.
struct Batch<'a> {
    kind: &'a str,
    /// What is to be written behind the growing segment, and where its records will begin.
    bytes: Vec<u8>,
    places: Vec<u32>,
    /// Number of the next record, and where it will lie.
    next: u64,
    end: u32,
    wrote: bool,
}

impl<'a> Batch<'a> {
    fn begin(files: &Files, kind: &'a str) -> Result<Self, StoreError> {
        let known = files.rows.read().unwrap_or_else(PoisonError::into_inner).contains_key(kind);
        if !known {
            let row = Row { full: Vec::new(), growing: files.create(kind, 1)? };
            files.rows.write().unwrap_or_else(PoisonError::into_inner).insert(kind.to_owned(), row);
        }
        let growing = files.growing(kind);
        let (next, end) = (growing.next(), growing.end());
        Ok(Self { kind, bytes: Vec::new(), places: Vec::new(), next, end, wrote: false })
    }

    fn push(&mut self, files: &Files, seq: u64, sealed: &[u8]) -> Result<(), StoreError> {
        if seq < self.next {
            return self.compare(files, seq, sealed);
        }
        if seq > self.next {
            let why = format!("it does not follow record {}", self.next - 1);
            return Err(StoreError::lost(of_kind(self.kind, seq), why));
        }
        if self.end >= files.segment_bytes {
            self.roll(files)?;
        }
        segment::push(&mut self.bytes, sealed);
        let length = segment::LENGTH_BYTES + u32::try_from(sealed.len()).expect("a record is far shorter");
        self.end += length;
        self.places.push(self.end);
        self.next += 1;
        if self.bytes.len() >= WRITE_BYTES { self.write(files) } else { Ok(()) }
    }

    /// A replay may make again what a power cut left; it must be the same.
    fn compare(&mut self, files: &Files, seq: u64, sealed: &[u8]) -> Result<(), StoreError> {
        self.write(files)?;
        let mut same = false;
        files.each(self.kind, seq, seq, 1, |_, bytes| {
            same = segment::sealed(bytes).is_ok_and(|found| found == sealed);
            Ok(())
        })?;
        if same { Ok(()) } else { Err(StoreError::lost(of_kind(self.kind, seq), "another one is there")) }
    }

    /// Writes what has gathered and lets readers find it.
    fn write(&mut self, files: &Files) -> Result<(), StoreError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let growing = files.growing(self.kind);
        growing.file.write_at(&self.bytes, u64::from(growing.end())).map_err(failed("write"))?;
        files.change(self.kind, |row| row.growing.places.append(&mut self.places));
        self.bytes.clear();
        self.wrote = true;
        Ok(())
    }

    /// Ends the full segment and begins the next one.
    fn roll(&mut self, files: &Files) -> Result<(), StoreError> {
        self.write(files)?;
        let full = files.growing(self.kind);
        files.seal(self.kind, &full)?;
        let next = files.create(self.kind, self.next)?;
        self.end = next.end();
        let count = u32::try_from(full.places.len() - 1).expect("a segment has far fewer records");
        files.change(self.kind, |row| {
            row.full.push(Full { first: full.first, count });
            row.growing = next;
        });
        Ok(())
    }

    fn finish(mut self, files: &Files) -> Result<(), StoreError> {
        self.write(files)?;
        if self.wrote { files.growing(self.kind).file.sync().map_err(failed("sync")) } else { Ok(()) }
    }
}
