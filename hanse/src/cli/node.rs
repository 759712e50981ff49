//! `hanse node`: ledger nodes as the platform sees them.

use hanse_client::pb;

use super::ListArgs;
use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::monitor::{self, MonitorArgs};
use super::view::{Shown, View};
use crate::output::{self, Format, harmless};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum NodeCommand {
    /// Show a node.
    Get {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// The node, e.g. n0.
        node: String,
    },
    /// List nodes.
    List {
        /// Only this consortium's.
        #[arg(long)]
        consortium: Option<String>,
        /// Only this chain's.
        #[arg(long, requires = "consortium")]
        chain: Option<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show the last day of what was seen of a node.
    Monitor {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// The node, e.g. n0.
        node: String,
        #[command(flatten)]
        args: MonitorArgs,
    },
    /// Start a node anew.
    Restart {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// The node.
        node: String,
        /// Why, for the audit trail.
        #[arg(long, default_value = "by hand")]
        reason: String,
        /// Do it also if the chain makes no block meanwhile.
        #[arg(long)]
        accept_outage: bool,
    },
    /// Print the last lines of a node's log.
    Log {
        /// The consortium.
        consortium: String,
        /// The chain.
        chain: String,
        /// The node.
        node: String,
        /// How many.
        #[arg(long, default_value_t = 100)]
        lines: u32,
    },
}

const NODE: View = View { key: "node", name: "name", columns: &[] };
const NODES: View = View {
    key: "nodes",
    name: "name",
    columns: &[
        ("CONSORTIUM", "consortium"),
        ("CHAIN", "chain"),
        ("NODE", "node"),
        ("OWNER", "owner"),
        ("HOST", "host"),
        ("STATE", "state"),
        ("HEALTH", "health"),
        ("HEIGHT", "height"),
        ("GEN", "generation"),
        ("REPAIRS LEFT", "repairs_left"),
        ("RPC", "rpc_url"),
        ("REASON", "state_reason"),
        ("SAYS", "health_reason"),
    ],
};

/// Runs a verb.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn run(command: NodeCommand, context: &Context) -> Result<(), CliError> {
    match command {
        NodeCommand::Monitor { consortium, chain, node, args } => {
            monitor::monitor(context, format!("consortiums/{consortium}/chains/{chain}/nodes/{node}"), args).await
        }
        NodeCommand::Get { consortium, chain, node } => {
            context.show(pb::GetNodeRequest { consortium, chain, node }, NODE).await
        }
        NodeCommand::List { consortium, chain, list } => {
            let (consortium, chain) = (consortium.unwrap_or_default(), chain.unwrap_or_default());
            let request = |page_token| pb::ListNodesRequest {
                page_size: PAGE_SIZE,
                page_token,
                filter: list.filter(),
                consortium: consortium.clone(),
                chain: chain.clone(),
            };
            context.show_pages(NODES, request, list.limit).await
        }
        NodeCommand::Restart { consortium, chain, node, reason, accept_outage } => {
            context.confirm(&format!("Restart {node} of {consortium}/{chain}?"))?;
            let validate_only = context.global.dry_run;
            let request_id = String::new();
            let request =
                pb::RestartNodeRequest { request_id, validate_only, consortium, chain, node, reason, accept_outage };
            context.show(request, NODE).await
        }
        NodeCommand::Log { consortium, chain, node, lines } => {
            let request = pb::GetNodeLogRequest { consortium, chain, node, lines_max: lines };
            let response = context.call(request.clone()).await?;
            if context.global.format() == Format::Json {
                let value = hanse_client::json::response::<pb::GetNodeLogRequest>(&response);
                return context.print(Shown { value, view: View { key: "", name: "", columns: &[] } });
            }
            let text: String = response.lines.iter().map(|line| harmless(line) + "\n").collect();
            output::print(&text)?;
            Ok(())
        }
    }
}
