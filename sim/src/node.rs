//! A replica's host: disk, state machine and openraft, and who answers its mail.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use hanse_raft::{Member, ProposeError, ReadError, ReplicaId};
use hanse_state::{Applied, Millis, Request, State, codec};
use openraft::error::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::{ChangeMembers, Config, LinearizerOption, ReadPolicy, SnapshotPolicy};
use openraft_rt::AsyncRuntime;
use tokio::sync::mpsc;

use crate::acts::Life;
use crate::disk::Disk;
use crate::leader::{self, Call};
use crate::machine::Machine;
use crate::mutant::Mutant;
use crate::network::{Network, host};
use crate::post::{Body, Mail, Post};
use crate::runtime::SimRuntime;
use crate::types::{EntryBytes, Raft, Snapshot};
use crate::world::{Order, Shared};

/// As the raft crate's defaults.
const HEARTBEAT_MS: u64 = 150;
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
struct Node {
    id: ReplicaId,
    raft: Raft,
    machine: Machine,
    post: Post,
    shared: Shared,
}

/// Where a simulated replica is said to be reached.
pub(crate) fn member(id: ReplicaId) -> Member {
    Member { peer_address: host(id), api_address: host(id) }
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
    let life = Life { replica: id, number: shared.world().born(id) };
    let seed = shared.seed ^ (id.0 << 32) ^ life.number;
    SimRuntime::scope(seed, async move {
        SimRuntime::spawn(disk.clone().write_out());
        let machine = Machine::open(id, disk.clone(), shared.clone());
        let post = Post::open(&host(id), shared.clone()).await?;
        let network = Network { post: post.clone(), shared: shared.clone() };
        let is_new = disk.seen(|content| content.last().is_none() && content.vote.is_none());
        let config = Arc::new(config(snapshot_every)?);
        let raft = Raft::new(id, config, network, disk, machine.clone()).await?;
        shared.world().rafts.insert(id, (raft.clone(), machine.clone()));
        let node = Node { id, raft: raft.clone(), machine: machine.clone(), post, shared: shared.clone() };
        SimRuntime::spawn(node.clone().lead(leader::spawn(life, raft, machine, shared)));
        SimRuntime::spawn(node.clone().follow_orders());
        if is_new && founders.first() == Some(&id) {
            let members: BTreeMap<ReplicaId, Member> = founders.iter().map(|id| (*id, member(*id))).collect();
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
        let Some(body) = self.reply(mail.body.clone()).await else { return };
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
                self.propose(Request { at, ..*request }).await
            }
            Body::Read => match self.read().await {
                Ok(state) => Body::ReadDone(Box::new(state)),
                Err(not_read) => not_read,
            },
            _ => return None,
        })
    }

    /// As `Replica::propose`: encode, write, and say "unknown" of what may have happened.
    async fn propose(&self, request: Request) -> Body {
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
    async fn read(&self) -> Result<State, Body> {
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
            // One after the other: openraft refuses a change of the membership while another is under way.
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
            Order::Learner(id) => {
                self.raft.add_learner(id, member(id), true).await.map(drop).map_err(|e| e.to_string())
            }
            Order::Voters(ids) => {
                let ids = ids.into_iter().collect();
                let change = ChangeMembers::ReplaceAllVoters(ids);
                self.raft.change_membership(change, true).await.map(drop).map_err(|e| e.to_string())
            }
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
