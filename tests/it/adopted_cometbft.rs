//! A CometBFT chain of two real validators that their owners run by hand becomes the platform's: imported, looked at, agreed to by vote,
//! taken over one after another, one on a local host and one behind a real sshd; the first goes back to its owner meanwhile, with what it
//! has signed, and is taken again. Nothing starts a validator in its old home any more, and nothing there forgets what it has signed.
//!
//! Part of the story of `imported`: the cluster and its program are that one's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hanse_fixtures::sshd::Sshd;
use serde_json::Value;

use crate::by_hand::{free_ports, pids_of};
use crate::imported::{LONG, PROCESS, Story};
use crate::people;
use crate::wait::until;

const CHAIN: [&str; 2] = ["trade", "theirs"];
const NAME: &str = "theirs-778";
const NODES: usize = 2;
const STATE: &str = "data/priv_validator_state.json";
const KEY: &str = "config/priv_validator_key.json";
const STAKE: &str = "1000000000000000000000stake";

/// First ports of runs of thirty, for each validator and for the second host: none of them in the run of the first host, which is one of
/// the first of them.
fn ports() -> Vec<u16> {
    free_ports(30, 6 + NODES)[5..].to_vec()
}

/// Validators that are run by hand; they end when it is dropped.
struct ByHand {
    program: PathBuf,
    homes: Vec<PathBuf>,
    /// First of the six ports of each: peers, JSON-RPC, consensus, gRPC, metrics, WebSocket; a seventh for the REST API.
    ports: Vec<u16>,
    children: Vec<Option<Child>>,
}

impl ByHand {
    fn make(dir: &Path) -> Self {
        let homes: Vec<PathBuf> = (0..NODES).map(|n| dir.join(format!("theirs{n}"))).collect();
        let made = Self {
            program: dir.join("injectived-files/injectived"),
            homes,
            ports: ports()[..NODES].to_vec(),
            children: (0..NODES).map(|_| None).collect(),
        };
        made.make_genesis();
        let ids: Vec<String> = (0..NODES).map(|n| made.tell(n, &["comet", "show-node-id"]).trim().to_owned()).collect();
        let peers: Vec<String> =
            ids.iter().zip(&made.ports).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        (0..NODES).for_each(|n| made.configure(n, &peers[1 - n]));
        made
    }

    fn command(&self, n: usize, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--home").arg(&self.homes[n]).env_clear();
        command.env("LD_LIBRARY_PATH", self.program.parent().unwrap()).env("HOME", &self.homes[n]).stdin(Stdio::null());
        command
    }

