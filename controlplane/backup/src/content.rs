//! What is in a backup: a head, the whole state, history by kind and number, an end.
//!
//! Each item is `kind (1) · length (4, big end first) · body`. The order is fixed: one head, parts of the encoded state,
//! records kind by kind in order of name and number, one end with the SHA-256 of all before it, so that what a network
//! lost is found before the file is sealed. Head and end are MessagePack with named fields; state and records are
//! `hanse_state`'s own versioned encodings, untouched.

use std::collections::BTreeMap;

use hanse_state::codec::encode_record;
use hanse_state::ids::{BackupId, ClusterId, IncarnationId};
use hanse_state::{Digest, Millis, Record};
use serde::{Deserialize, Serialize};

use crate::BackupError;

/// Version of the content that this build writes and reads.
pub const FORMAT: u16 = 1;
/// Longest body of an item; a log entry and so a record is at most a few megabytes.
const ITEM_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Length of one part of the state.
const PART_BYTES: usize = 512 * 1024;
/// Length of kind and length.
const FRAME_BYTES: usize = 5;

/// Which records of one kind a backup holds: those after `after` up to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Number of the last record that it does not hold; 0 if it holds them all.
    pub after: u64,
    /// Number of the last record it holds.
    pub last: u64,
}

/// The backup that an incremental one continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its id.
    pub backup: BackupId,
    /// Its revision.
    pub revision: u64,
    /// Hash of its last audit record.
    pub audit: Digest,
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Format of the content, [`FORMAT`].
    pub format: u16,
    /// Its id.
    pub backup: BackupId,
    /// What it continues; `None` if it is whole.
    pub base: Option<Base>,
    /// The platform.
    pub cluster: ClusterId,
    /// Name of the cluster.
    pub cluster_name: String,
    /// Which life of the platform; `None` in the first.
    pub incarnation: Option<IncarnationId>,
    /// Revision of the state.
    pub revision: u64,
    /// Log time of the state.
    pub at: Millis,
    /// Rolling digest of the state.
    pub digest: Digest,
    /// Hash of the last audit record.
    pub audit: Digest,
    /// Length of the encoded state in bytes.
    pub state_bytes: u64,
    /// SHA-256 of the encoded state.
    pub state_sha256: Digest,
    /// Records by kind.
    pub history: BTreeMap<String, Span>,
    /// Version of the program that made it.
    pub made_by: String,
}

impl Head {
    /// What the next incremental backup continues.
    #[must_use]
    pub fn as_base(&self) -> Base {
        Base { backup: self.backup, revision: self.revision, audit: self.audit }
    }
}

/// The last item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How many records there are.
    pub records: u64,
    /// SHA-256 of every item before.
    pub sha256: Digest,
}

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// The first.
    Head(Box<Head>),
    /// A part of the encoded state.
    State(Vec<u8>),
    /// A record of history.
    Record(Box<Record>),
    /// The last.
    End(End),
}

const HEAD: u8 = b'H';
const STATE: u8 = b'S';
const RECORD: u8 = b'R';
const END: u8 = b'E';

/// Makes content; every call gives the bytes that come next.
#[derive(Default)]
pub struct Content {
    hash: Option<ring::digest::Context>,
    records: u64,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} records)", self.records)
    }
}

impl Content {
    /// Gives the bytes of the head; called first.
    pub fn head(&mut self, head: &Head) -> Vec<u8> {
        self.item(HEAD, &named(head))
    }

    /// Gives the bytes of the encoded state, in pieces well below a megabyte; called second.
    pub fn state(&mut self, state: &[u8]) -> Vec<Vec<u8>> {
        state.chunks(PART_BYTES).map(|part| self.item(STATE, part)).collect()
    }

    /// Gives the bytes of the next record.
    pub fn record(&mut self, record: &Record) -> Vec<u8> {
        self.records += 1;
        self.item(RECORD, &encode_record(record))
    }

    /// Gives the last bytes.
    #[must_use]
    pub fn end(mut self) -> Vec<u8> {
        let end = End { records: self.records, sha256: finish(self.hash.take()) };
        self.item(END, &named(&end))
    }

    fn item(&mut self, kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("an item is far below 4 GiB");
        let mut bytes = Vec::with_capacity(FRAME_BYTES + body.len());
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(body);
        self.hash.get_or_insert_with(sha256).update(&bytes);
        bytes
    }
}

fn sha256() -> ring::digest::Context {
    ring::digest::Context::new(&ring::digest::SHA256)
}

fn finish(hash: Option<ring::digest::Context>) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(hash.unwrap_or_else(sha256).finish().as_ref());
    Digest(out)
}

fn named<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("plain structs of numbers, text and bytes always encode")
}

/// Takes content apart again, however it was cut.
#[derive(Default)]
pub struct Parser {
    buffer: Vec<u8>,
    read: usize,
    hash: Option<ring::digest::Context>,
    records: u64,
    ended: bool,
}

impl Parser {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Gives the next whole item; `None` until more bytes come.
    ///
    /// # Errors
    /// [`BackupError::Content`], [`BackupError::Version`].
    pub fn next_item(&mut self) -> Result<Option<Item>, BackupError> {
        let rest = &self.buffer[self.read..];
        let Some((frame, body)) = rest.split_first_chunk::<FRAME_BYTES>() else { return Ok(None) };
        let [kind, l0, l1, l2, l3] = *frame;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > ITEM_BYTES_MAX {
            return Err(BackupError::content("an item longer than any"));
        }
        let Some(body) = body.get(..length) else { return Ok(None) };
        if self.ended {
            return Err(BackupError::content("something follows the end"));
        }
        let item = match kind {
            HEAD => Item::Head(Box::new(parse_head(body)?)),
            STATE => Item::State(body.to_vec()),
            RECORD => {
                self.records += 1;
                let record = hanse_state::codec::decode_record(body);
                Item::Record(Box::new(record.map_err(|e| BackupError::content(e.to_string()))?))
            }
            END => {
                let end: End = rmp_serde::from_slice(body).map_err(|e| BackupError::content(e.to_string()))?;
                if (end.records, end.sha256) != (self.records, finish(self.hash.take())) {
                    return Err(BackupError::content("what came is not what was sent"));
                }
                self.ended = true;
                Item::End(end)
            }
            other => return Err(BackupError::content(format!("an item of unknown kind {other}"))),
        };
        let whole = FRAME_BYTES + length;
        self.hash.get_or_insert_with(sha256).update(&self.buffer[self.read..self.read + whole]);
        self.read += whole;
        Ok(Some(item))
    }

    /// Checks that the content ended with its end.
    ///
    /// # Errors
    /// [`BackupError::Content`] if something is missing or left over.
    pub fn finish(self) -> Result<(), BackupError> {
        match self.ended && self.read == self.buffer.len() {
            true => Ok(()),
            false => Err(BackupError::content("it breaks off before its end, or something follows it")),
        }
    }
}

fn parse_head(body: &[u8]) -> Result<Head, BackupError> {
    /// The part of every version's head that says which version it is.
    #[derive(Deserialize)]
    struct Any {
        format: u16,
    }
    let any: Any = rmp_serde::from_slice(body).map_err(|e| BackupError::content(e.to_string()))?;
    if any.format != FORMAT {
        return Err(BackupError::Version { found: any.format, known: FORMAT });
    }
    rmp_serde::from_slice(body).map_err(|e| BackupError::content(e.to_string()))
}
