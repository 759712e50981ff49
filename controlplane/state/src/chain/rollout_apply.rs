//! Rules of rolling changes and of nodes that join and leave: all checks, then all changes.

use super::apply::{new_node, sync};
use super::life::NodeWish;
use super::life_apply::{begin, check_runs};
use super::node::{Health, Node, NodeState};
use super::node_apply::{fenced, go, next_on_way, put_node};
use super::rollout::{ContinueRollout, HaltRollout, ReleaseNode, RollChain, RollNode, Rollout};
use super::seat::quorum;
use super::template::Template;
use super::{Chain, ENDURING_MIN, NodeSpec, REASON_MAX, adopting_apply, height, height_apply, outfit_apply, query};
use crate::apply::Cx;
use crate::cluster::version::Version;
use crate::command::Outcome;
use crate::consortium::Consortium;
use crate::ids::{ChainKey, NodeId, NodeKey, OperationId};
use crate::operation::Work;
use crate::{Rejection, State, billing, check, host, name};

pub(crate) fn roll(state: &mut State, cx: &mut Cx<'_>, c: &RollChain) -> Result<Outcome, Rejection> {
    check::text("reason", &c.reason, REASON_MAX)?;
    let chain = query::get(state, &c.chain)?;
    height_apply::check_none(chain)?;
    check_may_roll(state, chain, c.accept_outage, "accept_outage")?;
    check_not_halted_midway(state, chain)?;

    let operation = begin(state, cx, &c.chain, Work::Roll);
    start(state, cx, &c.chain, &c.reason);
    sync(state, cx, &c.chain);
    Ok(Outcome::OperationStarted { resource: name::chain(&c.chain), operation })
}

/// Checks that a rolling change may begin: the chain runs, none is under way, and an outage was agreed to if there is one. What a
/// change at a height has against it is asked before.
pub(super) fn check_may_roll(state: &State, chain: &Chain, accept_outage: bool, field: &str) -> Result<(), Rejection> {
    check_runs(chain)?;
    let resource = name::chain(&chain.key);
    if chain.ran_at.is_none() {
        return Err(check::wrong_state("chain", resource, chain.state, "it must have run first"));
    }
    check_none_under_way(state, chain)?;
    if let Some(node) = query::nodes_of(state, &chain.key).find(|node| node.moving.is_some()) {
        let needs = format!("{} goes to another host: wait until it is there", node.key.node);
        return Err(check::wrong_state("chain", resource, chain.state, &needs));
    }
    check_outage_agreed(state, chain, accept_outage, field)
}

/// Checks that the chain goes on while its validators start anew one after another, or that an outage was agreed to.
pub(super) fn check_outage_agreed(
    state: &State,
    chain: &Chain,
    accept_outage: bool,
    field: &str,
) -> Result<(), Rejection> {
    let founders = query::nodes_of(state, &chain.key).filter(|node| node.validates()).count();
    let counted = query::counted(state, &chain.key);
    if counted > founders && founders < quorum(counted) + 1 && !accept_outage {
        let rule = format!(
            "agreed to: of {counted} validators that the ledger counts {} went with their hosts, so none of the {founders} others can be \
             missed, and the chain makes no block while one starts; have its members take the lost ones out first",
            counted - founders
        );
        return Err(check::invalid(field, accept_outage, rule));
    }
    if founders < ENDURING_MIN && !accept_outage {
        let rule = format!(
            "agreed to: of {founders} validators none can be missed, so the chain makes no block while one starts; from \
             {ENDURING_MIN} on it goes on"
        );
        return Err(check::invalid(field, accept_outage, rule));
    }
    Ok(())
}

/// Checks that no halted change of what the nodes run waits for a decision: an ordinary roll would carry it on unasked.
fn check_not_halted_midway(state: &State, chain: &Chain) -> Result<(), Rejection> {
    let is_open = chain.refit.as_ref().is_some_and(|refit| refit.settled_at.is_none());
    // Also if another rolling change came after it, as when a node moved.
    if !is_open || !outfit_apply::is_mixed(state, chain) {
        return Ok(());
    }
    let words = chain.outfit.words();
    let needs =
        format!("the rolling change to {words} is halted: let it go on, vote for a program again, or roll it back");
    Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, &needs))
}

/// Checks that no rolling change goes on.
pub(super) fn check_none_under_way(state: &State, chain: &Chain) -> Result<(), Rejection> {
    match chain.rollout.as_ref().filter(|it| it.halted.is_none() && is_under_way(state, chain, it)) {
        Some(rollout) => {
            let needs = format!("rolling change {} is under way: wait for its end, or halt it", rollout.number);
            Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, &needs))
        }
        None => Ok(()),
    }
}

