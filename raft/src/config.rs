//! What a replica is started with, and openraft's configuration made of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use openraft::{Config, SnapshotPolicy};

use crate::error::RaftError;
use crate::tls::{PeerTls, peer_name};
use crate::types::{Member, ReplicaId};

/// How fast the replicas notice each other's end. Election times are the same on all and well above the heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Between two heartbeats of the leader, in milliseconds.
    pub heartbeat_ms: u64,
    /// Shortest silence after which a follower asks for votes.
    pub election_min_ms: u64,
    /// Longest such silence.
    pub election_max_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Self { heartbeat_ms: 150, election_min_ms: 1_000, election_max_ms: 2_000 }
    }
}

/// What a replica is started with.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Its id; one of `members`.
    pub id: ReplicaId,
    /// Name of the cluster; part of every certificate's name.
    pub cluster_name: String,
    /// Its folder; of this replica alone.
    pub data_dir: PathBuf,
    /// Where it listens for peers.
    pub peer_listen: SocketAddr,
    /// All replicas.
    pub members: BTreeMap<ReplicaId, Member>,
    /// Its certificates.
    pub tls: PeerTls,
    /// How fast.
    pub timings: Timings,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// Whether the cluster is new: then the member with the lowest id, if its store is empty, makes the membership.
    pub bootstrap: bool,
}

/// Checks what can be checked before anything is touched.
pub(crate) fn check(config: &ReplicaConfig) -> Result<(), RaftError> {
    let Timings { heartbeat_ms, election_min_ms, election_max_ms } = config.timings;
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = &config.cluster_name;
    if name.is_empty() || name.len() > 63 || !name.chars().all(label) {
        return Err(RaftError::Config(format!("cluster name {name:?} must be 1 to 63 of a-z, 0-9 and '-'")));
    }
    if !config.members.contains_key(&config.id) {
        return Err(RaftError::Config(format!("replica {} is not among the members", config.id)));
    }
    if heartbeat_ms == 0 || election_min_ms < heartbeat_ms * 2 || election_max_ms <= election_min_ms {
        return Err(RaftError::Config(
            "timings must be heartbeat > 0, election_min >= 2 heartbeats, election_max > election_min".into(),
        ));
    }
    if config.snapshot_every == 0 {
        return Err(RaftError::Config("snapshot_every must be at least 1".into()));
    }
    config.tls.check(&peer_name(name, config.id))
}

/// Gives openraft's configuration, every choice of ours said.
pub(crate) fn core_config(config: &ReplicaConfig) -> Result<Config, RaftError> {
    let keep = (config.snapshot_every / 10).min(1_000);
    let core = Config {
        cluster_name: config.cluster_name.clone(),
        heartbeat_interval: config.timings.heartbeat_ms,
        election_timeout_min: config.timings.election_min_ms,
        election_timeout_max: config.timings.election_max_ms,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_every),
        max_in_snapshot_log_to_keep: keep,
        replication_lag_threshold: config.snapshot_every.saturating_mul(2).saturating_add(keep),
        install_snapshot_timeout: 60_000,
        // A replica that comes back does not disturb a leader that works.
        enable_pre_vote: Some(true),
        // A leader that restarts is elected again, so that its state is restored before it serves (openraft 1511).
        enable_leader_restore: Some(false),
        // A follower whose log went back has lost data: never hide it.
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    core.validate().map_err(|e| RaftError::Config(e.to_string()))
}
