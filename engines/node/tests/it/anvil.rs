//! Our chain and Foundry's anvil execute the same blocks and are asked the same questions; every answer must be the same,
//! but for a short list of fields, each with its reason.
//!
//! The transactions go to our chain first. Then anvil is given the same ones block by block, with our times and our
//! proposer, so that numbers, gas, logs, receipts and even state roots have to agree. Hashes of blocks differ, because
//! headers do; before comparing, each chain's own hashes are replaced by the block's number.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use serde_json::{Value, json};

use crate::net::{CHAIN_ID, Net, Node, RICH, call, free_ports};
use crate::parts;
use crate::signing::{Form, Order, input, sign, word};

const PROBE: &str = include_str!("../contracts/Probe.hex");
const POOR: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
/// Whole seconds differ from block to block then, which anvil insists on.
const BLOCK_TIME_MS: u64 = 1_100;

/// Where answers may differ: the beginning of the method, the end of the field, and why.
const MAY_DIFFER: &[(&str, &str, &str)] = &[
    ("eth_getBlock", ".extraData", "ours holds the time in milliseconds, or the genesis' hash"),
    ("eth_getBlock", ".mixHash", "anvil invents randomness, this chain has none"),
    ("eth_getBlock", ".size", "follows from extraData"),
    (
        "eth_getBlock",
        ".stateRoot",
        "EIP-2935's contract holds the hashes of blocks, and anvil keeps slots that were set to zero",
    ),
    ("eth_getProof", ".accountProof", "follows from the state root"),
    ("eth_get", ".blobGasPrice", "anvil says it of every receipt, the specification of blob transactions only"),
    ("eth_getBlockReceipts", "].blockTimestamp", "anvil says it in receipts too, as a decimal number"),
    ("eth_getTransactionReceipt", "].blockTimestamp", "the same"),
    (
        "debug_",
        "}].gas",
        "of a whole trace: anvil leaves out the price of the transaction itself; go-ethereum and we do not",
    ),
    (
        "debug_",
        "}].gasUsed",
        "of a whole trace: anvil says the block's sum so far; ours is the receipt's, which is checked",
    ),
    ("debug_", ".index", "anvil numbers the logs of a trace"),
    ("eth_accounts", "", "anvil holds keys, a node here holds none"),
    ("eth_sendRawTransaction", ".code", "anvil refuses with -32003, others with -32000"),
];

struct Anvil {
    child: Child,
    address: SocketAddr,
}

