//! Nodes of the embedded ledger as an owner runs them without the platform: their files, and their processes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hanse_node::config::{CONFIG_FILE, CONFIG_VERSION, NodeConfig};
use hanse_node::genesis::{BLOCK_BYTES_MOST, Fork, GENESIS_FILE, GENESIS_VERSION, Genesis, GenesisValidator};
use hanse_node::keys::NodeKey;

/// A chain of these validators that begins now, with these accounts.
pub(crate) fn genesis(chain_id: u64, keys: &[NodeKey], alloc: serde_json::Value) -> Genesis {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Genesis {
        version: GENESIS_VERSION,
        chain_id,
        genesis_time_ms: u64::try_from(now.as_millis()).unwrap(),
        block_time_ms: 300,
        block_gas_limit: 30_000_000,
        fork: Fork::Osaka,
        block_bytes_max: BLOCK_BYTES_MOST,
        base_fee: 0,
        fee_recipient: None,
        validators: keys.iter().map(|key| GenesisValidator { public_key: key.public_key(), power: 1 }).collect(),
        governance: None,
        anchor: None,
        alloc: serde_json::from_value(alloc).unwrap(),
    }
}

/// A node that knows no other.
pub(crate) fn config(p2p_listen: SocketAddr, rpc_listen: SocketAddr) -> NodeConfig {
    NodeConfig {
        version: CONFIG_VERSION,
        chain: "by hand".to_owned(),
        p2p_listen,
        rpc_listen,
        log: "info".to_owned(),
        mempool: Default::default(),
        fast_join: false,
        history: Default::default(),
        rpc: Default::default(),
        metrics: Default::default(),
        peers: Vec::new(),
    }
}

/// Puts both into a home.
pub(crate) fn write(home: &Path, config: &NodeConfig, genesis: &Genesis) {
    std::fs::write(home.join(CONFIG_FILE), config.to_toml().unwrap()).unwrap();
    std::fs::write(home.join(GENESIS_FILE), serde_json::to_string_pretty(genesis).unwrap()).unwrap();
}

/// Starts the node of a home, which writes to `log`.
pub(crate) fn start(home: &Path, log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    Command::new(env!("CARGO_BIN_EXE_hanse"))
        .args(["node", "start", "--home"])
        .arg(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
