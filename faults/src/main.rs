//! `hanse-faults <kind>`: what `cargo xtask faults` starts. Prints figures and fails if an invariant did not hold.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hanse_faults::{damage, power_cut, processes};

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
    /// Damage on a stopped replica's disk: bit flips, lost pages, cut and lost files, stale copies.
    Damage(damage::Options),
    /// Real processes in network namespaces under faults.
    Processes(processes::Options),
}

fn main() -> ExitCode {
    let passed = match Cli::parse().kind {
        Kind::PowerCut(options) => power_cut::run(&options),
        Kind::Damage(options) => damage::run(&options),
        Kind::Processes(options) => processes::run(&options),
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
