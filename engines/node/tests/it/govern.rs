//! A consortium changes its chain by the commands of `node govern`, with real processes: a node follows, becomes a
//! validator, another one is removed and cut off, and an upgrade halts those who run the old program.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hanse_node::genesis::{GENESIS_FILE, Genesis};
use serde_json::{Value, json};

use crate::cast;
use crate::net::{Net, Node, RICH_KEY};
use crate::operate::ready;

/// Members' keys: foundry's first three development accounts.
const MEMBERS: [(&str, &str); 3] = [
    ("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266", RICH_KEY),
    (
        "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
        "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    ),
    (
        "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
        "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    ),
];

/// Five nodes, four of them validators, two of three members decide.
fn consortium() -> Net {
    let mut net = Net::prepare(5, 0);
    let mut text = serde_json::to_value(&net.genesis).unwrap();
    text["validators"].as_array_mut().unwrap().truncate(4);
    text["governance"] = json!({ "members": MEMBERS.map(|(account, _)| account), "threshold": 2 });
    net.genesis = Genesis::from_json(&text.to_string()).unwrap();
    for node in &net.nodes {
        std::fs::write(node.home.join(GENESIS_FILE), text.to_string()).unwrap();
    }
    net
}

/// `node govern …`: what it prints, or its complaint.
fn govern(args: &[&str]) -> Result<Value, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_hanse-node")).arg("govern").args(args).output().unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(String::from_utf8(output.stderr).unwrap())
}

fn key_file(folder: &Path, member: usize) -> PathBuf {
    let path = folder.join(format!("member{member}.key"));
    std::fs::write(&path, MEMBERS[member].1.trim_start_matches("0x")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Proposes, has member 0 sign with foundry's `cast` as a wallet and member 1 with a key file, submits.
fn decide(node: &Node, folder: &Path, changes: &[&str]) -> u64 {
    let file = folder.join("proposal.json");
    let _ = std::fs::remove_file(&file);
    let (file, url) = (file.to_str().unwrap(), node.url());
    let mut args = vec!["propose", "--rpc", &url, "--out", file];
    for change in changes {
        args.extend(["--change", change]);
    }
    govern(&args).unwrap();
    let typed = folder.join("typed.json");
    let shown = govern(&["show", "--proposal", file]).unwrap();
    std::fs::write(&typed, shown["typed_data"].to_string()).unwrap();
    let sign = ["wallet", "sign", "--data", "--from-file", typed.to_str().unwrap(), "--private-key", MEMBERS[0].1];
    let signature = cast::run(node, &sign).unwrap();
    let signed = govern(&["sign", "--proposal", file, "--signature", &signature]).unwrap();
    assert_eq!(signed["signed_by"], json!(MEMBERS[0].0), "what a wallet signs is what the chain verifies");

    let (first, second) = (key_file(folder, 0), key_file(folder, 1));
    let submit = ["submit", "--proposal", file, "--rpc", &url, "--key-file", first.to_str().unwrap()];
    let complaint = govern(&submit).unwrap_err();
    assert!(complaint.contains("1 members signed, 2 must"), "{complaint}");
    govern(&["sign", "--proposal", file, "--key-file", second.to_str().unwrap()]).unwrap();
    let done = govern(&submit).unwrap();
    assert_eq!(done["effective_height"].as_u64(), done["height"].as_u64().map(|h| h + 2));
    let again = govern(&submit).unwrap_err();
    assert!(again.contains("propose and sign it anew"), "{again}");
    done["effective_height"].as_u64().unwrap()
}

fn voters(node: &Node, height: u64) -> Vec<String> {
    let list = node.result("consensus_validators", json!([height]));
    list.as_array().unwrap().iter().map(|v| v["node_id"].as_str().unwrap().to_owned()).collect()
}

fn signers(node: &Node, height: u64) -> Vec<String> {
    let certificate = node.result("consensus_certificate", json!([height]));
    let signatures = certificate["signatures"].as_array().unwrap();
    signatures.iter().map(|s| s["node_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn members_add_a_validator_remove_another_and_halt_for_an_upgrade() {
    let mut net = consortium();
    net.start_all();
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<_> = net.nodes.iter().map(|node| node.key.node_id().to_string()).collect();
    let keys: Vec<_> = net.nodes.iter().map(|node| node.key.public_key().to_string()).collect();
    for node in &net.nodes {
        node.wait_height(3);
    }
    assert_eq!(net.nodes[4].result("consensus_status", json!([]))["validator"], json!(false));

    // A validator that no one sees is not proposed.
    let (out, url) = (folder.path().join("unseen.json"), net.nodes[0].url());
    let change = format!("setValidator={},1", "11".repeat(32));
    let complaint = govern(&["propose", "--rpc", &url, "--out", out.to_str().unwrap(), "--change", &change]);
    assert!(complaint.unwrap_err().contains("is not in the configuration of the asked node"));

    let joins = decide(&net.nodes[0], folder.path(), &[&format!("setValidator={},1", keys[4])]);
    assert!(!voters(&net.nodes[1], joins - 1).contains(&ids[4]) && voters(&net.nodes[1], joins).contains(&ids[4]));
    net.nodes[1].wait("a block that the new validator signed", |node| {
        node.height().is_some_and(|height| height > joins && signers(node, height).contains(&ids[4]))
    });
    assert_eq!(net.nodes[4].result("consensus_status", json!([]))["validator"], json!(true));

    // Removed as validator and not on the list of nodes: cut off.
    let leaves = decide(&net.nodes[1], folder.path(), &[&format!("setValidator={},0", keys[0]), "restrictNodes=1"]);
    assert!(!voters(&net.nodes[1], leaves).contains(&ids[0]));
    for node in &net.nodes[1..] {
        node.wait_height(leaves + 3);
        for height in leaves..=leaves + 3 {
            assert!(!signers(node, height).contains(&ids[0]), "a removed validator keeps no power");
        }
        node.wait("the end of its connections", |node| {
            let peers = node.result("consensus_peers", json!([]));
            let gone = peers.as_array().unwrap().iter().find(|peer| peer["node_id"] == json!(ids[0])).unwrap();
            gone["inbound"] == json!(false) && gone["outbound"] == json!(false) && gone["allowed"] == json!(false)
        });
    }
    assert!(net.nodes[0].height().unwrap() <= leaves, "it was cut off when the change came into force");

    // All of it is known after a kill -9, and the chain goes on with one of the four down.
    net.nodes[1].kill();
    let height = net.nodes[2].height().unwrap();
    net.nodes[2].wait_height(height + 2);
    net.nodes[1].start();
    net.nodes[1].wait_height(height + 3);
    assert_eq!(voters(&net.nodes[1], leaves), voters(&net.nodes[2], leaves));

    let last = net.nodes[2].height().unwrap() + 12;
    decide(&net.nodes[2], folder.path(), &[&format!("scheduleUpgrade=2,{last}")]);
    for node in &net.nodes[1..] {
        node.wait("the halt", |node| {
            let status = node.result("consensus_status", json!([]));
            let halted =
                status["halted"].as_str().is_some_and(|reason| reason.starts_with("upgrade needed: version 2"));
            halted && status["height"] == json!(last)
        });
        assert!(node.log().contains("upgrade needed: version 2"));
        node.hash_at(last);
        let (status, body) = ready(node).unwrap();
        assert!(status == 503 && body["reasons"].to_string().contains("upgrade needed: version 2"), "{body}");
    }
    // An old program started again halts at once, and votes for nothing.
    net.nodes[3].kill();
    net.nodes[3].start();
    net.nodes[3].wait("the halt", |node| {
        node.call("consensus_status", json!([])).is_some_and(|answer| answer["result"]["halted"].is_string())
    });
    assert!(net.nodes[1..].iter().all(|node| node.height() == Some(last)));
}
