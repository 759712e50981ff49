//! The file of what was begun and what was acknowledged, and what it demands of a store.
//!
//! One line a step, written by one `write` each, so that a reader of a killed driver's file sees whole lines but perhaps
//! the last. A capital letter begins a step, the small one says that the store has acknowledged it:
//! `E term index crc`/`e term index crc` an entry, `V term committed`/`v …` a vote, `T index`/`t index` truncation after
//! an index, `S index`/`s index` a snapshot, `P index`/`p index` a purge.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An entry is appended.
    Entry {
        /// Its term.
        term: u64,
        /// Its index.
        index: u64,
        /// Checksum of what it carries.
        crc: u32,
    },
    /// A vote is given.
    Vote {
        /// Its term.
        term: u64,
        /// Whether a majority granted it.
        committed: bool,
    },
    /// The log is cut after this index.
    Truncate(u64),
    /// A snapshot of the state at this index is made.
    Snapshot(u64),
    /// The log is purged up to this index.
    Purge(u64),
}

/// The file on its way.
#[derive(Debug)]
pub struct Acks(File);

impl Acks {
    /// Opens the file to append to it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn append(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self(file.with_context(|| format!("open {}", path.display()))?))
    }

    /// Says that a step begins.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn begin(&mut self, step: Step) -> Result<()> {
        self.line(step, true)
    }

    /// Says that a step is acknowledged.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn done(&mut self, step: Step) -> Result<()> {
        self.line(step, false)
    }

    fn line(&mut self, step: Step, begins: bool) -> Result<()> {
        let mut line = match step {
            Step::Entry { term, index, crc } => format!("E {term} {index} {crc}\n"),
            Step::Vote { term, committed } => format!("V {term} {}\n", u8::from(committed)),
            Step::Truncate(index) => format!("T {index}\n"),
            Step::Snapshot(index) => format!("S {index}\n"),
            Step::Purge(index) => format!("P {index}\n"),
        };
        if !begins {
            line = line.to_ascii_lowercase();
        }
        self.0.write_all(line.as_bytes()).context("write to the file of acknowledgements")
    }
}

/// Reads one line: whether it begins a step, and which.
fn parse(line: &str) -> Option<(bool, Step)> {
    let mut words = line.split(' ');
    let letter = words.next()?;
    let mut number = || words.next()?.parse::<u64>().ok();
    let begins = letter.chars().next()?.is_ascii_uppercase();
    let step = match letter.to_ascii_lowercase().as_str() {
        "e" => Step::Entry { term: number()?, index: number()?, crc: u32::try_from(number()?).ok()? },
        "v" => Step::Vote { term: number()?, committed: number()? == 1 },
        "t" => Step::Truncate(number()?),
        "s" => Step::Snapshot(number()?),
        "p" => Step::Purge(number()?),
        _ => return None,
    };
    Some((begins, step))
}

/// What a store must and may hold.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// Entries that must be there, unless purged: index to (term, checksum).
    pub acked: BTreeMap<u64, (u64, u32)>,
    /// Entries that may be there.
    pub written: BTreeMap<u64, BTreeSet<(u64, u32)>>,
    /// The vote that must be there at least: term, committed.
    pub vote: Option<(u64, bool)>,
    /// Votes that may be there.
    pub votes: BTreeSet<(u64, bool)>,
    /// Acknowledged votes.
    pub votes_acked: u64,
    /// A snapshot must reach this index.
    pub snapshot: Option<u64>,
    /// The log may be purged up to here.
    pub purge: Option<u64>,
    /// Acknowledgements of entries, truncated and purged ones as well.
    pub entries_acked: u64,
    /// Steps of other kinds that were acknowledged.
    pub steps_acked: u64,
}

impl Demand {
    /// Reads the file; a last line that is not whole does not count.
    ///
    /// # Errors
    /// If the file cannot be read or is none of ours.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut demand = Self::default();
        for line in whole.lines() {
            match parse(line) {
                Some((true, step)) => demand.begin(step),
                Some((false, step)) => demand.done(step),
                None => bail!("{}: no line of ours: {line:?}", path.display()),
            }
        }
        Ok(demand)
    }

    /// Notes that a step has begun: from now on its effect may be there.
    pub fn begin(&mut self, step: Step) {
        match step {
            Step::Entry { term, index, crc } => {
                self.written.entry(index).or_default().insert((term, crc));
            }
            Step::Vote { term, committed } => {
                self.votes.insert((term, committed));
            }
            Step::Truncate(index) => drop(self.acked.split_off(&(index + 1))),
            Step::Snapshot(_) => {}
            Step::Purge(index) => self.purge = self.purge.max(Some(index)),
        }
    }

    /// Notes that a step was acknowledged: from now on its effect must be there.
    pub fn done(&mut self, step: Step) {
        match step {
            Step::Entry { term, index, crc } => {
                self.entries_acked += 1;
                self.acked.insert(index, (term, crc));
            }
            Step::Vote { term, committed } => {
                self.votes_acked += 1;
                self.vote = self.vote.max(Some((term, committed)));
            }
            // What was cut off must not come back.
            Step::Truncate(index) => {
                self.steps_acked += 1;
                drop(self.written.split_off(&(index + 1)));
            }
            Step::Snapshot(index) => {
                self.steps_acked += 1;
                self.snapshot = self.snapshot.max(Some(index));
            }
            Step::Purge(_) => self.steps_acked += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_begun_may_be_there_and_what_was_acknowledged_must() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut acks = Acks::append(file.path()).unwrap();
        let entry = |term, index| Step::Entry { term, index, crc: 7 };
        for index in 0..4 {
            acks.begin(entry(1, index)).unwrap();
            acks.done(entry(1, index)).unwrap();
        }
        acks.begin(Step::Truncate(1)).unwrap();
        acks.done(Step::Truncate(1)).unwrap();
        acks.begin(entry(2, 2)).unwrap();
        acks.begin(Step::Vote { term: 2, committed: true }).unwrap();
        acks.done(Step::Vote { term: 2, committed: true }).unwrap();
        acks.begin(Step::Vote { term: 3, committed: false }).unwrap();
        acks.done(Step::Snapshot(1)).unwrap();
        acks.begin(Step::Purge(0)).unwrap();
        std::io::Write::write_all(&mut acks.0, b"e 2 2").unwrap();
        let demand = Demand::read(file.path()).unwrap();
        assert_eq!(demand.acked.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(demand.written.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((demand.vote, demand.votes.len()), (Some((2, true)), 2));
        assert_eq!((demand.snapshot, demand.purge, demand.entries_acked), (Some(1), Some(0), 4));
    }
}
