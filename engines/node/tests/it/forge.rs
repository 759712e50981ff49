//! Foundry's `forge` against four nodes: a contract created, a script of several transactions, and its tests on the chain's state.
//!
//! No compiler is downloaded: forge is handed solc's build for JavaScript behind a script that speaks a compiler's command line.

use std::path::Path;

use serde_json::Value;

use crate::net::{CHAIN_ID, Net, Node, RICH, RICH_KEY};
use crate::parts;

/// A project as forge wants it.
fn project(folder: &Path) {
    let files = [
        ("src/Counter.sol", include_str!("../contracts/Counter.sol")),
        ("script/Count.s.sol", include_str!("../clients/forge/Count.s.sol")),
        ("test/Counter.t.sol", include_str!("../clients/forge/Counter.t.sol")),
        ("foundry.toml", "[profile.default]\nevm_version = \"osaka\"\n"),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Runs forge in a project; gives what it said.
fn forge(folder: &Path, node: &Node, args: &[&str]) -> String {
    let (mut command, compiler) = parts::forge();
    command.args(args).args(["--offline", "--use"]).arg(compiler).current_dir(folder);
    command.env("FOUNDRY_DISABLE_NIGHTLY_WARNING", "1").env("HOME", folder).env("ETH_RPC_URL", node.url());
    parts::run(command)
}

#[test]
fn forge_creates_a_contract_runs_a_script_and_tests_on_the_chains_state() {
    let mut net = Net::prepare(4, 0);
    net.start_all();
    let node = &net.nodes[2];
    node.wait_height(1);
    let folder = tempfile::tempdir().unwrap();
    project(folder.path());
    let url = node.url();
    let sender = ["--rpc-url", &url, "--private-key", RICH_KEY, "--broadcast"];

    let created = forge(folder.path(), node, &[&["create"], sender.as_slice(), &["src/Counter.sol:Counter"]].concat());
    let first = RICH.parse::<alloy_primitives::Address>().unwrap().create(0);
    assert!(created.contains(&format!("Deployed to: {first}")), "{created}");
    assert_ne!(node.result("eth_getCode", serde_json::json!([first, "latest"])), "0x");

    forge(folder.path(), node, &[&["script"], sender.as_slice(), &["script/Count.s.sol:Count"]].concat());
    let record = folder.path().join(format!("broadcast/Count.s.sol/{CHAIN_ID}/run-latest.json"));
    let record: Value = serde_json::from_str(&std::fs::read_to_string(record).unwrap()).unwrap();
    let receipts = record["receipts"].as_array().unwrap();
    assert_eq!(receipts.len(), 3, "{record}");
    for receipt in receipts {
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        let ours = node.result("eth_getTransactionReceipt", serde_json::json!([receipt["transactionHash"]]));
        assert_eq!(ours["blockHash"], receipt["blockHash"], "forge read what the chain holds");
    }
    // count() of the script's counter, which another node tells.
    let counter = &receipts[0]["contractAddress"];
    let call = serde_json::json!([{ "to": counter, "input": "0x06661abd" }, "latest"]);
    net.nodes[0].wait("the count", |node| {
        node.result("eth_call", call.clone()).as_str().is_some_and(|word| word.ends_with("002a"))
    });

    let tested = forge(folder.path(), node, &["test", "--fork-url", &url]);
    assert!(tested.contains("2 passed; 0 failed"), "{tested}");
}
