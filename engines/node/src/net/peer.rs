//! The sending side: one task a peer that dials, says hello, and writes what is queued.
//!
//! A connection that breaks is dialled again with back-off, or as soon as the peer dials us; what
//! was queued meanwhile is thrown away, because the peer will ask for the blocks it missed. It never
//! reads more than the end of the stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::FramedWrite;
use tokio_util::sync::CancellationToken;

use super::{BANNED, Event, HANDSHAKE_TIMEOUT, Peer, codec};
use crate::node::Shared;

/// First wait after a failed dial.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait; a restarted peer is found sooner, because its own dial ends the wait.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A peer that takes no bytes for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the connection to one peer until `stop`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    mut queue: mpsc::Receiver<Bytes>,
    connector: TlsConnector,
    stop: CancellationToken,
) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let work = async {
            while !peer.is_allowed() {
                peer.awake.notified().await;
            }
            match dial(&peer, &connector).await {
                Ok(stream) => {
                    backoff = BACKOFF_MIN;
                    let reason = talk(&shared, &peer, &mut queue, stream).await;
                    peer.set_outbound(false);
                    tracing::info!(peer = %peer.config.node_id, reason, "connection to peer ended");
                }
                Err(reason) => {
                    tracing::debug!(peer = %peer.config.node_id, reason, "cannot reach peer");
                }
            }
            let woken = timeout(backoff, peer.awake.notified()).await.is_ok();
            backoff = if woken { BACKOFF_MIN } else { (backoff * 2).min(BACKOFF_MAX) };
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = work => {}
        }
    }
    peer.set_outbound(false);
}

async fn dial(peer: &Peer, connector: &TlsConnector) -> Result<TlsStream<TcpStream>, String> {
    let connect = async {
        let tcp = TcpStream::connect(peer.config.address).await?;
        tcp.set_nodelay(true)?;
        // The name is not checked, the key is.
        let name = ServerName::try_from("node.invalid").expect("a constant name");
        connector.connect(name, tcp).await
    };
    match timeout(HANDSHAKE_TIMEOUT, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("timed out".to_owned()),
    }
}

/// Writes until the connection ends; returns why it ended.
async fn talk(shared: &Shared, peer: &Peer, queue: &mut mpsc::Receiver<Bytes>, stream: TlsStream<TcpStream>) -> String {
    let (mut read, write) = tokio::io::split(stream);
    let mut write = FramedWrite::new(write, codec());
    while queue.try_recv().is_ok() {}
    if let Err(error) = write.send(shared.hello().encode()).await {
        return error.to_string();
    }
    peer.set_outbound(true);
    tracing::info!(peer = %peer.config.node_id, address = %peer.config.address, "connected to peer");
    shared.tell(Event::PeerUp(peer.config.node_id));
    let mut end = [0u8; 1];
    loop {
        tokio::select! {
            frame = queue.recv() => {
                let Some(frame) = frame else { return "the node stops".to_owned() };
                match timeout(WRITE_TIMEOUT, write.send(frame)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return "it takes no bytes".to_owned(),
                }
            }
            () = peer.banned() => return BANNED.to_owned(),
            got = read.read(&mut end) => return match got {
                Ok(0) => "closed by the peer".to_owned(),
                Ok(_) => "the peer spoke on the wrong connection".to_owned(),
                Err(error) => error.to_string(),
            },
        }
    }
}
