//! Changes of the membership under faults and load: whether they ever split the cluster or leave it half-way.
//!
//! How it works. Real replicas ([`processes`](crate::processes)) go from three voters to five and back, over and over: voters
//! and learners join, learners are promoted, voters, leaders and those that are to leave are replaced or removed, the lead
//! is handed over (`troupe`). Orders are given through the public API, as an administrator would. In the middle of most
//! changes a replica is killed, stopped or cut off, often the leader and often the one that the change is about
//! (`trouble`); then it is healed and the change must come to its end. New replicas move into the places of those that have left,
//! as on a machine that is used again. Clients write and read all the time, and the end is that of every run.
//!
//! What it never does. It insists on no unsafe change (`--force`) and puts no replica on data it had under another id. It does
//! not see two leaders of one term as a split: our terms are ordered by number and replica, and the greater replica's lead
//! ends the smaller one's. A split is what it would lead to: two digests at one revision, two entries at one index.

mod joint;
mod tail;
mod trouble;
mod troupe;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::canary;
use crate::how::How;
use crate::processes::cluster::Wishes;
use crate::processes::ending::{Ending, Spread, end};
use crate::processes::stage::{Scene, Stage, pace};
use crate::processes::{SNAPSHOT_EVERY, program};
use troupe::Troupe;

/// Replicas at the beginning.
const FIRST: u64 = 3;
/// Places for replicas: five voters, a learner, one that replaces, and two that have not noticed yet that they have left.
const PLACES: u64 = 9;
/// What one change takes at most on average; the load is paced for it.
const CHANGE_MEAN: Duration = Duration::from_secs(12);

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Changes to carry out.
    #[arg(long, default_value_t = 200)]
    pub changes: u64,
    /// With what.
    #[command(flatten)]
    pub how: How,
}

/// What the changes showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Changes that were carried out.
    pub changes: u64,
    /// The same by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Orders that were refused, by the reason.
    pub refused: BTreeMap<String, u64>,
    /// The first refusals, in words.
    pub refusals: Vec<String>,
    /// Faults in the middle of changes, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Times that a joint configuration was seen.
    pub joint_seen: u64,
    /// Faults that began when a leader had just begun to change the voters.
    pub aimed: u64,
    /// Joint configurations that an interrupted change left and a later leader ended, as told by the replicas' logs.
    pub joint_inherited: u64,
    /// Joint configurations that stayed longer than they may.
    pub joint_left: u64,
    /// Changes that did not come to their end.
    pub stalled: u64,
    /// Replicas that noticed that they were taken out and ended with the exit code for it.
    pub left: u64,
    /// From each order to its end.
    #[serde(skip)]
    pub change_ms: Vec<u64>,
    /// From each healing to the next acknowledged write.
    #[serde(skip)]
    pub resume_ms: Vec<u64>,
    /// What must not be, in words; told with the ending's.
    #[serde(skip)]
    pub wrong: Vec<String>,
    /// What was done, in order.
    pub log: Vec<String>,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether everything held.
    pub passed: bool,
    /// The seed.
    pub seed: u64,
    /// What the changes showed; without what is told as spreads and in the ending.
    #[serde(flatten)]
    pub figures: Figures,
    /// Revisions with two digests and indexes with two entries.
    pub split: u64,
    /// Of the changes' times.
    pub change: Spread,
    /// Of the times until a write was acknowledged again.
    pub resume: Spread,
    /// What the end showed.
    #[serde(flatten)]
    pub ending: Ending,
}

/// Runs it; says whether every invariant held.
///
/// # Errors
/// This machine cannot.
pub fn run(options: &Options) -> Result<bool> {
    let report = measure(options)?;
    options.how.tell(&report)?;
    Ok(report.passed)
}

/// Runs it and gives the report.
///
/// # Errors
/// This machine cannot, or the harness itself failed: then nothing is proven.
pub fn measure(options: &Options) -> Result<Report> {
    let program = program(options.how.program.as_deref())?;
    let length = CHANGE_MEAN * u32::try_from(options.changes).context("so many changes take too long")?;
    let mut stage = Stage::set(Scene {
        program: &program,
        begins_on: None,
        keep: options.how.keep.as_deref(),
        replicas: FIRST,
        places: PLACES,
        wishes: Wishes { disks: false, clocks: false, snapshot_every: SNAPSHOT_EVERY, metrics: false },
        pace: pace(length),
        seed: options.how.seed,
    })?;
    let canaries = canary::plant(&mut stage)?;
    let mut figures = Troupe::new(&mut stage, options.how.seed).play(options.changes)?;
    stage.quiet()?;
    let ending = end(&mut stage, &canaries, std::mem::take(&mut figures.wrong))?;
    let (change, resume) = (Spread::of(figures.change_ms.clone()), Spread::of(figures.resume_ms.clone()));
    let split = ending.diverged + ending.entries_differing;
    let passed = ending.holds() && split + figures.joint_left + figures.stalled == 0;
    Ok(Report { passed, seed: options.how.seed, figures, split, change, resume, ending })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figures, ending, .. } = self;
        let verdict = if self.passed { "passed" } else { "FAILED" };
        writeln!(f, "{verdict} with seed {}: {} changes {:?}", self.seed, figures.changes, figures.kinds)?;
        writeln!(f, "  refused {:?}; faults {:?}", figures.refused, figures.faults)?;
        writeln!(
            f,
            "  split {}, joint left {} (seen {}, aimed at {}, inherited {}), stalled {}, left by themselves {}",
            self.split,
            figures.joint_left,
            figures.joint_seen,
            figures.aimed,
            figures.joint_inherited,
            figures.stalled,
            figures.left
        )?;
        writeln!(
            f,
            "  a change took p50 {} ms, at most {} ms; writes resumed after p50 {} ms, at most {} ms",
            self.change.p50, self.change.max, self.resume.p50, self.resume.max
        )?;
        write!(f, "{ending}")
    }
}
