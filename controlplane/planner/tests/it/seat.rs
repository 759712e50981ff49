//! Seats among validators: one after another, only with the consent that the ledger asks, and only while the chain bears it.

use hanse_planner::*;
use hanse_state::chain::ChainSpec;
use hanse_state::chain::life::{Change, ChangeChain};
use hanse_state::chain::node::{NodeAct, NodeFact};
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::consortium::ballot::{CastBallot, Choice};
use hanse_state::consortium::policy::Policy;
use hanse_state::consortium::proposal::{Action, OpenProposal};
use hanse_state::ids::NodeId;
use hanse_state::{Command, Outcome};

use super::world::{MEMBERS, World, actor, ballot, chain_key, consortium, node_key, owner, spec};

/// A running chain of so many validators whose ledger has seats.
fn seated(nodes: usize) -> World {
    let mut w = World::hosts(Policy::Majority);
    w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(5) }));
    w.order(ChainSpec { template: "cosmos-evm".into(), ..spec(nodes) });
    w.run_chain(nodes as u64);
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
    let mut w = seated(5);
    vote(&mut w, leave(&[4]), &["acme", "globex", "hooli"]);
    w.intent(4, NodeAct::Seat);
    w.fact(4, NodeFact::Seated { validates: false });
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
