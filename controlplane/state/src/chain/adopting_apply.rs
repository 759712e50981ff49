//! Rules of taking chains of others over: all checks, then all changes.

use std::collections::BTreeSet;

use super::adopting::{AdoptChain, AdoptNode, Adopting, Adoption, EndAdoption, GiveBackNode};
use super::apply::sync;
use super::life::{NodeWish, Wish};
use super::moving::{MoveStage, Moving};
use super::node::{Health, Node, NodeFact, NodeState};
use super::node_apply::{fenced, go, next_on_way, put_node};
use super::template::Template;
use super::{Chain, GENESIS_BYTES_MAX, Genesis, NodeSpec, REASON_MAX, imported_apply, query, rollout_apply};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::digest::Digest;
use crate::host::{self, HostState, PORT_MIN, Reach, TEXT_MAX};
use crate::ids::{ChainKey, NodeKey, TenantId};
use crate::operation::{OperationKind, Work};
use crate::{Rejection, State, billing, check, name};

/// What the vote is about.
pub(super) struct Wanted<'a> {
    pub(super) first_block: &'a str,
    pub(super) nodes: &'a [NodeSpec],
    pub(super) accept_outage: bool,
}

/// Checks that the consortium can agree to it.
pub(super) fn check_vote(state: &State, chain: &Chain, wanted: &Wanted<'_>) -> Result<(), Rejection> {
    const FIELD: &str = "action.change_chain.adopt.nodes";
    let wrong = |needs: &str| Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, needs));
    let template = Template::find(&chain.spec.template, chain.spec.template_version)?;
    if is_begun(chain) {
        return wrong("it is being taken over already");
    }
    let pinned = chain.imported.as_ref().map(|it| it.first_block.as_str()).unwrap_or_default();
    if wanted.first_block != pinned {
        let rule = format!("{pinned}, the first block that it is pinned to");
        return Err(check::invalid("action.change_chain.adopt.first_block", wanted.first_block, rule));
    }
    let count = query::nodes_of(state, &chain.key).count();
    if wanted.nodes.len() != count {
        let rule = format!("{count}, an owner for each of its nodes in their order");
        return Err(check::invalid(FIELD, wanted.nodes.len(), rule));
    }
    check::range(FIELD, count as u64, template.nodes_min as u64, template.nodes_max as u64)?;
    let consortium = crate::consortium::query::get(state, &chain.key.consortium)?;
    if let Some(node) = wanted.nodes.iter().find(|node| !consortium.has_active(&node.owner)) {
        let what = name::consortium(&consortium.id);
        return Err(Rejection::NotAMember { field: FIELD.into(), tenant: node.owner.to_string(), what });
    }
    let field = "action.change_chain.adopt.accept_outage";
    rollout_apply::check_outage_agreed(state, chain, wanted.accept_outage, field)
}

/// Members without whose yes it is not agreed to: who is to own a node.
pub(super) fn owners(nodes: &[NodeSpec]) -> BTreeSet<TenantId> {
    nodes.iter().map(|node| node.owner.clone()).collect()
}

/// The consortium agreed; an operator says where the nodes are.
pub(super) fn agree(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, nodes: &[NodeSpec]) {
    let Some(mut chain) = state.chains.get(key).cloned() else { return };
    let owners = nodes.iter().map(|node| node.owner.clone()).collect();
    chain.adoption = Some(Adoption { owners, agreed_at: cx.now, begun_at: None });
    chain.version += 1;
    state.chains.insert(key.clone(), chain);
    cx.updated(name::chain(key));
    sync(state, cx, key);
}

/// Whether nodes of it are taken over, or about to be.
pub(crate) fn is_begun(chain: &Chain) -> bool {
    chain.adoption.as_ref().is_some_and(|it| it.begun_at.is_some())
}

/// What no order can be given to, and why.
pub(super) fn touches(chain: &Chain) -> &'static str {
    if is_begun(chain) {
        "it is being taken over: wait until every node is the platform's, or give the nodes back"
    } else {
        imported_apply::TOUCHES
    }
}

pub(crate) fn adopt(state: &mut State, cx: &mut Cx<'_>, c: &AdoptChain) -> Result<Outcome, Rejection> {
    let owners = checked(state, c)?;

    let operation = begin_operation(state, cx, &c.chain);
    for (node, owner) in c.nodes.iter().zip(&owners) {
        take_in(state, cx, &c.chain, node, owner);
    }
    if let Some(mut chain) = state.chains.get(&c.chain).cloned() {
        let sha256 = Digest::of(&c.genesis.0);
        chain.genesis = Some(Genesis { bytes: c.genesis.clone(), sha256, recorded_at: cx.now });
        chain.spec.nodes = owners.into_iter().map(|owner| NodeSpec { owner }).collect();
        chain.outfit.settings = c.settings.clone();
        chain.adoption.iter_mut().for_each(|it| it.begun_at = Some(cx.now));
        state.chains.insert(c.chain.clone(), chain);
    }
    rollout_apply::start(state, cx, &c.chain, &c.reason);
    sync(state, cx, &c.chain);
    Ok(Outcome::OperationStarted { resource: name::chain(&c.chain), operation })
}

