//! The server: accepts connections, lets in who may ask, and hands the rest to jsonrpsee.
//!
//! One port serves JSON-RPC over HTTP and WebSocket, `/health`, `/ready` and `/metrics`; a second one, if configured,
//! serves the last three alone. Every wait has a limit: for the head of a request, for the whole of it, for the end of
//! what is under way when the node stops.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::server::{HttpBody, HttpResponse, StopHandle, ws};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::Services;
use super::access::{Access, Refusal};
use super::flow::{Flow, Paced};
use crate::node::Shared;
use crate::{metrics, ready};

/// The head of a request must be there by then; also how long a connection may idle.
const HEAD_MAX: Duration = Duration::from_secs(75);
/// A request must be read and answered by then.
const REQUEST_MAX: Duration = Duration::from_secs(120);
/// When the node stops, what is under way may take so long.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted (no descriptors are left, for instance).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Connections to the port for metrics.
const METRICS_CONNECTIONS_MAX: usize = 32;

/// Held as long as a session lives.
type Session = mpsc::Sender<()>;

/// What the requests of one connection have in common.
#[derive(Clone)]
struct Connection {
    from: SocketAddr,
    flow: Arc<Flow>,
    session: Session,
}

/// What a port serves.
pub(super) enum Port {
    /// Everything.
    Rpc { services: Box<Services>, access: Access, stop: StopHandle },
    /// `/metrics`, `/health` and `/ready`.
    Metrics,
}

/// Serves a port until `stop`, then lets what is under way finish.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, port: Port, stop: CancellationToken) {
    let limit = match &port {
        Port::Rpc { .. } => shared.rpc.config.connections_max as usize,
        Port::Metrics => METRICS_CONNECTIONS_MAX,
    };
    let (port, places) = (Arc::new(port), Arc::new(Semaphore::new(limit)));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            shared.metrics.refused("connections");
            tracing::debug!(%from, limit, "a connection is refused, all places are taken");
            continue;
        };
        let (shared, port, stop) = (Arc::clone(&shared), Arc::clone(&port), stop.clone());
        connections.spawn(async move {
            shared.metrics.connections.fetch_add(1, Ordering::Relaxed);
            connection(Arc::clone(&shared), port, stream, from, stop).await;
            shared.metrics.connections.fetch_sub(1, Ordering::Relaxed);
            drop(place);
        });
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_MAX, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(left = connections.len(), "requests are cut off after {} s", DRAIN_MAX.as_secs());
    }
}

async fn connection(
    shared: Arc<Shared>,
    port: Arc<Port>,
    stream: TcpStream,
    from: SocketAddr,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%from, %error, "no TCP_NODELAY");
    }
    // A WebSocket session outlives the HTTP connection; its end is waited for here, so that it keeps its place.
    let (session, mut sessions) = mpsc::channel::<()>(1);
    exchange(shared, port, stream, from, stop, session).await;
    // Nothing is ever sent: this ends when the last holder, a WebSocket session, is gone.
    let _ = sessions.recv().await;
}

