//! The schedule of faults: what goes wrong when, all of it thrown from the seed.
//!
//! Each seed has a temper of its own (how often, which kinds, how bad the network), so that some runs are quiet with one
//! nasty habit and others are a storm.

use std::collections::BTreeMap;

use hanse_raft::ReplicaId;
use openraft::async_runtime::watch::WatchReceiver;
use turmoil::Sim;

use crate::cloud::Temper;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::network::host;
use crate::node::ELECTION_MAX_MS;
use crate::world::{Order, Shared, Weather};

/// One hour: how far a replica's clock jumps.
const HOUR_MS: i64 = 3_600_000;

/// So many of a hundred changes of the voters get a blow as they begin.
const AIMED: u64 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    CrashAll,
    CrashLeader,
    Split,
    OneWay,
    IsolateLeader,
    SlowDisk,
    ClockJump,
    Transfer,
    Snapshot,
    HostDown,
    HostDenies,
    NodeDies,
    NodeHangs,
}

/// What ends a fault.
#[derive(Clone, Debug)]
enum Cure {
    Bounce(ReplicaId),
    Repair(ReplicaId, ReplicaId),
    FastDisk(ReplicaId),
}

/// The schedule of one run.
pub(crate) struct Faults {
    shared: Shared,
    dice: Dice,
    kinds: Vec<Fault>,
    every_ms: u64,
    next_ms: u64,
    cures: BTreeMap<(u64, u64), Cure>,
    cure_last: u64,
    down: BTreeMap<ReplicaId, ()>,
    /// Where the membership changes, many blows fall into a change.
    aims: bool,
    disks: BTreeMap<ReplicaId, Disk>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Faults {
    pub(crate) fn new(shared: Shared, disks: BTreeMap<ReplicaId, Disk>, aims: bool) -> Self {
        let mut dice = Dice::new(shared.seed, "faults");
        let mut kinds = vec![Fault::Crash, Fault::Split, Fault::Snapshot, Fault::IsolateLeader];
        let more = [
            Fault::CrashAll,
            Fault::CrashLeader,
            Fault::OneWay,
            Fault::SlowDisk,
            Fault::ClockJump,
            Fault::Transfer,
            Fault::HostDown,
            Fault::HostDenies,
            Fault::NodeDies,
            Fault::NodeHangs,
        ];
        kinds.extend(more.into_iter().filter(|_| dice.chance(60)));
        let every_ms = dice.range(1_500, 9_000);
        let weather = Weather { lost: dice.pick(&[0, 0, 1, 5, 15]), doubled: dice.pick(&[0, 2, 10, 20]) };
        let temper = Temper {
            refused: dice.pick(&[0, 5, 20]),
            lost: dice.pick(&[5, 20, 20]),
            lied: dice.pick(&[0, 0, 5, 20]),
            slow: dice.pick(&[0, 5, 20]),
        };
        shared.world().weather = weather;
        shared.world().hosts.temper = temper;
        shared.world().say(&format!("temper: every {every_ms} ms {kinds:?}, {weather:?}, {temper:?}"));
        Self {
            shared,
            dice,
            kinds,
            every_ms,
            next_ms: 5_000,
            cures: BTreeMap::new(),
            cure_last: 0,
            down: BTreeMap::new(),
            aims,
            disks,
            counts: BTreeMap::new(),
        }
    }

    /// Does what is due: first ends faults, then begins one.
    pub(crate) fn step(&mut self, sim: &mut Sim<'_>) {
        let now_ms = self.shared.world().now_ms;
        while let Some(entry) = self.cures.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            let cure = entry.remove();
            self.cure(sim, cure);
        }
        if now_ms >= self.next_ms {
            self.next_ms = now_ms + self.dice.range(self.every_ms / 2, self.every_ms * 2);
            let fault = self.dice.pick(&self.kinds);
            self.begin(sim, fault, now_ms);
        }
        // A leader has just begun to change the voters: some changes must be left half done.
        let changing = self.shared.world().roster.take_changing();
        if changing && self.aims && self.dice.chance(AIMED) {
            let fault = self.dice.pick(&[Fault::CrashLeader, Fault::IsolateLeader, Fault::Split, Fault::Transfer]);
            self.begin(sim, fault, now_ms);
        }
    }

