//! Life of a node: prepare, configure, start, watch; stop and remove.

use hanse_state::chain::life::NodeWish;
use hanse_state::chain::node::{Health, Node, NodeFact, NodeState};
use hanse_state::chain::repair::budget;
use hanse_state::host::HostState;
use hanse_state::ids::{HostId, NodeKey};
use hanse_state::{Millis, State};

use crate::hang::standing;
use crate::moving::plan_move;
use crate::repair::{fault, is_outdated};
use crate::{Act, InstanceView, NodeView, Observed, Run, Step, plan_repair};

/// How often a running node is looked at.
pub const HEALTH_PERIOD_MS: u64 = 2_000;
/// Silence after which a node that had answered is unhealthy.
pub const HEALTH_SILENCE_MS: u64 = 15_000;
/// Silence after its start that a node is granted.
pub const START_GRACE_MS: u64 = 60_000;

/// Returns what to do next with a node.
pub fn plan_node(state: &State, key: &NodeKey, observed: &Observed, now: Millis) -> Step {
    let Some(node) = state.nodes.get(key) else { return Step::Done };
    match node.wish {
        NodeWish::Run => {}
        NodeWish::Leave => {
            if !may_validate(node, observed) {
                return Step::Do(Act::Release { node: key.clone(), generation: node.generation });
            }
        }
        NodeWish::Stop | NodeWish::Remove => return plan_end(state, node),
        NodeWish::Watch => return plan_watched(node, observed, now),
    }
    if node.watched.is_some() {
        // It is to be taken over, and its turn has not come.
        return plan_watched(node, observed, now);
    }
    if node.state == NodeState::Moving {
        return plan_move(state, node);
    }
    if let Some(reason) = host_obstacle(state, node) {
        return Step::wait(reason);
    }
    if let Some(step) = plan_standing(node, observed, now) {
        return step;
    }
    let has_genesis = state.chains.get(&key.chain).is_some_and(|chain| chain.genesis.is_some());
    let (node_key, generation) = (key.clone(), node.generation);
    match node.state {
        NodeState::Requested | NodeState::Preparing => Step::Do(Act::Prepare { node: node_key, generation }),
        NodeState::Prepared if has_genesis => Step::Do(Act::Configure { node: node_key, generation }),
        NodeState::Prepared => Step::wait("waits for the chain's genesis"),
        NodeState::Configured => Step::Do(Act::Start { node: node_key, generation }),
        NodeState::Starting | NodeState::Restarting => plan_start(state, node, observed, now),
        NodeState::Running => plan_running(state, node, observed, now),
        NodeState::Blocked => Step::wait(format!("blocked: {}", node.state_reason)),
        NodeState::Stopping | NodeState::Stopped | NodeState::Removing | NodeState::Moving | NodeState::Watched => {
            Step::wait("it is wished to run, and its next state says how")
        }
    }
}

/// What to do with a node that stands where its program is exchanged: look at it, and nothing else. Whether its process lives or has
/// ended, it goes on with the next program.
fn plan_standing(node: &Node, observed: &Observed, now: Millis) -> Option<Step> {
    let height = node.stands_at()?;
    match node.state {
        NodeState::Running => {
            let view = observed.nodes.get(&node.key);
            let has_ended = view.and_then(|view| view.instance.as_ref()).is_some_and(|it| it.run != Run::Running);
            let health = view.and_then(|view| view.health.as_ref());
            let is_fresh = health.is_some_and(|health| now.since(health.at) < HEALTH_PERIOD_MS);
            let look = Step::Do(Act::CheckHealth { node: node.key.clone(), generation: node.generation });
            Some(if is_fresh || has_ended { Step::wait(format!("it stands before block {height}")) } else { look })
        }
        NodeState::Starting | NodeState::Restarting => Some(Step::wait(format!("it stands before block {height}"))),
        NodeState::Requested
        | NodeState::Preparing
        | NodeState::Prepared
        | NodeState::Configured
        | NodeState::Blocked
        | NodeState::Stopping
        | NodeState::Stopped
        | NodeState::Removing
        | NodeState::Moving
        | NodeState::Watched => None,
    }
}

/// Whether the ledger may still count on the node: only its own word, seen by this leader, says no.
fn may_validate(node: &Node, observed: &Observed) -> bool {
    let Some(identity) = &node.identity else { return false };
    observed.validators.get(&node.key.chain).is_none_or(|validators| validators.contains(&identity.public_key))
}

