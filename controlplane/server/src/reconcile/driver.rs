//! The loop: while this replica leads, plan every round, start what is due, never two acts on one thing at once.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hanse_planner::{Step, plan_chain, plan_contract, plan_machine, plan_node};
use hanse_raft::{Changes, Notice};
use hanse_state::{Change, State, name};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::World;
use super::act::Trouble;

/// Longest pause between two rounds of planning.
const ROUND: Duration = Duration::from_millis(100);
/// Shortest pause, after an act has ended: others that end with it are planned in the same round.
const ROUND_MIN: Duration = Duration::from_millis(5);
/// A pause is at least so many times as long as the round before took: planning never takes a processor for itself.
const PAUSES_PER_ROUND: u32 = 4;
/// Acts on the world at once; more would only fight for the disk and the network. Enough for 64 hosts at once.
const ACTS_MAX: usize = 64;
/// How many of these may be on what failed last time: dead hosts take long to fail, and must not keep others waiting.
const RETRIES_MAX: usize = 12;
/// First and longest pause before something that failed is tried again; each is twice as long as the one before. The first is short, as
/// what fails first is mostly a node that was started a moment ago and does not answer yet.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(8);

/// What runs, and what may be tried again only later, by the name of the thing acted on.
#[derive(Clone, Default)]
pub(super) struct Desk {
    inner: Arc<Mutex<DeskInner>>,
}

#[derive(Default)]
struct DeskInner {
    busy: BTreeSet<String>,
    /// Those of `busy` that failed last time.
    retrying: BTreeSet<String>,
    later: BTreeMap<String, (u32, Instant)>,
}

impl Desk {
    /// Where `name` stands in the queue, none if it is busy or not yet due: what has not failed first, then what has
    /// been due for longest.
    fn turn(&self, name: &str, now: Instant) -> Option<Option<Instant>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let due = inner.later.get(name).map(|(_, at)| *at);
        (!inner.busy.contains(name) && due.is_none_or(|at| at <= now)).then_some(due)
    }

    /// Takes `name` unless it is busy, or too much is under way.
    fn take(&self, name: &str) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = inner.later.contains_key(name);
        if inner.busy.len() >= ACTS_MAX || (failed && inner.retrying.len() >= RETRIES_MAX) {
            return false;
        }
        if failed {
            inner.retrying.insert(name.to_string());
        }
        inner.busy.insert(name.to_string())
    }

    /// Gives `name` back; after a failure it is due again after a growing pause.
    fn give_back(&self, name: &str, succeeded: bool) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.busy.remove(name);
        inner.retrying.remove(name);
        if succeeded {
            inner.later.remove(name);
            return;
        }
        let failures = inner.later.get(name).map_or(0, |(failures, _)| *failures).saturating_add(1);
        let pause = RETRY_FIRST.saturating_mul(1 << failures.min(8).saturating_sub(1)).min(RETRY_MAX);
        inner.later.insert(name.to_string(), (failures, Instant::now() + pause));
    }
}

/// Reconciles whenever this replica leads, until `shutdown`.
pub(super) async fn follow_leadership(world: World, shutdown: CancellationToken) {
    let mut leadership = world.replica.leadership();
    loop {
        let leads = *leadership.borrow_and_update() == Some(world.replica.id());
        if leads {
            info!("leads: reconciling");
            // In this order, so that a replica that has lost the lead does not begin one more round.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = lost(&mut leadership, &world) => {}
                () = lead(&world) => {}
            }
            world.observed.clear();
            info!("no longer reconciling");
            continue;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_secs(1)) => spend_setup_code(&world),
        }
    }
}

async fn lost(leadership: &mut tokio::sync::watch::Receiver<Option<hanse_raft::ReplicaId>>, world: &World) {
    while leadership.changed().await.is_ok() {
        if *leadership.borrow_and_update() != Some(world.replica.id()) {
            return;
        }
    }
}

/// A follower may hold the file of a code that another leader's administrator used.
fn spend_setup_code(world: &World) {
    let Some(setup) = &world.setup else { return };
    let spent = world.replica.local().cluster.as_ref().is_some_and(|cluster| cluster.setup_code_hash.is_none());
    if spent && let Err(error) = setup.spend() {
        warn!(%error, "the spent setup code's file cannot be removed");
    }
}

