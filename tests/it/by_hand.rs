//! The demo story by hand: every step with the CLI, nodes provisioned over real SSH and locally, the leader killed while
//! they are, a ledger node killed afterwards, and an outside client (`cast`) reading the chain.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hanse_fixtures::sshd::Sshd;
use serde_json::Value;

use crate::anchored::the_chain_holds_the_audit_trail;
use crate::cluster::{Cluster, hanse};
use crate::dev::processes_of;
use crate::governed;
use crate::people::{PASSWORD, form_consortium};
use crate::wait::until;

/// Longest wait for provisioning on a busy two-core machine, a leader's death included.
pub(crate) const PROVISION_MAX: Duration = Duration::from_secs(180);

/// Our program as hosts get it, in `dir`: debug information is most of a test binary, and hosts do not need it.
pub(crate) fn for_hosts(dir: &Path) -> PathBuf {
    let artifact = dir.join("hanse-node");
    let stripped = Command::new("strip").arg("-o").arg(&artifact).arg(env!("CARGO_BIN_EXE_hanse")).status().unwrap();
    assert!(stripped.success());
    artifact
}

/// Everything of the story that a later step needs.
pub(crate) struct Story {
    pub(crate) cluster: Cluster,
    pub(crate) sshd: Vec<Sshd>,
    dir: PathBuf,
    artifact: PathBuf,
}

impl Story {
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn with_password(&self, token: &str, args: &[&str]) -> Value {
        let done = self.cluster.ask_with(token, args, &[("HANSE_PASSWORD", PASSWORD)]);
        done.unwrap_or_else(|(code, words)| panic!("hanse {args:?}: exit {code}: {words}"))
    }

    /// A cluster of three with an administrator, and three sshd beside it.
    fn begin(dir: &Path) -> Self {
        let artifact = for_hosts(dir);
        let mut sshd: Vec<Sshd> = (1..=3).map(|n| Sshd::spawn(&dir.join(format!("sshd{n}"))).unwrap()).collect();
        // One identity for the platform: every host lets in the first one's key.
        let key = std::fs::read(dir.join("sshd1/authorized_keys")).unwrap();
        for host in &mut sshd {
            std::fs::write(host.log_path.with_file_name("authorized_keys"), &key).unwrap();
        }
        let config = format!(
            "ssh_identity = \"{}\"\nnode_artifact = \"{}\"",
            sshd[0].identity_path.display(),
            artifact.display()
        );
        let mut cluster = Cluster::prepare(dir, "test", &config);
        cluster.add_timing("anchor_ms = 2000");
        cluster.add_timing("hang_ms = 12000");
        (1..=3).for_each(|id| cluster.start_replica(id));
        let story = Self { cluster, sshd, dir: dir.to_path_buf(), artifact };
        story.cluster.bootstrap(PASSWORD);
        story
    }

    /// Three hosts behind SSH, with the fingerprint that `host scan` shows, and one local.
    fn enrol_hosts(&self) {
        let ports = free_ports(4, 4);
        for (n, host) in self.sshd.iter().enumerate() {
            let (name, port, first) = (format!("h{}", n + 1), host.port.to_string(), ports[n].to_string());
            let shown = self.cluster.tell("admin", &["host", "scan", "127.0.0.1", "--port", &port]);
            assert_eq!(shown["fingerprint"].as_str().unwrap(), host.fingerprint);
            let root = host.root.display().to_string();
            self.cluster.tell(
                "admin",
                &[
                    "host",
                    "enrol",
                    &name,
                    "--ssh",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--user",
                    &host.user,
                    "--fingerprint",
                    &host.fingerprint,
                    "--root",
                    &root,
                    "--peer-address",
                    "127.0.0.1",
                    "--port-first",
                    &first,
                    "--port-count",
                    "4",
                    "--slots",
                    "2",
                ],
            );
        }
        let (root, first) = (self.path("local-host"), ports[3].to_string());
        self.cluster.tell(
            "admin",
            &[
                "host",
                "enrol",
                "h4",
                "--local",
                "--root",
                &root,
                "--peer-address",
                "127.0.0.1",
                "--port-first",
                &first,
                "--port-count",
                "4",
                "--slots",
                "2",
            ],
        );
    }

    fn vote(&self, tenant: &str, choice: &str) -> Result<Value, (i32, String)> {
        let key = self.path(&format!("{tenant}.key"));
        self.cluster.ask(tenant, &["proposal", "vote", "trade", "p-1", choice, "--key", &key, "--yes"])
    }

