//! The adapter for a Docker Engine: the engine is the host, and each node is a container of its own.
//!
//! Everything comes from this replica and nothing is downloaded: an image is imported from the file of our own program
//! (named by its hash) with the libraries that it is linked to; artifacts lie in one volume of the host by their content and
//! are hashed there; a node's home is a volume with the node's labels. What has to be done inside of these (files put
//! atomically, short runs, bundles laid out) our program does in a short container, with the same code as on any host.
//! A node's container gets its home, the artifacts read-only, a network with the cluster's nodes, the ports for peers at one
//! address of the host, no capabilities, and the host's limits; [`Adapter::dial`] goes through our program inside of it.
//!
//! What it never does: pull, speak to an engine over a network in the clear, take another engine for the pinned one, stop
//! or remove what has no labels of ours, restart a node by itself, or keep anything in memory that a new leader would need.

mod dial;
mod engine;
mod fence;
mod ground;
mod image;
mod measure;
mod node;
mod tar;
mod target;
mod tool;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::models::SystemInfo;
use hanse_adapters_core::{
    Adapter, AdapterError, Artifact, FileSpec, HostFacts, HostLoad, InstanceKey, InstanceSpec, InstanceStatus,
    InstanceUsage, READ_BYTES_MAX, Result, RunOutput, RunSpec, RunState, Stream,
};
use hanse_hostrun::{Act, Reply, valid_sha256};
use tokio::sync::OnceCell;

pub use target::{DockerTarget, Limits};

use engine::{Role, UNTIL, explain, labels};
use fence::FENCE_FILE;
use target::{Endpoint, invalid};
use tool::{Job, ROOT, mount};

/// Grace on removal and replacement.
const GRACE: Duration = Duration::from_secs(10);
/// How often a container is looked for again because somebody else was first.
const CREATE_TRIES: u32 = 8;

/// Returns the id of the engine at `endpoint`, for a person to compare (`docker info --format {{.ID}}`) before enrolling.
///
/// # Errors
/// `Invalid` if there can be no such endpoint or the engine cannot be used; `Transient` if nothing answers there.
pub async fn scan_engine_id(endpoint: &str) -> Result<String> {
    let (_, info) = engine::connect(&target::parse(endpoint)?, endpoint, None).await?;
    info.id.filter(|id| !id.is_empty()).ok_or_else(|| invalid(endpoint, "the engine there does not say its id"))
}

/// One Docker Engine.
#[derive(Debug)]
pub struct DockerAdapter {
    target: DockerTarget,
    endpoint: Endpoint,
    /// Our own program, of which the image is made.
    runner: Artifact,
    docker: OnceCell<Docker>,
    /// The image of the runner, made by one caller at a time.
    image: tokio::sync::Mutex<()>,
    /// Artifacts that were checked on the host, with when the host's store was made; one that was removed and made again has
    /// none of them.
    put: Mutex<BTreeSet<(String, String)>>,
    /// One upload at a time; callers who waited find the artifact in place.
    uploads: tokio::sync::Mutex<()>,
    /// For whom the host is measured, and when a container was last made only for that.
    measured: measure::Turn,
}

impl DockerAdapter {
    /// Returns the engine at `target`, whose containers are made of `runner` (this very program, by content). Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// `Invalid` names the part of the target that is wrong.
    pub fn new(target: DockerTarget, runner: Artifact) -> Result<Self> {
        if !valid_sha256(&runner.sha256) {
            return Err(invalid("runner", "its hash is not a SHA-256 in lower-case hex"));
        }
        let endpoint = target.check()?;
        Ok(Self {
            target,
            endpoint,
            runner,
            docker: OnceCell::new(),
            image: tokio::sync::Mutex::default(),
            put: Mutex::default(),
            uploads: tokio::sync::Mutex::default(),
            measured: measure::Turn::default(),
        })
    }

