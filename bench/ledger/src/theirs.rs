//! Four validators of injectived, and a fifth node that only follows.
//!
//! Set up as its own documents say (init, gentx, collect-gentxs), then given what serves it best: a block every
//! second, gas of a block raised, a mempool as large as ours, the lowest gas price, a log of errors only. Its second
//! check of waiting transactions after each block stays on: without it, it forgets their nonces and refuses what
//! follows them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::network::{GAS_LIMIT, NODES, Network};
use crate::process::free_ports;
use crate::transfers::Accounts;

/// Its EIP-155 chain id.
pub(crate) const CHAIN_ID: u64 = 777;
const CHAIN: &str = "injective-777";
/// Of every account, in its smallest unit.
const RICH: &str = "1000000000000000000000000inj";
/// What a validator stakes.
const STAKE: &str = "1000000000000000000000inj";

/// Its program, with the folder that its libraries are in.
struct Tool<'a> {
    program: &'a Path,
    libraries: &'a Path,
}

impl Tool<'_> {
    /// Runs a command; returns what it prints.
    fn run(&self, arguments: &[&str], home: &Path) -> Result<String> {
        let output = Command::new(self.program)
            .env("LD_LIBRARY_PATH", self.libraries)
            .args(arguments)
            .arg("--home")
            .arg(home)
            .output()
            .context("start injectived")?;
        if !output.status.success() {
            bail!("injectived {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        // Some of its commands print their result on the one, some on the other.
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }
}

/// Makes the homes and starts the validators.
pub(crate) fn start(program: &Path, folder: &Path, accounts: &Accounts) -> Result<Network> {
    let libraries = program.parent().context("the program's folder")?;
    let tool = Tool { program, libraries };
    let homes: Vec<PathBuf> = (0..=NODES).map(|n| folder.join(format!("n{n}"))).collect();
    for (n, home) in homes.iter().enumerate() {
        tool.run(&["init", &format!("n{n}"), "--chain-id", CHAIN], home)?;
    }
    genesis(&tool, folder, &homes, accounts)?;

    // Of each node: peers, CometBFT's RPC, gRPC, JSON-RPC, its WebSocket.
    let ports = free_ports(5 * homes.len())?;
    let of = |n: usize| &ports[5 * n..5 * n + 5];
    let mut peers = Vec::new();
    for (n, home) in homes.iter().enumerate() {
        let id = tool.run(&["comet", "show-node-id"], home)?;
        peers.push(format!("{}@127.0.0.1:{}", id.trim(), of(n)[0]));
        configure(home)?;
    }
    let peers = peers.join(",");
    let starts = homes.iter().enumerate().map(|(n, home)| {
        let [p2p, rpc, grpc, json_rpc, ws] = *of(n) else { unreachable!("five ports each") };
        let arguments = [
            "start".to_owned(),
            format!("--home={}", home.display()),
            format!("--chain-id={CHAIN}"),
            "--log-level=error".to_owned(),
            format!("--p2p.laddr=tcp://127.0.0.1:{p2p}"),
            format!("--rpc.laddr=tcp://127.0.0.1:{rpc}"),
            "--rpc.pprof_laddr=".to_owned(),
            format!("--grpc.address=127.0.0.1:{grpc}"),
            "--grpc-web.enable=false".to_owned(),
            "--api.enable=false".to_owned(),
            "--json-rpc.enable".to_owned(),
            format!("--json-rpc.address=127.0.0.1:{json_rpc}"),
            format!("--json-rpc.ws-address=127.0.0.1:{ws}"),
            "--json-rpc.api=eth,net,web3".to_owned(),
            format!("--p2p.persistent_peers={peers}"),
            "--minimum-gas-prices=0inj".to_owned(),
        ];
        (arguments.into_iter().map(Into::into).collect(), home.join("log"))
    });
    let mut network = Network {
        name: "injectived",
        rpc: (0..homes.len()).map(|n| SocketAddr::from(([127, 0, 0, 1], of(n)[3]))).collect(),
        data: homes.iter().map(|home| home.join("data")).collect(),
        starts: starts.collect(),
        program: program.to_owned(),
        environment: vec![("LD_LIBRARY_PATH".into(), libraries.into())],
        processes: Vec::new(),
        gas_price: 1,
    };
    for n in 0..NODES {
        network.start(n)?;
    }
    Ok(network)
}

/// Makes the one genesis of all homes.
fn genesis(tool: &Tool<'_>, folder: &Path, homes: &[PathBuf], accounts: &Accounts) -> Result<()> {
    let file = |home: &Path| home.join("config/genesis.json");
    let text = std::fs::read_to_string(file(&homes[0])).context("read a genesis")?.replace("\"stake\"", "\"inj\"");
    let mut genesis: Value = serde_json::from_str(&text).context("a genesis that is no JSON")?;
    let state = &mut genesis["app_state"];
    state["evm"]["params"]["chain_config"]["eip155_chain_id"] = json!(CHAIN_ID.to_string());
    state["txfees"]["params"]["min_gas_price"] = json!("1.000000000000000000");
    genesis["consensus"]["params"]["block"]["max_gas"] = json!(GAS_LIMIT.to_string());
    std::fs::write(file(&homes[0]), genesis.to_string()).context("write a genesis")?;
    for address in accounts.addresses() {
        let said = tool.run(&["debug", "addr", &hex::encode(address)], &homes[0])?;
        let own = said.split_whitespace().find(|word| word.starts_with("inj1") && word.len() == 42);
        tool.run(&["add-genesis-account", own.context("an address")?, RICH, "--chain-id", CHAIN], &homes[0])?;
    }
    let keyring = ["--keyring-backend", "test"];
    for (n, home) in homes[..NODES].iter().enumerate() {
        let name = format!("val{n}");
        tool.run(&[&["keys", "add", name.as_str(), "--output", "json"][..], &keyring].concat(), home)?;
        let said = tool.run(&[&["keys", "show", name.as_str(), "-a"][..], &keyring].concat(), home)?;
        let own = said.split_whitespace().find(|word| word.starts_with("inj1")).context("an address")?;
        tool.run(&["add-genesis-account", own, RICH, "--chain-id", CHAIN], &homes[0])?;
    }
    let signed = folder.join("gentx");
    std::fs::create_dir_all(&signed).context("make a folder")?;
    for (n, home) in homes[..NODES].iter().enumerate() {
        if n > 0 {
            std::fs::copy(file(&homes[0]), file(home)).context("copy the genesis")?;
        }
        let (name, out) = (format!("val{n}"), signed.join(format!("{n}.json")));
        let out = out.to_str().context("a path that is text")?;
        let arguments =
            ["genesis", "gentx", &name, STAKE, "--chain-id", CHAIN, "--ip", "127.0.0.1", "--output-document", out];
        tool.run(&[&arguments[..], &keyring].concat(), home)?;
    }
    let signed = signed.to_str().context("a path that is text")?;
    tool.run(&["genesis", "collect-gentxs", "--gentx-dir", signed], &homes[0])?;
    for home in &homes[1..] {
        std::fs::copy(file(&homes[0]), file(home)).context("copy the genesis")?;
    }
    Ok(())
}

/// What serves it best; each line must be there to be replaced.
const SETTINGS: &[(&str, &str)] = &[
    ("addr_book_strict = ", "false"),
    ("allow_duplicate_ip = ", "true"),
    ("timeout_commit = ", "\"1s\""),
    ("size = ", "50000"),
    ("cache_size = ", "100000"),
];

fn configure(home: &Path) -> Result<()> {
    let path = home.join("config/config.toml");
    let text = std::fs::read_to_string(&path).context("read a configuration")?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (start, value) in SETTINGS {
        let line = lines.iter_mut().find(|line| line.starts_with(start));
        *line.with_context(|| format!("injectived's configuration has no {start}"))? = format!("{start}{value}");
    }
    std::fs::write(&path, lines.join("\n") + "\n").context("write a configuration")
}
