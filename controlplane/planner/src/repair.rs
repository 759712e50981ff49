//! A process that should run and does not: start it again, not too often, and never at the cost of the quorum.

use hanse_state::chain::height::HaltStage;
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::chain::query::{counted, nodes_of};
use hanse_state::chain::repair::budget;
use hanse_state::cluster::backup::is_from_before;
use hanse_state::host::HostState;
use hanse_state::ids::NodeKey;
use hanse_state::time::HOUR_MS;
use hanse_state::{Millis, State};

use crate::hang::hang;
use crate::node::host_obstacle;
use crate::rollout::ROLL_LIMIT_MS;
use crate::{Act, InstanceView, Observed, Quiet, Run, Step};

/// Pause before the second restart within an hour; it doubles with each further one, so that a cause that passes by
/// itself (a full disk, a port still held) has minutes to pass before the budget is spent.
pub const BACKOFF_MS_BASE: u64 = 10_000;
/// Longest pause between two restarts.
pub const BACKOFF_MS_MAX: u64 = 300_000;

/// Returns what to do with a node whose process is not as it should be; `Done` if nothing is wrong with it.
///
/// A dead process is started again at once or after its pause: it is not part of the quorum any more. A live one of
/// another generation, or one that hangs, is replaced only while the others are enough for the quorum; those of older generations,
/// as all are after a restore, one after another. One that ended where it may stand for its chain's change of program is first asked.
pub fn plan_repair(state: &State, key: &NodeKey, observed: &Observed, now: Millis) -> Step {
    // One that is only watched is not the platform's to start.
    let Some(node) = state.nodes.get(key).filter(|node| node.watched.is_none()) else { return Step::Done };
    if let Some(height) = node.stands_at() {
        return Step::wait(format!("it stands before block {height}, where its program is exchanged"));
    }
    let Some(instance) = observed.nodes.get(key).and_then(|view| view.instance.as_ref()) else {
        return Step::wait("the host was not asked yet");
    };
    if may_stand(node, instance) && observed.placed.get(key) != Some(&instance.generation) {
        // Started with the program before it would only end there again.
        return Step::Do(Act::CheckHealth { node: key.clone(), generation: node.generation });
    }
    let is_old = is_outdated(node, instance);
    let validators = counted(state, &key.chain);
    let (reason, needed, hangs) = match (fault(node, instance), hang(node, observed, now)) {
        (Some((reason, true)), _) => (reason, 0, false),
        (Some((reason, false)), _) if is_old => (reason, quorum(validators).min(others(state, key)), false),
        (Some((reason, false)), _) => (reason, quorum(validators), false),
        // That it takes no part is not proven by its silence.
        (None, Some(reason)) => (reason, quorum(validators), true),
        (None, None) => return Step::Done,
    };
    if let Some(why) = is_old.then(|| turn(state, node, observed, now)).flatten() {
        return Step::wait(format!("{reason}; {why}"));
    }
    let is_counted = !is_from_before(state, node);
    if let Some(step) = is_counted.then(|| spent(state, node, &reason, hangs, now)).flatten() {
        return step;
    }
    if well_but(state, key, |other| is_sound(other, observed)) < needed {
        return Step::wait(format!("{reason}; restart would cost the chain its quorum"));
    }
    Step::Do(Act::Restart { node: key.clone(), generation: node.generation, reason })
}

/// What to do instead of a restart that the chain's budget does not allow, or not yet.
fn spent(state: &State, node: &Node, reason: &str, hangs: bool, now: Millis) -> Option<Step> {
    let budget = budget(state, &node.key.chain);
    if budget == 0 {
        return Some(Step::wait(format!("{reason}; automatic repair of its chain is off")));
    }
    let recent: Vec<Millis> = node.restarts.iter().copied().filter(|at| now.since(*at) < HOUR_MS).collect();
    if recent.len() >= budget {
        let reason = format!("{reason}; it was restarted {budget} times within an hour");
        if hangs {
            // It lives, and is looked at as before.
            return Some(Step::wait(reason));
        }
        return Some(Step::Do(Act::Block { node: node.key.clone(), generation: node.generation, reason }));
    }
    if let Some(last) = recent.last() {
        let due = last.plus(backoff_ms(recent.len()));
        // A restart far in the future is the mark of a former leader's clock: it must not stop this one's work.
        if now < due && last.since(now) <= BACKOFF_MS_MAX {
            return Some(Step::wait(format!("{reason}; restart in {} ms", due.since(now))));
        }
    }
    None
}

/// Whether the process lives and is of an older generation: it works, and is to be started anew all the same.
pub(crate) fn is_outdated(node: &Node, instance: &InstanceView) -> bool {
    instance.run == Run::Running && instance.generation < node.generation
}

/// Whether the process, which was told to stop at a height, has ended and may have done so for that.
fn may_stand(node: &Node, instance: &InstanceView) -> bool {
    node.halt.is_some_and(|halt| halt.stage == HaltStage::Told) && matches!(instance.run, Run::Exited { .. })
}

