//! Waiting for something to become true, never for time to pass.

use std::time::{Duration, Instant};

/// How often a predicate is asked.
const PERIOD: Duration = Duration::from_millis(100);

/// Returns the first `Some` of `ask`; panics with the last words of `ask` when `limit` is over.
pub(crate) fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    loop {
        match ask() {
            Ok(value) => return value,
            Err(last) if Instant::now() > end => panic!("{what}: not within {limit:?}; last: {last}"),
            Err(_) => std::thread::park_timeout(PERIOD),
        }
    }
}
