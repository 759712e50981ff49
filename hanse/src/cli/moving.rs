//! `hanse chain move-node`: a node goes to another host.

use hanse_client::pb;

use super::context::Context;
use super::error::CliError;
use super::life;
use super::view::View;

/// Which node, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct MoveArgs {
    /// The consortium.
    consortium: String,
    /// The chain.
    chain: String,
    /// The node, e.g. n2.
    node: String,
    /// Where it goes; by default the host that suits the chain best. The host where it is takes a move back whose fence is not
    /// there yet.
    #[arg(long, value_name = "HOST")]
    to: Option<String>,
    /// Why, for the audit trail.
    #[arg(long)]
    reason: String,
    /// Do it also if the chain makes no block meanwhile.
    #[arg(long)]
    accept_outage: bool,
    /// Its host is lost for good: give its key up. The node gets a new key and follows; members let it validate; what is left on
    /// the lost host is removed as soon as it answers, and never run again.
    #[arg(long)]
    lost: bool,
}

const NODE: View = View { key: "node", name: "name", columns: &[] };

/// Runs it.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn run(args: MoveArgs, context: &Context) -> Result<(), CliError> {
    let MoveArgs { consortium, chain, node, to, reason, accept_outage, lost } = args;
    let to_host = to.unwrap_or_default();
    let where_to = if to_host.is_empty() { "the best other host".to_owned() } else { format!("host {to_host}") };
    let what = match lost {
        true => format!(
            "Give up the key of {node} of {consortium}/{chain} and make it anew at {where_to}? This cannot be undone."
        ),
        false => format!("Move {node} of {consortium}/{chain} to {where_to}? It is down until it is there."),
    };
    context.confirm(&what)?;
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    let request = pb::MoveNodeRequest {
        request_id,
        validate_only,
        consortium,
        chain,
        node,
        to_host,
        reason,
        accept_outage,
        lost,
    };
    life::order_of(request, NODE, context, |it| &it.operation).await
}
