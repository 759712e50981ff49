//! One record of the log, as bytes.
//!
//! `length u32 · version u8 · kind u8 · zero u16 · lsn u64 · synced u64 · previous CRC u32 · CRC-32 · body · padding to 8`,
//! numbers big-endian. The LSN counts records from 1 without a hole over all segments. `synced` is the LSN that was
//! durable when this record was made: whoever finds this record knows that everything up to there was acknowledged. The
//! CRC covers everything else, and also the log's id and the segment's number, which are not written: so a record of
//! another log, or what an earlier use left in a file, is never taken for one of here. The previous record's CRC chains
//! each record to everything before it.

use serde::{Deserialize, Serialize};

use crate::codec::{CodecError, LogIdV1, VoteV1};

/// Version of the frame.
const VERSION: u8 = 1;
/// Bytes before the body.
pub(super) const HEAD_BYTES: usize = 32;
/// Every record begins at a multiple of this.
pub(super) const ALIGN: usize = 8;
/// Where the CRC lies.
const CRC_AT: usize = 28;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// First of each segment: [`HeaderV1`].
    Header = 1,
    /// One entry: `EntryV1`.
    Entry = 2,
    /// The vote: [`VoteV1`].
    Vote = 3,
    /// Entries after this one are gone: `Option<LogIdV1>`.
    Truncate = 4,
    /// Entries up to this one are gone: [`LogIdV1`].
    Purge = 5,
    /// Last of a full segment, the next one goes on: empty.
    Seal = 6,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Header, Self::Entry, Self::Vote, Self::Truncate, Self::Purge, Self::Seal]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What a segment knows of all before it, so that those can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeaderV1 {
    /// Id of the log, drawn when it was made.
    pub(crate) log: u64,
    /// Number of this segment, from 1.
    pub(crate) segment: u64,
    /// Length of its file.
    pub(crate) bytes: u64,
    /// Entries up to this one were purged.
    pub(crate) purged: Option<LogIdV1>,
    /// Last entry.
    pub(crate) last: Option<LogIdV1>,
    /// Vote.
    pub(crate) vote: Option<VoteV1>,
}

/// What the CRC covers beyond the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt {
    /// Id of the log.
    pub(crate) log: u64,
    /// Number of the segment.
    pub(crate) segment: u64,
}

/// The numbers of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its LSN.
    pub(crate) lsn: u64,
    /// LSN that was durable before it.
    pub(crate) synced: u64,
    /// CRC of the record before.
    pub(crate) previous: u32,
}

/// A record that was read and whose CRC is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    pub(crate) crc: u32,
    pub(crate) body: &'a [u8],
    /// Bytes it takes in the file.
    pub(crate) bytes: usize,
}

/// Gives the bytes a record with a body of this length takes.
pub(super) fn frame_bytes(body: usize) -> usize {
    HEAD_BYTES + body.next_multiple_of(ALIGN)
}

/// The header says the log's id, so its own CRC cannot need it.
fn crc(salt: Salt, kind: Kind, head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let log = if kind == Kind::Header { 0 } else { salt.log };
    hasher.update(&log.to_be_bytes());
    hasher.update(&salt.segment.to_be_bytes());
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

/// Adds a record to `out`, whose body `write` adds; gives its CRC.
pub(crate) fn encode(out: &mut Vec<u8>, salt: Salt, kind: Kind, place: Place, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
    let start = out.len();
    out.resize(start + HEAD_BYTES, 0);
    write(out);
    let length = u32::try_from(out.len() - start - HEAD_BYTES).expect("a body is under the limit of a segment");
    let end = start + frame_bytes(length as usize);
    out.resize(end, 0);
    let (head, body) = out[start..].split_at_mut(HEAD_BYTES);
    head[0..4].copy_from_slice(&length.to_be_bytes());
    head[4] = VERSION;
    head[5] = kind as u8;
    head[8..16].copy_from_slice(&place.lsn.to_be_bytes());
    head[16..24].copy_from_slice(&place.synced.to_be_bytes());
    head[24..28].copy_from_slice(&place.previous.to_be_bytes());
    let crc = crc(salt, kind, &head[..CRC_AT], body);
    head[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    crc
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |n, b| n << 8 | u32::from(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// Reads the record at the start of `bytes`; checks all but its place in the chain.
pub(crate) fn decode(bytes: &[u8], salt: Salt) -> Result<Frame<'_>, CodecError> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Err(CodecError::Truncated(bytes.len())) };
    if head.iter().all(|b| *b == 0) {
        return Err(CodecError::Body("nothing is written there".into()));
    }
    if head[4] != VERSION {
        return Err(CodecError::Version(head[4]));
    }
    let Some(kind) = Kind::of(head[5]) else { return Err(CodecError::Body(format!("a record of kind {}", head[5]))) };
    let length = u32_at(head, 0) as usize;
    let Some(padded) = rest.get(..length.next_multiple_of(ALIGN)) else {
        return Err(CodecError::Truncated(bytes.len()));
    };
    let (stored, computed) = (u32_at(head, CRC_AT), crc(salt, kind, &head[..CRC_AT], padded));
    if stored != computed {
        return Err(CodecError::Checksum { stored, computed });
    }
    let place = Place { lsn: u64_at(head, 8), synced: u64_at(head, 16), previous: u32_at(head, 24) };
    Ok(Frame { kind, place, crc: stored, body: &padded[..length], bytes: HEAD_BYTES + padded.len() })
}

/// Looks for a record after a bad one that shows the bad one had been durable; gives its offset.
///
/// What one group wrote before a power cut may be there in any part, so a sound record behind a bad one proves nothing.
/// But a record whose `synced` reaches the bad one was made after that had been acknowledged.
pub(super) fn find_witness(bytes: &[u8], salt: Salt, bad_lsn: u64) -> Option<usize> {
    let ends = bytes.len().saturating_sub(HEAD_BYTES);
    (0..=ends).step_by(ALIGN).find(|offset| {
        let head = &bytes[*offset..*offset + HEAD_BYTES];
        let plausible = head[4] == VERSION && head[6] == 0 && head[7] == 0 && u64_at(head, 16) >= bad_lsn;
        // A record later than this many is in no file that also holds the bad one.
        let near = || u64_at(head, 8) > bad_lsn && u64_at(head, 8) - bad_lsn <= (bytes.len() / HEAD_BYTES) as u64 + 1;
        plausible && near() && decode(&bytes[*offset..], salt).is_ok()
    })
}
