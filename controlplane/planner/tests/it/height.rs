//! A change of program at one height, step by step; see `height_course` for its laws.

use hanse_planner::diagnose::{Figures, diagnose};
use hanse_planner::*;
use hanse_state::artifact::{ArtifactKind, ImportArtifact, Word};
use hanse_state::chain::height::{ExchangeProgram, HeightStage, open};
use hanse_state::chain::life::Change;
use hanse_state::chain::moving::MoveNode;
use hanse_state::chain::node::{NodeAct, NodeFact, RestartNode};
use hanse_state::chain::outfit::{Program, RollBackChain};
use hanse_state::chain::rollout::{ContinueRollout, HaltRollout};
use hanse_state::chain::{Chain, ChainSpec, ChainState};
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::consortium::policy::Policy;
use hanse_state::{Actor, Command};

use super::rollout::{next, roll, seen, waits_for};
use super::world::{World, actor, chain_key, hash, identity, node_key, spec};

pub(super) const HEIGHT: u64 = 200;

/// A chain whose nodes are to change their program at [`HEIGHT`].
pub(super) fn changing() -> World {
    let mut w = World::hosts(Policy::Majority);
    w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(6) }));
    w.order(ChainSpec { template: "cosmos-evm".into(), ..spec(4) });
    w.run_chain(4);
    let (name, version, word) = ("ledgerd", "2.0.0", Word::Unsigned { reason: "our own".into() });
    let import = ImportArtifact {
        sha256: hash("program"),
        name: name.into(),
        version: version.into(),
        kind: ArtifactKind::Bundle,
        size_bytes: 1_000,
        files: 2,
        program: "bin/ledgerd".into(),
        word,
    };
    w.ok(actor("root"), Command::ImportArtifact(import));
    let program = Some(Program { name: name.into(), version: version.into(), sha256: hash("program") });
    w.change(Change::Upgrade { program, limit_ms: Some(60_000), accept_outage: false, at_height: Some(HEIGHT) });
    w
}

pub(super) fn chain(w: &World) -> &Chain {
    &w.state.chains[&chain_key()]
}

pub(super) fn stage(w: &World) -> Option<HeightStage> {
    open(chain(w)).map(|at| at.stage)
}

fn start(w: &mut World, n: u64) {
    super::rollout::start(w, n);
    w.fact(n, NodeFact::Healthy);
}

fn told(w: &mut World) {
    for _ in 0..4 {
        let step = next(w, &seen(w, [100; 4]));
        let n = roll(w, &step);
        start(w, n);
    }
}

pub(super) fn carry_out(w: &mut World, step: &Step) {
    let command = match step {
        Step::Do(Act::Exchange { chain, number }) => {
            Command::ExchangeProgram(ExchangeProgram { chain: chain.clone(), number: *number })
        }
        Step::Do(Act::CallOff { chain, reason }) => {
            let (chain, reason) = (chain.clone(), reason.clone());
            Command::RollBackChain(RollBackChain { chain, reason, accept_risk: false, number: None })
        }
        other => panic!("{other:?}"),
    };
    w.ok(Actor::System, command);
}

#[test]
fn told_one_by_one_then_exchanged_all_at_once() {
    let mut w = changing();
    told(&mut w);
    assert!(w.state.nodes.values().all(|node| node.outfit.program.is_none() && node.halt.is_some()));
    waits_for(&w, &seen(&w, [150; 4]), "0 of 4 nodes stand before block 200");
    for n in 0..3 {
        w.fact(n, NodeFact::Halted { height: HEIGHT });
    }
    assert_eq!(chain(&w).state, ChainState::Halted);
    waits_for(&w, &seen(&w, [200; 4]), "3 of 4 nodes stand before block 200");
    w.fact(3, NodeFact::Halted { height: HEIGHT });
    let step = next(&w, &seen(&w, [200; 4]));
    carry_out(&mut w, &step);
    // All of them, none waits for another.
    for n in 0..4 {
        let step = next(&w, &seen(&w, [200; 4]));
        assert_eq!(roll(&mut w, &step), n);
    }
    assert_eq!(chain(&w).state, ChainState::Halted, "{}", chain(&w).state_reason);
    // Also while they are made ready to start: an operator is told why no block comes.
    let found = diagnose(&w.state, &seen(&w, [200; 4]), &Figures::default(), w.at);
    assert_eq!(found.iter().map(|it| it.code).collect::<Vec<_>>(), ["EXCHANGE"], "{found:?}");
    for n in 0..4 {
        start(&mut w, n);
    }
    let chain = chain(&w);
    assert!(chain.refit.as_ref().unwrap().settled_at.is_some(), "{chain:?}");
    assert!(w.state.nodes.values().all(|node| node.outfit == chain.outfit && node.halt.is_none()));
    assert_eq!(next(&w, &seen(&w, [201; 4])), Step::Done);
}

