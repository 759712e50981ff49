//! `hanse block` and `hanse explorer`: what stands on a ledger.

use hanse_client::pb;

use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::view::View;

/// Blocks of a list unless said otherwise.
const BLOCKS: usize = 20;

/// Verbs of `hanse block`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BlockCommand {
    /// Show a block.
    Get {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// Number, 0x hash or `latest`.
        #[arg(default_value = "latest")]
        block: String,
    },
    /// List blocks, newest first.
    List {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// At most so many.
        #[arg(long, default_value_t = BLOCKS)]
        limit: usize,
    },
}

/// Verbs of `hanse explorer`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ExplorerCommand {
    /// Show a block.
    Block {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// Number, 0x hash or `latest`.
        #[arg(default_value = "latest")]
        block: String,
    },
    /// Show a transaction with its receipt.
    Tx {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// 0x hash.
        hash: String,
    },
    /// Show an account of the ledger.
    Account {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// 0x address.
        address: String,
    },
}

const BLOCK: View = View { key: "block", name: "hash", columns: &[] };
const BLOCK_LIST: View = View {
    key: "blocks",
    name: "hash",
    columns: &[
        ("HEIGHT", "height"),
        ("TIME", "timestamp_ms"),
        ("HASH", "hash"),
        ("GAS USED", "gas_used"),
        ("PROPOSER", "proposer"),
    ],
};

/// Runs a verb of `hanse block`.
///
/// # Errors
/// The call failed.
pub(crate) async fn blocks(command: BlockCommand, context: &Context) -> Result<(), CliError> {
    match command {
        BlockCommand::Get { consortium, chain, block } => {
            context.show(block_request(consortium, chain, &block)?, BLOCK).await
        }
        BlockCommand::List { consortium, chain, limit } => {
            let page_size = i32::try_from(limit).unwrap_or(PAGE_SIZE).clamp(1, PAGE_SIZE);
            let request = |page_token| pb::ListBlocksRequest {
                page_size,
                page_token,
                consortium: consortium.clone(),
                chain: chain.clone(),
            };
            context.show_pages(BLOCK_LIST, request, Some(limit)).await
        }
    }
}

/// Runs a verb of `hanse explorer`.
///
/// # Errors
/// The call failed.
pub(crate) async fn run(command: ExplorerCommand, context: &Context) -> Result<(), CliError> {
    match command {
        ExplorerCommand::Block { consortium, chain, block } => {
            context.show(block_request(consortium, chain, &block)?, BLOCK).await
        }
        ExplorerCommand::Tx { consortium, chain, hash } => {
            let view = View { key: "transaction", name: "hash", columns: &[] };
            context.show(pb::GetTransactionRequest { consortium, chain, hash }, view).await
        }
        ExplorerCommand::Account { consortium, chain, address } => {
            let view = View { key: "account", name: "address", columns: &[] };
            context.show(pb::GetAccountRequest { consortium, chain, address }, view).await
        }
    }
}

fn block_request(consortium: String, chain: String, block: &str) -> Result<pb::GetBlockRequest, CliError> {
    use pb::get_block_request::Block;
    let which = match block {
        "latest" => Block::Latest(true),
        hash if hash.starts_with("0x") => Block::Hash(hash.to_owned()),
        height => Block::Height(height.parse().map_err(|_| {
            CliError::local(format!("{height:?} is no block"), "Give a number, a 0x hash or `latest`.")
        })?),
    };
    Ok(pb::GetBlockRequest { consortium, chain, block: Some(which) })
}
