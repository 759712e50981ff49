//! The genesis from real contributions: the same bytes each time, and wrong ones refused by name.

use hanse_engines_cometbft::{CometBftEngine, Profile};
use hanse_engines_core::{ChainPlan, Engine, EngineError, NodeIdentity};
use serde_json::{Value, json};

use crate::net::Net;
use crate::parts;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_genesis_is_a_function_of_what_was_contributed_and_wrong_contributions_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let net = Net::prepare(root.path(), 2, 2).await;
    let (engine, chain, two) = (&net.engine, &net.chain, net.identities.as_slice());
    let bytes = engine.genesis(chain, two).unwrap();
    assert_eq!(engine.genesis(chain, two).unwrap(), bytes);
    let genesis: Value = serde_json::from_slice(&bytes).unwrap();
    let state = &genesis["app_state"];
    assert_eq!(genesis["chain_id"], "hanse-4242");
    assert_eq!(state["genutil"]["gen_txs"].as_array().unwrap().len(), 2);
    assert_eq!(state["evm"]["params"]["chain_config"]["eip155_chain_id"], "4242");
    assert_eq!(state["mint"]["params"]["inflation_max"], "0.000000000000000000");
    assert_eq!(state["staking"]["params"]["bond_denom"], "stake");
    wrong_contributions(engine, chain, two);
    wrong_orders(engine, chain, two);
}

/// `node` with its contribution changed by `change`.
fn changed(node: &NodeIdentity, change: impl FnOnce(&mut Value)) -> NodeIdentity {
    let mut value: Value = serde_json::from_str(node.contribution.as_ref().unwrap()).unwrap();
    change(&mut value);
    NodeIdentity { contribution: Some(value.to_string()), ..node.clone() }
}

fn refusal(engine: &CometBftEngine, chain: &ChainPlan, nodes: &[NodeIdentity]) -> (String, String) {
    match engine.genesis(chain, nodes) {
        Err(EngineError::Invalid { field, reason }) => (field, reason),
        other => panic!("{other:?}"),
    }
}

fn wrong_contributions(engine: &CometBftEngine, chain: &ChainPlan, two: &[NodeIdentity]) {
    let [first, second] = two else { panic!("two nodes") };
    let message = |value: &mut Value, name: &str, wrong: Value| value["claim"]["body"]["messages"][0][name] = wrong;
    let theirs: Value = serde_json::from_str(second.contribution.as_ref().unwrap()).unwrap();
    let cases: Vec<(NodeIdentity, &str)> = vec![
        (NodeIdentity { contribution: None, ..first.clone() }, "missing"),
        (NodeIdentity { contribution: Some("{".into()), ..first.clone() }, "cannot be read"),
        (NodeIdentity { contribution: Some(" ".repeat(1 << 20)), ..first.clone() }, "bytes"),
        (changed(first, |value| value["version"] = json!(2)), "version"),
        (changed(first, |value| value["claim"] = theirs["claim"].clone()), "another node's key"),
        (changed(first, |value| message(value, "@type", json!("/cosmos.bank.v1beta1.MsgSend"))), "no claim"),
        (changed(first, |value| message(value, "value", json!({ "denom": "inj", "amount": "1" }))), "coin"),
        (changed(first, |value| message(value, "value", json!({ "denom": "stake", "amount": "2" }))), "amount"),
        (changed(first, |value| value["claim"]["body"]["memo"] = json!("x@y")), "another node"),
        (changed(first, |value| value["operator"] = json!("cosmos1x")), "another application"),
        (changed(first, |value| value["account"] = theirs["account"].clone()), "account of another"),
        (changed(first, |value| value["claim"]["body"]["messages"] = json!([])), "one seat"),
    ];
    for (bad, word) in cases {
        let (field, reason) = refusal(engine, chain, &[bad, second.clone()]);
        assert!(field.contains(&first.node_id) && reason.contains(word), "{word}: {field}: {reason}");
    }
    let other = changed(second, |value| value["base"]["app_state"]["evm"]["params"]["evm_denom"] = json!("x"));
    let (field, reason) = refusal(engine, chain, &[first.clone(), other]);
    assert!(field.contains(&second.node_id) && reason.contains("one version"), "{field}: {reason}");
    let (_, reason) = refusal(engine, chain, &[first.clone(), first.clone()]);
    assert!(reason.contains("operator of another"), "{reason}");
    let (field, _) = refusal(engine, chain, &[]);
    assert_eq!(field, "validators");
}

fn wrong_orders(engine: &CometBftEngine, chain: &ChainPlan, two: &[NodeIdentity]) {
    let with = |name: &str, value: u64| {
        let mut parameters = chain.parameters.clone();
        parameters.insert(name.into(), value);
        ChainPlan { parameters, ..chain.clone() }
    };
    let alloc = |address: &str, amount: &str| ChainPlan {
        alloc: [(address.to_owned(), amount.to_owned())].into(),
        ..chain.clone()
    };
    let missing = ChainPlan { parameters: Default::default(), ..chain.clone() };
    let address = format!("0x{}", "ab".repeat(20));
    for (expected, plan) in [
        ("chain_id", ChainPlan { chain_id: 0, ..chain.clone() }),
        ("chain_id", ChainPlan { chain_id: 1 << 53, ..chain.clone() }),
        ("block_time_ms", with("block_time_ms", 1)),
        ("speed", with("speed", 1)),
        ("block_time_ms", missing),
        ("alloc.", alloc("0x12", "1")),
        ("alloc.", alloc(&address, "1.5")),
        ("alloc.", alloc(&address, &"9".repeat(78))),
    ] {
        let (field, _) = refusal(engine, &plan, two);
        assert!(field.starts_with(expected), "{expected}: {field}");
    }
    let text = include_str!("../../profiles/injective.toml").replace("/app_state/evm/", "/app_state/avm/");
    let bundle = parts::bundle(tempfile::tempdir().unwrap().path());
    let misfit = CometBftEngine::new(bundle, Profile::parse(&text).unwrap());
    let (field, reason) = refusal(&misfit, chain, two);
    assert!(field.contains("/app_state/avm") && reason.contains("profile"), "{field}: {reason}");
}
