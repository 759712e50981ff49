//! JSON-RPC over HTTP and WebSocket: Ethereum's methods as far as docs/ledger.md lists them, and `consensus_*`.
//!
//! Handlers are plain functions from the shared state and parameters to a JSON value; they run on
//! blocking threads, because they read the store and run the EVM. Nothing here changes the chain;
//! a transaction only goes to the pool. `http` accepts and lets in, `guard` bounds and counts the calls.

mod access;
mod anchor;
mod consensus;
mod eth;
mod evm;
mod fees;
mod filters;
mod flow;
mod governance;
mod guard;
mod http;
mod logs;
mod simulate;
mod state;
mod subscribe;
mod trace;
mod txpool;
mod types;

use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::RpcModule;
use jsonrpsee::core::middleware::RpcServiceBuilder;
use jsonrpsee::server::{
    BatchRequestConfig, Methods, PingConfig, RegisterMethodError, Server, ServerConfig, StopHandle, TowerService,
    TowerServiceBuilder, stop_channel,
};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::layer::util::{Identity, Stack};

use self::access::Access;
use self::guard::{Guard, GuardState};
use self::http::Port;
use crate::NodeError;
use crate::config::RpcConfig;
use crate::node::Shared;

/// Messages that wait for one WebSocket client; what is behind them waits in the store.
const MESSAGES_MAX: u32 = 64;
/// Subscriptions that read the store at once; each takes a moment for each block.
const READERS_MAX: usize = 4;
/// A WebSocket client that answers no ping for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

type Reply = Result<Value, ErrorObjectOwned>;
type Handler = fn(&Shared, Params<'_>) -> Reply;
type Layer = Stack<GuardLayer, Identity>;
type Service = TowerService<Layer, Identity>;

/// What the handlers keep between calls.
pub(crate) struct RpcState {
    pub(crate) config: RpcConfig,
    filters: filters::Filters,
    /// Turns of subscriptions to read the store.
    readers: Semaphore,
}

impl RpcState {
    pub(crate) fn new(config: RpcConfig) -> Self {
        Self { config, filters: filters::Filters::default(), readers: Semaphore::new(READERS_MAX) }
    }
}

/// The listeners, open before anything else starts.
pub(crate) struct Listeners {
    pub(crate) rpc: TcpListener,
    pub(crate) metrics: Option<TcpListener>,
}

/// Starts the servers on open listeners as tasks that end some seconds after `stop` at the latest.
///
/// # Errors
/// A method is registered twice.
pub(crate) fn spawn(
    shared: &Arc<Shared>,
    listeners: Listeners,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<(), NodeError> {
    let methods = module(Arc::clone(shared)).map_err(|e| NodeError::Rpc(e.to_string()))?;
    let access = Access::new(&shared.rpc.config);
    let (stop_handle, server_handle) = stop_channel();
    let services = Box::new(Services::new(shared, methods.into()));
    let port = Port::Rpc { services, access, stop: stop_handle };
    tasks.spawn(http::serve(Arc::clone(shared), listeners.rpc, port, stop.clone()));
    // jsonrpsee's sessions know only its own handle.
    let stopped = stop.clone();
    tasks.spawn(async move {
        stopped.cancelled().await;
        let _ = server_handle.stop();
    });
    if let Some(listener) = listeners.metrics {
        tasks.spawn(http::serve(Arc::clone(shared), listener, Port::Metrics, stop.clone()));
    }
    Ok(())
}

/// Puts the guard before the calls of a connection.
#[derive(Clone)]
struct GuardLayer(Arc<GuardState>);

impl<S> tower::Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, state: Arc::clone(&self.0) }
    }
}

/// Makes the service of each connection.
struct Services {
    methods: Methods,
    builder: TowerServiceBuilder<Layer, Identity>,
}

impl Services {
    fn new(shared: &Arc<Shared>, methods: Methods) -> Self {
        let config = &shared.rpc.config;
        let server = ServerConfig::builder()
            .max_request_body_size(config.request_bytes_max)
            .max_response_body_size(config.response_bytes_max)
            // Connections are bounded before; a connection has at most one request under way.
            .max_connections(u32::MAX >> 4)
            .max_subscriptions_per_connection(config.subscriptions_max)
            .set_batch_request_config(BatchRequestConfig::Limit(config.batch_max))
            .set_message_buffer_capacity(MESSAGES_MAX)
            .set_id_provider(subscribe::Ids)
            .enable_ws_ping(PingConfig::new().inactive_limit(SILENCE_MAX))
            .build();
        let guard = GuardLayer(Arc::new(GuardState::new(Arc::clone(shared), methods.method_names().collect())));
        let builder = Server::builder().set_config(server).to_service_builder();
        Self { methods, builder: builder.set_rpc_middleware(RpcServiceBuilder::new().layer(guard)) }
    }

    fn build(&self, stop: StopHandle) -> Service {
        self.builder.clone().build(self.methods.clone(), stop)
    }
}

fn module(shared: Arc<Shared>) -> Result<RpcModule<Shared>, RegisterMethodError> {
    let mut module = RpcModule::from_arc(Arc::clone(&shared));
    let families = [
        eth::METHODS,
        fees::METHODS,
        filters::METHODS,
        txpool::METHODS,
        trace::METHODS,
        consensus::METHODS,
        governance::METHODS,
        anchor::METHODS,
    ];
    for (name, handler) in families.into_iter().flatten().chain(&[("rpc_modules", modules as Handler)]) {
        let handler = *handler;
        module.register_blocking_method(name, move |params, shared, _| handler(&shared, params))?;
    }
    module.register_subscription(
        "eth_subscribe",
        "eth_subscription",
        "eth_unsubscribe",
        |params, sink, shared, _| subscribe::serve(params, sink, shared),
    )?;
    Ok(module)
}

/// The families of methods and their versions, as other clients answer.
fn modules(_: &Shared, _: Params<'_>) -> Reply {
    Ok(
        json!({ "consensus": "1.0", "debug": "1.0", "eth": "1.0", "net": "1.0", "rpc": "1.0", "txpool": "1.0", "web3": "1.0" }),
    )
}

/// An error with Ethereum clients' general code.
fn refuse(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32000, message, None::<()>)
}

/// A refusal that may pass by itself (EIP-1474, "limit exceeded"): the same request may succeed later.
fn refuse_for_now(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32005, message, None::<()>)
}

/// This node failed; the caller did nothing wrong. The cause goes to the log.
fn internal(error: NodeError) -> ErrorObjectOwned {
    tracing::error!(error = error.chain(), "a request failed");
    ErrorObjectOwned::owned(-32603, "internal error, see the node's log", None::<()>)
}
