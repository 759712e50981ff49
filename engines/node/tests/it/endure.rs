//! Seven validators as seven processes, two of them killed (-9) at random again and again while transactions go in:
//! no fork, no transaction lost, each caught up again. Then three of seven down: no block; one back: it goes on.
//!
//! `HANSE_LEDGER_MINUTES=10` makes it last (default: some seconds); `HANSE_LEDGER_SEED` chooses another course. It
//! prints what happened as JSON.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, TxKind};
use serde_json::json;

use crate::net::{Net, Node, RICH_KEY};
use crate::signer::Wallet;

const VALIDATORS: usize = 7;
/// Without the variable: long enough for two rounds of killing.
const SHORT: Duration = Duration::from_secs(15);
/// A client sends again what has not been mined for so long.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a client sent and has not seen in a block.
struct Open {
    raw: Bytes,
    sent: Instant,
}

struct Client {
    wallet: Wallet,
    open: BTreeMap<B256, Open>,
    sent: BTreeMap<B256, ()>,
    resent: u64,
}

fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn offer(node: &Node, raw: &Bytes) -> bool {
    let answer = node.call("eth_sendRawTransaction", json!([raw]));
    answer.is_some_and(|answer| answer.get("result").is_some() || answer.to_string().contains("already known"))
}

impl Client {
    /// Sends one more transaction to a live node, and again what waits too long.
    fn work(&mut self, live: &[&Node], random_state: &mut u64) {
        let node = live[random(random_state, live.len() as u64) as usize];
        let (hash, raw) = self.wallet.send(TxKind::Call(Address::repeat_byte(0xee)), 1, Bytes::new());
        offer(node, &raw);
        self.sent.insert(hash, ());
        self.open.insert(hash, Open { raw, sent: Instant::now() });
        let old: Vec<_> =
            self.open.iter().filter(|(_, open)| open.sent.elapsed() > PATIENCE).map(|(h, _)| *h).collect();
        for hash in old {
            let receipt = node.call("eth_getTransactionReceipt", json!([hash]));
            if receipt.is_some_and(|receipt| receipt["result"].is_object()) {
                self.open.remove(&hash);
            } else if let Some(open) = self.open.get_mut(&hash) {
                open.sent = Instant::now();
                self.resent += u64::from(offer(node, &open.raw));
            }
        }
    }

    /// Works for a while with the nodes that are up.
    fn work_for(&mut self, net: &Net, down: &[usize], time: Duration, random_state: &mut u64) {
        let until = Instant::now() + time;
        let live: Vec<_> = (0..net.nodes.len()).filter(|i| !down.contains(i)).map(|i| &net.nodes[i]).collect();
        while Instant::now() < until {
            self.work(&live, random_state);
            std::thread::sleep(Duration::from_millis(50 + random(random_state, 150)));
        }
    }
}

fn duration() -> Duration {
    match std::env::var("HANSE_LEDGER_MINUTES") {
        Ok(text) => Duration::from_secs_f64(60.0 * text.parse::<f64>().expect("HANSE_LEDGER_MINUTES is a number")),
        Err(_) => SHORT,
    }
}

fn top(net: &Net, down: &[usize]) -> u64 {
    let live = (0..net.nodes.len()).filter(|i| !down.contains(i));
    live.filter_map(|i| net.nodes[i].height()).max().unwrap_or(0)
}

