//! The state machine: openraft's entries through the real `hanse_state::apply` and its real codec.
//!
//! Like the real one it keeps the state in memory and snapshots on disk; after a crash it is the newest durable snapshot
//! plus the log after it, and every entry that is applied again is compared with the first time by the oracle.

use std::io::{self, Cursor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt};
use hanse_raft::ReplicaId;
use hanse_state::replica::Standing;
use hanse_state::{Command, Millis, State, codec};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};

use crate::disk::{Disk, Saved};
use crate::mutant::Mutant;
use crate::types::{Answer, Entry, LogId, Payload, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, Types};
use crate::world::Shared;

/// The state after one entry.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) applied: Option<LogId>,
    membership: StoredMembership,
}

/// A replica's state machine; a clone is another handle.
#[derive(Clone)]
pub(crate) struct Machine {
    id: ReplicaId,
    disk: Disk,
    shared: Shared,
    view: Arc<Mutex<View>>,
    /// Only for the mutant that skips an entry.
    skip: Arc<Mutex<bool>>,
}

impl Machine {
    /// Loads the newest durable snapshot.
    pub(crate) fn open(id: ReplicaId, disk: Disk, shared: Shared) -> Self {
        let mut view = View::default();
        let saved = disk.seen(|content| content.snapshot.clone());
        let restarted = disk.seen(|content| content.last().is_some());
        if let Some(Saved { meta, bytes }) = saved {
            let state = codec::decode_state(&bytes).expect("a snapshot that this code wrote");
            view = View { state, applied: meta.last_log_id, membership: meta.last_membership };
        }
        let skip = restarted && shared.has(Mutant::ApplySkipsAfterRestart);
        Self { id, disk, shared, view: Arc::new(Mutex::new(view)), skip: Arc::new(Mutex::new(skip)) }
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the current view; a cheap copy.
    pub(crate) fn view(&self) -> View {
        self.lock().clone()
    }

    fn apply_one(&self, entry: &Entry) -> Result<Answer, io::Error> {
        let mut view = self.view();
        view.applied = Some(entry.log_id);
        let mut answer = None;
        match &entry.payload {
            Payload::Blank => self.shared.world().oracle.applied(self.id, entry, &view.state, None),
            Payload::Membership(membership) => {
                view.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                let mut world = self.shared.world();
                if world.oracle.last().is_none_or(|last| last.index < entry.log_id.index) {
                    world.roster.applied(entry);
                }
                world.oracle.applied(self.id, entry, &view.state, None);
            }
            Payload::Normal(bytes) => {
                let mut request = codec::decode_request(&bytes.0).map_err(io::Error::other)?;
                if self.shared.has(Mutant::WallClockInApply) {
                    request.at = Millis(self.shared.world().clock_ms(self.id));
                }
                if self.shared.has(Mutant::NoDedupe) {
                    view.state.dedup = Default::default();
                }
                if self.shared.has(Mutant::IdAgain) && matches!(request.command, Command::AddReplica(_)) {
                    forget_gone(&mut view.state);
                }
                let skip = std::mem::take(&mut *self.skip.lock().unwrap_or_else(PoisonError::into_inner));
                if !skip {
                    let applied = Arc::new(hanse_state::apply(&mut view.state, entry.log_id.index, &request));
                    let mut world = self.shared.world();
                    world.oracle.applied(self.id, entry, &view.state, Some((&request, &applied)));
                    world.applied(&request, &applied, &view.state);
                    if let Some(divergence) = applied.diverged {
                        world.violation(&format!("{} finds itself diverged: {divergence}", self.id));
                    }
                    answer = Some(applied);
                }
            }
        }
        self.shared.world().judge();
        *self.lock() = view;
        Ok(answer)
    }
}

/// The mistake: the next new replica gets the id of one that is gone.
fn forget_gone(state: &mut State) {
    let Some(cluster) = &mut state.cluster else { return };
    let by_id = &mut cluster.replicas.by_id;
    let gone = by_id.iter().find(|(_, it)| it.standing == Standing::Gone).map(|(id, _)| *id);
    cluster.replicas.last_id = match gone.inspect(|id| drop(by_id.remove(id))) {
        Some(id) => id - 1,
        None => by_id.keys().max().copied().unwrap_or(0),
    };
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let view = self.view();
        Ok((view.applied, view.membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let answer = self.apply_one(&entry)?;
            let what = answer.as_ref().map_or_else(String::new, |a| format!(" {:?}", a.outcome.is_ok()));
            self.shared.world().say(&format!("{} applies {}{what}", self.id, entry.log_id));
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        // The builder works on a view of its own, so that what is applied meanwhile does not slip in.
        Self { view: Arc::new(Mutex::new(self.view())), ..self.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let bytes = snapshot.into_inner();
        let state = codec::decode_state(&bytes).map_err(io::Error::other)?;
        self.disk.save_snapshot(Saved { meta: meta.clone(), bytes: bytes.into() }).await?;
        self.shared.world().say(&format!("{} installs a snapshot to {:?}", self.id, meta.last_log_id));
        *self.lock() = View { state, applied: meta.last_log_id, membership: meta.last_membership.clone() };
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let saved = self.disk.seen(|content| content.snapshot.clone());
        Ok(saved.map(|Saved { meta, bytes }| Snapshot { meta, snapshot: Cursor::new(bytes.to_vec()) }))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let mut view = self.view();
        if self.shared.has(Mutant::SnapshotForgetsRequests) {
            view.state.dedup = Default::default();
        }
        let bytes = codec::encode_state(&view.state);
        let meta = SnapshotMeta { last_log_id: view.applied, last_membership: view.membership };
        self.disk.save_snapshot(Saved { meta: meta.clone(), bytes: bytes.clone().into() }).await?;
        self.shared.world().say(&format!("{} writes a snapshot to {:?}", self.id, meta.last_log_id));
        Ok(Snapshot { meta, snapshot: Cursor::new(bytes) })
    }
}