/// Whether it changes what the nodes run, and not all that it has reached have been well with it: the last one may not come back
/// either.
fn is_unsettled(state: &State, chain: &Chain, rollout: &Rollout) -> bool {
    if state.version() < Version::HEIGHTS {
        return false;
    }
    chain.refit.as_ref().is_some_and(|refit| refit.settled_at.is_none() && refit.rollout == rollout.number)
}

/// Whether some node has not been brought to it.
pub(crate) fn is_under_way(state: &State, chain: &Chain, rollout: &Rollout) -> bool {
    query::nodes_of(state, &chain.key).any(|node| node.wish.is_run() && node.rolled < rollout.number)
}

/// Begins the rollout by which the other nodes learn where a node that moved is now; gives its number.
pub(super) fn start_for(state: &mut State, cx: &mut Cx<'_>, moved: &NodeKey, reason: &str) -> u64 {
    let number = start_as_is(state, cx, &moved.chain, reason);
    if let Some(rollout) = state.chains.get_mut(&moved.chain).and_then(|chain| chain.rollout.as_mut()) {
        rollout.moved = Some(moved.node);
    }
    number
}

/// As [`start`], and nodes that differ in what they run go on doing so: nobody has decided how that ends.
pub(super) fn start_as_is(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, reason: &str) -> u64 {
    let number = start(state, cx, key, reason);
    // Of a change at a height that is decided: whoever goes on from there with the program before would be alone.
    let is_open = |chain: &Chain| outfit_apply::is_mixed(state, chain) && height::open(chain).is_none();
    let as_is = state.chains.get(key).is_some_and(is_open);
    if let Some(rollout) = state.chains.get_mut(key).and_then(|chain| chain.rollout.as_mut()) {
        rollout.as_is = as_is;
    }
    number
}

/// Begins the next rollout of a chain and gives its number.
pub(super) fn start(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, reason: &str) -> u64 {
    let Some(mut chain) = state.chains.get(key).cloned() else { return 0 };
    let number = chain.rollout.as_ref().map_or(0, |rollout| rollout.number) + 1;
    chain.rollout = Some(Rollout {
        number,
        reason: check::clip(reason, REASON_MAX),
        since: cx.now,
        halted: None,
        moved: None,
        limit_ms: None,
        as_is: false,
    });
    chain.version += 1;
    state.chains.insert(key.clone(), chain);
    cx.updated(name::chain(key));
    number
}

pub(crate) fn halt(state: &mut State, cx: &mut Cx<'_>, c: &HaltRollout) -> Result<Outcome, Rejection> {
    check::text("reason", &check::clip(&c.reason, REASON_MAX), REASON_MAX)?;
    let (mut chain, mut rollout) = rolling(state, &c.chain)?;
    let resource = name::chain(&c.chain);
    if rollout.number != c.number {
        return Err(check::invalid("number", c.number, format!("{}, the one that is under way", rollout.number)));
    }
    if rollout.halted.is_some() {
        return Ok(Outcome::Unchanged { resource });
    }

    rollout.halted = Some(check::clip(&c.reason, REASON_MAX));
    chain.rollout = Some(rollout);
    Ok(put(state, cx, chain))
}

pub(crate) fn go_on(state: &mut State, cx: &mut Cx<'_>, c: &ContinueRollout) -> Result<Outcome, Rejection> {
    check::text("reason", &c.reason, REASON_MAX)?;
    let (mut chain, mut rollout) = rolling(state, &c.chain)?;
    // One that is taken over is not wished to run before its last node was.
    if !adopting_apply::is_begun(&chain) {
        check_runs(&chain)?;
    }
    if rollout.halted.is_none() {
        return Ok(Outcome::Unchanged { resource: name::chain(&c.chain) });
    }

    rollout.halted = None;
    chain.rollout = Some(rollout);
    Ok(put(state, cx, chain))
}

/// The chain with its rollout, if that is not done.
fn rolling(state: &State, key: &ChainKey) -> Result<(Chain, Rollout), Rejection> {
    let chain = query::get(state, key)?;
    match &chain.rollout {
        Some(rollout) if is_under_way(state, chain, rollout) || is_unsettled(state, chain, rollout) => {
            Ok((chain.clone(), rollout.clone()))
        }
        Some(_) | None => {
            let needs = "no rolling change is under way";
            Err(check::wrong_state("chain", name::chain(key), chain.state, needs))
        }
    }
}

