//! The write-ahead log of one height of consensus.
//!
//! One file `data/consensus.wal`: a header record, then one record per input that the core asks to
//! keep (votes, proposals, values, timeouts, certificates). A record is `length u32 | CRC32 u32 |
//! payload`, big endian. [`Log::sync`] runs before any message leaves the node, so that a vote that
//! others may have seen is always found again after kill -9. A torn tail is cut off at open. The
//! file is emptied when a new height starts, after the block before it is in the store.
//!
//! It never interprets payloads and never repairs anything but the tail.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::NodeError;
use crate::keys::sync_parent;
use crate::room::Room;

const MAGIC: &[u8; 5] = b"HWAL\x01";
const FRAME: usize = 8;
/// A record holds at most one proposal with its block.
const RECORD_BYTES_MAX: usize = 32 << 20;

/// What consensus needs of its log.
pub(crate) trait Log: Send {
    /// Empties the log for a new height and syncs it.
    ///
    /// # Errors
    /// The file cannot be written; the node must stop.
    fn reset(&mut self, height: u64) -> Result<(), NodeError>;

    /// Appends a record; it is durable only after [`Log::sync`].
    ///
    /// # Errors
    /// The file cannot be written; the node must stop.
    fn append(&mut self, payload: &[u8]) -> Result<(), NodeError>;

    /// Makes all appended records durable; does nothing if there are none.
    ///
    /// # Errors
    /// The disk refused; the node must stop without sending.
    fn sync(&mut self) -> Result<(), NodeError>;
}

/// The log, open for appending.
pub(crate) struct Wal {
    path: PathBuf,
    file: File,
    /// Where the next record goes.
    end: u64,
    room: Room,
    /// Whether something was appended since the last sync.
    dirty: bool,
}

/// What a log held when it was opened.
pub(crate) struct Recovered {
    /// The height the records belong to; 0 if the file was new or its header torn.
    pub(crate) height: u64,
    /// The payloads in the order of appending.
    pub(crate) records: Vec<Vec<u8>>,
    /// Bytes of a torn tail that were cut off.
    pub(crate) cut_bytes: u64,
}

impl Wal {
    /// Opens or makes the log and returns what it held.
    ///
    /// # Errors
    /// The file cannot be read, or is of another version (then it is untouched).
    pub(crate) fn open(path: &Path) -> Result<(Self, Recovered), NodeError> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(NodeError::io("cannot open", path))?;
        sync_parent(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(NodeError::io("cannot read", path))?;
        let (mut records, good) = read_records(&bytes);
        let height = if records.is_empty() { 0 } else { read_header(&records.remove(0))? };
        let cut_bytes = bytes.len() as u64 - good;
        if cut_bytes > 0 {
            file.set_len(good).map_err(NodeError::io("cannot cut", path))?;
            file.sync_all().map_err(NodeError::io("cannot sync", path))?;
        }
        let wal = Self { path: path.to_owned(), file, end: good, room: Room::default(), dirty: false };
        Ok((wal, Recovered { height, records, cut_bytes }))
    }

    /// Writes wait for this room from now on.
    pub(crate) fn wait_for(&mut self, room: Room) {
        self.room = room;
    }
}

impl Log for Wal {
    fn reset(&mut self, height: u64) -> Result<(), NodeError> {
        self.file.set_len(0).map_err(NodeError::io("cannot empty", &self.path))?;
        self.end = 0;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&height.to_be_bytes());
        self.append(&header)?;
        self.sync()
    }

    fn append(&mut self, payload: &[u8]) -> Result<(), NodeError> {
        let too_large = || std::io::Error::other("a record is too large");
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|n| *n as usize <= RECORD_BYTES_MAX)
            .ok_or_else(too_large)
            .map_err(NodeError::io("cannot append to", &self.path))?;
        let mut frame = Vec::with_capacity(FRAME + payload.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
        frame.extend_from_slice(payload);
        self.dirty = true;
        // At a fixed place, so that a record of which a part was written is written again whole.
        let write = || self.file.write_all_at(&frame, self.end);
        self.room.insist(write).map_err(NodeError::io("cannot append to", &self.path))?;
        self.end += frame.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), NodeError> {
        if self.dirty {
            self.file.sync_data().map_err(NodeError::io("cannot sync", &self.path))?;
            self.dirty = false;
        }
        Ok(())
    }
}

/// The whole records and the offset behind the last of them.
fn read_records(bytes: &[u8]) -> (Vec<Vec<u8>>, u64) {
    let mut records = Vec::new();
    let mut at = 0usize;
    while let Some(frame) = bytes.get(at..at + FRAME) {
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        let crc = u32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        if length > RECORD_BYTES_MAX {
            break;
        }
        let Some(payload) = bytes.get(at + FRAME..at + FRAME + length) else { break };
        if crc32fast::hash(payload) != crc {
            break;
        }
        records.push(payload.to_vec());
        at += FRAME + length;
    }
    (records, at as u64)
}

fn read_header(record: &[u8]) -> Result<u64, NodeError> {
    let height = record.strip_prefix(MAGIC).and_then(|rest| <[u8; 8]>::try_from(rest).ok());
    height.map(u64::from_be_bytes).ok_or(NodeError::Corrupt {
        what: "the consensus log",
        reason: "its first record is no header of version 1".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn filled(path: &Path) -> u64 {
        let (mut wal, empty) = Wal::open(path).unwrap();
        assert_eq!((empty.height, empty.records.len()), (0, 0));
        wal.reset(7).unwrap();
        wal.append(b"one").unwrap();
        wal.append(b"two").unwrap();
        wal.sync().unwrap();
        std::fs::metadata(path).unwrap().len()
    }

    #[test]
    fn any_torn_tail_is_cut_and_the_rest_survives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        let whole = filled(&path);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 1..=(FRAME as u64 + 3) {
            std::fs::write(&path, &bytes[..(whole - cut) as usize]).unwrap();
            let (mut wal, recovered) = Wal::open(&path).unwrap();
            assert_eq!(recovered.height, 7);
            assert_eq!(recovered.records, vec![b"one".to_vec()], "cut of {cut}");
            // What is appended after the cut is readable again.
            wal.append(b"new").unwrap();
            wal.sync().unwrap();
            drop(wal);
            let (_, again) = Wal::open(&path).unwrap();
            assert_eq!(again.records, vec![b"one".to_vec(), b"new".to_vec()]);
            assert_eq!(again.cut_bytes, 0);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_log_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        filled(&path);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (_, recovered) = Wal::open(&path).unwrap();
        assert_eq!(recovered.records, vec![b"one".to_vec()]);
        assert_eq!(recovered.cut_bytes, FRAME as u64 + 3);
    }

    #[test]
    fn reset_forgets_the_height_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        filled(&path);
        let (mut wal, before) = Wal::open(&path).unwrap();
        assert_eq!(before.height, 7);
        wal.reset(8).unwrap();
        drop(wal);
        let (_, recovered) = Wal::open(&path).unwrap();
        assert_eq!((recovered.height, recovered.records.len()), (8, 0));
    }
}
