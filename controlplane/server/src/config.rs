//! A replica's configuration file: TOML, versioned, every fault named by its field.
//!
//! Read once at start. It names where things are and how replicas find each other, and holds no secret itself.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of the file format that this build reads.
pub const CONFIG_VERSION: u32 = 1;

/// Most replicas that one cluster may list; more voters only slow every write.
pub const REPLICAS_MAX: usize = 7;

/// One replica's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Format, [`CONFIG_VERSION`].
    pub version: u32,
    /// Name of the cluster, an RFC 1034 label; part of every replica certificate.
    pub cluster: String,
    /// Which of `replicas` this process is.
    pub replica: u64,
    /// Whether this replica joins a cluster that is there; otherwise it is one of the first.
    #[serde(default)]
    pub join: bool,
    /// Folder of the log, history and snapshots.
    pub data: PathBuf,
    /// Where replicas reach this one.
    pub peer_listen: SocketAddr,
    /// Where clients reach this one.
    pub api_listen: SocketAddr,
    /// Folder with `peer-ca.pem`, `peer.pem`, `peer.key`, `api-ca.pem`, `api.pem`, `api.key`.
    pub tls: PathBuf,
    /// OpenSSH private key used for hosts reached by SSH; without it such hosts cannot be used, unless by an agent.
    #[serde(default)]
    pub ssh_identity: Option<PathBuf>,
    /// Certificate of that key, for hosts that are logged in to by one; read at each login.
    #[serde(default)]
    pub ssh_certificate: Option<PathBuf>,
    /// Socket of the ssh-agent, for hosts that are logged in to by what it holds.
    #[serde(default)]
    pub ssh_agent: Option<PathBuf>,
    /// Folder with a file of credentials for each cloud, on every replica; without it this replica asks none.
    #[serde(default)]
    pub cloud_credentials: Option<PathBuf>,
    /// Node software to put on hosts; by default this very program.
    #[serde(default)]
    pub node_artifact: Option<PathBuf>,
    /// The program of CometBFT chains (template `cosmos-evm`); without it this replica makes none. The same on every
    /// replica.
    #[serde(default)]
    pub cometbft: Option<CometBftSoftware>,
    /// Where Prometheus may read this replica's numbers, over plain HTTP; nowhere if not said. Loopback is meant.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// Whether gRPC reflection is served.
    #[serde(default = "yes")]
    pub reflection: bool,
    /// Every replica of the cluster, this one included.
    pub replicas: Vec<ReplicaEntry>,
    /// How often and how long.
    #[serde(default)]
    pub timing: Timing,
}

/// A program that the operator brought, with what the engine must know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CometBftSoftware {
    /// Manifest of the bundle (`hanse artifact describe`); without it and `files` the bundle is an imported artifact
    /// (`hanse artifact import`).
    #[serde(default)]
    pub manifest: Option<PathBuf>,
    /// SHA-256 of the manifest, 64 lower-case hex digits: what this replica was told to run, whatever lies on its disk.
    pub sha256: String,
    /// Folder with the bundle's files; each is compared with the manifest at start, and again on every host.
    #[serde(default)]
    pub files: Option<PathBuf>,
    /// What the engine must know of the application (engines/README.md).
    pub profile: PathBuf,
}

/// Where one replica is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaEntry {
    /// Number, from 1, never used twice.
    pub id: u64,
    /// `host:port` of its peer listener.
    pub peer: String,
    /// `host:port` of its API listener.
    pub api: String,
}

/// Periods in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// Leader's heartbeat.
    pub heartbeat_ms: u64,
    /// Shortest wait before a follower stands for election.
    pub election_min_ms: u64,
    /// Longest wait before a follower stands for election.
    pub election_max_ms: u64,
    /// Entries between snapshots.
    pub snapshot_every: u64,
    /// How often the leader looks at every running node.
    pub health_ms: u64,
    /// How often usage is metered.
    pub meter_ms: u64,
    /// How old the head of the audit trail on a chain may become before it is sent a newer one.
    pub anchor_ms: u64,
    /// How long a thing of ours that no node is must have been on a host before the leader removes it.
    pub orphan_grace_ms: u64,
    /// How long a node that has worked is seen to live and do nothing before it is started anew.
    pub hang_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            // A follower stands after `election_max_ms` (while it may not vote for another) and a random wait of
            // `election_min_ms` to `election_max_ms`: 0.34 to 0.44 s of silence, eight heartbeats at least.
            heartbeat_ms: 40,
            election_min_ms: 120,
            election_max_ms: 220,
            snapshot_every: 10_000,
            health_ms: 1_000,
            meter_ms: 60_000,
            anchor_ms: 600_000,
            orphan_grace_ms: 600_000,
            hang_ms: hanse_planner::HANG_MS,
        }
    }
}

fn yes() -> bool {
    true
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML of this shape.
    #[error("configuration {path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        reason: String,
    },
    /// A field has a value that cannot work.
    #[error("configuration field `{field}`: {reason}")]
    Field {
        /// Which field.
        field: &'static str,
        /// Why, and what to write instead.
        reason: String,
    },
}

