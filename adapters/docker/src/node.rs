//! The container of a node: found by its labels, made, replaced, looked at, stopped and removed.
//!
//! The labels are the only memory: which node, which generation. A container that was made and never started is started by
//! the same wish; one that ended is not, for that is the planner's to decide. One name for each node means that of two who
//! create at once one is told that the other was first, and looks again. It never touches what has no labels of ours.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum as Status, HostConfig, PortBinding,
    RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, LogsOptions, RemoveContainerOptions,
    StartContainerOptions, StopContainerOptions,
};
use futures::TryStreamExt;
use hanse_adapters_core::{InstanceKey, InstanceSpec, InstanceStatus, Ports, Result, RunState};
use hanse_hostrun::Composed;

use crate::engine::{CLUSTER, GENERATION, OBJECT, PORT, ROLE, Role, explain, filter, labels, name_of, status};
use crate::target::{DockerTarget, invalid};
use crate::tool::{confined, state};

/// How much of its log an ended node shows.
const LAST_LOG_LINES: u32 = 20;
/// Most of a log that is ever read at once.
const LOG_BYTES_MAX: usize = 256 * 1024;
/// Exit codes from here on are 128 and a signal's number, as the engine writes them.
const SIGNALLED: i64 = 128;
const SIGNAL_MAX: i64 = 64;

/// A node's container as the engine describes it.
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) key: InstanceKey,
    pub(crate) generation: u64,
    pub(crate) body: ContainerInspectResponse,
}

impl Found {
    /// Whether it was made and never started.
    pub(crate) fn is_new(&self) -> bool {
        state(&self.body) == Status::CREATED
    }

    fn read(body: ContainerInspectResponse) -> Option<Self> {
        let labels = body.config.as_ref()?.labels.as_ref()?;
        let key = InstanceKey::new(labels.get(CLUSTER)?, labels.get(OBJECT)?)?;
        let generation = labels.get(GENERATION)?.parse().ok()?;
        Some(Self { id: body.id.clone()?, key, generation, body })
    }
}

/// Every node's container that has these labels, running or not.
///
/// # Errors
/// The engine did not answer.
pub(crate) async fn all(docker: &Docker, with: &HashMap<String, String>) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for id in ids(docker, with).await? {
        match docker.inspect_container(&id, None::<InspectContainerOptions>).await {
            Ok(body) => found.extend(Found::read(body)),
            // Removed since it was listed.
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => return Err(explain("containers", error, false)),
        }
    }
    Ok(found)
}

/// The ids of every container that has these labels.
pub(crate) async fn ids(docker: &Docker, with: &HashMap<String, String>) -> Result<Vec<String>> {
    let options = ListContainersOptions { all: true, filters: Some(filter(with)), ..Default::default() };
    let listed = docker.list_containers(Some(options)).await.map_err(|e| explain("containers", e, false))?;
    Ok(listed.into_iter().filter_map(|it| it.id).collect())
}

/// The container of `key`, if it has one.
pub(crate) async fn find(docker: &Docker, key: &InstanceKey) -> Result<Option<Found>> {
    let found = all(docker, &labels(Role::Node, Some(key.cluster()), Some(key.object()))).await?;
    // There is one at most, for they all have the same name.
    Ok(found.into_iter().next())
}

/// What a node's container is made of, besides the wish.
pub(crate) struct Ground<'a> {
    pub(crate) target: &'a DockerTarget,
    pub(crate) image: &'a str,
    pub(crate) network: &'a str,
    pub(crate) mounts: Vec<bollard::models::Mount>,
}

