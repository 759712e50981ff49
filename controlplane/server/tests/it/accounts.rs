//! The first administrator, logins, locks, sessions.

use hanse_proto::v1 as pb;
use tonic::Code;

use crate::harness::*;

#[tokio::test]
async fn a_setup_before_the_first_entry_is_put_off_and_succeeds_with_the_same_id() {
    let cluster = Cluster::start_unnamed(1, Choice::default()).await;
    let client = cluster.client(cluster.leader().await).await;
    let first = pb::BootstrapRequest {
        request_id: request_id(),
        setup_code: SETUP_CODE.into(),
        account: "root".into(),
        password: PASSWORD.into(),
    };
    let early = client.cluster().bootstrap(first.clone()).await.unwrap_err();
    assert_eq!(early.code(), Code::Unavailable, "{early:?}");
    assert_eq!(reason(&early), "BEGINNING");
    cluster.name().await;
    client.cluster().bootstrap(first).await.unwrap();
    client.login("root", PASSWORD).await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn the_setup_code_makes_one_administrator_who_can_log_in() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(cluster.leader().await).await;
    let ask = |code: &str, password: &str| pb::BootstrapRequest {
        request_id: request_id(),
        setup_code: code.into(),
        account: "root".into(),
        password: password.into(),
    };
    let short = client.cluster().bootstrap(ask(SETUP_CODE, "short")).await.unwrap_err();
    assert_eq!((short.code(), metadata(&short, "field").as_str()), (Code::InvalidArgument, "password"));
    let wrong = client.cluster().bootstrap(ask("WRONG", PASSWORD)).await.unwrap_err();
    assert_eq!((wrong.code(), metadata(&wrong, "field").as_str()), (Code::PermissionDenied, "setup_code"));

    let first = ask(SETUP_CODE, PASSWORD);
    let answer = client.cluster().bootstrap(first.clone()).await.unwrap().into_inner();
    assert_eq!(answer.account, "root");
    let again = client.cluster().bootstrap(first).await.unwrap().into_inner();
    assert_eq!(again.header.unwrap().revision, answer.header.unwrap().revision, "a retry gets the first answer");
    let before = cluster.leader().await.replica.local().revision;
    assert!(client.cluster().bootstrap(ask(SETUP_CODE, PASSWORD)).await.is_err(), "the code is spent");
    let late = pb::BootstrapRequest { request_id: "ffffffff-ffff-7fff-bfff-ffffffffffff".into(), ..ask("X", PASSWORD) };
    let late = client.cluster().bootstrap(late).await.unwrap_err();
    assert_eq!(metadata(&late, "field"), "request_id", "an id from the future never reaches the log");
    let after = cluster.leader().await.replica.local().revision;
    assert_eq!(after, before, "a refused stranger leaves no entry");

    let root = client.login("root", PASSWORD).await.unwrap();
    assert!(root.token.starts_with("hanse_"));
    let me = root.accounts().who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner();
    let account = me.account.unwrap();
    assert_eq!((account.account.as_str(), account.role()), ("root", pb::Role::PlatformAdministrator));
    let session = me.session.unwrap();
    assert!(session.current && session.source == "127.0.0.1", "{session:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn wrong_passwords_lock_an_account_and_all_failures_read_alike() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    root.tenant("acme").await;
    let nobody = root.login("nobody@acme", PASSWORD).await.map(|_| ()).unwrap_err();
    assert_eq!((nobody.code(), reason(&nobody).as_str()), (Code::Unauthenticated, "WRONG_CREDENTIALS"));
    for _ in 0..5 {
        let wrong = root.login("owner@acme", "not the password").await.map(|_| ()).unwrap_err();
        assert_eq!((wrong.code(), wrong.message()), (nobody.code(), nobody.message()));
    }
    let locked = root.login("owner@acme", PASSWORD).await.map(|_| ()).unwrap_err();
    assert_eq!((locked.code(), locked.message()), (nobody.code(), nobody.message()), "the lock is not told");
    let list = pb::ListAccountsRequest { tenant: "acme".into(), ..Default::default() };
    let seen = root.accounts().list_accounts(list).await.unwrap().into_inner().accounts;
    assert_eq!(seen[0].state(), pb::AccountState::Locked);

    let restore =
        pb::RestoreAccountRequest { request_id: request_id(), validate_only: false, account: "owner@acme".into() };
    root.accounts().restore_account(restore).await.unwrap();
    root.login("owner@acme", PASSWORD).await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn guessing_from_one_address_is_refused_early() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let mut refused = None;
    for _ in 0..=hanse_server::auth::throttle::FAILURES_MAX {
        let status = root.login("nobody", "not the password").await.map(|_| ()).unwrap_err();
        refused = Some(status);
    }
    let refused = refused.unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"));
    cluster.stop().await;
}

#[tokio::test]
async fn a_closed_session_and_a_suspended_account_end_with_the_next_call() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let owner = root.tenant("acme").await;
    let second = root.login("owner@acme", PASSWORD).await.unwrap();

    let mine = owner.accounts().list_sessions(pb::ListSessionsRequest::default()).await.unwrap().into_inner().sessions;
    assert_eq!(mine.len(), 2);
    let other = mine.iter().find(|session| !session.current).unwrap();
    let revoke = pb::RevokeSessionRequest { request_id: request_id(), session: other.session.clone() };
    owner.accounts().revoke_session(revoke).await.unwrap();
    let ended = second.accounts().who_am_i(pb::WhoAmIRequest {}).await.unwrap_err();
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unauthenticated, "SESSION_OVER"));

    owner.accounts().logout(pb::LogoutRequest { request_id: request_id() }).await.unwrap();
    assert!(owner.accounts().who_am_i(pb::WhoAmIRequest {}).await.is_err());

    let third = root.login("owner@acme", PASSWORD).await.unwrap();
    let suspend = pb::SuspendAccountRequest {
        request_id: request_id(),
        validate_only: false,
        account: "owner@acme".into(),
        reason: "left the company".into(),
    };
    root.accounts().suspend_account(suspend).await.unwrap();
    assert_eq!(third.accounts().who_am_i(pb::WhoAmIRequest {}).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(root.login("owner@acme", PASSWORD).await.is_err());
    cluster.stop().await;
}

#[tokio::test]
async fn no_secret_reaches_the_audit_trail() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    root.tenant("acme").await;
    let mut lines = Vec::new();
    let mut stream = root.audit().export_audit(pb::ExportAuditRequest { after_seq: 0 }).await.unwrap().into_inner();
    while let Some(message) = stream.message().await.unwrap() {
        lines.extend(message.lines);
    }
    let text = lines.join("\n");
    for secret in [PASSWORD, "argon2", &root.token, SETUP_CODE] {
        assert!(!text.contains(secret), "{secret} is in the trail");
    }
    assert!(lines.len() >= 5, "{text}");
    cluster.stop().await;
}
