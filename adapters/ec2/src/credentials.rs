//! Whom a cloud takes us for: a file on each replica, read anew for every act, so that a changed key needs no restart.
//!
//! What this never does: show a secret in an error, a log line or a `Debug` text, or read a file that others may read.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hanse_adapters_core::{AdapterError, Result};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What a request is signed with.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Whose key; no secret.
    pub access_key_id: String,
    /// The key.
    #[serde(deserialize_with = "secret")]
    pub secret_access_key: Zeroizing<String>,
    /// With keys that were lent for a while.
    #[serde(default, deserialize_with = "secret_if_any")]
    pub session_token: Option<Zeroizing<String>>,
    /// PEM file with the authorities that the endpoint's certificate may come from; the machine's own if not said.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

fn secret_if_any<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Zeroizing<String>>, D::Error> {
    secret(from).map(Some)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Credentials {
    /// Reads the file at `path`: TOML with `access_key_id`, `secret_access_key` and, if need be, `session_token` and
    /// `ca_file` (a path of its own or one beside this file).
    ///
    /// # Errors
    /// `Invalid` with the file's name, the fault and what to do; never with what is in it.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong =
            |reason: String| AdapterError::Invalid { subject: format!("credentials {}", path.display()), reason };
        let facts = std::fs::metadata(path).map_err(|error| {
            wrong(format!("cannot be read on this replica ({}); put the file on every replica", error.kind()))
        })?;
        let mode = facts.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(wrong(format!("may be read by others (mode {mode:o}); say `chmod 600` to it")));
        }
        if facts.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("is larger than {FILE_BYTES_MAX} bytes; name the right file")));
        }
        let text = std::fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(|error| wrong(format!("cannot be read on this replica ({})", error.kind())))?;
        // What toml says quotes the line, and the line may be the key.
        let mut it: Self = toml::from_str(&text).map_err(|_| {
            wrong("is not TOML with `access_key_id`, `secret_access_key` and perhaps `session_token`, `ca_file`".into())
        })?;
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_word(&it.access_key_id) || it.access_key_id.contains(['/', ',']) {
            return Err(wrong("`access_key_id` is not one word".into()));
        }
        if !is_word(&it.secret_access_key) {
            return Err(wrong("`secret_access_key` is not one word".into()));
        }
        if it.session_token.as_ref().is_some_and(|token| !is_word(token)) {
            return Err(wrong("`session_token` is not one word".into()));
        }
        it.ca_file = it.ca_file.map(|file| path.parent().unwrap_or(Path::new(".")).join(file));
        Ok(it)
    }

    /// Returns `text`, which came from outside, without any secret of these that it may quote.
    pub(crate) fn mask(&self, text: &str) -> String {
        let text = text.replace(self.secret_access_key.as_str(), "***");
        match &self.session_token {
            Some(token) => text.replace(token.as_str(), "***"),
            None => text,
        }
    }

    /// Returns 32 bytes that only who has the secret key can know, the same for the same `label`.
    ///
    /// A machine's host key is made of them: any replica makes the same, and none has to keep it.
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.secret_access_key.as_bytes());
        let tag = ring::hmac::sign(&key, label.as_bytes());
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    #[cfg(test)]
    pub(crate) fn for_tests(id: &str, secret: &str) -> Self {
        Self {
            access_key_id: id.into(),
            secret_access_key: Zeroizing::new(secret.into()),
            session_token: None,
            ca_file: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(text: &str, mode: u32) -> Result<Credentials> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Credentials::read(&path)
    }

    #[test]
    fn faults_are_named_and_secrets_are_not() {
        let good = "access_key_id = \"AK\"\nsecret_access_key = \"hush-hush\"\n";
        let it = read(good, 0o600).unwrap();
        assert_eq!(format!("{it:?}"), "Credentials(..)");
        assert_eq!(it.mask("bad key hush-hush."), "bad key ***.");
        assert_eq!(*it.derive("a"), *it.derive("a"));
        assert_ne!(*it.derive("a"), *it.derive("b"));
        let cases = [
            (good, 0o644, "chmod 600"),
            ("access_key_id = \"AK\"\nsecret_access_key = hush-hush\n", 0o600, "is not TOML with"),
            ("access_key_id = \"A K\"\nsecret_access_key = \"hush-hush\"\n", 0o600, "`access_key_id` is not one word"),
            ("access_key_id = \"AK\"\nsecret_access_key = \"hush-hush\\n\"\n", 0o600, "`secret_access_key`"),
        ];
        for (text, mode, words) in cases {
            let error = read(text, mode).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hush"), "{error}");
        }
        let error = Credentials::read(Path::new("/nowhere/c.toml")).unwrap_err().to_string();
        assert!(error.contains("on every replica"), "{error}");
    }
}
