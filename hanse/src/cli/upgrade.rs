//! `hanse chain upgrade` and `hanse chain rollback`: what a chain's nodes run, changed by vote, and the way back.

use std::time::Duration;

use hanse_client::pb;

use super::context::Context;
use super::error::CliError;
use super::life::{self, LifeArgs, Opened};
use super::proposal::parse_parameter;
use super::units::{millis, parse_duration};

/// A change of what the nodes of a chain run, to be voted on.
#[derive(Debug, clap::Args)]
pub(crate) struct RefitArgs<T: clap::Args> {
    /// The consortium.
    consortium: String,
    /// The chain.
    chain: String,
    #[command(flatten)]
    to: T,
    /// Title for people, and the reason that the members read.
    #[arg(long, visible_alias = "reason")]
    title: Option<String>,
    /// How long the proposal is open; by default as the charter says.
    #[arg(long, value_parser = parse_duration)]
    voting_period: Option<Duration>,
    /// Open nothing: show what it would do.
    #[arg(long)]
    plan: bool,
}

/// How careful the nodes are brought to it.
#[derive(Debug, clap::Args)]
struct CareArgs {
    /// In which time each node must be well again, or it halts; 10 seconds to 1 day.
    #[arg(long, value_parser = parse_duration, default_value = "5m")]
    limit: Duration,
    /// Do it also to a chain that makes no block while one of its nodes starts (fewer than four founders).
    #[arg(long)]
    accept_outage: bool,
}

/// Which program, and how careful.
#[derive(Debug, clap::Args)]
pub(crate) struct ProgramArgs {
    /// The artifact: name@version, or its SHA-256.
    #[arg(long, required_unless_present = "own")]
    artifact: Option<String>,
    /// The platform's own program, as each replica has it.
    #[arg(long, conflicts_with = "artifact")]
    own: bool,
    /// The first block that all nodes make with it: they are told one after another, stop before it by themselves, and change at once;
    /// +N is that many blocks from now. By default they change one after another, at whatever height.
    #[arg(long, value_name = "HEIGHT|+N", value_parser = parse_height)]
    at_height: Option<At>,
    #[command(flatten)]
    care: CareArgs,
}

/// A height, or how many blocks from now.
#[derive(Clone, Copy, Debug)]
enum At {
    Height(u64),
    Ahead(u64),
}

fn parse_height(text: &str) -> Result<At, String> {
    let number = |text: &str| match text.parse() {
        Ok(0) | Err(_) => {
            Err(format!("{text:?} is no number from 1 on: write a height, or +N for so many blocks from now"))
        }
        Ok(number) => Ok(number),
    };
    match text.strip_prefix('+') {
        Some(ahead) => number(ahead).map(At::Ahead),
        None => number(text).map(At::Height),
    }
}

impl ProgramArgs {
    /// The height that is named, 0 if none is; so many blocks from now are counted from what the chain has.
    ///
    /// # Errors
    /// The call failed, or nobody knows how high the chain is.
    pub(crate) async fn height(&self, consortium: &str, chain: &str, context: &Context) -> Result<u64, CliError> {
        let ahead = match self.at_height {
            None => return Ok(0),
            Some(At::Height(height)) => return Ok(height),
            Some(At::Ahead(ahead)) => ahead,
        };
        let request = pb::GetChainRequest { consortium: consortium.into(), chain: chain.into() };
        let shown = context.call(request).await?.chain.unwrap_or_default();
        if shown.height_seen_at_ms == 0 {
            let why = "--at-height +N: no node of the chain has told its height yet";
            return Err(CliError::local(why, "name the height itself, or wait until one does"));
        }
        Ok(shown.height.saturating_add(ahead))
    }

    /// The change to be voted on; the platform writes into it what the artifact's name and version, or its hash, do not say.
    pub(crate) fn change(self, at_height: u64) -> pb::UpgradeChange {
        let program = self.artifact.map(|artifact| match artifact.split_once('@') {
            Some((name, version)) => pb::Program { name: name.into(), version: version.into(), sha256: String::new() },
            None => pb::Program { name: String::new(), version: String::new(), sha256: artifact },
        });
        let CareArgs { limit, accept_outage } = self.care;
        pb::UpgradeChange { program, limit_ms: millis(limit), accept_outage, at_height }
    }
}

/// Which settings, and how careful.
#[derive(Debug, clap::Args)]
pub(crate) struct SettingArgs {
    /// A setting of the chain's template (`hanse template list -o json`); once for each. Those not named stay as they are.
    #[arg(long = "set", value_name = "NAME=NUMBER", value_parser = parse_parameter, required = true)]
    settings: Vec<(String, u64)>,
    #[command(flatten)]
    care: CareArgs,
}

impl SettingArgs {
    /// The change to be voted on.
    pub(crate) fn change(self) -> pb::ReconfigureChange {
        let settings = self.settings.into_iter().collect();
        pb::ReconfigureChange { settings, limit_ms: millis(self.care.limit), accept_outage: self.care.accept_outage }
    }
}

/// Runs `hanse chain upgrade`: opens the proposal, or shows what it would do.
///
/// # Errors
/// The call failed.
pub(crate) async fn upgrade(args: RefitArgs<ProgramArgs>, context: &Context) -> Result<(), CliError> {
    let height = args.to.height(&args.consortium, &args.chain, context).await?;
    propose(args, "Upgrade", |to| pb::change_chain::Change::Upgrade(to.change(height)), context).await
}

/// Runs `hanse chain reconfigure`, and what `hanse chain upgrade` (`word`) does: opens the proposal, or shows what it would do.
///
/// # Errors
/// The call failed.
pub(crate) async fn propose<T: clap::Args>(
    args: RefitArgs<T>,
    word: &'static str,
    change: impl FnOnce(T) -> pb::change_chain::Change,
    context: &Context,
) -> Result<(), CliError> {
    let RefitArgs { consortium, chain, to, title, voting_period, plan } = args;
    let opened = Opened { consortium, chain, word, change: change(to), title, voting_period };
    life::open(opened.request(), plan, context).await
}

/// Runs `hanse chain rollback`.
///
/// # Errors
/// The call failed, the user did not agree, or there is no way back.
pub(crate) async fn rollback(args: LifeArgs, accept_risk: bool, context: &Context) -> Result<(), CliError> {
    let LifeArgs { consortium, chain, reason } = args;
    let question = format!("Have the nodes of {consortium}/{chain} go back to the program before, one after another?");
    context.confirm(&question)?;
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    let request = pb::RollBackChainRequest { request_id, validate_only, consortium, chain, reason, accept_risk };
    life::order(request, context, |it| &it.operation).await
}
