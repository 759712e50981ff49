//! Many requests in one entry: each caller gets its own answer, and nothing is done twice.

use futures::future::join_all;
use hanse_state::account::RecordLoginFailure;
use hanse_state::cluster::version::Version;
use hanse_state::cluster::{Bootstrap, InitCluster};
use hanse_state::ids::{AccountId, ClusterId, RequestId};
use hanse_state::{Actor, Command, Digest, Millis, Rejection, Request, Secret};

use crate::harness::Trio;

const AT: Millis = Millis(1_790_000_000_000);
/// Callers at once; far more than entries may be on their way.
const CALLERS: usize = 60;

fn id() -> RequestId {
    RequestId::new(uuid::Uuid::now_v7()).unwrap()
}

fn nobody(number: usize) -> Request {
    let account = AccountId::parse(&format!("nobody{number}")).unwrap();
    Request::system(id(), AT, Command::RecordLoginFailure(RecordLoginFailure { account, source: String::new() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_caller_of_a_batch_gets_its_own_answer_and_a_doubled_request_is_applied_once() {
    let mut trio = Trio::start_all(10_000).await;
    let leader = trio.leader().await;
    let init = InitCluster {
        cluster: ClusterId::new(uuid::Uuid::now_v7()).unwrap(),
        name: "batched".into(),
        setup_code_hash: Digest::of(b"code"),
        version: Version::NEWEST,
    };
    leader.propose(Request::system(id(), AT, Command::InitCluster(init))).await.unwrap().outcome.unwrap();
    let bootstrap = Command::Bootstrap(Bootstrap {
        account: AccountId::parse("root").unwrap(),
        password_hash: Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo"),
        setup_code_hash: Digest::of(b"code"),
    });
    // The same request five times among the others: one is carried out, four are told its answer.
    let doubled = Request::new(id(), Actor::SetupCode, "192.0.2.1:1", AT, bootstrap);
    let requests: Vec<Request> = (0..CALLERS).map(|n| if n % 12 == 5 { doubled.clone() } else { nobody(n) }).collect();
    let before = leader.status();
    let answers = join_all(requests.into_iter().map(|request| leader.propose(request))).await;
    let mut done = Vec::new();
    for (number, answer) in answers.into_iter().enumerate() {
        let applied = answer.unwrap();
        match applied.outcome {
            Ok(_) => done.push((number, applied.replayed, applied.revision)),
            Err(Rejection::NotFound { what, .. }) => assert_eq!(what, format!("accounts/nobody{number}")),
            Err(other) => panic!("{number}: {other}"),
        }
    }
    assert_eq!(done.iter().map(|(number, ..)| number % 12).collect::<Vec<_>>(), [5; 5]);
    assert_eq!(done.iter().filter(|(_, replayed, _)| !replayed).count(), 1, "{done:?}");
    assert!(done.iter().all(|(.., revision)| *revision == done[0].2), "{done:?}");
    let after = leader.status();
    assert!(after.digest_revision - before.digest_revision >= CALLERS as u64, "every request counts, replays too");
    let entries = after.applied.unwrap() - before.applied.unwrap();
    assert!(entries < CALLERS as u64 / 2, "{entries} entries for {CALLERS} requests at once");
    trio.agree(after.digest_revision).await;
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_at_once_are_all_answered_with_what_was_acknowledged_before() {
    let mut trio = Trio::start_all(10_000).await;
    let applied = trio.propose("one").await;
    let leader = trio.leader().await;
    for state in join_all((0..CALLERS).map(|_| leader.read())).await {
        assert!(state.unwrap().revision >= applied.revision);
    }
    assert!(leader.near().is_some_and(|state| state.revision >= applied.revision));
    let follower = trio.replicas.values().find(|r| r.id() != leader.id()).unwrap();
    assert!(follower.near().is_none());
    leader.hand_over().await;
    trio.agree(applied.revision).await;
    trio.stop_all().await;
}
