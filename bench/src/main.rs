//! Measures the replicated core through its public API, beside a three-member etcd on the same disk where one is there.
//!
//! `cargo xtask bench core` builds a release binary and runs this. Both clusters stand on loopback with TLS to their
//! clients and between their members; the same client code sends both the same number of calls at once over the same
//! number of connections, to the leader. The clients share one thread, so that they take little from the members. They are loaded in turns, A B A B, and ratios are medians over the rounds.
//!
//! What it never does: talk to anything but what it started, on 127.0.0.1, and leave anything running or on disk.

mod disk;
mod etcd;
mod failover;
mod hanse;
mod load;
mod members;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::load::{Figures, Op};
use crate::report::Report;

/// Clients at once.
const CLIENTS: [usize; 4] = [1, 16, 64, 256];

#[derive(Debug, Parser)]
#[command(about = "Writes, reads, fail-over and memory of the replicated core, beside etcd's")]
struct Arguments {
    /// The program under test, a release build.
    #[arg(long)]
    hanse: PathBuf,
    /// Folder to work in: its disk is the one that is measured.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Rounds of A B.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each load.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Kills of the leader.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// How many clients at once, one load after another; the goals are for all of the default.
    #[arg(long, value_delimiter = ',', default_values_t = CLIENTS)]
    clients: Vec<usize>,
    /// Only writes or only reads, to look into one of them.
    #[arg(long, value_enum)]
    only: Option<Op>,
    /// Leave etcd out even if it is installed.
    #[arg(long)]
    no_etcd: bool,
    /// Output: table or json.
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    output: String,
}

impl Arguments {
    /// What is done in one round, in order.
    fn loads(&self) -> impl Iterator<Item = (Op, usize)> {
        let ops = [Op::Write, Op::Read].into_iter().filter(|op| self.only.is_none_or(|only| only == *op));
        ops.flat_map(|op| self.clients.iter().map(move |clients| (op, *clients)))
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // One thread: what the clients spend is missing to the members.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let report = runtime.block_on(run(&arguments))?;
    match arguments.output.as_str() {
        "json" => println!("{}", report.json()),
        _ => print!("{}", report.table()),
    }
    Ok(())
}

fn say(words: std::fmt::Arguments<'_>) {
    eprintln!("bench: {words}");
}

async fn run(arguments: &Arguments) -> Result<Report> {
    let folder = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .context("make a folder")?;
    let mut report = Report { fsync_us: disk::fsync_us(folder.path())?, ..Report::default() };
    say(format_args!("one append and fdatasync: {} us", report.fsync_us));
    let mut ours = hanse::Hanse::start(&arguments.hanse, &folder.path().join("hanse")).await?;
    report.ours.cold_start_s = ours.cold_start.as_secs_f64();
    let mut theirs = match !arguments.no_etcd && etcd::is_installed() {
        true => Some(etcd::Etcd::start(&folder.path().join("etcd"), ours.tls()).await?),
        false => None,
    };
    report.etcd_version = theirs.as_ref().map(|_| etcd::version());
    if let Some(etcd) = &theirs {
        report.theirs.cold_start_s = etcd.cold_start.as_secs_f64();
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    report.ours.rss_idle_mb = ours.members.rss_mb()?;
    if let Some(etcd) = &theirs {
        report.theirs.rss_idle_mb = etcd.members.rss_mb()?;
    }
    let length = Duration::from_secs(arguments.seconds);
    for round in 0..arguments.rounds {
        for (op, clients) in arguments.loads() {
            let figures = load::drive(&ours.target(clients).await?, op, clients, length, &ours.members).await?;
            tell(round, "hanse", op, clients, &figures);
            report.ours.add(op, clients, figures);
            if let Some(etcd) = &theirs {
                let figures = load::drive(&etcd.target(clients).await?, op, clients, length, &etcd.members).await?;
                tell(round, "etcd", op, clients, &figures);
                report.theirs.add(op, clients, figures);
            }
        }
    }
    report.ours.rss_loaded_mb = ours.members.rss_mb()?;
    report.ours.failover_s = failover::run(&mut ours, arguments.kills).await?;
    report.ours.restart_s = failover::restart(&mut ours).await?;
    ours.members.stop().await?;
    if let Some(etcd) = &mut theirs {
        report.theirs.rss_loaded_mb = etcd.members.rss_mb()?;
        report.theirs.failover_s = failover::run(etcd, arguments.kills).await?;
        report.theirs.restart_s = failover::restart(etcd).await?;
        etcd.members.stop().await?;
    }
    Ok(report)
}

fn tell(round: usize, who: &str, op: Op, clients: usize, f: &Figures) {
    say(format_args!(
        "round {round}: {who:5} {op:?} {clients:3} clients: {:7.0}/s, p50 {} us, p99 {} us, cpu {:.0} us, {} errors",
        f.per_s, f.p50_us, f.p99_us, f.cpu_us, f.errors
    ));
}
