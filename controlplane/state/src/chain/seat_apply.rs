//! Rules of seats: all checks, then all changes.

use std::collections::BTreeSet;

use super::life_apply::{begin_as, check_runs};
use super::node::{Health, Node, NodeState};
use super::rollout_apply::check_none_under_way;
use super::seat::{RecordUnseated, Seat, quorum};
use super::template::Template;
use super::{Chain, REASON_MAX, apply::sync, height_apply, query};
use crate::apply::Cx;
use crate::cluster::version::Version;
use crate::command::Outcome;
use crate::ids::{ChainKey, NodeId, NodeKey, OperationId, TenantId};
use crate::operation::{OperationKind, Work};
use crate::{Rejection, State, check, name};

/// Fewest validators of a chain that goes on while one of them is down.
const ENDURING_MIN: usize = 4;

/// Why no seat of a chain that was taken over is given or taken by vote.
pub(super) const OWNERS_KEYS: &str = "it was made by others, and the keys of its validators' operators stayed with them: they let a validator in or out by \
     the ledger's own transactions";

/// Nodes that are to take a seat or to give theirs up.
pub(super) struct Wanted<'a> {
    pub(super) nodes: &'a [NodeId],
    /// Whether they are to validate.
    pub(super) validate: bool,
    pub(super) accept_outage: bool,
}

impl Wanted<'_> {
    fn field(&self, last: &str) -> String {
        let change = if self.validate { "add_validators" } else { "remove_validators" };
        format!("action.change_chain.{change}.{last}")
    }
}

/// Checks that the seats can be voted on: the ledger does such a thing, each node can act on it now, and the chain goes on.
pub(super) fn check(state: &State, chain: &Chain, wanted: &Wanted<'_>) -> Result<(), Rejection> {
    check_runs(chain)?;
    let template = Template::find(&chain.spec.template, chain.spec.template_version)?;
    let resource = name::chain(&chain.key);
    if !template.has_seats() {
        let needs = format!(
            "who validates on a chain of template {} is decided on the chain itself, by its members' signatures: `hanse chain \
             govern`",
            template.name
        );
        return Err(check::wrong_state("chain", resource, chain.state, &needs));
    }
    if chain.imported.is_some() {
        return Err(check::wrong_state("chain", resource, chain.state, OWNERS_KEYS));
    }
    if chain.ran_at.is_none() {
        return Err(check::wrong_state("chain", resource, chain.state, "it must have run first"));
    }
    check_none_under_way(state, chain)?;
    height_apply::check_none(chain)?;
    let field = wanted.field("nodes");
    check::range(&field, wanted.nodes.len() as u64, 1, template.nodes_max as u64)?;
    for (place, id) in wanted.nodes.iter().enumerate() {
        if wanted.nodes[..place].contains(id) {
            return Err(check::invalid(&field, id, "each node once"));
        }
        let node = query::get_node(state, &NodeKey::new(chain.key.clone(), *id))?;
        check_node(node, wanted.validate, &field)?;
    }
    check_endures(state, chain, wanted)
}

fn check_node(node: &Node, validate: bool, field: &str) -> Result<(), Rejection> {
    let wrong = |needs: &str| Err(check::wrong_state(field, name::node(&node.key), node.state, needs));
    let is_wished = node.seat.as_ref().map_or_else(|| node.validates(), |seat| seat.wished);
    // One that waits is voted on again, for more members to agree.
    let waits = validate && node.seat.as_ref().is_some_and(Seat::is_due);
    if is_wished == validate && !waits {
        return wrong(if validate { "it validates, or is about to, already" } else { "it does not validate" });
    }
    if !node.wish.is_run() {
        return wrong("it leaves the chain");
    }
    // A wish that the ledger does not follow yet can always be taken back.
    let is_taken_back = node.seat.as_ref().is_some_and(Seat::is_due);
    if !is_taken_back && !is_well(node) {
        return wrong("it must run and be healthy: it acts on its ledger itself");
    }
    Ok(())
}

fn is_well(node: &Node) -> bool {
    node.state == NodeState::Running && node.health == Health::Healthy
}

/// Checks that the chain makes blocks at each step of the way, and that one that can miss a validator still can afterwards,
/// unless that was agreed to.
fn check_endures(state: &State, chain: &Chain, wanted: &Wanted<'_>) -> Result<(), Rejection> {
    let of_chain = || query::nodes_of(state, &chain.key).filter(|node| node.validates());
    let (now, well) = (of_chain().count() + chain.lost.len(), of_chain().filter(|node| is_well(node)).count());
    let changes = wanted.nodes.iter().filter(|id| {
        let key = NodeKey::new(chain.key.clone(), **id);
        state.nodes.get(&key).is_some_and(|node| node.validates() != wanted.validate)
    });
    let changes = changes.count();
    let at = |count: usize, step: usize| if wanted.validate { count + step } else { count.saturating_sub(step) };
    let left = at(now, changes);
    if left == 0 {
        return Err(check::invalid(&wanted.field("nodes"), changes, "so few that one validator or more stays"));
    }
    if wanted.accept_outage {
        return Ok(());
    }
    let refused = |rule: String| Err(check::invalid(&wanted.field("accept_outage"), false, rule));
    for step in 1..=changes {
        let (validators, well) = (at(now, step), at(well, step));
        if well < quorum(validators) {
            return refused(format!(
                "agreed to: {well} of {validators} validators would be well and the chain needs {}, so it would make no block; \
                 see to those that are not well first",
                quorum(validators)
            ));
        }
    }
    if now >= ENDURING_MIN && left < ENDURING_MIN {
        return refused(format!(
            "agreed to: of {now} validators one can be missed, of the {left} that stay none can, so the chain makes no block while \
             one of them is down"
        ));
    }
    Ok(())
}

