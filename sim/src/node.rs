//! A replica's host: disk, state machine and openraft, and who answers its mail.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use hanse_raft::{Member, ProposeError, ReadError, ReplicaId};
use hanse_state::{Applied, Command, Millis, Request, State, codec};
use openraft::error::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::{Config, LinearizerOption, ReadPolicy, SnapshotPolicy};
use openraft_rt::AsyncRuntime;
use tokio::sync::{mpsc, watch};

use crate::acts::Life;
use crate::disk::Disk;
use crate::leader::{self, Call};
use crate::machine::Machine;
use crate::membership::Roll;
use crate::mutant::Mutant;
use crate::network::{Network, host};
use crate::post::{Body, Mail, Post};
use crate::runtime::SimRuntime;
use crate::types::{EntryBytes, Raft, Snapshot};
use crate::world::{Order, Shared};

/// As the raft crate's defaults.
pub(crate) const HEARTBEAT_MS: u64 = 150;
/// As the raft crate's defaults.
pub(crate) const ELECTION_MIN_MS: u64 = 1_000;
/// As the raft crate's defaults.
pub(crate) const ELECTION_MAX_MS: u64 = 2_000;
/// As the raft crate's limit of one proposal.
const PROPOSE_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks for orders.
const ORDERS_EVERY: Duration = Duration::from_millis(50);

/// A replica; a clone is another handle.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: ReplicaId,
    pub(crate) raft: Raft,
    pub(crate) machine: Machine,
    pub(crate) post: Post,
    pub(crate) shared: Shared,
    pub(crate) roll: Arc<Roll>,
    /// Who leads, as far as it knows.
    pub(crate) leader: watch::Receiver<Option<ReplicaId>>,
    /// The others that it was started with.
    pub(crate) told: Arc<[ReplicaId]>,
}

/// Where a machine is said to be reached.
pub(crate) fn member(machine: u64) -> Member {
    Member { peer_address: format!("machine-{machine}:7001"), api_address: format!("machine-{machine}:7002") }
}

