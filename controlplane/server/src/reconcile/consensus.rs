//! The replica that the reconcilers lead on, as far as they know it.
//!
//! The server gives them its [`Replica`]; the simulation gives them one whose log, network and time are made up, so that
//! the very code that runs on a leader can be crashed there at every step and run again to the byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use hanse_planner::MembershipView;
use hanse_raft::{ChangeError, Member, Notice, ProposeError, RaftError, ReadError, Replica, ReplicaId};
use hanse_state::cluster::version::Versions;
use hanse_state::{Applied, Request, State};
use tokio::sync::{broadcast, watch};

use super::replica::view;

/// What a reconciler asks of the replica it runs on. Each method does what [`Replica`]'s method of that name does.
#[async_trait]
pub trait Consensus: Send + Sync {
    /// This replica.
    fn id(&self) -> ReplicaId;

    /// Follows who leads, as far as this replica knows.
    fn leadership(&self) -> watch::Receiver<Option<ReplicaId>>;

    /// This replica's own state, possibly behind.
    fn local(&self) -> State;

    /// A state that holds everything answered before this call.
    ///
    /// # Errors
    /// [`ReadError`]: no majority confirmed the lead.
    async fn read(&self) -> Result<State, ReadError>;

    /// Writes a request and gives what it did.
    ///
    /// # Errors
    /// [`ProposeError`] says whether it had effect.
    async fn propose(&self, request: Request) -> Result<Applied, ProposeError>;

    /// What changes from now on, for who would not wait for its next look; `None` where nothing is told. It is a hint: what is
    /// missed is seen by the next look.
    fn watch_events(&self) -> Option<broadcast::Receiver<Notice>> {
        None
    }

    /// Which cluster versions each member's running process speaks; `None`: it gave no answer.
    async fn spoken(&self) -> BTreeMap<ReplicaId, Option<Versions>>;

    /// What this replica sees of the control plane's membership.
    fn membership(&self) -> MembershipView;

    /// Adds a replica that does not vote.
    ///
    /// # Errors
    /// [`ChangeError`] says whether it had effect.
    async fn add_learner(&self, id: ReplicaId, member: Member) -> Result<(), ChangeError>;

    /// Gives a learner a vote.
    ///
    /// # Errors
    /// [`ChangeError`] says whether it had effect.
    async fn promote(&self, id: ReplicaId) -> Result<(), ChangeError>;

    /// Takes a replica out.
    ///
    /// # Errors
    /// [`ChangeError`] says whether it had effect.
    async fn remove(&self, id: ReplicaId) -> Result<(), ChangeError>;

    /// Gives the lead away.
    ///
    /// # Errors
    /// [`RaftError`] if it was not given away.
    async fn transfer_leader(&self, to: ReplicaId) -> Result<(), RaftError>;
}

#[async_trait]
impl Consensus for Replica {
    fn id(&self) -> ReplicaId {
        Self::id(self)
    }

    fn leadership(&self) -> watch::Receiver<Option<ReplicaId>> {
        Self::leadership(self)
    }

    fn local(&self) -> State {
        State::clone(&Self::local(self))
    }

    async fn read(&self) -> Result<State, ReadError> {
        Self::read(self).await.map(Arc::unwrap_or_clone)
    }

    async fn propose(&self, request: Request) -> Result<Applied, ProposeError> {
        Self::propose(self, request).await
    }

    fn watch_events(&self) -> Option<broadcast::Receiver<Notice>> {
        Some(Self::watch_events(self))
    }

    async fn spoken(&self) -> BTreeMap<ReplicaId, Option<Versions>> {
        Self::spoken(self).await
    }

    fn membership(&self) -> MembershipView {
        view(&self.status())
    }

    async fn add_learner(&self, id: ReplicaId, member: Member) -> Result<(), ChangeError> {
        Self::add_learner(self, id, member).await
    }

    async fn promote(&self, id: ReplicaId) -> Result<(), ChangeError> {
        Self::promote(self, id).await
    }

    async fn remove(&self, id: ReplicaId) -> Result<(), ChangeError> {
        Self::remove(self, id).await
    }

    async fn transfer_leader(&self, to: ReplicaId) -> Result<(), RaftError> {
        Self::transfer_leader(self, to).await
    }
}
