//! Faults as small values: chosen from a seed, put in force, and taken back.
//!
//! Every step has an outcome. `Installed`: it was seen to be in force. `Skipped`: there was nothing to do it to at that
//! moment (no leader known, replica already down). `Indeterminate`: something went wrong while it was put in force or
//! taken back; then the run proves nothing and does not count as passed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::chance::Chance;
use super::cluster::Cluster;
use super::disk::Disk;
use super::net::{Cuts, Net};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SIGKILL, and a start later.
    Kill,
    /// SIGSTOP, and SIGCONT later.
    Pause,
    /// Groups that do not hear each other.
    Partition,
    /// One direction of some links.
    OneWay,
    /// Packets between replicas get lost.
    Loss,
    /// A clock an hour off.
    Clock,
    /// A disk of 20 writes a second.
    SlowDisk,
    /// A disk without room.
    FullDisk,
    /// A disk on which every write hangs.
    StuckDisk,
    /// The lead is handed to another replica.
    Transfer,
    /// SIGTERM to one or all, and a start at once.
    Restart,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 11] = [
        Kind::Kill,
        Kind::Pause,
        Kind::Partition,
        Kind::OneWay,
        Kind::Loss,
        Kind::Clock,
        Kind::SlowDisk,
        Kind::FullDisk,
        Kind::StuckDisk,
        Kind::Transfer,
        Kind::Restart,
    ];

    /// Whether both may be in force at once. What stops a process and what hangs it in the kernel may not: a process
    /// that hangs cannot be ended.
    pub(crate) fn goes_with(self, other: Kind) -> bool {
        let class = |kind: Kind| match kind {
            Kind::Kill | Kind::Pause | Kind::Restart | Kind::SlowDisk | Kind::FullDisk | Kind::StuckDisk => 0,
            Kind::Partition | Kind::OneWay | Kind::Loss => 1,
            Kind::Clock => 2,
            Kind::Transfer => 3,
        };
        class(self) != class(other)
    }

    /// Whether it needs disks of the replicas' own.
    pub(crate) fn needs_disks(self) -> bool {
        matches!(self, Kind::SlowDisk | Kind::FullDisk | Kind::StuckDisk)
    }
}

/// A fault with everything chosen.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// What kind.
    pub(crate) kind: Kind,
    /// Which replicas it is done to.
    pub(crate) targets: Vec<u64>,
    /// Which links it cuts.
    links: BTreeSet<(u64, u64)>,
    /// Percent of loss, or seconds of a clock.
    amount: i64,
    /// What it is, for people.
    pub(crate) words: String,
    /// How long it stays.
    pub(crate) lasts: Duration,
    /// Whether a majority that hears each other and has whole disks is left, so that writes must go on.
    pub(crate) majority_left: bool,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Seen in force.
    Installed,
    /// Nothing to do it to.
    Skipped,
    /// Nobody knows.
    Indeterminate,
}

/// One line of the log of faults.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    /// What kind.
    pub(crate) kind: Kind,
    /// What exactly.
    pub(crate) what: String,
    /// When it was put in force, from the run's beginning.
    pub(crate) from_ms: u64,
    /// When it was taken back.
    pub(crate) to_ms: u64,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

/// Chooses a fault of `kind`. `leader` is the leader as far as known.
pub(crate) fn choose(kind: Kind, chance: &mut Chance, ids: &[u64], leader: Option<u64>, longest: Duration) -> Fault {
    let mut some = ids.to_vec();
    chance.shuffle(&mut some);
    // The leader is the interesting one; it is not always at its random place.
    if let Some(leader) = leader.filter(|_| chance.percent(60)) {
        some.retain(|id| *id != leader);
        some.insert(0, leader);
    }
    let minority = (ids.len() - 1) / 2;
    let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX).max(300);
    let lasts = Duration::from_millis(chance.between(200.max(longest / 5), longest));
    let mut fault = Fault {
        kind,
        targets: Vec::new(),
        links: BTreeSet::new(),
        amount: 0,
        words: String::new(),
        lasts,
        majority_left: true,
    };
    match kind {
        Kind::Kill | Kind::Pause | Kind::Restart => {
            let count = match chance.below(10) {
                0..=5 => 1,
                6 | 7 => minority,
                8 => minority + 1,
                _ => ids.len(),
            };
            fault.targets = some[..count].to_vec();
            fault.majority_left = count <= minority;
        }
        Kind::Partition => partition(&mut fault, chance, &some, minority),
        Kind::OneWay => one_way(&mut fault, chance, &some),
        Kind::Loss => {
            fault.targets = some[..usize::try_from(chance.between(1, ids.len() as u64)).unwrap_or(1)].to_vec();
            fault.amount = i64::try_from(chance.between(5, 40)).unwrap_or(20);
            fault.majority_left = false;
        }
        Kind::Clock => {
            fault.targets = some[..1 + usize::from(chance.percent(30))].to_vec();
            fault.amount = if chance.percent(50) { 3_600 } else { -3_600 };
        }
        Kind::SlowDisk | Kind::FullDisk | Kind::StuckDisk => {
            // A disk that fails slowly takes its time to be noticed; half a second of it would show nothing.
            fault.lasts = fault.lasts.max(Duration::from_millis(longest / 2));
            fault.targets = some[..1].to_vec();
        }
        Kind::Transfer => {
            fault.targets = some.iter().copied().filter(|id| Some(*id) != leader).take(1).collect();
            fault.lasts = Duration::from_millis(200);
        }
    }
    fault.words = words(&fault, leader);
    fault
}

