//! A change of program at one height: whatever leaders, nodes and operators do, nobody executes that block with the program before once
//! the exchange has begun, nobody starts the next one before it stands there, and in the end all go on together.

use hanse_planner::*;
use hanse_state::artifact::{ArtifactKind, ImportArtifact, Word};
use hanse_state::chain::height::{ExchangeProgram, HeightStage, open};
use hanse_state::chain::life::Change;
use hanse_state::chain::node::{NodeAct, NodeFact, NodeState, RestartNode};
use hanse_state::chain::outfit::{Program, RollBackChain};
use hanse_state::chain::rollout::{ContinueRollout, HaltRollout};
use hanse_state::chain::{Chain, ChainSpec, ChainState};
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::consortium::policy::Policy;
use hanse_state::{Actor, Command};
use proptest::prelude::*;

use super::rollout::{next, roll, seen, waits_for};
use super::world::{World, actor, chain_key, hash, node_key, spec};

const HEIGHT: u64 = 200;

/// A chain whose nodes are to change their program at [`HEIGHT`].
fn changing() -> World {
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

fn chain(w: &World) -> &Chain {
    &w.state.chains[&chain_key()]
}

fn stage(w: &World) -> Option<HeightStage> {
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

fn carry_out(w: &mut World, step: &Step) {
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

/// One that was told and is away keeps nobody; back, it goes to the height with the program before, and gets the next one there.
#[test]
fn who_is_away_learns_of_it_later() {
    let mut w = changing();
    told(&mut w);
    w.fact(3, NodeFact::Unhealthy { reason: "silent".into() });
    for n in 0..3 {
        w.fact(n, NodeFact::Halted { height: HEIGHT });
    }
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

/// A node's home and process, as they are on its host whatever the log says.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// Last block that it has executed.
    executed: u64,
    /// What its configuration says.
    config: Option<u64>,
    /// What its process was started with, and whether that is the next program.
    process: Option<(Option<u64>, bool)>,
    /// The platform does not reach it; its peers do.
    is_cut: bool,
}

/// What happens between two rounds of the leader.
#[derive(Clone, Copy, Debug)]
enum Chance {
    /// The chain goes on for so many blocks, if enough of it lives.
    Blocks(u64),
    /// What is due with this node is done, if it is reached.
    Goes(u64),
    /// Its process ends.
    Ends(u64),
    /// The platform does not reach it any more, or does again.
    Cut(u64),
    /// An operator calls it off, or has them go back.
    Back,
    /// Time passes.
    Waits,
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        6 => (1_u64..12).prop_map(Chance::Blocks),
        16 => (0_u64..4).prop_map(Chance::Goes),
        2 => (0_u64..4).prop_map(Chance::Ends),
        2 => (0_u64..4).prop_map(Chance::Cut),
        1 => Just(Chance::Back),
        1 => Just(Chance::Waits),
    ]
}

struct Course {
    w: World,
    hosts: [Host; 4],
    /// The last block that more than two thirds have decided.
    decided: u64,
    /// Somebody has executed the block with the program before, and with the next one.
    old: bool,
    new: bool,
}

impl Course {
    fn begin() -> Self {
        let host = Host { executed: HEIGHT - 60, config: None, process: Some((None, false)), is_cut: false };
        Self { w: changing(), hosts: [host; 4], decided: HEIGHT - 60, old: false, new: false }
    }

    /// One block is decided if enough stand before it, and everybody executes what he may.
    fn block(&mut self) -> Result<(), TestCaseError> {
        let decides = |host: &&Host| host.process.is_some() && host.executed == self.decided;
        if self.hosts.iter().filter(decides).count() >= 3 {
            self.decided += 1;
        }
        for host in &mut self.hosts {
            let Some((halt, is_new)) = host.process else { continue };
            while host.executed < self.decided && halt.is_none_or(|halt| host.executed + 1 < halt) {
                host.executed += 1;
                let block = host.executed;
                if block >= HEIGHT {
                    (self.old, self.new) = (self.old || !is_new, self.new || is_new);
                    let stage = open(&self.w.state.chains[&chain_key()]).map(|at| at.stage);
                    let is_exchanged = stage == Some(HeightStage::Exchanging);
                    prop_assert!(is_new || !is_exchanged, "block {block} with the program before: {host:?}");
                }
                prop_assert!(block >= HEIGHT || !is_new, "block {block} with the next program: {host:?}");
            }
        }
        Ok(())
    }

    fn observed(&self) -> Observed {
        let mut heights = [0; 4];
        for (height, host) in heights.iter_mut().zip(&self.hosts) {
            *height = host.executed.max(self.decided.min(host.executed + 1));
        }
        let mut observed = seen(&self.w, heights);
        for (n, host) in (0..).zip(&self.hosts) {
            let view = observed.nodes.get_mut(&node_key(n)).unwrap();
            if host.is_cut {
                view.instance.as_mut().unwrap().run = Run::Unreachable { reason: "cut".into() };
            } else if host.process.is_none() {
                view.instance.as_mut().unwrap().run = Run::Exited { code: Some(1), reason: String::new() };
            }
        }
        observed
    }

    fn round(&mut self) -> Result<(), TestCaseError> {
        match next(&self.w, &self.observed()) {
            step @ Step::Do(Act::Roll { .. }) => {
                roll(&mut self.w, &step);
            }
            Step::Do(Act::HaltRollout { chain, number, reason }) => {
                self.w.ok(Actor::System, Command::HaltRollout(HaltRollout { chain, number, reason }));
            }
            step @ Step::Do(Act::Exchange { .. }) => {
                prop_assert!(!self.old, "somebody is past the height with the program before");
                carry_out(&mut self.w, &step);
            }
            step @ Step::Do(Act::CallOff { .. }) => carry_out(&mut self.w, &step),
            _ => {}
        }
        Ok(())
    }

    fn happens(&mut self, chance: Chance) -> Result<(), TestCaseError> {
        match chance {
            Chance::Blocks(count) => {
                for _ in 0..count {
                    self.block()?;
                }
            }
            Chance::Goes(n) => self.goes(n)?,
            Chance::Ends(n) => self.hosts[n as usize].process = None,
            Chance::Cut(n) => self.hosts[n as usize].is_cut ^= true,
            // The ledger would say that there is no way back once the block is made with the next program.
            Chance::Back if self.new => {}
            Chance::Back => {
                let order = RollBackChain { chain: chain_key(), reason: "no".into(), accept_risk: false, number: None };
                self.w.send(actor("root"), Command::RollBackChain(order));
            }
            Chance::Waits => self.w.at = self.w.at.plus(30_000),
        }
        Ok(())
    }

    fn goes(&mut self, n: u64) -> Result<(), TestCaseError> {
        let node = self.w.state.nodes[&node_key(n)].clone();
        let host = &mut self.hosts[n as usize];
        if host.is_cut {
            return Ok(());
        }
        let is_new = node.outfit.program.is_some();
        match node.state {
            NodeState::Prepared => {
                host.config = node.halt.map(|halt| halt.height);
                self.w.intent(n, NodeAct::Configure);
                self.w.fact(n, NodeFact::Configured);
            }
            NodeState::Configured | NodeState::Starting | NodeState::Restarting if node.stands_at().is_none() => {
                prop_assert!(!is_new || host.executed + 1 >= HEIGHT, "the next program starts at {}", host.executed);
                host.process = Some((host.config, is_new));
                self.w.intent(n, NodeAct::Start);
                self.w.fact(n, NodeFact::Started);
            }
            NodeState::Running => {
                let halt = host.process.and_then(|(halt, _)| halt).or(host.config);
                let stands = halt == Some(host.executed + 1) && self.decided > host.executed;
                let is_told = node.halt.is_some_and(|it| Some(it.height) == halt && node.stands_at().is_none());
                if stands && is_told {
                    self.w.fact(n, NodeFact::Halted { height: HEIGHT });
                } else if host.process.is_some() {
                    self.w.fact(n, NodeFact::Healthy);
                } else if node.stands_at().is_none() {
                    let (node, generation) = (node_key(n), node.generation);
                    let order = RestartNode { node, generation, reason: "it ended".into(), accept_outage: true };
                    self.w.send(actor("root"), Command::RestartNode(order));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_passes_it_with_the_old_and_nobody_begins_below_it_with_the_new(
        chances in prop::collection::vec(chance(), 0..160),
    ) {
        let mut course = Course::begin();
        for chance in chances {
            course.round()?;
            course.happens(chance)?;
        }
        // Then nothing bad happens any more, and a person lets go on what has halted.
        course.hosts.iter_mut().for_each(|host| host.is_cut = false);
        let is_settled = |w: &World| chain(w).refit.as_ref().unwrap().settled_at.is_some();
        for turn in 0..600 {
            course.round()?;
            course.happens(Chance::Goes(turn % 4))?;
            course.happens(Chance::Blocks(1))?;
            course.happens(Chance::Waits)?;
            if chain(&course.w).rollout.as_ref().unwrap().halted.is_some() {
                let order = ContinueRollout { chain: chain_key(), reason: "to see".into() };
                course.w.send(actor("root"), Command::ContinueRollout(order));
            }
            if is_settled(&course.w) && course.decided > HEIGHT + 20 {
                break;
            }
        }
        let it = chain(&course.w);
        prop_assert!(is_settled(&course.w), "{:?} {:?} {:?} {:?}", stage(&course.w), it.rollout, it.state_reason, course.hosts);
        prop_assert!(course.decided > HEIGHT + 20, "it goes on: {:?}", course.hosts);
        let is_new = it.refit.as_ref().unwrap().rolled_back.is_none();
        for node in course.w.state.nodes.values() {
            prop_assert!(node.halt.is_none() && node.outfit.program.is_some() == is_new, "{node:?}");
        }
        prop_assert!(!(course.old && course.new), "one chain, made by two programs");
    }
}
