//! The chain lives through the death of its nodes.

use serde_json::json;

use crate::net::Net;

#[test]
fn four_nodes_agree_lose_one_and_take_it_back() {
    let mut net = Net::prepare(4, 0);
    net.start_all();
    for node in &net.nodes {
        node.wait_height(5);
    }
    let hashes: Vec<_> = net.nodes.iter().map(|n| n.hash_at(5)).collect();
    assert!(hashes.iter().all(|h| *h == hashes[0]), "{hashes:?}");
    let certificate = net.nodes[0].result("consensus_certificate", json!([5]));
    assert_eq!(certificate["block_hash"], json!(hashes[0]));
    assert!(certificate["signatures"].as_array().unwrap().len() >= 3);

    net.nodes[3].kill();
    let dead_at = net.nodes[0].height().unwrap();
    let without = net.nodes[0].wait_height(dead_at + 8);
    println!("8 blocks with one of four dead: {without:?}");

    net.nodes[3].start();
    let goal = net.nodes[0].height().unwrap() + 2;
    let caught_up = net.nodes[3].wait_height(goal);
    println!("caught up {} blocks after a restart in {caught_up:?}", goal - dead_at);
    // The one that caught up may be the first to store a block.
    net.nodes[0].wait_height(goal);
    assert_eq!(net.nodes[3].hash_at(goal), net.nodes[0].hash_at(goal));
    // It votes again: with another one dead, three of four are just enough.
    net.nodes[0].kill();
    let height = net.nodes[1].height().unwrap();
    net.nodes[1].wait_height(height + 4);
    assert!(net.nodes[3].terminate(), "{}", net.nodes[3].log());
    for node in &net.nodes {
        let log = node.log();
        assert!(!log.contains("double-signed") && !log.contains("two different"), "{log}");
    }
}

#[test]
fn all_killed_at_once_and_started_again_go_on_from_their_height() {
    let mut net = Net::prepare(4, 0);
    net.start_all();
    for round in 0..3 {
        // Killed when another of them has just made a block, so that the logs are met in different states.
        let goal = net.nodes[0].height().unwrap_or(0) + 3;
        net.nodes[round].wait_height(goal);
        let heights: Vec<_> = net.nodes.iter().map(|n| n.height().unwrap_or(0)).collect();
        let common = *heights.iter().min().unwrap();
        let before = net.nodes[0].hash_at(common);
        for node in &mut net.nodes {
            node.kill();
        }
        net.start_all();
        for node in &net.nodes {
            node.wait("its old height", |n| n.height().is_some_and(|h| h >= common));
            assert_eq!(node.hash_at(common), before, "the past does not change");
        }
        let took = net.nodes[0].wait_height(goal + 3);
        println!("all four restarted: on again after {took:?}");
    }
    let common = net.nodes.iter().map(|n| n.height().unwrap()).min().unwrap();
    let hashes: Vec<_> = net.nodes.iter().map(|n| n.hash_at(common)).collect();
    assert!(hashes.iter().all(|h| *h == hashes[0]), "{hashes:?}");
    for node in &net.nodes {
        let status = node.result("consensus_status", json!([]));
        assert_eq!(status["equivocations"], json!(0));
        assert!(!node.log().contains("double-signed"), "{}", node.log());
    }
}

#[test]
fn a_strangers_key_is_refused() {
    let mut net = Net::prepare(4, 1);
    net.start_all();
    net.nodes[0].wait_height(3);
    let stranger = net.nodes[4].key.node_id().to_string();
    net.nodes[0].wait("a refusal", |n| n.log().contains("refused a connection"));
    for node in &net.nodes[..4] {
        let peers = node.result("consensus_peers", json!([]));
        assert!(!peers.to_string().contains(&stranger));
    }
    let peers = net.nodes[4].result("consensus_peers", json!([]));
    for peer in peers.as_array().unwrap() {
        assert_eq!(peer["inbound"], json!(false));
    }
    assert_eq!(net.nodes[4].height(), Some(0), "a stranger learns no block");
}
