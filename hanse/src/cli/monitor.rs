//! `hanse chain|node|host monitor` and `hanse chain diagnose`: the last day of what the leader saw, and what is wrong.
//!
//! A table has one line a figure: the last value, the least, the middle and the greatest, how it changed, and a line of
//! blocks whose height is the mean of each span; a counter has a second line with its rates. A blank in the line is a time
//! in which nothing was seen. `--csv` prints every point.

use std::fmt::Write as _;
use std::time::Duration;

use hanse_client::pb;
use serde_json::json;

use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::units::parse_duration;
use super::view::{Shown, View};
use crate::output::{self, Format, Table, harmless};

/// Spans of a line of blocks.
const SPANS: u64 = 40;
/// Longest line; a shorter step makes more spans than a line has room for, and `--csv` shows them all.
const SPANS_MAX: usize = 120;
/// Thousandths a second, as rates are told.
const MILLI: &str = "milli_per_s";
/// Shortest span that the platform has.
const STEP_MS_MIN: u64 = 10_000;
/// A value that was seen longer ago, by the clock of the answer, says nothing of now.
const FRESH_MS: i64 = 60_000;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What every `monitor` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MonitorArgs {
    /// How far back, at most a day: 1h, 6h, 24h.
    #[arg(long, visible_alias = "window", default_value = "1h", value_parser = parse_duration)]
    last: Duration,
    /// Length of a span; at least 10s, and minutes from an hour back on.
    #[arg(long, value_parser = parse_duration)]
    step: Option<Duration>,
    /// Only this figure (height, peers, cpu, memory, disk_free, ...); may be repeated.
    #[arg(long)]
    metric: Vec<String>,
    /// Print every point as CSV.
    #[arg(long)]
    csv: bool,
}

const FINDINGS: View = View {
    key: "findings",
    name: "resource",
    columns: &[
        ("SEVERITY", "severity"),
        ("CODE", "code"),
        ("RESOURCE", "resource"),
        ("WHAT", "what"),
        ("CAUSE", "cause"),
        ("WHAT TO DO", "recipe"),
    ],
};

/// Prints the series of a resource and of what is below it.
///
/// # Errors
/// The call failed, or nothing was seen of it.
pub(crate) async fn monitor(context: &Context, resource: String, args: MonitorArgs) -> Result<(), CliError> {
    let last = u64::try_from(args.last.as_millis()).unwrap_or(u64::MAX);
    let step =
        args.step.map_or((last / SPANS).max(STEP_MS_MIN), |step| u64::try_from(step.as_millis()).unwrap_or(u64::MAX));
    let request = pb::GetSeriesRequest {
        resource: resource.clone(),
        metrics: args.metric,
        // By the clock of the leader, which stamped the points.
        window_ms: i64::try_from(last).unwrap_or(i64::MAX),
        step_ms: i64::try_from(step).unwrap_or(i64::MAX),
        ..pb::GetSeriesRequest::default()
    };
    let answer = context.call(request).await?;
    let time = Time { from: answer.from_ms, to: answer.to_ms };
    // A program of before this field takes no window either: what it answers is of another time than was asked for.
    if time.to == 0 {
        let advice = "Update the replicas, or use a `hanse` of the cluster's version (`hanse version`).";
        return Err(CliError::local("the cluster's program is of before figures over a window of time", advice));
    }
    let series: Vec<pb::SeriesPoints> = answer.series.into_iter().filter(|one| !one.points.is_empty()).collect();
    if series.is_empty() {
        let advice = "The leader samples hosts and running nodes every 10 s; name one that is there.";
        return Err(CliError::local(format!("nothing was seen of {resource} in that time"), advice));
    }
    if args.csv {
        return Ok(output::print(&csv(&series))?);
    }
    match context.global.format() {
        Format::Json => Ok(output::print_json(&json!({
            "from_ms": time.from,
            "to_ms": time.to,
            "since_ms": answer.since_ms,
            "series": series.iter().map(one).collect::<Vec<_>>(),
        }))?),
        Format::Name => Ok(output::print(
            &series
                .iter()
                .fold(String::new(), |all, one| all + &harmless(&format!("{} {}", one.resource, one.metric)) + "\n"),
        )?),
        Format::Table => Ok(output::print(&table(&resource, &series, &time).render())?),
    }
}

/// The time that is shown, milliseconds since 1970.
struct Time {
    from: i64,
    to: i64,
}

/// Prints what is wrong with `resource` and what is below it; with everything if it is empty.
///
/// # Errors
/// The call failed.
pub(crate) async fn diagnose(context: &Context, resource: String) -> Result<(), CliError> {
    let request = pb::ListFindingsRequest { page_size: PAGE_SIZE, page_token: String::new(), filter: resource };
    let value = context.json(request).await?;
    let findings = value["findings"].as_array().map_or(0, Vec::len);
    if findings == 0 && context.global.format() == Format::Table {
        return Ok(output::print("nothing is wrong\n")?);
    }
    context.print(Shown { value, view: FINDINGS })
}

