//! What is wrong with chains, nodes and hosts, the probable cause, and what a person does about it.
//!
//! Pure: of the state, what was seen, and figures. Nothing is acted on: what is repaired by itself is planned elsewhere,
//! and a finding goes when what it tells of is gone.

mod repairs;
mod trust;

use std::collections::BTreeMap;

use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::chain::query::nodes_of;
use hanse_state::chain::repair::budget;
use hanse_state::chain::{Chain, ChainState};
use hanse_state::host::HostState;
use hanse_state::ids::{ChainKey, HostId, NodeKey};
use hanse_state::time::HOUR_MS;
use hanse_state::{Millis, State, name};

use crate::{Observed, Run, quorum};

pub use trust::{DoubleSign, EXPIRY_SOON_MS, EXPIRY_WARNING_MS, Expiry};

/// How long no block may come before a chain is called stalled; a chain with slower blocks gets ten of them.
pub const STALL_MS: u64 = 30_000;
/// Blocks that a stalled chain is behind.
const STALL_BLOCKS: u64 = 10;
/// Offset of a host's clock that is told; ledgers of ours refuse blocks some seconds ahead.
pub const CLOCK_OFFSET_MS: u64 = 2_000;
/// Free space below which a disk is called full.
pub const DISK_FULL_BYTES: u64 = 256 << 20;
/// A disk that is full within this time is told.
pub const DISK_FORECAST_MS: u64 = 24 * HOUR_MS;
/// Within this time it is serious.
const DISK_SOON_MS: u64 = 2 * HOUR_MS;
/// Round of one height from which on a chain is in trouble.
pub const ROUND_HIGH: u64 = 5;

/// How serious a finding is, the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not do what it is for.
    Critical,
    /// It will become worse, or less is left for the next fault.
    Warning,
    /// Worth knowing.
    Notice,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How serious.
    pub severity: Severity,
    /// Resource name.
    pub resource: String,
    /// Stable word for programs.
    pub code: &'static str,
    /// What is seen.
    pub what: String,
    /// The probable cause.
    pub cause: String,
    /// What to do.
    pub recipe: String,
}

/// What else was seen of nodes and hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// By node.
    pub nodes: BTreeMap<NodeKey, NodeFigures>,
    /// By host.
    pub hosts: BTreeMap<HostId, HostFigures>,
    /// Certificates, and when they end.
    pub expiries: Vec<Expiry>,
    /// Proofs of double signing by chain.
    pub double_signs: BTreeMap<ChainKey, Vec<DoubleSign>>,
}

/// Figures of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeFigures {
    /// When its height was last seen to rise.
    pub rose_at: Option<Millis>,
    /// From block to block, milliseconds.
    pub block_time_ms: Option<u64>,
    /// Round of the height under way.
    pub round: Option<u64>,
}

/// Figures of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFigures {
    /// Bytes free for instances.
    pub disk_free: Option<u64>,
    /// Bytes by which that becomes less in an hour; 0 if it does not.
    pub disk_less_an_hour: u64,
    /// Its clock less the leader's, milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// It did not answer when it was last asked.
    pub silent: bool,
}

/// Returns everything that is wrong, the most serious first.
pub fn diagnose(state: &State, observed: &Observed, figures: &Figures, now: Millis) -> Vec<Finding> {
    let mut findings = Vec::new();
    for id in state.hosts.keys() {
        findings.extend(of_host(state, id, figures));
    }
    for node in state.nodes.values() {
        findings.extend(of_node(state, node, observed, now));
    }
    for key in state.chains.keys() {
        findings.extend(of_chain(state, key, observed, figures, now));
        findings.extend(repairs::off(state, key));
        let proofs = figures.double_signs.get(key).map(Vec::as_slice).unwrap_or_default();
        findings.extend(trust::double_signs(state, key, proofs));
    }
    findings.extend(figures.expiries.iter().filter_map(|it| trust::expires(it, now)));
    // Stable: what is equally serious stays in the order of names within its kind.
    findings.sort_by(|a, b| (a.severity, &a.resource, a.code).cmp(&(b.severity, &b.resource, b.code)));
    findings
}

