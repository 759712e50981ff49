//! What must be known of a host to reach it, and the check that it can be used as it is.

use std::path::PathBuf;
use std::sync::Arc;

use hanse_adapters_core::Result;
use russh::keys::{HashAlg, PrivateKey, decode_secret_key};

use crate::invalid;

/// Root folder below the account's home, unless configured.
const DEFAULT_ROOT: &str = ".hanse";
/// Longest address, user or root folder.
const TEXT_MAX: usize = 255;

/// The private key that the host lets in.
#[derive(Clone)]
pub enum Identity {
    /// A file with an OpenSSH private key without passphrase.
    File(PathBuf),
    /// The text of such a file.
    Key(String),
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "Identity::File({})", path.display()),
            Self::Key(_) => f.write_str("Identity::Key(hidden)"),
        }
    }
}

/// A machine on the way, as OpenSSH's `ProxyJump` names it; its key is pinned like the host's, and it is logged in to with
/// the same identity.
#[derive(Clone, Debug)]
pub struct Jump {
    /// Host name or IP address, as the machine before it on the way knows it.
    pub address: String,
    /// TCP port of its sshd.
    pub port: u16,
    /// Account on it.
    pub user: String,
    /// Its pinned key, as [`SshTarget::host_key_fingerprint`].
    pub host_key_fingerprint: String,
}

/// Longest way to a host.
const JUMPS_MAX: usize = 4;

/// How a host is reached.
#[derive(Clone, Debug)]
pub struct SshTarget {
    /// Host name or IP address.
    pub address: String,
    /// TCP port of its sshd.
    pub port: u16,
    /// Account on the host.
    pub user: String,
    /// Machines on the way, the first one first.
    pub jumps: Vec<Jump>,
    /// The pinned host key as `ssh-keygen -l` prints it: `SHA256:` and base64. [`crate::scan_host_key`] returns the one
    /// that will be asked for.
    pub host_key_fingerprint: String,
    /// Folder for everything of ours, absolute or below the account's home; `.hanse` if `None`. Letters, digits, `.`,
    /// `_`, `-` and `/` only.
    pub root: Option<String>,
    /// The key to log in with.
    pub identity: Identity,
}

/// One machine that is logged in to.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) fingerprint: String,
    /// `user@address:port`, for messages.
    pub(crate) name: String,
}

impl Hop {
    fn check(address: String, port: u16, user: String, fingerprint: String) -> Result<Self> {
        let plain = |s: &str| !s.is_empty() && s.len() <= TEXT_MAX && !s.bytes().any(|b| b <= b' ' || b == 0x7f);
        if !plain(&address) || port == 0 {
            return Err(invalid("host address", "must be a host name or IP address and a port above 0"));
        }
        if !plain(&user) {
            return Err(invalid("host user", "must be the name of an account on the host"));
        }
        let digest = fingerprint.strip_prefix("SHA256:").unwrap_or_default();
        if digest.len() != 43 || !digest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/') {
            return Err(invalid(
                "host key fingerprint",
                "must be SHA256: and 43 characters, as `ssh-keygen -l` prints it",
            ));
        }
        let name = format!("{user}@{address}:{port}");
        Ok(Self { address, port, user, fingerprint, name })
    }
}

/// A target whose parts were checked, with the key read.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Machines on the way.
    pub(crate) jumps: Vec<Hop>,
    /// The host itself.
    pub(crate) host: Hop,
    pub(crate) root: String,
    pub(crate) key: Arc<PrivateKey>,
    /// Fingerprint of the public half, for messages.
    pub(crate) key_fingerprint: String,
    /// `user@address:port`, for messages.
    pub(crate) name: String,
}

impl SshTarget {
    pub(crate) fn check(self) -> Result<Checked> {
        let host = Hop::check(self.address, self.port, self.user, self.host_key_fingerprint)?;
        if self.jumps.len() > JUMPS_MAX {
            return Err(invalid("jumps", format!("at most {JUMPS_MAX} machines on the way")));
        }
        let jump = |jump: Jump| Hop::check(jump.address, jump.port, jump.user, jump.host_key_fingerprint);
        let jumps = self.jumps.into_iter().map(jump).collect::<Result<_>>()?;
        let root = self.root.unwrap_or_else(|| DEFAULT_ROOT.into());
        check_root(&root)?;
        let key = read_key(&self.identity)?;
        let key_fingerprint = key.public_key().fingerprint(HashAlg::Sha256).to_string();
        let name = host.name.clone();
        Ok(Checked { jumps, host, root: root.trim_end_matches('/').into(), key: Arc::new(key), key_fingerprint, name })
    }
}

impl Checked {
    /// Folder of an artifact on the host; `sha256` was validated by the caller.
    pub(crate) fn artifact_dir(&self, sha256: &str) -> String {
        format!("{}/artifacts/{sha256}", self.root)
    }

    /// The command line that asks: all of its parts are constants, the checked root and hex.
    pub(crate) fn host_run(&self, sha256: &str) -> String {
        format!("{}/hanse host-run", self.artifact_dir(sha256))
    }

    /// The command line that uploads: `script` is made of the same parts, and holds no quote.
    pub(crate) fn shell(&self, script: &str) -> String {
        format!("sh -c '{script}'")
    }
}

/// The root is the only configured text in a command line, so it holds nothing that any shell reads otherwise.
fn check_root(root: &str) -> Result<()> {
    let allowed = root.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'));
    let parts_fine = root.split('/').all(|part| part != ".." && !part.starts_with('-'));
    let named = root.bytes().any(|b| b.is_ascii_alphanumeric());
    if allowed && parts_fine && named && root.len() <= TEXT_MAX {
        return Ok(());
    }
    Err(invalid(
        "host root folder",
        "may hold only letters, digits, `.`, `_`, `-` and `/`, and no `..` or leading dash",
    ))
}

fn read_key(identity: &Identity) -> Result<PrivateKey> {
    let text = match identity {
        Identity::Key(text) => text.clone(),
        Identity::File(path) => {
            std::fs::read_to_string(path).map_err(|e| invalid("identity", format!("{}: {e}", path.display())))?
        }
    };
    let key = decode_secret_key(&text, None)
        .map_err(|e| invalid("identity", format!("{e}: give an OpenSSH private key without passphrase")))?;
    if key.algorithm().is_rsa() {
        return Err(invalid("identity", "RSA keys are not supported: make one with `ssh-keygen -t ed25519`"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_cannot_say_anything_to_a_shell() {
        for good in [".hanse", "/var/lib/hanse", "a/b-c_d.e", "/srv/h/"] {
            assert!(check_root(good).is_ok(), "{good}");
        }
        for bad in
            ["", "/", "-x", "a/-x", "..", "a/../b", "a b", "a;b", "$HOME", "~", "a\nb", "`id`", "a'b", "é", "a\\b"]
        {
            assert!(check_root(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert!(!format!("{:?}", Identity::Key("very secret".into())).contains("secret"));
    }
}