fn one(it: &pb::SeriesPoints) -> serde_json::Value {
    let point = |it: &pb::SeriesPoint| {
        let mut told = json!({ "at_ms": it.at_ms, "min": it.min, "max": it.max, "avg": it.avg });
        if let Some(rate) = it.rate_milli {
            told["rate_milli"] = rate.into();
        }
        told
    };
    let summary = |it: &pb::SeriesSummary| {
        json!({
            "min": it.min,
            "median": it.median,
            "max": it.max,
            "now": it.now,
            "now_at_ms": it.now_at_ms,
        })
    };
    json!({
        "resource": it.resource,
        "metric": it.metric,
        "unit": it.unit,
        "counter": it.counter,
        "step_ms": it.step_ms,
        "values": it.values.as_ref().map(summary),
        "rates_milli": it.rates.as_ref().map(summary),
        "rate_per_s": rate(it),
        "points": it.points.iter().map(point).collect::<Vec<_>>(),
    })
}

fn csv(series: &[pb::SeriesPoints]) -> String {
    let mut text = String::from("resource,metric,unit,at_ms,min,max,avg,rate_milli\n");
    for one in series {
        for it in &one.points {
            let name = harmless(&format!("{},{},{}", one.resource, one.metric, one.unit));
            let rate = it.rate_milli.map_or(String::new(), |rate| rate.to_string());
            // Into a string this cannot fail.
            let _ = writeln!(text, "{name},{},{},{},{},{rate}", it.at_ms, it.min, it.max, it.avg);
        }
    }
    text
}

fn table(resource: &str, series: &[pb::SeriesPoints], time: &Time) -> Table {
    let headings = ["OF", "FIGURE", "NOW", "LEAST", "MEDIAN", "MOST", "CHANGE", "TREND"].map(str::to_owned).into();
    let row = |it: &pb::SeriesPoints, metric: String, unit: &str, short: &pb::SeriesSummary, change, trend| {
        let of = it.resource.strip_prefix(resource).unwrap_or(&it.resource).trim_start_matches('/');
        let shown = |value: i64| with_unit(value, unit);
        let of = if of.is_empty() { "-".into() } else { of.to_owned() };
        let now = now(short, time, shown);
        vec![of, metric, now, shown(short.min), shown(short.median), shown(short.max), change, trend]
    };
    let mut rows = Vec::new();
    for it in series {
        if let Some(values) = &it.values {
            let change = rate(it).map_or(String::new(), |rate| rate_text(rate, &it.unit));
            let trend = sparkline(it, time, |point| Some(point.avg));
            rows.push(row(it, it.metric.clone(), &it.unit, values, change, trend));
        }
        if let Some(rates) = &it.rates {
            let trend = sparkline(it, time, |point| point.rate_milli);
            rows.push(row(it, format!("{}/s", it.metric), MILLI, rates, String::new(), trend));
        }
    }
    Table { headings, rows }
}

/// The last value; of one that is old only how old it is.
fn now(short: &pb::SeriesSummary, time: &Time, shown: impl Fn(i64) -> String) -> String {
    let age = time.to.saturating_sub(short.now_at_ms);
    match short.now {
        Some(now) if age <= FRESH_MS => shown(now),
        Some(_) if age < 2 * 3_600_000 => format!("- {}m", age / 60_000),
        Some(_) => format!("- {}h", age / 3_600_000),
        None => "-".to_owned(),
    }
}

/// Change in a second from the first point to the last, of figures that grow or shrink by nature.
fn rate(it: &pb::SeriesPoints) -> Option<f64> {
    let grows = it.counter || matches!(it.metric.as_str(), "disk_used" | "disk_free" | "memory");
    let (first, last) = (it.points.first()?, it.points.last()?);
    let seconds = (last.at_ms - first.at_ms) as f64 / 1_000.0;
    (grows && seconds > 0.0).then(|| (last.avg - first.avg) as f64 / seconds)
}

fn rate_text(rate: f64, unit: &str) -> String {
    match unit {
        "bytes" => format!("{:+.1} MiB/h", rate * 3_600.0 / 1_048_576.0),
        _ => format!("{rate:+.2}/s"),
    }
}

fn with_unit(value: i64, unit: &str) -> String {
    match unit {
        "bytes" if value.unsigned_abs() >= 10 << 30 => format!("{} GiB", value >> 30),
        "bytes" => format!("{} MiB", value >> 20),
        MILLI => format!("{}.{:02}/s", value / 1_000, (value % 1_000).abs() / 10),
        "milli" => format!("{}.{:02}", value / 1_000, (value % 1_000).abs() / 10),
        "permille" => format!("{}.{} %", value / 10, (value % 10).abs()),
        "" => value.to_string(),
        unit => format!("{value} {unit}"),
    }
}

