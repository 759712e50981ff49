//! Whom a hypervisor takes us for, and what it must show before: a file on each replica, read anew for every act.
//!
//! What this never does: show a secret in an error, a log line or a `Debug` text, or read a file that others may read.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hanse_adapters_core::{AdapterError, Result};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// How a hypervisor is logged in to.
#[derive(Clone)]
pub struct Credentials {
    /// Text of an OpenSSH private key without passphrase.
    pub(crate) identity: Zeroizing<String>,
    /// The key that the hypervisor's sshd must show: `SHA256:...`; no secret.
    pub(crate) host_key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    identity: PathBuf,
    host_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Credentials {
    /// Reads the file at `path`: TOML with `identity` (the file of a private key, a path of its own or one beside this file) and
    /// `host_key` (`SHA256:...`, as `ssh-keygen -lf` prints it on the hypervisor).
    ///
    /// # Errors
    /// `Invalid` with the file's name, the fault and what to do; never with what is in it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = private(path)?;
        let it: File = toml::from_str(&text).map_err(|_| {
            wrong(path, "is not TOML with `identity` (a private key's file) and `host_key` (SHA256:...)".into())
        })?;
        if !it.host_key.starts_with("SHA256:") {
            let reason = "`host_key` is not SHA256: and 43 characters, as `ssh-keygen -lf` prints it on the hypervisor";
            return Err(wrong(path, reason.into()));
        }
        let identity = private(&path.parent().unwrap_or(Path::new(".")).join(it.identity))?;
        Ok(Self { identity, host_key: it.host_key })
    }

    /// Returns 32 bytes that only who has the private key can know, the same for the same `label`.
    pub(crate) fn derive(&self, label: &str) -> [u8; 32] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.identity.trim().as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(ring::hmac::sign(&key, label.as_bytes()).as_ref());
        bytes
    }
}

fn wrong(path: &Path, reason: String) -> AdapterError {
    AdapterError::Invalid { subject: format!("credentials {}", path.display()), reason }
}

/// The text of a file that nobody else may read.
fn private(path: &Path) -> Result<Zeroizing<String>> {
    let unread = |error: std::io::Error| {
        wrong(path, format!("cannot be read on this replica ({}); put the file on every replica", error.kind()))
    };
    let facts = std::fs::metadata(path).map_err(unread)?;
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(wrong(path, format!("may be read by others (mode {mode:o}); say `chmod 600` to it")));
    }
    if facts.len() > FILE_BYTES_MAX {
        return Err(wrong(path, format!("is larger than {FILE_BYTES_MAX} bytes; name the right file")));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(unread)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn faults_are_named_and_secrets_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        put("key", "hush-hush\n", 0o600);
        put("open", "hush-hush\n", 0o640);
        let good = "identity = \"key\"\nhost_key = \"SHA256:abc\"\n";
        let it = Credentials::read(&put("c", good, 0o600)).unwrap();
        assert_eq!((format!("{it:?}"), it.identity.as_str()), ("Credentials(..)".into(), "hush-hush\n"));
        assert!(it.derive("a") == it.derive("a") && it.derive("a") != it.derive("b"));
        let cases = [
            (good.to_owned(), 0o644, "chmod 600"),
            (good.replace("key\"", "open\""), 0o600, "open: may be read by others"),
            (good.replace("key\"", "none\""), 0o600, "on every replica"),
            (good.replace("SHA256:abc", "hush-hush"), 0o600, "ssh-keygen -lf"),
            ("identity = hush-hush".into(), 0o600, "is not TOML with"),
        ];
        for (text, mode, words) in cases {
            let error = Credentials::read(&put("c", &text, mode)).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hush"), "{error}");
        }
    }
}
