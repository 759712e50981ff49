//! Health, readiness, metrics, `show`, `token`, and how a node ends.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::net::{Net, Node, call, free_ports, http};
use crate::websocket::WebSocket;

fn get(node: &Node, path: &str) -> Option<(u16, String)> {
    http(node.rpc, "GET", path, &[], "")
}

pub(crate) fn ready(node: &Node) -> Option<(u16, Value)> {
    let (status, body) = get(node, "/ready")?;
    Some((status, serde_json::from_str(&body).unwrap()))
}

fn tool(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hanse-node")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_node_is_ready_when_it_follows_and_says_why_not() {
    let mut net = Net::prepare(4, 0);
    net.nodes[0].start();
    let node = &net.nodes[0];
    node.wait("an open port", |node| get(node, "/health").is_some());
    let (status, answer) = ready(node).unwrap();
    assert_eq!((status, &answer["ready"]), (503, &json!(false)));
    let reasons = answer["reasons"].to_string();
    assert!(reasons.contains("validators with power 1 of 4 are connected"), "{reasons}");
    assert_eq!(get(node, "/health").unwrap().0, 200);
    let home = net.nodes[0].home.to_str().unwrap().to_owned();
    let shown = tool(&["show", "--home", &home]);
    assert_eq!(shown["running"]["ready"], json!(false));
    assert_eq!(shown["config"]["rpc"]["log_blocks_max"], json!(10_000), "defaults are shown");

    for i in 1..4 {
        net.nodes[i].start();
    }
    let node = &net.nodes[0];
    node.wait("readiness", |node| ready(node).is_some_and(|(status, _)| status == 200));
    node.wait_height(3);
    let (_, answer) = ready(node).unwrap();
    assert_eq!((&answer["ready"], &answer["reasons"]), (&json!(true), &json!([])));

    // Without a quorum it says so again, and what it knows stays readable.
    net.nodes[2].kill();
    net.nodes[3].kill();
    let node = &net.nodes[0];
    node.wait("no readiness", |node| ready(node).is_some_and(|(status, _)| status == 503));
    assert!(node.height().unwrap() >= 3);

    let height = node.height().unwrap();
    assert!(net.nodes[0].terminate());
    let shown = tool(&["show", "--home", &home]);
    assert_eq!(shown["running"], Value::Null);
    assert!(shown["stored"]["height"].as_u64().unwrap() >= height, "{shown}");
}

#[test]
fn metrics_are_in_prometheus_form_and_true() {
    let mut net = Net::prepare(4, 0);
    let own = free_ports(1)[0];
    net.configure(0, |config| config.metrics.listen = Some(own));
    for i in 0..3 {
        net.nodes[i].start();
    }
    let node = &net.nodes[0];
    node.wait_height(5);
    assert!(call(node.rpc, "eth_nonsense", json!([])).is_some());
    let (status, page) = http(own, "GET", "/metrics", &[], "").unwrap();
    assert_eq!(status, 200);
    assert_eq!(http(own, "POST", "/", &[("Content-Type", "application/json")], "{}").unwrap().0, 404);
    let value = |name: &str| -> f64 {
        let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("hanse_ledger_height") >= 5.0);
    assert_eq!(value("hanse_ledger_validators"), 4.0);
    assert_eq!(value("hanse_ledger_peers_connected"), 2.0);
    assert!(value("hanse_ledger_execution_seconds_count") >= 5.0);
    assert!(value("hanse_ledger_log_sync_seconds_count") >= 5.0);
    assert!(value("hanse_ledger_store_bytes") > 0.0);
    let absent = net.nodes[3].key.node_id();
    assert!(value(&format!("hanse_ledger_validator_missed_signatures_total{{validator=\"{absent}\"}}")) >= 5.0);
    assert!(value("hanse_ledger_rpc_calls_total{method=\"consensus_status\",outcome=\"ok\"}") >= 1.0);
    assert!(value("hanse_ledger_rpc_calls_total{method=\"unknown\",outcome=\"refused\"}") >= 1.0);
    check_form(&page);
}

