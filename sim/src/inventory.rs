//! What is on the simulated hosts and in the simulated cloud, held against what the state wishes for.

use std::collections::{BTreeMap, BTreeSet};

use hanse_adapters_core::InstanceKey;
use hanse_adapters_core::cloud::{MachinePhase, Owner};
use hanse_state::State;
use hanse_state::chain::life::NodeWish;
use hanse_state::chain::node::{Node, instance_object};
use hanse_state::cloud::{Machine, MachineState};
use hanse_state::host::{Host as StateHost, Reach};
use hanse_state::ids::HostId;

use crate::hosts::{Home, Host, Hosts, SETTING, setting, validators};
use crate::provider::{Made, Provider};

/// Another cluster that uses the same hosts.
pub(crate) const STRANGERS: &str = "0193f2a4-0000-7000-8000-0000000000ff";

impl Hosts {
    /// Gives something on a host that the state does not wish for: what a node has where it goes to is wished for too.
    pub(crate) fn orphan(&self, state: &State) -> Option<String> {
        let cluster = state.cluster.as_ref().map(|it| it.id.to_string()).unwrap_or_default();
        let coming = state.nodes.values().filter_map(|node| place_at(state, node, &node.moving.as_ref()?.to));
        let wished: BTreeSet<(String, InstanceKey)> = wished(state).into_keys().chain(coming).collect();
        let mut there = self.hosts.iter().flat_map(|(address, host)| host.homes.keys().map(move |key| (address, key)));
        let orphan = there
            .find(|(address, key)| key.cluster() == cluster && !wished.contains(&((*address).clone(), (*key).clone())));
        orphan.map(|(address, key)| format!("orphan: {key} on {address}"))
    }

    /// Gives a node that the state wishes for and that does not run on its host in its generation.
    pub(crate) fn silent(&self, state: &State) -> Option<String> {
        let runs = |address: &str, key: &InstanceKey, generation: u64| {
            let home = self.hosts.get(address).and_then(|host| host.homes.get(key));
            home.is_some_and(|home| home.process.is_some() && home.generation == generation)
        };
        let wished = wished(state);
        let silent = wished.iter().find(|((address, key), generation)| !runs(address, key, **generation));
        silent.map(|((address, key), generation)| format!("generation {generation} of {key} does not run on {address}"))
    }

    /// Gives a node that is not on its host as it is wished: another process than wished, or other keys than its own.
    pub(crate) fn astray(&self, state: &State) -> Option<String> {
        state.nodes.values().find_map(|node| {
            let (address, key) = place(state, node)?;
            let home = self.hosts.get(&address).and_then(|host| host.homes.get(&key));
            wrong(node, home).map(|what| format!("{key} on {address}: {what}"))
        })
    }

    /// Puts on every host a thing that carries this cluster's mark and that no node is, and a stranger's that looks like it.
    pub(crate) fn plant(&mut self, cluster: &str) {
        for host in self.hosts.values_mut() {
            for (cluster, object) in [(cluster, "trade.forgotten.n0"), (STRANGERS, "trade.chain-1.n0")] {
                let key = InstanceKey::new(cluster, object).expect("a fixed name");
                host.homes.insert(key, Home { generation: 1, ..Home::default() });
            }
        }
    }

    /// Since when a thing of this cluster's is on a host.
    pub(crate) fn since_ms(&self, address: &str, object: &str) -> Option<u64> {
        let homes = &self.hosts.get(address)?.homes;
        let home = homes.iter().find(|(key, _)| key.object() == object && key.cluster() != STRANGERS)?;
        home.1.since_ms
    }

    /// The process of an object ends by itself.
    pub(crate) fn end(&mut self, object: &str) {
        let homes = self.hosts.values_mut().flat_map(|host| host.homes.iter_mut());
        homes.filter(|(key, _)| key.object() == object).for_each(|(_, home)| home.process = None);
    }

    /// Gives a stranger's thing that was planted and is gone.
    pub(crate) fn missed(&self) -> Option<String> {
        let has = |host: &Host| host.homes.keys().any(|key| key.cluster() == STRANGERS);
        let planted = self.hosts.values().any(has);
        let robbed = self.hosts.iter().find(|(_, host)| planted && !has(host));
        robbed.map(|(address, _)| format!("a stranger's thing on {address} is gone"))
    }

    /// Gives a node of which the state says something else than its ledger: whether it validates.
    pub(crate) fn misseated(&self, state: &State) -> Option<String> {
        state.nodes.values().find_map(|node| {
            let (seat, name) = (node.seat.as_ref()?, &node.identity.as_ref()?.node_id);
            let genesis = &state.chains.get(&node.key.chain)?.genesis.as_ref()?.bytes.0;
            let validates = self.chains.validators(genesis, validators(genesis)).iter().any(|(it, _)| it == name);
            let is_so = seat.held == validates && seat.wished == validates;
            (!is_so).then(|| format!("{} validates on its ledger: {validates}, in the state {seat:?}", node.key))
        })
    }

    /// Gives two homes for one node.
    pub(crate) fn twin(&self, state: &State) -> Option<String> {
        state.nodes.values().find_map(|node| {
            let (address, key) = place(state, node)?;
            let numbered = format!("{}.", key.object());
            let host = self.hosts.get(&address)?;
            let twin = host.homes.keys().find(|it| it.object().starts_with(&numbered))?;
            Some(format!("doubled node: {key} is also {twin} on {address}"))
        })
    }
}

