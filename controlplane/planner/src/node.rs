//! The life of one node: prepared, configured, started, watched, started again within its budget.

use hanse_state::chain::node::{Health, Node, NodeAct, NodeFact, NodeState, RESTART_BUDGET};
use hanse_state::host::HostState;
use hanse_state::ids::NodeKey;
use hanse_state::time::HOUR_MS;
use hanse_state::{Millis, State};

use crate::Step;
use crate::seen::{NodeSeen, RunSeen};

/// Least time after the n-th automatic restart within the hour before the next one: the first is at once, later ones
/// leave the cause time to show itself.
pub const RESTART_BACKOFF_MS: [u64; RESTART_BUDGET] = [2_000, 10_000, 30_000, 120_000, 300_000];

/// A node may be silent this long before it is called unhealthy: a block or two, and a slow host.
const ILL_GRACE_MS: u64 = 10_000;

/// Longest part of a process's last words that goes into a reason.
const WORDS_MAX: usize = 300;

/// What can be done about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeStep {
    /// Touch the host, after the intent has committed.
    Act(NodeAct),
    /// Write down what was seen.
    Report(NodeFact),
    /// Wish a new generation, because the process of this one is gone.
    Restart {
        /// What was seen.
        reason: String,
    },
}

/// Plans node `key`; a node that is not in the state is [`Step::Done`].
pub fn plan_node(state: &State, key: &NodeKey, seen: Option<&NodeSeen>, now: Millis) -> Step<NodeStep> {
    let Some(node) = state.nodes.get(key) else { return Step::Done };
    let Some(host) = &node.host else { return Step::wait("waits for a free slot on a host") };
    match state.hosts.get(host).map(|host| host.state) {
        None => return Step::wait(format!("host {host} is not enrolled")),
        Some(HostState::Distrusted) => {
            return Step::wait(format!("host {host} is distrusted: its key changed; a person must compare and accept it"));
        }
        Some(HostState::Ready | HostState::Cordoned) => {}
    }
    match node.state {
        NodeState::Blocked => Step::wait("blocked until a person restarts it"),
        NodeState::Requested | NodeState::Preparing => Step::Do(NodeStep::Act(NodeAct::Prepare)),
        NodeState::Prepared => configure(state, key),
        NodeState::Configured | NodeState::Starting | NodeState::Restarting => start(node, seen, now),
        NodeState::Running => watch(node, seen, now),
    }
}

fn configure(state: &State, key: &NodeKey) -> Step<NodeStep> {
    match state.chains.get(&key.chain) {
        Some(chain) if chain.genesis.is_some() => Step::Do(NodeStep::Act(NodeAct::Configure)),
        Some(_) | None => Step::wait("waits for the genesis, which needs every node's public key"),
    }
}

/// The same generation is never started twice: a process of this generation that ended needs a new one.
fn start(node: &Node, seen: Option<&NodeSeen>, now: Millis) -> Step<NodeStep> {
    match seen {
        Some(NodeSeen { generation, run: RunSeen::Exited { reason }, .. }) if *generation == node.generation => {
            restart(node, &format!("its process ended right after the start: {}", cut(reason)), now)
        }
        Some(_) | None => Step::Do(NodeStep::Act(NodeAct::Start)),
    }
}

fn watch(node: &Node, seen: Option<&NodeSeen>, now: Millis) -> Step<NodeStep> {
    let Some(seen) = seen else { return Step::wait("has not been looked at by this leader yet") };
    match &seen.run {
        RunSeen::Absent => restart(node, "its process is not on the host", now),
        RunSeen::Exited { reason } => restart(node, &format!("its process ended: {}", cut(reason)), now),
        RunSeen::Unreachable { reason } => unwell(node, seen, &format!("its host cannot be reached: {}", cut(reason)), now),
        RunSeen::Running if seen.generation < node.generation => Step::Do(NodeStep::Act(NodeAct::Start)),
        RunSeen::Running => match &seen.ill {
            Some(ill) => unwell(node, seen, &cut(&ill.reason), now),
            None if node.health == Health::Healthy => Step::Done,
            None => Step::Do(NodeStep::Report(NodeFact::Healthy)),
        },
    }
}

/// Silence is reported after a grace, and once; a process that lives is not killed for it.
fn unwell(node: &Node, seen: &NodeSeen, reason: &str, now: Millis) -> Step<NodeStep> {
    let silent_ms = seen.ill.as_ref().map_or(0, |ill| now.since(ill.since));
    if node.health == Health::Unhealthy || silent_ms < ILL_GRACE_MS {
        return Step::wait(reason.to_string());
    }
    Step::Do(NodeStep::Report(NodeFact::Unhealthy { reason: reason.to_string() }))
}

fn restart(node: &Node, reason: &str, now: Millis) -> Step<NodeStep> {
    let recent: Vec<Millis> = node.restarts.iter().copied().filter(|at| now.since(*at) < HOUR_MS).collect();
    if recent.len() >= RESTART_BUDGET {
        let reason = format!("{reason}; {RESTART_BUDGET} restarts within the hour did not help");
        return Step::Do(NodeStep::Report(NodeFact::Failed { reason }));
    }
    if let (Some(last), Some(backoff)) = (recent.last(), recent.len().checked_sub(1).and_then(|n| RESTART_BACKOFF_MS.get(n)))
        && now.since(*last) < *backoff
    {
        return Step::wait(format!("{reason}; is restarted after a pause of {} s", backoff / 1_000));
    }
    Step::Do(NodeStep::Restart { reason: reason.to_string() })
}

fn cut(text: &str) -> String {
    text.chars().take(WORDS_MAX).collect()
}
