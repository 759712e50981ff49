//! The schedule: faults one after the other, sometimes two at once, until the time is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::chance::Chance;
use super::cluster::Cluster;
use super::nemesis::{Fault, Ground, Kind, Line, Outcome, choose, since};
use super::net::Net;
use super::resumed;
use super::watch::Sight;
use super::work::Book;

/// Percent of rounds with a second fault.
const SECOND_PERCENT: u64 = 30;
/// A majority that is left must have acknowledged a write after so long.
const MAJORITY_MAX: Duration = Duration::from_secs(10);
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
    /// Milliseconds from each fault that leaves a majority to the next acknowledged write.
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
    /// The harness itself failed, or writes did not come back: then there is nothing more to learn from this run.
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
            self.round(&mut ground, &faults, number, book, &mut suffered)?;
            number += faults.len() as u64;
        }
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
        let (begun, begun_at) = (Instant::now(), book.now());
        let lasts = faults.iter().map(|fault| fault.lasts).max().unwrap_or_default();
        wait(ground.cluster, begun + lasts)?;
        // Two faults at once may leave no majority, so nothing is demanded of them.
        let [fault] = faults else { return Ok(()) };
        if !fault.majority_left {
            return Ok(());
        }
        // A write that slipped through while the fault was being put in force proves nothing.
        let begun_at = begun_at + GRACE_NS;
        // If there is none yet, the fault stays until the limit is over.
        let end = begun + MAJORITY_MAX;
        while book.last_ack_called() < begun_at && Instant::now() < end {
            ground.cluster.look()?;
            std::thread::sleep(LOOK_EVERY);
        }
        if book.last_ack_called() < begun_at {
            let words = format!(
                "{:?} {}: a majority was left, but no write was acknowledged within {:?}",
                fault.kind,
                fault.words,
                begun.elapsed()
            );
            eprintln!("hanse-faults: {words}");
            suffered.wrong.push(words);
        }
        suffered.through_ms.push(book.last_ack().saturating_sub(begun_at) / 1_000_000);
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
