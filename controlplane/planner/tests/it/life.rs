//! From requested to running, once with one leader and once with a new one after every half-done act.

use std::collections::BTreeMap;

use hanse_planner::*;
use hanse_state::chain::life::{PauseChain, PurgeChain, ResumeChain};
use hanse_state::chain::node::*;
use hanse_state::chain::{ChainState, RecordGenesis};
use hanse_state::cluster::version::Version;
use hanse_state::consortium::proposal::CloseProposal;
use hanse_state::ids::NodeKey;
use hanse_state::{Actor, Blob, Command, Millis};

use super::world::{World, chain_key, identity, node_key};

/// The hosts: what is really there, and how often anything was made.
#[derive(Default)]
pub(crate) struct Hosts {
    homes: BTreeMap<NodeKey, NodeIdentity>,
    pub(crate) processes: BTreeMap<NodeKey, InstanceView>,
    made: BTreeMap<(&'static str, NodeKey, u64), u32>,
}

/// Where a leader dies: after which of the three parts of an act.
#[derive(Clone, Copy, PartialEq)]
enum Dies {
    Never,
    AfterIntent,
    AfterEnsure,
}

impl Hosts {
    /// Does an act as the server would: intent, ensure, fact.
    fn act(&mut self, w: &mut World, observed: &mut Observed, act: &Act, dies: Dies) {
        let (node, generation, act_kind) = match act {
            Act::Prepare { node, generation } => (node, *generation, NodeAct::Prepare),
            Act::Configure { node, generation } => (node, *generation, NodeAct::Configure),
            Act::Start { node, generation } => (node, *generation, NodeAct::Start),
            Act::Stop { node, generation } => (node, *generation, NodeAct::Stop),
            Act::Remove { node, generation } => (node, *generation, NodeAct::Remove),
            Act::Roll { .. }
            | Act::HaltRollout { .. }
            | Act::CallOff { .. }
            | Act::Exchange { .. }
            | Act::Unseated { .. }
            | Act::EndAdoption { .. }
            | Act::Release { .. } => panic!("{act:?}"),
            Act::CreateMachine { .. } | Act::LookMachine { .. } | Act::DeleteMachine { .. } => panic!("{act:?}"),
            Act::MoveStep { .. } | Act::Move { .. } | Act::Seat { .. } => panic!("{act:?}"),
            Act::Purge { chain } => {
                w.ok(Actor::System, Command::PurgeChain(PurgeChain { chain: chain.clone() }));
                return;
            }
            Act::Genesis { chain } => {
                let genesis = RecordGenesis { chain: chain.clone(), bytes: Blob(b"genesis".to_vec()) };
                w.ok(Actor::System, Command::RecordGenesis(genesis));
                return;
            }
            Act::CheckHealth { node, .. } => return self.look(w, observed, node),
            Act::RecordHealth { node, generation, fact } => return record(w, node, *generation, fact.clone()),
            Act::Restart { node, generation, reason } => {
                let restart = RestartNode {
                    node: node.clone(),
                    generation: *generation,
                    reason: reason.clone(),
                    accept_outage: false,
                };
                w.ok(Actor::System, Command::RestartNode(restart));
                return;
            }
            Act::Block { node, generation, reason } => {
                return record(w, node, *generation, NodeFact::Failed { reason: reason.clone() });
            }
            Act::SendContract { .. } | Act::LookContract { .. } | Act::CloseProposal { .. } | Act::Meter { .. } => {
                panic!("{act:?}")
            }
        };
        let intent = RecordIntent { node: node.clone(), generation, act: act_kind };
        w.ok(Actor::System, Command::RecordIntent(intent));
        if dies == Dies::AfterIntent {
            return;
        }
        let fact = self.ensure(node, generation, act_kind);
        if matches!(act_kind, NodeAct::Stop | NodeAct::Remove) {
            observed.nodes.remove(node);
        }
        if dies == Dies::AfterEnsure {
            return;
        }
        record(w, node, generation, fact);
    }

