//! What openraft needs of the crate `base2histogram`, in its place (`[patch.crates-io]`), with a few hundred bytes each.
//!
//! openraft counts in these how its batches and stages go; nobody reads them here. The crate of that name, 0.2.3, makes tables
//! for all of its sixteen precisions at the first use: 22 MB that every replica then keeps, more than half of what an
//! idle one took. This one has the precision that openraft uses (four buckets for each power of two) and computes instead.
//!
//! What this never does: count exactly above 8, or forget.

use std::fmt;
use std::marker::PhantomData;

/// Bits of a value that a bucket keeps: the highest and two more.
const WIDTH: u32 = 3;
/// Values below this have a bucket of their own.
const EXACT: u64 = 1 << WIDTH;
/// Buckets of one power of two.
const STEPS: usize = 1 << (WIDTH - 1);
/// Buckets in all.
const BUCKETS: usize = EXACT as usize + (u64::BITS - WIDTH) as usize * STEPS;

/// Counts values by size.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Vec<u64>,
    kind: PhantomData<T>,
}

impl<T> fmt::Debug for Histogram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({} samples)", self.samples())
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Says in which bucket a value is counted.
fn bucket(value: u64) -> usize {
    if value < EXACT {
        return usize::try_from(value).unwrap_or(BUCKETS - 1);
    }
    let power = u64::BITS - 1 - value.leading_zeros();
    let step = usize::try_from(value >> (power + 1 - WIDTH)).unwrap_or(0) & (STEPS - 1);
    EXACT as usize + (power - WIDTH) as usize * STEPS + step
}

/// Gives the smallest value of a bucket.
fn smallest(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(EXACT as usize) else { return bucket as u64 };
    let (power, step) = (above / STEPS, above % STEPS);
    ((STEPS + step) as u64) << (power + 1)
}

impl<T> Histogram<T> {
    /// Gives an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], kind: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count = count.saturating_add(times);
        }
    }

    fn samples(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Gives the smallest value of the bucket in which this part of a thousand ends; 0 if nothing was counted.
    fn permille(&self, part: u64) -> u64 {
        let wanted = u128::from(self.samples()) * u128::from(part);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count) * 1_000;
            if *count > 0 && seen >= wanted {
                return smallest(place);
            }
        }
        0
    }

    /// Gives the percentiles that openraft shows.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.samples(),
            p0_1: self.permille(1),
            p1: self.permille(10),
            p5: self.permille(50),
            p10: self.permille(100),
            p50: self.permille(500),
            p90: self.permille(900),
            p99: self.permille(990),
            p99_9: self.permille(999),
        }
    }
}

/// Percentiles of a histogram: the smallest value of the bucket that each lies in.
#[allow(missing_docs, reason = "the fields are the percentiles they are named after")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, p99_9, .. } = self;
        write!(f, "{samples} samples, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}")
    }
}

/// Some histograms to be shown one under the other, a line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    lines: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// Gives an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one under a name.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "the name that openraft calls")]
    #[allow(clippy::needless_pass_by_value, reason = "the shape that openraft calls")]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.lines.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_that_begins_at_or_below_it() {
        let values = (0..5_000).chain((0..64).flat_map(|n| [(1_u64 << n) - 1, 1 << n, (1 << n) + 1])).chain([u64::MAX]);
        for value in values {
            let at = bucket(value);
            assert!(at < BUCKETS && smallest(at) <= value, "{value}");
            assert!(at + 1 == BUCKETS || smallest(at + 1) > value, "{value}");
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_counted() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats(), PercentileStats::default());
        histogram.record_n(5, 98);
        histogram.record(1_000);
        histogram.record(4_000);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p50, stats.p90), (100, 5, 5, 5));
        assert_eq!((stats.p99, stats.p99_9), (smallest(bucket(1_000)), smallest(bucket(4_000))));
    }
}
