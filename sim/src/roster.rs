//! The replicas' lives: who has been started, who has ended for ever, and what no change of the membership may do.
//!
//! A founder lives from the start. A spare machine is started by a person after an order has given it an id, lives once,
//! and ends when it is told that it was removed, as the product's program does with exit code 79.

use std::collections::{BTreeMap, BTreeSet};

use hanse_raft::ReplicaId;

use crate::types::{Entry, Payload};

/// A vote that a leader's entry gives: to whom, and the entry's index.
pub(crate) type NewVote = (ReplicaId, u64);

/// The start of a spare machine.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// When, in simulated milliseconds.
    pub(crate) at_ms: u64,
    /// The others that it is told of.
    pub(crate) members: Vec<ReplicaId>,
}

/// Everyone who ever took part.
#[derive(Default)]
pub(crate) struct Roster {
    starts: BTreeMap<ReplicaId, Start>,
    living: BTreeSet<ReplicaId>,
    ended: BTreeSet<ReplicaId>,
    /// Told that they were removed, not yet ended.
    ending: BTreeSet<ReplicaId>,
    /// In the membership as of the last such entry that was applied.
    members: BTreeSet<ReplicaId>,
    /// Once in the membership, and then not.
    left: BTreeSet<ReplicaId>,
    votes: Vec<NewVote>,
    changing: bool,
    /// Memberships applied, for the figures.
    pub(crate) changes: u64,
    /// Joint configurations that an interrupted change left and somebody ended, for the figures.
    pub(crate) inherited: u64,
    /// Orders that were accepted, for the figures.
    pub(crate) ordered: u64,
    /// Orders that the leader refused without writing them down, for the figures.
    pub(crate) turned_away: u64,
    found: Vec<String>,
}

impl Roster {
    /// The first members live.
    pub(crate) fn found_with(&mut self, founders: &[ReplicaId]) {
        for id in founders {
            self.admit(*id, Start { at_ms: 0, members: founders.to_vec() });
        }
    }

    /// A person starts a machine under an id: the first and only time.
    pub(crate) fn admit(&mut self, id: ReplicaId, start: Start) {
        if self.starts.insert(id, start).is_some() {
            self.found.push(format!("two lives: the id {id} was given before"));
            return;
        }
        self.living.insert(id);
    }

    /// What a machine is started with, once its time has come.
    pub(crate) fn start(&self, id: ReplicaId, now_ms: u64) -> Option<Start> {
        self.starts.get(&id).filter(|start| start.at_ms <= now_ms).cloned()
    }

    /// Those that were started and have not ended; a crashed one will start again.
    pub(crate) fn living(&self) -> Vec<ReplicaId> {
        self.living.iter().copied().collect()
    }

    /// Whether it was started and still runs, or will again.
    pub(crate) fn lives(&self, id: ReplicaId) -> bool {
        self.living.contains(&id)
    }

    /// A replica was told that it is no longer one.
    pub(crate) fn told_removed(&mut self, id: ReplicaId) {
        if self.living.contains(&id) {
            self.ending.insert(id);
        }
    }

    /// Takes those whose program ends now.
    pub(crate) fn take_ending(&mut self) -> BTreeSet<ReplicaId> {
        let ending = std::mem::take(&mut self.ending);
        self.living.retain(|id| !ending.contains(id));
        self.ended.extend(&ending);
        ending
    }

    /// Those that have ended for ever.
    pub(crate) const fn ended(&self) -> &BTreeSet<ReplicaId> {
        &self.ended
    }

    /// A leader appends what it has just made: it never takes its own vote, and whoever gets one is looked at.
    pub(crate) fn appended(&mut self, by: ReplicaId, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| entry.log_id.leader_id.node_id == by) {
            let Payload::Membership(membership) = &entry.payload else { continue };
            let [before, after] = membership.get_joint_config().as_slice() else { continue };
            self.changing = true;
            if before.contains(&by) && !after.contains(&by) {
                self.found.push(format!("hand over first: {by} leads and takes its own vote at {}", entry.log_id));
            }
            self.votes.extend(after.difference(before).map(|id| (*id, entry.log_id.index)));
        }
    }

    /// A replica is the first to apply an entry: who has left stays away.
    pub(crate) fn applied(&mut self, entry: &Entry) {
        let Payload::Membership(membership) = &entry.payload else { return };
        let members: BTreeSet<ReplicaId> = membership.nodes().map(|(id, _)| *id).collect();
        if let Some(id) = members.intersection(&self.left).next() {
            self.found.push(format!("two lives: {id} had left and is a member again at {}", entry.log_id));
        }
        self.left.extend(self.members.difference(&members));
        self.members = members;
        self.changes += 1;
    }

    /// Takes the votes that were given since the last time.
    pub(crate) fn take_votes(&mut self) -> Vec<NewVote> {
        std::mem::take(&mut self.votes)
    }

    /// Whether a leader has begun to change the voters since the last time.
    pub(crate) fn take_changing(&mut self) -> bool {
        std::mem::take(&mut self.changing)
    }

    /// Something did not hold.
    pub(crate) fn find(&mut self, what: String) {
        self.found.push(what);
    }

    /// Takes what did not hold.
    pub(crate) fn take_found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }
}
