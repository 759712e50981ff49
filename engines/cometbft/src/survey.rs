//! Homes of nodes that others made: what the application's own program and files say of one, and whether it can be taken over.
//!
//! No private key is read: who the node is, its program says (`comet show-node-id`, `comet show-validator`). The genesis does not give the
//! first block, so that is asked of the node that holds the home, at its own port on its host. The program makes files in a home that
//! lacks them; it is run in one only once they were seen to be there.

mod settings;

use std::time::Duration;

use hanse_adapters_core::preflight::Finding;
use hanse_adapters_core::{Adapter, Bundle, Claim, HomeSeen, InstanceKey, RunSpec};
use hanse_engines_core::{Engine, EngineError, Found, NodeIdentity, Result, Survey, of_folder, of_port};
use hanse_engines_evm::rpc::Rpc;
use serde_json::{Value, json};

use crate::config::{APP_FILE, GENESIS_FILE, NODE_FILE};
use crate::contribution::{hex_of_base64, public_key};
use crate::guard::{self, STATE_FILE};
use crate::profile::Profile;
use crate::{CONSENSUS_RPC, CometBftEngine, tool};

const KEY_FILE: &str = "config/priv_validator_key.json";
const CLIENT_FILE: &str = "config/client.toml";
/// Locked by a node that runs; goleveldb makes it with the application's database.
const LOCK_FILE: &str = "data/application.db/LOCK";
/// Names the newest file of the application's database.
const CURRENT_FILE: &str = "data/application.db/CURRENT";
/// Where the owner's keys of accounts are, which the platform does not need.
const KEYRINGS: [&str; 2] = ["keyring-test/", "keyring-file/"];
/// What stands in the place of a key that is set aside. Never changes: a key's place is known by it.
const IN_PLACE: &str = concat!(
    "This validator is run by the platform that TAKEN-BY-HANSE.json names. ",
    "Its key was set aside so that nothing signs with it here.\n"
);
/// Longest run of the program for one question.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// A home that the program can make nothing in.
const NOWHERE: &str = "/dev/null";

/// What a node of this ledger is by, below its home. Without something in the key's place CometBFT would make a new key there, and write
/// `priv_validator_state.json` anew (`privval.LoadOrGenFilePV`): what the old key has signed would be forgotten.
pub(crate) fn claim(home: &str) -> Claim {
    Claim {
        home: home.into(),
        key_file: KEY_FILE.into(),
        lock_file: LOCK_FILE.into(),
        left: KEYRINGS.map(str::to_owned).into(),
        edited: [GENESIS_FILE, NODE_FILE, APP_FILE].map(str::to_owned).into(),
        in_place: Some(IN_PLACE.into()),
    }
}

/// What it is looked at with.
pub(crate) struct Look<'a> {
    pub(crate) engine: &'a CometBftEngine,
    pub(crate) bundle: &'a Bundle,
    pub(crate) profile: &'a Profile,
    pub(crate) host: &'a dyn Adapter,
}

/// What the program said of a home.
struct Said {
    identity: NodeIdentity,
    version: String,
}

/// What the node that holds the home says of itself.
struct Told {
    node_id: String,
    /// What it signs with.
    public_key: Option<String>,
    version: String,
    first_block: std::result::Result<String, String>,
}

