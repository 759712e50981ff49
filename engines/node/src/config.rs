//! `config.toml`, version 1: where a node listens and whom it talks to.
//!
//! The engine's driver writes this file with [`NodeConfig::to_toml`]; the node reads it once at
//! start and never writes it. Unknown fields are refused, so that a typing error is not silence.

mod rpc;

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::NodeError;
use crate::keys::{NodeId, PublicKey};

pub use rpc::{MetricsConfig, RpcConfig, TOKENS_MAX, TokenConfig};

/// The file's name below a node's home.
pub const CONFIG_FILE: &str = "config.toml";
/// The version this program reads and writes.
pub const CONFIG_VERSION: u32 = 1;
/// More peers than this would make the full mesh of connections too heavy.
pub const PEERS_MAX: usize = 100;

/// A node's configuration. Unchanged while the node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Format version, 1.
    pub version: u32,
    /// The chain's name, for logs only.
    #[serde(default)]
    pub chain: String,
    /// Where peers connect, `ip:port`.
    pub p2p_listen: SocketAddr,
    /// Where clients connect; beyond this host only with tokens or `rpc.open`.
    pub rpc_listen: SocketAddr,
    /// Filter for the log on stderr, in the form of `RUST_LOG`.
    #[serde(default = "default_log")]
    pub log: String,
    /// Whether a node without any block takes a peer's snapshot instead of executing all blocks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fast_join: bool,
    /// Bounds of the pool of waiting transactions.
    #[serde(default)]
    pub mempool: MempoolConfig,
    /// What is kept of the past.
    #[serde(default, skip_serializing_if = "is_default")]
    pub history: HistoryConfig,
    /// Access to JSON-RPC and its limits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rpc: RpcConfig,
    /// Where metrics can be read besides the JSON-RPC port.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metrics: MetricsConfig,
    /// The other nodes, at most [`PEERS_MAX`]; only their keys are accepted.
    #[serde(default)]
    pub peers: Vec<PeerConfig>,
}

/// Bounds of the pool of waiting transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MempoolConfig {
    /// Transactions in the pool, 1 to 1,000,000.
    pub transactions_max: usize,
    /// Transactions of one sender, 1 to `transactions_max`.
    pub per_sender_max: usize,
    /// Encoded size of one transaction in bytes, 1,000 to 1,000,000.
    pub transaction_bytes_max: usize,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self { transactions_max: 10_000, per_sender_max: 256, transaction_bytes_max: 131_072 }
    }
}

/// What a node keeps of the past. The newest block and block 0 are always kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// Of how many newest blocks the state can be read (calls, balances, proofs): 1 or more, or "all".
    pub states: Keep,
    /// How many newest blocks are kept with receipts and certificates: [`BLOCKS_KEPT_MIN`] or more, or "all".
    pub blocks: Keep,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { states: Keep::Last(1024), blocks: Keep::All }
    }
}

/// Fewer blocks would leave peers that were away for a short time without anyone to catch up from.
pub const BLOCKS_KEPT_MIN: u64 = 1024;

/// How much of the past is kept: a count, or "all".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything.
    All,
    /// So many of the newest.
    Last(u64),
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Last(count) => serializer.serialize_u64(*count),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a number of blocks or \"all\"")]
        enum Form {
            Count(u64),
            Word(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Count(count) => Ok(Self::Last(count)),
            Form::Word(word) if word == "all" => Ok(Self::All),
            Form::Word(word) => {
                Err(serde::de::Error::custom(format!("\"{word}\" is neither a number of blocks nor \"all\"")))
            }
        }
    }
}

/// One other node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// Its id; must be the one of `public_key`.
    pub node_id: NodeId,
    /// Its key.
    pub public_key: PublicKey,
    /// Where it listens for peers, `ip:port`.
    pub address: SocketAddr,
}

/// What is not said is not written, so that an older program reads the file as long as nothing new is asked for.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_log() -> String {
    "info".to_owned()
}

