//! Rules of nodes: intents are the fence, facts move the state, restarts have a budget.

use super::life::NodeWish;
use super::moving::MoveStage;
use super::moving_apply::advance;
use super::node::{
    CONTRIBUTION_BYTES_MAX, Health, Intent, Node, NodeAct, NodeFact, NodeIdentity, NodeState, RecordIntent,
    RecordNodeFact, RestartNode,
};
use super::seat::{Seat, quorum};
use super::{REASON_MAX, apply::sync, height_apply, imported_apply, query, seat_apply};
use crate::apply::Cx;
use crate::cluster::backup::is_from_before;
use crate::cluster::version::Version;
use crate::command::{Actor, Outcome};
use crate::host::HostState;
use crate::ids::NodeKey;
use crate::operation::{self, OUTPUT_BYTES_MAX};
use crate::time::{HOUR_MS, Millis};
use crate::{Rejection, State, billing, check, name};

pub(crate) fn intent(state: &mut State, cx: &mut Cx<'_>, c: &RecordIntent) -> Result<Outcome, Rejection> {
    let mut node = fenced(state, &c.node, c.generation)?;
    check_host(state, &node)?;
    let next = next_state(state, &node, c.act)?;
    let is_known = node.intent.as_ref().is_some_and(|intent| intent.act == c.act && intent.generation == c.generation);
    if is_known && next == node.state {
        return Ok(Outcome::Unchanged { resource: name::node(&c.node) });
    }

    node.intent = Some(Intent { act: c.act, generation: c.generation, at: cx.now });
    if next != node.state {
        go(&mut node, cx.now, next, "");
    }
    Ok(put_node(state, cx, node))
}

/// The state in which an act is under way, if it may begin now.
fn next_state(state: &State, node: &Node, act: NodeAct) -> Result<NodeState, Rejection> {
    let has_genesis = state.chains.get(&node.key.chain).is_some_and(|chain| chain.genesis.is_some());
    let is_at = |stage: MoveStage| node.moving.as_ref().is_some_and(|moving| moving.stage == stage);
    match (act, node.state) {
        (NodeAct::Prepare, NodeState::Requested | NodeState::Preparing) => Ok(NodeState::Preparing),
        (NodeAct::Configure, NodeState::Prepared) if has_genesis => Ok(NodeState::Prepared),
        (NodeAct::Start, NodeState::Configured | NodeState::Starting) => Ok(NodeState::Starting),
        (NodeAct::Start, NodeState::Restarting) => Ok(NodeState::Restarting),
        (NodeAct::Stop, NodeState::Blocked | NodeState::Stopping) => Ok(node.state),
        (NodeAct::Remove, NodeState::Removing) => Ok(NodeState::Removing),
        (NodeAct::Fence, NodeState::Moving) if is_at(MoveStage::Fence) => Ok(NodeState::Moving),
        (NodeAct::Carry, NodeState::Moving) if is_at(MoveStage::Carry) => Ok(NodeState::Moving),
        (NodeAct::Clear, NodeState::Moving) if is_at(MoveStage::Clear) => Ok(NodeState::Moving),
        (NodeAct::Return, NodeState::Moving) if is_at(MoveStage::Return) => Ok(NodeState::Moving),
        (NodeAct::Seat, NodeState::Running) if node.seat.as_ref().is_some_and(Seat::is_due) => Ok(NodeState::Running),
        (
            NodeAct::Prepare
            | NodeAct::Configure
            | NodeAct::Start
            | NodeAct::Stop
            | NodeAct::Remove
            | NodeAct::Fence
            | NodeAct::Carry
            | NodeAct::Clear
            | NodeAct::Seat
            | NodeAct::Return,
            _,
        ) => {
            let needs = match act {
                NodeAct::Prepare => "only a requested node is prepared",
                NodeAct::Configure => "only a prepared node of a chain with a genesis is configured",
                NodeAct::Start => "only a configured or restarting node is started",
                NodeAct::Stop => "only a blocked node, or one that is to be stopped, is stopped",
                NodeAct::Remove => "only a node that is to be removed is removed",
                NodeAct::Fence => "only a node that moves is fenced where it leaves, first of all",
                NodeAct::Carry => "only a node that is fenced where it leaves is carried over",
                NodeAct::Clear => "only a node that was carried over is removed where it leaves",
                NodeAct::Return => "only a node that is given back is returned to its owner",
                NodeAct::Seat => "only a running node whose seat was decided on acts on its ledger for it",
            };
            Err(check::wrong_state("act", name::node(&node.key), node.state, needs))
        }
    }
}

