//! The stream of changes: in order, resumable, and only what the caller may see.

use hanse_proto::v1 as pb;
use tonic::{Code, Streaming};

use crate::harness::*;

async fn watch(client: &Client, after: u64) -> Streaming<pb::WatchResponse> {
    let request = pb::WatchRequest { after_revision: after, resource_prefix: String::new() };
    client.cluster().watch(request).await.unwrap().into_inner()
}

/// Reads until a change of `resource` came; gives everything read.
async fn until(stream: &mut Streaming<pb::WatchResponse>, resource: &str) -> Vec<pb::Event> {
    let mut seen = Vec::new();
    let read = async {
        while !seen.iter().any(|event: &pb::Event| event.resource == resource) {
            let message = stream.message().await.unwrap().unwrap();
            assert!(!message.resync);
            seen.extend(message.events);
        }
    };
    tokio::time::timeout(LONG, read).await.unwrap();
    seen
}

#[tokio::test]
async fn changes_come_in_order_and_a_watcher_goes_on_where_it_was() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let mut stream = watch(&root, 0).await;
    let made = root.tenants().create_tenant(create_tenant("acme")).await.unwrap().into_inner();
    let revision = made.header.unwrap().revision;
    let seen = until(&mut stream, "tenants/acme").await;
    let event = seen.iter().find(|event| event.resource == "tenants/acme").unwrap();
    assert_eq!((event.revision, event.change()), (revision, pb::ChangeKind::Created));
    drop(stream);

    root.tenants().create_tenant(create_tenant("bank")).await.unwrap();
    root.tenants().create_tenant(create_tenant("cargo")).await.unwrap();
    let mut stream = watch(&root, revision).await;
    let seen = until(&mut stream, "tenants/cargo").await;
    assert!(seen.iter().any(|event| event.resource == "tenants/bank"));
    assert!(seen.iter().all(|event| event.revision > revision), "{seen:?}");
    assert!(seen.is_sorted_by_key(|event| event.revision), "{seen:?}");
    let beat = tokio::time::timeout(LONG, stream.message()).await.unwrap().unwrap().unwrap();
    assert!(beat.events.is_empty() && beat.header.unwrap().revision > revision);
    cluster.stop().await;
}

#[tokio::test]
async fn a_tenant_is_told_its_own_changes_only_and_a_closed_session_nothing() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let bank = root.tenant("bank").await;
    let mut stream = watch(&bank, 0).await;
    root.tenants().create_tenant(create_tenant("acme")).await.unwrap();
    let again = root.login("owner@bank", PASSWORD).await.unwrap();
    again.accounts().logout(pb::LogoutRequest { request_id: request_id() }).await.unwrap();
    let invite = super::lists::consortium("trade", &"22".repeat(32));
    bank.consortiums().create_consortium(invite).await.unwrap();
    let seen = until(&mut stream, "consortiums/trade").await;
    assert!(seen.iter().all(|event| !event.resource.contains("acme")), "{seen:?}");

    bank.accounts().logout(pb::LogoutRequest { request_id: request_id() }).await.unwrap();
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a word"),
                Err(status) => return status,
            }
        }
    };
    assert_eq!(tokio::time::timeout(LONG, end).await.unwrap().code(), Code::Unauthenticated);
    cluster.stop().await;
}

#[tokio::test]
async fn a_watch_on_a_follower_knows_a_session_that_was_opened_a_moment_ago() {
    let cluster = Cluster::start(3).await;
    let root = cluster.bootstrapped().await;
    let mut stream = watch(&cluster.client(cluster.follower().await).await.with_token(&root.token), 0).await;
    root.tenants().create_tenant(create_tenant("acme")).await.unwrap();
    until(&mut stream, "tenants/acme").await;
    let stranger = cluster.client(cluster.follower().await).await.with_token(&format!("hanse_{}", "A".repeat(43)));
    let request = pb::WatchRequest::default();
    assert_eq!(stranger.cluster().watch(request).await.unwrap_err().code(), Code::Unauthenticated);
    cluster.stop().await;
}