fn put(state: &mut State, cx: &mut Cx<'_>, mut chain: Chain) -> Outcome {
    let key = chain.key.clone();
    chain.version += 1;
    state.chains.insert(key.clone(), chain);
    cx.updated(name::chain(&key));
    sync(state, cx, &key);
    Outcome::Done { resource: name::chain(&key) }
}

pub(crate) fn roll_node(state: &mut State, cx: &mut Cx<'_>, c: &RollNode) -> Result<Outcome, Rejection> {
    let mut node = fenced(state, &c.node, c.generation)?;
    let chain = query::get(state, &c.node.chain)?;
    let wrong = |needs: &str| Err(check::wrong_state("node", name::node(&c.node), node.state, needs));
    match &chain.rollout {
        Some(rollout) if rollout.number == c.number && rollout.halted.is_none() && node.rolled < c.number => {}
        Some(_) | None => return wrong("no rolling change waits for it"),
    }
    if !node.wish.is_run() || node.identity.is_none() {
        return wrong("only a node with an identity that is wished to run is rolled");
    }
    if node.watched.is_some() {
        return adopting_apply::take(state, cx, node, c.number);
    }
    if node.moving.is_some() {
        return wrong("it goes to another host, and is configured there");
    }

    let outfit = chain.rollout.as_ref().filter(|rollout| !rollout.as_is).map(|_| chain.outfit.clone());
    let halt = height_apply::halt_of(chain, &node)?;
    let returns = height_apply::returns(chain, &node);

    billing::apply::stop(state, cx, &mut node);
    if let Some(outfit) = outfit.filter(|outfit| *outfit != node.outfit) {
        // What it runs now was never restarted: automatic repair starts afresh.
        node.outfit = outfit;
        node.restarts.clear();
    }
    node.generation += 1;
    node.rolled = c.number;
    node.halt = halt;
    node.returns = returns;
    node.configured = false;
    node.health = Health::Unknown;
    node.intent = None;
    let reason = format!("rolling change {}", c.number);
    go(&mut node, cx.now, NodeState::Prepared, &reason);
    Ok(put_node(state, cx, node))
}

pub(crate) fn release(state: &mut State, cx: &mut Cx<'_>, c: &ReleaseNode) -> Result<Outcome, Rejection> {
    let mut node = fenced(state, &c.node, c.generation)?;
    if node.wish != NodeWish::Leave {
        return Err(check::wrong_state("node", name::node(&c.node), node.state, "only a node that leaves is let go"));
    }

    billing::apply::stop(state, cx, &mut node);
    node.wish = NodeWish::Remove;
    node.generation += 1;
    node.health = Health::Unknown;
    node.intent = None;
    let next = next_on_way(&node);
    go(&mut node, cx.now, next, "it leaves the chain and does not validate");
    if node.host.is_none() {
        state.nodes.insert(node.key.clone(), node);
        return Ok(super::life_apply::gone(state, cx, &c.node));
    }
    Ok(put_node(state, cx, node))
}

/// Checks that nodes can be added by vote: nothing that is decided later can make it impossible.
pub(crate) fn check_add(
    state: &State,
    consortium: &Consortium,
    chain: &Chain,
    nodes: &[NodeSpec],
    accept_outage: bool,
) -> Result<(), Rejection> {
    const FIELD: &str = "action.change_chain.add_nodes.nodes";
    height_apply::check_none(chain)?;
    check_may_roll(state, chain, accept_outage, "action.change_chain.add_nodes.accept_outage")?;
    outfit_apply::check_may_change(state, chain)?;
    let template = Template::find(&chain.spec.template, chain.spec.template_version)?;
    let may_join = template.is_governed() || (template.has_seats() && state.version() >= Version::SEATS);
    if !may_join {
        let needs = format!("nodes of template {} cannot join a chain that runs, yet", template.name);
        return Err(check::wrong_state("chain", name::chain(&chain.key), chain.state, &needs));
    }
    let present = query::nodes_of(state, &chain.key).count();
    check::quota(FIELD, "the number of the chain's nodes", present, template.nodes_max)?;
    let room = (template.nodes_max as u64).saturating_sub(present as u64);
    check::range(FIELD, nodes.len() as u64, 1, room)?;
    if let Some(node) = nodes.iter().find(|node| !consortium.has_active(&node.owner)) {
        let what = name::consortium(&consortium.id);
        return Err(Rejection::NotAMember { field: FIELD.into(), tenant: node.owner.to_string(), what });
    }
    Ok(())
}

