//! Whose chain it is: four tenants with an owner each, and their consortium.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, hanse};
use crate::life::LONG;
use crate::wait::until;

/// Everybody's.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// Names of the tenants, and of the files in which their sessions are kept.
pub(crate) const TENANTS: [&str; 4] = ["acme", "bocom", "sgcc", "huaneng"];

/// Makes the tenants and their consortium `trade`, which decides by two thirds; each tenant's key is `<tenant>.key` in `dir`.
pub(crate) fn form_consortium(cluster: &Cluster, dir: &Path) {
    let with_password = |token: &str, args: &[&str]| {
        let done = cluster.ask_with(token, args, &[("HANSE_PASSWORD", PASSWORD)]);
        done.unwrap_or_else(|(code, words)| panic!("hanse {args:?}: exit {code}: {words}"));
    };
    let key = |tenant: &str| dir.join(format!("{tenant}.key")).display().to_string();
    for tenant in TENANTS {
        let owner = format!("owner@{tenant}");
        with_password("admin", &["tenant", "create", tenant, "--owner", &owner]);
        with_password(tenant, &["login", &owner]);
        hanse(&["key", "generate", &key(tenant)]);
    }
    let policy = ["--create-chain-policy", "two-thirds", "--key", &key("acme")];
    cluster.tell("acme", &[&["consortium", "create", "trade"][..], &policy].concat());
    for tenant in &TENANTS[1..] {
        cluster.tell("acme", &["consortium", "invite", "trade", tenant]);
        cluster.tell(tenant, &["consortium", "join", "trade", "--key", &key(tenant)]);
    }
    cluster.tell("acme", &["consortium", "activate", "trade", "--yes"]);
}

/// Longest wait for a chain that was voted on.
const MADE_MAX: Duration = Duration::from_secs(180);

/// Has `trade` vote for a chain `supply-1` of a node each and waits until it is made; `treasury.key` in `dir` has its wealth.
pub(crate) fn vote_a_chain(cluster: &Cluster, dir: &Path, more: &[&str]) {
    let key = |name: &str| dir.join(format!("{name}.key")).display().to_string();
    hanse(&["key", "account-generate", &key("treasury")]);
    let shown = hanse(&["key", "account-show", &key("treasury"), "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let alloc = format!("{}=1000000000000000000000", shown["address"].as_str().unwrap());
    let what = ["--title", "a chain", "--chain", "supply-1", "--chain-id", "777"];
    let how = ["--param", "block_time_ms=500", "--alloc", &alloc];
    let nodes = TENANTS.map(|tenant| ["--node", tenant]).concat();
    cluster.tell("acme", &[&["proposal", "open-create-chain", "trade"][..], &what, &how, &nodes, more].concat());
    for tenant in &TENANTS[..3] {
        cluster.tell(tenant, &["proposal", "vote", "trade", "p-1", "yes", "--key", &key(tenant), "--yes"]);
    }
    until("the operation ends", MADE_MAX, || {
        let list = cluster.ask("admin", &["operation", "list"]).map_err(|(_, words)| words)?;
        if list["operations"][0]["state"] == "SUCCEEDED" { Ok(()) } else { Err(list.to_string()) }
    });
}

/// The node of that name, as the platform lists it.
pub(crate) fn node(cluster: &Cluster, name: &str) -> Result<Value, String> {
    let list = cluster.ask("admin", &["node", "list"]).map_err(|(_, words)| words)?;
    let nodes = list["nodes"].as_array().ok_or("no nodes")?;
    nodes.iter().find(|node| node["node"] == name).cloned().ok_or_else(|| format!("no {name}"))
}

/// Waits until the node is in this state and health (any, if that is empty), and its reason has these words.
pub(crate) fn comes_to(
    name: &str,
    mut look: impl FnMut() -> Result<Value, String>,
    [state, health, words]: [&str; 3],
) -> Value {
    until(&format!("{name} is {state} {health} {words}"), LONG, || {
        let node = look()?;
        let reason = node["state_reason"].as_str().unwrap_or_default();
        let is_so = node["state"] == state && (health.is_empty() || node["health"] == health) && reason.contains(words);
        if is_so { Ok(node) } else { Err(node.to_string()) }
    })
}