fn words(fault: &Fault, leader: Option<u64>) -> String {
    let list = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let mut text = String::new();
    if !fault.targets.is_empty() {
        text = format!("replicas {}", list(&fault.targets));
    }
    if !fault.links.is_empty() {
        let links: Vec<String> = fault.links.iter().map(|(from, to)| format!("{from}>{to}")).collect();
        text = format!("{} cut {}", fault.words, links.join(" "));
    }
    if fault.amount != 0 {
        text.push_str(&format!(" by {}", fault.amount));
    }
    text.push_str(&leader.map_or(" (no leader known)".into(), |id| format!(" (leader {id})")));
    text
}

fn partition(fault: &mut Fault, chance: &mut Chance, some: &[u64], minority: usize) {
    let mut apart = |left: &[u64], right: &[u64]| {
        for a in left {
            for b in right {
                fault.links.extend([(*a, *b), (*b, *a)]);
            }
        }
    };
    match chance.below(4) {
        // The first of `some` is often the leader, then with the minority.
        0 => apart(&some[..minority], &some[minority..]),
        1 => apart(&some[..1], &some[1..]),
        // A bridge: both sides hear the one in the middle.
        2 => apart(&some[..minority], &some[minority + 1..]),
        _ if some.len() > 3 => {
            // A ring: everyone hears two neighbours, and everyone a different majority.
            for (place, a) in some.iter().enumerate() {
                for (other, b) in some.iter().enumerate() {
                    let gap = place.abs_diff(other);
                    if gap > 1 && gap < some.len() - 1 {
                        fault.links.insert((*a, *b));
                    }
                }
            }
        }
        _ => {
            // Nobody hears anybody.
            apart(&some[..1], &some[1..]);
            apart(&some[1..2], &some[2..]);
            fault.majority_left = false;
        }
    }
    fault.words = "partition".into();
}

fn one_way(fault: &mut Fault, chance: &mut Chance, some: &[u64]) {
    let deaf = chance.percent(50);
    let others = if chance.percent(50) { &some[1..] } else { &some[1..2] };
    fault.links = others.iter().map(|other| if deaf { (*other, some[0]) } else { (some[0], *other) }).collect();
    fault.words = if deaf { "deaf".into() } else { "mute".into() };
}

/// Everything a fault is done with.
pub(crate) struct Ground<'a> {
    /// The replicas.
    pub(crate) cluster: &'a mut Cluster,
    /// Their network.
    pub(crate) net: &'a Net,
    /// What is cut now, by the number of the fault that cut it.
    pub(crate) cuts: BTreeMap<u64, Cuts>,
}