/// Down is down: neither what hangs nor what has ended is started again where it is to stand.
#[test]
fn who_stands_there_is_left_alone() {
    let mut w = changing();
    told(&mut w);
    w.fact(0, NodeFact::Halted { height: HEIGHT });
    let mut observed = seen(&w, [200; 4]);
    let ended = Run::Exited { code: Some(1), reason: "halt".into() };
    observed.nodes.get_mut(&node_key(0)).unwrap().instance.as_mut().unwrap().run = ended;
    let plan = |w: &World, observed: &Observed| plan_node(&w.state, &node_key(0), observed, w.at);
    assert!(matches!(plan(&w, &observed), Step::Wait { .. }), "{:?}", plan(&w, &observed));
    assert!(matches!(plan_repair(&w.state, &node_key(0), &observed, w.at), Step::Wait { .. }));
    w.at = w.at.plus(3_600_000);
    assert!(matches!(plan(&w, &observed), Step::Wait { .. }), "{:?}", plan(&w, &observed));
    let observed = seen(&w, [200; 4]);
    assert!(matches!(plan(&w, &observed), Step::Wait { .. }), "{:?}", plan(&w, &observed));
    let generation = w.state.nodes[&node_key(0)].generation;
    let order = RestartNode { node: node_key(0), generation, reason: "to see".into(), accept_outage: true };
    let applied = w.send(actor("root"), Command::RestartNode(order));
    assert!(applied.outcome.is_err(), "also not by hand");
}

#[test]
fn a_height_that_comes_before_all_know_of_it_is_called_off() {
    let mut w = changing();
    let step = next(&w, &seen(&w, [100; 4]));
    roll(&mut w, &step);
    start(&mut w, 0);
    let step = next(&w, &seen(&w, [195; 4]));
    assert!(matches!(&step, Step::Do(Act::CallOff { reason, .. }) if reason.contains("3 of 4 nodes")), "{step:?}");
    carry_out(&mut w, &step);
    // Only the one that was told is told otherwise.
    let step = next(&w, &seen(&w, [200; 4]));
    assert_eq!(roll(&mut w, &step), 0);
    start(&mut w, 0);
    let chain = chain(&w);
    assert!(chain.refit.as_ref().unwrap().settled_at.is_some() && chain.outfit.is_default(), "{chain:?}");
    assert!(w.state.nodes.values().all(|node| node.halt.is_none()));
}

/// Started again with the program before it would only end there again; what is not known is asked, once.
#[test]
fn one_that_was_told_and_has_ended_is_asked_where_it_stands_before_it_is_started_again() {
    let mut w = changing();
    told(&mut w);
    let mut observed = seen(&w, [200; 4]);
    let ended = Run::Exited { code: Some(1), reason: "halt".into() };
    observed.nodes.get_mut(&node_key(0)).unwrap().instance.as_mut().unwrap().run = ended;
    let plan = |w: &World, observed: &Observed| plan_node(&w.state, &node_key(0), observed, w.at);
    assert!(matches!(plan(&w, &observed), Step::Do(Act::CheckHealth { .. })), "{:?}", plan(&w, &observed));
    // Of an older process it says nothing.
    let generation = w.state.nodes[&node_key(0)].generation;
    observed.placed.insert(node_key(0), generation - 1);
    assert!(matches!(plan(&w, &observed), Step::Do(Act::CheckHealth { .. })), "{:?}", plan(&w, &observed));
    observed.placed.insert(node_key(0), generation);
    assert!(matches!(plan(&w, &observed), Step::Do(Act::Restart { .. })), "{:?}", plan(&w, &observed));
    w.fact(0, NodeFact::Halted { height: HEIGHT });
    assert!(matches!(plan(&w, &observed), Step::Wait { .. }), "{:?}", plan(&w, &observed));
}

/// That the ledger does not count a lost key any more is written down whatever else the chain waits for.
#[test]
fn a_lost_key_that_is_gone_waits_for_no_height() {
    let mut w = changing();
    told(&mut w);
    let mut observed = seen(&w, [150; 4]);
    waits_for(&w, &observed, "0 of 4 nodes stand");
    w.state.chains.get_mut(&chain_key()).unwrap().lost.insert("aa".into());
    observed.validators.insert(chain_key(), ["aa".to_owned()].into());
    waits_for(&w, &observed, "0 of 4 nodes stand");
    observed.validators.insert(chain_key(), ["bb".to_owned()].into());
    let step = next(&w, &observed);
    assert!(matches!(&step, Step::Do(Act::Unseated { public_key, .. }) if public_key == "aa"), "{step:?}");
}

