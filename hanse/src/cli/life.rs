//! A chain's life after it was made: pausing and resuming it, and proposing changes of it to its consortium.

use std::time::Duration;

use hanse_client::{Call, pb};

use super::context::Context;
use super::error::CliError;
use super::proposal::PROPOSAL;
use super::units::{millis, parse_duration};
use super::upgrade::{ProgramArgs, SettingArgs};
use super::view::{Shown, View};
use super::{operation, plan};

/// Which chain, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct LifeArgs {
    /// The consortium.
    pub(super) consortium: String,
    /// The chain.
    pub(super) chain: String,
    /// Why, for the audit trail.
    #[arg(long)]
    pub(super) reason: String,
}

/// What `proposal open-change-chain` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ChangeArgs {
    /// The consortium.
    consortium: String,
    /// The chain.
    chain: String,
    /// What is to be changed.
    #[command(subcommand)]
    change: ChangeCommand,
    /// Title for people.
    #[arg(long, global = true)]
    title: Option<String>,
    /// How long the proposal is open; by default as the charter says.
    #[arg(long, global = true, value_parser = parse_duration)]
    voting_period: Option<Duration>,
    /// Open nothing: show what it would do.
    #[arg(long, global = true)]
    plan: bool,
}

/// Changes that a consortium votes on.
#[derive(Debug, clap::Subcommand)]
enum ChangeCommand {
    /// Its nodes are stopped and keep everything; time is not billed until it is resumed.
    Pause,
    /// Its nodes run again.
    Resume,
    /// Its nodes are stopped at once, and removed with all they hold when the grace is over.
    Delete {
        /// How long it can be taken back, 1 second to 365 days.
        #[arg(long, default_value = "7d", value_parser = parse_duration)]
        grace: Duration,
    },
    /// A deletion is taken back while its grace lasts.
    Undelete,
    /// Nodes that follow the chain are made; the others start anew one after another, to learn of them. Members let one
    /// validate by `hanse chain govern`.
    AddNodes {
        /// Owner of a node; once for each node.
        #[arg(long = "node", value_name = "TENANT", required = true)]
        nodes: Vec<String>,
        /// Do it also to a chain that makes no block while one of its nodes starts (fewer than four founders).
        #[arg(long)]
        accept_outage: bool,
    },
    /// Nodes leave; each is removed once the ledger says that it does not validate.
    RemoveNodes {
        /// Which, e.g. n4.
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Do it also to a chain that could lose a validator before and cannot afterwards.
        #[arg(long)]
        accept_outage: bool,
    },
    /// Nodes that follow become validators, by the ledger's own transactions: chains of CometBFT. Their owners must vote yes.
    AddValidators {
        /// Which, e.g. n4.
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Do it also to a chain that makes no block then until all its validators are well.
        #[arg(long)]
        accept_outage: bool,
    },
    /// Validators become nodes that follow, likewise. Their owners must vote yes.
    RemoveValidators {
        /// Which, e.g. n4.
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Do it also to a chain that could miss a validator before and cannot afterwards.
        #[arg(long)]
        accept_outage: bool,
    },
    /// A chain of others is taken over; an operator then says where its nodes are: `hanse chain adopt`. Who is to own a node must vote
    /// yes.
    Adopt {
        /// Owner of a node; once for each node, in their order.
        #[arg(long = "owner", value_name = "TENANT", required = true)]
        owners: Vec<String>,
        /// Do it also to a chain that makes no block while one of its nodes starts (fewer than four validators).
        #[arg(long)]
        accept_outage: bool,
    },
    /// Its nodes run another program, one after another; the same as `hanse chain upgrade`.
    Upgrade(ProgramArgs),
    /// Its nodes are set otherwise, one after another; the same as `hanse chain reconfigure`.
    Reconfigure(SettingArgs),
}

