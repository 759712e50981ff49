//! Rules of hosts: all checks, then all changes; nodes that wait are placed in the entry that makes room.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::placement::Place;
use super::properties::{check_labels, check_tenancy, check_zone};
use super::spread::{self, Waiting};
use super::way::{self, Pin};
use super::{
    AcceptHostKey, CPU_MILLI_MIN, CordonHost, EnrolHost, HOSTS_MAX, Host, HostState, MEMORY_MIB_MIN, PIDS_MIN,
    PORT_MIN, PORTS_PER_NODE, Reach, RecordHostFacts, RecordHostKeyChanged, SLOTS_MAX, TEXT_MAX, UncordonHost,
    placement, query,
};
use crate::apply::Cx;
use crate::cluster::version::Version;
use crate::command::Outcome;
use crate::ids::{ChainKey, NodeKey};
use crate::{Rejection, State, chain, check, name};

pub(crate) fn enrol(state: &mut State, cx: &mut Cx<'_>, c: &EnrolHost) -> Result<Outcome, Rejection> {
    if state.machines.contains_key(&c.host) {
        return Err(Rejection::AlreadyExists { field: "host".into(), what: name::machine(&c.host) });
    }
    admit(state, cx, c)
}

/// Enrols a host, whether a person asked for it or a cloud's machine became one.
pub(crate) fn admit(state: &mut State, cx: &mut Cx<'_>, c: &EnrolHost) -> Result<Outcome, Rejection> {
    let resource = name::host(&c.host);
    if state.hosts.contains_key(&c.host) {
        return Err(Rejection::AlreadyExists { field: "host".into(), what: resource });
    }
    check_reach(&c.reach)?;
    check_word("peer_address", &c.peer_address)?;
    check_published(c)?;
    check_ports(state, c)?;
    check_zone(&c.zone)?;
    check_labels(&c.labels)?;
    check_tenancy(state, &c.tenancy)?;
    check::quota("host", "the number of hosts", state.hosts.len(), HOSTS_MAX)?;

    let host = Host {
        id: c.host.clone(),
        reach: c.reach.clone(),
        peer_address: c.peer_address.clone(),
        port_first: c.port_first,
        port_count: c.port_count,
        slots: c.slots,
        state: HostState::Ready,
        state_reason: String::new(),
        state_since: cx.now,
        facts: None,
        facts_at: None,
        seen_fingerprint: None,
        seen_jump: None,
        ports: BTreeMap::new(),
        created_at: cx.now,
        zone: c.zone.clone(),
        labels: c.labels.clone(),
        tenancy: c.tenancy.clone(),
        evicted: BTreeMap::new(),
        outage_accepted: false,
    };
    state.hosts.insert(c.host.clone(), host);
    cx.created(resource.clone());
    place_waiting(state, cx);
    Ok(Outcome::Done { resource })
}

pub(crate) fn cordon(state: &mut State, cx: &mut Cx<'_>, c: &CordonHost) -> Result<Outcome, Rejection> {
    let host = query::get(state, &c.host)?.clone();
    check::text("reason", &c.reason, TEXT_MAX)?;
    match host.state {
        HostState::Ready => Ok(go(state, cx, host, HostState::Cordoned, &c.reason)),
        HostState::Cordoned => Ok(Outcome::Unchanged { resource: name::host(&c.host) }),
        HostState::Maintenance | HostState::Draining => {
            let needs = "it takes no new nodes already; `UncordonHost` ends that";
            Err(check::wrong_state("host", name::host(&c.host), host.state, needs))
        }
        HostState::Distrusted => Err(distrusted(&host)),
    }
}

pub(crate) fn uncordon(state: &mut State, cx: &mut Cx<'_>, c: &UncordonHost) -> Result<Outcome, Rejection> {
    let host = query::get(state, &c.host)?.clone();
    match host.state {
        HostState::Cordoned | HostState::Maintenance | HostState::Draining => {
            let outcome = go(state, cx, host, HostState::Ready, "");
            place_waiting(state, cx);
            Ok(outcome)
        }
        HostState::Ready => Ok(Outcome::Unchanged { resource: name::host(&c.host) }),
        HostState::Distrusted => Err(distrusted(&host)),
    }
}

