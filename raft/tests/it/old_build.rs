//! What a peer of version 1 answers: it takes no part, but it is there and says nothing of versions.

use std::convert::Infallible;

use hanse_raft::{Member, ReplicaId, peer_name};
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::harness::{CLUSTER, Trio};
use crate::refused::{Answer, Call};

/// The body of its answer to `Hello`, as the frozen example of that version has it but for the answer: it holds nothing.
const HOLDS_NOTHING: &[u8] = b"\x01\x81\xaaholds_data\xc2";

#[derive(Clone)]
struct Peer;

impl NamedService for Peer {
    const NAME: &'static str = "hanse.peer.v1.Peer";
}

struct Hello;

impl UnaryService<Call> for Hello {
    type Response = Answer;
    type Future = BoxFuture<Response<Answer>, Status>;

    fn call(&mut self, request: Request<Call>) -> Self::Future {
        let replica = request.into_inner().target;
        Box::pin(async move { Ok(Response::new(Answer { replica, body: HOLDS_NOTHING.to_vec() })) })
    }
}

impl Service<http::Request<tonic::body::Body>> for Peer {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            if request.uri().path().ends_with("/Hello") {
                let codec = tonic_prost::ProstCodec::<Answer, Call>::default();
                return Ok(Grpc::new(codec).unary(Hello, request).await);
            }
            Ok(Status::unimplemented("this peer only says hello").into_http())
        })
    }
}

/// Serves such a peer as replica `id` until the test ends; gives where it can be reached.
pub(crate) fn serve(trio: &Trio, id: u64) -> Member {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
    let own = trio.ca.issue(&peer_name(CLUSTER, ReplicaId(id)));
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(own.cert_pem, own.key_pem))
        .client_ca_root(Certificate::from_pem(trio.ca.pem()));
    let serving = Server::builder().tls_config(tls).unwrap().add_service(Peer).serve_with_incoming(incoming);
    tokio::spawn(async move { serving.await.unwrap() });
    Member { peer_address: address.to_string(), api_address: "127.0.0.1:9".into() }
}
