//! The platform itself: its name for ever, and its first administrator.

pub(crate) mod apply;
pub mod backup;
pub mod version;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Secret};
use crate::ids::{AccountId, ClusterId};
use crate::replica::Replicas;
use crate::time::Millis;
use backup::{BackupNote, Restored};
use version::Version;

/// The platform. Made once by the first leader; the setup code is spent by the first administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its id, part of every signed text and process label.
    pub id: ClusterId,
    /// What people call it.
    pub name: String,
    /// SHA-256 of the one-time setup code; `None` once spent.
    pub setup_code_hash: Option<Digest>,
    /// When it was made.
    pub created_at: Millis,
    /// The newest backup that was asked for; `None` if there never was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<BackupNote>,
    /// Where it was restored from; `None` in its first life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// Its replicas; states written before there were any have none.
    #[serde(default, skip_serializing_if = "Replicas::is_empty")]
    pub replicas: Replicas,
    /// What every replica of it can read; only grows. Not written at the first version, whose bytes older builds made.
    #[serde(default, skip_serializing_if = "Version::is_first")]
    pub version: Version,
}

impl Cluster {
    /// Whether nothing may be done on any host: restored, and nobody has yet said that the old cluster is gone.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.restored.as_ref().is_some_and(|restored| restored.resumed_at.is_none())
    }
}

/// Names the platform. By the system, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitCluster {
    /// Its id for ever.
    pub cluster: ClusterId,
    /// What people call it.
    pub name: String,
    /// SHA-256 of the one-time setup code.
    #[serde(serialize_with = "crate::digest::hidden")]
    pub setup_code_hash: Digest,
    /// The version it begins at: the newest that all its first replicas were heard to speak.
    #[serde(default, skip_serializing_if = "Version::is_first")]
    pub version: Version,
}

/// Makes the first administrator with the one-time code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// The administrator's account, without tenant.
    pub account: AccountId,
    /// Argon2id PHC string made by the proposer.
    pub password_hash: Secret,
    /// SHA-256 of the code that was shown.
    #[serde(serialize_with = "crate::digest::hidden")]
    pub setup_code_hash: Digest,
}

/// The leader's digest of a revision, to be compared by every replica. By the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckDigest {
    /// Which revision.
    pub revision: u64,
    /// The leader's digest after it.
    pub digest: Digest,
}
