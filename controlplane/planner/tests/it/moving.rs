//! Moves: step after step, off drained hosts, and the law that one key never runs at two hosts, whatever is ordered, however late
//! an act of a leader that is none any more arrives, and whichever answers are lost.

use std::collections::{BTreeMap, BTreeSet};

use hanse_planner::*;
use hanse_state::chain::life::{PauseChain, ResumeChain};
use hanse_state::chain::moving::{MoveNode, RecordEvicted};
use hanse_state::chain::node::*;
use hanse_state::chain::rollout::HaltRollout;
use hanse_state::chain::rollout::RollNode;
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::host::care::DrainHost;
use hanse_state::ids::{HostId, NodeKey};
use hanse_state::{Actor, Command};
use proptest::prelude::*;

use super::world::{World, actor, chain_key, node_key};

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

/// What one host has of one node, with the rules of `hostrun`.
#[derive(Clone, Debug, Default)]
struct Site {
    /// First generation that may start.
    fence: u64,
    /// Generation that was started last; 0 if none ever was.
    started: u64,
    /// Its key, if it has a home.
    home: Option<String>,
    runs: bool,
}

impl Site {
    fn newest(&self) -> u64 {
        self.fence.max(self.started)
    }
}

/// An act on its way to a host; it may come late, twice or never.
#[derive(Clone, Debug)]
enum Op {
    Prepare {
        at: HostId,
        generation: u64,
    },
    Configure {
        generation: u64,
    },
    Start {
        at: HostId,
        generation: u64,
    },
    Stop {
        at: HostId,
        generation: u64,
    },
    Fence {
        at: HostId,
        generation: u64,
    },
    Carry {
        from: HostId,
        to: HostId,
        generation: u64,
    },
    /// What was read on the one host on its way to the other.
    Write {
        to: HostId,
        generation: u64,
        key: String,
    },
    Clear {
        at: HostId,
        generation: u64,
    },
    Evict {
        at: HostId,
        generation: u64,
    },
}

struct Fleet {
    w: World,
    sites: BTreeMap<(HostId, NodeKey), Site>,
    flying: Vec<(NodeKey, Op)>,
    keys: u32,
}

fn host(n: usize) -> HostId {
    HOSTS[n % HOSTS.len()].parse().unwrap()
}