#[test]
fn seven_validators_endure_the_killing_of_two_and_halt_without_three() {
    let seed = std::env::var("HANSE_LEDGER_SEED").map_or(1, |s| s.parse().expect("HANSE_LEDGER_SEED is a number"));
    let mut chance = seed;
    let mut net = Net::prepare(VALIDATORS, 0);
    net.start_all();
    for node in &net.nodes {
        node.wait_height(2);
    }
    let mut client = Client { wallet: Wallet::new(RICH_KEY), open: BTreeMap::new(), sent: BTreeMap::new(), resent: 0 };
    let (start, length) = (Instant::now(), duration());
    let (mut rounds, mut catch_up) = (0u64, Vec::new());
    while start.elapsed() < length {
        let first = random(&mut chance, VALIDATORS as u64) as usize;
        let second = (first + 1 + random(&mut chance, VALIDATORS as u64 - 1) as usize) % VALIDATORS;
        net.nodes[first].kill();
        let apart = random(&mut chance, 1500);
        client.work_for(&net, &[first], Duration::from_millis(apart), &mut chance);
        net.nodes[second].kill();
        let before = top(&net, &[first, second]);
        let away = 500 + random(&mut chance, 4000);
        client.work_for(&net, &[first, second], Duration::from_millis(away), &mut chance);
        net.nodes[first].start();
        net.nodes[second].start();
        let goal = top(&net, &[first, second]);
        for node in [first, second] {
            catch_up.push(net.nodes[node].wait_height(goal.max(1)).as_millis() as u64);
        }
        // Two of seven down is not the end of progress.
        net.nodes[first].wait_height(before + 1);
        rounds += 1;
    }
    let killing_s = start.elapsed().as_secs();
    settle(&net, &mut client, &mut chance);
    let height = check_chains(&net);
    let halted_s = halt_and_go_on(&mut net);
    catch_up.sort_unstable();
    println!(
        "{}",
        json!({
            "validators": VALIDATORS, "seed": seed, "killing_seconds": killing_s, "rounds_of_two_kills": rounds,
            "blocks_compared_on_all": height, "transactions": client.sent.len(), "sent_again_by_client": client.resent,
            "not_in_chain": client.open.len(),
            "catch_up_ms_median": catch_up[catch_up.len() / 2], "catch_up_ms_max": catch_up.last(),
            "halted_without_three_seconds": halted_s,
        })
    );
}

/// Waits until all that was sent is in the chain.
fn settle(net: &Net, client: &mut Client, chance: &mut u64) {
    let until = Instant::now() + Duration::from_secs(60);
    while !client.open.is_empty() {
        assert!(Instant::now() < until, "{} transactions are lost", client.open.len());
        let node = &net.nodes[random(chance, VALIDATORS as u64) as usize];
        client.open.retain(|hash, open| {
            let mined = node.result("eth_getTransactionReceipt", json!([hash])).is_object();
            if !mined && open.sent.elapsed() > PATIENCE {
                open.sent = Instant::now();
                client.resent += u64::from(offer(node, &open.raw));
            }
            !mined
        });
        std::thread::sleep(Duration::from_millis(100));
    }
    let balance = net.nodes[0].result("eth_getBalance", json!([Address::repeat_byte(0xee), "latest"]));
    assert_eq!(balance, json!(format!("{:#x}", client.sent.len())), "each transfer counts once");
}

/// Every block is the same on all nodes; returns how many were compared.
fn check_chains(net: &Net) -> u64 {
    let common = net.nodes.iter().map(|n| n.height().unwrap()).min().unwrap();
    for height in 1..=common {
        let first = net.nodes[0].hash_at(height);
        for node in &net.nodes[1..] {
            assert_eq!(node.hash_at(height), first, "fork at {height}");
        }
    }
    for node in &net.nodes {
        let status = node.result("consensus_status", json!([]));
        assert_eq!(status["equivocations"], json!(0));
        assert_eq!(node.result("consensus_evidence", json!([])), json!([]));
    }
    common
}

/// Three of seven down: no block for some seconds. One back: blocks again.
fn halt_and_go_on(net: &mut Net) -> u64 {
    for node in &mut net.nodes[4..] {
        node.kill();
    }
    let down = [4, 5, 6];
    // A block that was decided already may still arrive everywhere.
    let mut height = top(net, &down);
    let mut since = Instant::now();
    let limit = Instant::now() + Duration::from_secs(30);
    while since.elapsed() < Duration::from_secs(5) {
        assert!(Instant::now() < limit, "four of seven must not make blocks, height {height}");
        let now = top(net, &down);
        if now != height {
            (height, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let halted = since.elapsed().as_secs();
    net.nodes[4].start();
    for node in &net.nodes[..5] {
        node.wait_height(height + 3);
    }
    halted
}