impl Look<'_> {
    pub(crate) async fn survey(&self, home: &str) -> Result<Survey> {
        let seen = self.run(home, &["version"], NOWHERE).await?;
        if seen.home.is_empty() && seen.obstacle.is_empty() {
            let advice = "name the folder that holds config/ and data/";
            let findings = vec![Finding::error("home", "there is no such folder on the host", advice)];
            return Ok(Survey { findings, found: None });
        }
        let mut findings = of_folder(&seen);
        let files = [GENESIS_FILE, NODE_FILE, APP_FILE, CLIENT_FILE];
        let missing: Vec<&str> = files.into_iter().filter(|file| !seen.contents.contains_key(*file)).collect();
        if !missing.is_empty() {
            let what = format!("it has no {}, or one that is too large", missing.join(", "));
            findings.push(Finding::error("home", what, "name the folder that the node is started with (--home)"));
            return Ok(Survey { findings, found: None });
        }
        let found = match self.said(home, &mut findings).await? {
            Some(said) => self.found(&seen, said, &mut findings).await,
            None => None,
        };
        Ok(Survey { findings, found })
    }

    /// Runs the program on the home `at`, and looks at `home`.
    async fn run(&self, home: &str, words: &[&str], at: &str) -> Result<HomeSeen> {
        let mut env = tool::environment();
        env.insert("HOME".into(), NOWHERE.into());
        let program = RunSpec {
            artifact_sha256: self.bundle.manifest.sha256.clone(),
            program: Some(self.bundle.program.clone()),
            args: words.iter().chain(&["--home", at]).map(|word| (*word).to_owned()).collect(),
            env,
            timeout: RUN_LIMIT,
        };
        let reads = [GENESIS_FILE, NODE_FILE, APP_FILE, CLIENT_FILE, STATE_FILE, CURRENT_FILE].map(str::to_owned);
        self.host.survey_home(&claim(home), &reads, &program).await.map_err(EngineError::Host)
    }

    /// What the program says of the home; told if it does not read it.
    async fn said(&self, home: &str, findings: &mut Vec<Finding>) -> Result<Option<Said>> {
        let mut answers = Vec::new();
        for words in [&["comet", "show-validator"][..], &["comet", "show-node-id"], &["version"]] {
            let said = self.run(home, words, "{home}").await?.said;
            match said {
                Some(said) if said.code == Some(0) => answers.push(said.stdout.trim().to_owned()),
                said => {
                    let why = said.map(|said| said.stderr.trim().to_owned()).unwrap_or_default();
                    findings
                        .push(unread(format!("the platform's program does not read it, `{}`: {why}", words.join(" "))));
                    return Ok(None);
                }
            }
        }
        let [key, node_id, version] = answers.as_slice() else { return Ok(None) };
        let key = serde_json::from_str::<Value>(key).ok().and_then(|key| public_key(&key));
        let is_id = node_id.len() == 40 && node_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let (Some(public_key), true) = (key, is_id) else {
            findings.push(unread("the platform's program says no Ed25519 key and no node id of it".into()));
            return Ok(None);
        };
        let identity = NodeIdentity { node_id: node_id.clone(), public_key, contribution: None };
        Ok(Some(Said { identity, version: version_of(version) }))
    }

    async fn found(&self, seen: &HomeSeen, said: Said, findings: &mut Vec<Finding>) -> Option<Found> {
        findings.push(match seen.contents.get(CURRENT_FILE) {
            Some(_) => {
                Finding::fine("store", "its databases are there; whether they are whole is seen when ours starts")
            }
            None => Finding::error(
                "store",
                "it has no data/application.db",
                "name the folder that the node is started with",
            ),
        });
        let text =
            |file: &str| String::from_utf8_lossy(seen.contents.get(file).map_or(&[][..], Vec::as_slice)).into_owned();
        let (wanted, wrong) = settings::read(&text(NODE_FILE), &text(APP_FILE));
        findings.extend(wrong);
        let wanted = wanted?;
        let genesis = seen.contents.get(GENESIS_FILE)?;
        let chain_id = match settings::chain_id(genesis, self.profile) {
            Ok(chain_id) => chain_id,
            Err(why) => {
                findings.push(Finding::error("genesis", why, "name a home of the application of the engine's profile"));
                return None;
            }
        };
        let signed = seen.contents.get(STATE_FILE).map(|bytes| guard::parse(bytes));
        findings.push(match signed {
            Some(Some(signed)) => Finding::fine("signed", format!("it has signed up to {signed}")),
            Some(None) | None => {
                let what =
                    format!("{STATE_FILE} is missing or cannot be read: nobody knows what this validator has signed");
                Finding::error("signed", what, "bring the file back as the node left it")
            }
        });
        for (name, port) in wanted.all_ports() {
            findings.push(of_port(seen, port, name));
        }
        let first_block = self.of_node(seen, &said, &wanted, findings).await;
        Some(Found {
            identity: said.identity,
            genesis: genesis.clone(),
            chain_id,
            first_block,
            // Who validates is decided on the chain itself.
            validators: Vec::new(),
            p2p_address: wanted.p2p_address,
            p2p_port: wanted.p2p_port,
            rpc_port: wanted.rpc_port,
            ports: wanted.ports,
            settings: wanted.settings,
            is_held: !seen.holders.is_empty(),
            signed: signed.flatten(),
        })
    }

    /// What the node that holds the home says: that it is this one, of which program, and its first block.
    async fn of_node(
        &self,
        seen: &HomeSeen,
        said: &Said,
        wanted: &settings::Wanted,
        findings: &mut Vec<Finding>,
    ) -> Option<String> {
        let rpc_port = *wanted.ports.get(CONSENSUS_RPC)?;
        if seen.listening.get(&rpc_port) != Some(&true) {
            let how =
                if seen.holders.is_empty() { "its node does not run" } else { "its node does not listen at rpc.laddr" };
            let what = format!("{how}, so its program is not told; the platform's is {}", said.version);
            findings.push(Finding::warning("program", what, "see that it was run with that very version"));
            return None;
        }
        match self.ask(wanted).await {
            Ok(told) => compare(said, told, findings),
            Err(why) => {
                let what = format!("the process that holds it does not say what it is: {why}");
                let advice = "see that the node is well, and that its ports can be reached at its host's loopback";
                findings.push(Finding::error("program", what, advice));
                None
            }
        }
    }

    async fn ask(&self, wanted: &settings::Wanted) -> std::result::Result<Told, String> {
        let key = InstanceKey::new("survey", "home").ok_or("it cannot be named")?;
        let node = wanted.question(key);
        let words = |error: EngineError| error.to_string();
        let rpc = Rpc::new(self.host, &node).at(crate::port(&node, CONSENSUS_RPC).map_err(words)?);
        let answers = rpc.all(&[("status", json!({})), ("abci_info", json!({}))]).await.map_err(words)?;
        let [status, app] = answers.as_slice() else { return Err("it answers something else than was asked".into()) };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Told {
            node_id: text(&status["node_info"]["id"]),
            public_key: hex_of_base64(&status["validator_info"]["pub_key"]["value"]),
            version: text(&app["response"]["version"]),
            first_block: self.engine.mark(self.host, &node).await.map(|mark| mark.first_block).map_err(words),
        })
    }
}

