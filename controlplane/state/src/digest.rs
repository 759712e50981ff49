//! Fixed byte strings (hashes, keys, signatures), blobs and secrets, and how each is written.
//!
//! In the log and in snapshots all are bytes. In JSON (which people and audit records see) hashes, keys and signatures
//! are hex, a blob is its size and hash, and a [`Secret`] is never written at all.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rejection::Rejection;

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $field:literal, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Returns the bytes of lower-case hex.
            ///
            /// # Errors
            /// `InvalidName` if the text is anything else.
            pub fn parse(text: &str) -> Result<Self, Rejection> {
                let mut bytes = [0; $len];
                let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) if lower => Ok(Self(bytes)),
                    _ => Err(Rejection::InvalidName {
                        field: $field.into(),
                        value: text.chars().take(80).collect(),
                        rule: concat!($len, " bytes as lower-case hex").into(),
                    }),
                }
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; 2 * $len];
                hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Rejection;
            fn from_str(text: &str) -> Result<Self, Rejection> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_bytes(&self.0) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    let text = String::deserialize(d)?;
                    return Self::parse(&text).map_err(de::Error::custom);
                }
                d.deserialize_bytes(Fixed::<$len>).map(Self)
            }
        }
    };
}

fixed_bytes!(
    /// A SHA-256: of an artifact, a token, a genesis, a state.
    Digest, "hash", 32
);
fixed_bytes!(
    /// An Ed25519 public key.
    PublicKey, "member_key", 32
);
fixed_bytes!(
    /// An Ed25519 signature.
    Signature, "signature", 64
);

#[allow(clippy::derivable_impls, reason = "the macro's other lengths have no default")]
impl Default for Digest {
    fn default() -> Self {
        Self([0; 32])
    }
}

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_parts(&[bytes])
    }

    /// The SHA-256 of `parts` one after another.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Self(out)
    }
}

impl PublicKey {
    /// Returns whether `signature` is this key's over `message` (RFC 8032; ring refuses the malleable forms).
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, self.0).verify(message, &signature.0).is_ok()
    }
}

/// Bytes of any length, compact in the log; in JSON only their size and hash.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, sha256 {}", self.0.len(), Digest::of(&self.0))
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { s.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            return Err(de::Error::custom("a blob cannot be read back from JSON"));
        }
        d.deserialize_byte_buf(Bytes).map(Self)
    }
}

/// Text that no log line, audit record or JSON may show (a password's hash).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let shown = if s.is_human_readable() { "(secret)" } else { &self.0 };
        s.serialize_str(shown)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            return Err(de::Error::custom("a secret cannot be read back from JSON"));
        }
        String::deserialize(d).map(Self)
    }
}

/// Writes a hash that opens something (a token's, a setup code's): in full to the log, never to JSON.
pub(crate) fn hidden<S: Serializer>(digest: &Digest, s: S) -> Result<S::Ok, S::Error> {
    if s.is_human_readable() { s.serialize_str("(secret)") } else { digest.serialize(s) }
}

/// Takes just so many bytes as they come from the log, without room made for them in between.
struct Fixed<const LENGTH: usize>;

impl<const LENGTH: usize> Visitor<'_> for Fixed<LENGTH> {
    type Value = [u8; LENGTH];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LENGTH} bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<[u8; LENGTH], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

/// Takes bytes as they come from the log.
struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}
