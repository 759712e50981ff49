//! Rolling changes: which node is configured and started anew next, if any may be.

use hanse_state::chain::Chain;
use hanse_state::chain::moving::MoveStage;
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::chain::outfit::Outfit;
use hanse_state::chain::query::nodes_of;
use hanse_state::chain::rollout::Rollout;
use hanse_state::cluster::version::Version;
use hanse_state::ids::NodeId;
use hanse_state::{Millis, State};

use crate::{Act, Observed, Run, Step};

/// How long a node may take to be well again before the rollout halts.
pub const ROLL_LIMIT_MS: u64 = 300_000;
/// How many blocks a node may be behind the highest one and still count as caught up.
pub const ROLL_BEHIND_MAX: u64 = 5;

/// Returns the next step of the chain's rollout; `None` if there is none under way.
///
/// One node at a time: the next only while every other one is well and has caught up. A node that is ill and was not reached
/// yet comes first, for it may be what the rollout is to heal and its restart costs nothing.
pub(crate) fn plan_rollout(state: &State, chain: &Chain, observed: &Observed, now: Millis) -> Option<Step> {
    let rollout = chain.rollout.as_ref()?;
    let nodes: Vec<&Node> = nodes_of(state, &chain.key).filter(|node| node.wish.is_run()).collect();
    let due: Vec<&Node> = nodes.iter().copied().filter(|node| node.rolled < rollout.number).collect();
    if due.is_empty() {
        // Before, nothing could be halted that has reached all.
        let is_told = state.version() >= Version::HEIGHTS;
        return is_told.then(|| last(chain, rollout, &nodes, (observed, now))).flatten();
    }
    if let Some(reason) = &rollout.halted {
        return Some(Step::wait(format!("rolling change {} is halted: {reason}", rollout.number)));
    }
    if let Some(node) = nodes.iter().find(|node| node.identity.is_none()) {
        return Some(Step::wait(format!("{} must have its keys before the others can learn of it", node.key.node)));
    }
    let moved = |node: &&&Node| rollout.moved == Some(node.key.node) && node.state != NodeState::Running;
    if let Some(node) = nodes.iter().find(moved) {
        return Some(Step::wait(format!("{} must run at its new host before the others are told", node.key.node)));
    }
    let is_back = chain.refit.as_ref().is_some_and(|it| it.rolled_back.is_some() && it.rollout == rollout.number);
    if let Some(step) = heal(&due, is_back.then_some(&chain.outfit), rollout.number, observed) {
        return Some(step);
    }
    // What stands there may be down at any moment, whatever was seen of it last.
    let kept = |node: &&Node| Some((node.key.node, crate::node::host_obstacle(state, node)?));
    if let Some((node, why)) = nodes.iter().find_map(kept) {
        return Some(Step::wait(format!("{node}: {why}")));
    }
    // What joins is well only once the others know it, and what has moved once one of them does.
    let told = |moved: &NodeId| nodes.iter().any(|it| it.key.node != *moved && it.rolled == rollout.number);
    let untold = rollout.moved.filter(|moved| !told(moved));
    let is_news = |node: &Node| node.joined == rollout.number || untold == Some(node.key.node);
    let reached = |node: &&&Node| node.rolled == rollout.number && !is_news(node);
    for node in nodes.iter().filter(reached) {
        if let Some(ill) = illness(node, &nodes, observed) {
            return Some(wait_or_halt(chain, rollout, node, ill, (observed, now)));
        }
    }
    let ill = due.iter().find_map(|node| Some((*node, illness(node, &nodes, observed)?)));
    let next = ill.as_ref().map_or(due[0], |(node, _)| node);
    let others = due.iter().filter(|node| node.key != next.key);
    if let Some((node, ill)) = others.filter_map(|node| Some((node, illness(node, &nodes, observed)?))).next() {
        return Some(Step::wait(format!("{} is not well: {ill}", node.key.node)));
    }
    let is_under_way =
        matches!(next.state, NodeState::Prepared | NodeState::Configured | NodeState::Starting | NodeState::Moving);
    if is_under_way {
        return Some(Step::wait(format!("{} is being started", next.key.node)));
    }
    Some(roll(next, rollout.number))
}

/// All are reached: if what they run was changed, the last one may not come back either, and people are told.
fn last(chain: &Chain, rollout: &Rollout, nodes: &[&Node], (observed, now): (&Observed, Millis)) -> Option<Step> {
    let is_open = chain.refit.as_ref().is_some_and(|it| it.settled_at.is_none() && it.rollout == rollout.number);
    if !is_open || rollout.halted.is_some() {
        return None;
    }
    let ill = nodes.iter().find_map(|node| Some((*node, illness(node, nodes, observed)?)));
    let step = ill.map(|(node, ill)| wait_or_halt(chain, rollout, node, ill, (observed, now)));
    step.filter(|step| matches!(step, Step::Do(_)))
}

/// Has the node begun by this rollout.
pub(crate) fn roll(node: &Node, number: u64) -> Step {
    Step::Do(Act::Roll { node: node.key.clone(), generation: node.generation, number })
}

/// On the way back to what the nodes had before (`back`): one that is down with what is given up, whose restart costs nothing
/// and heals it. It waits for no other, for two that are down could wait for each other for ever.
fn heal(due: &[&Node], back: Option<&Outfit>, number: u64, observed: &Observed) -> Option<Step> {
    let back = back?;
    let is_down = |node: &&&Node| match node.state {
        NodeState::Running => {
            has_ended(node, observed) || (node.health == Health::Unhealthy && is_silent(node, observed))
        }
        NodeState::Moving | NodeState::Requested | NodeState::Preparing => false,
        _ => true,
    };
    // What stands at a height that is called off has ended there, and goes on when it is told so.
    let goes_back = |node: &&&Node| node.outfit != *back || node.halt.is_some();
    due.iter().filter(goes_back).find(is_down).map(|node| roll(node, number))
}