    /// Ends every fault: from now on the cluster must heal.
    pub(crate) fn end(&mut self, sim: &mut Sim<'_>) {
        self.cures.clear();
        let down: Vec<ReplicaId> = std::mem::take(&mut self.down).into_keys().collect();
        for id in down {
            sim.bounce(host(id));
        }
        for (a, disk) in &self.disks {
            for b in self.disks.keys().filter(|b| a < *b) {
                sim.repair(host(*a), host(*b));
            }
            disk.set_slow(5);
        }
        let mut world = self.shared.world();
        world.weather = Weather::default();
        world.hosts.calm();
        world.skew_ms.clear();
        world.say("faults end");
    }

    /// The healed cluster's last trial: the leader's clock is set back for good, and a node dies.
    pub(crate) fn last(&mut self) {
        let leader = self.leader();
        let mut world = self.shared.world();
        world.skew_ms.extend(leader.map(|id| (id, -HOUR_MS)));
        let died = world.hosts.kill();
        world.say(&format!("{leader:?} has a clock that is set back, {died:?} dies"));
    }

    fn cure(&mut self, sim: &mut Sim<'_>, cure: Cure) {
        self.shared.world().say(&format!("cure {cure:?}"));
        match cure {
            Cure::Bounce(id) => {
                if self.down.remove(&id).is_some() {
                    sim.bounce(host(id));
                }
            }
            Cure::Repair(a, b) => {
                sim.repair_oneway(host(a), host(b));
            }
            Cure::FastDisk(id) => self.disks[&id].set_slow(5),
        }
    }

    fn later(&mut self, now_ms: u64, low: u64, high: u64, cure: Cure) {
        self.cure_last += 1;
        let at = now_ms + self.dice.range(low, high);
        self.cures.insert((at, self.cure_last), cure);
    }

    fn leader(&self) -> Option<ReplicaId> {
        let world = self.shared.world();
        let leaders = world.rafts.iter().filter(|(_, (raft, _))| raft.is_leader());
        // One that was cut off may still believe that it leads.
        leaders.max_by_key(|(_, (raft, _))| raft.metrics().borrow_watched().current_term).map(|(id, _)| *id)
    }

    fn crash(&mut self, sim: &mut Sim<'_>, id: ReplicaId, now_ms: u64) {
        if self.down.insert(id, ()).is_some() {
            return;
        }
        sim.crash(host(id));
        self.shared.world().rafts.remove(&id);
        self.disks[&id].crash();
        self.shared.world().say(&format!("crash {id}"));
        self.later(now_ms, 1, 12_000, Cure::Bounce(id));
    }

    fn cut(&mut self, sim: &mut Sim<'_>, from: ReplicaId, to: ReplicaId, now_ms: u64) {
        sim.partition_oneway(host(from), host(to));
        self.later(now_ms, 500, 12_000, Cure::Repair(from, to));
    }

