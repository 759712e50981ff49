//! JSON-RPC over HTTP: Ethereum's methods as far as the README lists them, and `consensus_*`.
//!
//! Handlers are plain functions from the shared state and parameters to a JSON value; they run on
//! blocking threads, because they read the store and run the EVM. Nothing here changes the chain;
//! a transaction only goes to the pool.

mod consensus;
mod eth;
mod governance;
mod logs;
mod simulate;
mod types;

use std::sync::Arc;

use jsonrpsee::RpcModule;
use jsonrpsee::server::{BatchRequestConfig, Server, ServerConfig, ServerHandle};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::NodeError;
use crate::node::Shared;

/// Largest request; a transaction has at most 1 MB.
const REQUEST_BYTES_MAX: u32 = 4 << 20;
/// Largest answer; a full block with its transactions fits.
const RESPONSE_BYTES_MAX: u32 = 32 << 20;
/// Connections at once.
const CONNECTIONS_MAX: u32 = 256;
/// Calls in one batch.
const BATCH_MAX: u32 = 100;

type Reply = Result<Value, ErrorObjectOwned>;
type Handler = fn(&Shared, Params<'_>) -> Reply;

/// Starts the server on an open listener.
///
/// # Errors
/// The listener cannot be taken over or a method is registered twice.
pub(crate) fn start(shared: Arc<Shared>, listener: TcpListener) -> Result<ServerHandle, NodeError> {
    let rpc = |e: std::io::Error| NodeError::Rpc(e.to_string());
    let config = ServerConfig::builder()
        .max_request_body_size(REQUEST_BYTES_MAX)
        .max_response_body_size(RESPONSE_BYTES_MAX)
        .max_connections(CONNECTIONS_MAX)
        .set_batch_request_config(BatchRequestConfig::Limit(BATCH_MAX))
        .http_only()
        .build();
    let server = Server::builder().set_config(config).build_from_tcp(listener.into_std().map_err(rpc)?).map_err(rpc)?;
    Ok(server.start(module(shared)?))
}

fn module(shared: Arc<Shared>) -> Result<RpcModule<Shared>, NodeError> {
    let mut module = RpcModule::from_arc(shared);
    for (name, handler) in eth::METHODS.iter().chain(consensus::METHODS).chain(governance::METHODS) {
        let handler = *handler;
        module
            .register_blocking_method(name, move |params, shared, _| handler(&shared, params))
            .map_err(|e| NodeError::Rpc(e.to_string()))?;
    }
    Ok(module)
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
