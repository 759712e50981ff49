//! Rules of imported chains: all checks, then all changes.

use std::collections::{BTreeMap, BTreeSet};

use super::adopting::Adoption;
use super::apply::{check_unclaimed, new_node, sync};
use super::imported::{ENDPOINT_HOST_MAX, ENDPOINTS_MAX, Endpoint, ForgetChain, ImportChain, Imported};
use super::life::{NodeWish, Wish};
use super::node::{Health, Node, NodeState};
use super::template::Template;
use super::{CHAIN_ID_MAX, Chain, ChainSpec, ChainState, NodeSpec, REASON_MAX, query};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::digest::Digest;
use crate::ids::{NodeId, NodeKey, OperationId, ProposalId, ProposalKey};
use crate::{Rejection, State, billing, check, consortium, name, operation};

/// What no order can be given to.
pub(super) const TOUCHES: &str = "it was imported and is only watched: nothing is done to it";

pub(crate) fn import(state: &mut State, cx: &mut Cx<'_>, c: &ImportChain) -> Result<Outcome, Rejection> {
    let spec = checked(state, c)?;

    let proposal = ProposalKey::new(c.chain.consortium.clone(), ProposalId::new(0));
    let chain = Chain {
        key: c.chain.clone(),
        spec,
        artifact_hash: Digest::default(),
        proposal,
        operation: OperationId::new(0),
        state: ChainState::Imported,
        state_reason: "not looked at yet".into(),
        state_since: cx.now,
        genesis: None,
        ran_at: None,
        version: 1,
        created_at: cx.now,
        wish: Wish::Watch,
        change: None,
        rollout: None,
        nodes_ever: 0,
        outfit: super::outfit::Outfit::default(),
        refit: None,
        restarts_per_hour: None,
        adoption: None,
        retired_keys: BTreeSet::new(),
        lost: BTreeSet::new(),
        imported: Some(Imported { first_block: c.first_block.clone(), since: cx.now, reason: c.reason.clone() }),
    };
    cx.created(name::chain(&c.chain));
    state.chains.insert(c.chain.clone(), chain);
    for (number, endpoint) in (0..).zip(&c.endpoints) {
        let key = NodeKey::new(c.chain.clone(), NodeId::new(number));
        cx.created(name::node(&key));
        let node = Node {
            state: NodeState::Watched,
            state_reason: String::new(),
            wish: NodeWish::Watch,
            watched: Some(endpoint.clone()),
            ..new_node(state, cx, key.clone(), c.owner.clone())
        };
        state.nodes.insert(key, node);
    }
    sync(state, cx, &c.chain);
    Ok(Outcome::Done { resource: name::chain(&c.chain) })
}

fn checked(state: &State, c: &ImportChain) -> Result<ChainSpec, Rejection> {
    let consortium = consortium::query::get(state, &c.chain.consortium)?;
    check::text("reason", &c.reason, REASON_MAX)?;
    let template = Template::find_at(&c.template, 1, state.version()).map_err(own_field)?;
    check::range("chain_id", c.chain_id, 1, CHAIN_ID_MAX)?;
    let hex = c.first_block.strip_prefix("0x").unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(check::invalid(
            "first_block",
            &c.first_block,
            "0x and 64 lower-case hex digits, the hash of its first block",
        ));
    }
    if !consortium.has_active(&c.owner) {
        let what = name::consortium(&consortium.id);
        return Err(Rejection::NotAMember { field: "owner".into(), tenant: c.owner.to_string(), what });
    }
    check::range("endpoints", c.endpoints.len() as u64, 1, ENDPOINTS_MAX as u64)?;
    for (place, endpoint) in c.endpoints.iter().enumerate() {
        check_endpoint(template, endpoint)?;
        if c.endpoints[..place].contains(endpoint) {
            return Err(check::invalid("endpoints", endpoint, "each endpoint once"));
        }
    }
    let spec = ChainSpec {
        chain: c.chain.chain.clone(),
        template: template.name.into(),
        template_version: template.version,
        chain_id: c.chain_id,
        parameters: BTreeMap::new(),
        nodes: c.endpoints.iter().map(|_| NodeSpec { owner: c.owner.clone() }).collect(),
        alloc: BTreeMap::new(),
        governance: None,
        anchor: None,
    };
    check_unclaimed(state, consortium, &spec).map_err(own_field)?;
    Ok(spec)
}

/// The rejection with the field by the name that it has here.
fn own_field(rejection: Rejection) -> Rejection {
    let own = |field: String| field.trim_start_matches("action.chain.").to_owned();
    match rejection {
        Rejection::AlreadyExists { field, what } => Rejection::AlreadyExists { field: own(field), what },
        Rejection::NotFound { field, what } => Rejection::NotFound { field: own(field), what },
        other => other,
    }
}