fn of_host(state: &State, id: &HostId, figures: &Figures) -> Vec<Finding> {
    let Some(host) = state.hosts.get(id) else { return Vec::new() };
    let resource = name::host(id);
    let finding = |severity, code, what: String, cause: String, recipe: &str| Finding {
        severity,
        resource: resource.clone(),
        code,
        what,
        cause,
        recipe: recipe.into(),
    };
    let mut found = Vec::new();
    if host.state == HostState::Distrusted {
        let recipe =
            "compare the key at the host's own console, then `hanse host accept-key`; nothing is done on it meanwhile";
        found.push(finding(
            Severity::Critical,
            "HOST_DISTRUSTED",
            "it is distrusted".into(),
            host.state_reason.clone(),
            recipe,
        ));
    }
    let Some(seen) = figures.hosts.get(id) else { return found };
    if seen.silent {
        let cause = "it is down, or the network, sshd or the login on it is broken".into();
        let recipe = "look at the host's console; `hanse host scan` tells whether sshd answers";
        found.push(finding(Severity::Critical, "HOST_SILENT", "it does not answer".into(), cause, recipe));
    }
    if let Some(offset) = seen.clock_offset_ms.filter(|offset| offset.unsigned_abs() >= CLOCK_OFFSET_MS) {
        let way = if offset > 0 { "ahead" } else { "behind" };
        let what = format!("its clock is {} {way}", duration(offset.unsigned_abs()));
        let cause = "no time service runs there, or it has no source".into();
        let recipe = "start chrony or systemd-timesyncd on the host and compare with `date`; validators refuse blocks of a wrong time";
        found.push(finding(Severity::Warning, "CLOCK_OFFSET", what, cause, recipe));
    }
    found.extend(disk(seen).map(|(severity, code, what)| {
        let cause = "the ledger's data and logs grow".into();
        finding(
            severity,
            code,
            what,
            cause,
            "make room or add a disk under the host's root folder; `hanse host monitor` shows the growth",
        )
    }));
    found
}

/// A disk that is full or will be.
fn disk(seen: &HostFigures) -> Option<(Severity, &'static str, String)> {
    let free = seen.disk_free?;
    let usable = free.saturating_sub(DISK_FULL_BYTES);
    if usable == 0 {
        return Some((Severity::Critical, "DISK_FULL", format!("its disk is full: {} MiB are free", free >> 20)));
    }
    let hours = usable.checked_div(seen.disk_less_an_hour)?;
    let left_ms = hours.saturating_mul(HOUR_MS);
    if left_ms >= DISK_FORECAST_MS {
        return None;
    }
    let severity = if left_ms < DISK_SOON_MS { Severity::Critical } else { Severity::Warning };
    let rate = seen.disk_less_an_hour >> 20;
    let about = if hours == 0 { "within the hour".into() } else { format!("in about {hours} hours") };
    Some((
        severity,
        "DISK_FORECAST",
        format!("its disk is full {about} at this rate ({rate} MiB an hour, {} MiB free)", free >> 20),
    ))
}

fn of_node(state: &State, node: &Node, observed: &Observed, now: Millis) -> Vec<Finding> {
    let resource = name::node(&node.key);
    if node.state == NodeState::Blocked {
        let what = "it is blocked: nothing more is tried by itself".into();
        let (cause, recipe) = (node.state_reason.clone(), repairs::restart(node));
        return vec![Finding { severity: Severity::Critical, resource, code: "NODE_BLOCKED", what, cause, recipe }];
    }
    if node.stands_at().is_some() {
        return Vec::new();
    }
    let down = down(node, observed).map(|cause| {
        let short = repairs::short(node);
        let recipe = match (&node.watched, budget(state, &node.key.chain)) {
            (Some(endpoint), _) => format!("it is not the platform's: tell whoever runs {endpoint}"),
            (None, 0) => format!(
                "automatic repair of its chain is off: `hanse node log {short}`, then `hanse node restart {short}`"
            ),
            (None, _) => format!("`hanse node log {short}`; it is started again by itself while it has repairs left"),
        };
        let what = "it does not take part".into();
        Finding { severity: Severity::Warning, resource, code: "NODE_DOWN", what, cause, recipe }
    });
    let hangs = repairs::hanging(state, node, observed, now);
    down.into_iter().chain(hangs).chain(repairs::few_left(state, node, now)).collect()
}