fn begin_operation(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey) -> crate::ids::OperationId {
    let nodes = query::nodes_of(state, key).map(|node| node.key.node).collect();
    let kind = OperationKind::ChangeChain { chain: key.clone(), work: Work::Adopt, nodes };
    super::life_apply::begin_as(state, cx, key, kind)
}

/// The node is known to be on its host, with the ports it has there; nothing is done to it yet.
fn take_in(state: &mut State, cx: &mut Cx<'_>, chain: &ChainKey, it: &AdoptNode, owner: &TenantId) {
    let key = NodeKey::new(chain.clone(), it.node);
    let Some(mut node) = state.nodes.get(&key).cloned() else { return };
    let Some(endpoint) = node.watched.clone() else { return };
    node.owner = owner.clone();
    node.host = Some(it.host.clone());
    node.identity = Some(it.identity.clone());
    node.p2p_port = it.p2p_port;
    node.rpc_port = it.rpc_port;
    node.ports = it.ports.clone();
    node.signed = node.signed.max(it.signed);
    node.wish = NodeWish::Run;
    node.adopting = Some(Adopting { home: it.home.clone(), stop: it.stop, endpoint, started: false });
    if let Some(host) = state.hosts.get_mut(&it.host) {
        each_port(it).for_each(|port| drop(host.ports.insert(port, key.clone())));
        cx.updated(name::host(&it.host));
    }
    cx.updated(name::node(&key));
    state.nodes.insert(key, node);
}

fn each_port(it: &AdoptNode) -> impl Iterator<Item = u16> {
    [it.p2p_port, it.rpc_port].into_iter().chain(it.ports.values().copied())
}

/// Checks the order, and gives the owners in the order of its nodes.
fn checked(state: &State, c: &AdoptChain) -> Result<Vec<TenantId>, Rejection> {
    check::text("reason", &c.reason, REASON_MAX)?;
    let chain = query::get(state, &c.chain)?;
    let wrong = |needs: &str| Err(check::wrong_state("chain", name::chain(&c.chain), chain.state, needs));
    if chain.wish != Wish::Watch {
        return wrong("only a chain that was imported is taken over");
    }
    let Some(adoption) = &chain.adoption else {
        return wrong(
            "its consortium has not agreed to it: open a vote by `hanse proposal open-change-chain CONSORTIUM CHAIN adopt`",
        );
    };
    if adoption.begun_at.is_some() {
        return wrong("it is being taken over already");
    }
    check::range("genesis", c.genesis.0.len() as u64, 1, GENESIS_BYTES_MAX as u64)?;
    let template = Template::find(&chain.spec.template, chain.spec.template_version)?;
    for (setting, value) in &c.settings {
        template.check_setting("settings", setting, *value)?;
    }
    let known: Vec<&Node> = query::nodes_of(state, &c.chain).collect();
    let named: Vec<_> = c.nodes.iter().map(|it| it.node).collect();
    if named != known.iter().map(|node| node.key.node).collect::<Vec<_>>() {
        let all: Vec<String> = known.iter().map(|node| node.key.node.to_string()).collect();
        let given: Vec<String> = named.iter().map(ToString::to_string).collect();
        let rule = format!("{}: each of its nodes once, in this order", all.join(", "));
        return Err(check::invalid("nodes", given.join(", "), rule));
    }
    for (place, (node, owner)) in c.nodes.iter().zip(&adoption.owners).enumerate() {
        check_node(state, c, place, owner, template)?;
        check_identity(state, &c.nodes[..place], node)?;
    }
    Ok(adoption.owners.clone())
}

