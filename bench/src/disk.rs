//! What the disk gives alone: the median of an append of one request's size and its fdatasync.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

const TRIES: usize = 200;

/// Gives the median in microseconds.
pub(crate) fn fsync_us(dir: &Path) -> Result<u64> {
    let mut file = std::fs::File::create(dir.join("probe")).context("make a file")?;
    let mut times = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let start = Instant::now();
        file.write_all(&[7; 512]).context("append")?;
        file.sync_data().context("fdatasync")?;
        times.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    times.sort_unstable();
    Ok(times[TRIES / 2])
}
