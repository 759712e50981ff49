//! JSON-RPC over HTTP/1.1 through a dialled stream: one connection and one request per call or batch.
//!
//! What the transport does wrong is the host's ([`EngineError::Host`]); what the node says is the node's.
//! Time and size are bounded. It never retries and never reuses a connection that may be stale.

use std::time::Duration;

use bytes::Bytes;
use hanse_adapters_core::{Adapter, AdapterError};
use hanse_engines_core::{EngineError, NodePlan, Result};
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};

/// How long one call may take, the dialling included.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// JSON-RPC's own code for a failure inside the node, which says nothing about the request.
const INTERNAL_ERROR: i64 = -32603;
/// "Limit exceeded" (EIP-1474): nothing is wrong with the request, and it may succeed later.
const LIMIT_EXCEEDED: i64 = -32005;

/// A port of one node behind which JSON-RPC is spoken.
pub struct Rpc<'a> {
    host: &'a dyn Adapter,
    node: &'a NodePlan,
    port: u16,
    /// Whether a lost answer leaves it open what happened.
    changes: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    result: Value,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    message: String,
    /// Some nodes say here what is wrong, and in `message` nothing.
    #[serde(default)]
    data: Value,
}

impl Refusal {
    fn words(self) -> String {
        match self.data.as_str() {
            Some(data) if !data.is_empty() && !data.starts_with("0x") => format!("{}: {data}", self.message),
            _ => self.message,
        }
    }
}

impl<'a> Rpc<'a> {
    /// For questions at the clients' port: a lost answer is `Transient`.
    pub fn new(host: &'a dyn Adapter, node: &'a NodePlan) -> Self {
        Self { host, node, port: node.rpc_port, changes: false }
    }

    /// For what changes the chain: a lost answer is `Unknown`.
    pub fn changing(host: &'a dyn Adapter, node: &'a NodePlan) -> Self {
        Self { changes: true, ..Self::new(host, node) }
    }

    /// The same at another port of the node.
    #[must_use]
    pub fn at(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Returns the result of one call.
    ///
    /// # Errors
    /// `Host` if nothing was heard or the node failed inside, `NotNow` if it is busy, `Node` with what it said otherwise.
    pub async fn one(&self, method: &str, params: Value) -> Result<Value> {
        let body = self.post(&request(0, method, &params)).await?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|e| self.unreadable(format!("no JSON-RPC answer: {e}")))?;
        self.result(answer)
    }

    /// Returns the results of several calls in one request, in their order.
    ///
    /// # Errors
    /// As [`Rpc::one`], for the first of them that failed.
    pub async fn all(&self, calls: &[(&str, Value)]) -> Result<Vec<Value>> {
        let batch: Vec<_> =
            calls.iter().enumerate().map(|(id, (method, params))| request(id, method, params)).collect();
        let body = self.post(&json!(batch)).await?;
        let told: Value =
            serde_json::from_slice(&body).map_err(|e| self.unreadable(format!("no JSON-RPC answers: {e}")))?;
        let unread = |e: serde_json::Error| self.unreadable(format!("no JSON-RPC answers: {e}"));
        if told.is_object() {
            // CometBFT answers a batch of one so, and to more of them if it refused the batch or failed in the middle of it.
            let result = self.result(serde_json::from_value(told).map_err(unread)?)?;
            return if calls.len() == 1 { Ok(vec![result]) } else { Err(self.said("one answer to a batch".into())) };
        }
        let mut answers: Vec<Answer> = serde_json::from_value(told).map_err(unread)?;
        let mut results = Vec::with_capacity(calls.len());
        for id in 0..calls.len() {
            let at = answers.iter().position(|answer| answer.id == json!(id));
            let at = at.ok_or_else(|| self.said("an answer of the batch is missing".into()))?;
            results.push(self.result(answers.swap_remove(at))?);
        }
        Ok(results)
    }

    fn result(&self, answer: Answer) -> Result<Value> {
        match answer.error {
            None => Ok(answer.result),
            Some(refusal) if refusal.code == INTERNAL_ERROR => Err(self.lost(refusal.words())),
            Some(refusal) if refusal.code == LIMIT_EXCEEDED => Err(self.not_now(refusal.words())),
            Some(refusal) => Err(self.said(refusal.words())),
        }
    }

    async fn post(&self, body: &Value) -> Result<Bytes> {
        match tokio::time::timeout(CALL_LIMIT, self.exchange(body)).await {
            Ok(result) => result,
            Err(_) => Err(self.lost(format!("no answer within {} s", CALL_LIMIT.as_secs()))),
        }
    }

    async fn exchange(&self, body: &Value) -> Result<Bytes> {
        let stream = self.host.dial(self.port).await.map_err(EngineError::Host)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|e| self.lost(e.to_string()))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri("/")
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|e| self.lost(e.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| self.lost(e.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|e| self.lost(format!("the answer cannot be read: {e}")))?.to_bytes();
            if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                return Err(self.not_now(format!("HTTP {status}")));
            }
            if !status.is_success() {
                return Err(self.said(format!("HTTP {status}; is another program on port {}?", self.port)));
            }
            Ok(body)
        };
        tokio::pin!(answer, connection);
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                done = &mut answer => return done,
                // Its end is told to `answer` as well, which may still have bytes to take.
                _ = &mut connection, if open => open = false,
            }
        }
    }

    /// The node said something that is no answer, or no.
    fn said(&self, reason: String) -> EngineError {
        EngineError::Node { node: self.node.key.to_string(), reason }
    }

    /// The node refused before it did anything, and says that this passes.
    fn not_now(&self, reason: String) -> EngineError {
        EngineError::NotNow { node: self.node.key.to_string(), reason }
    }

    /// Something came that is no answer: of a change nobody knows then whether it happened.
    fn unreadable(&self, reason: String) -> EngineError {
        if self.changes { self.lost(reason) } else { self.said(reason) }
    }

    /// Nothing was heard.
    fn lost(&self, reason: String) -> EngineError {
        let subject = format!("node {}", self.node.key);
        EngineError::Host(if self.changes {
            AdapterError::Unknown { subject, reason }
        } else {
            AdapterError::Transient { subject, reason }
        })
    }
}

fn request(id: usize, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}