/// All were told; three stand at the height, and one is away.
fn three_stand_there() -> World {
    let mut w = changing();
    told(&mut w);
    w.fact(3, NodeFact::Unhealthy { reason: "silent".into() });
    for n in 0..3 {
        w.fact(n, NodeFact::Halted { height: HEIGHT });
    }
    w
}

/// One that was told and is away keeps nobody; back, it goes to the height with the program before, and gets the next one there.
#[test]
fn who_is_away_learns_of_it_later() {
    let mut w = three_stand_there();
    waits_for(&w, &seen(&w, [200, 200, 200, 150]), "3 of 4");
    w.at = w.at.plus(60_000);
    let step = next(&w, &seen(&w, [200, 200, 200, 150]));
    carry_out(&mut w, &step);
    for n in 0..3 {
        let step = next(&w, &seen(&w, [200, 200, 200, 150]));
        assert_eq!(roll(&mut w, &step), n);
    }
    for n in 0..3 {
        start(&mut w, n);
    }
    waits_for(&w, &seen(&w, [210, 210, 210, 150]), "n3 must come to block 200 with the program before");
    w.fact(3, NodeFact::Healthy);
    assert!(chain(&w).refit.as_ref().unwrap().settled_at.is_none());
    w.fact(3, NodeFact::Halted { height: HEIGHT });
    let step = next(&w, &seen(&w, [210, 210, 210, 200]));
    assert_eq!(roll(&mut w, &step), 3);
    start(&mut w, 3);
    assert!(chain(&w).refit.as_ref().unwrap().settled_at.is_some());
}

pub(super) fn halt(w: &mut World) {
    let number = chain(w).rollout.as_ref().unwrap().number;
    let order = HaltRollout { chain: chain_key(), number, reason: "to see".into() };
    w.send(actor("root"), Command::HaltRollout(order));
}

pub(super) fn go_on(w: &mut World) {
    let order = ContinueRollout { chain: chain_key(), reason: "to see".into() };
    w.send(actor("root"), Command::ContinueRollout(order));
}

/// Gives the node a new home at the other host; whether that may be done.
pub(super) fn lose(w: &mut World, n: u64) -> bool {
    let node = w.state.nodes[&node_key(n)].clone();
    let to = w.state.hosts.keys().find(|id| node.host.as_ref() != Some(id)).unwrap().clone();
    let (key, generation, reason) = (node.key, node.generation, "it burned".to_owned());
    let order = MoveNode { node: key, generation, to, reason, accept_outage: false, lost: true };
    w.send(actor("root"), Command::MoveNode(order)).outcome.is_ok()
}

pub(super) fn prepare(w: &mut World, n: u64) {
    w.intent(n, NodeAct::Prepare);
    w.fact(n, NodeFact::Prepared { identity: identity(n + 10) });
}

/// That one goes on is no reason to take it down with others when they learn where a lost one is now.
#[test]
fn who_goes_on_learns_of_a_lost_one_in_its_turn() {
    let mut w = three_stand_there();
    w.at = w.at.plus(60_000);
    let step = next(&w, &seen(&w, [200, 200, 200, 150]));
    carry_out(&mut w, &step);
    for n in 0..3 {
        let step = next(&w, &seen(&w, [200; 4]));
        assert_eq!(roll(&mut w, &step), n);
        start(&mut w, n);
    }
    assert!(!lose(&mut w, 3), "while the exchange goes on");
    halt(&mut w);
    assert!(lose(&mut w, 3));
    go_on(&mut w);
    prepare(&mut w, 3);
    waits_for(&w, &seen(&w, [210, 210, 210, 0]), "n3 must come to block 200 with the program before");
    // Also for a leader that has seen nothing yet.
    waits_for(&w, &Observed::default(), "n3 must come to block 200 with the program before");
    super::rollout::start(&mut w, 3);
    w.fact(3, NodeFact::Halted { height: HEIGHT });
    let step = next(&w, &seen(&w, [210, 210, 210, 200]));
    assert_eq!(roll(&mut w, &step), 3);
    start(&mut w, 3);
    for n in 0..3 {
        let step = next(&w, &seen(&w, [210; 4]));
        assert_eq!(roll(&mut w, &step), n);
        if n < 2 {
            waits_for(&w, &seen(&w, [210; 4]), &format!("n{n} has not come back"));
        }
        start(&mut w, n);
    }
    assert!(chain(&w).refit.as_ref().unwrap().settled_at.is_some(), "{:?}", chain(&w));
}
