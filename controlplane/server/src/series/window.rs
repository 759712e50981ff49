//! What is shown of a series over a span of time: its points, how fast a counter grew in each, and both in four numbers.
//!
//! A span without samples has no point and no rate: what was not seen is not zero. A counter that went back began anew,
//! and that span has no rate either.

use super::{COARSE_MS, FINE_MS, Key, Point, Series};

/// How far back the pace of now is read.
const NOW_MS: u64 = 70_000;
/// Thousandths in one, and milliseconds in a second.
const MILLI_PER_S: i128 = 1_000_000;

/// A series over a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Length of a step, milliseconds.
    pub step_ms: u64,
    /// Oldest first; a step without samples has none.
    pub points: Vec<Point>,
    /// Of a counter, one a point: how much it grew in that step, thousandths a second. Empty for what is no counter.
    pub rates: Vec<Option<i64>>,
    /// The values in short; `None` without points.
    pub values: Option<Summary>,
    /// The rates in short; `None` without rates.
    pub pace: Option<Summary>,
}

/// Many numbers in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The least.
    pub min: i64,
    /// The middle one of the steps' means, the lower of two.
    pub median: i64,
    /// The greatest.
    pub max: i64,
    /// The last one that was seen, `None` if nothing was seen lately.
    pub now: Option<i64>,
    /// When that was, milliseconds since 1970; 0 without one.
    pub now_at_ms: u64,
}

impl Series {
    /// Returns what is shown of a series from `from_ms` to `to_ms` in steps of at least `step_ms`.
    pub fn window(&self, key: &Key, from_ms: u64, to_ms: u64, step_ms: u64) -> Window {
        let (step_ms, points) = self.steps(key, from_ms, to_ms, step_ms);
        // The last sample, or, if the end is in the past, the mean of the last step.
        let sample = self.last(&key.resource, key.metric).filter(|(at, _)| *at <= to_ms);
        let seen = sample.or(points.last().map(|point| (point.at_ms, point.avg)));
        let values = summary(
            points.iter().map(|it| it.min).min(),
            points.iter().map(|it| it.max).max(),
            points.iter().map(|it| it.avg).collect(),
            seen.filter(|_| !points.is_empty()),
        );
        let rates = if key.metric.is_counter() { rates(&points, step_ms, to_ms) } else { Vec::new() };
        let known: Vec<i64> = rates.iter().flatten().copied().collect();
        let pace = summary(known.iter().min().copied(), known.iter().max().copied(), known, self.pace(key, to_ms));
        Window { step_ms, points, rates, values, pace }
    }

    /// How fast a counter grew of late, and when that was seen: over tens of seconds, or over minutes if they are not there.
    fn pace(&self, key: &Key, to_ms: u64) -> Option<(u64, i64)> {
        let of = |step: u64, back: u64| {
            let (length, mut points) = self.steps(key, to_ms.saturating_sub(back), to_ms, step);
            // The step under way is not over, and what it will hold is not known.
            points.retain(|point| point.at_ms.saturating_add(length) <= to_ms);
            let (first, last) = (*points.first()?, *points.last()?);
            let rate = grown(first, last, last.at_ms.checked_sub(first.at_ms).filter(|time| *time > 0)?)?;
            Some((last.at_ms.saturating_add(length), rate))
        };
        of(FINE_MS, NOW_MS).or_else(|| of(COARSE_MS, NOW_MS + 2 * COARSE_MS))
    }
}

/// Thousandths a second by which the greatest value grew from one step to another; `None` if it went back.
fn grown(before: Point, after: Point, time_ms: u64) -> Option<i64> {
    let more = i128::from(after.max) - i128::from(before.max);
    let rate = more.checked_mul(MILLI_PER_S)? / i128::from(time_ms);
    i64::try_from(rate).ok().filter(|rate| *rate >= 0)
}