    /// The connection; the engine is compared with the pinned one when it is first made.
    async fn docker(&self) -> Result<&Docker> {
        let connect = async || {
            let (docker, _) =
                engine::connect(&self.endpoint, &self.target.endpoint, Some(&self.target.engine_id)).await?;
            Ok(docker)
        };
        self.docker.get_or_try_init(connect).await
    }

    async fn image(&self) -> Result<String> {
        let _one = self.image.lock().await;
        ground::image(self.docker().await?, &self.runner).await
    }

    /// Does `act` in a short container with the store, and the home of `key` if there is one.
    async fn act(&self, key: Option<&InstanceKey>, act: Act) -> Result<Reply> {
        let docker = self.docker().await?;
        let image = self.image().await?;
        let (store, _) = ground::store(docker).await?;
        let mut mounts = vec![mount(&store, format!("{ROOT}/artifacts"), false)];
        if let Some(key) = key {
            mounts.push(mount(&ground::home(docker, key).await?, place(key), false));
        }
        tool::run(docker, Job { image: &image, key, act, upload: None, mounts, limits: self.target.limits }).await
    }

    fn is_put(&self, artifact: &Artifact, store: &str) -> bool {
        let put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        put.contains(&(artifact.sha256.clone(), store.to_owned()))
    }

    /// Makes the artifact lie in the store, hashed there.
    async fn store(&self, artifact: &Artifact) -> Result<()> {
        let docker = self.docker().await?;
        let image = self.image().await?;
        let (store, made) = ground::store(docker).await?;
        if self.is_put(artifact, &made) {
            return Ok(());
        }
        let sha256 = artifact.sha256.clone();
        let job = |act| {
            let mounts = vec![mount(&store, format!("{ROOT}/artifacts"), false)];
            Job { image: &image, key: None, act, upload: None, mounts, limits: Limits::default() }
        };
        if sha256 == self.runner.sha256 {
            tool::run(docker, job(Act::KeepSelf { sha256 })).await?.done()?;
        } else if !tool::run(docker, job(Act::HasArtifact { sha256: sha256.clone() })).await?.has()? {
            ground::check_hash(artifact).await?;
            // One upload at a time from here; another replica's has its own process in its name.
            let upload = format!(".upload-{:x}", std::process::id());
            let act = Act::Adopt { sha256, upload: upload.clone() };
            tool::run(docker, Job { upload: Some((artifact, &upload)), ..job(act) }).await?.done()?;
        }
        self.put.lock().unwrap_or_else(PoisonError::into_inner).insert((artifact.sha256.clone(), made));
        Ok(())
    }

    /// Creates or replaces the container of `spec` until one of its generation is there; returns it started.
    async fn make(&self, docker: &Docker, spec: &InstanceSpec) -> Result<InstanceStatus> {
        let composed = self.act(Some(&spec.key), Act::Compose { spec: spec.clone() }).await?.composed()?;
        for _ in 0..CREATE_TRIES {
            match node::find(docker, &spec.key).await? {
                Some(found) if found.generation > spec.generation => return Err(deposed(spec, &found)),
                Some(found) if found.generation == spec.generation => return self.started(docker, spec, &found).await,
                Some(older) => {
                    node::stop(docker, &older, GRACE).await?;
                    node::remove(docker, &spec.key, &older.id).await?;
                }
                None => {}
            }
            let (image, network) = (self.image().await?, ground::network(docker, spec.key.cluster()).await?);
            let store = mount(ground::STORE, format!("{ROOT}/artifacts"), true);
            let home = mount(&ground::home(docker, &spec.key).await?, place(&spec.key), false);
            let ground =
                node::Ground { target: &self.target, image: &image, network: &network, mounts: vec![store, home] };
            // Whether made here or by somebody else: what counts is what is found next.
            node::create(docker, spec, composed.clone(), ground).await?;
        }
        let reason = "is made and removed by somebody else all the time: does another controller drive this host?";
        Err(AdapterError::Transient { subject: spec.key.to_string(), reason: reason.into() })
    }

