//! Where things are on a host, how they are written durably, and the lock of an instance.
//!
//! Every path is made here from parts that were validated (`InstanceKey`, a hash), so that no other file joins strings
//! into paths. It never follows input outside the root.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hanse_adapters_core::{AdapterError, InstanceKey};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How often the lock is taken anew because the folder was removed meanwhile, before giving up.
const LOCK_TRIES: u32 = 64;

/// Where things are under one root.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// The folder of one instance.
#[derive(Clone, Debug)]
pub(crate) struct InstanceDir {
    pub(crate) key: InstanceKey,
    pub(crate) path: PathBuf,
}

/// Held while one request works on one instance; the kernel frees it when the process dies.
#[derive(Debug)]
pub(crate) struct InstanceLock {
    _file: File,
}

impl Layout {
    /// Returns the layout under `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of an artifact's content; `sha256` must be valid (see [`crate::valid_sha256`]).
    pub fn artifact_dir(&self, sha256: &str) -> PathBuf {
        self.root.join("artifacts").join(sha256)
    }

    /// The artifact's program.
    pub fn artifact(&self, sha256: &str) -> PathBuf {
        self.artifact_dir(sha256).join("hanse")
    }

    pub(crate) fn cluster_dir(&self, cluster: &str) -> PathBuf {
        self.root.join("instances").join(cluster)
    }

    /// The folder of `key`, checked again because a key from the wire did not come through its constructor.
    pub(crate) fn instance(&self, key: &InstanceKey) -> Result<InstanceDir, AdapterError> {
        let key = InstanceKey::new(key.cluster(), key.object()).ok_or_else(|| invalid(key, "is not a valid name"))?;
        let path = absolute(&self.cluster_dir(key.cluster()).join(key.object()))?;
        Ok(InstanceDir { key, path })
    }
}

impl InstanceDir {
    pub(crate) fn home(&self) -> PathBuf {
        self.path.join("home")
    }
    pub(crate) fn spec(&self) -> PathBuf {
        self.path.join("spec.json")
    }
    pub(crate) fn status(&self) -> PathBuf {
        self.path.join("status.json")
    }
    pub(crate) fn fence(&self) -> PathBuf {
        self.path.join("fence.json")
    }
    pub(crate) fn written(&self) -> PathBuf {
        self.path.join("written.json")
    }
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    pub(crate) fn make_home(&self) -> Result<PathBuf, AdapterError> {
        let home = self.home();
        make_dir(&home)?;
        Ok(home)
    }

    /// Takes the lock, making the folder. Waits for another request on the same instance, which is always bounded.
    pub(crate) fn lock(&self) -> Result<InstanceLock, AdapterError> {
        for _ in 0..LOCK_TRIES {
            make_dir(&self.path)?;
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
        }
        Err(AdapterError::Transient { subject: self.key.to_string(), reason: "is being removed all the time".into() })
    }

    /// Takes the lock only if the folder is there.
    pub(crate) fn lock_existing(&self) -> Result<Option<InstanceLock>, AdapterError> {
        for _ in 0..LOCK_TRIES {
            if !self.exists() {
                return Ok(None);
            }
            if let Some(lock) = self.try_lock()? {
                return Ok(Some(lock));
            }
        }
        Err(AdapterError::Transient { subject: self.key.to_string(), reason: "is being removed all the time".into() })
    }

    /// `None` if the folder went away between opening the file and getting the lock.
    fn try_lock(&self) -> Result<Option<InstanceLock>, AdapterError> {
        let path = self.path.join("lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error(&path.display().to_string(), &e)),
        };
        flock(&file, FlockOperation::LockExclusive).map_err(|e| io_error("lock", &e.into()))?;
        let same = match (file.metadata(), fs::metadata(&path)) {
            (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
            _ => false,
        };
        Ok(same.then_some(InstanceLock { _file: file }))
    }
}

/// Returns the error of a file operation in the class that says what to do next.
pub(crate) fn io_error(subject: &str, error: &io::Error) -> AdapterError {
    let subject = subject.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            AdapterError::Denied { subject, reason: format!("{error}: give the account of this root access to it") }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            AdapterError::Transient { subject, reason: format!("{error}: free space on the host") }
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            AdapterError::Denied { subject, reason: format!("{error}: choose a root on a writable file system") }
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => {
            AdapterError::Invalid { subject, reason: error.to_string() }
        }
        _ => AdapterError::Transient { subject, reason: error.to_string() },
    }
}

/// Returns `Invalid` about `subject`.
pub(crate) fn invalid(subject: impl std::fmt::Display, reason: impl Into<String>) -> AdapterError {
    AdapterError::Invalid { subject: subject.to_string(), reason: reason.into() }
}

/// Makes `path` and its parents, readable by the owner only.
pub(crate) fn make_dir(path: &Path) -> Result<(), AdapterError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| io_error(&path.display().to_string(), &e))
}

/// Replaces `path` by the JSON of `value`: after a power cut it is the old or the new one, whole.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temp = path.with_extension("json.new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temp)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    sync_parent(path)
}

/// Reads the JSON in `path`, `None` if there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AdapterError> {
    let subject = || path.display().to_string();
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|e| invalid(subject(), format!("unreadable: {e}")))
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(io_error(&subject(), &e)),
    }
}

/// Makes the renames in the folder of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// A process is started with absolute paths, whatever the root was given as.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, AdapterError> {
    std::path::absolute(path).map_err(|e| io_error(&path.display().to_string(), &e))
}
