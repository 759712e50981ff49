//! The front of every call: who asks from where, and whether this replica answers or the leader does.
//!
//! Any replica takes any call. Calls about the replica itself and the stream of changes are answered here; all others
//! by the leader, so that reads and writes are linearizable whichever replica a client found. A follower hands such a
//! call on as it is (path, metadata, bytes in both directions), over one kept connection, with two headers more:
//! `x-hanse-forwarded` stops a second hop, `x-hanse-source` says where the client is. The leader believes both only on
//! a connection that showed a peer certificate; from anyone else they are thrown away.
//!
//! What this never does: decode a message, decide about access, or try twice.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use hanse_proto::{API_SERVER_NAME, FORWARDED_HEADER, LEADER_TRAILER};
use http::header::HeaderValue;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tower::{Layer, Service, ServiceExt as _};

use crate::context::{Context, Leadership};
use crate::error::ApiError;
use crate::listen::{ApiTls, Caller, ListenError};

/// Header in which a replica tells the leader where the client is.
pub const SOURCE_HEADER: &str = "x-hanse-source";

/// Longest source text taken from a peer: an IPv6 address with a zone fits.
const SOURCE_CHARS_MAX: usize = 64;

/// Longest wait for a connection to another replica.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Longest wait for the leader's first answer; longer than any handler's own limit.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// Pings on a kept connection, so that a dead leader is noticed without a call.
const PING_EVERY: Duration = Duration::from_secs(3);

/// Longest wait for a ping's answer.
const PING_MAX: Duration = Duration::from_secs(3);

/// Calls that this replica answers itself, whoever leads: by service (with the slash) or by full path.
const LOCAL: [&str; 9] = [
    "/hanse.v1.ClusterService/GetStatus",
    "/hanse.v1.ClusterService/GetVersion",
    "/hanse.v1.ClusterService/Watch",
    "/hanse.v1.ArtifactService/GetContentPiece",
    "/hanse.v1.ArtifactService/GetCopy",
    "/hanse.v1.MonitoringService/GetSeriesCopy",
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// Where a call came from; in the extensions of every request that reaches a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Address of the client, for sessions, locks and the audit trail.
    pub source: String,
    /// The replica that handed the call on, proven by its certificate.
    pub via: Option<u64>,
}

/// Kept connections to the API of every other replica, also of those that join later.
#[derive(Clone)]
pub struct Peers {
    own: u64,
    tls: Arc<ApiTls>,
    channels: Arc<Mutex<BTreeMap<u64, (String, Channel)>>>,
}

impl Peers {
    /// Returns the connections; none is opened before it is used.
    ///
    /// # Errors
    /// [`ListenError::Tls`] if the certificates cannot be used.
    pub fn new(own: u64, tls: &ApiTls) -> Result<Self, ListenError> {
        // Built once for nothing, so that bad certificates are found at start and not with the first call.
        channel("localhost:1", tls)?;
        Ok(Self { own, tls: Arc::new(tls.clone()), channels: Arc::default() })
    }

    /// The connection to replica `id` at `address` (`host:port`); `None` for this replica and for a bad address.
    pub fn get(&self, id: u64, address: &str) -> Option<Channel> {
        if id == self.own {
            return None;
        }
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = channels.get(&id).filter(|(known, _)| known == address) {
            return Some(channel.clone());
        }
        match channel(address, &self.tls) {
            Ok(channel) => {
                channels.insert(id, (address.to_owned(), channel.clone()));
                Some(channel)
            }
            Err(error) => {
                tracing::warn!(replica = id, %error, "its API address cannot be used");
                None
            }
        }
    }

    /// The replica these connections belong to.
    pub fn own(&self) -> u64 {
        self.own
    }
}

fn channel(address: &str, tls: &ApiTls) -> Result<Channel, ListenError> {
    let fault = |error: tonic::transport::Error| ListenError::Tls {
        part: "connection to another replica",
        reason: format!("{address}: {error}"),
    };
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&tls.api_ca))
        .identity(Identity::from_pem(&tls.peer_cert, &tls.peer_key))
        .domain_name(API_SERVER_NAME);
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .map_err(fault)?
        .tls_config(tls)
        .map_err(fault)?
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_MAX)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_with_connector_lazy(hanse_cork::connector(None, CONNECT_MAX)))
}

