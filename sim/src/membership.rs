//! Who belongs: what `hanse_raft::membership` and the API's replica service do, on a simulated replica.
//!
//! Written again over the simulated raft as `Replica::propose` and `Replica::read` are (`node`): one change at a time, a
//! joint configuration that an interrupted change has left is ended first, a leader never takes itself out, a replica in
//! doubt asks the others about itself. The view is the server's own. What this never does: decide who may go; that is
//! the state's, the planner's and the reconciler's, which are real.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hanse_planner::MembershipView;
use hanse_raft::{ChangeError, Member, ReplicaId, Role, Status};
use hanse_server::reconcile::replica::view;
use hanse_state::replica::Replicas;
use hanse_state::{Command, Digest, Request, State};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant, ServerState};
use tokio::sync::Mutex as Turn;

use crate::network::host;
use crate::node::{ELECTION_MAX_MS, ELECTION_MIN_MS, HEARTBEAT_MS, Node};
use crate::post::Body;

/// As the raft crate's.
const CHANGE_LIMIT: Duration = Duration::from_secs(20);
/// As the raft crate's, in heartbeats.
const LOOK_HEARTBEATS: u64 = 5;
/// As the raft crate's.
const ASK_LOOKS: u32 = 20;
/// As the API's.
const TRANSFER_MAX: Duration = Duration::from_secs(10);
/// As the API's.
const TRANSFER_AGAIN: Duration = Duration::from_secs(1);

/// A change of the membership, or of the lead.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    AddLearner(ReplicaId, Member),
    Promote(ReplicaId),
    Remove(ReplicaId),
}

/// As the raft crate's: the turn of a change, and the names of data folders that were heard.
#[derive(Default)]
pub(crate) struct Roll {
    turn: Turn<()>,
    heard: Mutex<BTreeMap<ReplicaId, String>>,
}

impl Roll {
    fn heard(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, String>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A replica has answered after it had stored something.
    pub(crate) fn hear(&self, id: ReplicaId) {
        self.heard().entry(id).or_insert_with(|| incarnation(id));
    }
}

/// Name of a replica's data folder; here each id has one folder for ever.
fn incarnation(id: ReplicaId) -> String {
    Digest::of(format!("folder of {id}").as_bytes()).to_string().chars().take(32).collect()
}

/// openraft's second step of every change.
fn leave_joint() -> ChangeMembers<ReplicaId, Member> {
    ChangeMembers::AddVoterIds(BTreeSet::new())
}

/// What the log knows of the replicas.
fn known(state: &State) -> Replicas {
    state.cluster.as_ref().map(|cluster| cluster.replicas.clone()).unwrap_or_default()
}

impl Node {
    /// As `Replica::status`.
    pub(crate) fn status(&self) -> Status {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let role = match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let silence = Duration::from_millis(ELECTION_MAX_MS);
        let beats = metrics.heartbeat.iter().flatten();
        let mut heard: BTreeSet<ReplicaId> =
            beats.filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() < silence)).map(|(id, _)| *id).collect();
        if role == Role::Leader {
            heard.insert(self.id);
        }
        let matched = metrics.replication.iter().flatten();
        let membership = metrics.membership_config.membership();
        let view = self.machine.view();
        Status {
            id: self.id,
            role,
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log_index: metrics.last_log_index,
            committed: metrics.local_committed.map(|id| id.index),
            applied: view.applied.map(|id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            // Nothing here asks for it.
            digest: String::new(),
            digest_revision: view.state.revision,
            members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
            voters: membership.voter_ids().collect(),
            joint: membership.get_joint_config().len() > 1,
            heard,
            incarnation: incarnation(self.id),
            incarnations: self.roll.heard().clone(),
            matched: matched.map(|(id, at)| (*id, at.as_ref().map(|at| at.index))).collect(),
        }
    }

