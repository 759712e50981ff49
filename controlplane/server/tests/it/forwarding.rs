//! Any replica takes any call; the leader's answer comes through.

use hanse_proto::v1 as pb;
use hanse_server::proxy::SOURCE_HEADER;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::*;

#[tokio::test]
async fn a_follower_hands_calls_to_the_leader() {
    let cluster = Cluster::start(3).await;
    let _ = cluster.bootstrapped().await;
    let (leader, follower) = (cluster.leader().await.id, cluster.follower().await);
    let client = cluster.client(follower).await;

    // A forged origin of an ordinary client is not believed, and does not stop the forwarding either.
    let mut login = tonic::Request::new(pb::LoginRequest {
        request_id: request_id(),
        account: "root".into(),
        password: PASSWORD.into(),
        lifetime_ms: 0,
    });
    login.metadata_mut().insert(SOURCE_HEADER, "203.0.113.9".parse().unwrap());
    login.metadata_mut().insert(hanse_proto::FORWARDED_HEADER, "1".parse().unwrap());
    let answer = client.accounts().login(login).await.unwrap();
    assert!(answer.metadata().contains_key(hanse_proto::LEADER_TRAILER), "the follower names the leader");
    let answer = answer.into_inner();
    assert_eq!(answer.header.as_ref().unwrap().replica_id, leader.to_string());
    let root = client.with_token(&answer.token);

    root.tenants().create_tenant(create_tenant("acme")).await.unwrap();
    let got = root.tenants().get_tenant(pb::GetTenantRequest { tenant: "acme".into() }).await.unwrap().into_inner();
    assert_eq!(got.header.unwrap().replica_id, leader.to_string(), "reads are the leader's");
    let sessions = root.accounts().list_sessions(pb::ListSessionsRequest::default()).await.unwrap().into_inner();
    assert!(sessions.sessions.iter().all(|session| session.source == "127.0.0.1"), "{sessions:?}");

    // A refusal keeps its details on the way.
    let taken = root.tenants().create_tenant(create_tenant("acme")).await.unwrap_err();
    assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));

    // A stream comes through as well.
    let mut export = root.audit().export_audit(pb::ExportAuditRequest { after_seq: 0 }).await.unwrap().into_inner();
    assert!(!export.message().await.unwrap().unwrap().lines.is_empty());
    cluster.stop().await;
}

#[tokio::test]
async fn every_replica_tells_of_all_and_little_to_strangers() {
    let cluster = Cluster::start(3).await;
    let stranger = cluster.client(cluster.follower().await).await;
    let before = stranger.cluster().get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert!(!before.bootstrapped && before.replicas.is_empty());
    let root = cluster.bootstrapped().await;
    let root = cluster.client(cluster.follower().await).await.with_token(&root.token);

    let status = root.cluster().get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.replicas.len(), 3, "{status:?}");
    let role = |role: pb::ReplicaRole| status.replicas.iter().filter(|it| it.role() == role).count();
    assert_eq!((role(pb::ReplicaRole::Leader), role(pb::ReplicaRole::Follower)), (1, 2), "{status:?}");
    assert!(status.replicas.iter().all(|it| it.digest.len() == 64 && it.rss_bytes > 0), "{status:?}");
    assert!(!status.cluster_id.is_empty() && status.bootstrapped);

    let known = stranger.cluster().get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert!(known.replicas.is_empty() && known.cluster_id.is_empty() && known.header.is_none());
    assert_eq!((known.cluster_name.as_str(), known.leader_id.is_empty()), (CLUSTER, false));
    cluster.stop().await;
}

#[tokio::test]
async fn health_names_the_leader() {
    let cluster = Cluster::start(3).await;
    let check = |service: &str| HealthCheckRequest { service: service.into() };
    let leader = cluster.leader().await.id;
    for one in &cluster.members {
        let client = cluster.client(one).await;
        let mut health = HealthClient::new(client.channel.clone());
        assert_eq!(health.check(check("")).await.unwrap().into_inner().status, 1);
        let wanted = if one.id == leader { 1 } else { 2 };
        wait_for("health to name the leader", async || {
            let answer = health.check(check(hanse_server::LEADER_HEALTH)).await.ok()?;
            (answer.into_inner().status == wanted).then_some(())
        })
        .await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn without_a_majority_a_call_says_so_and_status_still_answers() {
    let cluster = Cluster::start(3).await;
    let root = cluster.bootstrapped().await;
    let follower = cluster.follower().await;
    let client = cluster.client(follower).await.with_token(&root.token);
    client.accounts().who_am_i(pb::WhoAmIRequest {}).await.unwrap();
    for one in cluster.members.iter().filter(|one| one.id != follower.id) {
        one.replica.shutdown().await;
    }
    let refused =
        wait_for("a refusal", async || client.tenants().list_tenants(pb::ListTenantsRequest::default()).await.err())
            .await;
    assert!(matches!(refused.code(), Code::Unavailable | Code::DeadlineExceeded), "{refused:?}");
    let status = client.cluster().get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.cluster_name, CLUSTER);
    // A follower goes on believing in the leader that it followed last.
    wait_for("the status to name no leader", async || {
        let status = client.cluster().get_status(pb::GetStatusRequest {}).await.ok()?.into_inner();
        status.leader_id.is_empty().then_some(())
    })
    .await;
    cluster.stop().await;
}
