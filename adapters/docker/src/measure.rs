//! What a node uses and what the host has left.
//!
//! Of a container the engine counts processor time and memory; the bytes of a home and the figures of the whole host it does
//! not tell, so our program reads them (`hanse host-run`) inside of a container that runs anyway: its `/proc/stat`, `loadavg`
//! and `meminfo` are the host's. Nothing is changed, and nobody waits for it: figures are for looking at.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerMemoryStats, ContainerStatsResponse};
use bollard::query_parameters::{ListContainersOptions, StatsOptions};
use futures::{StreamExt, TryStreamExt};
use hanse_adapters_core::{AdapterError, InstanceUsage, Result};
use hanse_hostrun::{Act, Reply, Request, Response};
use tokio::io::AsyncWriteExt;

use crate::engine::{Role, explain, filter, labels, status};
use crate::image::PROGRAM;
use crate::node::Found;
use crate::target::invalid;
use crate::tool::ROOT;

/// How long an answer may take: a home with many files takes a moment.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How often a container is made only to measure a host on which none of ours runs: figures are kept in minutes.
const EVERY: Duration = Duration::from_secs(60);
/// Nanoseconds in a millisecond.
const NANOS: u64 = 1_000_000;

/// Says when a container may be made only to measure the host, and whose containers may be entered for it.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    last: Mutex<Option<Instant>>,
    /// The cluster that this adapter works for, once it was named.
    cluster: OnceLock<String>,
}

impl Turn {
    /// Remembers the cluster that is worked for; it stays the same.
    pub(crate) fn works_for(&self, cluster: &str) {
        self.cluster.get_or_init(|| cluster.to_owned());
    }

