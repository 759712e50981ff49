//! Homes of this ledger that others made: what `node show` says of one, and whether it can be taken over.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hanse_adapters_core::preflight::Finding;
use hanse_adapters_core::{Claim, HomeSeen};
use hanse_engines_core::{Found, NodeIdentity, NodePlan, Result, Survey, of_folder, of_port};
use hanse_engines_evm::refused;
use serde::Deserialize;

use crate::files::{CHAIN_ID_MAX, CONFIG_FILE, GENESIS_FILE, identity};

/// What a node of this ledger is by, below its home.
pub(crate) fn claim(home: &str) -> Claim {
    Claim {
        home: home.into(),
        key_file: "keys/node.key".into(),
        lock_file: "data/ledger.redb".into(),
        left: vec![CONFIG_FILE.into(), GENESIS_FILE.into()],
        edited: Vec::new(),
        // Its program makes no key where it finds none.
        in_place: None,
    }
}

/// What `node show` prints, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Shown {
    chain_id: Option<u64>,
    first_block: Option<String>,
    validator: Option<bool>,
    p2p_listen: Option<SocketAddr>,
    rpc_listen: Option<SocketAddr>,
    stored: Option<Stored>,
    config: Option<Config>,
}

#[derive(Debug, Deserialize)]
struct Stored {
    height: Option<u64>,
    of_another_kind: Option<String>,
    unreadable: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Config {
    log: String,
    #[serde(default)]
    fast_join: bool,
    mempool: Mempool,
    history: History,
    rpc: Rpc,
    metrics: Metrics,
}

#[derive(Debug, Deserialize)]
struct Mempool {
    transactions_max: u64,
}

#[derive(Debug, Deserialize)]
struct History {
    states: serde_json::Value,
    blocks: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Rpc {
    open: bool,
    hosts: Vec<String>,
    origins: Vec<String>,
    tokens: Vec<serde_json::Value>,
    connections_max: u64,
    calls_per_second_max: u64,
    log_blocks_max: u64,
}

#[derive(Debug, Deserialize)]
struct Metrics {
    listen: Option<SocketAddr>,
}

#[derive(Debug, Deserialize)]
struct Genesis {
    validators: Vec<Validator>,
}

#[derive(Debug, Deserialize)]
struct Validator {
    public_key: String,
}

/// What was seen, judged.
pub(crate) fn judge(seen: &HomeSeen) -> Survey {
    let mut findings = Vec::new();
    if seen.home.is_empty() && seen.obstacle.is_empty() {
        let advice = "name the folder that holds keys/, data/, config.toml and genesis.json";
        findings.push(Finding::error("home", "there is no such folder on the host", advice));
        return Survey { findings, found: None };
    }
    findings.extend(of_folder(seen));
    let found = said(seen, &mut findings).and_then(|shown| of_node(seen, &shown, &mut findings));
    Survey { findings, found }
}

/// What the program printed of the home; told if it does not read it.
fn said(seen: &HomeSeen, findings: &mut Vec<Finding>) -> Option<(NodeIdentity, Shown)> {
    let said = seen.said.as_ref()?;
    let refuse =
        |why: String| Finding::error("program", why, "bring the home to a form that this platform's program reads");
    if said.code != Some(0) {
        findings.push(refuse(format!("the platform's program does not read it: {}", said.stderr.trim())));
        return None;
    }
    let line = said.stdout.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    match (identity(&said.stdout), serde_json::from_str::<Shown>(line)) {
        (Ok(identity), Ok(shown)) => {
            findings.push(Finding::fine("program", "the platform's program reads its key, configuration and genesis"));
            Some((identity, shown))
        }
        (Err(why), _) => {
            findings.push(refuse(why));
            None
        }
        (_, Err(why)) => {
            findings.push(refuse(format!("`node show` says what this version does not know: {why}")));
            None
        }
    }
}

fn of_node(seen: &HomeSeen, (identity, shown): &(NodeIdentity, Shown), findings: &mut Vec<Finding>) -> Option<Found> {
    of_store(seen, shown, findings);
    let genesis = seen.contents.get(GENESIS_FILE);
    let parts = (genesis, &shown.config, shown.p2p_listen, shown.rpc_listen, shown.chain_id, &shown.first_block);
    let (Some(genesis), Some(config), Some(p2p), Some(rpc), Some(chain_id), Some(first_block)) = parts else {
        let advice = "name the folder that the node is started with";
        findings.push(Finding::error("home", "its genesis.json or its config.toml is missing", advice));
        return None;
    };
    let validators: Genesis = match serde_json::from_slice(genesis) {
        Ok(genesis) => genesis,
        Err(why) => {
            findings.push(Finding::error("genesis", why.to_string(), "restore the file"));
            return None;
        }
    };
    findings.push(match shown.validator {
        Some(true) => Finding::fine("key", format!("{} validates since genesis", identity.public_key)),
        Some(false) | None => {
            let found = format!("{} does not validate since genesis", identity.public_key);
            Finding::error("key", found, "leave it out of the import, and add a node that follows by vote afterwards")
        }
    });
    for (port, of) in [(p2p.port(), "peers"), (rpc.port(), "clients")] {
        findings.push(of_port(seen, port, of));
    }
    lost(config, rpc, findings);
    Some(Found {
        identity: identity.clone(),
        genesis: genesis.clone(),
        chain_id,
        first_block: Some(first_block.clone()),
        validators: validators.validators.into_iter().map(|it| it.public_key).collect(),
        p2p_address: p2p.ip(),
        p2p_port: p2p.port(),
        rpc_port: rpc.port(),
        ports: BTreeMap::new(),
        settings: settings(config, findings),
        is_held: !seen.holders.is_empty(),
        // Its store and its journal are one with what it has signed.
        signed: None,
    })
}

fn of_store(seen: &HomeSeen, shown: &Shown, findings: &mut Vec<Finding>) {
    let words = |what: &str| format!("its store: {what}");
    findings.push(match &shown.stored {
        Some(Stored { of_another_kind: Some(why), .. }) => {
            Finding::error("store", words(why), "let a program that this platform's program follows write it once")
        }
        Some(Stored { height: Some(height), .. }) => {
            Finding::fine("store", words(&format!("block {height} is its newest")))
        }
        Some(Stored { unreadable: Some(_), .. }) | None if !seen.holders.is_empty() => Finding::fine(
            "store",
            words("the node holds it; its form is looked at once that has ended, before ours is started"),
        ),
        Some(Stored { unreadable: Some(why), .. }) => {
            Finding::warning("store", words(why), "it is mended when ours starts, as after a power cut")
        }
        Some(Stored { .. }) | None => {
            Finding::error("store", words("there is none"), "name the folder that the node is started with")
        }
    });
}

/// What the platform does not set on nodes, and so is gone once it is taken over.
fn lost(config: &Config, rpc: SocketAddr, findings: &mut Vec<Finding>) {
    let mut lost = Vec::new();
    if !rpc.ip().is_loopback() || config.rpc.open {
        lost.push(format!("JSON-RPC beyond the host, at {rpc}"));
    }
    for (what, is_set) in [
        ("rpc.tokens", !config.rpc.tokens.is_empty()),
        ("rpc.hosts", !config.rpc.hosts.is_empty()),
        ("rpc.origins", !config.rpc.origins.is_empty()),
        ("metrics.listen", config.metrics.listen.is_some()),
        ("log", config.log != "info"),
    ] {
        if is_set {
            lost.push(what.to_owned());
        }
    }
    if !lost.is_empty() {
        let found = format!("it is set and the platform does not set it on nodes: {}", lost.join(", "));
        findings.push(Finding::warning("settings", found, "clients reach it through the host's loopback afterwards"));
    }
}

/// Everything that can be set on nodes, as it is.
fn settings(config: &Config, findings: &mut Vec<Finding>) -> BTreeMap<String, u64> {
    let mut kept = |name: &str, value: &serde_json::Value| match (value.as_u64(), value.as_str()) {
        (Some(count), _) => count,
        (None, Some("all")) => CHAIN_ID_MAX,
        (None, _) => {
            let found = format!("{name} is {value}, which this version does not know");
            findings.push(Finding::error("settings", found, "set a number or \"all\""));
            CHAIN_ID_MAX
        }
    };
    let (states, blocks) =
        (kept("history.states", &config.history.states), kept("history.blocks", &config.history.blocks));
    let all = [
        ("fast_join", u64::from(config.fast_join)),
        ("history_blocks", blocks),
        ("history_states", states),
        ("mempool_transactions", config.mempool.transactions_max),
        ("rpc_calls_per_second", config.rpc.calls_per_second_max),
        ("rpc_connections", config.rpc.connections_max),
        ("rpc_log_blocks", config.rpc.log_blocks_max),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Checks a copy of a home by what `node show` says of it: it is of the node's key, and the program reads its store.
pub(crate) fn check_copy(node: &NodePlan, (code, stdout, stderr): &(Option<i32>, String, String)) -> Result<()> {
    if *code != Some(0) {
        return Err(refused(node, format!("the copy of its home is not read: {}", stderr.trim())));
    }
    let held = identity(stdout).map_err(|reason| refused(node, reason))?;
    let invalid = |reason: String| Err(hanse_engines_core::EngineError::Invalid { field: "home".into(), reason });
    if node.identity.as_ref().is_some_and(|known| known.public_key != held.public_key) {
        return invalid(format!(
            "holds the key {}, another one than was found there before: give it back",
            held.public_key
        ));
    }
    let line = stdout.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let shown: Shown = serde_json::from_str(line).map_err(|e| refused(node, format!("`node show`: {e}")))?;
    match shown.stored.and_then(|stored| stored.of_another_kind) {
        Some(why) => invalid(format!("has a store that the platform's program does not read: {why}; give it back")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hanse_adapters_core::preflight::Severity;
    use hanse_adapters_core::{Holder, RunOutput};
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "aa";

    /// What is seen of a node that runs and can be taken over.
    fn seen() -> (HomeSeen, Value) {
        let shown = json!({
            "node_id": "ab".repeat(20), "public_key": KEY.repeat(32), "validator": true, "chain_id": 777,
            "first_block": format!("0x{}", "cd".repeat(32)), "p2p_listen": "127.0.0.1:9100", "rpc_listen": "127.0.0.1:9101",
            "running": {}, "stored": null,
            "config": {
                "log": "info", "fast_join": false, "mempool": { "transactions_max": 9_000 },
                "history": { "states": 77, "blocks": "all" }, "metrics": { "listen": null },
                "rpc": {
                    "open": false, "hosts": [], "origins": [], "tokens": [], "connections_max": 5,
                    "calls_per_second_max": 6, "log_blocks_max": 7,
                },
            },
        });
        let genesis = json!({ "validators": [{ "public_key": KEY.repeat(32), "power": 1 }] });
        let seen = HomeSeen {
            home: "/srv/ledger".into(),
            obstacle: String::new(),
            files: 4,
            bytes: 1_000,
            disk_free_bytes: 1 << 30,
            holders: vec![Holder { pid: 7, command: "hanse node start".into() }],
            taken_by: None,
            listening: [(9_100, true), (9_101, true)].into(),
            contents: [(GENESIS_FILE.to_owned(), genesis.to_string().into_bytes())].into(),
            said: None,
        };
        (seen, shown)
    }

    fn judged(change: impl FnOnce(&mut HomeSeen, &mut Value)) -> Survey {
        let (mut seen, mut shown) = seen();
        change(&mut seen, &mut shown);
        let said = RunOutput { code: Some(0), stdout: format!("{shown}\n"), stderr: String::new() };
        judge(&HomeSeen { said: seen.said.clone().or(Some(said)), ..seen })
    }

    /// The checks with an error, and of those with a warning.
    fn faults(survey: &Survey, severity: Severity) -> Vec<&str> {
        survey.findings.iter().filter(|it| it.severity == severity).map(|it| it.check.as_str()).collect()
    }

    #[test]
    fn a_node_that_runs_is_found_with_all_that_is_set_on_it() {
        let survey = judged(|_, _| {});
        assert!(
            faults(&survey, Severity::Error).is_empty() && faults(&survey, Severity::Warning).is_empty(),
            "{survey:?}"
        );
        let found = survey.found.unwrap();
        assert_eq!((found.chain_id, found.p2p_port, found.rpc_port), (777, 9_100, 9_101));
        assert_eq!((found.identity.public_key, found.validators.len()), (KEY.repeat(32), 1));
        let settings = [
            ("fast_join", 0),
            ("history_blocks", CHAIN_ID_MAX),
            ("history_states", 77),
            ("mempool_transactions", 9_000),
            ("rpc_calls_per_second", 6),
            ("rpc_connections", 5),
            ("rpc_log_blocks", 7),
        ];
        assert_eq!(found.settings, settings.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn whatever_stands_in_the_way_is_an_error_of_its_own() {
        let bad = |change: &dyn Fn(&mut HomeSeen, &mut Value)| {
            let survey = judged(change);
            faults(&survey, Severity::Error).join(",")
        };
        assert_eq!(bad(&|seen, _| seen.home.clear()), "home");
        assert_eq!(bad(&|seen, _| seen.obstacle = "a link".into()), "home");
        assert_eq!(bad(&|seen, _| seen.disk_free_bytes = 1_000), "disk");
        assert_eq!(bad(&|seen, _| seen.holders[0].pid = 0), "process");
        assert_eq!(bad(&|seen, _| seen.holders.push(seen.holders[0].clone())), "process");
        let busy = |seen: &mut HomeSeen, _: &mut Value| {
            seen.listening.insert(9_100, false);
        };
        assert_eq!(bad(&busy), "port");
        assert_eq!(bad(&|seen, _| seen.contents.clear()), "home");
        assert_eq!(bad(&|_, shown| shown["validator"] = json!(false)), "key");
        assert_eq!(bad(&|_, shown| shown["config"] = Value::Null), "home");
        assert_eq!(bad(&|_, shown| shown["config"]["history"]["states"] = json!("some")), "settings");
        assert_eq!(bad(&|_, shown| shown["stored"] = json!({ "of_another_kind": "version 9" })), "store");
        assert_eq!(bad(&|seen, _| seen.holders.clear()), "store", "there is none");
        let failed = RunOutput { code: Some(1), stdout: String::new(), stderr: "no key".into() };
        assert_eq!(bad(&|seen, _| seen.said = Some(failed.clone())), "program");
        let strange = RunOutput { code: Some(0), stdout: "hello".into(), stderr: String::new() };
        assert_eq!(bad(&|seen, _| seen.said = Some(strange.clone())), "program");
    }

    #[test]
    fn what_would_be_lost_is_told() {
        let told = |change: &dyn Fn(&mut HomeSeen, &mut Value)| {
            let survey = judged(change);
            assert!(faults(&survey, Severity::Error).is_empty(), "{survey:?}");
            faults(&survey, Severity::Warning).join(",")
        };
        assert_eq!(told(&|_, shown| shown["rpc_listen"] = json!("0.0.0.0:9101")), "settings");
        assert_eq!(told(&|_, shown| shown["config"]["rpc"]["tokens"] = json!([{}])), "settings");
        assert_eq!(told(&|_, shown| shown["config"]["metrics"]["listen"] = json!("127.0.0.1:9")), "settings");
        assert_eq!(told(&|seen, _| seen.taken_by = Some("c/x".into())), "mark");
        let stopped = |seen: &mut HomeSeen, shown: &mut Value| {
            seen.holders.clear();
            seen.listening.clear();
            shown["stored"] = json!({ "unreadable": "not closed in order" });
        };
        assert_eq!(told(&stopped), "store");
    }
}
