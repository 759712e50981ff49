//! Chains of others that are taken over: the law that one key is never in two processes and never signs from a state that is behind,
//! and that no home is lost, whatever is ordered, however late an act arrives, wherever one is cut off, and whatever its owners do.

use std::collections::{BTreeMap, BTreeSet};

use hanse_planner::*;
use hanse_state::chain::NodeSpec;
use hanse_state::chain::adopting::{AdoptChain, AdoptNode, EndAdoption, GiveBackNode};
use hanse_state::chain::imported::{Endpoint, ImportChain};
use hanse_state::chain::life::{Change, ChangeChain};
use hanse_state::chain::moving::MoveStage;
use hanse_state::chain::node::*;
use hanse_state::chain::rollout::{ContinueRollout, RollNode};
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::consortium::ballot::Choice;
use hanse_state::consortium::policy::Policy;
use hanse_state::consortium::proposal::{Action, OpenProposal};
use hanse_state::ids::{NodeId, NodeKey};
use hanse_state::{Actor, Blob, Command, Outcome};
use proptest::prelude::*;

use self::site::Site;
use super::world::{MEMBERS, World, actor, ballot, chain_key, consortium, identity, node_key, owner};

mod site;

const NODES: u64 = 4;

/// An act on its way to a host; it may come late, twice or never.
#[derive(Clone, Debug)]
enum Op {
    Fence { generation: u64, stop: bool },
    Carry { generation: u64 },
    Configure { generation: u64 },
    Start { generation: u64 },
    Return { generation: u64, was_started: bool },
}

struct Stage {
    w: World,
    sites: BTreeMap<NodeKey, Site>,
    flying: Vec<(NodeKey, Op)>,
}