/// What the node says, compared with what its home holds; gives its first block. Its key is what it signs with, whatever the file holds now.
fn compare(said: &Said, told: Told, findings: &mut Vec<Finding>) -> Option<String> {
    let (identity, ours) = (&said.identity, &said.version);
    if told.node_id != identity.node_id || told.public_key.as_ref() != Some(&identity.public_key) {
        let what = format!(
            "the process that holds it is node {} and signs with {}, and in the home are the keys of {} and {}",
            told.node_id,
            told.public_key.as_deref().unwrap_or("a key that it does not tell"),
            identity.node_id,
            identity.public_key
        );
        findings.push(Finding::error(
            "home",
            what,
            "name the home that the node runs in, with the keys that it runs with",
        ));
        return None;
    }
    findings.push(match told.version == *ours {
        true => Finding::fine("program", format!("it runs {ours}, as the platform's program is")),
        false => {
            let what = format!("it runs {}, and the platform's program is {ours}", told.version);
            let advice =
                "import the very program that it runs and name it in the replicas' configuration (cometbft.sha256)";
            Finding::error("program", what, advice)
        }
    });
    match told.first_block {
        Ok(hash) => Some(hash),
        Err(why) => {
            let what = format!("it does not say its first block: {why}");
            let advice = "it counts by its genesis, if that is the one of a node that does";
            findings.push(Finding::warning("chain", what, advice));
            None
        }
    }
}

/// `v1.20.1` of `Version v1.20.1 (eef179e)` and what follows, as the application itself says it to the consensus.
fn version_of(printed: &str) -> String {
    let line = printed.lines().next().unwrap_or_default();
    line.split_whitespace().find(|word| word.starts_with('v')).unwrap_or(line).to_owned()
}

fn unread(why: String) -> Finding {
    Finding::error(
        "program",
        why,
        "see that our account can read the home, and that the program of the engine is the one that it runs",
    )
}

#[cfg(test)]
mod tests;
