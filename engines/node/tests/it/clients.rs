//! Everyday clients' own libraries against four nodes: connect, send, wait, deploy, call, events, subscriptions, reverts.

use std::process::Command;

use crate::net::{Net, RICH_KEY};
use crate::parts;

fn work(mut client: Command, net: &Net) {
    let node = &net.nodes[1];
    let contract = |name: &str| format!("{}/tests/contracts/{name}", env!("CARGO_MANIFEST_DIR"));
    client
        .env("RPC", node.url())
        .env("WS", format!("ws://{}", node.rpc))
        .env("KEY", RICH_KEY)
        .env("ABI", contract("Probe.abi.json"))
        .env("CODE", contract("Probe.hex"));
    assert_eq!(parts::run(client).trim(), "ok", "{}", node.log());
}

fn started() -> Net {
    let mut net = Net::prepare(4, 0);
    net.start_all();
    net.nodes[1].wait_height(1);
    net
}

#[test]
fn ethers_works() {
    work(parts::node_js("ethers_client.js"), &started());
}

#[test]
fn viem_works() {
    work(parts::node_js("viem_client.js"), &started());
}

#[test]
fn web3_py_works() {
    work(parts::python("web3_client.py"), &started());
}
