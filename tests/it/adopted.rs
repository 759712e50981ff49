//! A chain of four nodes that somebody runs by hand becomes the platform's: imported, agreed to by vote, looked at, taken over one node
//! after another while money is sent and the leader dies; the first node goes back to its owner meanwhile and is taken again. No block
//! and no transaction is lost, and nothing starts a node in its old home any more.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use hanse_fixtures::sshd::Sshd;
use hanse_node::config::{CONFIG_FILE, HistoryConfig, Keep, NodeConfig, PeerConfig};
use hanse_node::genesis::GENESIS_FILE;
use hanse_node::keys::NodeKey;
use serde_json::Value;

use crate::by_hand::pids_of;
use crate::cluster::hanse;
use crate::life::{LONG, PROCESS, Story};
use crate::owner;
use crate::people;
use crate::wait::until;

const CHAIN: [&str; 2] = ["trade", "supply-1"];
const NODES: usize = 4;
/// How long an orphan is there before it is removed.
const GRACE_MS: i64 = 3_000;
/// How many states the owners have their nodes keep; the platform must not change that.
const STATES_KEPT: u64 = 2_222;

/// Nodes that are run by hand; they end when it is dropped.
struct ByHand {
    homes: Vec<PathBuf>,
    rpc: Vec<SocketAddr>,
    children: Vec<Option<Child>>,
}

