//! What all parts of one run share: simulated time, dice, trace, network knobs, the oracle.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hanse_raft::ReplicaId;
use hanse_server::config::Timing;
use hanse_state::{Applied, Command, Request, State};

use crate::acts::Acts;
use crate::cloud::Flaw;
use crate::dice::Dice;
use crate::hosts::Hosts;
use crate::mutant::Mutant;
use crate::oracle::Oracle;
use crate::post::{Body, Mail};
use crate::provider::Provider;
use crate::roster::{Roster, Start};
use crate::sweep::Trap;
use crate::types::{Entry, LogId, Raft};

/// 2026-11-23T00:00:00Z; simulated time begins here.
pub(crate) const EPOCH_MS: u64 = 1_795_392_000_000;
/// Mail older than so many numbers is long delivered or lost.
const MAIL_KEPT: u64 = 20_000;
/// Violations kept; the first is what matters.
const VIOLATIONS_MAX: usize = 20;

/// What the clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Begin operations.
    Work,
    /// Finish what was begun.
    Settle,
    /// One write and one read must succeed.
    Prove,
}

/// What the schedule orders a replica to do.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Snapshot,
    Purge(u64),
    Transfer(ReplicaId),
}

/// The network's faults, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
}

/// Shared, mutable.
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    pub(crate) mail: BTreeMap<u64, Mail>,
    pub(crate) mail_last: u64,
    pub(crate) phase: Phase,
    /// By client: whether it is in an operation.
    pub(crate) busy: BTreeMap<u64, bool>,
    pub(crate) proved: bool,
    pub(crate) roster: Roster,
    /// By replica, milliseconds its clock is off.
    pub(crate) skew_ms: BTreeMap<ReplicaId, i64>,
    pub(crate) orders: BTreeMap<ReplicaId, Vec<Order>>,
    pub(crate) rafts: BTreeMap<ReplicaId, (Raft, crate::machine::Machine)>,
    pub(crate) oracle: Oracle,
    pub(crate) hosts: Hosts,
    /// The region of the one cloud.
    pub(crate) provider: Provider,
    pub(crate) acts: Acts,
    pub(crate) request_last: u64,
    pub(crate) violations: Vec<String>,
    /// How long what nobody asks for stays on a host.
    pub(crate) orphan_grace_ms: u64,
    /// Where a run of the sweep is struck.
    pub(crate) trap: Trap,
    /// Whether the sweep's stage has been ordered.
    pub(crate) played: bool,
    lives: BTreeMap<ReplicaId, u64>,
    trace: Trace,
}

struct Trace {
    hasher: DefaultHasher,
    lines: u64,
    print: bool,
}

impl World {
    /// Adds a line to the trace.
    pub(crate) fn say(&mut self, line: &str) {
        let line = format!("{:>9.3} {line}", self.now_ms as f64 / 1_000.0);
        line.hash(&mut self.trace.hasher);
        self.trace.lines += 1;
        if self.trace.print {
            println!("{line}");
        }
    }

    /// Gives the trace's hash and length.
    pub(crate) fn trace(&self) -> (String, u64) {
        (format!("{:016x}", self.trace.hasher.finish()), self.trace.lines)
    }

