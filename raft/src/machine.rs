//! The state machine: requests in log order through `hanse_state::apply`, state in memory, history on disk.
//!
//! A chunk of entries is applied to a cheap clone; their history is written in one batch that carries the applied index;
//! then the clone is published for readers, callers are answered and events go out. The state itself is not written:
//! after a restart it is the newest snapshot plus the log after it, and history already on disk must then come out the
//! same.
//!
//! It never guesses: a request it cannot read, a digest that differs, or history that comes out different stops the
//! replica.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use futures::{Stream, StreamExt};
use hanse_state::replica::Replicas;
use hanse_state::{Applied, Record, State};
use openraft::RaftSnapshotBuilder;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use tokio::sync::{Mutex, broadcast};

use crate::batch;
use crate::codec;
use crate::durable::{Durable, Op, put};
use crate::error::{RaftError, StoreError};
use crate::history;
use crate::meter::Meters;
use crate::notice::{Changes, Notice};
use crate::replay::{Replayed, differs};
use crate::snapshot::{self, Heads, Snapshot, SnapshotDir, SnapshotFiles};
use crate::space;
use crate::stop::Stop;
use crate::types::{Entry, EntryAnswer, LogId, Payload, SnapshotMeta, StoredMembership, Types};

pub(crate) const APPLIED: &[u8] = b"m/applied";
/// Entries applied before readers and callers see them.
const CHUNK: usize = 64;
/// Chunks that a watcher may fall behind before it is told that it lags; so many stay in memory.
const NOTICES_MAX: usize = 128;

/// The state after one entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Shared with whoever reads it; the next chunk begins with a copy.
    pub(crate) state: Arc<State>,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) heads: Heads,
}

/// What the machine and its readers share.
pub(crate) struct Core {
    pub(crate) store: Durable,
    pub(crate) snapshots: SnapshotDir,
    view: RwLock<View>,
    latest: RwLock<Option<(SnapshotMeta, PathBuf)>>,
    /// Revision of the newest snapshot.
    kept: AtomicU64,
    /// Held while a snapshot is written, by the thread that writes it.
    pub(crate) saving: Arc<Mutex<()>>,
    pub(crate) events: broadcast::Sender<Notice>,
    /// Records of history sent to replicas that lacked them, since the start.
    pub(crate) records_sent: AtomicU64,
    pub(crate) meters: Meters,
    stop: Stop,
}

