//! A chain of four nodes, each a container of a real Docker Engine: the engine is looked at and enrolled with the CLI, the
//! chain is made by vote, used, and repaired when a container is killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hanse_fixtures::dockerd::{self, Dockerd};
use serde_json::Value;

use crate::cluster::{Cluster, hanse};
use crate::people::{PASSWORD, TENANTS, form_consortium};
use crate::wait::until;

/// Longest wait for anything on a busy two-core machine.
const LONG: Duration = Duration::from_secs(180);

struct Story {
    // Ends before the engine, or it would start nodes again.
    cluster: Cluster,
    engine: Dockerd,
    dir: PathBuf,
}

impl Story {
    fn begin(dir: &Path) -> Self {
        let engine = Dockerd::spawn(&dir.join("engine")).unwrap();
        // Debug information is most of a test binary, and hosts do not need it.
        let artifact = dir.join("hanse-node");
        let stripped =
            Command::new("strip").arg("-o").arg(&artifact).arg(env!("CARGO_BIN_EXE_hanse")).status().unwrap();
        assert!(stripped.success());
        let cluster = Cluster::start(dir, &format!("node_artifact = \"{}\"", artifact.display()));
        cluster.bootstrap(PASSWORD);
        Self { cluster, engine, dir: dir.to_path_buf() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The engine, pinned by the id that `host scan` shows, with room for four nodes.
    fn enrol(&self) {
        let endpoint = self.engine.endpoint();
        let shown = self.cluster.tell("admin", &["host", "scan", "--docker", &endpoint]);
        let id = shown["engine_id"].as_str().unwrap();
        assert_eq!(id, self.engine.id().unwrap());
        let which = ["host", "enrol", "d1", "--docker", &endpoint, "--engine-id", id];
        let room = ["--peer-address", dockerd::ADDRESS, "--port-first", "20000", "--port-count", "8", "--slots", "4"];
        let limits = ["--node-memory-mib", "512", "--node-cpu-milli", "2000"];
        self.cluster.tell("admin", &[&which[..], &room, &limits].concat());
        let host = until("the engine says what it is", LONG, || {
            let seen = self.cluster.ask("admin", &["host", "get", "d1"]).map_err(|(_, words)| words)?;
            if seen["host"]["facts"]["cpus"].as_u64() > Some(0) { Ok(seen) } else { Err(seen.to_string()) }
        });
        assert_eq!(host["host"]["docker"]["memory_mib"], 512, "{host}");
    }

    fn vote_a_chain_through(&self, treasury: &str) {
        let alloc = format!("{treasury}=1000000000000000000000");
        let what = ["--title", "a chain", "--chain", "supply-1", "--chain-id", "777"];
        let how = ["--param", "block_time_ms=500", "--alloc", &alloc];
        let nodes = TENANTS.map(|tenant| ["--node", tenant]).concat();
        self.cluster.tell("acme", &[&["proposal", "open-create-chain", "trade"][..], &what, &how, &nodes].concat());
        for tenant in &TENANTS[..3] {
            let key = self.path(&format!("{tenant}.key"));
            self.cluster.tell(tenant, &["proposal", "vote", "trade", "p-1", "yes", "--key", &key, "--yes"]);
        }
        until("the operation ends", LONG, || {
            let list = self.cluster.ask("admin", &["operation", "list"]).map_err(|(_, words)| words)?;
            if list["operations"][0]["state"] == "SUCCEEDED" { Ok(()) } else { Err(list.to_string()) }
        });
    }

    fn node(&self, name: &str) -> Result<Value, String> {
        let list = self.cluster.ask("admin", &["node", "list"]).map_err(|(_, words)| words)?;
        let nodes = list["nodes"].as_array().ok_or("no nodes")?;
        nodes.iter().find(|node| node["node"] == name).cloned().ok_or_else(|| format!("no {name}"))
    }

    /// The running containers of nodes, by the engine's own client.
    fn running(&self) -> Vec<String> {
        let list = self.engine.docker(&["ps", "-q", "--no-trunc", "--filter", "label=hanse.role=node"]).unwrap();
        list.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_chain_of_containers_is_made_by_vote_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let story = Story::begin(dir.path());
    story.enrol();
    form_consortium(&story.cluster, dir.path());
    hanse(&["key", "account-generate", &story.path("treasury.key")]);
    let shown: Value =
        serde_json::from_str(&hanse(&["key", "account-show", &story.path("treasury.key"), "-o", "json"])).unwrap();
    story.vote_a_chain_through(shown["address"].as_str().unwrap());
    assert_eq!(story.running().len(), 4, "one container for each node");

    let (key, to) = (story.path("treasury.key"), "0x00000000000000000000000000000000000000aa");
    let what = ["tx", "transfer", "trade", "supply-1", "--key", &key, "--to", to, "--value-wei", "12345"];
    let sent = story.cluster.tell("acme", &[&what[..], &["--yes", "--wait"]].concat());
    assert_eq!(sent["transaction"]["state"], "SUCCEEDED", "{sent}");
    let account = story.cluster.tell("acme", &["explorer", "account", "trade", "supply-1", to]);
    assert_eq!(account["account"]["balance_wei"], "12345", "{account}");

    a_killed_container_is_replaced(&story);
}

/// By Docker's own client, behind the platform's back.
fn a_killed_container_is_replaced(story: &Story) {
    let filters = ["--filter", "label=hanse.role=node", "--filter", "label=hanse.object=trade.supply-1.n1"];
    let killed = story.engine.docker(&[&["ps", "-q", "--no-trunc"][..], &filters].concat()).unwrap();
    story.engine.docker(&["kill", &killed]).unwrap();
    let height = story.node("n0").unwrap()["height"].as_u64().unwrap();
    until("the node is made again and follows its chain", LONG, || {
        let node = story.node("n1")?;
        let well = node["health"] == "HEALTHY" && node["generation"] == 2;
        if well && node["height"].as_u64() > Some(height) { Ok(()) } else { Err(node.to_string()) }
    });
    let running = story.running();
    assert!(running.len() == 4 && !running.contains(&killed), "{running:?}");
    let log = story.cluster.tell("admin", &["node", "log", "trade", "supply-1", "n1"]);
    assert!(log["lines"].as_array().is_some_and(|lines| !lines.is_empty()), "{log}");
}
