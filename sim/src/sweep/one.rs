//! One run of the sweep: a stage is played, a fault begins at one point of one step, ends, and everything must be as wished.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hanse_raft::ReplicaId;
use hanse_state::State;
use hanse_state::operation::OperationState;
use openraft::async_runtime::watch::WatchReceiver;
use turmoil::{Builder, Sim};

use super::stage::Stage;
use super::trap::{self, Point, Step, Trap};
use crate::check::Checks;
use crate::client::{self, Habit};
use crate::cloud::Cloud;
use crate::disk::Disk;
use crate::healing::{Healing, united};
use crate::mutant::Mutant;
use crate::network::host;
use crate::node;
use crate::run::TICK_MS;
use crate::workload::Plans;
use crate::world::{Order, Shared, World};

/// Replicas.
const VOTERS: u64 = 3;
/// How long a fault lasts.
const FAULT_MS: u64 = 6_000;
/// How long the step that was struck is held.
const HELD_MS: u64 = 200;
/// How long after the healing everything must be as wished (RELIABILITY.md I-8).
const HEAL_LIMIT_MS: u64 = 60_000;
/// How long what a person must repair rests (the reconcilers' own pause), and how long it then takes.
const REST_MS: u64 = 70_000;
/// How long nothing is judged after the healing: longer than any call is on its way.
const QUIET_MS: u64 = 12_000;
/// How much longer a stage may take for each of its acts that is late and that others wait for: its sender waits for five seconds
/// (`crate::adapter`), rests for half a second (the reconcilers' own pause), and does it again.
const LATE_ACT_MS: u64 = 6_000;
/// How long a stage may take before its fault begins.
const STAGE_LIMIT_MS: u64 = 120_000;
/// Grace of what nobody asks for: longer than any list is late.
const ORPHAN_GRACE_MS: u64 = 6_000;
/// Between two looks at whether all is as wished, in ticks.
const LOOK_TICKS: u64 = 20;

/// What a leader suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Its process is killed, and started again later.
    Kill,
    /// It hands over.
    Transfer,
    /// No other replica hears it, nor it them; hosts do.
    Isolate,
}

impl Fault {
    pub(crate) const ALL: [Self; 3] = [Self::Kill, Self::Transfer, Self::Isolate];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Transfer => "transfer",
            Self::Isolate => "isolate",
        }
    }
}

/// What is tried in one run.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) stage: Stage,
    pub(crate) cloud: Cloud,
    /// Without one nothing but the cloud goes wrong.
    pub(crate) blow: Option<(Step, Point, Fault)>,
    pub(crate) seed: u64,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) print: bool,
    /// How many acts the stage calls hosts and clouds for; 0 while nobody knows.
    pub(crate) acts: u64,
}

impl Case {
    /// How much longer than other runs it may take.
    fn patience_ms(&self) -> u64 {
        // What a person must repair, a limit of the account, is tried again after a minute.
        let rest_ms = if self.cloud == Cloud::LacksRoom { REST_MS } else { 0 };
        let is_slow = self.cloud == Cloud::ArrivesLate && self.stage.is_one_by_one();
        let late_ms = if is_slow { self.acts * LATE_ACT_MS } else { 0 };
        self.stage.patience_ms() + rest_ms + late_ms
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.stage.name(), self.cloud.name())?;
        match &self.blow {
            Some((step, point, fault)) => {
                write!(f, " {} of {} {} {}", step.what, step.on, point.name(), fault.name())
            }
            None => Ok(()),
        }
    }
}

/// How one run ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// The points that were reached.
    pub(crate) reached: Vec<(Step, Point)>,
    /// Whether the fault found its point.
    pub(crate) struck: bool,
    /// Whether all has come to its end without that point.
    pub(crate) passed: bool,
    /// What is on the hosts and nobody asks for.
    pub(crate) orphan: Option<String>,
    /// What is there twice, or was.
    pub(crate) double: Option<String>,
    /// What has not come to its end.
    pub(crate) unfinished: Option<String>,
    /// What else did not hold.
    pub(crate) violation: Option<String>,
    /// How often one act was repeated at most.
    pub(crate) repeats: u64,
    /// Orphans that the platform removed.
    pub(crate) removals: u64,
    /// From the healing until all was as wished.
    pub(crate) healed_ms: u64,
}

impl End {
    /// How many acts hosts and clouds were called for.
    pub(crate) fn acts(&self) -> u64 {
        self.reached.iter().filter(|(_, point)| *point == Point::BeforeResult).count() as u64
    }

    pub(crate) fn bad(&self) -> Option<&String> {
        self.double.as_ref().or(self.orphan.as_ref()).or(self.violation.as_ref()).or(self.unfinished.as_ref())
    }
}

