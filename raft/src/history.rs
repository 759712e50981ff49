//! What only grows: audit, usage and operation records, by kind and sequence number.
//!
//! They lie in files of their own ([`files`]), are written before the applied index that they belong to, and have keys
//! that are the same on every replay; a replay that would write another record is a divergence. A reader sees no record
//! beyond the state it could read.

pub(crate) mod files;
pub(crate) mod segment;

use crate::codec;
use crate::durable::{Durable, Op};
use crate::error::StoreError;
use crate::snapshot::Heads;

/// Prefix of every history key.
const PREFIX: &[u8] = b"h/";
/// Longest name of a kind.
const KIND_BYTES_MAX: usize = 32;

/// Gives the key of a record.
pub(crate) fn key(kind: &str, seq: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(PREFIX.len() + kind.len() + 1 + size_of::<u64>());
    key.extend_from_slice(PREFIX);
    key.extend_from_slice(kind.as_bytes());
    key.push(0);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// Reads kind and sequence number out of a key.
pub(crate) fn parse_key(key: &[u8]) -> Option<(&str, u64)> {
    let (rest, seq) = key.strip_prefix(PREFIX)?.split_last_chunk::<8>()?;
    let kind = std::str::from_utf8(rest.strip_suffix(&[0])?).ok()?;
    // It is part of a file's name.
    let word = |c: u8| c.is_ascii_lowercase() || c == b'_';
    let named = (1..=KIND_BYTES_MAX).contains(&kind.len()) && kind.bytes().all(word);
    named.then(|| (kind, u64::from_be_bytes(*seq)))
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
    store.records(kind, after.map_or(1, |seq| seq + 1), last, limit)
}

/// Gives the last sequence number of every kind in the store. Blocks on the disk.
pub(crate) fn heads(store: &Durable) -> Result<Heads, StoreError> {
    store.heads()
}

/// Takes records that another replica sends, page by page, into the store.
///
/// They belong to entries that are committed, so they stay even if the snapshot they came with does not arrive whole: the
/// next attempt asks from there on. No reader sees them before the state that they belong to; what the log makes again
/// must be the same.
pub(crate) struct Incoming {
    store: Durable,
    heads: Heads,
    /// Records taken.
    pub(crate) records: u64,
}

impl Incoming {
    /// Begins after what the store has. Blocks on the disk.
    pub(crate) fn begin(store: &Durable) -> Result<Self, StoreError> {
        Ok(Self { store: store.clone(), heads: heads(store)?, records: 0 })
    }

    /// Takes one page.
    ///
    /// # Errors
    /// Nothing of the page was taken if a record is damaged or does not follow.
    pub(crate) async fn page(&mut self, items: Vec<Op>) -> Result<(), IncomingError> {
        let mut heads = self.heads.clone();
        for (key, value) in &items {
            let (kind, seq) = parse_key(key).ok_or(IncomingError::NoHistory)?;
            codec::unseal(key, value)?;
            let head = heads.entry(kind.to_owned()).or_insert(0);
            if seq == 0 || seq > *head + 1 {
                return Err(IncomingError::Gap { kind: kind.to_owned(), seq, last: *head });
            }
            *head = seq.max(*head);
        }
        self.records += items.len() as u64;
        self.heads = heads;
        Ok(self.store.write(items).await?)
    }
}

/// Why a page was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncomingError {
    /// Another kind of thing.
    #[error("a record that is not history")]
    NoHistory,
    /// Its checksum or key is wrong.
    #[error("a damaged record")]
    Damaged(#[from] codec::CodecError),
    /// One before it is missing.
    #[error("record {seq} of {kind} after record {last}")]
    Gap {
        /// Its kind.
        kind: String,
        /// Its number.
        seq: u64,
        /// The one before.
        last: u64,
    },
    /// The store did not take it.
    #[error("the store did not take it")]
    Store(#[from] StoreError),
}
