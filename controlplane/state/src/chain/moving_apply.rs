//! Rules of moves: all checks, then all changes.

use super::apply::sync;
use super::life_apply::check_runs;
use super::moving::{MoveNode, MoveStage, Moving, RecordEvicted};
use super::node::{Health, Node, NodeFact};
use super::node_apply::{check_spared, fenced, go, next_on_way};
use super::{REASON_MAX, height_apply, query, rollout_apply};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::host::placement::{self, Place};
use crate::host::{self, HostState, PORTS_PER_NODE, Reach};
use crate::ids::{HostId, NodeKey, OperationId};
use crate::operation::{OperationKind, Work};
use crate::{Rejection, State, billing, check, name};

pub(crate) fn order(state: &mut State, cx: &mut Cx<'_>, c: &MoveNode) -> Result<Outcome, Rejection> {
    let node = fenced(state, &c.node, c.generation)?;
    check::text("reason", &check::clip(&c.reason, REASON_MAX), REASON_MAX)?;
    if node.adopting.is_some() {
        let needs = "its chain is being taken over: it can go to another host afterwards";
        return Err(check::wrong_state("node", name::node(&c.node), node.state, needs));
    }
    if let Some(moving) = &node.moving {
        if !c.lost && node.host.as_ref() == Some(&c.to) {
            return take_back(state, cx, node);
        }
        if !c.lost && moving.to == c.to {
            return Ok(Outcome::Unchanged { resource: name::node(&c.node) });
        }
    }
    check_node(state, &node, c)?;
    let place = check_target(state, &node, c)?;

    if c.lost { give_up(state, cx, node, place, &c.reason) } else { begin(state, cx, node, place, &c.reason) }
}

/// Checks that the node can leave its host.
fn check_node(state: &State, node: &Node, c: &MoveNode) -> Result<(), Rejection> {
    let chain = query::get(state, &node.key.chain)?;
    check_runs(chain)?;
    let wrong = |needs: &str| Err(check::wrong_state("node", name::node(&node.key), node.state, needs));
    match (&node.moving, c.lost) {
        (Some(Moving { stage: MoveStage::Clear, .. }), true) => {
            return wrong(
                "its key is at its new host already, and starts there once the old one, which has fenced it, answers",
            );
        }
        (Some(moving), false) => return wrong(&format!("it moves to hosts/{} already", moving.to)),
        (Some(_), true) | (None, _) => {}
    }
    if !node.wish.is_run() || node.identity.is_none() || node.host.is_none() {
        return wrong("only a node that is wished to run and has its keys on a host is moved");
    }
    let other = query::nodes_of(state, &node.key.chain).find(|it| it.moving.is_some() && it.key != node.key);
    if let Some(other) = other {
        return wrong(&format!("{} of its chain moves, and one moves at a time", other.key.node));
    }
    rollout_apply::check_none_under_way(state, chain)?;
    if c.lost {
        return height_apply::check_mendable(chain);
    }
    height_apply::check_none(chain)?;
    // The others are started anew once it is there.
    rollout_apply::check_outage_agreed(state, chain, c.accept_outage, "accept_outage")?;
    if c.accept_outage { Ok(()) } else { check_spared(state, node) }
}

/// Checks that the node can go there, and gives its place.
fn check_target(state: &State, node: &Node, c: &MoveNode) -> Result<Place, Rejection> {
    let host = host::query::get(state, &c.to)
        .map_err(|_| Rejection::NotFound { field: "to".into(), what: name::host(&c.to) })?;
    let wrong = |needs: &str| Err(check::wrong_state("to", name::host(&c.to), host.state, needs));
    let left_there = node.moving.as_ref().is_some_and(|moving| moving.to == c.to);
    if node.host.as_ref() == Some(&c.to) || left_there {
        return Err(check::invalid("to", &c.to, "another host than those that it is on or half on"));
    }
    if host.evicted.contains_key(&node.key) {
        return wrong("what is left there of this node is not removed yet");
    }
    if host.state != HostState::Ready {
        return wrong("only a host that is ready takes nodes");
    }
    if !host.tenancy.takes(&node.owner) {
        return Err(check::invalid("to", &c.to, format!("a host that takes nodes of tenants/{}", node.owner)));
    }
    let carries = |host: &host::Host| !matches!(host.reach, Reach::Docker { .. });
    let from = node.host.as_ref().and_then(|id| state.hosts.get(id));
    if !(c.lost || carries(host) && from.is_none_or(carries)) {
        return wrong(
            "a home is not carried to or from a Docker Engine yet: make a new node there by vote, and let this one leave",
        );
    }
    let names = query::ports_of(state, &node.key.chain);
    let ports = PORTS_PER_NODE.saturating_add(u32::try_from(names.len()).unwrap_or(u32::MAX));
    let place = (placement::slots_for(host, ports) > 0).then(|| placement::at(host, names)).flatten();
    place.map_or_else(|| wrong("it has no slot for one node more"), Ok)
}