impl Config {
    /// Reads and checks the file at `path`; relative paths in it are taken from the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`]; nothing is changed anywhere.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.to_path_buf(), reason: error.to_string() })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let place = |p: &PathBuf| folder.join(p);
        config.data = place(&config.data);
        config.tls = place(&config.tls);
        config.ssh_identity = config.ssh_identity.as_ref().map(place);
        config.ssh_certificate = config.ssh_certificate.as_ref().map(place);
        config.ssh_agent = config.ssh_agent.as_ref().map(place);
        config.cloud_credentials = config.cloud_credentials.as_ref().map(place);
        if let Some(software) = &mut config.cometbft {
            software.manifest = software.manifest.as_ref().map(place);
            software.files = software.files.as_ref().map(place);
            software.profile = place(&software.profile);
        }
        config.node_artifact = config.node_artifact.as_ref().map(place);
        config.check()?;
        Ok(config)
    }

    /// Returns the entry of this replica.
    pub fn own(&self) -> Option<&ReplicaEntry> {
        self.replicas.iter().find(|entry| entry.id == self.replica)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fault = |field, reason: String| Err(ConfigError::Field { field, reason });
        if self.version != CONFIG_VERSION {
            return fault("version", format!("is {}, this build reads {CONFIG_VERSION}", self.version));
        }
        if !is_label(&self.cluster) {
            return fault(
                "cluster",
                format!("`{}` is not a lower-case label of at most 63 letters, digits and `-`", self.cluster),
            );
        }
        if self.replicas.is_empty() || self.replicas.len() > REPLICAS_MAX {
            return fault(
                "replicas",
                format!("lists {}, between 1 and {REPLICAS_MAX} can work (3 is usual)", self.replicas.len()),
            );
        }
        let ids: BTreeSet<u64> = self.replicas.iter().map(|entry| entry.id).collect();
        if ids.len() != self.replicas.len() || ids.contains(&0) {
            return fault("replicas", "ids must differ and start at 1".into());
        }
        if self.own().is_none() {
            return fault("replica", format!("{} is not among `replicas` {ids:?}", self.replica));
        }
        for entry in &self.replicas {
            for (field, address) in [("replicas.peer", &entry.peer), ("replicas.api", &entry.api)] {
                if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
                    return fault(field, format!("`{address}` is not host:port"));
                }
            }
        }
        self.cometbft.as_ref().map_or(Ok(()), CometBftSoftware::check)?;
        self.timing.check()
    }
}

impl CometBftSoftware {
    fn check(&self) -> Result<(), ConfigError> {
        if self.sha256.parse::<hanse_state::Digest>().is_err() {
            let reason = format!("`{}` is not 64 lower-case hex digits", self.sha256);
            return Err(ConfigError::Field { field: "cometbft.sha256", reason });
        }
        if self.manifest.is_some() == self.files.is_some() {
            return Ok(());
        }
        let reason = "`manifest` and `files` belong together; leave out both for an imported artifact".into();
        Err(ConfigError::Field { field: "cometbft.files", reason })
    }
}

impl Timing {
    fn check(&self) -> Result<(), ConfigError> {
        let fault = |field, reason: String| Err(ConfigError::Field { field, reason });
        if self.heartbeat_ms == 0 || self.election_min_ms < self.heartbeat_ms.saturating_mul(3) {
            return fault(
                "timing.election_min_ms",
                "must be at least three heartbeats, or leaders change without need".into(),
            );
        }
        if self.election_max_ms < self.election_min_ms.saturating_add(100) {
            return fault(
                "timing.election_max_ms",
                "must be at least 100 ms above election_min_ms, or votes split".into(),
            );
        }
        if self.snapshot_every < 10 {
            return fault("timing.snapshot_every", "must be at least 10 entries".into());
        }
        if self.health_ms < 100 {
            return fault("timing.health_ms", "must be at least 100".into());
        }
        if self.meter_ms < 1_000 {
            return fault("timing.meter_ms", "must be at least 1000".into());
        }
        if self.anchor_ms < 1_000 {
            return fault(
                "timing.anchor_ms",
                "must be at least 1000: each head is a transaction on every chain".into(),
            );
        }
        if self.orphan_grace_ms < 1_000 {
            return fault("timing.orphan_grace_ms", "must be at least 1000: what is removed does not come back".into());
        }
        if self.hang_ms < 10_000 {
            return fault("timing.hang_ms", "must be at least 10000: a busy node may take seconds to answer".into());
        }
        Ok(())
    }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GOOD: &str = r#"
version = 1
cluster = "bj-prod"
replica = 1
data = "data"
peer_listen = "127.0.0.1:0"
api_listen = "127.0.0.1:0"
tls = "/etc/hanse/tls"
[[replicas]]
id = 1
peer = "10.0.0.1:7401"
api = "10.0.0.1:7400"
"#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hanse.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn relative_paths_are_taken_from_the_files_folder() {
        let config = load(GOOD).unwrap();
        assert!(config.data.is_absolute() && config.data.ends_with("data"));
        assert_eq!(config.tls, PathBuf::from("/etc/hanse/tls"));
    }

    #[test]
    fn each_fault_names_its_field() {
        let half = format!("sha256 = \"{}\", manifest = \"m\", profile = \"p\"", "ab".repeat(32));
        for (from, to, word) in [
            ("version = 1", "version = 9", "`version`"),
            ("\"bj-prod\"", "\"BJ prod\"", "`cluster`"),
            ("replica = 1", "replica = 4", "`replica`"),
            ("\"10.0.0.1:7401\"", "\"10.0.0.1\"", "`replicas.peer`"),
            ("replica = 1", "replicla = 1", "replicla"),
            ("version = 1", "version = 1\ncometbft = { sha256 = \"x\", profile = \"p\" }", "`cometbft.sha256`"),
            ("version = 1", &format!("version = 1\ncometbft = {{ {half} }}"), "`cometbft.files`"),
        ] {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
