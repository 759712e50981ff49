//! Replicas that come new or come back when what they lack is gone from the log: whether a snapshot always brings them up.
//!
//! How it works. Three real replicas ([`processes`](crate::processes)) make a snapshot every ten entries and keep one
//! entry of the log that it covers. Round by round (`round`) a replica joins as an empty learner, or the leader, a follower
//! or the learner comes back that was away meanwhile. The log is purged beyond what it has: with the leader idle, so that
//! only the very last entry is left, which the product always keeps (openraft 1828), or under load, so that one snapshot
//! overtakes the other (etcd 18055). In most rounds it is killed while the snapshot comes in, once or twice. Then it has 30
//! seconds to catch up, and must have the same digest at the same revision.
//!
//! What it never does. It does not call a round passed whose replica got no snapshot; such a round is told as one that
//! proves nothing, and fails the run. So does a run in which the log was never purged to its last entry.

mod round;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::canary;
use crate::how::How;
use crate::processes::cluster::Wishes;
use crate::processes::ending::{Ending, Spread, end};
use crate::processes::program;
use crate::processes::stage::{Scene, Stage};
use crate::processes::work::Pace;
use round::Rounds;

/// Voters.
const REPLICAS: u64 = 3;
/// Places: one more for the learner, and one for the next.
const PLACES: u64 = 5;
/// Entries between two snapshots: the fewest that a configuration may ask for.
const SNAPSHOT_EVERY: u64 = 10;
/// Keys, and how many are written to at once.
const KEYS: (usize, usize) = (20, 6);
/// Pause of a worker between two calls: some ten snapshots a second, and history that grows as long as a run may last.
const PAUSE: Duration = Duration::from_millis(120);

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Rounds.
    #[arg(long, default_value_t = 100)]
    pub rounds: u64,
    /// With what.
    #[command(flatten)]
    pub how: How,
}

/// What the rounds showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Rounds whose replica joined.
    pub rounds: u64,
    /// The same by what came, and whether the leader was idle.
    pub kinds: BTreeMap<String, u64>,
    /// Replicas that did not join in time.
    pub stuck: u64,
    /// Rounds in which the log was purged so far that only its last entry was left, before the replica came.
    pub purged_to_tip: u64,
    /// Kills.
    pub kills: u64,
    /// Those that struck while the snapshot was coming in.
    pub killed_in: u64,
    /// Snapshots that the replicas installed, by their logs or by what a kill left on their disks.
    pub installed: u64,
    /// Rounds in which the leader made two snapshots or more while the replica came.
    pub overtaken: u64,
    /// Rounds without a snapshot for the replica: they prove nothing.
    pub unproven: u64,
    /// From each replica's last start to its catching up.
    #[serde(skip)]
    pub joined_ms: Vec<u64>,
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
    /// What the rounds showed.
    #[serde(flatten)]
    pub figures: Figures,
    /// Of the times it took to join.
    pub joined: Spread,
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
    let mut stage = Stage::set(Scene {
        program: &program,
        begins_on: None,
        keep: options.how.keep.as_deref(),
        replicas: REPLICAS,
        places: PLACES,
        wishes: Wishes { disks: false, clocks: false, snapshot_every: SNAPSHOT_EVERY, metrics: true },
        pace: (Pace { keys_at_once: KEYS.1, pause: PAUSE }, KEYS.0),
        seed: options.how.seed,
    })?;
    let canaries = canary::plant(&mut stage)?;
    let mut figures = Rounds::new(&mut stage, options.how.seed).play(options.rounds);
    stage.quiet()?;
    let ending = end(&mut stage, &canaries, std::mem::take(&mut figures.wrong))?;
    let joined = Spread::of(figures.joined_ms.clone());
    let passed = ending.holds() && figures.stuck + figures.unproven == 0 && figures.rounds == options.rounds;
    let passed = passed && figures.purged_to_tip > 0;
    Ok(Report { passed, seed: options.how.seed, figures, joined, ending })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figures, ending, .. } = self;
        let verdict = if self.passed { "passed" } else { "FAILED" };
        writeln!(f, "{verdict} with seed {}: {} rounds {:?}", self.seed, figures.rounds, figures.kinds)?;
        writeln!(
            f,
            "  stuck {}, unproven {}; log purged to the last entry {}, snapshots installed {}, overtaken {}",
            figures.stuck, figures.unproven, figures.purged_to_tip, figures.installed, figures.overtaken
        )?;
        writeln!(
            f,
            "  kills {}, of these while a snapshot came in {}; joined after p50 {} ms, at most {} ms",
            figures.kills, figures.killed_in, self.joined.p50, self.joined.max
        )?;
        write!(f, "{ending}")
    }
}
