//! What every adapter can do.
//!
//! An adapter is the driver for one kind of infrastructure; an [`Adapter`] value stands for *one host* reached through
//! it. The layers above cannot tell adapters apart: they put artifacts and files on the host, run the artifact for a
//! moment, keep a process supervised, look at it, and open a stream to a port of the host.
//!
//! Every act is idempotent by its key: [`Adapter::ensure`] creates or adopts, [`Adapter::remove`] of what is not there
//! is a success. An outcome that cannot be known is [`AdapterError::Unknown`]: the caller looks again, it never assumes.
//!
//! What an adapter never does: decide (no retries beyond one call's connection, no placement, no restart of a process
//! by itself), keep state that a new leader would need, or build a shell string from input.

mod bundle;
mod claim;
pub mod cloud;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod figures;
pub mod preflight;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use preflight::{Finding, PreflightWish};

pub use bundle::{BUNDLE_FILES_MAX, Bundle, MANIFEST_VERSION, Manifest};
pub use claim::{CLAIM_MARK, Claim, Holder, HomeSeen, SET_ASIDE};
pub use error::{AdapterError, Result};
pub use figures::{Expiry, HostLoad, InstanceUsage};

/// A byte stream to a port of the host (an SSH channel or a TCP connection).
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Names one supervised process for ever: the cluster that owns it and the object it realises
/// (`consortium.chain.node`). Letters, digits, `-` and `.` only; see [`InstanceKey::new`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceKey {
    cluster: String,
    object: String,
}

/// Longest cluster or object name in an [`InstanceKey`], so that it fits into a file name.
pub const KEY_PART_MAX: usize = 200;

impl InstanceKey {
    /// Returns the key, or `None` if a part is empty, longer than [`KEY_PART_MAX`], starts with a dot, or has a
    /// character other than ASCII letters, digits, `-` and `.`.
    pub fn new(cluster: &str, object: &str) -> Option<Self> {
        let ok = |s: &str| {
            !s.is_empty()
                && s.len() <= KEY_PART_MAX
                && !s.starts_with('.')
                && !s.contains("..")
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        };
        (ok(cluster) && ok(object)).then(|| Self { cluster: cluster.into(), object: object.into() })
    }

    /// The owning cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The object realised.
    pub fn object(&self) -> &str {
        &self.object
    }
}

impl std::fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.cluster, self.object)
    }
}

/// A program in the local artifact store, by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// SHA-256 of the file, 64 lower-case hex digits.
    pub sha256: String,
    /// Where the file is on this replica.
    pub path: PathBuf,
}

/// A file of an instance's home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Relative to the instance's home; no `..`, not absolute.
    pub path: String,
    /// Unix permission bits, e.g. `0o600`.
    pub mode: u32,
    /// Whole content.
    pub content: Vec<u8>,
}

/// A short run of the artifact inside an instance's home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Content hash of an artifact already put on the host.
    pub artifact_sha256: String,
    /// Path of the program inside the artifact if that is a [`Bundle`]'s manifest; `None` if the artifact is the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Arguments, never interpreted by a shell. `{home}` in an argument becomes the absolute home of the instance, and
    /// `{artifact}` the folder of the artifact's files.
    pub args: Vec<String>,
    /// Environment, besides a minimal one; the same words are replaced in its values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Killed after this.
    pub timeout: Duration,
}

/// Largest file that [`Adapter::read_file`] returns.
pub const READ_BYTES_MAX: usize = 1024 * 1024;

/// A file of an instance's home, as [`Adapter::list_home`] finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeFile {
    /// Relative to the home.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, 64 lower-case hex digits.
    pub sha256: String,
}

/// A piece of a file that is carried into a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Relative to the home.
    pub path: String,
    /// Permission bits of the file once it is whole.
    pub mode: u32,
    /// Size of the whole file.
    pub bytes: u64,
    /// Where the piece begins.
    pub offset: u64,
    /// The piece, at most [`PIECE_BYTES_MAX`] bytes.
    pub content: Vec<u8>,
}

/// Most files of a home that is carried.
pub const HOME_FILES_MAX: usize = 50_000;

/// Largest piece that [`Adapter::read_piece`] gives and [`Adapter::write_piece`] takes.
pub const PIECE_BYTES_MAX: usize = 1024 * 1024;

/// What a short run left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutput {
    /// Exit code, or `None` if a signal or the time-out ended it.
    pub code: Option<i32>,
    /// Standard output, cut at a limit.
    pub stdout: String,
    /// Standard error, cut at a limit.
    pub stderr: String,
}

