//! Looking into the folder of a stopped replica: its log, its snapshots, the state they make.
//!
//! Every file is opened for reading only, and the folder's lock is held meanwhile, so that no replica starts on it. The log
//! is checked as at a start, but nothing is mended. The state is made anew in memory from the newest sound snapshot and
//! the committed entries after it; history (the store) is not opened, because sled cannot be without writing.
//!
//! What this never does: write, or give out what a request holds: only its name, who asked, and its id.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hanse_state::State;
use rustix::fs::{FlockOperation, flock};

use crate::batch;
use crate::codec::{EntryV1, LogIdV1, PayloadV1};
use crate::error::StoreError;
use crate::snapshot::{self, Snapshot};
use crate::wal::{self, Disk, DiskFile, Looked};

/// What a request in the log says of itself, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestView {
    /// Name of the command.
    pub command: &'static str,
    /// Who asked.
    pub actor: String,
    /// Its id.
    pub id: String,
    /// When the leader took it, in milliseconds since 1970.
    pub at_ms: u64,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryView {
    /// Its index.
    pub index: u64,
    /// Term of the leader that made it.
    pub term: u64,
    /// That leader.
    pub leader: u64,
    /// Bytes of what it carries.
    pub bytes: usize,
    /// What it carries.
    pub content: ContentView,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentView {
    /// Nothing: a leader began its term.
    Blank,
    /// Who the members are: the voters of each half, and all by id with their peer address.
    Membership {
        /// One list, or two while the voters are being changed.
        voters: Vec<Vec<u64>>,
        /// All members.
        members: Vec<(u64, String)>,
    },
    /// Requests.
    Requests(Vec<RequestView>),
    /// A request that this program cannot read, and why.
    Unknown(String),
}

/// How far the log reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogView {
    /// Entries up to this one are gone.
    pub purged: Option<u64>,
    /// The last entry.
    pub last: Option<u64>,
    /// What the log knows to be on a majority.
    pub committed: Option<u64>,
    /// The vote: term, for whom, and whether that one leads.
    pub vote: Option<(u64, u64, bool)>,
    /// Files in use.
    pub segments: usize,
}

/// One snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotView {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What it holds, or why it cannot be read.
    pub content: Result<SnapshotContent, String>,
}

/// What a sound snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotContent {
    /// Last entry it covers.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Bytes of the state in it.
    pub state_bytes: usize,
    /// Revision of the state.
    pub revision: u64,
    /// Digest of the state, hex.
    pub digest: String,
    /// Last record of each kind of history that belongs to it.
    pub heads: BTreeMap<String, u64>,
}

/// The state that the folder makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateView {
    /// Entry of the snapshot it begins with.
    pub snapshot: Option<u64>,
    /// Last entry applied to it: the last one known to be committed.
    pub applied: Option<u64>,
    /// Its revision.
    pub revision: u64,
    /// Its digest, hex.
    pub digest: String,
}

