//! Faults of replicas and connections: what is repeated, where, under which id, and what the caller is told.

use std::time::Duration;

use hanse_client::{CallOptions, Client, ClientConfig, ClientError, Code, Effect, pb, reason};

use tonic::Status;

use crate::replica::{Authority, LONG, Replica, Script, Step, client, client_with, nobody};

fn create() -> pb::CreateTenantRequest {
    pb::CreateTenantRequest { tenant: "acme".to_owned(), ..pb::CreateTenantRequest::default() }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("the test hangs")
}

#[tokio::test]
async fn follows_the_leader_hint_to_an_unknown_replica() {
    let authority = Authority::new();
    let leader = Script::of([]);
    let leading = Replica::start(&authority, &leader).await;
    let follower = Script::of([Step::NotLeader(Some(leading.address.clone()))]);
    let following = Replica::start(&authority, &follower).await;
    let client = client(&authority, &[&following.address]);

    let response = within(client.call(create())).await.unwrap();

    assert_eq!(response.header.unwrap().revision, 7);
    assert_eq!(follower.seen(), leader.seen(), "one request id over both replicas");
    assert_eq!(client.current_address(), leading.address);
    assert_eq!(leader.tokens.lock().unwrap().as_slice(), ["Bearer hanse_test"]);
}