struct Run {
    case: Case,
    shared: Shared,
    disks: BTreeMap<ReplicaId, Disk>,
    checks: Checks,
    now_ms: u64,
    /// Who was struck, and when.
    struck: Option<(ReplicaId, u64)>,
    healed_at: Option<u64>,
    /// Since when all has been as wished.
    settled_at: Option<u64>,
    /// All was as wished before the point came, and it comes no more.
    passed: bool,
}

/// Plays one case to its end.
pub(crate) fn one(case: &Case) -> End {
    let shared = Shared::new(case.seed, case.mutant, case.print);
    let founders: Vec<ReplicaId> = (1..=VOTERS).map(ReplicaId).collect();
    let disks: BTreeMap<ReplicaId, Disk> =
        founders.iter().map(|id| (*id, Disk::new(*id, shared.clone(), case.seed))).collect();
    {
        let mut world = shared.world();
        world.roster.found_with(&founders);
        world.trap = Trap::at(case.blow.as_ref().map(|(step, point, _)| (step.clone(), *point)));
        world.hosts.sky.cloud = case.cloud;
        world.provider.habit = case.cloud;
        world.orphan_grace_ms = ORPHAN_GRACE_MS;
        world.say(&format!("case {case}"));
    }
    let mut sim = Builder::new()
        .rng_seed(case.seed)
        .tick_duration(Duration::from_millis(TICK_MS))
        .simulation_duration(Duration::from_secs(3_600))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(10))
        .udp_capacity(4_096)
        .build();
    for (id, disk) in disks.clone() {
        let (shared, founders) = (shared.clone(), founders.clone());
        sim.host(host(id), move || node::run(id, disk.clone(), shared.clone(), 200, founders.clone()));
    }
    let (own, stage) = (shared.clone(), case.stage);
    let plans = Arc::new(Mutex::new(Plans::default()));
    sim.host("client-1", move || client::run(1, Habit::Player { stage }, own.clone(), plans.clone(), 1));
    let mut run = Run {
        case: case.clone(),
        shared,
        disks,
        checks: Checks::default(),
        now_ms: 0,
        struck: None,
        healed_at: None,
        settled_at: None,
        passed: false,
    };
    let left = run.play(&mut sim);
    // The hosts go first: what they drop may still look at the world.
    drop(sim);
    run.end(left)
}

impl Run {
    /// Gives what is still missing when the time is over.
    fn play(&mut self, sim: &mut Sim<'_>) -> Option<String> {
        let mut ticks = 0;
        loop {
            if !self.tick(sim) {
                return None;
            }
            self.blow(sim);
            ticks += 1;
            if !u64::is_multiple_of(ticks, LOOK_TICKS) {
                continue;
            }
            if self.case.blow.is_none() && self.healed_at.is_none() && self.shared.world().played {
                self.healed_at = Some(self.now_ms);
            }
            let Some(since) = self.healed_at else {
                let limit_ms = STAGE_LIMIT_MS + self.case.patience_ms();
                if self.passes() {
                    return None;
                }
                if self.struck.is_none() && self.now_ms >= limit_ms {
                    return Some(format!("the stage did not come to where it is struck within {limit_ms} ms"));
                }
                continue;
            };
            let missing = self.missing();
            self.settled_at = missing.is_none().then(|| self.settled_at.unwrap_or(self.now_ms));
            match (self.now_ms - since, missing) {
                (0..QUIET_MS, _) => {}
                (_, None) => return None,
                (past, Some(missing)) if past >= HEAL_LIMIT_MS + self.case.patience_ms() => return Some(missing),
                (_, Some(_)) => {}
            }
        }
    }

    /// Whether the stage has come to its end without the point, so that nothing is left that could come to it.
    fn passes(&mut self) -> bool {
        if self.struck.is_some() || !self.case.stage.is_a_race() {
            return false;
        }
        self.settled_at = self.missing().is_none().then(|| self.settled_at.unwrap_or(self.now_ms));
        self.passed = self.settled_at.is_some_and(|since| self.now_ms - since >= QUIET_MS);
        self.passed
    }

    /// One tick; gives whether all still holds.
    fn tick(&mut self, sim: &mut Sim<'_>) -> bool {
        let stepped = sim.step();
        let mut world = self.shared.world();
        if let Err(error) = stepped {
            world.violation(&format!("a host ended: {error}"));
        }
        self.now_ms = u64::try_from(sim.elapsed().as_millis()).expect("an hour in milliseconds");
        world.advance(self.now_ms);
        for (act, object) in world.hosts.sky.take_reached() {
            let reached = world.trap.reach(&trap::call(act, object), Point::BeforeResult);
            // Nobody waits: the answer is on its way.
            drop(reached);
        }
        for step in world.provider.take_reached() {
            drop(world.trap.reach(&step, Point::BeforeResult));
        }
        drop(world);
        self.checks.tick(&self.shared, &self.disks);
        let mut world = self.shared.world();
        world.judge();
        world.violations.is_empty()
    }

