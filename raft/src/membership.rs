//! Who belongs: changes of Raft's membership, one at a time, and what becomes of a replica that no longer belongs.
//!
//! A new replica is first a learner ([`Replica::add_learner`]), which has no vote; [`Replica::promote`] makes it a voter
//! and [`Replica::remove`] takes either out. openraft goes through a joint configuration and then leaves it; if the
//! leader fails between the two, whoever leads next leaves it ([`keep`]). Addresses come from the membership, so nobody
//! restarts because somebody joined.
//!
//! A replica that is in doubt (it knows no leader, or holds no membership that names it) asks the others about itself.
//! The first start of a cluster waits until all have said that they hold nothing: an emptied replica can so never found a
//! second cluster. What this never does: give an id, decide who may go, or change a membership without an order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, RaftError as CoreError};
use openraft::{ChangeMembers, Raft, ServerState};
use tokio::sync::Mutex as Turn;
use tokio::sync::watch;

use crate::error::{ChangeError, RaftError};
use crate::machine::Machine;
use crate::network::Network;
use crate::replica::Replica;
use crate::stop::Stop;
use crate::types::{Member, ReplicaId, Types};

/// How long a change may take to be durable on a majority, twice over.
const CHANGE_LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks at the membership, in heartbeats.
const LOOK_HEARTBEATS: u64 = 5;
/// Looks after which the others are asked even without doubt: a learner that was removed while it was cut off has none.
const ASK_LOOKS: u32 = 20;

/// What the tasks and the callers share about membership.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    /// Held during a change; a second would only make the first one's answer hard to read.
    pub(crate) turn: Arc<Turn<()>>,
    /// Incarnations that others gave in answers after they had stored something.
    heard: Mutex<BTreeMap<ReplicaId, String>>,
}

impl Roll {
    /// Remembers the incarnation a replica answered with.
    pub(crate) fn hear(&self, id: ReplicaId, incarnation: &str) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.get(&id).is_none_or(|known| known != incarnation) {
            heard.insert(id, incarnation.to_owned());
        }
    }

    /// Gives the incarnations heard so far.
    pub(crate) fn heard(&self) -> BTreeMap<ReplicaId, String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Replica {
    /// Makes `id` a learner: it receives the log and has no vote. The id must never have belonged to another folder.
    /// Returns when that is durable on a majority; whether the learner has caught up is told by [`Replica::status`].
    /// Nothing happens if it is a member already.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn add_learner(&self, id: ReplicaId, member: Member) -> Result<(), ChangeError> {
        let _turn = self.raft_parts().1.turn.lock().await;
        if self.status().members.contains_key(&id) {
            return Ok(());
        }
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, member)]))).await
    }

    /// Gives a learner a vote. Returns when the membership with it, and no other beside it, is durable on a majority.
    ///
    /// # Errors
    /// [`ChangeError`]; [`ChangeError::Refused`] if it is no member, or its build does not speak the cluster's version.
    pub async fn promote(&self, id: ReplicaId) -> Result<(), ChangeError> {
        let _turn = self.raft_parts().1.turn.lock().await;
        self.settle().await?;
        self.check_speaks(id).await.map_err(|unspoken| ChangeError::Refused(unspoken.to_string()))?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Takes a replica out, for ever: its id must not come back. Nothing happens if it is no member. A leader does not
    /// take itself out: it hands the lead over first.
    ///
    /// # Errors
    /// [`ChangeError`]; [`ChangeError::Refused`] for the leader itself and for the last voter.
    pub async fn remove(&self, id: ReplicaId) -> Result<(), ChangeError> {
        let _turn = self.raft_parts().1.turn.lock().await;
        self.settle().await?;
        let status = self.status();
        if id == self.id() {
            return Err(ChangeError::Refused("the leader hands the lead over before it goes".into()));
        }
        if status.voters.contains(&id) {
            return self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await;
        }
        if status.members.contains_key(&id) {
            return self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await;
        }
        Ok(())
    }

    /// Leaves a joint configuration that an interrupted change has left behind. The turn must be held.
    async fn settle(&self) -> Result<(), ChangeError> {
        if self.status().joint { change(self.raft_parts().0, leave_joint()).await } else { Ok(()) }
    }

    async fn change(&self, wish: ChangeMembers<ReplicaId, Member>) -> Result<(), ChangeError> {
        change(self.raft_parts().0, wish).await
    }
}

/// openraft's second step of every change: adding nobody to the newer half of a joint configuration.
fn leave_joint() -> ChangeMembers<ReplicaId, Member> {
    ChangeMembers::AddVoterIds(BTreeSet::new())
}

