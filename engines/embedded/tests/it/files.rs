//! What the driver writes is what the node reads.

use std::collections::BTreeMap;
use std::time::Duration;

use hanse_adapters_core::Adapter;
use hanse_adapters_local::LocalAdapter;
use hanse_engines_core::{ChainPlan, Engine, EngineError, GovernancePlan, NodeIdentity, Peer};
use hanse_engines_embedded::EmbeddedEngine;
use hanse_node::config::NodeConfig;
use hanse_node::genesis::Genesis;

use crate::{artifact, plan, program};

fn chain() -> ChainPlan {
    ChainPlan {
        chain_id: 7,
        genesis_time_ms: 1_700_000_000_000,
        parameters: [("block_time_ms".to_owned(), 200), ("block_gas_limit".to_owned(), 30_000_000)].into(),
        alloc: [("0x00000000000000000000000000000000000000AA".to_owned(), "12345678901234567890".to_owned())].into(),
        governance: None,
        anchor: None,
    }
}

#[tokio::test]
async fn the_node_reads_back_what_the_driver_wrote() {
    let root = tempfile::tempdir().unwrap();
    let host = LocalAdapter::new(root.path().into(), program());
    let engine = EmbeddedEngine::new(artifact());
    let nodes = [plan("one", 30001, 31001), plan("two", 30002, 31002)];
    let mut peers = Vec::new();
    for node in &nodes {
        let identity = engine.prepare(&host, node).await.unwrap();
        assert_eq!(engine.prepare(&host, node).await.unwrap(), identity, "the keys are made once");
        peers.push(Peer { identity, address: format!("127.0.0.1:{}", node.p2p_port) });
    }
    let validators: Vec<NodeIdentity> = peers.iter().map(|p| p.identity.clone()).collect();
    let bytes = engine.genesis(&chain(), &validators).unwrap();
    assert_eq!(engine.genesis(&chain(), &validators).unwrap(), bytes);
    engine.configure(&host, &nodes[0], &peers[0].identity, &bytes, &peers).await.unwrap();

    let home = root.path().join("instances/test/one/home");
    let genesis = Genesis::load(&home).unwrap();
    assert_eq!((genesis.chain_id, genesis.block_time_ms, genesis.block_gas_limit), (7, 200, 30_000_000));
    assert_eq!(genesis.genesis_time_ms, 1_700_000_000_000);
    let keys: Vec<String> = genesis.validators.iter().map(|v| v.public_key.to_string()).collect();
    assert_eq!(keys, validators.iter().map(|v| v.public_key.clone()).collect::<Vec<_>>());
    let (address, account) = genesis.alloc.iter().next().unwrap();
    assert_eq!(address.to_string(), "0x00000000000000000000000000000000000000AA");
    assert_eq!(account.balance.to_string(), "12345678901234567890");
    let config = NodeConfig::load(&home).unwrap();
    assert_eq!(config.p2p_listen.to_string(), "127.0.0.1:30001");
    assert_eq!(config.rpc_listen.to_string(), "127.0.0.1:31001");
    assert_eq!(config.peers.len(), 1, "itself is left out");
    assert_eq!(config.peers[0].node_id.to_string(), validators[1].node_id);
    assert_eq!(config.peers[0].address.to_string(), "127.0.0.1:30002");
    for node in &nodes {
        host.stop(&node.key, Duration::ZERO).await.unwrap();
    }
}