/// A stopped replica's folder, held while this lives.
#[derive(Debug)]
pub struct Inspector {
    data_dir: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl Inspector {
    /// Takes hold of the folder that holds `store`, `wal` and `snapshots`.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if a replica runs on it, [`StoreError::Io`] if it is none.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let dir = data_dir.join("store");
        let path = dir.join("db");
        let file = File::open(&path).map_err(|e| StoreError::io(format!("open {}", path.display()), e))?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Self { data_dir: data_dir.to_owned(), _lock: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Busy { dir }),
            Err(error) => Err(StoreError::io(format!("lock {}", path.display()), error.into())),
        }
    }

    /// Says how far the log reaches, after reading all of it.
    ///
    /// # Errors
    /// [`StoreError::Lost`] where a start would find the same.
    pub fn log(&self) -> Result<LogView, StoreError> {
        let (_, looked) = self.look()?;
        Ok(LogView {
            purged: looked.purged.map(|id| id.index),
            last: looked.last.map(|id| id.index),
            committed: looked.committed.map(|id| id.index),
            vote: looked.vote.map(|vote| (vote.term, vote.replica, vote.committed)),
            segments: looked.segments,
        })
    }

    /// Gives up to `limit` entries from `from` on.
    ///
    /// # Errors
    /// As [`Inspector::log`].
    pub fn entries(&self, from: u64, limit: usize) -> Result<Vec<EntryView>, StoreError> {
        let (disk, looked) = self.look()?;
        looked.entries(disk.as_ref(), from, limit, |entry| Ok(view(entry)))
    }

    /// Gives the snapshots, newest first.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the folder cannot be read; a damaged file is told in its place.
    pub fn snapshots(&self) -> Result<Vec<SnapshotView>, StoreError> {
        let mut found = Vec::new();
        for path in self.snapshot_files()? {
            let bytes = std::fs::read(&path).map_err(|e| StoreError::io(format!("read {}", path.display()), e))?;
            let content = snapshot::decode(&bytes).map_err(|e| e.to_string()).and_then(|it| content(&it));
            found.push(SnapshotView { path, bytes: bytes.len() as u64, content });
        }
        Ok(found)
    }

    /// Makes the state of the newest sound snapshot and the committed entries after it.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if snapshot and log do not meet, or an entry cannot be applied.
    pub fn state(&self) -> Result<StateView, StoreError> {
        let (disk, looked) = self.look()?;
        let (mut state, mut snapshot) = (State::default(), None);
        for path in self.snapshot_files()? {
            let bytes = std::fs::read(&path).map_err(|e| StoreError::io(format!("read {}", path.display()), e))?;
            if let Ok(found) = snapshot::decode(&bytes) {
                let made = hanse_state::codec::decode_state(&found.state);
                state = made.map_err(StoreError::unread_state("snapshot"))?;
                snapshot = found.meta.last_log_id.map(|id| id.index);
                break;
            }
        }
        let purged = looked.purged.map(|id| id.index);
        if purged > snapshot {
            let why = format!("the log is purged up to {purged:?}, the newest sound snapshot covers {snapshot:?}");
            return Err(StoreError::lost("snapshot", why));
        }
        let from = snapshot.map_or(0, |index| index + 1);
        let committed = looked.committed.map(|id| id.index);
        let mut applied = snapshot;
        if let Some(committed) = committed.filter(|index| *index >= from) {
            let count = usize::try_from(committed - from + 1).unwrap_or(usize::MAX);
            let step = |entry: &EntryV1| {
                if let PayloadV1::Request(bytes) = &entry.payload {
                    apply(&mut state, entry.id.index, bytes)?;
                }
                applied = Some(entry.id.index);
                Ok(())
            };
            looked.entries(disk.as_ref(), from, count, step)?;
        }
        Ok(StateView { snapshot, applied, revision: state.revision, digest: state.digest().to_string() })
    }

    fn look(&self) -> Result<(Arc<dyn Disk>, Looked), StoreError> {
        let disk: Arc<dyn Disk> = Arc::new(ReadFolder(self.data_dir.join(crate::inside::LOG_DIR)));
        let looked = wal::look(&disk)?;
        Ok((disk, looked))
    }

    fn snapshot_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let dir = self.data_dir.join("snapshots");
        let step = || {
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(&dir)? {
                paths.push(entry?.path());
            }
            paths.retain(|path| path.extension().is_some_and(|e| e == "snapshot"));
            paths.sort_by(|a, b| b.cmp(a));
            Ok(paths)
        };
        step().map_err(|e| StoreError::io(format!("list {}", dir.display()), e))
    }
}

/// Applies what an entry carries, as the machine does.
fn apply(state: &mut State, index: u64, bytes: &[u8]) -> Result<(), StoreError> {
    let lost = |why: String| StoreError::lost(format!("log entry {index}"), why);
    for bytes in batch::split(bytes).map_err(lost)? {
        let request = hanse_state::codec::decode_request(bytes).map_err(|e| lost(e.to_string()))?;
        let revision = batch::revision(index, state);
        if let Some(divergence) = hanse_state::apply(state, revision, &request).diverged {
            return Err(lost(format!("{divergence:?}")));
        }
    }
    Ok(())
}

fn content(found: &Snapshot) -> Result<SnapshotContent, String> {
    let state = hanse_state::codec::decode_state(&found.state).map_err(|e| e.to_string())?;
    let last = found.meta.last_log_id.map(LogIdV1::from);
    Ok(SnapshotContent {
        index: last.map_or(0, |id| id.index),
        term: last.map_or(0, |id| id.term),
        state_bytes: found.state.len(),
        revision: state.revision,
        digest: state.digest().to_string(),
        heads: found.heads.clone(),
    })
}

fn view(entry: &EntryV1) -> EntryView {
    let (bytes, content) = match &entry.payload {
        PayloadV1::Blank => (0, ContentView::Blank),
        PayloadV1::Membership(membership) => {
            let members = membership.members.iter().map(|it| (it.id, it.peer_address.clone())).collect();
            (0, ContentView::Membership { voters: membership.voters.clone(), members })
        }
        PayloadV1::Request(bytes) => (bytes.len(), requests(bytes)),
    };
    EntryView { index: entry.id.index, term: entry.id.term, leader: entry.id.leader, bytes, content }
}

fn requests(bytes: &[u8]) -> ContentView {
    let view = |bytes: &[u8]| {
        let request = hanse_state::codec::decode_request(bytes).map_err(|e| e.to_string())?;
        Ok(RequestView {
            command: request.command.name(),
            actor: request.actor.to_string(),
            id: request.id.to_string(),
            at_ms: request.at.0,
        })
    };
    let views = batch::split(bytes).and_then(|requests| requests.into_iter().map(view).collect());
    views.map_or_else(ContentView::Unknown, ContentView::Requests)
}

/// A folder in which nothing can be changed.
struct ReadFolder(PathBuf);

fn refused<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
}

impl Disk for ReadFolder {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(ReadFile(File::open(self.0.join(name))?)))
    }

    fn create(&self, _name: &str) -> io::Result<Arc<dyn DiskFile>> {
        refused()
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }
}

struct ReadFile(File);

impl DiskFile for ReadFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }
}
