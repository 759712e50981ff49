//! A node that cannot start says why in one line and ends.

use std::net::TcpListener;
use std::process::Command;

use hanse_node::config::CONFIG_FILE;
use hanse_node::genesis::GENESIS_FILE;

use crate::net::{Net, Node};

/// Starts a node that must fail; returns its last line on stderr.
fn refused(node: &Node) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_hanse-node")).args(["start", "--home"]).arg(&node.home).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn busy_port_bad_config_and_missing_files_are_named() {
    let net = Net::prepare(1, 0);
    let node = &net.nodes[0];
    let held = TcpListener::bind(node.rpc).unwrap();
    let line = refused(node);
    assert!(line.starts_with("error: ") && line.contains("field rpc_listen"), "{line}");
    assert!(line.contains("choose another"), "{line}");
    drop(held);

    let path = node.home.join(CONFIG_FILE);
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("version = 1", "version = 7")).unwrap();
    let line = refused(node);
    assert!(line.contains("config.toml: field version: 7 is unknown"), "{line}");
    std::fs::remove_file(&path).unwrap();
    let line = refused(node);
    assert!(line.contains("cannot read") && line.contains(CONFIG_FILE), "{line}");
}

#[test]
fn another_genesis_for_the_same_data_and_a_second_node_on_it_are_refused() {
    let mut net = Net::prepare(1, 0);
    let genesis = net.genesis.clone();
    let node = &mut net.nodes[0];
    node.start();
    node.wait_height(2);
    // The same home on other ports: the store's lock is what stops it.
    let config = std::fs::read_to_string(node.home.join(CONFIG_FILE)).unwrap();
    let moved = config.replace(&node.rpc.to_string(), "127.0.0.1:0").replace(&node.p2p.to_string(), "127.0.0.1:0");
    std::fs::write(node.home.join(CONFIG_FILE), moved).unwrap();
    let line = refused(node);
    assert!(line.contains("is another node running on this home?"), "{line}");
    assert!(node.terminate(), "{}", node.log());

    // A whole record that is no header: not a torn tail, so it is not guessed at.
    let log = node.home.join("data/consensus.wal");
    let kept = std::fs::read(&log).unwrap();
    let mut strange = 3u32.to_be_bytes().to_vec();
    strange.extend_from_slice(&crc32fast::hash(b"abc").to_be_bytes());
    strange.extend_from_slice(b"abc");
    std::fs::write(&log, strange).unwrap();
    let line = refused(node);
    assert!(line.contains("the consensus log is damaged or of another version"), "{line}");
    std::fs::write(&log, kept).unwrap();

    let mut other = genesis;
    other.block_gas_limit += 1;
    let text = serde_json::to_string(&other).unwrap();
    std::fs::write(node.home.join(GENESIS_FILE), text).unwrap();
    let line = refused(node);
    assert!(line.contains("genesis.json: field (all)"), "{line}");
    assert!(line.contains("move the data folder away"), "{line}");
}