    fn tell(&self, n: usize, words: &[&str]) -> String {
        let output = self.command(n, words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn path(&self, n: usize, file: &str) -> PathBuf {
        self.homes[n].join(file)
    }

    fn read(&self, n: usize, file: &str) -> String {
        std::fs::read_to_string(self.path(n, file)).unwrap()
    }

    /// Each makes its keys and claims its seat, and the first puts it all together.
    fn make_genesis(&self) {
        let keyring = ["--keyring-backend", "test"];
        (0..NODES).for_each(|n| drop(self.tell(n, &["init", &format!("theirs{n}"), "--chain-id", NAME])));
        let genesis = self.path(0, "config/genesis.json");
        let mut begun: Value = serde_json::from_slice(&std::fs::read(&genesis).unwrap()).unwrap();
        begun["app_state"]["evm"]["params"]["chain_config"]["eip155_chain_id"] = "778".into();
        begun["app_state"]["staking"]["params"]["bond_denom"] = "stake".into();
        std::fs::write(&genesis, begun.to_string()).unwrap();
        let funds = format!("{STAKE},5000000000000000000000inj");
        for n in 0..NODES {
            self.tell(n, &[&["keys", "add", "op", "--no-backup", "--output", "json"][..], &keyring].concat());
            let address = self.tell(n, &[&["keys", "show", "op", "-a"][..], &keyring].concat());
            self.tell(0, &["genesis", "add-genesis-account", address.trim(), &funds, "--chain-id", NAME]);
        }
        let copy = |from: &Path, to: &Path| assert!(std::fs::copy(from, to).unwrap() > 0);
        copy(&genesis, &self.path(1, "config/genesis.json"));
        for n in 0..NODES {
            self.tell(n, &[&["genesis", "gentx", "op", STAKE, "--chain-id", NAME][..], &keyring].concat());
        }
        for claim in std::fs::read_dir(self.path(1, "config/gentx")).unwrap().flatten() {
            copy(&claim.path(), &self.path(0, "config/gentx").join(claim.file_name()));
        }
        self.tell(0, &["genesis", "collect-gentxs"]);
        copy(&genesis, &self.path(1, "config/genesis.json"));
    }

    fn configure(&self, n: usize, peer: &str) {
        let port = |offset: u16| (self.ports[n] + offset).to_string();
        let set = |file: &str, all: &[(&str, String)]| {
            let mut text = self.read(n, file);
            for (from, to) in all {
                assert_eq!(text.matches(from).count(), 1, "{file}: {from}");
                text = text.replace(from, to);
            }
            std::fs::write(self.path(n, file), text).unwrap();
        };
        let config = self.read(n, "config/config.toml");
        let peers = config.lines().find(|line| line.starts_with("persistent_peers = ")).unwrap().to_owned();
        set(
            "config/config.toml",
            &[
                ("tcp://0.0.0.0:26656", format!("tcp://127.0.0.1:{}", port(0))),
                ("tcp://127.0.0.1:26657", format!("tcp://127.0.0.1:{}", port(2))),
                ("\":26660\"", format!("\"127.0.0.1:{}\"", port(4))),
                ("localhost:6060", String::new()),
                ("addr_book_strict = true", "addr_book_strict = false".into()),
                ("allow_duplicate_ip = false", "allow_duplicate_ip = true".into()),
                (&peers, format!("persistent_peers = \"{peer}\"")),
            ],
        );
        set(
            "config/app.toml",
            &[
                ("tcp://0.0.0.0:10337", format!("tcp://127.0.0.1:{}", port(6))),
                ("0.0.0.0:9900", format!("127.0.0.1:{}", port(3))),
                ("\"127.0.0.1:8545\"", format!("\"127.0.0.1:{}\"", port(1))),
                ("\"127.0.0.1:8546\"", format!("\"127.0.0.1:{}\"", port(5))),
            ],
        );
    }

    fn spawn(&self, n: usize) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.homes[n].with_extension("log")).unwrap();
        let mut command = self.command(n, &["start", "--log-no-color"]);
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
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

    /// Whatever starts it in its old home again gets nowhere, and what it has signed is not forgotten there.
    fn is_fenced(&self, n: usize) {
        let before = self.read(n, STATE);
        let ended = self.spawn(n).wait().unwrap();
        assert!(!ended.success(), "n{n} was started in its old home");
        let log = std::fs::read_to_string(self.homes[n].with_extension("log")).unwrap();
        assert!(log.contains("Error reading PrivValidator key"), "{log}");
        assert_eq!(self.read(n, STATE), before, "a new key would have begun at height 0");
        assert!(self.read(n, "TAKEN-BY-HANSE.json").contains("\"taken\": true"));
    }

    fn signed(&self, home: &Path) -> u64 {
        let state: Value = serde_json::from_slice(&std::fs::read(home.join(STATE)).unwrap()).unwrap();
        state["height"].as_str().unwrap().parse().unwrap()
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

struct Told<'a> {
    story: &'a Story,
    by_hand: ByHand,
}

/// The part of the story.
pub(crate) fn a_chain_of_validators_that_others_run(story: &Story, ssh: &Sshd) {
    let mut told = Told { story, by_hand: ByHand::make(&story.dir) };
    (0..NODES).for_each(|n| told.by_hand.start(n));
    told.enrol(ssh);
    told.is_imported();
    told.is_looked_at();
    told.is_agreed_to();
    told.the_first_goes_back();
    told.all_follow();
    told.is_a_chain_as_any_other();
}

impl Told<'_> {
    fn ask(&self, who: &str, args: &[&str]) -> Result<Value, String> {
        self.story.cluster.ask(who, args).map_err(|(_, words)| words)
    }

    fn enrol(&self, ssh: &Sshd) {
        let (root, first) = (self.story.path("host2"), ports()[NODES].to_string());
        let place = ["--root", &root, "--peer-address", "127.0.0.1", "--port-first", &first];
        let way = [
            "--ssh",
            "127.0.0.1",
            "--port",
            &ssh.port.to_string(),
            "--user",
            &ssh.user,
            "--fingerprint",
            &ssh.fingerprint,
        ];
        let room = ["--port-count", "30", "--slots", "5"];
        self.story.cluster.tell("admin", &[&["host", "enrol", "h2"][..], &way, &place, &room].concat());
    }

    fn is_imported(&self) {
        let urls: Vec<[String; 2]> = self
            .by_hand
            .ports
            .iter()
            .map(|port| [port + 1, port + 2].map(|port| format!("http://127.0.0.1:{port}")))
            .collect();
        let nodes: Vec<&str> = urls.iter().flat_map(|[rpc, own]| ["--rpc", rpc, "--consensus-rpc", own]).collect();
        let what = ["--template", "cosmos-evm", "--owner", "acme", "--chain-id", "778", "--reason", "we run it soon"];
        let import = [&["chain", "import", CHAIN[0], CHAIN[1]][..], &what, &nodes].concat();
        let said = until("the nodes answer", LONG, || {
            let words = self.ask("admin", &import).unwrap_err();
            if words.contains("first block 0x") { Ok(words) } else { Err(words) }
        });
        let hash = format!("0x{}", said.split("first block 0x").nth(1).unwrap().split(';').next().unwrap());
        let made = self.story.cluster.tell("admin", &[&import[..], &["--first-block", &hash]].concat());
        assert_eq!(made["chain"]["state"], "IMPORTED", "{made}");
        (0..NODES).for_each(|n| drop(self.comes_to(n, "WATCHED", "HEALTHY", "")));
    }

    /// n0 is stopped by the platform, n1 by its owner.
    fn adopt(&self, second: &Path, more: &[&str]) -> Result<Value, String> {
        let (first, second) =
            (format!("n0=h1:{}", self.by_hand.homes[0].display()), format!("n1=h2:{}", second.display()));
        let what = ["--node", &first, "--node", &second, "--stop", "n0", "--reason", "we run it now"];
        self.ask("admin", &[&["chain", "adopt", CHAIN[0], CHAIN[1]][..], &what, more].concat())
    }

    /// A look changes nothing, and says what is there; the program is brought to the hosts for it.
    fn is_looked_at(&self) {
        let (home, before) = (self.by_hand.homes[1].clone(), self.by_hand.read(1, "config/config.toml"));
        let seen = until("it was looked at", LONG, || {
            let seen = self.adopt(&home, &["--dry-run"])?;
            if seen.to_string().contains("no answer within") { Err(seen.to_string()) } else { Ok(seen) }
        });
        for (n, home) in seen["homes"].as_array().unwrap().iter().enumerate() {
            let text = home["findings"].to_string();
            let pid = self.by_hand.children[n].as_ref().unwrap().id();
            for words in [
                "of the pinned first block",
                "it runs v1.20.1",
                "it has signed up to height",
                &format!("process {pid} holds it"),
            ] {
                assert!(text.contains(words), "{words}: {home}");
            }
        }
        let text = seen.to_string();
        assert!(
            text.contains("its consortium has not agreed to it") && text.matches("\"ERROR\"").count() == 1,
            "{seen}"
        );
        // A copy of the home that its node runs in would give the key to a second process.
        let copy = home.with_file_name("copy1");
        assert!(Command::new("cp").arg("-r").args([&home, &copy]).status().unwrap().success());
        let words = self.adopt(&copy, &["--yes"]).unwrap_err();
        assert!(words.contains("HOME_UNFIT"), "{words}");
        let seen = self.adopt(&copy, &["--dry-run"]).unwrap().to_string();
        assert!(seen.contains("and no process holds"), "{seen}");
        std::fs::remove_dir_all(copy).unwrap();
        assert_eq!(self.by_hand.read(1, "config/config.toml"), before);
        assert!(!self.by_hand.path(1, "TAKEN-BY-HANSE.json").exists());
    }

    fn is_agreed_to(&self) {
        let open =
            ["proposal", "open-change-chain", CHAIN[0], CHAIN[1], "adopt", "--owner", "acme", "--owner", "bocom"];
        let opened = self.story.cluster.tell("acme", &[&open[..], &["--accept-outage"]].concat());
        let proposal = opened["proposal"]["proposal"].as_str().unwrap().to_owned();
        for tenant in ["acme", "bocom", "sgcc"] {
            let key = self.story.path(&format!("{tenant}.key"));
            self.story.cluster.tell(tenant, &["proposal", "vote", "trade", &proposal, "yes", "--key", &key, "--yes"]);
        }
    }

    fn node(&self, n: usize) -> Result<Value, String> {
        let name = format!("n{n}");
        Ok(self.ask("admin", &["node", "get", CHAIN[0], CHAIN[1], &name])?["node"].clone())
    }

    /// See [`people::comes_to`].
    fn comes_to(&self, n: usize, state: &str, health: &str, words: &str) -> Value {
        people::comes_to(&format!("n{n}"), || self.node(n), [state, health, words])
    }

    /// The platform's home of a node.
    fn ours(&self, n: usize) -> PathBuf {
        let hosts = ["host", "host2"].map(|host| self.story.dir.join(host).join("instances"));
        let cluster = std::fs::read_dir(&hosts[n]).unwrap().next().unwrap().unwrap().path();
        cluster.join(format!("{}.{}.n{n}", CHAIN[0], CHAIN[1])).join("home")
    }

    /// The first is taken with what it has signed, and goes back with what it has signed since.
    fn the_first_goes_back(&mut self) {
        let home = self.by_hand.homes[1].clone();
        let config = self.by_hand.read(0, "config/config.toml");
        let key = self.by_hand.read(0, KEY);
        self.adopt(&home, &["--yes"]).unwrap();
        self.comes_to(0, "RUNNING", "HEALTHY", "");
        self.by_hand.children[0].take().unwrap().wait().unwrap();
        self.by_hand.is_fenced(0);
        let at_stop = self.by_hand.signed(&self.by_hand.homes[0]);
        let signed = until("ours signs on", LONG, || {
            let now = self.by_hand.signed(&self.ours(0));
            if now > at_stop + 2 { Ok(now) } else { Err(format!("{now}, {at_stop} when it was taken")) }
        });
        assert!(!self.ours(0).join("keyring-test").exists(), "the operator's key stays with its owner");
        self.comes_to(1, "MOVING", "UNKNOWN", "waits until its owner has stopped process");
        let back = ["chain", "give-back", CHAIN[0], CHAIN[1], "n0", "--reason", "its owner wants to see that", "--yes"];
        self.story.cluster.tell("admin", &back);
        self.comes_to(0, "WATCHED", "UNKNOWN", "it was given back");
        assert!(self.by_hand.signed(&self.by_hand.homes[0]) >= signed, "what was signed since went back");
        assert_eq!((self.by_hand.read(0, KEY), self.by_hand.read(0, "config/config.toml")), (key, config));
        self.by_hand.start(0);
        self.comes_to(0, "WATCHED", "HEALTHY", "");
    }

    fn all_follow(&mut self) {
        let go_on = ["chain", "roll-continue", CHAIN[0], CHAIN[1], "--reason", "it was seen"];
        self.story.cluster.tell("admin", &go_on);
        self.by_hand.stop(1);
        let chain = until("every node is taken over", LONG, || {
            let chain = self.ask("admin", &["chain", "get", CHAIN[0], CHAIN[1]])?["chain"].clone();
            if chain["state"] == "RUNNING" { Ok(chain) } else { Err(chain.to_string()) }
        });
        self.by_hand.children[0].take().unwrap().wait().unwrap();
        self.story.succeeds(chain["change_operation"].as_str().unwrap());
        (0..NODES).for_each(|n| self.by_hand.is_fenced(n));
        assert_eq!(pids_of(&self.story.dir, PROCESS).len(), NODES, "one process a validator");
    }

    /// It makes blocks with both, as its owners had set it; who validates is not the platform's to decide.
    fn is_a_chain_as_any_other(&self) {
        let height = self.node(0).unwrap()["height"].as_u64().unwrap();
        until("both go on", LONG, || {
            let nodes = [self.node(0)?, self.node(1)?];
            let is_well = |it: &Value| it["health"] == "HEALTHY" && it["height"].as_u64() > Some(height + 3);
            if nodes.iter().all(is_well) { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
        for n in 0..NODES {
            assert!(self.by_hand.signed(&self.ours(n)) > self.by_hand.signed(&self.by_hand.homes[n]));
            let config = std::fs::read_to_string(self.ours(n).join("config/app.toml")).unwrap();
            assert!(config.contains("160000000inj"), "what the platform need not know is as it was: {config}");
        }
        let shown = self.story.cluster.tell("acme", &["chain", "governance", CHAIN[0], CHAIN[1]]);
        let validators = shown["governance"]["validators"].as_array().unwrap();
        assert!(validators.len() == NODES && validators.iter().all(|it| it["power"] == 1_000), "{shown}");
        let open = ["proposal", "open-change-chain", CHAIN[0], CHAIN[1]];
        for change in [&["remove-validators", "n1"][..], &["remove-nodes", "n1"]] {
            let words = self.ask("acme", &[&open[..], change].concat()).unwrap_err();
            assert!(words.contains("operators stayed with them"), "{words}");
        }
    }
}
