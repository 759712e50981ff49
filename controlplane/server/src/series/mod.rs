//! Time series of what the leader sees, for the last day: every figure of a node or host as minutes and tens of seconds.
//!
//! How it works. A sample goes into the open bucket of both resolutions; a full bucket is kept as least, greatest and mean.
//! Both rings are bounded: an hour of tens of seconds, a day of minutes. Minutes are copied to the other replicas and to
//! this replica's disk (`keep`), so that a change of leader or a restart costs at most the minutes under way; tens of
//! seconds are the leader's alone. What is shown of a span of time is made by `window`.
//!
//! Memory: a point is 32 bytes, a series at most 1,800 of them and a name, 58 kB; a node has 11, a host 6, a chain 5. At
//! [`SERIES_MAX`] a replica holds 230 MB and takes no more; what is refused is counted.
//!
//! What this never does: decide anything, or enter the log.

mod figures;
pub mod keep;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

pub use figures::Metric;
pub use window::{Summary, Window};

/// Most series of a replica.
pub const SERIES_MAX: usize = 4_000;
/// Length of a fine bucket, milliseconds.
pub const FINE_MS: u64 = 10_000;
/// Length of a coarse bucket, milliseconds.
pub const COARSE_MS: u64 = 60_000;
/// Fine points kept: an hour.
const FINE_POINTS: usize = 360;
/// Coarse points kept: a day.
const COARSE_POINTS: usize = 1_440;
/// How long a series without new points is kept.
pub(crate) const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// How often an adapter is asked for figures.
pub(crate) const ASK_EVERY_MS: u64 = 10_000;

/// What a figure is about and which it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// Resource name, e.g. `hosts/h1`.
    pub resource: String,
    /// Which figure.
    pub metric: Metric,
}

/// A bucket that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its beginning, milliseconds since 1970, a multiple of its length.
    pub at_ms: u64,
    /// Least sample.
    pub min: i64,
    /// Greatest sample.
    pub max: i64,
    /// Mean of the samples, rounded towards zero.
    pub avg: i64,
}

/// A bucket under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    at_ms: u64,
    min: i64,
    max: i64,
    sum: i128,
    count: u32,
}

/// Points of one resolution, oldest first.
#[derive(Clone, Debug, Default)]
struct Ring {
    points: VecDeque<Point>,
    open: Option<Open>,
}

#[derive(Clone, Debug, Default)]
struct One {
    fine: Ring,
    coarse: Ring,
    last: Option<(u64, i64)>,
}

#[derive(Debug, Default)]
struct Inner {
    all: BTreeMap<Key, One>,
    /// Samples of series that there is no room for.
    refused: u64,
    /// Last reading of counters, by name: when and what.
    counters: BTreeMap<Key, (u64, u64)>,
    /// When an adapter was last asked for figures of a resource.
    asked: BTreeMap<String, u64>,
    /// The block of a chain up to which transactions are counted, and when it was made.
    blocks: BTreeMap<String, (u64, u64)>,
}

/// The series of one replica; a clone is another handle.
#[derive(Clone, Debug, Default)]
pub struct Series {
    inner: Arc<Mutex<Inner>>,
}

/// A series as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub key: Key,
    /// When its last sample was seen, milliseconds since 1970.
    pub at_ms: u64,
    /// That sample.
    pub value: i64,
}

impl Series {
    /// Takes a sample seen at `at_ms`. One that is older than the bucket under way is dropped.
    pub fn record(&self, resource: &str, metric: Metric, at_ms: u64, value: i64) {
        let mut inner = self.lock();
        let key = Key { resource: resource.to_owned(), metric };
        if !inner.all.contains_key(&key) && inner.all.len() >= SERIES_MAX {
            inner.refused += 1;
            return;
        }
        let one = inner.all.entry(key).or_default();
        one.fine.take(FINE_MS, FINE_POINTS, at_ms, value);
        one.coarse.take(COARSE_MS, COARSE_POINTS, at_ms, value);
        one.last = Some((at_ms, value));
    }

