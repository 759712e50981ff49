//! The receiving side: accepts connections of known keys and hands on what they say.
//!
//! The first frame must be a hello of the same chain. Requests for blocks and transactions are
//! answered here, off the consensus thread; the rest goes to consensus. It never writes on an
//! accepted connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alloy_eips::Decodable2718;
use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use super::{BANNED, BLOCKS_BYTES_MAX, Event, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, Peer, codec, tls};
use crate::block::Tx;
use crate::consensus::wire::{BlockForm, Message};
use crate::join;
use crate::mempool::AdmitError;
use crate::node::Shared;

/// Accepted connections at once, strangers in the handshake included.
const CONNECTIONS_MAX: usize = 256;
/// Blocks in one answer.
pub(crate) const BLOCKS_MAX: u32 = 64;
/// Transactions in one message.
pub(crate) const TRANSACTIONS_MAX: usize = 1024;

/// Accepts until `stop`, then ends all connections.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener, acceptor: TlsAcceptor, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while tasks.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors or an aborted connection; the listener itself is fine.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("too many connections, one refused");
            continue;
        };
        tasks.spawn(serve(Arc::clone(&shared), stream, acceptor.clone(), place));
    }
    tasks.shutdown().await;
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, acceptor: TlsAcceptor, _place: OwnedSemaphorePermit) {
    let from = stream.peer_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string());
    let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::warn!(from, %error, "refused a connection");
            return;
        }
        Err(_) => return tracing::warn!(from, "a handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let key = certificates.first().and_then(tls::key_of);
    let Some(peer) = key.and_then(|key| shared.net.peer(&key.node_id())).cloned() else {
        return tracing::warn!(from, "a connection without a known key");
    };
    if !peer.is_allowed() {
        return tracing::warn!(peer = %peer.config.node_id, "refused a connection: {BANNED}");
    }
    if tls::wants_snapshot(stream.get_ref().1) {
        let reason = join::serve(shared, stream).await;
        return tracing::info!(peer = %peer.config.node_id, reason, "a snapshot for a peer ended");
    }
    peer.inbound.fetch_add(1, Ordering::Relaxed);
    peer.awake.notify_one();
    let reason = listen(&shared, &peer, FramedRead::new(stream, codec())).await;
    peer.inbound.fetch_sub(1, Ordering::Relaxed);
    tracing::info!(peer = %peer.config.node_id, reason, "connection of peer ended");
}

/// Reads until the connection ends; returns why it ended.
async fn listen(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    mut frames: FramedRead<tokio_rustls::server::TlsStream<TcpStream>, tokio_util::codec::LengthDelimitedCodec>,
) -> String {
    let mut greeted = false;
    loop {
        let next = tokio::select! {
            next = timeout(IDLE_TIMEOUT, frames.next()) => next,
            () = peer.banned() => return BANNED.to_owned(),
        };
        let frame = match next {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(None) => return "closed by the peer".to_owned(),
            Err(_) => return "it fell silent".to_owned(),
        };
        let message = match Message::decode(&frame) {
            Ok(message) => message,
            Err(reason) => return format!("it sent what cannot be read: {reason}"),
        };
        match &message {
            Message::Hello { chain, .. } if *chain != shared.chain => {
                return format!("it is of another chain, {chain}");
            }
            Message::Hello { .. } => greeted = true,
            _ if !greeted => return "it did not say hello first".to_owned(),
            _ => {}
        }
        if let Err(reason) = dispatch(shared, peer, message).await {
            return reason;
        }
    }
}

async fn dispatch(shared: &Arc<Shared>, peer: &Arc<Peer>, message: Message) -> Result<(), String> {
    match message {
        Message::GetBlocks { from, count } => {
            let shared = Arc::clone(shared);
            let id = peer.config.node_id;
            blocking(move || {
                let blocks = collect_blocks(&shared, from, count.min(BLOCKS_MAX))?;
                shared.net.send(&id, &Message::Blocks(blocks));
                Ok(())
            })
            .await
        }
        Message::Transactions(list) => {
            if list.len() > TRANSACTIONS_MAX {
                return Err("it sent too many transactions at once".to_owned());
            }
            let shared = Arc::clone(shared);
            let id = peer.config.node_id;
            blocking(move || {
                take_transactions(&shared, &id, list);
                Ok(())
            })
            .await
        }
        Message::Hello { height, .. } | Message::Status { height } => {
            peer.said_height(height);
            shared.tell(Event::Message(peer.config.node_id, Message::Status { height }));
            Ok(())
        }
        Message::Vote(_) | Message::Proposal(_) | Message::Polka(_) | Message::Round(_) | Message::Blocks(_) => {
            shared.tell(Event::Message(peer.config.node_id, message));
            Ok(())
        }
    }
}

async fn blocking(work: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<(), String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
}

/// The blocks that a peer asks for, as many as one answer may hold.
pub(crate) fn collect_blocks(shared: &Shared, from: u64, count: u32) -> Result<Vec<BlockForm>, String> {
    let snapshot = shared.store.snapshot().map_err(|e| e.chain())?;
    let mut blocks = Vec::new();
    let mut bytes = 0;
    for number in from.max(1)..from.max(1).saturating_add(u64::from(count)) {
        let Some(block) = snapshot.block(number).map_err(|e| e.chain())? else { break };
        let certificate = snapshot.certificate(number).map_err(|e| e.chain())?.unwrap_or_default();
        bytes += block.raw().len() + certificate.len();
        if bytes > BLOCKS_BYTES_MAX && !blocks.is_empty() {
            break;
        }
        blocks.push(BlockForm { block: block.raw().clone(), certificate: certificate.into() });
    }
    Ok(blocks)
}

/// Admits a peer's transactions and passes on those that are new.
pub(crate) fn take_transactions(shared: &Shared, from: &crate::keys::NodeId, list: Vec<alloy_primitives::Bytes>) {
    let mut fresh = Vec::new();
    for raw in list {
        let Ok(tx) = Tx::decode_2718_exact(&raw) else {
            tracing::debug!(peer = %from, "a transaction cannot be read");
            continue;
        };
        match shared.admit(tx) {
            Ok(_) => fresh.push(raw),
            Err(AdmitError::Known) => {}
            Err(error) => tracing::debug!(peer = %from, %error, "a transaction is not admitted"),
        }
    }
    if !fresh.is_empty() {
        shared.net.broadcast(&Message::Transactions(fresh), Some(from));
    }
}
