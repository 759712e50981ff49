//! Real processes under faults: replicas of the real binary in network namespaces, real clients, and a judge.
//!
//! How it works. [`run`] makes three or five replicas, each in a namespace of its own (`net`), and clients in another
//! (`clients`) that write and read through the public API all the time (`work`). Meanwhile a generator with a seed
//! puts one or two faults in force, takes them back, measures how long it takes until a write is acknowledged again, and
//! goes on (`nemesis`). In the end everything is healed, and then demanded: one leader, equal digests at an equal
//! revision, a write, every key read through every replica with one answer, an audit trail that verifies and has exactly
//! one entry for each write. The history of the clients is judged against the final lists (`judge`, [`checker`]).
//!
//! What it never does. It leaves no namespace, mount, loop device or process behind. It does not call a run passed whose
//! faults were not seen in force, whose search gave up, or in which nothing was acknowledged. The seed gives the same
//! faults again; the kernel's scheduling is not in its hands.

mod chance;
pub mod checker;
mod clients;
mod cluster;
mod disk;
mod judge;
mod leftovers;
mod nemesis;
mod net;
mod plague;
mod report;
mod watch;
mod work;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use chance::Chance;
use clients::{Clients, UP_MAX};
use cluster::{Cluster, Wishes};
pub use nemesis::Kind;
use net::Net;
use plague::Plague;
pub use report::Report;
use watch::Sight;
use work::{Book, Pace};

/// Clients that write and read at once.
const WORKERS: u64 = 8;
/// Keys written to at once.
const KEYS_AT_ONCE: usize = 6;
/// Writes that all keys of a run take together, with room to spare (100 plans of 1,000 prices is the product's limit).
const WRITES_MAX: u64 = 80_000;
/// Shortest pause of a worker between two calls.
const PAUSE_MIN: Duration = Duration::from_millis(15);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long faults go on; the last one is taken back after that.
    #[arg(long, default_value_t = 10.0)]
    pub minutes: f64,
    /// How many replicas.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=5))]
    pub replicas: u64,
    /// Where the randomness begins.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Which faults; all by default.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub nemeses: Vec<Kind>,
    /// Longest time one fault is in force, in seconds.
    #[arg(long, default_value_t = 15)]
    pub longest: u64,
    /// The `hanse` binary; by default it is built.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// Folder that keeps the replicas' data and logs; by default a temporary one.
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// `json` prints the whole report as JSON.
    #[arg(short = 'o', long, default_value = "text")]
    pub output: String,
}

/// Runs it; says whether every invariant held.
///
/// # Errors
/// If this machine cannot.
pub fn run(options: &Options) -> Result<bool> {
    let report = measure(options)?;
    if options.output == "json" {
        println!("{}", serde_json::to_string_pretty(&report).context("print the report")?);
    } else {
        println!("{report}");
    }
    Ok(report.passed)
}

/// Runs it and gives the report.
///
/// # Errors
/// If this machine cannot, or the harness itself failed: then nothing is proven.
pub fn measure(options: &Options) -> Result<Report> {
    let program = program(options.program.as_deref())?;
    leftovers::remove();
    let kinds = if options.nemeses.is_empty() { Kind::ALL.to_vec() } else { options.nemeses.clone() };
    let wishes = Wishes { disks: kinds.iter().any(|kind| kind.needs_disks()), clocks: kinds.contains(&Kind::Clock) };
    let folder = leftovers::folder()?;
    let dir = options.keep.clone().unwrap_or_else(|| folder.path().to_path_buf());
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let ids: Vec<u64> = (1..=options.replicas).collect();
    // Dropped in the opposite order: clients, replicas, network.
    let net = Net::make(&ids)?;
    let mut cluster = Cluster::make(&program, &dir, &net, options.replicas, wishes)?;
    cluster.revive()?;
    let mut clients = Clients::enter(&cluster, &net)?;
    let pace = pace(options);
    let book = Arc::new(clients.make_keys(pace.1)?);
    let sight = Arc::new(Sight::default());
    clients.agree(&sight).context("before the first fault")?;
    clients.watch(&sight);
    clients.work(&book, WORKERS, pace.0, options.seed);
    resumed(&book, 0, &mut cluster).context("before the first fault")?;
    eprintln!("hanse-faults: {} replicas are up, faults begin (seed {})", options.replicas, options.seed);

    let until = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let plague = Plague::new(kinds, Duration::from_secs(options.longest), Chance::new(options.seed, 1), until);
    let suffered = plague.run(&mut cluster, &net, &book, &sight)?;

    eprintln!("hanse-faults: faults are over, everything must heal");
    book.stop.store(true, Ordering::Relaxed);
    sight.stop.store(true, Ordering::Relaxed);
    clients.join()?;
    report::close(options, &mut cluster, &net, &clients, &book, &sight, suffered)
}

/// How fast the workers work and over how many keys, so that a long run stays within the product's limits.
fn pace(options: &Options) -> (Pace, usize) {
    let whole = Duration::from_secs_f64(options.minutes * 60.0);
    // Half of the calls are writes.
    let calls = u32::try_from(WRITES_MAX * 2 / WORKERS).unwrap_or(1);
    let pause = (whole / calls).max(PAUSE_MIN);
    let calls = whole.as_millis() / pause.as_millis().max(1) * u128::from(WORKERS);
    let keys = usize::try_from(calls / 2 / 900).unwrap_or(100).clamp(4, 90) + KEYS_AT_ONCE;
    (Pace { keys_at_once: KEYS_AT_ONCE, pause }, keys.min(99))
}

/// Waits until a write is acknowledged whose call began after `after`, both in nanoseconds of the book. Returns how
/// long after `after` that was.
fn resumed(book: &Book, after: u64, cluster: &mut Cluster) -> Result<Duration> {
    let end = Instant::now() + UP_MAX;
    while book.last_ack_called() < after.max(1) {
        // A replica that failed of a full disk may only now notice; its supervisor starts it again.
        cluster.revive()?;
        if Instant::now() > end {
            bail!("no write was acknowledged within {UP_MAX:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(Duration::from_nanos(book.last_ack().saturating_sub(after)))
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
