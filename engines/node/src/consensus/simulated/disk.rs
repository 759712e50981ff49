//! A simulated log: what is synced survives a crash, of the rest as much as the seed says.

use std::sync::{Arc, Mutex, MutexGuard};

use super::plan::{Mutant, Rng};
use crate::NodeError;
use crate::wal::{Log, Recovered};

/// One operation that is not durable yet.
enum Pending {
    /// The file was emptied.
    Emptied,
    /// The header of a height was written.
    Header(u64),
    /// A record was appended.
    Record(Vec<u8>),
}

#[derive(Default)]
struct Inner {
    height: u64,
    records: Vec<Vec<u8>>,
    pending: Vec<Pending>,
    /// Operations until the node is killed, if it is to be.
    countdown: Option<u32>,
    killed: bool,
    mutant: Option<Mutant>,
}

/// A node's disk; it survives the node.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Inner>>);

impl Disk {
    pub(super) fn new(mutant: Option<Mutant>) -> Self {
        let disk = Self::default();
        disk.lock().mutant = mutant;
        disk
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Kills the node at its `operations`-th operation from now.
    pub(super) fn kill_after(&self, operations: u32) {
        self.lock().countdown = Some(operations);
    }

    pub(super) fn is_killed(&self) -> bool {
        self.lock().killed
    }

    /// What is found at the next start.
    pub(super) fn recover(&self, rng: &mut Rng) -> Recovered {
        let mut inner = self.lock();
        let kept =
            if inner.mutant == Some(Mutant::LogNotSynced) { 0 } else { rng.below(inner.pending.len() as u64 + 1) };
        let pending = std::mem::take(&mut inner.pending);
        inner.apply(pending.into_iter().take(kept as usize));
        (inner.killed, inner.countdown) = (false, None);
        if inner.mutant == Some(Mutant::LogNotReplayed) {
            inner.records.clear();
        }
        Recovered { height: inner.height, records: inner.records.clone(), cut_bytes: 0 }
    }
}

impl Inner {
    fn apply(&mut self, operations: impl Iterator<Item = Pending>) {
        for operation in operations {
            match operation {
                Pending::Emptied => (self.height, self.records) = (0, Vec::new()),
                Pending::Header(height) => self.height = height,
                Pending::Record(record) => self.records.push(record),
            }
        }
    }

    /// A moment at which the node may be killed.
    fn moment(&mut self) -> Result<(), NodeError> {
        if let Some(left) = self.countdown.as_mut() {
            *left = left.saturating_sub(1);
            self.killed |= *left == 0;
        }
        if self.killed { Err(NodeError::Consensus("killed by the simulation".to_owned())) } else { Ok(()) }
    }
}

impl Log for Disk {
    fn reset(&mut self, height: u64) -> Result<(), NodeError> {
        let mut inner = self.lock();
        inner.moment()?;
        inner.pending.push(Pending::Emptied);
        inner.moment()?;
        inner.pending.push(Pending::Header(height));
        drop(inner);
        self.sync()
    }

    fn append(&mut self, payload: &[u8]) -> Result<(), NodeError> {
        let mut inner = self.lock();
        inner.moment()?;
        inner.pending.push(Pending::Record(payload.to_vec()));
        inner.moment()
    }

    fn sync(&mut self) -> Result<(), NodeError> {
        let mut inner = self.lock();
        inner.moment()?;
        // The mutant still makes a new height durable: only the sync before a message is missing.
        let header = inner.pending.iter().any(|p| matches!(p, Pending::Header(_)));
        if inner.mutant != Some(Mutant::LogNotSynced) || header {
            let pending = std::mem::take(&mut inner.pending);
            inner.apply(pending.into_iter());
        }
        inner.moment()
    }
}
