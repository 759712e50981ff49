//! The node's one key: validator key and TLS key.
//!
//! `keys/node.key` holds the Ed25519 seed as 64 hex digits, mode 0600, made once and never
//! overwritten. The node id is the first 20 bytes of keccak256(public key). The seed is never
//! printed or logged.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use alloy_primitives::{Address, keccak256};
use arc_malachitebft_signing_ed25519 as ed;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::NodeError;

/// The key's place below a node's home.
pub const KEY_FILE: &str = "keys/node.key";

/// A node's id: the first 20 bytes of keccak256(public key). Written as 40 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub Address);

/// An Ed25519 public key. Written as 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The id of the node that holds this key.
    pub fn node_id(&self) -> NodeId {
        NodeId(Address::from_slice(&keccak256(self.0)[..20]))
    }

    /// The key in the signing crate's form, or `None` if it is not a point of the curve.
    pub(crate) fn verifying(&self) -> Option<ed::PublicKey> {
        ed::PublicKey::from_bytes(self.0).ok()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut bytes = [0u8; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| format!("expected {} hex digits", N * 2))?;
    Ok(bytes)
}

impl FromStr for NodeId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse_hex::<20>(text).map(|bytes| Self(Address::from(bytes)))
    }
}

impl FromStr for PublicKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse_hex::<32>(text).map(Self)
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
serde_as_text!(NodeId);
serde_as_text!(PublicKey);

/// The node's private key, loaded once at start.
#[derive(Clone)]
pub struct NodeKey {
    seed: [u8; 32],
    signing: ed::PrivateKey,
    /// Of the public half; asked for with each message.
    id: NodeId,
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.node_id())
    }
}

impl NodeKey {
    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        let signing = ed::PrivateKey::from(seed);
        let id = PublicKey(*signing.public_key().as_bytes()).node_id();
        Self { seed, signing, id }
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(*self.signing.public_key().as_bytes())
    }

    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn signing(&self) -> &ed::PrivateKey {
        &self.signing
    }

    /// The key as PKCS#8 v1 (RFC 8410, section 7), which rcgen and rustls read.
    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        const PREFIX: [u8; 16] =
            [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        let mut der = PREFIX.to_vec();
        der.extend_from_slice(&self.seed);
        der
    }

    /// The key below `home`, made if it is not there yet.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else; an existing key is untouched.
    pub fn load_or_create(home: &Path) -> Result<Self, NodeError> {
        let path = home.join(KEY_FILE);
        if path.exists() {
            return Self::load(home);
        }
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        std::fs::create_dir_all(&folder).map_err(NodeError::io("cannot create", &folder))?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))
            .map_err(NodeError::io("cannot protect", &folder))?;
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|e| NodeError::io("no randomness for", &path)(std::io::Error::other(e)))?;
        write_new(&path, format!("{}\n", hex::encode(seed)).as_bytes())?;
        Ok(Self::from_seed(seed))
    }

    /// The key below `home`.
    ///
    /// # Errors
    /// There is none, others may read it, or it is not a seed.
    pub fn load(home: &Path) -> Result<Self, NodeError> {
        let path = home.join(KEY_FILE);
        let text = std::fs::read_to_string(&path).map_err(NodeError::io("cannot read", &path))?;
        let mode = std::fs::metadata(&path).map_err(NodeError::io("cannot read", &path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(NodeError::invalid(
                KEY_FILE,
                "mode",
                format!("others may read it ({:o})", mode & 0o777),
                "run chmod 600 on it, and renew the key if someone else had access",
            ));
        }
        let seed = parse_hex::<32>(text.trim())
            .map_err(|reason| NodeError::invalid(KEY_FILE, "seed", reason, "restore the file from its backup"))?;
        Ok(Self::from_seed(seed))
    }
}

/// Writes a file that must not exist yet, 0600, through a temporary name so that a crash never
/// leaves half a key behind.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), NodeError> {
    let part = path.with_extension(format!("part-{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .map_err(NodeError::io("cannot create", &part))?;
    file.write_all(bytes).map_err(NodeError::io("cannot write", &part))?;
    file.sync_all().map_err(NodeError::io("cannot sync", &part))?;
    // A hard link refuses an existing name, so two starts at once cannot replace each other's key.
    let linked = std::fs::hard_link(&part, path).map_err(NodeError::io("cannot create", path));
    std::fs::remove_file(&part).map_err(NodeError::io("cannot remove", &part))?;
    linked?;
    sync_parent(path)
}

/// Syncs the folder of `path`, so that the name survives a power cut.
pub(crate) fn sync_parent(path: &Path) -> Result<(), NodeError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(NodeError::io("cannot sync", folder))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn init_twice_keeps_the_key_and_its_mode() {
        let home = tempfile::tempdir().unwrap();
        let first = NodeKey::load_or_create(home.path()).unwrap();
        let second = NodeKey::load_or_create(home.path()).unwrap();
        assert_eq!(first.public_key(), second.public_key());
        let mode = std::fs::metadata(home.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        NodeKey::load_or_create(home.path()).unwrap();
        let path = home.path().join(KEY_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = NodeKey::load(home.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
