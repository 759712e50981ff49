//! What only grows: audit, usage and operation records, in the store by kind and sequence number.
//!
//! They are written in the batch that carries the applied index, with keys that are the same on every replay; a replay
//! that would write another record is a divergence. A reader sees no record beyond the state it could read.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Bound;
use std::path::Path;

use crate::codec;
use crate::durable::{Durable, Op};
use crate::error::StoreError;
use crate::snapshot::Heads;

/// Prefix of every history key.
const PREFIX: &[u8] = b"h/";
/// Longest key or value taken from a file of incoming history.
const ITEM_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Gives the key of a record.
pub(crate) fn key(kind: &str, seq: u64) -> Vec<u8> {
    let mut key = PREFIX.to_vec();
    key.extend_from_slice(kind.as_bytes());
    key.push(0);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// Reads kind and sequence number out of a key.
pub(crate) fn parse_key(key: &[u8]) -> Option<(&str, u64)> {
    let (rest, seq) = key.strip_prefix(PREFIX)?.split_last_chunk::<8>()?;
    let kind = std::str::from_utf8(rest.strip_suffix(&[0])?).ok()?;
    Some((kind, u64::from_be_bytes(*seq)))
}

/// Gives up to `limit` records of a kind after `after` and up to `last`, as (seq, body). Blocks on the disk.
pub(crate) fn read(
    store: &Durable,
    kind: &str,
    after: Option<u64>,
    last: u64,
    limit: usize,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    if after.is_some_and(|seq| seq >= last) {
        return Ok(Vec::new());
    }
    let from = after.map_or(Bound::Included(key(kind, 0)), |seq| Bound::Excluded(key(kind, seq)));
    let rows = store.range((from, Bound::Included(key(kind, last))), limit)?;
    rows.into_iter()
        .map(|(key, body)| match parse_key(&key) {
            Some((_, seq)) => Ok((seq, body)),
            None => Err(StoreError::lost("history", "a key of another shape")),
        })
        .collect()
}

/// Gives the last sequence number of every kind in the store. Blocks on the disk.
pub(crate) fn heads(store: &Durable) -> Result<Heads, StoreError> {
    let mut heads = Heads::new();
    // `i` follows `h`: walk backwards from the end, one kind at a time.
    let mut before = b"i".to_vec();
    while let Some((found, _)) = store.last_before(&before)? {
        let Some((kind, seq)) = parse_key(&found) else { break };
        before = key(kind, 0);
        let kind = kind.to_owned();
        // `last_before` looks strictly below: a kind whose only record is number 0 still moves on.
        heads.insert(kind, seq);
    }
    Ok(heads)
}

/// Writes one record to a file of incoming history.
pub(crate) fn write_item(out: &mut impl io::Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    for part in [key, value] {
        let length = u32::try_from(part.len()).map_err(io::Error::other)?;
        out.write_all(&length.to_be_bytes())?;
        out.write_all(part)?;
    }
    Ok(())
}

/// The records of a file of incoming history, checked.
pub(crate) struct Items {
    file: BufReader<File>,
}

impl Items {
    /// Opens the file.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|e| StoreError::io("read incoming history", e))?;
        Ok(Self { file: BufReader::new(file) })
    }

    fn part(&mut self, length: [u8; 4]) -> io::Result<Vec<u8>> {
        let length = u32::from_be_bytes(length) as usize;
        if length > ITEM_BYTES_MAX {
            return Err(io::Error::other("a record longer than any"));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn next_item(&mut self) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let mut length = [0; 4];
        match self.file.read_exact(&mut length) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
        let key = self.part(length)?;
        self.file.read_exact(&mut length)?;
        let value = self.part(length)?;
        Ok(Some((key, value)))
    }

    /// Gives up to `limit` changes for the store; none at the end.
    pub(crate) fn chunk(&mut self, limit: usize) -> Result<Vec<Op>, StoreError> {
        let mut ops = Vec::new();
        while ops.len() < limit {
            let item = self.next_item().map_err(|e| StoreError::io("read incoming history", e))?;
            let Some((key, value)) = item else { break };
            if parse_key(&key).is_none() {
                return Err(StoreError::lost("incoming history", "a key of another shape"));
            }
            codec::unseal(&key, &value).map_err(StoreError::unreadable("incoming history"))?;
            ops.push((key, value));
        }
        Ok(ops)
    }
}