impl NodeConfig {
    /// The configuration below `home`, checked.
    ///
    /// # Errors
    /// The file is missing, not readable as version 1, or a field is wrong.
    pub fn load(home: &Path) -> Result<Self, NodeError> {
        let path = home.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path).map_err(NodeError::io("cannot read", &path))?;
        Self::from_toml(&text)
    }

    /// Reads and checks the file's text.
    ///
    /// # Errors
    /// As [`NodeConfig::load`].
    pub fn from_toml(text: &str) -> Result<Self, NodeError> {
        let config: Self = toml::from_str(text).map_err(|e| {
            NodeError::invalid(
                CONFIG_FILE,
                "(syntax)",
                one_line(&e.to_string()),
                "correct the file or have the control plane write it again",
            )
        })?;
        config.check()?;
        Ok(config)
    }

    /// The file's text.
    ///
    /// # Errors
    /// The values cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, NodeError> {
        toml::to_string(self)
            .map_err(|e| NodeError::invalid(CONFIG_FILE, "(all)", e.to_string(), "report this as a bug"))
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The first wrong field, with reason and remedy.
    pub fn check(&self) -> Result<(), NodeError> {
        let bad =
            |field: String, reason: String, action: &str| Err(NodeError::invalid(CONFIG_FILE, field, reason, action));
        if self.version != CONFIG_VERSION {
            return bad(
                "version".into(),
                format!("{} is unknown, this program reads {CONFIG_VERSION}", self.version),
                "use the program version that wrote the file",
            );
        }
        if self.p2p_listen == self.rpc_listen && self.p2p_listen.port() != 0 {
            return bad("rpc_listen".into(), "is the same as p2p_listen".into(), "choose two ports");
        }
        if self.peers.len() > PEERS_MAX {
            return bad("peers".into(), format!("{} are more than {PEERS_MAX}", self.peers.len()), "list fewer");
        }
        let pool = &self.mempool;
        if !(1..=1_000_000).contains(&pool.transactions_max)
            || !(1..=pool.transactions_max).contains(&pool.per_sender_max)
            || !(1_000..=1_000_000).contains(&pool.transaction_bytes_max)
        {
            return bad("mempool".into(), "a bound is out of range".into(), "see README.md for the ranges");
        }
        if self.history.states == Keep::Last(0) {
            return bad("history.states".into(), "0 keeps not even the newest".into(), "choose 1 or more, or \"all\"");
        }
        if matches!(self.history.blocks, Keep::Last(count) if count < BLOCKS_KEPT_MIN) {
            return bad(
                "history.blocks".into(),
                "peers could not catch up from so few".into(),
                "choose 1024 or more, or \"all\"",
            );
        }
        if let Err((field, reason, action)) = self.rpc.check(self.rpc_listen) {
            return bad(field, reason, action);
        }
        if self.metrics.listen.is_some_and(|m| m.port() != 0 && (m == self.rpc_listen || m == self.p2p_listen)) {
            return bad(
                "metrics.listen".into(),
                "is the same as rpc_listen or p2p_listen".into(),
                "choose another port",
            );
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, peer) in self.peers.iter().enumerate() {
            if peer.public_key.node_id() != peer.node_id {
                return bad(
                    format!("peers[{index}].node_id"),
                    "does not belong to public_key".into(),
                    "copy both from the peer's `node init`",
                );
            }
            if peer.public_key.verifying().is_none() {
                return bad(
                    format!("peers[{index}].public_key"),
                    "is not an Ed25519 key".into(),
                    "copy it from the peer's `node init`",
                );
            }
            if !seen.insert(peer.node_id) {
                return bad(format!("peers[{index}]"), "is listed twice".into(), "remove one");
            }
        }
        Ok(())
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Frozen: a file as version 1 writes it must stay readable.
    const V1: &str = include_str!("../tests/frozen/config_v1.toml");

    #[test]
    fn the_frozen_example_reads_and_writes_back() {
        let config = NodeConfig::from_toml(V1).unwrap();
        assert_eq!(config.peers.len(), 1);
        assert_eq!(config.mempool.transactions_max, 5000);
        assert_eq!(config.to_toml().unwrap(), V1);
    }

    #[test]
    fn history_is_a_count_or_all() {
        let default = NodeConfig::from_toml(V1).unwrap();
        assert_eq!(default.history, HistoryConfig { states: Keep::Last(1024), blocks: Keep::All });
        assert!(!default.fast_join);
        let with = |history: &str| NodeConfig::from_toml(&V1.replace("[mempool]", &format!("{history}\n[mempool]")));
        let archive = with("fast_join = true\n[history]\nstates = \"all\"\nblocks = 5000").unwrap();
        assert_eq!(archive.history, HistoryConfig { states: Keep::All, blocks: Keep::Last(5000) });
        assert_eq!(NodeConfig::from_toml(&archive.to_toml().unwrap()).unwrap(), archive);
        let cases = [
            ("[history]\nstates = 0", "history.states: 0 keeps not even the newest"),
            ("[history]\nblocks = 5", "history.blocks: peers could not catch up"),
            ("[history]\nblocks = \"some\"", "neither a number of blocks nor"),
            ("[history]\nblocks = -1", "expected a number of blocks or"),
        ];
        for (text, expected) in cases {
            let error = with(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn errors_name_field_reason_and_remedy() {
        let cases = [
            (V1.replace("version = 1", "version = 9"), "field version: 9 is unknown"),
            (V1.replace("node_id = \"", "node_id = \"00"), "expected 40 hex digits"),
            (V1.replace("127.0.0.1:7002", "127.0.0.1:7001"), "choose two ports"),
            (format!("surprise = 1\n{V1}"), "surprise"),
        ];
        for (text, expected) in cases {
            let error = NodeConfig::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