/// Creates the container of `spec`. `None` if somebody else has just made one.
///
/// # Errors
/// As the engine's.
pub(crate) async fn create(
    docker: &Docker,
    spec: &InstanceSpec,
    composed: Composed,
    ground: Ground<'_>,
) -> Result<Option<String>> {
    let options = CreateContainerOptions { name: Some(name_of("node", &spec.key)), ..Default::default() };
    match docker.create_container(Some(options), body(spec, composed, ground)).await {
        Ok(made) => Ok(Some(made.id)),
        Err(error) if status(&error) == Some(409) => Ok(None),
        Err(error) => Err(explain(&spec.key, error, true)),
    }
}

fn body(spec: &InstanceSpec, composed: Composed, ground: Ground<'_>) -> ContainerCreateBody {
    let mut labels = labels(Role::Node, Some(spec.key.cluster()), Some(spec.key.object()));
    labels.insert(GENERATION.into(), spec.generation.to_string());
    for port in spec.ports.public.iter().chain(&spec.ports.local) {
        labels.insert(format!("{PORT}{port}"), String::new());
    }
    let env = composed.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let host_config = HostConfig {
        network_mode: Some(ground.network.into()),
        port_bindings: Some(published(&spec.ports, &ground.target.publish_address.to_string())),
        // Whether a node is started again is decided by the control plane, within a budget.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), ..Default::default() }),
        readonly_rootfs: Some(true),
        tmpfs: Some([("/tmp".to_owned(), "size=64m".to_owned())].into()),
        ..confined(ground.target.limits, ground.mounts)
    };
    ContainerCreateBody {
        image: Some(ground.image.into()),
        entrypoint: Some(vec![composed.program]),
        cmd: Some(composed.args),
        env: Some(env),
        working_dir: Some(composed.home),
        exposed_ports: Some(spec.ports.public.iter().map(|port| format!("{port}/tcp")).collect()),
        labels: Some(labels),
        host_config: Some(host_config),
        ..Default::default()
    }
}

/// Each public port under the same number at one address of the host.
fn published(ports: &Ports, address: &str) -> HashMap<String, Option<Vec<PortBinding>>> {
    let at = |port: &u16| PortBinding { host_ip: Some(address.into()), host_port: Some(port.to_string()) };
    ports.public.iter().map(|port| (format!("{port}/tcp"), Some(vec![at(port)]))).collect()
}

/// Starts a container that was made; one that runs is left alone.
///
/// # Errors
/// `Invalid` if a port is taken or the program cannot be executed; `Unknown` if no answer came.
pub(crate) async fn start(docker: &Docker, key: &InstanceKey, id: &str) -> Result<()> {
    match docker.start_container(id, None::<StartContainerOptions>).await {
        Ok(()) => Ok(()),
        Err(error) if status(&error) == Some(304) => Ok(()),
        Err(error) => Err(explain(key, error, true)),
    }
}

/// Asks the container to end, waits `grace`, then kills it.
///
/// # Errors
/// `Unknown` if no answer came.
pub(crate) async fn stop(docker: &Docker, found: &Found, grace: Duration) -> Result<()> {
    let seconds = i32::try_from(grace.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX);
    match docker.stop_container(&found.id, Some(StopContainerOptions { t: Some(seconds), ..Default::default() })).await
    {
        Ok(()) => Ok(()),
        Err(error) if matches!(status(&error), Some(304 | 404)) => Ok(()),
        Err(error) => Err(explain(&found.key, error, true)),
    }
}

/// Removes a container by its id: another one under the same name is not meant.
///
/// # Errors
/// `Unknown` if no answer came.
pub(crate) async fn remove(docker: &Docker, subject: impl std::fmt::Display, id: &str) -> Result<()> {
    let options = RemoveContainerOptions { force: true, ..Default::default() };
    match docker.remove_container(id, Some(options)).await {
        Ok(()) => Ok(()),
        // Gone, or somebody else is just removing it.
        Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(()),
        Err(error) => Err(explain(subject, error, true)),
    }
}

