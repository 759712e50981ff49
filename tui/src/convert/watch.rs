//! Findings, series and artifacts, from the wire.

use hanse_client::pb;

use super::word;
use crate::app::model::watch::{Artifact, Finding, Series};

pub(crate) fn finding(f: pb::Finding) -> Finding {
    let severity = word(f.severity().as_str_name(), "FINDING_SEVERITY_");
    Finding { severity, code: f.code, resource: f.resource, what: f.what, cause: f.cause, recipe: f.recipe }
}

pub(crate) fn series(s: pb::SeriesPoints) -> Series {
    let span_ms = match (s.points.first(), s.points.last()) {
        (Some(first), Some(last)) => last.at_ms - first.at_ms,
        _ => 0,
    };
    Series {
        values: s.points.iter().map(|point| point.avg).collect(),
        min: s.points.iter().map(|point| point.min).min().unwrap_or_default(),
        max: s.points.iter().map(|point| point.max).max().unwrap_or_default(),
        span_ms,
        resource: s.resource,
        metric: s.metric,
        unit: s.unit,
    }
}

pub(crate) fn artifact(a: pb::Artifact) -> Artifact {
    let kind = word(a.kind().as_str_name(), "ARTIFACT_KIND_");
    let word = if a.publisher.is_empty() { a.unsigned_reason } else { a.publisher };
    Artifact {
        name: a.name,
        title: a.title,
        version: a.version,
        kind,
        size: a.size_bytes,
        word,
        by: a.imported_by,
        at: a.imported_at_ms,
    }
}
