//! Measures the embedded ledger through its public API, beside a four-validator network of a chain that no one here
//! wrote: injectived (CometBFT with an EVM; PyPI injective-core).
//!
//! `cargo xtask bench ledger` builds what is needed and runs this. Both networks stand on loopback, one after the
//! other, with the same load: the same client code, the same signed transfers, the same bounds. The clients share one
//! thread, so that they take little from the nodes.
//!
//! What it never does: talk to anything but what it started, on 127.0.0.1, and leave anything running or on disk.

mod load;
mod network;
mod ours;
mod process;
mod report;
mod rpc;
mod theirs;
mod transfers;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::transfers::Accounts;

#[derive(Debug, Parser)]
#[command(about = "Transfers, latency, memory and disk of the embedded ledger, beside injectived's")]
struct Arguments {
    /// The node under test, a release build of hanse-node.
    #[arg(long)]
    node: PathBuf,
    /// The other chain's program; left out if it is not named.
    #[arg(long)]
    injectived: Option<PathBuf>,
    /// Folder to work in: its disk is the one that is measured.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Rounds of A B.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Seconds of load that count.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Single transfers whose receipts are waited for.
    #[arg(long, default_value_t = 40)]
    receipts: usize,
    /// Output: table or json.
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    output: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // One thread: what the clients spend is missing to the nodes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let report = runtime.block_on(run(&arguments))?;
    match arguments.output.as_str() {
        "json" => println!("{}", report.json()),
        _ => print!("{}", report.table()),
    }
    Ok(())
}

async fn run(arguments: &Arguments) -> Result<report::Report> {
    let mut report = report::Report::default();
    for round in 0..arguments.rounds {
        let folder = match &arguments.dir {
            // Absolute: the nodes are told their homes.
            Some(dir) => tempfile::tempdir_in(dir.canonicalize().context("find the folder to work in")?),
            None => tempfile::tempdir(),
        }
        .context("make a folder")?;
        let mut accounts = Accounts::new(ours::CHAIN_ID)?;
        let mut network = ours::start(&arguments.node, &folder.path().join("hanse"), &accounts)?;
        let figures = network.measure(&mut accounts, arguments.seconds, arguments.receipts).await?;
        eprintln!("bench: round {round}: hanse: {figures:?}");
        report.ours.push(figures);
        let Some(program) = &arguments.injectived else { continue };
        let mut accounts = Accounts::new(theirs::CHAIN_ID)?;
        let mut network = theirs::start(program, &folder.path().join("injective"), &accounts)?;
        let figures = network.measure(&mut accounts, arguments.seconds, arguments.receipts).await?;
        eprintln!("bench: round {round}: injectived: {figures:?}");
        report.theirs.push(figures);
    }
    Ok(report)
}