    fn operation(&self) -> Result<Value, String> {
        let list = self.cluster.ask("admin", &["operation", "list"]).map_err(|(_, words)| words)?;
        let first = list["operations"].get(0).cloned().ok_or("no operation yet")?;
        Ok(first)
    }

    pub(crate) fn nodes(&self) -> Result<Vec<Value>, String> {
        let list = self.cluster.ask("admin", &["node", "list"]).map_err(|(_, words)| words)?;
        Ok(list["nodes"].as_array().cloned().unwrap_or_default())
    }
}

/// First ports of `blocks` runs of so many free ports, below the range of outgoing connections.
pub(crate) fn free_ports(each: u16, blocks: usize) -> Vec<u16> {
    let start = 10_000 + u16::try_from(std::process::id() % 4_000).unwrap() * 4;
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let firsts = (start..31_000).step_by(usize::from(each)).filter(|first| (*first..first + each).all(free));
    let found: Vec<u16> = firsts.take(blocks).collect();
    assert_eq!(found.len(), blocks, "not enough free ports");
    found
}

/// Runs the real `cast` and returns what it printed; its npm wrapper ends with 0 also when it fails.
fn cast(args: &[&str]) -> Result<String, String> {
    let program = std::env::var("HANSE_CAST").unwrap_or_else(|_| "cast".into());
    let output = Command::new(&program).args(args).output().unwrap_or_else(|error| {
        panic!("{program}: {error}; `cargo xtask parts` installs it and prints its path (HANSE_CAST)")
    });
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() && !err.contains("Error") { Ok(out.trim().to_string()) } else { Err(err.into_owned()) }
}

#[test]
fn a_chain_over_ssh_survives_a_dead_leader_and_a_dead_node() {
    let dir = tempfile::tempdir().unwrap();
    let mut story = Story::begin(dir.path());
    story.enrol_hosts();
    a_host_with_another_key_is_distrusted(&story);
    crate::ways::hosts_are_reached_by_other_ways(&mut story);
    form_consortium(&story.cluster, dir.path());
    hanse(&["key", "account-generate", &story.path("treasury.key")]);
    let shown: Value =
        serde_json::from_str(&hanse(&["key", "account-show", &story.path("treasury.key"), "-o", "json"])).unwrap();
    let treasury = shown["address"].as_str().unwrap().to_string();

    let alloc = format!("{treasury}=1000000000000000000000");
    let open = [
        "proposal",
        "open-create-chain",
        "trade",
        "--title",
        "a chain",
        "--chain",
        "supply-1",
        "--chain-id",
        "777",
        "--param",
        "block_time_ms=2000",
        "--alloc",
        &alloc,
        "--node",
        "acme",
        "--node",
        "bocom",
        "--node",
        "sgcc",
        "--node",
        "huaneng",
        "--anchor",
    ];
    let governors = governed::governors(&story);
    let flags = governors.iter().flat_map(|governor| ["--governor", governor]);
    let open: Vec<&str> = open.into_iter().chain(flags).collect();
    let opened = story.cluster.tell("acme", &open);
    assert_eq!(opened["proposal"]["outcome"], "OPEN", "{opened}");
    bad_ballots(&story);
    story.vote("acme", "yes").unwrap();
    story.vote("bocom", "yes").unwrap();
    let decided = story.vote("sgcc", "yes").unwrap();
    assert_eq!(decided["proposal"]["outcome"], "PASSED", "{decided}");

    // The leader dies by SIGKILL in the middle of provisioning: some node is under way and none runs yet.
    until("provisioning is under way", PROVISION_MAX, || {
        let steps = story.operation()?["steps"].as_array().cloned().unwrap_or_default();
        let done = steps.iter().filter(|step| step["state"] == "DONE").count();
        if done >= 2 && done < steps.len() { Ok(()) } else { Err(format!("{done} of {} steps", steps.len())) }
    });
    let leader = story.cluster.leader("admin");
    story.cluster.kill(leader);
    until("the next leader finishes the operation", PROVISION_MAX, || {
        let operation = story.operation()?;
        if operation["state"] == "SUCCEEDED" { Ok(()) } else { Err(operation.to_string()) }
    });
    nothing_doubled(&story);
    steps_say_what_was_done(&story);
    story.cluster.start_replica(leader);

    let transfer = the_chain_works(&story, &treasury);
    governed::members_change_their_chain(&story, &treasury);
    a_dead_node_is_restarted(&story);
    cast_reads(&story, &transfer);
    the_audit_verifies(&story, dir.path());
    let rpc = format!("http://127.0.0.1:{}", story.nodes().unwrap()[0]["rpc_port"]);
    the_chain_holds_the_audit_trail(&story.cluster, dir.path(), &rpc);
    crate::watched::a_node_that_hangs_is_started_anew(&story);
    crate::watched::how_often_is_said(&story);
    crate::watched::what_is_wrong_is_told_until_it_is_gone(&mut story);
    governed::a_node_without_a_quorum_says_so(&mut story);
    stop_nodes(&story);
}