pub(crate) fn fact(state: &mut State, cx: &mut Cx<'_>, c: &RecordNodeFact) -> Result<Outcome, Rejection> {
    let mut node = fenced(state, &c.node, c.generation)?;
    let before = node.clone();
    let wrong = |node: &Node, needs: &str| check::wrong_state("fact", name::node(&node.key), node.state, needs);
    if c.output.len() > OUTPUT_BYTES_MAX {
        let rule = format!("at most {OUTPUT_BYTES_MAX} bytes");
        return Err(check::invalid("output", format!("{} bytes", c.output.len()), rule));
    }
    let step = node.intent.as_ref().map(|intent| intent.act.word()).filter(|_| !c.output.is_empty());
    let intends = |node: &Node, act: NodeAct| node.intent.as_ref().is_some_and(|intent| intent.act == act);
    match (&c.fact, node.state) {
        (NodeFact::Prepared { identity }, NodeState::Preparing) => {
            check_identity(state, &node, identity)?;
            node.identity = Some(identity.clone());
            node.intent = None;
            go(&mut node, cx.now, NodeState::Prepared, "");
        }
        (NodeFact::Prepared { identity }, _) if node.identity.as_ref() == Some(identity) => {}
        (NodeFact::Prepared { .. }, _) if node.identity.is_some() => {
            let what = format!("the identity of {}", name::node(&c.node));
            return Err(Rejection::ConflictingFact { field: "fact".into(), what });
        }
        (NodeFact::Configured, NodeState::Prepared) if intends(&node, NodeAct::Configure) => {
            node.configured = true;
            node.returns = false;
            node.intent = None;
            go(&mut node, cx.now, NodeState::Configured, "");
        }
        (NodeFact::Configured, _) if node.configured => {}
        (NodeFact::Started, NodeState::Starting | NodeState::Restarting) if intends(&node, NodeAct::Start) => {
            node.intent = None;
            node.health = Health::Unknown;
            node.metered_until = Some(cx.now);
            height_apply::started(&mut node);
            node.adopting.iter_mut().for_each(|it| it.started = true);
            go(&mut node, cx.now, NodeState::Running, "");
        }
        (NodeFact::Started, NodeState::Running) => {}
        (NodeFact::Healthy, NodeState::Running | NodeState::Watched) => {
            node.health = Health::Healthy;
            node.state_reason = String::new();
        }
        (NodeFact::Unhealthy { reason }, NodeState::Running | NodeState::Watched) => {
            node.health = Health::Unhealthy;
            node.state_reason = check::clip(reason, REASON_MAX);
        }
        (NodeFact::Failed { .. } | NodeFact::Waiting { .. } | NodeFact::Signed { .. }, NodeState::Watched) => {
            return Err(wrong(&node, imported_apply::TOUCHES));
        }
        (NodeFact::Failed { reason }, _) => {
            billing::apply::stop(state, cx, &mut node);
            node.intent = None;
            node.health = Health::Unknown;
            go(&mut node, cx.now, NodeState::Blocked, reason);
        }
        (NodeFact::Waiting { .. }, NodeState::Blocked) => {
            return Err(wrong(&node, "a blocked node waits for a person"));
        }
        (NodeFact::Stopped, NodeState::Stopping) if intends(&node, NodeAct::Stop) => {
            node.intent = None;
            go(&mut node, cx.now, NodeState::Stopped, "");
        }
        (NodeFact::Stopped, NodeState::Stopped) => {}
        (NodeFact::Removed, NodeState::Removing) if intends(&node, NodeAct::Remove) => {
            if let Some(step) = step {
                operation::apply::output(state, cx, &c.node, step, &c.output);
            }
            return Ok(super::life_apply::gone(state, cx, &c.node));
        }
        (NodeFact::Fenced, NodeState::Moving) if intends(&node, NodeAct::Fence) => {
            advance(state, cx, &mut node, &c.fact)?
        }
        (NodeFact::Carried, NodeState::Moving) if intends(&node, NodeAct::Carry) => {
            advance(state, cx, &mut node, &c.fact)?
        }
        (NodeFact::Cleared, NodeState::Moving) if intends(&node, NodeAct::Clear) => {
            advance(state, cx, &mut node, &c.fact)?
        }
        (NodeFact::Returned, NodeState::Moving) if intends(&node, NodeAct::Return) => {
            advance(state, cx, &mut node, &c.fact)?
        }
        (NodeFact::Seated { validates }, NodeState::Running) if intends(&node, NodeAct::Seat) => {
            seat_apply::seated(&mut node, *validates)?;
        }
        (NodeFact::Seating { reason }, _) => seat_apply::waits(&mut node, reason)?,
        (NodeFact::Halted { height }, _) => height_apply::halted(&mut node, *height)?,
        (NodeFact::Signed { signed }, _) => node.signed = node.signed.max(Some(*signed)),
        (NodeFact::Waiting { reason }, _) => node.state_reason = check::clip(reason, REASON_MAX),
        (NodeFact::Prepared { .. }, _) => return Err(wrong(&node, "a leader must have meant to prepare it")),
        (NodeFact::Configured, _) => return Err(wrong(&node, "a leader must have meant to configure it")),
        (NodeFact::Started, _) => return Err(wrong(&node, "a leader must have meant to start it")),
        (NodeFact::Stopped, _) => return Err(wrong(&node, "a leader must have meant to stop it")),
        (NodeFact::Removed, _) => return Err(wrong(&node, "a leader must have meant to remove it")),
        (NodeFact::Seated { .. }, _) => return Err(wrong(&node, "a leader must have meant its seat")),
        (NodeFact::Fenced | NodeFact::Carried | NodeFact::Cleared | NodeFact::Returned, _) => {
            return Err(wrong(&node, "a leader must have meant this step of a move"));
        }
        (NodeFact::Healthy | NodeFact::Unhealthy { .. }, _) => {
            return Err(wrong(&node, "only a running node has health"));
        }
    }
    if node == before {
        return Ok(Outcome::Unchanged { resource: name::node(&c.node) });
    }
    if let Some(step) = step {
        operation::apply::output(state, cx, &c.node, step, &c.output);
    }
    Ok(put_node(state, cx, node))
}

