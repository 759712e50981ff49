//! Connections of a client with a cork on them, for tonic's `connect_with_connector_lazy`.
//!
//! The cork lies below TLS, because tonic puts TLS on whatever a connector gives: the records stay small, but go out
//! together.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::ServiceExt as _;
use tower::util::MapResponse;

use crate::Corked;

/// Gives corked TCP connections.
pub type Connector = MapResponse<HttpConnector, fn(TokioIo<TcpStream>) -> TokioIo<Corked<TcpStream>>>;

/// A connector without Nagle's delay. `keep_alive`: when TCP looks after an idle connection; `connect_timeout`: how long it
/// may take until there is one, for all addresses of a name together.
pub fn connector(keep_alive: Option<Duration>, connect_timeout: Duration) -> Connector {
    let mut tcp = HttpConnector::new();
    // The scheme is https; TLS comes on top.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(keep_alive);
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.map_response(|stream| TokioIo::new(Corked::new(stream.into_inner())))
}
