//! How the platform shows a machine who it is: by a key, by a certificate for it, or by what an agent signs.
//!
//! It runs only after the machine's own key was checked. SHA-1 is never signed with: an RSA key is used with `rsa-sha2-512` or
//! `rsa-sha2-256`. A certificate's file is read at each login, because certificates are short-lived and renewed beside us.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hanse_adapters_core::{AdapterError, Expiry, Result};
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, decode_secret_key};

use crate::invalid;
use crate::pin::Pin;
use crate::target::{Identity, Login};

/// Keys of an agent that are tried: sshd ends a connection after six (`MaxAuthTries`).
const AGENT_KEYS_MAX: usize = 5;

/// A login whose parts were read as far as they are kept.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    Key(Arc<PrivateKey>),
    Certificate(Arc<PrivateKey>, PathBuf),
    Agent(PathBuf),
}

impl Credential {
    /// Reads the key.
    ///
    /// # Errors
    /// `Invalid` says why it cannot be used and what to do.
    pub(crate) fn read(login: &Login) -> Result<Self> {
        match login {
            Login::Key(identity) => Ok(Self::Key(Arc::new(read_key(identity)?))),
            Login::Certificate { identity, certificate } => {
                let key = read_key(identity)?;
                if key.algorithm().is_rsa() {
                    let reason =
                        "certificates of RSA keys in files are not supported: use an Ed25519 or ECDSA key, or an agent";
                    return Err(invalid("identity", reason));
                }
                // Told at once rather than at the first login.
                read_certificate(certificate, &key)?;
                Ok(Self::Certificate(Arc::new(key), certificate.clone()))
            }
            Login::Agent(socket) => Ok(Self::Agent(socket.clone())),
        }
    }

    /// When what it shows ends; nothing if that is a key, or an agent's.
    pub(crate) fn expiry(&self) -> Option<Expiry> {
        let Self::Certificate(key, path) = self else { return None };
        let certificate = parse_certificate(path).ok().filter(|it| it.public_key() == key.public_key().key_data())?;
        let what = format!("the platform's SSH certificate ({}, `ssh_certificate` of the leader)", path.display());
        let renew = "sign the platform's key anew (`ssh-keygen -s CA -I ID -n USER -V +52w KEY.pub`) and put the certificate there \
                     on every replica; it is read at each login, nothing is restarted";
        let until_ms = certificate.valid_before().saturating_mul(1_000);
        Some(Expiry { what, until_ms, renew: renew.into() })
    }

    /// Logs in as `user`; the machine's key has been checked.
    ///
    /// # Errors
    /// `Denied` if the machine refuses what was shown, with what it needs; `Invalid` if the certificate cannot be used;
    /// `Transient` if the connection ended or no agent answers.
    pub(crate) async fn show(&self, handle: &mut Handle<Pin>, machine: &str, user: &str) -> Result<()> {
        let (answer, shown) = match self {
            Self::Key(key) => {
                let hash = rsa_hash(handle, key.public_key(), machine).await?;
                let with_hash = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
                let answer = handle.authenticate_publickey(user, with_hash).await;
                let shown =
                    format!("our key {}: add its public half to authorized_keys of {user}", print_of(key.public_key()));
                (answer.map_err(|e| e.to_string()), shown)
            }
            Self::Certificate(key, path) => {
                let certificate = read_certificate(path, key)?;
                let shown = format!(
                    "our certificate `{}` for {:?}, signed by {}: its sshd needs that authority in TrustedUserCAKeys, and {user} \
                     among the certificate's principals",
                    certificate.key_id(),
                    certificate.valid_principals(),
                    certificate.signature_key().fingerprint(HashAlg::Sha256)
                );
                let answer = handle.authenticate_openssh_cert(user, Arc::clone(key), certificate).await;
                (answer.map_err(|e| e.to_string()), shown)
            }
            Self::Agent(socket) => ask_agent(handle, socket, machine, user).await?,
        };
        let subject = machine.to_owned();
        match answer {
            Ok(AuthResult::Success) => Ok(()),
            // russh tells a connection that ended as a refusal that leaves no method.
            Ok(AuthResult::Failure { remaining_methods, .. }) if remaining_methods.is_empty() && handle.is_closed() => {
                Err(AdapterError::Transient { subject, reason: "the connection ended during login".into() })
            }
            Ok(AuthResult::Failure { .. }) => {
                Err(AdapterError::Denied { subject, reason: format!("the host refuses {shown}") })
            }
            Err(reason) => Err(AdapterError::Transient { subject, reason: format!("login: {reason}") }),
        }
    }
}

type Answer = (std::result::Result<AuthResult, String>, String);