/// The rules of the text format, version 0.0.4: each family once, with help and type before its samples.
fn check_form(page: &str) {
    let (mut family, mut seen, mut samples) = (String::new(), Vec::new(), std::collections::BTreeSet::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(!seen.contains(&family), "{family} twice");
            seen.push(family.clone());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (series, number) = line.rsplit_once(' ').unwrap();
            number.parse::<f64>().unwrap();
            assert!(series.starts_with(&family), "{line} is not of {family}");
            assert!(samples.insert(series.to_owned()), "{series} twice");
        }
    }
}

#[test]
fn a_call_under_way_is_answered_before_the_node_ends() {
    let mut net = Net::prepare(1, 0);
    net.configure(0, |config| config.rpc.call_ms_max = 2_000);
    net.start_all();
    net.nodes[0].wait_height(1);
    let rpc = net.nodes[0].rpc;
    let mut socket = WebSocket::connect(rpc, &[]).unwrap();
    assert!(socket.call("eth_subscribe", json!(["newHeads"])).get("result").is_some());
    // Runs until its time is over.
    let asked =
        std::thread::spawn(move || call(rpc, "eth_call", json!([{ "data": "0x5b600056", "gas": "0x3b9aca00" }])));
    net.nodes[0].wait("the call to run", |node| {
        get(node, "/metrics").is_some_and(|(_, page)| page.contains("hanse_ledger_rpc_running 1"))
    });
    net.nodes[0].signal("TERM");
    let answer = asked.join().unwrap().expect("an answer");
    assert!(answer.get("error").is_some(), "{answer}");
    // A subscriber does not hold it up, and hears the end.
    while socket.receive().is_some() {}
    let answered = Instant::now();
    assert_eq!(net.nodes[0].ended(), Some(0), "{}", net.nodes[0].log());
    assert!(answered.elapsed().as_secs() < 3, "{:?}", answered.elapsed());
    let log = net.nodes[0].log();
    assert!(log.contains("node stopped") && !log.contains("requests are cut off"), "{log}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut net = Net::prepare(1, 0);
    net.configure(0, |config| config.rpc.call_ms_max = 60_000);
    net.start_all();
    net.nodes[0].wait_height(1);
    let rpc = net.nodes[0].rpc;
    let asked =
        std::thread::spawn(move || call(rpc, "eth_call", json!([{ "data": "0x5b600056", "gas": "0x3b9aca00" }])));
    net.nodes[0].wait("the call to run", |node| {
        get(node, "/metrics").is_some_and(|(_, page)| page.contains("hanse_ledger_rpc_running 1"))
    });
    net.nodes[0].signal("TERM");
    net.nodes[0].wait("the first signal to be seen", |node| node.log().contains("SIGTERM, stopping"));
    let start = Instant::now();
    net.nodes[0].signal("TERM");
    assert_eq!(net.nodes[0].ended(), Some(130), "{}", net.nodes[0].log());
    assert!(start.elapsed().as_secs() < 3);
    assert!(asked.join().unwrap().is_none());
}

#[test]
fn a_made_token_opens_what_its_hash_guards() {
    let made = tool(&["token"]);
    let mut net = Net::prepare(1, 0);
    net.configure(0, |config| {
        config.rpc.tokens = vec![hanse_node::config::TokenConfig {
            name: "made".to_owned(),
            sha256: made["sha256"].as_str().unwrap().to_owned(),
        }];
    });
    net.start_all();
    let node = &net.nodes[0];
    node.wait("an open port", |node| get(node, "/health").is_some());
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    assert_eq!(http(node.rpc, "GET", "/metrics", &[("Authorization", &bearer)], "").unwrap().0, 200);
    assert_eq!(get(node, "/metrics").unwrap().0, 401);
}
