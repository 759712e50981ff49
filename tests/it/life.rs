//! A chain's life after it was made, by the CLI alone, on local hosts with real nodes: paused and resumed, grown by a node and
//! shrunk again, deleted by vote, kept, and deleted for good; the leader dies twice. Nothing of the chain is left then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hanse_fixtures::sshd::Sshd;
use serde_json::Value;

use crate::by_hand::{for_hosts, free_ports, pids_of};
use crate::cluster::{Cluster, hanse};
use crate::wait::until;

/// Longest wait for anything on a busy two-core machine.
pub(crate) const LONG: Duration = Duration::from_secs(180);
const PASSWORD: &str = "correct horse battery staple";
pub(crate) const TENANTS: [&str; 4] = ["acme", "bocom", "sgcc", "huaneng"];
/// What runs of a node besides its supervisor.
pub(crate) const PROCESS: &str = " node start ";

pub(crate) struct Story {
    pub(crate) cluster: Cluster,
    pub(crate) dir: PathBuf,
    /// Number of the last proposal.
    last: u32,
}

impl Story {
    /// Three replicas and two hosts of this machine, `h1` and `h2`.
    pub(crate) fn begin(dir: &Path) -> Self {
        Self::begin_on(dir, None)
    }

    /// The same with `h2` behind SSH, if one is given.
    pub(crate) fn begin_on(dir: &Path, second: Option<&Sshd>) -> Self {
        let config = second.map(|ssh| {
            let (identity, program) = (ssh.identity_path.display(), for_hosts(dir));
            format!("ssh_identity = \"{identity}\"\nnode_artifact = \"{}\"", program.display())
        });
        let cluster = Cluster::start(dir, &config.unwrap_or_default());
        let story = Self { cluster, dir: dir.to_path_buf(), last: 0 };
        story.cluster.bootstrap(PASSWORD);
        for (n, first) in (1..).zip(free_ports(12, 2)) {
            let (name, root, first) = (format!("h{n}"), story.path(&format!("host{n}")), first.to_string());
            let place = ["--root", &root, "--peer-address", "127.0.0.1", "--port-first", &first];
            let room = ["--port-count", "12", "--slots", "6"];
            let enrol = |way: &[&str]| {
                story.cluster.tell("admin", &[&["host", "enrol", &name][..], way, &place, &room].concat())
            };
            match second.filter(|_| n == 2) {
                None => enrol(&["--local"]),
                Some(ssh) => {
                    let (port, user) = (ssh.port.to_string(), ssh.user.as_str());
                    let pinned = ssh.fingerprint.as_str();
                    enrol(&["--ssh", "127.0.0.1", "--port", &port, "--user", user, "--fingerprint", pinned])
                }
            };
        }
        story
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn with_password(&self, token: &str, args: &[&str]) {
        let done = self.cluster.ask_with(token, args, &[("HANSE_PASSWORD", PASSWORD)]);
        done.unwrap_or_else(|(code, words)| panic!("hanse {args:?}: exit {code}: {words}"));
    }

    pub(crate) fn form_consortium(&self) {
        for tenant in TENANTS {
            let owner = format!("owner@{tenant}");
            self.with_password("admin", &["tenant", "create", tenant, "--owner", &owner]);
            self.with_password(tenant, &["login", &owner]);
            hanse(&["key", "generate", &self.path(&format!("{tenant}.key"))]);
        }
        let key = |tenant: &str| self.path(&format!("{tenant}.key"));
        let policies = ["--create-chain-policy", "two-thirds", "--delete-chain-policy", "unanimous"];
        self.cluster.tell("acme", &[&["consortium", "create", "trade", "--key", &key("acme")], &policies[..]].concat());
        for tenant in &TENANTS[1..] {
            self.cluster.tell("acme", &["consortium", "invite", "trade", tenant]);
            self.cluster.tell(tenant, &["consortium", "join", "trade", "--key", &key(tenant)]);
        }
        self.cluster.tell("acme", &["consortium", "activate", "trade", "--yes"]);
    }

    /// Opens the proposal and has so many members say yes; gives the proposal after the last of them.
    pub(crate) fn vote(&mut self, open: &[&str], voters: usize) -> Value {
        self.cluster.tell("acme", open);
        self.last += 1;
        let proposal = format!("p-{}", self.last);
        let mut decided = Value::Null;
        for tenant in &TENANTS[..voters] {
            let key = self.path(&format!("{tenant}.key"));
            decided =
                self.cluster.tell(tenant, &["proposal", "vote", "trade", &proposal, "yes", "--key", &key, "--yes"]);
        }
        decided["proposal"].clone()
    }

    pub(crate) fn change(&mut self, change: &[&str], voters: usize) -> Value {
        self.vote(&[&["proposal", "open-change-chain", "trade", "supply-1"], change].concat(), voters)
    }

    pub(crate) fn chain(&self) -> Result<Value, String> {
        let answer = self.cluster.ask("acme", &["chain", "get", "trade", "supply-1"]).map_err(|(_, words)| words)?;
        Ok(answer["chain"].clone())
    }

    /// Waits until the chain is in this state.
    fn comes_to(&self, state: &str) -> Value {
        until(&format!("the chain is {state}"), LONG, || {
            let chain = self.chain()?;
            if chain["state"] == state { Ok(chain) } else { Err(chain.to_string()) }
        })
    }

    /// Waits until the chain runs and has made blocks beyond `height`; gives the height.
    pub(crate) fn goes_on(&self, height: u64) -> u64 {
        until("the chain makes blocks", LONG, || {
            let chain = self.chain()?;
            let now = chain["height"].as_u64().unwrap_or(0);
            if chain["state"] == "RUNNING" && now > height { Ok(now) } else { Err(chain.to_string()) }
        })
    }

    pub(crate) fn succeeds(&self, operation: &str) {
        until("the operation ends well", LONG, || {
            let got = self.cluster.ask("admin", &["operation", "get", operation]).map_err(|(_, words)| words)?;
            if got["operation"]["state"] == "SUCCEEDED" { Ok(()) } else { Err(got.to_string()) }
        });
    }

    pub(crate) fn nodes(&self) -> Vec<Value> {
        let list = self.cluster.tell("admin", &["node", "list"]);
        list["nodes"].as_array().cloned().unwrap_or_default()
    }
}

#[test]
fn a_chain_rests_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut story = Story::begin(dir.path());
    story.form_consortium();
    let nodes = TENANTS.map(|tenant| ["--node", tenant]).concat();
    let what = ["--chain", "supply-1", "--chain-id", "777", "--param", "block_time_ms=300"];
    let open = [&["proposal", "open-create-chain", "trade"][..], &what, &nodes].concat();
    let made = story.vote(&open, 3);
    story.succeeds(made["operation"].as_str().unwrap());
    let height = story.goes_on(3);
    let height = it_rests(&story, height);
    let height = it_grows_and_shrinks(&mut story, height);
    let height = it_moves(&mut story, height);
    let height = it_is_deleted_and_kept(&mut story, height);
    it_goes(&mut story, height);
}

