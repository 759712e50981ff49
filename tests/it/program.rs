//! A chain's program is changed by vote, by the CLI alone, on local hosts with real nodes: a program that ends as soon as it starts
//! halts the change at its first node, and that node goes back; another one reaches all, while money is sent and the leader dies;
//! one that never answers halts it too. No block and no transaction is lost.
//!
//! The programs are small files: the good one runs this build's own node under another hash.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::by_hand::pids_of;
use crate::cluster::hanse;
use crate::life::{LONG, PROCESS, Story, TENANTS};
use crate::wait::until;

const CHAIN: [&str; 2] = ["trade", "supply-1"];

/// The story, and what must still be there at its end.
struct Told {
    story: Story,
    /// Hashes of the transactions that were sent.
    sent: Vec<String>,
    /// Heights with the hashes of their blocks.
    blocks: Vec<(u64, String)>,
}

#[test]
fn a_program_is_changed_by_vote_and_rolled_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told { story: Story::begin(dir.path()), sent: Vec::new(), blocks: Vec::new() };
    told.makes_a_chain();
    told.imports("ends", "#!/bin/sh\necho I end >&2\nexit 3\n");
    told.imports("silent", "#!/bin/sh\nexec sleep 600\n");
    let good = format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_hanse"));
    told.imports("good", &good);
    told.is_refused();
    let operation = told.upgrades("ends", "1m");
    told.halts_at_the_first("ended with code 3");
    told.goes_back(&operation);
    told.reaches_all("good");
    told.is_set_otherwise();
    told.upgrades("silent", "10s");
    told.halts_at_the_first("has not come back");
    told.goes_back("");
    told.loses_nothing();
}

impl Told {
    fn makes_a_chain(&mut self) {
        self.story.form_consortium();
        let key = self.story.path("treasury.key");
        let made: Value = serde_json::from_str(&hanse(&["key", "account-generate", &key, "-o", "json"])).unwrap();
        let alloc = format!("{}=1000000000000000000000", made["address"].as_str().unwrap());
        let nodes = TENANTS.map(|tenant| ["--node", tenant]).concat();
        let what = ["--chain", "supply-1", "--chain-id", "777", "--param", "block_time_ms=300", "--alloc", &alloc];
        let open = [&["proposal", "open-create-chain", "trade"][..], &what, &nodes].concat();
        let made = self.story.vote(&open, 3);
        self.story.succeeds(made["operation"].as_str().unwrap());
        self.story.goes_on(3);
        self.pays();
    }

    fn imports(&self, name: &str, text: &str) {
        let file = self.story.path(&format!("{name}.sh"));
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let named = ["artifact", "import", &file, "--name", name, "--version", "1.0.0"];
        let why = ["--allow-unsigned", "--reason", "made for this story"];
        self.story.cluster.tell("admin", &[&named[..], &why].concat());
    }

    /// Sends money and remembers that; notes the block at the head.
    fn pays(&mut self) {
        let (key, to) = (self.story.path("treasury.key"), "0x00000000000000000000000000000000000000aa");
        let transfer = ["tx", "transfer", CHAIN[0], CHAIN[1], "--key", &key, "--to", to, "--value-wei", "1", "--yes"];
        let done = until("money is sent", LONG, || {
            self.story.cluster.ask("acme", &[&transfer[..], &["--wait"]].concat()).map_err(|(_, words)| words)
        });
        self.sent.push(done["transaction"]["hash"].as_str().unwrap_or_else(|| panic!("{done}")).to_owned());
        let block = self.story.cluster.tell("acme", &["block", "get", CHAIN[0], CHAIN[1]])["block"].clone();
        self.blocks.push((block["height"].as_u64().unwrap(), block["hash"].as_str().unwrap().to_owned()));
    }

    fn refused(&self, who: &str, args: &[&str], words: &str) {
        let (_, said) = self.story.cluster.ask(who, args).unwrap_err();
        assert!(said.contains(words), "{args:?}: {said}");
    }

