//! `hanse chain`: ledgers, and raw access to them through the platform.

use std::path::Path;

use hanse_client::pb;

use super::ListArgs;
use super::adopting::{self, AdoptArgs, GiveBackArgs};
use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::govern::{self, GovernCommand};
use super::imported::{self, ForgetArgs, ImportArgs};

use super::life::{self, LifeArgs, RepairArgs};
use super::monitor::{self, MonitorArgs};
use super::moving::{self, MoveArgs};
use super::plan::{self, PlanCommand};
use super::units::parse_hex;
use super::upgrade::{self, ProgramArgs, RefitArgs, SettingArgs};
use super::view::{Shown, View};
use crate::output::Format;

/// The server takes at most 256 KiB of transaction; hex doubles it.
const RAW_TEXT_BYTES_MAX: u64 = 1 << 20;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ChainCommand {
    /// Show a chain.
    Get {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
    },
    /// List chains.
    List {
        /// Only this consortium's.
        #[arg(long)]
        consortium: Option<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show the last day of what was seen of a chain's nodes.
    Monitor {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        #[command(flatten)]
        args: MonitorArgs,
    },
    /// Tell what is wrong with a chain, its nodes and hosts, why, and what to do; of everything if none is named.
    Diagnose {
        /// The consortium.
        #[arg(requires = "chain")]
        consortium: Option<String>,
        /// The chain.
        chain: Option<String>,
    },
    /// Show who decides on a chain: validators, members, lists, what is decided and not in force yet.
    Governance {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
    },
    /// Change a chain by a proposal that its members sign.
    #[command(subcommand)]
    Govern(GovernCommand),
    /// Stop a chain's nodes; they keep everything, and time is not billed until it is resumed.
    Pause(LifeArgs),
    /// Make a chain that was made outside of the platform known: it is watched and never touched.
    Import(Box<ImportArgs>),
    /// Forget an imported chain; nothing of the chain itself changes.
    Forget(ForgetArgs),
    /// Take an imported chain over, for which its consortium has voted: one node after another is stopped where its owner ran it, its home
    /// is copied on its host, and it is started as the platform's. `--dry-run` shows what is found in the homes, and changes nothing.
    /// A node that does not get well halts it: see to it and `roll-continue`, or `give-back`.
    Adopt(Box<AdoptArgs>),
    /// Give a node that was taken over back to its owner, while the taking over of its chain goes on; it halts.
    GiveBack(GiveBackArgs),
    /// Have a paused chain's nodes run again.
    Resume(LifeArgs),
    /// Take back a deletion while its grace lasts. Deleting is voted on: `hanse proposal open-change-chain`.
    Undelete(LifeArgs),
    /// Configure and start every node of a chain anew, one after another, each only while all others are well.
    Roll {
        #[command(flatten)]
        life: LifeArgs,
        /// Do it also to a chain that makes no block while one of its nodes starts (fewer than four founders).
        #[arg(long)]
        accept_outage: bool,
    },
    /// Propose that a chain's nodes run another program, one after another, each only while all others are well; members vote.
    Upgrade(RefitArgs<ProgramArgs>),
    /// Propose that a chain's nodes are set otherwise, one after another, each only while all others are well; members vote.
    Reconfigure(RefitArgs<SettingArgs>),
    /// Have the nodes that an upgrade has reached go back to the program before, one after another; as long as not every node
    /// runs the new one and is well.
    Rollback {
        #[command(flatten)]
        life: LifeArgs,
        /// Do it although the ledger's driver cannot tell that the program before reads what the new one wrote.
        #[arg(long)]
        accept_risk: bool,
    },
    /// Move a node to another host with its key: stopped and fenced, carried over, removed where it was, started there.
    MoveNode(MoveArgs),
    /// Show what an order would do, without giving it: diff, placement, order of restarts, how many failures the chain survives
    /// meanwhile, cost. What is voted on: `hanse proposal open-change-chain ... --plan`.
    Plan {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        #[command(subcommand)]
        order: PlanCommand,
        /// An outage is agreed to, where the order asks for that.
        #[arg(long, global = true)]
        accept_outage: bool,
    },
    /// Say how often each node of a chain is started again by the platform within an hour, before it waits for a person.
    Repair(RepairArgs),
    /// Stop a rolling change where it is.
    RollHalt(LifeArgs),
    /// Let a halted rolling change go on.
    RollContinue(LifeArgs),
    /// Hand a signed transaction (hex) to a chain.
    Send {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// Hex of the signed transaction, `@FILE`, or `-` for stdin.
        raw: String,
    },
    /// Run a call on the latest state without changing it.
    Call {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// 0x address of the contract.
        #[arg(long)]
        to: String,
        /// Call data in hex.
        #[arg(long, default_value = "0x")]
        data: String,
    },
}

const CHAIN: View = View { key: "chain", name: "name", columns: &[] };
const GOVERNANCE: View = View { key: "governance", name: "name", columns: &[] };
const CHAINS: View = View {
    key: "chains",
    name: "name",
    columns: &[
        ("CHAIN", "name"),
        ("CHAIN ID", "spec.chain_id"),
        ("STATE", "state"),
        ("HEIGHT", "height"),
        ("RUNNING", "nodes_running"),
        ("NODES", "nodes_total"),
        ("REPAIRS AN HOUR", "repairs_per_hour"),
        ("SINCE", "state_since_ms"),
        ("REASON", "state_reason"),
    ],
};
/// How the answer of a call is shown.
pub(crate) const OUTPUT: View = View { key: "", name: "output", columns: &[] };

/// Runs a verb.
///
/// # Errors
/// The call failed, or the hex is none.
pub(crate) async fn run(command: ChainCommand, context: &Context) -> Result<(), CliError> {
    match command {
        ChainCommand::Get { consortium, chain } => context.show(pb::GetChainRequest { consortium, chain }, CHAIN).await,
        ChainCommand::Monitor { consortium, chain, args } => {
            monitor::monitor(context, format!("consortiums/{consortium}/chains/{chain}"), args).await
        }
        ChainCommand::Diagnose { consortium, chain } => {
            let named =
                consortium.zip(chain).map(|(consortium, chain)| format!("consortiums/{consortium}/chains/{chain}"));
            monitor::diagnose(context, named.unwrap_or_default()).await
        }
        ChainCommand::Governance { consortium, chain } => {
            let value = context.json(pb::GetChainGovernanceRequest { consortium, chain }).await?;
            let value = if context.global.format() == Format::Table { govern::in_rows(value) } else { value };
            context.print(Shown { value, view: GOVERNANCE })
        }
        ChainCommand::Pause(args) => life::pause(args, context).await,
        ChainCommand::Import(args) => imported::import(*args, context).await,
        ChainCommand::Forget(args) => imported::forget(args, context).await,
        ChainCommand::Adopt(args) => adopting::adopt(*args, context).await,
        ChainCommand::GiveBack(args) => adopting::give_back(args, context).await,
        ChainCommand::Resume(args) => life::resume(args, context).await,
        ChainCommand::Undelete(args) => life::undelete(args, context).await,
        ChainCommand::Roll { life, accept_outage } => life::roll(life, accept_outage, context).await,
        ChainCommand::Reconfigure(args) => {
            upgrade::propose(args, "Reconfigure", |to| pb::change_chain::Change::Reconfigure(to.change()), context)
                .await
        }
        ChainCommand::Upgrade(args) => upgrade::upgrade(args, context).await,
        ChainCommand::Rollback { life, accept_risk } => upgrade::rollback(life, accept_risk, context).await,
        ChainCommand::MoveNode(args) => moving::run(args, context).await,
        ChainCommand::Plan { consortium, chain, order, accept_outage } => {
            plan::of_order(consortium, chain, order, accept_outage, context).await
        }
        ChainCommand::Repair(args) => life::repair(args, context).await,
        ChainCommand::RollHalt(args) => life::halt(args, context).await,
        ChainCommand::RollContinue(args) => life::go_on(args, context).await,
        ChainCommand::Govern(command) => govern::run(command, context),
        ChainCommand::List { consortium, list } => {
            let consortium = consortium.unwrap_or_default();
            let request = |page_token| pb::ListChainsRequest {
                page_size: PAGE_SIZE,
                page_token,
                filter: list.filter(),
                consortium: consortium.clone(),
            };
            context.show_pages(CHAINS, request, list.limit).await
        }
        ChainCommand::Send { consortium, chain, raw } => {
            context.refuse_dry_run("sending a transaction")?;
            let raw_transaction = read_hex(&raw)?;
            let request = pb::SendTransactionRequest { request_id: String::new(), consortium, chain, raw_transaction };
            context.show(request, View { key: "", name: "transaction_hash", columns: &[] }).await
        }
        ChainCommand::Call { consortium, chain, to, data } => {
            let data = parse_hex(&data).map_err(|error| CliError::local(format!("--data: {error}"), ""))?;
            context.show(pb::CallContractRequest { consortium, chain, to, data }, OUTPUT).await
        }
    }
}

/// Returns the bytes of hex digits: of the text itself, of a file (`@FILE`) or of stdin (`-`).
///
/// # Errors
/// The file cannot be read, or it is no hex.
pub(crate) fn read_hex(text: &str) -> Result<Vec<u8>, CliError> {
    use std::io::Read as _;
    let mut digits = String::new();
    match text.strip_prefix('@') {
        Some(path) => {
            let path = Path::new(path);
            std::fs::File::open(path)
                .and_then(|file| file.take(RAW_TEXT_BYTES_MAX).read_to_string(&mut digits))
                .map_err(|error| CliError::file(path, &error))?;
        }
        None if text == "-" => {
            std::io::stdin().take(RAW_TEXT_BYTES_MAX).read_to_string(&mut digits)?;
        }
        None => text.clone_into(&mut digits),
    }
    let bytes = parse_hex(&digits).map_err(|error| CliError::local(error, "Give 0x-hex, @FILE or -."))?;
    if bytes.is_empty() {
        return Err(CliError::local("there is nothing to send", "Give 0x-hex, @FILE or -."));
    }
    Ok(bytes)
}