/// Paused by an operator with a reason: no process is left, transactions are refused, and it goes on where it was.
fn it_rests(story: &Story, height: u64) -> u64 {
    let pause = ["chain", "pause", "trade", "supply-1"];
    let (code, words) = story.cluster.ask("acme", &[&pause[..], &["--reason", "x", "--yes"]].concat()).unwrap_err();
    assert!(code == 4 && words.contains("PERMISSION_DENIED"), "a tenant asks its consortium: {code} {words}");
    let checked = story.cluster.tell("admin", &[&pause[..], &["--reason", "new disks", "--dry-run"]].concat());
    assert!(checked["chain"]["state"] == "STOPPING" && story.chain().unwrap()["state"] == "RUNNING", "{checked}");
    let plan = story.cluster.tell("acme", &["chain", "plan", "trade", "supply-1", "pause"])["plan"].clone();
    assert!(
        plan["nodes"].as_array().unwrap().iter().all(|node| node["work"] == "STOP") && plan["after"].is_null(),
        "{plan}"
    );
    story.cluster.tell("admin", &[&pause[..], &["--reason", "new disks", "--yes", "--wait"]].concat());
    let (_, words) = story.cluster.ask("acme", &["chain", "plan", "trade", "supply-1", "roll"]).unwrap_err();
    assert!(words.contains("would be refused") && words.contains("resume it first"), "{words}");
    let chain = story.comes_to("PAUSED");
    assert_eq!(chain["state_reason"], "new disks", "{chain}");
    assert_eq!(pids_of(&story.dir, PROCESS), Vec::<i32>::new());
    assert!(story.nodes().iter().all(|node| node["state"] == "STOPPED"));
    let (_, words) = story.cluster.ask("acme", &["chain", "send", "trade", "supply-1", "0x00"]).unwrap_err();
    assert!(words.contains("resume it first") || words.contains("no node"), "{words}");
    let resume = ["chain", "resume", "trade", "supply-1", "--reason", "they are in", "--wait"];
    story.cluster.tell("admin", &resume);
    story.goes_on(height)
}

