//! Spreading a chain's nodes over failure zones: a pure choice for all nodes at once.
//!
//! Of all ways to place the nodes this gives one that is best by, in this order: as many placed as there is room for; a tenant's
//! nodes on its own hosts rather than on shared ones; the chain spread over zones as evenly as it can be, then over hosts; the
//! hosts that have the fewest ports taken, then the first by id. Even means the least sum of squares, so no zone gets two nodes
//! where one would do. A host without a zone is one of its own.
//!
//! It is a flow of least cost (successive shortest paths): each node in turn goes where it costs least, and may push another
//! one elsewhere, over as many as it takes. Placing them one by one would not do: the first may take the only zone that a
//! later one is let into.
//!
//! What it never does: move a node that has a place, or take a host that is not ready, full, or another tenant's.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;

use super::placement::slots_for;
use super::{Host, HostState, PORTS_PER_NODE, Reach};
use crate::State;
use crate::chain::node::Node;
use crate::ids::{ChainKey, HostId, NodeKey, TenantId};

/// A node that waits for a place: what it is called, and whose it is.
pub type Waiting = (NodeKey, TenantId);

/// What a choice costs: nodes on shared hosts, then unevenness over zones and over hosts, then ports that are taken.
type Cost = [i64; 4];

/// The failure zone of a host: its name, or the host itself.
pub fn zone_of(host: &Host) -> String {
    if host.zone.is_empty() { format!("hosts/{}", host.id) } else { host.zone.clone() }
}

/// Returns the hosts for the nodes of `chain` that wait, each of which needs so many `ports`; those for which there is no room
/// are left out, in order the last ones.
pub fn spread(
    hosts: &OrdMap<HostId, Host>,
    chain: &ChainKey,
    waiting: &[Waiting],
    ports: u32,
) -> BTreeMap<NodeKey, HostId> {
    let mut board = Board::new(hosts, chain, waiting, ports);
    for node in 0..waiting.len() {
        board.place(node);
    }
    let places = waiting.iter().zip(&board.places);
    places.filter_map(|((key, _), site)| Some((key.clone(), board.sites[(*site)?].host.id.clone()))).collect()
}

/// Returns the host to which a node goes best from where it is; `None` if no other one has room for it and can be carried to.
pub fn elsewhere(state: &State, node: &Node) -> Option<HostId> {
    let mut hosts = state.hosts.clone();
    if let Some(mut own) = node.host.as_ref().and_then(|id| hosts.get(id).cloned()) {
        own.ports.retain(|_, taken_by| *taken_by != node.key);
        own.state = HostState::Cordoned;
        hosts.insert(own.id.clone(), own);
    }
    let docks: Vec<HostId> =
        hosts.values().filter(|host| matches!(host.reach, Reach::Docker { .. })).map(|host| host.id.clone()).collect();
    docks.iter().for_each(|id| drop(hosts.remove(id)));
    let names = crate::chain::query::ports_of(state, &node.key.chain).len();
    let ports = PORTS_PER_NODE.saturating_add(u32::try_from(names).unwrap_or(u32::MAX));
    let waiting = [(node.key.clone(), node.owner.clone())];
    spread(&hosts, &node.key.chain, &waiting, ports).remove(&node.key)
}

/// A host that may take nodes.
struct Site<'a> {
    host: &'a Host,
    zone: usize,
    /// How many more it takes.
    room: u64,
    /// Nodes of the chain that were there.
    present: i64,
    /// Nodes that were placed there now.
    placed: u64,
}

struct Board<'a> {
    waiting: &'a [Waiting],
    sites: Vec<Site<'a>>,
    /// Nodes of the chain by zone, those placed now included.
    zones: Vec<i64>,
    /// Sites by node.
    places: Vec<Option<usize>>,
}

/// Where one node more goes: to a site, or through it into its zone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Site(usize),
    Zone(usize),
}

/// How a stop was reached at its least cost.
#[derive(Clone, Copy)]
enum By {
    /// By the new node.
    New,
    /// By a node that gave way at another site.
    Gives { node: usize, site: usize },
    /// Out of the zone: another node went into it.
    Zone(usize),
    /// Into the zone, through this site.
    Site(usize),
}

/// The cheapest ways known to sites and zones.
struct Ways {
    sites: Vec<Option<(Cost, By)>>,
    zones: Vec<Option<(Cost, By)>>,
}

impl<'a> Board<'a> {
    fn new(hosts: &'a OrdMap<HostId, Host>, chain: &ChainKey, waiting: &'a [Waiting], ports: u32) -> Self {
        let present = |host: &Host| {
            let nodes: BTreeSet<&NodeKey> = host.ports.values().filter(|node| node.chain == *chain).collect();
            i64::try_from(nodes.len()).unwrap_or(i64::MAX)
        };
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let mut zones: Vec<i64> = Vec::new();
        let mut sites: Vec<Site<'a>> = Vec::new();
        for host in hosts.values() {
            let zone = *names.entry(zone_of(host)).or_insert_with(|| {
                zones.push(0);
                zones.len() - 1
            });
            zones[zone] += present(host);
            let room = slots_for(host, ports);
            if room > 0 && waiting.iter().any(|(_, owner)| host.tenancy.takes(owner)) {
                sites.push(Site { host, zone, room, present: present(host), placed: 0 });
            }
        }
        let sites = least_taken(sites, waiting.len());
        Self { waiting, sites, zones, places: vec![None; waiting.len()] }
    }

