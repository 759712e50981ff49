//! Rolling changes: one node at a time, only while the others are well, the ill one first, and a halt when one stays away.

use hanse_planner::*;
use hanse_state::chain::life::NodeWish;
use hanse_state::chain::node::{Health, NodeAct, NodeFact, NodeState};
use hanse_state::chain::rollout::{HaltRollout, RollChain, RollNode};
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::host::UncordonHost;
use hanse_state::host::care::BeginHostMaintenance;
use hanse_state::{Actor, Command};

use super::world::{World, actor, chain_key, node_key};

fn rolling() -> World {
    let mut w = World::running(4);
    w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(4) }));
    let roll = RollChain { chain: chain_key(), reason: "a newer program".into(), accept_outage: false };
    w.ok(actor("root"), Command::RollChain(roll));
    w
}

/// Everyone at this height, as a leader that has just looked sees it.
pub(crate) fn seen(w: &World, heights: [u64; 4]) -> Observed {
    let mut observed = Observed::default();
    for (n, height) in (0..).zip(heights) {
        let generation = w.state.nodes[&node_key(n)].generation;
        let health = HealthView { generation, height, peers: 3, syncing: false, reasons: Vec::new(), at: w.at };
        let instance = InstanceView { generation, run: Run::Running };
        observed.nodes.insert(node_key(n), NodeView { instance: Some(instance), health: Some(health) });
    }
    observed
}

pub(crate) fn next(w: &World, observed: &Observed) -> Step {
    plan_chain(&w.state, &chain_key(), observed, w.at)
}

