//! MonitoringService: the last day of what the leader sees, and what is wrong with what to do.
//!
//! What this never does: look at the world for a caller; it shows what was seen.

use std::collections::BTreeMap;

use hanse_planner::diagnose::{Expiry, Figures, Finding, HostFigures, NodeFigures, Severity, diagnose};
use hanse_proto::v1 as pb;
use hanse_proto::v1::monitoring_service_server::MonitoringService;
use hanse_state::time::HOUR_MS;
use hanse_state::{Millis, State, name};
use tonic::{Request, Response, Status};

use super::page::{Order, PAGE_DEFAULT, Page, write_token};
use super::{Call, header, matches, replica_only};
use crate::context::Context;
use crate::error::ApiError;
use crate::observed::Observed;
use crate::series::{COARSE_MS, DAY_MS, FINE_MS, Key, Listed, Metric, Point, Series, Summary, Window, keep};

/// Spans of one answer.
const SPANS_MAX: u64 = 1_500;
/// Spans if none are asked for.
const SPANS: u64 = 60;
/// Series of one answer.
const SERIES_MAX: usize = 400;
/// Names every chain that an account sees.
const EVERY_CHAIN: &str = "consortiums/-/chains/-";
/// Time over which growth is measured.
const GROWTH_MS: u64 = 6 * HOUR_MS;
/// Less than this says nothing of growth.
const GROWTH_MS_MIN: u64 = 10 * 60_000;

/// What the leader sees.
pub(crate) struct Monitoring(Context);

impl Monitoring {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }
}

fn at(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or_default()
}