    /// As the leader sees it.
    pub(crate) fn membership(&self) -> MembershipView {
        view(&self.status())
    }

    /// Whether the log that this replica has applied says that another was removed for ever.
    pub(crate) fn is_gone(&self, id: ReplicaId) -> bool {
        self.machine.view().state.cluster.is_some_and(|cluster| cluster.replicas.is_gone(id.0))
    }

    /// As `Replica::add_learner`, `promote` and `remove`.
    pub(crate) async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let _turn = self.roll.turn.lock().await;
        if !matches!(change, Change::AddLearner(..)) {
            self.settle().await?;
        }
        let status = self.status();
        match change {
            Change::AddLearner(id, _) if status.members.contains_key(&id) => Ok(()),
            Change::AddLearner(id, member) => {
                self.change_members(ChangeMembers::AddNodes(BTreeMap::from([(id, member)]))).await
            }
            Change::Promote(id) => {
                // All replicas are of one build; but one that gives no answer gets no vote.
                if self.hello(id, Duration::from_millis(ELECTION_MAX_MS)).await.is_none() {
                    return Err(ChangeError::Refused(format!("replica {id} does not say what it speaks")));
                }
                self.change_members(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
            }
            Change::Remove(id) if id == self.id => {
                Err(ChangeError::Refused("the leader hands the lead over before it goes".into()))
            }
            Change::Remove(id) if status.voters.contains(&id) => {
                self.change_members(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await
            }
            Change::Remove(id) if status.members.contains_key(&id) => {
                self.change_members(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await
            }
            Change::Remove(_) => Ok(()),
        }
    }

    /// The mistake: a leader that is to go takes itself out and hands nothing over.
    pub(crate) async fn go(&self) {
        let _turn = self.roll.turn.lock().await;
        drop(self.change_members(ChangeMembers::RemoveVoters(BTreeSet::from([self.id]))).await);
    }

    async fn settle(&self) -> Result<(), ChangeError> {
        if !self.status().joint {
            return Ok(());
        }
        self.change_members(leave_joint()).await?;
        self.inherited();
        Ok(())
    }

    fn inherited(&self) {
        let mut world = self.shared.world();
        world.roster.inherited += 1;
        world.say(&format!("{} leaves a joint configuration", self.id));
    }

    async fn change_members(&self, wish: ChangeMembers<ReplicaId, Member>) -> Result<(), ChangeError> {
        let words = format!("{wish:?}");
        self.shared.world().say(&format!("{} begins {words}", self.id));
        let done = match tokio::time::timeout(CHANGE_LIMIT, self.raft.change_membership(wish, false)).await {
            Err(_) => Err(ChangeError::Unknown(format!("not durable on a majority within {CHANGE_LIMIT:?}"))),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ChangeError::NotLeader),
            Ok(Err(RaftError::APIError(error))) => Err(ChangeError::Refused(error.to_string())),
            Ok(Err(RaftError::Fatal(error))) => Err(ChangeError::Unknown(error.to_string())),
        };
        let ended = done.as_ref().map_or_else(ToString::to_string, |()| "done".into());
        self.shared.world().say(&format!("{} {words}: {ended}", self.id));
        done
    }

    /// As the raft crate's `membership::keep`.
    pub(crate) async fn keep(self) {
        let mut looks = 0;
        loop {
            self.look(&mut looks).await;
            tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS * LOOK_HEARTBEATS)).await;
        }
    }

    async fn look(&self, looks: &mut u32) {
        if *self.leader.borrow() == Some(self.id) {
            return self.leave_joint().await;
        }
        let metrics = self.raft.metrics().borrow_watched().clone();
        let named = metrics.membership_config.membership().nodes().any(|(id, _)| *id == self.id);
        let follows = metrics.current_leader.is_some_and(|id| id != self.id);
        *looks += 1;
        if named && (follows || metrics.state == ServerState::Leader) && *looks < ASK_LOOKS {
            return;
        }
        *looks = 0;
        let members = metrics.membership_config.membership().nodes().map(|(id, _)| *id);
        let others: BTreeSet<ReplicaId> =
            members.chain(self.told.iter().copied()).filter(|id| *id != self.id).collect();
        let limit = Duration::from_millis(ELECTION_MIN_MS);
        futures::future::join_all(others.into_iter().map(|id| self.hello(id, limit))).await;
    }

    async fn leave_joint(&self) {
        if !self.status().joint {
            return;
        }
        let Ok(_turn) = self.roll.turn.try_lock() else { return };
        if self.change_members(leave_joint()).await.is_ok() {
            self.inherited();
        }
    }

    async fn hello(&self, to: ReplicaId, limit: Duration) -> Option<()> {
        let answer = self.post.call(&host(to), Body::Hello, limit).await.ok()?;
        self.shared.world().heed(self.id, &answer);
        matches!(answer, Body::HelloToo).then_some(())
    }

    /// As the API's replica service: what can only be judged by looking is judged here, before it is written down.
    pub(crate) async fn order(&self, request: Request) -> Body {
        let state = match self.read().await {
            Ok(state) => state,
            Err(not_read) => return not_read,
        };
        let view = self.membership();
        if matches!(request.command, Command::AddReplica(_)) && !all_recorded(&state, &view) {
            // The API waits; here the client asks again.
            return Body::Unknown;
        }
        let command = match judge(&state, &view, &request) {
            Ok(command) => command,
            Err(why) => return Body::TurnedAway(why),
        };
        let to = match &command {
            Command::TransferLeader(it) if it.replica != self.id.0 => Some(ReplicaId(it.replica)),
            _ => None,
        };
        let answer = self.propose(Request { command, ..request }).await;
        match (to, &answer) {
            (Some(to), Body::Proposed(applied)) if applied.outcome.is_ok() && !self.hand_over(to).await => {
                Body::Unknown
            }
            _ => answer,
        }
    }

    /// As the API's: asks until another leads; gives whether that came.
    async fn hand_over(&self, to: ReplicaId) -> bool {
        let mut leader = self.leader.clone();
        let moved = async {
            loop {
                if self.raft.trigger().transfer_leader(to).await.is_err() {
                    return false;
                }
                let gone = leader.wait_for(|leader| *leader != Some(self.id));
                if tokio::time::timeout(TRANSFER_AGAIN, gone).await.is_ok() {
                    return true;
                }
            }
        };
        tokio::time::timeout(TRANSFER_MAX, moved).await.unwrap_or(false)
    }
}