async fn exchange(
    shared: Arc<Shared>,
    port: Arc<Port>,
    stream: TcpStream,
    from: SocketAddr,
    stop: CancellationToken,
    session: Session,
) {
    let service = match &*port {
        Port::Rpc { services, stop, .. } => Some(services.build(stop.clone())),
        Port::Metrics => None,
    };
    let flow = Arc::new(Flow::default());
    let paced = Paced::new(stream, Arc::clone(&flow));
    let connection = Connection { from, flow, session };
    let handle = service_fn(move |request: Request<Incoming>| {
        let (shared, port) = (Arc::clone(&shared), Arc::clone(&port));
        let (service, connection) = (service.clone(), connection.clone());
        async move {
            let answer = match (&*port, service) {
                (Port::Rpc { access, .. }, Some(service)) => rpc(&shared, access, service, request, connection).await,
                (Port::Rpc { .. } | Port::Metrics, _) => page(&shared, &request).unwrap_or_else(not_found),
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(paced), handle)
        .with_upgrades();
    tokio::pin!(served);
    let result = tokio::select! {
        result = &mut served => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%from, %error, "a client's connection ended");
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("(not text)"))
}

async fn rpc(
    shared: &Arc<Shared>,
    access: &Access,
    service: super::Service,
    mut request: Request<Incoming>,
    connection: Connection,
) -> HttpResponse {
    let headers = request.headers();
    let origin = headers.get(header::ORIGIN).cloned();
    let host = text_of(headers, &header::HOST).or_else(|| request.uri().host());
    let is_websocket = ws::is_upgrade_request(&request);
    let admitted = access
        .check_host(host)
        .and_then(|()| access.check_origin(text_of(headers, &header::ORIGIN)))
        .map_err(|refusal| refuse(shared, refusal));
    if let Err(answer) = admitted {
        return answer;
    }
    if request.method() == Method::OPTIONS {
        return with_origin(preflight(), origin);
    }
    // Whether the node lives may be asked by anyone who reaches it.
    let is_metrics = request.uri().path() == "/metrics";
    if let Some(answer) = page(shared, &request).filter(|_| !is_metrics) {
        return with_origin(answer, origin);
    }
    let authorization = text_of(headers, &header::AUTHORIZATION);
    let client = match access.identify(authorization, connection.from.ip(), is_websocket, &connection.flow) {
        Ok(client) => client,
        Err(refusal) => return with_origin(refuse(shared, refusal), origin),
    };
    if is_metrics && request.method() == Method::GET {
        return page(shared, &request).unwrap_or_else(not_found);
    }
    if !is_websocket && request.method() != Method::POST {
        return with_origin(usage(), origin);
    }
    if is_websocket {
        client.flow.note_websocket();
    }
    request.extensions_mut().insert(client);
    with_origin(call(service, request, is_websocket, connection.session).await, origin)
}

/// Hands the request to jsonrpsee.
async fn call(
    mut service: super::Service,
    request: Request<Incoming>,
    is_websocket: bool,
    session: Session,
) -> HttpResponse {
    if is_websocket {
        let closed = service.on_session_closed();
        tokio::spawn(async move {
            closed.await;
            drop(session);
        });
    }
    match tokio::time::timeout(REQUEST_MAX, service.call(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::error!(error, "a request failed");
            text(StatusCode::INTERNAL_SERVER_ERROR, "internal error, see the node's log\n")
        }
        Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the request took too long\n"),
    }
}

/// The pages that are no JSON-RPC; `None` for all others.
fn page(shared: &Shared, request: &Request<Incoming>) -> Option<HttpResponse> {
    if request.method() != Method::GET {
        return None;
    }
    match request.uri().path() {
        // To answer at all is what is asked.
        "/health" => Some(json_answer(StatusCode::OK, &json!({ "alive": true }))),
        "/ready" => {
            let answer = ready::check(shared);
            let status = if answer.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            Some(json_answer(status, &json!(answer)))
        }
        "/metrics" => {
            let body = metrics::page(shared);
            Some(typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body))
        }
        _ => None,
    }
}

fn refuse(shared: &Shared, refusal: Refusal) -> HttpResponse {
    shared.metrics.refused(refusal.name());
    let status = match refusal {
        Refusal::Host | Refusal::Origin => StatusCode::FORBIDDEN,
        Refusal::NoToken | Refusal::WrongToken => StatusCode::UNAUTHORIZED,
    };
    let error = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32001, "message": refusal.words() } });
    let mut answer = json_answer(status, &error);
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// A page that is let in may read the answer.
fn with_origin(mut answer: HttpResponse, origin: Option<HeaderValue>) -> HttpResponse {
    if let Some(origin) = origin {
        answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    answer
}

fn preflight() -> HttpResponse {
    let mut answer = text(StatusCode::NO_CONTENT, "");
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type, authorization"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    answer
}

fn usage() -> HttpResponse {
    let words = "JSON-RPC by POST or WebSocket; GET has /health, /ready and /metrics\n";
    text(StatusCode::METHOD_NOT_ALLOWED, words)
}

fn not_found() -> HttpResponse {
    text(StatusCode::NOT_FOUND, "GET has /health, /ready and /metrics\n")
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> HttpResponse {
    typed(status, "application/json; charset=utf-8", format!("{body}\n"))
}

fn text(status: StatusCode, body: &'static str) -> HttpResponse {
    typed(status, "text/plain; charset=utf-8", body.to_owned())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> HttpResponse {
    let mut answer = Response::new(HttpBody::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
