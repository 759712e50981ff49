//! Four validators from nothing: blocks, the explorer, contracts, and the loss of one.

use std::time::Duration;

use alloy_primitives::{Address, TxKind, U256, hex};
use hanse_adapters_core::Adapter;
use hanse_engines_core::{BlockRef, Engine, EngineError, Log, conformance};

use crate::net::Net;

/// Deploys a contract that returns 42 to everything.
const ANSWERER: [u8; 22] = hex!("600a600c600039600a6000f3602a60005260206000f3");
/// Deploys a contract that writes the call's first 32 bytes to the log, under topic 7.
const TELLER: [u8; 26] = hex!("600e600c600039600e6000f3600035600052600760206000a100");
/// Deploys a contract that reverts on everything.
const REFUSER: [u8; 17] = hex!("6005600c60003960056000f360006000fd");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_make_blocks_tell_of_them_and_lose_one() {
    let root = tempfile::tempdir().unwrap();
    let mut net = Net::prepare(root.path(), 4, 4).await;
    same_again(&net).await;
    for node in 0..4 {
        net.start(node).await;
    }
    for node in 0..4 {
        let health = net.healthy(node, "blocks with all peers", |h| h.height >= 2 && h.peers == 3 && !h.syncing).await;
        assert_eq!(health.power, Some(1_000));
        assert!(health.block_time_ms > net.chain.genesis_time_ms && health.version.starts_with('v'), "{health:?}");
    }
    let keys = net.validators(0).await;
    assert!(net.identities.iter().all(|node| keys.contains(&node.public_key)) && keys.len() == 4, "{keys:?}");
    explore(&mut net).await;
    contracts(&mut net).await;
    lose_one(&mut net).await;
}

/// Keys are made once, and so is what was contributed.
async fn same_again(net: &Net) {
    let (engine, node, made) = (&net.engine, &net.nodes[0], &net.identities[0]);
    let again = engine.prepare(&net.host, node).await.unwrap();
    assert_eq!((&again.node_id, &again.public_key), (&made.node_id, &made.public_key));
    assert_eq!(engine.contribute(&net.host, node, &net.chain, &again).await.unwrap(), made.contribution);
    assert_eq!(engine.signed(&net.host, node).await.unwrap(), None, "it never ran");
    let all = made.contribution.as_ref().unwrap();
    assert!(!all.contains("mnemonic") && !all.contains("priv"), "only what is public: {all}");
}

async fn explore(net: &mut Net) {
    let to = Address::repeat_byte(0xee);
    let raw = net.signed(TxKind::Call(to), 5_000, &[]);
    let hash = net.engine.send_raw(&net.host, &net.nodes[0], &raw).await.unwrap();
    let tx = net.done(&hash).await;
    assert_eq!(net.engine.send_raw(&net.host, &net.nodes[0], &raw).await.unwrap(), hash, "one in a block is known");
    assert_eq!((tx.value.as_str(), tx.nonce, tx.success, tx.gas_used), ("5000", 0, Some(true), Some(21_000)));
    assert_eq!((tx.from, tx.fee.as_deref(), tx.contract), (net.sender(), Some("21000"), None));
    assert_eq!((tx.index, tx.gas_limit, tx.gas_price.as_str(), tx.logs.len()), (Some(0), 1_000_000, "1", 0));
    assert_eq!(tx.to.unwrap(), to.to_string().to_lowercase());

    let (engine, host, node) = (&net.engine, &net.host, &net.nodes[2]);
    let height = tx.block.unwrap();
    net.healthy(2, "the block", |h| h.height > height).await;
    let block = engine.block(host, node, &BlockRef::Height(height)).await.unwrap();
    assert_eq!((block.height, &block.transactions), (height, &vec![hash]));
    assert_eq!(Some(&block.hash), tx.block_hash.as_ref());
    assert_eq!((block.gas_used, block.gas_limit), (21_000, 30_000_000));
    assert_eq!(engine.block(host, node, &BlockRef::Hash(block.hash.clone())).await.unwrap(), block);
    let before = engine.block(host, node, &BlockRef::Height(height - 1)).await.unwrap();
    assert!(before.hash == block.parent_hash && before.time_ms < block.time_ms, "{before:?} {block:?}");
    assert!(block.time_ms - before.time_ms < 30_000 && block.time_ms % 1_000 + before.time_ms % 1_000 > 0);
    assert!(engine.block(host, node, &BlockRef::Latest).await.unwrap().height >= height);
    let account = engine.account(host, node, &to.to_string()).await.unwrap();
    assert_eq!((account.balance.as_str(), account.nonce, account.code_bytes), ("5000", 0, 0));
    assert!(account.height >= height);

    // There is no block 0 on these chains.
    let missing = engine.block(host, node, &BlockRef::Height(0)).await;
    assert!(matches!(missing, Err(EngineError::NotFound(_))), "{missing:?}");
    conformance::refusals(engine, host, node).await;
}

async fn contracts(net: &mut Net) {
    let deployed = net.send(TxKind::Create, 0, &ANSWERER).await;
    let contract = deployed.contract.unwrap();
    assert!(deployed.to.is_none() && deployed.success == Some(true));
    let refuser = net.send(TxKind::Create, 0, &REFUSER).await.contract.unwrap();
    let teller = net.send(TxKind::Create, 0, &TELLER).await.contract.unwrap();
    let told = net.send(TxKind::Call(teller.parse().unwrap()), 0, &[0xab; 32]).await;
    let log = Log { address: teller, topics: vec![format!("0x{:064x}", 7)], data: format!("0x{}", "ab".repeat(32)) };
    assert_eq!(told.logs, [log]);
    let height = told.block.unwrap();
    net.healthy(1, "the block", |h| h.height > height).await;
    let (engine, host, node) = (&net.engine, &net.host, &net.nodes[1]);
    assert_eq!(engine.account(host, node, &contract).await.unwrap().code_bytes, 10);
    let output = engine.call(host, node, &contract, &[]).await.unwrap();
    assert_eq!(U256::from_be_slice(&output), U256::from(42));
    let refused = engine.call(host, node, &refuser, &[]).await;
    assert!(matches!(&refused, Err(EngineError::Node { reason, .. }) if reason.contains("revert")), "{refused:?}");
}

async fn lose_one(net: &mut Net) {
    net.host.stop(&net.nodes[3].key, Duration::ZERO).await.unwrap();
    let dead = net.engine.health(&net.host, &net.nodes[3]).await;
    assert!(matches!(dead, Err(EngineError::Host(_))), "{dead:?}");
    let height = net.healthy(0, "alive", |_| true).await.height;
    net.healthy(0, "goes on without one of four", |h| h.height > height + 3).await;
    net.restart(3).await;
    let goal = net.healthy(0, "alive", |_| true).await.height;
    net.healthy(3, "catches up", |h| h.height >= goal && !h.syncing).await;
}