impl Core {
    /// Gives the current view; a cheap copy.
    pub(crate) fn view(&self) -> View {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the state about the replicas without copying it.
    pub(crate) fn ask_replicas<T>(&self, ask: impl FnOnce(&Replicas) -> T) -> Option<T> {
        self.ask_state(|state| state.cluster.as_ref().map(|cluster| ask(&cluster.replicas)))
    }

    /// Asks the state without copying it.
    pub(crate) fn ask_state<T>(&self, ask: impl FnOnce(&State) -> T) -> T {
        ask(&self.view.read().unwrap_or_else(PoisonError::into_inner).state)
    }

    /// Gives the newest snapshot's description and file.
    pub(crate) fn latest(&self) -> Option<(SnapshotMeta, PathBuf)> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the current revision and that of the newest snapshot.
    pub(crate) fn revisions(&self) -> (u64, u64) {
        let now = self.view.read().unwrap_or_else(PoisonError::into_inner).state.revision;
        (now, self.kept.load(Ordering::Relaxed))
    }

    /// Gives the current state; a cheap copy.
    pub(crate) fn state(&self) -> Arc<State> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).state.clone()
    }

    /// Gives the current state if an entry of `term` has been applied: everything before that term is in it.
    pub(crate) fn state_in_term(&self, term: u64) -> Option<Arc<State>> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.applied.is_some_and(|id| id.leader_id.term == term).then(|| view.state.clone())
    }

    fn publish(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// Keeps the newest: one built meanwhile never replaces a later one that came in.
    fn set_latest(&self, meta: SnapshotMeta, path: PathBuf, revision: u64) {
        self.kept.fetch_max(revision, Ordering::Relaxed);
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        if latest.as_ref().is_none_or(|(kept, _)| kept.last_log_id <= meta.last_log_id) {
            *latest = Some((meta, path));
        }
    }

    /// Records why the replica stops and gives the error openraft stops with.
    fn halt(&self, error: RaftError) -> io::Error {
        self.stop.set(error.clone());
        io::Error::other(error)
    }

    fn tell(&self, notice: Notice) {
        // No watcher is no error.
        let _ = self.events.send(notice);
    }

    /// Writes the snapshot beside the history that came before it; both are durable when this returns.
    async fn install(self: &Arc<Self>, meta: &SnapshotMeta, files: SnapshotFiles) -> Result<(), StoreError> {
        let bytes = blocking(move || {
            let bytes = std::fs::read(&files.state).map_err(|e| StoreError::io("read an incoming snapshot", e))?;
            Ok((bytes, files))
        });
        let (bytes, files) = bytes.await?;
        let found = snapshot::decode(&bytes).map_err(StoreError::unreadable("incoming snapshot"))?;
        if found.meta != *meta {
            return Err(StoreError::lost("incoming snapshot", "it covers another entry than announced"));
        }
        let unread = StoreError::unread_state("incoming snapshot");
        let state = hanse_state::codec::decode_state(&found.state).map_err(unread)?;
        self.check_history(&found).await?;
        let index = meta.last_log_id.map_or(0, |id| id.index);
        self.store.write_patiently(vec![put(APPLIED.to_vec(), &codec::encode(&index))]).await?;
        let path = self.save(meta, bytes).await?;
        if files.incoming {
            remove(&files.state);
        }
        let revision = state.revision;
        self.set_latest(meta.clone(), path, revision);
        self.publish(View {
            state: Arc::new(state),
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
            heads: found.heads,
        });
        self.tell(Notice::Reset { revision });
        Ok(())
    }

    /// Writes a snapshot when there is room; gives its file. Each try is a new file, so no failed sync is trusted later.
    async fn save(self: &Arc<Self>, meta: &SnapshotMeta, bytes: Vec<u8>) -> Result<PathBuf, StoreError> {
        let bytes = Arc::new(bytes);
        loop {
            self.store.space().wait_for(bytes.len() as u64).await?;
            let (core, meta, bytes) = (self.clone(), meta.clone(), bytes.clone());
            let turn = self.saving.clone().lock_owned().await;
            // One that was still being encoded when the replica ended comes too late: the folder is no longer ours.
            if self.store.space().ending() {
                return Err(StoreError::Closed);
            }
            let write = move || {
                let saved = core.snapshots.save(&meta, &bytes);
                drop(turn);
                saved
            };
            match blocking(write).await {
                Err(StoreError::Io { what, source }) if space::is_full(&source) => {
                    tracing::warn!(what, error = %source, "a snapshot waits for room on the disk");
                    self.store.space().pause().await?;
                }
                saved => return saved,
            }
        }
    }

    /// Checks that the store reaches the history a snapshot speaks of.
    async fn check_history(self: &Arc<Self>, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (core, wanted) = (self.clone(), snapshot.heads.clone());
        blocking(move || check_heads(&core.store, &wanted)).await
    }
}

/// Runs a blocking step of the store aside.
pub(crate) async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(step).await.map_err(|e| StoreError::Failed(e.to_string()))?
}

/// Removes a file that has served; a leftover goes at the next start.
fn remove(path: &std::path::Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "cannot remove an incoming file");
    }
}

fn check_heads(store: &Durable, wanted: &Heads) -> Result<(), StoreError> {
    let found = history::heads(store)?;
    for (kind, last) in wanted {
        if found.get(kind).is_none_or(|have| have < last) {
            let why = format!("records of {kind} up to {last} belong to it, the store ends at {:?}", found.get(kind));
            return Err(StoreError::lost("history", why));
        }
    }
    Ok(())
}

/// Gives the newest usable snapshot: readable, and not behind the purged log.
fn newest(snapshots: &SnapshotDir, purged: Option<u64>) -> Result<Option<(Snapshot, PathBuf)>, StoreError> {
    let mut damage = None;
    for path in snapshots.list()? {
        match SnapshotDir::load(&path) {
            Ok(found) if purged.is_none_or(|p| found.meta.last_log_id.is_some_and(|id| id.index >= p)) => {
                if let Some(error) = damage {
                    tracing::warn!(%error, "the newest snapshot is damaged; the one before it and the log suffice");
                }
                return Ok(Some((found, path)));
            }
            Ok(_) => break,
            Err(error) => damage = Some(error),
        }
    }
    match (damage, purged) {
        (Some(error), _) => Err(error),
        (None, Some(purged)) => {
            Err(StoreError::lost("snapshot", format!("the log is purged up to {purged}, and no snapshot reaches it")))
        }
        (None, None) => Ok(None),
    }
}

