//! What outlives the leader and the process: the minutes of the last day, copied from the leader by every other replica
//! and written to this replica's disk. A replica that comes to lead asks every other one once for what it has itself not
//! seen, so that one whose disk was lost shows the whole day too.
//!
//! A file holds all minutes, is replaced as a whole, and is never larger than what memory holds. What cannot be read is
//! left out with a word: series are for looking at, nothing depends on them.
//!
//! What this never does: ask anybody but replicas, or keep a replica from starting.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use hanse_proto::v1 as pb;
use hanse_proto::v1::monitoring_service_client::MonitoringServiceClient;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Key, Metric, Point, Series};
use crate::context::{Context, Leadership};

/// Version of the file.
const FILE_VERSION: u32 = 1;
/// Between two copies of the leader's minutes.
const COPY_EVERY: Duration = Duration::from_secs(20);
/// Between two writes to the disk.
const WRITE_EVERY: Duration = Duration::from_secs(300);
/// Minutes that are copied again, for those that were under way.
const OVERLAP_MS: u64 = 180_000;
/// Series in one answer: 40 with a day of minutes are below 3 MB.
pub(crate) const PAGE: usize = 40;
/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Reads the minutes of an earlier process from `folder`; a file that is not there or not whole gives none.
pub fn load(folder: &Path) -> Series {
    let series = Series::default();
    let path = file_of(folder);
    let read = || -> Result<Written, String> {
        let file = File::open(&path).map_err(|e| e.to_string())?;
        rmp_serde::from_read(BufReader::new(file)).map_err(|e| e.to_string())
    };
    if !path.exists() {
        return series;
    }
    match read() {
        Ok((FILE_VERSION, all)) => all.into_iter().for_each(|(key, points)| series.merge(key, points)),
        Ok((version, _)) => tracing::warn!(version, "the time series are of another version and not read"),
        Err(error) => tracing::warn!(%error, file = %path.display(), "the time series cannot be read; they begin anew"),
    }
    series
}

/// Writes all minutes to `folder`. Blocks.
///
/// # Errors
/// What the system says; the file of before is still there.
pub fn save(series: &Series, folder: &Path) -> std::io::Result<()> {
    let path = file_of(folder);
    let aside = path.with_extension("new");
    let all = series.minutes(None, 0, usize::MAX);
    let mut out = BufWriter::new(File::create(&aside)?);
    rmp_serde::encode::write(&mut out, &(FILE_VERSION, all)).map_err(std::io::Error::other)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    fs::rename(&aside, &path)
}

/// What a file holds: its version and the minutes of every series.
type Written = (u32, Vec<(Key, Vec<Point>)>);

fn file_of(folder: &Path) -> PathBuf {
    folder.join("series.bin")
}

/// Copies and writes until `shutdown`, and once more then.
pub async fn run(context: Context, folder: PathBuf, shutdown: CancellationToken) {
    let (mut copied, mut written) = (Copied::default(), Instant::now());
    let mut rounds = tokio::time::interval(COPY_EVERY);
    loop {
        let series = context.observed().series().clone();
        // A round waits for replicas that may be silent, and the end of the process does not wait for a round.
        let round = async {
            rounds.tick().await;
            copied.round(&context, &series).await;
        };
        let ends = tokio::select! {
            () = shutdown.cancelled() => true,
            () = round => false,
        };
        series.prune(context.now().0);
        if ends || written.elapsed() >= WRITE_EVERY {
            let folder = folder.clone();
            let saved = tokio::task::spawn_blocking(move || save(&series, &folder)).await;
            if let Ok(Err(error)) = saved {
                tracing::warn!(%error, "the time series cannot be written; a restart would lose them");
            }
            written = Instant::now();
        }
        if ends {
            return;
        }
    }
}

/// What this replica has of the others.
#[derive(Debug, Default)]
struct Copied {
    /// When the leader's minutes were last copied, milliseconds since 1970.
    at_ms: u64,
    /// Whose whole day was taken since this replica leads.
    asked: BTreeSet<u64>,
}

impl Copied {
    async fn round(&mut self, context: &Context, series: &Series) {
        match context.leadership() {
            Leadership::Other { id, api } => {
                self.asked.clear();
                // One that led until now takes no minute after the one it was in the middle of.
                series.close();
                let now = context.now().0;
                let since = u64::saturating_sub(self.at_ms, OVERLAP_MS);
                match copy(context, series, id, &api, since).await {
                    Ok(()) => self.at_ms = now,
                    Err(reason) => tracing::debug!(leader = id, reason, "its time series could not be copied"),
                }
            }
            Leadership::Me => {
                let own = context.member().own;
                let others = context.api_addresses().into_iter();
                let others = others.filter(|(id, _)| *id != own && !self.asked.contains(id));
                // At once: one that is silent keeps nobody waiting for the rest.
                let copies = others.map(async |(id, api)| (id, copy(context, series, id, &api, 0).await));
                for (id, copied) in join_all(copies).await {
                    match copied {
                        Ok(()) => {
                            self.asked.insert(id);
                        }
                        Err(reason) => tracing::debug!(replica = id, reason, "its time series could not be copied"),
                    }
                }
            }
            Leadership::Nobody => {}
        }
    }
}

/// Copies the minutes of replica `id` since `since_ms`.
async fn copy(context: &Context, series: &Series, id: u64, api: &str, since_ms: u64) -> Result<(), String> {
    let channel = context.peers().get(id, api).ok_or("its address cannot be used")?;
    let mut peer = MonitoringServiceClient::new(channel);
    let mut page_token = String::new();
    loop {
        let since_ms = i64::try_from(since_ms).unwrap_or(i64::MAX);
        let request = pb::GetSeriesCopyRequest { since_ms, page_token };
        let answer = tokio::time::timeout(ANSWER_MAX, peer.get_series_copy(request)).await;
        let answer = answer.map_err(|_| "no answer")?.map_err(|status| status.message().to_owned())?.into_inner();
        for one in answer.series {
            // A newer leader may have figures that this build does not know.
            let Some(metric) = Metric::find(&one.metric) else { continue };
            let points = one.points.iter().map(|it| Point {
                at_ms: u64::try_from(it.at_ms).unwrap_or_default(),
                min: it.min,
                max: it.max,
                avg: it.avg,
            });
            series.merge(Key { resource: one.resource, metric }, points.collect());
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::COARSE_MS;
    use super::*;

    #[test]
    fn minutes_outlive_the_process_and_a_broken_file_only_costs_them() {
        let dir = tempfile::tempdir().unwrap();
        let series = Series::default();
        for minute in 0..5_u64 {
            series.record("hosts/h1", Metric::Load, minute * COARSE_MS, 7);
        }
        save(&series, dir.path()).unwrap();
        let again = load(dir.path());
        let key = Key { resource: "hosts/h1".into(), metric: Metric::Load };
        assert_eq!(again.points(&key, 0, u64::MAX, COARSE_MS).len(), 4, "all but the minute under way");
        fs::write(file_of(dir.path()), "no such file").unwrap();
        assert!(load(dir.path()).list().is_empty());
        assert!(load(&dir.path().join("none")).list().is_empty());
    }
}
