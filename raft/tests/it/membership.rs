//! Replicas that join, vote, leave and are emptied, in one process over real sockets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hanse_raft::inside::leave_joint_behind;
use hanse_raft::{ProposeError, RaftError, Replica, ReplicaId, Role};
use hanse_state::cluster::Bootstrap;
use hanse_state::ids::{AccountId, RequestId};
use hanse_state::replica::{RecordReplica, RemoveReplica, ReplicaFact};
use hanse_state::{Actor, Command, Digest, Millis, Record, Request, Secret};

use crate::harness::{Trio, eventually, request};

fn record(replica: u64, fact: ReplicaFact) -> Request {
    system(Command::RecordReplica(RecordReplica { replica, fact }))
}

fn system(command: Command) -> Request {
    by(Actor::System, command)
}

fn by(actor: Actor, command: Command) -> Request {
    Request::new(RequestId::new(uuid::Uuid::now_v7()).unwrap(), actor, "", Millis(1_790_000_000_000), command)
}

fn member(id: u64) -> ReplicaFact {
    ReplicaFact::Member { peer_address: format!("p{id}:1"), api_address: format!("a{id}:1"), votes: true }
}

/// Repeats a change through whoever leads until it is made.
async fn change(trio: &Trio, what: &str, act: impl AsyncFn(&Replica) -> Result<(), hanse_raft::ChangeError>) {
    eventually(what, async || match act(&trio.leader().await).await {
        Ok(()) => Some(()),
        Err(error) => {
            eprintln!("{what}: {error}");
            None
        }
    })
    .await;
}

async fn caught_up(trio: &Trio, id: u64) {
    eventually("the learner has caught up", async || {
        let status = trio.leader().await.status();
        let matched = status.matched.get(&ReplicaId(id)).copied().flatten()?;
        (matched + 100 >= status.last_log_index? && status.heard.contains(&ReplicaId(id))).then_some(())
    })
    .await;
}

async fn join(trio: &mut Trio, id: u64) {
    let address = trio.start_joining(id).await;
    change(trio, "a learner", async |leader| leader.add_learner(ReplicaId(id), address.clone()).await).await;
    caught_up(trio, id).await;
    change(trio, "a voter", async |leader| leader.promote(ReplicaId(id)).await).await;
}

async fn voters(trio: &Trio, wanted: &[u64]) {
    let wanted: BTreeSet<ReplicaId> = wanted.iter().copied().map(ReplicaId).collect();
    eventually("all know the same voters, and no change is under way", async || {
        let seen = |replica: &Replica| (replica.status().voters, replica.status().joint);
        trio.replicas.values().all(|replica| seen(replica) == (wanted.clone(), false)).then_some(())
    })
    .await;
}

