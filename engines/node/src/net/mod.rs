//! Peers: who they are, how they are reached, what was said.
//!
//! Each pair of nodes has two connections, one in each direction: a node sends only on the
//! connection that it dialled (`peer`) and receives only on those it accepted (`listen`). So no
//! tie has to be broken when both dial at once. Frames are `length u32 | MessagePack`, over mutual
//! TLS 1.3 with an allow-list of keys (`tls`).
//!
//! It never waits for a slow peer: a full queue drops the message, and consensus says it again.

pub(crate) mod listen;
pub(crate) mod peer;
pub(crate) mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::codec::LengthDelimitedCodec;

use crate::config::{NodeConfig, PeerConfig};
use crate::consensus::wire::Message;
use crate::keys::NodeId;

/// Largest frame: an answer to a catch-up request, [`BLOCKS_BYTES_MAX`] and one block more.
pub(crate) const FRAME_BYTES_MAX: usize = 8 << 20;
/// Blocks are added to an answer until it holds this much.
pub(crate) const BLOCKS_BYTES_MAX: usize = 4 << 20;
/// Messages that wait for one peer; beyond, new ones are dropped.
const QUEUE_MAX: usize = 1024;
/// TCP and TLS together must be done by then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer says its height every two seconds, so this much silence means it is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a node of the configuration is not spoken to.
const BANNED: &str = "it is not on the chain's list of nodes";

/// What the network tells consensus.
#[derive(Debug)]
pub(crate) enum Event {
    /// A peer said something.
    Message(NodeId, Message),
    /// A connection to a peer was made; it knows nothing yet.
    PeerUp(NodeId),
    /// The node is told to stop.
    Stop,
}

/// One peer of the configuration. Lives as long as the node.
pub(crate) struct Peer {
    pub(crate) config: PeerConfig,
    queue: mpsc::Sender<Bytes>,
    /// Whether our connection to it stands.
    outbound: AtomicBool,
    /// How many of its connections to us stand.
    inbound: AtomicUsize,
    /// The newest block it told us.
    height: AtomicU64,
    /// Messages dropped because its queue was full.
    dropped: AtomicU64,
    /// Whether the chain's list of nodes lets it connect.
    allowed: watch::Sender<bool>,
    /// Ends the wait before the next dial: the peer has just shown that it is up.
    awake: Notify,
}

impl Peer {
    pub(crate) fn is_outbound(&self) -> bool {
        self.outbound.load(Ordering::Relaxed)
    }

    /// Notes whether our connection to it stands.
    pub(crate) fn set_outbound(&self, stands: bool) {
        self.outbound.store(stands, Ordering::Relaxed);
    }

    pub(crate) fn is_inbound(&self) -> bool {
        self.inbound.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn height(&self) -> u64 {
        self.height.load(Ordering::Relaxed)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Notes the peer's newest block.
    pub(crate) fn said_height(&self, height: u64) {
        self.height.store(height, Ordering::Relaxed);
    }

    /// Whether the chain's list of nodes lets it connect.
    pub(crate) fn is_allowed(&self) -> bool {
        *self.allowed.borrow()
    }

    /// Waits until the chain's list of nodes no longer lets it connect.
    async fn banned(&self) {
        // The sender lives in the peer itself.
        let _ = self.allowed.subscribe().wait_for(|allowed| !allowed).await;
    }

    fn allow(&self, allowed: bool) {
        let changed = self.allowed.send_if_modified(|now| std::mem::replace(now, allowed) != allowed);
        if changed {
            tracing::info!(peer = %self.config.node_id, allowed, "the chain's list of nodes has changed");
            self.awake.notify_one();
        }
    }

    fn send(&self, frame: Bytes) {
        // Nothing is kept for a peer that is away: what it missed it fetches by height.
        if self.is_outbound() && self.queue.try_send(frame).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// All peers.
pub(crate) struct Net {
    peers: BTreeMap<NodeId, Arc<Peer>>,
}

/// The receiving ends of the peers' queues, for [`peer::run`].
pub(crate) type Queues = Vec<(Arc<Peer>, mpsc::Receiver<Bytes>)>;

impl Net {
    /// The peers of a checked configuration, none connected.
    pub(crate) fn new(config: &NodeConfig, me: NodeId) -> (Self, Queues) {
        let mut peers = BTreeMap::new();
        let mut queues = Vec::new();
        for config in config.peers.iter().filter(|peer| peer.node_id != me) {
            let (queue, receiver) = mpsc::channel(QUEUE_MAX);
            let peer = Arc::new(Peer {
                config: config.clone(),
                queue,
                outbound: AtomicBool::new(false),
                inbound: AtomicUsize::new(0),
                height: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
                allowed: watch::Sender::new(true),
                awake: Notify::new(),
            });
            peers.insert(config.node_id, Arc::clone(&peer));
            queues.push((peer, receiver));
        }
        (Self { peers }, queues)
    }

    /// Takes over the chain's list of nodes; `None` lets all of the configuration connect. Connections of others end.
    pub(crate) fn allow(&self, nodes: Option<&BTreeSet<NodeId>>) {
        for peer in self.peers() {
            peer.allow(nodes.is_none_or(|nodes| nodes.contains(&peer.config.node_id)));
        }
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.values()
    }

    pub(crate) fn peer(&self, id: &NodeId) -> Option<&Arc<Peer>> {
        self.peers.get(id)
    }

    /// Peers that can be spoken to now.
    pub(crate) fn connected(&self) -> usize {
        self.peers().filter(|peer| peer.is_outbound()).count()
    }

    /// Queues a message for one peer, or drops it.
    pub(crate) fn send(&self, to: &NodeId, message: &Message) {
        if let Some(peer) = self.peer(to) {
            peer.send(message.encode());
        }
    }

    /// Queues a message for all peers but one, or drops it.
    pub(crate) fn broadcast(&self, message: &Message, except: Option<&NodeId>) {
        let frame = message.encode();
        for peer in self.peers().filter(|peer| Some(&peer.config.node_id) != except) {
            peer.send(frame.clone());
        }
    }
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_codec()
}
