//! A chain of four nodes, each a container of a real Docker Engine: the engine is looked at and enrolled with the CLI, the
//! chain is made by vote, used, and repaired when a container is killed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hanse_fixtures::dockerd::{self, Dockerd};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::people::{PASSWORD, form_consortium, node, vote_a_chain};
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
        let mut cluster = Cluster::prepare(dir, "test", &format!("node_artifact = \"{}\"", artifact.display()));
        cluster.add_timing("orphan_grace_ms = 8000");
        (1..=3).for_each(|id| cluster.start_replica(id));
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

    fn node(&self, name: &str) -> Result<Value, String> {
        node(&self.cluster, name)
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
    vote_a_chain(&story.cluster, dir.path(), &[]);
    assert_eq!(story.running().len(), 4, "one container for each node");

    let (key, to) = (story.path("treasury.key"), "0x00000000000000000000000000000000000000aa");
    let what = ["tx", "transfer", "trade", "supply-1", "--key", &key, "--to", to, "--value-wei", "12345"];
    let sent = story.cluster.tell("acme", &[&what[..], &["--yes", "--wait"]].concat());
    assert_eq!(sent["transaction"]["state"], "SUCCEEDED", "{sent}");
    let account = story.cluster.tell("acme", &["explorer", "account", "trade", "supply-1", to]);
    assert_eq!(account["account"]["balance_wei"], "12345", "{account}");

    containers_and_their_host_are_measured(&story);
    a_killed_container_is_replaced(&story);
    orphans_are_found_and_removed(&story);
}

/// Planted behind the platform's back, on the engine and on a local host: what has this cluster's mark is shown, written down
/// and removed; what has another's stays, and so do the nodes.
fn orphans_are_found_and_removed(story: &Story) {
    let status = story.cluster.tell("admin", &["cluster", "status"]);
    let cluster = status["cluster_id"].as_str().unwrap_or_else(|| panic!("{status}"));
    let root = story.dir.join("local-host");
    let which = ["host", "enrol", "l1", "--local", "--root", root.to_str().unwrap(), "--peer-address", "127.0.0.1"];
    let room = ["--port-first", "31000", "--port-count", "4", "--slots", "2"];
    story.cluster.tell("admin", &[&which[..], &room].concat());
    let (mark, stranger) = (format!("hanse.cluster={cluster}"), "hanse.cluster=another".to_owned());
    for (name, owner) in [("planted", &mark), ("strangers", &stranger)] {
        let labels = ["--label", owner, "--label", "hanse.object=trade.gone.n0", "--label"];
        story.engine.docker(&[&["volume", "create"][..], &labels, &["hanse.role=home", name]].concat()).unwrap();
    }
    let homes = [root.join("instances").join(cluster), root.join("instances/another")];
    homes.iter().for_each(|home| std::fs::create_dir_all(home.join("trade.gone.n1/home")).unwrap());

    // The two hosts are looked at on their own, so one may be gone before the other is seen.
    let mut shown = BTreeSet::new();
    until("both are shown", LONG, || {
        let list = story.cluster.ask("admin", &["host", "orphans"]).map_err(|(_, words)| words)?;
        let objects = list["orphans"].as_array().into_iter().flatten().filter_map(|it| it["object"].as_str());
        shown.extend(objects.map(str::to_owned));
        if shown.len() == 2 { Ok(()) } else { Err(list.to_string()) }
    });
    assert!(shown.contains("trade.gone.n0") && shown.contains("trade.gone.n1"), "{shown:?}");
    until("both are removed", LONG, || {
        let volumes = story.engine.docker(&["volume", "ls", "-q"]).map_err(|e| e.to_string())?;
        let gone = !volumes.contains("planted") && !homes[0].join("trade.gone.n1").exists();
        if gone { Ok(()) } else { Err(volumes) }
    });
    let log = story.cluster.tell("admin", &["audit", "list", "--filter", "RemoveOrphan"]);
    let records = log["records"].as_array().unwrap_or_else(|| panic!("{log}"));
    let by_system = |it: &&Value| it["actor"] == "system" && it["outcome"] == "ok";
    assert!(records.len() == 2 && records.iter().filter(by_system).count() == 2, "{log}");
    assert!(homes[1].join("trade.gone.n1/home").exists(), "a stranger's home stays");
    assert!(story.engine.docker(&["volume", "ls", "-q"]).unwrap().contains("strangers"));
    assert_eq!(story.running().len(), 4, "and the nodes run");
    let empty = story.cluster.tell("admin", &["host", "orphans"]);
    assert_eq!(empty["orphans"].as_array().map_or(0, Vec::len), 0, "{empty}");
}

/// Processor, memory and disk of each node's container, and of the engine's host.
fn containers_and_their_host_are_measured(story: &Story) {
    let figures = |args: &[&str]| -> Result<BTreeSet<(String, String)>, String> {
        let shown = story.cluster.ask("admin", args).map_err(|(_, words)| words)?;
        let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
        let all = shown["series"].as_array().into_iter().flatten();
        // What is always zero was not measured.
        let told = all.filter(|it| it["values"]["max"].as_u64() > Some(0));
        Ok(told.map(|it| (text(it, "resource"), text(it, "metric"))).collect())
    };
    until("figures of every container", LONG, || {
        let seen = figures(&["chain", "monitor", "trade", "supply-1"])?;
        let has = |node: usize, metric: &str| {
            seen.contains(&(format!("consortiums/trade/chains/supply-1/nodes/n{node}"), metric.to_owned()))
        };
        let whole = (0..4).all(|node| ["cpu", "memory", "disk_used"].iter().all(|metric| has(node, metric)));
        if whole { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    until("figures of their host", LONG, || {
        let seen = figures(&["host", "monitor", "d1"])?;
        let has = |metric: &&str| seen.contains(&("hosts/d1".to_owned(), (*metric).to_owned()));
        if ["cpu", "load", "memory", "disk_free"].iter().all(has) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
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