    /// Begins the fault when its point is reached, and ends it when its time is over.
    fn blow(&mut self, sim: &mut Sim<'_>) {
        let Some((_, _, fault)) = self.case.blow else { return };
        let Some((who, since)) = self.struck else {
            if self.shared.world().trap.is_sprung()
                && let Some(leader) = self.leader()
            {
                self.struck = Some((leader, self.now_ms));
                self.begin(sim, fault, leader);
            }
            return;
        };
        if self.now_ms == since + HELD_MS {
            self.shared.world().trap.release();
        }
        if self.healed_at.is_none() && self.now_ms >= since + FAULT_MS {
            self.finish(sim, fault, who);
            (self.healed_at, self.settled_at) = (Some(self.now_ms), None);
        }
    }

    fn begin(&self, sim: &mut Sim<'_>, fault: Fault, leader: ReplicaId) {
        self.shared.world().say(&format!("{} of the leader {leader}", fault.name()));
        match fault {
            Fault::Kill => {
                sim.crash(host(leader));
                self.shared.world().rafts.remove(&leader);
                self.disks[&leader].crash();
            }
            Fault::Transfer => {
                let to = self.others(leader).next().expect("three voters");
                self.shared.world().orders.entry(leader).or_default().push(Order::Transfer(to));
            }
            Fault::Isolate => {
                for other in self.others(leader) {
                    sim.partition(host(leader), host(other));
                }
            }
        }
    }

    fn finish(&self, sim: &mut Sim<'_>, fault: Fault, who: ReplicaId) {
        self.shared.world().say("the fault ends");
        match fault {
            Fault::Kill => sim.bounce(host(who)),
            Fault::Transfer => {}
            Fault::Isolate => {
                for other in self.others(who) {
                    sim.repair(host(who), host(other));
                }
            }
        }
    }

    fn others(&self, but: ReplicaId) -> impl Iterator<Item = ReplicaId> + use<'_> {
        self.disks.keys().copied().filter(move |id| *id != but)
    }

    fn leader(&self) -> Option<ReplicaId> {
        let world = self.shared.world();
        let leaders = world.rafts.iter().filter(|(_, (raft, _))| raft.is_leader());
        leaders.max_by_key(|(_, (raft, _))| raft.metrics().borrow_watched().current_term).map(|(id, _)| *id)
    }

    /// What is not yet as it must be in the end.
    fn missing(&self) -> Option<String> {
        let world = self.shared.world();
        if !world.played {
            return Some("the order was not answered".into());
        }
        match united(&world) {
            Ok(state) => missing(self.case.stage, &world, &state),
            Err(Healing::Waits(why) | Healing::Never(why)) => Some(why),
            Err(Healing::Done) => None,
        }
    }

    fn end(self, left: Option<String>) -> End {
        let world = self.shared.world();
        let states = world.rafts.values().map(|(_, machine)| machine.view().state);
        let state = states.max_by_key(|state| state.revision).unwrap_or_default();
        let is_double = |it: &&String| it.contains("doubled node") || it.contains("doubled machine");
        let doubled = world.violations.iter().find(is_double).cloned();
        let violation = world.violations.iter().find(|it| !is_double(it)).cloned();
        // Only what is left when the time is over is an orphan: the platform's own sweep is a part of what is tried.
        let orphan = left.as_ref().and_then(|_| world.hosts.orphan(&state).or_else(|| world.provider.orphan(&state)));
        let (runs, ends) = world.provider.repeats();
        let ended_at = self.settled_at.unwrap_or(self.now_ms);
        End {
            reached: world.trap.reached().to_vec(),
            struck: self.struck.is_some(),
            passed: self.passed,
            double: doubled.or_else(|| world.hosts.twin(&state)),
            unfinished: if orphan.is_some() { None } else { left },
            orphan,
            violation,
            repeats: world.acts.repeats().saturating_sub(1).max(runs).max(ends),
            removals: world.acts.removals(),
            healed_ms: ended_at.saturating_sub(self.healed_at.unwrap_or(ended_at)),
        }
    }
}

fn missing(stage: Stage, world: &World, state: &State) -> Option<String> {
    if let Some(missing) = stage.missing(state) {
        return Some(missing);
    }
    let is_open = |state: OperationState, superseded: bool| match state {
        OperationState::Succeeded => false,
        OperationState::Running => true,
        OperationState::Failed => !superseded,
    };
    if let Some(it) = state.operations.values().find(|it| is_open(it.state, it.superseded_by.is_some())) {
        return Some(format!("operation {:?} is {:?}: {:?}", it.kind, it.state, it.cause));
    }
    world
        .hosts
        .astray(state)
        .or_else(|| world.hosts.misseated(state))
        .or_else(|| world.hosts.orphan(state))
        .or_else(|| world.hosts.missed())
        .or_else(|| world.provider.astray(state))
        .or_else(|| world.provider.orphan(state))
        .or_else(|| world.provider.missed())
        .or_else(|| world.acts.removed_again())
}