    /// Creates or adopts; counts what is really made.
    fn ensure(&mut self, node: &NodeKey, generation: u64, act: NodeAct) -> NodeFact {
        let name = match act {
            NodeAct::Prepare if self.homes.contains_key(node) => None,
            NodeAct::Prepare => Some("home"),
            NodeAct::Configure => None,
            NodeAct::Start => {
                let view = InstanceView { generation, run: Run::Running };
                (self.processes.insert(node.clone(), view.clone()) != Some(view)).then_some("process")
            }
            NodeAct::Stop => {
                self.processes.remove(node);
                return NodeFact::Stopped;
            }
            NodeAct::Remove => {
                self.processes.remove(node);
                self.homes.remove(node);
                return NodeFact::Removed;
            }
            NodeAct::Fence | NodeAct::Carry | NodeAct::Clear | NodeAct::Seat | NodeAct::Return => {
                panic!("nothing moves here")
            }
        };
        if let Some(name) = name {
            *self.made.entry((name, node.clone(), generation)).or_default() += 1;
        }
        let known = self.homes.entry(node.clone()).or_insert_with(|| identity(node.node.number()));
        match act {
            NodeAct::Prepare => NodeFact::Prepared { identity: known.clone() },
            NodeAct::Configure => NodeFact::Configured,
            NodeAct::Start | NodeAct::Stop | NodeAct::Remove => NodeFact::Started,
            NodeAct::Fence | NodeAct::Carry | NodeAct::Clear | NodeAct::Seat | NodeAct::Return => {
                panic!("nothing moves here")
            }
        }
    }