impl Provider {
    /// Gives something in the cloud that the state does not wish for.
    pub(crate) fn orphan(&self, state: &State) -> Option<String> {
        let cluster = state.cluster.as_ref()?.id.to_string();
        let wished: BTreeSet<&str> = state.machines.values().filter_map(|it| it.instance.as_deref()).collect();
        let is_ours = |made: &Made| made.owner.cluster == cluster && !made.phase.is_over();
        let stray = self.made.iter().find(|(id, made)| is_ours(made) && !wished.contains(id.as_str()));
        if let Some((id, made)) = stray {
            return Some(format!("orphan: {id} of {} in the cloud", made.machine));
        }
        if let Some(left) = self.left_volume(state) {
            return Some(left);
        }
        let needs = |owner: &Owner| state.machines.values().any(|it| it.spec.cloud.as_str() == owner.cloud);
        let left = self.shared.iter().find(|(owner, _)| owner.cluster == cluster && !needs(owner));
        left.map(|(owner, what)| format!("orphan: the {what} of cloud {} that no machine has", owner.cloud))
    }

    /// Gives a machine that is not in the cloud as the state has it.
    pub(crate) fn astray(&self, state: &State) -> Option<String> {
        state.machines.values().find_map(|machine| {
            let made = machine.instance.as_ref().and_then(|id| self.made.get(id));
            let host = state.hosts.get(&machine.id);
            let what = match (machine.state, made, host) {
                (MachineState::Ended, _, None) => return None,
                (MachineState::Ready, Some(made), Some(host)) => not_it(made, machine, host)?,
                (MachineState::Ready, None, _) => "the cloud does not have it",
                (_, _, None) => "it is on its way",
                (MachineState::Ended, _, Some(_)) => return None,
                (_, _, Some(_)) => "it is a host already, or still",
            };
            Some(format!("machine {} is {:?}: {what} ({})", machine.id, machine.state, machine.state_reason))
        })
    }

    /// Gives a stranger's machine, or a disk that is not ours to delete, that was planted and is gone.
    pub(crate) fn missed(&self) -> Option<String> {
        let robbed = self.made.iter().find(|(_, it)| it.planted && it.owner.cluster == STRANGERS && it.phase.is_over());
        robbed.map(|(id, _)| format!("a stranger's machine {id} is gone")).or_else(|| self.robbed_volume())
    }

    /// Puts into the cloud a machine with this cluster's mark that was never ordered, a second one of the token of `machine`, and
    /// a stranger's of that name and token; and disks that no machine has.
    pub(crate) fn plant_strays(&mut self, now_ms: u64, cluster: &str, cloud: &str, machine: &str) {
        let token = self.made.values().find(|made| made.machine == machine).map(|it| it.token.clone());
        let token = token.expect("a machine that was made");
        let owner = |cluster: &str| Owner { cluster: cluster.into(), cloud: cloud.into() };
        self.plant(now_ms, "i-forgotten", owner(cluster), "forgotten", "");
        self.plant(now_ms, "i-twin", owner(cluster), machine, &token);
        self.plant(now_ms, "i-stranger", owner(STRANGERS), machine, &token);
        self.plant_volumes(now_ms, cluster, cloud);
    }
}

/// What of a machine that runs is not as the state has it.
fn not_it(made: &Made, machine: &Machine, host: &StateHost) -> Option<&'static str> {
    let (Reach::Ssh { address, fingerprint, .. }, token) = (&host.reach, machine.token.to_string()) else {
        return Some("its host is not reached over SSH");
    };
    match made.phase {
        _ if made.token != token => Some("its token is another"),
        _ if *address != made.address || *fingerprint != made.fingerprint => Some("its host is another"),
        MachinePhase::Running => None,
        _ => Some("it does not run in the cloud"),
    }
}

/// What is wrong with the home of a node.
fn wrong(node: &Node, home: Option<&Home>) -> Option<String> {
    let runs = home.is_some_and(|home| home.process.is_some());
    let keys = node.identity.as_ref().map(|identity| &identity.node_id);
    if keys.is_some() && home.and_then(|home| home.identity.as_ref()) != keys {
        return Some("its keys are not those of the state".into());
    }
    let runs_with = home.and_then(|home| setting(&home.runs_with, SETTING));
    if runs && runs_with != node.outfit.settings.get(SETTING).copied() {
        return Some(format!("it runs with {SETTING} {runs_with:?}, its own is {:?}", node.outfit.settings));
    }
    match node.wish {
        NodeWish::Run | NodeWish::Leave if runs && home.is_some_and(|it| it.generation == node.generation) => None,
        NodeWish::Run | NodeWish::Leave => Some(format!("generation {} does not run", node.generation)),
        NodeWish::Stop if runs => Some("it runs and is to be stopped".into()),
        NodeWish::Stop => None,
        NodeWish::Remove => Some("it is still to be removed".into()),
        NodeWish::Watch => runs.then(|| "it runs and is not the platform's".into()),
    }
}

/// Host and key of a node that has a host.
fn place(state: &State, node: &Node) -> Option<(String, InstanceKey)> {
    place_at(state, node, node.host.as_ref()?)
}

/// The same on this host.
fn place_at(state: &State, node: &Node, host: &HostId) -> Option<(String, InstanceKey)> {
    let (cluster, host) = (state.cluster.as_ref()?, state.hosts.get(host)?);
    Some((host.peer_address.clone(), InstanceKey::new(&cluster.id.to_string(), &instance_object(&node.key))?))
}

/// Host and key of each node that the state wishes for, and its generation.
fn wished(state: &State) -> BTreeMap<(String, InstanceKey), u64> {
    state.nodes.values().filter_map(|node| Some((place(state, node)?, node.generation))).collect()
}
