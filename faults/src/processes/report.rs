//! The figures of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::Options;
use super::ending::{Ending, Spread, end};
use super::nemesis::{Kind, Line, Outcome};
use super::plague::Suffered;
use super::stage::Stage;
use crate::canary::Canaries;

/// How often a kind of fault came.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Count {
    installed: u64,
    skipped: u64,
    indeterminate: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether everything held and every fault was in force.
    pub passed: bool,
    /// Runs; 1.
    pub runs: u64,
    /// The seed.
    pub seed: u64,
    /// How many replicas.
    pub replicas: u64,
    /// What the end showed.
    #[serde(flatten)]
    pub ending: Ending,
    faults: BTreeMap<String, Count>,
    resume_ms: Spread,
    through_ms: Spread,
    log: Vec<Line>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} with seed {} on {} replicas",
            if self.passed { "passed" } else { "FAILED" },
            self.seed,
            self.replicas
        )?;
        write!(f, "{}", self.ending)?;
        for (kind, count) in &self.faults {
            writeln!(
                f,
                "  {kind}: {} installed, {} skipped, {} indeterminate",
                count.installed, count.skipped, count.indeterminate
            )?;
        }
        writeln!(
            f,
            "  writes resumed after healing: p50 {} ms, at most {} ms",
            self.resume_ms.p50, self.resume_ms.max
        )?;
        Ok(())
    }
}

/// Heals everything, demands what must hold, and judges.
pub(crate) fn close(options: &Options, stage: &mut Stage, canaries: &Canaries, suffered: Suffered) -> Result<Report> {
    let mut wrong = suffered.wrong;
    let (faults, missing) = count(options, &suffered.log);
    wrong.extend(missing);
    let ending = end(stage, canaries, wrong)?;
    Ok(Report {
        passed: ending.holds(),
        runs: 1,
        seed: options.how.seed,
        replicas: options.replicas,
        ending,
        faults,
        resume_ms: Spread::of(suffered.resume_ms),
        through_ms: Spread::of(suffered.through_ms),
        log: suffered.log,
    })
}

/// Counts the faults by kind, and says which were asked for and never seen in force.
fn count(options: &Options, log: &[Line]) -> (BTreeMap<String, Count>, Vec<String>) {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for line in log {
        let entry = counts.entry(name(line.kind)).or_default();
        match line.outcome {
            Outcome::Installed => entry.installed += 1,
            Outcome::Skipped => entry.skipped += 1,
            Outcome::Indeterminate => entry.indeterminate += 1,
        }
    }
    let mut wrong = Vec::new();
    let asked: BTreeSet<Kind> = options.nemeses.iter().copied().collect();
    for kind in asked {
        if counts.get(&name(kind)).is_none_or(|count| count.installed == 0) {
            wrong.push(format!("{} was asked for and never in force: the run proves nothing of it", name(kind)));
        }
    }
    for (kind, count) in counts.iter().filter(|(_, count)| count.indeterminate > 0) {
        wrong.push(format!("{kind} was indeterminate {} times: the run proves nothing", count.indeterminate));
    }
    (counts, wrong)
}

fn name(kind: Kind) -> String {
    clap::ValueEnum::to_possible_value(&kind).map_or_else(|| format!("{kind:?}"), |value| value.get_name().to_owned())
}
