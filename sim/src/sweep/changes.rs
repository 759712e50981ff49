//! What is tried with what a chain's nodes run and where: settings by vote, and moves.

use hanse_state::Command;
use hanse_state::State;
use hanse_state::chain::life::Change;
use hanse_state::chain::moving::MoveNode;
use hanse_state::chain::node::Node;
use hanse_state::chain::outfit::RollBackChain;
use hanse_state::host::care::DrainHost;
use hanse_state::ids::{NodeId, NodeKey};

use super::stage::{Stage, add, key};
use crate::client::Client;
use crate::hosts::{SETTING, SETTING_BAD};
use crate::workload;

/// The host that is left, and the one that is gone to.
const FROM: &str = "h1";
const TO: &str = "h4";
/// The node whose seat is changed.
const LAST: NodeId = NodeId::new(4);
/// What the setting is changed to.
const SETTING_GOOD: u64 = 4_000;
/// In which time a node must be well again, or the change halts.
const LIMIT_MS: u64 = 20_000;
/// How long a host that is given up is out of reach: longer than the new node takes.
const AWAY_MS: u64 = 12_000;

/// What is missing before such a stage has come to its end; `None` if nothing.
pub(super) fn missing(stage: Stage, state: &State, nodes: &[&Node]) -> Option<String> {
    let setting = |node: &Node| node.outfit.settings.get(SETTING).copied();
    let other = |wished: Option<u64>| nodes.iter().find(|node| setting(node) != wished);
    let first = nodes.iter().find(|node| node.key.node == NodeId::new(0));
    let on = |host: &str| nodes.iter().filter(|node| node.host.as_ref().is_some_and(|it| it.as_str() == host)).count();
    if let Some(node) = nodes.iter().find(|node| node.moving.is_some()) {
        return Some(format!("{} moves: {:?}, {}", node.key, node.moving, node.state_reason));
    }
    let rollout = state.chains.get(&key()).and_then(|chain| chain.rollout.as_ref());
    if let Some(node) = nodes.iter().find(|node| node.rolled < rollout.map_or(0, |it| it.number)) {
        return Some(format!("{} has not been told: {rollout:?}", node.key));
    }
    match stage {
        Stage::Refit => other(Some(SETTING_GOOD)).map(|node| format!("{} has {SETTING} {:?}", node.key, setting(node))),
        Stage::Seat | Stage::Unseat => {
            let wished = stage == Stage::Seat;
            let last = nodes.iter().find(|node| node.key.node == LAST);
            let is_so =
                last.is_some_and(|node| node.seat.as_ref().is_some_and(|it| (it.wished, it.held) == (wished, wished)));
            (!is_so).then(|| format!("the seat of the last node is {:?}", last.map(|node| &node.seat)))
        }
        Stage::RollBack => other(None).map(|node| format!("{} has {SETTING} {:?}", node.key, setting(node))),
        Stage::Move | Stage::GiveUp
            if first.is_none_or(|node| node.host.as_ref().is_none_or(|it| it.as_str() != TO)) =>
        {
            Some(format!("the node is not on {TO}"))
        }
        Stage::Drain if on(FROM) > 0 => Some(format!("{} nodes are on {FROM}", on(FROM))),
        _ => {
            state.hosts.values().find(|host| !host.evicted.is_empty()).map(|host| format!("{} is not cleared", host.id))
        }
    }
}

impl Client {
    /// Plays one stage of changes.
    pub(super) async fn play_change(&mut self, stage: Stage) {
        if matches!(stage, Stage::Move | Stage::Drain | Stage::GiveUp) {
            self.insist(workload::enrol(TO)).await;
        }
        self.arm();
        match stage {
            Stage::Refit => self.set(SETTING_GOOD).await,
            Stage::RollBack => {
                self.set(SETTING_BAD).await;
                let halted = |state: &State| {
                    let chain = state.chains.get(&key());
                    chain.and_then(|chain| chain.rollout.as_ref()).is_some_and(|it| it.halted.is_some())
                };
                self.until(halted).await;
                let back =
                    RollBackChain { chain: key(), reason: "no node starts".into(), accept_risk: true, number: None };
                self.insist(workload::by_root(Command::RollBackChain(back))).await;
            }
            Stage::Move => self.move_first(false).await,
            Stage::Drain => {
                let drain = DrainHost { host: workload::host_id(FROM), reason: "by hand".into(), accept_outage: false };
                self.insist(workload::by_root(Command::DrainHost(drain))).await;
            }
            Stage::GiveUp => {
                {
                    let mut world = self.shared.world();
                    let until_ms = world.now_ms + AWAY_MS;
                    world.hosts.down_at(&format!("{FROM}.example"), until_ms);
                    world.say(&format!("{FROM} is out of reach"));
                }
                self.move_first(true).await;
            }
            other => unreachable!("{} is no such change", other.name()),
        }
    }

    /// Plays one stage of seats: of the fifth node, which follows.
    pub(super) async fn play_seat(&mut self, stage: Stage) {
        self.change(add(1)).await;
        self.settled(5).await;
        if stage == Stage::Seat {
            self.arm();
        }
        self.change(Change::AddValidators { nodes: vec![LAST], accept_outage: false }).await;
        if stage == Stage::Unseat {
            let seated = |state: &State| {
                let node = state.nodes.get(&NodeKey::new(key(), LAST));
                node.is_some_and(|node| node.seat.as_ref().is_some_and(|seat| seat.held))
            };
            self.until(seated).await;
            self.settled(5).await;
            self.arm();
            self.change(Change::RemoveValidators { nodes: vec![LAST], accept_outage: false }).await;
        }
    }

    async fn set(&mut self, value: u64) {
        let settings = [(SETTING.to_owned(), value)].into();
        self.change(Change::Reconfigure { settings, limit_ms: Some(LIMIT_MS), accept_outage: false }).await;
    }

    /// Moves the first node, which is on the host that is left.
    async fn move_first(&mut self, lost: bool) {
        let node = NodeKey::new(key(), NodeId::new(0));
        loop {
            let Some(state) = self.read(true).await else { continue };
            let Some(seen) = state.nodes.get(&node) else { return };
            if seen.moving.is_some() || seen.host.as_ref().is_some_and(|host| host.as_str() == TO) {
                return;
            }
            let (generation, to) = (seen.generation, workload::host_id(TO));
            let order =
                MoveNode { node: node.clone(), generation, to, reason: "by hand".into(), accept_outage: false, lost };
            self.insist(workload::by_root(Command::MoveNode(order))).await;
        }
    }
}
