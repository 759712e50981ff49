//! One replica: everything put together, and the calls the server makes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hanse_state::{Applied, Record, Request, State};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError as CoreError};
use openraft::storage::RaftLogStorage as _;
use openraft::{LinearizerOption, Raft, RaftLogReader as _, ReadPolicy};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::batch::{self, Waiting, WaitingRead};
use crate::config::{ReplicaConfig, Timings, check, core_config};
use crate::error::{Leader, ProposeError, RaftError, ReadError, StoreError};
use crate::history;
use crate::identity::{self, IdentityV1};
use crate::inside::Parts;
use crate::machine::{Core, Machine, blocking};
use crate::membership::{Keeper, Roll, keep};
use crate::meter::{Histogram, Room};
use crate::network::Network;
use crate::notice::Notice;
use crate::peer::PeerService;
use crate::replay::keep_short;
use crate::space::{self, keep_room};
use crate::status::{self, Status};
use crate::stop::Stop;
use crate::tasks::{close, finish, observe, serve};
use crate::types::{EntryBytes, Member, ReplicaId, Types};
use crate::wal::Wal;

/// Longest encoded request; one entry must fit a message between replicas many times over.
pub const ENTRY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Requests and reads that may wait for consensus at once; more are turned away.
const WAITING_MAX: usize = 1_024;
/// How long a request may wait for its answer.
const PROPOSE_LIMIT: Duration = Duration::from_secs(10);
/// A read may wait this long for a majority, however short the election times are: a busy machine is no partition.
const READ_WAIT_MIN: Duration = Duration::from_secs(1);
/// How long a leader that ends waits for another to take over.
const HAND_OVER_MAX: Duration = Duration::from_millis(500);
/// History records given by one read at most.
const HISTORY_LIMIT: usize = 10_000;

/// A running replica; a clone is another handle.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Waiting>,
    reads: mpsc::Sender<WaitingRead>,
}

/// What all handles and the batchers share.
pub(crate) struct Shared {
    id: ReplicaId,
    members: Arc<BTreeMap<ReplicaId, Member>>,
    raft: Raft<Types, Machine>,
    core: Arc<Core>,
    stop: Stop,
    timings: Timings,
    waiting: Semaphore,
    leader: watch::Receiver<Option<ReplicaId>>,
    leading: watch::Receiver<Option<u64>>,
    end: CancellationToken,
    ended: watch::Receiver<bool>,
    incarnation: Arc<str>,
    roll: Arc<Roll>,
    network: Network,
}

/// Gives the random name of the store: kept, or made now because the store is empty.
async fn incarnation(config: &ReplicaConfig, parts: &Parts, found: Option<IdentityV1>) -> Result<String, RaftError> {
    let unread = |e: std::io::Error| StoreError::io("read the end of the log", e);
    let mut log = parts.log.clone();
    let (ends, vote) = (log.get_log_state().await.map_err(unread)?, log.read_vote().await.map_err(unread)?);
    let core = parts.machine.core();
    let empty = ends.last_log_id.is_none() && vote.is_none() && core.view().applied.is_none();
    let (dir, cluster, id) = (config.data_dir.clone(), config.cluster_name.clone(), config.id);
    let known = core.ask_replicas(|it| it.incarnation(id.0).map(str::to_owned)).flatten();
    Ok(blocking(move || identity::settle(&dir, &cluster, id, found, empty, known)).await?)
}