impl Fleet {
    fn new() -> Self {
        let mut w = World::running(4);
        w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version::NEWEST }));
        w.enrol("h3", 4);
        w.enrol("h4", 4);
        let site = |node: &Node| Site {
            fence: 0,
            started: node.generation,
            home: node.identity.as_ref().map(|it| it.public_key.clone()),
            runs: true,
        };
        let sites = w.state.nodes.values().map(|it| ((it.host.clone().unwrap(), it.key.clone()), site(it))).collect();
        Self { w, sites, flying: Vec::new(), keys: 0 }
    }

    fn site(&mut self, at: &HostId, node: &NodeKey) -> &mut Site {
        self.sites.entry((at.clone(), node.clone())).or_default()
    }

    /// The leader plans for one node: the intent commits, and the act is on its way.
    fn lead(&mut self, node: &NodeKey) {
        let known = self.w.state.nodes[node].clone();
        let Step::Do(act) = plan_node(&self.w.state, node, &Observed::default(), self.w.at) else { return };
        let at = known.host.clone();
        let (kind, generation) = match act {
            Act::Prepare { generation, .. } => (NodeAct::Prepare, generation),
            Act::Configure { generation, .. } => (NodeAct::Configure, generation),
            Act::Start { generation, .. } => (NodeAct::Start, generation),
            Act::Stop { generation, .. } => (NodeAct::Stop, generation),
            Act::MoveStep { generation, act, .. } => (act, generation),
            _ => return,
        };
        self.w.ok(Actor::System, Command::RecordIntent(RecordIntent { node: node.clone(), generation, act: kind }));
        let at = at.unwrap();
        let op = match kind {
            NodeAct::Prepare => Op::Prepare { at, generation },
            NodeAct::Configure => Op::Configure { generation },
            NodeAct::Start => Op::Start { at, generation },
            NodeAct::Stop => Op::Stop { at, generation },
            NodeAct::Fence => Op::Fence { at, generation },
            NodeAct::Carry => Op::Carry { from: at, to: known.moving.unwrap().to, generation },
            NodeAct::Clear => Op::Clear { at, generation },
            NodeAct::Remove | NodeAct::Seat | NodeAct::Return => {
                unreachable!("no chain ends here, no seat is voted on, and nothing was taken over")
            }
        };
        self.flying.push((node.clone(), op));
    }

    fn evict(&mut self) {
        let found = self.w.state.hosts.values().find_map(|it| Some((it.id.clone(), it.evicted.iter().next()?)));
        if let Some((at, (node, generation))) = found {
            self.flying.push((node.clone(), Op::Evict { at, generation: *generation }));
        }
    }

    /// An act arrives; whether it comes again, and whether its answer gets to a leader.
    fn arrive(&mut self, index: usize, again: bool, answered: bool) {
        if self.flying.is_empty() {
            return;
        }
        let index = index % self.flying.len();
        let (node, op) = if again { self.flying[index].clone() } else { self.flying.swap_remove(index) };
        let done = self.carry_out(&node, &op);
        self.check();
        let Some(fact) = done.filter(|_| answered) else { return };
        match (fact, &op) {
            (None, Op::Evict { at, .. }) => {
                let evicted = RecordEvicted { host: at.clone(), node };
                self.w.ok(Actor::System, Command::RecordEvicted(evicted));
            }
            (Some((generation, fact)), _) => {
                // A stale one is refused by its generation or by what the node waits for.
                self.w.send(
                    Actor::System,
                    Command::RecordNodeFact(RecordNodeFact { node, generation, fact, output: String::new() }),
                );
            }
            (None, _) => {}
        }
    }

    /// What the host answers: `None` if it refuses, else the fact if it is one.
    #[allow(clippy::option_option, reason = "refused, done without a fact, done with one")]
    fn carry_out(&mut self, node: &NodeKey, op: &Op) -> Option<Option<(u64, NodeFact)>> {
        match op {
            Op::Prepare { at, generation } => {
                self.keys += 1;
                let fresh = format!("key-{}", self.keys);
                let key = self.site(at, node).home.get_or_insert(fresh).clone();
                let identity = NodeIdentity { node_id: format!("id of {key}"), public_key: key, contribution: None };
                let known = self.w.state.nodes[node].identity.clone();
                let identity = known.filter(|it| it.public_key == identity.public_key).unwrap_or(identity);
                Some(Some((*generation, NodeFact::Prepared { identity })))
            }
            Op::Configure { generation } => Some(Some((*generation, NodeFact::Configured))),
            Op::Start { at, generation } => {
                let site = self.site(at, node);
                if site.newest() > *generation || site.home.is_none() {
                    return None;
                }
                (site.started, site.runs) = (*generation, true);
                Some(Some((*generation, NodeFact::Started)))
            }
            Op::Stop { at, generation } => {
                self.fence(at, node, *generation).map(|()| Some((*generation, NodeFact::Stopped)))
            }
            Op::Fence { at, generation } => {
                self.fence(at, node, *generation).map(|()| Some((*generation, NodeFact::Fenced)))
            }
            Op::Carry { from, to, generation } => {
                self.fence(from, node, *generation)?;
                self.fence(to, node, *generation)?;
                let key = self.site(from, node).home.clone()?;
                self.flying.push((node.clone(), Op::Write { to: to.clone(), generation: *generation, key }));
                Some(None)
            }
            Op::Write { to, generation, key } => {
                let site = self.site(to, node);
                if site.fence != *generation || site.started > 0 {
                    return None;
                }
                site.home = Some(key.clone());
                Some(Some((*generation, NodeFact::Carried)))
            }
            Op::Clear { at, generation } => {
                self.fence(at, node, *generation)?;
                self.sites.remove(&(at.clone(), node.clone()));
                Some(Some((*generation, NodeFact::Cleared)))
            }
            Op::Evict { at, generation } => {
                self.fence(at, node, *generation)?;
                self.sites.remove(&(at.clone(), node.clone()));
                Some(None)
            }
        }
    }

    fn fence(&mut self, at: &HostId, node: &NodeKey, generation: u64) -> Option<()> {
        let site = self.site(at, node);
        if site.newest() > generation {
            return None;
        }
        (site.fence, site.runs) = (generation, false);
        Some(())
    }

    /// The law; and no key that is still a node's is lost.
    fn check(&self) {
        let mut running = BTreeSet::new();
        for ((at, node), site) in self.sites.iter().filter(|(_, site)| site.runs) {
            let key = site.home.as_ref().expect("what runs has a home");
            assert!(running.insert(key), "{key} of {node} runs at two hosts, {at} is one: {:?}", self.sites);
        }
        for node in self.w.state.nodes.values() {
            let Some(identity) = &node.identity else { continue };
            let is_kept = self.sites.values().any(|site| site.home.as_ref() == Some(&identity.public_key));
            assert!(is_kept, "the key of {} is nowhere any more: {:?}", node.key, self.sites);
        }
    }

    fn move_node(&mut self, node: &NodeKey, to: HostId, lost: bool) {
        let generation = self.w.state.nodes[node].generation;
        let order =
            MoveNode { node: node.clone(), generation, to, reason: "it must".into(), accept_outage: true, lost };
        let done = self.w.send(actor("root"), Command::MoveNode(order));
        if lost && done.outcome.is_ok() {
            // Who learns of the new one when is no matter here.
            let number = self.w.state.chains[&chain_key()].rollout.as_ref().unwrap().number;
            let halt = HaltRollout { chain: chain_key(), number, reason: "not now".into() };
            self.w.send(actor("oda"), Command::HaltRollout(halt));
        }
    }

    /// Faults end: what is on its way arrives, and the leader goes on until nothing is left to do.
    fn heal(&mut self) {
        let resume = ResumeChain { chain: chain_key(), reason: "all is well".into() };
        self.w.send(actor("oda"), Command::ResumeChain(resume));
        for _ in 0..200 {
            while !self.flying.is_empty() {
                self.arrive(0, false, true);
            }
            self.evict();
            (0..4).for_each(|n| self.lead(&node_key(n)));
        }
        for node in self.w.state.nodes.values() {
            let site = &self.sites[&(node.host.clone().unwrap(), node.key.clone())];
            let is_right = site.runs && site.started == node.generation;
            assert!(node.state == NodeState::Running && node.moving.is_none() && is_right, "{node:?} {site:?}");
            let own = node.identity.as_ref().map(|it| &it.public_key);
            let homes = self.sites.values().filter(|site| site.home.as_ref() == own).count();
            assert_eq!(homes, 1, "its key is nowhere else: {:?}", self.sites);
        }
        let left: Vec<_> = self.w.state.hosts.values().filter(|host| !host.evicted.is_empty()).collect();
        assert!(left.is_empty(), "{left:?}");
        let ports: usize = self.w.state.hosts.values().map(|host| host.ports.len()).sum();
        assert_eq!(ports, 8, "two for each node");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_key_never_runs_at_two_hosts(steps in prop::collection::vec((0..12_u8, 0..4_u64, any::<u8>(), any::<bool>()), 1..160)) {
        let mut fleet = Fleet::new();
        for (what, n, which, flag) in steps {
            let node = node_key(n);
            match what {
                0..=3 => fleet.lead(&node),
                4..=7 => fleet.arrive(which.into(), which % 4 == 0, flag || which % 3 == 0),
                8 => fleet.move_node(&node, host(which.into()), which > 220),
                9 => fleet.evict(),
                10 => {
                    let generation = fleet.w.state.nodes[&node].generation;
                    let restart = RestartNode { node, generation, reason: "again".into(), accept_outage: true };
                    fleet.w.send(actor("oda"), Command::RestartNode(restart));
                }
                _ => {
                    let (chain, reason) = (chain_key(), "a while".to_owned());
                    let command = if flag {
                        Command::PauseChain(PauseChain { chain, reason })
                    } else {
                        Command::ResumeChain(ResumeChain { chain, reason })
                    };
                    fleet.w.send(actor("oda"), command);
                }
            }
            fleet.check();
        }
        fleet.heal();
    }
}

