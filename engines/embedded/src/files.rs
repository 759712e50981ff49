//! The files that a node reads: `genesis.json` and `config.toml`, version 1, and what `node init` prints.
//!
//! Own small forms instead of the node's crate, which would pull the ledger into every program that only drives it; a
//! test reads them back with the node's own types.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use hanse_engines_core::{ChainPlan, EngineError, GovernancePlan, NodeIdentity, NodePlan, Peer, Result, WayBack};
use serde::{Deserialize, Serialize};

use hanse_engines_evm::hex_of;

pub(crate) const GENESIS_FILE: &str = "genesis.json";
pub(crate) const CONFIG_FILE: &str = "config.toml";
/// Version of both files.
const VERSION: u32 = 1;
/// Every validator has the same power.
const POWER: u64 = 1;
/// Most validators of one chain, as the node has it.
const VALIDATORS_MAX: usize = 100;
/// Largest chain id, as the node has it: what JSON numbers carry exactly.
pub(crate) const CHAIN_ID_MAX: u64 = (1 << 53) - 1;
/// Most decimal digits of a 256-bit amount.
const DIGITS_MAX: usize = 78;
/// Parameters with their ranges, as the node has them. A template may be narrower.
const PARAMETERS: &[(&str, u64, u64)] = &[("block_time_ms", 50, 60_000), ("block_gas_limit", 1_000_000, 1_000_000_000)];

/// Rules of execution of new chains, the newest that the node has.
const FORK: &str = "osaka";

#[derive(Serialize)]
struct Genesis<'a> {
    version: u32,
    chain_id: u64,
    genesis_time_ms: u64,
    block_time_ms: u64,
    block_gas_limit: u64,
    fork: &'a str,
    validators: Vec<Validator<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    governance: Option<Governance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<Anchor<'a>>,
    alloc: BTreeMap<String, Balance<'a>>,
}

#[derive(Serialize)]
struct Validator<'a> {
    public_key: &'a str,
    power: u64,
}

/// Whose audit trail has its heads recorded.
#[derive(Serialize)]
struct Anchor<'a> {
    key: &'a str,
}

#[derive(Serialize)]
struct Balance<'a> {
    balance: &'a str,
}

/// Who may change the chain; a list that is left out lets all.
#[derive(Serialize)]
struct Governance {
    members: Vec<String>,
    threshold: u32,
    /// Keys of nodes besides the validators; members let the first in.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<[String; 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    senders: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployers: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Config<'a> {
    version: u32,
    chain: &'a str,
    p2p_listen: SocketAddr,
    rpc_listen: SocketAddr,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    fast_join: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    mempool: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    history: BTreeMap<&'static str, Keep>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rpc: BTreeMap<&'static str, u64>,
    peers: Vec<ConfigPeer<'a>>,
}

/// How much of the past is kept.
#[derive(Serialize)]
#[serde(untagged)]
enum Keep {
    Last(u64),
    /// `all`.
    All(&'static str),
}

#[derive(Serialize)]
struct ConfigPeer<'a> {
    node_id: &'a str,
    public_key: &'a str,
    address: SocketAddr,
}

#[derive(Deserialize)]
struct Printed {
    node_id: String,
    public_key: String,
}

/// Returns the identity that `node init` printed as the last line.
pub(crate) fn identity(stdout: &str) -> std::result::Result<NodeIdentity, String> {
    let line = stdout.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let printed: Printed = serde_json::from_str(line).map_err(|e| format!("`node init` printed no identity: {e}"))?;
    let plain =
        |text: &str, len: usize| text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !plain(&printed.node_id, 40) || !plain(&printed.public_key, 64) {
        return Err("`node init` printed an identity that is not hex of the right length".into());
    }
    Ok(NodeIdentity { node_id: printed.node_id, public_key: printed.public_key, contribution: None })
}

/// Returns what `node show` of the program before says of going back to it.
pub(crate) fn way_back(code: Option<i32>, stdout: &str, stderr: &str) -> WayBack {
    let Some(code) = code else {
        return WayBack::Unknown("the program before did not answer in time, or was killed".into());
    };
    if code != 0 {
        return WayBack::Closed(format!(
            "the program before does not read the node's home, it ended with code {code}: {}",
            stderr.trim()
        ));
    }
    let shown: serde_json::Value =
        stdout.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    if let Some(reason) = shown["stored"]["of_another_kind"].as_str() {
        return WayBack::Closed(format!("the program before does not read the node's store: {reason}"));
    }
    // So it is also while a node holds the store, or after one that was killed, whose store is mended when it is opened in earnest.
    if let Some(reason) = shown["stored"]["unreadable"].as_str() {
        return WayBack::Unknown(format!("the program before cannot look into the node's store now: {reason}"));
    }
    if shown["node_id"].is_string() {
        return WayBack::Open;
    }
    WayBack::Unknown("the program before does not say what it makes of the node's home".into())
}

