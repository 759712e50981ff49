//! Transactions that clients handed to this node, on its disk until they are in a block.
//!
//! Others hear of a transaction only a moment after the client has its answer. So that nothing acknowledged is lost if the
//! process is killed in that moment, it stands in `data/pool.journal` before the answer goes out and is admitted again when
//! the node starts; other clients of Ethereum keep their "local transactions" likewise. What peers send is not kept: it
//! is in their pools. A record is `length u32 | CRC32 u32 | transaction`, big endian, after a header; a torn tail ends it.
//! When nothing of it waits any more it is emptied, and when most of it does not, written anew.
//!
//! It is not synced: a power cut, unlike a kill, may lose what the file system still held back. It never holds up a
//! client: what cannot be written is admitted all the same, and the log says so.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use alloy_primitives::{B256, Bytes};

use super::Mempool;
use crate::node::encode_tx;

/// The file below the data folder.
pub(crate) const JOURNAL_FILE: &str = "pool.journal";
const MAGIC: &[u8; 5] = b"HPOL\x01";
const FRAME: usize = 8;
/// Where it stops to grow; a full pool of ordinary transactions takes some megabytes.
const BYTES_MAX: u64 = 64 << 20;
/// Below this size it is not worth being written anew.
const REWRITE_BYTES: u64 = 256 << 10;

/// The journal of one node; of a simulated one, which has no disk, nothing is kept.
#[derive(Default)]
pub(crate) struct Journal(Option<Mutex<Inner>>);

struct Inner {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Records in the file.
    records: usize,
    /// Hashes of those that waited when it was last settled.
    waiting: BTreeSet<B256>,
    /// Whether a write has failed since one succeeded, so that the log says it once.
    failing: bool,
}

impl Journal {
    /// Opens or makes the journal and gives the transactions in it, the oldest first.
    ///
    /// # Errors
    /// The file cannot be opened or made.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Vec<Bytes>)> {
        let mut file = File::options().read(true).append(true).create(true).open(path)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)?;
        let (found, whole) = read(&bytes);
        if whole == 0 {
            file.set_len(0)?;
            file.write_all(MAGIC)?;
        } else if whole < bytes.len() {
            file.set_len(whole as u64)?;
        }
        let bytes = whole.max(MAGIC.len()) as u64;
        let inner = Inner {
            path: path.to_owned(),
            file,
            bytes,
            records: found.len(),
            waiting: BTreeSet::new(),
            failing: false,
        };
        Ok((Self(Some(Mutex::new(inner))), found))
    }

    /// Keeps a transaction that a client handed in and the pool has admitted.
    pub(crate) fn keep(&self, hash: B256, raw: &[u8]) {
        let Some(inner) = &self.0 else { return };
        let mut inner = inner.lock().expect("no holder of the journal's lock panics");
        if inner.bytes + (FRAME + raw.len()) as u64 > BYTES_MAX {
            return inner.failed(&io::Error::other("it is full; what comes now is lost if the node is killed at once"));
        }
        match inner.file.write_all(&record(raw)) {
            Ok(()) => {
                inner.bytes += (FRAME + raw.len()) as u64;
                inner.records += 1;
                inner.waiting.insert(hash);
                inner.failing = false;
            }
            Err(error) => {
                // Half a record would hide those after it.
                let end = inner.bytes;
                let cut = inner.file.set_len(end);
                inner.failed(&cut.err().unwrap_or(error));
            }
        }
    }

    /// Notes one that stands in the file already and waits again.
    pub(crate) fn found_again(&self, hash: B256) {
        if let Some(inner) = &self.0 {
            inner.lock().expect("no holder of the journal's lock panics").waiting.insert(hash);
        }
    }

    /// Lets go of what does not wait any more.
    pub(crate) fn settle(&self, pool: &Mempool) {
        let Some(inner) = &self.0 else { return };
        let mut inner = inner.lock().expect("no holder of the journal's lock panics");
        inner.waiting.retain(|hash| pool.contains(*hash));
        let done = if inner.waiting.is_empty() && inner.records > 0 {
            inner.empty()
        } else if inner.bytes > REWRITE_BYTES && inner.waiting.len() < inner.records / 2 {
            inner.rewrite(pool)
        } else {
            return;
        };
        if let Err(error) = done {
            inner.failed(&error);
        }
    }
}

