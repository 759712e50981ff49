//! The one module that names russh: a pinned, authenticated connection and what is done through it.
//!
//! Every wait has a limit. Keepalives find a dead peer within [`KEEPALIVE`] times [`KEEPALIVE_MAX`]; sshd allows ten
//! sessions per connection by default (`MaxSessions`), so callers queue for [`SESSIONS_MAX`]. It never retries.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hanse_adapters_core::{AdapterError, Expiry, Result, Stream};
use russh::client::{self, Handle, Msg};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Channel, ChannelOpenFailure, Preferred, cipher};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::invalid;
use crate::login::Credential;
use crate::pin::{self, Pin, Shown, fits};
use crate::served::{IDLE_LIMIT, Idle};
use crate::target::{self, Checked, Hop, HostPin, Jump, Login};

/// TCP connection and key exchange; authentication may take as long again.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Opening a channel.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// A silent peer is asked whether it is there after this.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// So many unanswered questions end the connection.
const KEEPALIVE_MAX: usize = 3;
/// Sessions at once on one connection, below sshd's default of ten.
const SESSIONS_MAX: usize = 8;
/// Messages kept for one channel: a dialled stream that is read slowly stalls the whole connection only beyond.
const CHANNEL_MESSAGES: usize = 512;
/// Most of an answer that is read.
pub(crate) const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most of standard error that is kept, for messages.
pub(crate) const STDERR_BYTES_MAX: usize = 4 * 1024;

/// Ciphers that are asked for where the processor knows AES, best first: a megabyte costs either end a third of what it does with
/// ChaCha20, which is the first elsewhere.
const AES_FIRST: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_192_CTR, cipher::AES_128_CTR];

/// Whether this processor has instructions for AES.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Host keys that are asked for, best first, and kinds of certificates; SHA-1 is not among them.
const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// An authenticated connection.
pub(crate) struct Connection {
    handle: Handle<Pin>,
    /// Connections to the machines on the way, which carry this one.
    way: Vec<Handle<Pin>>,
    name: String,
    sessions: Arc<Semaphore>,
    idle: Idle,
    /// Whether somebody looks after `idle`.
    is_swept: Mutex<bool>,
    /// Certificates that machines showed, and when each was last looked at.
    expiries: Mutex<(Instant, Vec<Option<Expiry>>)>,
    /// Hashes seen in place over this connection; bounded by the artifacts in use.
    artifacts: Mutex<BTreeSet<String>>,
}

/// What became of a request to our program on the host.
#[derive(Debug)]
pub(crate) enum Ran {
    /// The line that it answered.
    Answered(Vec<u8>),
    /// The host could not execute the program; what its shell said. Nothing was done.
    NoProgram(String),
    /// The connection broke before the request was sent. Nothing was done.
    NotSent(String),
    /// It was sent and no answer came.
    NoAnswer(String),
}

/// What a server shows of itself, for a person to compare and pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeys {
    /// Its key, `SHA256:...`.
    pub fingerprint: String,
    /// The authority that has signed its certificate, `SHA256:...`, if it shows one.
    pub authority: Option<String>,
}

/// Returns the fingerprint (`SHA256:...`) of the key that the server at `address` shows, for a person to compare and
/// pin. No credential is sent; whoever answers may be anyone.
///
/// # Errors
/// `Transient` if nobody answers or it is not an SSH server.
pub async fn scan_host_key(address: &str, port: u16) -> Result<String> {
    match look(address, port, None, false).await? {
        Shown::Key(fingerprint) => Ok(fingerprint),
        Shown::Certificate { .. } => Err(unasked(address, port)),
    }
}

/// As [`scan_host_key`], with the authority of the server's certificate, and through other machines if need be: to each of these
/// the platform logs in, once its pinned key was checked. To the server itself no credential is sent.
///
/// # Errors
/// `Invalid` names what is wrong with the way; `Denied` if a machine on the way shows another key than the pinned one or
/// refuses the login; `Transient` if nobody answers.
pub async fn scan(address: &str, port: u16, jumps: Vec<Jump>, login: Option<&Login>) -> Result<HostKeys> {
    let hops = target::check_jumps(jumps)?;
    let way = match login {
        Some(login) if !hops.is_empty() => go(&Credential::read(login)?, &hops).await?.0,
        None if !hops.is_empty() => return Err(invalid("login", "is needed on the machines on the way")),
        Some(_) | None => Vec::new(),
    };
    let Shown::Key(fingerprint) = look(address, port, way.last(), false).await? else {
        return Err(unasked(address, port));
    };
    let authority = match look(address, port, way.last(), true).await? {
        Shown::Certificate { authority, .. } => Some(authority),
        Shown::Key(_) => None,
    };
    Ok(HostKeys { fingerprint, authority })
}

