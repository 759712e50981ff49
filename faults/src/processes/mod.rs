//! Real processes under faults: replicas of the real binary in network namespaces, real clients, and a judge.
//!
//! How it works. [`run`] makes three or five replicas, each in a namespace of its own (`net`), and clients in another
//! (`clients`) that write and read through the public API all the time (`work`): the `stage`. Meanwhile a generator with a seed
//! puts one or two faults in force, takes them back, measures how long it takes until a write is acknowledged again, and
//! goes on (`nemesis`). In the end everything is healed, and then demanded: one leader, equal digests at an equal
//! revision, a write, every key read through every replica with one answer, an audit trail that verifies and has exactly
//! one entry for each write (`ending`). The history of the clients is judged against the final lists (`judge`,
//! [`checker`]), and every folder, backup and export is searched for secrets (`canary`).
//!
//! What it never does. It leaves no namespace, mount, loop device or process behind. It does not call a run passed whose
//! faults were not seen in force, whose search gave up, or in which nothing was acknowledged. The seed gives the same
//! faults again; the kernel's scheduling is not in its hands.

pub(crate) mod chance;
pub mod checker;
pub(crate) mod clients;
pub(crate) mod cluster;
mod disk;
pub(crate) mod ending;
mod home;
mod judge;
mod leftovers;
mod logs;
mod nemesis;
pub(crate) mod net;
mod plague;
mod report;
mod roster;
pub(crate) mod stage;
pub(crate) mod watch;
pub(crate) mod work;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::canary;
use crate::how::How;
use chance::Chance;
use cluster::Wishes;
pub use ending::{Ending, Spread};
pub use nemesis::Kind;
use plague::Plague;
pub use report::Report;
use stage::{Scene, Stage, pace};

/// Entries between two snapshots: few, so that a run has many and replicas that were away are brought up by one.
pub(crate) const SNAPSHOT_EVERY: u64 = 500;

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long faults go on; the last one is taken back after that.
    #[arg(long, default_value_t = 10.0)]
    pub minutes: f64,
    /// How many replicas.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=5))]
    pub replicas: u64,
    /// Which faults; all by default.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub nemeses: Vec<Kind>,
    /// Longest time one fault is in force, in seconds.
    #[arg(long, default_value_t = 15)]
    pub longest: u64,
    /// With what.
    #[command(flatten)]
    pub how: How,
}

/// Runs it; says whether every invariant held.
///
/// # Errors
/// If this machine cannot.
pub fn run(options: &Options) -> Result<bool> {
    let report = measure(options)?;
    options.how.tell(&report)?;
    Ok(report.passed)
}

/// Runs it and gives the report.
///
/// # Errors
/// If this machine cannot, or the harness itself failed: then nothing is proven.
pub fn measure(options: &Options) -> Result<Report> {
    let program = program(options.how.program.as_deref())?;
    let kinds = if options.nemeses.is_empty() { Kind::ALL.to_vec() } else { options.nemeses.clone() };
    let disks = kinds.iter().any(|kind| kind.needs_disks());
    let wishes = Wishes { disks, clocks: kinds.contains(&Kind::Clock), snapshot_every: SNAPSHOT_EVERY, metrics: false };
    let length = Duration::from_secs_f64(options.minutes * 60.0);
    let mut stage = Stage::set(Scene {
        program: &program,
        begins_on: None,
        keep: options.how.keep.as_deref(),
        replicas: options.replicas,
        places: options.replicas,
        wishes,
        pace: pace(length),
        seed: options.how.seed,
    })?;
    let canaries = canary::plant(&mut stage)?;
    eprintln!("hanse-faults: {} replicas are up, faults begin (seed {})", options.replicas, options.how.seed);

    let plague = Plague::new(
        kinds,
        Duration::from_secs(options.longest),
        Chance::new(options.how.seed, 1),
        Instant::now() + length,
    );
    let suffered = plague.run(&mut stage.cluster, &stage.net, &stage.book, &stage.sight)?;

    eprintln!("hanse-faults: faults are over, everything must heal");
    stage.quiet()?;
    report::close(options, &mut stage, &canaries, suffered)
}

/// The binary to run: the given one, or the workspace's, built now.
pub(crate) fn program(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(program) = given {
        return program.canonicalize().with_context(|| format!("find {}", program.display()));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--package", "hanse", "--bin", "hanse", "--message-format=json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo")?;
    if !output.status.success() {
        bail!("the binary does not build");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut files = messages.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    files.next_back().context("cargo names no executable")
}
