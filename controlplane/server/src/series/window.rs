//! What is shown of a series over a span of time: its points, how fast a counter grew in each, and both in four numbers.
//!
//! A span without samples has no point and no rate: what was not seen is not zero. A counter that went back began anew,
//! and that span has no rate either.

use super::{COARSE_MS, FINE_MS, Key, Point, Series, Step, went_back};

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
    /// The last one that was seen, however long ago: `now_at_ms` tells. `None` without one.
    pub now: Option<i64>,
    /// When that was, milliseconds since 1970; 0 without one.
    pub now_at_ms: u64,
}

impl Series {
    /// Returns what is shown of a series from `from_ms` to `to_ms` in steps of at least `step_ms`.
    pub fn window(&self, key: &Key, from_ms: u64, to_ms: u64, step_ms: u64) -> Window {
        let (step_ms, steps) = self.steps(key, from_ms, to_ms, step_ms);
        let points: Vec<Point> = steps.iter().map(|it| it.point).collect();
        // The last sample, or, if the end is in the past, the mean of the last step.
        let sample = self.last(&key.resource, key.metric).filter(|(at, _)| *at <= to_ms);
        let seen = sample.or(points.last().map(|point| (point.at_ms, point.avg)));
        let values = summary(
            points.iter().map(|it| it.min).min(),
            points.iter().map(|it| it.max).max(),
            points.iter().map(|it| it.avg).collect(),
            seen.filter(|_| !points.is_empty()),
        );
        let rates = if key.metric.is_counter() { rates(&steps, step_ms, to_ms) } else { Vec::new() };
        let known: Vec<i64> = rates.iter().flatten().copied().collect();
        let pace = summary(known.iter().min().copied(), known.iter().max().copied(), known, self.pace(key, to_ms));
        Window { step_ms, points, rates, values, pace }
    }

    /// How fast a counter grew of late, and when that was seen: over tens of seconds, or over minutes if they are not there.
    fn pace(&self, key: &Key, to_ms: u64) -> Option<(u64, i64)> {
        let of = |step: u64, back: u64| {
            let (length, mut steps) = self.steps(key, to_ms.saturating_sub(back), to_ms, step);
            // The step under way is not over, and what it will hold is not known.
            steps.retain(|it| it.point.at_ms.saturating_add(length) <= to_ms);
            let is_whole = steps.windows(2).all(|pair| follows(&pair[0], &pair[1], length));
            let (first, last) = (steps.first()?, steps.last()?);
            let rate = if is_whole { grown(first, last, to_ms)? } else { return None };
            Some((last.point.at_ms.saturating_add(length), rate))
        };
        of(FINE_MS, NOW_MS).or_else(|| of(COARSE_MS, NOW_MS + 2 * COARSE_MS))
    }
}

/// Whether a counter was seen from the last bucket of one step to the last one of the next without a gap, and never went back.
fn follows(before: &Step, after: &Step, step_ms: u64) -> bool {
    // Samples come about every ten seconds: of the shortest buckets one may have none without a gap.
    let longest = after.gap_ms.max(after.first.at_ms.saturating_sub(before.last.at_ms));
    longest <= step_ms + FINE_MS && !after.fell && !went_back(&before.last, &after.first)
}

/// Thousandths a second by which the greatest value grew from the last bucket of one step to that of another, over the time
/// between the ends of the two; a bucket under way ends at `to_ms`.
fn grown(before: &Step, after: &Step, to_ms: u64) -> Option<i64> {
    let end = |it: &Step| {
        let end = it.last.at_ms.saturating_add(it.length_ms);
        if it.is_open { end.min(to_ms) } else { end }
    };
    let time_ms = end(after).checked_sub(end(before)).filter(|time| *time > 0)?;
    let more = i128::from(after.last.max) - i128::from(before.last.max);
    let rate = more.checked_mul(MILLI_PER_S)? / i128::from(time_ms);
    i64::try_from(rate).ok().filter(|rate| *rate >= 0)
}

/// How much a counter grew in each step: none for the first, over a gap, and where it went back.
fn rates(steps: &[Step], step_ms: u64, to_ms: u64) -> Vec<Option<i64>> {
    let between = |pair: &[Step]| {
        let (before, after) = (&pair[0], &pair[1]);
        // A step that has only begun says nothing yet.
        let has_come_far = to_ms.saturating_sub(after.point.at_ms) >= step_ms / 2;
        (has_come_far && follows(before, after, step_ms)).then(|| grown(before, after, to_ms)).flatten()
    };
    std::iter::once(None).take(steps.len()).chain(steps.windows(2).map(between)).collect()
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

    /// Heights minute by minute from `first`, each with its minute.
    fn by_minutes(seen: &[(u64, i64)]) -> Vec<Option<i64>> {
        let series = Series::default();
        seen.iter().for_each(|(minute, height)| series.record(CHAIN, Metric::Height, minute * 60_000, *height));
        // Two hours later, so that minutes are what is read, and none is under way.
        series.record(CHAIN, Metric::Height, 240 * 60_000, 1_000_000);
        series.window(&key(Metric::Height), 0, 72 * 60_000 - 1, 24 * 60_000).rates
    }

    #[test]
    fn growth_is_divided_by_the_time_in_which_it_was_seen() {
        // One a second all the time: the first step is left off early, the second one is seen from its middle on.
        let (before, after): (Vec<_>, Vec<_>) =
            ((0..20).map(|m| (m, 60 * m)).collect(), (35..48).map(|m| (m, 60 * m)).collect());
        let seen: Vec<(u64, i64)> = before
            .into_iter()
            .chain(after)
            .map(|(minute, height)| (minute, i64::try_from(height).unwrap_or(0)))
            .collect();
        assert_eq!(by_minutes(&seen), [None, Some(1_000)], "28 minutes of growth over 28 minutes, not over 24");
        // Seen in the first minute and in the last one: what was between is not known.
        assert_eq!(by_minutes(&[(0, 0), (47, 2_820)]), [None, None]);
        assert_eq!(by_minutes(&[(23, 0), (24, 60), (50, 3_000), (71, 5_000)]), [None, Some(1_000), None]);
    }

    #[test]
    fn a_counter_that_begins_anew_inside_a_step_has_no_rate_there() {
        let mut seen: Vec<(u64, i64)> = (0_i64..).zip(0..72).map(|(height, minute)| (minute, 60 * height)).collect();
        // In the second step it falls to nothing and overtakes what it was.
        seen[30].1 = 0;
        assert_eq!(by_minutes(&seen), [None, None, Some(1_000)]);
        let series = Series::default();
        for second in (0..180).step_by(10) {
            // In the second minute it is 160, then 0, then more than before.
            let height = if (70..90).contains(&second) { 0 } else { 100 + second };
            series.record(CHAIN, Metric::Height, u64::try_from(second).unwrap_or(0) * 1_000, height);
        }
        series.record(CHAIN, Metric::Height, 4 * 3_600_000, 1_000_000);
        let rates = series.window(&key(Metric::Height), 0, 179_999, 60_000).rates;
        assert_eq!(rates, [None, None, Some(1_000)], "also inside of a minute");
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