impl Stage {
    /// Four nodes run by their owners; a vote has passed and an operator has said where they are. Every second is stopped by its owner.
    fn new() -> Self {
        let mut w = World::hosts(Policy::Majority);
        w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version::NEWEST }));
        let endpoint = |n: u64| Endpoint { host: format!("l{n}.example"), rpc_port: 8_545, consensus_port: None };
        let first_block = format!("0x{}", "ab".repeat(32));
        let import = ImportChain {
            chain: chain_key(),
            template: "evm-standard".into(),
            chain_id: 4_711,
            first_block: first_block.clone(),
            owner: "acme".parse().unwrap(),
            endpoints: (0..NODES).map(endpoint).collect(),
            reason: "we buy from it".into(),
        };
        w.ok(actor("oda"), Command::ImportChain(import));
        let nodes = MEMBERS.iter().map(|name| NodeSpec { owner: name.parse().unwrap() }).collect();
        vote(&mut w, Change::Adopt { first_block, nodes, accept_outage: false });
        let node = |n: u64| AdoptNode {
            node: NodeId::new(n),
            host: if n < 2 { "h1" } else { "h2" }.parse().unwrap(),
            home: format!("/srv/n{n}"),
            stop: n.is_multiple_of(2),
            identity: identity(n),
            p2p_port: 9_100 + 2 * u16::try_from(n).unwrap(),
            rpc_port: 9_101 + 2 * u16::try_from(n).unwrap(),
            ports: BTreeMap::new(),
            signed: None,
        };
        let order = AdoptChain {
            chain: chain_key(),
            nodes: (0..NODES).map(node).collect(),
            genesis: Blob(b"genesis".to_vec()),
            settings: BTreeMap::new(),
            reason: "we run it now".into(),
        };
        w.ok(actor("oda"), Command::AdoptChain(order));
        let site = Site {
            key_here: true,
            mark: None,
            theirs: 7,
            owner_runs: true,
            fence: 0,
            started: 0,
            ours: None,
            runs: false,
            signed: 7,
        };
        let sites = (0..NODES).map(|n| (node_key(n), site.clone())).collect();
        Self { w, sites, flying: Vec::new() }
    }

    fn site(&mut self, node: &NodeKey) -> &mut Site {
        self.sites.get_mut(node).unwrap()
    }

    /// The leader plans for one node: the intent commits, and the act is on its way.
    fn lead(&mut self, node: &NodeKey) {
        let adopting = self.w.state.nodes[node].adopting.as_ref();
        let (stop, was_started) = adopting.map_or((false, false), |it| (it.stop, it.started));
        let Step::Do(act) = plan_node(&self.w.state, node, &Observed::default(), self.w.at) else { return };
        let (op, kind, generation) = match act {
            Act::MoveStep { generation, act: NodeAct::Fence, .. } => {
                (Op::Fence { generation, stop }, NodeAct::Fence, generation)
            }
            Act::MoveStep { generation, act: NodeAct::Carry, .. } => {
                (Op::Carry { generation }, NodeAct::Carry, generation)
            }
            Act::MoveStep { generation, act: NodeAct::Return, .. } => {
                (Op::Return { generation, was_started }, NodeAct::Return, generation)
            }
            Act::Configure { generation, .. } => (Op::Configure { generation }, NodeAct::Configure, generation),
            Act::Start { generation, .. } => (Op::Start { generation }, NodeAct::Start, generation),
            Act::CheckHealth { .. } => return,
            other => panic!("{other:?}"),
        };
        self.w.ok(Actor::System, Command::RecordIntent(RecordIntent { node: node.clone(), generation, act: kind }));
        self.flying.push((node.clone(), op));
    }

    /// The leader plans for the chain: never more than one node is on its way, and all others are well.
    fn lead_chain(&mut self) {
        match plan_chain(&self.w.state, &chain_key(), &self.seen(), self.w.at) {
            Step::Do(Act::Roll { node, generation, number }) => {
                let is_well = |it: &Node| {
                    it.health == Health::Healthy && matches!(it.state, NodeState::Running | NodeState::Watched)
                };
                let ill: Vec<_> = self.w.state.nodes.values().filter(|it| it.key != node && !is_well(it)).collect();
                assert!(ill.is_empty(), "{node} is taken while {ill:?}");
                self.w.ok(Actor::System, Command::RollNode(RollNode { node, generation, number }));
            }
            Step::Do(Act::EndAdoption { chain }) => {
                self.w.ok(Actor::System, Command::EndAdoption(EndAdoption { chain }));
            }
            Step::Do(Act::HaltRollout { .. }) | Step::Wait { .. } | Step::Done => {}
            Step::Do(other) => panic!("{other:?}"),
        }
    }

    fn seen(&self) -> Observed {
        let mut observed = Observed::default();
        for node in self.w.state.nodes.values() {
            let generation = node.generation;
            let health =
                HealthView { generation, height: 9, peers: 3, syncing: false, reasons: Vec::new(), at: self.w.at };
            let instance = InstanceView { generation, run: Run::Running };
            observed.nodes.insert(node.key.clone(), NodeView { instance: Some(instance), health: Some(health) });
        }
        observed
    }

    /// The leader looks at everyone: who runs is well.
    fn look(&mut self) {
        for n in 0..NODES {
            let node = node_key(n);
            let (site, known) = (&self.sites[&node], &self.w.state.nodes[&node]);
            let runs = match known.state {
                NodeState::Watched => site.owner_runs,
                NodeState::Running => site.runs,
                _ => continue,
            };
            let fact = if runs { NodeFact::Healthy } else { NodeFact::Unhealthy { reason: "silent".into() } };
            self.w.fact(n, fact);
        }
    }

    /// An act arrives; whether it comes again, where it is cut off, and whether its answer gets to a leader. A way back that did not get to
    /// its end has failed for good, for a leader that heard of it, every second time.
    fn arrive(&mut self, index: usize, again: bool, (parts, answered): (u8, bool)) {
        if self.flying.is_empty() {
            return;
        }
        let index = index % self.flying.len();
        let (node, op) = if again { self.flying[index].clone() } else { self.flying.swap_remove(index) };
        let site = self.site(&node);
        let done = match op {
            Op::Fence { generation, stop } => site.seize(generation, stop).map(|()| (generation, NodeFact::Fenced)),
            Op::Carry { generation } => {
                let taken = site.seize(generation, false).and_then(|()| site.take(generation));
                taken.map(|()| (generation, NodeFact::Carried))
            }
            Op::Configure { generation } => Some((generation, NodeFact::Configured)),
            Op::Start { generation } => site.start(generation).map(|()| (generation, NodeFact::Started)),
            Op::Return { generation, was_started } => {
                let fact = match site.give_back(generation, was_started, parts) {
                    Some(()) => Some(NodeFact::Returned),
                    None if parts % 2 == 0 => Some(NodeFact::Failed { reason: "something is in the way".into() }),
                    None => None,
                };
                fact.map(|fact| (generation, fact))
            }
        };
        self.check();
        if let Some((generation, fact)) = done.filter(|_| answered) {
            // A stale one is refused by its generation or by what the node waits for.
            let fact = RecordNodeFact { node, generation, fact, output: String::new() };
            self.w.send(Actor::System, Command::RecordNodeFact(fact));
        }
    }

    /// Its owner starts or stops it by hand, in the home that he knows.
    fn by_owner(&mut self, node: &NodeKey, start: bool) {
        let site = self.site(node);
        site.owner_runs = start && (site.owner_runs || site.key_here);
        self.check();
    }

    /// Whoever runs signs once more.
    fn sign(&mut self) {
        for (node, site) in &mut self.sites {
            if site.owner_runs {
                assert_eq!(site.theirs, site.signed, "{node} signs twice in its owner's home: {site:?}");
                (site.theirs, site.signed) = (site.theirs + 1, site.signed + 1);
            } else if site.runs {
                assert_eq!(site.ours, Some(site.signed), "{node} signs twice in ours: {site:?}");
                (site.ours, site.signed) = (Some(site.signed + 1), site.signed + 1);
            }
        }
    }

    /// The law.
    fn check(&self) {
        for (node, site) in &self.sites {
            assert!(!(site.runs && site.owner_runs), "the key of {node} is in two processes: {site:?}");
            let is_kept = site.theirs == site.signed || site.ours == Some(site.signed);
            assert!(is_kept, "what {node} has signed is nowhere any more: {site:?}");
            let is_owners = self.w.state.nodes.get(node).is_some_and(|it| it.state == NodeState::Watched);
            assert!(!is_owners || site.key_here, "{node} is its owner's, and its key is aside: {site:?}");
        }
    }

    fn give_back(&mut self, node: &NodeKey) {
        let generation = self.w.state.nodes[node].generation;
        let order = GiveBackNode { node: node.clone(), generation, reason: "it is not well".into() };
        self.w.send(actor("oda"), Command::GiveBackNode(order));
    }

    fn go_on(&mut self) {
        let order = ContinueRollout { chain: chain_key(), reason: "it was seen to".into() };
        self.w.send(actor("oda"), Command::ContinueRollout(order));
    }

    /// Faults end and owners do their part: everything is taken over.
    fn heal(&mut self) {
        for _ in 0..200 {
            if self.w.state.chains[&chain_key()].wish.is_run() {
                break;
            }
            while !self.flying.is_empty() {
                self.arrive(0, false, (9, true));
            }
            for n in 0..NODES {
                let node = node_key(n);
                let known = &self.w.state.nodes[&node];
                let is_awaited = known.moving.as_ref().is_some_and(|it| it.stage != MoveStage::Return);
                let is_owners = known.state == NodeState::Watched;
                if known.state == NodeState::Blocked {
                    self.give_back(&node);
                    continue;
                }
                if is_awaited || is_owners {
                    self.by_owner(&node, is_owners);
                } else if known.moving.is_some() {
                    self.by_owner(&node, false);
                }
                self.lead(&node);
            }
            self.sign();
            self.look();
            self.go_on();
            self.lead_chain();
        }
        let chain = &self.w.state.chains[&chain_key()];
        assert!(chain.wish.is_run() && chain.adoption.is_none(), "{chain:?}");
        for node in self.w.state.nodes.values() {
            let site = &self.sites[&node.key];
            let is_ours = site.runs && site.started == node.generation && !site.owner_runs && !site.key_here;
            assert!(is_ours && node.state == NodeState::Running && node.adopting.is_none(), "{node:?} {site:?}");
        }
    }
}