fn unasked(address: &str, port: u16) -> AdapterError {
    let reason = "it shows a certificate that was not asked for".into();
    AdapterError::Transient { subject: format!("{address}:{port}"), reason }
}

/// What a server shows first; it is never accepted.
async fn look(address: &str, port: u16, through: Option<&Handle<Pin>>, certificates: bool) -> Result<Shown> {
    let (pin, seen) = Pin::new(None, address);
    let failure = match handshake(address, port, through, pin, certificates).await {
        Ok(_) => "a key was accepted though none was asked for".to_owned(),
        Err(reason) => reason,
    };
    pin::taken(&seen).ok_or(AdapterError::Transient { subject: format!("{address}:{port}"), reason: failure })
}

/// The way to the next machine: straight, or through the one before.
async fn way(address: &str, port: u16, through: Option<&Handle<Pin>>) -> std::result::Result<Box<dyn Stream>, String> {
    let Some(handle) = through else {
        let stream = TcpStream::connect((address, port)).await.map_err(|e| format!("cannot connect: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        return Ok(Box::new(stream));
    };
    let opened = handle.channel_open_direct_tcpip(address, u32::from(port), "127.0.0.1", 0).await;
    match opened {
        Ok(channel) => Ok(Box::new(channel.into_stream())),
        Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited)) => {
            Err("the machine before it on the way forbids it: set AllowTcpForwarding to local there".into())
        }
        Err(e) => Err(format!("the machine before it on the way cannot connect: {e}")),
    }
}

