//! `hanse tx`: transactions built and signed on this machine; the platform sees signed bytes only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::{Address, U256};
use hanse_client::{Code, pb};
use tokio::time::Instant;

use super::context::Context;
use super::error::CliError;
use super::key::wallet_error;
use super::view::{Shown, View};
use crate::wallet::{Order, TRANSFER_GAS, Wallet};

/// How long to wait for a block unless --timeout says otherwise.
const BLOCK_WAIT: Duration = Duration::from_secs(60);
/// Between two looks at a pending transaction; the explorer has no stream.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TxCommand {
    /// Send wei from the key's account to another.
    Transfer(Box<TransferArgs>),
}

/// What `transfer` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct TransferArgs {
    /// The consortium.
    consortium: String,
    /// The chain.
    chain: String,
    /// Account key file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// 0x address of the receiver.
    #[arg(long)]
    to: Address,
    /// How much, in wei.
    #[arg(long)]
    value_wei: U256,
    #[command(flatten)]
    fees: FeeArgs,
}

/// What a transaction may cost, and its place among the sender's.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct FeeArgs {
    /// Most gas it may use.
    #[arg(long)]
    gas_limit: Option<u64>,
    /// Most wei per gas; by default twice the latest block's base fee.
    #[arg(long)]
    gas_price_wei: Option<u128>,
    /// Sender's count; by default as the chain says.
    #[arg(long)]
    nonce: Option<u64>,
}

/// What a transaction does.
pub(crate) struct Plan {
    /// Receiver; `None` creates a contract.
    pub(crate) to: Option<Address>,
    /// Wei.
    pub(crate) value: U256,
    /// Input data.
    pub(crate) input: Vec<u8>,
    /// Gas unless a flag says otherwise.
    pub(crate) gas_limit: u64,
}

const TRANSACTION: View = View { key: "transaction", name: "hash", columns: &[] };
const SENT: View = View { key: "", name: "transaction_hash", columns: &[] };

/// Runs a verb.
///
/// # Errors
/// The call failed, the key cannot be used, or the transaction was reverted.
pub(crate) async fn run(command: TxCommand, context: &Context) -> Result<(), CliError> {
    let TxCommand::Transfer(args) = command;
    context.refuse_dry_run("a transfer")?;
    context
        .confirm(&format!("Send {} wei to {:#x} on {}/{}?", args.value_wei, args.to, args.consortium, args.chain))?;
    let plan = Plan { to: Some(args.to), value: args.value_wei, input: Vec::new(), gas_limit: TRANSFER_GAS };
    let raw_transaction = sign(context, &args.consortium, &args.chain, &args.key, plan, &args.fees).await?;
    let request = pb::SendTransactionRequest {
        request_id: String::new(),
        consortium: args.consortium.clone(),
        chain: args.chain.clone(),
        raw_transaction,
    };
    let response = context.call(request).await?;
    if !context.waits() {
        let value = hanse_client::json::response::<pb::SendTransactionRequest>(&response);
        return context.print(Shown { value, view: SENT });
    }
    wait(context, args.consortium, args.chain, response.transaction_hash).await
}

/// Returns a signed transaction; chain id, count and fee come from the chain where no flag gives them.
///
/// # Errors
/// A call failed, or the key cannot be used.
pub(crate) async fn sign(
    context: &Context,
    consortium: &str,
    chain: &str,
    key: &Path,
    plan: Plan,
    fees: &FeeArgs,
) -> Result<Vec<u8>, CliError> {
    let wallet = Wallet::load(key).map_err(wallet_error)?;
    let (consortium, chain) = (consortium.to_owned(), chain.to_owned());
    let which = pb::GetChainRequest { consortium: consortium.clone(), chain: chain.clone() };
    let spec = context.call(which).await?.chain.and_then(|chain| chain.spec);
    let chain_id = spec.ok_or_else(|| CliError::Failed("the answer holds no chain".to_owned()))?.chain_id;
    let nonce = match fees.nonce {
        Some(nonce) => nonce,
        None => {
            let which = pb::GetAccountRequest {
                consortium: consortium.clone(),
                chain: chain.clone(),
                address: wallet.address(),
            };
            context.call(which).await?.account.unwrap_or_default().nonce
        }
    };
    let gas_price = match fees.gas_price_wei {
        Some(price) => price,
        None => {
            let latest = Some(pb::get_block_request::Block::Latest(true));
            let block = context.call(pb::GetBlockRequest { consortium, chain, block: latest }).await?.block;
            // Twice the base fee outlives six full blocks in a row (EIP-1559: at most an eighth more each).
            block.and_then(|block| block.base_fee_wei.parse::<u128>().ok()).unwrap_or(0).saturating_mul(2)
        }
    };
    let gas_limit = fees.gas_limit.unwrap_or(plan.gas_limit);
    let Plan { to, value, input, .. } = plan;
    wallet.sign(Order { chain_id, nonce, to, value, input, gas_limit, gas_price }).map_err(wallet_error)
}

/// Waits until a transaction is in a block, and prints it.
async fn wait(context: &Context, consortium: String, chain: String, hash: String) -> Result<(), CliError> {
    let deadline = Instant::now() + context.global.timeout.unwrap_or(BLOCK_WAIT);
    context.say(&format!("sent {hash}; waiting for a block"));
    let request = pb::GetTransactionRequest { consortium, chain, hash: hash.clone() };
    loop {
        match context.call(request.clone()).await {
            Ok(response) => {
                let state = response.transaction.as_ref().map(pb::Transaction::state);
                if matches!(state, Some(pb::TransactionState::Succeeded | pb::TransactionState::Reverted)) {
                    let value = hanse_client::json::response::<pb::GetTransactionRequest>(&response);
                    context.print(Shown { value, view: TRANSACTION })?;
                    return match state {
                        Some(pb::TransactionState::Reverted) => {
                            Err(CliError::Failed(format!("transaction {hash} was reverted")))
                        }
                        _ => Ok(()),
                    };
                }
            }
            // The node that is asked may not have heard of it yet.
            Err(CliError::Client(error)) if error.code == Code::NotFound => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Err(CliError::StillRunning(format!("transaction {hash} is in no block yet")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