pub(crate) fn facts(state: &mut State, cx: &mut Cx<'_>, c: &RecordHostFacts) -> Result<Outcome, Rejection> {
    let mut host = query::get(state, &c.host)?.clone();
    let resource = name::host(&c.host);
    if host.state == HostState::Distrusted {
        return Err(distrusted(&host));
    }
    check::text("facts.hostname", &c.facts.hostname, TEXT_MAX)?;
    check::text("facts.arch", &c.facts.arch, TEXT_MAX)?;
    check::text("facts.kernel", &c.facts.kernel, TEXT_MAX)?;
    if host.facts.as_ref() == Some(&c.facts) {
        return Ok(Outcome::Unchanged { resource });
    }

    host.facts = Some(c.facts.clone());
    host.facts_at = Some(cx.now);
    state.hosts.insert(c.host.clone(), host);
    cx.updated(resource.clone());
    Ok(Outcome::Done { resource })
}

pub(crate) fn key_changed(state: &mut State, cx: &mut Cx<'_>, c: &RecordHostKeyChanged) -> Result<Outcome, Rejection> {
    let mut host = query::get(state, &c.host)?.clone();
    let pinned = pinned_fingerprint(&host, c.jump)?.to_owned();
    check_fingerprint("seen", &c.seen)?;
    let is_known = host.state == HostState::Distrusted
        && host.seen_fingerprint.as_ref() == Some(&c.seen)
        && host.seen_jump == c.jump;
    if is_known {
        return Ok(Outcome::Unchanged { resource: name::host(&c.host) });
    }
    if pinned == c.seen {
        return Err(check::invalid("seen", &c.seen, "another fingerprint than the pinned one"));
    }

    host.seen_fingerprint = Some(c.seen.clone());
    host.seen_jump = c.jump;
    let reason = changed(&host, &c.seen, &pinned);
    Ok(go(state, cx, host, HostState::Distrusted, &reason))
}

/// What of a host changed, in words.
fn changed(host: &Host, seen: &str, pinned: &str) -> String {
    let Reach::Ssh { way, .. } = &host.reach else { return String::new() };
    match host.seen_jump.and_then(|jump| way.jumps.get(usize::from(jump))) {
        Some(jump) => format!("{} on the way to it showed host key {seen}, but {pinned} is pinned", jump.machine()),
        None if way.pin == Pin::Authority => {
            format!("it showed a certificate by {seen}, but the authority {pinned} is pinned")
        }
        None => format!("it showed host key {seen}, but {pinned} is pinned"),
    }
}

pub(crate) fn accept_key(state: &mut State, cx: &mut Cx<'_>, c: &AcceptHostKey) -> Result<Outcome, Rejection> {
    let mut host = query::get(state, &c.host)?.clone();
    if host.state != HostState::Distrusted {
        let needs = "only a distrusted host gets a new key";
        return Err(check::wrong_state("host", name::host(&c.host), host.state, needs));
    }
    if host.seen_fingerprint.as_ref() != Some(&c.fingerprint) {
        let seen = host.seen_fingerprint.unwrap_or_default();
        return Err(check::invalid("fingerprint", &c.fingerprint, format!("the one that was seen, {seen}")));
    }

    if let Reach::Ssh { fingerprint, way, .. } = &mut host.reach {
        let pinned = match host.seen_jump.and_then(|jump| way.jumps.get_mut(usize::from(jump))) {
            Some(jump) => &mut jump.fingerprint,
            None => fingerprint,
        };
        pinned.clone_from(&c.fingerprint);
    }
    host.seen_fingerprint = None;
    host.seen_jump = None;
    let outcome = go(state, cx, host, HostState::Ready, "");
    place_waiting(state, cx);
    Ok(outcome)
}

/// Gives every node that waits for a slot a place, chain by chain in key order, as far as slots go.
pub(crate) fn place_waiting(state: &mut State, cx: &mut Cx<'_>) {
    let waiting = |node: &&chain::node::Node| node.host.is_none() && node.wish.is_run();
    let mut chains: BTreeMap<ChainKey, Vec<Waiting>> = BTreeMap::new();
    for node in state.nodes.values().filter(waiting) {
        chains.entry(node.key.chain.clone()).or_default().push((node.key.clone(), node.owner.clone()));
    }
    let mut placed = BTreeSet::new();
    for (chain, nodes) in chains {
        let names = chain::query::ports_of(state, &chain);
        for (key, place) in places(state, &chain, &nodes, names) {
            take(state, cx, &key, place);
            placed.insert(chain.clone());
        }
    }
    for key in placed {
        chain::apply::sync(state, cx, &key);
    }
}

