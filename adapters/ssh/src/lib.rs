//! The adapter for hosts reached over SSH.
//!
//! One connection per host is kept and shared by all calls; over it the uploaded program's `host-run` is executed and kept
//! for a while, and each call is a line of JSON on its standard input, answered by one (see [`hanse_hostrun`]). The host's key is pinned: a
//! server that shows another one is refused before any credential is sent. On first contact the small program that the product
//! carries ([`hanse_carried`]) is uploaded, checked by its hash on the host and only then put in its place.
//!
//! What is sent to a host as a command line is made of constants, the root folder (checked when the target is made) and
//! lower-case hex; nothing else ever reaches a shell there ([`SshCommands`] is for machines that are no hosts, and quotes). It never trusts a key on first use, never sends a credential
//! twice in one connection, and never does a changing call again after it was sent: that is [`AdapterError::Unknown`].

mod command;
mod connection;
mod login;
mod pin;
mod preflight;
mod served;
mod target;
mod upload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hanse_adapters_core::preflight::{Finding, PreflightWish};
use hanse_adapters_core::{
    Adapter, AdapterError, Artifact, Claim, Expiry, FileSpec, HomeFile, HomeSeen, HostFacts, HostLoad, InstanceKey,
    InstanceSpec, InstanceStatus, InstanceUsage, Piece, Result, RunOutput, RunSpec, Stream,
};
use hanse_hostrun::{Act, Reply, Request, Response, WireError, WireFile};
use tokio::sync::Mutex;

pub use command::{Said, SshCommands};
pub use connection::{HostKeys, scan, scan_host_key};
pub use login::public_key;
pub use target::{HostPin, Identity, Jump, Login, SshTarget};

use connection::{Connection, Ran};
use target::Checked;
use upload::Body;

/// How long a host may take to answer, besides what the act itself was given.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Times that a call connects or uploads anew before anything was done for it.
const FRESH_TRIES: u32 = 2;
/// How often it is looked which certificates are shown: each look is a connection without a login, and hosts count those.
const LOOK_EVERY: Duration = Duration::from_secs(15 * 60);
/// How long a host may take to hash a home.
const HOME_HASH_LIMIT: Duration = Duration::from_secs(600);
/// How long a host may take to copy a home and compare.
const HOME_COPY_LIMIT: Duration = Duration::from_secs(6 * 3600);
/// How long a host may take to hash a program.
const HASH_LIMIT: Duration = Duration::from_secs(60);

/// One host reached over SSH.
#[derive(Debug)]
pub struct SshAdapter {
    target: Checked,
    /// What our program is started with to answer requests.
    command: String,
    slot: Mutex<Slot>,
    /// One upload at a time; callers who waited find the artifact in place.
    uploads: Mutex<()>,
    /// How often it is looked which certificates are shown.
    look_every: Duration,
}

/// The kept connection, or how the last attempt failed: callers that waited for it share its outcome.
#[derive(Debug, Default)]
struct Slot {
    connection: Option<Arc<Connection>>,
    failed: Option<(Instant, WireError)>,
}

impl SshAdapter {
    /// Returns the host at `target`. Nothing is connected yet.
    ///
    /// # Errors
    /// `Invalid` names the part of the target that is wrong, or says why the identity cannot be read.
    pub fn new(target: SshTarget) -> Result<Self> {
        let target = target.check()?;
        let command = target.host_run(hanse_carried::sha256());
        Ok(Self { target, command, slot: Mutex::default(), uploads: Mutex::default(), look_every: LOOK_EVERY })
    }

    /// The same, looking so often which certificates the host and the machines on the way show; 15 minutes otherwise.
    #[must_use]
    pub fn looking_every(self, every: Duration) -> Self {
        Self { look_every: every, ..self }
    }

    /// Connects and logs in, unless there is a live connection already. Nothing is put on the host.
    ///
    /// # Errors
    /// `Denied` if the host shows another key than the pinned one or refuses ours, `Transient` if it is out of reach.
    pub async fn connect(&self) -> Result<()> {
        self.connection().await.map(drop)
    }