/// The wish for one supervised process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Its name for ever.
    pub key: InstanceKey,
    /// Goes up with every wished change or restart; a running process of an older generation is replaced.
    pub generation: u64,
    /// Content hash of the artifact to run, already on the host.
    pub artifact_sha256: String,
    /// See [`RunSpec::program`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Arguments (see [`RunSpec::args`]).
    pub args: Vec<String>,
    /// Environment (see [`RunSpec::env`]).
    pub env: BTreeMap<String, String>,
    /// Ports it listens on. A host whose instances have a network each lets nothing else through.
    #[serde(default, skip_serializing_if = "Ports::is_empty")]
    pub ports: Ports,
}

/// The ports that a process listens on, by who reaches them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// From other hosts, at the host's address.
    pub public: BTreeSet<u16>,
    /// By [`Adapter::dial`] alone.
    pub local: BTreeSet<u16>,
}

impl Ports {
    /// Whether it listens on none.
    pub fn is_empty(&self) -> bool {
        self.public.is_empty() && self.local.is_empty()
    }
}

/// What the host says of a supervised process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub key: InstanceKey,
    /// The generation that was last ensured.
    pub generation: u64,
    /// Running, or how it ended.
    pub run: RunState,
    /// Whether its home was copied from one of others ([`Adapter::take_home`]), and so may be the only copy of what its key has signed.
    pub taken: bool,
}

/// Whether the process of an instance lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// Files are there, nothing was ever started.
    Prepared,
    /// Alive with this process id, since this Unix time.
    Running {
        /// Process id on the host.
        pid: u32,
        /// Start, milliseconds since 1970.
        since_ms: u64,
    },
    /// Ended.
    Exited {
        /// Exit code, `None` for a signal.
        code: Option<i32>,
        /// Signal number, if one ended it.
        signal: Option<i32>,
        /// Last lines of its log, cut at a limit.
        last_log: String,
    },
}

/// What a host is, for enrolment and preflight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Kernel's host name.
    pub hostname: String,
    /// `uname` machine, e.g. `x86_64`.
    pub arch: String,
    /// Kernel release.
    pub kernel: String,
    /// Usable processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Free bytes on the file system of the instances.
    pub disk_free_bytes: u64,
    /// The host's clock, milliseconds since 1970.
    pub clock_ms: u64,
    /// Whether systemd supervises the instances (else our own supervisor does).
    pub systemd: bool,
}

/// One host, whatever it is reached through.
#[async_trait]
pub trait Adapter: Send + Sync {
    /// Returns what the host is.
    ///
    /// # Errors
    /// Any [`AdapterError`]; nothing was changed.
    async fn inspect(&self) -> Result<HostFacts>;

    /// Looks at everything that must hold before nodes are placed on the host, and returns all of it at once, good and bad.
    /// A host that cannot be reached or used is a finding, not an error.
    ///
    /// # Errors
    /// Any, if it could not look; nothing was changed but that our program was put there.
    async fn preflight(&self, _wish: &PreflightWish) -> Result<Vec<Finding>> {
        let found = "not looked at: there is no first look yet at hosts of this kind";
        Ok(vec![Finding::warning(
            "connection",
            found,
            "see that it has room for its nodes, and that its ports are free",
        )])
    }

    /// Puts `artifact` on the host unless its content is there already; checked by hash on the host.
    ///
    /// # Errors
    /// `Invalid` if the local file does not have the hash it claims; else any. A partial upload is never used.
    async fn put_artifact(&self, artifact: &Artifact) -> Result<()>;

    /// Writes `files` into the home of `key` (made if missing), each replaced atomically; equal files stay untouched.
    ///
    /// # Errors
    /// Any; some of the files may have been written, and doing it again completes them.
    async fn put_files(&self, key: &InstanceKey, files: &[FileSpec]) -> Result<()>;

    /// As [`Adapter::put_files`] for `generation`, unless something newer was written, started or fenced there: what a deposed leader
    /// still sends is not what the newer one wrote. An adapter that cannot tell writes it all the same.
    ///
    /// # Errors
    /// `Invalid` if something newer is there (we are deposed), nothing was changed; else as [`Adapter::put_files`].
    async fn put_files_at(&self, key: &InstanceKey, _generation: u64, files: &[FileSpec]) -> Result<()> {
        self.put_files(key, files).await
    }