/// What a leader that has just looked sees: everyone runs.
fn seen(w: &World) -> Observed {
    let mut observed = Observed::default();
    for node in w.state.nodes.values() {
        let health = HealthView {
            generation: node.generation,
            height: 9,
            peers: 3,
            syncing: false,
            reasons: Vec::new(),
            at: w.at,
        };
        let instance = InstanceView { generation: node.generation, run: Run::Running };
        observed.nodes.insert(node.key.clone(), NodeView { instance: Some(instance), health: Some(health) });
    }
    observed
}

/// A drained host is emptied one node of a chain at a time, each only when the one before is well again and all others were
/// started anew, so that they know where it is.
#[test]
fn a_drained_host_is_emptied() {
    let mut fleet = Fleet::new();
    let drain = DrainHost { host: host(0), reason: "it is sold".into(), accept_outage: false };
    fleet.w.ok(actor("oda"), Command::DrainHost(drain));
    let (mut moved, mut told) = (0, Vec::new());
    for _ in 0..200 {
        match plan_chain(&fleet.w.state, &chain_key(), &seen(&fleet.w), fleet.w.at) {
            Step::Do(Act::Move { node, generation, to, reason, accept_outage }) => {
                let mut others = fleet.w.state.nodes.values().filter(|it| it.key != node);
                assert!(others.all(|it| it.state == NodeState::Running && it.health == Health::Healthy));
                assert!(reason.contains("it is sold") && to != host(0));
                assert_eq!(told.len(), 3 * moved, "{told:?}");
                let order = MoveNode { node, generation, to, reason, accept_outage, lost: false };
                fleet.w.ok(Actor::System, Command::MoveNode(order));
                moved += 1;
            }
            Step::Do(Act::Roll { node, generation, number }) => {
                let others = fleet.w.state.nodes.values().filter(|it| it.key != node);
                assert_eq!(others.filter(|it| it.state != NodeState::Running).count(), 0, "one at a time");
                told.push((node.clone(), number));
                fleet.w.ok(Actor::System, Command::RollNode(RollNode { node, generation, number }));
            }
            Step::Do(act) => panic!("{act:?}"),
            Step::Wait { .. } | Step::Done => {}
        }
        (0..4).for_each(|n| fleet.lead(&node_key(n)));
        while !fleet.flying.is_empty() {
            fleet.arrive(0, false, true);
        }
        for n in 0..4 {
            let node = &fleet.w.state.nodes[&node_key(n)];
            if node.state == NodeState::Running && node.health == Health::Unknown {
                fleet.w.fact(n, NodeFact::Healthy);
            }
        }
    }
    assert_eq!(moved, 2, "two of the four were there");
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 6, "each move is told to the three others: {told:?}");
    assert!(fleet.w.state.hosts[&host(0)].ports.is_empty());
    let hosts: BTreeSet<_> = fleet.w.state.nodes.values().filter_map(|node| node.host.clone()).collect();
    assert_eq!(hosts.len(), 3, "they went where the chain had none");
}

/// Of a chain that would make no block meanwhile nothing is moved unless somebody agreed to it.
#[test]
fn a_drain_costs_no_blocks_unless_that_is_agreed_to() {
    let mut fleet = Fleet::new();
    fleet.w.fact(3, NodeFact::Unhealthy { reason: "it has no peers".into() });
    for accept_outage in [false, true] {
        let drain = DrainHost { host: host(0), reason: "it is sold".into(), accept_outage };
        fleet.w.ok(actor("oda"), Command::DrainHost(drain));
        let step = plan_chain(&fleet.w.state, &chain_key(), &seen(&fleet.w), fleet.w.at);
        assert_eq!(matches!(step, Step::Do(Act::Move { .. })), accept_outage, "{step:?}");
    }
}
