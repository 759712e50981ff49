//! Rules of a chain's life: all checks, then all changes. A change of the wish is one entry with everything that follows
//! from it: what becomes of each node, what ends to be billed, and the operation that people watch.

use std::collections::BTreeSet;

use super::apply::sync;
use super::life::{
    Change, ChangeChain, GRACE_MS_MAX, GRACE_MS_MIN, NodeWish, PauseChain, PurgeChain, ResumeChain, UndeleteChain, Wish,
};
use super::node::{Health, Node, NodeState};
use super::node_apply::{go, next_on_way};
use super::{
    Chain, ChainState, REASON_MAX, adopting_apply, height_apply, imported_apply, outfit_apply, query, rollout_apply,
    seat_apply,
};
use crate::apply::Cx;
use crate::cluster::version::Version;
use crate::command::Outcome;
use crate::consortium::Consortium;
use crate::consortium::proposal::{Action, ProposalState};
use crate::ids::{ChainKey, ConsortiumId, NodeId, NodeKey, OperationId, TenantId};
use crate::operation::{self, OperationKind, Work};
use crate::{Rejection, State, billing, check, host, name};

pub(crate) fn pause(state: &mut State, cx: &mut Cx<'_>, c: &PauseChain) -> Result<Outcome, Rejection> {
    by_hand(state, cx, &c.chain, &Change::Pause {}, &c.reason)
}

pub(crate) fn resume(state: &mut State, cx: &mut Cx<'_>, c: &ResumeChain) -> Result<Outcome, Rejection> {
    by_hand(state, cx, &c.chain, &Change::Resume {}, &c.reason)
}

pub(crate) fn undelete(state: &mut State, cx: &mut Cx<'_>, c: &UndeleteChain) -> Result<Outcome, Rejection> {
    by_hand(state, cx, &c.chain, &Change::Undelete {}, &c.reason)
}

fn by_hand(
    state: &mut State,
    cx: &mut Cx<'_>,
    key: &ChainKey,
    change: &Change,
    reason: &str,
) -> Result<Outcome, Rejection> {
    check::text("reason", reason, REASON_MAX)?;
    let resource = name::chain(key);
    match check_change(state, query::get(state, key)?, change)? {
        Need::Nothing => Ok(Outcome::Unchanged { resource }),
        Need::Work => {
            let operation = carry_out(state, cx, key, &Order { change, reason, consent: &BTreeSet::new() });
            Ok(Outcome::OperationStarted { resource, operation })
        }
    }
}

/// The seats that a change is about; `None` if it is about none.
fn seats(change: &Change) -> Option<seat_apply::Wanted<'_>> {
    let (nodes, validate, accept_outage) = match change {
        Change::AddValidators { nodes, accept_outage } => (nodes, true, *accept_outage),
        Change::RemoveValidators { nodes, accept_outage } => (nodes, false, *accept_outage),
        Change::Pause {}
        | Change::Resume {}
        | Change::Delete { .. }
        | Change::Undelete {}
        | Change::AddNodes { .. }
        | Change::RemoveNodes { .. }
        | Change::Upgrade { .. }
        | Change::Adopt { .. }
        | Change::Reconfigure { .. } => return None,
    };
    Some(seat_apply::Wanted { nodes, validate, accept_outage })
}

/// Members without whose yes a vote on the change cannot pass, whatever the charter says: who owns a node that acts on its
/// ledger for it.
pub(crate) fn must_agree(state: &State, consortium: &ConsortiumId, c: &ChangeChain) -> BTreeSet<TenantId> {
    let key = ChainKey::new(consortium.clone(), c.chain.clone());
    if let Change::Adopt { nodes, .. } = &c.change {
        return adopting_apply::owners(nodes);
    }
    seats(&c.change).map(|seats| seat_apply::owners(state, &key, seats.nodes)).unwrap_or_default()
}

/// Whether a change that is allowed has anything to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It is so already.
    Nothing,
    /// There is something to do.
    Work,
}

