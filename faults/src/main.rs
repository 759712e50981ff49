//! `hanse-faults <kind>`: what `cargo xtask faults` starts. Prints figures and fails if an invariant did not hold.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hanse_faults::store::{driver, judge};
use hanse_faults::{damage, membership, power_cut, processes, rejoin, trace, upgrade};

/// Faults on purpose, and what is left after them.
#[derive(Debug, Parser)]
#[command(name = "hanse-faults")]
struct Cli {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Power cuts: the disk of a working replica dies; every image it may legally leave is opened again.
    PowerCut(power_cut::Options),
    /// The same for a whole replica: the real server, with clients of its API.
    PowerCutReplica(power_cut::whole::Options),
    /// Damage on a stopped replica's disk: bit flips, lost pages, cut and lost files, stale copies.
    Damage(damage::Options),
    /// System calls as evidence that nothing is acknowledged before it is synced.
    Trace(trace::Options),
    /// Real processes in network namespaces under faults.
    Processes(processes::Options),
    /// Replicas added, promoted, replaced and removed under faults and load.
    Membership(membership::Options),
    /// Replicas that come new, or back, when the log they need is gone; killed while they get a snapshot.
    Rejoin(rejoin::Options),
    /// Each replica exchanged between the program of the version before and this one, up and down.
    Upgrade(upgrade::Options),
    /// The process that puts a store under load; started by the others.
    #[command(hide = true)]
    Driver(driver::Options),
    /// The process that judges what is left of a store; started by the others.
    #[command(hide = true)]
    Judge(judge::Options),
}

fn main() -> ExitCode {
    let passed = match Cli::parse().kind {
        Kind::PowerCut(options) => power_cut::run(&options),
        Kind::PowerCutReplica(options) => power_cut::whole::run(&options),
        Kind::Damage(options) => damage::run(&options),
        Kind::Trace(options) => trace::run(&options),
        Kind::Processes(options) => processes::run(&options),
        Kind::Membership(options) => membership::run(&options),
        Kind::Rejoin(options) => rejoin::run(&options),
        Kind::Upgrade(options) => upgrade::run(&options),
        Kind::Driver(options) => driver::run(&options).map(|()| true),
        Kind::Judge(options) => judge::run(&options).map(|()| true),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hanse-faults: {error:#}");
            // Told apart from an invariant that did not hold: such a run proves nothing either way.
            ExitCode::from(2)
        }
    }
}
