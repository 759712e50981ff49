//! Changes of what nodes run: they halt early, go back without waiting for the dead, and whatever happens never take a second node
//! of the quorum down; every node ends with what was decided last.

use hanse_planner::*;
use hanse_state::artifact::{ArtifactKind, ImportArtifact, Word};
use hanse_state::chain::life::Change;
use hanse_state::chain::moving::MoveNode;
use hanse_state::chain::node::{Health, NodeAct, NodeFact, NodeState, RestartNode};
use hanse_state::chain::outfit::{Program, RollBackChain};
use hanse_state::chain::rollout::{ContinueRollout, HaltRollout};
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::{Actor, Command};
use proptest::prelude::*;

use super::rollout::{next, roll, seen, start, waits_for};
use super::world::{World, actor, chain_key, hash, node_key};

/// A chain whose nodes are to run another program.
fn changing() -> World {
    let mut w = World::running(4);
    w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(6) }));
    let (name, version, word) = ("ledgerd", "2.0.0", Word::Unsigned { reason: "our own".into() });
    let import = ImportArtifact {
        sha256: hash("program"),
        name: name.into(),
        version: version.into(),
        kind: ArtifactKind::Program,
        size_bytes: 1_000,
        files: 1,
        program: String::new(),
        word,
    };
    w.ok(actor("root"), Command::ImportArtifact(import));
    w.change(Change::Upgrade {
        program: Some(program()),
        limit_ms: Some(60_000),
        accept_outage: false,
        at_height: None,
    });
    w
}

fn program() -> Program {
    Program { name: "ledgerd".into(), version: "2.0.0".into(), sha256: hash("program") }
}

fn roll_back(w: &mut World) {
    let order = RollBackChain { chain: chain_key(), reason: "it is bad".into(), accept_risk: false, number: None };
    w.ok(actor("root"), Command::RollBackChain(order));
}

fn restart(w: &mut World, n: u64) {
    let (node, generation) = (node_key(n), w.state.nodes[&node_key(n)].generation);
    let order = RestartNode { node, generation, reason: "it ended".into(), accept_outage: false };
    w.ok(Actor::System, Command::RestartNode(order));
}

fn ended(observed: &mut Observed, n: u64) {
    let run = Run::Exited { code: Some(3), reason: String::new() };
    observed.nodes.get_mut(&node_key(n)).unwrap().instance.as_mut().unwrap().run = run;
}

#[test]
fn a_program_that_ends_again_halts_the_change_at_once() {
    let mut w = changing();
    let step = next(&w, &seen(&w, [100; 4]));
    roll(&mut w, &step);
    start(&mut w, 0);
    let mut observed = seen(&w, [100; 4]);
    ended(&mut observed, 0);
    waits_for(&w, &observed, "n0 has not come back");
    restart(&mut w, 0);
    w.intent(0, NodeAct::Start);
    let mut observed = seen(&w, [100; 4]);
    waits_for(&w, &observed, "n0 has not come back");
    ended(&mut observed, 0);
    assert!(matches!(next(&w, &observed), Step::Do(Act::HaltRollout { .. })), "{:?}", next(&w, &observed));
}

#[test]
fn the_limit_of_the_change_is_what_the_vote_says() {
    let mut w = changing();
    let step = next(&w, &seen(&w, [100; 4]));
    roll(&mut w, &step);
    start(&mut w, 0);
    w.at = w.state.nodes[&node_key(0)].state_since.plus(59_999);
    waits_for(&w, &seen(&w, [100; 4]), "not heard yet");
    w.at = w.at.plus(1);
    assert!(matches!(next(&w, &seen(&w, [100; 4])), Step::Do(Act::HaltRollout { .. })));
}

/// There is no next one whose turn would have to wait; people are told all the same, and it is over when it is well.
#[test]
fn the_last_node_that_stays_away_halts_it_too() {
    let mut w = changing();
    for n in 0..4 {
        let step = next(&w, &seen(&w, [100; 4]));
        assert_eq!(roll(&mut w, &step), n);
        start(&mut w, n);
        if n < 3 {
            w.fact(n, NodeFact::Healthy);
        }
    }
    w.at = w.state.nodes[&node_key(3)].state_since.plus(60_000);
    let step = next(&w, &seen(&w, [100; 4]));
    let Step::Do(Act::HaltRollout { chain, number, reason }) = step else { panic!("{step:?}") };
    assert!(reason.contains("n3 has not come back"), "{reason}");
    w.ok(Actor::System, Command::HaltRollout(HaltRollout { chain, number, reason }));
    let upgrade = w.state.chains[&chain_key()].change.unwrap();
    assert!(w.state.operations[&upgrade].cause.as_ref().is_some_and(|cause| cause.contains("n3")));
    w.fact(3, NodeFact::Healthy);
    let chain = &w.state.chains[&chain_key()];
    assert!(chain.refit.as_ref().unwrap().settled_at.is_some() && chain.rollout.as_ref().unwrap().halted.is_none());
    assert_eq!(w.state.operations[&upgrade].cause, None);
}