/// Whether this leader has asked the node's present generation and never had an answer: one that was not asked may be well.
fn is_silent(node: &Node, observed: &Observed) -> bool {
    let health = observed.nodes.get(&node.key).and_then(|view| view.health.as_ref());
    let has_spoken = health.is_some_and(|it| it.generation == node.generation);
    let quiet = observed.quiet.get(&node.key).filter(|it| it.generation == node.generation);
    !has_spoken && quiet.is_some_and(|it| it.silent_since.is_some())
}

/// Whether the process of the node's present generation was seen to have ended.
pub(crate) fn has_ended(node: &Node, observed: &Observed) -> bool {
    let instance = observed.nodes.get(&node.key).and_then(|view| view.instance.as_ref());
    instance.is_some_and(|it| it.generation == node.generation && matches!(it.run, Run::Exited { .. }))
}

/// Waits for a node that was begun, or halts the rollout for it.
pub(crate) fn wait_or_halt(
    chain: &Chain,
    rollout: &Rollout,
    node: &Node,
    ill: String,
    seen: (&Observed, Millis),
) -> Step {
    let (observed, now) = seen;
    let reason = format!("{} has not come back: {ill}", node.key.node);
    // What it runs is new to it and has ended by itself twice, once after a restart: more of the same tells nothing more.
    let is_change = chain.refit.as_ref().is_some_and(|refit| refit.rollout == rollout.number);
    let again = is_change && !node.restarts.is_empty();
    let ends_again = again && (has_ended(node, observed) || crate::hang::hang(node, observed, now).is_some());
    if node.state != NodeState::Blocked && (takes_its_time(node) || is_unseen(node, observed)) {
        return Step::wait(reason);
    }
    let limit = rollout.limit_ms.unwrap_or(ROLL_LIMIT_MS);
    // After a restore all are started anew, one after another: that is no fault of the change.
    let instance = observed.nodes.get(&node.key).and_then(|view| view.instance.as_ref());
    if node.state == NodeState::Running && instance.is_some_and(|instance| crate::repair::is_outdated(node, instance)) {
        return Step::wait(reason);
    }
    let since = node.moving.as_ref().map_or(node.state_since, |moving| moving.since.max(node.state_since));
    // One that was well falls behind for a look now and then: it has as long to catch up as one that was just started.
    let trails = observed.quiet.get(&node.key).filter(|it| it.generation == node.generation);
    let since = trails.and_then(|it| it.trails_since).map_or(since, |trails| trails.max(since));
    if node.state == NodeState::Blocked || ends_again || now.since(since) >= limit {
        return Step::Do(Act::HaltRollout { chain: chain.key.clone(), number: rollout.number, reason });
    }
    Step::wait(reason)
}

/// Whether the node has come back by the log's word, and this leader has not heard it yet: a new leader knows nothing that would speak
/// against it, however long ago that was. If it is silent that is written down, and then counts.
fn is_unseen(node: &Node, observed: &Observed) -> bool {
    let view = observed.nodes.get(&node.key);
    let health = view.and_then(|view| view.health.as_ref()).filter(|health| health.generation == node.generation);
    let instance = view.and_then(|view| view.instance.as_ref());
    let is_faulty = instance.is_some_and(|it| crate::repair::fault(node, it).is_some());
    let is_well = matches!((node.state, node.health), (NodeState::Running | NodeState::Watched, Health::Healthy));
    is_well && health.is_none() && !is_faulty
}

/// Whether a node that is taken over is at a step that no limit is set to: its owner is to stop it, whenever that is, or its home is
/// copied, however large it is.
fn takes_its_time(node: &Node) -> bool {
    let Some(adopting) = &node.adopting else { return false };
    match node.moving.as_ref().map(|moving| moving.stage) {
        Some(MoveStage::Fence) => !adopting.stop,
        Some(MoveStage::Carry) => true,
        Some(MoveStage::Clear | MoveStage::Return) | None => false,
    }
}

/// Why a node does not count as well; `None` if it does.
pub(crate) fn illness(node: &Node, nodes: &[&Node], observed: &Observed) -> Option<String> {
    let words = |what: &str| match node.state_reason.as_str() {
        "" => what.to_owned(),
        reason => format!("{what} ({reason})"),
    };
    match (node.state, node.health) {
        // Its owner's still.
        (NodeState::Running | NodeState::Watched, Health::Healthy) => {}
        (NodeState::Running, Health::Unknown) => return Some(words("not heard yet")),
        (NodeState::Running, Health::Unhealthy) => return Some(words("unhealthy")),
        (state, _) => return Some(words(&format!("{state:?}").to_lowercase())),
    }
    if has_ended(node, observed) {
        return Some("its process has ended".into());
    }
    let instance = observed.nodes.get(&node.key).and_then(|view| view.instance.as_ref());
    if let Some((fault, _)) = instance.and_then(|instance| crate::repair::fault(node, instance)) {
        return Some(fault);
    }
    let height = |node: &Node| {
        let health = observed.nodes.get(&node.key)?.health.as_ref()?;
        (health.generation == node.generation).then_some(health.height)
    };
    let best = nodes.iter().filter_map(|node| height(node)).max().unwrap_or(0);
    match height(node) {
        None => Some("this leader has not looked at it yet".into()),
        Some(own) if own + ROLL_BEHIND_MAX < best => Some(format!("at height {own}, the others are at {best}")),
        Some(_) => None,
    }
}
