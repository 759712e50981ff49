//! Four validators of the embedded ledger, and a fifth node that only follows.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::network::{GAS_LIMIT, NODES, Network};
use crate::process::free_ports;
use crate::transfers::Accounts;

/// Its EIP-155 chain id.
pub(crate) const CHAIN_ID: u64 = 412_346;

/// Makes the homes and starts the validators.
pub(crate) fn start(program: &Path, folder: &Path, accounts: &Accounts) -> Result<Network> {
    let ports = free_ports(2 * (NODES + 1))?;
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let homes: Vec<PathBuf> = (0..=NODES).map(|n| folder.join(format!("n{n}"))).collect();
    let identities = homes.iter().map(|home| init(program, home)).collect::<Result<Vec<_>>>()?;
    let alloc: serde_json::Map<_, _> = accounts
        .addresses()
        .map(|address| (format!("{address:#x}"), json!({ "balance": "1000000000000000000000000" })))
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?;
    let genesis = json!({
        "version": 1,
        "chain_id": accounts.chain_id(),
        "genesis_time_ms": u64::try_from(now.as_millis()).context("the clock")?,
        "block_time_ms": 1000,
        "block_gas_limit": GAS_LIMIT,
        "fork": "osaka",
        "validators": identities[..NODES]
            .iter()
            .map(|identity| json!({ "public_key": identity["public_key"], "power": 1 }))
            .collect::<Vec<_>>(),
        "alloc": alloc,
    });
    for (n, home) in homes.iter().enumerate() {
        std::fs::write(home.join("genesis.json"), genesis.to_string()).context("write a genesis")?;
        let mut config = format!(
            "version = 1\nchain = \"bench\"\np2p_listen = \"{}\"\nrpc_listen = \"{}\"\nlog = \"warn\"\n\
             [mempool]\ntransactions_max = 50000\nper_sender_max = 10000\ntransaction_bytes_max = 131072\n",
            address(ports[2 * n]),
            address(ports[2 * n + 1]),
        );
        for (other, identity) in identities.iter().enumerate().filter(|(other, _)| *other != n) {
            config += &format!(
                "[[peers]]\nnode_id = {}\npublic_key = {}\naddress = \"{}\"\n",
                identity["node_id"],
                identity["public_key"],
                address(ports[2 * other])
            );
        }
        std::fs::write(home.join("config.toml"), config).context("write a configuration")?;
    }
    let mut network = Network {
        name: "hanse",
        rpc: (0..=NODES).map(|n| address(ports[2 * n + 1])).collect(),
        data: homes.iter().map(|home| home.join("data")).collect(),
        starts: homes
            .iter()
            .map(|home| (vec!["start".into(), "--home".into(), home.into()], home.join("log")))
            .collect(),
        program: program.to_owned(),
        environment: Vec::new(),
        processes: Vec::new(),
        gas_price: 0,
    };
    for n in 0..NODES {
        network.start(n)?;
    }
    Ok(network)
}

fn init(program: &Path, home: &Path) -> Result<Value> {
    let output = Command::new(program).args(["init", "--home"]).arg(home).output().context("start the node")?;
    if !output.status.success() {
        bail!("init: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("what init prints")
}