    fn begin(&mut self, sim: &mut Sim<'_>, fault: Fault, now_ms: u64) {
        let living = self.shared.world().roster.living();
        let any = self.dice.pick(&living);
        let leader = self.leader();
        self.shared.world().say(&format!("fault {fault:?}, leader {leader:?}, die {any}"));
        *self.counts.entry(name(fault)).or_default() += 1;
        match fault {
            Fault::Crash => self.crash(sim, any, now_ms),
            Fault::CrashAll => living.into_iter().for_each(|id| self.crash(sim, id, now_ms)),
            Fault::CrashLeader => self.crash(sim, leader.unwrap_or(any), now_ms),
            Fault::Split => {
                let side = self.dice.next();
                let inside = |id: ReplicaId| side >> id.0 & 1 == 0;
                for (a, b) in self.pairs().into_iter().filter(|(a, b)| inside(*a) != inside(*b)) {
                    self.cut(sim, a, b, now_ms);
                }
            }
            Fault::OneWay => {
                let (a, b) = self.dice.pick(&self.pairs());
                self.cut(sim, a, b, now_ms);
            }
            Fault::IsolateLeader => {
                // Long enough for another to be elected and to acknowledge, while this one does not know of it.
                let alone = leader.unwrap_or(any);
                let lasts_ms = self.dice.range(2 * ELECTION_MAX_MS, 6 * ELECTION_MAX_MS);
                for (a, b) in self.pairs().into_iter().filter(|(a, b)| *a == alone || *b == alone) {
                    sim.partition_oneway(host(a), host(b));
                    self.later(now_ms, lasts_ms, lasts_ms, Cure::Repair(a, b));
                }
            }
            Fault::SlowDisk => {
                let slow_ms = self.dice.pick(&[100, 400, 1_500]);
                self.disks[&any].set_slow(slow_ms);
                self.later(now_ms, 1_000, 10_000, Cure::FastDisk(any));
            }
            Fault::ClockJump => {
                // Mostly the leader's: the others' clocks are used by nobody.
                let whose = if self.dice.chance(70) { leader.unwrap_or(any) } else { any };
                let skew = self.dice.pick(&[-HOUR_MS, 0, HOUR_MS]);
                self.shared.world().skew_ms.insert(whose, skew);
            }
            Fault::Transfer | Fault::Snapshot => self.order(fault, any, leader),
            Fault::HostDown | Fault::HostDenies | Fault::NodeDies | Fault::NodeHangs => self.host(fault, now_ms),
        }
    }

    /// What goes wrong outside the replicas; it ends by itself.
    fn host(&mut self, fault: Fault, now_ms: u64) {
        let until_ms = now_ms + self.dice.range(500, 8_000);
        let mut world = self.shared.world();
        let what = match fault {
            Fault::HostDown => world.hosts.down(until_ms),
            Fault::HostDenies => world.hosts.deny(until_ms),
            Fault::NodeDies => world.hosts.kill(),
            _ => world.hosts.hang(until_ms),
        };
        world.say(&format!("{fault:?}: {what:?}"));
    }

    /// Orders are for the leader, a snapshot for anyone.
    fn order(&mut self, fault: Fault, any: ReplicaId, leader: Option<ReplicaId>) {
        let mut world = self.shared.world();
        let applied = world.oracle.last().map_or(0, |id| id.index);
        let mut give = |to: ReplicaId, orders: Vec<Order>| world.orders.entry(to).or_default().extend(orders);
        match (fault, leader) {
            (Fault::Snapshot, _) => give(any, vec![Order::Snapshot, Order::Purge(applied)]),
            (Fault::Transfer, Some(leader)) => give(leader, vec![Order::Transfer(any)]),
            _ => {}
        }
    }

    /// Every ordered pair of living replicas; at least two live, for nobody removes the last but one.
    fn pairs(&self) -> Vec<(ReplicaId, ReplicaId)> {
        let all = self.shared.world().roster.living();
        let all = &all;
        all.iter().flat_map(|a| all.iter().filter(move |b| a != *b).map(move |b| (*a, *b))).collect()
    }
}

const fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Crash => "crash",
        Fault::CrashAll => "crash_all",
        Fault::CrashLeader => "crash_leader",
        Fault::Split => "split",
        Fault::OneWay => "one_way",
        Fault::IsolateLeader => "isolate_leader",
        Fault::SlowDisk => "slow_disk",
        Fault::ClockJump => "clock_jump",
        Fault::Transfer => "transfer",
        Fault::Snapshot => "snapshot",
        Fault::HostDown => "host_down",
        Fault::HostDenies => "host_denies",
        Fault::NodeDies => "node_dies",
        Fault::NodeHangs => "node_hangs",
    }
}
