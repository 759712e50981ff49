//! Findings, series and artifacts, from the wire.

use hanse_client::pb;

use super::word;
use crate::app::model::data::Failure;
use crate::app::model::watch::{Artifact, Finding, Series, Sought, Window};

pub(crate) fn finding(f: pb::Finding) -> Finding {
    let severity = word(f.severity().as_str_name(), "FINDING_SEVERITY_");
    Finding { severity, code: f.code, resource: f.resource, what: f.what, cause: f.cause, recipe: f.recipe }
}

/// Asks for figures.
pub(crate) fn request(sought: &Sought, window: Window) -> pb::GetSeriesRequest {
    let (resource, own_only) = match sought {
        Sought::All(resource) => (resource.as_str(), false),
        Sought::Own(resource) => (resource.as_str(), true),
        Sought::Chains => ("consortiums/-/chains/-", true),
    };
    let metrics = if *sought == Sought::Chains { vec!["transactions".to_owned()] } else { Vec::new() };
    let window_ms = window.hours() * 3_600_000;
    pb::GetSeriesRequest { resource: resource.to_owned(), metrics, window_ms, own_only, ..Default::default() }
}

/// The figures of an answer; of a counter its values and its rates.
///
/// # Errors
/// The cluster's program is of before figures over a window of time: what it answers is of another time than was asked for.
pub(crate) fn series(answer: pb::GetSeriesResponse) -> Result<Vec<Series>, Failure> {
    if answer.to_ms == 0 {
        return Err(Failure {
            reason: "EARLIER_PROGRAM".to_owned(),
            message: "the cluster's program is of before figures over a window of time".to_owned(),
            advice: "update the replicas, or use a console of the cluster's version".to_owned(),
            ..Failure::default()
        });
    }
    let (from, to, since) = (answer.from_ms, answer.to_ms, answer.since_ms);
    let mut all = Vec::new();
    for it in answer.series {
        let one =
            |metric: String, unit: &str, short: &pb::SeriesSummary, value: fn(&pb::SeriesPoint) -> Option<i64>| {
                Series {
                    resource: it.resource.clone(),
                    metric,
                    unit: unit.to_owned(),
                    values: spans(&it, from, to, value),
                    min: short.min,
                    median: short.median,
                    max: short.max,
                    now: short.now,
                    now_age: to.saturating_sub(short.now_at_ms),
                    since,
                }
            };
        all.extend(it.values.as_ref().map(|short| one(it.metric.clone(), &it.unit, short, |point| Some(point.avg))));
        let rate = |short| one(format!("{}/s", it.metric), "milli_per_s", short, |point| point.rate_milli);
        all.extend(it.rates.as_ref().map(rate));
    }
    Ok(all)
}

/// Most spans that are taken from an answer; the console asks for about sixty.
const SPANS_MAX: i64 = 1_500;

/// A place for each span of the time that was asked for, empty where nothing was seen.
fn spans(it: &pb::SeriesPoints, from: i64, to: i64, value: fn(&pb::SeriesPoint) -> Option<i64>) -> Vec<Option<i64>> {
    let step = it.step_ms.max(1);
    let first = from - from.rem_euclid(step);
    let count = ((to - first) / step + 1).clamp(0, SPANS_MAX);
    let mut spans = vec![None; usize::try_from(count).unwrap_or(0)];
    for point in &it.points {
        let place = usize::try_from((point.at_ms - first) / step).ok();
        if let Some(span) = place.and_then(|place| spans.get_mut(place)) {
            *span = value(point);
        }
    }
    spans
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_keep_their_place_and_counters_have_rates() {
        let point = |at_ms, avg, rate_milli| pb::SeriesPoint { at_ms, min: avg, max: avg, avg, rate_milli };
        let short = pb::SeriesSummary { min: 1, median: 2, max: 3, now: None, now_at_ms: 7 };
        let it = pb::SeriesPoints {
            metric: "height".into(),
            points: vec![point(120_000, 1, None), point(300_000, 3, Some(11))],
            step_ms: 60_000,
            counter: true,
            values: Some(short),
            rates: Some(short),
            ..pb::SeriesPoints::default()
        };
        let answer = pb::GetSeriesResponse {
            series: vec![it],
            from_ms: 60_001,
            to_ms: 300_500,
            since_ms: 120_000,
            ..pb::GetSeriesResponse::default()
        };
        let [values, rates] =
            <[Series; 2]>::try_from(series(answer).expect("figures")).expect("a counter and its rate");
        assert_eq!(values.values, [None, Some(1), None, None, Some(3)]);
        assert_eq!(rates.values, [None, None, None, None, Some(11)]);
        assert_eq!((rates.metric.as_str(), rates.unit.as_str(), rates.now), ("height/s", "milli_per_s", None));
        assert_eq!(values.now_age, 300_493, "by the clock of the answer");
    }

    #[test]
    fn an_answer_of_an_earlier_program_is_told_as_that() {
        let refused = series(pb::GetSeriesResponse::default()).expect_err("it has no time");
        assert_eq!(refused.reason, "EARLIER_PROGRAM");
        let none = pb::GetSeriesResponse { to_ms: 1, ..Default::default() };
        assert_eq!(series(none), Ok(Vec::new()), "no figures is something else");
    }
}
