//! Laws of placement over failure zones: against every way there is, on small boards.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use hanse_state::host::properties::Tenancy;
use hanse_state::host::spread::{spread, zone_of};
use hanse_state::host::{Host, HostState};
use hanse_state::ids::{HostId, NodeId, NodeKey, TenantId};
use imbl::OrdMap;
use proptest::prelude::*;

use super::world::{self, chain_key};

/// One host: zone, whose it is, slots, nodes of the chain that are there, whether it is ready.
type Drawn = (u8, u8, u32, u32, bool);

fn tenant(number: u8) -> TenantId {
    ["acme", "globex", "hooli"][usize::from(number)].parse().unwrap()
}

fn node(number: u64) -> NodeKey {
    NodeKey::new(chain_key(), NodeId::new(number))
}

fn host(number: usize, (zone, owner, slots, present, ready): Drawn) -> Host {
    let made = world::host(&format!("h{number}"), slots);
    let mut host = Host {
        id: made.host,
        reach: made.reach,
        peer_address: made.peer_address,
        port_first: made.port_first,
        port_count: made.port_count,
        slots: slots + present,
        state: if ready { HostState::Ready } else { HostState::Cordoned },
        state_reason: String::new(),
        state_since: world::START,
        facts: None,
        facts_at: None,
        seen_fingerprint: None,
        seen_jump: None,
        ports: BTreeMap::new(),
        created_at: world::START,
        zone: if zone == 0 { String::new() } else { format!("z{zone}") },
        labels: BTreeMap::new(),
        evicted: BTreeMap::new(),
        outage_accepted: false,
        tenancy: if owner == 0 { Tenancy::Shared } else { Tenancy::Dedicated(tenant(owner - 1)) },
    };
    for n in 0..present {
        let known = node(100 + 10 * number as u64 + u64::from(n));
        let first = host.port_first + 2 * u16::try_from(n).unwrap();
        host.ports.extend([(first, known.clone()), (first + 1, known)]);
    }
    host
}

/// How many nodes of the chain are in each zone, and on each host.
fn counts(hosts: &OrdMap<HostId, Host>, placed: &[Option<HostId>]) -> (BTreeMap<String, i64>, BTreeMap<HostId, i64>) {
    let (mut zones, mut own) = (BTreeMap::new(), BTreeMap::new());
    for host in hosts.values() {
        let present = i64::try_from(host.ports.len() / 2).unwrap();
        let new = i64::try_from(placed.iter().filter(|it| it.as_ref() == Some(&host.id)).count()).unwrap();
        *zones.entry(zone_of(host)).or_default() += present + new;
        own.insert(host.id.clone(), present + new);
    }
    (zones, own)
}

fn cost(hosts: &OrdMap<HostId, Host>, placed: &[Option<HostId>]) -> [i64; 4] {
    let (zones, own) = counts(hosts, placed);
    let of = |f: fn(&Host) -> i64| placed.iter().flatten().map(|id| f(&hosts[id])).sum::<i64>();
    let squares = |all: &mut dyn Iterator<Item = &i64>| all.map(|count| count * count).sum();
    let shared = of(|host| i64::from(host.tenancy.is_shared()));
    let ports = of(|host| i64::try_from(host.ports.len()).unwrap());
    [shared, squares(&mut zones.values()), squares(&mut own.values()), ports]
}