impl Anvil {
    fn start(genesis_seconds: u64) -> Self {
        let address = free_ports(1)[0];
        let mut command: Command = parts::anvil();
        command
            .args(["--silent", "--no-mining", "--order", "fifo", "--hardfork", "osaka", "--accounts", "1"])
            .args(["--balance", "1000", "--gas-price", "0", "--base-fee", "0", "--gas-limit", "30000000"])
            .args(["--disable-default-create2-deployer", "--host", "127.0.0.1"])
            .args(["--chain-id", &CHAIN_ID.to_string(), "--timestamp", &genesis_seconds.to_string()])
            .args(["--port", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let anvil = Self { child: command.spawn().unwrap(), address };
        let until = Instant::now() + Duration::from_secs(30);
        while call(address, "eth_chainId", json!([])).is_none() {
            assert!(Instant::now() < until, "anvil does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        anvil
    }

    fn result(&self, method: &str, params: Value) -> Value {
        let answer = call(self.address, method, params.clone()).unwrap();
        assert!(answer.get("error").is_none(), "anvil: {method} {params}: {answer}");
        answer["result"].clone()
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of the two chains.
struct Side {
    address: SocketAddr,
    /// By number.
    hashes: Vec<String>,
}

impl Side {
    fn new(address: SocketAddr, blocks: u64) -> Self {
        let hash = |number: u64| {
            let block = call(address, "eth_getBlockByNumber", json!([format!("{number:#x}"), false])).unwrap();
            block["result"]["hash"].as_str().unwrap().to_owned()
        };
        Self { address, hashes: (0..=blocks).map(hash).collect() }
    }

    /// The answer to a question in which `#N` stands for the hash of block N, with hashes replaced by the same.
    fn ask(&self, method: &str, params: &Value) -> Value {
        let mut text = params.to_string();
        for (number, hash) in self.hashes.iter().enumerate() {
            text = text.replace(&format!("\"#{number}\""), &format!("\"{hash}\""));
        }
        let answer = call(self.address, method, serde_json::from_str(&text).unwrap());
        let answer = answer.unwrap_or_else(|| panic!("{method} {text} unanswered"));
        let mut text = match answer.get("error") {
            Some(error) => json!({ "code": error["code"], "message": error["message"], "data": error["data"] }),
            None => answer["result"].clone(),
        }
        .to_string();
        for (number, hash) in self.hashes.iter().enumerate() {
            text = text.replace(hash, &format!("#{number}"));
        }
        serde_json::from_str(&text).unwrap()
    }
}

/// What our chain was given, in order of nonces.
struct Story {
    raw: Vec<Bytes>,
    hashes: Vec<B256>,
    probe: Address,
    /// The block in which it was made.
    deployed: Value,
}

fn hex_of(bytes: &Bytes) -> Value {
    json!(bytes)
}

/// Sends everything to our chain, part of it in one block, and waits until it is done.
fn tell(node: &Node) -> Story {
    let mut story = Story {
        raw: Vec::new(),
        hashes: Vec::new(),
        probe: RICH.parse::<Address>().unwrap().create(0),
        deployed: Value::Null,
    };
    let mut code: Vec<u8> = alloy_primitives::hex::decode(PROBE.trim()).unwrap();
    code.extend_from_slice(word(5).as_slice());
    let (poor, probe) = (POOR.parse::<Address>().unwrap(), story.probe);
    let tag = B256::repeat_byte(0xab);
    let list = AccessList(vec![AccessListItem { address: probe, storage_keys: vec![word(1)] }]);
    let to_probe =
        |signature: &str, words: &[B256]| Order { to: Some(probe), input: input(signature, words), ..order(0) };
    let orders = [
        (Order { input: code.into(), value: 9, ..order(0) }, Form::WithTip(0)),
        (Order { to: Some(poor), value: 1_000, gas: 21_000, ..order(0) }, Form::Legacy),
        (Order { to: Some(poor), value: 1_000, price: 3, ..order(0) }, Form::WithTip(2)),
        (to_probe("note(bytes32,uint256)", &[tag, word(7)]), Form::WithTip(0)),
        (to_probe("note(bytes32,uint256)", &[word(0), word(8)]), Form::WithList(list)),
        (to_probe("fill(uint256,uint256)", &[word(4), word(6)]), Form::Legacy),
        (to_probe("fill(uint256,uint256)", &[word(3), word(0)]), Form::WithTip(0)),
        (to_probe("failReason()", &[]), Form::WithTip(0)),
        (Order { gas: 60_000, ..to_probe("burn()", &[]) }, Form::WithTip(0)),
        (to_probe("make()", &[]), Form::WithTip(0)),
        (to_probe("deep(uint256)", &[word(20)]), Form::WithTip(0)),
        // A creation that reverts: PUSH0, PUSH0, REVERT.
        (Order { input: Bytes::from_static(&[0x5f, 0x5f, 0xfd]), gas: 100_000, ..order(0) }, Form::WithTip(0)),
    ];
    for (nonce, (order, form)) in (0u64..).zip(orders) {
        let raw = sign(&Order { nonce, ..order }, &form);
        let hash = node.result("eth_sendRawTransaction", json!([raw]));
        assert_eq!(hash, json!(keccak256(&raw)));
        story.hashes.push(keccak256(&raw));
        story.raw.push(raw);
        // The contract alone, then three at a time.
        if nonce % 3 == 0 {
            wait_done(node, &hash);
        }
    }
    wait_done(node, &json!(story.hashes.last()));
    let receipt = node.result("eth_getTransactionReceipt", json!([story.hashes[0]]));
    story.deployed = receipt["blockNumber"].clone();
    story
}

fn order(nonce: u64) -> Order {
    Order { nonce, gas: 2_000_000, ..Default::default() }
}

fn wait_done(node: &Node, hash: &Value) {
    node.wait("a receipt", |node| !node.result("eth_getTransactionReceipt", json!([hash])).is_null());
}

/// Gives anvil the same blocks; returns the number of the last.
fn repeat(node: &Node, anvil: &Anvil, story: &Story) -> u64 {
    let receipt = node.result("eth_getTransactionReceipt", json!([story.hashes.last()]));
    let last = number(&receipt["blockNumber"]);
    let mut done = 0;
    for n in 1..=last {
        let block = node.result("eth_getBlockByNumber", json!([format!("{n:#x}"), false]));
        for hash in block["transactions"].as_array().unwrap() {
            assert_eq!(*hash, json!(story.hashes[done]), "in the order of nonces");
            anvil.result("eth_sendRawTransaction", json!([hex_of(&story.raw[done])]));
            done += 1;
        }
        anvil.result("anvil_setCoinbase", json!([block["miner"]]));
        anvil.result("evm_setNextBlockTimestamp", json!([number(&block["timestamp"])]));
        anvil.result("anvil_setNextBlockBaseFeePerGas", json!(["0x0"]));
        anvil.result("evm_mine", json!([]));
    }
    assert_eq!(done, story.raw.len());
    last
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(&value.as_str().unwrap()[2..], 16).unwrap()
}

/// Everything that is asked, at a fixed head.
fn questions(story: &Story, last: u64) -> Vec<Question> {
    let mut all = of_state(story, last);
    all.extend(of_calls(story, last));
    all.extend(of_history(story, last));
    all
}

/// Method and parameters.
type Question = (&'static str, Value);

fn of_state(story: &Story, last: u64) -> Vec<Question> {
    let (probe, head) = (json!(story.probe), json!(format!("{last:#x}")));
    vec![
        ("eth_chainId", json!([])),
        ("net_version", json!([])),
        ("net_listening", json!([])),
        ("eth_accounts", json!([])),
        ("web3_sha3", json!(["0x68656c6c6f"])),
        ("eth_syncing", json!([])),
        ("eth_getBalance", json!([RICH, head])),
        ("eth_getBalance", json!([POOR, head])),
        ("eth_getBalance", json!([POOR, "0x1"])),
        ("eth_getBalance", json!([POOR, { "blockNumber": head }])),
        ("eth_getBalance", json!([POOR, { "blockHash": format!("#{last}") }])),
        ("eth_getTransactionCount", json!([RICH, head])),
        ("eth_getTransactionCount", json!([RICH, "earliest"])),
        ("eth_getCode", json!([probe, head])),
        ("eth_getCode", json!([POOR, head])),
        ("eth_getStorageAt", json!([probe, "0x1", head])),
        ("eth_getStorageAt", json!([probe, word(1), head])),
        ("eth_getProof", json!([probe, [word(1), word(99)], story.deployed])),
        ("eth_getProof", json!([POOR, [], head])),
        ("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": head }])),
        ("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": head, "address": POOR }])),
        ("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": head, "address": [probe, POOR] }])),
        ("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": head, "topics": [keccak256("Plain(uint256)")] }])),
        ("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": head, "topics": [null, null, [word(0), word(1)]] }])),
        (
            "eth_getLogs",
            json!([{ "fromBlock": "0x0", "toBlock": head, "topics": [[], null, B256::repeat_byte(0xab)] }]),
        ),
    ]
}