/// Its host is lost while it has the program that is given up: it is made with the one before, for the other may never make its keys.
#[test]
fn a_node_that_is_made_anew_goes_back_too() {
    let mut w = changing();
    let step = next(&w, &seen(&w, [100; 4]));
    assert_eq!(roll(&mut w, &step), 0);
    let halt = HaltRollout { chain: chain_key(), number: 1, reason: "it is bad".into() };
    w.ok(actor("root"), Command::HaltRollout(halt));
    let node = &w.state.nodes[&node_key(0)];
    let (generation, host) = (node.generation, node.host.clone().unwrap());
    let to = w.state.hosts.keys().find(|id| **id != host).unwrap().clone();
    let order =
        MoveNode { node: node_key(0), generation, to, reason: "it burnt".into(), accept_outage: true, lost: true };
    w.ok(actor("root"), Command::MoveNode(order));
    assert!(w.state.nodes[&node_key(0)].outfit.program.is_some(), "it keeps what it had");
    let halt = HaltRollout { chain: chain_key(), number: 2, reason: "it never gets keys".into() };
    w.ok(actor("root"), Command::HaltRollout(halt));
    roll_back(&mut w);
    let node = &w.state.nodes[&node_key(0)];
    assert!(node.outfit.is_default() && node.state == NodeState::Requested, "{node:?}");
    w.intent(0, NodeAct::Prepare);
    w.fact(0, NodeFact::Prepared { identity: super::world::identity(77) });
    start(&mut w, 0);
    w.fact(0, NodeFact::Healthy);
    for n in 1..4 {
        let step = next(&w, &seen(&w, [100; 4]));
        assert_eq!(roll(&mut w, &step), n, "they learn of its new key");
        start(&mut w, n);
        w.fact(n, NodeFact::Healthy);
    }
    assert!(w.state.chains[&chain_key()].refit.as_ref().unwrap().settled_at.is_some());
}

/// Two nodes are down with the program that is given up: each is brought back without waiting for the other, a healthy one only
/// when nobody else is down.
#[test]
fn on_the_way_back_the_dead_wait_for_nobody() {
    let mut w = changing();
    for n in 0..3 {
        let step = next(&w, &seen(&w, [100; 4]));
        assert_eq!(roll(&mut w, &step), n);
        start(&mut w, n);
        w.fact(n, NodeFact::Healthy);
    }
    roll_back(&mut w);
    let mut observed = seen(&w, [100; 4]);
    ended(&mut observed, 1);
    ended(&mut observed, 2);
    let step = next(&w, &observed);
    assert_eq!(roll(&mut w, &step), 1);
    let mut observed = seen(&w, [100; 4]);
    ended(&mut observed, 2);
    let step = next(&w, &observed);
    assert_eq!(roll(&mut w, &step), 2);
    waits_for(&w, &seen(&w, [100; 4]), "n1 has not come back");
    for n in [1, 2] {
        start(&mut w, n);
        w.fact(n, NodeFact::Healthy);
    }
    let step = next(&w, &seen(&w, [100; 4]));
    assert_eq!(roll(&mut w, &step), 0);
    start(&mut w, 0);
    w.fact(0, NodeFact::Healthy);
    assert_eq!(next(&w, &seen(&w, [100; 4])), Step::Done);
    assert!(w.state.nodes.values().all(|node| node.outfit.is_default()));
    assert!(w.state.chains[&chain_key()].refit.as_ref().unwrap().settled_at.is_some());
}

/// What happens to the chain between two rounds of the leader.
#[derive(Clone, Copy, Debug)]
enum Chance {
    /// What is due with this node is done: it starts, is heard, or is started again.
    Goes(u64),
    /// Its process ends.
    Ends(u64),
    /// It is heard, and not well.
    Ails(u64),
    /// An operator has the nodes go back.
    Back,
    /// An operator lets what is halted go on.
    On,
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        12 => (0_u64..4).prop_map(Chance::Goes),
        1 => (0_u64..4).prop_map(Chance::Ends),
        1 => (0_u64..4).prop_map(Chance::Ails),
        1 => Just(Chance::Back),
        1 => Just(Chance::On),
    ]
}