pub(crate) fn restart(state: &mut State, cx: &mut Cx<'_>, c: &RestartNode) -> Result<Outcome, Rejection> {
    let mut node = fenced(state, &c.node, c.generation)?;
    check::text("reason", &check::clip(&c.reason, REASON_MAX), REASON_MAX)?;
    let is_by_hand = cx.request.actor != Actor::System;
    height_apply::check_goes_on(&node)?;
    match node.state {
        NodeState::Starting | NodeState::Running | NodeState::Restarting => {}
        NodeState::Blocked if is_by_hand => {}
        NodeState::Blocked => {
            let needs = "a blocked node waits for a person";
            return Err(check::wrong_state("node", name::node(&c.node), node.state, needs));
        }
        NodeState::Requested | NodeState::Preparing | NodeState::Prepared | NodeState::Configured => {
            let needs = "it was never started, so there is nothing to start again";
            return Err(check::wrong_state("node", name::node(&c.node), node.state, needs));
        }
        NodeState::Watched => {
            let needs = imported_apply::TOUCHES;
            return Err(check::wrong_state("node", name::node(&c.node), node.state, needs));
        }
        NodeState::Moving => {
            let needs = "it goes to another host, and is started there";
            return Err(check::wrong_state("node", name::node(&c.node), node.state, needs));
        }
        NodeState::Stopping | NodeState::Stopped | NodeState::Removing => {
            let needs = "its chain is paused or deleted, or it leaves the chain, so it is not to run";
            return Err(check::wrong_state("node", name::node(&c.node), node.state, needs));
        }
    }
    if is_by_hand && !c.accept_outage && state.version() >= Version::GUARDED {
        check_spared(state, &node)?;
    }
    node.restarts = recent_restarts(&node, cx.now);
    let budget = super::repair::budget(state, &c.node.chain);
    let is_counted = !is_from_before(state, &node);
    if !is_by_hand && is_counted && node.restarts.len() >= budget {
        let (node, budget) = (name::node(&c.node), budget as u64);
        return Err(Rejection::RestartBudgetSpent { node, budget });
    }

    billing::apply::stop(state, cx, &mut node);
    if is_by_hand {
        // A person has looked at it: automatic repair starts afresh.
        node.restarts.clear();
    } else if is_counted {
        node.restarts.push(cx.now);
    }
    node.generation += 1;
    node.health = Health::Unknown;
    node.intent = None;
    let next = next_on_way(&node);
    go(&mut node, cx.now, next, &c.reason);
    Ok(put_node(state, cx, node))
}

