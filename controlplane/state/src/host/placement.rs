//! Where nodes go: a pure choice over hosts, and the ports they get there.
//!
//! A chain's nodes are placed together, over failure zones ([`spread`](super::spread)). On clusters before version 5 they
//! went one by one to the host that has the fewest nodes of the chain: to one of the owner's own before a shared one, then the
//! fewest ports taken at all, then the first by id ([`choose`]).

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;

use super::properties::Tenancy;
use super::{Host, HostState, PORTS_PER_NODE};
use crate::ids::{ChainKey, HostId, NodeKey, TenantId};

/// Where a node goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// On which host.
    pub host: HostId,
    /// Port of the chain's network.
    pub p2p_port: u16,
    /// Port of the JSON-RPC.
    pub rpc_port: u16,
    /// The further ports by name.
    pub ports: BTreeMap<String, u16>,
}

impl Place {
    /// Every port of it.
    pub(crate) fn each(&self) -> impl Iterator<Item = u16> {
        [self.p2p_port, self.rpc_port].into_iter().chain(self.ports.values().copied())
    }
}

/// Returns how many more nodes of the usual two ports a host takes; see `slots_for`.
pub fn free_slots(host: &Host) -> u64 {
    slots_for(host, PORTS_PER_NODE)
}

/// Returns how many more nodes of so many `ports` a host takes: 0 unless it is ready, bounded by its slots and by its free
/// ports.
pub(crate) fn slots_for(host: &Host, ports: u32) -> u64 {
    if host.state != HostState::Ready {
        return 0;
    }
    let taken = u32::try_from(host.ports.len()).unwrap_or(u32::MAX);
    let by_ports = u32::from(host.port_count).saturating_sub(taken) / ports.max(1);
    // Every node has two ports at least, so no more nodes than that are here: mostly they need not be counted.
    if by_ports <= host.slots.saturating_sub(taken / PORTS_PER_NODE) {
        return u64::from(by_ports);
    }
    let nodes: BTreeSet<&NodeKey> = host.ports.values().collect();
    let by_slots = host.slots.saturating_sub(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
    u64::from(by_slots.min(by_ports))
}

/// Returns where `node` of `owner`, which needs the further ports `names`, went on clusters before version 5, which knew
/// nothing of zones; `None` if no ready host has a slot for it.
pub fn choose(hosts: &OrdMap<HostId, Host>, node: &NodeKey, owner: &TenantId, names: &[&str]) -> Option<Place> {
    let needed = PORTS_PER_NODE + u32::try_from(names.len()).ok()?;
    let host =
        hosts.values().filter(|host| host.tenancy.takes(owner) && slots_for(host, needed) > 0).min_by_key(|host| {
            (host.tenancy.is_shared(), of_chain(host, &node.chain), host.ports.len(), host.id.clone())
        })?;
    at(host, names)
}

/// Returns the place that a node with the further ports `names` gets on a host: its first free ports; `None` if it has too few.
pub fn at(host: &Host, names: &[&str]) -> Option<Place> {
    let mut free = (0..host.port_count)
        .filter_map(|offset| host.port_first.checked_add(offset))
        .filter(|port| !host.ports.contains_key(port));
    let (p2p_port, rpc_port) = (free.next()?, free.next()?);
    let ports = names.iter().map(|name| Some(((*name).to_owned(), free.next()?))).collect::<Option<_>>()?;
    Some(Place { host: host.id.clone(), p2p_port, rpc_port, ports })
}

/// Returns how many nodes of these owners, with so many `ports` each, the hosts would take: all free slots of shared hosts,
/// and of a tenant's own hosts as many as it has nodes.
pub(crate) fn slots_for_owners<'a>(
    hosts: &OrdMap<HostId, Host>,
    owners: impl Iterator<Item = &'a TenantId>,
    ports: u32,
) -> u64 {
    let mut wanted: BTreeMap<&TenantId, u64> = BTreeMap::new();
    owners.for_each(|owner| *wanted.entry(owner).or_default() += 1);
    let mut free = 0;
    for host in hosts.values() {
        free += match &host.tenancy {
            Tenancy::Shared => slots_for(host, ports),
            Tenancy::Dedicated(tenant) => {
                let left = wanted.get_mut(tenant);
                left.map_or(0, |left| {
                    let taken = slots_for(host, ports).min(*left);
                    *left -= taken;
                    taken
                })
            }
        };
    }
    free
}

fn of_chain(host: &Host, chain: &ChainKey) -> usize {
    host.ports.values().filter(|node| node.chain == *chain).count()
}