/// Writes through `replicas` until told to stop; gives the ids of what was acknowledged.
fn load(trio: &Trio, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<String>> {
    let replicas: Vec<Replica> = trio.replicas.values().cloned().collect();
    tokio::spawn(async move {
        let mut acked = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let wanted = request("load");
            for replica in &replicas {
                match replica.propose(wanted.clone()).await {
                    Ok(_) => acked.push(wanted.id.to_string()),
                    Err(ProposeError::NotLeader { .. } | ProposeError::Stopped) => continue,
                    // Unknown is neither acknowledged nor lost.
                    Err(_) => {}
                }
                break;
            }
            tokio::task::yield_now().await;
        }
        acked
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_to_five_and_back_under_load_without_the_first_leader() {
    let mut trio = Trio::start_all(200).await;
    trio.propose("before").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = load(&trio, stop.clone());
    join(&mut trio, 4).await;
    join(&mut trio, 5).await;
    voters(&trio, &[1, 2, 3, 4, 5]).await;

    // The leader does not take itself out: it hands over, and another does.
    let first = trio.leader().await;
    let heir = trio.replicas.keys().copied().find(|id| *id != first.id()).unwrap();
    let refused = first.remove(first.id()).await;
    assert!(matches!(refused, Err(hanse_raft::ChangeError::Refused(_))), "{refused:?}");
    eventually("another leads", async || {
        first.transfer_leader(heir).await.unwrap();
        (trio.leader().await.id() != first.id()).then_some(())
    })
    .await;
    change(&trio, "the first leader is out", async |leader| leader.remove(first.id()).await).await;
    trio.stop(first.id()).await;
    let second = trio.replicas.keys().copied().find(|id| trio.replicas[id].is_leader().is_none()).unwrap();
    change(&trio, "another is out", async |leader| leader.remove(second).await).await;
    trio.stop(second).await;
    stop.store(true, Ordering::Relaxed);
    let acked = writer.await.unwrap();

    let left: Vec<u64> = trio.replicas.keys().map(|id| id.0).collect();
    assert_eq!(left.len(), 3);
    voters(&trio, &left).await;
    let last = trio.propose("after").await;
    trio.agree(last.revision).await;
    assert!(!acked.is_empty());
    let mut written = BTreeSet::new();
    let mut after = 0;
    loop {
        let records = trio.leader().await.history("audit", after, 1_000).await.unwrap();
        let Some(end) = records.last() else { break };
        after = end.seq();
        written.extend(records.iter().filter_map(|record| match record {
            Record::Audit(audit) => Some(audit.request_id.clone()),
            _ => None,
        }));
    }
    let lost: Vec<&String> = acked.iter().filter(|id| !written.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes are lost", lost.len(), acked.len());
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_gets_what_an_idle_leader_has_purged() {
    let mut trio = Trio::start_all(20).await;
    let mut last = trio.propose("before").await;
    for number in 0..70 {
        last = trio.propose(&format!("n{number}")).await;
    }
    let leader = trio.leader().await;
    eventually("the log is purged", async || (leader.status().purged? > 20).then_some(())).await;
    let address = trio.start_joining(4).await;
    change(&trio, "a learner", async |leader| leader.add_learner(ReplicaId(4), address.clone()).await).await;
    trio.agree(last.revision).await;
    assert_eq!(trio.replicas[&ReplicaId(4)].status().role, Role::Learner);
    let ours = trio.leader().await.history("audit", 0, 1_000).await.unwrap();
    assert_eq!(trio.replicas[&ReplicaId(4)].history("audit", 0, 1_000).await.unwrap(), ours);
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leader_leaves_a_joint_configuration() {
    let mut trio = Trio::start_all(10_000).await;
    trio.propose("before").await;
    let address = trio.start_joining(4).await;
    change(&trio, "a learner", async |leader| leader.add_learner(ReplicaId(4), address.clone()).await).await;
    caught_up(&trio, 4).await;
    let leader = trio.leader().await;
    leave_joint_behind(&leader, &(1..=4).map(ReplicaId).collect()).await.unwrap();
    eventually("everyone has it", async || trio.replicas.values().all(|r| r.status().joint).then_some(())).await;
    trio.stop(leader.id()).await;
    voters(&trio, &[1, 2, 3, 4]).await;
    trio.propose("after").await;
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_replica_learns_it_and_stops() {
    let mut trio = Trio::start_all(10_000).await;
    trio.propose("before").await;
    for id in 1..=3 {
        assert!(trio.order(record(id, member(id))).await.outcome.is_ok());
    }
    let root: AccountId = "root".parse().unwrap();
    let first = Command::Bootstrap(Bootstrap {
        account: root.clone(),
        password_hash: Secret::new("$argon2id$of-nothing"),
        setup_code_hash: Digest::of(b"code"),
    });
    assert!(trio.order(by(Actor::SetupCode, first)).await.outcome.is_ok());
    let gone = trio.replicas.keys().copied().find(|id| trio.replicas[id].is_leader().is_none()).unwrap();
    let early = trio.order(record(gone.0, ReplicaFact::Gone)).await;
    assert!(early.outcome.is_err(), "nobody had ordered that it goes");
    let removal = Command::RemoveReplica(RemoveReplica { replica: gone.0, forced: false, reason: String::new() });
    assert!(trio.order(by(Actor::Account(root), removal)).await.outcome.is_ok());
    // Away while it happens, so that it hears nothing of its own end from the log.
    trio.stop(gone).await;
    change(&trio, "it is out", async |leader| leader.remove(gone).await).await;
    let last = trio.order(record(gone.0, ReplicaFact::Gone)).await;
    assert!(last.outcome.is_ok(), "{:?}", last.outcome);
    trio.agree(last.revision).await;
    let left: Vec<u64> = trio.replicas.keys().map(|id| id.0).collect();
    voters(&trio, &left).await;
    for _ in 0..2 {
        trio.start(gone.0).await;
        let cause = tokio::time::timeout(crate::harness::LIMIT, trio.replicas[&gone].stopped()).await.unwrap();
        assert!(matches!(cause, RaftError::Removed(_)) && cause.is_removed() && !cause.is_lost(), "{cause}");
        trio.stop(gone).await;
    }
    trio.propose("after").await;
    voters(&trio, &left).await;
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_replica_is_refused_and_founds_no_second_cluster() {
    let mut trio = Trio::start_all(10_000).await;
    let named = trio.propose("before").await;
    trio.agree(named.revision).await;
    for id in 1..=3 {
        assert!(trio.order(record(id, member(id))).await.outcome.is_ok());
        let incarnation = trio.replicas[&ReplicaId(id)].status().incarnation;
        let heard = eventually("the leader has heard of it", async || {
            let status = trio.leader().await.status();
            let heard = status.incarnations.get(&ReplicaId(id)).cloned();
            (status.id == ReplicaId(id)).then_some(status.incarnation).or(heard)
        })
        .await;
        assert_eq!(heard, incarnation);
        let last = trio.order(record(id, ReplicaFact::Heard { incarnation })).await;
        trio.agree(last.revision).await;
    }
    // The one with the lowest id is the one that founds clusters.
    for id in [3, 1] {
        trio.stop(ReplicaId(id)).await;
        std::fs::remove_dir_all(trio.data_dir(id)).unwrap();
        trio.start(id).await;
        let emptied = &trio.replicas[&ReplicaId(id)];
        let cause = tokio::time::timeout(crate::harness::LIMIT, emptied.stopped()).await.unwrap();
        assert!(matches!(cause, RaftError::Emptied(_)) && cause.is_lost(), "{cause}");
        trio.stop(ReplicaId(id)).await;
        assert_eq!(trio.replicas.len(), if id == 3 { 2 } else { 1 });
    }
    // The last one is no majority, and two emptied ones were none either.
    assert!(trio.replicas[&ReplicaId(2)].read().await.is_err());
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replicas_folder_is_refused_at_once() {
    let mut trio = Trio::start_all(10_000).await;
    trio.propose("before").await;
    trio.stop_all().await;
    let mut config = trio.config(2);
    config.data_dir = trio.data_dir(3);
    match Replica::start(config, tokio_util::sync::CancellationToken::new()).await {
        Err(error @ RaftError::Foreign { .. }) => assert!(error.is_lost()),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started in another replica's folder"),
    }
}