fn check_node(
    state: &State,
    c: &AdoptChain,
    place: usize,
    owner: &TenantId,
    template: &Template,
) -> Result<(), Rejection> {
    let (it, before) = (&c.nodes[place], &c.nodes[..place]);
    let field = |last: &str| format!("nodes.{}.{last}", it.node);
    let host = host::query::get(state, &it.host)
        .map_err(|_| Rejection::NotFound { field: field("host"), what: name::host(&it.host) })?;
    let wrong = |needs: &str| Err(check::wrong_state(&field("host"), name::host(&it.host), host.state, needs));
    if host.state != HostState::Ready {
        return wrong("only a host that is ready takes nodes");
    }
    if matches!(host.reach, Reach::Docker { .. }) {
        return wrong("a home is not taken over on a Docker Engine: enrol its machine over SSH");
    }
    if !host.tenancy.takes(owner) {
        return Err(check::invalid(&field("host"), &it.host, format!("a host that takes nodes of tenants/{owner}")));
    }
    let taken: BTreeSet<&NodeKey> = host.ports.values().collect();
    let with_these = taken.len() + before.iter().filter(|other| other.host == it.host).count();
    if with_these as u64 >= u64::from(host.slots) {
        return wrong("it has no slot for one node more");
    }
    check_home(&field("home"), &it.home)?;
    if before.iter().any(|other| other.host == it.host && other.home == it.home) {
        return Err(check::invalid(&field("home"), &it.home, "a home of its own for each node"));
    }
    let names: BTreeSet<&str> = it.ports.keys().map(String::as_str).collect();
    if names != template.ports.iter().copied().collect() {
        let rule = format!("the ports of template {}: {}", template.name, template.ports.join(", "));
        return Err(check::invalid(&field("ports"), names.into_iter().collect::<Vec<_>>().join(", "), rule));
    }
    let own: Vec<u16> = each_port(it).collect();
    let of_others = before.iter().filter(|other| other.host == it.host).flat_map(each_port);
    let of_others: BTreeSet<u16> = of_others.chain(host.ports.keys().copied()).collect();
    for (n, port) in own.iter().enumerate() {
        check::range(&field("port"), u64::from(*port), PORT_MIN.into(), u16::MAX.into())?;
        if of_others.contains(port) || own[..n].contains(port) {
            let rule = format!("a port that no other node has at hosts/{}", host.id);
            return Err(check::invalid(&field("port"), port, rule));
        }
    }
    Ok(())
}

/// A folder that is named whole, so that it means the same wherever it is read.
fn check_home(field: &str, home: &str) -> Result<(), Rejection> {
    check::text(field, home, TEXT_MAX)?;
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    if home.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_part)) {
        return Ok(());
    }
    Err(check::invalid(field, home, "an absolute path without `.`, `..` and empty parts"))
}

/// No node of the platform, of this chain or another, has the key already.
fn check_identity(state: &State, before: &[AdoptNode], it: &AdoptNode) -> Result<(), Rejection> {
    let field = |last: &str| format!("nodes.{}.identity.{last}", it.node);
    check::text(&field("node_id"), &it.identity.node_id, TEXT_MAX)?;
    check::text(&field("public_key"), &it.identity.public_key, TEXT_MAX)?;
    let others = state.nodes.values().filter_map(|node| Some((name::node(&node.key), node.identity.as_ref()?)));
    let named = before.iter().map(|other| (other.node.to_string(), &other.identity));
    match others.chain(named).find(|(_, other)| other.public_key == it.identity.public_key) {
        Some((owner, _)) => {
            let rule = format!("a key that no other node has: {owner} has it");
            Err(check::invalid(&field("public_key"), &it.identity.public_key, rule))
        }
        None => Ok(()),
    }
}

/// The rolling change has come to a node that is its owner's: it is taken, as a new generation.
pub(super) fn take(state: &mut State, cx: &mut Cx<'_>, mut node: Node, number: u64) -> Result<Outcome, Rejection> {
    let (Some(adopting), Some(host)) = (&node.adopting, node.host.clone()) else {
        let needs = "an operator must have said where it is";
        return Err(check::wrong_state("node", name::node(&node.key), node.state, needs));
    };
    let reason = format!("it is taken over from {}", adopting.home);
    let outfit = state.chains.get(&node.key.chain).map(|chain| chain.outfit.clone()).unwrap_or_default();

    node.rolled = number;
    node.outfit = outfit;
    node.watched = None;
    go_through(&mut node, cx, host, MoveStage::Fence, &reason);
    Ok(put_node(state, cx, node))
}

/// A new generation, on the way through the stages of a move within its host.
fn go_through(node: &mut Node, cx: &Cx<'_>, host: crate::ids::HostId, stage: MoveStage, reason: &str) {
    node.generation += 1;
    node.configured = false;
    node.health = Health::Unknown;
    node.intent = None;
    node.restarts.clear();
    node.moving = Some(Moving {
        to: host,
        p2p_port: node.p2p_port,
        rpc_port: node.rpc_port,
        ports: node.ports.clone(),
        stage,
        reason: check::clip(reason, REASON_MAX),
        since: cx.now,
    });
    go(node, cx.now, NodeState::Moving, reason);
}