#[tokio::test]
async fn two_replicas_that_name_each_other_are_left_in_time() {
    let authority = Authority::new();
    let (first, second) = (Script::of([]), Script::of([]));
    let one = Replica::start(&authority, &first).await;
    let two = Replica::start(&authority, &second).await;
    for _ in 0..3 {
        first.steps.lock().unwrap().push_back(Step::NotLeader(Some(two.address.clone())));
        second.steps.lock().unwrap().push_back(Step::NotLeader(Some(one.address.clone())));
    }
    let client = client(&authority, &[&one.address, &two.address]);

    within(client.call(create())).await.unwrap();

    let mut ids = [first.seen(), second.seen()].concat();
    assert_eq!(ids.len(), 7);
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn goes_on_when_a_replica_is_down_or_unavailable() {
    let authority = Authority::new();
    let script = Script::of([Step::NotLeader(None)]);
    let replica = Replica::start(&authority, &script).await;
    let client = client(&authority, &[&nobody().await, &replica.address]);

    within(client.call(create())).await.unwrap();

    assert_eq!(script.seen().len(), 2);
}

#[tokio::test]
async fn what_a_replica_said_is_told_rather_than_that_the_others_are_down() {
    let authority = Authority::new();
    let script = Script::of((0..100).map(|_| Step::NotLeader(None)));
    let replica = Replica::start(&authority, &script).await;
    let client = client_with(&authority, &[&replica.address, &nobody().await, &nobody().await], |timeouts| {
        timeouts.overall = Duration::from_secs(2);
    });

    let error = within(client.call(create())).await.unwrap_err();

    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::Unavailable, "this replica is not the leader"),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_unanswered_write_is_asked_again_with_its_id() {
    let authority = Authority::new();
    let silent = Script::of([Step::Silence]);
    let knowing = Script::of([Step::OutcomeUnknown]);
    let one = Replica::start(&authority, &silent).await;
    let two = Replica::start(&authority, &knowing).await;
    let client = client_with(&authority, &[&one.address, &two.address], |timeouts| {
        timeouts.attempt = Duration::from_secs(1);
    });

    within(client.call(create())).await.unwrap();

    let mut ids = [silent.seen(), knowing.seen()].concat();
    assert!(ids.len() >= 3, "silence, unknown, answer: {ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 1, "one id over all repeats");
}

#[tokio::test]
async fn an_answer_that_takes_long_is_waited_for_where_that_is_said() {
    let authority = Authority::new();
    let script = Script::of([]);
    let one = Replica::start(&authority, &script).await;
    // Every answer takes longer than that.
    let client = client_with(&authority, &[&one.address], |timeouts| timeouts.attempt = Duration::from_nanos(1));

    let short = CallOptions { overall: Some(Duration::from_millis(300)), ..CallOptions::default() };
    within(client.call_with(create(), short)).await.unwrap_err();
    let whole = CallOptions { overall: Some(LONG), whole: true, ..CallOptions::default() };
    let answer = within(client.call_with(create(), whole)).await.unwrap();

    // Requests of the call that was given up may still arrive: each call has an id of its own.
    let seen = script.seen();
    let of_the_last = seen.iter().filter(|id| Some(*id) == seen.last()).count();
    assert_eq!((answer.header.unwrap().revision, of_the_last), (7, 1), "it was begun once");
}

#[tokio::test]
async fn a_replica_that_dies_with_the_request_is_replaced() {
    let authority = Authority::new();
    let dying = Script::of([Step::Silence]);
    let living = Script::of([]);
    let one = Replica::start(&authority, &dying).await;
    let two = Replica::start(&authority, &living).await;
    let client = client(&authority, &[&one.address, &two.address]);
    let call = tokio::spawn(async move { client.call(create()).await });
    within(async {
        while dying.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    drop(one);

    within(call).await.unwrap().unwrap();
    assert_eq!(dying.seen(), living.seen());
}

#[tokio::test]
async fn an_unknown_outcome_is_told_with_the_id_to_ask_with() {
    let authority = Authority::new();
    let script = Script::of([Step::OutcomeUnknown]);
    let replica = Replica::start(&authority, &script).await;
    for _ in 0..1000 {
        script.steps.lock().unwrap().push_back(Step::NotLeader(None));
    }
    let client = client_with(&authority, &[&replica.address], |timeouts| timeouts.overall = Duration::from_secs(2));

    let error = within(client.call(create())).await.unwrap_err();

    assert_eq!(error.code, Code::Unavailable);
    assert_eq!(error.effect, Effect::Unknown, "an earlier attempt may have done it");
    assert_eq!(error.request_id, script.seen()[0]);
}

#[tokio::test]
async fn a_refusal_after_an_unknown_outcome_is_certain_only_if_the_log_gave_it() {
    let authority = Authority::new();
    for (refusal, effect) in [(Step::Refuse, Effect::Unknown), (Step::RefuseByLog, Effect::None)] {
        let script = Script::of([Step::OutcomeUnknown, refusal]);
        let replica = Replica::start(&authority, &script).await;

        let error = within(client(&authority, &[&replica.address]).call(create())).await.unwrap_err();

        assert_eq!((error.code, error.effect), (Code::AlreadyExists, effect));
        assert_eq!(script.seen(), [error.request_id.clone(), error.request_id.clone()]);
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_says_everything() {
    let authority = Authority::new();
    let script = Script::of([Step::Refuse]);
    let replica = Replica::start(&authority, &script).await;
    let client = client(&authority, &[&replica.address]);

    let error: ClientError = within(client.call(create())).await.unwrap_err();

    assert_eq!(script.seen().len(), 1);
    assert_eq!((error.code, error.reason.as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    assert_eq!((error.field.as_str(), error.advice.as_str()), ("tenant", "Choose another id."));
    assert_eq!(error.message, "tenant acme exists");
    assert_eq!(error.effect, Effect::None);
    assert_eq!(error.to_string(), "ALREADY_EXISTS: tenant acme exists (field tenant)");
}

#[tokio::test]
async fn a_given_request_id_is_kept() {
    let authority = Authority::new();
    let script = Script::of([]);
    let replica = Replica::start(&authority, &script).await;
    let id = hanse_client::new_request_id();

    let request = pb::CreateTenantRequest { request_id: id.clone(), ..create() };
    within(client(&authority, &[&replica.address]).call(request)).await.unwrap();

    assert_eq!(script.seen(), [id]);
}

#[tokio::test]
async fn nobody_there_is_said_in_time() {
    let authority = Authority::new();
    let mut config = ClientConfig::new(vec![nobody().await], authority.pem());
    config.timeouts.overall = Duration::from_secs(1);

    let error = within(Client::connect(config)).await.unwrap_err();

    assert_eq!((error.code, error.reason.as_str()), (Code::Unavailable, reason::UNREACHABLE));
    assert!(error.message.contains("refused"), "{}", error.message);
}

#[tokio::test]
async fn a_replica_of_another_authority_gets_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let script = Script::of([]);
    let replica = Replica::start(&theirs, &script).await;
    let client = client_with(&ours, &[&replica.address], |timeouts| timeouts.overall = Duration::from_secs(1));

    let error = within(client.call(create())).await.unwrap_err();

    assert!(script.seen().is_empty() && script.tokens.lock().unwrap().is_empty());
    assert!(error.message.contains("certificate"), "{}", error.message);
}

#[tokio::test]
async fn bad_configurations_are_refused() {
    let authority = Authority::new();
    for (endpoints, ca) in [
        (vec![], authority.pem()),
        (vec!["http://127.0.0.1:1".to_owned()], authority.pem()),
        (vec!["127.0.0.1".to_owned()], authority.pem()),
        (vec!["127.0.0.1:1".to_owned(); 17], authority.pem()),
        (vec!["127.0.0.1:1".to_owned()], "no certificate".to_owned()),
    ] {
        let error = Client::new(ClientConfig::new(endpoints.clone(), ca)).unwrap_err();
        assert_eq!(error.reason, reason::CLIENT_CONFIG, "{endpoints:?}");
    }
}

#[tokio::test]
async fn an_export_that_is_cut_goes_on_after_what_was_looked_at_not_after_what_was_shown() {
    let authority = Authority::new();
    let part = |lines: &[&str], through_seq| {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Ok(pb::ExportAuditResponse { header: None, lines, through_seq })
    };
    let script = Script::of([]);
    // A tenant sees few of the records; the second part shows none of them.
    let cut = vec![part(&["a"], 500), part(&[], 1_000), Err(Status::unavailable("the replica stops"))];
    script.exports.lock().unwrap().extend([cut, vec![part(&["b", "c"], 1_200)]]);
    let replica = Replica::start(&authority, &script).await;
    let client = client(&authority, &[&replica.address]);

    let mut lines = Vec::new();
    let count = within(client.export_audit(7, |line| {
        lines.push(line.to_owned());
        Ok(())
    }));

    assert_eq!(count.await.unwrap(), 3);
    assert_eq!(lines, ["a", "b", "c"]);
    assert_eq!(*script.exported.lock().unwrap(), [7, 1_000]);
}
