//! A chain of four real nodes, driven the way the control plane does it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_consensus::{SignableTransaction, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, hex, keccak256};
use hanse_adapters_core::{Adapter, RunState};
use hanse_adapters_local::LocalAdapter;
use hanse_engines_core::{
    BlockRef, ChainPlan, Engine, EngineError, GovernancePlan, Log, NodeHealth, NodePlan, Peer, Transaction, conformance,
};
use hanse_engines_embedded::EmbeddedEngine;
use k256::ecdsa::SigningKey;

use crate::{artifact, free_ports, plan, program};

const CHAIN_ID: u64 = 4242;
const LIMIT: Duration = Duration::from_secs(120);
/// Deploys a contract that returns 42 to everything.
const ANSWERER: [u8; 22] = hex!("600a600c600039600a6000f3602a60005260206000f3");
/// Deploys a contract that writes the call's first 32 bytes to the log, under topic 7.
const TELLER: [u8; 26] = hex!("600e600c600039600e6000f3600035600052600760206000a100");
/// Deploys a contract that reverts on everything.
const REFUSER: [u8; 17] = hex!("6005600c60003960056000f360006000fd");

struct Net {
    engine: EmbeddedEngine,
    host: LocalAdapter,
    nodes: Vec<NodePlan>,
    key: SigningKey,
    nonce: u64,
}