/// Rounds without end; dropping it drops every act under way, and the log says what was intended.
async fn lead(world: &World) {
    let desk = Desk::default();
    let mut acts = JoinSet::new();
    let mut upkeep = super::upkeep::Upkeep::default();
    let mut news = world.replica.watch_events();
    world.observed.begin((world.clock)().0);
    let mut paused = false;
    loop {
        let begin = Instant::now();
        match world.replica.read().await {
            Ok(state) if state.cluster.as_ref().is_some_and(hanse_state::cluster::Cluster::is_paused) => {
                // The cluster this one was restored from may still run its nodes; two must never act on one host.
                if !paused {
                    warn!("restored and paused: no host is touched until an administrator says `hanse cluster resume`");
                }
                paused = true;
                plan_membership(world, &state, &desk, &mut acts);
            }
            Ok(state) => {
                upkeep.round(world, &state).await;
                plan_membership(world, &state, &desk, &mut acts);
                plan_round(world, &state, &desk, &mut acts);
            }
            Err(error) => info!(%error, "no majority answers; waiting"),
        }
        rest(&mut acts, &mut news, begin.elapsed()).await;
    }
}

/// Waits until the next round: until an act ends, for its end may be what others wait for, or something new was ordered, else
/// [`ROUND`].
async fn rest(acts: &mut JoinSet<()>, news: &mut Option<broadcast::Receiver<Notice>>, took: Duration) {
    let pause = (took * PAUSES_PER_ROUND).clamp(ROUND_MIN, ROUND);
    let report = |ended: Result<(), tokio::task::JoinError>| {
        if let Err(error) = ended {
            warn!(%error, "an act panicked; it will be planned again");
        }
    };
    tokio::select! {
        biased;
        Some(ended) = acts.join_next() => {
            report(ended);
            tokio::time::sleep(pause).await;
        }
        () = ordered(news) => tokio::time::sleep(pause).await,
        () = tokio::time::sleep(ROUND) => {}
    }
    while let Some(ended) = acts.try_join_next() {
        report(ended);
    }
}