    /// Returns the live connection, made now if there is none.
    async fn connection(&self) -> Result<Arc<Connection>> {
        let asked = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(live) = slot.connection.as_ref().filter(|c| !c.is_closed()) {
            return Ok(Arc::clone(live));
        }
        slot.connection = None;
        if let Some((_, error)) = slot.failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(error.clone().into());
        }
        match Connection::open(&self.target).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                slot.connection = Some(Arc::clone(&connection));
                slot.failed = None;
                Ok(connection)
            }
            Err(error) => {
                let error = WireError::from(error);
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error.into())
            }
        }
    }

    /// Makes the next call connect anew.
    async fn forget(&self, broken: &Arc<Connection>) {
        let mut slot = self.slot.lock().await;
        if slot.connection.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, broken)) {
            slot.connection = None;
        }
    }

    /// Does `act` on the host, connecting and installing our program first where needed.
    async fn act(&self, act: Act) -> Result<Reply> {
        let (limit, changes) = (limit(&act), changes(&act));
        let request = self.encode(act)?;
        for _ in 0..FRESH_TRIES {
            let connection = self.connection().await?;
            self.place_program(&connection).await?;
            match connection.serve(&self.command, &request, &Body::Nothing, limit).await {
                Ran::Answered(stdout) => return self.decode(&stdout),
                // The program was deleted from the host since it was seen there: upload it again.
                Ran::NoProgram(said) => {
                    tracing::warn!(host = %self.target.name, %said, "the program on the host is gone");
                    connection.forget_artifacts();
                    connection.idle().clear();
                }
                Ran::NotSent(reason) => {
                    tracing::debug!(host = %self.target.name, %reason, "connecting anew");
                    self.forget(&connection).await;
                }
                Ran::NoAnswer(reason) => {
                    if connection.is_closed() {
                        self.forget(&connection).await;
                    }
                    let subject = self.target.name.clone();
                    return Err(if changes {
                        AdapterError::Unknown { subject, reason }
                    } else {
                        AdapterError::Transient { subject, reason }
                    });
                }
            }
        }
        Err(self.transient("the connection broke again before the request was sent"))
    }

    fn encode(&self, act: Act) -> Result<Vec<u8>> {
        let mut bytes =
            serde_json::to_vec(&Request::new(act)).map_err(|e| invalid(&self.target.name, e.to_string()))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > hanse_hostrun::REQUEST_BYTES_MAX {
            return Err(invalid(&self.target.name, "the request is too large: send fewer or smaller files"));
        }
        Ok(bytes)
    }

    /// The answer is the last line; whatever the account's shell prints at its start comes before.
    fn decode(&self, stdout: &[u8]) -> Result<Reply> {
        let line = stdout.split(|b| *b == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
        let response: Response = serde_json::from_slice(line).map_err(|e| {
            invalid(&self.target.name, format!("the answer of our program on the host cannot be read: {e}"))
        })?;
        response.into_result()
    }

    fn transient(&self, reason: &str) -> AdapterError {
        AdapterError::Transient { subject: self.target.name.clone(), reason: reason.into() }
    }
}

fn invalid(subject: &str, reason: impl Into<String>) -> AdapterError {
    AdapterError::Invalid { subject: subject.into(), reason: reason.into() }
}

/// How long the host may work on `act`.
fn limit(act: &Act) -> Duration {
    let own = match act {
        Act::Run { spec, .. } => spec.timeout,
        Act::Stop { grace, .. } | Act::Fence { grace, .. } => *grace,
        Act::ListHome { .. } => HOME_HASH_LIMIT,
        Act::SurveyHome { program, .. } => program.timeout,
        Act::SeizeHome { stop, .. } => stop.unwrap_or_default(),
        Act::TakeHome { .. } | Act::ReturnHome { .. } => HOME_COPY_LIMIT,
        _ => Duration::ZERO,
    };
    own.saturating_add(ANSWER_LIMIT)
}

/// Whether `act` may have changed something when its answer is lost.
fn changes(act: &Act) -> bool {
    match act {
        Act::PutFiles { .. }
        | Act::Run { .. }
        | Act::Ensure { .. }
        | Act::Compose { .. }
        | Act::Stop { .. }
        | Act::Fence { .. }
        | Act::WritePiece { .. }
        | Act::SeizeHome { .. }
        | Act::TakeHome { .. }
        | Act::ReturnHome { .. }
        | Act::Remove { .. } => true,
        Act::HashSelf
        | Act::HasArtifact { .. }
        | Act::Adopt { .. }
        | Act::Receive { .. }
        | Act::KeepSelf { .. }
        | Act::Inspect
        | Act::Preflight { .. } => false,
        Act::ListHome { .. } | Act::ReadPiece { .. } => false,
        Act::SurveyHome { .. } | Act::Look { .. } | Act::List { .. } | Act::Tail { .. } | Act::ReadFile { .. } => false,
        Act::Usage { .. } | Act::Load => false,
    }
}

#[async_trait]
impl Adapter for SshAdapter {
    async fn inspect(&self) -> Result<HostFacts> {
        self.act(Act::Inspect).await?.facts()
    }

    async fn preflight(&self, wish: &PreflightWish) -> Result<Vec<Finding>> {
        Ok(self.look_before(wish).await)
    }

    async fn put_artifact(&self, artifact: &Artifact) -> Result<()> {
        let connection = self.connection().await?;
        self.place_program(&connection).await?;
        self.place(&connection, artifact).await
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

    async fn expiries(&self) -> Vec<Expiry> {
        let connection = self.slot.lock().await.connection.clone();
        let mut all = match connection {
            Some(connection) => connection.expiries(&self.target, self.look_every).await,
            None => Vec::new(),
        };
        // As the file says now: a new one counts at the next login, without anybody's doing.
        all.extend(self.target.credential.expiry());
        all
    }

    async fn dial(&self, port: u16) -> Result<Box<dyn Stream>> {
        for _ in 0..FRESH_TRIES {
            let connection = self.connection().await?;
            match connection.dial(port).await? {
                Some(stream) => return Ok(stream),
                None => self.forget(&connection).await,
            }
        }
        Err(self.transient("the connection broke again before the port was reached"))
    }
}
