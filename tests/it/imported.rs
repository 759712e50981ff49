//! A chain of a program that the operator brought: described, configured, signed and imported, voted on, made on a local host with four real
//! validators, used by the CLI; a dead validator is started again, and one whose home was put back is not. Then a chain of validators that others run is
//! taken over (`adopted_cometbft`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use hanse_fixtures::sshd::Sshd;
use serde_json::Value;

use crate::adopted_cometbft::a_chain_of_validators_that_others_run;
use crate::by_hand::{for_hosts, free_ports, pids_of};
use crate::cluster::{Cluster, hanse};
use crate::people::{PASSWORD, form_consortium, node, vote_a_chain};
use crate::wait::until;

/// Longest wait for anything on a busy two-core machine.
pub(crate) const LONG: Duration = Duration::from_secs(180);
/// What runs of a node besides its supervisor.
pub(crate) const PROCESS: &str = "injectived start --home";

pub(crate) struct Story {
    pub(crate) cluster: Cluster,
    pub(crate) dir: PathBuf,
}

/// The real program and its library, and nothing else, below `dir`; see `cargo xtask parts`.
pub(crate) fn bring(dir: &Path) -> PathBuf {
    let parts = std::env::var_os("HANSE_PARTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/parts"), PathBuf::from);
    let versions = std::fs::read_dir(parts.join("injective/lib")).expect("run `cargo xtask parts`").flatten();
    let mut folders = versions.map(|version| version.path().join("site-packages/injective_core/bin"));
    let from = folders.find(|folder| folder.join("injectived").exists()).expect("run `cargo xtask parts`");
    let files = dir.join("injectived-files");
    std::fs::create_dir(&files).unwrap();
    for name in ["injectived", "libwasmvm.x86_64.so"] {
        std::os::unix::fs::symlink(from.join(name), files.join(name)).unwrap();
    }
    files
}

impl Story {
    pub(crate) fn begin(dir: &Path) -> Self {
        Self::begin_with(dir, "")
    }

    /// The same with more of the replicas' configuration.
    fn begin_with(dir: &Path, more: &str) -> Self {
        let (files, manifest) = (bring(dir), dir.join("bundle.json"));
        let (folder, out) = (files.to_str().unwrap(), manifest.to_str().unwrap());
        let described = ["artifact", "describe", folder, "--program", "injectived", "--out", out, "-o", "json"];
        let described: Value = serde_json::from_str(&hanse(&described)).unwrap();
        let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engines/cometbft/profiles/injective.toml");
        let config =
            format!("cometbft = {{ sha256 = {}, profile = \"{}\" }}\n{more}", described["sha256"], profile.display());
        let cluster = Cluster::start(dir, &config);
        let story = Self { cluster, dir: dir.to_path_buf() };
        story.cluster.bootstrap(PASSWORD);
        story.import(folder, out);
        story
    }

