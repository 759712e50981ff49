//! Who is let in, and how much he may ask.

use std::net::TcpStream;

use alloy_primitives::{Address, B256};
use hanse_node::config::TokenConfig;
use hanse_node::genesis::GenesisAccount;
use serde_json::{Value, json};

use crate::net::{BLOCK_TIME_MS, Net, Node, RICH, call, http};
use crate::signing::{Form, Order, sign};
use crate::websocket::WebSocket;

const JSON: (&str, &str) = ("Content-Type", "application/json");
/// As many as one connection may have.
const SUBSCRIPTIONS: usize = 32;
/// Of a client that does not read the answers.
const QUESTIONS: usize = 2_500;
/// The SHA-256 of "secret".
const SECRET_SHA256: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

fn request(method: &str, params: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}

fn post(node: &Node, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let headers: Vec<_> = [JSON].into_iter().chain(headers.iter().copied()).collect();
    let (status, text) = http(node.rpc, "POST", "/", &headers, body).unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[test]
fn tokens_hosts_and_origins_decide_who_is_let_in() {
    let mut net = Net::prepare(1, 0);
    net.configure(0, |config| {
        config.rpc.tokens = vec![TokenConfig { name: "ops".to_owned(), sha256: SECRET_SHA256.to_owned() }];
        config.rpc.origins = vec!["https://wallet.example".to_owned()];
        config.rpc.hosts = vec!["node.example".to_owned()];
    });
    net.start_all();
    let node = &net.nodes[0];
    node.wait("an open port", |node| http(node.rpc, "GET", "/health", &[], "").is_some());
    let good = ("Authorization", "Bearer secret");
    let chain_id = request("eth_chainId", json!([]));

    let (status, answer) = post(node, &[], &chain_id);
    assert_eq!(status, 401);
    assert!(answer["error"]["message"].as_str().unwrap().contains("Authorization: Bearer"), "{answer}");
    assert_eq!(post(node, &[("Authorization", "Bearer wrong")], &chain_id).0, 401);
    let (status, answer) = post(node, &[good], &chain_id);
    assert_eq!((status, &answer["result"]), (200, &json!("0x64aba")));

    assert_eq!(http(node.rpc, "GET", "/metrics", &[], "").unwrap().0, 401);
    assert_eq!(http(node.rpc, "GET", "/metrics", &[good], "").unwrap().0, 200);
    assert_eq!(http(node.rpc, "GET", "/health", &[], "").unwrap().0, 200);

    let (status, answer) = post(node, &[good, ("Host", "evil.example")], &chain_id);
    assert_eq!(status, 403);
    assert!(answer["error"]["message"].as_str().unwrap().contains("rpc.hosts"), "{answer}");
    assert_eq!(post(node, &[good, ("Host", "node.example:8545")], &chain_id).0, 200);
    assert_eq!(post(node, &[good, ("Origin", "https://evil.example")], &chain_id).0, 403);
    assert_eq!(post(node, &[good, ("Origin", "https://wallet.example")], &chain_id).0, 200);
    assert_eq!(http(node.rpc, "OPTIONS", "/", &[("Origin", "https://wallet.example")], "").unwrap().0, 204);
    assert_eq!(http(node.rpc, "OPTIONS", "/", &[("Origin", "https://evil.example")], "").unwrap().0, 403);

    let refused = |headers: &[(&str, &str)]| WebSocket::connect(node.rpc, headers).err().unwrap_or_default();
    assert!(refused(&[]).contains(" 401 "));
    assert!(refused(&[good, ("Origin", "https://evil.example")]).contains(" 403 "));
    let mut socket = WebSocket::connect(node.rpc, &[good]).unwrap();
    assert_eq!(socket.call("eth_chainId", json!([]))["result"], json!("0x64aba"));
    let page = http(node.rpc, "GET", "/metrics", &[good], "").unwrap().1;
    for reason in ["host", "origin", "no_token", "wrong_token"] {
        assert!(page.contains(&format!("refused_requests_total{{reason=\"{reason}\"}}")), "{page}");
    }
}

#[test]
fn what_is_too_much_is_refused_with_words() {
    let mut net = Net::prepare(1, 0);
    net.configure(0, |config| {
        config.rpc.batch_max = 3;
        config.rpc.request_bytes_max = 10_000;
        config.rpc.log_blocks_max = 2;
        config.rpc.call_ms_max = 100;
        config.rpc.connections_max = 4;
        config.rpc.subscriptions_max = 2;
    });
    net.start_all();
    let node = &net.nodes[0];
    node.wait_height(4);
    let error = |method: &str, params: Value| call(node.rpc, method, params).unwrap()["error"].clone();

    let logs = error("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": "0x3" }]));
    assert!(logs["message"].as_str().unwrap().contains("exceeds max block range 2"), "{logs}");
    // JUMPDEST, PUSH1 0, JUMP: for ever.
    let endless = error("eth_call", json!([{ "data": "0x5b600056" }]));
    assert_eq!(endless["code"], json!(-32005), "{endless}");
    assert!(endless["message"].as_str().unwrap().contains("execution timeout"), "{endless}");
    let unknown = error("eth_sign", json!([RICH, "0x00"]));
    assert_eq!(
        (&unknown["code"], unknown["message"].as_str()),
        (&json!(-32601), Some("the method eth_sign does not exist/is not available"))
    );
    let poor = error("eth_call", json!([{ "from": Address::ZERO, "to": RICH, "gasPrice": "0x1" }]));
    assert!(poor["message"].as_str().unwrap().contains("insufficient funds for gas * price + value"), "{poor}");
    let steps = error("debug_traceTransaction", json!([B256::ZERO, {}]));
    assert!(steps["message"].as_str().unwrap().contains("the only one is \"callTracer\""), "{steps}");
    let over_http = error("eth_subscribe", json!(["newHeads"]));
    assert!(over_http["message"].as_str().unwrap().contains("connect by WebSocket"), "{over_http}");
    for (params, expected) in [
        (json!([]), "address is missing"),
        (json!(["0x12"]), "address: "),
        (json!([RICH, "newest"]), "block: \"newest\" is neither"),
        (json!([RICH, {}]), "block: give either blockNumber or blockHash"),
    ] {
        let wrong = error("eth_getBalance", params);
        assert_eq!(wrong["code"], json!(-32602), "{wrong}");
        assert!(wrong["message"].as_str().unwrap().contains(expected), "{wrong}");
    }

    let one: Value = serde_json::from_str(&request("eth_chainId", json!([]))).unwrap();
    let (_, answer) = post(node, &[], &json!([one, one, one]).to_string());
    assert_eq!(answer.as_array().unwrap().len(), 3);
    let (_, answer) = post(node, &[], &json!([one, one, one, one]).to_string());
    assert!(answer["error"]["message"].as_str().unwrap().contains("batch"), "{answer}");
    let (status, _) = post(node, &[], &request("web3_sha3", json!([format!("0x{}", "00".repeat(6_000))])));
    assert_eq!(status, 413);

    let mut socket = WebSocket::connect(node.rpc, &[]).unwrap();
    for _ in 0..2 {
        assert!(socket.call("eth_subscribe", json!(["newHeads"]))["result"].as_str().unwrap().starts_with("0x"));
    }
    let third = socket.call("eth_subscribe", json!(["newHeads"]));
    assert!(third["error"]["message"].as_str().unwrap().contains("subscriptions"), "{third}");
    let held: Vec<_> = (0..3).map(|_| TcpStream::connect(node.rpc).unwrap()).collect();
    node.wait("a refusal of the fifth connection", |node| call(node.rpc, "eth_chainId", json!([])).is_none());
    drop(held);
    node.wait("a free place", |node| call(node.rpc, "eth_chainId", json!([])).is_some());
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let mut net = Net::prepare(1, 0);
    net.configure(0, |config| config.rpc.calls_per_second_max = 5);
    net.start_all();
    let node = &net.nodes[0];
    node.wait("an open port", |node| http(node.rpc, "GET", "/health", &[], "").is_some());
    let one: Value = serde_json::from_str(&request("eth_chainId", json!([]))).unwrap();
    let (status, answers) = post(node, &[], &json!(vec![one; 15]).to_string());
    assert_eq!(status, 200);
    let answers = answers.as_array().unwrap();
    let limited: Vec<_> = answers.iter().filter(|answer| answer.get("error").is_some()).collect();
    // Ten at once, and what flowed in meanwhile.
    assert!((1..=5).contains(&limited.len()), "{answers:?}");
    let error = &limited[0]["error"];
    assert_eq!(error["code"], json!(-32005));
    assert!(error["data"]["retry_after_ms"].as_u64().unwrap() <= 1_000, "{error}");
    node.wait("its turn", |node| call(node.rpc, "eth_chainId", json!([])).unwrap().get("result").is_some());
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_and_costs_little() {
    let mut net = Net::prepare(1, 0);
    net.configure(0, |config| {
        config.rpc.slow_ms_max = 500;
        config.rpc.request_bytes_max = 1 << 20;
    });
    net.start_all();
    let node = &net.nodes[0];
    node.wait_height(1);
    let mut deaf = WebSocket::connect(node.rpc, &[]).unwrap();
    // Many on one connection, so that few transactions fill the system's buffers, which hold some ten megabytes.
    for _ in 0..SUBSCRIPTIONS {
        assert!(deaf.call("eth_subscribe", json!(["newPendingTransactions", true])).get("result").is_some());
    }
    let cut = |node: &Node| !http(node.rpc, "GET", "/metrics", &[], "").unwrap().1.contains("slow_subscribers_total 0");
    let input: Vec<u8> = vec![0; 120_000];
    for nonce in 0..20 {
        let (to, input) = (Some(RICH.parse().unwrap()), input.clone().into());
        let raw = sign(&Order { nonce, to, input, gas: 1_300_000, ..Default::default() }, &Form::WithTip(0));
        node.result("eth_sendRawTransaction", json!([raw]));
        if cut(node) {
            break;
        }
    }
    node.wait("the cut", cut);
    assert!(node.log().contains("a subscription is cut"), "{}", node.log());
    // Who reads again hears the end of it, with the reason, and goes on.
    let mut reason = None;
    while reason.is_none() {
        let message = deaf.receive().expect("the connection itself stays");
        reason = message["params"]["error"].as_str().map(str::to_owned);
    }
    assert!(reason.unwrap().contains("has read nothing for"));
    assert_eq!(deaf.call("eth_chainId", json!([]))["result"], json!("0x64aba"));
    let unknown = deaf.call("eth_unsubscribe", json!([B256::ZERO]));
    assert_eq!(unknown["result"], json!(false), "{unknown}");
}