fn check_change(state: &State, chain: &Chain, change: &Change) -> Result<Need, Rejection> {
    let wrong = |needs: &str| Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, needs));
    match (change, &chain.wish) {
        (Change::Adopt { first_block, nodes, accept_outage }, Wish::Watch) => {
            let wanted = adopting_apply::Wanted { first_block, nodes, accept_outage: *accept_outage };
            adopting_apply::check_vote(state, chain, &wanted).map(|()| Need::Work)
        }
        (Change::Adopt { .. }, _) => wrong("it is the platform's: only a chain that was imported is taken over"),
        (_, Wish::Watch) => wrong(adopting_apply::touches(chain)),
        (Change::AddNodes { nodes, accept_outage }, _) => {
            let consortium = crate::consortium::query::get(state, &chain.key.consortium)?;
            rollout_apply::check_add(state, consortium, chain, nodes, *accept_outage).map(|()| Need::Work)
        }
        (Change::RemoveNodes { nodes, accept_outage }, _) => {
            rollout_apply::check_remove(state, chain, nodes, *accept_outage).map(|()| Need::Work)
        }
        (Change::AddValidators { .. } | Change::RemoveValidators { .. }, _) => {
            let wanted = seats(change);
            wanted.map_or(Ok(Need::Nothing), |wanted| seat_apply::check(state, chain, &wanted).map(|()| Need::Work))
        }
        (Change::Upgrade { program, limit_ms, accept_outage, at_height }, _) => {
            outfit_apply::check_upgrade(state, chain, program.as_ref(), *limit_ms, *accept_outage)?;
            at_height.map_or(Ok(()), |height| height_apply::check(state, chain, height)).map(|()| Need::Work)
        }
        (Change::Reconfigure { settings, limit_ms, accept_outage }, _) => {
            outfit_apply::check_reconfigure(state, chain, settings, *limit_ms, *accept_outage).map(|()| Need::Work)
        }
        (Change::Delete { grace_ms }, wish) => {
            check::range("action.change_chain.delete.grace_ms", *grace_ms, GRACE_MS_MIN, GRACE_MS_MAX)?;
            Ok(if matches!(wish, Wish::Delete { .. }) { Need::Nothing } else { Need::Work })
        }
        (Change::Undelete {}, Wish::Delete { purging: true, .. }) => {
            wrong("its grace is over and its nodes are being removed, so nothing can be taken back")
        }
        (Change::Undelete {}, Wish::Delete { .. })
        | (Change::Pause {}, Wish::Run)
        | (Change::Resume {}, Wish::Pause { .. }) => Ok(Need::Work),
        (Change::Pause {} | Change::Resume {}, Wish::Delete { .. }) => {
            wrong("it is deleted: take the deletion back first, while its grace lasts")
        }
        (Change::Pause {}, Wish::Pause { .. })
        | (Change::Resume {}, Wish::Run)
        | (Change::Undelete {}, Wish::Run | Wish::Pause { .. }) => Ok(Need::Nothing),
    }
}

/// The chain that a vote would change, if it is still the one that is meant.
fn meant<'a>(state: &'a State, consortium: &ConsortiumId, c: &ChangeChain) -> Result<&'a Chain, Rejection> {
    let chain = query::get(state, &ChainKey::new(consortium.clone(), c.chain.clone()))?;
    if chain.proposal.proposal == c.ordered_by {
        return Ok(chain);
    }
    let rule = format!("{}, the vote that ordered {}", chain.proposal.proposal, name::chain(&chain.key));
    Err(check::invalid("action.change_chain.ordered_by", c.ordered_by, rule))
}

/// Checks that a vote on the change can be opened: it has something to do, and no other vote on the chain is open.
pub(crate) fn check_vote(state: &State, consortium: &Consortium, c: &ChangeChain) -> Result<(), Rejection> {
    let chain = meant(state, &consortium.id, c)?;
    if check_change(state, chain, &c.change)? == Need::Nothing {
        let needs = "it is as this change would make it";
        return Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, needs));
    }
    let of_it = |action: &Action| matches!(action, Action::ChangeChain(other) if other.chain == c.chain);
    let mut others = state.proposals.values().filter(|it| it.key.consortium == consortium.id);
    match others.find(|it| it.state == ProposalState::Open && of_it(&it.action)) {
        Some(other) => {
            let needs = "it is still open, and a chain has one vote at a time";
            Err(check::wrong_state("action.change_chain.chain", name::proposal(&other.key), other.state, needs))
        }
        None => Ok(()),
    }
}

