//! What is tried: the life of a chain, one change at a time, as people order it.

use std::collections::BTreeSet;

use hanse_state::State;
use hanse_state::chain::life::{Change, ChangeChain, NodeWish, PauseChain, ResumeChain};
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::chain::rollout::RollChain;
use hanse_state::consortium::proposal::Action;
use hanse_state::ids::{ChainId, ChainKey, NodeId};
use hanse_state::{Command, chain};

use super::{changes, machines};
use crate::client::Client;
use crate::workload::{self, MEMBERS, Wish};

/// Time between a deletion and the removal: enough that every node is seen to be stopped, however late a call comes.
const GRACE_MS: u64 = 12_000;
/// Longer than any call is on its way.
const REST: std::time::Duration = std::time::Duration::from_secs(10);
/// The object of the node that dies.
const DIES: &str = "trade.chain-1.n0";
/// How long a cloud may not show a machine that it was asked for (the reconcilers' own limit).
const UNSEEN_MS: u64 = 5 * 60 * 1_000;
/// Nodes of the chain at first.
const NODES: usize = MEMBERS.len();

/// One change of a chain's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A chain of four nodes is made.
    Create,
    /// Two nodes join it.
    Add,
    /// One of them leaves.
    Remove,
    /// Every node is configured and started anew, one after another: as an upgrade does it.
    Roll,
    /// A setting of its nodes is changed by vote.
    Refit,
    /// The same to what no node starts with, which halts; then it is rolled back.
    RollBack,
    /// A node moves to another host, with its key.
    Move,
    /// A host is drained: its nodes move away, one after another.
    Drain,
    /// A host is out of reach, and its node's key is given up; then the host answers again.
    GiveUp,
    /// A node that follows becomes a validator by vote.
    Seat,
    /// It becomes one that follows again.
    Unseat,
    /// It is paused.
    Pause,
    /// It runs again.
    Resume,
    /// A node dies and is started again.
    Repair,
    /// It is deleted, and removed after its grace.
    Delete,
    /// It is deleted, and ten seconds after it is gone another one gets its name.
    Again,
    /// The same the moment it is gone: what is still on its way to a host then reaches the new chain.
    AtOnce,
    /// Things that nobody asks for are on the hosts, beside those of others.
    Orphans,
    /// Two machines of a cloud are ordered and become hosts.
    Order,
    /// One is ordered, and deleted while it is made.
    Withdraw,
    /// Two are deleted, and with the last one what they shared.
    Discard,
    /// One is deleted, and the moment it is gone another is ordered under its name.
    Reorder,
    /// The cloud ends one by itself, and a person deletes it.
    Lost,
    /// The cloud has what nobody ordered, a second one of a token, and a stranger's.
    Strays,
}

impl Stage {
    /// Every stage that must hold.
    pub const ALL: [Self; 24] = [
        Self::Create,
        Self::Add,
        Self::Remove,
        Self::Roll,
        Self::Refit,
        Self::RollBack,
        Self::Move,
        Self::Drain,
        Self::GiveUp,
        Self::Seat,
        Self::Unseat,
        Self::Pause,
        Self::Resume,
        Self::Repair,
        Self::Delete,
        Self::Again,
        Self::AtOnce,
        Self::Orphans,
        Self::Order,
        Self::Withdraw,
        Self::Discard,
        Self::Reorder,
        Self::Lost,
        Self::Strays,
    ];

