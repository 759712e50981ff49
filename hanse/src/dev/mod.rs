//! `hanse dev`: from an empty machine to a consortium's chain on the screen.
//!
//! Starts three replicas as processes, tells the demo story through the public API, and then opens the console, waits,
//! or prints a summary. However it ends (done, failed, Ctrl-C), it stops the ledger nodes and replicas that it started.

mod ground;
mod ledger;
mod nodes;
mod people;
mod replicas;
mod story;
mod summary;
mod teller;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use ground::Ground;
use people::People;
use replicas::Replicas;
use teller::{Teller, note};

use crate::cli::Global;
use crate::output::{Format, say};

/// What `hanse dev` takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct DevArgs {
    /// Do not open the console; stay until Ctrl-C.
    #[arg(long)]
    headless: bool,
    /// Print a summary, stop everything and end (with --headless).
    #[arg(long, requires = "headless")]
    once: bool,
    /// Keep the data in this folder; a second start continues from it. Without it a temporary folder is used and removed.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Exit code when a person stopped it.
const EXIT_INTERRUPTED: u8 = 130;

/// Runs the demo and returns the program's exit code.
pub(crate) async fn run(args: DevArgs, global: &Global) -> ExitCode {
    match whole(&args, global).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_INTERRUPTED),
        Err(error) => {
            say(format_args!("hanse dev: {error}"));
            for cause in error.chain().skip(1) {
                say(format_args!("  because: {cause}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// Returns whether it ran to its end (`false`: interrupted).
async fn whole(args: &DevArgs, global: &Global) -> Result<bool> {
    if !args.headless && !std::io::stdout().is_terminal() {
        bail!("the console needs a terminal; use --headless (and --once -o json for a summary)");
    }
    // From here on, so that also what comes before the story is cleaned up after a Ctrl-C.
    let mut stop_signals = StopSignals::listen()?;
    let temporary = if args.keep.is_none() { Some(temporary_folder()?) } else { None };
    let dir = args.keep.clone().or_else(|| temporary.as_ref().map(|t| t.0.clone())).context("a folder")?;
    let mut ground = Ground::prepare(&dir)?;
    note(format_args!(
        "data in {}{}",
        ground.dir.display(),
        if temporary.is_some() { " (removed at the end)" } else { "" }
    ));
    let mut replicas = Replicas::start(&ground)?;
    let told = tokio::select! {
        told = tell_and_stay(args, global, &mut ground, &mut replicas) => told.map(|()| true),
        () = stop_signals.interrupted() => Ok(false),
    };
    // What was started is stopped in any case; the first failure is the one that is told.
    let stopped = stop(&ground, replicas).await;
    if stopped.is_err()
        && let Some(temporary) = temporary
    {
        // What could not be stopped is found by its folder.
        say(format_args!("not removed: {}", temporary.0.display()));
        std::mem::forget(temporary);
    }
    let ended = told?;
    stopped?;
    Ok(ended)
}

async fn tell_and_stay(args: &DevArgs, global: &Global, ground: &mut Ground, replicas: &mut Replicas) -> Result<()> {
    let mut teller = Teller::new();
    let story = tell(&mut teller, ground, replicas).await;
    // A replica that ended is the cause behind whatever the story ran into.
    replicas.check()?;
    let told = story?;
    if args.once {
        let summary = summary::gather(ground, &told, teller.seconds()).await?;
        match global.format() {
            Format::Json => crate::output::print_json(&summary)?,
            Format::Table | Format::Name => crate::output::print(&summary::words(&summary))?,
        }
        return Ok(());
    }
    if args.headless {
        say(format_args!(
            "ready: HANSE_ENDPOINT={} HANSE_CA={}",
            ground.endpoints().join(","),
            ground.api_ca().display()
        ));
        say("Ctrl-C stops everything");
        return std::future::pending().await;
    }
    let key = ground.dir.join(format!("keys/{}.member", people::TENANTS[0].0));
    crate::console::demo(ground.endpoints(), ground.api_ca(), told.people.token, key).await
}

/// What the story made.
struct Told {
    people: People,
    proposal: hanse_client::pb::Proposal,
    chain: hanse_client::pb::Chain,
    contract: String,
    transfer: hanse_client::pb::Transaction,
    draft: hanse_client::pb::GetInvoiceDraftResponse,
}

async fn tell(teller: &mut Teller, ground: &mut Ground, replicas: &mut Replicas) -> Result<Told> {
    let leader = teller.step("replicas", "three replicas with their own CA and mutual TLS elect a leader", async {
        let leader = story::leader(ground).await;
        replicas.check()?;
        leader
    });
    let leader = leader.await?;
    for (id, pid) in replicas.pids() {
        let role = if id.to_string() == leader { "leader" } else { "follower" };
        note(format_args!("replica {id}: process {}, {role}", pid.map_or("?".into(), |pid| pid.to_string())));
    }
    let (admin, token) =
        teller.step("administrator", "the one-time code makes the administrator", story::administrator(ground)).await?;
    teller.step("plan", "a price plan", story::plan(&admin)).await?;
    teller.step("hosts", "four hosts are enrolled", story::hosts(ground, &admin)).await?;
    let people =
        teller.step("tenants", "four tenants with an owner each", story::tenants(ground, admin, token)).await?;
    teller.step("consortium", "a consortium with a charter", story::consortium(&people)).await?;
    let treasury = ledger::wallet(&ground.dir.join("keys/treasury.account"))?;
    let proposal = teller
        .step("vote", "a proposal to create a chain, and signed ballots", story::vote(ground, &people, &treasury))
        .await?;
    let founder = people.founder()?;
    teller.step("provision", "four nodes are provisioned", story::follow(founder, &proposal.operation)).await?;
    let chain = teller.step("blocks", "the chain makes blocks", story::blocks(&people, 1)).await?;
    note(format_args!("{} at height {}", chain.name, chain.height));
    let contract =
        teller.step("contract", "a contract is deployed and called", ledger::contract(&people, &treasury)).await?;
    let transfer = teller
        .step("transfer", "an account is funded and the transfer looked up", ledger::transfer(&people, &treasury))
        .await?;
    let month = month_of_now()?;
    let draft = teller.step("invoice", "usage is metered: a draft invoice", ledger::bill(&people, &month)).await?;
    // The leader's word on the height may be older than the block that the story just saw.
    let chain = story::blocks(&people, transfer.block.saturating_sub(1).max(chain.height)).await?;
    Ok(Told { people, proposal, chain, contract, transfer, draft })
}

/// The current UTC month as the bill names it.
fn month_of_now() -> Result<String> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).context("a clock after 1970")?;
    let now = u64::try_from(since.as_millis()).context("a clock before the year 500 million")?;
    Ok(hanse_state::Millis(now).month().to_string())
}

async fn stop(ground: &Ground, replicas: Replicas) -> Result<()> {
    say("stopping");
    // The replicas first: a leader would start a stopped node again.
    let replicas = replicas.stop().await;
    let nodes = nodes::stop(ground).await;
    replicas?;
    nodes
}

/// The ways a person or the system asks the demo to stop; one that came before it is waited for is not lost.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            hangup: signal(SignalKind::hangup()).context("listen for SIGHUP")?,
        })
    }

    async fn interrupted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
        say("interrupted");
    }
}

/// A folder that is removed when it is dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            say(format_args!("hanse dev: {} could not be removed: {error}", self.0.display()));
        }
    }
}

fn temporary_folder() -> Result<Temporary> {
    let path = std::env::temp_dir().join(format!("hanse-dev-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
    Ok(Temporary(path))
}