impl ByHand {
    fn make(dir: &Path, rich: &str) -> Self {
        let held: Vec<TcpListener> = (0..2 * NODES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<SocketAddr> = held.iter().map(|it| it.local_addr().unwrap()).collect();
        let homes: Vec<PathBuf> = (0..NODES).map(|n| dir.join(format!("byhand{n}"))).collect();
        let keys: Vec<NodeKey> = homes.iter().map(|home| NodeKey::load_or_create(home).unwrap()).collect();
        let genesis = owner::genesis(777, &keys, serde_json::json!({ rich: { "balance": "1000000000000000000000" } }));
        for (n, home) in homes.iter().enumerate() {
            let peer = |n: usize| PeerConfig {
                node_id: keys[n].node_id(),
                public_key: keys[n].public_key(),
                address: ports[2 * n],
            };
            let config = NodeConfig {
                history: HistoryConfig { states: Keep::Last(STATES_KEPT), blocks: Keep::All },
                peers: (0..NODES).filter(|other| *other != n).map(peer).collect(),
                ..owner::config(ports[2 * n], ports[2 * n + 1])
            };
            owner::write(home, &config, &genesis);
        }
        let rpc = (0..NODES).map(|n| ports[2 * n + 1]).collect();
        Self { homes, rpc, children: (0..NODES).map(|_| None).collect() }
    }

    fn spawn(&self, n: usize) -> Child {
        owner::start(&self.homes[n], &self.homes[n].with_extension("log"))
    }

    fn start(&mut self, n: usize) {
        self.children[n] = Some(self.spawn(n));
    }

    /// As its owner would.
    fn stop(&mut self, n: usize) {
        let mut child = self.children[n].take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    /// Whether it has ended by somebody's doing.
    fn has_ended(&mut self, n: usize) -> bool {
        self.children[n].as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// Whatever starts it in its old home again gets nowhere.
    fn is_fenced(&self, n: usize) {
        let said = || std::fs::read_to_string(self.homes[n].with_extension("log")).unwrap();
        let before = said().len();
        let ended = self.spawn(n).wait().unwrap();
        assert!(!ended.success(), "n{n} was started in its old home");
        let words = said()[before..].to_owned();
        assert!(words.contains("node.key"), "{words}");
        let mark = std::fs::read_to_string(self.homes[n].join("TAKEN-BY-HANSE.json")).unwrap();
        assert!(mark.contains(&format!("trade.supply-1.n{n}")) && mark.contains("\"taken\": true"), "{mark}");
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

struct Told {
    story: Story,
    by_hand: ByHand,
    key: String,
    /// Hashes of the transactions that were sent.
    sent: Vec<String>,
    ssh: Sshd,
}

impl Drop for Told {
    fn drop(&mut self) {
        // Replicas first, or they would start the nodes again; then whatever a failed test left.
        self.story.cluster.stop();
        for pid in pids_of(&self.story.dir, PROCESS).into_iter().chain(pids_of(&self.story.dir, " host-supervise ")) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ended_by_itself = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Told {
    fn begin(dir: &Path) -> Self {
        let key = dir.join("treasury.key").display().to_string();
        let made: Value = serde_json::from_str(&hanse(&["key", "account-generate", &key, "-o", "json"])).unwrap();
        let mut by_hand = ByHand::make(dir, &made["address"].as_str().unwrap().to_ascii_lowercase());
        (0..NODES).for_each(|n| by_hand.start(n));
        // Two of the homes are behind SSH.
        let ssh = Sshd::spawn(&dir.join("sshd")).unwrap();
        let story = Story::begin_on(dir, Some(&ssh));
        story.form_consortium();
        Self { story, by_hand, key, sent: Vec::new(), ssh }
    }

    fn ask(&self, who: &str, args: &[&str]) -> Result<Value, String> {
        self.story.cluster.ask(who, args).map_err(|(_, words)| words)
    }

    fn refused(&self, who: &str, args: &[&str], words: &str) {
        let said = self.ask(who, args).unwrap_err();
        assert!(said.contains(words), "{args:?}: {said}");
    }

    fn import(&self) {
        let urls: Vec<String> = self.by_hand.rpc.iter().map(|rpc| format!("http://{rpc}")).collect();
        let nodes: Vec<&str> = urls.iter().flat_map(|url| ["--rpc", url]).collect();
        let what = ["--template", "evm-standard", "--owner", "acme", "--chain-id", "777", "--reason", "we run it soon"];
        let import = [&["chain", "import", CHAIN[0], CHAIN[1]][..], &what, &nodes].concat();
        let said = until("the nodes answer", LONG, || {
            let words = self.ask("admin", &import).unwrap_err();
            if words.contains("first block 0x") { Ok(words) } else { Err(words) }
        });
        let hash = format!("0x{}", said.split("first block 0x").nth(1).unwrap().split(';').next().unwrap());
        let made = self.story.cluster.tell("admin", &[&import[..], &["--first-block", &hash]].concat());
        assert_eq!(made["chain"]["state"], "IMPORTED", "{made}");
    }

    /// Sends money by a node's own port, past the platform, and remembers it.
    fn pays_by_hand(&mut self, n: usize) {
        let cast = std::env::var("HANSE_CAST").unwrap_or_else(|_| "cast".into());
        let (rpc, key) = (format!("http://{}", self.by_hand.rpc[n]), std::fs::read_to_string(&self.key).unwrap());
        let to = "0x00000000000000000000000000000000000000aa";
        let how =
            ["send", "--rpc-url", &rpc, "--private-key", key.trim(), "--gas-price", "0", "--priority-gas-price", "0"];
        let sent = until("money is sent", LONG, || {
            let output = Command::new(&cast).args(how).args(["--value", "1", "--json", to]).output().unwrap();
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            serde_json::from_str::<Value>(&out).map_err(|_| format!("{out}{err}"))
        });
        self.sent.push(sent["transactionHash"].as_str().unwrap_or_else(|| panic!("{sent}")).to_owned());
    }

    /// The words of `chain adopt`; of n0 and n1 their owners stop the process, of the others the platform does.
    fn order(&self, more: &[&str]) -> Vec<String> {
        let mut args: Vec<String> =
            ["chain", "adopt", CHAIN[0], CHAIN[1], "--reason", "we run it now"].map(str::to_owned).into();
        for (n, home) in self.by_hand.homes.iter().enumerate() {
            args.push("--node".into());
            args.push(format!("n{n}=h{}:{}", n % 2 + 1, home.display()));
        }
        args.extend(["n2", "n3"].into_iter().flat_map(|node| ["--stop".to_owned(), node.to_owned()]));
        args.extend(more.iter().map(|it| (*it).to_owned()));
        args
    }

    fn adopt(&self, more: &[&str]) -> Result<Value, String> {
        let order = self.order(more);
        self.ask("admin", &order.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn node(&self, n: usize) -> Result<Value, String> {
        let name = format!("n{n}");
        Ok(self.ask("admin", &["node", "get", CHAIN[0], CHAIN[1], &name])?["node"].clone())
    }

    /// See [`people::comes_to`].
    fn comes_to(&self, n: usize, state: &str, health: &str, words: &str) -> Value {
        people::comes_to(&format!("n{n}"), || self.node(n), [state, health, words])
    }

    fn files(&self) -> Vec<(PathBuf, std::time::SystemTime)> {
        let of_home = |home: &PathBuf| [CONFIG_FILE, GENESIS_FILE, "keys/node.key"].map(|name| home.join(name));
        let all = self.by_hand.homes.iter().flat_map(of_home);
        all.map(|path| (path.clone(), std::fs::metadata(&path).unwrap().modified().unwrap())).collect()
    }

    /// Nobody may before the consortium agreed; who is to own a node must. A look changes nothing, and says what is there.
    fn is_agreed_to(&mut self) {
        let before = self.files();
        let seen = self.adopt(&["--dry-run"]).unwrap().to_string();
        assert!(seen.contains("its consortium has not agreed to it") && seen.contains("holds it"), "{seen}");
        let said = self.adopt(&["--yes"]).unwrap_err();
        assert!(said.contains("its consortium has not agreed to it"), "{said}");
        self.members_agree();
        let seen = self.adopt(&["--dry-run"]).unwrap();
        let homes = seen["homes"].as_array().unwrap();
        assert_eq!(homes.len(), NODES, "{seen}");
        for (n, home) in homes.iter().enumerate() {
            let text = home["findings"].to_string();
            let pid = self.by_hand.children[n].as_ref().unwrap().id();
            assert!(!text.contains("\"ERROR\"") && text.contains(&format!("process {pid} holds it")), "{home}");
            assert!(text.contains("validates since genesis") && text.contains("of the pinned first block"), "{home}");
            assert!(text.contains("of the home's key"), "{home}: the node itself says who it is");
        }
        let home = self.by_hand.homes[0].display().to_string();
        // A copy of the home that its node runs in would give the key to a second process.
        let copy = self.by_hand.homes[0].with_file_name("copy0");
        let copied = Command::new("cp").arg("-r").args([&self.by_hand.homes[0], &copy]).status().unwrap();
        assert!(copied.success());
        let of_copy = format!("n0=h1:{}", copy.display());
        let (first, elsewhere) = (format!("n0=h1:{home}"), format!("n0=h1:{home}/data"));
        let few = ["chain", "adopt", CHAIN[0], CHAIN[1], "--reason", "x", "--yes", "--node"];
        self.refused(
            "admin",
            &[&few[..], &[&first]].concat(),
            "validators by its genesis that are at none of the homes",
        );
        self.refused("admin", &[&few[..], &[&elsewhere]].concat(), "does not read it");
        self.refused("admin", &[&few[..], &[&of_copy]].concat(), "HOME_UNFIT");
        let seen = self.ask("admin", &[&few[..6], &["--dry-run", "--node", &of_copy]].concat()).unwrap().to_string();
        assert!(seen.contains("and no process holds"), "{seen}");
        self.refused("acme", &[&few[..], &[&first]].concat(), "");
        assert_eq!(self.files(), before, "nothing was touched");
    }

    fn members_agree(&mut self) {
        let owners = ["acme", "bocom", "sgcc", "huaneng"].map(|tenant| ["--owner", tenant]).concat();
        let decided = self.story.change(&[&["adopt"][..], &owners].concat(), NODES);
        assert_eq!(decided["outcome"], "PASSED", "{decided}");
    }

    /// The first one waits for its owner, is taken, goes back with what it has signed, and its owner starts it again.
    fn the_first_goes_back(&mut self) {
        let begun = self.adopt(&["--yes"]).unwrap();
        assert!(begun["operation"].as_str().is_some_and(|it| !it.is_empty()), "{begun}");
        self.comes_to(0, "MOVING", "UNKNOWN", "waits until its owner has stopped process");
        assert!(!self.by_hand.has_ended(0), "it is its owner who stops it");
        for order in [&["chain", "pause"][..], &["chain", "roll"]] {
            let words = "it is being taken over";
            self.refused("admin", &[order, &[CHAIN[0], CHAIN[1], "--reason", "x", "--yes"]].concat(), words);
        }
        self.by_hand.stop(0);
        // Whoever takes connections there may be its node, from another home: nothing goes on before that is silent.
        let answers = TcpListener::bind(self.by_hand.rpc[0]).unwrap();
        self.comes_to(0, "MOVING", "UNKNOWN", "something still");
        self.by_hand.is_fenced(0);
        drop(answers);
        let ours = self.comes_to(0, "RUNNING", "HEALTHY", "");
        assert_eq!(ours["settings"]["history_states"], STATES_KEPT, "{ours}");
        let height = ours["height"].as_u64().unwrap();
        self.comes_to(1, "MOVING", "UNKNOWN", "waits until its owner has stopped process");
        let back = ["chain", "give-back", CHAIN[0], CHAIN[1], "n0", "--reason", "its owner wants to see that", "--yes"];
        self.story.cluster.tell("admin", &back);
        self.comes_to(0, "WATCHED", "UNKNOWN", "it was given back");
        self.by_hand.start(0);
        let theirs = self.comes_to(0, "WATCHED", "HEALTHY", "");
        assert!(theirs["height"].as_u64().unwrap() >= height, "{theirs}: it went on from {height}");
        let chain = self.story.chain().unwrap();
        assert!(chain["rollout"]["halted"].as_str().unwrap().contains("n0 goes back to its owner"), "{chain}");
        self.pays_by_hand(0);
        let go_on = ["chain", "roll-continue", CHAIN[0], CHAIN[1], "--reason", "it was seen"];
        self.story.cluster.tell("admin", &go_on);
        self.by_hand.stop(1);
        self.comes_to(1, "RUNNING", "HEALTHY", "");
        self.comes_to(0, "MOVING", "UNKNOWN", "waits until its owner has stopped process");
        self.by_hand.stop(0);
    }

    /// The others are stopped by the platform, the leader dies when the next is on its way, and money is sent meanwhile.
    fn the_others_follow(&mut self) {
        let leader = self.story.cluster.leader("admin");
        until("the next is on its way", LONG, || {
            let node = self.node(2)?;
            if node["state"] != "WATCHED" { Ok(()) } else { Err(node.to_string()) }
        });
        self.story.cluster.kill(leader);
        self.pays_by_hand(3);
        let chain = until("every node is taken over", LONG, || {
            let chain = self.story.chain()?;
            if chain["state"] == "RUNNING" { Ok(chain) } else { Err(chain.to_string()) }
        });
        self.story.cluster.start_replica(leader);
        assert!(chain["adoption"].is_null(), "{chain}");
        for n in 0..NODES {
            assert!(self.by_hand.has_ended(n), "n{n} is asked to stop");
            self.by_hand.children[n] = None;
            self.by_hand.is_fenced(n);
            let node = self.node(n).unwrap();
            assert_eq!((node["state"].as_str(), node["health"].as_str()), (Some("RUNNING"), Some("HEALTHY")), "{node}");
        }
        self.story.succeeds(chain["change_operation"].as_str().unwrap());
        assert_eq!(pids_of(&self.story.dir, PROCESS).len(), NODES, "one process a node");
    }

    /// A node of a new chain of that name does not come into the home that is still on the lost host, nor is its process ended.
    fn its_name_is_given_to_another(&mut self) {
        let before = pids_of(&self.story.dir.join("host2"), PROCESS);
        self.story.cluster.tell("admin", &["host", "cordon", "h1", "--reason", "so that it comes to h2", "--yes"]);
        let nodes = ["acme", "bocom", "sgcc", "huaneng"].map(|tenant| ["--node", tenant]).concat();
        let open = ["proposal", "open-create-chain", CHAIN[0], "--chain", CHAIN[1], "--chain-id", "778"];
        self.story.vote(&[&open[..], &nodes].concat(), 3);
        let node = self.comes_to(1, "BLOCKED", "", "still here");
        assert!(node["state_reason"].as_str().unwrap().contains("taken over from its owner's home"), "{node}");
        assert_eq!(pids_of(&self.story.dir.join("host2"), PROCESS), before, "the old one runs on");
    }

    /// It makes blocks, has every transaction, and takes orders as any other.
    fn is_a_chain_as_any_other(&mut self) {
        let height = self.story.chain().unwrap()["height"].as_u64().unwrap();
        self.story.goes_on(height + 2);
        for hash in &self.sent {
            let found = self.story.cluster.tell("acme", &["explorer", "tx", CHAIN[0], CHAIN[1], hash]);
            assert!(found["transaction"]["block"].as_u64() > Some(0), "{found}");
        }
        let to = "0x00000000000000000000000000000000000000aa";
        let transfer =
            ["tx", "transfer", CHAIN[0], CHAIN[1], "--key", &self.key, "--to", to, "--value-wei", "1", "--yes"];
        self.story.cluster.tell("acme", &[&transfer[..], &["--wait"]].concat());
        let usage = self.story.cluster.tell("admin", &["usage", "get", "huaneng"]);
        assert!(
            usage.to_string().contains("supply-1/nodes/n3") || usage.to_string().contains("supply-1/n3"),
            "it is paid for: {usage}"
        );
        let pause = ["chain", "pause", CHAIN[0], CHAIN[1], "--reason", "the bill", "--yes"];
        let paused = self.story.cluster.tell("admin", &pause);
        self.story.succeeds(paused["operation"].as_str().unwrap());
        assert_eq!(pids_of(&self.story.dir, PROCESS), Vec::<i32>::new(), "nothing of it runs");
        let resumed = self.story.cluster.tell("admin", &["chain", "resume", CHAIN[0], CHAIN[1], "--reason", "paid"]);
        self.story.succeeds(resumed["operation"].as_str().unwrap());
        let audit = self.story.cluster.tell("admin", &["audit", "list", "--limit", "500"]).to_string();
        for action in ["AdoptChain", "GiveBackNode", "EndAdoption"] {
            assert!(audit.contains(action), "{action}: {audit}");
        }
    }
}

/// What is nowhere asked for any more and may not be removed, as a host shows it after twice the time after which orphans are.
fn kept_orphan(told: &Told, host: &str) -> Value {
    until("it was there for twice the grace", LONG, || {
        let list = told.ask("admin", &["host", "orphans"])?;
        let all = list["orphans"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|it| it["host"] == host).ok_or_else(|| list.to_string())?;
        let at = |field: &str| found[field].as_i64().unwrap_or_default();
        if at("last_seen_ms") > at("first_seen_ms") + 2 * GRACE_MS { Ok(found) } else { Err(found.to_string()) }
    })
}

/// The taking over is given up while a host is lost for good: the others go back, the lost node is written off, and if the host comes back
/// after all, what may be the only copy of what its key has signed is left alone.
#[test]
fn a_chain_whose_host_is_lost_while_it_is_taken_over_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::begin(dir.path());
    (1..=3).for_each(|id| told.story.cluster.kill(id));
    told.story.cluster.add_timing(&format!("orphan_grace_ms = {GRACE_MS}"));
    (1..=3).for_each(|id| told.story.cluster.start_replica(id));
    told.import();
    told.members_agree();
    until("all are well", LONG, || told.adopt(&["--yes"]).map(drop));
    told.comes_to(0, "MOVING", "UNKNOWN", "waits until its owner has stopped process");
    told.by_hand.stop(0);
    told.comes_to(1, "MOVING", "UNKNOWN", "waits until its owner has stopped process");
    told.by_hand.stop(1);
    told.comes_to(1, "RUNNING", "HEALTHY", "");
    let halt = ["chain", "roll-halt", CHAIN[0], CHAIN[1], "--reason", "h2 burns"];
    let (back, forget) = (["chain", "give-back", CHAIN[0], CHAIN[1]], ["chain", "forget", CHAIN[0], CHAIN[1]]);
    told.story.cluster.tell("admin", &halt);
    for n in [0, 2, 3] {
        let node = told.node(n).unwrap();
        if node["state"] != "WATCHED" {
            let name = format!("n{n}");
            told.story.cluster.tell("admin", &[&back[..], &[&name, "--reason", "h2 burns", "--yes"]].concat());
            told.comes_to(n, "WATCHED", "", "it was given back");
        }
    }
    let why = ["--reason", "h2 is lost", "--yes"];
    told.refused("admin", &[&forget[..], &why].concat(), "n1 was taken over: give it back first, or write it off");
    told.refused("admin", &[&forget[..], &["--lost", "n1"], &why].concat(), "names n1, but hosts/h2 answers");
    told.ssh.kill();
    told.refused("admin", &[&forget[..], &["--lost", "n1", "--lost", "n0"], &why].concat(), "n0");
    told.story.cluster.tell("admin", &[&forget[..], &["--lost", "n1"], &why].concat());
    let gone = told.ask("admin", &["chain", "get", CHAIN[0], CHAIN[1]]).unwrap_err();
    assert!(gone.contains("NOT_FOUND"), "{gone}");

    told.ssh.start().unwrap();
    let found = kept_orphan(&told, "h2");
    assert!(found["kept_reason"].as_str().unwrap().contains("taken over from its owner's home"), "{found}");
    assert_eq!(pids_of(&told.story.dir.join("host2"), PROCESS).len(), 1, "n1 runs on");
    told.by_hand.is_fenced(1);
    let audit = told.story.cluster.tell("admin", &["audit", "list", "--limit", "500"]).to_string();
    assert!(audit.contains("ForgetChain") && !audit.contains("RemoveOrphan"), "{audit}");
    told.its_name_is_given_to_another();
}

#[test]
fn a_chain_that_was_run_by_hand_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::begin(dir.path());
    told.import();
    (0..NODES).for_each(|n| drop(told.comes_to(n, "WATCHED", "HEALTHY", "")));
    told.pays_by_hand(1);
    told.is_agreed_to();
    told.the_first_goes_back();
    told.the_others_follow();
    told.is_a_chain_as_any_other();
}