    /// Whether it is time; then it is not for the next minute.
    pub(crate) fn take(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|at| at.elapsed() >= EVERY);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// What a node's container uses; `None` if it does not run. If our program in the container does not answer, what the engine
/// counts is told without the bytes of the home.
///
/// # Errors
/// The engine did not answer.
pub(crate) async fn usage(docker: &Docker, found: &Found) -> Result<Option<InstanceUsage>> {
    let options = StatsOptions { stream: false, one_shot: true };
    let counted = match docker.stats(&found.id, Some(options)).try_next().await {
        Ok(Some(counted)) => counted,
        Ok(None) => return Ok(None),
        Err(error) if status(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(explain(&found.key, error, false)),
    };
    let Some(used) = used(&counted) else { return Ok(None) };
    let home = ask(docker, &found.id, Act::Usage { key: found.key.clone() }).await.and_then(Reply::usage);
    Ok(Some(with_home(used, home, &found.key)))
}

/// What the engine counts, with the bytes of the home if our program told them.
fn with_home(used: InstanceUsage, home: Result<Option<InstanceUsage>>, found: impl std::fmt::Display) -> InstanceUsage {
    match home {
        Ok(home) => InstanceUsage { disk_bytes: home.and_then(|home| home.disk_bytes), ..used },
        Err(error) => {
            tracing::debug!(node = %found, %error, "the bytes of its home cannot be read; the engine's figures stand");
            used
        }
    }
}

/// A container of the cluster's nodes that runs, whichever; another cluster's is not entered, and none before it is known whose we are.
///
/// # Errors
/// The engine did not answer.
pub(crate) async fn any_running(docker: &Docker, turn: &Turn) -> Result<Option<String>> {
    let Some(cluster) = turn.cluster.get() else { return Ok(None) };
    let filters = Some(filter(&labels(Role::Node, Some(cluster), None)));
    // No `limit`: with one the engine lists containers that have ended, too (API of the engine, "ContainerList").
    let options = ListContainersOptions { filters, ..Default::default() };
    let listed = docker.list_containers(Some(options)).await.map_err(|e| explain("containers", e, false))?;
    Ok(listed.into_iter().find_map(|it| it.id))
}

/// Processor time, memory and processes as the engine counts them; `None` of a container that does not run, of which it
/// answers with nothing.
fn used(counted: &ContainerStatsResponse) -> Option<InstanceUsage> {
    let cpu = counted.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage?;
    let memory = counted.memory_stats.as_ref()?;
    let processes = counted.pids_stats.as_ref().and_then(|pids| pids.current).unwrap_or_default();
    Some(InstanceUsage {
        cpu_ms: cpu / NANOS,
        memory_bytes: resident(memory)?,
        processes: u32::try_from(processes).unwrap_or(u32::MAX),
        ..InstanceUsage::default()
    })
}

/// Memory without the file pages that the kernel takes back when it needs them, as `docker stats` reckons it.
fn resident(memory: &ContainerMemoryStats) -> Option<u64> {
    let names = ["inactive_file", "total_inactive_file"];
    let stats = memory.stats.as_ref();
    let cache = names.iter().find_map(|name| stats?.get(*name)).copied().unwrap_or_default();
    memory.usage.map(|usage| usage.saturating_sub(cache))
}

/// Asks our program in a container that runs.
///
/// # Errors
/// As the act; `Transient` if no answer came.
pub(crate) async fn ask(docker: &Docker, id: &str, act: Act) -> Result<Reply> {
    let answer = tokio::time::timeout(LIMIT, answer(docker, id, act)).await;
    answer.unwrap_or_else(|_| Err(silent(format!("no answer within {} s", LIMIT.as_secs()))))
}

fn silent(reason: String) -> AdapterError {
    AdapterError::Transient { subject: "figures".into(), reason }
}

async fn answer(docker: &Docker, id: &str, act: Act) -> Result<Reply> {
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec![PROGRAM.to_owned(), "host-run".into(), "--root".into(), ROOT.into()]),
        ..Default::default()
    };
    let made = docker.create_exec(id, options).await.map_err(|e| match status(&e) {
        // It has ended since it was looked for.
        Some(404 | 409) => silent("the container does not run".into()),
        _ => explain("figures", e, false),
    })?;
    let started =
        docker.start_exec(&made.id, None::<StartExecOptions>).await.map_err(|e| explain("figures", e, false))?;
    let StartExecResults::Attached { mut output, mut input } = started else {
        return Err(silent("the engine attached nothing".into()));
    };
    let mut request = serde_json::to_vec(&Request::new(act)).map_err(|e| invalid("figures", e.to_string()))?;
    request.push(b'\n');
    let sent = async {
        input.write_all(&request).await?;
        input.flush().await
    };
    sent.await.map_err(|e| silent(format!("the question was not sent: {e}")))?;
    let (mut said, mut complaint) = (Vec::new(), Vec::new());
    // The answer is a line; one end of line may come before it.
    while !said.trim_ascii_start().contains(&b'\n') && said.len() + complaint.len() < ANSWER_BYTES_MAX {
        match output.next().await {
            Some(Ok(LogOutput::StdErr { message })) => complaint.extend_from_slice(&message),
            Some(Ok(other)) => said.extend_from_slice(other.as_ref()),
            Some(Err(error)) => return Err(explain("figures", error, false)),
            None => break,
        }
    }
    let response: Response = serde_json::from_slice(said.trim_ascii()).map_err(|e| {
        let complaint = String::from_utf8_lossy(&complaint);
        silent(format!("the answer of our program cannot be read: {e} {}", complaint.trim()))
    })?;
    response.into_result()
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerCpuStats, ContainerCpuUsage};

    use super::*;

    fn memory(stats: &[(&str, u64)]) -> ContainerMemoryStats {
        let stats = stats.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        ContainerMemoryStats { usage: Some(1_000), stats: Some(stats), ..Default::default() }
    }

    #[test]
    fn memory_is_without_what_the_kernel_takes_back() {
        assert_eq!(resident(&memory(&[("inactive_file", 300)])), Some(700), "of cgroups, version 2");
        assert_eq!(
            resident(&memory(&[("total_inactive_file", 1_300)])),
            Some(0),
            "of version 1; both move while they are read"
        );
        assert_eq!(resident(&ContainerMemoryStats::default()), None);
    }

    #[test]
    fn a_container_that_does_not_run_uses_nothing_that_can_be_told() {
        let usage = ContainerCpuUsage { total_usage: Some(5_500_000), ..Default::default() };
        let cpu_stats = Some(ContainerCpuStats { cpu_usage: Some(usage), ..Default::default() });
        let runs = ContainerStatsResponse {
            cpu_stats: cpu_stats.clone(),
            memory_stats: Some(memory(&[])),
            ..Default::default()
        };
        let told = used(&runs).map(|it| (it.cpu_ms, it.memory_bytes));
        assert_eq!(told, Some((5, 1_000)));
        let ended = ContainerStatsResponse {
            memory_stats: Some(ContainerMemoryStats::default()),
            cpu_stats,
            ..Default::default()
        };
        assert_eq!(used(&ended), None);
    }

    #[test]
    fn the_engine_s_figures_stand_where_our_program_does_not_answer() {
        let used = InstanceUsage { cpu_ms: 5, memory_bytes: 1_000, processes: 2, disk_bytes: None };
        let told = |home| with_home(used.clone(), home, "c/n0");
        assert_eq!(told(Err(silent("no answer".into()))), used);
        assert_eq!(told(Ok(None)), used, "a home that is not there has no bytes, not none of them");
        let home = InstanceUsage { disk_bytes: Some(7), cpu_ms: 90, ..InstanceUsage::default() };
        assert_eq!(told(Ok(Some(home))), InstanceUsage { disk_bytes: Some(7), ..used.clone() });
    }
}
