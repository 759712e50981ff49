//! The adapter for the machine this program runs on.
//!
//! Every call is one [`hanse_hostrun`] request, handled in this process on a blocking thread; processes are started
//! under the supervisor `exe host-supervise`, so that they outlive this program. Hosts that share a machine have a root
//! each. It never talks to the network but for [`Adapter::dial`], which stays on the loopback.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hanse_adapters_core::preflight::{Asker, Finding, PreflightWish, judge};
use hanse_adapters_core::{
    Adapter, AdapterError, Artifact, Claim, FileSpec, HomeFile, HomeSeen, HostFacts, HostLoad, InstanceKey,
    InstanceSpec, InstanceStatus, InstanceUsage, Piece, Result, RunOutput, RunSpec, Stream,
};
use hanse_hostrun::{Act, Host, Reply, Request, WireFile, now_ms};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection on the loopback may take.
const DIAL_LIMIT: Duration = Duration::from_secs(5);

/// This machine, below one root folder.
#[derive(Debug)]
pub struct LocalAdapter {
    host: Arc<Host>,
    /// Hashes put by this value, so that a large file is not read again for every node; bounded by the artifacts in use.
    put: Mutex<BTreeSet<String>>,
}

impl LocalAdapter {
    /// Returns the host whose things are under `root` and whose supervisor is `exe host-supervise`.
    pub fn new(root: PathBuf, exe: PathBuf) -> Self {
        Self { host: Arc::new(Host::new(&root, &exe)), put: Mutex::default() }
    }

    /// Where this host's things are.
    pub fn root(&self) -> &Path {
        self.host.layout().root()
    }

    async fn act(&self, act: Act) -> Result<Reply> {
        self.blocking(move |host| host.handle(Request::new(act)).into_result()).await
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Host) -> Result<T> + Send + 'static) -> Result<T> {
        let host = Arc::clone(&self.host);
        let joined = tokio::task::spawn_blocking(move || work(&host)).await;
        joined.unwrap_or_else(|e| Err(AdapterError::Unknown { subject: "local host".into(), reason: e.to_string() }))
    }
}

#[async_trait]
impl Adapter for LocalAdapter {
    async fn inspect(&self) -> Result<HostFacts> {
        self.act(Act::Inspect).await?.facts()
    }

    async fn preflight(&self, wish: &PreflightWish) -> Result<Vec<Finding>> {
        let asked_ms = now_ms();
        let report = self.act(Act::Preflight { wish: wish.clone() }).await?.report()?;
        let asker = Asker { arch: std::env::consts::ARCH.into(), asked_ms, answered_ms: now_ms() };
        Ok(judge(&report, wish, &asker))
    }

    async fn put_artifact(&self, artifact: &Artifact) -> Result<()> {
        let known = self.put.lock().unwrap_or_else(PoisonError::into_inner).contains(&artifact.sha256);
        if known && self.host.layout().artifact(&artifact.sha256).is_file() {
            return Ok(());
        }
        let owned = artifact.clone();
        self.blocking(move |host| host.put_artifact(&owned)).await?;
        self.put.lock().unwrap_or_else(PoisonError::into_inner).insert(artifact.sha256.clone());
        Ok(())
    }

    async fn put_files(&self, key: &InstanceKey, files: &[FileSpec]) -> Result<()> {
        let files = files.iter().map(WireFile::from).collect();
        self.act(Act::PutFiles { key: key.clone(), files, generation: None }).await?.done()
    }

    async fn put_files_at(&self, key: &InstanceKey, generation: u64, files: &[FileSpec]) -> Result<()> {
        let files = files.iter().map(WireFile::from).collect();
        self.act(Act::PutFiles { key: key.clone(), files, generation: Some(generation) }).await?.done()
    }

    async fn read_file(&self, key: &InstanceKey, path: &str) -> Result<Option<Vec<u8>>> {
        self.act(Act::ReadFile { key: key.clone(), path: path.into() }).await?.content()
    }

    async fn run(&self, key: &InstanceKey, spec: &RunSpec) -> Result<RunOutput> {
        self.act(Act::Run { key: key.clone(), spec: spec.clone() }).await?.output()
    }

