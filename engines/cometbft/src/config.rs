//! The node's configuration: the files that the application's own `init` wrote, with what the driver decides put in.
//!
//! Only known settings are set, everything else stays as the application has it: a file of our own would lack what the
//! application does not default. What must be there and is not is an error that names it. Clients' ports are on the
//! host's loopback, whatever the application's defaults are (`injectived` opens gRPC and REST to everybody).
//!
//! Of a node that was taken over from its owner only that is set which the platform must know: ports, peers, and what is set by vote. The
//! rest, the genesis file too, stays as its owner had it. Such a node has contributed nothing (see [`NodeIdentity::contribution`]).

use hanse_engines_core::{EngineError, NodeIdentity, NodePlan, Peer, Result};
use hanse_engines_evm::refused;
use toml::{Table, Value};

use crate::genesis::parameter;
use crate::keys;
use crate::tool::Tool;
use crate::{CONSENSUS_RPC, GRPC, METRICS, WEBSOCKET, port};

pub(crate) const GENESIS_FILE: &str = "config/genesis.json";
pub(crate) const NODE_FILE: &str = "config/config.toml";
pub(crate) const APP_FILE: &str = "config/app.toml";
/// Waiting transactions of a node.
const MEMPOOL: i64 = 5_000;

/// What is set in [`NODE_FILE`] whoever made the node.
const OF_ANY_NODE: &[&str] = &[
    "rpc.laddr",
    "p2p.laddr",
    "p2p.external_address",
    "p2p.persistent_peers",
    "mempool.size",
    "consensus.timeout_commit",
    "consensus.double_sign_check_height",
    "instrumentation.prometheus",
    "instrumentation.prometheus_listen_addr",
];
/// What is set in [`APP_FILE`] whoever made the node.
const OF_ANY_APP: &[&str] =
    &["grpc.address", "json-rpc.enable", "json-rpc.address", "json-rpc.ws-address", "halt-height"];

/// Settings as `table.key` or `key`, and whether the application may lack them.
type Settings = Vec<(&'static str, Value, Needed)>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    /// Without it the node would do something else than was ordered.
    Must,
    /// Newer or older applications have no such setting, and then nothing is to be turned off.
    IfThere,
}
use Needed::{IfThere, Must};

/// Writes genesis and configuration.
pub(crate) async fn write(tool: &Tool<'_>, identity: &NodeIdentity, genesis: &[u8], peers: &[Peer]) -> Result<()> {
    let is_ours = identity.contribution.is_some();
    // CometBFT keeps a sum of the file's bytes, and refuses to start with others.
    if is_ours || keys::read(tool, GENESIS_FILE).await?.is_none() {
        keys::put(tool, GENESIS_FILE, genesis).await?;
    }
    let only = |settings: Settings, names: &[&str]| match is_ours {
        true => settings,
        false => settings.into_iter().filter(|(name, ..)| names.contains(name)).collect(),
    };
    edit(tool, NODE_FILE, only(node_settings(tool.node, identity, peers)?, OF_ANY_NODE)).await?;
    edit(tool, APP_FILE, only(app_settings(tool)?, OF_ANY_APP)).await
}

/// Has the node stop before it executes block `height` when it is started next; 0 is never.
pub(crate) async fn halt_at(tool: &Tool<'_>, height: u64) -> Result<()> {
    let height = i64::try_from(height).map_err(|e| crate::genesis::invalid("height", e.to_string()))?;
    edit(tool, APP_FILE, vec![("halt-height", Value::Integer(height), Must)]).await
}

fn text(value: impl Into<String>) -> Value {
    Value::String(value.into())
}

fn node_settings(node: &NodePlan, identity: &NodeIdentity, peers: &[Peer]) -> Result<Settings> {
    let loopback = |name: &str| port(node, name).map(|port| format!("127.0.0.1:{port}"));
    let listen = std::net::SocketAddr::new(node.listen_address(), node.p2p_port);
    let mut others: Vec<String> = peers
        .iter()
        .filter(|peer| peer.identity.node_id != identity.node_id)
        .map(|peer| format!("{}@{}", peer.identity.node_id, peer.address))
        .collect();
    // The same configuration whatever order they were given in: an equal file stays untouched.
    others.sort();
    let block_time = parameter(&node.parameters, "block_time_ms")?;
    let mempool =
        node.parameters.get("mempool_transactions").and_then(|count| i64::try_from(*count).ok()).unwrap_or(MEMPOOL);
    let check = parameter(&node.parameters, "double_sign_check_height")?;
    Ok(vec![
        ("moniker", text(node.key.object()), Must),
        ("log_level", text("info"), IfThere),
        ("rpc.laddr", text(format!("tcp://{}", loopback(CONSENSUS_RPC)?)), Must),
        ("rpc.pprof_laddr", text(""), IfThere),
        ("p2p.laddr", text(format!("tcp://{listen}")), Must),
        ("p2p.external_address", text(format!("{}:{}", node.host_address, node.p2p_port)), Must),
        ("p2p.persistent_peers", text(others.join(",")), Must),
        // Members know each other's nodes; nobody is found by asking around.
        ("p2p.pex", Value::Boolean(false), Must),
        // Private addresses, and several nodes of one host.
        ("p2p.addr_book_strict", Value::Boolean(false), Must),
        ("p2p.allow_duplicate_ip", Value::Boolean(true), Must),
        ("mempool.size", Value::Integer(mempool), IfThere),
        ("consensus.timeout_commit", text(format!("{block_time}ms")), Must),
        ("consensus.double_sign_check_height", Value::Integer(i64::try_from(check).unwrap_or(0)), Must),
        ("instrumentation.prometheus", Value::Boolean(true), Must),
        ("instrumentation.prometheus_listen_addr", text(loopback(METRICS)?), Must),
    ])
}

