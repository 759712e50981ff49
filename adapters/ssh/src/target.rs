//! What must be known of a host to reach it, and the check that it can be used as it is.

use std::path::PathBuf;

use hanse_adapters_core::Result;

use crate::invalid;
use crate::login::Credential;

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

/// How the platform shows who it is, to the host and to each machine on the way.
#[derive(Clone, Debug)]
pub enum Login {
    /// By a key: Ed25519, ECDSA, or RSA with SHA-2.
    Key(Identity),
    /// By a key and the certificate that an authority made for it; the file is read at each login.
    Certificate {
        /// The key.
        identity: Identity,
        /// A file as `ssh-keygen -s` writes it.
        certificate: PathBuf,
    },
    /// By the keys and certificates of the agent that listens at this socket, which are tried in its order.
    Agent(PathBuf),
}

/// What a host must show before anything is sent to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPin {
    /// The key of this fingerprint, as `ssh-keygen -l` prints it: `SHA256:` and base64. [`crate::scan_host_key`] returns the
    /// one that will be asked for.
    Key(String),
    /// A certificate for its address, signed by the authority whose key has this fingerprint.
    Authority(String),
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
    /// Its pinned key, as [`HostPin::Key`].
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
    /// What it must show.
    pub pin: HostPin,
    /// Folder for everything of ours, absolute or below the account's home; `.hanse` if `None`. Letters, digits, `.`,
    /// `_`, `-` and `/` only.
    pub root: Option<String>,
    /// How to log in.
    pub login: Login,
    /// Whether everything on the host is done as root, through `sudo -n`.
    pub sudo: bool,
}

/// One machine that is logged in to.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) pin: HostPin,
    /// `user@address:port`, for messages.
    pub(crate) name: String,
}

impl Hop {
    fn check(address: String, port: u16, user: String, pin: HostPin) -> Result<Self> {
        let plain = |s: &str| !s.is_empty() && s.len() <= TEXT_MAX && !s.bytes().any(|b| b <= b' ' || b == 0x7f);
        if !plain(&address) || port == 0 {
            return Err(invalid("host address", "must be a host name or IP address and a port above 0"));
        }
        if !plain(&user) {
            return Err(invalid("host user", "must be the name of an account on the host"));
        }
        let (HostPin::Key(fingerprint) | HostPin::Authority(fingerprint)) = &pin;
        let digest = fingerprint.strip_prefix("SHA256:").unwrap_or_default();
        if digest.len() != 43 || !digest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/') {
            return Err(invalid(
                "host key fingerprint",
                "must be SHA256: and 43 characters, as `ssh-keygen -l` prints it",
            ));
        }
        let name = format!("{user}@{address}:{port}");
        Ok(Self { address, port, user, pin, name })
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
    pub(crate) credential: Credential,
    pub(crate) sudo: bool,
    /// `user@address:port`, for messages.
    pub(crate) name: String,
}

impl SshTarget {
    pub(crate) fn check(self) -> Result<Checked> {
        let host = Hop::check(self.address, self.port, self.user, self.pin)?;
        let jumps = check_jumps(self.jumps)?;
        let root = self.root.unwrap_or_else(|| DEFAULT_ROOT.into());
        check_root(&root)?;
        let credential = Credential::read(&self.login)?;
        let name = host.name.clone();
        Ok(Checked { jumps, host, root: root.trim_end_matches('/').into(), credential, sudo: self.sudo, name })
    }
}

/// The machines on a way, checked.
pub(crate) fn check_jumps(jumps: Vec<Jump>) -> Result<Vec<Hop>> {
    if jumps.len() > JUMPS_MAX {
        return Err(invalid("jumps", format!("at most {JUMPS_MAX} machines on the way")));
    }
    let jump = |jump: Jump| Hop::check(jump.address, jump.port, jump.user, HostPin::Key(jump.host_key_fingerprint));
    jumps.into_iter().map(jump).collect()
}

impl Checked {
    /// Folder of an artifact on the host; `sha256` was validated by the caller.
    pub(crate) fn artifact_dir(&self, sha256: &str) -> String {
        format!("{}/artifacts/{sha256}", self.root)
    }

    /// The command line that asks: all of its parts are constants, the checked root and hex.
    pub(crate) fn host_run(&self, sha256: &str) -> String {
        format!("{}{}/hanse host-run", self.as_root(), self.artifact_dir(sha256))
    }

    /// The command line that has sh(1) do it: `script` is made of the same parts and of numbers, and holds no quote.
    pub(crate) fn shell(&self, script: &str) -> String {
        format!("{}sh -c '{script}'", self.as_root())
    }

    /// Never asks for a password: nobody is there to give one.
    fn as_root(&self) -> &'static str {
        if self.sudo { "sudo -n " } else { "" }
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