impl Ground<'_> {
    /// Puts a fault in force.
    pub(crate) fn install(&mut self, number: u64, fault: &Fault) -> Result<Outcome> {
        let mut done = false;
        match fault.kind {
            Kind::Kill => {
                for id in &fault.targets {
                    done |= self.cluster.kill(*id)?;
                }
            }
            Kind::Pause => {
                for id in &fault.targets {
                    done |= self.cluster.pause(*id, true)?;
                }
            }
            Kind::Restart => {
                for id in &fault.targets {
                    done |= self.cluster.stop(*id)?;
                }
            }
            Kind::Partition | Kind::OneWay => {
                self.cuts.insert(number, Cuts { links: fault.links.clone(), loss: BTreeMap::new() });
                self.apply_cuts()?;
                done = true;
            }
            Kind::Loss => {
                let percent = u64::try_from(fault.amount).context("a percentage")?;
                let loss = fault.targets.iter().map(|id| (*id, percent)).collect();
                self.cuts.insert(number, Cuts { links: BTreeSet::new(), loss });
                self.apply_cuts()?;
                done = true;
            }
            Kind::Clock => {
                for id in &fault.targets {
                    self.cluster.set_clock(*id, fault.amount)?;
                    done = true;
                }
            }
            Kind::SlowDisk | Kind::FullDisk | Kind::StuckDisk => {
                for id in &fault.targets {
                    done |= self.hurt_disk(fault.kind, *id)?;
                }
            }
            Kind::Transfer => done = self.transfer(fault)?,
        }
        Ok(if done { Outcome::Installed } else { Outcome::Skipped })
    }

    /// Takes a fault back.
    pub(crate) fn heal(&mut self, number: u64, fault: &Fault) -> Result<()> {
        match fault.kind {
            Kind::Kill | Kind::Restart => {
                for id in &fault.targets {
                    self.cluster.start(*id)?;
                }
            }
            Kind::Pause => {
                for id in &fault.targets {
                    self.cluster.pause(*id, false)?;
                }
            }
            Kind::Partition | Kind::OneWay | Kind::Loss => {
                self.cuts.remove(&number);
                self.apply_cuts()?;
            }
            Kind::Clock => {
                for id in &fault.targets {
                    self.cluster.set_clock(*id, 0)?;
                }
            }
            Kind::SlowDisk | Kind::FullDisk | Kind::StuckDisk => {
                for id in &fault.targets {
                    self.mend_disk(fault.kind, *id)?;
                }
            }
            Kind::Transfer => {}
        }
        Ok(())
    }

    /// Takes back everything there is, whatever was put in force.
    pub(crate) fn heal_all(&mut self) -> Result<()> {
        self.cuts.clear();
        self.apply_cuts()?;
        for id in self.cluster.ids() {
            self.cluster.set_clock(id, 0)?;
            Disk::release(&group(id))?;
            if let Some(disk) = self.cluster.disk_of(id) {
                disk.mend()?;
            }
        }
        self.cluster.revive()
    }

    fn apply_cuts(&self) -> Result<()> {
        let mut all = Cuts::default();
        for cuts in self.cuts.values() {
            all.links.extend(&cuts.links);
            for (id, percent) in &cuts.loss {
                let known = all.loss.entry(*id).or_default();
                *known = (*known).max(*percent);
            }
        }
        self.net.apply(&all)
    }

    fn hurt_disk(&mut self, kind: Kind, id: u64) -> Result<bool> {
        if self.cluster.disk(id).is_none() {
            return Ok(false);
        }
        self.cluster.excuse(id, kind != Kind::SlowDisk)?;
        let Some((disk, pid)) = self.cluster.disk(id) else { return Ok(false) };
        match kind {
            Kind::FullDisk => disk.fill()?,
            Kind::StuckDisk => disk.freeze()?,
            _ if Disk::can_throttle() => disk.throttle(&group(id), pid)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn mend_disk(&mut self, kind: Kind, id: u64) -> Result<()> {
        let disk = self.cluster.disk_of(id).context("a replica with a disk")?;
        match kind {
            Kind::FullDisk => disk.empty()?,
            Kind::StuckDisk => disk.thaw()?,
            _ => Disk::release(&group(id))?,
        }
        // One that ended of it is started again, as its supervisor would.
        self.cluster.look()?;
        self.cluster.start(id)
    }

    fn transfer(&mut self, fault: &Fault) -> Result<bool> {
        let Some(to) = fault.targets.first() else { return Ok(false) };
        let done = self.cluster.cli(self.net, &["replica", "transfer-leader", &to.to_string()]);
        if let Err(error) = &done {
            // Refused by a cluster that has no leader at the moment, for example.
            eprintln!("hanse-faults: the lead was not handed over: {error:#}");
        }
        Ok(done.is_ok())
    }
}

/// The throttle's group of a replica, of this run alone.
fn group(id: u64) -> String {
    format!("hanse-faults-{}-{id}", std::process::id())
}

/// Milliseconds since `start`.
pub(crate) fn since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