fn of_calls(story: &Story, last: u64) -> Vec<Question> {
    let (probe, head) = (json!(story.probe), json!(format!("{last:#x}")));
    let call_of =
        |signature: &str, words: &[B256]| json!({ "from": RICH, "to": probe, "data": input(signature, words) });
    let mut all = vec![
        ("eth_call", json!([call_of("total()", &[]), head])),
        ("eth_call", json!([call_of("total()", &[]), "0x1"])),
        ("eth_call", json!([call_of("slots(uint256)", &[word(3)]), head])),
        ("eth_call", json!([call_of("ask()", &[]), head])),
        ("eth_call", json!([{ "to": POOR }, head])),
        ("eth_estimateGas", json!([{ "from": RICH, "to": POOR, "value": "0x1" }, head])),
        ("eth_estimateGas", json!([call_of("note(bytes32,uint256)", &[word(1), word(2)]), head])),
        ("eth_estimateGas", json!([call_of("deep(uint256)", &[word(30)]), head])),
        ("eth_estimateGas", json!([call_of("fill(uint256,uint256)", &[word(4), word(0)]), head])),
        ("eth_createAccessList", json!([call_of("fill(uint256,uint256)", &[word(2), word(0)]), head])),
    ];
    for name in ["failPlain()", "failReason()", "failCustom()", "failAssert()"] {
        all.push(("eth_call", json!([call_of(name, &[]), head])));
        all.push(("eth_estimateGas", json!([call_of(name, &[]), head])));
    }
    all.push(("eth_call", json!([call_of("failPanic(uint256)", &[word(0)]), head])));
    let state = json!({ probe.as_str().unwrap(): { "stateDiff": { word(1).to_string(): word(77) } } });
    all.push(("eth_call", json!([call_of("total()", &[]), head, state])));
    let rich = json!({ POOR: { "balance": "0xffffffffff", "nonce": "0x5" } });
    all.push(("eth_call", json!([{ "from": POOR, "to": RICH, "value": "0xfffffffff" }, head, rich])));
    all
}