/// What to do with a node that is not to run.
fn plan_end(state: &State, node: &Node) -> Step {
    let (key, generation) = (node.key.clone(), node.generation);
    match node.state {
        NodeState::Stopped => Step::Done,
        NodeState::Moving => plan_move(state, node),
        NodeState::Blocked => Step::wait(format!("blocked: {}", node.state_reason)),
        _ => match (host_obstacle(state, node), node.wish) {
            (Some(reason), _) => Step::wait(reason),
            (None, NodeWish::Remove) => Step::Do(Act::Remove { node: key, generation }),
            (None, NodeWish::Stop | NodeWish::Run | NodeWish::Leave | NodeWish::Watch) => {
                Step::Do(Act::Stop { node: key, generation })
            }
        },
    }
}

/// What to do with a node that is not the platform's: look at it, and say when its health changes. Nothing else is ever done.
fn plan_watched(node: &Node, observed: &Observed, now: Millis) -> Step {
    let (key, generation) = (node.key.clone(), node.generation);
    let look = Step::Do(Act::CheckHealth { node: key.clone(), generation });
    let view = observed.nodes.get(&node.key);
    let Some(NodeView { instance: Some(instance), health }) = view else { return look };
    if instance.generation != generation {
        return look;
    }
    let health = health.as_ref().filter(|health| health.generation == generation);
    let silence = now.since(health.as_ref().map_or(node.state_since.max(observed.since), |health| health.at));
    let words = match (&instance.run, health) {
        (Run::Unreachable { reason }, _) if silence >= HEALTH_SILENCE_MS => Some(reason.clone()),
        (Run::Unreachable { .. }, _) | (_, None) => return look,
        (_, Some(health)) if !health.reasons.is_empty() => Some(health.reasons.join("; ")),
        (_, Some(health)) if health.syncing => Some(format!("it is catching up, at height {}", health.height)),
        (_, Some(_)) => None,
    };
    let fact = match (words, node.health) {
        (None, Health::Unknown | Health::Unhealthy) => NodeFact::Healthy,
        (Some(reason), Health::Unknown | Health::Healthy) => NodeFact::Unhealthy { reason },
        // Another kind of illness is told; what only counts on is not.
        (Some(reason), Health::Unhealthy) if kind(&reason) != kind(&node.state_reason) => {
            NodeFact::Unhealthy { reason }
        }
        (None, Health::Healthy) | (Some(_), Health::Unhealthy) => {
            let is_fresh = health.as_ref().is_some_and(|health| now.since(health.at) < HEALTH_PERIOD_MS);
            return if is_fresh { Step::Done } else { look };
        }
    };
    Step::Do(Act::RecordHealth { node: key, generation, fact })
}

/// What kind of illness words tell of: those before the first number or colon.
fn kind(words: &str) -> &str {
    words.split(|c: char| c.is_ascii_digit() || c == ':').next().unwrap_or_default()
}

/// Why nothing can be done on the node's host.
pub(crate) fn host_obstacle(state: &State, node: &Node) -> Option<String> {
    match &node.host {
        Some(id) => obstacle(state, id),
        None => Some("waits for a slot on a host".into()),
    }
}

/// Why nothing can be done on a host.
pub(crate) fn obstacle(state: &State, id: &HostId) -> Option<String> {
    match state.hosts.get(id) {
        Some(host) if host.state == HostState::Distrusted => {
            Some(format!("hosts/{id} is distrusted: {}", host.state_reason))
        }
        // Whoever works on it may stop and start what he likes; it is looked at again when he is done.
        Some(host) if host.state == HostState::Maintenance => {
            Some(format!("hosts/{id} is in maintenance: {}", host.state_reason))
        }
        Some(_) => None,
        None => Some(format!("hosts/{id} is gone")),
    }
}

fn plan_start(state: &State, node: &Node, observed: &Observed, now: Millis) -> Step {
    let start = Step::Do(Act::Start { node: node.key.clone(), generation: node.generation });
    let instance = observed.nodes.get(&node.key).and_then(|view| view.instance.as_ref());
    match instance {
        // This generation was started and has died: starting it again is a restart and costs budget.
        Some(InstanceView { generation, run: Run::Exited { .. } }) if *generation == node.generation => {
            plan_repair(state, &node.key, observed, now)
        }
        // An unreachable host too: nothing else would look at it again, and the attempt itself says why it waits.
        Some(InstanceView { .. }) | None => start,
    }
}

