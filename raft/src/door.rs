//! The peer port: mutual TLS, and behind it either gRPC or appends in frames, as the caller asked for.
//!
//! Nobody without a certificate of the peer CA gets past the handshake. What this never does: wait for ever for a
//! handshake, or take more of them at once than replicas could want.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::frames;
use crate::peer::PeerService;

/// Longest a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way at once.
const HANDSHAKES_MAX: usize = 64;
/// Connections that wait for gRPC to take them.
const WAITING: usize = 16;
/// Pause after a failed accept (out of files), so that the loop does not burn a processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A connection that speaks gRPC.
pub(crate) type Connection = std::io::Result<TlsStream<TcpStream>>;

/// Accepts until `end`, when connections that speak frames end too; those that speak gRPC come out of the channel.
pub(crate) fn open(
    listener: TcpListener,
    config: rustls::ServerConfig,
    service: PeerService,
    end: CancellationToken,
) -> (impl Future<Output = ()> + Send, mpsc::Receiver<Connection>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let guest = Guest {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        service,
        sender,
        places: Semaphore::new(HANDSHAKES_MAX),
    };
    let accepting = async move {
        let (guest, mut guests) = (Arc::new(guest), JoinSet::new());
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                Some(ended) = guests.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a connection of a peer panicked");
                },
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(guests.spawn(guest.clone().welcome(stream))),
                    Err(error) => {
                        tracing::warn!(%error, "accept on the peer port failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    };
    (accepting, receiver)
}

/// What every connection needs.
struct Guest {
    acceptor: TlsAcceptor,
    service: PeerService,
    sender: mpsc::Sender<Connection>,
    places: Semaphore,
}

impl Guest {
    async fn welcome(self: Arc<Self>, stream: TcpStream) {
        let Some(stream) = self.shake_hands(stream).await else { return };
        if stream.get_ref().1.alpn_protocol() == Some(frames::ALPN) {
            self.service.clone().take_frames(stream).await;
        } else {
            // A closed receiver means that this replica ends: the connection is dropped with it.
            drop(self.sender.send(Ok(stream)).await);
        }
    }

    async fn shake_hands(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let Ok(_place) = self.places.try_acquire() else {
            tracing::debug!("a connection of a peer was refused: too many handshakes are under way");
            return None;
        };
        let remote = stream.peer_addr();
        let shaken = async {
            stream.set_nodelay(true)?;
            self.acceptor.accept(stream).await
        };
        match tokio::time::timeout(HANDSHAKE, shaken).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(?remote, %error, "the TLS handshake of a peer failed");
                None
            }
            Err(_) => {
                tracing::debug!(?remote, "the TLS handshake of a peer took too long");
                None
            }
        }
    }
}