    /// The status of a container of the wished generation, started if it never was.
    async fn started(&self, docker: &Docker, spec: &InstanceSpec, found: &node::Found) -> Result<InstanceStatus> {
        if !found.is_new() {
            return node::describe(docker, found).await;
        }
        node::start(docker, &spec.key, &found.id).await?;
        let status = self.look(&spec.key).await?;
        status.ok_or_else(|| AdapterError::Unknown {
            subject: spec.key.to_string(),
            reason: "it was started and is gone: somebody else removed it".into(),
        })
    }

    /// Removes short containers that nobody waits for any more, by the asker's and the engine's clocks alike.
    async fn sweep_tools(&self, docker: &Docker, info: &SystemInfo) -> Result<()> {
        let now: Option<jiff::Timestamp> = info.system_time.as_deref().and_then(|time| time.parse().ok());
        let Some(now) = now.map(jiff::Timestamp::as_second) else { return Ok(()) };
        let options = bollard::query_parameters::ListContainersOptions {
            all: true,
            filters: Some(engine::filter(&labels(Role::Tool, None, None))),
            ..Default::default()
        };
        for found in docker.list_containers(Some(options)).await.map_err(|e| self.explain(e))? {
            let until = found.labels.as_ref().and_then(|labels| labels.get(UNTIL)?.parse::<i64>().ok());
            if let (Some(id), Some(until)) = (found.id, until)
                && until < now
            {
                node::remove(docker, "a short container", &id).await?;
            }
        }
        Ok(())
    }

    fn explain(&self, error: bollard::errors::Error) -> AdapterError {
        explain(&self.target.endpoint, error, false)
    }

    /// Reads a file of a node's container by the archive API; no link is followed on the way, so the parts of the path are
    /// looked at one by one.
    async fn read_from(&self, docker: &Docker, found: &node::Found, path: &str) -> Result<Option<Vec<u8>>> {
        let mut at = format!("{}/home", place(&found.key));
        let parts: Vec<&str> = path.split('/').collect();
        for part in &parts[..parts.len().saturating_sub(1)] {
            at = format!("{at}/{part}");
            match self.stat(docker, found, &at).await? {
                None => return Ok(None),
                Some(FOLDER) => {}
                Some(_) => return Err(invalid(path, "a link or something else is in the way")),
            }
        }
        at = format!("{at}/{}", parts.last().unwrap_or(&""));
        match self.stat(docker, found, &at).await? {
            None => return Ok(None),
            Some(0) => {}
            Some(_) => return Err(invalid(path, "is no plain file")),
        }
        let archive = match tool::get(docker, &found.id, &at).await {
            Ok(archive) => archive,
            Err(error) if engine::status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(self.explain(error)),
        };
        match tar::first(&archive) {
            Some(tar::First::File { size, .. }) if size > READ_BYTES_MAX as u64 => {
                Err(invalid(path, format!("is larger than {READ_BYTES_MAX} bytes")))
            }
            Some(tar::First::File { size, content }) if content.len() as u64 == size => Ok(Some(content)),
            // Cut, or changed while it was read: another look finds it whole.
            Some(tar::First::File { .. }) | None => {
                Err(AdapterError::Transient { subject: path.into(), reason: "arrived in part".into() })
            }
            Some(tar::First::Other) => Err(invalid(path, "is no plain file")),
        }
    }

    /// What kind of thing is at a path of a container, as the engine's file mode has it: 0 is a plain file.
    async fn stat(&self, docker: &Docker, found: &node::Found, path: &str) -> Result<Option<u32>> {
        let options = bollard::query_parameters::ContainerArchiveInfoOptions { path: path.into() };
        match docker.get_container_archive_info(&found.id, Some(options)).await {
            Ok(stat) => Ok(Some(stat.file_mode & TYPES)),
            Err(error) if engine::status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.explain(error)),
        }
    }
}

/// Bits of Go's `fs.FileMode` that say what a thing is; a folder has the highest.
const TYPES: u32 = 0x8f28_0000;
const FOLDER: u32 = 0x8000_0000;

/// Where the volume of `key` is in a container: as the folder of an instance is on any host.
fn place(key: &InstanceKey) -> String {
    format!("{ROOT}/instances/{}/{}", key.cluster(), key.object())
}