fn plan_running(state: &State, node: &Node, observed: &Observed, now: Millis) -> Step {
    let look = Step::Do(Act::CheckHealth { node: node.key.clone(), generation: node.generation });
    let Some(NodeView { instance: Some(instance), health }) = observed.nodes.get(&node.key) else {
        // A new leader looks before it judges.
        return look;
    };
    let mut turn = None;
    match &instance.run {
        Run::Running if instance.generation == node.generation => {}
        // Until it is replaced it is looked at and judged as it is.
        Run::Running => match plan_repair(state, &node.key, observed, now) {
            step @ Step::Do(_) => return step,
            step @ (Step::Wait { .. } | Step::Done) => turn = Some(step),
        },
        Run::Exited { .. } | Run::Missing | Run::Prepared => {
            return match (plan_repair(state, &node.key, observed, now), fault(node, instance)) {
                // What is dead is not called healthy until its pause has passed.
                (Step::Wait { .. }, Some((reason, true))) if node.health != Health::Unhealthy => {
                    let next = match budget(state, &node.key.chain) {
                        0 => "automatic repair of its chain is off",
                        _ => "it is started again after a pause",
                    };
                    let fact = NodeFact::Unhealthy { reason: format!("{reason}; {next}") };
                    Step::Do(Act::RecordHealth { node: node.key.clone(), generation: node.generation, fact })
                }
                (step, _) => step,
            };
        }
        // The silence below is judged whether the host or the node is silent.
        Run::Unreachable { .. } => {}
    }
    if let Some(fact) = health_change(state, node, instance, observed, now) {
        return Step::Do(Act::RecordHealth { node: node.key.clone(), generation: node.generation, fact });
    }
    let is_fresh = health.as_ref().is_some_and(|health| now.since(health.at) < HEALTH_PERIOD_MS);
    if let Some(step) = turn {
        return if is_fresh { step } else { look };
    }
    // One that hangs is started anew within its budget; while that has to wait it is looked at, for it may come to.
    if let repair @ Step::Do(_) = plan_repair(state, &node.key, observed, now) {
        return repair;
    }
    if is_fresh { Step::Done } else { look }
}

/// The fact to record if the node's health is not what the state says.
fn health_change(
    state: &State,
    node: &Node,
    instance: &InstanceView,
    observed: &Observed,
    now: Millis,
) -> Option<NodeFact> {
    let trouble = trouble(state, node, instance, observed, now)?;
    match (trouble, node.health) {
        (None, Health::Healthy) => None,
        (None, Health::Unknown | Health::Unhealthy) => Some(NodeFact::Healthy),
        // Words may change with every look (a height, a count); only the change to unhealthy is worth an entry.
        (Some(_), Health::Unhealthy) => None,
        (Some(reason), Health::Unknown | Health::Healthy) => Some(NodeFact::Unhealthy { reason }),
    }
}

/// `None` if nothing can be said yet, `Some(None)` if it is well, else what is wrong.
fn trouble(
    state: &State,
    node: &Node,
    instance: &InstanceView,
    observed: &Observed,
    now: Millis,
) -> Option<Option<String>> {
    let health = observed.nodes.get(&node.key).and_then(|view| view.health.as_ref());
    // By generation and not by time: log time may be ahead of this leader's clock. One that is to be replaced speaks for itself.
    let generation = if is_outdated(node, instance) { instance.generation } else { node.generation };
    let health = health.filter(|health| health.generation == generation);
    let heard = health.map_or(node.state_since.max(observed.since), |health| health.at);
    let silence = now.since(heard);
    let has_spoken = health.is_some() || node.health == Health::Healthy;
    let limit = if has_spoken { HEALTH_SILENCE_MS } else { START_GRACE_MS };
    if silence >= limit {
        let cause = match &instance.run {
            Run::Unreachable { reason } => format!(": host unreachable: {reason}"),
            Run::Prepared | Run::Running | Run::Exited { .. } | Run::Missing => String::new(),
        };
        return Some(Some(format!("silent for {} seconds{cause}", silence / 1_000)));
    }
    let health = health?;
    let is_alone = hanse_state::chain::query::nodes_of(state, &node.key.chain).count() == 1;
    let is_starting = now.since(node.state_since) < START_GRACE_MS;
    let is_cut_off = health.peers == 0 && !is_alone;
    let mut words: Vec<String> = is_cut_off.then(|| "it has no peers".into()).into_iter().collect();
    if health.reasons.is_empty() && health.syncing && !is_cut_off {
        words.push(format!("it is catching up, at height {}", health.height));
    }
    words.extend(health.reasons.iter().cloned());
    words.extend(standing(node, observed));
    match words.is_empty() {
        true => Some(None),
        // A young node is granted time to find its peers and to catch up.
        false if is_starting && node.health == Health::Unknown => None,
        false => Some(Some(words.join("; "))),
    }
}