    /// Returns the content of `path` in the home of `key`, `None` if there is no such file. It takes no lock, so a file that
    /// is being replaced is the old or the new one. Never meant for a file that holds a private key.
    ///
    /// # Errors
    /// `Invalid` if the path leaves the home, is no plain file, or the file is larger than [`READ_BYTES_MAX`]; else any.
    async fn read_file(&self, key: &InstanceKey, path: &str) -> Result<Option<Vec<u8>>> {
        Err(AdapterError::Invalid {
            subject: format!("{path} of {key}"),
            reason: "this adapter cannot read files".into(),
        })
    }

    /// Runs the artifact for a moment in the home of `key` (made if missing) and returns what it printed.
    ///
    /// # Errors
    /// `Unknown` if the connection ended before the answer.
    async fn run(&self, key: &InstanceKey, spec: &RunSpec) -> Result<RunOutput>;

    /// Makes the process of `spec` run: adopts one of the same generation that lives, replaces one of an older
    /// generation, starts it otherwise. It survives the end of this connection.
    ///
    /// # Errors
    /// `Invalid` if an instance of a *newer* generation is there (we are deposed); `Unknown` if no answer came.
    async fn ensure(&self, spec: &InstanceSpec) -> Result<InstanceStatus>;

    /// Returns what is known of `key`, `None` if the host has nothing of it.
    ///
    /// # Errors
    /// Any; nothing was changed.
    async fn look(&self, key: &InstanceKey) -> Result<Option<InstanceStatus>>;

    /// Stops the process of `key`: asks, waits `grace`, then kills. Its files stay. Not running is a success.
    ///
    /// # Errors
    /// `Unknown` if no answer came.
    async fn stop(&self, key: &InstanceKey, grace: Duration) -> Result<()>;

    /// Stops the process of `key` as [`Adapter::stop`] does, for good as far as older orders go: from then on
    /// [`Adapter::ensure`] refuses every generation below `generation`, whoever asks and however late that arrives. Its
    /// files stay. Nothing there is a success, and is fenced too.
    ///
    /// # Errors
    /// `Invalid` if an instance of a *newer* generation is there (we are deposed), or if this adapter cannot fence; nothing
    /// was stopped then. `Unknown` if no answer came.
    async fn fence(&self, key: &InstanceKey, _generation: u64, _grace: Duration) -> Result<()> {
        Err(AdapterError::Invalid {
            subject: key.to_string(),
            reason: "this adapter cannot keep older orders out, so nothing is stopped through it".into(),
        })
    }

    /// Stops the process and deletes its home. Not there is a success.
    ///
    /// # Errors
    /// `Unknown` if no answer came.
    async fn remove(&self, key: &InstanceKey) -> Result<()>;

    /// As [`Adapter::remove`], if nothing newer than `generation` is on the host: what a deposed leader wanted removed is not what
    /// has come there since. An adapter that cannot look and remove in one act fences first.
    ///
    /// # Errors
    /// `Invalid` if something newer is there (we are deposed), nothing was changed; else as [`Adapter::remove`].
    async fn remove_at(&self, key: &InstanceKey, generation: u64) -> Result<()> {
        self.fence(key, generation, Duration::ZERO).await?;
        self.remove(key).await
    }

    /// Returns every plain file of the home of `key`, in order of path; none if there is no home. The instance must be fenced, or
    /// the answer is old when it comes.
    ///
    /// # Errors
    /// `Invalid` if the home holds what cannot be carried, or if this adapter cannot carry; else any. Nothing was changed.
    async fn list_home(&self, key: &InstanceKey) -> Result<Vec<HomeFile>> {
        Err(cannot_carry(key))
    }

    /// Returns the piece of a file of the home of `key` from `offset` on, at most [`PIECE_BYTES_MAX`] bytes; empty at its end. Unlike
    /// [`Adapter::read_file`] this is meant for every file, keys included: what it gives is kept nowhere.
    ///
    /// # Errors
    /// As [`Adapter::list_home`].
    async fn read_piece(&self, key: &InstanceKey, _path: &str, _offset: u64) -> Result<Vec<u8>> {
        Err(cannot_carry(key))
    }

    /// Writes a piece of a file into the home of `key`, which was never started on this host and is fenced at exactly
    /// `generation`. The file is whole, with its mode and durable, once its last piece came.
    ///
    /// # Errors
    /// `Invalid` if it was started here or is fenced at another generation (we are deposed), or if this adapter cannot carry;
    /// `Unknown` if no answer came: the same piece may be written again.
    async fn write_piece(&self, key: &InstanceKey, _generation: u64, _piece: &Piece) -> Result<()> {
        Err(cannot_carry(key))
    }

