//! What must hold, kept as history: the one true log, who voted what, what clients were told.
//!
//! Sources: Ongaro and Ousterhout 2014, figure 3 (election safety, log matching, leader completeness, state machine
//! safety); Vanlightly's TLA+ model (commit on quorum, monotonic vote and commit); Ongaro 2014, section 6.3 (exactly once);
//! RELIABILITY.md I-1, I-4, I-5, I-6, I-10, I-12 for the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hanse_raft::ReplicaId;
use hanse_state::consortium::ballot::CastBallot;
use hanse_state::ids::{ProposalKey, RequestId, TenantId};
use hanse_state::{Actor, Applied, Command, Digest, Millis, Request, State};

use crate::types::{Entry, LeaderId, LogId, Payload, Vote};

/// One entry of the one true log, as the first replica applied it.
struct Line {
    id: LogId,
    hash: Digest,
    /// Digest of the state, log time and who asked; for requests only.
    result: Option<Result3>,
}

#[derive(Clone)]
struct Result3 {
    digest: Digest,
    request: RequestId,
    applied: Arc<Applied>,
}

/// History of a run and what it must obey.
#[derive(Default)]
pub(crate) struct Oracle {
    lines: BTreeMap<u64, Line>,
    /// Log matching: what an entry holds and which entry comes before it.
    entries: BTreeMap<(LeaderId, u64), (Digest, Option<LogId>)>,
    votes: BTreeMap<ReplicaId, Vote>,
    executed: BTreeMap<RequestId, u64>,
    told: BTreeMap<RequestId, Arc<Applied>>,
    ballots: BTreeSet<(ProposalKey, TenantId)>,
    last_now: Option<(u64, Millis)>,
    /// Highest revision that a client has seen.
    pub(crate) floor: u64,
    pub(crate) acked: u64,
    pub(crate) refused: u64,
    pub(crate) reads: u64,
    pub(crate) unknown: u64,
    pub(crate) replays: u64,
    found: Vec<String>,
}