async fn handshake(
    address: &str,
    port: u16,
    through: Option<&Handle<Pin>>,
    pin: Pin,
    certificates: bool,
) -> std::result::Result<Handle<Pin>, String> {
    let config = client::Config {
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_MAX,
        channel_buffer_size: CHANNEL_MESSAGES,
        nodelay: true,
        preferred: Preferred {
            key: Cow::Borrowed(HOST_KEYS),
            host_key_certificates: Cow::Borrowed(if certificates { HOST_KEYS } else { &[] }),
            compression: Cow::Borrowed(&[russh::compression::NONE]),
            cipher: if has_aes() { Cow::Borrowed(AES_FIRST) } else { Preferred::DEFAULT.cipher },
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    };
    let connect = async {
        let stream = way(address, port, through).await?;
        client::connect_stream(Arc::new(config), stream, pin).await.map_err(|e| format!("SSH handshake: {e}"))
    };
    match timeout(CONNECT_LIMIT, connect).await {
        Ok(result) => result,
        Err(_) => Err(format!("it did not finish the SSH handshake within {} s", CONNECT_LIMIT.as_secs())),
    }
}

/// What a machine that was logged in to shows now: a certificate is renewed beside the connections that are kept. Nothing is
/// believed but what would let the platform log in again.
async fn shown_now(hop: &Hop, through: Option<&Handle<Pin>>) -> Option<Expiry> {
    if !matches!(hop.pin, HostPin::Authority(_)) {
        return None;
    }
    let shown = look(&hop.address, hop.port, through, true).await.ok()?;
    pin::expiry(hop, &shown).filter(|_| fits(&hop.pin, &shown))
}

/// A machine that was logged in to, and when the certificate that it showed ends.
type Reached = (Handle<Pin>, Option<Expiry>);

/// Connects to one machine, checks its key, then logs in.
async fn log_in(credential: &Credential, hop: &Hop, through: Option<&Handle<Pin>>) -> Result<Reached> {
    let (pin, seen) = Pin::new(Some(hop.pin.clone()), &hop.address);
    let certificates = matches!(hop.pin, HostPin::Authority(_));
    let mut handle = match handshake(&hop.address, hop.port, through, pin, certificates).await {
        Ok(handle) => handle,
        Err(reason) => {
            return Err(match pin::taken(&seen).filter(|shown| !fits(&hop.pin, shown)) {
                Some(shown) => pin::refused(hop, &shown),
                None => AdapterError::Transient { subject: hop.name.clone(), reason },
            });
        }
    };
    match timeout(CONNECT_LIMIT, credential.show(&mut handle, &hop.name, &hop.user)).await {
        Ok(Ok(())) => Ok((handle, pin::taken(&seen).and_then(|shown| pin::expiry(hop, &shown)))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(AdapterError::Transient { subject: hop.name.clone(), reason: "the login took too long".into() }),
    }
}

/// Logs in to each machine on the way, the next one through the one before.
async fn go(credential: &Credential, hops: &[Hop]) -> Result<(Vec<Handle<Pin>>, Vec<Option<Expiry>>)> {
    let (mut way, mut expiries): (Vec<Handle<Pin>>, Vec<Option<Expiry>>) = (Vec::new(), Vec::new());
    for hop in hops {
        let (handle, expiry) = log_in(credential, hop, way.last()).await?;
        way.push(handle);
        expiries.push(expiry);
    }
    Ok((way, expiries))
}

impl Connection {
    /// Connects, checks the key of each machine on the way and of the host, and logs in to each.
    ///
    /// # Errors
    /// `Denied` if a key differs from the pinned one (no credential was sent to that machine) or a login is refused;
    /// `Transient` if the host is out of reach.
    pub(crate) async fn open(target: &Checked) -> Result<Self> {
        let (way, mut expiries) = go(&target.credential, &target.jumps).await?;
        let (handle, expiry) = log_in(&target.credential, &target.host, way.last()).await?;
        expiries.push(expiry);
        Ok(Self {
            handle,
            expiries: Mutex::new((Instant::now(), expiries)),
            way,
            name: target.name.clone(),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            idle: Idle::default(),
            is_swept: Mutex::new(false),
            artifacts: Mutex::default(),
        })
    }

    /// The certificates of the machines on the way and of the host; looked at again if that was not done for `every`. What
    /// cannot be seen stays as it was seen last.
    pub(crate) async fn expiries(&self, target: &Checked, every: Duration) -> Vec<Expiry> {
        let is_due = {
            let mut kept = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = kept.0.elapsed() >= every;
            if is_due {
                kept.0 = Instant::now();
            }
            is_due
        };
        if is_due {
            let mut through = None;
            for (place, hop) in target.jumps.iter().chain([&target.host]).enumerate() {
                let shown = shown_now(hop, through).await;
                let mut kept = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
                if let (Some(shown), Some(known)) = (shown, kept.1.get_mut(place)) {
                    *known = Some(shown);
                }
                through = self.way.get(place);
            }
        }
        self.expiries.lock().unwrap_or_else(PoisonError::into_inner).1.iter().flatten().cloned().collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    pub(crate) fn has_artifact(&self, sha256: &str) -> bool {
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).contains(sha256)
    }

    pub(crate) fn remember_artifact(&self, sha256: &str) {
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).insert(sha256.to_owned());
    }

    pub(crate) fn forget_artifacts(&self) {
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Programs that wait for a request.
    pub(crate) fn idle(&self) -> &Idle {
        &self.idle
    }

    /// Ends what waits too long, until nothing is asked any more. It does not keep the connection.
    pub(crate) fn spawn_sweep(self: &Arc<Self>) {
        let mut is_swept = self.is_swept.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *is_swept, true) {
            return;
        }
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE_LIMIT / 2).await;
                let Some(connection) = weak.upgrade() else { return };
                connection.idle.drop_old();
            }
        });
    }

    /// Opens a session channel, for one command or one subsystem; the permit is held as long as the channel.
    pub(crate) async fn session(&self) -> std::result::Result<(Channel<Msg>, OwnedSemaphorePermit), String> {
        let permit = Arc::clone(&self.sessions).acquire_owned().await.map_err(|e| e.to_string())?;
        match timeout(OPEN_LIMIT, self.handle.channel_open_session()).await {
            Ok(Ok(channel)) => Ok((channel, permit)),
            Ok(Err(e)) => Err(format!("opening a session: {e}")),
            Err(_) => Err("opening a session took too long".into()),
        }
    }

    /// Opens a stream to `port` on the host's loopback; `None` if the connection is broken.
    pub(crate) async fn dial(&self, port: u16) -> Result<Option<Box<dyn Stream>>> {
        let subject = format!("{} port {port}", self.name);
        let opened = self.handle.channel_open_direct_tcpip("127.0.0.1", u32::from(port), "127.0.0.1", 0);
        match timeout(OPEN_LIMIT, opened).await {
            Ok(Ok(channel)) => Ok(Some(Box::new(channel.into_stream()))),
            Ok(Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited))) => {
                let reason = "the host's sshd forbids it: set AllowTcpForwarding to local for this account".into();
                Err(AdapterError::Denied { subject, reason })
            }
            Ok(Err(russh::Error::ChannelOpenFailure(failure))) => {
                Err(AdapterError::Transient { subject, reason: format!("nothing answers there: {failure:?}") })
            }
            Ok(Err(_)) => Ok(None),
            Err(_) => Err(AdapterError::Transient { subject, reason: "opening a stream took too long".into() }),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("name", &self.name)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