/// Whether the log knows every member.
fn all_recorded(state: &State, view: &MembershipView) -> bool {
    let known = known(state);
    view.members.keys().all(|id| known.by_id.contains_key(id))
}

/// Refuses what would weaken the cluster, and gives the order as it is written down.
fn judge(state: &State, view: &MembershipView, request: &Request) -> Result<Command, String> {
    let known = known(state);
    let command = request.command.clone();
    let is_known = |id: u64| known.by_id.contains_key(&id);
    match &command {
        Command::PromoteReplica(it) if is_known(it.replica) => {
            let ready = it.forced || view.voters.contains(&it.replica) || view.caught_up(it.replica);
            if ready { Ok(command) } else { Err(format!("NOT_CAUGHT_UP {}", it.replica)) }
        }
        Command::RemoveReplica(it) if is_known(it.replica) => {
            let safe = it.forced || view.safe_without(it.replica);
            if safe { Ok(command) } else { Err(format!("NO_MAJORITY_LEFT {}", it.replica)) }
        }
        Command::TransferLeader(it) if is_known(it.replica) => {
            let able = it.replica == view.own || view.caught_up(it.replica);
            if able { Ok(command) } else { Err(format!("NOT_CAUGHT_UP {}", it.replica)) }
        }
        _ => Ok(command),
    }
}