impl Inner {
    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(path = %self.path.display(), %error, "the journal of waiting transactions is not written");
        }
    }

    fn empty(&mut self) -> io::Result<()> {
        let end = MAGIC.len() as u64;
        self.file.set_len(end)?;
        (self.bytes, self.records) = (end, 0);
        Ok(())
    }

    /// Writes those that wait into a new file, which takes the old one's place whole or not at all.
    fn rewrite(&mut self, pool: &Mempool) -> io::Result<()> {
        let part = self.path.with_extension("part");
        let mut content = MAGIC.to_vec();
        let raws = self.waiting.iter().filter_map(|hash| pool.get(*hash)).map(|(tx, _)| encode_tx(&tx));
        let mut records = 0;
        for raw in raws {
            content.extend(record(&raw));
            records += 1;
        }
        std::fs::write(&part, &content)?;
        std::fs::rename(&part, &self.path)?;
        self.file = File::options().append(true).open(&self.path)?;
        (self.bytes, self.records) = (content.len() as u64, records);
        Ok(())
    }
}

fn record(raw: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(FRAME + raw.len());
    // No transaction is as long as four gigabytes.
    record.extend_from_slice(&u32::try_from(raw.len()).unwrap_or(u32::MAX).to_be_bytes());
    record.extend_from_slice(&crc32fast::hash(raw).to_be_bytes());
    record.extend_from_slice(raw);
    record
}

/// The sound records from the beginning, and the bytes that they take with the header; 0 if not even that is there.
fn read(bytes: &[u8]) -> (Vec<Bytes>, usize) {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else { return (Vec::new(), 0) };
    let mut found = Vec::new();
    while let Some((frame, after)) = rest.split_first_chunk::<FRAME>() {
        let [a, b, c, d, crc @ ..] = *frame;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(raw) = after.get(..length).filter(|raw| crc32fast::hash(raw).to_be_bytes() == crc) else { break };
        found.push(Bytes::copy_from_slice(raw));
        rest = &after[length..];
    }
    (found, bytes.len() - rest.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::MempoolConfig;

    #[test]
    fn what_was_kept_is_found_again_but_for_a_torn_tail() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL_FILE);
        let (journal, found) = Journal::open(&path).unwrap();
        assert!(found.is_empty());
        let raws: Vec<Vec<u8>> = (1..=3u8).map(|n| vec![n; 100]).collect();
        for (number, raw) in (0u8..).zip(&raws) {
            journal.keep(B256::repeat_byte(number), raw);
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let expected: Vec<Bytes> = raws.iter().cloned().map(Bytes::from).collect();
        assert_eq!(Journal::open(&path).unwrap().1, expected);
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (journal, found) = Journal::open(&path).unwrap();
            let sound = cut.saturating_sub(MAGIC.len()) / (FRAME + 100);
            assert_eq!(found, expected[..sound], "{cut}");
            // What is written after it can be read.
            journal.keep(B256::ZERO, b"more");
            drop(journal);
            assert_eq!(Journal::open(&path).unwrap().1.len(), sound + 1, "{cut}");
        }
        let mut changed = whole.clone();
        changed[MAGIC.len() + FRAME + 100 + FRAME + 7] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, expected[..1]);
    }

    #[test]
    fn it_is_emptied_when_nothing_of_it_waits_and_never_grows_beyond_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JOURNAL_FILE);
        let (journal, _) = Journal::open(&path).unwrap();
        let large = vec![7; 1 << 20];
        for number in 0..80u8 {
            journal.keep(B256::repeat_byte(number), &large);
        }
        let size = || std::fs::metadata(&path).unwrap().len();
        assert!(size() <= BYTES_MAX && size() > BYTES_MAX - (2 << 20), "{}", size());
        journal.settle(&Mempool::new(MempoolConfig::default()));
        assert_eq!(size(), MAGIC.len() as u64);
        journal.keep(B256::ZERO, b"again");
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1, [Bytes::from_static(b"again")]);
    }
}
