//! `node show`: what a home says, and what the node that runs on it says of itself.
//!
//! It reads files and asks `/ready` on the node's own port, which needs no token. It starts and changes nothing; a store
//! that a running node holds is not opened.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::NodeError;
use crate::config::{CONFIG_FILE, NodeConfig};
use crate::genesis::{GENESIS_FILE, Genesis};
use crate::keys::NodeKey;
use crate::store;

/// How long the running node may take for each step of its answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

pub(super) fn run(home: &Path) -> Result<(), NodeError> {
    let key = NodeKey::load(home)?;
    let config = home.join(CONFIG_FILE).exists().then(|| NodeConfig::load(home)).transpose()?;
    let genesis = home.join(GENESIS_FILE).exists().then(|| Genesis::load(home)).transpose()?;
    let first_block = genesis.as_ref().map(crate::exec::genesis_block).transpose()?.map(|(block, _)| block.hash());
    let is_validator = genesis.as_ref().map(|g| g.validators.iter().any(|v| v.public_key == key.public_key()));
    let running = config.as_ref().and_then(|config| ask(config.rpc_listen));
    let stored = if running.is_some() { Value::Null } else { stored(home) };
    println!(
        "{}",
        json!({
            "node_id": key.node_id(),
            "public_key": key.public_key(),
            "validator": is_validator,
            "genesis_hash": genesis.as_ref().map(Genesis::hash),
            "first_block": first_block,
            "chain_id": genesis.as_ref().map(|g| g.chain_id),
            "p2p_listen": config.as_ref().map(|c| c.p2p_listen),
            "rpc_listen": config.as_ref().map(|c| c.rpc_listen),
            "peers": config.as_ref().map(|c| c.peers.len()),
            "running": running,
            "stored": stored,
            "config": config.as_ref().map(whole),
        })
    );
    Ok(())
}

/// The configuration with the sections that the file leaves out because they are the defaults.
fn whole(config: &NodeConfig) -> Value {
    let mut all = json!(config);
    all["rpc"] = json!(config.rpc);
    all["metrics"] = json!(config.metrics);
    all["history"] = json!(config.history);
    all
}

/// The newest block in the store of a node that does not run.
fn stored(home: &Path) -> Value {
    let path = home.join("data").join("ledger.redb");
    if !path.exists() {
        return Value::Null;
    }
    match store::peek(&path) {
        Ok((height, hash)) => json!({ "height": height, "hash": hash }),
        Err(error @ NodeError::Corrupt { .. }) => json!({ "of_another_kind": error.chain() }),
        Err(error) => json!({ "unreadable": error.chain() }),
    }
}

/// What `/ready` answers; `None` if nobody listens there or it is no node.
fn ask(mut address: SocketAddr) -> Option<Value> {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