    /// Takes a reading of a counter of milliseconds and records how many thousandths of the time since the last one it
    /// went on; nothing if it went back (its process began anew) or this is the first.
    pub fn record_share(&self, resource: &str, metric: Metric, at_ms: u64, counter_ms: u64) {
        let key = Key { resource: resource.to_owned(), metric };
        let before = self.lock().counters.insert(key, (at_ms, counter_ms));
        let Some((then, was)) = before else { return };
        if let (Some(time), Some(more)) =
            (at_ms.checked_sub(then).filter(|time| *time > 0), counter_ms.checked_sub(was))
        {
            let share = more.saturating_mul(1_000) / time;
            self.record(resource, metric, at_ms, i64::try_from(share).unwrap_or(i64::MAX));
        }
    }

    /// As [`Series::record_share`] of a counter that goes on with another one: ticks busy of all ticks.
    pub fn record_ratio(&self, resource: &str, metric: Metric, at_ms: u64, busy: u64, all: u64) {
        let key = Key { resource: resource.to_owned(), metric };
        let before = self.lock().counters.insert(key, (all, busy));
        let Some((was_all, was_busy)) = before else { return };
        if let (Some(all), Some(busy)) = (all.checked_sub(was_all).filter(|all| *all > 0), busy.checked_sub(was_busy)) {
            let share = busy.saturating_mul(1_000) / all;
            self.record(resource, metric, at_ms, i64::try_from(share).unwrap_or(i64::MAX));
        }
    }

    /// Remembers up to which block (height, when it was made) the transactions of a chain are counted; returns the one before.
    pub(crate) fn counted(&self, chain: &str, block: (u64, u64)) -> Option<(u64, u64)> {
        self.lock().blocks.insert(chain.to_owned(), block)
    }

    /// Whether an adapter is to be asked for figures of `resource` again.
    pub(crate) fn is_due(&self, resource: &str, now_ms: u64) -> bool {
        self.is_due_after(resource, now_ms, ASK_EVERY_MS)
    }

    /// The same of what is asked at another pace.
    pub(crate) fn is_due_after(&self, about: &str, now_ms: u64, every_ms: u64) -> bool {
        self.lock().asked.get(about).is_none_or(|at| now_ms.saturating_sub(*at) >= every_ms)
    }

    /// Remembers that an adapter is being asked.
    pub(crate) fn asked(&self, resource: &str, now_ms: u64) {
        self.lock().asked.insert(resource.to_owned(), now_ms);
    }

    /// Returns every series with its last sample, in the order of their keys.
    pub fn list(&self) -> Vec<Listed> {
        let inner = self.lock();
        let listed =
            |(key, one): (&Key, &One)| one.last.map(|(at_ms, value)| Listed { key: key.clone(), at_ms, value });
        inner.all.iter().filter_map(listed).collect()
    }

    /// Returns the last sample of a series and when it was seen.
    pub fn last(&self, resource: &str, metric: Metric) -> Option<(u64, i64)> {
        self.lock().all.get(&Key { resource: resource.to_owned(), metric })?.last
    }

    /// Returns points of a series from `from_ms` to `to_ms` in steps of at least `step_ms`, oldest first, each step the
    /// least, greatest and mean of what is in it; from the fine ring if it reaches back so far and the step is finer than a
    /// minute. A bucket under way is its last point.
    pub fn points(&self, key: &Key, from_ms: u64, to_ms: u64, step_ms: u64) -> Vec<Point> {
        self.steps(key, from_ms, to_ms, step_ms).1.into_iter().map(|it| it.point).collect()
    }

