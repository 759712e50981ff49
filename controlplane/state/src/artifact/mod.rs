//! Software for hosts that the platform keeps itself: programs, bundles of files, images; and whose word about it counts.
//!
//! An artifact is named by its content: the SHA-256 of the program, of the bundle's manifest, or of the image. The state
//! says that it is kept, who brought it, and on whose word; the content lies in a folder of each replica, which fetches
//! what it lacks from the others by hash. Software comes in signed by a *publisher* whose key an administrator pinned, or
//! unsigned with a reason that an administrator gives and the audit trail keeps.
//!
//! What this never does: hold content, download anything, or take a signature of a key that nobody pinned.

pub(crate) mod apply;
pub mod query;

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::digest::{PublicKey, Signature};
use crate::ids::PublisherId;
use crate::time::Millis;

/// Artifacts on the platform.
pub const ARTIFACTS_MAX: usize = 200;
/// Publishers whose keys are pinned.
pub const PUBLISHERS_MAX: usize = 50;
/// Bytes of one artifact, its files together.
pub const ARTIFACT_BYTES_MAX: u64 = 8 << 30;
/// Bytes of all artifacts: each replica needs so much room and what its log takes.
pub const STORE_BYTES_MAX: u64 = 64 << 30;
/// Files of a bundle.
pub const FILES_MAX: u32 = 1_000;
/// Longest name and version.
pub const NAME_MAX: usize = 63;
/// Longest path of a bundle's program.
pub const PROGRAM_MAX: usize = 255;
/// Longest reason.
pub const REASON_MAX: usize = 255;

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ArtifactKind {
    /// One program; its hash is the program's.
    Program,
    /// A program with files beside it; its hash is the manifest's, which names every file by path and hash.
    Bundle,
    /// An archive of a container image; its hash is the archive's.
    Image,
}

impl ArtifactKind {
    /// The word in the signed text.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Bundle => "bundle",
            Self::Image => "image",
        }
    }
}

/// On whose word an artifact was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Word {
    /// A publisher's: Ed25519 over [`signed_text`].
    Signed {
        /// Whose.
        publisher: PublisherId,
        /// The signature.
        signature: Signature,
    },
    /// Nobody's but the administrator's who brought it.
    Unsigned {
        /// Why that was right.
        reason: String,
    },
}

/// An artifact that the platform keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// SHA-256 of the program, the manifest or the image; its name for ever.
    pub sha256: Digest,
    /// What people call it.
    pub name: String,
    /// Which version of that; no two artifacts have both the same.
    pub version: String,
    /// What it is.
    pub kind: ArtifactKind,
    /// Bytes of everything, a bundle's manifest included.
    pub size_bytes: u64,
    /// Files, a bundle's manifest not counted.
    pub files: u32,
    /// Path of a bundle's program; empty otherwise.
    pub program: String,
    /// On whose word it was taken.
    pub word: Word,
    /// The account that brought it.
    pub imported_by: String,
    /// When.
    pub imported_at: Millis,
}

/// A maker of software whose signatures are believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    /// Its name here.
    pub id: PublisherId,
    /// Its key.
    pub key: PublicKey,
    /// When it was pinned.
    pub pinned_at: Millis,
}

/// Keeps an artifact whose content is with the leader. By an operator; unsigned software by an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportArtifact {
    /// See [`Artifact::sha256`].
    pub sha256: Digest,
    /// 1 to [`NAME_MAX`] characters of lower-case letters, digits, `-`, `.` and `_`.
    pub name: String,
    /// The same characters, upper-case letters and `+`.
    pub version: String,
    /// What it is.
    pub kind: ArtifactKind,
    /// 1 to [`ARTIFACT_BYTES_MAX`].
    pub size_bytes: u64,
    /// 1 unless a bundle, then at most [`FILES_MAX`].
    pub files: u32,
    /// Path of a bundle's program; empty otherwise.
    pub program: String,
    /// On whose word.
    pub word: Word,
}

/// Gives up an artifact that nothing uses; the replicas delete its content. By an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteArtifact {
    /// Which.
    pub sha256: Digest,
}

/// Believes a publisher's signatures from now on. By an administrator, who got the key by a way that can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinPublisher {
    /// Its name here; another key under a name that is taken is refused: unpin first.
    pub publisher: PublisherId,
    /// Its key.
    pub key: PublicKey,
}

/// Believes a publisher no more. What it signed and was imported stays. By an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnpinPublisher {
    /// Which.
    pub publisher: PublisherId,
}

/// The text that a publisher signs: five lines, each ended by a line feed. Name and version are in it, so that old
/// software cannot be passed off as new.
pub fn signed_text(sha256: &Digest, kind: ArtifactKind, name: &str, version: &str) -> String {
    format!("hanse artifact v1\nsha256: {sha256}\nkind: {}\nname: {name}\nversion: {version}\n", kind.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_text_is_frozen() {
        let text = signed_text(&Digest([0xab; 32]), ArtifactKind::Bundle, "injectived", "1.20.1");
        let hash = "ab".repeat(32);
        assert_eq!(
            text,
            format!("hanse artifact v1\nsha256: {hash}\nkind: bundle\nname: injectived\nversion: 1.20.1\n")
        );
    }
}
