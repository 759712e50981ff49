//! What is looked at after every tick: each replica's openraft and disk, one by one and against each other.

use std::collections::BTreeMap;

use hanse_planner::LAG_MAX;
use hanse_raft::ReplicaId;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;

use crate::disk::Disk;
use crate::types::{LeaderId, LogId, Metrics, Vote};
use crate::world::{Shared, World};

/// Entries between the leader's look at a learner and the entry that gives it a vote.
const WRITTEN_MEANWHILE: u64 = 100;

#[derive(Clone, Default)]
struct Last {
    vote: Option<Vote>,
    committed: Option<LogId>,
    applied: Option<LogId>,
    purged: Option<LogId>,
    led: Option<LeaderId>,
}

/// Memory of the checks from tick to tick.
#[derive(Default)]
pub(crate) struct Checks {
    /// By replica; forgotten when it crashes, but for what its disk must keep.
    last: BTreeMap<ReplicaId, Last>,
    /// Election safety: who led under which vote.
    leaders: BTreeMap<LeaderId, ReplicaId>,
    pub(crate) elections: u64,
}

impl Checks {
    /// Checks every running replica.
    pub(crate) fn tick(&mut self, shared: &Shared, disks: &BTreeMap<ReplicaId, Disk>) {
        let mut world = shared.world();
        let running: Vec<(ReplicaId, Metrics)> =
            world.rafts.iter().map(|(id, (raft, _))| (*id, raft.metrics().borrow_watched().clone())).collect();
        self.last.retain(|id, _| running.iter().any(|(running, _)| running == id));
        for (id, metrics) in &running {
            if let Err(fatal) = &metrics.running_state {
                world.violation(&format!("replica {id} stopped: {fatal}"));
                world.rafts.remove(id);
                continue;
            }
            let mut last = self.last.remove(id).unwrap_or_default();
            monotonic(&mut world, *id, metrics, &mut last);
            ordering(&mut world, *id, metrics);
            if metrics.state == ServerState::Leader {
                let lead = metrics.vote.leader_id;
                if last.led != Some(lead) {
                    last.led = Some(lead);
                    self.elected(&mut world, *id, lead, &disks[id]);
                }
                if metrics.local_committed != last.committed || metrics.last_applied != last.applied {
                    on_quorum(&mut world, *id, metrics, disks);
                }
            }
            last.committed = metrics.local_committed;
            last.applied = metrics.last_applied;
            self.last.insert(*id, last);
        }
        caught_up(&mut world, disks);
        world.judge();
    }

    /// Election safety and leader completeness.
    fn elected(&mut self, world: &mut World, id: ReplicaId, lead: LeaderId, disk: &Disk) {
        self.elections += 1;
        world.say(&format!("{id} leads {lead}"));
        if lead.node_id != id || self.leaders.insert(lead, id).is_some_and(|other| other != id) {
            world.violation(&format!("election safety: {id} leads under {lead}"));
        }
        let missing = disk.seen(|content| {
            let from = content.purged.map_or(0, |id| id.index + 1);
            world.oracle.applied_from(from).find(|applied| !content.has(*applied))
        });
        if let Some(missing) = missing {
            world.violation(&format!("leader completeness: {id} leads {lead} without the committed {missing}"));
        }
    }
}

/// Vote, commit, applied and purged never go back while a replica runs; the vote not even over a crash.
fn monotonic(world: &mut World, id: ReplicaId, now: &Metrics, last: &mut Last) {
    if last.vote != Some(now.vote) {
        if last.vote.is_some_and(|vote| now.vote < vote) {
            world.violation(&format!("monotonic vote: {id} from {:?} to {}", last.vote, now.vote));
        }
        world.oracle.vote_shown(id, Some(now.vote));
        last.vote = Some(now.vote);
    }
    let pairs = [
        ("commit", last.committed, now.local_committed),
        ("applied", last.applied, now.last_applied),
        ("purged", last.purged, now.purged),
    ];
    for (what, before, after) in pairs {
        if after < before {
            world.violation(&format!("monotonic {what}: {id} from {before:?} to {after:?}"));
        }
    }
    last.purged = now.purged;
}

/// Purged, snapshot, applied, committed stand in this order.
fn ordering(world: &mut World, id: ReplicaId, now: &Metrics) {
    if now.purged > now.snapshot || now.last_applied > now.local_committed {
        let what = (now.purged, now.snapshot, now.last_applied, now.local_committed);
        world.violation(&format!("state ordering of {id}: purged, snapshot, applied, committed are {what:?}"));
    }
}

/// Whoever gets a vote has nearly all of the log, on its disk.
fn caught_up(world: &mut World, disks: &BTreeMap<ReplicaId, Disk>) {
    for (id, index) in world.roster.take_votes() {
        let has = disks[&id].durable(|content| content.last().map(|last| last.index));
        let has = has.max(disks[&id].durable(|content| content.snapshot.as_ref()?.meta.last_log_id).map(|at| at.index));
        if has.is_none_or(|has| has + LAG_MAX + WRITTEN_MEANWHILE < index) {
            world.violation(&format!(
                "caught up before it votes: {id} gets a vote at {index} and has {has:?} of the log"
            ));
        }
    }
}

/// What a leader says is committed is durable on a majority of each of its voter sets.
///
/// Only for its own entries: those before were counted under memberships of then (as openraft's own fuzzer).
fn on_quorum(world: &mut World, id: ReplicaId, metrics: &Metrics, disks: &BTreeMap<ReplicaId, Disk>) {
    let Some(committed) = metrics.local_committed else { return };
    if committed.leader_id != metrics.vote.leader_id {
        return;
    }
    let stored = &metrics.membership_config;
    let sets = stored.membership().get_joint_config();
    let is_before = stored.log_id().as_ref().is_some_and(|at| committed.index < at.index);
    // An entry before a joint configuration was counted by its first set alone; before a uniform one by a set gone.
    let counted = match (is_before, sets.len()) {
        (true, 1) => return,
        (true, _) => &sets[..1],
        (false, _) => &sets[..],
    };
    for voters in counted {
        let have = voters.iter().filter(|id| disks.get(id).is_some_and(|d| d.durable(|c| c.has(committed)))).count();
        if have * 2 <= voters.len() {
            let text = format!("commit on quorum: {id} commits {committed}, durable on {have} of {}", voters.len());
            world.violation(&text);
        }
    }
}
