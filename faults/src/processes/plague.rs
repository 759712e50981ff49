//! The schedule: faults one after the other, sometimes two at once, until the time is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::chance::Chance;
use super::cluster::Cluster;
use super::nemesis::{Fault, Ground, Kind, Line, Outcome, choose, since};
use super::net::Net;
use super::stage::resumed;
use super::watch::Sight;
use super::work::Book;

/// Percent of rounds with a second fault.
const SECOND_PERCENT: u64 = 30;
/// A majority that is left must have acknowledged a write after so long.
const MAJORITY_MAX: Duration = Duration::from_secs(20);
/// Calls that began so soon after a fault, in nanoseconds, do not count as having got through it.
const GRACE_NS: u64 = 1_000_000_000;
/// Quiet between two rounds.
const QUIET_MS: (u64, u64) = (300, 1_500);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the cluster suffered, and how it took it.
#[derive(Debug, Default)]
pub(crate) struct Suffered {
    /// The log of faults.
    pub(crate) log: Vec<Line>,
    /// Milliseconds from each healing to the next acknowledged write.
    pub(crate) resume_ms: Vec<u64>,
    /// Milliseconds from a second after each fault that leaves a majority to the next acknowledged write.
    pub(crate) through_ms: Vec<u64>,
    /// What must not be, in words.
    pub(crate) wrong: Vec<String>,
}

/// A schedule.
pub(crate) struct Plague {
    kinds: Vec<Kind>,
    longest: Duration,
    chance: Chance,
    until: Instant,
    /// Kinds still to come before every kind comes again.
    bag: Vec<Kind>,
}

impl Plague {
    /// A schedule over `kinds` until the given moment.
    pub(crate) fn new(kinds: Vec<Kind>, longest: Duration, chance: Chance, until: Instant) -> Self {
        Self { kinds, longest, chance, until, bag: Vec::new() }
    }

    /// Runs it.
    ///
    /// # Errors
    /// What is left in force cannot be taken back. That writes do not come back ends the schedule and is `wrong`.
    pub(crate) fn run(mut self, cluster: &mut Cluster, net: &Net, book: &Book, sight: &Sight) -> Result<Suffered> {
        let mut suffered = Suffered::default();
        let ids = cluster.ids();
        let mut ground = Ground { cluster, net, cuts: BTreeMap::new() };
        let mut number = 0;
        while Instant::now() < self.until {
            let mut faults = vec![self.next(&ids, sight.leader())];
            if self.chance.percent(SECOND_PERCENT) {
                let second = self.next(&ids, sight.leader());
                if second.kind.goes_with(faults[0].kind) {
                    faults.push(second);
                } else {
                    self.bag.push(second.kind);
                }
            }
            if let Err(error) = self.round(&mut ground, &faults, number, book, &mut suffered) {
                suffered.wrong.push(format!("{error:#}"));
                break;
            }
            number += faults.len() as u64;
        }
        // What a broken-off round left in force.
        ground.heal_all()?;
        Ok(suffered)
    }

    fn next(&mut self, ids: &[u64], leader: Option<u64>) -> Fault {
        if self.bag.is_empty() {
            self.bag = self.kinds.clone();
            self.chance.shuffle(&mut self.bag);
        }
        // The bag was just filled from kinds, of which there is at least one.
        let kind = self.bag.pop().unwrap_or(Kind::Kill);
        choose(kind, &mut self.chance, ids, leader, self.longest)
    }

    fn round(
        &mut self,
        ground: &mut Ground<'_>,
        faults: &[Fault],
        number: u64,
        book: &Book,
        suffered: &mut Suffered,
    ) -> Result<()> {
        let mut lines = Vec::new();
        for (place, fault) in faults.iter().enumerate() {
            let from_ms = since(book.start);
            let outcome = ground.install(number + place as u64, fault).unwrap_or_else(|error| {
                eprintln!("hanse-faults: {:?} {}: {error:#}", fault.kind, fault.words);
                Outcome::Indeterminate
            });
            eprintln!("hanse-faults: {from_ms:>7} ms {:?} {} {outcome:?}", fault.kind, fault.words);
            lines.push(Line { kind: fault.kind, what: fault.words.clone(), from_ms, to_ms: 0, outcome });
        }
        self.suffer(ground, faults, book, suffered)?;
        for (place, fault) in faults.iter().enumerate() {
            if let Err(error) = ground.heal(number + place as u64, fault) {
                eprintln!("hanse-faults: healing {:?} {}: {error:#}", fault.kind, fault.words);
                lines[place].outcome = Outcome::Indeterminate;
            }
            lines[place].to_ms = since(book.start);
        }
        suffered.log.append(&mut lines);
        let healed = book.now();
        let after = resumed(book, healed, ground.cluster)?;
        suffered.resume_ms.push(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        let quiet = Duration::from_millis(self.chance.between(QUIET_MS.0, QUIET_MS.1));
        wait(ground.cluster, Instant::now() + quiet)?;
        for fault in faults.iter().filter(|fault| fault.kind.needs_disks()) {
            for id in &fault.targets {
                ground.cluster.excuse(*id, false)?;
            }
        }
        Ok(())
    }

    /// Lets the faults last, and looks whether a majority that is left goes on.
    fn suffer(&self, ground: &mut Ground<'_>, faults: &[Fault], book: &Book, suffered: &mut Suffered) -> Result<()> {
        let (begun, mark) = (Instant::now(), book.now() + GRACE_NS);
        let lasts = faults.iter().map(|fault| fault.lasts).max().unwrap_or_default();
        // Two faults at once may leave no majority, so nothing is demanded of them.
        let alone = if let [fault] = faults { Some(fault).filter(|fault| fault.majority_left) } else { None };
        let mut through = None;
        while begun.elapsed() < lasts || (alone.is_some() && through.is_none() && begun.elapsed() < MAJORITY_MAX) {
            if through.is_none() && book.last_ack_called() >= mark {
                through = Some(book.last_ack().saturating_sub(mark) / 1_000_000);
            }
            ground.cluster.look()?;
            std::thread::sleep(LOOK_EVERY);
        }
        match (alone, through) {
            (Some(_), Some(ms)) => suffered.through_ms.push(ms),
            (Some(fault), None) => {
                let words = format!(
                    "{:?} {}: a majority was left, but no write was acknowledged within {MAJORITY_MAX:?}",
                    fault.kind, fault.words
                );
                eprintln!("hanse-faults: {words}");
                suffered.wrong.push(words);
            }
            (None, _) => {}
        }
        Ok(())
    }
}

/// Waits for a moment while replicas that end by themselves are noticed.
fn wait(cluster: &mut Cluster, until: Instant) -> Result<()> {
    while Instant::now() < until {
        cluster.look()?;
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