/// What the adapter says of a node's container.
///
/// # Errors
/// The engine did not answer, or says something that cannot be read.
pub(crate) async fn describe(docker: &Docker, found: &Found) -> Result<InstanceStatus> {
    let its = found.body.state.clone().unwrap_or_default();
    let run = match state(&found.body) {
        Status::CREATED => RunState::Prepared,
        Status::RUNNING | Status::PAUSED | Status::RESTARTING => {
            let since = its.started_at.unwrap_or_default();
            let since: jiff::Timestamp =
                since.parse().map_err(|_| invalid(&found.key, format!("the engine says it started at {since:?}")))?;
            RunState::Running {
                pid: its.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
                since_ms: u64::try_from(since.as_millisecond()).unwrap_or_default(),
            }
        }
        Status::EXITED | Status::DEAD | Status::REMOVING | Status::STOPPING | Status::EMPTY => {
            let (code, signal) = ended(its.exit_code.unwrap_or_default());
            let killed = its.oom_killed == Some(true);
            let cause = if killed { "the kernel ended it: more memory than its limit\n" } else { "" };
            let last_log = format!("{cause}{}", tail(docker, found, LAST_LOG_LINES).await?);
            RunState::Exited { code, signal, last_log }
        }
    };
    Ok(InstanceStatus { key: found.key.clone(), generation: found.generation, run, taken: false })
}

/// Code and signal from the one number that the engine keeps. A program that itself ends with such a code looks as if a
/// signal had ended it.
fn ended(code: i64) -> (Option<i32>, Option<i32>) {
    let number = |code: i64| i32::try_from(code).ok();
    if code > SIGNALLED && code <= SIGNALLED + SIGNAL_MAX {
        (None, number(code - SIGNALLED))
    } else {
        (number(code), None)
    }
}

/// The last lines that a node wrote.
///
/// # Errors
/// The engine did not answer.
pub(crate) async fn tail(docker: &Docker, found: &Found, lines: u32) -> Result<String> {
    let options = LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..Default::default() };
    let mut pieces = docker.logs(&found.id, Some(options));
    let mut all = Vec::new();
    loop {
        let piece: LogOutput = match pieces.try_next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) if status(&error) == Some(404) => break,
            Err(error) => return Err(explain(&found.key, error, false)),
        };
        all.extend_from_slice(piece.as_ref());
        let over = all.len().saturating_sub(LOG_BYTES_MAX);
        all.drain(..over);
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// Whose volumes there are, by object: a home without a container is a node that was prepared.
///
/// # Errors
/// The engine did not answer.
pub(crate) async fn homes(docker: &Docker, cluster: &str, object: Option<&str>) -> Result<BTreeMap<String, String>> {
    let with = labels(Role::Home, Some(cluster), object);
    let options = bollard::query_parameters::ListVolumesOptions { filters: Some(filter(&with)) };
    let listed = docker.list_volumes(Some(options)).await.map_err(|e| explain("volumes", e, false))?;
    let named = |volume: bollard::models::Volume| Some((volume.labels.get(OBJECT)?.clone(), volume.name));
    Ok(listed.volumes.unwrap_or_default().into_iter().filter_map(named).collect())
}

/// The running container that listens on `port`, if there is one.
///
/// # Errors
/// The engine did not answer.
pub(crate) async fn listening(docker: &Docker, port: u16) -> Result<Option<String>> {
    let labels = [(ROLE.to_owned(), Role::Node.name().to_owned()), (format!("{PORT}{port}"), String::new())];
    let options = ListContainersOptions { filters: Some(filter(&labels.into())), ..Default::default() };
    let listed = docker.list_containers(Some(options)).await.map_err(|e| explain(format!("port {port}"), e, false))?;
    Ok(listed.into_iter().find_map(|it| it.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_above_128_is_a_signal() {
        assert_eq!((ended(0), ended(7), ended(137)), ((Some(0), None), (Some(7), None), (None, Some(9))));
        assert_eq!((ended(128), ended(255)), ((Some(128), None), (Some(255), None)));
    }
}
