//! What is watched: what is wrong, the last hour of a chain, node or host, and the software that the platform keeps.

use crate::app::model::Model;
use crate::app::model::data::Query;
use crate::app::model::watch::Series;
use crate::format::{age, number};
use crate::i18n::T;

use super::lists::table;
use super::page::{Column, Page, Row, Span, Table, col, dim, num, state, text};
use super::{Screen, short, who};

/// Cells of a line of blocks.
const TREND: usize = 40;

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

pub(super) fn series(model: &Model, resource: &str, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColAbout, 12, 1),
        col(T::ColFigure, 14, 0),
        num(T::ColLast, 12, 0),
        num(T::ColLeast, 12, 2),
        num(T::ColMost, 12, 2),
        num(T::ColSpeed, 14, 1),
        col(T::ColTrend, TREND, 0),
    ];
    let rows = model.series(&Query::Series(resource.to_owned())).iter().map(|s| Row {
        id: format!("{} {}", s.resource, s.metric),
        cells: cells(s, resource, model.settings.theme.ascii),
        open: None,
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptySeries)
}

fn cells(s: &Series, resource: &str, ascii: bool) -> Vec<Span> {
    let of = s.resource.strip_prefix(resource).unwrap_or(&s.resource).trim_start_matches("/nodes/");
    vec![
        dim(if of.is_empty() { "-" } else { of }),
        text(&s.metric),
        text(s.values.last().map_or_else(|| "-".into(), |last| with_unit(*last, &s.unit))),
        dim(with_unit(s.min, &s.unit)),
        dim(with_unit(s.max, &s.unit)),
        dim(rate(s)),
        text(sparkline(&s.values, ascii)),
    ]
}

/// Change an hour, of figures that grow or shrink by nature; a height's in a second.
fn rate(s: &Series) -> String {
    let (Some(first), Some(last)) = (s.values.first(), s.values.last()) else { return String::new() };
    let change = i128::from(*last) - i128::from(*first);
    let span = i128::from(s.span_ms);
    match s.metric.as_str() {
        _ if span <= 0 => String::new(),
        "height" => {
            let hundredths = change * 100_000 / span;
            format!("{}.{:02}/s", hundredths / 100, (hundredths % 100).abs())
        }
        "disk_used" | "disk_free" | "memory" => format!("{:+} MiB/h", (change * 3_600_000 / span) >> 20),
        _ => String::new(),
    }
}

fn with_unit(value: i64, unit: &str) -> String {
    match unit {
        "bytes" => format!("{} MiB", value >> 20),
        "permille" => format!("{}.{} %", value / 10, (value % 10).abs()),
        "" => value.to_string(),
        unit => format!("{value} {unit}"),
    }
}

/// Blocks between the least and the greatest value; all the same is drawn low.
fn sparkline(values: &[i64], ascii: bool) -> String {
    let blocks: [char; 8] = if ascii {
        ['_', '.', ':', '-', '=', '+', '*', '#']
    } else {
        ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
    };
    let shown = &values[values.len().saturating_sub(TREND)..];
    let (Some(least), Some(most)) = (shown.iter().min(), shown.iter().max()) else { return String::new() };
    let height = (i128::from(*most) - i128::from(*least)).max(1);
    let block = |value: &i64| {
        let step = (i128::from(*value) - i128::from(*least)) * 7 / height;
        blocks[usize::try_from(step).unwrap_or(0).min(7)]
    };
    shown.iter().map(block).collect()
}
