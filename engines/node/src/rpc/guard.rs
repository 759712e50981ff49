//! Stands before every JSON-RPC call, single or in a batch, over HTTP or WebSocket: rates, a bound on calls that run at
//! once, counting, and errors that say what to do.
//!
//! It never looks into parameters or answers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::server::{BatchResponseBuilder, MethodResponse};
use jsonrpsee::types::{ErrorObjectOwned, Id, Request};
use serde_json::json;
use tokio::sync::Semaphore;

use super::access::Client;
use crate::metrics::CallOutcome;
use crate::node::Shared;

/// How long a call waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(30);
/// What is counted under this name is no method of this node.
const UNKNOWN: &str = "unknown";

/// What all connections share.
pub(super) struct GuardState {
    shared: Arc<Shared>,
    /// Names of all methods, sorted.
    methods: Vec<&'static str>,
    turns: Semaphore,
    response_bytes_max: usize,
}

impl GuardState {
    pub(super) fn new(shared: Arc<Shared>, mut methods: Vec<&'static str>) -> Self {
        methods.sort_unstable();
        let config = &shared.rpc.config;
        let (turns, response_bytes_max) =
            (Semaphore::new(config.running_max as usize), config.response_bytes_max as usize);
        Self { shared, methods, turns, response_bytes_max }
    }

    fn known(&self, method: &str) -> Option<&'static str> {
        self.methods.binary_search(&method).ok().map(|place| self.methods[place])
    }

    /// Why the call is not run, if so.
    fn refusal(&self, method: &str, client: Option<&Client>) -> Option<ErrorObjectOwned> {
        let Some(client) = client else { return Some(failed("the request has no client")) };
        if let Err(wait) = client.take() {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            return Some(limited(&format!("rate limit exceeded; try again in {millis} ms"), millis));
        }
        if self.known(method).is_none() {
            let message = format!("the method {method} does not exist/is not available");
            return Some(ErrorObjectOwned::owned(-32601, message, None::<()>));
        }
        if !client.is_websocket && matches!(method, "eth_subscribe" | "eth_unsubscribe") {
            let message = "notifications not supported over HTTP; connect by WebSocket to the same address";
            return Some(ErrorObjectOwned::owned(-32601, message, None::<()>));
        }
        None
    }
}

/// Counted as running while it lives, also if the caller goes away.
struct Running<'a>(&'a AtomicU64);

impl<'a> Running<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.metrics.running.fetch_add(1, Ordering::Relaxed);
        Self(&shared.metrics.running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The call may be repeated after this time.
fn limited(message: &str, retry_after_ms: u64) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32005, message, Some(json!({ "retry_after_ms": retry_after_ms })))
}

fn failed(message: &str) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32603, message, None::<()>)
}

/// The service in front of jsonrpsee's own.
#[derive(Clone)]
pub(super) struct Guard<S> {
    pub(super) inner: S,
    pub(super) state: Arc<GuardState>,
}

impl<S> RpcServiceT for Guard<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse, NotificationResponse = MethodResponse>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let Self { inner, state } = self.clone();
        let client = request.extensions().get::<Client>().cloned();
        // Counted from now on, not from its first step: calls that wait for a processor wait in memory.
        let under_way = client.as_ref().map(|client| client.flow.call());
        async move {
            let start = Instant::now();
            let method = state.known(request.method_name()).unwrap_or(UNKNOWN);
            let answer = match state.refusal(request.method_name(), client.as_ref()) {
                Some(error) => MethodResponse::error(request.id, error),
                None => match tokio::time::timeout(TURN_MAX, state.turns.acquire()).await {
                    Ok(Ok(_turn)) => {
                        let running = Running::new(&state.shared);
                        let answer = inner.call(request).await;
                        drop(running);
                        answer
                    }
                    Ok(Err(_)) => MethodResponse::error(request.id, failed("the node stops")),
                    Err(_) => MethodResponse::error(request.id, limited("the node is busy; try again later", 1_000)),
                },
            };
            let outcome = CallOutcome::of_code(answer.as_error_code());
            state.shared.metrics.called(method, outcome, start.elapsed());
            drop(under_way);
            answer
        }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            let mut answers = BatchResponseBuilder::new_with_limit(service.state.response_bytes_max);
            let mut has_notification = false;
            for entry in batch {
                let answer = match entry {
                    Ok(BatchEntry::Call(request)) => service.call(request).await,
                    Ok(BatchEntry::Notification(_)) => {
                        has_notification = true;
                        continue;
                    }
                    Err(error) => {
                        let (error, id) = error.into_parts();
                        MethodResponse::error(id, error)
                    }
                };
                if let Err(too_large) = answers.append(answer) {
                    return too_large;
                }
            }
            if answers.is_empty() && has_notification {
                return MethodResponse::notification();
            }
            if answers.is_empty() {
                return MethodResponse::error(Id::Null, ErrorObjectOwned::owned(-32600, "empty batch", None::<()>));
            }
            MethodResponse::from_batch(answers.finish())
        }
    }

    fn notification<'a>(&self, notification: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        // No method of this node has an effect that is worth asking for without an answer.
        drop(notification);
        std::future::ready(MethodResponse::notification())
    }
}
