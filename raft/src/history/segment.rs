//! One segment of history, as bytes: its head, its records, and the index that stands beside it once it is full.
//!
//! Head: `HNHS · version · kind length · kind · first u64 · CRC-32`. Record: `length u32 · sealed value` (codec), without a
//! hole from `first` on; the value carries its own key, so that a record in another place is seen. Index:
//! `HNHI · version · kind length · kind · first u64 · count u32 · end u32 · CRC-32`, then for every record where it begins
//! (`u32`), then `end` again. Numbers are big-endian. Where a record begins needs no checksum: at a wrong place there is
//! no record with the right key.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use crate::codec::{self, CodecError};
use crate::history;
use crate::wal::DiskFile;

const SEGMENT_MAGIC: &[u8; 4] = b"HNHS";
const INDEX_MAGIC: &[u8; 4] = b"HNHI";
/// Version of head and index.
const VERSION: u8 = 1;
/// Bytes of a record's length.
pub(super) const LENGTH_BYTES: u32 = 4;
/// Bytes of a place in the index.
pub(super) const PLACE_BYTES: u64 = 4;
/// Bytes read at once while a segment is looked through.
const SCAN_BYTES: usize = 256 * 1024;

fn begin(magic: [u8; 4], kind: &str, first: u64) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.push(VERSION);
    bytes.push(u8::try_from(kind.len()).expect("the name of a kind is a word"));
    bytes.extend_from_slice(kind.as_bytes());
    bytes.extend_from_slice(&first.to_be_bytes());
    bytes
}

fn finish(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// Says how `found` differs from the head that must be there.
fn compare(found: &[u8], expected: &[u8]) -> Result<(), CodecError> {
    if found == expected {
        return Ok(());
    }
    match found.get(4) {
        None => Err(CodecError::Truncated(found.len())),
        Some(version) if *version != VERSION => Err(CodecError::Version(*version)),
        Some(_) => Err(CodecError::Body("it is not the head of this segment".into())),
    }
}

/// Gives the head of a segment.
pub(crate) fn head(kind: &str, first: u64) -> Vec<u8> {
    finish(begin(*SEGMENT_MAGIC, kind, first))
}

/// Checks the head of a segment.
pub(crate) fn check_head(found: &[u8], kind: &str, first: u64) -> Result<(), CodecError> {
    compare(found, &head(kind, first))
}

/// Gives the head of an index.
pub(crate) fn index_head(kind: &str, first: u64, count: u32, end: u32) -> Vec<u8> {
    let mut bytes = begin(*INDEX_MAGIC, kind, first);
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(&end.to_be_bytes());
    finish(bytes)
}

/// Gives the length of the head of an index.
pub(super) fn index_head_bytes(kind: &str) -> u64 {
    index_head(kind, 0, 0, 0).len() as u64
}

/// Gives the index of a segment: where each record begins, and after the last one where it ends.
pub(crate) fn index(kind: &str, first: u64, places: &[u32]) -> Vec<u8> {
    let count = u32::try_from(places.len().saturating_sub(1)).expect("a segment has far fewer records");
    let end = places.last().copied().unwrap_or_default();
    let mut bytes = index_head(kind, first, count, end);
    for place in places {
        bytes.extend_from_slice(&place.to_be_bytes());
    }
    bytes
}

/// Reads the head of an index of so many records; gives where the segment ends.
pub(crate) fn check_index_head(found: &[u8], kind: &str, first: u64, count: u32) -> Result<u32, CodecError> {
    let Some((_, end)) = found.get(..found.len().saturating_sub(4)).and_then(<[u8]>::split_last_chunk::<4>) else {
        return Err(CodecError::Truncated(found.len()));
    };
    let end = u32::from_be_bytes(*end);
    compare(found, &index_head(kind, first, count, end))?;
    Ok(end)
}

/// Reads places of an index.
pub(super) fn places(bytes: &[u8]) -> Vec<u32> {
    let (places, _) = bytes.as_chunks::<4>();
    places.iter().map(|place| u32::from_be_bytes(*place)).collect()
}

/// Adds a record to `out`.
pub(crate) fn push(out: &mut Vec<u8>, sealed: &[u8]) {
    let length = u32::try_from(sealed.len()).expect("a record is far shorter");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(sealed);
}

/// Reads the record that `bytes` are; gives its body.
pub(crate) fn open<'a>(bytes: &'a [u8], kind: &str, seq: u64) -> Result<&'a [u8], CodecError> {
    codec::unseal(&history::key(kind, seq), sealed(bytes)?)
}

/// Gives the sealed value of the record that `bytes` are, unchecked.
pub(super) fn sealed(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let Some((length, sealed)) = bytes.split_first_chunk::<4>() else {
        return Err(CodecError::Truncated(bytes.len()));
    };
    if u32::from_be_bytes(*length) as usize != sealed.len() {
        return Err(CodecError::Body("its length is not the one in the index".into()));
    }
    Ok(sealed)
}

/// A file from one place to another.
struct Part {
    file: Arc<dyn DiskFile>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        self.file.read_at(&mut buffer[..length], self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// Looks through a segment whose head is sound; gives the places of all records up to the first that is not sound, and
/// where that ends, and why it is none.
pub(super) fn scan(file: &Arc<dyn DiskFile>, kind: &str, first: u64) -> io::Result<(Vec<u32>, String)> {
    let mut at = u32::try_from(head(kind, first).len()).unwrap_or(u32::MAX);
    let end = file.bytes()?;
    let part = Part { file: file.clone(), at: u64::from(at), end };
    let mut reader = BufReader::with_capacity(SCAN_BYTES, part);
    let mut places = vec![at];
    let mut record = Vec::new();
    loop {
        let rest = end.saturating_sub(u64::from(at));
        let mut length = [0; 4];
        if rest < length.len() as u64 {
            return Ok((places, "the file ends there".into()));
        }
        reader.read_exact(&mut length)?;
        let bytes = u64::from(u32::from_be_bytes(length));
        if bytes == 0 || bytes > rest - length.len() as u64 {
            return Ok((places, "nothing whole is written there".into()));
        }
        record.clear();
        record.extend_from_slice(&length);
        reader.by_ref().take(bytes).read_to_end(&mut record)?;
        let seq = first + places.len() as u64 - 1;
        if let Err(error) = open(&record, kind, seq) {
            return Ok((places, error.to_string()));
        }
        let Some(next) = u32::try_from(record.len()).ok().and_then(|length| at.checked_add(length)) else {
            return Ok((places, "the file is longer than any".into()));
        };
        at = next;
        places.push(at);
    }
}
