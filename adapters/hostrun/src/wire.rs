//! What travels between an adapter and `host-run`: one request, one response, both in a versioned envelope.
//!
//! The program that answers is the very one that the asker uploaded, so the version differs only by a mistake, and a
//! difference is refused. It never carries a command line, only data.

use std::collections::BTreeMap;
use std::time::Duration;

use hanse_adapters_core::preflight::{HostReport, PreflightWish};
use hanse_adapters_core::{
    AdapterError, Claim, FileSpec, HomeFile, HomeSeen, HostFacts, HostLoad, InstanceKey, InstanceSpec, InstanceStatus,
    InstanceUsage, Piece, RunOutput, RunSpec,
};
use serde::{Deserialize, Serialize};

/// Version of the envelope and of everything inside.
pub const WIRE_VERSION: u32 = 1;

/// One request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`WIRE_VERSION`] of the asker.
    pub version: u32,
    /// What to do.
    pub act: Act,
}

impl Request {
    /// Returns `act` in an envelope of today's version.
    pub fn new(act: Act) -> Self {
        Self { version: WIRE_VERSION, act }
    }
}

/// What a host can be asked for. Each is one method of [`hanse_adapters_core::Adapter`] or a part of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Act {
    /// SHA-256 of the answering program's own file.
    HashSelf,
    /// Checks the uploaded file `upload` in the folder of `sha256` and puts it in its place.
    Adopt {
        /// What its content must be.
        sha256: String,
        /// File name: `.upload-` and hex digits.
        upload: String,
    },
    /// Puts the bytes that follow the request's line in the place of `sha256`, if that is their hash. Only over a stream.
    Receive {
        /// What their content must be.
        sha256: String,
        /// How many follow.
        bytes: u64,
    },
    /// Whether the artifact is in its place with the right content.
    HasArtifact {
        /// Which.
        sha256: String,
    },
    /// See [`hanse_adapters_core::Adapter::inspect`].
    Inspect,
    /// What [`hanse_adapters_core::preflight::judge`] judges.
    Preflight {
        /// What the host is wanted for.
        wish: PreflightWish,
    },
    /// See [`hanse_adapters_core::Adapter::put_files`].
    PutFiles {
        /// Whose home.
        key: InstanceKey,
        /// Which files.
        files: Vec<WireFile>,
        /// Refused if something newer is there, see [`hanse_adapters_core::Adapter::put_files_at`]; without it nothing is compared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<u64>,
    },
    /// See [`hanse_adapters_core::Adapter::read_file`].
    ReadFile {
        /// Whose home.
        key: InstanceKey,
        /// Relative to the home.
        path: String,
    },
    /// See [`hanse_adapters_core::Adapter::run`].
    Run {
        /// Whose home.
        key: InstanceKey,
        /// What.
        spec: RunSpec,
    },
    /// See [`hanse_adapters_core::Adapter::ensure`].
    Ensure {
        /// The wish.
        spec: InstanceSpec,
    },
    /// See [`hanse_adapters_core::Adapter::look`].
    Look {
        /// Which.
        key: InstanceKey,
    },
    /// What the process of an instance is to be started with, for hosts that start it by other means than our supervisor.
    /// The home is made if missing.
    Compose {
        /// The wish.
        spec: InstanceSpec,
    },
    /// Puts the answering program itself among the artifacts, if its content is `sha256`.
    KeepSelf {
        /// What its content must be.
        sha256: String,
    },
    /// See [`hanse_adapters_core::Adapter::stop`].
    Stop {
        /// Which.
        key: InstanceKey,
        /// How long to wait before killing.
        grace: Duration,
    },
    /// See [`hanse_adapters_core::Adapter::fence`].
    Fence {
        /// Which.
        key: InstanceKey,
        /// The first generation that may run from now on.
        generation: u64,
        /// How long to wait before killing.
        grace: Duration,
    },
    /// See [`hanse_adapters_core::Adapter::list_home`].
    ListHome {
        /// Whose home.
        key: InstanceKey,
    },
    /// See [`hanse_adapters_core::Adapter::read_piece`].
    ReadPiece {
        /// Whose home.
        key: InstanceKey,
        /// Relative to the home.
        path: String,
        /// Where the piece begins.
        offset: u64,
    },
    /// See [`hanse_adapters_core::Adapter::write_piece`].
    WritePiece {
        /// Whose home.
        key: InstanceKey,
        /// The generation that carries.
        generation: u64,
        /// The piece.
        piece: WirePiece,
    },
    /// See [`hanse_adapters_core::Adapter::survey_home`].
    SurveyHome {
        /// Which.
        claim: Claim,
        /// Files whose content is wanted.
        reads: Vec<String>,
        /// What is asked about the home.
        program: RunSpec,
    },
    /// See [`hanse_adapters_core::Adapter::seize_home`].
    SeizeHome {
        /// For which instance.
        key: InstanceKey,
        /// The generation that takes.
        generation: u64,
        /// Which.
        claim: Claim,
        /// How long the process may take to end once it is asked to; `None` if it is not to be asked.
        stop: Option<Duration>,
    },
    /// See [`hanse_adapters_core::Adapter::take_home`].
    TakeHome {
        /// For which instance.
        key: InstanceKey,
        /// The generation that takes.
        generation: u64,
        /// Which.
        claim: Claim,
    },
    /// See [`hanse_adapters_core::Adapter::return_home`].
    ReturnHome {
        /// From which instance.
        key: InstanceKey,
        /// The generation that gives back.
        generation: u64,
        /// Which.
        claim: Claim,
        /// Whether the instance's process is known to have run.
        was_started: bool,
    },
    /// See [`hanse_adapters_core::Adapter::remove`].
    Remove {
        /// Which.
        key: InstanceKey,
        /// Only if nothing newer is there; see [`hanse_adapters_core::Adapter::remove_at`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upto: Option<u64>,
    },
    /// See [`hanse_adapters_core::Adapter::list`].
    List {
        /// Whose.
        cluster: String,
    },
    /// See [`hanse_adapters_core::Adapter::tail`].
    Tail {
        /// Which.
        key: InstanceKey,
        /// How many lines.
        lines: u32,
    },
    /// See [`hanse_adapters_core::Adapter::usage`].
    Usage {
        /// Of which.
        key: InstanceKey,
    },
    /// See [`hanse_adapters_core::Adapter::load`].
    Load,
}