impl Net {
    async fn start(root: &std::path::Path) -> Self {
        let host = LocalAdapter::new(root.into(), program());
        let engine = EmbeddedEngine::new(artifact());
        let ports = free_ports(8);
        let nodes: Vec<_> = (0..4).map(|n| plan(&format!("org.chain.n{n}"), ports[n], ports[n + 4])).collect();
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let mut peers = Vec::new();
        for node in &nodes {
            let identity = engine.prepare(&host, node).await.unwrap();
            peers.push(Peer { identity, address: format!("127.0.0.1:{}", node.p2p_port) });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let chain = ChainPlan {
            chain_id: CHAIN_ID,
            genesis_time_ms: u64::try_from(now).unwrap(),
            parameters: [("block_time_ms".to_owned(), 200), ("block_gas_limit".to_owned(), 30_000_000)].into(),
            alloc: [(address(&key), "1000000000000000000000".to_owned())].into(),
            governance: Some(GovernancePlan {
                members: vec![address(&key)],
                threshold: 1,
                senders: None,
                deployers: Some(vec![address(&key)]),
                restrict_nodes: false,
            }),
            anchor: None,
        };
        let validators: Vec<_> = peers.iter().map(|p| p.identity.clone()).collect();
        let genesis = engine.genesis(&chain, &validators).unwrap();
        for (node, peer) in nodes.iter().zip(&peers) {
            engine.configure(&host, node, &peer.identity, &genesis, &peers).await.unwrap();
            let status = engine.start(&host, node).await.unwrap();
            assert!(matches!(status.run, RunState::Running { .. }), "{status:?}");
            assert_eq!(engine.start(&host, node).await.unwrap(), status, "starting what runs is a success");
        }
        Self { engine, host, nodes, key, nonce: 0 }
    }

    fn signed(&mut self, to: TxKind, value: u64, input: &[u8]) -> Vec<u8> {
        let tx = TxLegacy {
            chain_id: Some(CHAIN_ID),
            nonce: self.nonce,
            gas_price: 0,
            gas_limit: 1_000_000,
            to,
            value: U256::from(value),
            input: Bytes::copy_from_slice(input),
        };
        self.nonce += 1;
        let (signature, recovery) = self.key.sign_prehash_recoverable(tx.signature_hash().as_slice()).unwrap();
        tx.into_signed(Signature::from((signature, recovery))).encoded_2718()
    }

    async fn healthy(&self, node: usize, what: &str, holds: impl Fn(&NodeHealth) -> bool) -> NodeHealth {
        conformance::healthy(&self.engine, (&self.host, &self.nodes[node]), (what, LIMIT), holds).await
    }

    async fn done(&self, hash: &str) -> Transaction {
        conformance::included(&self.engine, (&self.host, &self.nodes[1]), hash, LIMIT).await
    }

    async fn send(&mut self, to: TxKind, value: u64, input: &[u8]) -> Transaction {
        let raw = self.signed(to, value, input);
        let hash = self.engine.send_raw(&self.host, &self.nodes[0], &raw).await.unwrap();
        assert_eq!(hash, keccak256(&raw).to_string());
        self.done(&hash).await
    }
}

fn address(key: &SigningKey) -> String {
    Address::from_private_key(key).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_nodes_make_a_chain_that_the_explorer_reads() {
    let root = tempfile::tempdir().unwrap();
    let mut net = Net::start(root.path()).await;
    for node in 0..4 {
        let health = net.healthy(node, "blocks and peers", |h| h.height >= 2 && h.peers == 3 && !h.syncing).await;
        assert!(health.block_hash.starts_with("0x") && !health.version.is_empty());
    }
    explore(&mut net).await;
    contracts(&mut net).await;
    governed(&net).await;
    lose_one(&mut net).await;
    without_a_quorum(&net).await;
    for node in &net.nodes {
        net.host.remove(&node.key).await.unwrap();
    }
}

async fn explore(net: &mut Net) {
    let (to, from) = (Address::repeat_byte(0xee), address(&net.key).to_lowercase());
    let raw = net.signed(TxKind::Call(to), 5_000, &[]);
    let hash = net.engine.send_raw(&net.host, &net.nodes[0], &raw).await.unwrap();
    let again = net.engine.send_raw(&net.host, &net.nodes[0], &raw).await.unwrap();
    assert_eq!(again, hash, "one that waits is known");
    let tx = net.done(&hash).await;
    assert_eq!(net.engine.send_raw(&net.host, &net.nodes[0], &raw).await.unwrap(), hash, "one in a block is known");
    assert_eq!((tx.value.as_str(), tx.nonce, tx.success, tx.gas_used), ("5000", 0, Some(true), Some(21_000)));
    assert_eq!((tx.from, tx.fee.as_deref(), tx.contract), (from, Some("0"), None));
    assert_eq!((tx.index, tx.gas_limit, tx.gas_price.as_str(), tx.logs.len()), (Some(0), 1_000_000, "0", 0));
    assert_eq!(tx.to.unwrap(), to.to_string().to_lowercase());

    let (engine, host, node) = (&net.engine, &net.host, &net.nodes[2]);
    let height = tx.block.unwrap();
    net.healthy(2, "the block", |h| h.height >= height).await;
    let block = engine.block(host, node, &BlockRef::Height(height)).await.unwrap();
    assert_eq!((block.height, &block.transactions), (height, &vec![hash]));
    assert_eq!(Some(&block.hash), tx.block_hash.as_ref());
    assert_eq!((block.gas_used, block.gas_limit, block.base_fee.as_deref()), (21_000, 30_000_000, Some("0")));
    assert_eq!(engine.block(host, node, &BlockRef::Hash(block.hash.clone())).await.unwrap(), block);
    let before = engine.block(host, node, &BlockRef::Height(height - 1)).await.unwrap();
    assert!(
        before.hash == block.parent_hash && before.time_ms < block.time_ms && before.state_root != block.state_root
    );
    let genesis = engine.block(host, node, &BlockRef::Height(0)).await.unwrap();
    assert!(genesis.time_ms > 1_600_000_000_000 && genesis.time_ms < block.time_ms);
    assert!(engine.block(host, node, &BlockRef::Latest).await.unwrap().height >= height);
    let account = engine.account(host, node, &to.to_string()).await.unwrap();
    assert_eq!((account.balance.as_str(), account.nonce, account.code_bytes), ("5000", 0, 0));
    assert!(account.height >= height);

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
    let (engine, host, node) = (&net.engine, &net.host, &net.nodes[1]);
    assert_eq!(engine.account(host, node, &contract).await.unwrap().code_bytes, 10);
    let output = engine.call(host, node, &contract, &[]).await.unwrap();
    assert_eq!(U256::from_be_slice(&output), U256::from(42));
    let refused = engine.call(host, node, &refuser, &[]).await;
    assert!(matches!(&refused, Err(EngineError::Node { reason, .. }) if reason.contains("revert")), "{refused:?}");
}

/// What stands in the genesis is what each node says.
async fn governed(net: &Net) {
    for node in &net.nodes {
        let said = net.engine.governance(&net.host, node).await.unwrap();
        assert_eq!((said.validators.len(), said.pending.len(), said.evidence.len()), (4, 0, 0), "{said:?}");
        assert!(said.validators.iter().all(|validator| validator.power == 1 && !validator.node_id.is_empty()));
        let rules = said.rules.unwrap();
        assert_eq!((rules.members, rules.threshold), (vec![address(&net.key).to_lowercase()], 1));
        assert_eq!((rules.chain_id, rules.sequence, rules.protocol_needed <= said.protocol), (CHAIN_ID, 0, true));
        assert!(rules.deployers.restricted && !rules.senders.restricted && !rules.nodes.restricted);
        assert_eq!((said.halted, rules.upgrade), (None, None));
    }
}

/// Two of four are not enough: the others answer and say so, until one is back.
async fn without_a_quorum(net: &Net) {
    assert!(net.healthy(0, "well", |h| h.reasons.is_empty()).await.height > 0);
    for node in &net.nodes[1..3] {
        net.host.stop(&node.key, Duration::ZERO).await.unwrap();
    }
    let lacks = |h: &NodeHealth| h.reasons.iter().any(|it| it.contains("power 2 of 4 are connected"));
    for node in [0, 3] {
        net.healthy(node, "says that it has no quorum", lacks).await;
    }
    let back = NodePlan { generation: 2, ..net.nodes[1].clone() };
    net.engine.start(&net.host, &back).await.unwrap();
    net.healthy(0, "well again", |h| h.reasons.is_empty()).await;
}

async fn lose_one(net: &mut Net) {
    net.host.stop(&net.nodes[3].key, Duration::ZERO).await.unwrap();
    let dead = net.engine.health(&net.host, &net.nodes[3]).await;
    assert!(matches!(dead, Err(EngineError::Host(_))), "{dead:?}");
    let height = net.healthy(0, "alive", |_| true).await.height;
    net.healthy(0, "goes on without one of four", |h| h.height > height + 3).await;
    let same = net.engine.start(&net.host, &net.nodes[3]).await.unwrap();
    assert!(matches!(same.run, RunState::Exited { .. }), "only a new generation starts it again: {same:?}");
    net.nodes[3].generation = 2;
    net.engine.start(&net.host, &net.nodes[3]).await.unwrap();
    let goal = net.healthy(0, "alive", |_| true).await.height;
    net.healthy(3, "catches up", |h| h.height >= goal).await;
}
