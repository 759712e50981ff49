//! The clients of one replica each, by id: who is in the cluster may change while clients work.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use hanse_client::Client;

use super::chance::Chance;

/// One client for each replica, which asks no other.
#[derive(Debug, Default)]
pub(crate) struct Roster(RwLock<BTreeMap<u64, Client>>);

impl Roster {
    /// Adds the client of a replica.
    pub(crate) fn add(&self, id: u64, client: Client) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, client);
    }

    /// Takes the client of a replica away.
    pub(crate) fn remove(&self, id: u64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// The client of a replica.
    pub(crate) fn get(&self, id: u64) -> Option<Client> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All of them, in order of the id.
    pub(crate) fn all(&self) -> Vec<(u64, Client)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(id, client)| (*id, client.clone())).collect()
    }

    /// One of them; `None` if there is nobody.
    pub(crate) fn pick(&self, chance: &mut Chance) -> Option<Client> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(chance.below(all.len().max(1) as u64)).unwrap_or(0);
        all.values().nth(place).cloned()
    }
}