    /// Places one node more, if there is a way.
    fn place(&mut self, node: usize) {
        let ways = self.ways(node);
        let end = |zone: &usize| {
            let (cost, _) = ways.zones[*zone]?;
            Some(add(cost, [0, 2 * self.zones[*zone] + 1, 0, 0]))
        };
        let best = (0..self.zones.len()).filter_map(|zone| Some((end(&zone)?, zone))).min();
        let Some((_, zone)) = best else { return };
        self.zones[zone] += 1;
        let mut at = Stop::Zone(zone);
        loop {
            let known = match at {
                Stop::Site(site) => ways.sites[site],
                Stop::Zone(zone) => ways.zones[zone],
            };
            match (at, known.map(|(_, by)| by)) {
                (Stop::Zone(_), Some(By::Site(site))) => {
                    self.sites[site].placed += 1;
                    at = Stop::Site(site);
                }
                (Stop::Site(site), Some(By::Zone(zone))) => {
                    self.sites[site].placed -= 1;
                    at = Stop::Zone(zone);
                }
                (Stop::Site(to), Some(By::Gives { node, site })) => {
                    self.places[node] = Some(to);
                    at = Stop::Site(site);
                }
                (Stop::Site(to), Some(By::New)) => {
                    self.places[node] = Some(to);
                    return;
                }
                (Stop::Site(_) | Stop::Zone(_), _) => return,
            }
        }
    }

    /// The cheapest ways from `node` to every site and zone (Bellman and Ford: what gives way gives something back).
    fn ways(&self, node: usize) -> Ways {
        let mut ways = Ways { sites: vec![None; self.sites.len()], zones: vec![None; self.zones.len()] };
        for site in 0..self.sites.len() {
            if let Some(cost) = self.likes(node, site) {
                ways.sites[site] = Some((cost, By::New));
            }
        }
        // No way is longer than there are stops.
        for _ in 0..=self.sites.len() + self.zones.len() {
            if !self.shorten(&mut ways) {
                break;
            }
        }
        ways
    }

    /// One round; whether some way became cheaper.
    fn shorten(&self, ways: &mut Ways) -> bool {
        let mut changed = false;
        for (from, site) in self.sites.iter().enumerate() {
            let Some((cost, _)) = ways.sites[from] else { continue };
            if site.placed < site.room {
                let into = add(cost, [0, 0, self.uneven(from, 1), 0]);
                changed |= better(&mut ways.zones[site.zone], into, By::Site(from));
            }
            for (node, _) in self.places.iter().enumerate().filter(|(_, place)| **place == Some(from)) {
                let Some(now) = self.likes(node, from) else { continue };
                for to in (0..self.sites.len()).filter(|to| *to != from) {
                    if let Some(then) = self.likes(node, to) {
                        let cost = add(cost, [then[0] - now[0], 0, 0, then[3] - now[3]]);
                        changed |= better(&mut ways.sites[to], cost, By::Gives { node, site: from });
                    }
                }
            }
        }
        for (to, site) in self.sites.iter().enumerate().filter(|(_, site)| site.placed > 0) {
            if let Some((cost, _)) = ways.zones[site.zone] {
                let out = add(cost, [0, 0, -self.uneven(to, 0), 0]);
                changed |= better(&mut ways.sites[to], out, By::Zone(site.zone));
            }
        }
        changed
    }

    /// What it costs by itself that the node goes to the site; `None` if it may not.
    fn likes(&self, node: usize, site: usize) -> Option<Cost> {
        let host = self.sites[site].host;
        // What is left there of an earlier node of this name must be gone first.
        if host.evicted.contains_key(&self.waiting[node].0) {
            return None;
        }
        let taken = i64::try_from(host.ports.len()).unwrap_or(i64::MAX);
        host.tenancy.takes(&self.waiting[node].1).then_some([i64::from(host.tenancy.is_shared()), 0, 0, taken])
    }

    /// What the last node of the site, with so many `more`, adds to the sum of squares.
    fn uneven(&self, site: usize, more: i64) -> i64 {
        let site = &self.sites[site];
        let count = site.present + i64::try_from(site.placed).unwrap_or(i64::MAX) + more;
        2 * count - 1
    }
}

/// Of the sites that nothing but their load tells apart no more than there are nodes: more are never used.
fn least_taken(mut sites: Vec<Site<'_>>, nodes: usize) -> Vec<Site<'_>> {
    sites.sort_by_key(|site| (site.present, site.host.ports.len(), site.host.id.clone()));
    let mut alike: BTreeMap<(Option<TenantId>, String), usize> = BTreeMap::new();
    sites.retain(|site| {
        let tenant = match &site.host.tenancy {
            super::properties::Tenancy::Shared => None,
            super::properties::Tenancy::Dedicated(tenant) => Some(tenant.clone()),
        };
        let count = alike.entry((tenant, site.host.zone.clone())).or_default();
        *count += 1;
        *count <= nodes
    });
    sites
}

fn add(a: Cost, b: Cost) -> Cost {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
}

fn better(known: &mut Option<(Cost, By)>, cost: Cost, by: By) -> bool {
    let is_better = known.as_ref().is_none_or(|(old, _)| cost < *old);
    if is_better {
        *known = Some((cost, by));
    }
    is_better
}