/// A host that shows another key than the pinned one is never used, and the state says why.
fn a_host_with_another_key_is_distrusted(story: &Story) {
    let host = &story.sshd[0];
    let (port, wrong) = (host.port.to_string(), &story.sshd[1].fingerprint);
    story.cluster.tell(
        "admin",
        &[
            "host",
            "enrol",
            "h5",
            "--accept-findings",
            "--ssh",
            "127.0.0.1",
            "--port",
            &port,
            "--user",
            &host.user,
            "--fingerprint",
            wrong,
            "--root",
            "/nowhere",
            "--peer-address",
            "127.0.0.1",
            "--port-first",
            "31000",
            "--port-count",
            "4",
            "--slots",
            "2",
        ],
    );
    until("the host is distrusted", PROVISION_MAX, || {
        let seen = story.cluster.ask("admin", &["host", "get", "h5"]).map_err(|(_, words)| words)?;
        if seen["host"]["state"] == "DISTRUSTED" { Ok(()) } else { Err(seen.to_string()) }
    });
}

/// Each a typed refusal with its reason, and the tally untouched.
fn bad_ballots(story: &Story) {
    let key = |tenant: &str| story.path(&format!("{tenant}.key"));
    story.with_password("admin", &["tenant", "create", "stranger", "--owner", "owner@stranger"]);
    story.with_password("stranger", &["login", "owner@stranger"]);
    let by_stranger = ["proposal", "vote", "trade", "p-1", "yes", "--key", &key("acme"), "--yes"];
    let (code, words) = story.cluster.ask("stranger", &by_stranger).unwrap_err();
    assert!((3..=5).contains(&code), "exit {code}: {words}");
    let wrong_key = ["proposal", "vote", "trade", "p-1", "yes", "--key", &key("bocom"), "--yes"];
    let (_, words) = story.cluster.ask("acme", &wrong_key).unwrap_err();
    assert!(words.contains("WRONG_KEY"), "{words}");
    story.vote("huaneng", "no").unwrap();
    let (_, words) = story.vote("huaneng", "yes").unwrap_err();
    assert!(words.contains("ALREADY_VOTED"), "{words}");
    let seen = story.cluster.tell("acme", &["proposal", "get", "trade", "p-1"]);
    assert_eq!(seen["proposal"]["ballots"].as_array().unwrap().len(), 1, "{seen}");
}

/// What was done on a host is kept with the step it was done for, and nothing that is secret.
fn steps_say_what_was_done(story: &Story) {
    let shown = story.cluster.tell("admin", &["operation", "output", "op-1", "--step", "prepare", "--node", "n0"]);
    let steps = shown["operation"]["steps"].as_array().unwrap();
    let output = steps[0]["output"].as_str().unwrap_or_default();
    assert!(steps.len() == 1 && output.contains("node init") && output.contains("ended with code 0"), "{shown}");
    let started = story.cluster.tell("admin", &["operation", "output", "op-1", "--step", "start"]);
    assert!(started.to_string().contains("runs"), "{started}");
}

/// One process for each node, on the host and port that the state says, and no other.
fn nothing_doubled(story: &Story) {
    let nodes = story.nodes().unwrap();
    assert_eq!(nodes.len(), 4);
    assert!(nodes.iter().all(|node| node["state"] == "RUNNING"), "{nodes:?}");
    let running: Vec<String> =
        processes_of(&story.dir).into_iter().filter(|line| line.contains(" node start ")).collect();
    assert_eq!(running.len(), 4, "{running:#?}");
}

/// A transfer found in the explorer, and a contract; returns the transfer's hash.
fn the_chain_works(story: &Story, treasury: &str) -> String {
    let key = story.path("treasury.key");
    let to = "0x00000000000000000000000000000000000000aa";
    let sent = story.cluster.tell(
        "acme",
        &["tx", "transfer", "trade", "supply-1", "--key", &key, "--to", to, "--value-wei", "12345", "--yes", "--wait"],
    );
    let hash = sent["transaction"]["hash"].as_str().unwrap_or_else(|| panic!("{sent}")).to_string();
    let seen = story.cluster.tell("acme", &["explorer", "tx", "trade", "supply-1", &hash]);
    assert_eq!(seen["transaction"]["from"].as_str().unwrap().to_lowercase(), treasury);
    assert_eq!(seen["transaction"]["state"], "SUCCEEDED", "{seen}");
    let account = story.cluster.tell("acme", &["explorer", "account", "trade", "supply-1", to]);
    assert_eq!(account["account"]["balance_wei"], "12345", "{account}");

    let code = format!("0x{}", include_str!("../../fixtures/contracts/Notary.bin").trim());
    let deploy =
        ["contract", "deploy", "trade", "supply-1", "notary", "--bytecode", &code, "--key", &key, "--yes", "--wait"];
    story.cluster.tell("acme", &deploy);
    // count() of a fresh notary is 0.
    let count =
        story.cluster.tell("acme", &["contract", "call", "trade", "supply-1", "notary", "--data", "0x06661abd"]);
    assert!(count.to_string().contains(&"0".repeat(64)), "{count}");
    hash
}