/// A fifth node by vote: made, followed by a rolling change of the others during which the leader dies; then it leaves again.
/// Blocks are made all the while.
fn it_grows_and_shrinks(story: &mut Story, height: u64) -> u64 {
    let grow = ["add-nodes", "--node", "bocom"];
    let open = [&["proposal", "open-change-chain", "trade", "supply-1"][..], &grow, &["--plan"]].concat();
    let plan = story.cluster.tell("acme", &open)["plan"].clone();
    assert_eq!(plan["order"], serde_json::json!(["n0", "n1", "n2", "n3"]), "{plan}");
    let words = plan["words"].to_string();
    assert!(
        words.contains("with this you tolerate 0 failures for about ") && words.contains("as its starts took"),
        "{words}"
    );
    let decided = story.change(&grow, 3);
    let made = story.cluster.tell("admin", &["node", "get", "trade", "supply-1", "n4"])["node"].clone();
    assert_eq!(
        (&plan["nodes"][4]["work"], &plan["nodes"][4]["to_host"]),
        (&Value::from("MAKE"), &made["host"]),
        "{plan}"
    );
    let operation = decided["operation"].as_str().unwrap().to_owned();
    let (_, words) =
        story.cluster.ask("admin", &["chain", "roll", "trade", "supply-1", "--reason", "x", "--yes"]).unwrap_err();
    assert!(words.contains("is under way"), "{words}");
    until("the first node is reached", LONG, || {
        let chain = story.chain()?;
        let reached = chain["rollout"]["nodes_reached"].as_u64().unwrap_or(0);
        // The new node counts as reached from the beginning.
        if reached >= 2 { Ok(()) } else { Err(chain.to_string()) }
    });
    let leader = story.cluster.leader("admin");
    story.cluster.kill(leader);
    story.succeeds(&operation);
    story.cluster.start_replica(leader);
    let nodes = story.nodes();
    let generations: Vec<_> = nodes.iter().map(|node| node["generation"].as_u64().unwrap()).collect();
    // Paused and resumed were two generations, the rolling change one more; the last node is new.
    assert_eq!(generations, [4, 4, 4, 4, 1], "each was started anew once: {nodes:?}");
    assert_eq!(pids_of(&story.dir, PROCESS).len(), 5, "one process for each node and no other");
    until("the new node follows", LONG, || {
        let nodes = story.nodes();
        let (first, last) = (&nodes[0], &nodes[4]);
        let follows = last["height"].as_u64() > Some(height) && last["peers"].as_u64() == Some(4);
        if follows && last["owner"] == "bocom" { Ok(()) } else { Err(format!("{first} {last}")) }
    });
    let height = story.goes_on(height);

    let (_, words) = story
        .cluster
        .ask("acme", &["proposal", "open-change-chain", "trade", "supply-1", "remove-nodes", "n0"])
        .unwrap_err();
    assert!(words.contains("validates since genesis"), "{words}");
    let decided = story.change(&["remove-nodes", "n4"], 3);
    story.succeeds(decided["operation"].as_str().unwrap());
    assert_eq!((story.nodes().len(), pids_of(&story.dir, PROCESS).len()), (4, 4));
    story.goes_on(height)
}

