//! What the leader saw on hosts and in clouds that nothing in the state asks for. In memory only.
//!
//! One look proves little: a node may have been ordered, made and seen between two of them. So each thing is kept with when
//! it was seen first and how often, and only what was there at two looks and for the grace time may be removed. A new leader
//! begins with nothing, so its grace begins anew. What is not seen at a look is forgotten.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use hanse_state::ids::HostId;

/// Looks at which a thing must have been there before it may be removed.
const SIGHTINGS_MIN: u32 = 2;

/// One thing on one host, or in one cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its name there.
    pub object: String,
    /// The generation there; 0 if nothing was ever started.
    pub generation: u64,
    /// Whether a process of it runs.
    pub runs: bool,
    /// Why the platform leaves it there; empty if it is removed after the grace time.
    pub kept: String,
    /// At the first look that found it, milliseconds since 1970.
    pub first_seen_ms: u64,
    /// At the last.
    pub last_seen_ms: u64,
    /// How many looks found it.
    pub sightings: u32,
    /// When it may be removed at the earliest, milliseconds since 1970; `None` if the platform leaves it there.
    pub remove_at_ms: Option<u64>,
    /// Whether this leader has written down that it removes it.
    pub ordered: bool,
}

/// What was found in one place at its last look.
#[derive(Clone, Debug, Default)]
struct Look {
    at_ms: u64,
    found: BTreeMap<String, Orphan>,
}

/// The last looks, by place: a host, or a cloud.
#[derive(Debug)]
pub struct Orphans<K = HostId> {
    hosts: RwLock<BTreeMap<K, Look>>,
}

impl<K> Default for Orphans<K> {
    fn default() -> Self {
        Self { hosts: RwLock::default() }
    }
}

/// One thing as a look finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name there.
    pub object: String,
    /// See [`Orphan::generation`].
    pub generation: u64,
    /// See [`Orphan::runs`].
    pub runs: bool,
    /// See [`Orphan::kept`].
    pub kept: String,
}

impl<K: Ord + Clone> Orphans<K> {
    /// Keeps one look at `host`, at `now_ms`: what it found is known for longer, what it did not find is forgotten.
    pub fn saw(&self, host: &K, now_ms: u64, grace_ms: u64, found: Vec<Found>) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        let look = hosts.entry(host.clone()).or_default();
        let known = std::mem::take(&mut look.found);
        look.at_ms = now_ms;
        for it in found {
            let old = known.get(&it.object);
            let first_seen_ms = old.map_or(now_ms, |old| old.first_seen_ms);
            let orphan = Orphan {
                remove_at_ms: it.kept.is_empty().then(|| first_seen_ms.saturating_add(grace_ms)),
                generation: it.generation,
                runs: it.runs,
                kept: it.kept,
                first_seen_ms,
                last_seen_ms: now_ms,
                sightings: old.map_or(0, |old| old.sightings).saturating_add(1),
                ordered: old.is_some_and(|old| old.ordered),
                object: it.object,
            };
            look.found.insert(orphan.object.clone(), orphan);
        }
    }

    /// What on `host` may be removed at `now_ms`.
    pub fn due(&self, host: &K, now_ms: u64) -> Vec<Orphan> {
        let is_due = |it: &Orphan| it.sightings >= SIGHTINGS_MIN && it.remove_at_ms.is_some_and(|at| at <= now_ms);
        self.of(host).into_iter().filter(is_due).collect()
    }

    /// Remembers that the removal of a thing is written down.
    pub fn ordered(&self, host: &K, object: &str) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(orphan) = hosts.get_mut(host).and_then(|look| look.found.get_mut(object)) {
            orphan.ordered = true;
        }
    }

    /// Forgets a thing, which is gone.
    pub fn gone(&self, host: &K, object: &str) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = hosts.get_mut(host) {
            look.found.remove(object);
        }
    }

    /// Everything at the last look at `host`, by name.
    pub fn of(&self, host: &K) -> Vec<Orphan> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.get(host).map(|look| look.found.values().cloned().collect()).unwrap_or_default()
    }

    /// When `host` was looked at last, milliseconds since 1970; `None` if never by this leader.
    pub fn looked_at(&self, host: &K) -> Option<u64> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(host).map(|look| look.at_ms)
    }

    /// Forgets everything; a replica that stops being the leader does so.
    pub fn clear(&self) {
        self.hosts.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GRACE: u64 = 10;

    fn found(object: &str, kept: &str) -> Found {
        Found { object: object.into(), generation: 1, runs: true, kept: kept.into() }
    }

    fn names(all: &[Orphan]) -> Vec<&str> {
        all.iter().map(|it| it.object.as_str()).collect()
    }

    #[test]
    fn a_thing_is_due_after_two_looks_and_the_grace() {
        let (orphans, host) = (Orphans::<HostId>::default(), HostId::parse("h1").unwrap());
        orphans.saw(&host, 1_000, GRACE, vec![found("a", ""), found("kept", "why")]);
        assert_eq!(names(&orphans.due(&host, 99_000)), Vec::<&str>::new(), "one look is none");
        orphans.saw(&host, 1_005, GRACE, vec![found("a", ""), found("b", ""), found("kept", "why")]);
        assert_eq!(names(&orphans.due(&host, 1_009)), Vec::<&str>::new(), "the grace is not over");
        assert_eq!(names(&orphans.due(&host, 1_010)), ["a"]);
        assert_eq!((orphans.of(&host)[0].sightings, orphans.looked_at(&host)), (2, Some(1_005)));
    }

    #[test]
    fn what_was_away_begins_anew_and_what_is_gone_is_forgotten() {
        let (orphans, host) = (Orphans::<HostId>::default(), HostId::parse("h1").unwrap());
        orphans.saw(&host, 0, GRACE, vec![found("a", ""), found("b", "")]);
        orphans.saw(&host, 10, GRACE, vec![found("b", "")]);
        orphans.saw(&host, 20, GRACE, vec![found("a", ""), found("b", "")]);
        assert_eq!(names(&orphans.due(&host, 20)), ["b"], "a was asked for in between, or was away");
        orphans.ordered(&host, "b");
        assert!(orphans.due(&host, 20)[0].ordered);
        orphans.gone(&host, "b");
        assert_eq!(names(&orphans.of(&host)), ["a"]);
        orphans.clear();
        assert!(orphans.of(&host).is_empty() && orphans.looked_at(&host).is_none());
    }
}
