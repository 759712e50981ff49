//! `hanse contract`: deploying with a transaction signed on this machine, and calling.

use std::path::PathBuf;

use hanse_client::pb;

use super::ListArgs;
use super::chain::{OUTPUT, read_hex};
use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::operation;
use super::tx::{FeeArgs, Plan, sign};
use super::units::parse_hex;
use super::view::{Shown, View};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ContractCommand {
    /// Deploy a contract: sign its creation here (--bytecode, --key), or hand over one signed elsewhere (--raw).
    Deploy(Box<DeployArgs>),
    /// Show a contract.
    Get {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// The contract.
        contract: String,
    },
    /// List the contracts of a chain.
    List {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Call a deployed contract on the latest state without changing it.
    Call {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// The contract.
        contract: String,
        /// Call data in hex.
        #[arg(long, default_value = "0x")]
        data: String,
    },
}

/// What `deploy` takes.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["bytecode", "raw"]))]
pub(crate) struct DeployArgs {
    /// The consortium.
    consortium: String,
    /// The chain.
    chain: String,
    /// Id of the contract within the chain.
    contract: String,
    /// Creation code with its constructor's arguments: 0x-hex, `@FILE`, or `-` for stdin.
    #[arg(long, requires = "key")]
    bytecode: Option<String>,
    /// Account key file.
    #[arg(long, value_name = "FILE", requires = "bytecode")]
    key: Option<PathBuf>,
    /// A signed creation transaction: 0x-hex, `@FILE`, or `-` for stdin.
    #[arg(long)]
    raw: Option<String>,
    #[command(flatten)]
    fees: FeeArgs,
}

const CONTRACT: View = View { key: "contract", name: "name", columns: &[] };
const CONTRACTS: View = View {
    key: "contracts",
    name: "name",
    columns: &[
        ("CONTRACT", "contract"),
        ("TENANT", "tenant"),
        ("STATE", "state"),
        ("ADDRESS", "address"),
        ("BLOCK", "block"),
        ("REASON", "state_reason"),
    ],
};
/// Gas of a creation unless said otherwise.
const DEPLOY_GAS: u64 = 3_000_000;

/// Runs a verb.
///
/// # Errors
/// The call failed, or a file cannot be used.
pub(crate) async fn run(command: ContractCommand, context: &Context) -> Result<(), CliError> {
    match command {
        ContractCommand::Deploy(args) => deploy(context, *args).await,
        ContractCommand::Get { consortium, chain, contract } => {
            context.show(pb::GetContractRequest { consortium, chain, contract }, CONTRACT).await
        }
        ContractCommand::List { consortium, chain, list } => {
            let request = |page_token| pb::ListContractsRequest {
                page_size: PAGE_SIZE,
                page_token,
                filter: list.filter(),
                consortium: consortium.clone(),
                chain: chain.clone(),
            };
            context.show_pages(CONTRACTS, request, list.limit).await
        }
        ContractCommand::Call { consortium, chain, contract, data } => {
            let data = parse_hex(&data).map_err(|error| CliError::local(format!("--data: {error}"), ""))?;
            let which = pb::GetContractRequest {
                consortium: consortium.clone(),
                chain: chain.clone(),
                contract: contract.clone(),
            };
            let to = context.call(which).await?.contract.unwrap_or_default().address;
            if to.is_empty() {
                return Err(CliError::Failed(format!("contract {contract} is not deployed yet")));
            }
            let request = pb::CallContractRequest { consortium, chain, to, data };
            context.show(request, OUTPUT).await
        }
    }
}

async fn deploy(context: &Context, args: DeployArgs) -> Result<(), CliError> {
    let raw_transaction = match (&args.bytecode, &args.key, &args.raw) {
        (Some(bytecode), Some(key), _) => {
            let input = read_hex(bytecode)?;
            let plan = Plan { to: None, value: Default::default(), input, gas_limit: DEPLOY_GAS };
            sign(context, &args.consortium, &args.chain, key, plan, &args.fees).await?
        }
        (_, _, Some(raw)) => read_hex(raw)?,
        _ => return Err(CliError::local("neither --bytecode with --key nor --raw is given", "")),
    };
    let request = pb::DeployContractRequest {
        request_id: String::new(),
        validate_only: context.global.dry_run,
        consortium: args.consortium.clone(),
        chain: args.chain.clone(),
        contract: args.contract.clone(),
        raw_transaction,
    };
    let response = context.call(request).await?;
    if response.operation.is_empty() || !context.waits() {
        let value = hanse_client::json::response::<pb::DeployContractRequest>(&response);
        return context.print(Shown { value, view: CONTRACT });
    }
    operation::wait(context, &response.operation).await?;
    let which = pb::GetContractRequest { consortium: args.consortium, chain: args.chain, contract: args.contract };
    context.show(which, CONTRACT).await
}
