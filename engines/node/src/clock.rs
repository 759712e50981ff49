//! Time, from outside: the machine's clock, or a simulated one in tests.
//!
//! Consensus asks only this for the time, so that a simulated network can run hours in seconds and
//! the same seed gives the same run. It never sleeps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where consensus reads the time.
pub(crate) trait Clock: Send + Sync {
    /// A clock that never goes back, for time-outs.
    fn now(&self) -> Instant;

    /// Milliseconds since 1970, for the time in a block. May jump.
    fn wall_ms(&self) -> u64;
}

/// This machine's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_ms(&self) -> u64 {
        // Before 1970 the machine has no time at all; 0 is refused by every rule on block times.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
