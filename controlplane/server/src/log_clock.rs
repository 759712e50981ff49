//! The clock that requests are stamped and measured with.
//!
//! It is the latest of this machine's clock, the log's time, and what this clock said before moved on by the time that
//! has run since. So a leader whose own clock is behind goes on from where the leaders before it were: it refuses nobody
//! as coming from the future, however long it leads, and the log's time does not stand still meanwhile. It never goes back.

use std::sync::{Mutex, PoisonError};

use hanse_state::time::Millis;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct LogClock {
    last: Mutex<Option<(Millis, Instant)>>,
}

impl LogClock {
    /// Gives the time, in milliseconds since 1970. `own` is this machine's clock, `log` the log's time.
    pub(crate) fn read(&self, own: Millis, log: Millis, at: Instant) -> Millis {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let moved_on = last.map_or(Millis(0), |(time, then)| {
            let run = at.saturating_duration_since(then).as_millis();
            Millis(time.0.saturating_add(u64::try_from(run).unwrap_or(u64::MAX)))
        });
        let time = own.max(log);
        // Kept while it leads, so that parts of a millisecond are not lost at each reading.
        if moved_on >= time && last.is_some() {
            return moved_on;
        }
        *last = Some((time, at));
        time
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_clock_that_is_behind_goes_on_from_the_logs_time() {
        let (clock, start) = (LogClock::default(), Instant::now());
        let read = |own: u64, log: u64, after: u64| {
            clock.read(Millis(own), Millis(log), start + Duration::from_micros(after)).0
        };
        assert_eq!(read(HOUR, 2 * HOUR, 0), 2 * HOUR);
        for micros in 1..=3_000 {
            assert_eq!(read(HOUR, 2 * HOUR, micros), 2 * HOUR + micros / 1_000);
        }
        let later = 20 * 60 * 1_000;
        assert_eq!(
            read(HOUR + later, 2 * HOUR + 7, later * 1_000),
            2 * HOUR + later,
            "the log stood still, time did not"
        );
        assert_eq!(read(4 * HOUR, 2 * HOUR, later * 1_000), 4 * HOUR, "the own clock was set");
        assert_eq!(read(HOUR, 2 * HOUR, later * 1_000), 4 * HOUR, "it never goes back");
    }
}