/// The raft crate's choices (`config::core_config`) with a short log, so that snapshots and purges are many.
fn config(snapshot_every: u64) -> Result<Config, io::Error> {
    let config = Config {
        cluster_name: "sim".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
        max_in_snapshot_log_to_keep: snapshot_every / 10,
        replication_lag_threshold: snapshot_every.saturating_mul(2),
        install_snapshot_timeout: 60_000,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    config.validate().map_err(io::Error::other)
}

/// Runs a replica until its host crashes.
pub(crate) async fn run(
    id: ReplicaId,
    disk: Disk,
    shared: Shared,
    snapshot_every: u64,
    founders: Vec<ReplicaId>,
) -> Result<(), Box<dyn std::error::Error>> {
    let start = loop {
        let start = { shared.world().start(id) };
        match start {
            Some(start) => break start,
            None => tokio::time::sleep(ORDERS_EVERY).await,
        }
    };
    let life = Life { replica: id, number: shared.world().born(id) };
    let seed = shared.seed ^ (id.0 << 32) ^ life.number;
    SimRuntime::scope(seed, async move {
        SimRuntime::spawn(disk.clone().write_out());
        let machine = Machine::open(id, disk.clone(), shared.clone());
        let post = Post::open(&host(id), shared.clone()).await?;
        let roll = Arc::new(Roll::default());
        let network = Network { id, post: post.clone(), shared: shared.clone(), roll: roll.clone() };
        let is_new = disk.seen(|content| content.last().is_none() && content.vote.is_none());
        let config = Arc::new(config(snapshot_every)?);
        let raft = Raft::new(id, config, network, disk, machine.clone()).await?;
        shared.world().rafts.insert(id, (raft.clone(), machine.clone()));
        let (sender, leader) = watch::channel(None);
        tokio::spawn(leader::observe(raft.clone(), sender));
        let node = Node { id, raft, machine, post, shared, roll, leader, told: start.members.into() };
        SimRuntime::spawn(node.clone().lead(leader::spawn(life, node.clone())));
        SimRuntime::spawn(node.clone().follow_orders());
        SimRuntime::spawn(node.clone().keep());
        if is_new && founders.first() == Some(&id) {
            let members: BTreeMap<ReplicaId, Member> = founders.iter().map(|id| (*id, member(id.0))).collect();
            let raft = node.raft.clone();
            // Refused if another start of this replica has done it.
            SimRuntime::spawn(async move { drop(raft.initialize(members).await) });
        }
        loop {
            let mail = node.post.next().await?;
            SimRuntime::spawn(node.clone().serve(mail));
        }
    })
    .await
}

impl Node {
    async fn serve(self, mail: Mail) {
        // As the peer service: whoever was removed is told so, and nothing else.
        let gone = mail.replica().is_some_and(|sender| self.is_gone(sender));
        let body = if gone { Some(Body::Removed) } else { self.reply(mail.body.clone()).await };
        let Some(body) = body else { return };
        // A lost answer is an ordinary fault here.
        drop(self.post.answer(&mail, body).await);
    }

    /// Gives the answer, or none if openraft has ended or refuses: then the caller runs into its limit.
    async fn reply(&self, body: Body) -> Option<Body> {
        Some(match body {
            Body::Append(rpc) => Body::Appended(self.raft.append_entries(rpc).await.ok()?),
            Body::Vote(rpc) => Body::Voted(self.raft.vote(rpc).await.ok()?),
            Body::PreVote(rpc) => Body::Voted(self.raft.pre_vote(rpc).await.ok()?),
            Body::Snapshot(vote, meta, bytes) => {
                let snapshot = Snapshot { meta, snapshot: Cursor::new(bytes.to_vec()) };
                Body::Installed(self.raft.install_full_snapshot(vote, snapshot).await.ok()?)
            }
            Body::Transfer(rpc) => Body::Transferred(self.raft.handle_transfer_leader(rpc).await.ok()?),
            Body::Propose(request) => {
                // As the API: stamped by who leads, when it arrives.
                let at = Millis(self.shared.world().clock_ms(self.id));
                let request = Request { at, ..*request };
                match request.command {
                    Command::AddReplica(_)
                    | Command::PromoteReplica(_)
                    | Command::RemoveReplica(_)
                    | Command::TransferLeader(_) => self.order(request).await,
                    _ => self.propose(request).await,
                }
            }
            Body::Hello => Body::HelloToo,
            Body::Read => match self.read().await {
                Ok(state) => Body::ReadDone(Box::new(state)),
                Err(not_read) => not_read,
            },
            _ => return None,
        })
    }

    /// As `Replica::propose`: encode, write, and say "unknown" of what may have happened.
    pub(crate) async fn propose(&self, request: Request) -> Body {
        let bytes = EntryBytes(codec::encode_request(&request).into());
        if self.shared.has(Mutant::AnswerBeforeCommit) && self.raft.is_leader() {
            let mut state = self.machine.view().state;
            let next = state.revision + 1;
            let applied = hanse_state::apply(&mut state, next, &request);
            drop(self.raft.client_write_ff(bytes, None).await);
            return Body::Proposed(Arc::new(applied));
        }
        match tokio::time::timeout(PROPOSE_LIMIT, self.raft.client_write(bytes)).await {
            Ok(Ok(written)) => written.data.map_or(Body::Unknown, Body::Proposed),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => Body::NotLeader(to.leader_id),
            Ok(Err(_)) | Err(_) => Body::Unknown,
        }
    }

    /// As `Replica::read`: a majority confirms the lead, then everything committed is applied, then the state is read.
    pub(crate) async fn read(&self) -> Result<State, Body> {
        let limit = Duration::from_millis(ELECTION_MAX_MS);
        if !self.shared.has(Mutant::ReadWithoutIndex) {
            let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(limit);
            let confirmed = tokio::time::timeout(limit * 2, self.raft.get_read_linearizer(option)).await;
            let linearizer = match confirmed {
                Ok(Ok(linearizer)) => linearizer,
                Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to)))) => {
                    return Err(Body::NotLeader(to.leader_id));
                }
                Ok(Err(_)) | Err(_) => return Err(Body::Unknown),
            };
            if !matches!(linearizer.try_await_ready(&self.raft, Some(limit)).await, Ok(Ok(_))) {
                return Err(Body::Unknown);
            }
        } else if !self.raft.is_leader() {
            return Err(Body::NotLeader(None));
        }
        Ok(self.machine.view().state)
    }

    /// Serves this replica's reconcilers.
    async fn lead(self, mut calls: mpsc::Receiver<Call>) {
        while let Some(call) = calls.recv().await {
            let node = self.clone();
            // Who asked may have ended with its lead.
            SimRuntime::spawn(async move {
                match call {
                    Call::Propose(request, answer) => drop(answer.send(proposed(node.propose(*request).await))),
                    Call::Read(answer) => drop(answer.send(node.read().await.map_err(not_read))),
                    Call::Change(change, mut answer) => tokio::select! {
                        biased;
                        // With its lead goes the change, where it is: a later leader finds what is left of it.
                        () = answer.closed() => {}
                        done = node.change(change) => drop(answer.send(done)),
                    },
                    Call::HandOver(to, answer) => {
                        let asked = node.raft.trigger().transfer_leader(to).await;
                        drop(answer.send(asked.map_err(|_| hanse_raft::RaftError::Stopped)));
                    }
                    Call::Go => node.go().await,
                }
            });
        }
    }

    /// Does what the schedule wants of this replica.
    async fn follow_orders(self) {
        loop {
            tokio::time::sleep(ORDERS_EVERY).await;
            let orders = self.shared.world().orders.remove(&self.id).unwrap_or_default();
            if orders.is_empty() {
                continue;
            }
            let node = self.clone();
            SimRuntime::spawn(async move {
                for order in orders {
                    node.clone().obey(order).await;
                }
            });
        }
    }

    async fn obey(self, order: Order) {
        let done = match order.clone() {
            Order::Snapshot => self.raft.trigger().snapshot().await.map_err(|e| e.to_string()),
            Order::Purge(upto) => self.raft.trigger().purge_log(upto).await.map_err(|e| e.to_string()),
            Order::Transfer(to) => self.raft.trigger().transfer_leader(to).await.map_err(|e| e.to_string()),
        };
        // Whether it could is chance: the trace has it.
        self.shared.world().say(&format!(
            "{} obeys {order:?}: {}",
            self.id,
            if done.is_ok() { "done" } else { "refused" }
        ));
    }
}

/// As `Replica::propose` says it.
fn proposed(body: Body) -> Result<Applied, ProposeError> {
    match body {
        Body::Proposed(applied) => Ok((*applied).clone()),
        Body::NotLeader(_) => Err(ProposeError::NotLeader { leader: None }),
        _ => Err(ProposeError::OutcomeUnknown("no answer".into())),
    }
}

/// As `Replica::read` says it.
fn not_read(body: Body) -> ReadError {
    match body {
        Body::NotLeader(_) => ReadError::NotLeader { leader: None },
        _ => ReadError::Unavailable("no majority confirmed the lead".into()),
    }
}
