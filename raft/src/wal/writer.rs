//! The log thread: takes all jobs that wait, writes them with one write and one fdatasync, marks, and answers in order.
//!
//! A follower's append need not go to the thread and back, which costs more than the write: while nothing waits and the disk is
//! quick, whoever appends writes here and now ([`Writer::serve_here`]).
//!
//! After the first failure nothing is acknowledged any more: a failed fsync is never tried again, for the kernel may have
//! dropped the pages and would say that all is well.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::frame::{self, HeaderV1, Kind, Place, Salt};
use super::index::Spot;
use super::mark::{MarkFile, MarkV1};
use super::pool::Maker;
use super::scan::Opened;
use super::segment::{self, Ends, PAGE_BYTES, Segment};
use super::{Done, Shared};
use crate::codec::{self, EntryV1, LogIdV1, VoteV1};
use crate::error::StoreError;
use crate::types::Entry;

/// Jobs made durable by one sync at most.
const GROUP_MAX: usize = 512;
/// Bytes written before one sync, about; one job may exceed it.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the log is idle before its mark is synced.
const IDLE: Duration = Duration::from_millis(20);

/// What a job changes.
pub(super) enum Change {
    /// These entries are added.
    Append(Vec<Arc<Entry>>),
    /// The vote is this.
    Vote(VoteV1),
    /// Entries after this one go.
    Truncate(Option<LogIdV1>),
    /// Entries up to this one go.
    Purge(LogIdV1),
    /// Nothing: the thread is to look whether the mark must be synced.
    Look,
}

/// A change on its way.
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) done: Done,
}

impl Job {
    fn weight(&self) -> usize {
        match &self.change {
            Change::Append(entries) => entries.iter().map(|entry| super::index::weight(entry)).sum(),
            Change::Vote(_) | Change::Truncate(_) | Change::Purge(_) | Change::Look => frame::HEAD_BYTES,
        }
    }
}