/// A file on the wire: its content as hex, which JSON carries at twice the size instead of four times.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireFile {
    /// Relative to the home.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content, lower-case hex.
    pub hex: String,
}

/// A piece on the wire, as [`WireFile`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WirePiece {
    /// Relative to the home.
    pub path: String,
    /// Permission bits of the file once it is whole.
    pub mode: u32,
    /// Size of the whole file.
    pub bytes: u64,
    /// Where the piece begins.
    pub offset: u64,
    /// Content, lower-case hex.
    pub hex: String,
}

/// What was seen of a home, with files' content as hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireHome {
    /// All but the content.
    pub seen: HomeSeen,
    /// The content, lower-case hex.
    pub contents: BTreeMap<String, String>,
}

impl From<HomeSeen> for WireHome {
    fn from(mut seen: HomeSeen) -> Self {
        let contents = std::mem::take(&mut seen.contents);
        Self { seen, contents: contents.into_iter().map(|(path, bytes)| (path, hex::encode(bytes))).collect() }
    }
}

impl From<&Piece> for WirePiece {
    fn from(piece: &Piece) -> Self {
        let Piece { path, mode, bytes, offset, content } = piece;
        Self { path: path.clone(), mode: *mode, bytes: *bytes, offset: *offset, hex: hex::encode(content) }
    }
}

impl From<&FileSpec> for WireFile {
    fn from(file: &FileSpec) -> Self {
        Self { path: file.path.clone(), mode: file.mode, hex: hex::encode(&file.content) }
    }
}

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, or nothing was to do.
    Done,
    /// A hash, lower-case hex.
    Sha256(String),
    /// Whether it is there.
    Has(bool),
    /// What the host is.
    Facts(HostFacts),
    /// What was seen before nodes are placed.
    Report(Box<HostReport>),
    /// What a run left.
    Output(RunOutput),
    /// One instance.
    Status(InstanceStatus),
    /// One instance, if the host has it.
    MaybeStatus(Option<InstanceStatus>),
    /// Several instances.
    Statuses(Vec<InstanceStatus>),
    /// Lines of a log.
    Text(String),
    /// A file's content as lower-case hex, if there is such a file.
    Content(Option<String>),
    /// What is in a home.
    Home(Vec<HomeFile>),
    /// What was seen of a home of others.
    HomeSeen(Box<WireHome>),
    /// What an instance uses, if the host has it.
    Usage(Option<InstanceUsage>),
    /// What the host has left.
    Load(HostLoad),
    /// What a process is started with.
    Composed(Composed),
}

/// What a process is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Composed {
    /// Absolute path of the program.
    pub program: String,
    /// Arguments, with the folders filled in.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Absolute path of the home, where it starts.
    pub home: String,
}

/// One response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// [`WIRE_VERSION`] of the answerer.
    pub version: u32,
    /// The answer or the failure.
    pub outcome: Result<Reply, WireError>,
}

impl Response {
    /// Returns the envelope of `result`.
    pub fn from_result(result: Result<Reply, AdapterError>) -> Self {
        Self { version: WIRE_VERSION, outcome: result.map_err(WireError::from) }
    }