fn deposed(spec: &InstanceSpec, found: &node::Found) -> AdapterError {
    let reason = format!(
        "generation {} is on the host, {} was asked: another controller went on; read the newest state",
        found.generation, spec.generation
    );
    invalid(&spec.key, reason)
}

#[async_trait]
impl Adapter for DockerAdapter {
    async fn inspect(&self) -> Result<HostFacts> {
        let docker = self.docker().await?;
        let info = docker.info().await.map_err(|e| self.explain(e))?;
        engine::check(&self.target.endpoint, &info, Some(&self.target.engine_id))?;
        self.sweep_tools(docker, &info).await?;
        // The engine does not say what its disk has left; a container stands on the same one.
        let inside = self.act(None, Act::Inspect).await?.facts()?;
        Ok(HostFacts {
            hostname: info.name.unwrap_or_default(),
            cpus: info.ncpu.and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
            memory_bytes: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
            systemd: false,
            ..inside
        })
    }

    async fn put_artifact(&self, artifact: &Artifact) -> Result<()> {
        if !valid_sha256(&artifact.sha256) {
            return Err(invalid(&artifact.sha256, "is not a SHA-256 in lower-case hex"));
        }
        let _one = self.uploads.lock().await;
        self.store(artifact).await
    }

    async fn put_files(&self, key: &InstanceKey, files: &[FileSpec]) -> Result<()> {
        self.write(key, None, files).await
    }

    async fn put_files_at(&self, key: &InstanceKey, generation: u64, files: &[FileSpec]) -> Result<()> {
        let found = node::find(self.docker().await?, key).await?;
        self.check_newest(key, found.as_ref(), generation, "written").await?;
        self.write(key, Some(generation), files).await
    }

    async fn read_file(&self, key: &InstanceKey, path: &str) -> Result<Option<Vec<u8>>> {
        if !hanse_hostrun::is_home_path(path) {
            return Err(invalid(path, "must be relative to the home, without empty parts, `.` or `..`"));
        }
        let docker = self.docker().await?;
        if let Some(found) = node::find(docker, key).await? {
            return self.read_from(docker, &found, path).await;
        }
        if node::homes(docker, key.cluster(), Some(key.object())).await?.is_empty() {
            return Ok(None);
        }
        self.act(Some(key), Act::ReadFile { key: key.clone(), path: path.into() }).await?.content()
    }

    async fn run(&self, key: &InstanceKey, spec: &RunSpec) -> Result<RunOutput> {
        self.act(Some(key), Act::Run { key: key.clone(), spec: spec.clone() }).await?.output()
    }

    async fn ensure(&self, spec: &InstanceSpec) -> Result<InstanceStatus> {
        self.measured.works_for(spec.key.cluster());
        let docker = self.docker().await?;
        let fence = self.fenced(&spec.key).await?;
        if fence > spec.generation {
            let asked = spec.generation;
            let reason =
                format!("it was stopped for good: only generation {fence} or later may run, {asked} was asked");
            return Err(AdapterError::Invalid { subject: spec.key.to_string(), reason });
        }
        // The usual case first: what is wished runs.
        match node::find(docker, &spec.key).await? {
            Some(found) if found.generation > spec.generation => Err(deposed(spec, &found)),
            Some(found) if found.generation == spec.generation => self.started(docker, spec, &found).await,
            Some(_) | None => self.make(docker, spec).await,
        }
    }

    async fn look(&self, key: &InstanceKey) -> Result<Option<InstanceStatus>> {
        let docker = self.docker().await?;
        if let Some(found) = node::find(docker, key).await? {
            return node::describe(docker, &found).await.map(Some);
        }
        let homes = node::homes(docker, key.cluster(), Some(key.object())).await?;
        Ok((!homes.is_empty()).then(|| prepared(key.clone())))
    }

