//! The membership of the control plane: from what was ordered and what Raft's membership is, one step at a time.
//!
//! The order of the steps is the safety of it: what is there is recorded first, a learner comes before a voter, a new
//! voter before the old one's end, and a leader hands the lead over before it goes. An order that would leave the voters
//! without an answering majority waits, unless a person has insisted.

use std::collections::{BTreeMap, BTreeSet};

use hanse_state::replica::{Replica, ReplicaFact, Replicas, Standing, Wish};

/// Entries a learner may lack when it becomes a voter: what a healthy one lacks under load for a moment.
pub const LAG_MAX: u64 = 500;

/// What the leader sees of the membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipView {
    /// The leader.
    pub own: u64,
    /// `host:port` of the peer and of the API listener of every member.
    pub members: BTreeMap<u64, (String, String)>,
    /// Those of them that vote.
    pub voters: BTreeSet<u64>,
    /// Last entry of the leader's log.
    pub last_log_index: u64,
    /// Whether a change of the voters is under way.
    pub joint: bool,
    /// Those that answered lately, the leader included.
    pub heard: BTreeSet<u64>,
    /// Entries each lacks of the leader's log; without those of which nothing is known.
    pub lag: BTreeMap<u64, u64>,
    /// Random names of their data folders, as far as heard.
    pub incarnations: BTreeMap<u64, String>,
}

/// One thing to do with the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaAct {
    /// Write down what is so.
    Record {
        /// Of which replica.
        replica: u64,
        /// What.
        fact: ReplicaFact,
    },
    /// Make it a learner.
    AddLearner {
        /// Which.
        replica: u64,
        /// `host:port` of its peer listener.
        peer_address: String,
        /// `host:port` of its API listener.
        api_address: String,
    },
    /// Give it a vote.
    Promote {
        /// Which.
        replica: u64,
    },
    /// Take it out.
    Remove {
        /// Which.
        replica: u64,
    },
    /// Give the lead away, because this leader is to go.
    HandOver {
        /// To whom.
        to: u64,
    },
}

impl MembershipView {
    /// Whether a replica lacks so little that it may vote, and answers.
    pub fn caught_up(&self, id: u64) -> bool {
        self.heard.contains(&id) && self.lag.get(&id).is_some_and(|lag| *lag <= LAG_MAX)
    }

    /// Whether a majority of the voters answers once `id` is no longer one of them.
    pub fn safe_without(&self, id: u64) -> bool {
        let rest: BTreeSet<u64> = self.voters.iter().copied().filter(|voter| *voter != id).collect();
        let up = rest.intersection(&self.heard).count();
        !self.voters.contains(&id) || up > rest.len() / 2
    }

    /// Says what `replica` waits for, in words; empty when it is as wished.
    pub fn waits_for(&self, id: u64, replica: &Replica) -> String {
        let member = self.members.contains_key(&id);
        match (replica.wish, replica.standing) {
            (_, Standing::Gone) | (Wish::Voter, Standing::Voter) | (Wish::Learner, Standing::Learner) => String::new(),
            (Wish::Gone, _) if !replica.forced && !self.safe_without(id) => {
                "a majority of the remaining voters to answer".into()
            }
            (Wish::Gone, _) => "its removal".into(),
            (Wish::Learner | Wish::Voter, _) if !member => "its place in the membership".into(),
            (Wish::Learner, _) => "the record that it is a learner".into(),
            (Wish::Voter, _) => match self.lag.get(&id) {
                _ if !self.heard.contains(&id) => "its start: it does not answer yet".into(),
                Some(lag) if *lag > LAG_MAX => format!("the log: it lacks {lag} entries"),
                Some(_) => "its vote".into(),
                None => "the log: it has none of it yet".into(),
            },
        }
    }
}

/// Plans the next step; `None` if all is as wished or must wait.
pub fn plan_replicas(replicas: &Replicas, view: &MembershipView) -> Option<ReplicaAct> {
    // Half of a change that is under way may still be taken back; Raft's own keeper leaves a joint configuration.
    if view.joint {
        return None;
    }
    record(replicas, view).or_else(|| change(replicas, view))
}

fn record(replicas: &Replicas, view: &MembershipView) -> Option<ReplicaAct> {
    for (id, (peer_address, api_address)) in &view.members {
        let votes = view.voters.contains(id);
        let standing = if votes { Standing::Voter } else { Standing::Learner };
        let known = replicas.by_id.get(id);
        if known.is_none_or(|it| it.standing != standing && it.standing != Standing::Gone) {
            let fact =
                ReplicaFact::Member { peer_address: peer_address.clone(), api_address: api_address.clone(), votes };
            return Some(ReplicaAct::Record { replica: *id, fact });
        }
        if let (Some(heard), Some(it)) = (view.incarnations.get(id), known)
            && it.incarnation.is_none()
            && it.standing != Standing::Gone
        {
            let fact = ReplicaFact::Heard { incarnation: heard.clone() };
            return Some(ReplicaAct::Record { replica: *id, fact });
        }
    }
    let left = |(id, it): &(u64, &Replica)| it.wish == Wish::Gone && !view.members.contains_key(id);
    let (replica, _) = replicas.present().find(left)?;
    Some(ReplicaAct::Record { replica, fact: ReplicaFact::Gone })
}

fn change(replicas: &Replicas, view: &MembershipView) -> Option<ReplicaAct> {
    for (replica, it) in replicas.present() {
        let member = view.members.contains_key(&replica);
        match it.wish {
            Wish::Learner | Wish::Voter if !member => {
                return Some(ReplicaAct::AddLearner {
                    replica,
                    peer_address: it.peer_address.clone(),
                    api_address: it.api_address.clone(),
                });
            }
            Wish::Voter if !view.voters.contains(&replica) && (it.forced || view.caught_up(replica)) => {
                return Some(ReplicaAct::Promote { replica });
            }
            Wish::Gone if member && (it.forced || view.safe_without(replica)) => {
                if replica != view.own {
                    return Some(ReplicaAct::Remove { replica });
                }
                if let Some(to) = heir(replicas, view) {
                    return Some(ReplicaAct::HandOver { to });
                }
            }
            Wish::Learner | Wish::Voter | Wish::Gone => {}
        }
    }
    None
}

/// The voter that stays, answers and lacks the least.
fn heir(replicas: &Replicas, view: &MembershipView) -> Option<u64> {
    let stays = |id: &u64| replicas.by_id.get(id).is_some_and(|it| it.wish == Wish::Voter);
    let able = view.voters.iter().filter(|id| **id != view.own && stays(id) && view.caught_up(**id));
    able.min_by_key(|id| view.lag.get(*id)).copied()
}
