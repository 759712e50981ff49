//! One run: a seed in, a report out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hanse_raft::ReplicaId;
use hanse_state::contract::ContractState;
use serde::Serialize;
use turmoil::{Builder, Sim};

use crate::check::Checks;
use crate::client::Habit;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::faults::Faults;
use crate::healing::{Healing, healing};
use crate::mutant::Mutant;
use crate::network::host;
use crate::workload::Plans;
use crate::world::{Phase, Shared};
use crate::{client, node};

/// Simulated time of one tick.
pub const TICK_MS: u64 = 5;
/// Ticks that healing may take after the faults have ended: two simulated minutes.
const HEAL_TICKS_MAX: u64 = 120_000 / TICK_MS;
/// Clients at once.
const CLIENTS: u64 = 3;
/// Those who come on top in half of the runs with five voters: many entries under way at once, on each follower others.
const CROWD: u64 = 6;
/// The client that is an operator.
const OPERATOR: u64 = 99;
/// Machines that a person may start beside the first ones, where the membership changes.
const SPARES: u64 = 8;

/// What a run is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Ticks with faults.
    pub ticks: u64,
    /// Voters at the start, 3 or 5.
    pub voters: u64,
    /// A mistake to put in.
    pub mutant: Option<Mutant>,
    /// Whether the trace is printed.
    pub print: bool,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Ticks, healing included.
    pub ticks: u64,
    /// What did not hold; empty if all did.
    pub violations: Vec<String>,
    /// Leaders that were elected.
    pub elections: u64,
    /// Entries applied.
    pub entries: u64,
    /// Requests acknowledged with success.
    pub acked: u64,
    /// Requests refused by a rule.
    pub refused: u64,
    /// Reads answered.
    pub reads: u64,
    /// Operations given up without an answer.
    pub unknown: u64,
    /// Entries that were a request again.
    pub replays: u64,
    /// Nodes that run at the end.
    pub nodes: u64,
    /// Acts on hosts that leaders began.
    pub acts: u64,
    /// Processes that hosts started.
    pub started: u64,
    /// Changes of the membership that were ordered and accepted.
    pub ordered: u64,
    /// Such orders that the leader turned away.
    pub turned_away: u64,
    /// Memberships of openraft that came into force.
    pub changes: u64,
    /// Joint configurations that an interrupted change had left and somebody ended.
    pub inherited: u64,
    /// Replicas that were removed and ended.
    pub left: u64,
    /// Contracts that are deployed at the end.
    pub deployed: u64,
    /// Contracts that the chains refused or reverted.
    pub undeployed: u64,
    /// Acknowledged requests that are not in the final state.
    pub lost: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Hash of the trace.
    pub trace: String,
    /// Lines of the trace.
    pub lines: u64,
}

struct Run {
    shared: Shared,
    disks: BTreeMap<ReplicaId, Disk>,
    faults: Faults,
    checks: Checks,
    ticks: u64,
}

/// Runs one seed to its end, or to the first violation.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    let shared = Shared::new(seed, options.mutant, options.print);
    let mut dice = Dice::new(seed, "cluster");
    let changes = dice.chance(40) || options.mutant.is_some_and(Mutant::is_of_membership);
    let founders: Vec<ReplicaId> = (1..=options.voters).map(ReplicaId).collect();
    let last = if changes { options.voters + SPARES } else { options.voters };
    let disks: BTreeMap<ReplicaId, Disk> =
        (1..=last).map(ReplicaId).map(|id| (id, Disk::new(id, shared.clone(), seed))).collect();
    shared.world().roster.found_with(&founders);

    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(TICK_MS))
        .simulation_duration(Duration::from_secs(86_400))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(dice.pick(&[10, 40, 150])))
        .udp_capacity(4_096)
        .build();
    let snapshot_every = dice.pick(&[20, 60, 200]);
    for (id, disk) in disks.clone() {
        let (shared, founders) = (shared.clone(), founders.clone());
        sim.host(host(id), move || node::run(id, disk.clone(), shared.clone(), snapshot_every, founders.clone()));
    }
    let plans = Arc::new(Mutex::new(Plans::default()));
    let crowd = if options.voters == 5 && dice.chance(50) { CROWD } else { 0 };
    for id in 1..=CLIENTS + crowd {
        let habit = match id {
            // It stays with the replica that answers: a leader that was cut off would tell it old news.
            2 => Habit::Reader,
            _ if id > CLIENTS => Habit::Hurried,
            _ => Habit::Usual,
        };
        let (shared, plans, think_ms) = (shared.clone(), plans.clone(), dice.range(20, 300));
        sim.host(format!("client-{id}"), move || client::run(id, habit, shared.clone(), plans.clone(), think_ms));
    }
    if changes {
        let (shared, plans, think_ms) = (shared.clone(), plans.clone(), dice.pick(&[1_500, 3_000, 5_000]));
        let habit = Habit::Operator { last: ReplicaId(last) };
        sim.host(format!("client-{OPERATOR}"), move || {
            client::run(OPERATOR, habit, shared.clone(), plans.clone(), think_ms)
        });
    }
    let faults = Faults::new(shared.clone(), disks.clone(), changes);
    let mut run = Run { shared, disks, faults, checks: Checks::default(), ticks: 0 };
    run.all(&mut sim, options.ticks);
    // The hosts go first: what they drop may still look at the world.
    drop(sim);
    run.report(seed)
}