/// A node goes to the other host with its key while the leader dies, then a host is drained; at no moment are there two processes
/// of one node.
/// Every node was started anew and found the others, wherever they are now: a node hears only those that reach it.
fn others_are_told(story: &Story) {
    until("all know where all are", LONG, || {
        let rollout = story.chain()?["rollout"].clone();
        if rollout["nodes_reached"] != rollout["nodes_total"] {
            return Err(rollout.to_string());
        }
        let nodes = story.nodes();
        let well = nodes.iter().all(|node| node["health"] == "HEALTHY" && node["peers"].as_u64() == Some(3));
        if well { Ok(()) } else { Err(format!("{nodes:?}")) }
    });
}

fn it_moves(story: &mut Story, height: u64) -> u64 {
    let one = |story: &Story, n: usize| story.nodes()[n].clone();
    let before = one(story, 1);
    let (from, to) = if before["host"] == "h1" { ("h1", "h2") } else { ("h2", "h1") };
    let plan = story.cluster.tell("acme", &["chain", "plan", "trade", "supply-1", "move", "n1"])["plan"].clone();
    // It goes first, and the others are started anew to learn of it.
    let changes = plan["nodes"].as_array().unwrap();
    let moved = changes.iter().find(|it| it["node"] == "n1").unwrap_or_else(|| panic!("{plan}"));
    assert_eq!((&moved["work"], &moved["to_host"]), (&Value::from("MOVE"), &Value::from(to)), "{plan}");
    assert!(plan["order"][0] == "n1" && plan["order"].as_array().unwrap().len() == 4, "{plan}");
    let order = ["chain", "move-node", "trade", "supply-1", "n1", "--to", to, "--reason", "h1 is old", "--yes"];
    let (code, words) = story.cluster.ask("acme", &order).unwrap_err();
    assert!(code == 4 && words.contains("PERMISSION_DENIED"), "{words}");
    let operation = story.cluster.tell("admin", &order)["operation"].as_str().unwrap().to_owned();
    let leader = story.cluster.leader("admin");
    story.cluster.kill(leader);
    until("the node is at its new host", LONG, || {
        let processes = pids_of(&story.dir, "supply-1.n1/home");
        let running: Vec<_> = processes.iter().filter(|pid| pids_of(&story.dir, PROCESS).contains(pid)).collect();
        assert!(running.len() <= 1, "one key runs once: {running:?}");
        let nodes = story.cluster.ask("admin", &["node", "list"]).map_err(|(_, words)| words)?;
        let node = nodes["nodes"][1].clone();
        let is_there = node["host"] == to && node["health"] == "HEALTHY" && node["peers"].as_u64() == Some(3);
        if is_there { Ok(()) } else { Err(node.to_string()) }
    });
    story.succeeds(&operation);
    story.cluster.start_replica(leader);
    let after = one(story, 1);
    assert_eq!(
        (&after["public_key"], &after["node_id"]),
        (&before["public_key"], &before["node_id"]),
        "it kept its key"
    );
    let home = |host: &str| {
        let root = story.dir.join(format!("host{}", &host[1..])).join("instances");
        let cluster = std::fs::read_dir(root).unwrap().next().unwrap().unwrap().path();
        cluster.join("trade.supply-1.n1").exists()
    };
    assert!(home(to) && !home(from), "nothing of it is left where it was");
    others_are_told(story);
    let height = story.goes_on(height);

    story.cluster.tell("admin", &["host", "drain", from, "--reason", "it is sold", "--yes"]);
    until("the drained host is empty", LONG, || {
        let nodes = story.nodes();
        let left = nodes.iter().filter(|node| node["host"] == from || node["health"] != "HEALTHY").count();
        if left == 0 { Ok(()) } else { Err(format!("{nodes:?}")) }
    });
    others_are_told(story);
    assert_eq!(pids_of(&story.dir, PROCESS).len(), 4);
    story.cluster.tell("admin", &["host", "uncordon", from]);
    let audit = story.cluster.tell("admin", &["audit", "list"]).to_string();
    assert!(audit.contains("MoveNode") && audit.contains("h1 is old") && audit.contains("it is sold"), "{audit}");
    story.goes_on(height)
}

