//! The membership, planned to its end: each step carried out on a toy membership, whatever the order says.

use std::collections::BTreeSet;

use hanse_planner::{MembershipView, ReplicaAct, plan_replicas};
use hanse_state::replica::{Replica, ReplicaFact, Replicas, Standing, Wish};

fn view(voters: &[u64]) -> MembershipView {
    let members = voters.iter().map(|id| (*id, (format!("p{id}:1"), format!("a{id}:1")))).collect();
    let lag = voters.iter().map(|id| (*id, 0)).collect();
    MembershipView {
        own: 1,
        members,
        voters: voters.iter().copied().collect(),
        heard: voters.iter().copied().collect(),
        lag,
        ..MembershipView::default()
    }
}

fn replica(wish: Wish, standing: Standing) -> Replica {
    let (peer_address, api_address) = ("new:1".into(), "new:2".into());
    let (ordered_at, since) = Default::default();
    let reason = String::new();
    Replica {
        peer_address,
        api_address,
        wish,
        standing,
        replaces: None,
        incarnation: None,
        forced: false,
        reason,
        ordered_at,
        since,
    }
}

/// Does what was planned, as a leader and the log would; what is not there yet comes at once.
fn carry_out(replicas: &mut Replicas, view: &mut MembershipView, act: ReplicaAct) {
    match act {
        ReplicaAct::Record { replica: id, fact: ReplicaFact::Member { votes, .. } } => {
            let standing = if votes { Standing::Voter } else { Standing::Learner };
            let wish = if votes { Wish::Voter } else { Wish::Learner };
            let mut known = replicas.by_id.get(&id).cloned().unwrap_or_else(|| replica(wish, standing));
            known.standing = standing;
            let replaces = known.replaces.filter(|_| votes);
            replicas.by_id.insert(id, known);
            if let Some(old) = replaces {
                replicas.by_id.get_mut(&old).unwrap().wish = Wish::Gone;
            }
        }
        ReplicaAct::Record { replica, fact: ReplicaFact::Heard { incarnation } } => {
            replicas.by_id.get_mut(&replica).unwrap().incarnation = Some(incarnation);
        }
        ReplicaAct::Record { replica, fact: ReplicaFact::Gone } => {
            replicas.by_id.get_mut(&replica).unwrap().standing = Standing::Gone;
        }
        ReplicaAct::AddLearner { replica, peer_address, api_address } => {
            view.members.insert(replica, (peer_address, api_address));
        }
        ReplicaAct::Promote { replica } => drop(view.voters.insert(replica)),
        ReplicaAct::Remove { replica } => {
            view.members.remove(&replica);
            view.voters.remove(&replica);
        }
        ReplicaAct::HandOver { to } => view.own = to,
    }
}

/// Plans and carries out until nothing is planned; every state on the way keeps a majority.
fn run(replicas: &mut Replicas, view: &mut MembershipView) -> Vec<ReplicaAct> {
    let mut acts = Vec::new();
    while let Some(act) = plan_replicas(replicas, view) {
        assert!(acts.len() < 50, "no end: {acts:?}");
        acts.push(act.clone());
        carry_out(replicas, view, act);
        let up = view.voters.intersection(&view.heard).count();
        assert!(up > view.voters.len() / 2, "no majority after {acts:?}");
    }
    acts
}

fn founded() -> (Replicas, MembershipView) {
    let (mut replicas, mut seen) = (Replicas::default(), view(&[1, 2, 3]));
    assert_eq!(run(&mut replicas, &mut seen).len(), 3);
    (replicas, seen)
}

#[test]
fn a_learner_votes_only_when_it_answers_and_has_caught_up() {
    let (mut replicas, mut seen) = founded();
    replicas.by_id.insert(4, replica(Wish::Voter, Standing::Ordered));
    run(&mut replicas, &mut seen);
    assert_eq!(seen.voters, BTreeSet::from([1, 2, 3]));
    assert!(seen.waits_for(4, &replicas.by_id[&4]).contains("does not answer"));
    seen.heard.insert(4);
    seen.lag.insert(4, 10_000);
    assert_eq!(run(&mut replicas, &mut seen), []);
    assert!(seen.waits_for(4, &replicas.by_id[&4]).contains("10000 entries"));
    seen.lag.insert(4, 3);
    run(&mut replicas, &mut seen);
    assert_eq!(seen.voters, BTreeSet::from([1, 2, 3, 4]));
    assert_eq!(seen.waits_for(4, &replicas.by_id[&4]), "");
}

#[test]
fn a_dead_replica_is_replaced_the_new_one_first() {
    let (mut replicas, mut seen) = founded();
    seen.heard.remove(&3);
    let mut new = replica(Wish::Voter, Standing::Ordered);
    new.replaces = Some(3);
    replicas.by_id.insert(4, new);
    run(&mut replicas, &mut seen);
    assert_eq!(seen.voters, BTreeSet::from([1, 2, 3]), "the old one stays until the new one votes");
    seen.heard.insert(4);
    seen.lag.insert(4, 0);
    run(&mut replicas, &mut seen);
    assert_eq!(seen.voters, BTreeSet::from([1, 2, 4]));
    assert!(replicas.is_gone(3) && !replicas.is_gone(4));
}

#[test]
fn the_leader_hands_over_before_it_goes() {
    let (mut replicas, mut seen) = founded();
    seen.lag.insert(2, 40);
    replicas.by_id.get_mut(&1).unwrap().wish = Wish::Gone;
    let acts = run(&mut replicas, &mut seen);
    assert_eq!(acts[..2], [ReplicaAct::HandOver { to: 3 }, ReplicaAct::Remove { replica: 1 }]);
    assert_eq!((seen.voters, replicas.is_gone(1)), (BTreeSet::from([2, 3]), true));
}

#[test]
fn nobody_goes_when_the_rest_would_have_no_majority_unless_forced() {
    let (mut replicas, mut seen) = founded();
    seen.heard.remove(&3);
    replicas.by_id.get_mut(&2).unwrap().wish = Wish::Gone;
    assert_eq!(plan_replicas(&replicas, &seen), None);
    assert!(seen.waits_for(2, &replicas.by_id[&2]).contains("majority"));
    replicas.by_id.get_mut(&2).unwrap().forced = true;
    assert_eq!(plan_replicas(&replicas, &seen), Some(ReplicaAct::Remove { replica: 2 }));
    seen.heard.insert(3);
    replicas.by_id.get_mut(&2).unwrap().forced = false;
    assert_eq!(plan_replicas(&replicas, &seen), Some(ReplicaAct::Remove { replica: 2 }));
}

#[test]
fn nothing_is_recorded_of_a_change_that_is_under_way() {
    let (replicas, mut seen) = founded();
    seen.joint = true;
    seen.voters.remove(&3);
    assert_eq!(plan_replicas(&replicas, &seen), None);
    seen.joint = false;
    assert!(matches!(plan_replicas(&replicas, &seen), Some(ReplicaAct::Record { replica: 3, .. })));
}