/// Where the nodes of a chain that wait go; those for which there is no room are left out.
fn places(state: &State, chain: &ChainKey, nodes: &[Waiting], names: &[&str]) -> Vec<(NodeKey, Place)> {
    let mut hosts = state.hosts.clone();
    let ports = PORTS_PER_NODE.saturating_add(u32::try_from(names.len()).unwrap_or(u32::MAX));
    let together = (state.version() >= Version::ZONES).then(|| spread::spread(&state.hosts, chain, nodes, ports));
    let mut found = Vec::new();
    for (key, owner) in nodes {
        let place = match &together {
            Some(together) => {
                together.get(key).and_then(|id| hosts.get(id)).and_then(|host| placement::at(host, names))
            }
            // One that needs fewer ports may find a place where this one does not.
            None => placement::choose(&hosts, key, owner, names),
        };
        let Some(place) = place else { continue };
        if let Some(host) = hosts.get_mut(&place.host) {
            place.each().for_each(|port| drop(host.ports.insert(port, key.clone())));
        }
        found.push((key.clone(), place));
    }
    found
}

/// Writes down that the node has this place.
fn take(state: &mut State, cx: &mut Cx<'_>, key: &NodeKey, place: Place) {
    let (Some(host), Some(node)) = (state.hosts.get_mut(&place.host), state.nodes.get_mut(key)) else { return };
    place.each().for_each(|port| drop(host.ports.insert(port, key.clone())));
    node.host = Some(place.host.clone());
    node.p2p_port = place.p2p_port;
    node.rpc_port = place.rpc_port;
    node.state_reason = String::new();
    cx.updated(name::host(&place.host));
    cx.updated(name::node(key));
    node.ports = place.ports;
}

/// The rejection of anything that would touch a distrusted host.
pub(crate) fn distrusted(host: &Host) -> Rejection {
    Rejection::HostKeyChanged {
        host: host.id.to_string(),
        expected: pinned_fingerprint(host, host.seen_jump).unwrap_or_default().to_owned(),
        seen: host.seen_fingerprint.clone().unwrap_or_default(),
    }
}

pub(crate) fn go(state: &mut State, cx: &mut Cx<'_>, mut host: Host, next: HostState, reason: &str) -> Outcome {
    let resource = name::host(&host.id);
    host.outage_accepted &= next == HostState::Draining;
    host.state = next;
    host.state_reason = reason.into();
    host.state_since = cx.now;
    state.hosts.insert(host.id.clone(), host);
    cx.updated(resource.clone());
    Outcome::Done { resource }
}

/// What is pinned of the host itself, or of a machine on the way.
fn pinned_fingerprint(host: &Host, jump: Option<u8>) -> Result<&str, Rejection> {
    match (&host.reach, jump) {
        (Reach::Ssh { fingerprint, .. }, None) => Ok(fingerprint),
        (Reach::Ssh { way, .. }, Some(jump)) => match way.jumps.get(usize::from(jump)) {
            Some(machine) => Ok(&machine.fingerprint),
            None => Err(check::invalid("jump", jump, format!("one of the {} machines on the way", way.jumps.len()))),
        },
        (Reach::Local { .. } | Reach::Docker { .. }, _) => {
            let needs = "only a host behind SSH has a host key";
            Err(check::wrong_state("host", name::host(&host.id), host.state, needs))
        }
    }
}

pub(crate) fn check_reach(reach: &Reach) -> Result<(), Rejection> {
    let root = match reach {
        Reach::Local { root } => root,
        Reach::Ssh { address, port, user, fingerprint, root, way } => {
            way::check(way)?;
            check_word("reach.address", address)?;
            check_word("reach.user", user)?;
            check::range("reach.port", u64::from(*port), 1, u64::from(u16::MAX))?;
            check_fingerprint("reach.fingerprint", fingerprint)?;
            root
        }
        Reach::Docker { endpoint, engine_id, memory_mib, cpu_milli, pids } => {
            check_endpoint(endpoint)?;
            check_word("reach.engine_id", engine_id)?;
            check_limit("reach.memory_mib", *memory_mib, MEMORY_MIB_MIN)?;
            check_limit("reach.cpu_milli", *cpu_milli, CPU_MILLI_MIN)?;
            return check_limit("reach.pids", *pids, PIDS_MIN);
        }
    };
    check_root("reach.root", root)
}