    /// Its name on the command line and in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Roll => "roll",
            Self::Refit => "refit",
            Self::RollBack => "roll-back",
            Self::Move => "move",
            Self::Drain => "drain",
            Self::GiveUp => "give-up",
            Self::Seat => "seat",
            Self::Unseat => "unseat",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Repair => "repair",
            Self::Delete => "delete",
            Self::Again => "again",
            Self::AtOnce => "at-once",
            Self::Orphans => "orphans",
            Self::Order => "order",
            Self::Withdraw => "withdraw",
            Self::Discard => "discard",
            Self::Reorder => "reorder",
            Self::Lost => "lost",
            Self::Strays => "strays",
        }
    }

    /// Whether it is about machines of a cloud and not about nodes of a chain.
    pub(crate) const fn is_of_machines(self) -> bool {
        match self {
            Self::Order | Self::Withdraw | Self::Discard | Self::Reorder | Self::Lost | Self::Strays => true,
            Self::Create | Self::Add | Self::Remove | Self::Roll | Self::Pause | Self::Resume | Self::Repair => false,
            Self::Refit | Self::RollBack | Self::Move | Self::Drain | Self::GiveUp | Self::Seat | Self::Unseat => false,
            Self::Delete | Self::Again | Self::AtOnce | Self::Orphans => false,
        }
    }

    /// How much longer than other stages it may take: a machine that was never seen counts as gone only after that time.
    pub(crate) const fn patience_ms(self) -> u64 {
        if matches!(self, Self::Withdraw) { UNSEEN_MS } else { 0 }
    }

    /// Whether its acts wait for each other, so that where each is late the stage takes as much longer as they are many.
    pub(crate) const fn is_one_by_one(self) -> bool {
        matches!(self, Self::Roll | Self::Refit | Self::RollBack | Self::Move | Self::Drain | Self::GiveUp)
    }

    /// Whether the cloud's habit decides which steps it takes: what is deleted while it is made may be there or not.
    pub(crate) const fn is_a_race(self) -> bool {
        matches!(self, Self::Withdraw)
    }

    /// What is missing before it has come to its end; `None` if nothing.
    pub(crate) fn missing(self, state: &State) -> Option<String> {
        if self.is_of_machines() {
            return machines::missing(self, state);
        }
        let key = key();
        let nodes: Vec<&Node> = chain::query::nodes_of(state, &key).collect();
        let (count, wish) = match self {
            Self::Create | Self::Roll | Self::Resume | Self::Repair | Self::AtOnce | Self::Again | Self::Orphans => {
                (NODES, NodeWish::Run)
            }
            Self::Refit | Self::RollBack | Self::Move | Self::Drain | Self::GiveUp => (NODES, NodeWish::Run),
            Self::Add => (NODES + 2, NodeWish::Run),
            Self::Remove | Self::Seat | Self::Unseat => (NODES + 1, NodeWish::Run),
            Self::Pause => (NODES, NodeWish::Stop),
            Self::Delete => (0, NodeWish::Run),
            Self::Order | Self::Withdraw | Self::Discard | Self::Reorder | Self::Lost | Self::Strays => {
                unreachable!("such a stage is about machines")
            }
        };
        if nodes.len() != count || nodes.iter().any(|node| node.wish != wish) {
            return Some(format!("{} nodes are there, {count} are to {wish:?}", nodes.len()));
        }
        if self == Self::Delete && state.chains.contains_key(&key) {
            return Some("the chain is still there".into());
        }
        if self == Self::Roll && nodes.iter().any(|node| node.rolled == 0) {
            return Some("a node was not rolled".into());
        }
        if let Some(missing) = changes::missing(self, state, &nodes) {
            return Some(missing);
        }
        let is_so = |node: &Node| match node.wish {
            NodeWish::Stop => node.state == NodeState::Stopped,
            NodeWish::Run | NodeWish::Leave | NodeWish::Remove => is_well(node),
            NodeWish::Watch => node.state == NodeState::Watched,
        };
        let other = nodes.iter().find(|node| !is_so(node));
        other.map(|it| format!("{} is {:?} and {:?}: {}", it.key, it.state, it.health, it.state_reason))
    }
}

/// The chain of every stage.
pub(crate) fn key() -> ChainKey {
    ChainKey::new(workload::consortium(), ChainId::parse("chain-1").expect("a fixed name"))
}

fn is_well(node: &Node) -> bool {
    node.state == NodeState::Running && node.health == Health::Healthy
}

fn runs(state: &State, count: usize) -> bool {
    let key = key();
    let nodes: Vec<&Node> = chain::query::nodes_of(state, &key).collect();
    nodes.len() == count && nodes.iter().all(|node| is_well(node))
}

fn no_work(state: &State) -> bool {
    state.operations.values().all(|it| it.state != hanse_state::operation::OperationState::Running)
}

impl Client {
    /// Plays one stage: what must be there first, then, with the trap armed, what is tried.
    pub(crate) async fn play(&mut self, stage: Stage) {
        if stage.is_of_machines() {
            self.play_machines(stage).await;
        } else {
            self.play_chain(stage).await;
        }
        self.shared.world().played = true;
        std::future::pending::<()>().await;
    }