/// Shows the agent's keys and certificates one after another.
async fn ask_agent(handle: &mut Handle<Pin>, socket: &Path, machine: &str, user: &str) -> Result<Answer> {
    let unasked = |reason: String| AdapterError::Transient {
        subject: format!("ssh-agent at {}", socket.display()),
        reason: format!("{reason}: start it on every replica, or correct `ssh_agent`"),
    };
    let mut agent = AgentClient::connect_uds(socket).await.map_err(|e| unasked(e.to_string()))?;
    let held = agent.request_identities().await.map_err(|e| unasked(e.to_string()))?;
    if held.is_empty() {
        return Err(unasked("it holds no key: add one with ssh-add".into()));
    }
    let count = held.len();
    let mut last = Err("no key of the agent was tried".to_owned());
    let mut unusable = None;
    for identity in held.into_iter().take(AGENT_KEYS_MAX) {
        let key = match &identity {
            AgentIdentity::PublicKey { key, .. } => key.clone(),
            AgentIdentity::Certificate { certificate, .. } => PublicKey::from(certificate.public_key().clone()),
        };
        let hash = match rsa_hash(handle, &key, machine).await {
            Ok(hash) => hash,
            // The next key may be of a kind that the host takes.
            Err(error @ AdapterError::Denied { .. }) => {
                unusable = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let answer = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                handle.authenticate_publickey_with(user, key, hash, &mut agent).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                handle.authenticate_certificate_with(user, certificate, hash, &mut agent).await
            }
        };
        last = answer.map_err(|e| e.to_string());
        if handle.is_closed() || matches!(last, Ok(AuthResult::Success)) {
            break;
        }
    }
    if let (Err(_), Some(error)) = (&last, unusable) {
        return Err(error);
    }
    let shown = format!(
        "all that was shown of the {count} keys of the agent at {} (at most {AGENT_KEYS_MAX} are): add the right one's public half to \
         authorized_keys of {user}",
        socket.display()
    );
    Ok((last, shown))
}

/// What an RSA key signs with, which the machine must have offered; none for other keys.
async fn rsa_hash(handle: &Handle<Pin>, key: &PublicKey, machine: &str) -> Result<Option<HashAlg>> {
    if !key.algorithm().is_rsa() {
        return Ok(None);
    }
    let subject = machine.to_owned();
    match handle.best_supported_rsa_hash().await {
        Ok(Some(None)) => {
            let reason = "the host takes no RSA key with SHA-2: upgrade its sshd or let it take rsa-sha2-512, or use an Ed25519 key";
            Err(AdapterError::Denied { subject, reason: reason.into() })
        }
        Ok(found) => Ok(Some(found.flatten().unwrap_or(HashAlg::Sha512))),
        Err(e) => Err(AdapterError::Transient { subject, reason: format!("login: {e}") }),
    }
}

fn print_of(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Returns the public half of `identity`, one line as in `authorized_keys`.
///
/// # Errors
/// `Invalid` if it is no OpenSSH private key that can be used as it is.
pub fn public_key(identity: &Identity) -> Result<String> {
    let key = read_key(identity)?;
    key.public_key().to_openssh().map_err(|e| invalid("identity", e.to_string()))
}

fn read_key(identity: &Identity) -> Result<PrivateKey> {
    let text = match identity {
        Identity::Key(text) => text.clone(),
        Identity::File(path) => {
            std::fs::read_to_string(path).map_err(|e| invalid("identity", format!("{}: {e}", path.display())))?
        }
    };
    decode_secret_key(&text, None)
        .map_err(|e| invalid("identity", format!("{e}: give an OpenSSH private key without passphrase")))
}

fn read_certificate(path: &Path, key: &PrivateKey) -> Result<Certificate> {
    let subject = format!("certificate {}", path.display());
    let certificate = parse_certificate(path)?;
    if certificate.public_key() != key.public_key().key_data() {
        return Err(invalid(&subject, "is of another key than `ssh_identity`: sign that key's public half"));
    }
    let now = hanse_hostrun::now_ms() / 1000;
    if now >= certificate.valid_before() {
        return Err(invalid(
            &subject,
            "has expired: sign the key anew and put the file there; it is read at each login",
        ));
    }
    if now < certificate.valid_after() {
        return Err(invalid(&subject, "is not valid yet: compare the clocks of this machine and the authority's"));
    }
    Ok(certificate)
}

fn parse_certificate(path: &Path) -> Result<Certificate> {
    let subject = format!("certificate {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| invalid(&subject, e.to_string()))?;
    Certificate::from_openssh(text.trim())
        .map_err(|e| invalid(&subject, format!("{e}: give what `ssh-keygen -s CA -I ID -n USER KEY.pub` wrote")))
}
