//! What is put into the log is what every member can read, and who cannot read it is told so.

use std::collections::BTreeMap;
use std::time::Duration;

use hanse_raft::{ChangeError, Member, ProposeError, RaftError, Replica, ReplicaId, StoreError};
use hanse_state::cluster::InitCluster;
use hanse_state::cluster::version::{RaiseClusterVersion, SPOKEN, Version, Versions};
use hanse_state::ids::AccountId;
use hanse_state::{Actor, Command, Request};

use crate::harness::{Trio, eventually, request};

/// The first entry of a cluster that begins at a version.
fn init(version: Version) -> Request {
    let mut first = request("versions");
    if let Command::InitCluster(init) = &mut first.command {
        *init = InitCluster { version, ..init.clone() };
    }
    first
}

fn raise(version: u16) -> Request {
    let actor = Actor::Account(AccountId::parse("root").unwrap());
    Request {
        actor,
        command: Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(version) }),
        ..request("")
    }
}

/// Proposes what must be refused because it is not spoken; gives those in the way.
async fn unspoken(replica: &Replica, request: Request) -> BTreeMap<ReplicaId, Option<Versions>> {
    match replica.propose(request).await {
        Err(ProposeError::Unspoken(unspoken)) => unspoken.by,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_set_only_while_every_member_is_heard_to_speak_it() {
    let mut trio = Trio::start_all(10_000).await;
    let leader = trio.leader().await;
    let [down, other] = [1, 2, 3].map(ReplicaId).into_iter().filter(|id| *id != leader.id()).collect::<Vec<_>>()[..]
    else {
        panic!("three replicas");
    };

    let next = SPOKEN.newest.0 + 1;
    let everyone: BTreeMap<_, _> = trio.replicas.keys().map(|id| (*id, Some(SPOKEN))).collect();
    assert_eq!(unspoken(&leader, raise(next)).await, everyone, "nobody speaks what does not exist yet");
    let answer = trio.replicas[&other].propose(raise(2)).await;
    assert!(matches!(answer, Err(ProposeError::NotLeader { .. })), "{answer:?}");
    trio.stop(down).await;
    let missing = BTreeMap::from([(down, None)]);
    assert_eq!(unspoken(&leader, init(Version::NEWEST)).await, missing, "who is down is not known to speak anything");
    trio.start(down.0).await;
    eventually("the returned one is heard", async || leader.check_spoken(Version::NEWEST).await.ok()).await;

    // A learner counts too, also before it runs.
    let absent = Member { peer_address: "127.0.0.1:9".into(), api_address: "127.0.0.1:8".into() };
    leader.add_learner(ReplicaId(4), absent).await.unwrap();
    assert_eq!(unspoken(&leader, raise(2)).await, BTreeMap::from([(ReplicaId(4), None)]));
    leader.remove(ReplicaId(4)).await.unwrap();

    assert_eq!(leader.local().revision, 0, "nothing of it has entered the log");
    trio.order(init(Version::NEWEST)).await.outcome.unwrap();
    assert_eq!(leader.local().version(), Version::NEWEST);
    // Now that all were heard it is the state's to decide.
    assert!(trio.order(raise(2)).await.outcome.is_err(), "there is no such account");
    trio.stop_all().await;
}

/// Makes the state in a replica's newest snapshot one of a version that nobody speaks yet.
fn age(trio: &Trio, id: u64) {
    let folder = trio.data_dir(id).join("snapshots");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let path = files.pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 4);
    let newest = u8::try_from(Version::NEWEST.0).unwrap();
    let at = bytes.windows(3).position(|part| part == [b'S', 0, newest]).unwrap();
    bytes[at + 2] = newest + 1;
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_is_too_old_says_so_and_leaves_the_data_alone() {
    let mut trio = Trio::start_all(10).await;
    trio.order(init(Version::NEWEST)).await.outcome.unwrap();
    for _ in 0..30 {
        trio.propose("more").await;
    }
    let leader = trio.leader().await.id();
    let id = [1, 2, 3].map(ReplicaId).into_iter().find(|id| *id != leader).unwrap();
    let replica = trio.replicas[&id].clone();
    eventually("a snapshot", async || replica.status().snapshot).await;
    trio.stop(id).await;

    let kept = trio.data_dir(id.0).join("snapshots");
    let before: Vec<_> = std::fs::read_dir(&kept)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|it| (it.path(), std::fs::read(it.path()).unwrap()))
        .collect();
    age(&trio, id.0);
    let error = trio.try_start(id.0).await.unwrap_err();
    assert!(matches!(error, RaftError::Store(StoreError::TooOld { .. })) && error.is_too_old() && !error.is_lost());
    let words = error.to_string();
    let next = format!("cluster version {}", Version::NEWEST.0 + 1);
    assert!(words.contains(&next) && words.contains(&format!("this build speaks {SPOKEN}")), "{words}");

    // With a build that speaks it, which is this one once more, the replica goes on.
    for (path, bytes) in before {
        std::fs::write(path, bytes).unwrap();
    }
    trio.start(id.0).await;
    let revision = trio.propose("again").await.revision;
    trio.agree(revision).await;
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_too_old_for_the_cluster_is_told_so() {
    let mut trio = Trio::start_all(10_000).await;
    let address = trio.members[&ReplicaId(1)].peer_address.clone();
    // Before the cluster has a version, a build that says nothing is welcome.
    crate::refused::ask_as_two(&trio, &address).await.unwrap();
    let first = trio.order(init(Version::NEWEST)).await;
    trio.agree(first.revision).await;
    let refusal = crate::refused::ask_as_two(&trio, &address).await.unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::FailedPrecondition, "{refusal}");
    assert_eq!(refusal.metadata().get("x-hanse-verdict").unwrap(), "too-old");
    let words = format!("at version {}, the build of replica 2 speaks 1", Version::NEWEST);
    assert!(refusal.message().contains(&words), "{refusal}");
    tokio::time::timeout(Duration::from_secs(60), trio.stop_all()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_is_too_old_gets_no_vote() {
    let mut trio = Trio::start_all(10_000).await;
    trio.order(init(Version::NEWEST)).await.outcome.unwrap();
    let leader = trio.leader().await;
    let old = ReplicaId(4);
    leader.add_learner(old, crate::old_build::serve(&trio, old.0)).await.unwrap();
    let spoken = || async { leader.spoken().await.get(&old).copied().flatten() };
    let heard = eventually("the old build is heard", async || spoken().await).await;
    assert_eq!((heard.oldest, heard.newest), (Version::FIRST, Version::FIRST));

    match leader.promote(old).await {
        Err(ChangeError::Refused(why)) => assert!(why.contains("replica 4 speaks 1"), "{why}"),
        other => panic!("{other:?}"),
    }
    let status = leader.status();
    assert!(status.members.contains_key(&old) && !status.voters.contains(&old) && !status.joint, "{status:?}");
    leader.remove(old).await.unwrap();
    trio.stop_all().await;
}
