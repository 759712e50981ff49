//! The platform itself: its name for ever, and its first administrator.

pub(crate) mod apply;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Secret};
use crate::ids::{AccountId, ClusterId};
use crate::time::Millis;

/// The platform. Made once by the first leader; the setup code is spent by the first administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id, part of every signed text and process label.
    pub id: ClusterId,
    /// What people call it.
    pub name: String,
    /// SHA-256 of the one-time setup code; `None` once spent.
    pub setup_code_hash: Option<Digest>,
    /// When it was made.
    pub created_at: Millis,
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