/// SIGKILL to one ledger node: blocks go on, the platform sees it, starts it again within its budget, and says so.
fn a_dead_node_is_restarted(story: &Story) {
    let victim = story.nodes().unwrap().into_iter().find(|node| node["node"] == "n1").unwrap();
    let pid = i32::try_from(victim["pid"].as_u64().unwrap()).unwrap();
    let before = victim["height"].as_u64().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("the node runs again as its second generation and has caught up", PROVISION_MAX, || {
        let nodes = story.nodes()?;
        let node = nodes.iter().find(|node| node["node"] == "n1").unwrap();
        let best = nodes.iter().filter_map(|node| node["height"].as_u64()).max().unwrap_or(0);
        let height = node["height"].as_u64().unwrap_or(0);
        let well = node["state"] == "RUNNING" && node["health"] == "HEALTHY" && node["generation"] == 2;
        if well && best > before + 2 && height + 2 >= best { Ok(()) } else { Err(node.to_string()) }
    });
    let audit = story.cluster.tell("admin", &["audit", "list"]).to_string();
    assert!(audit.contains("RestartNode") && audit.contains("/nodes/n1"), "{audit}");
}

/// An outside client reads the block and the transaction from every node.
fn cast_reads(story: &Story, hash: &str) {
    for node in story.nodes().unwrap() {
        let url = format!("http://127.0.0.1:{}", node["rpc_port"]);
        let block = until("cast reads the transaction", PROVISION_MAX, || {
            cast(&["receipt", hash, "blockNumber", "--rpc-url", &url])
        });
        let in_block = cast(&["block", &block, "--json", "--rpc-url", &url]).unwrap();
        assert!(in_block.contains(hash), "{in_block}");
        assert_eq!(cast(&["chain-id", "--rpc-url", &url]).unwrap(), "777");
    }
}

/// The exported chain of audit entries verifies against the head, and one changed letter is found.
fn the_audit_verifies(story: &Story, dir: &Path) {
    story.cluster.tell("admin", &["audit", "verify"]);
    let exported = Command::new(env!("CARGO_BIN_EXE_hanse"))
        .args(["audit", "export"])
        .envs(story.cluster.environment("admin"))
        .output()
        .unwrap();
    let text = String::from_utf8(exported.stdout).unwrap();
    let file = dir.join("audit.jsonl");
    std::fs::write(&file, text.replacen("CastBallot", "CastBallut", 1)).unwrap();
    let verify = ["audit", "verify", file.to_str().unwrap()];
    let (code, words) = story.cluster.ask("admin", &verify).unwrap_err();
    assert_eq!(code, 1, "{words}");
}

/// Ends the ledger nodes of this test; their supervisors end with them.
fn stop_nodes(story: &Story) {
    until("the nodes end", PROVISION_MAX, || {
        let lines = pids_of(&story.dir, " node start ");
        for pid in &lines {
            let pid = rustix::process::Pid::from_raw(*pid).unwrap();
            // It may have ended by itself in this moment.
            let _ended_by_itself = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if lines.is_empty() { Ok(()) } else { Err(format!("{lines:?}")) }
    });
}

/// Processes whose command line names something below `dir` and holds `words`.
pub(crate) fn pids_of(dir: &Path, words: &str) -> Vec<i32> {
    let needle = dir.canonicalize().unwrap().display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let pid = entry.file_name().to_str()?.parse().ok()?;
        (line.contains(&needle) && line.contains(words)).then_some(pid)
    });
    pids.collect()
}

impl Drop for Story {
    fn drop(&mut self) {
        // Replicas first, or they would start the nodes again; then whatever a failed test left.
        self.cluster.stop();
        for pid in pids_of(&self.dir, " node start ").into_iter().chain(pids_of(&self.dir, " host-supervise ")) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ended_by_itself = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        drop(std::fs::remove_file(&self.artifact));
    }
}
