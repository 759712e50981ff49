//! Reads of this area, from a snapshot of the state.

use super::Chain;
use super::node::Node;
use super::template::Template;
use crate::ids::{ChainKey, ConsortiumId, NodeKey};
use crate::page::{Page, page};
use crate::{Rejection, State, name};

/// Returns the chain.
///
/// # Errors
/// `NotFound`.
pub fn get<'a>(state: &'a State, key: &ChainKey) -> Result<&'a Chain, Rejection> {
    state.chains.get(key).ok_or_else(|| Rejection::NotFound { field: "chain".into(), what: name::chain(key) })
}

/// Returns chains, of one consortium or of all, after key `after`, at most `limit`.
///
/// # Errors
/// `InvalidName` if `after` is not a key.
pub fn list(
    state: &State,
    of: Option<&ConsortiumId>,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Chain>, Rejection> {
    page(&state.chains, after, limit, |key, _| of.is_none_or(|of| key.consortium == *of))
}

/// Returns the node.
///
/// # Errors
/// `NotFound`.
pub fn get_node<'a>(state: &'a State, key: &NodeKey) -> Result<&'a Node, Rejection> {
    state.nodes.get(key).ok_or_else(|| Rejection::NotFound { field: "node".into(), what: name::node(key) })
}

/// Returns nodes, of one chain or of all, after key `after`, at most `limit`.
///
/// # Errors
/// `InvalidName` if `after` is not a key.
pub fn list_nodes(
    state: &State,
    of: Option<&ChainKey>,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Node>, Rejection> {
    page(&state.nodes, after, limit, |key, _| of.is_none_or(|of| key.chain == *of))
}

/// The further ports that a node of `chain` needs, by name.
pub(crate) fn ports_of(state: &State, chain: &ChainKey) -> &'static [&'static str] {
    let spec = state.chains.get(chain).map(|chain| &chain.spec);
    let template = spec.and_then(|spec| Template::find(&spec.template, spec.template_version).ok());
    template.map_or(&[], |template| template.ports)
}

/// The nodes of a chain, in their order.
pub fn nodes_of<'a>(state: &'a State, chain: &'a ChainKey) -> impl Iterator<Item = &'a Node> {
    let first = NodeKey::new(chain.clone(), crate::ids::NodeId::new(0));
    state.nodes.range(first..).map(|(_, node)| node).take_while(move |node| node.key.chain == *chain)
}

/// Returns how many validators a chain's ledger counts: its nodes that validate, and those whose nodes were given up.
pub fn counted(state: &State, chain: &ChainKey) -> usize {
    let lost = state.chains.get(chain).map_or(0, |chain| chain.lost.len());
    nodes_of(state, chain).filter(|node| node.validates()).count() + lost
}