/// Why a node takes no part; `None` if it does, or never did yet.
fn down(node: &Node, observed: &Observed) -> Option<String> {
    let run = observed.nodes.get(&node.key).and_then(|view| view.instance.as_ref()).map(|instance| &instance.run);
    let seen = match run {
        Some(Run::Exited { code, reason }) => {
            let code = code.map_or("a signal".into(), |code| format!("code {code}"));
            Some(format!("its process ended with {code}: {reason}"))
        }
        Some(Run::Missing) => Some("its process is gone from its host".into()),
        Some(Run::Unreachable { reason }) => Some(format!("its host cannot be reached: {reason}")),
        Some(Run::Running | Run::Prepared) | None => None,
    };
    match (node.state, node.health) {
        (NodeState::Blocked, _) => Some(format!("it is blocked: {}", node.state_reason)),
        (NodeState::Restarting, _) => {
            Some(seen.unwrap_or_else(|| format!("it is being started again: {}", node.state_reason)))
        }
        (NodeState::Running, Health::Healthy | Health::Unknown) => seen,
        (NodeState::Running, Health::Unhealthy) => Some(seen.unwrap_or_else(|| node.state_reason.clone())),
        (
            NodeState::Requested
            | NodeState::Preparing
            | NodeState::Prepared
            | NodeState::Configured
            | NodeState::Starting
            | NodeState::Stopping
            | NodeState::Stopped
            | NodeState::Removing
            | NodeState::Moving,
            _,
        ) => None,
        (NodeState::Watched, Health::Unhealthy) => Some(seen.unwrap_or_else(|| node.state_reason.clone())),
        (NodeState::Watched, Health::Healthy | Health::Unknown) => None,
    }
}

fn of_chain(state: &State, key: &ChainKey, observed: &Observed, figures: &Figures, now: Millis) -> Vec<Finding> {
    // Before all else: while the program is exchanged, some of its nodes are just being started.
    if let Some(chain) = state.chains.get(key).filter(|chain| chain.state == ChainState::Halted) {
        return vec![exchange(chain)];
    }
    let resource = name::chain(key);
    let nodes: Vec<&Node> = nodes_of(state, key).collect();
    let began = |node: &&Node| {
        matches!(node.state, NodeState::Running | NodeState::Restarting | NodeState::Blocked | NodeState::Watched)
    };
    if nodes.is_empty() {
        return Vec::new();
    }
    let out: Vec<(&Node, String)> =
        nodes.iter().filter_map(|node| process_down(node, observed).map(|reason| (*node, reason))).collect();
    let up = nodes.len() - out.len();
    let lost = state.chains.get(key).map_or(0, |chain| chain.lost.len());
    let needed = quorum(nodes.len() + lost);
    let tolerated = (nodes.len() + lost) - needed;
    let mut found = Vec::new();
    let is_watched = nodes.iter().any(|node| node.watched.is_some());
    if !nodes.iter().all(began) {
        // Those that are on their way may come: only what they cannot mend is told. One that is stopped or removed was wanted so.
        let is_certain = up < needed && !is_watched && !nodes.iter().any(|node| is_ended(node.state));
        return is_certain.then(|| no_quorum(resource, &nodes, &out)).into_iter().collect();
    }
    if let Some((what, since)) = stalled(&nodes, figures, now) {
        let (cause, recipe) = match is_watched {
            true => (names(&out), "it is not the platform's: tell whoever runs its nodes".into()),
            false => why_stalled(state, &nodes, &out, observed, figures),
        };
        found.push(Finding {
            severity: Severity::Critical,
            resource: resource.clone(),
            code: "STALLED",
            what: format!("{what} for {}", duration(since)),
            cause,
            recipe,
        });
    } else if is_watched {
        // Who else validates there is not known.
    } else if up < needed {
        found.push(no_quorum(resource.clone(), &nodes, &out));
    } else if tolerated > 0 && up == needed {
        found.push(Finding {
            severity: Severity::Warning,
            resource: resource.clone(),
            code: "NO_RESERVE",
            what: format!(
                "{up} of {} nodes take part, {needed} are needed: the next one that fails stops the chain",
                nodes.len()
            ),
            cause: names(&out),
            recipe: "bring these back before anything else is done to the chain".into(),
        });
    }
    let high = nodes.iter().filter_map(|node| Some((node, figures.nodes.get(&node.key)?.round?)));
    if let Some((node, round)) = high.max_by_key(|(_, round)| *round).filter(|(_, round)| *round >= ROUND_HIGH) {
        found.push(Finding {
            severity: Severity::Warning,
            resource,
            code: "ROUND_HIGH",
            what: format!("{} is in round {round} of its height", node.key.node),
            cause: "proposers are down or slow, or votes do not arrive in time".into(),
            recipe: "look for nodes that are down, hosts without time service, and slow lines between hosts".into(),
        });
    }
    found
}

