//! The program of a chain of four real validators is changed by vote, by the CLI alone: one after another, and all at one height.
//! Called off before it; carried through while the leader dies and one validator is away; a program that does not start is gone
//! back from at the height. No transaction is lost, and nobody is repaired where it is to stand.
//!
//! The next program is the same `injectived` 1.20.1 as a bundle of another digest and name: what is shown is the mechanics, and no
//! migration of state.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::by_hand::pids_of;
use crate::cluster::hanse;
use crate::imported::{LONG, PROCESS, Story, bring};
use crate::people::{form_consortium, vote_a_chain};
use crate::wait::until;

const NAMES: [&str; 4] = ["n0", "n1", "n2", "n3"];

/// The story, and hashes of the transactions that must still be there at its end.
struct Told {
    story: Story,
    sent: Vec<String>,
}

#[test]
fn a_program_is_changed_one_after_another_and_at_one_height() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told { story: Story::begin(dir.path()), sent: Vec::new() };
    told.story.enrol_host();
    form_consortium(&told.story.cluster, dir.path());
    vote_a_chain(&told.story.cluster, dir.path(), &["--template", "cosmos-evm", "--param", "vote_seconds=5"]);
    told.imports("second", None);
    told.imports(
        "broken",
        Some("#!/bin/sh\n[ \"$1\" = start ] || exec \"${0%/*}/real\" \"$@\"\necho no such store >&2\nexit 3\n"),
    );
    told.pays();
    told.goes_one_after_another();
    told.is_set_otherwise();
    told.is_refused();
    told.is_called_off();
    told.is_exchanged_at_a_height();
    told.goes_back_at_the_height();
    told.loses_nothing();
}

