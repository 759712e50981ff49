//! What a client needs to know before its first call.

use std::time::Duration;

/// Where the replicas are and whom to trust.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` (or `https://host:port`) of any replicas, tried in this order; 1 to 16.
    pub endpoints: Vec<String>,
    /// PEM of the API's certificate authority; no other authority is trusted.
    pub ca_pem: String,
    /// Session token; `None` before the first login.
    pub token: Option<String>,
    /// Name that the certificates must carry; by default the fixed name every API certificate has.
    pub server_name: String,
    /// How long things may take.
    pub timeouts: Timeouts,
}

impl ClientConfig {
    /// Returns a configuration without a token and with the usual limits.
    pub fn new(endpoints: Vec<String>, ca_pem: impl Into<String>) -> ClientConfig {
        ClientConfig {
            endpoints,
            ca_pem: ca_pem.into(),
            token: None,
            server_name: hanse_proto::API_SERVER_NAME.to_owned(),
            timeouts: Timeouts::default(),
        }
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// One connection to one replica.
    pub connect: Duration,
    /// One attempt of a call.
    pub attempt: Duration,
    /// A whole call with all its repeats.
    pub overall: Duration,
    /// A silent connection is probed after this and given up after as long again.
    pub keep_alive: Duration,
    /// A watch without even a heartbeat for this long is given up and opened anew.
    pub watch_silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(3),
            attempt: Duration::from_secs(10),
            overall: Duration::from_secs(30),
            keep_alive: Duration::from_secs(5),
            watch_silence: Duration::from_secs(15),
        }
    }
}