    /// The program comes to the platform on its publisher's word, and to every replica; every refusal leaves nothing.
    fn import(&self, folder: &str, manifest: &str) {
        let (key, signature) = (self.path("publisher.key"), self.path("injectived.sig"));
        let made: Value = serde_json::from_str(&hanse(&["key", "generate", &key, "-o", "json"])).unwrap();
        let sign = ["artifact", "sign", folder, "--manifest", manifest, "--name", "injectived", "--version", "1.20.1"];
        hanse(&[&sign[..], &["--key", &key, "--out", &signature]].concat());
        let import = ["artifact", "import", folder, "--manifest", manifest];
        let refused = |more: &[&str], code: i32, word: &str| {
            let (found, words) = self.cluster.ask("admin", &[&import[..], more].concat()).unwrap_err();
            assert!(found == code && words.contains(word), "{more:?}: {found}: {words}");
        };
        refused(&["--name", "injectived", "--version", "1"], 2, "no signature");
        refused(&["--signature", &signature], 2, "is not pinned here");
        let public_key = made["public_key"].as_str().unwrap();
        self.cluster.tell("admin", &["artifact", "publisher", "pin", "injective-labs", "--key", public_key, "--yes"]);
        let forged = self.path("forged.sig");
        let text = std::fs::read_to_string(&signature).unwrap().replace("1.20.1", "9.9.9");
        std::fs::write(&forged, text).unwrap();
        refused(&["--signature", &forged], 2, "signature");
        self.cluster.tell("admin", &[&import[..], &["--signature", &signature]].concat());
        let shown = until("every replica has it", LONG, || {
            let shown = self.cluster.tell("admin", &["artifact", "get", "injectived@1.20.1"]);
            let copies = shown["copies"].as_array().cloned().unwrap_or_default();
            let whole =
                copies.iter().filter(|copy| copy["state"].as_str().is_some_and(|it| it.ends_with("WHOLE"))).count();
            if whole == 3 { Ok(shown) } else { Err(shown.to_string()) }
        });
        assert_eq!(shown["artifact"]["publisher"], "injective-labs", "{shown}");
        self.cluster.tell("admin", &["artifact", "verify", "injectived@1.20.1"]);
        let (code, words) = self
            .cluster
            .ask("admin", &["artifact", "delete", "injectived@1.20.1", "--confirm", "injectived@1.20.1"])
            .unwrap_err();
        assert!(code == 5 && words.contains("cometbft.sha256"), "its chains need it: {code}: {words}");
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// One local host with room for five nodes of six ports.
    pub(crate) fn enrol_host(&self) {
        let (root, first) = (self.path("host"), free_ports(30, 1)[0].to_string());
        let place = ["--root", &root, "--peer-address", "127.0.0.1", "--port-first", &first];
        let room = ["--port-count", "30", "--slots", "5"];
        self.cluster.tell("admin", &[&["host", "enrol", "h1", "--local"][..], &place, &room].concat());
    }

    pub(crate) fn node(&self, name: &str) -> Result<Value, String> {
        node(&self.cluster, name)
    }

    pub(crate) fn healthy(&self, name: &str, generation: u64) -> u64 {
        until("the node is healthy", LONG, || {
            let (node, best) = (self.node(name)?, self.node("n0")?["height"].as_u64().unwrap_or(0));
            let height = node["height"].as_u64().unwrap_or(0);
            let well = node["health"] == "HEALTHY" && node["generation"] == generation && height > 0;
            if well && height + 5 >= best { Ok(height) } else { Err(node.to_string()) }
        })
    }

    /// Has the consortium vote for a change of the chain, and waits until it has come about.
    pub(crate) fn change(&self, change: &[&str]) {
        let operation = self.vote(change);
        self.succeeds(&operation);
    }

    /// Has the consortium vote for a change of the chain; gives the operation.
    pub(crate) fn vote(&self, change: &[&str]) -> String {
        let open = [&["proposal", "open-change-chain", "trade", "supply-1"][..], change].concat();
        let opened = self.cluster.tell("acme", &open);
        let proposal = opened["proposal"]["proposal"].as_str().unwrap().to_owned();
        let mut operation = String::new();
        for tenant in ["acme", "bocom", "sgcc"] {
            let vote = ["proposal", "vote", "trade", &proposal, "yes", "--key", &self.path(&format!("{tenant}.key"))];
            let voted = self.cluster.tell(tenant, &[&vote[..], &["--yes"]].concat());
            operation = voted["proposal"]["operation"].as_str().unwrap_or_default().to_owned();
        }
        operation
    }

    pub(crate) fn succeeds(&self, operation: &str) {
        until(&format!("{operation} comes about"), LONG, || {
            let it = self.cluster.ask("admin", &["operation", "get", operation]).map_err(|(_, words)| words)?;
            if it["operation"]["state"] == "SUCCEEDED" { Ok(()) } else { Err(it.to_string()) }
        });
    }

    /// Why the change cannot be voted on.
    pub(crate) fn refused(&self, change: &[&str]) -> String {
        let open = [&["proposal", "open-change-chain", "trade", "supply-1"][..], change].concat();
        self.cluster.ask("acme", &open).unwrap_err().1
    }

    /// Keys of the ledger's validators; a node that has just begun may fail inside once.
    fn validators(&self) -> Vec<String> {
        let shown = until("its validators are told", LONG, || {
            self.cluster.ask("acme", &["chain", "governance", "trade", "supply-1"]).map_err(|(_, words)| words)
        });
        let list = shown["governance"]["validators"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|it| it["public_key"].as_str().map(str::to_owned)).collect()
    }

    pub(crate) fn kill(&self, name: &str) {
        let pid = i32::try_from(self.node(name).unwrap()["pid"].as_u64().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

/// The story, and a host of this machine behind SSH.
fn begin_with_ssh(dir: &Path) -> (Story, Sshd) {
    let ssh = Sshd::spawn(&dir.join("sshd")).unwrap();
    let (identity, program) = (ssh.identity_path.display(), for_hosts(dir));
    let way = format!("ssh_identity = \"{identity}\"\nnode_artifact = \"{}\"", program.display());
    (Story::begin_with(dir, &way), ssh)
}

#[test]
fn a_chain_of_a_program_that_the_operator_brought() {
    let dir = tempfile::tempdir().unwrap();
    let (story, ssh) = begin_with_ssh(dir.path());
    story.enrol_host();
    form_consortium(&story.cluster, dir.path());
    vote_a_chain(&story.cluster, dir.path(), &["--template", "cosmos-evm", "--param", "vote_seconds=12"]);
    assert_eq!(pids_of(&story.dir, PROCESS).len(), 4, "one process for each node and no other");
    the_chain_works(&story);
    a_dead_validator_is_started_again(&story);
    a_fifth_validates_for_a_while(&story);
    one_that_was_put_back_is_not(&story);
    let paused = ["chain", "pause", "trade", "supply-1", "--reason", "others need the machine", "--yes"];
    let paused = story.cluster.tell("admin", &paused);
    story.succeeds(paused["operation"].as_str().unwrap());
    a_chain_of_validators_that_others_run(&story, &ssh);
}

fn the_chain_works(story: &Story) {
    let (key, to) = (story.path("treasury.key"), "0x00000000000000000000000000000000000000aa");
    let what = ["tx", "transfer", "trade", "supply-1", "--key", &key, "--to", to, "--value-wei", "12345"];
    let sent = story.cluster.tell("acme", &[&what[..], &["--yes", "--wait"]].concat());
    assert_eq!(sent["transaction"]["state"], "SUCCEEDED", "{sent}");
    let account = story.cluster.tell("acme", &["explorer", "account", "trade", "supply-1", to]);
    assert_eq!(account["account"]["balance_wei"], "12345", "{account}");
    let code = format!("0x{}", include_str!("../../fixtures/contracts/Notary.bin").trim());
    let what = ["contract", "deploy", "trade", "supply-1", "notary", "--bytecode", &code, "--key", &key];
    story.cluster.tell("acme", &[&what[..], &["--yes", "--wait"]].concat());
    let call = ["contract", "call", "trade", "supply-1", "notary", "--data", "0x06661abd"];
    let count = story.cluster.tell("acme", &call);
    assert!(count.to_string().contains(&"0".repeat(64)), "{count}");
    assert_eq!(story.validators().len(), 4);
}

fn a_dead_validator_is_started_again(story: &Story) {
    story.kill("n1");
    story.healthy("n1", 2);
}

/// A node joins by vote and follows, validates by another vote, which the ledger's own transactions carry out, leaves its seat
/// and the chain likewise, and nothing of its key is left.
fn a_fifth_validates_for_a_while(story: &Story) {
    let words = story.refused(&["add-validators", "n3"]);
    assert!(words.contains("it validates, or is about to, already"), "{words}");
    story.change(&["add-nodes", "--node", "acme"]);
    assert!(story.validators().len() == 4 && !story.node("n4").unwrap()["validates"].as_bool().unwrap_or(false));
    let plan = ["proposal", "open-change-chain", "trade", "supply-1", "add-validators", "n4", "--plan"];
    let plan = story.cluster.tell("acme", &plan)["plan"].clone();
    assert!(plan["nodes"][0]["work"] == "SEAT" && plan["after"]["validators"] == 5, "{plan}");
    story.change(&["add-validators", "n4"]);
    let node = story.node("n4").unwrap();
    let key = node["public_key"].as_str().unwrap().to_owned();
    let held = node["validates"] == true && node["seat"]["held"] == true;
    assert!(held && story.validators().len() == 5 && story.validators().contains(&key), "{node}");
    assert!(story.refused(&["remove-nodes", "n4"]).contains("remove-validators"), "a validator leaves its seat first");

    story.change(&["remove-validators", "n4"]);
    assert!(!story.validators().contains(&key), "the ledger's own word");
    story.healthy("n4", 1);
    story.change(&["remove-nodes", "n4"]);
    let left = std::fs::read_dir(story.dir.join("host/instances")).unwrap().next().unwrap().unwrap().path();
    let names: Vec<_> = std::fs::read_dir(left).unwrap().map(|home| home.unwrap().file_name()).collect();
    assert!(names.len() == 4 && !names.iter().any(|name| name == "trade.supply-1.n4"), "{names:?}");
    assert_eq!(pids_of(&story.dir, PROCESS).len(), 4);
}

/// The home of a validator is put back to an older state while it is down: it is not started, and says why; with the
/// newest state again it goes on when a person says so.
fn one_that_was_put_back_is_not(story: &Story) {
    let homes = std::fs::read_dir(story.dir.join("host/instances")).unwrap().next().unwrap().unwrap().path();
    let state = homes.join("trade.supply-1.n3").join("home").join("data/priv_validator_state.json");
    let old = std::fs::read(&state).unwrap();
    let generation = story.node("n3").unwrap()["generation"].as_u64().unwrap();
    let height = story.healthy("n3", generation);
    until("it signs on", LONG, || {
        let node = story.node("n3")?;
        if node["height"].as_u64().unwrap_or(0) > height + 5 { Ok(()) } else { Err(node.to_string()) }
    });
    story.kill("n3");
    let newest = std::fs::read(&state).unwrap();
    std::fs::write(&state, old).unwrap();
    until("it is not started, with the reason", LONG, || {
        let node = story.node("n3")?;
        let reason = node["state_reason"].as_str().unwrap_or_default();
        if node["state"] == "BLOCKED" && reason.contains("older state") { Ok(()) } else { Err(node.to_string()) }
    });
    assert_eq!(pids_of(&story.dir, PROCESS).len(), 3, "it does not run");
    std::fs::write(&state, newest).unwrap();
    let generation = story.node("n3").unwrap()["generation"].as_u64().unwrap();
    story.cluster.tell("admin", &["node", "restart", "trade", "supply-1", "n3", "--yes"]);
    story.healthy("n3", generation + 1);
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
