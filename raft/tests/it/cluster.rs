//! Three replicas together.

use std::time::Instant;

use hanse_raft::inside::propose_bytes;
use hanse_raft::{Notice, ProposeError, RaftError, ReadError, Role};
use hanse_state::cluster::CheckDigest;
use hanse_state::ids::RequestId;
use hanse_state::{Command, Digest, Millis, Request};

use crate::harness::{Trio, eventually, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_reaches_all_three_and_their_digests_agree() {
    let mut trio = Trio::start_all(10_000).await;
    let mut events = trio.leader().await.watch_events();
    let applied = trio.propose("one").await;
    assert!(applied.outcome.is_ok(), "{:?}", applied.outcome);
    trio.agree(applied.revision).await;
    match events.recv().await.unwrap() {
        Notice::Events(changes) => assert_eq!(changes.last().unwrap().revision, applied.revision),
        Notice::Reset { .. } => panic!("no snapshot was installed"),
    }
    let second = trio.propose("two").await;
    assert!(second.outcome.is_err(), "a second cluster was accepted");
    trio.agree(second.revision).await;
    let leader = trio.leader().await;
    assert_eq!(leader.read().await.unwrap().revision, second.revision);
    let records = leader.history("audit", 0, 10).await.unwrap();
    assert_eq!(records.iter().map(hanse_state::Record::seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(leader.history("audit", 1, 10).await.unwrap(), records[1..]);
    let follower = trio.replicas.values().find(|r| r.id() != leader.id()).unwrap();
    assert_eq!(follower.status().role, Role::Follower);
    match follower.propose(request("three")).await {
        Err(ProposeError::NotLeader { leader: Some(known) }) => assert_eq!(known.id, leader.id()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(follower.read().await, Err(ReadError::NotLeader { .. })));
    let status = leader.status();
    assert_eq!((status.role, status.members.len()), (Role::Leader, 3));
    assert_eq!(status.matched.len(), 3);
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_ends_another_leads_and_the_old_one_catches_up_from_the_log() {
    let mut trio = Trio::start_all(10_000).await;
    trio.propose("before").await;
    let old = trio.leader().await.id();
    trio.stop(old).await;
    let applied = trio.propose("while one is away").await;
    assert_ne!(trio.leader().await.id(), old);
    trio.agree(applied.revision).await;
    trio.start(old.0).await;
    trio.agree(applied.revision).await;
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_far_behind_catches_up_from_a_snapshot() {
    let mut trio = Trio::start_all(20).await;
    let first = trio.propose("before").await;
    trio.agree(first.revision).await;
    let away = trio.replicas.keys().copied().find(|id| trio.replicas[id].is_leader().is_none()).unwrap();
    let had = trio.replicas[&away].status().applied.unwrap();
    trio.stop(away).await;
    let mut applied = first;
    for number in 0..120 {
        applied = trio.propose(&format!("n{number}")).await;
    }
    let leader = trio.leader().await;
    eventually("the log before is purged", async || (leader.status().purged? > had + 1).then_some(())).await;
    trio.start(away.0).await;
    trio.agree(applied.revision).await;
    let back = &trio.replicas[&away];
    assert!(back.status().snapshot.unwrap() > had, "it came back without a snapshot");
    let ours = leader.history("audit", 0, 1_000).await.unwrap();
    assert_eq!(back.history("audit", 0, 1_000).await.unwrap(), ours);
    assert_eq!(ours.len() as u64, leader.local().audit.count);
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_all_three_keeps_everything() {
    for snapshot_every in [10_000, 10] {
        let mut trio = Trio::start_all(snapshot_every).await;
        let mut applied = trio.propose("first").await;
        for number in 0..30 {
            applied = trio.propose(&format!("n{number}")).await;
        }
        trio.agree(applied.revision).await;
        let before = trio.leader().await.status();
        let history = trio.leader().await.history("audit", 0, 1_000).await.unwrap();
        trio.stop_all().await;
        for id in 1..=3 {
            trio.start(id).await;
        }
        let leader = trio.leader().await;
        trio.agree(applied.revision).await;
        let after = leader.status();
        assert_eq!((after.digest_revision, after.digest), (before.digest_revision, before.digest));
        assert_eq!(leader.history("audit", 0, 1_000).await.unwrap(), history);
        let next = trio.propose("after").await;
        assert!(next.revision > applied.revision);
        trio.stop_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_majority_neither_reads_nor_decides() {
    let mut trio = Trio::start_all(10_000).await;
    trio.propose("before").await;
    let leader = trio.leader().await;
    let others: Vec<_> = trio.replicas.keys().copied().filter(|id| *id != leader.id()).collect();
    for id in others {
        trio.stop(id).await;
    }
    assert!(matches!(leader.read().await, Err(ReadError::Unavailable(_) | ReadError::NotLeader { .. })));
    eventually("it knows that it no longer leads", async || leader.is_leader().is_none().then_some(())).await;
    match leader.propose(request("alone")).await {
        Err(ProposeError::OutcomeUnknown(_) | ProposeError::NotLeader { .. } | ProposeError::Unavailable(_)) => {}
        other => panic!("{other:?}"),
    }
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_request_stops_the_replica_for_good() {
    let mut trio = Trio::start_all(10_000).await;
    trio.propose("before").await;
    let leader = trio.leader().await;
    let answer = propose_bytes(&leader, b"\xffno request of this version".to_vec()).await;
    assert!(matches!(answer, Err(ProposeError::OutcomeUnknown(_))), "{answer:?}");
    assert!(matches!(leader.stopped().await, RaftError::UnknownRequest { .. }));
    assert!(matches!(leader.propose(request("after")).await, Err(ProposeError::Stopped)));
    assert!(matches!(leader.read().await, Err(ReadError::Stopped)));
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_divergence_stops_the_replica() {
    let mut trio = Trio::start_all(10_000).await;
    let applied = trio.propose("before").await;
    let leader = trio.leader().await;
    let command = Command::CheckDigest(CheckDigest { revision: applied.revision, digest: Digest::of(b"another") });
    let id = RequestId::new(uuid::Uuid::now_v7()).unwrap();
    let answer = leader.propose(Request::system(id, Millis(1_790_000_000_001), command)).await;
    assert!(matches!(answer, Err(ProposeError::OutcomeUnknown(_))), "{answer:?}");
    let cause = leader.stopped().await;
    assert!(matches!(cause, RaftError::Diverged { .. }) && cause.is_lost(), "{cause:?}");
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_handed_over_on_order() {
    let mut trio = Trio::start_all(10_000).await;
    let applied = trio.propose("before").await;
    trio.agree(applied.revision).await;
    let leader = trio.leader().await;
    let to = trio.replicas.keys().copied().find(|id| *id != leader.id()).unwrap();
    leader.transfer_leader(to).await.unwrap();
    let next = trio.replicas[&to].clone();
    eventually("the other leads", async || next.is_leader()).await;
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_after_another_is_quick() {
    let mut trio = Trio::start_all(10_000).await;
    trio.propose("before").await;
    let leader = trio.leader().await;
    let mut times = Vec::new();
    for number in 0..100 {
        let began = Instant::now();
        leader.propose(request(&format!("n{number}"))).await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    println!("propose: p50 {:?}, p90 {:?}, max {:?}", times[50], times[90], times[99]);
    assert!(times[50].as_millis() < 1_000, "a request takes {:?}", times[50]);
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_reads_nothing_and_follows_after_the_healing() {
    let mut trio = Trio::linked(10_000);
    for id in 1..=3 {
        trio.start(id).await;
    }
    trio.propose("before").await;
    let old = trio.leader().await;
    trio.cut(old.id(), true);
    // Before it has noticed anything, a read already fails: it asks a majority each time.
    let alone = async { tokio::join!(old.read(), old.propose(request("alone"))) };
    let elsewhere = async {
        let new = eventually("the majority has a leader", async || {
            let mut others = trio.replicas.values().filter(|r| r.id() != old.id());
            others.find(|r| r.is_leader().is_some()).cloned()
        })
        .await;
        let applied = new.propose(request("with the majority")).await.unwrap();
        assert_eq!(new.read().await.unwrap().revision, applied.revision);
        assert!(old.read().await.is_err());
        trio.cut(old.id(), false);
        applied
    };
    let ((read, alone), applied) = tokio::join!(alone, elsewhere);
    assert!(matches!(read, Err(ReadError::Unavailable(_) | ReadError::NotLeader { .. })), "{read:?}");
    assert!(matches!(alone, Err(ProposeError::OutcomeUnknown(_))), "{alone:?}");
    trio.agree(applied.revision).await;
    assert!(old.local().revision >= applied.revision);
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_alone_is_a_cluster_too() {
    let mut trio = Trio::new(10);
    trio.members.retain(|id, _| id.0 == 1);
    trio.start(1).await;
    let mut applied = trio.propose("first").await;
    for number in 0..40 {
        applied = trio.propose(&format!("n{number}")).await;
    }
    trio.stop_all().await;
    trio.start(1).await;
    let leader = trio.leader().await;
    assert_eq!(leader.read().await.unwrap().revision, applied.revision);
    assert_eq!(leader.history("audit", 0, 1_000).await.unwrap().len(), 41);
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_requests_pass_and_too_long_ones_have_no_effect() {
    let mut trio = Trio::start_all(10_000).await;
    let leader = trio.leader().await;
    let mut applied = trio.propose(&"x".repeat(1_900_000)).await;
    for number in 0..6 {
        applied = trio.propose(&format!("{number}{}", "y".repeat(700_000))).await;
    }
    let refused = leader.propose(request(&"z".repeat(2_200_000))).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })), "{refused:?}");
    trio.agree(applied.revision).await;
    trio.stop_all().await;
    for id in 1..=3 {
        trio.start(id).await;
    }
    trio.leader().await;
    trio.agree(applied.revision).await;
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_under_a_purged_log_is_a_lost_replica() {
    let mut trio = Trio::new(10);
    trio.members.retain(|id, _| id.0 == 1);
    trio.start(1).await;
    for number in 0..40 {
        trio.propose(&format!("n{number}")).await;
    }
    let replica = trio.leader().await;
    eventually("the log is purged", async || (replica.status().purged? > 20).then_some(())).await;
    trio.stop_all().await;
    for entry in std::fs::read_dir(trio.data_dir(1).join("snapshots")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let error = trio.try_start(1).await.unwrap_err();
    assert!(error.is_lost() && error.to_string().contains("bad checksum"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_is_gone_is_a_lost_replica() {
    let mut trio = Trio::new(10);
    trio.members.retain(|id, _| id.0 == 1);
    trio.start(1).await;
    for number in 0..40 {
        trio.propose(&format!("n{number}")).await;
    }
    let replica = trio.leader().await;
    eventually("a snapshot is written", async || (replica.status().snapshot? > 20).then_some(())).await;
    trio.stop_all().await;
    let records = trio.data_dir(1).join("history/audit-00000000000000000001.records");
    let bytes = std::fs::read(&records).unwrap();
    let key = [b"h/audit\0".as_slice(), &5_u64.to_be_bytes()].concat();
    let fifth = bytes.windows(key.len()).position(|window| window == key).unwrap();
    std::fs::write(&records, &bytes[..fifth]).unwrap();
    let error = trio.try_start(1).await.unwrap_err();
    assert!(error.is_lost() && error.to_string().contains("history"), "{error}");
}
