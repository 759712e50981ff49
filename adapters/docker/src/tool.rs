//! Short containers: one request of `host-run`, answered by our own program on the volumes of the host.
//!
//! The request and the answer are files that travel by the archive API before the start and after the end, so that
//! nothing depends on a connection staying open meanwhile. A container for one node has the node's one name, which keeps
//! two from working on one home at once; what an asker who died left under it is removed once it has stood still.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig, Mount,
    MountType, MountVolumeOptions,
};
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptions, InspectContainerOptions, KillContainerOptions,
    RemoveContainerOptions, StartContainerOptions, UploadToContainerOptions, WaitContainerOptions,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use hanse_adapters_core::{AdapterError, Artifact, InstanceKey, Result};
use hanse_hostrun::{Act, Reply, Request, Response};

use crate::engine::{Role, UNTIL, explain, labels, name_of, status};
use crate::image::PROGRAM;
use crate::target::{Limits, invalid};
use crate::{image, tar};

/// Root of our things in every container: `artifacts/` and `instances/` are below it, as on any host.
pub(crate) const ROOT: &str = "/hanse";
/// How long a request may take besides what the act itself was given.
const WORK_LIMIT: Duration = Duration::from_secs(120);
/// How long a short container of the same node may stand still before it is taken for one that nobody waits for.
const LEFT_AFTER: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const POLL: Duration = Duration::from_millis(50);
/// Largest answer that is read: two outputs of a run, as JSON.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a short container is asked for.
pub(crate) struct Job<'a> {
    pub(crate) image: &'a str,
    /// Whose home it works on.
    pub(crate) key: Option<&'a InstanceKey>,
    pub(crate) act: Act,
    /// A file put into the store's folder of an artifact before the start, with its name there.
    pub(crate) upload: Option<(&'a Artifact, &'a str)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) limits: Limits,
}

/// Mounts the volume `name` at `target`.
pub(crate) fn mount(name: &str, target: String, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.into()),
        target: Some(target),
        read_only: Some(read_only),
        // What the image has there is not copied into a new volume.
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
        ..Default::default()
    }
}

/// What every container of ours is confined to.
pub(crate) fn confined(limits: Limits, mounts: Vec<Mount>) -> HostConfig {
    let some = |value: u64| (value > 0).then_some(i64::try_from(value).unwrap_or(i64::MAX));
    let rotated = [("max-size", "8m"), ("max-file", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    HostConfig {
        memory: some(limits.memory_bytes),
        // The same number is no swap at all.
        memory_swap: some(limits.memory_bytes),
        nano_cpus: some(u64::from(limits.cpu_milli) * 1_000_000),
        pids_limit: some(limits.pids.into()),
        mounts: Some(mounts),
        // Reaps what a node's children leave and hands signals on.
        init: Some(true),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges".into()]),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".into()), config: Some(rotated.into()) }),
        ..Default::default()
    }
}

/// Does one job and returns the answer.
///
/// # Errors
/// As the act; `Unknown` if it may have been done and no answer came.
pub(crate) async fn run(docker: &Docker, job: Job<'_>) -> Result<Reply> {
    let subject = job.key.map_or_else(|| "a short container".to_owned(), ToString::to_string);
    let limit = limit(&job.act);
    let id = create(docker, &subject, &job, limit).await?;
    let outcome = work(docker, &subject, &id, &job, limit).await;
    let options = RemoveContainerOptions { force: true, ..Default::default() };
    if let Err(error) = docker.remove_container(&id, Some(options)).await {
        // It stands still from now on, and whoever needs its name removes it.
        tracing::warn!(%subject, %error, "a short container could not be removed");
    }
    outcome
}

/// How long the host may work on `act`.
fn limit(act: &Act) -> Duration {
    let own = if let Act::Run { spec, .. } = act { spec.timeout } else { Duration::ZERO };
    own.saturating_add(WORK_LIMIT)
}

async fn create(docker: &Docker, subject: &str, job: &Job<'_>, limit: Duration) -> Result<String> {
    let name = job.key.map(|key| name_of("run", key));
    let deadline = Instant::now() + limit + LEFT_AFTER;
    loop {
        let options = CreateContainerOptions { name: name.clone(), ..Default::default() };
        match (docker.create_container(Some(options), body(job, limit)).await, &name) {
            (Ok(made), _) => return Ok(made.id),
            (Err(error), Some(name)) if status(&error) == Some(409) && Instant::now() < deadline => {
                wait_for_name(docker, name, deadline).await?;
            }
            (Err(error), _) => return Err(explain(subject, error, false)),
        }
    }
}

/// Waits until nobody has `name` any more: who works under it ends, and what stands still was left behind.
async fn wait_for_name(docker: &Docker, name: &str, deadline: Instant) -> Result<()> {
    let mut still: Option<(ContainerStateStatusEnum, String, Instant)> = None;
    loop {
        let found = match docker.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(found) => found,
            Err(error) if status(&error) == Some(404) => return Ok(()),
            Err(error) => return Err(explain(name, error, false)),
        };
        let (id, state) = (found.id.clone().unwrap_or_default(), state(&found));
        let same = still.as_ref().filter(|(seen, whose, _)| *seen == state && *whose == id);
        let since = same.map_or_else(Instant::now, |(_, _, since)| *since);
        let stands = state != ContainerStateStatusEnum::RUNNING && since.elapsed() >= LEFT_AFTER;
        if stands || Instant::now() >= deadline {
            let options = RemoveContainerOptions { force: true, ..Default::default() };
            return match docker.remove_container(&id, Some(options)).await {
                Ok(()) => Ok(()),
                Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(()),
                Err(error) => Err(explain(name, error, false)),
            };
        }
        still = Some((state, id, since));
        tokio::time::sleep(POLL).await;
    }
}

