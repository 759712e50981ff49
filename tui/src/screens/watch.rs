//! What is watched: what is wrong, figures of chains, nodes and hosts over time, and the software that the platform keeps.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::bar;
use ratatui::widgets::{Sparkline, Widget as _};

use crate::app::model::Model;
use crate::app::model::data::{FailureKind, Query};
use crate::app::model::watch::{Series, Sought};
use crate::format::{age, date_time, number, span};
use crate::i18n::{T, fill};
use crate::theme::Role;

use super::lists::table;
use super::page::{Column, Line, Page, Row, Span, State, Table, col, dim, num, state, text};
use super::{Screen, chart, short, who};

pub(super) fn findings(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColSeverity, 12, 0),
        col(T::ColCode, 16, 0),
        col(T::ColAbout, 30, 0),
        col(T::ColWhat, 60, 1),
        col(T::ColCause, 60, 2),
    ];
    let rows = model.findings(&Query::Findings).iter().map(|f| Row {
        id: f.id(),
        cells: vec![state(model, &f.severity), text(&f.code), text(short(&f.resource)), text(&f.what), dim(&f.cause)],
        open: Some(Screen::Facts { query: Query::Findings, id: f.id(), json: false }),
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyFindings)
}

pub(super) fn artifacts(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColArtifact, 20, 0),
        col(T::ColVersion, 12, 0),
        col(T::ColKind, 10, 0),
        num(T::ColBytes, 16, 0),
        col(T::ColPublisher, 30, 1),
        col(T::ColBy, 20, 2),
        num(T::ColAge, 6, 2),
        col(T::ColHash, 20, 3),
    ];
    let rows = model.artifacts(&Query::Artifacts).iter().map(|a| Row {
        id: a.name.clone(),
        cells: vec![
            text(&a.title),
            text(&a.version),
            text(&a.kind),
            text(number(a.size)),
            dim(&a.word),
            dim(who(&a.by)),
            dim(age(model.now - a.at)),
            dim(a.name.trim_start_matches("artifacts/").chars().take(16).collect::<String>()),
        ],
        open: Some(Screen::Facts { query: Query::Artifacts, id: a.name.clone(), json: false }),
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyArtifacts)
}

/// Figures of a chain's page.
pub(super) const OF_CHAIN: &[&str] = &["height/s", "transactions", "peers", "round", "block_age"];
/// Figures of a node's page.
pub(super) const OF_NODE: &[&str] = &["height/s", "peers", "cpu", "memory", "disk_used", "starts"];
/// Figures of a host's page.
pub(super) const OF_HOST: &[&str] = &["cpu", "load", "memory", "disk_free", "clock_offset"];
/// A sample that is older says nothing of now.
const FRESH_MS: i64 = 60_000;

/// Returns how far back figures are shown, in words.
pub fn window_words(model: &Model) -> String {
    fill(model.t(T::WindowWords), &model.window.hours().to_string())
}

/// Everything that is kept of a resource and of what is below it.
pub(super) fn series(model: &Model, resource: &str, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColAbout, 12, 0),
        col(T::ColFigure, 14, 0),
        num(T::ColNow, 12, 0),
        num(T::ColLeast, 12, 1),
        num(T::ColMedian, 12, 2),
        num(T::ColMost, 12, 1),
        num(T::ColTrend, 64, 0),
    ];
    let query = Query::Series(Sought::All(resource.to_owned()), model.window);
    let all = model.series(&query);
    let rows = all.iter().map(|s| {
        let of = s.resource.strip_prefix(resource).unwrap_or(&s.resource).trim_start_matches("/nodes/");
        let of = dim(if of.is_empty() { "-" } else { of });
        let cells = std::iter::once(of).chain(cells(model, &query, s, trend_cells(columns))).collect();
        Row { id: id(s), cells, open: None }
    });
    let rows = rows.collect();
    let mut page = table(model, columns, Table { columns: COLUMNS, rows }, T::EmptySeries);
    if let Some(since) = since(model, all).filter(|_| !page.pinned.is_empty()) {
        page.pinned.insert(0, Line::of(since, Role::Dim));
    }
    page
}

/// Returns the title and the lines of the chart of the figure on a line of a `:monitor` screen, none if it has none.
pub fn chart_of(model: &Model, line: &str, size: (u16, u16)) -> Option<(String, Vec<String>)> {
    let Screen::Series(resource) = &model.view().screen else { return None };
    let all = model.series(&Query::Series(Sought::All(resource.to_owned()), model.window));
    let s = all.iter().find(|s| id(s) == line)?;
    let of = s.resource.strip_prefix(resource).unwrap_or(&s.resource).trim_start_matches("/nodes/");
    let title = format!("{of} {}: {}", crate::i18n::state(model.settings.lang, &s.metric), window_words(model));
    Some((title.trim_start().to_owned(), chart::lines(s, model.window.hours(), model.settings.theme.ascii, size)))
}