fn begin(state: &mut State, cx: &mut Cx<'_>, mut node: Node, place: Place, reason: &str) -> Result<Outcome, Rejection> {
    reserve(state, cx, &node.key, &place);
    let reason = check::clip(reason, REASON_MAX);
    node.moving = Some(Moving {
        to: place.host,
        p2p_port: place.p2p_port,
        rpc_port: place.rpc_port,
        ports: place.ports,
        stage: MoveStage::Fence,
        reason: reason.clone(),
        since: cx.now,
    });
    node.configured = false;
    anew(state, cx, &mut node, &reason);
    Ok(put_started(state, cx, node))
}

/// The host is lost and the key with it: a new one is made at the other host, and what is left is never run again.
fn give_up(
    state: &mut State,
    cx: &mut Cx<'_>,
    mut node: Node,
    place: Place,
    reason: &str,
) -> Result<Outcome, Rejection> {
    reserve(state, cx, &node.key, &place);
    let left = [node.host.clone(), node.moving.as_ref().map(|moving| moving.to.clone())];
    for id in left.into_iter().flatten() {
        evict(state, cx, &id, &node);
    }
    let before = state.chains.get(&node.key.chain).and_then(|chain| chain.rollout.clone());
    let number = rollout_apply::start_as_is(state, cx, &node.key.chain, reason);
    if let Some(chain) = state.chains.get_mut(&node.key.chain) {
        height_apply::carry_on(chain, number, before);
    }
    super::seat_apply::lose(state, &node);
    super::seat_apply::retire(state, &node);
    node.moving = None;
    node.seat = None;
    node.identity = None;
    node.configured = false;
    node.signed = None;
    (node.joined, node.rolled) = (number, number);
    node.halt = None;
    if let Some(chain) = state.chains.get(&node.key.chain) {
        height_apply::begin_again(chain, &mut node);
    }
    settle(&mut node, place);
    anew(state, cx, &mut node, reason);
    let (resource, chain) = (name::node(&node.key), node.key.chain.clone());
    state.nodes.insert(node.key.clone(), node);
    cx.updated(resource.clone());
    let operation = super::life_apply::begin(state, cx, &chain, Work::Replace);
    sync(state, cx, &chain);
    Ok(Outcome::OperationStarted { resource, operation })
}

/// What was begun goes no further: a new generation, from where the node is on its way.
fn anew(state: &mut State, cx: &mut Cx<'_>, node: &mut Node, reason: &str) {
    billing::apply::stop(state, cx, node);
    node.generation += 1;
    node.intent = None;
    node.health = Health::Unknown;
    node.restarts.clear();
    let next = next_on_way(node);
    go(node, cx.now, next, reason);
}

fn put_started(state: &mut State, cx: &mut Cx<'_>, node: Node) -> Outcome {
    let (key, resource) = (node.key.clone(), name::node(&node.key));
    state.nodes.insert(key.clone(), node);
    cx.updated(resource.clone());
    let operation = operation(state, cx, &key, Work::Move);
    sync(state, cx, &key.chain);
    Outcome::OperationStarted { resource, operation }
}

/// The operation of a move takes the place of whatever was under way with the chain.
fn operation(state: &mut State, cx: &mut Cx<'_>, key: &NodeKey, work: Work) -> OperationId {
    let (chain, nodes) = (key.chain.clone(), vec![key.node]);
    let kind = OperationKind::ChangeChain { chain: chain.clone(), work, nodes };
    super::life_apply::begin_as(state, cx, &chain, kind)
}

