//! Looking at every replica all the time: who leads, and whether equal revisions have equal digests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hanse_client::{CallOptions, Client, pb};

use super::roster::Roster;

/// How often each replica is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for a replica's word on itself.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Revisions whose digest is remembered.
const REVISIONS_MAX: usize = 200_000;

/// What a replica said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Whether it says that it leads.
    pub(crate) leads: bool,
    /// Whom it follows; empty if nobody.
    pub(crate) leader: String,
    /// Its term.
    pub(crate) term: u64,
    /// Revision of its digest.
    pub(crate) revision: u64,
    /// Its digest.
    pub(crate) digest: String,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    digests: Mutex<BTreeMap<u64, (u64, String)>>,
    leader: Mutex<Option<(u64, u64)>>,
    /// Revisions at which two replicas were compared.
    pub(crate) compared: AtomicU64,
    /// Who said to lead, by term.
    leaders: Mutex<BTreeMap<u64, BTreeSet<u64>>>,
    /// Revisions at which two replicas differed, in words.
    pub(crate) differing: Mutex<Vec<String>>,
    /// Set when nobody needs to look any more.
    pub(crate) stop: AtomicBool,
}

impl Sight {
    /// The leader of the newest term that was seen.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).map(|(_, id)| id)
    }

    /// Terms that were seen led, and those of them in which two replicas said to lead, one after the other. A term may
    /// change hands: our terms are ordered by number and replica (openraft's `leader_id_adv`), and the greater replica ends
    /// the smaller one's lead as a newer term does.
    pub(crate) fn terms(&self) -> (u64, u64) {
        let leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
        (leaders.len() as u64, leaders.values().filter(|ids| ids.len() > 1).count() as u64)
    }

    /// Takes in what replica `id` said.
    pub(crate) fn note(&self, id: u64, word: &Word) {
        if word.leads {
            let mut leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
            leaders.entry(word.term).or_default().insert(id);
            drop(leaders);
            let mut leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
            if leader.is_none_or(|(term, _)| term <= word.term) {
                *leader = Some((word.term, id));
            }
        }
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        match digests.get(&word.revision) {
            None => drop(digests.insert(word.revision, (id, word.digest.clone()))),
            Some((other, _)) if *other == id => {}
            Some((_, digest)) if *digest == word.digest => drop(self.compared.fetch_add(1, Ordering::Relaxed)),
            Some((other, digest)) => {
                let words =
                    format!("revision {}: replica {other} has {digest}, replica {id} {}", word.revision, word.digest);
                eprintln!("hanse-faults: {words}");
                self.differing.lock().unwrap_or_else(PoisonError::into_inner).push(words);
            }
        }
        while digests.len() > REVISIONS_MAX {
            digests.pop_first();
        }
    }
}

/// Asks a replica about itself alone; `None` if it gave no answer.
pub(crate) async fn ask(replica: &Client, id: u64) -> Option<Word> {
    let options = CallOptions { overall: Some(ANSWER_MAX), single_attempt: true, ..CallOptions::default() };
    let answer = replica.call_with(pb::GetStatusRequest {}, options).await.ok()?;
    // Another may have moved into its place.
    let answered = answer.header.is_some_and(|header| header.replica_id == id.to_string());
    let own = answer.replicas.into_iter().find(|one| answered && one.id == id.to_string())?;
    Some(Word {
        leads: own.role == pb::ReplicaRole::Leader as i32,
        leader: answer.leader_id,
        term: own.term,
        revision: own.digest_revision,
        digest: own.digest,
    })
}

/// Looks at replica `id` until told to stop, or until it is no longer on the roster.
pub(crate) async fn watch(sight: &Sight, roster: &Roster, id: u64) {
    while !sight.stop.load(Ordering::Relaxed) {
        let Some(replica) = roster.get(id) else { return };
        if let Some(word) = ask(&replica, id).await {
            sight.note(id, &word);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
