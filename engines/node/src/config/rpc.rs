//! `[rpc]` and `[metrics]` of `config.toml`: who may ask the node, and how much.
//!
//! Defaults are for a node whose clients run on its own host. Beyond that, tokens say who asks; a node that is open to
//! anyone must say so in its configuration.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Most tokens of one node; each request is compared with all of them.
pub const TOKENS_MAX: usize = 64;
/// Most host names and origins of one node.
const NAMES_MAX: usize = 64;

/// Access to JSON-RPC and its limits. Unchanged while the node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcConfig {
    /// Whether the node may listen beyond its own host without tokens.
    pub open: bool,
    /// Names under which clients may reach the node, besides `localhost` and IP addresses; `*` admits any. Guards
    /// against pages in a browser that reach the node under a name of their own (DNS rebinding).
    pub hosts: Vec<String>,
    /// Web pages whose scripts may ask the node, as `scheme://host[:port]`; `*` admits any.
    pub origins: Vec<String>,
    /// Connections at once, 1 to 10,000.
    pub connections_max: u32,
    /// Subscriptions on one connection, 1 to 1,000.
    pub subscriptions_max: u32,
    /// Size of a request in bytes, 10,000 to 64 MiB.
    pub request_bytes_max: u32,
    /// Size of an answer in bytes, 1 MB to 256 MiB.
    pub response_bytes_max: u32,
    /// Calls in one batch, 1 to 10,000.
    pub batch_max: u32,
    /// Calls a second of one client (a token, or an address without one); 0 is no limit. Twice as many may come at once.
    pub calls_per_second_max: u32,
    /// Calls that run at once, of all clients, 1 to 256; others wait.
    pub running_max: u32,
    /// Blocks that one question for logs may cover, 1 to 1,000,000.
    pub log_blocks_max: u64,
    /// Logs in one answer, 1 to 1,000,000.
    pub logs_max: usize,
    /// Gas of one `eth_call` or `eth_estimateGas`; 0 is the block's gas limit.
    pub call_gas_max: u64,
    /// Time of one `eth_call` or `eth_estimateGas` in milliseconds, 10 to 60,000.
    pub call_ms_max: u64,
    /// How long a WebSocket client may read nothing before its subscription is cut, in milliseconds, 100 to 600,000.
    pub slow_ms_max: u64,
    /// Who may ask, at most [`TOKENS_MAX`]. With none, everybody who reaches the address.
    pub tokens: Vec<TokenConfig>,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            open: false,
            hosts: Vec::new(),
            origins: Vec::new(),
            connections_max: 256,
            subscriptions_max: 32,
            request_bytes_max: 4 << 20,
            response_bytes_max: 32 << 20,
            batch_max: 100,
            calls_per_second_max: 0,
            running_max: 16,
            log_blocks_max: 10_000,
            logs_max: 10_000,
            call_gas_max: 0,
            call_ms_max: 5_000,
            slow_ms_max: 20_000,
            tokens: Vec::new(),
        }
    }
}

/// One client's token. The file holds only its hash, so that reading the file lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The client's name, for logs and limits; 1 to 64 characters.
    pub name: String,
    /// SHA-256 of the token, 64 hex digits. The token itself is sent as `Authorization: Bearer TOKEN`.
    pub sha256: String,
}

impl TokenConfig {
    /// The hash in bytes, `None` if it is not 64 hex digits.
    pub fn digest(&self) -> Option<[u8; 32]> {
        hex::decode(&self.sha256).ok()?.try_into().ok()
    }
}

/// Where metrics can be read besides the JSON-RPC port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// `ip:port` for `/metrics`, `/health` and `/ready` alone, without tokens; none by default.
    pub listen: Option<SocketAddr>,
}