impl Shared {
    /// Writes one entry and gives what its requests did, in order.
    pub(crate) async fn write(&self, entry: EntryBytes) -> Result<Vec<Applied>, ProposeError> {
        match self.raft.client_write(entry).await {
            Ok(answer) => Ok(answer.data),
            Err(CoreError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotLeader { leader: self.leader_of(&forward) })
            }
            // Discarded by a new leader here, but another replica may have it.
            Err(error) => Err(ProposeError::OutcomeUnknown(error.to_string())),
        }
    }

    /// Confirms the lead with a majority and gives the state as of then, or later.
    pub(crate) async fn confirm(&self) -> Result<Arc<State>, ReadError> {
        let limit = Duration::from_millis(self.timings.election_max_ms).max(READ_WAIT_MIN);
        let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(limit);
        let late = || ReadError::Unavailable(format!("no majority confirmed the lead within {limit:?}"));
        let confirmed = tokio::time::timeout(limit * 2, self.raft.get_read_linearizer(option)).await;
        let linearizer = match confirmed.map_err(|_| late())? {
            Ok(linearizer) => linearizer,
            Err(CoreError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                return Err(ReadError::NotLeader { leader: self.leader_of(&forward) });
            }
            Err(CoreError::APIError(LinearizableReadError::QuorumNotEnough(_))) => return Err(late()),
            Err(CoreError::Fatal(_)) => return Err(ReadError::Stopped),
        };
        match linearizer.try_await_ready(&self.raft, Some(limit)).await {
            Ok(Ok(_)) => Ok(self.core.state()),
            Ok(Err(_)) => Err(ReadError::Unavailable("the leader has not yet applied what is committed".into())),
            Err(_) => Err(ReadError::Stopped),
        }
    }

    fn leader_of(&self, forward: &ForwardToLeader<Types>) -> Option<Leader> {
        let id = forward.leader_id.filter(|id| *id != self.id)?;
        let member = self.member(id).or_else(|| forward.leader_node.clone())?;
        Some(Leader { id, member })
    }

    /// Where a replica is reached: the configuration's word, or the log's for those that came later.
    fn member(&self, id: ReplicaId) -> Option<Member> {
        let known = || self.raft.metrics().borrow_watched().membership_config.membership().get_node(&id).cloned();
        self.members.get(&id).cloned().or_else(known)
    }
}

impl Replica {
    /// Opens the store, replays the log and joins the peers. Returns once this replica's own state is as far as it
    /// knew before it stopped; it may still be behind the leader.
    ///
    /// # Errors
    /// [`RaftError::Store`] if the disk fails, is in use or is lost ([`RaftError::is_lost`]: exit with 78 and say
    /// [`StoreError::advice`]); [`RaftError::Config`], [`RaftError::Tls`], [`RaftError::Listen`] for what they say.
    pub async fn start(config: ReplicaConfig, shutdown: CancellationToken) -> Result<Self, RaftError> {
        check(&config)?;
        let identity = identity::check(&config.data_dir, &config.cluster_name, config.id)?;
        let listen_failed =
            |e: std::io::Error| RaftError::Listen { address: config.peer_listen.to_string(), source: Arc::new(e) };
        let listener = TcpListener::bind(config.peer_listen).await.map_err(listen_failed)?;
        let stop = Stop::default();
        if !space::wait_to_start(&config.data_dir, &shutdown).await? {
            return Err(RaftError::Stopped);
        }
        let (data_dir, parts_stop) = (config.data_dir.clone(), stop.clone());
        let parts = blocking(move || Parts::open(&data_dir, parts_stop)).await?;
        let store = parts.store.clone();
        match Self::join(config, listener, parts, stop, identity, &shutdown).await {
            Ok(replica) => Ok(replica),
            Err(error) => {
                close(store).await;
                Err(error)
            }
        }
    }