/// What the engine says of a container's process.
pub(crate) fn state(found: &ContainerInspectResponse) -> ContainerStateStatusEnum {
    found.state.as_ref().and_then(|state| state.status).unwrap_or(ContainerStateStatusEnum::EMPTY)
}

fn body(job: &Job<'_>, limit: Duration) -> ContainerCreateBody {
    let mut labels = labels(Role::Tool, job.key.map(InstanceKey::cluster), job.key.map(InstanceKey::object));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    labels.insert(UNTIL.into(), (now + limit * 2).as_secs().to_string());
    let words = ["host-run", "--root", ROOT, "--request", "/hanse/request.json", "--answer", "/hanse/answer.json"];
    ContainerCreateBody {
        image: Some(job.image.into()),
        entrypoint: Some(vec![PROGRAM.into()]),
        cmd: Some(words.map(str::to_owned).into()),
        labels: Some(labels),
        host_config: Some(HostConfig { network_mode: Some("none".into()), ..confined(job.limits, job.mounts.clone()) }),
        ..Default::default()
    }
}

async fn work(docker: &Docker, subject: &str, id: &str, job: &Job<'_>, limit: Duration) -> Result<Reply> {
    let not_begun = |e| explain(subject, e, false);
    let request = serde_json::to_vec(&Request::new(job.act.clone())).map_err(|e| invalid(subject, e.to_string()))?;
    if request.len() as u64 > hanse_hostrun::REQUEST_BYTES_MAX {
        return Err(invalid(subject, "the request is too large: send fewer or smaller files"));
    }
    let archive =
        tar::one("request.json", 0o600, &request).ok_or_else(|| invalid(subject, "the request is too large"))?;
    put(docker, id, futures::stream::iter([Ok(Bytes::from(archive))])).await.map_err(not_begun)?;
    if let Some((artifact, name)) = job.upload {
        let name = format!("artifacts/{}/{name}", artifact.sha256);
        put(docker, id, upload(artifact, name)).await.map_err(not_begun)?;
    }
    docker.start_container(id, None::<StartContainerOptions>).await.map_err(not_begun)?;
    let waited = tokio::time::timeout(limit, docker.wait_container(id, None::<WaitContainerOptions>).next()).await;
    if waited.is_err() {
        // Removed by force afterwards; killed first, so that the name means no running work.
        let _ = docker.kill_container(id, None::<KillContainerOptions>).await;
        let reason = format!("no answer within {} s", limit.as_secs());
        return Err(AdapterError::Unknown { subject: subject.into(), reason });
    }
    let after = docker.inspect_container(id, None::<InspectContainerOptions>).await;
    let after = after.map_err(|e| explain(subject, e, true))?;
    if after.state.as_ref().and_then(|state| state.oom_killed) == Some(true) {
        let reason = "it needed more memory than the host's limit for a container: raise the limit";
        return Err(AdapterError::Transient { subject: subject.into(), reason: reason.into() });
    }
    let answer = get(docker, id, "/hanse/answer.json").await.map_err(|e| match status(&e) {
        Some(404) => {
            let code = after.state.as_ref().and_then(|state| state.exit_code).unwrap_or_default();
            let reason = format!("our program there ended with code {code} and without an answer");
            AdapterError::Unknown { subject: subject.into(), reason }
        }
        _ => explain(subject, e, true),
    })?;
    let Some(tar::First::File { content, .. }) = tar::first(&answer) else {
        return Err(invalid(subject, "the answer of our program is no file"));
    };
    let response: Response = serde_json::from_slice(&content)
        .map_err(|e| invalid(subject, format!("the answer of our program on the host cannot be read: {e}")))?;
    response.into_result()
}

/// Unpacks an archive below the root of a container that has not been started.
async fn put(
    docker: &Docker,
    id: &str,
    archive: impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> std::result::Result<(), bollard::errors::Error> {
    let options = UploadToContainerOptions { path: ROOT.into(), ..Default::default() };
    docker.upload_to_container(id, Some(options), bollard::body_try_stream(archive)).await
}

/// Returns the archive of one path of a container, at most [`ANSWER_BYTES_MAX`] of it.
pub(crate) async fn get(docker: &Docker, id: &str, path: &str) -> std::result::Result<Vec<u8>, bollard::errors::Error> {
    let options = DownloadFromContainerOptions { path: path.into() };
    let mut pieces = docker.download_from_container(id, Some(options));
    let mut all = Vec::new();
    while let Some(piece) = pieces.try_next().await? {
        let room = ANSWER_BYTES_MAX.saturating_sub(all.len());
        all.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    Ok(all)
}

/// Pieces of the archive that holds the artifact's file under `name`, read by a thread of its own.
fn upload(artifact: &Artifact, name: String) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let path = artifact.path.clone();
    pieces(move |out| {
        let folder = name.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
        let header = tar::header(&folder, tar::Kind::Folder, 0o700, 0);
        out(header.ok_or_else(|| std::io::Error::other("the name of an upload is too long"))?.to_vec())?;
        image::file(&name, &path, out)?;
        out(tar::end())
    })
}

/// Pieces as `write` makes them on a thread of its own; an error is the last of them.
pub(crate) fn pieces(
    write: impl FnOnce(&mut dyn FnMut(Vec<u8>) -> std::io::Result<()>) -> std::io::Result<()> + Send + 'static,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    // A few pieces ahead of the engine and no more.
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let gone = || std::io::Error::other("nobody reads any more");
        let mut out = |piece: Vec<u8>| sender.blocking_send(Ok(Bytes::from(piece))).map_err(|_| gone());
        if let Err(error) = write(&mut out) {
            // Nobody to tell is nobody who minds.
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}