fn ms(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

fn points(key: &Key, points: &[Point]) -> pb::SeriesPoints {
    let point =
        |it: &Point| pb::SeriesPoint { at_ms: ms(it.at_ms), min: it.min, max: it.max, avg: it.avg, rate_milli: None };
    pb::SeriesPoints {
        resource: key.resource.clone(),
        metric: key.metric.name().into(),
        unit: key.metric.unit().into(),
        points: points.iter().map(point).collect(),
        counter: key.metric.is_counter(),
        ..pb::SeriesPoints::default()
    }
}

fn window(key: &Key, it: &Window) -> pb::SeriesPoints {
    let summary = |it: Summary| pb::SeriesSummary {
        min: it.min,
        median: it.median,
        max: it.max,
        now: it.now,
        now_at_ms: ms(it.now_at_ms),
    };
    let mut told = pb::SeriesPoints {
        step_ms: ms(it.step_ms),
        values: it.values.map(summary),
        rates: it.pace.map(summary),
        ..points(key, &it.points)
    };
    for (point, rate) in told.points.iter_mut().zip(&it.rates) {
        point.rate_milli = *rate;
    }
    told
}

/// Whether a series is of what was asked for.
fn is_of(key: &Key, resource: &str) -> bool {
    if resource == EVERY_CHAIN {
        return key.resource.starts_with("consortiums/") && key.resource.matches('/').count() == 3;
    }
    key.resource.strip_prefix(resource).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn listed(it: Listed) -> pb::SeriesInfo {
    pb::SeriesInfo {
        resource: it.key.resource,
        metric: it.key.metric.name().into(),
        unit: it.key.metric.unit().into(),
        last_at_ms: i64::try_from(it.at_ms).unwrap_or(i64::MAX),
        last: it.value,
    }
}

fn finding(it: Finding) -> pb::Finding {
    let severity = match it.severity {
        Severity::Critical => pb::FindingSeverity::Critical,
        Severity::Warning => pb::FindingSeverity::Warning,
        Severity::Notice => pb::FindingSeverity::Notice,
    };
    pb::Finding {
        resource: it.resource,
        code: it.code.into(),
        severity: severity.into(),
        what: it.what,
        cause: it.cause,
        recipe: it.recipe,
    }
}

/// Which span of time and in which steps.
struct Span {
    from: u64,
    to: u64,
    step: u64,
}

impl Span {
    fn of(request: &pb::GetSeriesRequest, now: Millis) -> Result<Self, ApiError> {
        let to = if request.to_ms == 0 { now.0 } else { at(request.to_ms) };
        let window = at(request.window_ms);
        if request.window_ms < 0 || window > DAY_MS || (window > 0 && request.from_ms != 0) {
            let why = "is negative, longer than the day that is kept, or said together with from_ms";
            return Err(ApiError::invalid("window_ms", why, "give at most 86400000, or from_ms and to_ms instead"));
        }
        let window = if window == 0 { HOUR_MS } else { window };
        let from = if request.from_ms == 0 { to.saturating_sub(window) } else { at(request.from_ms) };
        if request.from_ms < 0 || request.to_ms < 0 || from >= to {
            return Err(ApiError::invalid("from_ms", "is not before the end", "give milliseconds since 1970, or 0"));
        }
        let step = match request.step_ms {
            0 => ((to - from) / SPANS).max(FINE_MS),
            step => at(step),
        };
        if step < FINE_MS || (to - from) / step > SPANS_MAX {
            let why = format!("makes more than {SPANS_MAX} spans, or is below {FINE_MS}");
            return Err(ApiError::invalid("step_ms", &why, "give a longer step, a shorter time, or 0"));
        }
        Ok(Self { from, to, step })
    }
}

/// The figures that findings are made of.
pub(crate) fn figures(state: &State, observed: &Observed, now: Millis) -> Figures {
    let series = observed.series();
    let last = |resource: &str, metric| series.last(resource, metric).and_then(|(_, value)| u64::try_from(value).ok());
    let node = |key: &hanse_state::ids::NodeKey| {
        let resource = name::node(key);
        let rose_at = observed.node(key).map(|view| Millis(view.block_time_ms)).filter(|at| at.0 > 0);
        let (block_time_ms, round) = (last(&resource, Metric::BlockTime), last(&resource, Metric::Round));
        (key.clone(), NodeFigures { rose_at, block_time_ms, round })
    };
    let host = |id: &hanse_state::ids::HostId| {
        let resource = name::host(id);
        let figures = HostFigures {
            disk_free: last(&resource, Metric::DiskFree),
            disk_less_an_hour: shrinks(series, &resource, now),
            clock_offset_ms: series.last(&resource, Metric::ClockOffset).map(|(_, value)| value),
            silent: last(&resource, Metric::Reachable) == Some(0),
        };
        (id.clone(), figures)
    };
    let expiry = |(id, it): (hanse_state::ids::HostId, hanse_adapters_core::Expiry)| Expiry {
        resource: name::host(&id),
        what: it.what,
        until: Millis(it.until_ms),
        renew: it.renew,
    };
    Figures {
        nodes: state.nodes.keys().map(node).collect(),
        hosts: state.hosts.keys().map(host).collect(),
        expiries: observed.expiries().into_iter().filter(|(id, _)| state.hosts.contains_key(id)).map(expiry).collect(),
        double_signs: observed.double_signs(),
    }
}

/// The certificates of the replica that answers.
fn own_certificates(context: &Context) -> Option<Expiry> {
    let (own, until) = (context.member().own, context.certificate_until_ms());
    let renew = format!(
        "`hanse ca issue` with the cluster's authorities makes new ones for replica {own}: put them into its `tls` folder and start it \
         again; `hanse doctor` shows the others'"
    );
    let what = format!("the certificate of replica {own}, which leads,");
    (until > 0).then(|| Expiry { resource: name::replica(own), what, until: Millis(until), renew })
}

/// Bytes by which a host's disk becomes less in an hour, over the last hours.
fn shrinks(series: &Series, resource: &str, now: Millis) -> u64 {
    let key = Key { resource: resource.to_owned(), metric: Metric::DiskFree };
    let seen = series.points(&key, now.0.saturating_sub(GROWTH_MS), now.0, COARSE_MS);
    let (Some(first), Some(last)) = (seen.first(), seen.last()) else { return 0 };
    let time = last.at_ms.saturating_sub(first.at_ms);
    let less = u64::try_from(first.avg.saturating_sub(last.avg)).unwrap_or(0);
    if time < GROWTH_MS_MIN { 0 } else { less.saturating_mul(HOUR_MS) / time }
}

#[tonic::async_trait]
impl MonitoringService for Monitoring {
    async fn list_series(
        &self,
        request: Request<pb::ListSeriesRequest>,
    ) -> Result<Response<pb::ListSeriesResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<String>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let all = self.0.observed().series().list().into_iter();
        let seen = all.filter(|one| call.sight().sees_resource(&one.key.resource));
        let seen = seen.filter(|one| matches(&it.filter, &[&one.key.resource, one.key.metric.name()]));
        let named: BTreeMap<String, pb::SeriesInfo> =
            seen.map(|one| (format!("{} {}", one.key.resource, one.key.metric.name()), listed(one))).collect();
        let (series, next_page_token) = page.take(Order::Ascending, named.into_iter());
        Ok(Response::new(pb::ListSeriesResponse { header: call.read_header(), series, next_page_token }))
    }

    async fn get_series(
        &self,
        request: Request<pb::GetSeriesRequest>,
    ) -> Result<Response<pb::GetSeriesResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let every = it.resource == EVERY_CHAIN;
        if it.resource.is_empty() || !(every || call.sight().sees_resource(&it.resource)) {
            return Err(ApiError::not_found("resource", &it.resource).into());
        }
        let find = |name: &String| {
            let names: Vec<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
            let unknown = || {
                ApiError::invalid("metrics", &format!("{name:?} is no figure"), &format!("use {}", names.join(", ")))
            };
            Metric::find(name).ok_or_else(unknown)
        };
        let wanted = it.metrics.iter().map(find).collect::<Result<Vec<Metric>, _>>()?;
        let span = Span::of(&it, self.0.now())?;
        let series = self.0.observed().series();
        let all = series.list().into_iter().map(|one| one.key).filter(|key| is_of(key, &it.resource));
        let of = all.filter(|key| !it.own_only || every || key.resource == it.resource);
        let of = of.filter(|key| wanted.is_empty() || wanted.contains(&key.metric));
        let keys: Vec<Key> = of.filter(|key| call.sight().sees_resource(&key.resource)).take(SERIES_MAX).collect();
        let since = keys.iter().filter_map(|key| series.begins(key)).min();
        let shown = keys.iter().map(|key| window(key, &series.window(key, span.from, span.to, span.step)));
        Ok(Response::new(pb::GetSeriesResponse {
            header: call.read_header(),
            series: shown.collect(),
            from_ms: ms(span.from),
            to_ms: ms(span.to),
            since_ms: since.map_or(0, ms),
        }))
    }

    async fn list_findings(
        &self,
        request: Request<pb::ListFindingsRequest>,
    ) -> Result<Response<pb::ListFindingsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<u64>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let (observed, now) = (self.0.observed(), self.0.now());
        let mut figures = figures(&call.state, observed, now);
        figures.expiries.extend(own_certificates(&self.0));
        let all = diagnose(&call.state, &observed.for_planning(), &figures, now);
        let seen = all.into_iter().filter(|it| call.sight().sees_resource(&it.resource));
        let seen = seen.filter(|one| one.resource.starts_with(&it.filter)).map(finding);
        // The place in the order is all that names a finding.
        let (findings, next_page_token) = page.take(Order::Ascending, (1_u64..).zip(seen));
        Ok(Response::new(pb::ListFindingsResponse { header: call.read_header(), findings, next_page_token }))
    }

    async fn get_series_copy(
        &self,
        request: Request<pb::GetSeriesCopyRequest>,
    ) -> Result<Response<pb::GetSeriesCopyResponse>, Status> {
        replica_only(&self.0, &request)?;
        let it = request.into_inner();
        let page = Page::<String>::parse(0, &it.page_token, keep::PAGE)?;
        let after = page.after.as_deref().and_then(|text| {
            let (resource, metric) = text.split_once(' ')?;
            Some(Key { resource: resource.to_owned(), metric: Metric::find(metric)? })
        });
        let found = self.0.observed().series().minutes(after.as_ref(), at(it.since_ms), keep::PAGE);
        let next_page_token = match found.last() {
            Some((key, _)) if found.len() == keep::PAGE => {
                write_token(&format!("{} {}", key.resource, key.metric.name()))
            }
            Some(_) | None => String::new(),
        };
        let series = found.iter().map(|(key, minutes)| points(key, minutes)).collect();
        let state = self.0.replica().local();
        let header = header(&self.0, &state, state.revision);
        Ok(Response::new(pb::GetSeriesCopyResponse { header, series, next_page_token }))
    }
}
