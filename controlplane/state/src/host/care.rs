//! Taking hosts out of use: maintenance for a while, drain to empty one, retire for ever.
//!
//! In maintenance nothing is done on a host and nothing of it is repaired, so its nodes count as down: what would cost a
//! running chain its quorum is refused unless a person says why it must be. Draining takes no new nodes, and from cluster
//! version 5 on the leader moves those that are there to other hosts, one of a chain at a time. A host is retired only when nothing is on it, and its id may be given again.
//!
//! What this never does: touch a node, or end a maintenance by itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::apply::{distrusted, go};
use super::{Host, HostState, TEXT_MAX, query};
use crate::apply::Cx;
use crate::chain::node::{Health, Node, NodeState};
use crate::chain::query::nodes_of;
use crate::command::Outcome;
use crate::ids::{ChainKey, HostId};
use crate::{Rejection, State, check, name};

/// Begins maintenance: nothing is placed, done or repaired on the host until `UncordonHost`. By an administrator or
/// operator. Since version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginHostMaintenance {
    /// Which.
    pub host: HostId,
    /// Why, for people and the audit trail.
    pub reason: String,
    /// Also if a chain may lose its quorum by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}

/// Takes no new nodes; those that are there are to be moved away. By an administrator or operator. Since version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainHost {
    /// Which.
    pub host: HostId,
    /// Why.
    pub reason: String,
    /// Whether nodes are moved away also from chains that make no block meanwhile. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_outage: bool,
}

/// Forgets a host on which nothing is. By an administrator. Since version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetireHost {
    /// Which.
    pub host: HostId,
    /// Why.
    pub reason: String,
}

pub(crate) fn maintain(state: &mut State, cx: &mut Cx<'_>, c: &BeginHostMaintenance) -> Result<Outcome, Rejection> {
    let host = query::get(state, &c.host)?.clone();
    check::text("reason", &c.reason, TEXT_MAX)?;
    match host.state {
        HostState::Ready | HostState::Cordoned | HostState::Draining => {}
        HostState::Maintenance if host.state_reason == c.reason => {
            return Ok(Outcome::Unchanged { resource: name::host(&c.host) });
        }
        HostState::Maintenance => {}
        HostState::Distrusted => return Err(distrusted(&host)),
    }
    if !c.forced {
        check_quorums(state, &host)?;
    }

    Ok(go(state, cx, host, HostState::Maintenance, &c.reason))
}

pub(crate) fn drain(state: &mut State, cx: &mut Cx<'_>, c: &DrainHost) -> Result<Outcome, Rejection> {
    let mut host = query::get(state, &c.host)?.clone();
    check::text("reason", &c.reason, TEXT_MAX)?;
    let is_so = host.state == HostState::Draining && host.outage_accepted == c.accept_outage;
    match host.state {
        HostState::Draining if is_so => Ok(Outcome::Unchanged { resource: name::host(&c.host) }),
        HostState::Ready | HostState::Cordoned | HostState::Maintenance | HostState::Draining => {
            host.outage_accepted = c.accept_outage;
            Ok(go(state, cx, host, HostState::Draining, &c.reason))
        }
        HostState::Distrusted => Err(distrusted(&host)),
    }
}

pub(crate) fn retire(state: &mut State, cx: &mut Cx<'_>, c: &RetireHost) -> Result<Outcome, Rejection> {
    query::get(state, &c.host)?;
    check::text("reason", &c.reason, TEXT_MAX)?;
    let resource = name::host(&c.host);
    if let Some(machine) = state.machines.get(&c.host) {
        let what = name::machine(&machine.id);
        let needs = format!("{what} is it, in {}: delete the machine", name::cloud(&machine.spec.cloud));
        return Err(check::wrong_state("host", resource, "a cloud's machine", &needs));
    }
    check_empty(state, &c.host)?;

    state.hosts.remove(&c.host);
    cx.deleted(resource.clone());
    Ok(Outcome::Done { resource })
}

/// Nothing is on a host.
pub(crate) fn check_empty(state: &State, id: &HostId) -> Result<(), Rejection> {
    let host = query::get(state, id)?;
    let resource = name::host(id);
    let on_it: Vec<&Node> = state.nodes.values().filter(|node| node.host.as_ref() == Some(id)).collect();
    if let Some(first) = on_it.first() {
        let first = name::node(&first.key);
        let needs = format!("{} nodes are on it, {first} first: drain it, and move or delete them", on_it.len());
        return Err(check::wrong_state("host", resource, "in use", &needs));
    }
    // What was given up there may be on a host that is lost for ever.
    if host.ports.values().any(|node| !host.evicted.contains_key(node)) {
        return Err(check::wrong_state("host", resource, "in use", "ports are still taken on it"));
    }
    Ok(())
}

/// Every chain that ran keeps its quorum without the nodes of `host`, those of other hosts in maintenance, and those that
/// are not well.
fn check_quorums(state: &State, host: &Host) -> Result<(), Rejection> {
    let chains: BTreeSet<&ChainKey> = host.ports.values().map(|node| &node.chain).collect();
    for chain in chains.into_iter().filter(|key| state.chains.get(*key).is_some_and(|chain| chain.ran_at.is_some())) {
        let count = nodes_of(state, chain).count();
        let down = nodes_of(state, chain).filter(|node| is_down(state, host, node)).count();
        let tolerated = count.saturating_sub(1) / 3;
        if down > tolerated {
            return Err(Rejection::QuorumAtRisk {
                chain: name::chain(chain),
                nodes: count as u64,
                down: down as u64,
                tolerated: tolerated as u64,
            });
        }
    }
    Ok(())
}

fn is_down(state: &State, host: &Host, node: &Node) -> bool {
    let on = node.host.as_ref();
    let is_maintained = on.and_then(|id| state.hosts.get(id)).is_some_and(|host| host.state == HostState::Maintenance);
    let is_well = node.state == NodeState::Running && node.health != Health::Unhealthy;
    on == Some(&host.id) || is_maintained || !is_well
}
