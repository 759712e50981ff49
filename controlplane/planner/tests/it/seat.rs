//! Seats among validators: one after another, only with the consent that the ledger asks, and only while the chain bears it.

use hanse_planner::change::plan_change;
use hanse_planner::*;
use hanse_state::chain::ChainSpec;
use hanse_state::chain::life::{Change, ChangeChain};
use hanse_state::chain::moving::MoveNode;
use hanse_state::chain::node::{NodeAct, NodeFact};
use hanse_state::chain::seat::RecordUnseated;
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::consortium::ballot::{CastBallot, Choice};
use hanse_state::consortium::policy::Policy;
use hanse_state::consortium::proposal::{Action, OpenProposal};
use hanse_state::ids::NodeId;
use hanse_state::{Actor, Command, Outcome};

use super::world::{MEMBERS, World, actor, ballot, chain_key, consortium, node_key, owner, spec};

/// A running chain of so many validators whose ledger has seats.
fn seated(nodes: usize) -> World {
    let mut w = World::hosts(Policy::Majority);
    w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(6) }));
    w.order(ChainSpec { template: "cosmos-evm".into(), ..spec(nodes) });
    w.run_chain(nodes as u64);
    w
}

/// Five nodes of which the last gave up its seat by vote.
fn unseated() -> World {
    let mut w = seated(5);
    vote(&mut w, leave(&[4]), &["acme", "globex", "hooli"]);
    w.intent(4, NodeAct::Seat);
    w.fact(4, NodeFact::Seated { validates: false });
    w
}

fn vote(w: &mut World, change: Change, voters: &[&str]) {
    let ordered_by = w.state.chains[&chain_key()].proposal.proposal;
    let change = ChangeChain { chain: chain_key().chain, ordered_by, change };
    let (title, action) = ("seats".into(), Action::ChangeChain(change));
    let open = OpenProposal { consortium: consortium(), title, action, voting_period_ms: None };
    let opened = w.ok(owner("acme"), Command::OpenProposal(open)).outcome.unwrap();
    let Outcome::ProposalOpened { proposal, artifact_hash, .. } = opened else { panic!("{opened:?}") };
    for name in voters {
        let ballot: CastBallot = ballot(name, Choice::Yes, &proposal, artifact_hash);
        w.ok(owner(name), Command::CastBallot(ballot));
    }
}

fn leave(nodes: &[u64]) -> Change {
    Change::RemoveValidators { nodes: nodes.iter().map(|n| NodeId::new(*n)).collect(), accept_outage: false }
}

/// Everyone at the same height.
fn seen(w: &World) -> Observed {
    let mut observed = Observed::default();
    for node in w.state.nodes.values() {
        let generation = node.generation;
        let health = HealthView { generation, height: 9, peers: 3, syncing: false, reasons: Vec::new(), at: w.at };
        let instance = InstanceView { generation, run: Run::Running };
        observed.nodes.insert(node.key.clone(), NodeView { instance: Some(instance), health: Some(health) });
    }
    observed
}

fn next(w: &World) -> Step {
    plan_chain(&w.state, &chain_key(), &seen(w), w.at)
}

fn waits_for(step: &Step, words: &str) {
    assert!(matches!(step, Step::Wait { reason } if reason.contains(words)), "{step:?}");
}

fn is_seat_of(step: &Step, n: u64) -> bool {
    matches!(step, Step::Do(Act::Seat { node, .. }) if *node == node_key(n))
}

#[test]
fn one_after_another_and_each_only_until_the_ledger_says_so() {
    let mut w = seated(6);
    assert_eq!(next(&w), Step::Done);
    vote(&mut w, leave(&[4, 5]), &MEMBERS[..3]);
    assert!(is_seat_of(&next(&w), 4), "{:?}", next(&w));
    waits_for(&plan_chain(&w.state, &chain_key(), &Observed::default(), w.at), "not looked at");
    w.intent(4, NodeAct::Seat);
    assert!(is_seat_of(&next(&w), 4), "until the ledger says so the same act is due: it looks first");
    w.fact(4, NodeFact::Seated { validates: false });
    assert!(is_seat_of(&next(&w), 5));
    w.intent(5, NodeAct::Seat);
    w.fact(5, NodeFact::Seated { validates: false });
    assert_eq!(next(&w), Step::Done);
}

#[test]
fn it_waits_while_the_chain_would_not_bear_it() {
    let mut w = seated(5);
    vote(&mut w, leave(&[4]), &["acme", "globex", "hooli"]);
    for n in [1, 2] {
        w.fact(n, NodeFact::Unhealthy { reason: "why".into() });
    }
    waits_for(&next(&w), "then 2 of 4 validators would be well, and the chain needs 3");
    w.fact(1, NodeFact::Healthy);
    assert!(is_seat_of(&next(&w), 4), "of four that stay one may be ill");
    w.fact(4, NodeFact::Unhealthy { reason: "why".into() });
    waits_for(&next(&w), "n4 is to validate no more: it is not well");
}

