//! What a change would do, compared with what it does: the quorum by counting every set of failures, and placement by ordering
//! it in earnest.

use std::collections::BTreeSet;

use hanse_planner::change::{ChangePlan, NodeWork, plan_change};
use hanse_state::chain::NodeSpec;
use hanse_state::chain::life::{Change, ChangeChain, PauseChain};
use hanse_state::chain::moving::MoveNode;
use hanse_state::chain::node::{NodeFact, RestartNode};
use hanse_state::chain::rollout::RollChain;
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::consortium::proposal::{Action, OpenProposal};
use hanse_state::host::properties::SetHostProperties;
use hanse_state::ids::{NodeId, RequestId};
use hanse_state::{Command, Planned, Rejection, preview};
use proptest::prelude::*;

use super::world::{World, actor, chain_key, node_key};

fn running(nodes: usize) -> World {
    let mut w = World::running(nodes);
    w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version::NEWEST }));
    w
}

fn plan(w: &World, planned: &Planned) -> Result<ChangePlan, Rejection> {
    let id: RequestId = "0193f2a4-0000-7000-8000-0000000000ff".parse().unwrap();
    let after = preview(&w.state, &actor("oda"), id, w.at, planned)?;
    Ok(plan_change(&w.state, &after, &chain_key()))
}

fn order(command: Command) -> Planned {
    Planned::Order(Box::new(command))
}

fn vote(w: &World, change: Change) -> Planned {
    let chain = chain_key();
    let ordered_by = w.state.chains[&chain].proposal.proposal;
    let action = Action::ChangeChain(ChangeChain { chain: chain.chain, ordered_by, change });
    let open = OpenProposal { consortium: chain.consortium, title: "Change".into(), action, voting_period_ms: None };
    order(Command::OpenProposal(open))
}

fn roll(accept_outage: bool) -> Planned {
    order(Command::RollChain(RollChain { chain: chain_key(), reason: "planned".into(), accept_outage }))
}

fn restart(w: &World, node: u64, accept_outage: bool) -> Planned {
    let (node, reason) = (node_key(node), "planned".to_owned());
    let generation = w.state.nodes[&node].generation;
    order(Command::RestartNode(RestartNode { node, generation, reason, accept_outage }))
}

/// The chain makes blocks with these validators: by the definition, more than two thirds of them.
fn makes_blocks(live: usize, validators: usize) -> bool {
    3 * live > 2 * validators
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// What the plan says is tolerated is what may fail: no set of so many failures stops the chain while any one of the nodes
    /// that are started anew is down, and one failure more does.
    #[test]
    fn so_many_failures_are_tolerated(nodes in 1..8_usize, ill in prop::collection::btree_set(0..8_u64, 0..3), anew in any::<bool>()) {
        let mut w = running(nodes);
        let ill: BTreeSet<u64> = ill.into_iter().filter(|n| *n < nodes as u64).collect();
        for n in &ill {
            w.fact(*n, NodeFact::Unhealthy { reason: "it has no peers".into() });
        }
        let target = if anew { roll(true) } else { restart(&w, 0, true) };
        let plan = plan(&w, &target).unwrap();
        let well = nodes - ill.len();
        prop_assert_eq!((plan.quorum.now.validators, plan.quorum.now.well), (nodes, well));
        let now = plan.quorum.now.tolerates;
        prop_assert_eq!(now >= 0, makes_blocks(well, nodes));
        let disturbed: Vec<u64> = plan.order.iter().map(|key| key.node.number()).collect();
        prop_assert_eq!(disturbed.len(), if anew { nodes } else { 1 });
        let worst = disturbed.iter().map(|n| well - usize::from(!ill.contains(n))).min().unwrap();
        let during = plan.quorum.during.unwrap().tolerates;
        prop_assert_eq!(during >= 0, makes_blocks(worst, nodes));
        if let Ok(failures) = usize::try_from(during) {
            prop_assert!(makes_blocks(worst - failures, nodes), "{failures} more may fail");
            prop_assert!(worst == failures || !makes_blocks(worst - failures - 1, nodes), "and one more may not");
        }
        // The ill ones first, for they cost nothing, then by number.
        let expected: Vec<u64> = if anew {
            ill.iter().copied().chain((0..nodes as u64).filter(|n| !ill.contains(n))).collect()
        } else {
            vec![0]
        };
        prop_assert_eq!(disturbed, expected);
    }
}

#[test]
fn a_roll_in_words() {
    let w = running(4);
    let plan = plan(&w, &roll(false)).unwrap();
    assert_eq!(plan.words[0], "now 4 of 4 validators are well: it tolerates 1 failure");
    let during = &plan.words[1];
    assert!(during.starts_with("with this you tolerate 0 failures for about "), "{during}");
    assert!(during.contains("4 nodes one after another") && during.contains("as its starts took so far"), "{during}");
    assert_eq!(plan.words[2], "afterwards 4 of 4 validators are well: it tolerates 1 failure");
    assert!(plan.nodes.iter().all(|node| node.work == NodeWork::StartAnew && node.from == node.to));
    assert_eq!(plan.costs, []);
}

