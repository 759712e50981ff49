//! A chain that somebody else made: imported, watched while it lives and is gone, not believed when another one answers in its
//! place, never touched, and forgotten.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use hanse_node::config::CONFIG_FILE;
use hanse_node::genesis::GENESIS_FILE;
use hanse_node::keys::NodeKey;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::owner;
use crate::people::{PASSWORD, form_consortium};
use crate::wait::until;

const LONG: Duration = Duration::from_secs(90);

/// A ledger of one node that was started by hand; it ends when it is dropped.
struct Foreign {
    home: PathBuf,
    child: Option<Child>,
}

impl Foreign {
    fn make(home: PathBuf, chain_id: u64, p2p: SocketAddr, rpc: SocketAddr) -> Self {
        let key = NodeKey::load_or_create(&home).unwrap();
        let genesis = owner::genesis(chain_id, &[key], serde_json::json!({}));
        owner::write(&home, &owner::config(p2p, rpc), &genesis);
        Self { home, child: None }
    }

    fn start(&mut self) {
        self.child = Some(owner::start(&self.home, &self.home.join("log")));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What was configured by hand.
    fn files(&self) -> Vec<u8> {
        [CONFIG_FILE, GENESIS_FILE].iter().flat_map(|name| std::fs::read(self.home.join(name)).unwrap()).collect()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Story {
    cluster: Cluster,
    rpc: String,
}

impl Story {
    fn node(&self) -> Result<Value, String> {
        let got = self.cluster.ask("admin", &["node", "get", "trade", "theirs", "n0"]).map_err(|(_, words)| words)?;
        Ok(got["node"].clone())
    }

    /// Waits until the node is of this health and its reason holds these words.
    fn is(&self, health: &str, words: &str) -> Value {
        until(&format!("{health}: {words}"), LONG, || {
            let node = self.node()?;
            let reason = node["state_reason"].as_str().unwrap_or_default();
            if node["health"] == health && reason.contains(words) { Ok(node) } else { Err(node.to_string()) }
        })
    }

    fn refused(&self, who: &str, args: &[&str]) -> String {
        self.cluster.ask(who, args).unwrap_err().1
    }

    fn import(&self, more: &[&str]) -> Result<Value, (i32, String)> {
        let what = ["chain", "import", "trade", "theirs", "--template", "evm-standard", "--owner", "acme"];
        let how = ["--rpc", &self.rpc, "--reason", "we buy from it"];
        self.cluster.ask("admin", &[&what[..], &how, more].concat())
    }
}

fn ports() -> [SocketAddr; 4] {
    let held = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

#[test]
fn a_chain_of_others_is_watched_and_never_touched() {
    let dir = tempfile::tempdir().unwrap();
    let [p2p, rpc, other_p2p, _] = ports();
    let mut theirs = Foreign::make(dir.path().join("theirs"), 4_711, p2p, rpc);
    let mut other = Foreign::make(dir.path().join("other"), 4_712, other_p2p, rpc);
    theirs.start();
    let before = theirs.files();
    let cluster = Cluster::start(dir.path(), "");
    cluster.bootstrap(PASSWORD);
    form_consortium(&cluster, dir.path());
    let story = Story { cluster, rpc: format!("http://{rpc}") };
    pinned(&story);
    watched(&story);
    theirs.kill();
    story.is("UNHEALTHY", "");
    let found = story.cluster.tell("admin", &["chain", "diagnose", "trade", "theirs"]);
    assert!(found.to_string().contains("it is not the platform's"), "{found}");
    other.start();
    let node = story.is("UNHEALTHY", "another chain answers");
    assert!(node["state_reason"].as_str().unwrap().contains("chain id 4712"), "{node}");
    let blocks = story.refused("acme", &["block", "list", "trade", "theirs"]);
    assert!(blocks.contains("no node"), "nothing of another chain is shown: {blocks}");
    other.kill();
    theirs.start();
    story.is("HEALTHY", "");
    assert_eq!(theirs.files(), before);
    forgotten(&story);
}

/// It must be said which chain is meant; the refusal tells what answers.
fn pinned(story: &Story) {
    until("the node answers", LONG, || {
        let words = story.import(&["--chain-id", "4711"]).unwrap_err().1;
        if words.contains("chain id 4711, first block 0x") { Ok(()) } else { Err(words) }
    });
    let (_, words) = story.import(&["--chain-id", "4711"]).unwrap_err();
    let hash = format!("0x{}", words.split("first block 0x").nth(1).unwrap().split(';').next().unwrap());
    let (_, words) = story.import(&["--chain-id", "9", "--first-block", &hash]).unwrap_err();
    assert!(words.contains("pinned are 9 and"), "{words}");
    let by_tenant = ["chain", "import", "trade", "theirs", "--template", "evm-standard", "--owner", "acme"];
    let rest = ["--rpc", &story.rpc, "--reason", "x", "--chain-id", "4711", "--first-block", &hash];
    assert_eq!(
        story.cluster.ask("acme", &[&by_tenant[..], &rest].concat()).unwrap_err().0,
        4,
        "operators alone aim it"
    );
    let made = story.import(&["--chain-id", "4711", "--first-block", &hash]).unwrap();
    assert!(made["chain"]["state"] == "IMPORTED" && made["chain"]["imported"]["first_block"] == hash, "{made}");
    let words = story.import(&["--chain-id", "4711", "--first-block", &hash]).unwrap_err().1;
    assert!(words.contains("exists already"), "{words}");
}

/// Height, blocks, series and lists are as of any chain; every order is refused.
fn watched(story: &Story) {
    let first = story.is("HEALTHY", "")["height"].as_u64().unwrap();
    until("it makes blocks", LONG, || {
        let node = story.node()?;
        if node["height"].as_u64() > Some(first + 2) { Ok(()) } else { Err(node.to_string()) }
    });
    let list = story.cluster.tell("acme", &["chain", "list"]);
    assert_eq!(list["chains"][0]["state"], "IMPORTED", "{list}");
    let block = story.cluster.tell("acme", &["explorer", "block", "trade", "theirs", "1"]);
    assert_eq!(block["block"]["height"], 1, "{block}");
    until("its series", LONG, || {
        let shown = story.cluster.ask("acme", &["chain", "monitor", "trade", "theirs"]).map_err(|(_, words)| words)?;
        let has = |metric: &str| shown.to_string().contains(&format!("\"metric\":\"{metric}\""));
        if has("height") && has("transactions") { Ok(()) } else { Err(shown.to_string()) }
    });
    for (who, args) in [
        ("admin", &["chain", "pause", "trade", "theirs", "--reason", "x", "--yes"][..]),
        ("admin", &["chain", "roll", "trade", "theirs", "--reason", "x", "--yes"]),
        ("admin", &["node", "restart", "trade", "theirs", "n0", "--yes"]),
        ("acme", &["proposal", "open-change-chain", "trade", "theirs", "delete"]),
        ("acme", &["chain", "send", "trade", "theirs", "0x00"]),
    ] {
        let words = story.refused(who, args);
        assert!(words.contains("only watched"), "{args:?}: {words}");
    }
    let usage = story.cluster.tell("admin", &["usage", "get", "acme"]);
    assert!(!usage.to_string().contains("theirs"), "it costs nothing: {usage}");
}

fn forgotten(story: &Story) {
    story.cluster.tell("admin", &["chain", "forget", "trade", "theirs", "--reason", "no more", "--yes"]);
    let list = story.cluster.tell("acme", &["chain", "list"]);
    assert!(list["chains"].as_array().is_none_or(Vec::is_empty), "{list}");
    let audit = story.cluster.tell("admin", &["audit", "list"]).to_string();
    assert!(audit.contains("ImportChain") && audit.contains("ForgetChain"), "{audit}");
}
