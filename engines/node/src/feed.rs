//! What is new, for those who wait for it: block numbers and hashes of admitted transactions.
//!
//! Block numbers are a watched value: who is slow sees fewer of them and reads the blocks between from the store, so
//! nothing is lost and nothing piles up. Hashes are kept in a ring of fixed size; who is slower than the ring is told so.
//! It never waits for a reader.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use alloy_primitives::B256;
use tokio::sync::watch;

/// Hashes that are kept for slow readers; at 2,000 transactions a second a reader may be eight seconds late.
const HASHES_MAX: usize = 16_384;

/// See the module. Lives as long as the node.
pub(crate) struct Feed {
    head: watch::Sender<u64>,
    ring: Mutex<Ring>,
    admitted: watch::Sender<u64>,
}

/// The newest hashes; the last of them has the number `end - 1`.
#[derive(Default)]
struct Ring {
    hashes: VecDeque<B256>,
    end: u64,
}

/// A reader asked for hashes that are no longer kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooSlow {
    /// How many it missed.
    pub(crate) missed: u64,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self { head: watch::Sender::new(0), ring: Mutex::default(), admitted: watch::Sender::new(0) }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("no holder of the ring's lock panics")
    }

    /// Notes the newest stored block.
    pub(crate) fn note_head(&self, number: u64) {
        self.head.send_replace(number);
    }

    /// Notes a transaction that was admitted to the pool.
    pub(crate) fn note_admitted(&self, hash: B256) {
        let mut ring = self.ring();
        if ring.hashes.len() >= HASHES_MAX {
            ring.hashes.pop_front();
        }
        ring.hashes.push_back(hash);
        ring.end += 1;
        let end = ring.end;
        drop(ring);
        self.admitted.send_replace(end);
    }

    /// The newest block's number, now and later.
    pub(crate) fn heads(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// The number after the newest hash, now and later.
    pub(crate) fn admitted(&self) -> watch::Receiver<u64> {
        self.admitted.subscribe()
    }

    /// The number after the newest hash.
    pub(crate) fn admitted_end(&self) -> u64 {
        self.ring().end
    }

    /// The hashes from number `from` on, and the number after the last.
    ///
    /// # Errors
    /// Some of them are no longer kept.
    pub(crate) fn admitted_since(&self, from: u64) -> Result<(Vec<B256>, u64), TooSlow> {
        let ring = self.ring();
        let first = ring.end - ring.hashes.len() as u64;
        if from < first {
            return Err(TooSlow { missed: first - from });
        }
        let skip = usize::try_from(from - first).unwrap_or(usize::MAX);
        Ok((ring.hashes.iter().skip(skip).copied().collect(), ring.end))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hashes_are_read_once_each_and_a_slow_reader_is_told() {
        let feed = Feed::new();
        for n in 0..3u8 {
            feed.note_admitted(B256::repeat_byte(n));
        }
        let (first, next) = feed.admitted_since(1).unwrap();
        assert_eq!((first, next), (vec![B256::repeat_byte(1), B256::repeat_byte(2)], 3));
        assert_eq!(feed.admitted_since(next).unwrap(), (vec![], 3));
        for _ in 0..HASHES_MAX {
            feed.note_admitted(B256::ZERO);
        }
        assert_eq!(feed.admitted_since(next).unwrap().0.len(), HASHES_MAX);
        assert_eq!(feed.admitted_since(2), Err(TooSlow { missed: 1 }));
    }
}