/// Names a figure on a screen.
fn id(s: &Series) -> String {
    format!("{} {}", s.resource, s.metric)
}

/// The figures of a page about one resource, with their heading: those of `wanted` that were seen, in that order.
pub(super) fn figures(model: &Model, resource: &str, wanted: &[&str], columns: usize) -> Vec<Line> {
    const COLUMNS: &[Column] = &[
        col(T::ColFigure, 14, 0),
        num(T::ColNow, 12, 0),
        num(T::ColLeast, 10, 0),
        num(T::ColMedian, 10, 0),
        num(T::ColMost, 10, 0),
        num(T::ColTrend, 64, 0),
    ];
    let query = Query::Series(Sought::Own(resource.to_owned()), model.window);
    let all = model.series(&query);
    let shown = wanted.iter().filter_map(|metric| all.iter().find(|s| s.metric == *metric && s.resource == resource));
    let row = |s: &Series| Row { id: id(s), cells: cells(model, &query, s, trend_cells(columns)), open: None };
    let rows: Vec<Row> = shown.map(row).collect();
    let more = Screen::Series(resource.to_owned());
    let mut title = Line::of(format!("{}: {}", model.t(T::Figures), window_words(model)), Role::Strong);
    if let Some(since) = since(model, all) {
        title = title.and(format!("   {since}"), Role::Dim);
    }
    let mut lines = vec![Line::default(), title.opens("figures", more)];
    match super::waiting(model, &query) {
        None if rows.is_empty() => lines.push(Line::of(model.t(T::FiguresNone), Role::Dim)),
        None => super::details::add(model, &mut lines, Table { columns: COLUMNS, rows }, columns),
        Some(State::Denied(f) | State::Failed(f)) => {
            lines.push(Line::of(fill(model.t(T::FailedLine), &format!("{} {}", f.reason, f.message)), Role::Warn));
        }
        Some(_) => lines.push(Line::of(fill(model.t(T::Loading), ""), Role::Working)),
    }
    // What is shown is of before.
    if super::waiting(model, &query).is_none() {
        lines.extend(failed(model, &query));
    }
    lines.push(Line::default());
    lines
}

/// Why figures cannot be had now, to be told below what was seen before; `None` if they can, and while the cluster cannot be
/// reached at all, which the head of the screen says.
fn failed(model: &Model, query: &Query) -> Option<Line> {
    let failure = model.slots.get(query)?.failure.as_ref()?;
    if matches!(failure.kind, FailureKind::Unavailable | FailureKind::Unauthenticated) {
        return None;
    }
    let why = format!("{}: {} {}", model.t(T::Figures), failure.reason, failure.message);
    Some(Line::of(fill(model.t(T::FailedLine), &why), Role::Warn))
}

/// The same of the transactions in the list of chains.
pub(super) fn transactions_failed(model: &Model) -> Option<Line> {
    failed(model, &Query::Series(Sought::Chains, model.window))
}

/// The transactions of a chain as a cell: a line of blocks and what it carries now.
pub(super) fn transactions(model: &Model, chain: &str) -> Span {
    let query = Query::Series(Sought::Chains, model.window);
    let all = model.series(&query);
    match all.iter().find(|s| s.resource == chain) {
        None => dim("-"),
        Some(s) => {
            let now = now(model, &query, s);
            text(format!("{} {now:>7}", sparkline(&s.values, CHAIN_TREND, model.settings.theme.ascii)))
        }
    }
}

/// Cells of the line of blocks in the list of chains.
const CHAIN_TREND: usize = 8;

/// Cells of a line of blocks on a page of so many columns.
fn trend_cells(columns: usize) -> usize {
    if columns < 100 { 16 } else { 40 }
}

/// Since when the leader has minutes of what is shown; `None` if it has none that is over.
fn since(model: &Model, all: &[Series]) -> Option<String> {
    let since = all.first().map(|s| s.since).filter(|since| *since > 0)?;
    Some(fill(model.t(T::FiguresSince), &date_time(since)))
}

fn cells(model: &Model, query: &Query, s: &Series, trend: usize) -> Vec<Span> {
    vec![
        text(crate::i18n::state(model.settings.lang, &s.metric)),
        text(now(model, query, s)),
        dim(with_unit(s.min, &s.unit)),
        dim(with_unit(s.median, &s.unit)),
        dim(with_unit(s.max, &s.unit)),
        text(sparkline(&s.values, trend, model.settings.theme.ascii)),
    ]
}

/// The last sample; of one that is old only how old it is: by the cluster's clock when it answered, and by ours since then.
fn now(model: &Model, query: &Query, s: &Series) -> String {
    let since = model.slots.get(query).map_or(0, |slot| model.now - slot.at);
    let old = s.now_age.saturating_add(since);
    match s.now {
        Some(now) if old <= FRESH_MS => with_unit(now, &s.unit),
        Some(_) => format!("- {}", age(old)),
        None => "-".to_owned(),
    }
}