/// Returns the genesis: the same inputs give the same bytes.
pub(crate) fn genesis(chain: &ChainPlan, validators: &[NodeIdentity]) -> Result<Vec<u8>> {
    if chain.chain_id == 0 || chain.chain_id > CHAIN_ID_MAX {
        return Err(invalid("chain_id", format!("must be 1 to {CHAIN_ID_MAX}")));
    }
    if validators.is_empty() || validators.len() > VALIDATORS_MAX {
        return Err(invalid("validators", format!("must be 1 to {VALIDATORS_MAX}")));
    }
    if let Some(name) = chain.parameters.keys().find(|name| PARAMETERS.iter().all(|(known, ..)| known != name)) {
        return Err(invalid(name, "is not a parameter of this ledger: leave it out"));
    }
    let mut alloc = BTreeMap::new();
    for (address, balance) in &chain.alloc {
        let field = format!("alloc.{address}");
        if balance.is_empty() || balance.len() > DIGITS_MAX || !balance.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid(&field, "must be an amount in wei, decimal digits only"));
        }
        if alloc.insert(hex_of(&field, address, 20)?, Balance { balance }).is_some() {
            return Err(invalid(&field, "is listed twice in different spelling: keep one"));
        }
    }
    let genesis = Genesis {
        version: VERSION,
        chain_id: chain.chain_id,
        genesis_time_ms: chain.genesis_time_ms,
        block_time_ms: parameter(chain, "block_time_ms")?,
        block_gas_limit: parameter(chain, "block_gas_limit")?,
        fork: FORK,
        validators: validators.iter().map(|v| Validator { public_key: &v.public_key, power: POWER }).collect(),
        governance: chain.governance.as_ref().map(governance).transpose()?,
        anchor: chain.anchor.as_deref().map(|key| Anchor { key }),
        alloc,
    };
    serde_json::to_vec_pretty(&genesis).map_err(|e| invalid("genesis", e.to_string()))
}

/// Governance in the node's form. A list's length and whose accounts they are was decided before; this only refuses what
/// no node would read.
fn governance(plan: &GovernancePlan) -> Result<Governance> {
    let accounts = |field: &str, list: &[String]| {
        let mut all = list.iter().map(|account| hex_of(field, account, 20)).collect::<Result<Vec<_>>>()?;
        all.sort();
        match all.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(invalid(field, format!("{} is listed twice: keep one", pair[0]))),
            None => Ok(all),
        }
    };
    let members = accounts("governance.members", &plan.members)?;
    if plan.threshold == 0 || plan.threshold as usize > members.len() {
        let reason = format!("{} of {} members: choose 1 to their number", plan.threshold, members.len());
        return Err(invalid("governance.threshold", reason));
    }
    let list = |field: &str, list: &Option<Vec<String>>| list.as_ref().map(|all| accounts(field, all)).transpose();
    Ok(Governance {
        members,
        threshold: plan.threshold,
        nodes: plan.restrict_nodes.then_some([]),
        senders: list("governance.senders", &plan.senders)?,
        deployers: list("governance.deployers", &plan.deployers)?,
    })
}

fn parameter(chain: &ChainPlan, name: &str) -> Result<u64> {
    let (low, high) =
        PARAMETERS.iter().find(|(known, ..)| *known == name).map_or((0, 0), |(_, low, high)| (*low, *high));
    match chain.parameters.get(name) {
        Some(value) if (low..=high).contains(value) => Ok(*value),
        Some(value) => Err(invalid(name, format!("{value} is out of range: choose {low} to {high}"))),
        None => Err(invalid(name, format!("is missing: choose {low} to {high}"))),
    }
}

/// Returns the configuration of `node`: its own entry is left out of the peers.
pub(crate) async fn config(node: &NodePlan, identity: &NodeIdentity, peers: &[Peer]) -> Result<String> {
    let mut others = Vec::new();
    for peer in peers.iter().filter(|peer| peer.identity.node_id != identity.node_id) {
        let address = resolve("peer address", &peer.address).await?;
        others.push(ConfigPeer { node_id: &peer.identity.node_id, public_key: &peer.identity.public_key, address });
    }
    // The same configuration whatever order they were given in: an equal file stays untouched.
    others.sort_by(|a, b| a.node_id.cmp(b.node_id));
    let config = Config {
        version: VERSION,
        chain: node.key.object(),
        p2p_listen: SocketAddr::new(node.listen_address(), node.p2p_port),
        rpc_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, node.rpc_port)),
        fast_join: node.parameters.get("fast_join").is_some_and(|value| *value > 0),
        mempool: named(node, &[("mempool_transactions", "transactions_max")], |value| value),
        history: named(node, &[("history_blocks", "blocks"), ("history_states", "states")], keep),
        rpc: named(
            node,
            &[
                ("rpc_calls_per_second", "calls_per_second_max"),
                ("rpc_connections", "connections_max"),
                ("rpc_log_blocks", "log_blocks_max"),
            ],
            |value| value,
        ),
        peers: others,
    };
    toml::to_string(&config).map_err(|e| invalid("configuration", e.to_string()))
}

/// Settings that were voted on, by the names of the node's file. What was not is left out, so that an older program reads it.
fn named<T>(node: &NodePlan, names: &[(&str, &'static str)], form: impl Fn(u64) -> T) -> BTreeMap<&'static str, T> {
    names.iter().filter_map(|(setting, field)| Some((*field, form(*node.parameters.get(*setting)?)))).collect()
}

/// More than can ever be is everything.
fn keep(blocks: u64) -> Keep {
    if blocks >= CHAIN_ID_MAX { Keep::All("all") } else { Keep::Last(blocks) }
}

/// The node's file holds addresses, not names, so that a node starts without a name service.
async fn resolve(field: &str, address: &str) -> Result<SocketAddr> {
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let found = tokio::net::lookup_host(address).await.map_err(|e| invalid(field, format!("{address}: {e}")))?;
    // The smallest, so that two controllers that are told the same addresses write the same file.
    found.min().ok_or_else(|| invalid(field, format!("{address} has no address")))
}

fn invalid(field: &str, reason: impl Into<String>) -> EngineError {
    EngineError::Invalid { field: field.into(), reason: reason.into() }
}
