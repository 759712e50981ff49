//! A change of program at one height: whatever leaders, nodes and operators do, nobody executes that block with the program before once
//! the exchange has begun, nobody starts the next one before it stands there, and in the end all go on together. Whoever is well and has
//! nothing to exchange is never down together with another such one, and is asked whether it can go back once and no more.

use std::collections::BTreeSet;

use hanse_planner::*;
use hanse_state::chain::height::{HeightStage, open};
use hanse_state::chain::node::{Health, Node, NodeAct, NodeFact, NodeState, RestartNode};
use hanse_state::chain::outfit::RollBackChain;
use hanse_state::chain::rollout::HaltRollout;
use hanse_state::{Actor, Command};
use proptest::prelude::*;

use super::height::{HEIGHT, carry_out, chain, changing, go_on, halt, lose, prepare, stage};
use super::rollout::{next, roll, seen};
use super::world::{World, actor, chain_key, node_key};

/// A node's home and process, as they are on its host whatever the log says.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// Last block that it has executed.
    executed: u64,
    /// What its configuration says.
    config: Option<u64>,
    /// What its process was started with, and whether that is the next program.
    process: Option<(Option<u64>, bool)>,
    /// It has executed the block with the program before.
    old: bool,
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
    /// An operator halts what is under way, or lets it go on.
    Halts,
    GoesOn,
    /// Its host is lost, and it begins again at another one.
    Lost(u64),
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
        1 => Just(Chance::Halts),
        1 => Just(Chance::GoesOn),
        1 => (0_u64..4).prop_map(Chance::Lost),
        1 => Just(Chance::Waits),
    ]
}

/// How a course begins.
#[derive(Clone, Copy, Debug)]
enum Begin {
    /// Nobody knows of the height yet.
    Untold,
    /// Some go on with the next program, and one whose host is lost begins again.
    LostInExchange,
    /// As that, on the way back, before anybody has made the block.
    LostOnWayBack,
}

fn is_well(node: &Node) -> bool {
    node.state == NodeState::Running && node.health == Health::Healthy
}

struct Course {
    w: World,
    hosts: [Host; 4],
    /// The last block that more than two thirds have decided.
    decided: u64,
    /// Somebody has executed the block with the program before, and with the next one.
    old: bool,
    new: bool,
    /// Those that were taken down though they were well and had what the chain's nodes run, until they are well again.
    spared: BTreeSet<u64>,
}

impl Course {
    fn begin() -> Self {
        let host =
            Host { executed: HEIGHT - 60, config: None, process: Some((None, false)), old: false, is_cut: false };
        let spared = BTreeSet::new();
        Self { w: changing(), hosts: [host; 4], decided: HEIGHT - 60, old: false, new: false, spared }
    }

    /// Brings the course to where chances begin.
    fn from(begin: Begin) -> Result<Self, TestCaseError> {
        let mut course = Self::begin();
        let (at, goes_back) = match begin {
            Begin::Untold => return Ok(course),
            Begin::LostInExchange => (HeightStage::Exchanging, false),
            Begin::LostOnWayBack => (HeightStage::Back, true),
        };
        for turn in 0..400 {
            course.round()?;
            course.happens(Chance::Goes(turn % 4))?;
            if goes_back && stage(&course.w) == Some(HeightStage::Exchanging) {
                // As long as nobody has the next program for a block.
                if course.hosts.iter().all(|host| host.process.is_some_and(|(_, is_new)| is_new)) {
                    course.happens(Chance::Back)?;
                }
                continue;
            }
            if stage(&course.w) == Some(at) && course.lost()? {
                return Ok(course);
            }
            if stage(&course.w) != Some(HeightStage::Back) {
                course.happens(Chance::Blocks(1))?;
            }
        }
        Err(TestCaseError::fail(format!("it does not come to {at:?}: {:?}", course.hosts)))
    }

    /// Gives up the host of one that has not come there, once two others are well with what the chain's nodes run.
    fn lost(&mut self) -> Result<bool, TestCaseError> {
        let outfit = &chain(&self.w).outfit;
        let is_there = |node: &Node| is_well(node) && node.outfit == *outfit && node.halt.is_none();
        let (there, others): (Vec<&Node>, Vec<&Node>) = self.w.state.nodes.values().partition(|node| is_there(node));
        let Some(last) = others.last().filter(|_| there.len() >= 2).map(|node| node.key.node.number()) else {
            return Ok(false);
        };
        for chance in [Chance::Halts, Chance::Lost(last), Chance::GoesOn] {
            self.happens(chance)?;
        }
        prop_assert!(!chain(&self.w).lost.is_empty(), "n{last} cannot be given up: {:?}", chain(&self.w).rollout);
        Ok(true)
    }

    /// One block is decided if enough stand before it, and everybody executes what he may.
    fn block(&mut self) -> Result<(), TestCaseError> {
        let decides = |(n, host): &(u64, &Host)| {
            let validates = self.w.state.nodes[&node_key(*n)].validates();
            validates && host.process.is_some() && host.executed == self.decided
        };
        if (0..).zip(&self.hosts).filter(decides).count() >= 3 {
            self.decided += 1;
        }
        for host in &mut self.hosts {
            let Some((halt, is_new)) = host.process else { continue };
            while host.executed < self.decided && halt.is_none_or(|halt| host.executed + 1 < halt) {
                host.executed += 1;
                let block = host.executed;
                if block >= HEIGHT {
                    (self.old, self.new) = (self.old || !is_new, self.new || is_new);
                    host.old |= !is_new;
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
                let was = self.w.state.clone();
                let n = roll(&mut self.w, &step);
                let (node, host) = (&was.nodes[&node_key(n)], &self.hosts[n as usize]);
                let needs_none = node.outfit == was.chains[&chain_key()].outfit && node.halt.is_none();
                if is_well(node) && needs_none && host.process.is_some() {
                    self.spared.insert(n);
                }
                prop_assert!(self.spared.len() <= 1, "{:?} are down for nothing", self.spared);
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
            Chance::Halts => halt(&mut self.w),
            Chance::GoesOn => go_on(&mut self.w),
            // Of two lost keys the chain would not recover; afterwards nothing of this is tried.
            Chance::Lost(_) if !chain(&self.w).lost.is_empty() || open(chain(&self.w)).is_none() => {}
            Chance::Lost(n) => {
                if lose(&mut self.w, n) {
                    let begins = Host { executed: 0, config: None, process: None, old: false, is_cut: false };
                    self.hosts[n as usize] = begins;
                    self.spared.remove(&n);
                }
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
            NodeState::Requested => prepare(&mut self.w, n),
            NodeState::Prepared => {
                if stage(&self.w) == Some(HeightStage::Back) {
                    let runs_new = host.process.is_some_and(|(_, is_new)| is_new);
                    prop_assert!(!runs_new || node.returns, "n{n} is not asked whether it can go back: {host:?}");
                    prop_assert!(!host.old || !node.returns, "n{n} has gone back and is asked again: {host:?}");
                }
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
                    self.spared.remove(&n);
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
        begin in prop_oneof![2 => Just(Begin::Untold), 1 => Just(Begin::LostInExchange), 1 => Just(Begin::LostOnWayBack)],
        chances in prop::collection::vec(chance(), 0..160),
    ) {
        let mut course = Course::from(begin)?;
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
                go_on(&mut course.w);
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