/// Why a node of an older generation waits for others of its chain: those that are on their way, and the one whose turn it is. That is
/// one that is not well, or the first; what is planned for two in one round is planned from one state. Nobody waits for one with which
/// nothing can be done where it is, or that is on its way for too long: then the quorum alone says whether a node can be missed.
fn turn(state: &State, node: &Node, observed: &Observed, now: Millis) -> Option<String> {
    let runs = |other: &&Node| {
        let is_ours = other.wish.is_run() && other.watched.is_none() && other.identity.is_some();
        is_ours && host_obstacle(state, other).is_none()
    };
    let is_late = |other: &Node| now.since(other.state_since) >= ROLL_LIMIT_MS;
    let view = |node: &Node| observed.nodes.get(&node.key).and_then(|view| view.instance.as_ref());
    for other in nodes_of(state, &node.key.chain).filter(runs).filter(|other| other.key != node.key) {
        let id = other.key.node;
        match (other.state, other.health) {
            (NodeState::Prepared | NodeState::Configured | NodeState::Starting | NodeState::Restarting, _)
                if !is_late(other) =>
            {
                return Some(format!("{id} is being started"));
            }
            (NodeState::Running, Health::Unknown) if !is_late(other) => return Some(format!("{id} was not heard yet")),
            (NodeState::Running, _) if view(other).is_none() => return Some(format!("{id} was not looked at yet")),
            _ => {}
        }
    }
    let is_due = |other: &&Node| {
        other.state == NodeState::Running && view(other).is_some_and(|instance| is_outdated(other, instance))
    };
    let due: Vec<&Node> = nodes_of(state, &node.key.chain).filter(runs).filter(is_due).collect();
    let first = due.iter().find(|other| other.health != Health::Healthy).or(due.first())?;
    (first.key != node.key).then(|| format!("it is started anew after {}", first.key.node))
}

/// How many other validators the chain has.
fn others(state: &State, key: &NodeKey) -> usize {
    nodes_of(state, &key.chain).filter(|node| node.validates() && node.key != *key).count()
}

/// Fewest of `nodes` equal nodes that a BFT chain needs: more than two thirds.
pub const fn quorum(nodes: usize) -> usize {
    hanse_state::chain::seat::quorum(nodes)
}

/// Returns whether the chain keeps its quorum while this node is down.
pub fn may_disturb(state: &State, key: &NodeKey) -> bool {
    let validators = counted(state, &key.chain);
    well_but(state, key, |_| true) >= quorum(validators)
}

/// Whether this leader sees nothing wrong with a node: what is planned for two nodes in one round is planned from one state, in
/// which both are well.
fn is_sound(node: &Node, observed: &Observed) -> bool {
    let instance = observed.nodes.get(&node.key).and_then(|view| view.instance.as_ref());
    instance.is_none_or(|instance| is_outdated(node, instance) || fault(node, instance).is_none())
        && observed.quiet.get(&node.key).is_none_or(Quiet::is_well)
}

/// How many of the chain's other validators are well, and `counts` has nothing against.
fn well_but(state: &State, key: &NodeKey, counts: impl Fn(&Node) -> bool) -> usize {
    // What stands on a host in maintenance may be down at any moment, whatever was seen of it last.
    let is_maintained = |node: &Node| {
        let host = node.host.as_ref().and_then(|id| state.hosts.get(id));
        host.is_some_and(|host| host.state == HostState::Maintenance)
    };
    let is_well =
        |node: &&Node| node.state == NodeState::Running && node.health == Health::Healthy && !is_maintained(node);
    // Those that joined later validate only if the members wanted it; where the platform is not told, the founders are counted,
    // which is never too few.
    let validators = nodes_of(state, &key.chain).filter(|node| node.validates());
    validators.filter(|node| node.key != *key).filter(is_well).filter(|node| counts(node)).count()
}

/// What is wrong with the process, and whether it is dead.
pub(crate) fn fault(node: &Node, instance: &InstanceView) -> Option<(String, bool)> {
    match &instance.run {
        Run::Exited { code, reason } => {
            let code = code.map_or("a signal".into(), |code| format!("code {code}"));
            let words = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            Some((format!("the process ended with {code}{words}"), true))
        }
        Run::Missing => Some(("the process is gone from its host".into(), true)),
        Run::Prepared => Some(("the process was never started on its host".into(), true)),
        Run::Running if instance.generation != node.generation => {
            Some((format!("generation {} runs instead of {}", instance.generation, node.generation), false))
        }
        Run::Running | Run::Unreachable { .. } => None,
    }
}

fn backoff_ms(restarts: usize) -> u64 {
    let doublings = u32::try_from(restarts.saturating_sub(1)).unwrap_or(u32::MAX);
    BACKOFF_MS_BASE.saturating_mul(2_u64.saturating_pow(doublings)).min(BACKOFF_MS_MAX)
}