    async fn play_chain(&mut self, stage: Stage) {
        for wish in workload::founding() {
            self.insist(wish).await;
        }
        if stage == Stage::Create {
            self.arm();
        }
        if matches!(stage, Stage::Seat | Stage::Unseat) {
            self.vote(workload::action_of("cosmos-evm", 1, NODES)).await;
        } else {
            self.make_chain().await;
        }
        if stage != Stage::Create {
            self.settled(NODES).await;
        }
        match stage {
            Stage::Create => {}
            Stage::Add => {
                self.arm();
                self.change(add(2)).await;
            }
            Stage::Remove => {
                self.change(add(2)).await;
                self.settled(NODES + 2).await;
                self.arm();
                self.change(Change::RemoveNodes { nodes: vec![NodeId::new(4)], accept_outage: false }).await;
            }
            Stage::Roll => {
                self.arm();
                let roll = RollChain { chain: key(), reason: "a newer program".into(), accept_outage: false };
                self.insist(workload::by_root(Command::RollChain(roll))).await;
            }
            Stage::Seat | Stage::Unseat => self.play_seat(stage).await,
            Stage::Refit | Stage::RollBack | Stage::Move | Stage::Drain | Stage::GiveUp => {
                self.play_change(stage).await;
            }
            Stage::Pause => {
                self.arm();
                self.pause().await;
            }
            Stage::Resume => self.play_resume().await,
            Stage::Repair => {
                self.arm();
                let mut world = self.shared.world();
                world.hosts.end(DIES);
                world.say(&format!("{DIES} dies"));
            }
            Stage::Delete => {
                self.arm();
                self.change(Change::Delete { grace_ms: GRACE_MS }).await;
            }
            Stage::Again | Stage::AtOnce => {
                self.arm();
                self.change(Change::Delete { grace_ms: GRACE_MS }).await;
                self.until(|state| !state.chains.contains_key(&key())).await;
                if stage == Stage::Again {
                    tokio::time::sleep(REST).await;
                }
                self.make_chain().await;
            }
            Stage::Orphans => {
                self.arm();
                let cluster = workload::cluster().to_string();
                self.shared.world().hosts.plant(&cluster);
            }
            Stage::Order | Stage::Withdraw | Stage::Discard | Stage::Reorder | Stage::Lost | Stage::Strays => {
                unreachable!("such a stage is about machines")
            }
        }
    }

    async fn play_resume(&mut self) {
        self.pause().await;
        let rests = |state: &State| chain::query::nodes_of(state, &key()).all(|it| it.state == NodeState::Stopped);
        self.until(|state| rests(state) && no_work(state)).await;
        self.arm();
        let resume = ResumeChain { chain: key(), reason: "by hand".into() };
        self.insist(workload::by_root(Command::ResumeChain(resume))).await;
    }

    pub(super) fn arm(&self) {
        let mut world = self.shared.world();
        world.trap.arm();
        // What was there before has met the habit; what is tried meets it too.
        world.hosts.sky.begin_anew();
        world.provider.begin_anew();
        world.say("what is tried begins");
    }

    /// Waits until so many nodes run and no operation does.
    pub(super) async fn settled(&mut self, nodes: usize) {
        self.until(|state| runs(state, nodes) && no_work(state)).await;
    }

    pub(super) async fn until(&mut self, is_so: impl Fn(&State) -> bool) {
        while !self.read(true).await.is_some_and(|state| is_so(&state)) {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }

    async fn make_chain(&mut self) {
        self.vote(workload::action(1, NODES)).await;
    }

    async fn pause(&mut self) {
        let pause = PauseChain { chain: key(), reason: "by hand".into() };
        self.insist(workload::by_root(Command::PauseChain(pause))).await;
    }

    pub(super) async fn change(&mut self, change: Change) {
        let Some(ordered_by) = self.ordered_by().await else { return };
        self.vote(Action::ChangeChain(ChangeChain { chain: key().chain, ordered_by, change })).await;
    }

    async fn ordered_by(&mut self) -> Option<hanse_state::ids::ProposalId> {
        loop {
            if let Some(state) = self.read(true).await {
                return state.chains.get(&key()).map(|chain| chain.proposal.proposal);
            }
        }
    }

    /// A vote on `action`, and everybody's yes.
    async fn vote(&mut self, action: Action) {
        let wish: Wish = workload::open(MEMBERS[0], action);
        self.insist(wish).await;
        let wishes = self.plans().all_agree();
        for wish in wishes {
            self.insist(wish).await;
        }
    }
}

pub(super) fn add(count: usize) -> Change {
    let owners: BTreeSet<&str> = MEMBERS.iter().take(count).copied().collect();
    let nodes = owners.into_iter().map(workload::node_of).collect();
    Change::AddNodes { nodes, accept_outage: false }
}
