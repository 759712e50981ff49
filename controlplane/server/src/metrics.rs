//! This replica's own numbers for Prometheus: text over plain HTTP, on an address of its own, `GET /metrics`.
//!
//! Off unless `metrics_listen` is set. It holds no secret and no name of a tenant, and is not protected: listen on loopback,
//! or on a network of the operators. Every answer is made anew from the replica's status, counters and folder.
//!
//! What this never does: ask other replicas, or hold up consensus.

use std::convert::Infallible;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

use hanse_raft::{Histogram, Replica, Role, Status};
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Askers at once; one more waits.
const ASKERS_MAX: usize = 8;
/// Longest a connection may take, from its first byte to the last of the answer.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Pause after an accept that failed, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Answers on `listener` until `shutdown`.
pub async fn serve(replica: Replica, listener: TcpListener, shutdown: CancellationToken) {
    let turns = Arc::new(Semaphore::new(ASKERS_MAX));
    loop {
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection for metrics");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (replica, end) = (replica.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _turn = turn;
            let answer = service_fn(move |request| answer(replica.clone(), request));
            let call = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                served = tokio::time::timeout(CALL_MAX, call) => if let Ok(Err(error)) = served {
                    tracing::debug!(%error, "an asker for metrics went away");
                },
                () = end.cancelled() => {}
            }
        });
    }
}

async fn answer(replica: Replica, request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match text(&replica).await {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => {
                tracing::warn!(%error, "metrics are not known");
                (StatusCode::INTERNAL_SERVER_ERROR, "the cause is in this replica's log\n".to_string())
            }
        },
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_string()),
        _ => (StatusCode::NOT_FOUND, "GET /metrics\n".to_string()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Gives the whole text.
///
/// # Errors
/// If the replica's folder or process cannot be looked at.
pub async fn text(replica: &Replica) -> Result<String, std::io::Error> {
    let room = replica.room().await.map_err(std::io::Error::other)?;
    let rss_bytes = tokio::task::spawn_blocking(resident).await.map_err(std::io::Error::other)??;
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.one("hanse_build_info", "gauge", "Version of this program.", &format!("{{version=\"{version}\"}}"), 1);
    page.one("process_resident_memory_bytes", "gauge", "Memory of this process.", "", rss_bytes);
    consensus(&mut page, &replica.status());
    page.family("hanse_raft_proposals_total", "counter", "Requests given to this replica as leader, by their end.");
    for (result, count) in replica.proposals() {
        page.sample("hanse_raft_proposals_total", &format!("{{result=\"{result}\"}}"), count);
    }
    let commit = "From a proposal to its answer: durable on a majority and applied here.";
    page.histogram("hanse_raft_commit_seconds", commit, replica.commit_times());
    page.histogram("hanse_raft_apply_seconds", "To apply a chunk of entries.", replica.apply_times());
    page.histogram(
        "hanse_log_fsync_seconds",
        "One fsync of the log.",
        replica.fsync_times().map_err(std::io::Error::other)?,
    );
    page.family("hanse_store_bytes", "gauge", "Blocks taken on the disk by each part of the data folder.");
    for (part, bytes) in &room.parts {
        page.sample("hanse_store_bytes", &format!("{{part=\"{part}\"}}"), bytes);
    }
    page.one("hanse_disk_free_bytes", "gauge", "Free beside them.", "", room.free_bytes);
    let short = "1 while requests are refused because the disk is full.";
    page.one("hanse_disk_full", "gauge", short, "", u8::from(room.short));
    if let Some(age) = room.snapshot_at.and_then(|at| at.elapsed().ok()) {
        page.one("hanse_raft_snapshot_age_seconds", "gauge", "Age of the newest snapshot.", "", age.as_secs());
    }
    Ok(page.text)
}

fn consensus(page: &mut Page, status: &Status) {
    page.one("hanse_raft_term", "gauge", "Term of this replica.", "", status.term);
    page.family("hanse_raft_role", "gauge", "1 for what this replica is.");
    for (role, name) in [
        (Role::Leader, "leader"),
        (Role::Follower, "follower"),
        (Role::Candidate, "candidate"),
        (Role::Learner, "learner"),
        (Role::Stopped, "stopped"),
    ] {
        page.sample("hanse_raft_role", &format!("{{role=\"{name}\"}}"), u8::from(status.role == role));
    }
    let leader = status.leader.map_or(0, |id| id.0);
    page.one("hanse_raft_leader", "gauge", "Number of the replica that leads, 0 if none is known.", "", leader);
    for (name, help, index) in [
        ("hanse_raft_last_index", "Last entry in the log.", status.last_log_index),
        ("hanse_raft_committed_index", "Last entry known to be on a majority.", status.committed),
        ("hanse_raft_applied_index", "Last entry applied.", status.applied),
        ("hanse_raft_snapshot_index", "Last entry that the newest snapshot covers.", status.snapshot),
        ("hanse_raft_purged_index", "Last entry gone from the log.", status.purged),
    ] {
        page.one(name, "gauge", help, "", index.unwrap_or(0));
    }
    if status.role == Role::Leader {
        page.family(
            "hanse_raft_follower_lag",
            "gauge",
            "Entries that a replica is not known to have; told by the leader.",
        );
        for (id, matched) in status.matched.iter().filter(|(id, _)| **id != status.id) {
            let lag = status.last_log_index.unwrap_or(0).saturating_sub(matched.unwrap_or(0));
            page.sample("hanse_raft_follower_lag", &format!("{{replica=\"{}\"}}", id.0), lag);
        }
    }
}

/// Gives the resident memory of this process in bytes.
fn resident() -> Result<u64, std::io::Error> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1_024).ok_or_else(|| std::io::Error::other("/proc/self/status has no VmRSS"))
}

/// The text as it grows: <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, words: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{words}");
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        self.line(format_args!("{name}{labels} {value}"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, labels: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, labels, value);
    }

    fn histogram(&mut self, name: &str, help: &str, times: &Histogram) {
        self.family(name, "histogram", help);
        let buckets = times.buckets();
        for (bound, count) in &buckets {
            let bound = bound.map_or("+Inf".to_string(), seconds);
            self.sample(&format!("{name}_bucket"), &format!("{{le=\"{bound}\"}}"), count);
        }
        self.sample(&format!("{name}_sum"), "", seconds(times.sum_micros()));
        self.sample(&format!("{name}_count"), "", buckets.last().map_or(0, |(_, count)| *count));
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_written_as_prometheus_reads_it() {
        let times = Histogram::default();
        times.add(Duration::from_micros(700));
        times.add(Duration::from_secs(20));
        let mut page = Page::default();
        page.histogram("x_seconds", "Words.", &times);
        assert!(page.text.starts_with("# HELP x_seconds Words.\n# TYPE x_seconds histogram\n"), "{}", page.text);
        for line in [
            "x_seconds_bucket{le=\"0.000500\"} 0",
            "x_seconds_bucket{le=\"0.001000\"} 1",
            "x_seconds_bucket{le=\"+Inf\"} 2",
            "x_seconds_sum 20.000700",
            "x_seconds_count 2",
        ] {
            assert!(page.text.lines().any(|found| found == line), "{line}: {}", page.text);
        }
    }
}
