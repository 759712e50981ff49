//! Asks a node's JSON-RPC over plain HTTP, one request a connection, as far as `node govern` and questions for anchors need it.
//!
//! It speaks no TLS: run the command on the node's host or through a tunnel.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};

use crate::NodeError;

/// A node that does not answer for so long is not there.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// Where to ask.
pub(crate) struct Client {
    /// `host:port`.
    authority: String,
    path: String,
    token: Option<String>,
}

impl Client {
    /// A client of `http://host:port[/path]`.
    pub(crate) fn new(url: &str, token: Option<String>) -> Result<Self, NodeError> {
        let bad = || NodeError::invalid("--rpc", "url", format!("\"{url}\""), "write http://host:port");
        let rest = url.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
            return Err(bad());
        }
        Ok(Self { authority: authority.to_owned(), path: format!("/{path}"), token })
    }

    /// The result of a call.
    ///
    /// # Errors
    /// The node cannot be reached, or refuses; its words are in the error. A call that sends may have had effect.
    pub(crate) fn call(&self, method: &str, params: Value) -> Result<Value, NodeError> {
        let failed = |reason: String| NodeError::Asked(format!("{method} at {}: {reason}", self.authority));
        let answer = self.exchange(method, params).map_err(|error| failed(error.to_string()))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed("no HTTP answer".to_owned()))?;
        let status = head.lines().next().unwrap_or_default();
        if !status.contains(" 200") {
            return Err(failed(format!("{status}: {}", body.trim())));
        }
        let mut answer: Value = serde_json::from_str(body.trim()).map_err(|error| failed(error.to_string()))?;
        match answer.get("error") {
            Some(error) => Err(failed(error["message"].as_str().unwrap_or("refused").to_owned())),
            None => Ok(answer["result"].take()),
        }
    }

    fn exchange(&self, method: &str, params: Value) -> std::io::Result<String> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let address = self.authority.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let token = self.token.as_ref().map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        // HTTP 1.0: the answer ends with the connection and comes in one piece.
        write!(
            stream,
            "POST {} HTTP/1.0\r\nHost: {}\r\n{token}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.path,
            self.authority,
            body.len()
        )?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    }
}