    /// Who does not fit is told why; and a plan says what would happen.
    fn is_refused(&self) {
        let upgrade = |artifact: &'static str| ["chain", "upgrade", CHAIN[0], CHAIN[1], "--artifact", artifact];
        self.refused("acme", &upgrade("nothing@1.0.0"), "is not an artifact that the platform keeps");
        let own = ["chain", "upgrade", CHAIN[0], CHAIN[1], "--own"];
        self.refused("acme", &own, "what its nodes run already");
        let back = ["chain", "rollback", CHAIN[0], CHAIN[1], "--reason", "x", "--yes"];
        self.refused("admin", &back, "no vote has changed what its nodes run");
        let plan = self.story.cluster.tell("acme", &[&upgrade("good@1.0.0")[..], &["--plan"]].concat())["plan"].clone();
        assert!(plan["words"].to_string().contains("its nodes run good 1.0.0 ("), "{plan}");
        assert_eq!(plan["order"], serde_json::json!(["n0", "n1", "n2", "n3"]), "{plan}");
    }

    /// Votes for it; gives the operation.
    fn upgrades(&mut self, name: &str, limit: &str) -> String {
        let artifact = format!("{name}@1.0.0");
        let open = ["chain", "upgrade", CHAIN[0], CHAIN[1], "--artifact", &artifact, "--limit", limit];
        let decided = self.story.vote(&open, 3);
        assert_eq!(decided["outcome"], "PASSED", "{decided}");
        let confirmed = format!("--confirm={artifact}");
        self.refused("admin", &["artifact", "delete", &artifact, &confirmed], " is Kept: ");
        decided["operation"].as_str().unwrap().to_owned()
    }

    /// It halts by itself, and only one node has the program; the chain goes on.
    fn halts_at_the_first(&mut self, words: &str) {
        let rollout = until("the change halts by itself", LONG, || {
            let rollout = self.story.chain()?["rollout"].clone();
            if rollout["halted"].as_str().is_some_and(|it| !it.is_empty()) {
                Ok(rollout)
            } else {
                Err(rollout.to_string())
            }
        });
        assert!(rollout["halted"].as_str().unwrap().contains(words), "{rollout}");
        assert_eq!(rollout["nodes_reached"].as_u64(), Some(1), "{rollout}");
        let nodes = self.story.nodes();
        let target = self.story.chain().unwrap()["program"].clone();
        let have = |node: &&Value| node["program"] == target;
        assert_eq!(nodes.iter().filter(have).count(), 1, "{nodes:?}");
        self.pays();
        self.refused(
            "admin",
            &["chain", "roll", CHAIN[0], CHAIN[1], "--reason", "x", "--yes"],
            "let it go on, vote for a program again, or roll it back",
        );
    }

    /// The one node goes back, the others are not touched.
    fn goes_back(&mut self, superseded: &str) {
        let before = self.story.nodes();
        let refit = self.story.chain().unwrap()["refit"].clone();
        let plan = self.story.cluster.tell("acme", &["chain", "plan", CHAIN[0], CHAIN[1], "rollback"])["plan"].clone();
        assert_eq!(plan["order"].as_array().map(Vec::len), Some(1), "{plan}");
        let back = ["chain", "rollback", CHAIN[0], CHAIN[1], "--reason", "it does not work", "--yes", "--wait"];
        self.story.cluster.tell("admin", &back);
        let chain = until("all are well with what they had", LONG, || {
            let chain = self.story.chain()?;
            let is_settled = chain["refit"]["settled_at_ms"].as_i64() > Some(0);
            if is_settled && chain["state"] == "RUNNING" { Ok(chain) } else { Err(chain.to_string()) }
        });
        assert_eq!(chain["refit"]["rolled_back"], "it does not work", "{chain}");
        assert_eq!(chain["program"], refit["before"], "{chain}");
        let after = self.story.nodes();
        let touched = |(old, new): &(&Value, &Value)| old["generation"] != new["generation"];
        assert_eq!(before.iter().zip(&after).filter(touched).count(), 1, "{after:?}");
        assert!(after.iter().all(|node| node["program"] == chain["program"]), "{after:?}");
        if !superseded.is_empty() {
            let gone = self.story.cluster.tell("admin", &["operation", "get", superseded])["operation"].clone();
            assert!(gone["cause"].as_str().unwrap().contains("superseded"), "{gone}");
        }
        self.pays();
    }

