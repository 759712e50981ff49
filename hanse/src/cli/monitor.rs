//! `hanse chain|node|host monitor` and `hanse chain diagnose`: the last day of what the leader saw, and what is wrong.
//!
//! A table has one line a figure: last, least and greatest value, rate of change, and a line of blocks whose height is the
//! mean of each span. `--csv` prints every point.

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
/// Shortest span that the platform has.
const STEP_MS_MIN: u64 = 10_000;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What every `monitor` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MonitorArgs {
    /// How far back, at most a day.
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
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
    let now = i64::try_from(hanse_server::context::clock().0).unwrap_or(i64::MAX);
    let request = pb::GetSeriesRequest {
        resource: resource.clone(),
        metrics: args.metric,
        from_ms: now.saturating_sub(i64::try_from(last).unwrap_or(i64::MAX)).max(1),
        to_ms: now,
        step_ms: i64::try_from(step).unwrap_or(i64::MAX),
    };
    let answer = context.call(request).await?;
    let series: Vec<pb::SeriesPoints> = answer.series.into_iter().filter(|one| !one.points.is_empty()).collect();
    if series.is_empty() {
        let advice = "The leader samples hosts and running nodes every 10 s; name one that is there.";
        return Err(CliError::local(format!("nothing was seen of {resource} in that time"), advice));
    }
    if args.csv {
        return Ok(output::print(&csv(&series))?);
    }
    match context.global.format() {
        Format::Json => Ok(output::print_json(&json!({ "series": series.iter().map(one).collect::<Vec<_>>() }))?),
        Format::Name => Ok(output::print(
            &series
                .iter()
                .fold(String::new(), |all, one| all + &harmless(&format!("{} {}", one.resource, one.metric)) + "\n"),
        )?),
        Format::Table => Ok(output::print(&table(&resource, &series).render())?),
    }
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
    let point = |it: &pb::SeriesPoint| json!({ "at_ms": it.at_ms, "min": it.min, "max": it.max, "avg": it.avg });
    json!({
        "resource": it.resource,
        "metric": it.metric,
        "unit": it.unit,
        "rate_per_s": rate(it),
        "points": it.points.iter().map(point).collect::<Vec<_>>(),
    })
}

fn csv(series: &[pb::SeriesPoints]) -> String {
    let mut text = String::from("resource,metric,unit,at_ms,min,max,avg\n");
    for one in series {
        for it in &one.points {
            let name = harmless(&format!("{},{},{}", one.resource, one.metric, one.unit));
            // Into a string this cannot fail.
            let _ = writeln!(text, "{name},{},{},{},{}", it.at_ms, it.min, it.max, it.avg);
        }
    }
    text
}

fn table(resource: &str, series: &[pb::SeriesPoints]) -> Table {
    let headings = ["OF", "FIGURE", "LAST", "LEAST", "MOST", "RATE", "TREND"].map(str::to_owned).into();
    let row = |it: &pb::SeriesPoints| {
        let of = it.resource.strip_prefix(resource).unwrap_or(&it.resource).trim_start_matches('/');
        let shown = |value: Option<i64>| value.map_or(String::new(), |value| with_unit(value, &it.unit));
        let rate = rate(it).map_or(String::new(), |rate| rate_text(rate, &it.unit));
        vec![
            if of.is_empty() { "-".into() } else { of.to_owned() },
            it.metric.clone(),
            shown(it.points.last().map(|point| point.avg)),
            shown(it.points.iter().map(|point| point.min).min()),
            shown(it.points.iter().map(|point| point.max).max()),
            rate,
            sparkline(it),
        ]
    };
    Table { headings, rows: series.iter().map(row).collect() }
}

/// Change in a second from the first point to the last, of figures that grow or shrink by nature.
fn rate(it: &pb::SeriesPoints) -> Option<f64> {
    let grows = matches!(it.metric.as_str(), "height" | "disk_used" | "disk_free" | "memory");
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
        "permille" => format!("{}.{} %", value / 10, (value % 10).abs()),
        "" => value.to_string(),
        unit => format!("{value} {unit}"),
    }
}

/// Blocks between the least and the greatest mean; all the same is drawn low.
fn sparkline(it: &pb::SeriesPoints) -> String {
    let (Some(least), Some(most)) =
        (it.points.iter().map(|point| point.avg).min(), it.points.iter().map(|point| point.avg).max())
    else {
        return String::new();
    };
    let height = i128::from(most) - i128::from(least);
    let block = |point: &pb::SeriesPoint| {
        let above = i128::from(point.avg) - i128::from(least);
        let step = if height == 0 { 0 } else { above * 7 / height };
        BLOCKS[usize::try_from(step).unwrap_or(0).min(7)]
    };
    let skip = it.points.len().saturating_sub(usize::try_from(SPANS).unwrap_or(40));
    it.points.iter().skip(skip).map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(metric: &str, unit: &str, values: &[i64]) -> pb::SeriesPoints {
        let point = |(n, value): (i64, &i64)| pb::SeriesPoint {
            at_ms: n * 10_000,
            min: value - 1,
            max: value + 1,
            avg: *value,
        };
        pb::SeriesPoints {
            resource: "consortiums/trade/chains/c/nodes/n0".into(),
            metric: metric.into(),
            unit: unit.into(),
            points: (0..).zip(values).map(point).collect(),
        }
    }

    #[test]
    fn figures_are_shown_with_rate_and_trend() {
        let all = [
            series("height", "", &[0, 10, 20, 70]),
            series("cpu", "permille", &[15, 15]),
            series("disk_free", "bytes", &[3 << 30, 2 << 30]),
        ];
        let shown = table("consortiums/trade/chains/c", &all).render();
        let expected = "\
OF        FIGURE     LAST      LEAST     MOST      RATE             TREND
nodes/n0  height     70        -1        71        +2.33/s          ▁▂▃█
nodes/n0  cpu        1.5 %     1.4 %     1.6 %                      ▁▁
nodes/n0  disk_free  2048 MiB  2047 MiB  3072 MiB  -368640.0 MiB/h  █▁
";
        assert_eq!(shown, expected);
        assert!(csv(&all[1..2]).ends_with("nodes/n0,cpu,permille,10000,14,16,15\n"));
    }
}