pub(crate) fn waits_for(w: &World, observed: &Observed, words: &str) {
    match next(w, observed) {
        Step::Wait { reason } => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// Carries a roll out up to this point.
pub(crate) fn roll(w: &mut World, step: &Step) -> u64 {
    let Step::Do(Act::Roll { node, generation, number }) = step else { panic!("{step:?}") };
    let roll = RollNode { node: node.clone(), generation: *generation, number: *number };
    w.ok(Actor::System, Command::RollNode(roll));
    node.node.number()
}

pub(crate) fn start(w: &mut World, n: u64) {
    w.intent(n, NodeAct::Configure);
    w.fact(n, NodeFact::Configured);
    w.intent(n, NodeAct::Start);
    w.fact(n, NodeFact::Started);
}

#[test]
fn one_after_another_and_each_only_while_the_others_are_well() {
    let mut w = rolling();
    waits_for(&w, &Observed::default(), "not looked at");
    for n in 0..4 {
        let step = next(&w, &seen(&w, [100; 4]));
        assert_eq!(roll(&mut w, &step), n);
        // Never two: whatever the rolled one is doing, no other is touched. After the last there is none to wait for.
        let words = if n < 3 { "has not come back" } else { "n3 prepared" };
        waits_for(&w, &seen(&w, [100; 4]), words);
        start(&mut w, n);
        waits_for(&w, &seen(&w, [100; 4]), "not heard yet");
        w.fact(n, NodeFact::Healthy);
        let mut behind = [100; 4];
        behind[usize::try_from(n).unwrap()] = 94;
        if n < 3 {
            waits_for(&w, &seen(&w, behind), "at height 94, the others are at 100");
        }
    }
    assert_eq!(next(&w, &seen(&w, [100; 4])), Step::Done);
}

#[test]
fn an_ill_one_comes_first_and_two_ill_ones_are_too_many() {
    let mut w = rolling();
    w.fact(2, NodeFact::Unhealthy { reason: "it has no peers".into() });
    let step = next(&w, &seen(&w, [100; 4]));
    w.fact(3, NodeFact::Unhealthy { reason: "it has no peers".into() });
    waits_for(&w, &seen(&w, [100; 4]), "n3 is not well");
    assert_eq!(roll(&mut w, &step), 2);
}

/// Whatever was seen last of what stands there, it may be down at any moment.
#[test]
fn none_goes_while_a_host_is_in_maintenance() {
    let mut w = rolling();
    let host = w.state.nodes[&node_key(3)].host.clone().unwrap();
    let begin = BeginHostMaintenance { host: host.clone(), reason: "disks".into(), forced: true };
    w.ok(actor("oda"), Command::BeginHostMaintenance(begin));
    waits_for(&w, &seen(&w, [100; 4]), "is in maintenance");
    w.ok(actor("oda"), Command::UncordonHost(UncordonHost { host }));
    assert!(matches!(next(&w, &seen(&w, [100; 4])), Step::Do(Act::Roll { .. })));
}

#[test]
fn one_that_stays_away_halts_it() {
    let mut w = rolling();
    let step = next(&w, &seen(&w, [100; 4]));
    roll(&mut w, &step);
    w.at = w.state.nodes[&node_key(0)].state_since.plus(ROLL_LIMIT_MS - 1);
    waits_for(&w, &seen(&w, [100; 4]), "has not come back");
    w.at = w.at.plus(1);
    let Step::Do(Act::HaltRollout { chain, number, reason }) = next(&w, &seen(&w, [100; 4])) else { panic!() };
    w.ok(Actor::System, Command::HaltRollout(HaltRollout { chain, number, reason }));
    waits_for(&w, &seen(&w, [100; 4]), "halted");
    // One that is blocked is not waited for.
    let mut w = rolling();
    let step = next(&w, &seen(&w, [100; 4]));
    roll(&mut w, &step);
    w.fact(0, NodeFact::Failed { reason: "no space left".into() });
    let step = next(&w, &seen(&w, [100; 4]));
    assert!(matches!(&step, Step::Do(Act::HaltRollout { reason, .. }) if reason.contains("no space left")), "{step:?}");
}

/// The leader changes long after the first nodes have come back: the new one has asked nobody yet, and halts nothing for that.
#[test]
fn a_new_leader_that_has_not_looked_yet_halts_nothing() {
    let mut w = rolling();
    for n in 0..2 {
        let step = next(&w, &seen(&w, [100; 4]));
        assert_eq!(roll(&mut w, &step), n);
        start(&mut w, n);
        w.fact(n, NodeFact::Healthy);
    }
    w.at = w.state.nodes[&node_key(1)].state_since.plus(ROLL_LIMIT_MS * 2);
    waits_for(&w, &Observed::default(), "n0 has not come back: this leader has not looked at it yet");
    // It has seen the process and not heard the node.
    let mut observed = seen(&w, [100; 4]);
    observed.nodes.get_mut(&node_key(0)).unwrap().health = None;
    waits_for(&w, &observed, "n0 has not come back: this leader has not looked at it yet");
    // That it has ended, or that it is behind, is something that it has seen.
    observed.nodes.get_mut(&node_key(0)).unwrap().instance.as_mut().unwrap().run = Run::Missing;
    assert!(matches!(next(&w, &observed), Step::Do(Act::HaltRollout { .. })), "{:?}", next(&w, &observed));
    assert!(matches!(next(&w, &seen(&w, [94, 100, 100, 100])), Step::Do(Act::HaltRollout { .. })));
    let step = next(&w, &seen(&w, [100; 4]));
    assert_eq!(roll(&mut w, &step), 2);
}

/// Long after it came back a node is behind for some looks, as any is now and then: it has as long to catch up as when it was started.
#[test]
fn one_that_falls_behind_later_is_waited_for_and_does_not_hold_a_change_up_for_ever() {
    let mut w = rolling();
    let step = next(&w, &seen(&w, [100; 4]));
    roll(&mut w, &step);
    start(&mut w, 0);
    w.fact(0, NodeFact::Healthy);
    w.at = w.at.plus(ROLL_LIMIT_MS * 2);
    let generation = w.state.nodes[&node_key(0)].generation;
    let (since, mut quiet) = (w.at, None);
    let mut looks = |w: &mut World, height: u64, later: u64| {
        w.at = since.plus(later);
        quiet = Some(Quiet::after_answer(quiet, generation, (Some(height - 1), height, 100), w.at));
        let mut observed = seen(w, [height, 100, 100, 100]);
        observed.quiet.insert(node_key(0), quiet.unwrap());
        next(w, &observed)
    };
    let waits =
        |step: Step| matches!(step, Step::Wait { reason } if reason.contains("n0 has not come back: at height"));
    assert!(waits(looks(&mut w, 90, 0)));
    assert!(waits(looks(&mut w, 91, ROLL_LIMIT_MS - 1)));
    // It has caught up meanwhile, so that it counts anew.
    assert!(matches!(looks(&mut w, 95, ROLL_LIMIT_MS), Step::Do(Act::Roll { .. })));
    assert!(waits(looks(&mut w, 93, ROLL_LIMIT_MS + 1)));
    assert!(waits(looks(&mut w, 94, 2 * ROLL_LIMIT_MS)));
    assert!(matches!(looks(&mut w, 94, 2 * ROLL_LIMIT_MS + 1), Step::Do(Act::HaltRollout { .. })));
}

/// Whatever happens between, no second healthy node is taken down while one is not well. Walks through many courses by a fixed
/// sequence of pseudo-random numbers (xorshift), so that a failure comes again.
#[test]
fn never_two_at_once_whatever_happens() {
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut throw = move |sides: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % sides
    };
    let mut done = 0;
    for _ in 0..200 {
        let mut w = rolling();
        for _ in 0..60 {
            let well = |w: &World, n: u64| {
                let node = &w.state.nodes[&node_key(n)];
                node.state == NodeState::Running && node.health == Health::Healthy
            };
            let step = next(&w, &seen(&w, [100; 4]));
            if let Step::Do(Act::Roll { node, .. }) = &step {
                let others_down = (0..4).filter(|n| *n != node.node.number() && !well(&w, *n)).count();
                assert_eq!(others_down, 0, "{:?}", w.state.nodes);
                roll(&mut w, &step);
            }
            let n = throw(4);
            let node = w.state.nodes[&node_key(n)].clone();
            match (node.state, throw(3)) {
                (NodeState::Prepared, _) => start(&mut w, n),
                (NodeState::Running, 0) => w.fact(n, NodeFact::Unhealthy { reason: "slow".into() }),
                (NodeState::Running, _) => w.fact(n, NodeFact::Healthy),
                _ => {}
            }
        }
        done += usize::from(w.state.nodes.values().all(|node| node.rolled == 1));
    }
    assert!(done > 150, "most courses end: {done}");
}

#[test]
fn who_leaves_is_let_go_once_the_ledger_says_so() {
    let mut w = rolling();
    let mut node = w.state.nodes[&node_key(1)].clone();
    node.wish = NodeWish::Leave;
    let key = node.identity.as_ref().unwrap().public_key.clone();
    w.state.nodes.insert(node_key(1), node);
    let mut observed = seen(&w, [100; 4]);
    let step = |observed: &Observed| plan_node(&w.state, &node_key(1), observed, w.at);
    assert!(!matches!(step(&observed), Step::Do(Act::Release { .. })), "nobody has asked the ledger");
    observed.validators.insert(chain_key(), [key].into());
    assert!(!matches!(step(&observed), Step::Do(Act::Release { .. })), "it validates");
    observed.validators.insert(chain_key(), ["another".to_owned()].into());
    assert!(matches!(step(&observed), Step::Do(Act::Release { .. })));
}