/// What writes: the thread's, and lent to who appends here and now.
pub(super) struct Writer {
    shared: Arc<Shared>,
    maker: Maker,
    segments: VecDeque<Segment>,
    ends: Ends,
    log: u64,
    /// Last record made, and its CRC.
    lsn: u64,
    crc: u32,
    /// Last record that is durable.
    synced: u64,
    /// Offset of `buffer` in the last segment; a multiple of the page.
    base: usize,
    /// The records from there on; what is durable of them comes first.
    buffer: Vec<u8>,
    durable: usize,
    /// Length of the last segment.
    capacity: usize,
    /// Where the entries of this group lie.
    placed: Vec<(LogIdV1, Spot)>,
    mark_file: MarkFile,
    mark: MarkV1,
    /// Whether the mark is written but not synced.
    mark_pending: bool,
    /// When the last group was written.
    written_at: Instant,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, maker: Maker, opened: Opened) -> Result<Self, StoreError> {
        let mut writer = Self {
            shared,
            maker,
            segments: opened.segments,
            ends: opened.ends,
            log: opened.log,
            lsn: opened.lsn,
            crc: opened.crc,
            synced: opened.lsn,
            base: opened.offset - opened.tail.len(),
            durable: opened.tail.len(),
            buffer: opened.tail,
            capacity: 0,
            placed: Vec::new(),
            mark_file: opened.mark_file,
            mark: opened.mark,
            mark_pending: false,
            written_at: Instant::now(),
        };
        writer.measure()?;
        Ok(writer)
    }

    /// Runs until the last handle is gone and every job is answered, or until a write panicked: what that left is not known.
    pub(super) fn run(this: &Mutex<Self>, queue: &Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        loop {
            let Ok(settled) = this.lock().map(|writer| writer.settled()) else { return };
            let job = if settled {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(IDLE)
            };
            let Ok(mut writer) = this.lock() else { return };
            match job {
                Ok(first) => writer.serve(first, queue, &mut group),
                Err(RecvTimeoutError::Timeout) => writer.settle_if_idle(),
                Err(RecvTimeoutError::Disconnected) => return writer.settle(),
            }
        }
    }

    /// Makes one append durable at once and answers it; gives whether the thread must be made to look after the mark.
    ///
    /// # Errors
    /// The append, untouched, if it does not fit where the log is.
    pub(super) fn serve_here(&mut self, entries: Vec<Arc<Entry>>, done: Done) -> Result<bool, (Vec<Arc<Entry>>, Done)> {
        let (used, needed) =
            (self.base + self.buffer.len(), entries.iter().map(|entry| super::room(entry)).sum::<usize>());
        if used == 0 || used + needed > self.capacity {
            return Err((entries, done));
        }
        let settled = self.settled();
        self.answer(&mut vec![Job { change: Change::Append(entries), done }]);
        Ok(settled)
    }

    fn serve(&mut self, first: Job, queue: &Receiver<Job>, group: &mut Vec<Job>) {
        let mut weight = first.weight();
        group.push(first);
        while group.len() < GROUP_MAX
            && weight < GROUP_BYTES_MAX
            && let Ok(job) = queue.try_recv()
        {
            weight += job.weight();
            group.push(job);
        }
        self.answer(group);
    }

    fn answer(&mut self, group: &mut Vec<Job>) {
        let result = self.write(group);
        if let Err(error) = &result {
            self.fail(error);
        }
        self.shared.room.add_permits(group.len());
        for job in group.drain(..) {
            (job.done)(result.clone());
        }
    }

    fn fail(&self, error: &StoreError) {
        if self.shared.failed.set(error.to_string()).is_ok() {
            tracing::error!(%error, cause = ?error, "the log failed; this replica acknowledges nothing any more");
        }
    }

    /// Makes a group durable.
    fn write(&mut self, group: &[Job]) -> Result<(), StoreError> {
        if let Some(cause) = self.shared.failed.get() {
            return Err(StoreError::Failed(cause.clone()));
        }
        let purged = self.ends.purged;
        for job in group {
            self.encode(&job.change)?;
        }
        self.flush()?;
        self.set_mark()?;
        self.written_at = Instant::now();
        self.publish();
        if self.ends.purged != purged {
            self.drop_segments()?;
        }
        Ok(())
    }

    fn encode(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Append(entries) => {
                for entry in entries {
                    let mirror = EntryV1::from(&**entry);
                    let spot = self.put(Kind::Entry, |out| codec::encode_to(out, &mirror))?;
                    self.placed.push((mirror.id, spot));
                    self.ends.last = Some(mirror.id);
                    if let Some(segment) = self.segments.back_mut() {
                        segment.highest = segment.highest.max(Some(mirror.id.index));
                    }
                }
            }
            Change::Vote(vote) => {
                self.put(Kind::Vote, |out| codec::encode_to(out, vote))?;
                self.ends.vote = Some(*vote);
            }
            Change::Truncate(keep) => {
                self.put(Kind::Truncate, |out| codec::encode_to(out, keep))?;
                self.ends.last = *keep;
            }
            Change::Purge(upto) => {
                self.put(Kind::Purge, |out| codec::encode_to(out, upto))?;
                self.ends.purge(*upto);
            }
            Change::Look => {}
        }
        Ok(())
    }

    /// Adds a record to the buffer; goes on in the next segment if this one is full.
    fn put(&mut self, kind: Kind, body: impl Fn(&mut Vec<u8>)) -> Result<Spot, StoreError> {
        if self.base + self.buffer.len() == 0 {
            self.begin()?;
        }
        if let Some(spot) = self.try_put(kind, &body)? {
            return Ok(spot);
        }
        self.switch()?;
        self.begin()?;
        let long = || StoreError::io("write the log", std::io::Error::other("a record is longer than a segment"));
        self.try_put(kind, &body)?.ok_or_else(long)
    }

    /// Adds a record unless the segment's end would not fit behind it.
    fn try_put(&mut self, kind: Kind, body: impl Fn(&mut Vec<u8>)) -> Result<Option<Spot>, StoreError> {
        let (start, salt, place) = (self.buffer.len(), self.salt(), self.next_place());
        let crc = frame::encode(&mut self.buffer, salt, kind, place, body);
        let spare = if kind == Kind::Seal { 0 } else { frame::frame_bytes(0) };
        if self.base + self.buffer.len() + spare > self.capacity {
            self.buffer.truncate(start);
            return Ok(None);
        }
        (self.lsn, self.crc) = (self.lsn + 1, crc);
        let spot = segment::spot(self.number(), self.base + start, self.buffer.len() - start);
        spot.map(Some).map_err(|e| StoreError::io("write the log", std::io::Error::other(e)))
    }

    fn number(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.number)
    }

    fn salt(&self) -> Salt {
        Salt { log: self.log, segment: self.number() }
    }

    fn next_place(&self) -> Place {
        Place { lsn: self.lsn + 1, synced: self.synced, previous: self.crc }
    }

    /// Puts the header of a new segment.
    fn begin(&mut self) -> Result<(), StoreError> {
        let Ends { purged, last, vote } = self.ends;
        let header =
            HeaderV1 { log: self.log, segment: self.number(), bytes: self.capacity as u64, purged, last, vote };
        self.try_put(Kind::Header, |out| codec::encode_to(out, &header))?;
        Ok(())
    }

    /// Ends this segment, durably, and goes to the next one, which is there before: so a sealed segment that has no next
    /// one has lost it.
    fn switch(&mut self) -> Result<(), StoreError> {
        let number = self.number() + 1;
        let file = self.maker.take(number)?;
        self.try_put(Kind::Seal, |_| {})?;
        self.flush()?;
        self.set_mark()?;
        self.sync_mark()?;
        self.shared.live().files.insert(number, file.clone());
        self.segments.push_back(Segment { number, file, highest: None });
        self.base = 0;
        self.buffer.clear();
        self.durable = 0;
        self.measure()
    }

    fn measure(&mut self) -> Result<(), StoreError> {
        let Some(segment) = self.segments.back() else { return Err(StoreError::Closed) };
        let bytes = segment.file.bytes().map_err(|e| StoreError::io("measure the log", e))?;
        self.capacity = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(())
    }

    /// Writes the buffer in whole pages and makes it durable.
    fn flush(&mut self) -> Result<(), StoreError> {
        let length = self.buffer.len();
        if length == self.durable {
            return Ok(());
        }
        let Some(segment) = self.segments.back() else { return Err(StoreError::Closed) };
        self.buffer.resize(length.next_multiple_of(PAGE_BYTES), 0);
        segment.file.write_at(&self.buffer, self.base as u64).map_err(|e| StoreError::io("write the log", e))?;
        let begun = Instant::now();
        segment.file.sync().map_err(|e| StoreError::io("sync the log", e))?;
        self.shared.fsync.since(begun);
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.sync_us.store(took, Ordering::Relaxed);
        self.synced = self.lsn;
        let whole = length / PAGE_BYTES * PAGE_BYTES;
        self.buffer.truncate(length);
        self.buffer.drain(..whole);
        self.base += whole;
        self.durable = self.buffer.len();
        Ok(())
    }

    /// Writes the mark of what is durable. Not synced: it must never run ahead of the data.
    fn set_mark(&mut self) -> Result<(), StoreError> {
        self.mark = MarkV1 {
            number: self.mark.number + 1,
            log: self.log,
            lsn: self.synced,
            crc: self.crc,
            last: self.ends.last,
            vote: self.ends.vote,
            committed: self.committed(),
        };
        self.mark_pending = true;
        self.mark_file.write(&self.mark)
    }

    /// Gives what is known to be committed of what is durable here: a majority may be ahead of this disk.
    fn committed(&self) -> Option<LogIdV1> {
        let known = *self.shared.committed();
        let ahead = known.is_some_and(|id| self.ends.last.is_none_or(|last| id.index > last.index));
        if ahead { self.mark.committed } else { known }
    }

    fn sync_mark(&mut self) -> Result<(), StoreError> {
        self.mark_pending = false;
        self.mark_file.sync()
    }

    fn settled(&self) -> bool {
        self.shared.failed.get().is_some() || !self.mark_pending && self.committed() == self.mark.committed
    }

    /// As [`Writer::settle`], unless something was written a moment ago.
    fn settle_if_idle(&mut self) {
        if self.written_at.elapsed() >= IDLE {
            self.settle();
        }
    }

    /// Writes and syncs the mark while nothing else is to do.
    fn settle(&mut self) {
        if self.settled() {
            return;
        }
        let result = if self.committed() == self.mark.committed { Ok(()) } else { self.set_mark() };
        if let Err(error) = result.and_then(|()| self.sync_mark()) {
            self.fail(&error);
        }
    }

    /// Tells readers what is now on disk.
    fn publish(&mut self) {
        let mut live = self.shared.live();
        for (id, spot) in self.placed.drain(..) {
            live.index.place(id, spot);
        }
        live.vote = self.ends.vote;
    }

    /// Has the segments removed whose entries are all purged, which is durable by now.
    fn drop_segments(&mut self) -> Result<(), StoreError> {
        let purged = self.ends.purged.map(|id| id.index);
        let mut gone = Vec::new();
        while self.segments.len() > 1 && self.segments.front().is_some_and(|first| first.highest <= purged) {
            gone.extend(self.segments.pop_front().map(|segment| segment.number));
        }
        if gone.is_empty() {
            return Ok(());
        }
        // The durable mark must speak of a segment that stays.
        self.sync_mark()?;
        let mut live = self.shared.live();
        for number in &gone {
            live.files.remove(number);
        }
        drop(live);
        self.maker.remove(gone);
        Ok(())
    }
}
