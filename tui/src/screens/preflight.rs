//! What was found on a host before nodes are placed there: the worst first, each with what to do. It only shows.

use crate::app::model::Model;
use crate::app::model::data::{HostCheck, Payload, Query};
use crate::format::{fit, wrap};
use crate::i18n::{T, fill};
use crate::theme::Role;

use super::page::{Line, Page, State};

/// Width of the check's name, which stands before what was found.
const CHECK: usize = 14;

pub(super) fn page(model: &Model, host: &str, columns: usize) -> Page {
    let Some(Payload::Preflight(findings)) = model.payload(&Query::Preflight(host.to_owned())) else {
        return Page::bare(State::Empty(T::EmptyGone));
    };
    let count = |severity: &str| findings.iter().filter(|finding| finding.severity == severity).count().to_string();
    let summary = fill(&fill(model.t(T::PreflightLine), &count("ERROR")), &count("WARNING"));
    let mut lines = vec![Line::of(summary, Role::Strong), Line::default()];
    // Stable: within a severity the order in which it was looked.
    let mut sorted: Vec<&HostCheck> = findings.iter().collect();
    sorted.sort_by_key(|finding| match finding.severity.as_str() {
        "ERROR" => 0,
        "WARNING" => 1,
        _ => 2,
    });
    for finding in sorted {
        lines.extend(one(model, finding, columns));
    }
    Page::of(lines)
}

fn one(model: &Model, finding: &HostCheck, columns: usize) -> Vec<Line> {
    let (mark, role) = match finding.severity.as_str() {
        "ERROR" => (model.t(T::FindingError), Role::Danger),
        "WARNING" => (model.t(T::FindingWarning), Role::Warn),
        "FINE" => (model.t(T::FindingFine), Role::Ok),
        _ => ("?", Role::Dim),
    };
    let room = columns.saturating_sub(CHECK + SEVERITY);
    let mut found = wrap(&finding.found, room).into_iter();
    let first = Line::of(fit(mark, SEVERITY, false), role)
        .and(fit(&finding.check, CHECK, false), Role::Strong)
        .and(found.next().unwrap_or_default(), Role::Text);
    let indent = || Line::of(" ".repeat(CHECK + SEVERITY), Role::Dim);
    let advice = if finding.advice.is_empty() { Vec::new() } else { wrap(&finding.advice, room) };
    std::iter::once(first)
        .chain(found.map(|piece| indent().and(piece, Role::Text)))
        .chain(advice.into_iter().map(|piece| indent().and(piece, Role::Dim)))
        .collect()
}

/// Width of the word that says how much it matters.
const SEVERITY: usize = 9;