#[test]
fn only_those_that_agreed_act_and_too_few_of_them_wait() {
    let mut w = unseated();
    // n0 and n4 are acme's, and three of four owners agree: three of the four validators.
    let join = Change::AddValidators { nodes: vec![NodeId::new(4)], accept_outage: false };
    vote(&mut w, join, &["acme", "globex", "hooli"]);
    assert!(is_seat_of(&next(&w), 4));
    let consent = |w: &mut World, names: &[&str]| {
        let node = w.state.nodes.get_mut(&node_key(4)).unwrap();
        node.seat.as_mut().unwrap().consent = names.iter().map(|name| name.parse().unwrap()).collect();
    };
    consent(&mut w, &["acme", "globex"]);
    waits_for(&next(&w), "the owners of 2 of 4 validators voted for it");
}

/// What was begun for the decision before may still come about: the ledger is asked until it says that it did not.
#[test]
fn a_decision_that_is_reversed_half_way_is_over_when_the_ledger_says_so() {
    let mut w = unseated();
    let join = Change::AddValidators { nodes: vec![NodeId::new(4)], accept_outage: false };
    vote(&mut w, join, &["acme", "globex", "hooli"]);
    w.intent(4, NodeAct::Seat);
    vote(&mut w, leave(&[4]), &["acme", "globex", "hooli"]);
    assert!(is_seat_of(&next(&w), 4), "its claim may be under way: {:?}", next(&w));
    w.intent(4, NodeAct::Seat);
    w.fact(4, NodeFact::Seated { validates: false });
    assert_eq!(next(&w), Step::Done);
    let operation = w.state.chains[&chain_key()].change.unwrap();
    assert_eq!(w.state.operations[&operation].cause, None);
}

/// A majority of the members is fewer than two thirds of the validators' owners: whoever plans the vote is told.
#[test]
fn a_charter_that_asks_less_than_the_ledger_is_told() {
    let mut w = unseated();
    let risks = |w: &World| {
        let join = Change::AddValidators { nodes: vec![NodeId::new(4)], accept_outage: false };
        let ordered_by = w.state.chains[&chain_key()].proposal.proposal;
        let change = ChangeChain { chain: chain_key().chain, ordered_by, change: join };
        let action = Action::ChangeChain(change);
        let open = OpenProposal { consortium: consortium(), title: "seats".into(), action, voting_period_ms: None };
        let planned = hanse_state::Planned::Order(Box::new(Command::OpenProposal(open)));
        let id = super::world::request_id(9_999);
        let after = hanse_state::preview(&w.state, &owner("acme"), id, w.at, &planned).unwrap();
        plan_change(&w.state, &after, &chain_key()).risks.join("; ")
    };
    // Three of four members, each with one of the four validators: two thirds are there.
    assert!(!risks(&w).contains("two thirds"), "{}", risks(&w));
    // Another three would do here, whose validators are fewer.
    w.state.nodes.get_mut(&node_key(3)).unwrap().owner = "acme".parse().unwrap();
    w.state.nodes.get_mut(&node_key(2)).unwrap().owner = "acme".parse().unwrap();
    w.state.nodes.get_mut(&node_key(4)).unwrap().owner = "globex".parse().unwrap();
    assert!(risks(&w).contains("the owners of 1 of 4 validators"), "{}", risks(&w));
}

/// A validator that went with its host is counted by the ledger as before: the others are fewer of as many.
#[test]
fn a_lost_validator_counts_until_the_ledger_says_otherwise() {
    let mut w = seated(5);
    assert!(may_disturb(&w.state, &node_key(0)), "five of which four are enough");
    let lost = &w.state.nodes[&node_key(4)];
    let (generation, host, key) =
        (lost.generation, lost.host.clone().unwrap(), lost.identity.as_ref().unwrap().public_key.clone());
    let to = w.state.hosts.keys().find(|id| **id != host).unwrap().clone();
    let order =
        MoveNode { node: node_key(4), generation, to, reason: "it burnt".into(), accept_outage: true, lost: true };
    w.ok(actor("root"), Command::MoveNode(order));
    assert!(!may_disturb(&w.state, &node_key(0)), "four of five are there, and none can be missed");
    let mut observed = seen(&w);
    observed.validators.insert(chain_key(), [key.clone()].into());
    let says = |step: &Step| matches!(step, Step::Do(Act::Unseated { .. }));
    assert!(!says(&plan_chain(&w.state, &chain_key(), &observed, w.at)));
    w.ok(Actor::System, Command::RecordUnseated(RecordUnseated { chain: chain_key(), public_key: key }));
    assert!(may_disturb(&w.state, &node_key(0)), "four, of which three are enough");
}