impl Told {
    /// A bundle of its own digest; `program` stands before the real one in it.
    fn imports(&self, name: &str, program: Option<&str>) {
        let folder = self.story.dir.join(format!("bundle-{name}"));
        std::fs::create_dir(&folder).unwrap();
        let from = bring(&folder);
        std::fs::write(from.join("NOTICE"), name).unwrap();
        if let Some(text) = program {
            std::fs::rename(from.join("injectived"), from.join("real")).unwrap();
            std::fs::write(from.join("injectived"), text).unwrap();
            std::fs::set_permissions(from.join("injectived"), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let (from, manifest) = (from.display().to_string(), folder.join("bundle.json").display().to_string());
        hanse(&["artifact", "describe", &from, "--program", "injectived", "--out", &manifest]);
        let import = ["artifact", "import", &from, "--manifest", &manifest, "--name", name, "--version", "1.0.0"];
        let why = ["--allow-unsigned", "--reason", "made for this story"];
        self.story.cluster.tell("admin", &[&import[..], &why].concat());
        let artifact = format!("{name}@1.0.0");
        until("every replica has it", LONG, || {
            let shown = self.story.cluster.tell("admin", &["artifact", "get", &artifact]);
            let copies = shown["copies"].as_array().cloned().unwrap_or_default();
            let is_whole = |copy: &&Value| copy["state"].as_str().is_some_and(|it| it.ends_with("WHOLE"));
            if copies.iter().filter(is_whole).count() == 3 { Ok(()) } else { Err(shown.to_string()) }
        });
    }

    fn pays(&mut self) {
        let (key, to) = (self.story.path("treasury.key"), "0x00000000000000000000000000000000000000aa");
        let what = ["tx", "transfer", "trade", "supply-1", "--key", &key, "--to", to, "--value-wei", "1", "--yes"];
        let done = until("money is sent", LONG, || {
            self.story.cluster.ask("acme", &[&what[..], &["--wait"]].concat()).map_err(|(_, words)| words)
        });
        self.sent.push(done["transaction"]["hash"].as_str().unwrap_or_else(|| panic!("{done}")).to_owned());
    }

    fn chain(&self) -> Result<Value, String> {
        let shown = self.story.cluster.ask("admin", &["chain", "get", "trade", "supply-1"]);
        shown.map(|it| it["chain"].clone()).map_err(|(_, words)| words)
    }

    fn nodes(&self) -> Vec<Value> {
        NAMES.map(|name| self.story.node(name).unwrap()).to_vec()
    }

    fn height(&self) -> u64 {
        until("its height is known", LONG, || {
            let chain = self.chain()?;
            let height = chain["height"].as_u64().filter(|height| *height > 0);
            height.ok_or_else(|| chain.to_string())
        })
    }

    fn refused(&self, who: &str, args: &[&str]) -> String {
        self.story.cluster.ask(who, args).unwrap_err().1
    }

    /// Waits until the chain is as it should be.
    fn waits(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(what, LONG, || {
            let chain = self.chain()?;
            if holds(&chain) { Ok(chain) } else { Err(chain.to_string()) }
        })
    }

    /// All run that program, are well, and the chain is beyond `height`.
    fn goes_on_with(&self, program: Option<&str>, height: u64) {
        self.waits("it goes on", |chain| {
            chain["state"] == "RUNNING"
                && chain["height"].as_u64() > Some(height)
                && chain["refit"]["settled_at_ms"].as_i64() > Some(0)
        });
        let nodes = self.nodes();
        assert!(nodes.iter().all(|node| node["program"]["name"].as_str() == program), "{nodes:?}");
        assert!(nodes.iter().all(|node| node["halt_height"].as_u64().unwrap_or(0) == 0), "{nodes:?}");
        assert_eq!(pids_of(&self.story.dir, PROCESS).len(), 4, "one process for each node and no other");
    }

    fn goes_one_after_another(&mut self) {
        self.story.change(&["upgrade", "--artifact", "second@1.0.0"]);
        let height = self.height();
        self.goes_on_with(Some("second"), height);
        self.pays();
    }

    fn is_set_otherwise(&mut self) {
        self.story.change(&["reconfigure", "--set", "mempool_transactions=1234"]);
        let homes = std::fs::read_dir(self.story.dir.join("host/instances")).unwrap().next().unwrap().unwrap().path();
        for name in NAMES {
            let path = homes.join(format!("trade.supply-1.{name}")).join("home/config/config.toml");
            let config = std::fs::read_to_string(path).unwrap();
            assert!(config.contains("size = 1234"), "{name}: {config}");
        }
        let height = self.height();
        self.goes_on_with(Some("second"), height);
        self.pays();
    }

    fn is_refused(&self) {
        let upgrade = ["chain", "upgrade", "trade", "supply-1", "--own", "--at-height"];
        let words = self.refused("acme", &[&upgrade[..], &["2"]].concat());
        assert!(words.contains("that block is made"), "{words}");
        let words = self.refused("acme", &[&upgrade[..], &["+6"]].concat());
        assert!(words.contains("too near"), "{words}");
        let plan = self.story.cluster.tell("acme", &[&upgrade[..], &["+1000", "--plan"]].concat())["plan"].clone();
        assert!(plan["words"].to_string().contains("are told to stop before block"), "{plan}");
    }

    /// Votes for it so far ahead that there is time to tell all; gives the operation and the height.
    fn votes(&self, program: &[&str], ahead: u64) -> (String, u64) {
        let at = format!("+{ahead}");
        let upgrade = [&["upgrade", "--limit", "1m", "--at-height", &at][..], program].concat();
        let operation = self.story.vote(&upgrade);
        let chain = self.chain().unwrap();
        (operation, chain["refit"]["at_height"].as_u64().unwrap_or_else(|| panic!("{chain}")))
    }

    fn is_told(&self) {
        until("all are told", LONG, || {
            let nodes = self.nodes();
            let is_told = |node: &Value| {
                node["halt_height"].as_u64() > Some(0) && node["state"] == "RUNNING" && node["health"] == "HEALTHY"
            };
            if nodes.iter().all(is_told) { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
    }

    /// Two know of it when an operator calls it off: they are told otherwise, and the chain passes that height as if nothing had been.
    fn is_called_off(&mut self) {
        let (operation, height) = self.votes(&["--own"], 80);
        until("the first knows", LONG, || {
            let nodes = self.nodes();
            let knows = |node: &Value| node["halt_height"] == height && node["state"] == "RUNNING";
            if nodes.iter().any(knows) { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
        let words = self.refused("admin", &["chain", "roll", "trade", "supply-1", "--reason", "x", "--yes"]);
        assert!(words.contains("under way") || words.contains("at block"), "{words}");
        let back = ["chain", "rollback", "trade", "supply-1", "--reason", "not now", "--yes", "--wait"];
        self.story.cluster.tell("admin", &back);
        self.goes_on_with(Some("second"), height + 1);
        let gone = self.story.cluster.tell("admin", &["operation", "get", &operation])["operation"].clone();
        assert!(gone["cause"].as_str().unwrap().contains("superseded"), "{gone}");
        self.pays();
    }

    /// The leader dies while they are told; one validator is away when the others stand at the height, and learns of it when it
    /// comes back.
    fn is_exchanged_at_a_height(&mut self) {
        let (operation, height) = self.votes(&["--own"], 115);
        until("the first is told", LONG, || {
            let nodes = self.nodes();
            if nodes.iter().any(|node| node["halt_height"] == height) { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
        let leader = self.story.cluster.leader("admin");
        self.story.cluster.kill(leader);
        self.is_told();
        self.story.cluster.start_replica(leader);
        self.pays();
        // Not repaired by itself, so it stays away until a person starts it.
        self.story
            .cluster
            .tell("admin", &["chain", "repair", "trade", "supply-1", "--off", "--reason", "to see", "--yes"]);
        let told: Vec<u64> = self.nodes().iter().map(|node| node["generation"].as_u64().unwrap()).collect();
        self.story.kill("n3");
        let chain = self.waits("it stands at the height", |chain| chain["state"] == "HALTED");
        assert!(chain["state_reason"].as_str().unwrap().contains("the platform's own program"), "{chain}");
        let findings = self.story.cluster.tell("admin", &["chain", "diagnose", "trade", "supply-1"]).to_string();
        assert!(findings.contains("EXCHANGE") && !findings.contains("STALLED"), "{findings}");
        let chain = self.waits("three go on", |chain| chain["height"].as_u64() > Some(height + 3));
        assert_eq!(chain["refit"]["stage"], "EXCHANGING", "{chain}");
        let nodes = self.nodes();
        for (node, before) in nodes.iter().zip(&told).take(3) {
            assert!(node["program"].is_null() && node["generation"] == before + 1, "started once: {node}");
        }
        assert_eq!(nodes[3]["program"]["name"], "second", "it has not been there: {}", nodes[3]);
        self.pays();
        // By a person before the platform may do it itself again, or both would.
        self.story.cluster.tell("admin", &["node", "restart", "trade", "supply-1", "n3", "--yes"]);
        self.story.cluster.tell("admin", &["chain", "repair", "trade", "supply-1", "--default", "--reason", "seen"]);
        self.goes_on_with(None, height + 3);
        self.story.succeeds(&operation);
        self.pays();
    }

    /// A program that ends at once: the chain stands, says why, and goes back, which the ledger's driver allows because nothing was
    /// executed by it.
    fn goes_back_at_the_height(&mut self) {
        let (_, height) = self.votes(&["--artifact", "broken@1.0.0"], 115);
        self.is_told();
        let chain = self.waits("the exchange is halted", |chain| {
            chain["state"] == "HALTED" && chain["rollout"]["halted"].as_str().is_some_and(|it| !it.is_empty())
        });
        assert!(chain["rollout"]["halted"].as_str().unwrap().contains("has not come back"), "{chain}");
        let findings = self.story.cluster.tell("admin", &["chain", "diagnose", "trade", "supply-1"]).to_string();
        assert!(findings.contains("the exchange is halted"), "{findings}");
        let back = ["chain", "rollback", "trade", "supply-1", "--reason", "it does not start", "--yes", "--wait"];
        self.story.cluster.tell("admin", &back);
        self.goes_on_with(None, height + 3);
        self.pays();
    }

    fn loses_nothing(&self) {
        for hash in &self.sent {
            let found = self.story.cluster.tell("acme", &["explorer", "tx", "trade", "supply-1", hash]);
            assert!(found["transaction"]["block"].as_u64() > Some(0), "{found}");
        }
        let audit = self.story.cluster.tell("admin", &["audit", "list", "--limit", "500"]).to_string();
        assert!(audit.contains("ExchangeProgram") && audit.contains("not now"), "{audit}");
    }
}