    /// The same with the length that the steps have.
    fn steps(&self, key: &Key, from_ms: u64, to_ms: u64, step_ms: u64) -> (u64, Vec<Step>) {
        let inner = self.lock();
        let Some(one) = inner.all.get(key) else { return (step_ms, Vec::new()) };
        let fine = step_ms < COARSE_MS && one.fine_tells(from_ms);
        let (ring, length) = if fine { (&one.fine, FINE_MS) } else { (&one.coarse, COARSE_MS) };
        let step = step_ms.max(length).next_multiple_of(length);
        let within = |point: &Point| point.at_ms.saturating_add(length) > from_ms && point.at_ms <= to_ms;
        let closed = ring.points.iter().map(|point| Step::of(*point, step, length, false));
        let open = ring.open.map(|open| Step::of(open.closed(), step, length, true));
        (step, fold(closed.chain(open).filter(|it| within(&it.last))))
    }

    /// When the oldest minute of a series began, `None` if none is over.
    pub fn begins(&self, key: &Key) -> Option<u64> {
        self.lock().all.get(key)?.coarse.points.front().map(|first| first.at_ms)
    }

    /// Samples that there was no room for since the start.
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// Forgets series that have had no sample for a day.
    pub fn prune(&self, now_ms: u64) {
        let mut inner = self.lock();
        let Inner { all, counters, asked, blocks, .. } = &mut *inner;
        all.retain(|_, one| one.last.is_some_and(|(at, _)| now_ms.saturating_sub(at) < DAY_MS));
        // A first reading without a series is read again.
        counters.retain(|key, _| all.contains_key(key));
        asked.retain(|_, at| now_ms.saturating_sub(*at) < DAY_MS);
        blocks.retain(|_, (_, at)| now_ms.saturating_sub(*at) < DAY_MS);
    }

    /// Returns the minutes that began at `since_ms` or later, of the series after `after`, at most `limit` series.
    pub(crate) fn minutes(&self, after: Option<&Key>, since_ms: u64, limit: usize) -> Vec<(Key, Vec<Point>)> {
        let inner = self.lock();
        let late = inner.all.iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
        let of = |(key, one): (&Key, &One)| {
            let points = one.coarse.points.iter().copied().filter(|point| point.at_ms >= since_ms).collect();
            (key.clone(), points)
        };
        late.take(limit).map(of).collect()
    }

    /// Ends the minutes under way: this replica leads no more, and the rest of their time is for another one to see. Its tens
    /// of seconds are forgotten: nobody fills the hole that would be in them when it leads again.
    pub(crate) fn close(&self) {
        for one in self.lock().all.values_mut() {
            one.fine = Ring::default();
            one.coarse.close(COARSE_POINTS);
        }
    }