fn check_endpoint(template: &Template, endpoint: &Endpoint) -> Result<(), Rejection> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    let host = endpoint.host.as_str();
    if host.is_empty() || host.len() > ENDPOINT_HOST_MAX || !host.bytes().all(is_name) {
        let rule =
            format!("a host's name or address of 1 to {ENDPOINT_HOST_MAX} letters, digits, dots, colons and hyphens");
        return Err(check::invalid("endpoints.host", host, rule));
    }
    check::range("endpoints.rpc_port", endpoint.rpc_port.into(), 1, u16::MAX.into())?;
    match (template.has_consensus_rpc(), endpoint.consensus_port) {
        (true, Some(port)) => check::range("endpoints.consensus_port", port.into(), 1, u16::MAX.into()),
        (false, None) => Ok(()),
        (true, None) => {
            let rule = format!("given: nodes of template {} say how they are at a port of their own", template.name);
            Err(check::invalid("endpoints.consensus_port", "missing", rule))
        }
        (false, Some(port)) => {
            let rule = format!("left out: nodes of template {} have no such port", template.name);
            Err(check::invalid("endpoints.consensus_port", port, rule))
        }
    }
}

pub(crate) fn forget(state: &mut State, cx: &mut Cx<'_>, c: &ForgetChain) -> Result<Outcome, Rejection> {
    check::text("reason", &c.reason, REASON_MAX)?;
    let chain = query::get(state, &c.chain)?;
    if chain.wish != Wish::Watch {
        let needs = "only an imported chain is forgotten; one of the platform's own is deleted by vote";
        return Err(check::wrong_state("chain", name::chain(&c.chain), chain.state, needs));
    }

    let is_taken = |node: &&Node| node.state != NodeState::Watched;
    let taken: BTreeSet<NodeId> = query::nodes_of(state, &c.chain).filter(is_taken).map(|node| node.key.node).collect();
    if let Some(other) = c.lost.difference(&taken).next() {
        return Err(check::invalid("lost", other, "nodes that were taken over and did not go back"));
    }
    if let Some(node) = taken.difference(&c.lost).next() {
        let needs = format!("{node} was taken over: give it back first, or write it off if its host is lost for good");
        return Err(check::wrong_state("chain", name::chain(&c.chain), chain.state, &needs));
    }

    operation::apply::abandon(state, cx, &c.chain, &format!("its chain was forgotten: {}", c.reason));
    let nodes: Vec<NodeKey> = query::nodes_of(state, &c.chain).map(|node| node.key.clone()).collect();
    for node in nodes {
        if let Some(mut gone) = state.nodes.remove(&node) {
            billing::apply::stop(state, cx, &mut gone);
            // What was seen of it is older than whatever is imported under its name later.
            let newest = state.retired.get(&node.chain).copied().unwrap_or(0).max(gone.generation);
            state.retired.insert(node.chain.clone(), newest);
            release(state, cx, &gone);
        }
        cx.deleted(name::node(&node));
    }
    state.chains.remove(&c.chain);
    cx.deleted(name::chain(&c.chain));
    Ok(Outcome::Done { resource: name::chain(&c.chain) })
}

/// Of one that was to be taken over: the ports that were kept for it.
fn release(state: &mut State, cx: &mut Cx<'_>, gone: &Node) {
    if let Some(host) = gone.host.as_ref().and_then(|id| state.hosts.get_mut(id)) {
        host.ports.retain(|_, taken_by| *taken_by != gone.key);
        cx.updated(name::host(&host.id));
    }
}

/// State and reason of an imported chain.
pub(super) fn state_of(nodes: &[&Node], adoption: Option<&Adoption>) -> (ChainState, String) {
    let well = nodes.iter().filter(|node| node.health == Health::Healthy).count();
    let count = nodes.len();
    let ill = nodes.iter().filter(|node| !node.state_reason.is_empty());
    let ill: Vec<String> = ill.map(|node| format!("{}: {}", node.key.node, node.state_reason)).collect();
    let words = if ill.is_empty() { String::new() } else { format!("; {}", ill.join("; ")) };
    let taken = nodes.iter().filter(|node| node.adopting.is_some() && node.state == NodeState::Running).count();
    let what = match adoption {
        None => "it is only watched".to_owned(),
        Some(Adoption { begun_at: None, .. }) => {
            "it is only watched; its consortium agreed that it is taken over, and an operator says where its nodes are"
                .into()
        }
        Some(Adoption { begun_at: Some(_), .. }) => {
            format!("it is being taken over; {taken} of {count} nodes are the platform's")
        }
    };
    let reason = format!("{what}; {well} of {count} nodes are healthy{words}");
    (ChainState::Imported, check::clip(&reason, REASON_MAX))
}