/// Takes a step that was seen to be done.
///
/// # Errors
/// `WrongState` if another step is awaited.
pub(super) fn advance(cx: &Cx<'_>, node: &mut Node, fact: &NodeFact) -> Result<(), Rejection> {
    let stage = node.moving.as_ref().map(|moving| moving.stage);
    match (fact, stage) {
        (NodeFact::Fenced, Some(MoveStage::Fence)) => {
            node.moving.iter_mut().for_each(|moving| (moving.stage, moving.since) = (MoveStage::Carry, cx.now));
            node.state_reason = String::new();
        }
        (NodeFact::Carried, Some(MoveStage::Carry)) => {
            node.moving = None;
            // What is still under way with the owner's home is refused from here on.
            node.generation += 1;
            let next = next_on_way(node);
            go(node, cx.now, next, "");
        }
        (NodeFact::Returned, Some(MoveStage::Return)) => {
            let adopting = node.adopting.as_ref();
            let home = adopting.map(|it| it.home.clone()).unwrap_or_default();
            node.watched = adopting.map(|it| it.endpoint.clone());
            node.adopting.iter_mut().for_each(|it| it.started = false);
            node.moving = None;
            node.rolled = 0;
            node.generation += 1;
            let words = format!("it was given back: its owner can start it in {home} again");
            go(node, cx.now, NodeState::Watched, &words);
        }
        _ => {
            let needs = "another step of its taking over is awaited";
            return Err(check::wrong_state("fact", name::node(&node.key), node.state, needs));
        }
    }
    node.intent = None;
    Ok(())
}

pub(crate) fn give_back(state: &mut State, cx: &mut Cx<'_>, c: &GiveBackNode) -> Result<Outcome, Rejection> {
    let mut node = fenced(state, &c.node, c.generation)?;
    check::text("reason", &c.reason, REASON_MAX)?;
    let resource = name::node(&c.node);
    let wrong = |needs: &str| Err(check::wrong_state("node", resource.clone(), node.state, needs));
    let (Some(_), Some(host)) = (&node.adopting, node.host.clone()) else {
        return wrong("only a node whose chain is being taken over is given back");
    };
    match node.moving.as_ref().map(|moving| moving.stage) {
        // What was in its way was seen to: it is begun anew.
        Some(MoveStage::Return) if node.state == NodeState::Blocked => {}
        Some(MoveStage::Return) => return Ok(Outcome::Unchanged { resource }),
        Some(MoveStage::Fence | MoveStage::Carry | MoveStage::Clear) => {}
        None if node.watched.is_some() => return wrong("it is its owner's: nothing of it was taken"),
        None => {}
    }

    billing::apply::stop(state, cx, &mut node);
    go_through(&mut node, cx, host, MoveStage::Return, &c.reason);
    let halted = check::clip(&format!("{} goes back to its owner: {}", c.node.node, c.reason), REASON_MAX);
    if let Some(chain) = state.chains.get_mut(&c.node.chain) {
        chain.rollout.iter_mut().for_each(|rollout| rollout.halted = Some(halted.clone()));
        chain.version += 1;
        cx.updated(name::chain(&c.node.chain));
    }
    Ok(put_node(state, cx, node))
}

pub(crate) fn end(state: &mut State, cx: &mut Cx<'_>, c: &EndAdoption) -> Result<Outcome, Rejection> {
    let chain = query::get(state, &c.chain)?;
    let resource = name::chain(&c.chain);
    let wrong = |needs: &str| Err(check::wrong_state("chain", resource.clone(), chain.state, needs));
    if chain.wish == Wish::Run && chain.imported.is_some() {
        return Ok(Outcome::Unchanged { resource });
    }
    if !is_begun(chain) {
        return wrong("it is not being taken over");
    }
    let is_well = |node: &Node| node.state == NodeState::Running && node.health == Health::Healthy;
    if query::nodes_of(state, &c.chain).any(|node| !is_well(node)) {
        return wrong("every node must have been taken over, run and be healthy");
    }

    let nodes: Vec<NodeKey> = query::nodes_of(state, &c.chain).map(|node| node.key.clone()).collect();
    for key in nodes {
        if let Some(node) = state.nodes.get_mut(&key) {
            node.adopting = None;
            cx.updated(name::node(&key));
        }
    }
    if let Some(chain) = state.chains.get_mut(&c.chain) {
        chain.wish = Wish::Run;
        chain.adoption = None;
        chain.version += 1;
        cx.updated(resource.clone());
    }
    sync(state, cx, &c.chain);
    Ok(Outcome::Done { resource })
}