/// Ends when a host, a chain or whatever else was made: nobody should wait for the round's end before his order is begun. What only
/// changes does so by the acts themselves, which end.
async fn ordered(news: &mut Option<broadcast::Receiver<Notice>>) {
    let Some(notices) = news else { return std::future::pending().await };
    let is_made = |changes: &Changes| changes.events.iter().any(|event| matches!(event.change, Change::Created));
    loop {
        match notices.recv().await {
            Ok(Notice::Events(changes)) if !changes.iter().any(is_made) => {}
            Ok(Notice::Events(_) | Notice::Reset { .. }) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// Plans the membership of the control plane, which concerns no host.
fn plan_membership(world: &World, state: &State, desk: &Desk, acts: &mut JoinSet<()>) {
    if let Some((name, act)) = super::replica::plan(world, state)
        && desk.turn(&name, Instant::now()).is_some()
    {
        let world = world.clone();
        start(desk, acts, name, Box::pin(async move { super::replica::carry_out(&world, act).await }));
    }
}

/// Plans everything once; what is due is started, what is busy or resting is left for a later round.
fn plan_round(world: &World, state: &State, desk: &Desk, acts: &mut JoinSet<()>) {
    let now = (world.clock)();
    let observed = world.observed.for_planning();
    let nodes = state.nodes.keys().map(|key| (name::node(key), plan_node(state, key, &observed, now)));
    let chains = state.chains.keys().map(|key| (name::chain(key), plan_chain(state, key, &observed, now)));
    let contracts = state.contracts.keys().map(|key| (name::contract(key), plan_contract(state, key, &observed, now)));
    let awake = state.machines.keys().filter(|id| !world.observed.machine_rests(id, now.0));
    let machines = awake.map(|id| (name::machine(id), plan_machine(state, id)));
    let clock = Instant::now();
    let mut due: Vec<(Option<Instant>, String, ActOn)> = Vec::new();
    for (name, step) in nodes.chain(chains).chain(contracts).chain(machines) {
        if let Step::Do(act) = step
            && let Some(turn) = desk.turn(&name, clock)
        {
            let (world, state) = (world.clone(), state.clone());
            due.push((turn, name, Box::pin(async move { super::act::carry_out(&world, &state, act).await })));
        }
    }
    super::host::plan(world, state, |name, act| {
        if let Some(turn) = desk.turn(&name, clock) {
            due.push((turn, name, act));
        }
    });
    super::figures::plan(world, state, |name, act| {
        if let Some(turn) = desk.turn(&name, clock) {
            due.push((turn, name, act));
        }
    });
    super::orphan::plan(world, state, |name, act| {
        if let Some(turn) = desk.turn(&name, clock) {
            due.push((turn, name, act));
        }
    });
    super::cloud::plan(world, state, |name, act| {
        if let Some(turn) = desk.turn(&name, clock) {
            due.push((turn, name, act));
        }
    });
    super::moving::plan(world, state, |name, act| {
        if let Some(turn) = desk.turn(&name, clock) {
            due.push((turn, name, act));
        }
    });
    super::anchor::plan(world, state, |name, act| {
        if let Some(turn) = desk.turn(&name, clock) {
            due.push((turn, name, act));
        }
    });
    // `None`, what has not failed, sorts first; among equals the order of planning stays.
    due.sort_by_key(|(turn, _, _)| *turn);
    for (_, name, act) in due {
        start(desk, acts, name, act);
    }
}

/// An act on one thing, not yet begun.
pub(super) type ActOn = Pin<Box<dyn Future<Output = Result<(), Trouble>> + Send>>;

fn start(desk: &Desk, acts: &mut JoinSet<()>, name: String, act: ActOn) {
    if !desk.take(&name) {
        return;
    }
    let taken = Taken { desk: desk.clone(), name, succeeded: false };
    acts.spawn(async move {
        // Moved in whole, so that it is dropped with the act and not field by field.
        let mut taken = taken;
        match act.await {
            Ok(()) => taken.succeeded = true,
            Err(trouble) => info!(name = %taken.name, %trouble, "tried without effect"),
        }
    });
}

/// A name taken from the desk; given back however the act ends, also by a panic.
struct Taken {
    desk: Desk,
    name: String,
    succeeded: bool,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.desk.give_back(&self.name, self.succeeded);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hanse_state::Event;

    use super::*;

    fn told(change: Change) -> Notice {
        let event = Event { revision: 7, resource: "hosts/h1".into(), change };
        Notice::Events([Changes { revision: 7, events: [event].into() }].into())
    }

    #[tokio::test]
    async fn only_what_is_new_begins_a_round_before_its_time() {
        let (sender, receiver) = broadcast::channel(2);
        let mut news = Some(receiver);
        for change in [Change::Updated, Change::Deleted] {
            sender.send(told(change)).unwrap();
        }
        assert!(futures::poll!(Box::pin(ordered(&mut news))).is_pending());
        sender.send(told(Change::Created)).unwrap();
        assert!(futures::poll!(Box::pin(ordered(&mut news))).is_ready());
        assert!(futures::poll!(Box::pin(ordered(&mut news))).is_pending(), "it was told once");
        for _ in 0..3 {
            sender.send(told(Change::Updated)).unwrap();
        }
        assert!(futures::poll!(Box::pin(ordered(&mut news))).is_ready(), "what was missed may have been an order");
        let mut none = None;
        assert!(futures::poll!(Box::pin(ordered(&mut none))).is_pending());
        drop(sender);
        assert!(futures::poll!(Box::pin(ordered(&mut news))).is_pending(), "nobody tells any more, nothing spins");
    }

    #[test]
    fn what_fails_slowly_keeps_nothing_else_waiting_and_waits_in_order() {
        let desk = Desk::default();
        let dead: Vec<String> = (0..50).map(|n| format!("dead{n}")).collect();
        for name in &dead {
            assert!(desk.take(name));
            desk.give_back(name, false);
        }
        let later = Instant::now() + RETRY_MAX;
        let mut due: Vec<_> = dead.iter().map(|name| (desk.turn(name, later), name)).collect();
        due.sort_by_key(|(turn, _)| *turn);
        assert!(due.iter().zip(&dead).all(|((turn, a), b)| turn.is_some() && *a == b), "who waits longest is first");
        let retrying = dead.iter().filter(|name| desk.take(name)).count();
        assert_eq!(retrying, RETRIES_MAX);
        let well = (0..2 * ACTS_MAX).filter(|n| desk.take(&format!("well{n}"))).count();
        assert_eq!(well, ACTS_MAX - RETRIES_MAX);
        desk.give_back(&dead[0], true);
        assert_eq!(desk.turn(&dead[0], later), Some(None), "it has succeeded: it is as good as any");
        assert_eq!(desk.turn(&dead[1], later), None, "it is busy");
    }
}
