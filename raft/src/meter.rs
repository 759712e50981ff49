//! What a replica counts and times of its own work, for its operators.
//!
//! Counters and histograms of fixed bounds, each a few atomic numbers: counting costs next to nothing and never fails.
//! They begin at zero with the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::error::ProposeError;

/// Upper bounds of the buckets in microseconds, from a fast fsync to a call that runs out of time.
const BOUNDS_MICROS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bound, and one for what took longer.
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_MICROS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Counts one that began then.
    pub(crate) fn since(&self, begun: Instant) {
        self.add(begun.elapsed());
    }

    /// Gives for each bound, in microseconds, how many took at most so long; the last is `None` and counts all.
    pub fn buckets(&self) -> Vec<(Option<u64>, u64)> {
        let bounds = BOUNDS_MICROS.iter().copied().map(Some).chain([None]);
        let mut total = 0;
        let count = |(bound, bucket): (_, &AtomicU64)| {
            total += bucket.load(Ordering::Relaxed);
            (bound, total)
        };
        bounds.zip(&self.buckets).map(count).collect()
    }

    /// Gives the time of all together, in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros.load(Ordering::Relaxed)
    }
}

/// What is counted in consensus; fsyncs are counted by the log.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    /// From a proposal to its answer.
    pub(crate) commit: Histogram,
    /// To apply a chunk of entries and hand their history to the store.
    pub(crate) apply: Histogram,
    proposed: AtomicU64,
    not_leader: AtomicU64,
    unavailable: AtomicU64,
    disk_full: AtomicU64,
    too_large: AtomicU64,
    not_spoken: AtomicU64,
    unknown: AtomicU64,
    stopped: AtomicU64,
}

impl Meters {
    /// Counts a proposal that began then, and what became of it.
    pub(crate) fn proposal<T>(&self, begun: Instant, result: &Result<T, ProposeError>) {
        let counter = match result {
            Ok(_) => {
                self.commit.since(begun);
                &self.proposed
            }
            Err(ProposeError::NotLeader { .. }) => &self.not_leader,
            Err(ProposeError::Unavailable(_)) => &self.unavailable,
            Err(ProposeError::DiskFull(_)) => &self.disk_full,
            Err(ProposeError::TooLarge { .. }) => &self.too_large,
            Err(ProposeError::Unspoken(_) | ProposeError::TooNew(_)) => &self.not_spoken,
            Err(ProposeError::OutcomeUnknown(_)) => &self.unknown,
            Err(ProposeError::Stopped) => &self.stopped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives how many proposals had each end.
    pub(crate) fn proposals(&self) -> Vec<(&'static str, u64)> {
        let read = |name, counter: &AtomicU64| (name, counter.load(Ordering::Relaxed));
        vec![
            read("applied", &self.proposed),
            read("not_leader", &self.not_leader),
            read("unavailable", &self.unavailable),
            read("disk_full", &self.disk_full),
            read("too_large", &self.too_large),
            read("not_spoken", &self.not_spoken),
            read("outcome_unknown", &self.unknown),
            read("stopped", &self.stopped),
        ]
    }
}

/// Bytes on the disk and what is free beside them.
#[derive(Clone, Debug)]
pub struct Room {
    /// Blocks taken by each part of the data folder: log, store, snapshots, other.
    pub parts: Vec<(&'static str, u64)>,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Whether new requests are refused for want of room.
    pub short: bool,
    /// When the newest snapshot was written.
    pub snapshot_at: Option<SystemTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_its_bucket_and_all_above() {
        let histogram = Histogram::default();
        for micros in [1, 100, 101, 10_000_001] {
            histogram.add(Duration::from_micros(micros));
        }
        let found = histogram.buckets();
        assert_eq!((found[0], found[1]), ((Some(100), 2), (Some(250), 3)));
        assert_eq!(found[15..], [(Some(10_000_000), 3), (None, 4)]);
        assert_eq!(histogram.sum_micros(), 10_000_203);
    }
}