    pub(crate) fn look(&self, w: &World, observed: &mut Observed, node: &NodeKey) {
        let missing = || InstanceView { generation: 0, run: Run::Missing };
        let instance = self.processes.get(node).cloned().unwrap_or_else(missing);
        let is_alive = instance.run == Run::Running;
        let health = is_alive.then_some(HealthView {
            generation: instance.generation,
            height: 1,
            peers: 3,
            syncing: false,
            reasons: Vec::new(),
            at: w.at,
        });
        observed.nodes.insert(node.clone(), NodeView { instance: Some(instance), health });
    }
}

pub(crate) fn record(w: &mut World, node: &NodeKey, generation: u64, fact: NodeFact) {
    w.ok(
        Actor::System,
        Command::RecordNodeFact(RecordNodeFact { node: node.clone(), generation, fact, output: String::new() }),
    );
}

/// One round of a leader over everything; the acts it did. A leader that dies forgets what it saw.
fn round(w: &mut World, hosts: &mut Hosts, observed: &mut Observed, dies: Dies) -> Vec<String> {
    let keys: Vec<NodeKey> = w.state.nodes.keys().cloned().collect();
    let mut acts = Vec::new();
    let mut steps = vec![plan_chain(&w.state, &chain_key(), observed, w.at)];
    steps.extend(keys.iter().map(|key| plan_node(&w.state, key, observed, w.at)));
    for step in steps {
        if let Step::Do(act) = step {
            hosts.act(w, observed, &act, dies);
            acts.push(name(&act));
            if matches!(act, Act::Purge { .. }) {
                // Every other step was planned from what is over now.
                break;
            }
        }
    }
    acts
}

fn name(act: &Act) -> String {
    let words = format!("{act:?}");
    let kind = words.split([' ', '{']).next().unwrap().to_owned();
    match act {
        Act::Prepare { node, .. }
        | Act::Configure { node, .. }
        | Act::Start { node, .. }
        | Act::CheckHealth { node, .. }
        | Act::RecordHealth { node, .. }
        | Act::Restart { node, .. }
        | Act::Stop { node, .. }
        | Act::Remove { node, .. }
        | Act::MoveStep { node, .. }
        | Act::Move { node, .. }
        | Act::Seat { node, .. }
        | Act::Block { node, .. } => format!("{kind} {}", node.node),
        Act::Genesis { .. }
        | Act::Purge { .. }
        | Act::Roll { .. }
        | Act::HaltRollout { .. }
        | Act::CallOff { .. }
        | Act::Exchange { .. }
        | Act::Unseated { .. }
        | Act::Release { .. } => kind,
        Act::SendContract { .. } | Act::LookContract { .. } | Act::CloseProposal { .. } | Act::Meter { .. } => words,
        Act::CreateMachine { .. } | Act::LookMachine { .. } | Act::DeleteMachine { .. } => words,
        Act::EndAdoption { .. } => words,
    }
}

#[test]
fn a_chain_comes_to_run_in_this_order() {
    let mut w = World::ordered(2);
    let (mut hosts, mut observed) = (Hosts::default(), Observed::default());
    let mut rounds = Vec::new();
    while w.state.chains[&chain_key()].state != ChainState::Running {
        rounds.push(round(&mut w, &mut hosts, &mut observed, Dies::Never).join(", "));
        assert!(rounds.len() < 20, "{rounds:#?}");
    }
    let expected = [
        "Prepare n0, Prepare n1",
        "Genesis",
        "Configure n0, Configure n1",
        "Start n0, Start n1",
        "CheckHealth n0, CheckHealth n1",
        "RecordHealth n0, RecordHealth n1",
    ];
    assert_eq!(rounds, expected);
    for key in [node_key(0), node_key(1)] {
        hosts.look(&w, &mut observed, &key);
        assert_eq!(plan_node(&w.state, &key, &observed, w.at), Step::Done);
    }
    assert_eq!(plan_chain(&w.state, &chain_key(), &observed, w.at), Step::Done);
}

#[test]
fn a_new_leader_after_every_half_done_act_makes_nothing_twice() {
    for dies in [Dies::AfterIntent, Dies::AfterEnsure] {
        let mut w = World::ordered(4);
        let mut hosts = Hosts::default();
        let mut rounds = 0;
        while w.state.chains[&chain_key()].state != ChainState::Running {
            // The dying leader's half, then a new one that has seen nothing; then looks until it has.
            round(&mut w, &mut hosts, &mut Observed::default(), dies);
            let mut observed = Observed::default();
            round(&mut w, &mut hosts, &mut observed, Dies::Never);
            round(&mut w, &mut hosts, &mut observed, Dies::Never);
            rounds += 1;
            assert!(rounds < 20);
        }
        assert_eq!(hosts.made.len(), 8, "a home and a process for each of four nodes");
        assert!(hosts.made.values().all(|count| *count == 1), "{:?}", hosts.made);
        assert!(w.state.nodes.values().all(|node| node.generation == 1));
    }
}

/// A running chain of two nodes at cluster version 4, with its hosts and what was seen of them.
fn running() -> (World, Hosts, Observed) {
    let mut w = World::ordered(2);
    let raise = hanse_state::cluster::version::RaiseClusterVersion { version: Version(4) };
    w.ok(super::world::actor("root"), Command::RaiseClusterVersion(raise));
    let (mut hosts, mut observed) = (Hosts::default(), Observed::default());
    while w.state.chains[&chain_key()].state != ChainState::Running {
        round(&mut w, &mut hosts, &mut observed, Dies::Never);
    }
    (w, hosts, observed)
}

fn pause(w: &mut World) {
    let pause = PauseChain { chain: chain_key(), reason: "the bill".into() };
    w.ok(super::world::actor("root"), Command::PauseChain(pause));
}

#[test]
fn a_chain_is_paused_resumed_and_goes_in_this_order() {
    let (mut w, mut hosts, mut observed) = running();
    pause(&mut w);
    let mut go = |w: &mut World| round(w, &mut hosts, &mut observed, Dies::Never).join(", ");
    assert_eq!(go(&mut w), "Stop n0, Stop n1");
    assert_eq!((go(&mut w).as_str(), w.state.chains[&chain_key()].state), ("", ChainState::Paused));
    let resume = ResumeChain { chain: chain_key(), reason: "paid".into() };
    w.ok(super::world::actor("root"), Command::ResumeChain(resume));
    assert_eq!(go(&mut w), "Start n0, Start n1");
    assert_eq!(go(&mut w), "CheckHealth n0, CheckHealth n1");
    assert_eq!(go(&mut w), "RecordHealth n0, RecordHealth n1");
    assert_eq!(w.state.chains[&chain_key()].state, ChainState::Running);
    w.delete(60_000);
    assert_eq!(go(&mut w), "Stop n0, Stop n1");
    w.at = w.state.now.plus(50_000);
    assert_eq!((go(&mut w).as_str(), w.state.chains[&chain_key()].state), ("", ChainState::Deleted));
    w.at = w.at.plus(10_000);
    // What a new leader would see first, too: the grace is over.
    assert_eq!(go(&mut w), "Purge");
    assert_eq!(go(&mut w), "Remove n0, Remove n1");
    assert!(w.state.chains.is_empty() && w.state.nodes.is_empty());
    assert!(hosts.homes.is_empty() && hosts.processes.is_empty());
}

#[test]
fn a_new_leader_after_every_half_done_end_leaves_nothing_behind() {
    for dies in [Dies::AfterIntent, Dies::AfterEnsure] {
        let (mut w, mut hosts, _) = running();
        pause(&mut w);
        w.delete(1_000);
        w.at = w.state.now.plus(2_000);
        let mut rounds = 0;
        while !w.state.chains.is_empty() {
            round(&mut w, &mut hosts, &mut Observed::default(), dies);
            round(&mut w, &mut hosts, &mut Observed::default(), Dies::Never);
            rounds += 1;
            assert!(rounds < 20, "{:?}", w.state.chains);
        }
        assert!(hosts.homes.is_empty() && hosts.processes.is_empty());
        assert!(w.state.hosts.values().all(|host| host.ports.is_empty()));
    }
}

#[test]
fn a_deposed_leader_is_fenced_off() {
    let mut w = World::running(4);
    let stale = RecordIntent { node: node_key(0), generation: 1, act: NodeAct::Start };
    let restart = RestartNode { node: node_key(0), generation: 1, reason: "gone".into(), accept_outage: false };
    w.ok(Actor::System, Command::RestartNode(restart.clone()));
    assert_eq!(w.send(Actor::System, Command::RecordIntent(stale)).outcome.unwrap_err().reason(), "STALE_GENERATION");
    assert_eq!(w.send(Actor::System, Command::RestartNode(restart)).outcome.unwrap_err().reason(), "STALE_GENERATION");
}

#[test]
fn votes_end_and_time_is_metered_when_due() {
    let mut w = World::hosts(hanse_state::consortium::policy::Policy::Majority);
    let (proposal, _) = w.propose(super::world::spec(4));
    let deadline = w.state.proposals[&proposal].deadline;
    assert_eq!(plan_proposals(&w.state, Millis(deadline.0 - 1)), []);
    assert_eq!(plan_proposals(&w.state, deadline), [Act::CloseProposal { proposal: proposal.clone() }]);
    w.at = deadline;
    w.ok(Actor::System, Command::CloseProposal(CloseProposal { proposal }));
    assert_eq!(plan_proposals(&w.state, deadline.plus(9)), []);
    assert_eq!(plan_metering(&w.state, deadline, 1), None);

    let mut w = World::running(1);
    let since = w.state.nodes[&node_key(0)].metered_until.unwrap();
    assert_eq!(plan_metering(&w.state, since.plus(59_999), 60_000), None);
    let until = since.plus(60_000);
    assert_eq!(plan_metering(&w.state, until, 60_000), Some(Act::Meter { until }));
    w.at = until;
    w.ok(Actor::System, Command::Meter(hanse_state::billing::Meter { until }));
    assert_eq!(plan_metering(&w.state, until, 60_000), None);
}
