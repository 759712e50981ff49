//! Imported chains: whatever is seen, nothing is planned but looks and what they change of the health.

use hanse_planner::*;
use hanse_state::Command;
use hanse_state::chain::imported::{Endpoint, ImportChain};
use hanse_state::chain::node::NodeFact;
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::consortium::policy::Policy;
use proptest::prelude::*;

use super::world::{World, actor, chain_key, node_key};

fn imported() -> World {
    let mut w = World::hosts(Policy::Majority);
    w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(5) }));
    let endpoint = |n: u16| Endpoint { host: format!("l{n}.example"), rpc_port: 8_545, consensus_port: None };
    let import = ImportChain {
        chain: chain_key(),
        template: "evm-standard".into(),
        chain_id: 4_711,
        first_block: format!("0x{}", "ab".repeat(32)),
        owner: "acme".parse().unwrap(),
        endpoints: (0..3).map(endpoint).collect(),
        reason: "we buy from it".into(),
    };
    w.ok(actor("oda"), Command::ImportChain(import));
    w
}

/// Anything that could be seen of a node, also of a generation that it does not have.
fn view() -> impl Strategy<Value = Option<NodeView>> {
    let run = prop_oneof![
        Just(Run::Prepared),
        Just(Run::Running),
        Just(Run::Missing),
        Just(Run::Exited { code: Some(1), reason: "why".into() }),
        Just(Run::Unreachable { reason: "silent".into() }),
    ];
    let instance = proptest::option::of((0_u64..4, run).prop_map(|(generation, run)| InstanceView { generation, run }));
    let reasons = prop_oneof![Just(Vec::new()), Just(vec!["another chain answers".to_owned()])];
    let health = (0_u64..4, 0_u64..9, any::<bool>(), reasons, 0_u64..100_000);
    let health = health.prop_map(|(generation, height, syncing, reasons, age)| HealthView {
        generation,
        height,
        peers: height,
        syncing,
        reasons,
        at: hanse_state::Millis(super::world::START.0 + age),
    });
    proptest::option::of(
        (instance, proptest::option::of(health)).prop_map(|(instance, health)| NodeView { instance, health }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_ever_done_to_it(rounds in proptest::collection::vec([view(), view(), view()], 1..6)) {
        let mut w = imported();
        for views in rounds {
            let mut observed = Observed::default();
            for (n, view) in (0..).zip(views) {
                observed.nodes.extend(view.map(|view| (node_key(n), view)));
            }
            prop_assert_eq!(plan_chain(&w.state, &chain_key(), &observed, w.at), Step::Done);
            for n in 0..3 {
                match plan_node(&w.state, &node_key(n), &observed, w.at) {
                    Step::Done | Step::Do(Act::CheckHealth { .. }) => {}
                    Step::Do(Act::RecordHealth { fact, .. }) => {
                        let tells = matches!(fact, NodeFact::Healthy | NodeFact::Unhealthy { .. });
                        prop_assert!(tells, "{fact:?}");
                        w.fact(n, fact);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        prop_assert!(w.state.nodes.values().all(|node| node.host.is_none() && node.intent.is_none() && node.generation == 1));
        prop_assert!(w.state.hosts.values().all(|host| host.ports.is_empty()));
    }
}

#[test]
fn its_health_follows_what_is_seen() {
    let mut w = imported();
    let look = |w: &World, observed: &Observed| plan_node(&w.state, &node_key(0), observed, w.at);
    assert!(matches!(look(&w, &Observed::default()), Step::Do(Act::CheckHealth { .. })));
    let seen = |w: &World, run: Run, reasons: &[&str]| {
        let reasons = reasons.iter().map(|it| (*it).to_owned()).collect();
        let health = HealthView { generation: 1, height: 7, peers: 3, syncing: false, reasons, at: w.at };
        let view = NodeView { instance: Some(InstanceView { generation: 1, run }), health: Some(health) };
        Observed { nodes: [(node_key(0), view)].into(), ..Observed::default() }
    };
    let told = |step: &Step| match step {
        Step::Do(Act::RecordHealth { fact, .. }) => fact.clone(),
        other => panic!("{other:?}"),
    };
    let well = seen(&w, Run::Running, &[]);
    assert_eq!(told(&look(&w, &well)), NodeFact::Healthy);
    w.fact(0, NodeFact::Healthy);
    let well = seen(&w, Run::Running, &[]);
    assert_eq!(look(&w, &well), Step::Done);
    let stranger = seen(&w, Run::Running, &["another chain answers"]);
    assert_eq!(told(&look(&w, &stranger)), NodeFact::Unhealthy { reason: "another chain answers".into() });
    // A moment of silence is not an illness; a longer one is.
    let silent = seen(&w, Run::Unreachable { reason: "no answer".into() }, &[]);
    assert!(matches!(look(&w, &silent), Step::Do(Act::CheckHealth { .. })));
    w.at = w.at.plus(HEALTH_SILENCE_MS);
    assert_eq!(told(&look(&w, &silent)), NodeFact::Unhealthy { reason: "no answer".into() });
    let findings = diagnose::diagnose(&w.state, &silent, &diagnose::Figures::default(), w.at);
    assert!(findings.is_empty(), "it is told of once it is in the state: {findings:?}");
    w.fact(0, NodeFact::Unhealthy { reason: "no answer".into() });
    let stranger = seen(&w, Run::Running, &["another chain answers at l0.example:1: chain id 5"]);
    assert!(matches!(told(&look(&w, &stranger)), NodeFact::Unhealthy { reason } if reason.contains("chain id 5")));
    let findings = diagnose::diagnose(&w.state, &silent, &diagnose::Figures::default(), w.at);
    assert!(
        findings.len() == 1 && findings[0].code == "NODE_DOWN" && findings[0].recipe.contains("l0.example"),
        "{findings:?}"
    );
}
