//! Rolling upgrades, up and down, under load: whether the older program and the newer one make one cluster.
//!
//! How it works. Three real replicas ([`processes`](crate::processes)) begin on the older program. Round after round each of
//! them is exchanged for the other program and back, one at a time in a chance order, stopped or killed, the leader last, first or
//! in between; so every mixture of programs, under either program's lead, carries the load for a while. A replica that is away
//! lacks more than the log keeps and gets a snapshot, written by either program. After each exchange all replicas have one
//! digest at one revision, and a raise of the cluster version is refused as long as one speaks the older only. In the end all
//! run the newer program, the version is raised, and the older program, started once more in a replica's folder, must refuse
//! and leave it unharmed.
//!
//! What it never does. It does not build the older program: `cargo xtask parts` does, and says where it is.

mod exchange;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::canary;
use crate::how::How;
use crate::processes::cluster::Wishes;
use crate::processes::ending::{Ending, Spread, end};
use crate::processes::program;
use crate::processes::stage::{Scene, Stage, pace};
use exchange::Exchanges;

/// Voters.
const REPLICAS: u64 = 3;
/// Entries between two snapshots; a replica that was away for more gets one from the leader.
const SNAPSHOT_EVERY: u64 = 50;
/// What a round takes at most on average; the load is paced for it.
const ROUND_MEAN: Duration = Duration::from_secs(45);
/// Names the older program.
const VARIABLE: &str = "HANSE_PREVIOUS";

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Rounds; in each every replica goes up and down once.
    #[arg(long, default_value_t = 20)]
    pub rounds: u64,
    /// The `hanse` binary of the version before; by default what `$HANSE_PREVIOUS` names.
    #[arg(long)]
    pub previous: Option<PathBuf>,
    /// With what.
    #[command(flatten)]
    pub how: How,
}

/// What the exchanges showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Rounds that came to their end.
    pub rounds: u64,
    /// Exchanges of one replica's program.
    pub exchanges: u64,
    /// The same by direction, and by whether it led.
    pub kinds: BTreeMap<String, u64>,
    /// Exchanges by how many replicas then ran the newer program, and which program led.
    pub mixtures: BTreeMap<String, u64>,
    /// Raises that were refused while a replica spoke the older version only, by the words that say so.
    pub refused: BTreeMap<String, u64>,
    /// Snapshots that were installed, by the program that took them in.
    pub installed: BTreeMap<&'static str, u64>,
    /// Cluster version before and after the raise.
    pub raised: Option<(u64, u64)>,
    /// How the older program ended after the raise: its exit code and last words.
    pub too_old: Vec<String>,
    /// From each start to the replica's catching up.
    #[serde(skip)]
    pub caught_up_ms: Vec<u64>,
    /// What must not be, in words; told with the ending's.
    #[serde(skip)]
    pub wrong: Vec<String>,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether everything held.
    pub passed: bool,
    /// The seed.
    pub seed: u64,
    /// What the exchanges showed.
    #[serde(flatten)]
    pub figures: Figures,
    /// Of the times to catch up.
    pub caught_up: Spread,
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
    let newer = program(options.how.program.as_deref())?;
    let older = options.previous.clone().or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
    let older = older.with_context(|| format!("{VARIABLE} names no older program; `cargo xtask parts` builds one"))?;
    let older = older.canonicalize().with_context(|| format!("find {}", older.display()))?;
    let length = ROUND_MEAN * u32::try_from(options.rounds).context("so many rounds take too long")?;
    let mut stage = Stage::set(Scene {
        program: &newer,
        begins_on: Some(&older),
        keep: options.how.keep.as_deref(),
        replicas: REPLICAS,
        places: REPLICAS,
        wishes: Wishes { disks: false, clocks: false, snapshot_every: SNAPSHOT_EVERY, metrics: false },
        pace: pace(length),
        seed: options.how.seed,
    })?;
    let canaries = canary::plant(&mut stage)?;
    let mut figures = Exchanges::new(&mut stage, &older, &newer, options.how.seed).play(options.rounds)?;
    stage.quiet()?;
    let ending = end(&mut stage, &canaries, std::mem::take(&mut figures.wrong))?;
    let caught_up = Spread::of(figures.caught_up_ms.clone());
    let passed = ending.holds() && figures.rounds == options.rounds && figures.raised.is_some();
    Ok(Report { passed, seed: options.how.seed, figures, caught_up, ending })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figures, ending, .. } = self;
        let verdict = if self.passed { "passed" } else { "FAILED" };
        writeln!(
            f,
            "{verdict} with seed {}: {} rounds, {} exchanges {:?}",
            self.seed, figures.rounds, figures.exchanges, figures.kinds
        )?;
        writeln!(f, "  mixtures {:?}; snapshots installed {:?}", figures.mixtures, figures.installed)?;
        writeln!(f, "  raises refused {:?}; raised {:?}", figures.refused, figures.raised)?;
        writeln!(f, "  caught up after p50 {} ms, at most {} ms", self.caught_up.p50, self.caught_up.max)?;
        for words in &figures.too_old {
            writeln!(f, "  too old: {words}")?;
        }
        write!(f, "{ending}")
    }
}