impl Oracle {
    pub(crate) fn take_found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }

    /// Position of the last entry that any replica has applied.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.lines.last_key_value().map(|(_, line)| line.id)
    }

    /// Every applied position from `from` on.
    pub(crate) fn applied_from(&self, from: u64) -> impl Iterator<Item = LogId> {
        self.lines.range(from..).map(|(_, line)| line.id)
    }

    /// Log matching: equal position, equal content and equal past.
    pub(crate) fn appended(&mut self, by: ReplicaId, before: Option<LogId>, entries: &[Entry]) {
        let mut previous = before;
        for entry in entries {
            let key = (entry.log_id.leader_id, entry.log_id.index);
            let hash = content_hash(&entry.payload);
            let (known, past) = self.entries.entry(key).or_insert((hash, previous));
            if *known != hash || *past != previous {
                self.found.push(format!(
                    "log matching: {by} appends {} after {previous:?}, another replica has it after {past:?} (same content: {})",
                    entry.log_id,
                    *known == hash
                ));
            }
            previous = Some(entry.log_id);
        }
    }

    /// A committed entry is never cut off.
    pub(crate) fn truncated(&mut self, by: ReplicaId, cut: &[LogId]) {
        for id in cut {
            if self.lines.get(&id.index).is_some_and(|line| line.id == *id) {
                self.found.push(format!("committed immutable: {by} truncates the committed entry {id}"));
            }
        }
    }

    /// A vote on disk never goes back, crash or not.
    pub(crate) fn vote_durable(&mut self, by: ReplicaId, vote: Vote) {
        self.votes.insert(by, vote);
    }

    /// What a replica votes now is never less than what it had made durable.
    pub(crate) fn vote_shown(&mut self, by: ReplicaId, vote: Option<Vote>) {
        let Some(before) = self.votes.get(&by) else { return };
        if vote.is_none_or(|now| now < *before) {
            self.found.push(format!("monotonic vote: {by} had voted {before}, now it has {vote:?}"));
        }
    }

    /// State machine safety, equal digests, growing time, exactly once, one ballot: at every entry that a replica applies.
    pub(crate) fn applied(
        &mut self,
        by: ReplicaId,
        entry: &Entry,
        after: &State,
        done: Option<(&Request, &Arc<Applied>)>,
    ) {
        let index = entry.log_id.index;
        let hash = content_hash(&entry.payload);
        if let Some(line) = self.lines.get(&index) {
            if line.id != entry.log_id || line.hash != hash {
                self.found
                    .push(format!("state machine safety: {by} applies {}, another applied {}", entry.log_id, line.id));
            } else if let (Some(result), Some(_)) = (&line.result, done)
                && result.digest != after.digest()
            {
                self.found.push(format!("equal states: {by} differs after entry {index}"));
            }
            return;
        }
        let result = done.map(|(request, applied)| {
            self.first_applied(index, after, request, applied);
            Result3 { digest: after.digest(), request: request.id, applied: applied.clone() }
        });
        self.lines.insert(index, Line { id: entry.log_id, hash, result });
    }

    fn first_applied(&mut self, index: u64, after: &State, request: &Request, applied: &Arc<Applied>) {
        if let Some((before, then)) = self.last_now
            && after.now <= then
        {
            self.found.push(format!("log time: {:?} at {index}, {then:?} at {before}", after.now));
        }
        self.last_now = Some((index, after.now));
        if applied.replayed {
            self.replays += 1;
            return;
        }
        if request.actor != Actor::System
            && let Some(first) = self.executed.insert(request.id, index)
        {
            self.found.push(format!("exactly once: {} ran at {first} and again at {index}", request.id));
        }
        if let (Command::CastBallot(ballot), Ok(_)) = (&request.command, &applied.outcome) {
            self.ballot(index, after, ballot);
        }
    }

    fn ballot(&mut self, index: u64, after: &State, ballot: &CastBallot) {
        if !self.ballots.insert((ballot.proposal.clone(), ballot.voter.clone())) {
            self.found.push(format!("one ballot: {} on {} again at {index}", ballot.voter, ballot.proposal));
        }
        let Some(proposal) = after.proposals.get(&ballot.proposal) else {
            self.found.push(format!("ballot at {index} on {} which is not there", ballot.proposal));
            return;
        };
        if after.now >= proposal.deadline {
            self.found.push(format!("late ballot: {} on {} at {index}", ballot.voter, ballot.proposal));
        }
        if !proposal.electorate.contains_key(&ballot.voter) {
            self.found.push(format!("ballot of a stranger: {} on {} at {index}", ballot.voter, ballot.proposal));
        }
    }

    /// A client was answered: at a revision after everything answered before it asked, from the one true log, and the
    /// same as every time.
    pub(crate) fn answered(&mut self, request: RequestId, floor: u64, applied: &Arc<Applied>) {
        let revision = applied.revision;
        match self.told.get(&request) {
            None => {
                if applied.outcome.is_ok() {
                    self.acked += 1;
                } else {
                    self.refused += 1;
                }
                self.told.insert(request, applied.clone());
            }
            Some(first) => {
                if first.revision != revision || first.outcome != applied.outcome {
                    self.found.push(format!(
                        "same answer: {request} was told revision {}, then {revision} (same outcome: {})",
                        first.revision,
                        first.outcome == applied.outcome
                    ));
                }
            }
        }
        if revision <= floor && floor > 0 {
            self.found.push(format!("linearizable write: {request} ran at {revision}, but {floor} was seen before it"));
        }
        match self.lines.get(&revision).and_then(|line| line.result.as_ref()) {
            Some(line) if line.request == request && line.applied.outcome == applied.outcome => {}
            Some(line) => {
                self.found.push(format!("acknowledged is kept: {request} at {revision}, the log has {}", line.request))
            }
            None => self.found.push(format!("acknowledged is kept: {request} at {revision}, which was never applied")),
        }
        self.floor = self.floor.max(revision);
    }

    /// Whether a client has an answer for this request already; it may then be asked again at any time.
    pub(crate) fn was_told(&self, request: RequestId) -> bool {
        self.told.contains_key(&request)
    }

    /// A client has read a state: not older than anything seen before it asked, and the true one of its revision.
    pub(crate) fn read(&mut self, by: ReplicaId, floor: u64, revision: u64, digest: Digest) {
        self.reads += 1;
        if revision < floor {
            self.found
                .push(format!("linearizable read: {by} answers revision {revision}, but {floor} was seen before"));
        }
        let truth = self.lines.get(&revision).and_then(|line| line.result.as_ref());
        if revision > 0 && truth.is_none_or(|truth| truth.digest != digest) {
            self.found.push(format!("true read: {by} answers a state at {revision} that never was"));
        }
        self.floor = self.floor.max(revision);
    }

    /// At the end: acknowledged requests whose entry is not in this state's past. Gives how many.
    pub(crate) fn lost(&self, last: &State) -> u64 {
        let lost = self.told.iter().filter(|(id, applied)| {
            let line = self.lines.get(&applied.revision).and_then(|line| line.result.as_ref());
            applied.revision > last.revision || line.is_none_or(|line| line.request != **id)
        });
        u64::try_from(lost.count()).expect("a count in memory")
    }
}

fn content_hash(payload: &Payload) -> Digest {
    match payload {
        Payload::Blank => Digest::of(b"blank"),
        Payload::Normal(bytes) => Digest::of(&bytes.0),
        Payload::Membership(membership) => Digest::of(format!("{membership:?}").as_bytes()),
    }
}
