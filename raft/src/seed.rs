//! The first data folder of a replica whose cluster is restored from a backup.
//!
//! Every replica of the new cluster gets the same: a snapshot of the restored state with the new membership, and the
//! history that belongs to it. The log is empty; a replica finds its state ahead of it at its first start and goes on
//! from there. Everything is written into a folder beside, synced, and renamed at the end: a half-made folder never
//! stands under the replica's name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use hanse_state::{Record, State};

use crate::codec;
use crate::durable::{Durable, Op, put};
use crate::error::StoreError;
use crate::history;
use crate::inside::Parts;
use crate::machine::{APPLIED, blocking};
use crate::snapshot::{self, Heads, SnapshotDir};
use crate::stop::Stop;
use crate::types::{LeaderId, LogId, Member, Membership, ReplicaId, SnapshotMeta, StoredMembership};

/// Records written at once.
const BATCH: usize = 256;

/// A data folder on its way. Dropped before [`Seed::finish`], only the folder beside is left.
pub struct Seed {
    store: Durable,
    folder: PathBuf,
    aside: PathBuf,
    heads: Heads,
    pending: Vec<Op>,
}

impl Seed {
    /// Begins the folder `data_dir`, the same that [`ReplicaConfig::data_dir`](crate::ReplicaConfig) will name.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it, or a half-made one, is there already, or the system refuses.
    pub async fn begin(data_dir: &Path) -> Result<Self, StoreError> {
        let folder = data_dir.to_path_buf();
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(".restoring");
        let aside = folder.with_file_name(name);
        let (found, made) = (folder.clone(), aside.clone());
        let store = blocking(move || {
            if found.symlink_metadata().is_ok() {
                let there = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is there already");
                return Err(StoreError::io(format!("make {}", found.display()), there));
            }
            let what = format!("make {} (remove what a broken restore left)", made.display());
            std::fs::create_dir(&made).map_err(|e| StoreError::io(what, e))?;
            // Opened whole once, so that the store is laid out as a first start would.
            Parts::open(&made, Stop::default()).map(|parts| parts.store)
        });
        Ok(Self { store: store.await?, folder, aside, heads: Heads::new(), pending: Vec::new() })
    }

    /// Adds the next record of its kind.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Lost`] if it is not the next one.
    pub async fn record(&mut self, record: &Record) -> Result<(), StoreError> {
        let (kind, seq) = (record.kind(), record.seq());
        let head = self.heads.entry(kind.to_owned()).or_insert(0);
        if seq != *head + 1 {
            return Err(StoreError::lost("history", format!("record {seq} of {kind} after record {head}")));
        }
        *head = seq;
        self.pending.push(put(history::key(kind, seq), &hanse_state::codec::encode_record(record)));
        if self.pending.len() >= BATCH {
            let full = std::mem::take(&mut self.pending);
            self.store.write(full).await?;
        }
        Ok(())
    }

    /// Ends the folder: the state with these members, all of them voters. Durable under its name when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Lost`] if the history is not the state's, or nobody is a member.
    pub async fn finish(mut self, state: &State, members: BTreeMap<ReplicaId, Member>) -> Result<(), StoreError> {
        let expected: Heads = state
            .heads()
            .into_iter()
            .filter(|(_, last)| *last > 0)
            .map(|(kind, last)| (kind.to_owned(), last))
            .collect();
        if expected != self.heads {
            let why = format!("the state needs {expected:?}, there are {:?}", self.heads);
            return Err(StoreError::lost("history", why));
        }
        let fault = |why: &dyn std::fmt::Display| StoreError::lost("membership", why);
        let lowest = *members.keys().next().ok_or_else(|| fault(&"nobody is a member"))?;
        let voters: BTreeSet<ReplicaId> = members.keys().copied().collect();
        let membership = Membership::new(vec![voters], members).map_err(|e| fault(&e))?;
        // Term 0 is below every term that an election gives.
        let at = LogId::new(LeaderId { term: 0, node_id: lowest }, state.revision);
        let meta = SnapshotMeta { last_log_id: Some(at), last_membership: StoredMembership::new(Some(at), membership) };
        self.pending.push(put(APPLIED.to_vec(), &codec::encode(&state.revision)));
        let rest = std::mem::take(&mut self.pending);
        self.store.write_durably(rest).await?;
        let bytes = snapshot::encode(&meta, &self.heads, &hanse_state::codec::encode_state(state));
        blocking(move || {
            SnapshotDir::open(&self.aside)?.save(&meta, &bytes)?;
            self.store.close();
            let step = || {
                File::open(&self.aside)?.sync_all()?;
                std::fs::rename(&self.aside, &self.folder)?;
                File::open(self.folder.parent().unwrap_or(Path::new("/")))?.sync_all()
            };
            step().map_err(|e| StoreError::io(format!("make {}", self.folder.display()), e))
        })
        .await
    }
}
