//! What is on the simulated hosts, held against what the state wishes for.

use std::collections::BTreeMap;

use hanse_adapters_core::InstanceKey;
use hanse_state::State;
use hanse_state::chain::life::NodeWish;
use hanse_state::chain::node::{Node, instance_object};

use crate::hosts::{Home, Host, Hosts};

/// Another cluster that uses the same hosts.
const STRANGERS: &str = "0193f2a4-0000-7000-8000-0000000000ff";

impl Hosts {
    /// Gives something on a host that the state does not wish for.
    pub(crate) fn orphan(&self, state: &State) -> Option<String> {
        let (cluster, wished) = (state.cluster.as_ref().map(|it| it.id.to_string()).unwrap_or_default(), wished(state));
        let mut there = self.hosts.iter().flat_map(|(address, host)| host.homes.keys().map(move |key| (address, key)));
        let orphan = there.find(|(address, key)| {
            key.cluster() == cluster && !wished.contains_key(&((*address).clone(), (*key).clone()))
        });
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

/// What is wrong with the home of a node.
fn wrong(node: &Node, home: Option<&Home>) -> Option<String> {
    let runs = home.is_some_and(|home| home.process.is_some());
    let keys = node.identity.as_ref().map(|identity| &identity.node_id);
    if keys.is_some() && home.and_then(|home| home.identity.as_ref()) != keys {
        return Some("its keys are not those of the state".into());
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
    let cluster = state.cluster.as_ref()?;
    let host = node.host.as_ref().and_then(|id| state.hosts.get(id))?;
    Some((host.peer_address.clone(), InstanceKey::new(&cluster.id.to_string(), &instance_object(&node.key))?))
}

/// Host and key of each node that the state wishes for, and its generation.
fn wished(state: &State) -> BTreeMap<(String, InstanceKey), u64> {
    state.nodes.values().filter_map(|node| Some((place(state, node)?, node.generation))).collect()
}