/// openraft's state machine; a clone is another handle.
#[derive(Clone)]
pub struct Machine {
    core: Arc<Core>,
    /// Index up to which history was in the store at open: a replay of these entries only compares.
    written: Option<u64>,
}

impl Machine {
    /// Loads the newest snapshot and checks it against the store. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if no snapshot meets the log or history is missing.
    pub(crate) fn open(
        store: Durable,
        snapshots: SnapshotDir,
        purged: Option<u64>,
        stop: Stop,
    ) -> Result<Self, StoreError> {
        let mut view = View::default();
        let mut latest = None;
        let written = store.get(APPLIED)?;
        let written =
            written.map(|b| codec::decode(&b).map_err(StoreError::unreadable("applied index"))).transpose()?;
        if let Some((found, path)) = newest(&snapshots, purged)? {
            let unread = StoreError::unread_state("snapshot");
            let state = hanse_state::codec::decode_state(&found.state).map_err(unread)?;
            check_heads(&store, &found.heads)?;
            let meta = found.meta;
            view = View {
                state: Arc::new(state),
                applied: meta.last_log_id,
                membership: meta.last_membership.clone(),
                heads: found.heads,
            };
            latest = Some((meta, path));
        }
        let kept = view.state.revision;
        let events = broadcast::Sender::new(NOTICES_MAX);
        let core = Core {
            store,
            snapshots,
            view: RwLock::new(view),
            latest: RwLock::new(latest),
            kept: AtomicU64::new(kept),
            saving: Arc::default(),
            events,
            records_sent: AtomicU64::new(0),
            meters: Meters::default(),
            stop,
        };
        Ok(Self { core: Arc::new(core), written })
    }

    pub(crate) fn core(&self) -> Arc<Core> {
        self.core.clone()
    }

    /// Applies one chunk and publishes it.
    async fn apply_chunk(&self, chunk: Vec<EntryResponder<Types>>) -> Result<(), io::Error> {
        let begun = Instant::now();
        let mut work = Work {
            view: self.core.view(),
            fresh: Vec::new(),
            replayed: Replayed::new(),
            answers: Vec::new(),
            changes: Vec::new(),
        };
        for (entry, responder) in chunk {
            let replay = self.written.is_some_and(|index| entry.log_id.index <= index);
            work.apply(entry, responder, replay).map_err(|e| self.core.halt(e))?;
        }
        let Work { view, mut fresh, replayed, answers, changes } = work;
        self.check_replayed(replayed).await?;
        let index = view.applied.map_or(0, |id| id.index);
        if self.written.is_none_or(|w| index > w) {
            fresh.push(put(APPLIED.to_vec(), &codec::encode(&index)));
            self.core.store.write(fresh).await?;
        }
        self.core.publish(view);
        self.core.meters.apply.since(begun);
        for (responder, answer) in answers {
            responder.send(answer);
        }
        if !changes.is_empty() {
            self.core.tell(Notice::Events(changes.into()));
        }
        Ok(())
    }

    /// Compares history that comes out of a replay with what is on disk.
    async fn check_replayed(&self, replayed: Replayed) -> Result<(), io::Error> {
        if replayed.is_empty() {
            return Ok(());
        }
        let core = self.core.clone();
        let check = move || replayed.iter().map(|(kind, made)| differs(&core.store, kind, made)).collect();
        let differing: Vec<Option<u64>> = blocking(check).await?;
        match differing.into_iter().flatten().min() {
            None => Ok(()),
            Some(index) => {
                let why = "replaying it gives other history than is on disk".to_owned();
                Err(self.core.halt(RaftError::Diverged { index, why }))
            }
        }
    }
}

/// One chunk while it is applied.
struct Work {
    view: View,
    fresh: Vec<Op>,
    replayed: Replayed,
    answers: Vec<(ApplyResponder<Types>, EntryAnswer)>,
    changes: Vec<Changes>,
}

