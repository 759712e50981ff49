//! The Ed25519 key a tenant signs with as a member of a consortium; it never leaves the member's machine.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use crate::files;

/// PKCS#8 version 1 head of an Ed25519 private key (RFC 8410, section 7); the 32-byte seed follows.
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Why a key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("key file {path}: {detail}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        detail: String,
    },
    /// The file is not an Ed25519 key in PKCS#8 PEM.
    #[error("key file {path} holds no Ed25519 private key (PKCS#8 PEM)")]
    Format {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gives no random numbers")]
    Random,
}

/// A member's key.
pub struct MemberKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl MemberKey {
    /// Returns a new key.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<MemberKey, KeyError> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        SystemRandom::new().fill(&mut *seed).map_err(|_| KeyError::Random)?;
        MemberKey::from_seed(seed).ok_or(KeyError::Random)
    }

    /// Returns the key of a PKCS#8 PEM file that only its owner may read.
    ///
    /// # Errors
    /// [`KeyError::File`] or [`KeyError::Format`].
    pub fn load(path: &Path) -> Result<MemberKey, KeyError> {
        let text =
            files::read(path).map_err(|error| KeyError::File { path: path.to_owned(), detail: error.to_string() })?;
        MemberKey::from_pem(&text).ok_or_else(|| KeyError::Format { path: path.to_owned() })
    }

    /// Writes the key into a new file with mode 0600.
    ///
    /// # Errors
    /// [`KeyError::File`], also when the file exists: a key is never overwritten.
    pub fn save_new(&self, path: &Path) -> Result<(), KeyError> {
        let der = Zeroizing::new([PKCS8_HEAD.as_slice(), self.seed.as_slice()].concat());
        let body = Zeroizing::new(STANDARD.encode(&*der));
        let pem = Zeroizing::new(format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", &*body));
        files::write_new(path, pem.as_bytes())
            .map_err(|error| KeyError::File { path: path.to_owned(), detail: error.to_string() })
    }

    /// Returns the public key as 64 hex digits.
    pub fn public_hex(&self) -> String {
        hex::encode(self.pair.public_key().as_ref())
    }

    /// Returns the signature over a text as 128 hex digits.
    pub fn sign_hex(&self, text: &str) -> String {
        hex::encode(self.pair.sign(text.as_bytes()).as_ref())
    }

    fn from_pem(text: &str) -> Option<MemberKey> {
        let body = text.trim().strip_prefix(PEM_BEGIN)?.strip_suffix(PEM_END)?;
        let packed: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
        let der = Zeroizing::new(STANDARD.decode(packed.as_bytes()).ok()?);
        let seed: [u8; 32] = der.strip_prefix(PKCS8_HEAD.as_slice())?.try_into().ok()?;
        MemberKey::from_seed(Zeroizing::new(seed))
    }

    fn from_seed(seed: Zeroizing<[u8; 32]>) -> Option<MemberKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).ok()?;
        Some(MemberKey { seed, pair })
    }
}

impl std::fmt::Debug for MemberKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemberKey({})", self.public_hex())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn saved_key_is_private_and_loads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/member.pem");
        let key = MemberKey::generate().unwrap();
        key.save_new(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let again = MemberKey::load(&path).unwrap();
        assert_eq!(again.public_hex(), key.public_hex());
        assert_eq!(again.sign_hex("x"), key.sign_hex("x"));
        assert!(matches!(key.save_new(&path), Err(KeyError::File { .. })), "a key is never overwritten");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(MemberKey::load(&path), Err(KeyError::File { .. })), "others may read it");
    }

    #[test]
    fn a_file_that_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("empty", ""), ("words", "hello"), ("half", PEM_BEGIN)] {
            let path = dir.path().join(name);
            files::write_new(&path, text.as_bytes()).unwrap();
            assert!(matches!(MemberKey::load(&path), Err(KeyError::Format { .. })), "{name}");
        }
    }

    /// RFC 8032, section 7.1, test 1.
    #[test]
    fn key_of_the_rfc() {
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = MemberKey::from_seed(Zeroizing::new(seed.try_into().unwrap())).unwrap();
        assert_eq!(key.public_hex(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert!(key.sign_hex("").starts_with("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"));
    }
}