/// How much a counter grew in each step: none for the first, after a gap, and where it went back.
fn rates(points: &[Point], step_ms: u64, to_ms: u64) -> Vec<Option<i64>> {
    let between = |pair: &[Point]| {
        let (before, after) = (pair[0], pair[1]);
        // Samples come about every ten seconds: of the shortest steps one may have none without a gap.
        let is_next = after.at_ms - before.at_ms <= step_ms + FINE_MS;
        let gone = to_ms.saturating_sub(after.at_ms).min(step_ms);
        // A step that has only begun says nothing yet.
        let time = (after.at_ms - before.at_ms - step_ms) + gone;
        (is_next && gone >= step_ms / 2).then(|| grown(before, after, time)).flatten()
    };
    std::iter::once(None).take(points.len()).chain(points.windows(2).map(between)).collect()
}

fn summary(min: Option<i64>, max: Option<i64>, mut middle: Vec<i64>, now: Option<(u64, i64)>) -> Option<Summary> {
    middle.sort_unstable();
    let median = *middle.get(middle.len().checked_sub(1)? / 2)?;
    let (now_at_ms, now) = now.map_or((0, None), |(at, value)| (at, Some(value)));
    Some(Summary { min: min?, median, max: max?, now, now_at_ms })
}

#[cfg(test)]
mod tests {
    use super::super::Metric;
    use super::*;

    const CHAIN: &str = "consortiums/trade/chains/supply-1";

    fn key(metric: Metric) -> Key {
        Key { resource: CHAIN.into(), metric }
    }

    /// A height that grows by two a second for ten minutes, is not seen for five, and begins anew.
    fn heights() -> Series {
        let series = Series::default();
        let see = |second: u64, height: i64| series.record(CHAIN, Metric::Height, second * 1_000, height);
        (0..600).for_each(|second| see(second, 100 + 2 * i64::try_from(second).unwrap_or(0)));
        (900..1_200).for_each(|second| see(second, i64::try_from(second).unwrap_or(0) - 900));
        series
    }

    #[test]
    fn a_counter_has_rates_and_a_gap_has_none() {
        let window = heights().window(&key(Metric::Height), 0, 1_200_000, 60_000);
        assert_eq!((window.step_ms, window.points.len()), (60_000, 15), "ten minutes and five, nothing between");
        let shown: Vec<Option<i64>> = [vec![None], vec![Some(2_000); 9], vec![None], vec![Some(1_000); 4]].concat();
        assert_eq!(window.rates, shown, "none for the first, and none after the gap, where it also began anew");
        let pace = window.pace.unwrap_or_else(|| panic!("{window:?}"));
        assert_eq!((pace.min, pace.median, pace.max, pace.now), (1_000, 2_000, 2_000, Some(1_000)));
        let values = window.values.unwrap_or_else(|| panic!("{window:?}"));
        assert_eq!((values.min, values.max, values.now, values.now_at_ms), (0, 1_298, Some(299), 1_199_000));
    }

    #[test]
    fn a_step_that_has_only_begun_makes_no_small_rate() {
        let series = heights();
        let begun = series.window(&key(Metric::Height), 0, 545_000, 60_000);
        assert_eq!(begun.rates.last(), Some(&None), "five seconds of a minute");
        // The clock stands in the middle of a step: its time is counted as far as it has come.
        let half = series.window(&key(Metric::Height), 900_000, 1_200_000, 120_000);
        assert_eq!(half.rates, [None, Some(1_000), Some(1_000)]);
    }

    #[test]
    fn what_was_never_seen_is_not_zero() {
        let none = heights().window(&key(Metric::Transactions), 0, 1_200_000, 60_000);
        assert_eq!((none.points.len(), none.values, none.pace), (0, None, None));
        let later = heights().window(&key(Metric::Height), 660_000, 840_000, 60_000);
        assert_eq!((later.points.len(), later.values, later.pace), (0, None, None), "nothing in the gap");
    }

    #[test]
    fn a_gauge_has_least_middle_and_most() {
        let series = Series::default();
        for (minute, value) in [(0, 10), (1, 30), (2, 20), (3, 1_000)] {
            series.record(CHAIN, Metric::Peers, minute * 60_000, value);
            series.record(CHAIN, Metric::Peers, minute * 60_000 + 1, value + 2);
        }
        let window = series.window(&key(Metric::Peers), 0, 240_000, 60_000);
        let values = window.values.unwrap_or_else(|| panic!("{window:?}"));
        assert_eq!((values.min, values.median, values.max, values.now), (10, 21, 1_002, Some(1_002)));
        assert!(window.rates.is_empty() && window.pace.is_none());
    }
}