    /// Takes minutes of another replica, or of the disk: those that this replica has not seen itself, also between its own.
    pub(crate) fn merge(&self, key: Key, points: Vec<Point>) {
        let mut inner = self.lock();
        if !inner.all.contains_key(&key) && inner.all.len() >= SERIES_MAX {
            inner.refused += 1;
            return;
        }
        let one = inner.all.entry(key).or_default();
        let open = one.coarse.open.map(|open| open.at_ms);
        for point in points.into_iter().filter(|point| open.is_none_or(|open| point.at_ms < open)) {
            one.coarse.fill(COARSE_POINTS, point);
            if one.last.is_none_or(|(at, _)| at < point.at_ms) {
                one.last = Some((point.at_ms, point.avg));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    /// Whether tens of seconds tell of the time since `from_ms` all that minutes do: they reach back so far, or as far as
    /// anything is known.
    fn fine_tells(&self, from_ms: u64) -> bool {
        let Some(fine) = self.fine.begins() else { return false };
        fine <= from_ms || self.coarse.begins().is_none_or(|coarse| fine < coarse.saturating_add(COARSE_MS))
    }
}

impl Ring {
    /// When its first bucket began, also one under way.
    fn begins(&self) -> Option<u64> {
        self.points.front().map(|first| first.at_ms).or(self.open.map(|open| open.at_ms))
    }

    fn take(&mut self, length: u64, most: usize, at_ms: u64, value: i64) {
        let begin = at_ms - at_ms % length;
        match &mut self.open {
            Some(open) if open.at_ms == begin => open.add(value),
            Some(open) if open.at_ms < begin => {
                let closed = open.closed();
                self.open = Some(Open::new(begin, value));
                self.keep(most, closed);
            }
            // A clock that was set back: what was seen stays.
            Some(_) => {}
            None if self.points.back().is_some_and(|last| last.at_ms >= begin) => {}
            None => self.open = Some(Open::new(begin, value)),
        }
    }

    fn close(&mut self, most: usize) {
        if let Some(open) = self.open.take() {
            self.keep(most, open.closed());
        }
    }

    /// Puts a point where it belongs, unless one of that time is there.
    fn fill(&mut self, most: usize, point: Point) {
        if let Err(place) = self.points.binary_search_by_key(&point.at_ms, |it| it.at_ms) {
            // Older than everything that there is room for.
            if place == 0 && self.points.len() >= most {
                return;
            }
            self.points.insert(place, point);
            if self.points.len() > most {
                self.points.pop_front();
            }
        }
    }

    fn keep(&mut self, most: usize, point: Point) {
        self.points.push_back(point);
        if self.points.len() > most {
            self.points.pop_front();
        }
    }
}

impl Open {
    fn new(at_ms: u64, value: i64) -> Self {
        Self { at_ms, min: value, max: value, sum: value.into(), count: 1 }
    }

    fn add(&mut self, value: i64) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += i128::from(value);
        self.count += 1;
    }

    fn closed(self) -> Point {
        let avg = i64::try_from(self.sum / i128::from(self.count.max(1))).unwrap_or(i64::MAX);
        Point { at_ms: self.at_ms, min: self.min, max: self.max, avg }
    }
}

/// Buckets put together.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// What is shown of it.
    point: Point,
    /// The first bucket in it.
    first: Point,
    /// The last one.
    last: Point,
    /// The longest time from the beginning of a bucket to that of the next one in it.
    gap_ms: u64,
    /// Whether the value went back from a bucket to the next one.
    fell: bool,
    /// Length of a bucket.
    length_ms: u64,
    /// Whether the last bucket is under way.
    is_open: bool,
}

impl Step {
    /// A step of one bucket.
    fn of(bucket: Point, step_ms: u64, length_ms: u64, is_open: bool) -> Self {
        let point = Point { at_ms: bucket.at_ms - bucket.at_ms % step_ms, ..bucket };
        Self { point, first: bucket, last: bucket, gap_ms: 0, fell: false, length_ms, is_open }
    }
}

/// Whether a value that only grows began anew between two buckets, or in the later one.
fn went_back(before: &Point, after: &Point) -> bool {
    after.max < before.max || after.min < before.min
}

/// Puts buckets together into steps; the mean of a step is that of its buckets.
fn fold(buckets: impl Iterator<Item = Step>) -> Vec<Step> {
    let mut out: Vec<(Step, i128, i128)> = Vec::new();
    for it in buckets {
        match out.last_mut() {
            Some((step, sum, count)) if step.point.at_ms == it.point.at_ms => {
                step.point.min = step.point.min.min(it.point.min);
                step.point.max = step.point.max.max(it.point.max);
                step.gap_ms = step.gap_ms.max(it.last.at_ms - step.last.at_ms);
                step.fell |= went_back(&step.last, &it.last);
                (step.last, step.is_open) = (it.last, it.is_open);
                *sum += i128::from(it.point.avg);
                *count += 1;
            }
            Some(_) | None => out.push((it, it.point.avg.into(), 1)),
        }
    }
    let mean = |(step, sum, count): (Step, i128, i128)| {
        let avg = i64::try_from(sum / count).unwrap_or(i64::MAX);
        Step { point: Point { avg, ..step.point }, ..step }
    };
    out.into_iter().map(mean).collect()
}

#[cfg(test)]
mod tests;