/// A wrong field: its path below the file, why, what to do.
pub(super) type Wrong = (String, String, &'static str);

impl RpcConfig {
    /// Checks the section for a node that listens at `listen`.
    pub(super) fn check(&self, listen: SocketAddr) -> Result<(), Wrong> {
        if !listen.ip().is_loopback() && self.tokens.is_empty() && !self.open {
            return Err((
                "rpc_listen".to_owned(),
                format!("{listen} can be reached from other hosts, and no token is asked for"),
                "listen on 127.0.0.1, list [[rpc.tokens]], or set rpc.open = true if anyone may ask",
            ));
        }
        self.check_ranges()?;
        for (list, names) in [("hosts", &self.hosts), ("origins", &self.origins)] {
            if names.len() > NAMES_MAX || names.iter().any(|name| name.is_empty() || name.len() > 255) {
                return Err((
                    format!("rpc.{list}"),
                    format!("is no list of at most {NAMES_MAX} names of 1 to 255 characters"),
                    "correct the list",
                ));
            }
        }
        self.check_tokens()
    }

    fn check_ranges(&self) -> Result<(), Wrong> {
        let ranges = [
            ("connections_max", u64::from(self.connections_max), 1, 10_000),
            ("subscriptions_max", u64::from(self.subscriptions_max), 1, 1_000),
            ("request_bytes_max", u64::from(self.request_bytes_max), 10_000, 64 << 20),
            ("response_bytes_max", u64::from(self.response_bytes_max), 1_000_000, 256 << 20),
            ("batch_max", u64::from(self.batch_max), 1, 10_000),
            ("calls_per_second_max", u64::from(self.calls_per_second_max), 0, 1_000_000),
            ("running_max", u64::from(self.running_max), 1, 256),
            ("log_blocks_max", self.log_blocks_max, 1, 1_000_000),
            ("logs_max", self.logs_max as u64, 1, 1_000_000),
            ("call_gas_max", self.call_gas_max, 0, 1_000_000_000),
            ("call_ms_max", self.call_ms_max, 10, 60_000),
            ("slow_ms_max", self.slow_ms_max, 100, 600_000),
        ];
        match ranges.iter().find(|(_, value, low, high)| !(low..=high).contains(&value)) {
            None => Ok(()),
            Some((field, value, low, high)) => Err((
                format!("rpc.{field}"),
                format!("{value} is not in {low} to {high}"),
                "choose a value in the range",
            )),
        }
    }

    fn check_tokens(&self) -> Result<(), Wrong> {
        if self.tokens.len() > TOKENS_MAX {
            let reason = format!("{} are more than {TOKENS_MAX}", self.tokens.len());
            return Err(("rpc.tokens".to_owned(), reason, "list fewer"));
        }
        for (index, token) in self.tokens.iter().enumerate() {
            let others = &self.tokens[..index];
            let (field, reason) = if !(1..=64).contains(&token.name.len()) {
                ("name", "does not have 1 to 64 characters")
            } else if others.iter().any(|other| other.name == token.name) {
                ("name", "is listed twice")
            } else if token.digest().is_none() {
                ("sha256", "is not 64 hex digits")
            } else if others.iter().any(|other| other.digest() == token.digest()) {
                ("sha256", "is listed twice")
            } else {
                continue;
            };
            return Err((
                format!("rpc.tokens[{index}].{field}"),
                reason.to_owned(),
                "make a token and its hash with `node token`",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::NodeConfig;

    const V1: &str = include_str!("../../tests/frozen/config_v1.toml");
    const WITH_RPC: &str = include_str!("../../tests/frozen/config_v1_rpc.toml");

    #[test]
    fn the_frozen_example_reads_and_writes_back() {
        let config = NodeConfig::from_toml(WITH_RPC).unwrap();
        assert_eq!((config.rpc.batch_max, config.rpc.tokens.len()), (50, 1));
        assert_eq!(config.metrics.listen, Some("127.0.0.1:7004".parse().unwrap()));
        assert_eq!(config.to_toml().unwrap(), WITH_RPC);
    }

    #[test]
    fn an_address_beyond_the_host_wants_tokens_or_an_explicit_word() {
        for address in ["0.0.0.0:7002", "10.0.0.5:7002", "[::]:7002"] {
            let text = V1.replace("127.0.0.1:7002", address);
            let error = NodeConfig::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains("field rpc_listen") && error.contains("rpc.open = true"), "{error}");
            NodeConfig::from_toml(&format!("{text}\n[rpc]\nopen = true\n")).unwrap();
        }
    }

    #[test]
    fn errors_name_field_reason_and_remedy() {
        let token = "name = \"explorer\"\nsha256 = \"2bb80d53";
        let cases = [
            (WITH_RPC.replace("batch_max = 50", "batch_max = 0"), "field rpc.batch_max: 0 is not in 1 to 10000"),
            (WITH_RPC.replace("batch_max", "batchmax"), "unknown field `batchmax`"),
            (WITH_RPC.replace("node.example", ""), "field rpc.hosts"),
            (WITH_RPC.replace("name = \"explorer\"", "name = \"\""), "field rpc.tokens[0].name"),
            (WITH_RPC.replace("2bb80d53", "zzb80d53"), "field rpc.tokens[0].sha256: is not 64 hex digits"),
            (
                WITH_RPC.replace("[metrics]", &format!("[[rpc.tokens]]\n{token}\"\n\n[metrics]")),
                "tokens[1].name: is listed twice",
            ),
            (WITH_RPC.replace("127.0.0.1:7004", "10.0.0.5:7002"), "field metrics.listen"),
        ];
        for (text, expected) in cases {
            let error = NodeConfig::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
