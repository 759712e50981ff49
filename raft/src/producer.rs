//! A snapshot on its way out: read from disk part by part, with the history that the target lacks.
//!
//! What this never does: hold more of it in memory than a few parts, or send a record that its store could not verify.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::codec::{self, HeadsV1};
use crate::error::StoreError;
use crate::history;
use crate::machine::{Core, blocking};
use crate::pb::snapshot_part::Part;
use crate::pb::{Call, HistoryItem, HistoryPart, SnapshotEnd, SnapshotPart};
use crate::snapshot::{SnapshotDir, SnapshotFiles};

/// Length of one part of a snapshot.
const PART_BYTES: usize = 512 * 1024;
/// History records in one part at most.
const PART_RECORDS: usize = 128;

/// Reads a snapshot and history from disk into parts.
pub(crate) struct Producer {
    pub(crate) parts: mpsc::Sender<SnapshotPart>,
    pub(crate) core: Arc<Core>,
}

impl Producer {
    async fn send(&self, part: Part) -> Result<(), StoreError> {
        // The receiver is gone when the call has ended; its status says why.
        self.parts.send(SnapshotPart { part: Some(part) }).await.map_err(|_| StoreError::Closed)
    }

    /// Sends the head, the snapshot, the history that the target lacks, and the end.
    ///
    /// # Errors
    /// What could not be read, or [`StoreError::Closed`] if nobody takes the parts any more.
    pub(crate) async fn run(self, head: Call, files: SnapshotFiles, theirs: HeadsV1) -> Result<(), StoreError> {
        let path = files.state.clone();
        let found = blocking(move || SnapshotDir::load(&path)).await?;
        self.send(Part::Head(head)).await?;
        let mut file = tokio::fs::File::open(&files.state).await.map_err(|e| StoreError::io("read a snapshot", e))?;
        let (mut state_bytes, mut crc) = (0, crc32fast::Hasher::new());
        loop {
            let mut chunk = vec![0; PART_BYTES];
            let read = file.read(&mut chunk).await.map_err(|e| StoreError::io("read a snapshot", e))?;
            if read == 0 {
                break;
            }
            chunk.truncate(read);
            crc.update(&chunk);
            state_bytes += read as u64;
            self.send(Part::State(chunk)).await?;
        }
        let mut history_records = 0;
        for (kind, last) in &found.heads {
            history_records += self.history(kind, theirs.last.get(kind).copied(), *last).await?;
        }
        let end = SnapshotEnd { state_bytes, state_crc: crc.finalize(), history_records };
        self.send(Part::End(end)).await
    }

    /// Sends the records of one kind after `after`, up to `last`; gives how many.
    async fn history(&self, kind: &str, mut after: Option<u64>, last: u64) -> Result<u64, StoreError> {
        let mut sent = 0;
        loop {
            let (core, kind_name) = (self.core.clone(), kind.to_owned());
            let rows = blocking(move || history::read(&core.store, &kind_name, after, last, PART_RECORDS)).await?;
            let Some((newest, _)) = rows.last() else { return Ok(sent) };
            after = Some(*newest);
            let mut part = HistoryPart::default();
            let mut bytes = 0;
            for (seq, body) in rows {
                let key = history::key(kind, seq);
                let value = codec::seal(&key, &body);
                bytes += value.len();
                part.items.push(HistoryItem { key, value });
                sent += 1;
                self.core.records_sent.fetch_add(1, Ordering::Relaxed);
                if bytes > PART_BYTES {
                    self.send(Part::History(std::mem::take(&mut part))).await?;
                    bytes = 0;
                }
            }
            if !part.items.is_empty() {
                self.send(Part::History(part)).await?;
            }
        }
    }
}