    /// Returns the answer.
    ///
    /// # Errors
    /// The host's failure in its class, or `Invalid` if the answer is of another version.
    pub fn into_result(self) -> Result<Reply, AdapterError> {
        if self.version != WIRE_VERSION {
            let reason = format!("answered in version {}, expected {WIRE_VERSION}", self.version);
            return Err(AdapterError::Invalid { subject: "host-run".into(), reason });
        }
        self.outcome.map_err(AdapterError::from)
    }
}

/// An [`AdapterError`] on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// Its class.
    pub class: WireClass,
    /// What failed.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// The class of an [`AdapterError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireClass {
    /// `AdapterError::Transient`.
    Transient,
    /// `AdapterError::Denied`.
    Denied,
    /// `AdapterError::Invalid`.
    Invalid,
    /// `AdapterError::Unknown`.
    Unknown,
}

impl From<AdapterError> for WireError {
    fn from(error: AdapterError) -> Self {
        let (class, subject, reason) = match error {
            AdapterError::Transient { subject, reason } => (WireClass::Transient, subject, reason),
            AdapterError::Denied { subject, reason } => (WireClass::Denied, subject, reason),
            AdapterError::Invalid { subject, reason } => (WireClass::Invalid, subject, reason),
            AdapterError::Unknown { subject, reason } => (WireClass::Unknown, subject, reason),
        };
        Self { class, subject, reason }
    }
}

impl From<WireError> for AdapterError {
    fn from(WireError { class, subject, reason }: WireError) -> Self {
        match class {
            WireClass::Transient => Self::Transient { subject, reason },
            WireClass::Denied => Self::Denied { subject, reason },
            WireClass::Invalid => Self::Invalid { subject, reason },
            WireClass::Unknown => Self::Unknown { subject, reason },
        }
    }
}

/// Defines, for one kind of answer, the method that returns it or says that the host answered something else.
macro_rules! expect_reply {
    ($($(#[$doc:meta])* $name:ident: $variant:ident($value:ty);)*) => {
        impl Reply {
            $($(#[$doc])*
            ///
            /// # Errors
            /// `Invalid` if the host answered something else.
            pub fn $name(self) -> Result<$value, AdapterError> {
                match self {
                    Self::$variant(value) => Ok(value),
                    other => Err(other.unexpected()),
                }
            })*
        }
    };
}

expect_reply! {
    /// Returns the hash.
    sha256: Sha256(String);
    /// Returns whether it is there.
    has: Has(bool);
    /// Returns the facts.
    facts: Facts(HostFacts);
    /// Returns the report.
    report: Report(Box<HostReport>);
    /// Returns the output.
    output: Output(RunOutput);
    /// Returns the status.
    status: Status(InstanceStatus);
    /// Returns the status, if there is one.
    maybe_status: MaybeStatus(Option<InstanceStatus>);
    /// Returns the statuses.
    statuses: Statuses(Vec<InstanceStatus>);
    /// Returns the text.
    text: Text(String);
    /// Returns what is in a home.
    home: Home(Vec<HomeFile>);
    /// Returns what an instance uses.
    usage: Usage(Option<InstanceUsage>);
    /// Returns what the host has left.
    load: Load(HostLoad);
    /// Returns what a process is started with.
    composed: Composed(Composed);
}

impl Reply {
    /// Returns the file's content, if there is such a file.
    ///
    /// # Errors
    /// `Invalid` if the host answered something else.
    pub fn content(self) -> Result<Option<Vec<u8>>, AdapterError> {
        match self {
            Self::Content(None) => Ok(None),
            Self::Content(Some(text)) => hex::decode(&text).map(Some).map_err(|e| AdapterError::Invalid {
                subject: "host-run".into(),
                reason: format!("a file's content is not hex: {e}"),
            }),
            other => Err(other.unexpected()),
        }
    }

    /// Returns what was seen of a home of others.
    ///
    /// # Errors
    /// `Invalid` if the host answered something else.
    pub fn home_seen(self) -> Result<HomeSeen, AdapterError> {
        let Self::HomeSeen(found) = self else { return Err(self.unexpected()) };
        let WireHome { mut seen, contents } = *found;
        for (path, text) in contents {
            let bytes = hex::decode(&text).map_err(|e| AdapterError::Invalid {
                subject: "host-run".into(),
                reason: format!("a file's content is not hex: {e}"),
            })?;
            seen.contents.insert(path, bytes);
        }
        Ok(seen)
    }

    /// Returns nothing, if it was done.
    ///
    /// # Errors
    /// `Invalid` if the host answered something else.
    pub fn done(self) -> Result<(), AdapterError> {
        match self {
            Self::Done => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    fn unexpected(&self) -> AdapterError {
        AdapterError::Invalid { subject: "host-run".into(), reason: format!("answered another question: {self:?}") }
    }
}
