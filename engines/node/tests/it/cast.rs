//! Foundry's `cast` as an outside client.

use std::process::Command;

use serde_json::{Value, json};

use crate::net::{CHAIN_ID, Net, Node, RICH, RICH_KEY};

const COUNTER: &str = include_str!("../contracts/Counter.hex");
const POOR: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";

/// Runs `cast`; panics with what to do if it is not there.
pub(crate) fn run(node: &Node, args: &[&str]) -> Result<String, String> {
    let program = std::env::var("HANSE_CAST").unwrap_or_else(|_| "cast".to_owned());
    let output = Command::new(&program)
        .args(args)
        .env("ETH_RPC_URL", node.url())
        .env("FOUNDRY_DISABLE_NIGHTLY_WARNING", "1")
        .output()
        .unwrap_or_else(|e| {
            panic!(
                "cannot run `{program}` ({e}): install the npm package @foundry-rs/cast and put \
                 it on PATH or name it in HANSE_CAST"
            )
        });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let complaint = text(&output.stderr);
    // The npm package's wrapper ends with code 0 even when cast itself failed.
    if output.status.success() && !complaint.contains("Error: ") { Ok(text(&output.stdout)) } else { Err(complaint) }
}

fn cast(node: &Node, args: &[&str]) -> String {
    run(node, args).unwrap_or_else(|e| panic!("cast {args:?}: {e}\n{}", node.log()))
}

fn cast_json(node: &Node, args: &[&str]) -> Value {
    serde_json::from_str(&cast(node, args)).unwrap()
}

#[test]
fn cast_reads_blocks_sends_deploys_and_calls() {
    let mut net = Net::prepare(4, 0);
    net.start_all();
    for node in &net.nodes {
        node.wait_height(2);
    }
    let (near, far) = (&net.nodes[0], &net.nodes[2]);
    assert_eq!(cast(near, &["chain-id"]), CHAIN_ID.to_string());
    assert!(cast(near, &["client"]).starts_with("hanse-node/"));
    assert_eq!(cast(near, &["balance", RICH]), "1000000000000000000000");

    let sent = cast_json(near, &["send", "--json", "--private-key", RICH_KEY, POOR, "--value", "1ether"]);
    assert_eq!(sent["status"], "0x1");
    let hash = sent["transactionHash"].as_str().unwrap();
    let number = u64::from_str_radix(&sent["blockNumber"].as_str().unwrap()[2..], 16).unwrap();
    far.wait_height(number);
    assert_eq!(cast(far, &["balance", POOR]), "1000000000000000000");
    let receipt = cast_json(far, &["receipt", "--json", hash]);
    assert_eq!(receipt["blockHash"], sent["blockHash"]);
    let block = cast_json(far, &["block", "--json", &number.to_string()]);
    assert_eq!(block["hash"], sent["blockHash"]);
    assert_eq!(block["transactions"], json!([hash]));
    // An outside program's word that the header is complete and the hash is its keccak.
    let header = cast(far, &["block", "--raw", &number.to_string()]);
    assert_eq!(json!(cast(far, &["keccak", &header])), block["hash"]);
    let transaction = cast_json(far, &["tx", "--json", hash]);
    assert_eq!(transaction["value"], "0xde0b6b3a7640000");
    assert!(cast(far, &["block-number"]).parse::<u64>().unwrap() >= number);

    let counter = deploy(near);
    call_counter(&net, &counter);
    legacy_and_errors(near, &counter);
}

fn deploy(node: &Node) -> String {
    let made = cast_json(node, &["send", "--json", "--private-key", RICH_KEY, "--create", COUNTER.trim()]);
    assert_eq!(made["status"], "0x1");
    made["contractAddress"].as_str().unwrap().to_owned()
}

fn call_counter(net: &Net, counter: &str) {
    let (near, far) = (&net.nodes[0], &net.nodes[3]);
    let added = cast_json(near, &["send", "--json", "--private-key", RICH_KEY, counter, "add(uint256)", "41"]);
    assert_eq!(added["status"], "0x1");
    let number = u64::from_str_radix(&added["blockNumber"].as_str().unwrap()[2..], 16).unwrap();
    far.wait_height(number);
    assert_eq!(cast(far, &["call", counter, "count()(uint256)"]), "41");
    assert_eq!(cast(far, &["storage", counter, "0"]), format!("{:#066x}", 41));
    assert!(cast(far, &["code", counter]).len() > 100);
    let logs = cast_json(far, &["logs", "--json", "--from-block", "0", "--address", counter, "Added(address,uint256)"]);
    assert_eq!(logs.as_array().unwrap().len(), 1, "{logs}");
    assert_eq!(logs[0]["transactionHash"], added["transactionHash"]);
    let block = far.result("eth_getBlockReceipts", json!([format!("{number:#x}")]));
    assert_eq!(block[0]["gasUsed"], added["gasUsed"]);
}

fn legacy_and_errors(node: &Node, counter: &str) {
    let legacy =
        cast_json(node, &["send", "--json", "--legacy", "--private-key", RICH_KEY, counter, "add(uint256)", "1"]);
    assert_eq!((&legacy["status"], &legacy["type"]), (&json!("0x1"), &json!("0x0")));
    assert_eq!(cast(node, &["call", counter, "count()(uint256)"]), "42");

    let data = cast(node, &["calldata", "add(uint256)", "0"]);
    let request = json!({ "to": counter, "data": data });
    for (method, params) in [("eth_call", json!([request, "latest"])), ("eth_estimateGas", json!([request]))] {
        let error = node.call(method, params).unwrap()["error"].clone();
        assert_eq!(error["code"], json!(3), "{method}: {error}");
        assert_eq!(error["message"], "execution reverted: amount is zero");
        assert!(error["data"].as_str().unwrap().starts_with("0x08c379a0"));
    }

    // The state of an old block, with its proof.
    assert_eq!(cast(node, &["balance", RICH, "--block", "0"]), "1000000000000000000000");
    assert_ne!(cast(node, &["balance", RICH]), "1000000000000000000000");
    assert_eq!(run(node, &["call", "--block", "1", counter, "count()(uint256)"]).ok().as_deref(), None);
    let proof = cast_json(node, &["proof", "--block", "1", RICH]);
    assert!(!proof["accountProof"].as_array().unwrap().is_empty(), "{proof}");
    let other = cast(
        node,
        &[
            "mktx",
            "--private-key",
            RICH_KEY,
            "--chain",
            "1",
            "--nonce",
            "99",
            "--gas-limit",
            "21000",
            "--gas-price",
            "0",
            "--priority-gas-price",
            "0",
            POOR,
        ],
    );
    let refused = node.call("eth_sendRawTransaction", json!([other])).unwrap();
    assert!(refused["error"]["message"].as_str().unwrap().contains("chain"), "{refused}");
    let answer = node.call("eth_sendRawTransaction", json!(["0x1234"])).unwrap();
    assert_eq!(answer["error"]["code"], json!(-32602));
}