/// Checks, before a ballot counts, that what it is about can still be done.
pub(crate) fn check_ballot(state: &State, consortium: &ConsortiumId, c: &ChangeChain) -> Result<(), Rejection> {
    check_change(state, meant(state, consortium, c)?, &c.change).map(|_| ())
}

/// A change with why it is made, and the members that voted for it.
struct Order<'a> {
    change: &'a Change,
    reason: &'a str,
    consent: &'a BTreeSet<TenantId>,
}

/// Carries out what was voted by these members; `None` if it has come about in the meantime.
pub(crate) fn order(
    state: &mut State,
    cx: &mut Cx<'_>,
    consortium: &ConsortiumId,
    c: &ChangeChain,
    title: &str,
    consent: &BTreeSet<TenantId>,
) -> Option<OperationId> {
    let chain = meant(state, consortium, c).ok()?;
    let key = chain.key.clone();
    match (check_change(state, chain, &c.change), &c.change) {
        (Ok(Need::Work), Change::Adopt { nodes, .. }) => {
            adopting_apply::agree(state, cx, &key, nodes);
            None
        }
        (Ok(Need::Work), _) => Some(carry_out(state, cx, &key, &Order { change: &c.change, reason: title, consent })),
        (Ok(Need::Nothing) | Err(_), _) => None,
    }
}

fn carry_out(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, order: &Order<'_>) -> OperationId {
    let Order { change, reason, consent } = *order;
    if let Some(wanted) = seats(change) {
        return seat_apply::order(state, cx, key, &wanted, consent);
    }
    let was = state.chains.get(key).map(|chain| chain.wish.clone()).unwrap_or_default();
    let (wish, work) = match (change, was) {
        (Change::AddNodes { nodes, .. }, _) => return rollout_apply::add(state, cx, key, nodes, reason),
        (Change::RemoveNodes { nodes, .. }, _) => return rollout_apply::remove(state, cx, key, nodes),
        (Change::Upgrade { program, limit_ms, at_height: Some(height), .. }, _) => {
            return height_apply::upgrade(state, cx, key, (program.as_ref(), *height), *limit_ms, reason);
        }
        (Change::Upgrade { program, limit_ms, .. }, _) => {
            return outfit_apply::upgrade(state, cx, key, program.as_ref(), *limit_ms, reason);
        }
        (Change::Reconfigure { settings, limit_ms, .. }, _) => {
            return outfit_apply::reconfigure(state, cx, key, settings, *limit_ms, reason);
        }
        (Change::Delete { grace_ms }, was) => {
            let was_paused = matches!(was, Wish::Pause { .. });
            let wish = Wish::Delete { since: cx.now, purge_at: cx.now.plus(*grace_ms), was_paused, purging: false };
            (wish, Work::Delete)
        }
        (Change::Undelete {}, Wish::Delete { was_paused: true, .. }) => (at_rest(cx, reason), Work::Undelete),
        (Change::Undelete {}, _) => (Wish::Run, Work::Undelete),
        (Change::Pause {}, _) => (at_rest(cx, reason), Work::Pause),
        // Seats were ordered above, and what is agreed to begins with an operator's order.
        (
            Change::Resume {} | Change::AddValidators { .. } | Change::RemoveValidators { .. } | Change::Adopt { .. },
            _,
        ) => (Wish::Run, Work::Resume),
    };
    let of_nodes = if wish.is_run() { NodeWish::Run } else { NodeWish::Stop };
    let operation = begin(state, cx, key, work);
    if let Some(mut chain) = state.chains.get(key).cloned() {
        chain.wish = wish;
        chain.version += 1;
        state.chains.insert(key.clone(), chain);
        cx.updated(name::chain(key));
    }
    wish_nodes(state, cx, key, of_nodes, reason);
    host::apply::place_waiting(state, cx);
    sync(state, cx, key);
    operation
}