/// A node that moves is down, and then each of the others that learns of it; while the first of them starts nobody finds the one
/// that moved either.
#[test]
fn a_move_counts_the_others_that_learn_of_it() {
    for (nodes, spare) in [(4, -1), (7, 0)] {
        let mut w = running(nodes);
        w.enrol("h9", 1);
        let (node, reason) = (node_key(1), "planned".to_owned());
        let generation = w.state.nodes[&node].generation;
        let to = "h9".parse().unwrap();
        let target = MoveNode { node: node.clone(), generation, to, reason, accept_outage: false, lost: false };
        let plan = plan(&w, &order(Command::MoveNode(target))).unwrap();
        assert_eq!((plan.order.len(), &plan.order[0]), (nodes, &node));
        let works: Vec<_> = plan.nodes.iter().map(|it| (it.node == node, it.work)).collect();
        assert!(
            works.iter().all(|it| *it == (it.0, if it.0 { NodeWork::Move } else { NodeWork::StartAnew })),
            "{works:?}"
        );
        let during = plan.quorum.during.unwrap();
        assert_eq!((during.well, during.tolerates), (nodes - 2, spare));
        // Only one of them is started meanwhile.
        assert!(
            plan.quorum.during_ms * 2 <= 60_000 && plan.words.iter().any(|it| it.contains("to learn of it")),
            "{plan:?}"
        );
    }
}

#[test]
fn what_costs_blocks_is_refused_unless_it_is_agreed_to() {
    let w = running(3);
    let refusal = plan(&w, &roll(false)).unwrap_err();
    assert_eq!(refusal.field(), "accept_outage");
    let words = plan(&w, &roll(true)).unwrap().words;
    assert!(words[1].starts_with("with this it makes no block for about "), "{words:?}");
    let refusal = plan(&w, &restart(&w, 1, false)).unwrap_err();
    assert!(refusal.field() == "accept_outage" && refusal.message().contains("makes no block"), "{refusal}");
    assert!(plan(&w, &restart(&w, 1, true)).is_ok());

    let mut w = running(4);
    assert!(plan(&w, &restart(&w, 1, false)).is_ok(), "one of four can be missed");
    w.fact(0, NodeFact::Unhealthy { reason: "it has no peers".into() });
    assert!(plan(&w, &restart(&w, 1, false)).is_err(), "not when another one is ill");
    assert!(plan(&w, &restart(&w, 0, false)).is_ok(), "the ill one costs nothing");
    let risks = plan(&w, &roll(false)).unwrap().risks;
    assert!(risks.iter().any(|risk| risk.starts_with("n0 is not well")), "{risks:?}");
}

#[test]
fn a_pause_stops_everything_and_its_costs() {
    let w = running(4);
    let pause = order(Command::PauseChain(PauseChain { chain: chain_key(), reason: "planned".into() }));
    let plan = plan(&w, &pause).unwrap();
    assert!(plan.nodes.iter().all(|node| node.work == NodeWork::Stop) && plan.nodes.len() == 4);
    assert_eq!((plan.quorum.during, plan.quorum.after), (None, None));
    assert_eq!(plan.words.last().unwrap(), "it makes no block until it is resumed");
    let count = |of: fn(&hanse_planner::change::CostChange) -> usize| plan.costs.iter().map(of).sum::<usize>();
    assert_eq!((count(|it| it.nodes_before), count(|it| it.nodes_after)), (4, 0));
}

/// A plan of more nodes names the very hosts that they get, spread over zones, and says what a zone's loss would cost.
#[test]
fn placement_is_the_real_one() {
    let mut w = running(4);
    for (host, zone) in [("h1", "north"), ("h2", "south")] {
        let set = SetHostProperties {
            host: host.parse().unwrap(),
            zone: Some(zone.into()),
            labels: [].into(),
            tenancy: None,
            slots: Some(8),
        };
        w.ok(actor("oda"), Command::SetHostProperties(set));
    }
    let nodes = vec![NodeSpec { owner: "acme".parse().unwrap() }, NodeSpec { owner: "globex".parse().unwrap() }];
    let planned = vote(&w, Change::AddNodes { nodes, accept_outage: false });
    let plan = plan(&w, &planned).unwrap();
    let id: RequestId = "0193f2a4-0000-7000-8000-0000000000fe".parse().unwrap();
    let after = preview(&w.state, &actor("oda"), id, w.at, &planned).unwrap();
    for n in [4, 5] {
        let made = plan.nodes.iter().find(|change| change.node.node == NodeId::new(n)).unwrap();
        assert_eq!((made.work, &made.to), (NodeWork::Make, &after.nodes[&node_key(n)].host));
        assert!(!made.validates, "whether it validates is decided on the ledger");
    }
    let shares: Vec<_> = plan.zones.iter().map(|zone| (zone.zone.as_str(), zone.nodes)).collect();
    assert_eq!(shares, [("north", 3), ("south", 3)]);
    assert!(plan.risks.iter().any(|risk| risk.starts_with("north has 2 of 4 validators")), "{:?}", plan.risks);
    assert_eq!(plan.order.len(), 4, "the others learn of them one after another");
    let costs: Vec<_> = plan.costs.iter().map(|it| (it.tenant.as_str(), it.nodes_after - it.nodes_before)).collect();
    assert_eq!(costs, [("acme", 1), ("globex", 1)]);
    assert!(!w.state.nodes.contains_key(&node_key(4)), "nothing was ordered");
}