    async fn join(
        config: ReplicaConfig,
        listener: TcpListener,
        parts: Parts,
        stop: Stop,
        identity: Option<IdentityV1>,
        shutdown: &CancellationToken,
    ) -> Result<Self, RaftError> {
        let core = parts.machine.core();
        let members = Arc::new(config.members.clone());
        let incarnation: Arc<str> = incarnation(&config, &parts, identity).await?.into();
        let roll = Arc::new(Roll::default());
        let network = Network {
            cluster: config.cluster_name.clone(),
            id: config.id,
            members: members.clone(),
            tls: config.tls.clone(),
            timings: config.timings,
            core: core.clone(),
            incarnation: incarnation.clone(),
            roll: roll.clone(),
            stop: stop.clone(),
        };
        let core_config = Arc::new(core_config(&config)?);
        let Parts { mut log, machine, .. } = parts;
        log.belong_to(config.id);
        let raft = Raft::new(config.id, core_config, network.clone(), log, machine).await;
        // A cause found while replaying says more than openraft's.
        let raft = raft.map_err(|e| stop.get().unwrap_or_else(|| RaftError::Fatal(e.to_string())))?;
        let service = PeerService::new(&network, raft.clone());
        let end = shutdown.child_token();
        let mut tasks = JoinSet::new();
        match serve(config.tls.clone(), listener, service, end.clone(), stop.clone()) {
            Ok(serving) => drop(tasks.spawn(serving)),
            Err(error) => {
                // The first error is the one to report.
                let _ = raft.shutdown().await;
                return Err(error);
            }
        }
        let (leader_sender, leader) = watch::channel(None);
        let (leading_sender, leading) = watch::channel(None);
        tasks.spawn(observe(raft.clone(), config.timings, stop.clone(), leader_sender, leading_sender));
        tasks.spawn(keep_room(core.store.clone(), raft.clone(), network.clone(), leading.clone(), end.clone()));
        tasks.spawn(keep_short(raft.clone(), core.clone(), end.clone()));
        let keeper = Keeper {
            raft: raft.clone(),
            network: network.clone(),
            roll: roll.clone(),
            stop: stop.clone(),
            first: config.bootstrap.then_some(config.members),
            looks: 0,
            leading: leading.clone(),
            end: end.clone(),
        };
        tasks.spawn(keep(keeper));
        let (ended_sender, ended) = watch::channel(false);
        tokio::spawn(finish(end.clone(), raft.clone(), core.clone(), stop.clone(), tasks, ended_sender));
        let shared = Shared {
            id: config.id,
            members,
            raft,
            core,
            stop,
            timings: config.timings,
            waiting: Semaphore::new(WAITING_MAX),
            leader,
            leading,
            end: end.clone(),
            ended,
            incarnation,
            roll,
            network,
        };
        let shared = Arc::new(shared);
        let (requests, waiting_requests) = mpsc::channel(WAITING_MAX);
        let (reads, waiting_reads) = mpsc::channel(WAITING_MAX);
        tokio::spawn(batch::send(shared.clone(), waiting_requests, end.clone()));
        tokio::spawn(batch::read(shared.clone(), waiting_reads, end.clone()));
        Ok(Self { shared, requests, reads })
    }

