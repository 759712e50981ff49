//! JSON-RPC over one kept HTTP connection, one request after the other.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// A connection to one node.
#[derive(Debug)]
pub(crate) struct Rpc {
    sender: SendRequest<Full<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Rpc {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Rpc {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true).context("set a socket's option")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("begin HTTP")?;
        // It ends with an error when the node is killed, which the next request reports.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }

    /// Sends a body as it is; returns the answer.
    pub(crate) async fn post(&mut self, body: String) -> Result<Value> {
        let request = Request::post("/")
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .context("make a request")?;
        self.sender.ready().await.context("the connection")?;
        let answer = self.sender.send_request(request).await.context("a request")?;
        let status = answer.status();
        let body = answer.into_body().collect().await.context("an answer")?.to_bytes();
        if !status.is_success() {
            bail!("HTTP {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).context("an answer that is no JSON")
    }

    /// One call; an error of the node is an error.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let mut answer = self.post(body).await.with_context(|| method.to_owned())?;
        match answer.get("error") {
            Some(error) => bail!("{method}: {error}"),
            None => Ok(answer["result"].take()),
        }
    }

    pub(crate) async fn height(&mut self) -> Result<u64> {
        number(&self.call("eth_blockNumber", json!([])).await?)
    }

    /// How many transactions block `height` holds.
    pub(crate) async fn transactions(&mut self, height: u64) -> Result<usize> {
        let block = self.call("eth_getBlockByNumber", json!([format!("{height:#x}"), false])).await?;
        Ok(block["transactions"].as_array().with_context(|| format!("block {height} is not there"))?.len())
    }
}

/// A number as Ethereum writes it.
pub(crate) fn number(value: &Value) -> Result<u64> {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x")).context("a number with 0x")?;
    u64::from_str_radix(digits, 16).context("a hexadecimal number")
}