/// Adds the nodes, and begins the rollout by which the others learn of them.
pub(super) fn add(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, nodes: &[NodeSpec], reason: &str) -> OperationId {
    let number = start(state, cx, key, reason);
    let Some(mut chain) = state.chains.get(key).cloned() else { return begin(state, cx, key, Work::Grow) };
    let first = chain.nodes_ever.max(u32::try_from(chain.spec.nodes.len()).unwrap_or(u32::MAX));
    for (id, spec) in (first..).zip(nodes) {
        let node = NodeKey::new(key.clone(), NodeId::new(id.into()));
        cx.created(name::node(&node));
        let outfit = chain.outfit.clone();
        let made =
            Node { joined: number, rolled: number, outfit, ..new_node(state, cx, node.clone(), spec.owner.clone()) };
        state.nodes.insert(node, made);
        chain.nodes_ever = id + 1;
    }
    state.chains.insert(key.clone(), chain);
    let operation = begin(state, cx, key, Work::Grow);
    host::apply::place_waiting(state, cx);
    sync(state, cx, key);
    operation
}

/// Checks that nodes can be taken out by vote.
pub(crate) fn check_remove(
    state: &State,
    chain: &Chain,
    nodes: &[NodeId],
    accept_outage: bool,
) -> Result<(), Rejection> {
    const FIELD: &str = "action.change_chain.remove_nodes.nodes";
    check_runs(chain)?;
    height_apply::check_none(chain)?;
    let template = Template::find(&chain.spec.template, chain.spec.template_version)?;
    let stay = query::nodes_of(state, &chain.key).filter(|node| node.wish.is_run() && !nodes.contains(&node.key.node));
    let stay = stay.count();
    check::range(FIELD, nodes.len() as u64, 1, template.nodes_max as u64)?;
    if stay < template.nodes_min {
        let rule = format!("so few that {} or more stay", template.nodes_min);
        return Err(check::invalid(FIELD, nodes.len(), rule));
    }
    for (place, id) in nodes.iter().enumerate() {
        let key = NodeKey::new(chain.key.clone(), *id);
        let node = query::get_node(state, &key)?;
        if nodes[..place].contains(id) {
            return Err(check::invalid(FIELD, id, "each node once"));
        }
        if !node.wish.is_run() {
            return Err(check::wrong_state(FIELD, name::node(&key), node.state, "it leaves already"));
        }
        if state.version() >= Version::SEATS
            && template.has_seats()
            && node.seat.as_ref().map_or(node.validates(), |seat| seat.held || seat.wished || seat.unsure)
        {
            let needs = match chain.imported {
                Some(_) => super::seat_apply::OWNERS_KEYS,
                None => "it validates: its consortium takes its seat first, by a vote on `remove-validators`",
            };
            return Err(check::wrong_state(FIELD, name::node(&key), node.state, needs));
        }
        if node.validates() && !(template.is_governed() && chain.spec.governance.is_some()) {
            let needs = "it validates since genesis, and this chain has no governance that could take it out";
            return Err(check::wrong_state(FIELD, name::node(&key), node.state, needs));
        }
    }
    check_endures(state, chain, nodes, accept_outage)
}

/// Checks that a chain that can lose a validator still can when these have left, unless that was agreed to.
fn check_endures(state: &State, chain: &Chain, leave: &[NodeId], accept_outage: bool) -> Result<(), Rejection> {
    let validates = |node: &&Node| node.validates() && node.wish.is_run();
    let now = query::nodes_of(state, &chain.key).filter(validates).count();
    let left =
        query::nodes_of(state, &chain.key).filter(validates).filter(|node| !leave.contains(&node.key.node)).count();
    let loses_it = now >= ENDURING_MIN && left < ENDURING_MIN;
    if accept_outage || !loses_it || state.version() < Version::GUARDED {
        return Ok(());
    }
    let rule = format!(
        "agreed to: of {now} validators one can be missed, of the {left} that stay none can, so the chain makes no block while \
         one of them is down"
    );
    Err(check::invalid("action.change_chain.remove_nodes.accept_outage", accept_outage, rule))
}

/// Has the nodes leave: each runs on until the ledger says that it does not validate.
pub(super) fn remove(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, nodes: &[NodeId]) -> OperationId {
    for id in nodes {
        let node = NodeKey::new(key.clone(), *id);
        if let Some(it) = state.nodes.get_mut(&node) {
            it.wish = NodeWish::Leave;
            it.leaves = true;
            cx.updated(name::node(&node));
        }
    }
    let operation = begin(state, cx, key, Work::Shrink);
    sync(state, cx, key);
    operation
}