impl Run {
    fn all(&mut self, sim: &mut Sim<'_>, ticks: u64) {
        while self.ticks < ticks {
            self.faults.step(sim);
            if !self.tick(sim) {
                return;
            }
        }
        self.faults.end(sim);
        self.shared.world().phase = Phase::Settle;
        if !self.heal(sim) {
            return;
        }
        self.faults.last();
        if !self.heal(sim) {
            return;
        }
        let lost = self.lost();
        if lost > 0 {
            self.shared.world().violation(&format!("{lost} acknowledged requests are not in the final state"));
        }
    }

    /// Waits until all is as it must be; gives whether that came.
    fn heal(&mut self, sim: &mut Sim<'_>) -> bool {
        let mut left = HEAL_TICKS_MAX;
        loop {
            let healing = healing(&self.shared.world());
            match healing {
                Healing::Done => return true,
                Healing::Waits(_) if left > 0 => left -= 1,
                Healing::Waits(why) => {
                    self.shared.world().violation(&format!("not healed after the faults ended: {why}"));
                    return false;
                }
                Healing::Never(why) => {
                    self.shared.world().violation(&why);
                    return false;
                }
            }
            if !self.tick(sim) {
                return false;
            }
            let mut world = self.shared.world();
            if world.phase == Phase::Settle && world.busy.values().all(|busy| !busy) {
                world.phase = Phase::Prove;
            }
        }
    }

    /// One tick; gives whether all still holds.
    fn tick(&mut self, sim: &mut Sim<'_>) -> bool {
        self.ticks += 1;
        if let Err(error) = sim.step() {
            self.shared.world().violation(&format!("a host ended: {error}"));
        }
        let now_ms = u64::try_from(sim.elapsed().as_millis()).expect("a day in milliseconds");
        self.shared.world().advance(now_ms);
        self.bury(sim);
        self.checks.tick(&self.shared, &self.disks);
        self.shared.world().violations.is_empty()
    }

    /// Ends the programs of those that were told that they are removed.
    fn bury(&self, sim: &mut Sim<'_>) {
        let ending = self.shared.world().roster.take_ending();
        for id in ending {
            // Its last words may look at the world.
            sim.crash(host(id));
            let mut world = self.shared.world();
            world.rafts.remove(&id);
            world.say(&format!("{id} was removed and ends"));
        }
    }

    fn lost(&self) -> u64 {
        let world = self.shared.world();
        let states = world.rafts.values().map(|(_, machine)| machine.view().state);
        states.max_by_key(|state| state.revision).map_or(0, |last| world.oracle.lost(&last))
    }

    fn report(&self, seed: u64) -> Report {
        let lost = self.lost();
        let world = self.shared.world();
        let states = world.rafts.values().map(|(_, machine)| machine.view().state);
        let last = states.max_by_key(|state| state.revision).unwrap_or_default();
        let contracts = |wanted| last.contracts.values().filter(|it| it.state == wanted).count() as u64;
        let (trace, lines) = world.trace();
        Report {
            seed,
            ticks: self.ticks,
            violations: world.violations.clone(),
            elections: self.checks.elections,
            entries: world.oracle.last().map_or(0, |id| id.index),
            acked: world.oracle.acked,
            refused: world.oracle.refused,
            reads: world.oracle.reads,
            unknown: world.oracle.unknown,
            replays: world.oracle.replays,
            nodes: last.nodes.len() as u64,
            acts: world.acts.begun,
            started: world.hosts.started,
            ordered: world.roster.ordered,
            turned_away: world.roster.turned_away,
            changes: world.roster.changes,
            inherited: world.roster.inherited,
            left: world.roster.ended().len() as u64,
            deployed: contracts(ContractState::Deployed),
            undeployed: contracts(ContractState::Failed),
            lost,
            faults: self.faults.counts.clone(),
            trace,
            lines,
        }
    }
}