/// Decimals of thousandths: `1.25`, and fewer where they say nothing.
fn thousandths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    match value {
        0 => "0".to_owned(),
        100_000.. => format!("{sign}{}", value / 1_000),
        _ => format!("{sign}{}.{:02}", value / 1_000, value % 1_000 / 10),
    }
}

pub(super) fn with_unit(value: i64, unit: &str) -> String {
    match unit {
        "bytes" if value.unsigned_abs() >= 10 << 30 => {
            format!("{}.{} GiB", value >> 30, (((value % (1 << 30)) * 10) >> 30).abs())
        }
        "bytes" => format!("{} MiB", value >> 20),
        "permille" => format!("{}.{} %", value / 10, (value % 10).abs()),
        "milli_per_s" | "milli" => thousandths(value),
        "ms" if value.abs() >= 10_000 => span(value),
        "" => value.to_string(),
        unit => format!("{value} {unit}"),
    }
}

/// Blocks between the least and the greatest value in so many cells; all the same is drawn low, and a blank is a time in
/// which nothing was seen.
fn sparkline(values: &[Option<i64>], cells: usize, ascii: bool) -> String {
    let ascii_set = bar::Set {
        full: "#",
        seven_eighths: "*",
        three_quarters: "+",
        five_eighths: "=",
        half: "-",
        three_eighths: ":",
        one_quarter: ".",
        one_eighth: "_",
        empty: " ",
    };
    let shown = squeezed(values, cells);
    let known = || shown.iter().flatten();
    let (Some(least), Some(most)) = (known().min(), known().max()) else { return " ".repeat(shown.len()) };
    let height = (i128::from(*most) - i128::from(*least)).max(1);
    let eighth = |value: i64| u64::try_from(1 + (i128::from(value) - i128::from(*least)) * 7 / height).unwrap_or(1);
    let bars: Vec<Option<u64>> = shown.iter().map(|value| value.map(eighth)).collect();
    let area = Rect { x: 0, y: 0, width: u16::try_from(bars.len()).unwrap_or(0), height: 1 };
    let mut buffer = Buffer::empty(area);
    let widget = Sparkline::default().data(bars).max(8).absent_value_symbol(" ");
    widget.bar_set(if ascii { ascii_set } else { bar::NINE_LEVELS }).render(area, &mut buffer);
    buffer.content.iter().map(|cell| cell.symbol()).collect()
}

/// As many values as cells at most, each the mean of those in its place that are known.
fn squeezed(values: &[Option<i64>], cells: usize) -> Vec<Option<i64>> {
    if values.len() <= cells {
        return values.to_vec();
    }
    let place = |cell: usize| cell * values.len() / cells;
    let mean = |cell: usize| {
        let part: Vec<i128> =
            values[place(cell)..place(cell + 1)].iter().flatten().map(|value| i128::from(*value)).collect();
        let count = i128::try_from(part.len()).ok().filter(|count| *count > 0)?;
        i64::try_from(part.iter().sum::<i128>() / count).ok()
    };
    (0..cells).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_blank_and_zero_is_not() {
        assert_eq!(sparkline(&[Some(0), None, Some(0), Some(7)], 8, false), "▁ ▁█");
        assert_eq!(sparkline(&[Some(0), None, Some(3), Some(7)], 8, true), "_ -#");
        assert_eq!(sparkline(&[None, None], 8, false), "  ");
        assert_eq!(sparkline(&[], 8, false), "");
        assert_eq!(sparkline(&[Some(i64::MIN), Some(i64::MAX)], 8, false), "▁█");
        assert_eq!(sparkline(&[Some(5), Some(5)], 8, false), "▁▁");
    }

    #[test]
    fn many_values_share_cells_and_a_cell_of_gaps_stays_one() {
        let values = [Some(1), Some(3), None, None, Some(10), None];
        assert_eq!(squeezed(&values, 3), [Some(2), None, Some(10)]);
        assert_eq!(squeezed(&values, 6), values);
        let many: Vec<Option<i64>> = (0..61).map(Some).collect();
        assert_eq!((squeezed(&many, 16).len(), squeezed(&many, 40).iter().flatten().count()), (16, 40));
    }

    #[test]
    fn units_are_told_with_the_digits_that_say_something() {
        let told = [(1_250, "milli_per_s"), (0, "milli_per_s"), (212_345, "milli_per_s"), (-120, "ms"), (95_000, "ms")];
        let told: Vec<String> = told.iter().map(|(value, unit)| with_unit(*value, unit)).collect();
        assert_eq!(told, ["1.25", "0", "212", "-120 ms", "1m35s"]);
        assert_eq!(
            (with_unit(12_884_901_888, "bytes"), with_unit(73, "permille")),
            ("12.0 GiB".into(), "7.3 %".into())
        );
    }
}