/// Whether a node of this state takes no part because that was ordered: of a chain that is paused or deleted, or that shrinks.
fn is_ended(state: NodeState) -> bool {
    matches!(state, NodeState::Stopping | NodeState::Stopped | NodeState::Removing)
}

fn no_quorum(resource: String, nodes: &[&Node], out: &[(&Node, String)]) -> Finding {
    let (cause, recipe) = too_few(nodes, out);
    let what = "it has no quorum: it can make no block".into();
    Finding { severity: Severity::Critical, resource, code: "NO_QUORUM", what, cause, recipe }
}

/// A chain that makes no block because its program is exchanged: planned, unless the exchange itself is halted.
fn exchange(chain: &Chain) -> Finding {
    let halted = chain.rollout.as_ref().and_then(|rollout| rollout.halted.as_ref());
    let (severity, cause, recipe) = match halted {
        None => (
            Severity::Notice,
            "its members voted that its program is exchanged at one height".into(),
            "nothing: it goes on with the next program by itself",
        ),
        Some(reason) => (
            Severity::Critical,
            format!("the exchange is halted: {reason}"),
            "`hanse node log` says why; let it go on (`hanse chain roll-continue`), go back (`hanse chain rollback`), or vote for \
             another program",
        ),
    };
    let (resource, what) = (name::chain(&chain.key), chain.state_reason.clone());
    Finding { severity, resource, code: "EXCHANGE", what, cause, recipe: recipe.into() }
}

/// As [`down`] for what cannot vote: a process that lives may only wait for the others, one that is moved runs nowhere.
fn process_down(node: &Node, observed: &Observed) -> Option<String> {
    match (node.state, node.health) {
        (NodeState::Moving, _) => Some("it is being moved to another host".into()),
        (NodeState::Running, Health::Unhealthy) => {
            let view = observed.nodes.get(&node.key);
            let lives = view.and_then(|view| view.instance.as_ref()).is_some_and(|it| it.run == Run::Running);
            let speaks = view.is_some_and(|view| view.health.is_some()) && !node.state_reason.starts_with("silent");
            if lives && speaks { None } else { down(node, observed) }
        }
        _ => down(node, observed),
    }
}

/// Whether no node has seen a new block for too long: in words, and since when.
fn stalled(nodes: &[&Node], figures: &Figures, now: Millis) -> Option<(String, u64)> {
    let seen = || nodes.iter().filter_map(|node| figures.nodes.get(&node.key));
    let last = seen().filter_map(|it| it.rose_at).max()?;
    let block = seen().filter_map(|it| it.block_time_ms).min().unwrap_or(0);
    let since = now.since(last);
    (since >= STALL_MS.max(block.saturating_mul(STALL_BLOCKS))).then(|| ("no node has seen a new block".into(), since))
}

