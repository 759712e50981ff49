//! The leader's hands: the server's own reconcilers, on a simulated replica.
//!
//! They are the code of `hanse_server::reconcile` as it is. What is made up is what they stand on: the replica
//! ([`Seat`]), hosts and nodes, time and the ids of requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hanse_planner::MembershipView;
use hanse_raft::{ChangeError, Member, ProposeError, RaftError, ReadError, ReplicaId};
use hanse_server::config::Timing;
use hanse_server::observed::Observed;
use hanse_server::reconcile::consensus::Consensus;
use hanse_server::reconcile::{self, World};
use hanse_state::cluster::version::{SPOKEN, Versions};
use hanse_state::{Applied, Command, Millis, Request, State};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant, ServerState};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::acts::Life;
use crate::adapter::SimConnector;
use crate::ledger::SimEngine;
use crate::machine::Machine;
use crate::mutant::Mutant;
use crate::node::ELECTION_MAX_MS;
use crate::types::Raft;
use crate::workload::request_id;
use crate::world::Shared;

/// Calls of one replica's reconcilers that may wait for Raft at once; they run 32 acts at most.
const CALLS_MAX: usize = 64;
/// Between two looks at who leads.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often usage is metered; short, so that it happens in short runs.
const METER_MS: u64 = 5_000;

/// What the reconcilers ask of their replica. openraft's calls run on the replica's seeded runtime, not on theirs.
pub(crate) enum Call {
    Propose(Box<Request>, oneshot::Sender<Result<Applied, ProposeError>>),
    Read(oneshot::Sender<Result<State, ReadError>>),
}

/// The replica as its reconcilers know it.
struct Seat {
    life: Life,
    machine: Machine,
    calls: mpsc::Sender<Call>,
    leader: watch::Receiver<Option<ReplicaId>>,
    shared: Shared,
}

/// Starts reconciling on a replica; gives what it asks of Raft.
pub(crate) fn spawn(life: Life, raft: Raft, machine: Machine, shared: Shared) -> mpsc::Receiver<Call> {
    let (calls, asked) = mpsc::channel(CALLS_MAX);
    let (sender, leader) = watch::channel(None);
    tokio::spawn(observe(raft, sender));
    let engine = SimEngine::new(life, shared.clone());
    let (clock, ids) = (shared.clone(), shared.clone());
    let world = World {
        replica: Arc::new(Seat { life, machine, calls, leader, shared: shared.clone() }),
        observed: Arc::new(Observed::default()),
        hosts: Arc::new(SimConnector { shared }),
        engines: Arc::new(BTreeMap::from([("embedded".to_owned(), Arc::new(engine) as _)])),
        clock: Arc::new(move || Millis(clock.world().clock_ms(life.replica))),
        new_id: Arc::new(move || {
            let mut world = ids.world();
            world.request_last += 1;
            request_id(world.request_last)
        }),
        timing: Timing { meter_ms: METER_MS, ..Timing::default() },
        cluster_name: "sim".into(),
        // The first client names the cluster.
        setup: None,
    };
    tokio::spawn(reconcile::run(world, CancellationToken::new()));
    asked
}

/// As the raft crate's `tasks::observe`: a leader that no longer hears a majority is none.
async fn observe(raft: Raft, leader: watch::Sender<Option<ReplicaId>>) {
    loop {
        let now = raft.metrics().borrow_watched().clone();
        let silence = Duration::from_millis(ELECTION_MAX_MS);
        let heard = now.last_quorum_acked.as_ref().is_some_and(|at| at.elapsed() < silence);
        let leads = now.state == ServerState::Leader && heard;
        let known = now.current_leader.filter(|id| *id != now.id || leads);
        leader.send_if_modified(|old| std::mem::replace(old, known) != known);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Seat {
    async fn call<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call, lost: T) -> T {
        let (sender, receiver) = oneshot::channel();
        if self.calls.send(call(sender)).await.is_err() {
            return lost;
        }
        receiver.await.unwrap_or(lost)
    }

    /// The mistake: the act begins while its intent is still on the way.
    async fn pretend(&self, request: Request) -> Applied {
        let mut state = self.machine.view().state;
        let next = state.revision + 1;
        let applied = hanse_state::apply(&mut state, next, &request);
        let (sender, _) = oneshot::channel();
        drop(self.calls.send(Call::Propose(Box::new(request), sender)).await);
        applied
    }
}

#[async_trait]
impl Consensus for Seat {
    fn id(&self) -> ReplicaId {
        self.life.replica
    }

    fn leadership(&self) -> watch::Receiver<Option<ReplicaId>> {
        self.leader.clone()
    }

    fn local(&self) -> State {
        self.machine.view().state
    }

    async fn read(&self) -> Result<State, ReadError> {
        self.call(Call::Read, Err(ReadError::Stopped)).await
    }

    async fn propose(&self, request: Request) -> Result<Applied, ProposeError> {
        if let Command::RecordIntent(intent) = &request.command {
            let mut world = self.shared.world();
            world.acts.means(self.life, request.id);
            world.say(&format!("{} means to {:?} {}", self.life.replica, intent.act, intent.node));
        }
        if matches!(request.command, Command::RecordIntent(_)) && self.shared.has(Mutant::ActBeforeIntent) {
            return Ok(self.pretend(request).await);
        }
        self.call(|answer| Call::Propose(Box::new(request), answer), Err(ProposeError::Stopped)).await
    }

    /// All replicas of the simulated world are of this build.
    async fn spoken(&self) -> BTreeMap<ReplicaId, Option<Versions>> {
        BTreeMap::from([(self.life.replica, Some(SPOKEN))])
    }

    /// Nothing: the schedule of faults changes the membership here.
    fn membership(&self) -> MembershipView {
        MembershipView::default()
    }

    async fn add_learner(&self, _id: ReplicaId, _member: Member) -> Result<(), ChangeError> {
        Err(ChangeError::Refused("the schedule changes the membership".into()))
    }

    async fn promote(&self, _id: ReplicaId) -> Result<(), ChangeError> {
        Err(ChangeError::Refused("the schedule changes the membership".into()))
    }

    async fn remove(&self, _id: ReplicaId) -> Result<(), ChangeError> {
        Err(ChangeError::Refused("the schedule changes the membership".into()))
    }

    async fn transfer_leader(&self, _to: ReplicaId) -> Result<(), RaftError> {
        Err(RaftError::Stopped)
    }
}