/// A block for each span up to the end, the newest ones that a line has room for, between the least and the greatest of these; all the same is drawn low, and
/// a span in which nothing was seen is a blank.
fn sparkline(it: &pb::SeriesPoints, time: &Time, value: impl Fn(&pb::SeriesPoint) -> Option<i64>) -> String {
    let step = it.step_ms.max(1);
    // The newest spans are those that there is room for.
    let shown = i64::try_from(SPANS_MAX).unwrap_or(i64::MAX).saturating_mul(step);
    let from = (time.to - time.to.rem_euclid(step)).saturating_add(step).saturating_sub(shown);
    let first = (time.from - time.from.rem_euclid(step)).max(from);
    let points = it.points.iter().filter(|point| point.at_ms >= first);
    let seen: Vec<(i64, i64)> = points.filter_map(|point| Some((point.at_ms, value(point)?))).collect();
    let (Some(least), Some(most)) = (seen.iter().map(|it| it.1).min(), seen.iter().map(|it| it.1).max()) else {
        return String::new();
    };
    let height = i128::from(most) - i128::from(least);
    let spans = usize::try_from((time.to - first) / step + 1).unwrap_or(0).min(SPANS_MAX);
    let mut line = vec![' '; spans];
    for (at, value) in seen {
        let above = i128::from(value) - i128::from(least);
        let block = if height == 0 { 0 } else { above * 7 / height };
        if let Some(cell) = usize::try_from((at - first) / step).ok().and_then(|place| line.get_mut(place)) {
            *cell = BLOCKS[usize::try_from(block).unwrap_or(0).min(7)];
        }
    }
    line.into_iter().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn series(metric: &str, unit: &str, values: &[Option<i64>]) -> pb::SeriesPoints {
        let point = |(n, value): (i64, &Option<i64>)| {
            let value = (*value)?;
            Some(pb::SeriesPoint { at_ms: n * 10_000, min: value - 1, max: value + 1, avg: value, rate_milli: None })
        };
        let points: Vec<_> = (0..).zip(values).filter_map(point).collect();
        let of = |pick: fn(&pb::SeriesPoint) -> i64| points.iter().map(pick);
        let values = pb::SeriesSummary {
            min: of(|it| it.min).min().unwrap(),
            median: points[points.len() / 2].avg,
            max: of(|it| it.max).max().unwrap(),
            now: points.last().map(|it| it.avg),
            now_at_ms: 0,
        };
        pb::SeriesPoints {
            resource: "consortiums/trade/chains/c/nodes/n0".into(),
            metric: metric.into(),
            unit: unit.into(),
            points,
            step_ms: 10_000,
            counter: metric == "height",
            values: Some(values),
            rates: None,
        }
    }

    #[test]
    fn figures_are_shown_with_rates_trend_and_gaps() {
        let mut all = [
            series("height", "", &[Some(0), Some(10), Some(20), Some(70)]),
            series("cpu", "permille", &[Some(15), None, None, Some(15)]),
            series("disk_free", "bytes", &[Some(3 << 30), None, Some(2 << 30)]),
        ];
        for (point, rate) in all[0].points.iter_mut().zip([None, Some(1_000), Some(1_000), Some(5_000)]) {
            point.rate_milli = rate;
        }
        all[0].rates =
            Some(pb::SeriesSummary { min: 1_000, median: 1_000, max: 5_000, now: Some(5_120), now_at_ms: 0 });
        all[1].values.as_mut().unwrap().now = None;
        // A minute and a half before the end, by the clock of the answer.
        all[2].values.as_mut().unwrap().now_at_ms = -50_001;
        let shown = table("consortiums/trade/chains/c", &all, &Time { from: 0, to: 39_999 }).render();
        let expected = "\
OF        FIGURE     NOW     LEAST     MEDIAN    MOST      CHANGE           TREND
nodes/n0  height     70      -1        20        71        +2.33/s          ▁▂▃█
nodes/n0  height/s   5.12/s  1.00/s    1.00/s    5.00/s                      ▁▁█
nodes/n0  cpu        -       1.4 %     1.5 %     1.6 %                      ▁  ▁
nodes/n0  disk_free  - 1m    2047 MiB  2048 MiB  3072 MiB  -184320.0 MiB/h  █ ▁
";
        let shown: String = shown.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        assert_eq!(shown, expected);
        let fresh = pb::SeriesSummary { now: Some(7), now_at_ms: 1_000, ..Default::default() };
        let told = |to| now(&fresh, &Time { from: 0, to }, |value| value.to_string());
        assert_eq!([61_000, 61_001, 86_401_000].map(told), ["7", "- 1m", "- 24h"]);
        assert!(csv(&all[..1]).ends_with("nodes/n0,height,,30000,69,71,70,5000\n"));
    }

    #[test]
    fn a_line_has_the_newest_spans_and_their_scale() {
        // 200 spans: a peak in the first, then zeros, then a rise in the last two.
        let mut values = vec![Some(0); 200];
        (values[0], values[198], values[199]) = (Some(1_000), Some(4), Some(8));
        let it = series("peers", "", &values);
        let line: Vec<char> = sparkline(&it, &Time { from: 0, to: 1_999_999 }, |it| Some(it.avg)).chars().collect();
        assert_eq!(line.len(), SPANS_MAX);
        assert_eq!(line[..SPANS_MAX - 2], vec!['▁'; SPANS_MAX - 2]);
        assert_eq!(line[SPANS_MAX - 2..], ['▄', '█']);
    }
}