    /// Looks at a home of others: what is in it, who holds it, and what `program` says of it, in whose arguments `{home}` stands for
    /// the folder. `reads` are files of it whose content is wanted, each at most [`READ_BYTES_MAX`]; never one with a key.
    ///
    /// # Errors
    /// `Invalid` if this adapter cannot; else any. Nothing was changed.
    async fn survey_home(&self, claim: &Claim, _reads: &[String], _program: &RunSpec) -> Result<HomeSeen> {
        Err(cannot_take(&claim.home))
    }

    /// Takes a home of others for `key`: its key's file is set aside under a mark, so that nothing starts there with it any more, then
    /// the process that holds the home is seen to have ended; with `stop` it is asked to first. Taken already is a success.
    ///
    /// # Errors
    /// `Transient` while the process runs: what is set aside stays so. `Invalid` if the home is somebody else's or a newer generation
    /// is there (we are deposed). `Unknown` if no answer came.
    async fn seize_home(
        &self,
        _key: &InstanceKey,
        _generation: u64,
        claim: &Claim,
        _stop: Option<Duration>,
    ) -> Result<()> {
        Err(cannot_take(&claim.home))
    }

    /// Copies a home of others, which is taken for `key` at exactly `generation` and which no process holds, into the home of `key`, and
    /// compares. What is there already is not copied again; the owner's home stays as it is.
    ///
    /// # Errors
    /// `Invalid` if it is not taken so, or `key` was started here already; `Transient` if a process holds it; else any.
    async fn take_home(&self, _key: &InstanceKey, _generation: u64, claim: &Claim) -> Result<()> {
        Err(cannot_take(&claim.home))
    }

    /// Gives a home back to its owner: the process of `key` is stopped and fenced; what its home has become since it was taken, if it was
    /// ever started, goes into the owner's; the key's file gets its name again; then the home of `key` is removed. A home that was
    /// not taken gets a mark that older orders are refused by and is left alone else, and given back is a success. If `key` never ran, whoever
    /// holds the home may go on. `was_started`: the process of `key` is known to have run.
    ///
    /// # Errors
    /// `Invalid` if a newer generation is there (we are deposed), or if what is in ours would be lost or is not whole: nothing of either home
    /// was changed then. Else any: doing it again completes it.
    async fn return_home(&self, _key: &InstanceKey, _generation: u64, claim: &Claim, _was_started: bool) -> Result<()> {
        Err(cannot_take(&claim.home))
    }

    /// Returns everything on the host that belongs to `cluster`, in key order.
    ///
    /// # Errors
    /// Any; nothing was changed.
    async fn list(&self, cluster: &str) -> Result<Vec<InstanceStatus>>;

    /// Returns the last `lines` lines of the log of `key`.
    ///
    /// # Errors
    /// Any; nothing was changed.
    async fn tail(&self, key: &InstanceKey, lines: u32) -> Result<String>;

    /// Returns what `key` uses of the host, `None` if the host has nothing of it or this adapter cannot tell.
    ///
    /// # Errors
    /// Any; nothing was changed.
    async fn usage(&self, _key: &InstanceKey) -> Result<Option<InstanceUsage>> {
        Ok(None)
    }

    /// Returns what the host has left, `None` if this adapter cannot tell.
    ///
    /// # Errors
    /// Any; nothing was changed.
    async fn load(&self) -> Result<Option<HostLoad>> {
        Ok(None)
    }

    /// Returns the certificates that this host was last reached with, and when they end; nothing if there are none.
    async fn expiries(&self) -> Vec<Expiry> {
        Vec::new()
    }

    /// Opens a stream to `port` on the host's loopback.
    ///
    /// # Errors
    /// `Transient` if nothing listens or the host is out of reach.
    async fn dial(&self, port: u16) -> Result<Box<dyn Stream>>;
}

fn cannot_take(home: &str) -> AdapterError {
    AdapterError::Invalid { subject: home.into(), reason: "this adapter cannot take over homes of others".into() }
}

fn cannot_carry(key: &InstanceKey) -> AdapterError {
    AdapterError::Invalid {
        subject: key.to_string(),
        reason: "this adapter cannot carry a home to another host".into(),
    }
}