/// Members without whose yes the seats cannot be voted through: the owners of the nodes, whose own operators act on the ledger.
pub(crate) fn owners(state: &State, chain: &ChainKey, nodes: &[NodeId]) -> BTreeSet<TenantId> {
    let node = |id: &NodeId| state.nodes.get(&NodeKey::new(chain.clone(), *id));
    nodes.iter().filter_map(node).map(|node| node.owner.clone()).collect()
}

/// Wishes the seats.
pub(super) fn order(
    state: &mut State,
    cx: &mut Cx<'_>,
    key: &ChainKey,
    wanted: &Wanted<'_>,
    consent: &BTreeSet<TenantId>,
) -> OperationId {
    let is_told = state.version() >= Version::HEIGHTS;
    for id in wanted.nodes {
        let Some(node) = state.nodes.get_mut(&NodeKey::new(key.clone(), *id)) else { continue };
        let was = node.seat.as_ref().filter(|seat| is_told && seat.is_due());
        let unsure = was.is_some_and(|seat| seat.unsure || seat.wished != wanted.validate);
        node.seat = Some(Seat {
            unsure,
            wished: wanted.validate,
            held: node.validates(),
            consent: consent.clone(),
            since: cx.now,
            waits: String::new(),
            accept_outage: wanted.accept_outage,
        });
        // An act of the decision before goes no further: its fact is refused.
        node.intent = None;
        cx.updated(name::node(&node.key));
    }
    let work = if wanted.validate { Work::Seat } else { Work::Unseat };
    let nodes = wanted.nodes.to_vec();
    let operation = begin_as(state, cx, key, OperationKind::ChangeChain { chain: key.clone(), work, nodes });
    sync(state, cx, key);
    operation
}

/// The ledger says whether the node validates.
pub(super) fn seated(node: &mut Node, validates: bool) -> Result<(), Rejection> {
    let (resource, state) = (name::node(&node.key), node.state);
    match &mut node.seat {
        Some(seat) if seat.wished == validates => {
            seat.held = validates;
            seat.unsure = false;
            seat.waits = String::new();
            node.intent = None;
            Ok(())
        }
        Some(_) | None => Err(check::wrong_state("fact", resource, state, "another seat is wished for it")),
    }
}

/// What a node's seat waits for.
pub(super) fn waits(node: &mut Node, reason: &str) -> Result<(), Rejection> {
    match &mut node.seat {
        Some(seat) if seat.is_due() => {
            seat.waits = check::clip(reason, REASON_MAX);
            Ok(())
        }
        Some(_) | None => {
            Err(check::wrong_state("fact", name::node(&node.key), node.state, "no seat waits for anything"))
        }
    }
}

/// The ledger says that a lost key validates no more: nobody waits for it then.
pub(crate) fn unseated(state: &mut State, cx: &mut Cx<'_>, c: &RecordUnseated) -> Result<Outcome, Rejection> {
    let mut chain = query::get(state, &c.chain)?.clone();
    let resource = name::chain(&c.chain);
    if !chain.lost.remove(&c.public_key) {
        return Ok(Outcome::Unchanged { resource });
    }
    chain.version += 1;
    state.chains.insert(c.chain.clone(), chain);
    cx.updated(resource.clone());
    sync(state, cx, &c.chain);
    Ok(Outcome::Done { resource })
}

/// The ledger goes on counting a validator whose node was given up, until its members take it out or it is shut out for its silence.
pub(super) fn lose(state: &mut State, node: &Node) {
    if state.version() < Version::HEIGHTS || !node.validates() {
        return;
    }
    if let (Some(identity), Some(chain)) = (&node.identity, state.chains.get_mut(&node.key.chain)) {
        chain.lost.insert(identity.public_key.clone());
    }
}

/// Remembers the key of a node that is gone, so that none of its chain has it again: who holds a copy of its home would sign
/// twice.
pub(super) fn retire(state: &mut State, node: &Node) {
    if state.version() < Version::SEATS {
        return;
    }
    if let (Some(identity), Some(chain)) = (&node.identity, state.chains.get_mut(&node.key.chain)) {
        chain.retired_keys.insert(identity.public_key.clone());
    }
}