impl Work {
    fn apply(&mut self, entry: Entry, responder: Option<ApplyResponder<Types>>, replay: bool) -> Result<(), RaftError> {
        let index = entry.log_id.index;
        let mut answer = Vec::new();
        match entry.payload {
            Payload::Blank => {}
            Payload::Membership(membership) => {
                self.view.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            Payload::Normal(bytes) => {
                for request in batch::split(&bytes.0).map_err(|why| RaftError::UnknownRequest { index, why })? {
                    let applied = self.request(index, request, replay)?;
                    if responder.is_some() {
                        answer.push(applied);
                    }
                }
            }
        }
        self.view.applied = Some(entry.log_id);
        if let Some(responder) = responder {
            self.answers.push((responder, answer));
        }
        Ok(())
    }

    /// Applies one request.
    fn request(&mut self, index: u64, bytes: &[u8], replay: bool) -> Result<Applied, RaftError> {
        let request = hanse_state::codec::decode_request(bytes)
            .map_err(|e| RaftError::UnknownRequest { index, why: e.to_string() })?;
        let revision = batch::revision(index, &self.view.state);
        let mut applied = hanse_state::apply(Arc::make_mut(&mut self.view.state), revision, &request);
        if let Some(divergence) = applied.diverged.take() {
            return Err(RaftError::Diverged { index, why: format!("{divergence:?}") });
        }
        let encoded = std::mem::take(&mut applied.encoded_records);
        for (record, body) in applied.records.iter().zip(encoded) {
            self.keep(index, record, body, replay)?;
        }
        if !applied.events.is_empty() {
            self.changes.push(Changes { revision, events: std::mem::take(&mut applied.events).into() });
        }
        Ok(applied)
    }

    fn keep(&mut self, index: u64, record: &Record, body: Vec<u8>, replay: bool) -> Result<(), RaftError> {
        let (kind, seq) = (record.kind(), record.seq());
        if !self.view.heads.contains_key(kind) {
            self.view.heads.insert(kind.to_owned(), 0);
        }
        let head = self.view.heads.get_mut(kind).expect("it was just put there");
        if seq != *head + 1 {
            let why = format!("it makes record {seq} of {kind} after record {head}");
            return Err(RaftError::Diverged { index, why });
        }
        *head = seq;
        if replay {
            self.replayed.entry(kind).or_default().push((index, seq, body));
        } else {
            self.fresh.push(put(history::key(kind, seq), &body));
        }
        Ok(())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFiles;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let view = self.core.view();
        Ok((view.applied, view.membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        let mut chunk = Vec::new();
        while let Some(item) = entries.next().await {
            chunk.push(item?);
            if chunk.len() == CHUNK {
                self.apply_chunk(std::mem::take(&mut chunk)).await?;
            }
        }
        if !chunk.is_empty() {
            self.apply_chunk(chunk).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        Builder { core: self.core.clone(), view: self.core.view() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFiles) -> Result<(), io::Error> {
        self.core.install(meta, snapshot).await.map_err(|e| self.core.halt(e.into()))
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::type_config::alias::SnapshotOf<Types, SnapshotFiles>>, io::Error> {
        let latest = self.core.latest();
        Ok(latest.map(|(meta, state)| openraft::Snapshot { meta, snapshot: SnapshotFiles { state, incoming: false } }))
    }
}

/// Makes a snapshot of one view in the background.
pub struct Builder {
    core: Arc<Core>,
    view: View,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFiles;

    async fn build_snapshot(
        &mut self,
    ) -> Result<openraft::type_config::alias::SnapshotOf<Types, SnapshotFiles>, io::Error> {
        // History up to the snapshot must be durable before the log that could make it again may go.
        self.core.store.write_patiently(Vec::new()).await?;
        let meta = SnapshotMeta { last_log_id: self.view.applied, last_membership: self.view.membership.clone() };
        let (view, encode_meta) = (self.view.clone(), meta.clone());
        let encode =
            move || Ok(snapshot::encode(&encode_meta, &view.heads, &hanse_state::codec::encode_state(&view.state)));
        let path = self.core.save(&meta, blocking(encode).await?).await?;
        self.core.set_latest(meta.clone(), path.clone(), self.view.state.revision);
        tracing::info!(index = meta.last_log_id.map_or(0, |id| id.index), "snapshot written");
        Ok(openraft::Snapshot { meta, snapshot: SnapshotFiles { state: path, incoming: false } })
    }
}
