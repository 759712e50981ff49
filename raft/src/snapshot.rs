//! Snapshot files: the whole state at one entry, so that the log before it can go.
//!
//! `HNSN · version · header length · header · state · CRC-32`. The header (MessagePack) says which entry it covers, the
//! membership, the last history record of each kind, and the length of the state. A file appears by rename after fsync,
//! and only when the history up to it is durable. The two newest are kept: if the newest is damaged the one before may
//! still meet the log. History is not in the file: it lies in the store, and a replica that lacks some is sent it with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, SnapshotMetaV1};
use crate::error::StoreError;
use crate::types::SnapshotMeta;

const MAGIC: &[u8; 4] = b"HNSN";
/// Snapshots kept on disk.
const KEEP: usize = 2;

/// What openraft hands around as a snapshot: a file on disk.
#[derive(Debug)]
pub struct SnapshotFiles {
    /// The snapshot file.
    pub(crate) state: PathBuf,
    /// Whether the file came from another replica, and goes when it has served.
    pub(crate) incoming: bool,
}

/// Last sequence number of each kind of history.
pub(crate) type Heads = BTreeMap<String, u64>;

/// What a snapshot file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HeaderV1 {
    meta: SnapshotMetaV1,
    heads: BTreeMap<String, u64>,
    state_bytes: u64,
}

/// A snapshot read from disk and checked.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) heads: Heads,
    pub(crate) state: Vec<u8>,
}

/// Gives the bytes of a snapshot file.
pub(crate) fn encode(meta: &SnapshotMeta, heads: &Heads, state: &[u8]) -> Vec<u8> {
    let header = HeaderV1 { meta: meta.into(), heads: heads.clone(), state_bytes: state.len() as u64 };
    let header = rmp_serde::to_vec_named(&header).expect("plain structs of integers and strings always encode");
    let header_length = u32::try_from(header.len()).expect("a header names a few members and kinds");
    let mut bytes = Vec::with_capacity(13 + header.len() + state.len());
    bytes.extend_from_slice(MAGIC);
    bytes.push(codec::VERSION);
    bytes.extend_from_slice(&header_length.to_be_bytes());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(state);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// Reads and checks the bytes of a snapshot file.
pub(crate) fn decode(bytes: &[u8]) -> Result<Snapshot, CodecError> {
    let Some((content, stored)) = bytes.split_last_chunk::<4>() else { return Err(CodecError::Truncated(bytes.len())) };
    let stored = u32::from_be_bytes(*stored);
    let computed = crc32fast::hash(content);
    if stored != computed {
        return Err(CodecError::Checksum { stored, computed });
    }
    let Some((head, rest)) = content.split_first_chunk::<9>() else { return Err(CodecError::Truncated(bytes.len())) };
    let [m0, m1, m2, m3, version, l0, l1, l2, l3] = *head;
    if [m0, m1, m2, m3] != *MAGIC {
        return Err(CodecError::Body("no snapshot".into()));
    }
    if version != codec::VERSION {
        return Err(CodecError::Version(version));
    }
    let header_length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let Some((header, state)) = rest.split_at_checked(header_length) else {
        return Err(CodecError::Truncated(bytes.len()));
    };
    let header: HeaderV1 = rmp_serde::from_slice(header).map_err(|e| CodecError::Body(e.to_string()))?;
    if header.state_bytes != state.len() as u64 {
        return Err(CodecError::Truncated(bytes.len()));
    }
    Ok(Snapshot { meta: header.meta.try_into()?, heads: header.heads, state: state.to_vec() })
}

/// The folder of snapshots.
#[derive(Debug)]
pub(crate) struct SnapshotDir {
    dir: PathBuf,
    incoming: AtomicU64,
}

impl SnapshotDir {
    /// Opens the folder and removes what was left half-done.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let dir = data_dir.join("snapshots");
        let step = || {
            fs::create_dir_all(&dir)?;
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                if path.extension().is_none_or(|e| e != "snapshot") {
                    fs::remove_file(path)?;
                }
            }
            File::open(data_dir)?.sync_all()
        };
        step().map_err(|e| StoreError::io("open the snapshots", e))?;
        Ok(Self { dir, incoming: AtomicU64::new(0) })
    }

    /// Gives the files, newest first (their names sort by index, then term).
    pub(crate) fn list(&self) -> Result<Vec<PathBuf>, StoreError> {
        let step = || {
            let entries = fs::read_dir(&self.dir)?.collect::<Result<Vec<_>, _>>()?;
            let mut paths: Vec<_> = entries.into_iter().map(|e| e.path()).collect();
            paths.retain(|p| p.extension().is_some_and(|e| e == "snapshot"));
            paths.sort_by(|a, b| b.cmp(a));
            Ok(paths)
        };
        step().map_err(|e| StoreError::io("list the snapshots", e))
    }

    /// Reads one file.
    pub(crate) fn load(path: &Path) -> Result<Snapshot, StoreError> {
        let bytes = fs::read(path).map_err(|e| StoreError::io(format!("read {}", path.display()), e))?;
        decode(&bytes).map_err(StoreError::unreadable(format!("snapshot {}", path.display())))
    }

    /// Writes a snapshot; it is durable when this returns. Gives its file.
    pub(crate) fn save(&self, meta: &SnapshotMeta, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        let (index, term) = meta.last_log_id.map_or((0, 0), |id| (id.index, id.leader_id.term));
        let path = self.dir.join(format!("{index:020}-{term:020}.snapshot"));
        let temporary = self.incoming_path("new");
        let step = || {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        step().map_err(|e| {
            // What is there of it would take the very room that may be missing; it may not be there at all.
            let _ = fs::remove_file(&temporary);
            StoreError::io("write a snapshot", e)
        })?;
        for old in self.list()?.into_iter().skip(KEEP) {
            fs::remove_file(&old).map_err(|e| StoreError::io("remove an old snapshot", e))?;
        }
        Ok(path)
    }

    /// Gives a new name for a file on its way in; such files are removed at the next start.
    pub(crate) fn incoming_path(&self, extension: &str) -> PathBuf {
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("incoming-{number}.{extension}"))
    }
}
