//! Early refusal of sources that guess: failed logins counted per source address, in memory, on the leader only.
//!
//! The rule that counts is in the state (an account locks after five failures in a row, on every replica alike); this
//! one only keeps a guesser from making the log longer. It forgets on a change of leader, and that is harmless.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Failed logins a source may make within [`WINDOW_MS`].
pub const FAILURES_MAX: u32 = 20;

/// How long a failure counts.
pub const WINDOW_MS: u64 = 60_000;

/// Sources remembered; when full, the ones whose window is over are forgotten, then the oldest.
const SOURCES_MAX: usize = 10_000;

#[derive(Clone, Copy)]
struct Window {
    began_ms: u64,
    failures: u32,
}

/// The counters.
#[derive(Default)]
pub struct Throttle {
    sources: Mutex<BTreeMap<String, Window>>,
}

impl Throttle {
    /// Returns how many milliseconds `source` must wait before its next try, `None` if it may try now.
    pub fn wait_ms(&self, source: &str, now_ms: u64) -> Option<u64> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let window = sources.get(source)?;
        let ends = window.began_ms.saturating_add(WINDOW_MS);
        (window.failures >= FAILURES_MAX && now_ms < ends).then(|| ends - now_ms)
    }

    /// Counts a failed login of `source`.
    pub fn failed(&self, source: &str, now_ms: u64) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(source) {
            make_room(&mut sources, now_ms);
        }
        let window = sources.entry(source.to_string()).or_insert(Window { began_ms: now_ms, failures: 0 });
        if now_ms >= window.began_ms.saturating_add(WINDOW_MS) {
            *window = Window { began_ms: now_ms, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
    }
}

fn make_room(sources: &mut BTreeMap<String, Window>, now_ms: u64) {
    sources.retain(|_, window| now_ms < window.began_ms.saturating_add(WINDOW_MS));
    while sources.len() >= SOURCES_MAX {
        let oldest = sources.iter().min_by_key(|(_, window)| window.began_ms).map(|(source, _)| source.clone());
        let Some(oldest) = oldest else { break };
        sources.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_guesses_waits_and_others_do_not() {
        let throttle = Throttle::default();
        for _ in 0..FAILURES_MAX {
            assert_eq!(throttle.wait_ms("10.0.0.9", 1_000), None);
            throttle.failed("10.0.0.9", 1_000);
        }
        assert_eq!(throttle.wait_ms("10.0.0.9", 2_000), Some(WINDOW_MS - 1_000));
        assert_eq!(throttle.wait_ms("10.0.0.8", 2_000), None);
        assert_eq!(throttle.wait_ms("10.0.0.9", 1_000 + WINDOW_MS), None);
        throttle.failed("10.0.0.9", 1_000 + WINDOW_MS);
        assert_eq!(throttle.wait_ms("10.0.0.9", 1_000 + WINDOW_MS), None);
    }

    #[test]
    fn memory_stays_bounded() {
        let throttle = Throttle::default();
        for n in 0..SOURCES_MAX as u64 + 50 {
            throttle.failed(&format!("s{n}"), n / 1_000);
        }
        assert!(throttle.sources.lock().unwrap_or_else(PoisonError::into_inner).len() <= SOURCES_MAX);
    }
}