fn app_settings(tool: &Tool<'_>) -> Result<Settings> {
    let node = tool.node;
    let loopback = |name: &str| port(node, name).map(|port| text(format!("127.0.0.1:{port}")));
    let halt = node.halt.unwrap_or(0);
    let halt = i64::try_from(halt).map_err(|e| crate::genesis::invalid("height", e.to_string()))?;
    Ok(vec![
        // The chain's own rule (the profile's genesis) says what gas costs; a node asks for nothing more.
        ("minimum-gas-prices", text(format!("0{}", tool.profile.gas_denom)), Must),
        ("api.enable", Value::Boolean(false), IfThere),
        ("grpc.enable", Value::Boolean(true), Must),
        ("grpc.address", loopback(GRPC)?, Must),
        ("grpc-web.enable", Value::Boolean(false), IfThere),
        ("json-rpc.enable", Value::Boolean(true), Must),
        ("json-rpc.address", text(format!("127.0.0.1:{}", node.rpc_port)), Must),
        ("json-rpc.ws-address", loopback(WEBSOCKET)?, Must),
        ("json-rpc.api", text("eth,net,web3"), Must),
        // All in one file at once: at no moment does the node of this generation say that it does not stop.
        ("halt-height", Value::Integer(halt), if node.halt.is_some() { Must } else { IfThere }),
    ])
}

async fn edit(tool: &Tool<'_>, path: &str, settings: Settings) -> Result<()> {
    let found = keys::read(tool, path).await?;
    let found = found.ok_or_else(|| refused(tool.node, format!("{path} is missing: prepare the node again")))?;
    let found = String::from_utf8(found).map_err(|e| refused(tool.node, format!("{path}: {e}")))?;
    let edited = set(&found, settings).map_err(|reason| EngineError::Invalid { field: path.into(), reason })?;
    keys::put(tool, path, edited.as_bytes()).await
}

/// Returns `file` with the settings in it; doing it again changes nothing.
fn set(file: &str, settings: Settings) -> std::result::Result<String, String> {
    let mut table: Table = file.parse().map_err(|e: toml::de::Error| e.to_string())?;
    for (name, value, needed) in settings {
        let (folder, key) = name.rsplit_once('.').map_or((None, name), |(folder, key)| (Some(folder), key));
        let place = match folder {
            None => Some(&mut table),
            Some(folder) => table.get_mut(folder).and_then(Value::as_table_mut),
        };
        match place.and_then(|place| place.get_mut(key)) {
            Some(found) => *found = value,
            None if needed == IfThere => {}
            None => return Err(format!("has no setting `{name}`: this program is not one that the driver knows")),
        }
    }
    toml::to_string(&table).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_are_set_and_everything_else_stays() {
        let file = "halt-height = 0\nother = \"x\"\n[api]\nenable = true\nkeep = [\"a\"]\n";
        let settings =
            || vec![("halt-height", Value::Integer(7), Must), ("api.enable", Value::Boolean(false), IfThere)];
        let once = set(file, settings()).unwrap();
        let table: Table = once.parse().unwrap();
        assert_eq!(table["halt-height"].as_integer(), Some(7));
        assert_eq!(table["other"].as_str(), Some("x"));
        assert_eq!(table["api"]["enable"].as_bool(), Some(false));
        assert_eq!(table["api"]["keep"].as_array().unwrap().len(), 1);
        assert_eq!(set(&once, settings()).unwrap(), once);
    }

    #[test]
    fn what_must_be_there_is_named() {
        assert!(set("", vec![("grpc-web.enable", Value::Boolean(false), IfThere)]).unwrap().is_empty());
        let reason = set("[rpc]\n", vec![("rpc.laddr", text("x"), Must)]).unwrap_err();
        assert!(reason.contains("rpc.laddr"), "{reason}");
    }
}
