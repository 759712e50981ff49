//! `hanse chain adopt` and `give-back`: a chain of others becomes the platform's, node after node, and a node goes back.

use std::time::Duration;

use hanse_client::pb;
use serde_json::{Value, json};

use super::context::Context;
use super::error::CliError;
use super::operation;
use super::view::{Shown, View};
use crate::output::Format;

/// What `chain adopt` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct AdoptArgs {
    /// The consortium, which has voted for it: `hanse proposal open-change-chain CONSORTIUM CHAIN adopt`.
    consortium: String,
    /// The chain, which was imported.
    chain: String,
    /// Where a node is: its enrolled host, and its home folder there; once for each node, e.g. n0=h1:/srv/ledger.
    #[arg(long = "node", value_name = "NODE=HOST:HOME", required = true, value_parser = parse_node)]
    nodes: Vec<(String, String, String)>,
    /// Have the platform ask the process that holds this node's home to stop (SIGTERM) when its turn comes, e.g. n0; once for each such
    /// node. For others the platform waits until their owner has stopped them.
    #[arg(long = "stop", value_name = "NODE", conflicts_with = "stop_all")]
    stop: Vec<String>,
    /// As --stop with every node.
    #[arg(long)]
    stop_all: bool,
    /// Why, for the audit trail.
    #[arg(long)]
    reason: String,
}

/// What `chain give-back` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct GiveBackArgs {
    /// The consortium.
    consortium: String,
    /// The chain.
    chain: String,
    /// The node, e.g. n0.
    node: String,
    /// Why, for the audit trail.
    #[arg(long)]
    reason: String,
}

/// Longest look at all homes, if no other limit is given: the program is uploaded to hosts that have none yet.
const LOOK_LIMIT: Duration = Duration::from_secs(120);

const CHAIN: View = View { key: "chain", name: "name", columns: &[] };
const NODE: View = View { key: "node", name: "name", columns: &[] };
const FINDINGS: View = View {
    key: "findings",
    name: "check",
    columns: &[
        ("NODE", "node"),
        ("CHECK", "check"),
        ("SEVERITY", "severity"),
        ("FOUND", "found"),
        ("WHAT TO DO", "advice"),
    ],
};

/// Runs `hanse chain adopt`: what is found in the homes is shown; nothing else is done with `--dry-run`.
///
/// # Errors
/// The call or the operation failed, or the user did not agree.
pub(crate) async fn adopt(args: AdoptArgs, context: &Context) -> Result<(), CliError> {
    let AdoptArgs { consortium, chain, nodes, stop, stop_all, reason } = args;
    if let Some(unknown) = stop.iter().find(|name| nodes.iter().all(|(node, ..)| node != *name)) {
        return Err(CliError::local(format!("--stop {unknown} is none of the nodes"), "Name it by --node too."));
    }
    if !context.global.dry_run {
        let how = match (stop_all, stop.as_slice()) {
            (true, _) => "The platform stops each node when its turn comes".to_owned(),
            (false, []) => "Its owner stops each node when its turn comes".to_owned(),
            (false, some) => {
                format!("The platform stops {} when its turn comes, its owner each other", some.join(", "))
            }
        };
        context.confirm(&format!(
            "Take {consortium}/{chain} over? {how}; its home is copied, its key set aside there, and the platform runs it from then on."
        ))?;
    }
    let node = |(node, host, home)| {
        let stop = stop_all || stop.contains(&node);
        pb::AdoptedNode { node, host, home, stop }
    };
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    let nodes = nodes.into_iter().map(node).collect();
    let request = pb::AdoptChainRequest { request_id, validate_only, consortium, chain, nodes, reason };
    let response = context.call_long(request, LOOK_LIMIT).await?;
    let mut value = hanse_client::json::response::<pb::AdoptChainRequest>(&response);
    let view = match (context.global.format(), validate_only) {
        (Format::Table, true) => {
            value["findings"] = in_rows(&value["homes"]);
            FINDINGS
        }
        _ => CHAIN,
    };
    context.print(Shown { value, view })?;
    if !response.operation.is_empty() && context.waits() {
        operation::wait(context, &response.operation).await?;
    }
    Ok(())
}

/// One row a finding, with its node.
fn in_rows(homes: &Value) -> Value {
    let of_home = |home: &Value| -> Vec<Value> {
        let findings = home["findings"].as_array().cloned().unwrap_or_default();
        let with_node = |mut finding: Value| {
            finding["node"] = home["node"].clone();
            finding
        };
        findings.into_iter().map(with_node).collect()
    };
    json!(homes.as_array().into_iter().flatten().flat_map(of_home).collect::<Vec<_>>())
}

/// Runs `hanse chain give-back`.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn give_back(args: GiveBackArgs, context: &Context) -> Result<(), CliError> {
    let GiveBackArgs { consortium, chain, node, reason } = args;
    context.confirm(&format!(
        "Give {node} of {consortium}/{chain} back to its owner? It is stopped here, and the owner can start it again; the taking over of \
         the chain halts."
    ))?;
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    context.show(pb::GiveBackNodeRequest { request_id, validate_only, consortium, chain, node, reason }, NODE).await
}

fn parse_node(text: &str) -> Result<(String, String, String), String> {
    let parts = text.split_once('=').and_then(|(node, rest)| Some((node, rest.split_once(':')?)));
    match parts {
        Some((node, (host, home))) if !node.is_empty() && !host.is_empty() && home.starts_with('/') => {
            Ok((node.to_owned(), host.to_owned(), home.to_owned()))
        }
        Some(_) | None => Err("NODE=HOST:HOME is needed, HOME an absolute path: n0=h1:/srv/ledger".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_node_is_named_with_its_host_and_home() {
        assert_eq!(parse_node("n0=h1:/srv/a:b=c").unwrap(), ("n0".into(), "h1".into(), "/srv/a:b=c".into()));
        for bad in ["n0", "n0=h1", "n0=/srv", "=h1:/srv", "n0=:/srv", "n0=h1:srv"] {
            assert!(parse_node(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn findings_are_shown_one_a_row_with_their_node() {
        let homes = json!([
            { "node": "n0", "findings": [{ "check": "home" }, { "check": "key" }] },
            { "node": "n1", "findings": [{ "check": "home" }] },
        ]);
        let rows = in_rows(&homes);
        let named: Vec<_> = rows.as_array().unwrap().iter().map(|row| (&row["node"], &row["check"])).collect();
        assert_eq!(
            named,
            [(&json!("n0"), &json!("home")), (&json!("n0"), &json!("key")), (&json!("n1"), &json!("home"))]
        );
    }
}
