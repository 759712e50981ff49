//! The door of the API: TLS 1.3 on a TCP listener, with limits before anything is spoken.
//!
//! Clients are known by their session, not by a certificate. A certificate is asked for all the same, and only one of
//! the *peer* CA is accepted: that is how the leader knows that a forwarded call comes from a replica, whose word on
//! the client's address it may take. A connection without a certificate is an ordinary client.
//!
//! What this never does: wait for ever for a handshake, or let one source of connections use up the process's files.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hanse_cork::Corked;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use x509_parser::extensions::GeneralName;

use crate::places::{CLIENTS, HANDSHAKES, Place, Places};

/// Longest a client may take for the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Pause after a failed accept (out of files), so that the loop does not burn a processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the API's TLS needs, in PEM.
#[derive(Clone)]
pub struct ApiTls {
    /// The authority that signs API certificates; other replicas' APIs are verified with it.
    pub api_ca: Vec<u8>,
    /// This replica's API certificate.
    pub api_cert: Vec<u8>,
    /// Its key.
    pub api_key: Vec<u8>,
    /// The authority of peer certificates; a caller that shows one is a replica.
    pub peer_ca: Vec<u8>,
    /// This replica's peer certificate, shown when it forwards.
    pub peer_cert: Vec<u8>,
    /// Its key.
    pub peer_key: Vec<u8>,
}

impl ApiTls {
    /// Reads the six files of a replica's TLS folder.
    ///
    /// # Errors
    /// [`ListenError::File`] names the file.
    pub fn read(dir: &std::path::Path) -> Result<Self, ListenError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|source| ListenError::File { path, source })
        };
        Ok(Self {
            api_ca: read("api-ca.pem")?,
            api_cert: read("api.pem")?,
            api_key: read("api.key")?,
            peer_ca: read("peer-ca.pem")?,
            peer_cert: read("peer.pem")?,
            peer_key: read("peer.key")?,
        })
    }
}

/// When a certificate in PEM ends, milliseconds since 1970; `None` if it is none.
pub(crate) fn ends_at(pem: &[u8]) -> Option<u64> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let until = pem.parse_x509().ok()?.validity().not_after.timestamp();
    u64::try_from(until).ok().map(|seconds| seconds.saturating_mul(1_000))
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A file of the TLS folder cannot be read.
    #[error("TLS file {path}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Certificates or keys cannot be used.
    #[error("TLS {part}: {reason}")]
    Tls {
        /// Which part.
        part: &'static str,
        /// Why.
        reason: String,
    },
    /// The server ended with an error.
    #[error("API server: {0}")]
    Serve(String),
}

/// Who is at the other end of a connection; in the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its address.
    pub remote: SocketAddr,
    /// The replica, if it showed a peer certificate.
    pub replica: Option<u64>,
}

/// One accepted connection; holds its place until it closes.
pub struct Conn {
    stream: Corked<TlsStream<TcpStream>>,
    caller: Caller,
    /// None for a replica.
    _place: Option<Place>,
}

/// Accepts until `shutdown`; finished handshakes come out of the returned channel.
///
/// # Errors
/// [`ListenError::Tls`] if the certificates cannot be used; nothing was started.
pub fn spawn(
    listener: TcpListener,
    tls: &ApiTls,
    shutdown: CancellationToken,
) -> Result<mpsc::Receiver<Result<Conn, std::io::Error>>, ListenError> {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(tls)?));
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(accept_loop(listener, acceptor, sender, shutdown));
    Ok(receiver)
}

async fn accept_loop(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    sender: mpsc::Sender<Result<Conn, std::io::Error>>,
    shutdown: CancellationToken,
) {
    let (handshakes, clients) = (Places::new(HANDSHAKES), Places::new(CLIENTS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(pair) => pair,
            Err(error) => {
                tracing::warn!(%error, "accept on the API port failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = handshakes.take(remote.ip()) else {
            tracing::debug!(%remote, "refused: too many handshakes of this address or in all");
            continue;
        };
        let (acceptor, sender, shutdown) = (acceptor.clone(), sender.clone(), shutdown.clone());
        let clients = clients.clone();
        tokio::spawn(async move {
            let _place = place;
            let handshake = tokio::time::timeout(HANDSHAKE_MAX, handshake(acceptor, stream, remote, &clients));
            let done = tokio::select! {
                () = shutdown.cancelled() => return,
                done = handshake => done,
            };
            match done {
                // A closed receiver means the server is going down: the connection is dropped with it.
                Ok(Ok(conn)) => drop(sender.send(Ok(conn)).await),
                Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
            }
        });
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    remote: SocketAddr,
    clients: &Places,
) -> std::io::Result<Conn> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let replica = stream.get_ref().1.peer_certificates().and_then(|chain| replica_of(chain.first()?));
    let place = match replica {
        Some(_) => None,
        None => Some(clients.take(remote.ip()).ok_or_else(|| {
            std::io::Error::other("too many connections of this address, or of all clients, are open")
        })?),
    };
    Ok(Conn { stream: Corked::new(stream), caller: Caller { remote, replica }, _place: place })
}

/// Number of the replica that a (verified) peer certificate names: `replica-<id>.<cluster>.hanse.internal`.
fn replica_of(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) if name.ends_with(".hanse.internal") => {
            name.strip_prefix("replica-")?.split_once('.')?.0.parse().ok()
        }
        _ => None,
    })
}

fn server_config(tls: &ApiTls) -> Result<rustls::ServerConfig, ListenError> {
    fn fault(part: &'static str) -> impl Fn(&dyn std::fmt::Display) -> ListenError {
        move |error| ListenError::Tls { part, reason: error.to_string() }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&tls.peer_ca) {
        let certificate = certificate.map_err(|e| fault("peer-ca.pem")(&e))?;
        roots.add(certificate).map_err(|e| fault("peer-ca.pem")(&e))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| fault("peer-ca.pem")(&e))?;
    let chain = CertificateDer::pem_slice_iter(&tls.api_cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| fault("api.pem")(&e))?;
    let key = PrivateKeyDer::from_pem_slice(&tls.api_key).map_err(|e| fault("api.key")(&e))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| fault("versions")(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| fault("api.pem")(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

impl Connected for Conn {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