async fn change(raft: &Raft<Types, Machine>, wish: ChangeMembers<ReplicaId, Member>) -> Result<(), ChangeError> {
    // Whoever leaves the voters leaves the membership: there is no half-way house.
    match tokio::time::timeout(CHANGE_LIMIT, raft.change_membership(wish, false)).await {
        Err(_) => Err(ChangeError::Unknown(format!("not durable on a majority within {CHANGE_LIMIT:?}"))),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(CoreError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ChangeError::NotLeader),
        Ok(Err(CoreError::APIError(error))) => Err(ChangeError::Refused(error.to_string())),
        Ok(Err(CoreError::Fatal(error))) => Err(ChangeError::Unknown(error.to_string())),
    }
}

/// What [`keep`] works with.
pub(crate) struct Keeper {
    pub(crate) raft: Raft<Types, Machine>,
    pub(crate) network: Network,
    pub(crate) roll: Arc<Roll>,
    pub(crate) stop: Stop,
    /// The first members, if the cluster may be new.
    pub(crate) first: Option<BTreeMap<ReplicaId, Member>>,
    /// Looks since the others were asked.
    pub(crate) looks: u32,
    pub(crate) leading: watch::Receiver<Option<u64>>,
    pub(crate) end: tokio_util::sync::CancellationToken,
}

/// Looks after the membership until the end: leaves joint configurations behind as a leader, asks the others about
/// itself when in doubt, and makes the first membership.
pub(crate) async fn keep(mut keeper: Keeper) {
    let pause = Duration::from_millis(keeper.network.timings.heartbeat_ms * LOOK_HEARTBEATS);
    let end = keeper.end.clone();
    loop {
        let round = async {
            keeper.round().await;
            tokio::time::sleep(pause).await;
        };
        tokio::select! {
            () = end.cancelled() => return,
            () = round => {}
        }
    }
}

impl Keeper {
    async fn round(&mut self) {
        if self.leading.borrow().is_some() {
            self.first = None;
            return self.leave_joint().await;
        }
        let metrics = self.raft.metrics().borrow_watched().clone();
        let named = metrics.membership_config.nodes().any(|(id, _)| *id == self.network.id);
        let follows = metrics.current_leader.is_some_and(|id| id != self.network.id);
        self.looks += 1;
        let content = named && (follows || metrics.state == ServerState::Leader);
        if content && self.looks < ASK_LOOKS {
            return;
        }
        self.looks = 0;
        let others = self.others(metrics.membership_config.nodes());
        let answers = futures::future::join_all(others.iter().map(|(id, member)| self.network.hello(*id, member)));
        let answers = answers.await;
        if let Some(first) = self.first.clone() {
            self.found(&first, &others, answers).await;
        }
    }

    /// Everyone else who may know: the members by the log and those of the configuration.
    fn others<'a>(&self, members: impl Iterator<Item = (&'a ReplicaId, &'a Member)>) -> BTreeMap<ReplicaId, Member> {
        let mut others: BTreeMap<ReplicaId, Member> = members.map(|(id, m)| (*id, m.clone())).collect();
        others.extend(self.network.members.iter().map(|(id, m)| (*id, m.clone())));
        others.remove(&self.network.id);
        others
    }

    /// Leaves a joint configuration unless a change of this very leader is under way.
    async fn leave_joint(&self) {
        let joint = self.raft.metrics().borrow_watched().membership_config.membership().get_joint_config().len() > 1;
        if !joint {
            return;
        }
        let Ok(_turn) = self.roll.turn.try_lock() else { return };
        match change(&self.raft, leave_joint()).await {
            Ok(()) => tracing::info!("left a joint configuration that an interrupted change had left behind"),
            Err(error) => tracing::info!(%error, "a joint configuration is still there; tried again"),
        }
    }

    /// Makes the first membership once every other first member has said that it holds nothing.
    async fn found(
        &mut self,
        first: &BTreeMap<ReplicaId, Member>,
        others: &BTreeMap<ReplicaId, Member>,
        answers: Vec<Option<bool>>,
    ) {
        let initialized = self.raft.is_initialized().await.unwrap_or(true);
        if initialized || first.keys().next() != Some(&self.network.id) {
            self.first = None;
            return;
        }
        if let Some(((id, _), _)) = others.iter().zip(&answers).find(|(_, answer)| **answer == Some(true)) {
            let why = format!("replica {id} holds data of this cluster, and this folder is empty");
            return self.stop.set(RaftError::Emptied(why));
        }
        let silent: Vec<String> = others
            .iter()
            .zip(&answers)
            .filter(|(_, a)| a.is_none())
            .map(|((id, m), _)| format!("{id} ({})", m.peer_address))
            .collect();
        if !silent.is_empty() {
            tracing::info!(missing = silent.join(", "), "the first start waits until every replica has answered");
            return;
        }
        match self.raft.initialize(first.clone()).await {
            Ok(()) | Err(CoreError::APIError(InitializeError::NotAllowed(_))) => self.first = None,
            Err(error) => self.stop.set(RaftError::Bootstrap(error.to_string())),
        }
    }
}
