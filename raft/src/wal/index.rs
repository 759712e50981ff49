//! Where each entry lies, and the recent ones in memory.
//!
//! Entries are added as soon as openraft appends them, so that they can be read at once, and get their place when the
//! log thread has written them. A bounded number of bytes stays in memory, the newest; the rest is read from the disk.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::LogIdV1;
use crate::types::{Entry, Payload};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Number of the segment.
    pub(super) segment: u64,
    /// Offset in its file.
    pub(super) offset: u32,
    /// Length of the record.
    pub(super) bytes: u32,
}

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) id: LogIdV1,
    /// `None` until it is written.
    pub(super) spot: Option<Spot>,
    /// `None` if it must be read from the disk.
    pub(super) entry: Option<Arc<Entry>>,
}

/// All entries of the log, in order and without a hole.
#[derive(Debug)]
pub(super) struct Index {
    /// The entry before the first; those up to it are purged, or (while the log is read) in segments that are gone.
    base: Option<LogIdV1>,
    slots: VecDeque<Slot>,
    /// Slots before this one are not in memory, counted from the front.
    kept_from: usize,
    kept_bytes: usize,
    kept_bytes_max: usize,
}

/// Gives about how much memory an entry takes.
pub(super) fn weight(entry: &Entry) -> usize {
    const OVERHEAD: usize = 128;
    OVERHEAD
        + match &entry.payload {
            Payload::Normal(bytes) => bytes.0.len(),
            Payload::Blank | Payload::Membership(_) => 0,
        }
}

impl Index {
    pub(super) fn new(base: Option<LogIdV1>, kept_bytes_max: usize) -> Self {
        Self { base, slots: VecDeque::new(), kept_from: 0, kept_bytes: 0, kept_bytes_max }
    }

    /// The entry before the first.
    pub(super) fn base(&self) -> Option<LogIdV1> {
        self.base
    }

    /// The last entry, or the base if there is none.
    pub(super) fn last(&self) -> Option<LogIdV1> {
        self.slots.back().map(|slot| slot.id).or(self.base)
    }

    fn first_index(&self) -> u64 {
        self.slots.front().map_or(0, |slot| slot.id.index)
    }

    fn position(&self, index: u64) -> Option<usize> {
        let position = usize::try_from(index.checked_sub(self.first_index())?).ok()?;
        (position < self.slots.len()).then_some(position)
    }

    /// Adds an entry behind the last one.
    ///
    /// # Errors
    /// Says what does not fit; nothing changed.
    pub(super) fn push(&mut self, slot: Slot) -> Result<(), String> {
        if let Some(last) = self.last() {
            if last.index + 1 != slot.id.index {
                let (expected, found) = (last.index + 1, slot.id.index);
                return Err(format!("a hole: entry {expected} is missing, {found} is there"));
            }
            if (last.term, last.leader) > (slot.id.term, slot.id.leader) {
                return Err(format!("the term of entry {} is below the one before", slot.id.index));
            }
        }
        if let Some(entry) = &slot.entry {
            self.kept_bytes += weight(entry);
        }
        self.slots.push_back(slot);
        self.evict();
        Ok(())
    }

    /// Lets the oldest entries in memory go until the rest is under the limit; what is not written must stay.
    fn evict(&mut self) {
        while self.kept_bytes > self.kept_bytes_max
            && let Some(slot) = self.slots.get_mut(self.kept_from)
            && slot.spot.is_some()
        {
            if let Some(entry) = slot.entry.take() {
                self.kept_bytes -= weight(&entry);
            }
            self.kept_from += 1;
        }
    }

    /// Says where an entry was written. One that was truncated meanwhile is none.
    pub(super) fn place(&mut self, id: LogIdV1, spot: Spot) {
        if let Some(position) = self.position(id.index)
            && let Some(slot) = self.slots.get_mut(position)
            && slot.id == id
        {
            slot.spot = Some(spot);
        }
        self.evict();
    }

    fn forget(&mut self, slot: Slot) {
        if let Some(entry) = slot.entry {
            self.kept_bytes -= weight(&entry);
        }
    }

    /// Drops every entry after `keep`.
    pub(super) fn truncate(&mut self, keep: Option<LogIdV1>) {
        while let Some(slot) = self.slots.pop_back_if(|slot| keep.is_none_or(|id| slot.id.index > id.index)) {
            self.forget(slot);
        }
        if self.slots.is_empty() && keep.map(|id| id.index) < self.base.map(|id| id.index) {
            self.base = keep;
        }
        self.kept_from = self.kept_from.min(self.slots.len());
    }

    /// Drops every entry up to `upto`, which may lie beyond the last.
    pub(super) fn purge(&mut self, upto: LogIdV1) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.id.index <= upto.index) {
            self.kept_from = self.kept_from.saturating_sub(1);
            self.forget(slot);
        }
        if self.base.is_none_or(|base| base.index < upto.index) {
            self.base = Some(upto);
        }
    }

    /// Gives the entries there are of `from..to`.
    pub(super) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &Slot> {
        let first = self.first_index();
        let start = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX).min(self.slots.len());
        let end = usize::try_from(to.saturating_sub(first)).unwrap_or(usize::MAX).clamp(start, self.slots.len());
        self.slots.range(start..end)
    }
}