/// `hanse chain repair`.
#[derive(Debug, clap::Args)]
#[group(id = "budget", required = true, multiple = false, args = ["restarts_per_hour", "off", "default"])]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    life: LifeArgs,
    /// So often, 1 to 15 times; the pauses between them grow to five minutes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    restarts_per_hour: Option<u32>,
    /// Never: a node that ends or hangs stays so until a person restarts it.
    #[arg(long)]
    off: bool,
    /// As every chain of which nothing was said: 5 times.
    #[arg(long)]
    default: bool,
}

const CHAIN: View = View { key: "chain", name: "name", columns: &[] };

/// Runs `hanse chain pause`.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn pause(args: LifeArgs, context: &Context) -> Result<(), CliError> {
    let LifeArgs { consortium, chain, reason } = args;
    context
        .confirm(&format!("Stop every node of {consortium}/{chain}? It takes no transaction until it is resumed."))?;
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    order(pb::PauseChainRequest { request_id, validate_only, consortium, chain, reason }, context, |it| &it.operation)
        .await
}

/// Runs `hanse chain resume`.
///
/// # Errors
/// The call failed.
pub(crate) async fn resume(args: LifeArgs, context: &Context) -> Result<(), CliError> {
    let LifeArgs { consortium, chain, reason } = args;
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    let request = pb::ResumeChainRequest { request_id, validate_only, consortium, chain, reason };
    order(request, context, |it| &it.operation).await
}

/// Runs `hanse chain undelete`.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn undelete(args: LifeArgs, context: &Context) -> Result<(), CliError> {
    let LifeArgs { consortium, chain, reason } = args;
    context.confirm(&format!("Take back the deletion of {consortium}/{chain}, which a vote decided?"))?;
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    let request = pb::UndeleteChainRequest { request_id, validate_only, consortium, chain, reason };
    order(request, context, |it| &it.operation).await
}

/// Runs `hanse chain roll`.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn roll(args: LifeArgs, accept_outage: bool, context: &Context) -> Result<(), CliError> {
    let LifeArgs { consortium, chain, reason } = args;
    context.confirm(&format!("Start every node of {consortium}/{chain} anew, one after another?"))?;
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    let request = pb::RollChainRequest { request_id, validate_only, consortium, chain, reason, accept_outage };
    order(request, context, |it| &it.operation).await
}

/// Runs `hanse chain repair`.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn repair(args: RepairArgs, context: &Context) -> Result<(), CliError> {
    let RepairArgs { life: LifeArgs { consortium, chain, reason }, restarts_per_hour, off, default: _ } = args;
    if off {
        context.confirm(&format!("Leave nodes of {consortium}/{chain} that end or hang as they are?"))?;
    }
    let restarts_per_hour = if off { Some(0) } else { restarts_per_hour };
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    let request = pb::SetChainRepairRequest { request_id, validate_only, consortium, chain, restarts_per_hour, reason };
    context.show(request, CHAIN).await
}

/// Runs `hanse chain roll-halt`.
///
/// # Errors
/// The call failed.
pub(crate) async fn halt(args: LifeArgs, context: &Context) -> Result<(), CliError> {
    let LifeArgs { consortium, chain, reason } = args;
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    context.show(pb::HaltRolloutRequest { request_id, validate_only, consortium, chain, reason }, CHAIN).await
}

/// Runs `hanse chain roll-continue`.
///
/// # Errors
/// The call failed.
pub(crate) async fn go_on(args: LifeArgs, context: &Context) -> Result<(), CliError> {
    let LifeArgs { consortium, chain, reason } = args;
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    context.show(pb::ContinueRolloutRequest { request_id, validate_only, consortium, chain, reason }, CHAIN).await
}

/// Sends the order, shows the chain, and waits for the operation if that is asked for.
///
/// # Errors
/// The call failed, or the operation did.
pub(super) async fn order<C: Call>(
    request: C,
    context: &Context,
    operation: fn(&C::Response) -> &String,
) -> Result<(), CliError> {
    order_of(request, CHAIN, context, operation).await
}