/// A folder of instances.
pub(crate) fn check_root(field: &str, root: &str) -> Result<(), Rejection> {
    let is_plain = root.starts_with('/') && root.len() <= TEXT_MAX && !root.chars().any(char::is_control);
    if is_plain && !root.split('/').any(|part| part == "..") {
        return Ok(());
    }
    Err(check::invalid(field, root, "an absolute path without .."))
}

/// Whoever reaches an engine is root on its host, so it is not spoken to over a network in the clear.
fn check_endpoint(endpoint: &str) -> Result<(), Rejection> {
    let path = endpoint.strip_prefix("unix://").filter(|path| path.starts_with('/') && !path.contains("/../"));
    let address = endpoint.strip_prefix("tcp://").and_then(|address| address.parse::<SocketAddr>().ok());
    let is_known = path.is_some() || address.is_some_and(|address| address.ip().is_loopback());
    if is_known && endpoint.len() <= TEXT_MAX && !endpoint.chars().any(char::is_control) {
        return Ok(());
    }
    let rule = "unix:///absolute/path/of/docker.sock, or tcp://127.0.0.1:PORT (the end of a tunnel)";
    Err(check::invalid("reach.endpoint", endpoint, rule))
}

fn check_limit(field: &str, limit: u32, least: u32) -> Result<(), Rejection> {
    if limit == 0 { Ok(()) } else { check::range(field, limit.into(), least.into(), u32::MAX.into()) }
}

/// An engine publishes ports at an address, not at a name, and not at all addresses at once.
fn check_published(c: &EnrolHost) -> Result<(), Rejection> {
    if !matches!(c.reach, Reach::Docker { .. }) {
        return Ok(());
    }
    match c.peer_address.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(()),
        Ok(_) | Err(_) => {
            let rule = "one IP address of the engine's host, at which it publishes nodes' ports";
            Err(check::invalid("peer_address", &c.peer_address, rule))
        }
    }
}

/// One word that may stand in a command line or address without being taken for anything else.
pub(crate) fn check_word(field: &str, word: &str) -> Result<(), Rejection> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    if !word.is_empty() && word.len() <= TEXT_MAX && !word.starts_with('-') && word.bytes().all(is_plain) {
        return Ok(());
    }
    Err(check::invalid(field, word, "a word of letters, digits, '-', '.', '_' and ':'"))
}

pub(crate) fn check_fingerprint(field: &str, text: &str) -> Result<(), Rejection> {
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    match text.strip_prefix("SHA256:") {
        Some(hash) if hash.len() == 43 && hash.bytes().all(is_base64) => Ok(()),
        Some(_) | None => Err(check::invalid(field, text, "SHA256: and 43 characters, as `ssh-keygen -lf` prints it")),
    }
}

fn check_ports(state: &State, c: &EnrolHost) -> Result<(), Rejection> {
    check::range("port_first", u64::from(c.port_first), u64::from(PORT_MIN), u64::from(u16::MAX))?;
    check::range("slots", u64::from(c.slots), 1, u64::from(SLOTS_MAX))?;
    let end = u32::from(c.port_first) + u32::from(c.port_count);
    let needed = c.slots * PORTS_PER_NODE;
    let most = u32::from(u16::MAX) + 1 - u32::from(c.port_first);
    check::range("port_count", u64::from(c.port_count), u64::from(needed), u64::from(most))?;
    let overlaps = |host: &&Host| {
        let other_end = u32::from(host.port_first) + u32::from(host.port_count);
        host.peer_address == c.peer_address && u32::from(c.port_first) < other_end && u32::from(host.port_first) < end
    };
    if let Some(host) = state.hosts.values().find(overlaps) {
        let rule = format!("ports that {} at the same address does not have", name::host(&host.id));
        return Err(check::invalid("port_first", c.port_first, rule));
    }
    Ok(())
}