fn at_rest(cx: &Cx<'_>, reason: &str) -> Wish {
    Wish::Pause { since: cx.now, reason: check::clip(reason, REASON_MAX) }
}

/// Starts the operation of a change, which takes the place of whatever was under way with the chain.
pub(super) fn begin(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, work: Work) -> OperationId {
    let nodes: Vec<NodeId> = query::nodes_of(state, key).map(|node| node.key.node).collect();
    begin_as(state, cx, key, OperationKind::ChangeChain { chain: key.clone(), work, nodes })
}

/// As [`begin`] with an operation of this kind.
pub(super) fn begin_as(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, kind: OperationKind) -> OperationId {
    let operation = operation::apply::start(state, cx, kind);
    if let Some(mut chain) = state.chains.get(key).cloned() {
        for earlier in [Some(chain.operation), chain.change].into_iter().flatten() {
            operation::apply::supersede(state, cx, earlier, operation);
        }
        chain.change = Some(operation);
        state.chains.insert(key.clone(), chain);
    }
    operation
}

/// Wishes the same for every node of a chain: a new generation of each, so that what was begun before cannot end after it.
fn wish_nodes(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, wish: NodeWish, reason: &str) {
    let keys: Vec<NodeKey> = query::nodes_of(state, key).map(|node| node.key.clone()).collect();
    for key in keys {
        let Some(mut node) = state.nodes.get(&key).cloned() else { continue };
        // Who leaves leaves also a chain that rests meanwhile.
        let leaves = wish == NodeWish::Run && node.leaves;
        node.wish = if leaves { NodeWish::Leave } else { wish };
        if wish == NodeWish::Stop && node.state == NodeState::Stopped {
            state.nodes.insert(key, node);
            continue;
        }
        billing::apply::stop(state, cx, &mut node);
        node.generation += 1;
        node.intent = None;
        node.health = Health::Unknown;
        // A person has decided: automatic repair starts afresh.
        node.restarts.clear();
        let next = match (wish, &node.host) {
            (NodeWish::Stop, None) => NodeState::Stopped,
            (NodeWish::Stop | NodeWish::Remove | NodeWish::Run | NodeWish::Leave | NodeWish::Watch, _) => {
                next_on_way(&node)
            }
        };
        go(&mut node, cx.now, next, reason);
        state.nodes.insert(key.clone(), node);
        cx.updated(name::node(&key));
    }
}

pub(crate) fn purge(state: &mut State, cx: &mut Cx<'_>, c: &PurgeChain) -> Result<Outcome, Rejection> {
    let mut chain = query::get(state, &c.chain)?.clone();
    let resource = name::chain(&c.chain);
    match &mut chain.wish {
        Wish::Delete { purging: true, .. } => return Ok(Outcome::Unchanged { resource }),
        Wish::Delete { purge_at, purging, .. } if *purge_at <= cx.now => *purging = true,
        Wish::Delete { .. } => return Err(check::wrong_state("chain", resource, chain.state, "its grace is not over")),
        Wish::Run | Wish::Pause { .. } | Wish::Watch => {
            return Err(check::wrong_state("chain", resource, chain.state, "only a deleted chain is removed"));
        }
    }

    chain.version += 1;
    let by = chain.change;
    state.chains.insert(c.chain.clone(), chain);
    cx.updated(resource.clone());
    let of_chain = |contract: &&crate::contract::Contract| contract.key.chain == c.chain;
    let deployments: Vec<OperationId> = state.contracts.values().filter(of_chain).map(|it| it.operation).collect();
    if let Some(by) = by {
        for deployment in deployments {
            operation::apply::supersede(state, cx, deployment, by);
        }
    }
    wish_nodes(state, cx, &c.chain, NodeWish::Remove, "its chain is deleted and the grace is over");
    let nowhere: Vec<NodeKey> =
        query::nodes_of(state, &c.chain).filter(|node| node.host.is_none()).map(|node| node.key.clone()).collect();
    for node in nowhere {
        gone(state, cx, &node);
    }
    sync(state, cx, &c.chain);
    Ok(Outcome::Done { resource })
}