    /// Records that an invariant did not hold.
    pub(crate) fn violation(&mut self, what: &str) {
        self.say(&format!("VIOLATION {what}"));
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(format!("at {} ms: {what}", self.now_ms));
        }
    }

    /// Time goes on: what is due on the hosts happens, and old mail is forgotten.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let oldest = self.mail_last.saturating_sub(MAIL_KEPT);
        self.mail.retain(|number, _| *number >= oldest);
        self.provider.tick(now_ms);
        for address in self.provider.take_ended() {
            self.hosts.lose(&address);
        }
        self.hosts.tick(now_ms);
        for line in self.provider.take_said().into_iter().chain(self.hosts.take_said()) {
            self.say(&line);
        }
    }

    /// Takes what oracle, acts and hosts found.
    pub(crate) fn judge(&mut self) {
        let found = self.oracle.take_found().into_iter().chain(self.acts.take_found()).chain(self.hosts.take_found());
        let found = found.chain(self.provider.take_found()).chain(self.roster.take_found());
        for found in found.collect::<Vec<_>>() {
            self.violation(&found);
        }
    }

    /// A replica has applied a request.
    pub(crate) fn applied(&mut self, request: &Request, applied: &Applied, after: &State) {
        let is_removal = self.acts.applied(request, applied, after);
        // With clocks that jump the grace is another one.
        if !is_removal || !self.skew_ms.is_empty() {
            return;
        }
        let (object, since_ms) = match &request.command {
            Command::RemoveOrphan(it) => {
                let host = after.hosts.get(&it.host);
                (&it.object, host.and_then(|host| self.hosts.since_ms(&host.peer_address, &it.object)))
            }
            Command::RemoveCloudOrphan(it) => (&it.instance, self.provider.since_ms(&it.instance)),
            _ => return,
        };
        let Some(age_ms) = since_ms.map(|since_ms| self.now_ms.saturating_sub(since_ms)) else { return };
        if age_ms < self.orphan_grace_ms {
            self.violation(&format!("removed at sight: {object} was there for {age_ms} ms"));
        }
    }

    /// A replica was answered: if it hears that it was removed, its program ends.
    pub(crate) fn heed(&mut self, id: ReplicaId, answer: &Body) {
        if matches!(answer, Body::Removed) {
            self.roster.told_removed(id);
        }
    }

    /// What a machine is started with, once its time has come.
    pub(crate) fn start(&self, id: ReplicaId) -> Option<Start> {
        self.roster.start(id, self.now_ms)
    }

    /// Counts the lives of a replica.
    pub(crate) fn born(&mut self, id: ReplicaId) -> u64 {
        let life = self.lives.entry(id).or_default();
        *life += 1;
        *life
    }

    /// What this replica's clock shows.
    pub(crate) fn clock_ms(&self, id: ReplicaId) -> u64 {
        let skew = self.skew_ms.get(&id).copied().unwrap_or(0);
        (EPOCH_MS + self.now_ms).saturating_add_signed(skew)
    }

    pub(crate) fn appended(&mut self, id: ReplicaId, before: Option<LogId>, entries: &[Entry]) {
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            self.say(&format!("{id} appends {}..{}", first.log_id, last.log_id));
        }
        self.oracle.appended(id, before, entries);
        self.roster.appended(id, entries);
        self.judge();
    }

    pub(crate) fn truncated(&mut self, id: ReplicaId, cut: &[LogId]) {
        if let Some(first) = cut.first() {
            self.say(&format!("{id} truncates from {first}"));
        }
        self.oracle.truncated(id, cut);
        self.judge();
    }
}

/// A handle on the world of one run.
#[derive(Clone)]
pub(crate) struct Shared {
    world: Arc<Mutex<World>>,
    mutant: Option<Mutant>,
    pub(crate) seed: u64,
}

impl Shared {
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>, print: bool) -> Self {
        let flaw = match mutant {
            Some(Mutant::CreateWithoutLook) => Flaw::Blind,
            Some(Mutant::CreateWithoutKey) => Flaw::Nameless,
            Some(Mutant::DeployAgain) => Flaw::Resigned,
            _ => Flaw::None,
        };
        let world = World {
            now_ms: 0,
            dice: Dice::new(seed, "world"),
            weather: Weather::default(),
            mail: BTreeMap::new(),
            mail_last: 0,
            phase: Phase::Work,
            busy: BTreeMap::new(),
            proved: false,
            roster: Roster::default(),
            skew_ms: BTreeMap::new(),
            orders: BTreeMap::new(),
            rafts: BTreeMap::new(),
            oracle: Oracle::default(),
            hosts: Hosts::new(seed, flaw),
            provider: Provider::new(seed, flaw == Flaw::Nameless),
            acts: Acts::default(),
            request_last: 0,
            violations: Vec::new(),
            orphan_grace_ms: Timing::default().orphan_grace_ms,
            trap: Trap::default(),
            played: false,
            lives: BTreeMap::new(),
            trace: Trace { hasher: DefaultHasher::new(), lines: 0, print },
        };
        Self { world: Arc::new(Mutex::new(world)), mutant, seed }
    }

    /// Locks the world; never across an await.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this mistake was put in.
    pub(crate) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}