fn vote(w: &mut World, change: Change) {
    let ordered_by = w.state.chains[&chain_key()].proposal.proposal;
    let change = ChangeChain { chain: chain_key().chain, ordered_by, change };
    let (title, action) = ("taken over".into(), Action::ChangeChain(change));
    let open = OpenProposal { consortium: consortium(), title, action, voting_period_ms: None };
    let opened = w.ok(owner("acme"), Command::OpenProposal(open)).outcome.unwrap();
    let Outcome::ProposalOpened { proposal, artifact_hash, .. } = opened else { panic!("{opened:?}") };
    for name in MEMBERS {
        w.ok(owner(name), Command::CastBallot(ballot(name, Choice::Yes, &proposal, artifact_hash)));
    }
}

/// The first node was taken over and runs.
fn first_is_taken() -> Stage {
    let mut stage = Stage::new();
    stage.look();
    stage.lead_chain();
    for _ in 0..4 {
        stage.lead(&node_key(0));
        stage.arrive(0, false, (9, true));
    }
    stage
}

/// Its key is marked as given back and has not its name yet: whoever orders it once more, with a newer generation, gets to the end of it.
#[test]
fn a_way_back_that_is_blocked_goes_on_by_a_new_order() {
    let mut stage = first_is_taken();
    stage.sign();
    stage.give_back(&node_key(0));
    stage.lead(&node_key(0));
    stage.arrive(0, false, (2, true));
    let node = stage.w.state.nodes[&node_key(0)].clone();
    assert!(node.state == NodeState::Blocked && !stage.site(&node_key(0)).key_here, "{node:?}");
    stage.give_back(&node_key(0));
    stage.lead(&node_key(0));
    stage.arrive(0, false, (9, true));
    let site = stage.site(&node_key(0)).clone();
    assert!(site.key_here && site.theirs == 8 && site.ours.is_none(), "{site:?}");
    assert_eq!(stage.w.state.nodes[&node_key(0)].state, NodeState::Watched);
    stage.heal();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_key_is_never_in_two_processes(steps in prop::collection::vec((0..16_u8, 0..NODES, any::<u8>(), any::<bool>()), 1..200)) {
        let mut stage = Stage::new();
        for (what, n, which, flag) in steps {
            let node = node_key(n);
            match what {
                0..=3 => stage.lead(&node),
                4..=7 => stage.arrive(which.into(), which % 4 == 0, (which % 6, flag || which % 3 == 0)),
                8 | 9 => {
                    stage.look();
                    stage.lead_chain();
                }
                10 => stage.by_owner(&node, flag),
                11 => stage.give_back(&node),
                12 => stage.go_on(),
                13 => {
                    let generation = stage.w.state.nodes[&node].generation;
                    let restart = RestartNode { node, generation, reason: "again".into(), accept_outage: true };
                    stage.w.send(actor("oda"), Command::RestartNode(restart));
                }
                _ => stage.sign(),
            }
            stage.check();
        }
        stage.heal();
    }
}