/// The probable cause and what to do, the first that fits: without a quorum nothing else matters.
fn why_stalled(
    state: &State,
    nodes: &[&Node],
    out: &[(&Node, String)],
    observed: &Observed,
    figures: &Figures,
) -> (String, String) {
    if nodes.len() - out.len() < quorum(nodes.len()) {
        return too_few(nodes, out);
    }
    let health = |node: &Node| observed.nodes.get(&node.key).and_then(|view| view.health.as_ref());
    let said = |word: &str| -> Vec<String> {
        let reasons =
            |node: &&&Node| health(node).is_some_and(|it| it.reasons.iter().any(|reason| reason.contains(word)));
        nodes.iter().filter(reasons).map(|node| node.key.node.to_string()).collect()
    };
    for word in ["upgrade", "halt"] {
        let who = said(word);
        if !who.is_empty() {
            let cause = format!("it stopped at a height on purpose ({word}), say {}", who.join(", "));
            return (cause, "start the nodes with the next program, or lift the height, as was decided".into());
        }
    }
    let host_of = |node: &Node| node.host.as_ref().and_then(|id| figures.hosts.get(id).map(|seen| (id.clone(), *seen)));
    let full = |node: &&&Node| {
        host_of(node).is_some_and(|(_, seen)| seen.disk_free.is_some_and(|free| free < DISK_FULL_BYTES))
    };
    let full: Vec<String> =
        nodes.iter().filter(full).map(|node| node.key.node.to_string()).chain(said("disk")).collect();
    if !full.is_empty() {
        let cause = format!("the disk of {} is full", full.join(", "));
        return (cause, "make room on these hosts; the nodes go on by themselves".into());
    }
    let skewed = |node: &&&Node| {
        host_of(node)
            .is_some_and(|(_, seen)| seen.clock_offset_ms.is_some_and(|it| it.unsigned_abs() >= CLOCK_OFFSET_MS))
    };
    let skewed: Vec<String> = nodes.iter().filter(skewed).map(|node| node.key.node.to_string()).collect();
    if !skewed.is_empty() {
        let cause = format!("the clocks of the hosts of {} are wrong", skewed.join(", "));
        return (cause, "set them (chrony, systemd-timesyncd): validators refuse blocks of a wrong time".into());
    }
    let alone = |node: &&&Node| health(node).is_some_and(|it| it.peers + 1 < quorum(nodes.len()) as u64);
    let alone: Vec<String> = nodes.iter().filter(alone).map(|node| node.key.node.to_string()).collect();
    if !alone.is_empty() {
        let ports = nodes.iter().filter_map(|node| {
            let host = node.host.as_ref().and_then(|id| state.hosts.get(id))?;
            Some(format!("{}:{}", host.peer_address, node.p2p_port))
        });
        let cause = format!(
            "{} reach too few peers: the network between the hosts is cut or their ports are closed",
            alone.join(", ")
        );
        return (cause, format!("open the peers' ports between the hosts: {}", ports.collect::<Vec<_>>().join(", ")));
    }
    ("none of the usual ones is seen".into(), "read the nodes' logs (`hanse node log`) for what they wait for".into())
}

fn too_few(nodes: &[&Node], out: &[(&Node, String)]) -> (String, String) {
    let needed = quorum(nodes.len());
    let up = nodes.len() - out.len();
    let cause = format!("{up} of {} validators take part, {needed} are needed; {}", nodes.len(), names(out));
    let who: Vec<String> = out.iter().map(|(node, _)| node.key.node.to_string()).collect();
    let recipe = format!(
        "bring {} of {} back: their hosts first, then `hanse node restart` for those that do not start by themselves",
        needed.saturating_sub(up),
        who.join(", ")
    );
    (cause, recipe)
}

fn names(out: &[(&Node, String)]) -> String {
    let each = |(node, reason): &(&Node, String)| format!("{}: {reason}", node.key.node);
    out.iter().map(each).collect::<Vec<_>>().join("; ")
}

fn duration(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}