/// Takes a node out that its host has nothing of: its ports are free, and with the last node of a deleted chain the chain
/// goes with its contracts.
pub(crate) fn gone(state: &mut State, cx: &mut Cx<'_>, key: &NodeKey) -> Outcome {
    let resource = name::node(key);
    let node = state.nodes.remove(key);
    cx.deleted(resource.clone());
    if let Some(node) = node.as_ref().filter(|_| state.version() >= Version::RETIRES) {
        let newest = state.retired.get(&key.chain).copied().unwrap_or(0).max(node.generation);
        state.retired.insert(key.chain.clone(), newest);
    }
    if let Some(node) = &node {
        seat_apply::retire(state, node);
    }
    let host = node.and_then(|node| node.host).and_then(|id| state.hosts.get(&id).cloned());
    if let Some(mut host) = host {
        host.ports.retain(|_, taken_by| taken_by != key);
        cx.updated(name::host(&host.id));
        state.hosts.insert(host.id.clone(), host);
    }
    let change = state.chains.get(&key.chain).and_then(|chain| chain.change);
    let is_deleted =
        state.chains.get(&key.chain).is_some_and(|chain| matches!(chain.wish, Wish::Delete { purging: true, .. }));
    if is_deleted && query::nodes_of(state, &key.chain).next().is_none() {
        forget(state, cx, &key.chain);
    }
    host::apply::place_waiting(state, cx);
    sync(state, cx, &key.chain);
    if let Some(change) = change {
        operation::apply::sync(state, cx, change);
    }
    Outcome::Done { resource }
}

fn forget(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey) {
    let of_chain = |contract: &&crate::contract::Contract| contract.key.chain == *key;
    let contracts: Vec<_> = state.contracts.values().filter(of_chain).map(|contract| contract.key.clone()).collect();
    for contract in contracts {
        state.contracts.remove(&contract);
        cx.deleted(name::contract(&contract));
    }
    state.chains.remove(key);
    cx.deleted(name::chain(key));
}

/// State and reason of a chain that is not wished to run.
pub(super) fn state_of(chain: &Chain, nodes: &[&Node]) -> Option<(ChainState, String)> {
    let count = nodes.len();
    let stopped = nodes.iter().filter(|node| node.state == NodeState::Stopped).count();
    let at_rest = |state: ChainState, why: &str| {
        if stopped == count {
            return (state, check::clip(why, REASON_MAX));
        }
        let waits = nodes.iter().filter(|node| node.state != NodeState::Stopped && !node.state_reason.is_empty());
        let waits: Vec<String> = waits.map(|node| format!("{}: {}", node.key.node, node.state_reason)).collect();
        let reason = format!("{stopped} of {count} nodes are stopped; {}", waits.join("; "));
        (ChainState::Stopping, check::clip(&reason, REASON_MAX))
    };
    match &chain.wish {
        Wish::Run => None,
        Wish::Watch => Some(imported_apply::state_of(nodes, chain.adoption.as_ref())),
        Wish::Pause { reason, .. } => Some(at_rest(ChainState::Paused, reason)),
        Wish::Delete { purging: false, .. } => {
            Some(at_rest(ChainState::Deleted, "its nodes are stopped, and removed when the grace is over"))
        }
        Wish::Delete { purging: true, .. } => {
            let reason = format!("{count} nodes are still to be removed with all they hold");
            Some((ChainState::Removing, reason))
        }
    }
}

/// Checks that the chain is wished to run, so that something can be sent to it.
pub(crate) fn check_runs(chain: &Chain) -> Result<(), Rejection> {
    match &chain.wish {
        Wish::Run => Ok(()),
        Wish::Pause { .. } => {
            Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, "it is paused: resume it first"))
        }
        Wish::Delete { .. } => Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, "it is deleted")),
        Wish::Watch => {
            Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, adopting_apply::touches(chain)))
        }
    }
}