/// Puts a [`Front`] before the services.
#[derive(Clone)]
pub struct FrontLayer {
    context: Context,
}

impl FrontLayer {
    /// The layer for this replica.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl<S> Layer<S> for FrontLayer {
    type Service = Front<S>;
    fn layer(&self, inner: S) -> Front<S> {
        Front { inner, context: self.context.clone() }
    }
}

/// Answers here or hands on; see the head of this module.
#[derive(Clone)]
pub struct Front<S> {
    inner: S,
    context: Context,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        let origin = take_origin(&mut request, |id| self.context.is_gone(id));
        let path = request.uri().path();
        let local = LOCAL.iter().any(|known| path == *known || (known.ends_with('/') && path.starts_with(known)));
        let leadership = if local { Leadership::Me } else { self.context.leadership() };
        match leadership {
            Leadership::Me => {
                request.extensions_mut().insert(origin);
                // The clone that was polled ready is the one that is called (tower's rule for cloned services).
                let waiting = self.inner.clone();
                let mut ready = std::mem::replace(&mut self.inner, waiting);
                Box::pin(async move { ready.call(request).await })
            }
            Leadership::Other { id, api } if origin.via.is_none() => {
                let peers = self.context.peers().clone();
                Box::pin(async move { Ok(forward(&peers, id, api, &origin, request).await) })
            }
            Leadership::Other { api, .. } => refuse(ApiError::not_leader(Some(api))),
            Leadership::Nobody => refuse(ApiError::not_leader(None)),
        }
    }
}

fn refuse(error: ApiError) -> Answer {
    Box::pin(std::future::ready(Ok(Status::from(error).into_http())))
}

/// Takes our own headers off the request and returns what may be believed of them.
fn take_origin(request: &mut Request<Body>, is_gone: impl FnOnce(u64) -> bool) -> Origin {
    let caller = request.extensions().get::<Caller>().cloned();
    let forwarded = request.headers_mut().remove(FORWARDED_HEADER);
    let told = request.headers_mut().remove(SOURCE_HEADER);
    let remote = caller.as_ref().map_or_else(|| "unknown".to_string(), |caller| caller.remote.ip().to_string());
    match (caller.and_then(|caller| caller.replica), forwarded) {
        // The certificate of a removed replica proves nothing any more.
        (Some(replica), Some(_)) if !is_gone(replica) => {
            let told = told.and_then(|value| value.to_str().map(str::to_string).ok());
            let told = told.filter(|source| !source.is_empty() && source.len() <= SOURCE_CHARS_MAX);
            Origin { source: told.unwrap_or(remote), via: Some(replica) }
        }
        _ => Origin { source: remote, via: None },
    }
}

async fn forward(peers: &Peers, id: u64, api: String, origin: &Origin, request: Request<Body>) -> Response<Body> {
    let Some(channel) = peers.get(id, &api) else {
        return Status::from(ApiError::not_leader(Some(api))).into_http();
    };
    let (mut parts, body) = request.into_parts();
    parts.extensions.clear();
    parts.headers.insert(FORWARDED_HEADER, HeaderValue::from(peers.own()));
    if let Ok(source) = HeaderValue::from_str(&origin.source) {
        parts.headers.insert(SOURCE_HEADER, source);
    }
    let call = channel.oneshot(Request::from_parts(parts, body));
    let mut response = match tokio::time::timeout(ANSWER_MAX, call).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::debug!(leader = id, %error, "forwarding failed");
            // Only a connection that never came about proves that the leader saw nothing of the call.
            let failed =
                if never_connected(&error) { ApiError::leader_unreachable(api) } else { ApiError::outcome_unknown() };
            return Status::from(failed).into_http();
        }
        Err(_) => return Status::from(ApiError::outcome_unknown()).into_http(),
    };
    if let Ok(hint) = HeaderValue::from_str(&api) {
        response.headers_mut().insert(LEADER_TRAILER, hint);
    }
    response
}

fn never_connected(error: &tonic::transport::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
