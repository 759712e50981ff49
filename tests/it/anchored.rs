//! The platform's audit trail against the members' own chain: heads that leader after leader has recorded, compared through the
//! platform and at a node's own port; a log that is sound in itself and is not the one that was anchored.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::audit::anew;
use crate::cluster::Cluster;
use crate::wait::until;

const LONG: Duration = Duration::from_secs(60);
const CHAIN: &str = "trade/supply-1";

/// What a running chain that was ordered with an anchor shows; `rpc` is the URL of one of its nodes.
pub(crate) fn the_chain_holds_the_audit_trail(cluster: &Cluster, dir: &Path, rpc: &str) {
    let key = dir.join("ca/audit.vkey").display().to_string();
    let recorded = |more_than: u64| {
        until("the chain holds a newer head", LONG, || {
            let chain = cluster.ask("admin", &["chain", "get", "trade", "supply-1"]).map_err(|(_, words)| words)?;
            let anchor = &chain["chain"]["anchor"];
            let size = anchor["tree_size"].as_u64().unwrap_or(0);
            if size > more_than && anchor["error"] == "" { Ok(size) } else { Err(chain.to_string()) }
        })
    };
    let first = recorded(0);
    let voted = cluster.tell("acme", &["chain", "get", "trade", "supply-1"]);
    let named = voted["chain"]["spec"]["anchor"]["key"].as_str().unwrap();
    assert_eq!(named, std::fs::read_to_string(&key).unwrap().trim(), "members voted on the platform's key");

    // Another leader goes on where this one stopped.
    let leader = cluster.leader("admin");
    let next = (leader % 3 + 1).to_string();
    cluster.tell("admin", &["replica", "transfer-leader", &next, "--reason", "test"]);
    let second = recorded(first + 1);
    let by = cluster.tell("admin", &["audit", "verify", "--anchored", "--chain", CHAIN, "--key", &key]);
    let chain = &by["chains"][0];
    assert!(chain["heads"].as_u64() >= Some(2) && chain["newest"]["tree_size"].as_u64() >= Some(second), "{by}");
    let transaction = chain["newest"]["transaction_hash"].as_str().unwrap();
    let sent = cluster.tell("acme", &["explorer", "tx", "trade", "supply-1", transaction]);
    assert_eq!(sent["transaction"]["state"], "SUCCEEDED", "{sent}");
    // A member may compare too, though it may not read the others' records.
    cluster.tell("acme", &["audit", "verify", "--anchored"]);

    let lines = an_export_is_compared_with_a_node(cluster, dir, rpc, &key);
    a_log_that_was_written_anew_is_found(cluster, dir, rpc, &lines);
}

/// An export against the chain as a member's own node tells it; gives the export's lines.
fn an_export_is_compared_with_a_node(cluster: &Cluster, dir: &Path, rpc: &str, key: &str) -> Vec<String> {
    let file = dir.join("anchored.jsonl");
    until("an export that no newer head has overtaken", LONG, || {
        let exported = Command::new(env!("CARGO_BIN_EXE_hanse"))
            .args(["audit", "export"])
            .envs(cluster.environment("admin"))
            .output()
            .map_err(|error| error.to_string())?;
        std::fs::write(&file, &exported.stdout).map_err(|error| error.to_string())?;
        let path = file.display().to_string();
        let args = ["audit", "verify", &path, "--anchored", "--rpc", rpc, "--key", key];
        // No session: neither file nor node needs the platform.
        let done = cluster.ask("nobody", &args).map_err(|(_, words)| words)?;
        if done["chains"][0]["heads"].as_u64() >= Some(2) { Ok(()) } else { Err(done.to_string()) }
    });
    std::fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect()
}

/// Somebody who may write on every replica makes the log anew from its third record on: it verifies by itself, and the chain tells.
fn a_log_that_was_written_anew_is_found(cluster: &Cluster, dir: &Path, rpc: &str, lines: &[String]) {
    let records = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let forged = anew(records, |records| records[2].resource.push('x'));
    let last: Value = serde_json::from_str(forged.last().unwrap()).unwrap();
    let file = dir.join("forged.jsonl");
    std::fs::write(&file, forged.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let (path, hash) = (file.display().to_string(), last["hash"].as_str().unwrap().to_owned());
    let (count, alone) = (forged.len().to_string(), ["audit", "verify", &path]);
    cluster.tell("nobody", &[alone.as_slice(), &["--head-hash", &hash, "--count", &count]].concat());
    let (code, words) = cluster.ask("nobody", &[alone.as_slice(), &["--anchored", "--rpc", rpc]].concat()).unwrap_err();
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("written anew") && words.contains("holds in block"), "{words}");
    // The end cut off before what was anchored.
    std::fs::write(&file, lines[..3].iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let (code, words) = cluster.ask("nobody", &[alone.as_slice(), &["--anchored", "--rpc", rpc]].concat()).unwrap_err();
    assert!(code == 1 && words.contains("the end is cut off") && words.contains("holds in block"), "{words}");
}
