//! The leader's hands: the server's own reconcilers, on a simulated replica.
//!
//! They are the code of `hanse_server::reconcile` as it is. What is made up is what they stand on: the replica
//! ([`Seat`]), hosts and nodes, time and the ids of requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hanse_engines_core::Engine;
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
use crate::membership::Change;
use crate::mutant::Mutant;
use crate::node::{ELECTION_MAX_MS, Node};
use crate::sweep::{Point, Step, trap};
use crate::types::Raft;
use crate::workload::request_id;

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
    Change(Change, oneshot::Sender<Result<(), ChangeError>>),
    HandOver(ReplicaId, oneshot::Sender<Result<(), RaftError>>),
    /// For the mutant that hands nothing over.
    Go,
}

/// The replica as its reconcilers know it.
struct Seat {
    life: Life,
    node: Node,
    calls: mpsc::Sender<Call>,
}

/// Starts reconciling on a replica; gives what it asks of Raft.
pub(crate) fn spawn(life: Life, node: Node) -> mpsc::Receiver<Call> {
    let (calls, asked) = mpsc::channel(CALLS_MAX);
    let shared = node.shared.clone();
    let engine = |name| (String::from(name), Arc::new(SimEngine::new(name, life, shared.clone())) as Arc<dyn Engine>);
    let engines = Arc::new(BTreeMap::from([engine("cometbft"), engine("embedded")]));
    let (clock, ids) = (shared.clone(), shared.clone());
    let is_rash = shared.has(Mutant::OrphansAtSight);
    let orphan_grace_ms = if is_rash { 0 } else { shared.world().orphan_grace_ms };
    let timing = Timing { meter_ms: METER_MS, orphan_grace_ms, ..Timing::default() };
    let world = World {
        replica: Arc::new(Seat { life, node, calls }),
        observed: Arc::new(Observed::default()),
        hosts: Arc::new(SimConnector { life, shared }),
        engines,
        programs: hanse_server::programs::Programs::default(),
        clock: Arc::new(move || Millis(clock.world().clock_ms(life.replica))),
        new_id: Arc::new(move || {
            let mut world = ids.world();
            world.request_last += 1;
            request_id(world.request_last)
        }),
        timing,
        notary: None,
        cluster_name: "sim".into(),
        // The first client names the cluster.
        setup: None,
    };
    tokio::spawn(reconcile::run(world, CancellationToken::new()));
    asked
}

/// As the raft crate's `tasks::observe`: a leader that no longer hears a majority is none.
pub(crate) async fn observe(raft: Raft, leader: watch::Sender<Option<ReplicaId>>) {
    loop {
        let now = raft.metrics().borrow_watched().clone();
        let silence = Duration::from_millis(ELECTION_MAX_MS);
        let heard = now.last_quorum_acked.as_ref().is_some_and(|at| at.elapsed() < silence);
        let alone = now.membership_config.membership().voter_ids().count() == 1;
        let leads = now.state == ServerState::Leader && (heard || alone);
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

    async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let lost = Err(ChangeError::Unknown("the replica has stopped".into()));
        self.call(|answer| Call::Change(change, answer), lost).await
    }

    /// This leader is at a point of a step: if a fault begins there, it waits for it.
    async fn at(&self, step: &Step, point: Point) {
        let fault = { self.node.shared.world().trap.reach(step, point) };
        if let Some(fault) = fault {
            // A fault that ends this replica ends this too.
            drop(fault.await);
        }
    }

    /// The mistake: the act begins while its intent is still on the way.
    async fn pretend(&self, request: Request) -> Applied {
        let mut state = self.node.machine.view().state;
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
        self.node.leader.clone()
    }

    fn local(&self) -> State {
        self.node.machine.view().state
    }

    async fn read(&self) -> Result<State, ReadError> {
        self.call(Call::Read, Err(ReadError::Stopped)).await
    }

    async fn propose(&self, request: Request) -> Result<Applied, ProposeError> {
        if let Command::RecordIntent(intent) = &request.command {
            let mut world = self.node.shared.world();
            world.acts.means(self.life, request.id);
            world.say(&format!("{} means to {:?} {}", self.life.replica, intent.act, intent.node));
        }
        if matches!(request.command, Command::RecordMachineIntent(_) | Command::RemoveCloudOrphan(_)) {
            self.node.shared.world().acts.means(self.life, request.id);
        }
        if matches!(request.command, Command::RecordIntent(_) | Command::RecordMachineIntent(_))
            && self.node.shared.has(Mutant::ActBeforeIntent)
        {
            return Ok(self.pretend(request).await);
        }
        let step = trap::of(&request.command);
        match &step {
            Some((step, true)) => self.at(step, Point::AfterResult).await,
            Some((step, false)) => self.at(step, Point::BeforeIntent).await,
            None => {}
        }
        let proposed = self.call(|answer| Call::Propose(Box::new(request), answer), Err(ProposeError::Stopped)).await;
        if let (Some((step, false)), Ok(_)) = (&step, &proposed) {
            self.at(step, Point::AfterIntent).await;
        }
        proposed
    }

    /// All replicas of the simulated world are of this build.
    async fn spoken(&self) -> BTreeMap<ReplicaId, Option<Versions>> {
        BTreeMap::from([(self.life.replica, Some(SPOKEN))])
    }

    fn membership(&self) -> MembershipView {
        let mut view = self.node.membership();
        if self.node.shared.has(Mutant::PromoteUnready) {
            view.heard = view.members.keys().copied().collect();
            view.lag = view.members.keys().map(|id| (*id, 0)).collect();
        }
        view
    }

    async fn add_learner(&self, id: ReplicaId, member: Member) -> Result<(), ChangeError> {
        self.change(Change::AddLearner(id, member)).await
    }

    async fn promote(&self, id: ReplicaId) -> Result<(), ChangeError> {
        self.change(Change::Promote(id)).await
    }

    async fn remove(&self, id: ReplicaId) -> Result<(), ChangeError> {
        self.change(Change::Remove(id)).await
    }

    async fn transfer_leader(&self, to: ReplicaId) -> Result<(), RaftError> {
        if self.node.shared.has(Mutant::LeaderTakesItselfOut) {
            return self.calls.send(Call::Go).await.map_err(|_| RaftError::Stopped);
        }
        self.call(|answer| Call::HandOver(to, answer), Err(RaftError::Stopped)).await
    }
}