    async fn stop(&self, key: &InstanceKey, grace: Duration) -> Result<()> {
        let docker = self.docker().await?;
        match node::find(docker, key).await? {
            Some(found) => node::stop(docker, &found, grace).await,
            None => Ok(()),
        }
    }

    async fn fence(&self, key: &InstanceKey, generation: u64, grace: Duration) -> Result<()> {
        let docker = self.docker().await?;
        let found = node::find(docker, key).await?;
        self.check_newest(key, found.as_ref(), generation, "stopped").await?;
        // First the mark, so that a failure in between leaves what runs, and the same order stops it.
        let content = generation.to_string().into_bytes();
        self.put_files(key, &[FileSpec { path: FENCE_FILE.into(), mode: 0o600, content }]).await?;
        match found {
            Some(found) => node::stop(docker, &found, grace).await,
            None => Ok(()),
        }
    }

    async fn remove(&self, key: &InstanceKey) -> Result<()> {
        let docker = self.docker().await?;
        if let Some(found) = node::find(docker, key).await? {
            node::stop(docker, &found, GRACE).await?;
            node::remove(docker, key, &found.id).await?;
        }
        for id in node::ids(docker, &labels(Role::Tool, Some(key.cluster()), Some(key.object()))).await? {
            node::remove(docker, key, &id).await?;
        }
        ground::remove_home(docker, key).await?;
        let _no_upload = self.uploads.lock().await;
        if ground::sweep(docker, key.cluster(), self.target.keep).await? {
            self.put.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        Ok(())
    }

    /// An engine has no act that looks and removes: what comes there between the two, within the length of a call, is not seen.
    async fn remove_at(&self, key: &InstanceKey, generation: u64) -> Result<()> {
        let found = node::find(self.docker().await?, key).await?;
        self.check_newest(key, found.as_ref(), generation, "removed").await?;
        self.remove(key).await
    }

    async fn list(&self, cluster: &str) -> Result<Vec<InstanceStatus>> {
        self.measured.works_for(cluster);
        let docker = self.docker().await?;
        let mut all = Vec::new();
        for found in node::all(docker, &labels(Role::Node, Some(cluster), None)).await? {
            all.push(node::describe(docker, &found).await?);
        }
        for object in node::homes(docker, cluster, None).await?.into_keys() {
            let known = all.iter().any(|status| status.key.object() == object);
            all.extend(InstanceKey::new(cluster, &object).filter(|_| !known).map(prepared));
        }
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    async fn tail(&self, key: &InstanceKey, lines: u32) -> Result<String> {
        let docker = self.docker().await?;
        match node::find(docker, key).await? {
            Some(found) => node::tail(docker, &found, lines).await,
            None => Ok(String::new()),
        }
    }

    async fn usage(&self, key: &InstanceKey) -> Result<Option<InstanceUsage>> {
        self.measured.works_for(key.cluster());
        let docker = self.docker().await?;
        match node::find(docker, key).await? {
            Some(found) => measure::usage(docker, &found).await,
            None => Ok(None),
        }
    }

    async fn load(&self) -> Result<Option<HostLoad>> {
        let docker = self.docker().await?;
        if let Some(id) = measure::any_running(docker, &self.measured).await?
            && let Ok(reply) = measure::ask(docker, &id, Act::Load).await
        {
            return reply.load().map(Some);
        }
        // None of ours runs or is known yet, or its program is of before this act.
        if !self.measured.take() {
            return Ok(None);
        }
        self.act(None, Act::Load).await?.load().map(Some)
    }

    async fn dial(&self, port: u16) -> Result<Box<dyn Stream>> {
        let docker = self.docker().await?;
        let Some(id) = node::listening(docker, port).await? else {
            let reason = "no node of ours that runs there listens on it";
            return Err(AdapterError::Transient { subject: format!("port {port}"), reason: reason.into() });
        };
        Ok(Box::new(dial::dial(docker, &id, port).await?))
    }
}

/// A node with a home and no container.
fn prepared(key: InstanceKey) -> InstanceStatus {
    InstanceStatus { key, generation: 0, run: RunState::Prepared, taken: false }
}
