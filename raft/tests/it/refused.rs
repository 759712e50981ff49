//! Who is refused: callers without a certificate, of another CA, for another replica, and bad configurations.

use std::time::Duration;

use hanse_raft::{RaftError, Replica, ReplicaId, peer_name};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::harness::{CLUSTER, Ca, Trio};

/// The wire messages, written down once more: what a stranger, or a build of version 1, could send.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Call {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(uint64, tag = "2")]
    sender: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) target: u64,
    #[prost(bytes = "vec", tag = "4")]
    body: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answer {
    #[prost(uint64, tag = "1")]
    pub(crate) replica: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) body: Vec<u8>,
}

async fn dial(address: &str, tls: ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?;
    endpoint.connect_timeout(Duration::from_secs(10)).connect().await
}

/// Asks for the heads of history, the call with the plainest body.
async fn ask(channel: Channel, cluster: &str, sender: u64, target: u64) -> Result<Answer, tonic::Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
    let path = http::uri::PathAndQuery::from_static("/hanse.peer.v1.Peer/Heads");
    let body = vec![1, 0xc0];
    let call = Call { cluster: cluster.into(), sender, target, body };
    let codec = tonic_prost::ProstCodec::<Call, Answer>::default();
    client.unary(tonic::Request::new(call), path, codec).await.map(tonic::Response::into_inner)
}

/// Asks replica 1 as a build of version 1 would in the name of replica 2.
pub(crate) async fn ask_as_two(trio: &Trio, address: &str) -> Result<Answer, tonic::Status> {
    let (one, two) = (peer_name(CLUSTER, ReplicaId(1)), peer_name(CLUSTER, ReplicaId(2)));
    let channel = dial(address, client(&trio.ca, Some((&trio.ca, &two)), &one)).await;
    ask(channel.map_err(|e| tonic::Status::unavailable(e.to_string()))?, CLUSTER, 2, 1).await
}

fn client(trusted: &Ca, shown: Option<(&Ca, &str)>, name: &str) -> ClientTlsConfig {
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted.pem())).domain_name(name);
    match shown {
        None => config,
        Some((ca, own)) => {
            let tls = ca.issue(own);
            config.identity(Identity::from_pem(tls.cert_pem, tls.key_pem))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_replica_of_the_right_cluster_is_heard() {
    let mut trio = Trio::new(10_000);
    trio.start(1).await;
    let address = trio.members[&ReplicaId(1)].peer_address.clone();
    let (one, two) = (peer_name(CLUSTER, ReplicaId(1)), peer_name(CLUSTER, ReplicaId(2)));
    let as_two = dial(&address, client(&trio.ca, Some((&trio.ca, &two)), &one)).await.unwrap();
    assert_eq!(ask(as_two.clone(), CLUSTER, 2, 1).await.unwrap().replica, 1);

    let wrong_target = ask(as_two.clone(), CLUSTER, 2, 3).await.unwrap_err();
    assert_eq!(wrong_target.code(), tonic::Code::FailedPrecondition, "{wrong_target}");
    let wrong_cluster = ask(as_two.clone(), "other", 2, 1).await.unwrap_err();
    assert_eq!(wrong_cluster.code(), tonic::Code::FailedPrecondition, "{wrong_cluster}");
    let wrong_sender = ask(as_two, CLUSTER, 3, 1).await.unwrap_err();
    assert_eq!(wrong_sender.code(), tonic::Code::PermissionDenied, "{wrong_sender}");

    // Replica 1 is not replica 2, whatever the address says.
    assert!(dial(&address, client(&trio.ca, Some((&trio.ca, &two)), &two)).await.is_err());
    // A stranger's certificate, and none: TLS 1.3 lets the client find out with its first call.
    let stranger = Ca::new();
    for shown in [Some((&stranger, two.as_str())), None] {
        let answer = match dial(&address, client(&trio.ca, shown, &one)).await {
            Ok(channel) => ask(channel, CLUSTER, 2, 1).await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        assert!(answer.is_err(), "a caller without a certificate of the CA was answered");
    }
    // And we do not speak to a replica of another CA.
    assert!(dial(&address, client(&stranger, Some((&trio.ca, &two)), &one)).await.is_err());
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_another_ca_never_joins() {
    let mut trio = Trio::start_all(10_000).await;
    trio.propose("a cluster is founded by all").await;
    trio.stop(ReplicaId(2)).await;
    let mut config = trio.config(2);
    config.tls = Ca::new().issue(&peer_name(CLUSTER, ReplicaId(2)));
    let stranger = Replica::start(config, CancellationToken::new()).await.unwrap();
    let applied = trio.propose("two of three suffice").await;
    trio.agree(applied.revision).await;
    assert!(stranger.status().last_log_index < Some(applied.revision));
    stranger.shutdown().await;
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_configuration_is_refused_in_words() {
    let trio = Trio::new(10_000);
    let start = async |change: fn(&mut hanse_raft::ReplicaConfig, &Ca)| {
        let mut config = trio.config(1);
        change(&mut config, &trio.ca);
        match Replica::start(config, CancellationToken::new()).await {
            Ok(_) => panic!("it started"),
            Err(error) => error,
        }
    };
    let other_name = start(|c, ca| c.tls = ca.issue(&peer_name(CLUSTER, ReplicaId(2)))).await;
    assert!(matches!(other_name, RaftError::Tls(_)), "{other_name}");
    let no_member = start(|c, _| c.id = ReplicaId(9)).await;
    assert!(matches!(no_member, RaftError::Config(_)), "{no_member}");
    let timings = start(|c, _| c.timings.election_min_ms = 10).await;
    assert!(matches!(timings, RaftError::Config(_)), "{timings}");
    let _held = std::net::TcpListener::bind(trio.members[&ReplicaId(1)].peer_address.as_str()).unwrap();
    let busy = start(|_, _| {}).await;
    assert!(matches!(busy, RaftError::Listen { .. }), "{busy}");
}