fn of_history(story: &Story, last: u64) -> Vec<Question> {
    let mut all = Vec::new();
    for n in 0..=last {
        let (block, hash) = (json!(format!("{n:#x}")), json!(format!("#{n}")));
        all.push(("eth_getBlockByNumber", json!([block, true])));
        all.push(("eth_getBlockByNumber", json!([block, false])));
        all.push(("eth_getBlockByHash", json!([hash, false])));
        all.push(("eth_getBlockTransactionCountByNumber", json!([block])));
        all.push(("eth_getBlockTransactionCountByHash", json!([hash])));
        all.push(("eth_getUncleCountByBlockNumber", json!([block])));
        all.push(("eth_getBlockReceipts", json!([block])));
        all.push(("eth_getTransactionByBlockNumberAndIndex", json!([block, "0x0"])));
        all.push(("eth_getTransactionByBlockHashAndIndex", json!([hash, "0x1"])));
        all.push(("eth_getLogs", json!([{ "blockHash": hash }])));
        all.push(("eth_feeHistory", json!(["0x1", block, [0.0, 50.0, 100.0]])));
    }
    for hash in &story.hashes {
        all.push(("eth_getTransactionByHash", json!([hash])));
        all.push(("eth_getTransactionReceipt", json!([hash])));
        all.push(("eth_getRawTransactionByHash", json!([hash])));
        all.push(("debug_traceTransaction", json!([hash, { "tracer": "callTracer" }])));
        let with_logs = json!({ "withLog": true, "onlyTopCall": false });
        all.push(("debug_traceTransaction", json!([hash, { "tracer": "callTracer", "tracerConfig": with_logs }])));
    }
    for raw in &story.raw[..2] {
        all.push(("eth_sendRawTransaction", json!([raw])));
    }
    all.push(("eth_getTransactionByHash", json!([B256::repeat_byte(1)])));
    all.push(("eth_getTransactionReceipt", json!([B256::repeat_byte(1)])));
    all.push(("eth_getBlockByHash", json!([B256::repeat_byte(1), false])));
    all.push(("eth_getBlockByNumber", json!(["0xffffff", false])));
    all
}

fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    if MAY_DIFFER.iter().any(|(start, end, _)| path.starts_with(start) && path.ends_with(end)) {
        return;
    }
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (ours, theirs) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                compare(&format!("{path}.{key}"), ours, theirs, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (ours, theirs)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{index}]"), ours, theirs, found);
            }
        }
        _ if ours == theirs => {}
        (Value::String(a), Value::String(b)) if path.ends_with(".message") && same_in_other_words(a, b) => {}
        _ => found.push(format!("{path}: ours {ours}, anvil's {theirs}")),
    }
}

/// Ours says more of a refused transaction; anvil adds codes and raw data to what go-ethereum says of panics and custom
/// errors.
fn same_in_other_words(ours: &str, theirs: &str) -> bool {
    let coded = ["execution reverted: panic: ", "execution reverted: custom error "];
    ours.starts_with(&format!("{theirs}: "))
        || (ours.starts_with("execution reverted") && coded.iter().any(|start| theirs.starts_with(start)))
}

#[test]
fn every_answer_is_anvils() {
    let mut net = Net::prepare(1, 0);
    net.set_block_time(BLOCK_TIME_MS);
    net.start_all();
    let node = &net.nodes[0];
    node.wait_height(1);
    let story = tell(node);
    let anvil = Anvil::start(net.genesis.genesis_time_ms / 1_000);
    let last = repeat(node, &anvil, &story);
    let (ours, theirs) = (Side::new(node.rpc, last), Side::new(anvil.address, last));
    let mut found = Vec::new();
    let all = questions(&story, last);
    for (method, params) in &all {
        let path = format!("{method} {params}");
        compare(&path, &ours.ask(method, params), &theirs.ask(method, params), &mut found);
    }
    for hash in &story.hashes {
        let trace = node.result("debug_traceTransaction", json!([hash, { "tracer": "callTracer" }]));
        let receipt = node.result("eth_getTransactionReceipt", json!([hash]));
        assert_eq!(trace["gasUsed"], receipt["gasUsed"], "{trace}");
    }
    println!("{} answers compared over {last} blocks", all.len());
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}