/// Sends the order, shows what it is about, and waits for the operation if that is asked for.
///
/// # Errors
/// The call failed, or the operation did.
pub(super) async fn order_of<C: Call>(
    request: C,
    view: View,
    context: &Context,
    operation: fn(&C::Response) -> &String,
) -> Result<(), CliError> {
    let response = context.call(request).await?;
    let value = hanse_client::json::response::<C>(&response);
    context.print(Shown { value, view })?;
    let operation = operation(&response);
    if !operation.is_empty() && context.waits() && !context.global.dry_run {
        operation::wait(context, operation).await?;
    }
    Ok(())
}

/// A change of a chain that is put to the vote.
pub(super) struct Opened {
    pub(super) consortium: String,
    pub(super) chain: String,
    /// The title's verb, if no title is given.
    pub(super) word: &'static str,
    pub(super) change: pb::change_chain::Change,
    pub(super) title: Option<String>,
    pub(super) voting_period: Option<Duration>,
}

impl Opened {
    /// The request that opens the proposal.
    pub(super) fn request(self) -> pb::OpenProposalRequest {
        let title = self.title.unwrap_or_else(|| format!("{} chain {}", self.word, self.chain));
        let change = pb::ChangeChain { chain: self.chain, ordered_by: String::new(), change: Some(self.change) };
        pb::OpenProposalRequest {
            request_id: String::new(),
            validate_only: false,
            consortium: self.consortium,
            title,
            action: Some(pb::Action { kind: Some(pb::action::Kind::ChangeChain(change)) }),
            voting_period_ms: self.voting_period.map_or(0, millis),
        }
    }
}

/// Opens the proposal, or shows what it would do.
///
/// # Errors
/// The call failed.
pub(super) async fn open(mut request: pb::OpenProposalRequest, plan: bool, context: &Context) -> Result<(), CliError> {
    if plan {
        return plan::of_action(request, context).await;
    }
    request.validate_only = context.global.dry_run;
    context.show(request, PROPOSAL).await
}

/// Runs `hanse proposal open-change-chain`.
///
/// # Errors
/// The call failed.
pub(crate) async fn open_change(args: ChangeArgs, context: &Context) -> Result<(), CliError> {
    use pb::change_chain::Change;
    let ChangeArgs { consortium, chain, change, title, voting_period, plan } = args;
    let (word, change) = match change {
        ChangeCommand::Pause => ("Pause", Change::Pause(pb::PauseChange {})),
        ChangeCommand::Resume => ("Resume", Change::Resume(pb::ResumeChange {})),
        ChangeCommand::Delete { grace } => ("Delete", Change::Delete(pb::DeleteChange { grace_ms: millis(grace) })),
        ChangeCommand::AddNodes { nodes, accept_outage } => {
            let nodes = nodes.into_iter().map(|owner| pb::NodeSpec { owner }).collect();
            ("Grow", Change::AddNodes(pb::AddNodesChange { nodes, accept_outage }))
        }
        ChangeCommand::RemoveNodes { nodes, accept_outage } => {
            ("Shrink", Change::RemoveNodes(pb::RemoveNodesChange { nodes, accept_outage }))
        }
        ChangeCommand::AddValidators { nodes, accept_outage } => {
            ("Add validators to", Change::AddValidators(pb::ValidatorsChange { nodes, accept_outage }))
        }
        ChangeCommand::Adopt { owners, accept_outage } => {
            let nodes = owners.into_iter().map(|owner| pb::NodeSpec { owner }).collect();
            ("Take over", Change::Adopt(pb::AdoptChange { first_block: String::new(), nodes, accept_outage }))
        }
        ChangeCommand::RemoveValidators { nodes, accept_outage } => {
            ("Remove validators of", Change::RemoveValidators(pb::ValidatorsChange { nodes, accept_outage }))
        }
        ChangeCommand::Upgrade(to) => {
            let height = to.height(&consortium, &chain, context).await?;
            ("Upgrade", Change::Upgrade(to.change(height)))
        }
        ChangeCommand::Reconfigure(to) => ("Reconfigure", Change::Reconfigure(to.change())),
        ChangeCommand::Undelete => ("Keep", Change::Undelete(pb::UndeleteChange {})),
    };
    open(Opened { consortium, chain, word, change, title, voting_period }.request(), plan, context).await
}