/// Checks that the chain goes on making blocks while this node is down; one that makes none already has nothing to lose.
pub(super) fn check_spared(state: &State, node: &Node) -> Result<(), Rejection> {
    let of_chain = || query::nodes_of(state, &node.key.chain).filter(|node| node.validates());
    let is_well = |node: &&Node| node.state == NodeState::Running && node.health == Health::Healthy;
    let well = of_chain().filter(is_well).count();
    let validators = query::counted(state, &node.key.chain);
    let needed = quorum(validators);
    if !node.validates() || !is_well(&node) || well != needed {
        return Ok(());
    }
    let rule = format!(
        "agreed to: {well} of {validators} validators are well and the chain needs {needed}, so it makes no block while this one \
         starts"
    );
    Err(check::invalid("accept_outage", false, rule))
}

/// Where a node goes on that was interrupted: from the last thing that is known to be done towards what is wished for it.
pub(crate) fn next_on_way(node: &Node) -> NodeState {
    // Whatever is wished meanwhile: only when it is at one host alone can it be started, stopped or removed there.
    if node.moving.is_some() {
        return NodeState::Moving;
    }
    match (node.wish, node.identity.is_some(), node.configured) {
        (NodeWish::Stop, ..) => NodeState::Stopping,
        (NodeWish::Watch, ..) => NodeState::Watched,
        (NodeWish::Remove, ..) => NodeState::Removing,
        (NodeWish::Run | NodeWish::Leave, false, _) => NodeState::Requested,
        (NodeWish::Run | NodeWish::Leave, true, false) => NodeState::Prepared,
        (NodeWish::Run | NodeWish::Leave, true, true) => NodeState::Restarting,
    }
}

/// Restarts of the last hour of log time.
pub(crate) fn recent_restarts(node: &Node, now: Millis) -> Vec<Millis> {
    node.restarts.iter().copied().filter(|at| now.since(*at) < HOUR_MS).collect()
}

pub(crate) fn go(node: &mut Node, now: Millis, state: NodeState, reason: &str) {
    if node.state != state {
        node.state = state;
        node.state_since = now;
    }
    node.state_reason = check::clip(reason, REASON_MAX);
}

/// The node as it is now, and what its chain is by that.
pub(super) fn put_node(state: &mut State, cx: &mut Cx<'_>, node: Node) -> Outcome {
    let (resource, chain) = (name::node(&node.key), node.key.chain.clone());
    state.nodes.insert(node.key.clone(), node);
    cx.updated(resource.clone());
    sync(state, cx, &chain);
    Outcome::Done { resource }
}

pub(crate) fn fenced(state: &State, key: &NodeKey, generation: u64) -> Result<Node, Rejection> {
    let node = query::get_node(state, key)?;
    if node.generation == generation {
        return Ok(node.clone());
    }
    Err(Rejection::StaleGeneration { node: name::node(key), current: node.generation, given: generation })
}

fn check_host(state: &State, node: &Node) -> Result<(), Rejection> {
    let Some(host) = node.host.as_ref().and_then(|host| state.hosts.get(host)) else {
        return Err(check::wrong_state("node", name::node(&node.key), node.state, "it has no host yet"));
    };
    match host.state {
        HostState::Ready | HostState::Cordoned | HostState::Maintenance | HostState::Draining => Ok(()),
        HostState::Distrusted => Err(crate::host::apply::distrusted(host)),
    }
}

fn check_identity(state: &State, node: &Node, identity: &NodeIdentity) -> Result<(), Rejection> {
    check::text("fact.identity.node_id", &identity.node_id, crate::host::TEXT_MAX)?;
    check::text("fact.identity.public_key", &identity.public_key, crate::host::TEXT_MAX)?;
    let contributed = identity.contribution.as_ref().map_or(1, |blob| blob.0.len() as u64);
    check::range("fact.identity.contribution", contributed, 1, CONTRIBUTION_BYTES_MAX as u64)?;
    let mut others = query::nodes_of(state, &node.key.chain).filter(|other| other.key != node.key);
    let is_taken = others.any(|other| {
        let theirs = other.identity.as_ref();
        theirs.is_some_and(|id| id.node_id == identity.node_id || id.public_key == identity.public_key)
    });
    let is_retired =
        state.chains.get(&node.key.chain).is_some_and(|chain| chain.retired_keys.contains(&identity.public_key));
    if is_retired {
        let what = format!(
            "the key of a node that was removed from {}, which never comes back,",
            name::chain(&node.key.chain)
        );
        return Err(Rejection::ConflictingFact { field: "fact".into(), what });
    }
    // After a second preparation the keys are still those of the first.
    let differs = node.identity.as_ref().is_some_and(|known| known != identity);
    if is_taken || differs {
        let what = format!("the identity of {}", name::node(&node.key));
        return Err(Rejection::ConflictingFact { field: "fact".into(), what });
    }
    Ok(())
}
