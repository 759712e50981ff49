//! Test networks: homes in a temporary folder, processes that are killed at the end.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hanse_node::config::{CONFIG_FILE, CONFIG_VERSION, NodeConfig, PeerConfig};
use hanse_node::genesis::{
    BLOCK_BYTES_MOST, Fork, GENESIS_FILE, GENESIS_VERSION, Genesis, GenesisAccount, GenesisValidator,
};
use hanse_node::keys::NodeKey;
use serde_json::{Value, json};

pub(crate) const BLOCK_TIME_MS: u64 = 400;
pub(crate) const CHAIN_ID: u64 = 412_346;
/// Foundry's first well-known development account.
pub(crate) const RICH: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
pub(crate) const RICH_KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// Generous: the machine may be slow and busy.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    pub(crate) home: PathBuf,
    pub(crate) key: NodeKey,
    pub(crate) p2p: SocketAddr,
    pub(crate) rpc: SocketAddr,
    child: Option<Child>,
}

pub(crate) struct Net {
    _folder: tempfile::TempDir,
    pub(crate) nodes: Vec<Node>,
    pub(crate) genesis: Genesis,
}

/// One JSON-RPC call; `None` while nobody listens.
pub(crate) fn call(to: SocketAddr, method: &str, params: Value) -> Option<Value> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let (_, body) = http(to, "POST", "/", &[("Content-Type", "application/json")], &body.to_string())?;
    serde_json::from_str(&body).ok()
}

/// One HTTP request on a connection of its own: status and body; `None` while nobody listens.
pub(crate) fn http(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    let host = ("Host", "localhost");
    let has_host = headers.iter().any(|(name, _)| *name == "Host");
    for (name, value) in headers.iter().chain((!has_host).then_some(&host)) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    write!(stream, "{head}\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // Pieces of a chunked body are not needed here: every answer of this server has a length.
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{head}");
    Some((status, body.to_owned()))
}

/// Free ports, all held open until all are chosen.
pub(crate) fn free_ports(count: usize) -> Vec<SocketAddr> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

impl Net {
    /// Homes for `count` validators and `strangers` who list the others but are not listed.
    pub(crate) fn prepare(count: usize, strangers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let all = count + strangers;
        let ports = free_ports(all * 2);
        let nodes: Vec<_> = (0..all)
            .map(|i| {
                let home = folder.path().join(format!("n{i}"));
                let key = NodeKey::load_or_create(&home).unwrap();
                Node { home, key, p2p: ports[i * 2], rpc: ports[i * 2 + 1], child: None }
            })
            .collect();
        let validators = nodes[..count].iter().map(|n| GenesisValidator { public_key: n.key.public_key(), power: 1 });
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let rich = GenesisAccount { balance: "1000000000000000000000".parse().unwrap(), ..Default::default() };
        let genesis = Genesis {
            version: GENESIS_VERSION,
            chain_id: CHAIN_ID,
            genesis_time_ms: now.as_millis() as u64,
            block_time_ms: BLOCK_TIME_MS,
            block_gas_limit: 30_000_000,
            fork: Fork::Osaka,
            block_bytes_max: BLOCK_BYTES_MOST,
            base_fee: 0,
            fee_recipient: None,
            validators: validators.collect(),
            governance: None,
            anchor: None,
            alloc: [(RICH.parse().unwrap(), rich)].into(),
        };
        let net = Self { _folder: folder, nodes, genesis };
        for i in 0..all {
            net.write_files(i, count);
        }
        net
    }

    /// Changes one node's configuration; before it starts.
    pub(crate) fn configure(&self, i: usize, edit: impl FnOnce(&mut NodeConfig)) {
        let node = &self.nodes[i];
        let mut config = NodeConfig::load(&node.home).unwrap();
        edit(&mut config);
        std::fs::write(node.home.join(CONFIG_FILE), config.to_toml().unwrap()).unwrap();
    }

    /// Writes the files anew for another block time; before any node starts.
    pub(crate) fn set_block_time(&mut self, block_time_ms: u64) {
        self.genesis.block_time_ms = block_time_ms;
        for i in 0..self.nodes.len() {
            self.write_files(i, self.genesis.validators.len());
        }
    }

    fn write_files(&self, i: usize, validators: usize) {
        let node = &self.nodes[i];
        let peers = self.nodes[..validators].iter().filter(|peer| peer.home != node.home);
        let config = NodeConfig {
            version: CONFIG_VERSION,
            chain: "test".to_owned(),
            p2p_listen: node.p2p,
            rpc_listen: node.rpc,
            log: "info".to_owned(),
            mempool: Default::default(),
            fast_join: false,
            history: Default::default(),
            rpc: Default::default(),
            metrics: Default::default(),
            peers: peers
                .map(|peer| PeerConfig {
                    node_id: peer.key.node_id(),
                    public_key: peer.key.public_key(),
                    address: peer.p2p,
                })
                .collect(),
        };
        std::fs::write(node.home.join(CONFIG_FILE), config.to_toml().unwrap()).unwrap();
        let genesis = serde_json::to_string_pretty(&self.genesis).unwrap();
        std::fs::write(node.home.join(GENESIS_FILE), genesis).unwrap();
    }

    pub(crate) fn start_all(&mut self) {
        for node in &mut self.nodes {
            node.start();
        }
    }
}

impl Node {
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none());
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_hanse-node"))
            .args(["start", "--home"])
            .arg(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn log_path(&self) -> PathBuf {
        self.home.join("log")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits until the process has ended; its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the node does not end; log:\n{}", tail(&self.log()));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM; returns whether it ended with code 0.
    pub(crate) fn terminate(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.success();
            }
            if Instant::now() > until {
                child.kill().unwrap();
                child.wait().unwrap();
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.rpc)
    }

    /// One JSON-RPC call; `None` while the node does not listen.
    pub(crate) fn call(&self, method: &str, params: Value) -> Option<Value> {
        call(self.rpc, method, params)
    }

    pub(crate) fn result(&self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params.clone());
        let answer = answer.unwrap_or_else(|| panic!("{method} unanswered; log:\n{}", self.log()));
        assert!(answer.get("error").is_none(), "{method} {params}: {answer}");
        answer["result"].clone()
    }

    pub(crate) fn height(&self) -> Option<u64> {
        self.call("consensus_status", json!([]))?["result"]["height"].as_u64()
    }

    pub(crate) fn hash_at(&self, height: u64) -> String {
        let block = self.result("eth_getBlockByNumber", json!([format!("{height:#x}"), false]));
        block["hash"].as_str().unwrap_or_else(|| panic!("no block {height}")).to_owned()
    }

    /// Waits until the node has at least this block.
    pub(crate) fn wait_height(&self, height: u64) -> Duration {
        self.wait(&format!("height {height}"), |node| node.height().is_some_and(|h| h >= height))
    }

    pub(crate) fn wait(&self, what: &str, predicate: impl Fn(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !predicate(self) {
            assert!(
                start.elapsed() < LIMIT,
                "waited for {what}; height {:?}; log:\n{}",
                self.height(),
                tail(&self.log())
            );
            std::thread::sleep(Duration::from_millis(25));
        }
        start.elapsed()
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