fn take_back(state: &mut State, cx: &mut Cx<'_>, mut node: Node) -> Result<Outcome, Rejection> {
    let stage = node.moving.as_ref().map(|moving| moving.stage);
    if stage != Some(MoveStage::Fence) {
        let needs = "its home is being carried over, so it goes on to its new host";
        return Err(check::wrong_state("node", name::node(&node.key), node.state, needs));
    }

    if let Some(moving) = node.moving.take() {
        release(state, cx, &moving.to, &node.key);
    }
    anew(state, cx, &mut node, "its move was taken back");
    let (resource, chain) = (name::node(&node.key), node.key.chain.clone());
    state.nodes.insert(node.key.clone(), node.clone());
    cx.updated(resource.clone());
    // The move has not succeeded: what goes on is that it runs where it was.
    let operation = operation(state, cx, &node.key, if node.wish.is_run() { Work::Resume } else { Work::Pause });
    sync(state, cx, &chain);
    Ok(Outcome::OperationStarted { resource, operation })
}

/// Takes a step of the move that was seen to be done.
///
/// # Errors
/// `WrongState` if another step is awaited.
pub(super) fn advance(state: &mut State, cx: &mut Cx<'_>, node: &mut Node, fact: &NodeFact) -> Result<(), Rejection> {
    if node.adopting.is_some() {
        return super::adopting_apply::advance(cx, node, fact);
    }
    let stage = node.moving.as_ref().map(|moving| moving.stage);
    let next = match (fact, stage) {
        (NodeFact::Fenced, Some(MoveStage::Fence)) => Some(MoveStage::Carry),
        (NodeFact::Carried, Some(MoveStage::Carry)) => Some(MoveStage::Clear),
        (NodeFact::Cleared, Some(MoveStage::Clear)) => None,
        _ => {
            let needs = "another step of its move is awaited";
            return Err(check::wrong_state("fact", name::node(&node.key), node.state, needs));
        }
    };

    node.intent = None;
    node.state_reason = String::new();
    match (next, &mut node.moving) {
        (Some(next), Some(moving)) => moving.stage = next,
        (Some(_), None) | (None, _) => arrive(state, cx, node),
    }
    Ok(())
}

/// The node belongs to its new host, and is configured and started there.
fn arrive(state: &mut State, cx: &mut Cx<'_>, node: &mut Node) {
    let Some(moving) = node.moving.take() else { return };
    if let Some(left) = node.host.clone() {
        release(state, cx, &left, &node.key);
    }
    let Moving { to, p2p_port, rpc_port, ports, .. } = moving;
    settle(node, Place { host: to, p2p_port, rpc_port, ports });
    node.configured = false;
    node.generation += 1;
    // The others look for it where it was: they are told, one after another.
    let reason = format!("{} is at hosts/{} now", node.key.node, node.host.as_ref().map_or("", |id| id.as_str()));
    node.rolled = rollout_apply::start_for(state, cx, &node.key, &reason);
    let next = next_on_way(node);
    go(node, cx.now, next, "");
    host::apply::place_waiting(state, cx);
}

fn settle(node: &mut Node, place: Place) {
    node.host = Some(place.host);
    node.p2p_port = place.p2p_port;
    node.rpc_port = place.rpc_port;
    node.ports = place.ports;
}

fn reserve(state: &mut State, cx: &mut Cx<'_>, key: &NodeKey, place: &Place) {
    if let Some(host) = state.hosts.get_mut(&place.host) {
        place.each().for_each(|port| drop(host.ports.insert(port, key.clone())));
        cx.updated(name::host(&place.host));
    }
}

fn release(state: &mut State, cx: &mut Cx<'_>, id: &HostId, key: &NodeKey) {
    if let Some(host) = state.hosts.get_mut(id) {
        host.ports.retain(|_, taken_by| taken_by != key);
        cx.updated(name::host(id));
    }
}

/// What is left there keeps its ports until it is gone, and is never run again.
fn evict(state: &mut State, cx: &mut Cx<'_>, id: &HostId, node: &Node) {
    if let Some(host) = state.hosts.get_mut(id) {
        host.evicted.insert(node.key.clone(), node.generation);
        cx.updated(name::host(id));
    }
}

pub(crate) fn evicted(state: &mut State, cx: &mut Cx<'_>, c: &RecordEvicted) -> Result<Outcome, Rejection> {
    let resource = name::host(&c.host);
    if !host::query::get(state, &c.host)?.evicted.contains_key(&c.node) {
        return Ok(Outcome::Unchanged { resource });
    }

    if let Some(host) = state.hosts.get_mut(&c.host) {
        host.evicted.remove(&c.node);
    }
    release(state, cx, &c.host, &c.node);
    host::apply::place_waiting(state, cx);
    Ok(Outcome::Done { resource })
}