#[test]
fn a_client_that_asks_and_never_reads_costs_little() {
    let mut net = Net::prepare(1, 0);
    let code = vec![1; 24_000];
    net.genesis
        .alloc
        .insert(Address::repeat_byte(7), GenesisAccount { code: code.clone().into(), ..Default::default() });
    net.set_block_time(BLOCK_TIME_MS);
    net.start_all();
    let node = &net.nodes[0];
    node.wait_height(1);
    let resident = |node: &Node| {
        let page = http(node.rpc, "GET", "/metrics", &[], "").unwrap().1;
        let line = page.lines().find(|line| line.starts_with("process_resident_memory_bytes ")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = resident(node);
    // The answers have 48 kilobytes each, together four times what may be used.
    let mut deaf = WebSocket::connect(node.rpc, &[]).unwrap();
    for _ in 0..QUESTIONS {
        deaf.send(&request("eth_getCode", json!([Address::repeat_byte(7), "latest"])));
    }
    // Others are served meanwhile, and the calls that run come to their end.
    node.wait("the connection to stand still", |node| {
        let page = http(node.rpc, "GET", "/metrics", &[], "").unwrap().1;
        page.contains("hanse_ledger_rpc_running 0") && page.contains("method=\"eth_getCode\",outcome=\"ok\"")
    });
    let grown = resident(node).saturating_sub(before);
    assert!(grown < 32 << 20, "{} MiB", grown >> 20);
    // Nothing was lost: it gets all its answers once it reads.
    for _ in 0..QUESTIONS {
        let answer = deaf.receive().expect("the connection stays");
        assert_eq!(answer["result"].as_str().map(str::len), Some(2 + 2 * code.len()), "{}", answer["error"]);
    }
}