    async fn ensure(&self, spec: &InstanceSpec) -> Result<InstanceStatus> {
        self.act(Act::Ensure { spec: spec.clone() }).await?.status()
    }

    async fn look(&self, key: &InstanceKey) -> Result<Option<InstanceStatus>> {
        self.act(Act::Look { key: key.clone() }).await?.maybe_status()
    }

    async fn stop(&self, key: &InstanceKey, grace: Duration) -> Result<()> {
        self.act(Act::Stop { key: key.clone(), grace }).await?.done()
    }

    async fn fence(&self, key: &InstanceKey, generation: u64, grace: Duration) -> Result<()> {
        self.act(Act::Fence { key: key.clone(), generation, grace }).await?.done()
    }

    async fn remove(&self, key: &InstanceKey) -> Result<()> {
        self.act(Act::Remove { key: key.clone(), upto: None }).await?.done()
    }

    async fn remove_at(&self, key: &InstanceKey, generation: u64) -> Result<()> {
        self.act(Act::Remove { key: key.clone(), upto: Some(generation) }).await?.done()
    }

    async fn list_home(&self, key: &InstanceKey) -> Result<Vec<HomeFile>> {
        self.act(Act::ListHome { key: key.clone() }).await?.home()
    }

    async fn read_piece(&self, key: &InstanceKey, path: &str, offset: u64) -> Result<Vec<u8>> {
        let read = Act::ReadPiece { key: key.clone(), path: path.into(), offset };
        Ok(self.act(read).await?.content()?.unwrap_or_default())
    }

    async fn write_piece(&self, key: &InstanceKey, generation: u64, piece: &Piece) -> Result<()> {
        self.act(Act::WritePiece { key: key.clone(), generation, piece: piece.into() }).await?.done()
    }

    async fn survey_home(&self, claim: &Claim, reads: &[String], program: &RunSpec) -> Result<HomeSeen> {
        let survey = Act::SurveyHome { claim: claim.clone(), reads: reads.to_vec(), program: program.clone() };
        self.act(survey).await?.home_seen()
    }

    async fn seize_home(
        &self,
        key: &InstanceKey,
        generation: u64,
        claim: &Claim,
        stop: Option<Duration>,
    ) -> Result<()> {
        let (key, claim) = (key.clone(), claim.clone());
        self.act(Act::SeizeHome { key, generation, claim, stop }).await?.done()
    }

    async fn take_home(&self, key: &InstanceKey, generation: u64, claim: &Claim) -> Result<()> {
        self.act(Act::TakeHome { key: key.clone(), generation, claim: claim.clone() }).await?.done()
    }

    async fn return_home(&self, key: &InstanceKey, generation: u64, claim: &Claim, was_started: bool) -> Result<()> {
        let (key, claim) = (key.clone(), claim.clone());
        self.act(Act::ReturnHome { key, generation, claim, was_started }).await?.done()
    }

    async fn list(&self, cluster: &str) -> Result<Vec<InstanceStatus>> {
        self.act(Act::List { cluster: cluster.into() }).await?.statuses()
    }

    async fn tail(&self, key: &InstanceKey, lines: u32) -> Result<String> {
        self.act(Act::Tail { key: key.clone(), lines }).await?.text()
    }

    async fn usage(&self, key: &InstanceKey) -> Result<Option<InstanceUsage>> {
        self.act(Act::Usage { key: key.clone() }).await?.usage()
    }

    async fn load(&self) -> Result<Option<HostLoad>> {
        self.act(Act::Load).await?.load().map(Some)
    }

    async fn dial(&self, port: u16) -> Result<Box<dyn Stream>> {
        let subject = || format!("127.0.0.1:{port}");
        match timeout(DIAL_LIMIT, TcpStream::connect(("127.0.0.1", port))).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(e)) => Err(AdapterError::Transient { subject: subject(), reason: e.to_string() }),
            Err(_) => Err(AdapterError::Transient { subject: subject(), reason: "no connection in time".into() }),
        }
    }
}
