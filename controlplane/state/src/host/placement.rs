//! Where nodes go: a pure choice over hosts, and the ports they get there.
//!
//! A node goes to the ready host that has the fewest nodes of its own chain (spread before doubling up, so that one
//! host's loss costs a chain as little as it can), then the fewest nodes at all, then the first by id.

use imbl::OrdMap;

use super::{Host, HostState, PORTS_PER_NODE};
use crate::ids::{ChainKey, HostId, NodeKey};

/// Where a node goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// On which host.
    pub host: HostId,
    /// Port of the chain's network.
    pub p2p_port: u16,
    /// Port of the JSON-RPC.
    pub rpc_port: u16,
}

/// Returns how many more nodes a host takes: 0 unless it is ready, bounded by its slots and by its free ports.
pub fn free_slots(host: &Host) -> u64 {
    if host.state != HostState::Ready {
        return 0;
    }
    let taken = u32::try_from(host.ports.len()).unwrap_or(u32::MAX);
    let free_ports = u32::from(host.port_count).saturating_sub(taken);
    let free_slots = host.slots.saturating_sub(taken / PORTS_PER_NODE);
    u64::from(free_slots.min(free_ports / PORTS_PER_NODE))
}

/// Returns where `node` would go, `None` if no ready host has a free slot.
pub fn choose(hosts: &OrdMap<HostId, Host>, node: &NodeKey) -> Option<Place> {
    let host = hosts
        .values()
        .filter(|host| free_slots(host) > 0)
        .min_by_key(|host| (of_chain(host, &node.chain), host.ports.len(), host.id.clone()))?;
    let mut free = (0..host.port_count)
        .filter_map(|offset| host.port_first.checked_add(offset))
        .filter(|port| !host.ports.contains_key(port));
    Some(Place { host: host.id.clone(), p2p_port: free.next()?, rpc_port: free.next()? })
}

fn of_chain(host: &Host, chain: &ChainKey) -> usize {
    host.ports.values().filter(|node| node.chain == *chain).count()
}