    /// One after another, while money is sent and the leader dies; each node ends with the program that was voted.
    fn reaches_all(&mut self, name: &str) {
        let operation = self.upgrades(name, "5m");
        until("the first node is reached", LONG, || {
            let reached = self.story.chain()?["rollout"]["nodes_reached"].as_u64().unwrap_or(0);
            if reached >= 1 { Ok(()) } else { Err(reached.to_string()) }
        });
        let leader = self.story.cluster.leader("admin");
        self.story.cluster.kill(leader);
        let reached =
            |told: &Self| told.story.chain().map(|chain| chain["rollout"]["nodes_reached"].as_u64().unwrap_or(0));
        while reached(self).is_ok_and(|reached| reached < 4) {
            self.pays();
        }
        self.story.succeeds(&operation);
        self.story.cluster.start_replica(leader);
        let nodes = self.story.nodes();
        assert!(nodes.iter().all(|node| node["program"]["name"] == name && node["health"] == "HEALTHY"), "{nodes:?}");
        assert_eq!(pids_of(&self.story.dir, PROCESS).len(), 4, "one process for each node and no other");
        let back = ["chain", "rollback", CHAIN[0], CHAIN[1], "--reason", "x", "--yes"];
        self.refused("admin", &back, "only another vote changes that");
        // A node that is started anew by hand keeps its program.
        self.story.cluster.tell("admin", &["node", "restart", CHAIN[0], CHAIN[1], "n2", "--reason", "to see", "--yes"]);
        until("n2 is well again", LONG, || {
            let node = self.story.nodes()[2].clone();
            let is_well = node["generation"] != nodes[2]["generation"] && node["health"] == "HEALTHY";
            if is_well && node["program"]["name"] == name { Ok(()) } else { Err(node.to_string()) }
        });
        self.pays();
    }

    /// Settings by vote: in every node's file, one after another; what is fixed at genesis is not voted on.
    fn is_set_otherwise(&mut self) {
        let set = ["chain", "reconfigure", CHAIN[0], CHAIN[1], "--set"];
        self.refused("acme", &[&set[..], &["block_time_ms=500"]].concat(), "is fixed at genesis");
        let wanted = [&set[..], &["rpc_connections=64", "--set", "history_states=4096"]].concat();
        let plan = self.story.cluster.tell("acme", &[&wanted[..], &["--plan"]].concat())["plan"].clone();
        assert!(
            plan["words"].to_string().contains("rpc_connections of its nodes is 64 instead of as ordered"),
            "{plan}"
        );
        let decided = self.story.vote(&wanted, 3);
        self.story.succeeds(decided["operation"].as_str().unwrap());
        for host in ["host1", "host2"] {
            let cluster = std::fs::read_dir(self.story.dir.join(host).join("instances")).unwrap().next().unwrap();
            for node in std::fs::read_dir(cluster.unwrap().path()).unwrap().flatten() {
                let config = std::fs::read_to_string(node.path().join("home/config.toml")).unwrap();
                assert!(config.contains("connections_max = 64") && config.contains("states = 4096"), "{config}");
            }
        }
        let nodes = self.story.nodes();
        assert!(nodes.iter().all(|node| node["program"]["name"] == "good" && node["health"] == "HEALTHY"), "{nodes:?}");
        self.pays();
    }

    fn loses_nothing(&self) {
        for hash in &self.sent {
            let found = self.story.cluster.tell("acme", &["explorer", "tx", CHAIN[0], CHAIN[1], hash]);
            assert!(found["transaction"]["block"].as_u64() > Some(0), "{found}");
        }
        for (height, hash) in &self.blocks {
            let height = height.to_string();
            let found = self.story.cluster.tell("acme", &["block", "get", CHAIN[0], CHAIN[1], &height]);
            assert_eq!(found["block"]["hash"], *hash, "{found}");
        }
        let audit = self.story.cluster.tell("admin", &["audit", "list", "--limit", "500"]).to_string();
        assert!(audit.contains("RollBackChain") && audit.contains("it does not work"), "{audit}");
    }
}