/// Every way to place the nodes, also with some of them nowhere.
fn ways(hosts: &OrdMap<HostId, Host>, owners: &[TenantId]) -> Vec<Vec<Option<HostId>>> {
    let mut all = vec![Vec::new()];
    for owner in owners {
        let mut next = Vec::new();
        for way in &all {
            let free = |host: &&Host| {
                let used = way.iter().filter(|it: &&Option<HostId>| it.as_ref() == Some(&host.id)).count();
                let room = usize::try_from(host.slots).unwrap() - host.ports.len() / 2;
                host.state == HostState::Ready && host.tenancy.takes(owner) && used < room
            };
            for choice in hosts.values().filter(free).map(|host| Some(host.id.clone())).chain([None]) {
                next.push(way.iter().cloned().chain([choice]).collect());
            }
        }
        all = next;
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// As many as there is room for, and of all ways to place them one that costs least; nothing on a host that is not ready,
    /// full or another's.
    #[test]
    fn no_other_way_is_better(
        drawn in prop::collection::vec((0..4_u8, 0..4_u8, 0..3_u32, 0..2_u32, prop::bool::weighted(0.85)), 1..5),
        owners in prop::collection::vec(0..3_u8, 1..5),
    ) {
        let hosts: OrdMap<HostId, Host> =
            drawn.into_iter().enumerate().map(|(n, it)| host(n, it)).map(|host| (host.id.clone(), host)).collect();
        let owners: Vec<TenantId> = owners.into_iter().map(tenant).collect();
        let waiting: Vec<_> = (0..).map(node).zip(owners.iter().cloned()).collect();
        let found = spread(&hosts, &chain_key(), &waiting, 2);
        let placed: Vec<_> = waiting.iter().map(|(key, _)| found.get(key).cloned()).collect();
        let ways = ways(&hosts, &owners);
        prop_assert!(ways.contains(&placed), "a place that is none: {placed:?}");
        let count = |way: &[Option<HostId>]| way.iter().flatten().count();
        let most = ways.iter().map(|way| count(way)).max().unwrap();
        prop_assert_eq!(count(&placed), most, "as many as there is room for");
        if most == owners.len() {
            let least = ways.iter().filter(|way| count(way) == most).map(|way| cost(&hosts, way)).min().unwrap();
            prop_assert_eq!(cost(&hosts, &placed), least, "{:?}", placed);
        }
    }

    /// On shared hosts with room for all, no zone has two nodes more than another that could have had one of them.
    #[test]
    fn zones_are_even(zones in prop::collection::vec(1..5_u8, 1..12), nodes in 1..17_u64) {
        let hosts: OrdMap<HostId, Host> = zones.iter().enumerate()
            .map(|(n, zone)| host(n, (*zone, 0, 16, 0, true))).map(|host| (host.id.clone(), host)).collect();
        let waiting: Vec<_> = (0..nodes).map(|n| (node(n), tenant(0))).collect();
        let placed: Vec<_> = spread(&hosts, &chain_key(), &waiting, 2).into_values().map(Some).collect();
        prop_assert_eq!(placed.len() as u64, nodes);
        let (zones, own) = counts(&hosts, &placed);
        let (least, most) = (zones.values().min().unwrap(), zones.values().max().unwrap());
        prop_assert!(most - least <= 1, "{zones:?}");
        for host in hosts.values() {
            let alike = hosts.values().filter(|it| it.zone == host.zone);
            prop_assert!(alike.map(|it| own[&it.id]).all(|other| (other - own[&host.id]).abs() <= 1), "{own:?}");
        }
    }
}

/// Greedy placement would give the first node the zone that only the second one is let into.
#[test]
fn one_gives_way_to_another() {
    let hosts: OrdMap<HostId, Host> = [
        host(0, (1, 0, 1, 0, true)),
        host(1, (1, 1, 0, 0, true)),
        host(2, (2, 0, 1, 0, true)),
        host(3, (1, 0, 2, 1, true)),
    ]
    .into_iter()
    .map(|host| (host.id.clone(), host))
    .collect();
    let waiting = vec![(node(0), tenant(0)), (node(1), tenant(1))];
    let found: Vec<String> = spread(&hosts, &chain_key(), &waiting, 2).into_values().map(|id| id.to_string()).collect();
    assert_eq!(
        found,
        ["h2", "h0"],
        "one in each zone as far as there is room, then on the host without one of the chain"
    );
}
