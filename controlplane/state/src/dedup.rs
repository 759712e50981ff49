//! Retries without harm: the outcomes of the latest requests by id.
//!
//! Ids are UUIDs of version 7 and so ordered by when the client made them. The window drops its smallest id when full
//! and remembers it as the floor: an unknown id at or below the floor might have been executed and dropped, so it is
//! refused, never executed again.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::RequestId;
use crate::{Outcome, Rejection};

/// Requests that are remembered.
pub const DEDUP_MAX: usize = 100_000;

/// What is remembered of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Hash of actor and command: the same id may not stand for another wish.
    pub hash: Digest,
    /// Entry of its first application.
    pub revision: u64,
    /// Its outcome.
    pub outcome: Result<Outcome, Rejection>,
}

/// The window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup {
    /// Ids at or below it are no longer known.
    pub floor: Option<RequestId>,
    /// By id, at most [`DEDUP_MAX`].
    pub seen: OrdMap<RequestId, Seen>,
}

/// What the window says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    New,
    Replay(Seen),
    Refused(Rejection),
}

impl Dedup {
    pub(crate) fn look(&self, id: RequestId, hash: &Digest) -> Lookup {
        match self.seen.get(&id) {
            Some(seen) if seen.hash == *hash => Lookup::Replay(seen.clone()),
            Some(seen) => {
                Lookup::Refused(Rejection::RequestIdReused { request_id: id.to_string(), revision: seen.revision })
            }
            None if self.floor.is_some_and(|floor| id <= floor) => {
                Lookup::Refused(Rejection::RequestTooOld { request_id: id.to_string(), window: DEDUP_MAX as u64 })
            }
            None => Lookup::New,
        }
    }

    pub(crate) fn remember(&mut self, id: RequestId, seen: Seen, limit: usize) {
        self.seen.insert(id, seen);
        while self.seen.len() > limit {
            let Some(smallest) = self.seen.get_min().map(|(id, _)| *id) else { return };
            self.seen.remove(&smallest);
            self.floor = self.floor.max(Some(smallest));
        }
    }
}