/// Deleted by all members, and taken back by an administrator while the grace lasts: it goes on where it was.
fn it_is_deleted_and_kept(story: &mut Story, height: u64) -> u64 {
    let decided = story.change(&["delete", "--grace", "1h"], 3);
    assert_eq!(decided["outcome"], "OPEN", "all four must want the end: {decided}");
    let (proposal, key) = (format!("p-{}", story.last), story.path("huaneng.key"));
    let vote = ["proposal", "vote", "trade", &proposal, "yes", "--key", &key, "--yes"];
    let decided = story.cluster.tell("huaneng", &vote);
    assert_eq!(decided["proposal"]["outcome"], "PASSED", "{decided}");
    assert!(decided["proposal"]["artifact"].is_string(), "{decided}");
    let chain = story.comes_to("DELETED");
    assert!(chain["purge_at_ms"].as_str().is_some_and(|at| at != "0") || chain["purge_at_ms"].as_u64() > Some(0));
    assert_eq!(pids_of(&story.dir, PROCESS), Vec::<i32>::new());
    let undelete = ["chain", "undelete", "trade", "supply-1", "--reason", "a court says so", "--yes", "--wait"];
    story.cluster.tell("admin", &undelete);
    story.goes_on(height)
}

/// Deleted for good, the leader killed as soon as it is decided: the next one removes every process, home and port.
fn it_goes(story: &mut Story, height: u64) {
    assert!(story.goes_on(height) > height);
    let leader = story.cluster.leader("admin");
    let decided = story.change(&["delete", "--grace", "1s"], 4);
    story.cluster.kill(leader);
    story.succeeds(decided["operation"].as_str().unwrap());
    let (code, words) = story.cluster.ask("acme", &["chain", "get", "trade", "supply-1"]).unwrap_err();
    assert!(code == 3, "{words}");
    assert_eq!(story.nodes(), Vec::<Value>::new());
    assert_eq!(pids_of(&story.dir, PROCESS), Vec::<i32>::new());
    for host in ["host1", "host2"] {
        let cluster = std::fs::read_dir(story.dir.join(host).join("instances")).unwrap().next().unwrap().unwrap();
        let left: Vec<_> = std::fs::read_dir(cluster.path()).unwrap().flatten().map(|it| it.file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let audit = story.cluster.tell("admin", &["audit", "list"]).to_string();
    for order in ["PauseChain", "ResumeChain", "UndeleteChain", "PurgeChain"] {
        assert!(audit.contains(order), "{order} is not in the audit trail");
    }
    story.cluster.start_replica(leader);
    story.cluster.tell("admin", &["audit", "verify"]);
}

impl Drop for Story {
    fn drop(&mut self) {
        // Replicas first, or they would start the nodes again; then the nodes, whose supervisors end with them.
        self.cluster.stop();
        for pid in pids_of(&self.dir, PROCESS).into_iter().chain(pids_of(&self.dir, " host-supervise ")) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ended_by_itself = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}