#[test]
fn a_genesis_that_cannot_be_names_its_field() {
    let engine = EmbeddedEngine::new(artifact());
    let validators = [NodeIdentity { node_id: "a".repeat(40), public_key: "b".repeat(64), contribution: None }];
    let mut cases: Vec<(&str, ChainPlan)> = Vec::new();
    cases.push(("chain_id", ChainPlan { chain_id: 0, ..chain() }));
    for (name, value) in [("block_time_ms", 1), ("block_gas_limit", 5), ("speed", 1)] {
        let mut parameters = chain().parameters;
        parameters.insert(name.into(), value);
        cases.push((name, ChainPlan { parameters, ..chain() }));
    }
    cases.push(("block_time_ms", ChainPlan { parameters: BTreeMap::new(), ..chain() }));
    cases.push(("alloc.0x12", ChainPlan { alloc: [("0x12".into(), "1".into())].into(), ..chain() }));
    let address = format!("0x{}", "ab".repeat(20));
    cases.push(("alloc.", ChainPlan { alloc: [(address.clone(), "1.5".into())].into(), ..chain() }));
    let twice = [(address.clone(), "1".into()), (address.replace('a', "A"), "1".into())];
    cases.push(("alloc.", ChainPlan { alloc: twice.into(), ..chain() }));
    for (expected, plan) in cases {
        match engine.genesis(&plan, &validators) {
            Err(EngineError::Invalid { field, .. }) => assert!(field.starts_with(expected), "{field}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(matches!(engine.genesis(&chain(), &[]), Err(EngineError::Invalid { .. })));
}

/// A governed chain: two members of three decide, one account may send, nobody may create contracts.
fn governance() -> GovernancePlan {
    GovernancePlan {
        members: [3, 1, 2].map(|n: u8| format!("0x{}", format!("{n:02x}").repeat(20))).into(),
        threshold: 2,
        senders: Some(vec![format!("0x{}", "AB".repeat(20))]),
        deployers: Some(Vec::new()),
        restrict_nodes: true,
    }
}

#[test]
fn governance_is_what_the_node_reads_of_it_and_left_out_where_there_is_none() {
    let engine = EmbeddedEngine::new(artifact());
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let validators = [NodeIdentity { node_id: "a".repeat(40), public_key: key.into(), contribution: None }];
    let read = |plan: &ChainPlan| {
        let bytes = engine.genesis(plan, &validators).unwrap();
        (Genesis::from_json(std::str::from_utf8(&bytes).unwrap()).unwrap(), bytes)
    };
    let (without, bytes) = read(&chain());
    assert!(without.governance.is_none() && !String::from_utf8(bytes).unwrap().contains("governance"));

    let plan = ChainPlan { governance: Some(governance()), ..chain() };
    let (genesis, bytes) = read(&plan);
    let found = genesis.governance.unwrap();
    assert_eq!((found.members.len(), found.threshold), (3, 2));
    assert_eq!(found.members[0].to_string().to_lowercase(), format!("0x{}", "01".repeat(20)), "in order");
    assert_eq!(found.senders.unwrap()[0].to_string().to_lowercase(), format!("0x{}", "ab".repeat(20)));
    assert_eq!((found.deployers.unwrap().len(), found.nodes.unwrap().len()), (0, 0));
    let mut turned = governance();
    turned.members.reverse();
    assert_eq!(read(&ChainPlan { governance: Some(turned), ..chain() }).1, bytes, "order has no meaning");

    let open = GovernancePlan { senders: None, deployers: None, restrict_nodes: false, ..governance() };
    let found = read(&ChainPlan { governance: Some(open), ..chain() }).0.governance.unwrap();
    assert!(found.senders.is_none() && found.deployers.is_none() && found.nodes.is_none());
}

#[test]
fn governance_that_cannot_be_names_its_field() {
    let engine = EmbeddedEngine::new(artifact());
    let validators = [NodeIdentity { node_id: "a".repeat(40), public_key: "b".repeat(64), contribution: None }];
    let mut twice = governance();
    twice.members[1] = twice.members[0].clone();
    for (field, wrong) in [
        ("governance.members", twice),
        ("governance.threshold", GovernancePlan { threshold: 0, ..governance() }),
        ("governance.threshold", GovernancePlan { threshold: 4, ..governance() }),
        ("governance.senders", GovernancePlan { senders: Some(vec!["me".into()]), ..governance() }),
    ] {
        match engine.genesis(&ChainPlan { governance: Some(wrong), ..chain() }, &validators) {
            Err(EngineError::Invalid { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

/// Settings that were voted on are in the file as the node reads it; without any it is as it was before there were some.
#[tokio::test]
async fn the_node_reads_settings_as_they_were_voted() {
    let root = tempfile::tempdir().unwrap();
    let host = LocalAdapter::new(root.path().into(), program());
    let engine = EmbeddedEngine::new(artifact());
    let plain = plan("one", 30001, 31001);
    let identity = engine.prepare(&host, &plain).await.unwrap();
    let written = async |settings: &[(&str, u64)]| {
        let parameters = settings.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let node = hanse_engines_core::NodePlan { parameters, ..plain.clone() };
        engine.configure(&host, &node, &identity, b"{}", &[]).await.unwrap();
        std::fs::read_to_string(root.path().join("instances/test/one/home/config.toml")).unwrap()
    };
    let before = written(&[("block_time_ms", 200)]).await;
    assert!(!before.contains("\n["), "{before}");
    let all = [
        ("fast_join", 1),
        ("history_blocks", (1 << 53) - 1),
        ("history_states", 64),
        ("mempool_transactions", 500),
        ("rpc_calls_per_second", 9),
        ("rpc_connections", 7),
        ("rpc_log_blocks", 100),
    ];
    let config = NodeConfig::from_toml(&written(&all).await).unwrap();
    assert!(config.fast_join);
    assert_eq!(config.history.blocks, hanse_node::config::Keep::All);
    assert_eq!(config.history.states, hanse_node::config::Keep::Last(64));
    assert_eq!(config.mempool.transactions_max, 500);
    assert_eq!((config.rpc.calls_per_second_max, config.rpc.connections_max, config.rpc.log_blocks_max), (9, 7, 100));
}

/// The program before is asked on the host: this build reads its own home, a program that only ends reads none.
#[tokio::test]
async fn the_program_before_says_whether_there_is_a_way_back() {
    use hanse_engines_core::{NodePlan, NodeProgram, WayBack};
    let root = tempfile::tempdir().unwrap();
    let host = LocalAdapter::new(root.path().into(), program());
    let engine = EmbeddedEngine::new(artifact());
    let node = plan("one", 30001, 31001);
    engine.prepare(&host, &node).await.unwrap();
    let before = |program| NodePlan { program: Some(NodeProgram::Program(program)), ..node.clone() };
    assert_eq!(engine.way_back(&host, &before(artifact()), None).await.unwrap(), WayBack::Open);
    let bad = root.path().join("bad.sh");
    std::fs::write(&bad, "#!/bin/sh\necho what is this >&2\nexit 3\n").unwrap();
    let sha256 = hanse_hostrun::file_sha256(&bad).unwrap();
    let bad = hanse_adapters_core::Artifact { sha256, path: bad };
    let WayBack::Closed(why) = engine.way_back(&host, &before(bad), None).await.unwrap() else {
        panic!("it reads nothing")
    };
    assert!(why.contains("code 3") && why.contains("what is this"), "{why}");
    // A store that the program cannot look into: a person decides.
    let data = root.path().join("instances/test/one/home/data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("ledger.redb"), "of another time").unwrap();
    let WayBack::Unknown(why) = engine.way_back(&host, &before(artifact()), None).await.unwrap() else {
        panic!("it is no store")
    };
    assert!(why.contains("cannot look into the node's store"), "{why}");
}