/// One after another, each only once the one before is well; one that its owner is to stop is waited for without end.
#[test]
fn nodes_are_taken_one_after_another() {
    let mut stage = Stage::new();
    stage.look();
    let (mut taken, mut copied) = (Vec::new(), BTreeSet::new());
    for _ in 0..60 {
        if let Step::Do(Act::Roll { node, .. }) = plan_chain(&stage.w.state, &chain_key(), &stage.seen(), stage.w.at) {
            taken.push(node.node.to_string());
        }
        stage.lead_chain();
        (0..NODES).for_each(|n| stage.lead(&node_key(n)));
        while !stage.flying.is_empty() {
            stage.arrive(0, false, (9, true));
        }
        stage.sign();
        stage.look();
        let later = stage.w.at.plus(10 * ROLL_LIMIT_MS);
        let is_waited_for = |stage: &Stage, n: u64| {
            let step = plan_chain(&stage.w.state, &chain_key(), &stage.seen(), later);
            // The last one is behind no other, and never halts it.
            let words = if n + 1 < NODES { format!("n{n} has not come back") } else { format!("n{n} is not well") };
            assert!(matches!(step, Step::Wait { ref reason } if reason.contains(&words)), "{step:?}");
        };
        if taken.len() == 2 && stage.site(&node_key(1)).owner_runs {
            is_waited_for(&stage, 1);
        }
        for n in 0..NODES {
            // However long it takes to copy it; the limit is for what comes after.
            if stage.w.state.nodes[&node_key(n)].moving.as_ref().is_some_and(|it| it.stage == MoveStage::Carry) {
                is_waited_for(&stage, n);
                copied.insert(n);
            }
        }
        for n in [1, 3] {
            if stage.w.state.nodes[&node_key(n)].moving.is_some() {
                stage.by_owner(&node_key(n), false);
            }
        }
    }
    assert_eq!(taken, ["n0", "n1", "n2", "n3"]);
    assert_eq!(copied.len() as u64, NODES, "each was seen while it was copied");
    assert!(stage.w.state.chains[&chain_key()].wish.is_run());
}

/// One that does not get well halts it; its owner has it back with all that was signed since, and nothing else is touched.
#[test]
fn a_node_that_is_not_well_halts_it_and_goes_back() {
    let mut stage = first_is_taken();
    assert!(stage.site(&node_key(0)).runs);
    stage.sign();
    stage.site(&node_key(0)).runs = false;
    stage.look();
    let late = stage.w.at.plus(ROLL_LIMIT_MS);
    let step = plan_chain(&stage.w.state, &chain_key(), &stage.seen(), late);
    assert!(
        matches!(step, Step::Do(Act::HaltRollout { ref reason, .. }) if reason.contains("n0 has not come back")),
        "{step:?}"
    );
    stage.give_back(&node_key(0));
    stage.lead(&node_key(0));
    stage.arrive(0, false, (9, true));
    let site = stage.site(&node_key(0)).clone();
    assert!(site.key_here && site.theirs == 8 && site.ours.is_none(), "{site:?}");
    stage.by_owner(&node_key(0), true);
    stage.look();
    let step = plan_chain(&stage.w.state, &chain_key(), &stage.seen(), stage.w.at);
    assert!(
        matches!(step, Step::Wait { ref reason } if reason.contains("halted: n0 goes back to its owner")),
        "{step:?}"
    );
    stage.heal();
}