/// A chain whose new program may be one that always ends, and the processes that have ended.
struct Course {
    w: World,
    ended: [bool; 4],
    is_bad: bool,
}

impl Course {
    fn observed(&self) -> Observed {
        let mut observed = seen(&self.w, [100; 4]);
        (0..4).filter(|n| self.ended[*n as usize]).for_each(|n| ended(&mut observed, n));
        observed
    }

    fn is_well(&self, n: u64) -> bool {
        let node = &self.w.state.nodes[&node_key(n)];
        node.state == NodeState::Running && node.health == Health::Healthy && !self.ended[n as usize]
    }

    /// One round of the leader: the chain's plan. A healthy node is taken down only while all others are well.
    fn round(&mut self) -> Result<(), TestCaseError> {
        match next(&self.w, &self.observed()) {
            Step::Do(Act::Roll { node, generation, number }) => {
                let own = node.node.number();
                let down = (0..4).filter(|n| *n != own && !self.is_well(*n)).count();
                let is_ill = self.w.state.nodes[&node].health != Health::Healthy || self.ended[own as usize];
                prop_assert!(is_ill || down == 0, "{own} is well and is taken down, {down} others are down");
                roll(&mut self.w, &Step::Do(Act::Roll { node, generation, number }));
                self.ended[own as usize] = false;
            }
            Step::Do(Act::HaltRollout { chain, number, reason }) => {
                self.w.ok(Actor::System, Command::HaltRollout(HaltRollout { chain, number, reason }));
            }
            _ => {}
        }
        Ok(())
    }

    fn happens(&mut self, chance: Chance) {
        match chance {
            Chance::Goes(n) => self.goes(n),
            Chance::Ends(n) => self.ended[n as usize] = self.w.state.nodes[&node_key(n)].state == NodeState::Running,
            Chance::Ails(n) if self.w.state.nodes[&node_key(n)].state == NodeState::Running => {
                self.w.fact(n, NodeFact::Unhealthy { reason: "slow".into() });
            }
            Chance::Ails(_) => {}
            Chance::Back => {
                let order =
                    RollBackChain { chain: chain_key(), reason: "it is bad".into(), accept_risk: false, number: None };
                self.w.send(actor("root"), Command::RollBackChain(order));
            }
            Chance::On => {
                let order = ContinueRollout { chain: chain_key(), reason: "to see".into() };
                self.w.send(actor("root"), Command::ContinueRollout(order));
            }
        }
    }

    fn goes(&mut self, n: u64) {
        let node = self.w.state.nodes[&node_key(n)].clone();
        let ends = self.is_bad && node.outfit.program.is_some();
        match node.state {
            NodeState::Prepared => start(&mut self.w, n),
            NodeState::Configured | NodeState::Starting | NodeState::Restarting => {
                self.w.intent(n, NodeAct::Start);
                self.w.fact(n, NodeFact::Started);
            }
            NodeState::Running if ends => self.ended[n as usize] = true,
            NodeState::Running if !self.ended[n as usize] => self.w.fact(n, NodeFact::Healthy),
            _ => {}
        }
        let node = &self.w.state.nodes[&node_key(n)];
        if self.ended[n as usize] && node.state == NodeState::Running && node.restarts.len() < 5 {
            self.ended[n as usize] = false;
            restart(&mut self.w, n);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_two_at_once_and_each_ends_with_what_was_decided(
        is_bad: bool,
        chances in prop::collection::vec(chance(), 0..80),
    ) {
        let mut course = Course { w: changing(), ended: [false; 4], is_bad };
        for chance in chances {
            course.round()?;
            course.happens(chance);
        }
        // Then nothing bad happens any more but what the program does by itself, and a person decides.
        for turn in 0..400 {
            course.round()?;
            course.happens(Chance::Goes(turn % 4));
            let chain = &course.w.state.chains[&chain_key()];
            if chain.refit.as_ref().unwrap().settled_at.is_some() {
                break;
            }
            if chain.rollout.as_ref().unwrap().halted.is_some() && turn % 40 == 0 {
                course.happens(if is_bad { Chance::Back } else { Chance::On });
                course.happens(Chance::On);
            }
        }
        let chain = &course.w.state.chains[&chain_key()];
        let refit = chain.refit.as_ref().unwrap();
        prop_assert!(refit.settled_at.is_some(), "{:?} {:?}", chain.rollout, course.w.state.nodes);
        prop_assert_eq!(refit.rolled_back.is_some(), chain.outfit.is_default());
        prop_assert!(!is_bad || refit.rolled_back.is_some());
        prop_assert!(course.w.state.nodes.values().all(|node| node.outfit == chain.outfit));
    }
}