    /// Proposes a request and waits until this replica, the leader, has applied it. Returns what applying it did; a
    /// business "no" is in its outcome. Its events went to the watchers ([`Replica::watch_events`]) and are not in it.
    ///
    /// # Errors
    /// [`ProposeError`] says whether it had effect; only [`ProposeError::OutcomeUnknown`] may have.
    pub async fn propose(&self, request: Request) -> Result<Applied, ProposeError> {
        if self.shared.stop.get().is_some() {
            return Err(ProposeError::Stopped);
        }
        let bytes = hanse_state::codec::encode_request(&request);
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: bytes.len(), limit: ENTRY_BYTES_MAX });
        }
        let begun = Instant::now();
        let result = match self.check_readable(&request.command).await {
            Ok(_turn) => self.propose_bytes(bytes).await,
            Err(error) => Err(error),
        };
        self.shared.core.meters.proposal(begun, &result);
        result
    }

    pub(crate) async fn propose_bytes(&self, bytes: Vec<u8>) -> Result<Applied, ProposeError> {
        let busy = |_| ProposeError::Unavailable(format!("{WAITING_MAX} requests are waiting"));
        let _turn = self.shared.waiting.try_acquire().map_err(busy)?;
        if let Some(why) = self.shared.core.store.short_of_space() {
            return Err(ProposeError::DiskFull(why));
        }
        let (answer, wait) = oneshot::channel();
        self.requests.send(Waiting { bytes, answer }).await.map_err(|_| ProposeError::Stopped)?;
        match tokio::time::timeout(PROPOSE_LIMIT, wait).await {
            Err(_) => Err(ProposeError::OutcomeUnknown(format!("no answer within {PROPOSE_LIMIT:?}"))),
            Ok(Err(_)) => Err(ProposeError::OutcomeUnknown("the replica stopped meanwhile".into())),
            Ok(Ok(answer)) => answer,
        }
    }

    /// Gives a state that holds every request answered before this call: the leader confirms its lead with a majority
    /// (ReadIndex), then waits until it has applied what was committed. Reads that wait at once share one round.
    ///
    /// # Errors
    /// [`ReadError`]; a leader cut off from the majority gives [`ReadError::Unavailable`].
    pub async fn read(&self) -> Result<Arc<State>, ReadError> {
        if self.shared.stop.get().is_some() {
            return Err(ReadError::Stopped);
        }
        let busy = |_| ReadError::Unavailable(format!("{WAITING_MAX} requests are waiting"));
        let _turn = self.shared.waiting.try_acquire().map_err(busy)?;
        let (answer, wait) = oneshot::channel();
        self.reads.send(answer).await.map_err(|_| ReadError::Stopped)?;
        wait.await.map_err(|_| ReadError::Stopped)?
    }

    /// Gives this replica's own state if it leads and has applied everything that was acknowledged before it led: then
    /// only a newer leader may know more. Enough to refuse early or to prepare an order, never to answer a read.
    #[must_use]
    pub fn near(&self) -> Option<Arc<State>> {
        let term = self.is_leader()?;
        self.shared.core.state_in_term(term)
    }

    /// Gives this replica's own state, possibly behind.
    #[must_use]
    pub fn local(&self) -> Arc<State> {
        self.shared.core.state()
    }

    /// Gives up to `limit` history records of a kind after `after_seq` (0: from the first), as of [`Replica::local`].
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Lost`] if a record is damaged or missing.
    pub async fn history(&self, kind: &str, after_seq: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let core = self.shared.core.clone();
        let last = core.view().heads.get(kind).copied().unwrap_or(0);
        let kind = kind.to_owned();
        let read = move || history::read(&core.store, &kind, Some(after_seq), last, limit.min(HISTORY_LIMIT));
        let mut records = Vec::new();
        for (place, (seq, body)) in blocking(read).await?.into_iter().enumerate() {
            if seq != after_seq + 1 + place as u64 {
                return Err(StoreError::lost("history", format!("record {} is missing", after_seq + 1 + place as u64)));
            }
            let record = hanse_state::codec::decode_record(&body);
            records.push(record.map_err(|e| StoreError::lost(format!("history record {seq}"), e))?);
        }
        Ok(records)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.shared.core
    }

    /// Follows changes from now on. A watcher that falls behind gets `Lagged` and reads the state anew.
    #[must_use]
    pub fn watch_events(&self) -> broadcast::Receiver<Notice> {
        self.shared.core.events.subscribe()
    }

    /// Gives this replica's own view of itself and, on the leader, of the others.
    #[must_use]
    pub fn status(&self) -> Status {
        let snapshot = self.shared.core.latest().and_then(|(meta, _)| meta.last_log_id).map(|id| id.index);
        let metrics = self.shared.raft.metrics().borrow_watched().clone();
        let silence = Duration::from_millis(self.shared.timings.election_max_ms);
        let heard = self.shared.roll.heard();
        status::status(&metrics, &self.shared.core.view(), snapshot, silence, &self.shared.incarnation, heard)
    }

    /// Gives how many proposals had each end, by its name.
    #[must_use]
    pub fn proposals(&self) -> Vec<(&'static str, u64)> {
        self.shared.core.meters.proposals()
    }

    /// Gives how long proposals took from their arrival to their answer.
    #[must_use]
    pub fn commit_times(&self) -> &Histogram {
        &self.shared.core.meters.commit
    }

    /// Gives how long chunks of entries took to be applied.
    #[must_use]
    pub fn apply_times(&self) -> &Histogram {
        &self.shared.core.meters.apply
    }

    /// Gives how long the log's syncs took.
    ///
    /// # Errors
    /// [`StoreError::Closed`] after the end.
    pub fn fsync_times(&self) -> Result<&Histogram, StoreError> {
        self.shared.core.store.log().map(Wal::fsync_times).ok_or(StoreError::Closed)
    }

    /// Gives what the replica takes on its disk, and what is free there.
    ///
    /// # Errors
    /// [`StoreError::Io`] for what the system answers.
    pub async fn room(&self) -> Result<Room, StoreError> {
        let core = self.shared.core.clone();
        let latest = core.latest().map(|(_, path)| path);
        let room = blocking(move || core.store.space().measure()).await?;
        let modified = |path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        Ok(Room { snapshot_at: latest.and_then(modified), ..room })
    }

    /// Follows who leads, as far as this replica knows.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Option<ReplicaId>> {
        self.shared.leader.clone()
    }

    /// Follows the term this replica leads in; `None` while it does not, or no longer hears a majority.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<Option<u64>> {
        self.shared.leading.clone()
    }

    /// Gives the term this replica leads in, if it does. Only a committed entry proves it: this is a hint.
    #[must_use]
    pub fn is_leader(&self) -> Option<u64> {
        *self.shared.leading.borrow()
    }

    /// Gives the leader and where it is reached, as far as known; `None` on the leader itself too.
    #[must_use]
    pub fn known_leader(&self) -> Option<Leader> {
        let id = (*self.shared.leader.borrow()).filter(|id| *id != self.shared.id)?;
        Some(Leader { id, member: self.shared.member(id)? })
    }

    /// Gives the way to the peers.
    pub(crate) fn network(&self) -> &Network {
        &self.shared.network
    }

    /// Gives what changes of the membership work with.
    pub(crate) fn raft_parts(&self) -> (&Raft<Types, Machine>, &Roll) {
        (&self.shared.raft, &self.shared.roll)
    }

    /// Says whether the log knows that a replica was removed for ever.
    #[must_use]
    pub fn is_gone(&self, id: ReplicaId) -> bool {
        self.shared.core.ask_replicas(|it| it.is_gone(id.0)).unwrap_or(false)
    }

    /// Gives this replica's id.
    #[must_use]
    pub fn id(&self) -> ReplicaId {
        self.shared.id
    }

    /// Asks `to` to take the lead; returns when the order is given, not when it is done. Nothing happens on a follower.
    ///
    /// # Errors
    /// [`RaftError::Fatal`] if the replica has stopped.
    pub async fn transfer_leader(&self, to: ReplicaId) -> Result<(), RaftError> {
        self.shared.raft.trigger().transfer_leader(to).await.map_err(|e| RaftError::Fatal(e.to_string()))
    }

    /// Lets the follower that has the most take the lead, if this replica leads; for an orderly end, so that nobody has
    /// to wait for an election. Returns when another leads, or after half a second.
    pub async fn hand_over(&self) {
        let mut leader = self.leadership();
        if self.is_leader().is_none() {
            return;
        }
        let status = self.status();
        let others = status.matched.iter().filter(|(id, _)| **id != self.shared.id);
        let Some((to, _)) = others.max_by_key(|(_, matched)| **matched) else { return };
        if let Err(error) = self.transfer_leader(*to).await {
            tracing::warn!(%error, "the lead could not be handed over");
            return;
        }
        let own = self.shared.id;
        let taken = leader.wait_for(|leader| leader.is_some_and(|id| id != own));
        if tokio::time::timeout(HAND_OVER_MAX, taken).await.is_err() {
            tracing::warn!(%to, "nobody took the lead in time");
        }
    }

    /// Waits until the replica has stopped by itself or was shut down; gives the cause. The program must then end.
    pub async fn stopped(&self) -> RaftError {
        self.shared.stop.wait().await
    }

    /// Ends the replica and lets its folder and port go. Returns when that is done.
    pub async fn shutdown(&self) {
        self.shared.end.cancel();
        let mut ended = self.shared.ended.clone();
        // The sender is dropped only after it has said so, or with the runtime.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}
