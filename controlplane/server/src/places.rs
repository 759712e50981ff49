//! Who may hold a connection: places by stage and by address, so that one source cannot shut the others out.
//!
//! A connection first takes a place for its handshake, then, unless it has shown a replica's certificate, one for
//! clients; the first is free again by then. So replicas always reach each other, however many clients there are. Both
//! stages have a limit for the whole and one for each address; what is over a limit is closed at once, never queued.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Handshakes under way: in all, and of one address.
pub(crate) const HANDSHAKES: Limit = Limit { all: 256, address: 64 };

/// Open connections of clients: in all, and of one address (several consoles and scripts behind one gateway).
pub(crate) const CLIENTS: Limit = Limit { all: 1_024, address: 512 };

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) all: usize,
    pub(crate) address: usize,
}

/// The places of one stage; a clone is another handle.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    limit: Limit,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place, free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Places {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, taken: Arc::default() }
    }

    /// Takes a place for `address`, none if it or the whole has all it may have.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Place> {
        // An IPv4 client of a dual-stack listener is the same one.
        let address = address.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&address).copied().unwrap_or(0);
        if own >= self.limit.address || taken.values().sum::<usize>() >= self.limit.all {
            return None;
        }
        taken.insert(address, own + 1);
        Some(Place { taken: self.taken.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_address_cannot_take_what_others_need() {
        let places = Places::new(Limit { all: 3, address: 2 });
        let (one, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = places.take(one).unwrap();
        let _second = places.take("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(places.take(one).is_none(), "it has all it may have");
        let _third = places.take(other).unwrap();
        assert!(places.take(other).is_none(), "the whole is full");
        drop(first);
        let again = places.take(one).unwrap();
        drop(again);
        drop(places.take(other).unwrap());
        assert_eq!(places.taken.lock().unwrap().len(), 2, "an address without connections is forgotten");
    }
}
