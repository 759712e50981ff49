//! One simulated node: what survives a crash, and the real driver while it is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use alloy_primitives::Bytes;
use bytes::Bytes as Frame;

use super::disk::Disk;
use super::plan::Rng;
use crate::NodeError;
use crate::clock::Clock;
use crate::config::{NodeConfig, PeerConfig};
use crate::consensus::driver::Driver;
use crate::consensus::wire::Message;
use crate::genesis::Genesis;
use crate::governance::PROTOCOL_VERSION;
use crate::keys::{NodeId, NodeKey, PublicKey};
use crate::net::{Event, Queues, listen};
use crate::node::{self, Shared, Surroundings};
use crate::store::Store;

/// Time of the simulated world, read by all nodes, each with its own error.
#[derive(Clone)]
pub(super) struct SimClock {
    base: Instant,
    micros: Arc<AtomicU64>,
    skew_ms: u64,
}

/// The world begins a second after the genesis' time.
pub(super) const GENESIS_MS: u64 = 1_700_000_000_000;

impl SimClock {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), micros: Arc::default(), skew_ms: 0 }
    }

    pub(super) fn skewed(&self, skew_ms: u64) -> Self {
        Self { skew_ms, ..self.clone() }
    }

    pub(super) fn set(&self, micros: u64) {
        self.micros.store(micros, Ordering::Relaxed);
    }

    fn micros(&self) -> u64 {
        self.micros.load(Ordering::Relaxed)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.base + Duration::from_micros(self.micros())
    }
    fn wall_ms(&self) -> u64 {
        GENESIS_MS + 1000 + self.skew_ms + self.micros() / 1000
    }
}

/// A node of the simulated network.
pub(super) struct SimNode {
    pub(super) key: NodeKey,
    pub(super) disk: Disk,
    clock: SimClock,
    /// What the program knows.
    pub(super) protocol: u64,
    /// Here while the node is down.
    store: Option<Store>,
    up: Option<Up>,
    /// The wake-up that counts; older ones are ignored.
    pub(super) wake: u64,
    /// The height at which it was last seen halted for an upgrade.
    pub(super) halted_at: u64,
    /// Highest block that was looked at by the laws.
    pub(super) seen: u64,
}

/// What lives from start to crash.
struct Up {
    driver: Driver,
    shared: Arc<Shared>,
    queues: Queues,
    _events: std::sync::mpsc::Receiver<Event>,
}

impl SimNode {
    pub(super) fn new(key: NodeKey, disk: Disk, clock: SimClock) -> Self {
        Self {
            key,
            disk,
            clock,
            protocol: PROTOCOL_VERSION,
            store: Some(Store::in_memory().unwrap()),
            up: None,
            wake: 0,
            halted_at: 0,
            seen: 0,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.key.node_id()
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    pub(super) fn shared(&self) -> Option<&Arc<Shared>> {
        self.up.as_ref().map(|up| &up.shared)
    }

    /// Starts on what the disk kept.
    pub(super) fn boot(&mut self, genesis: &Genesis, rng: &mut Rng) {
        let address = "127.0.0.1:1".parse().unwrap();
        let others = genesis.validators.iter().map(|v| v.public_key).filter(|key| key.node_id() != self.id());
        let text = "version = 1\np2p_listen = \"127.0.0.1:0\"\nrpc_listen = \"127.0.0.1:0\"";
        let mut config = NodeConfig::from_toml(text).unwrap();
        let peer = |key: PublicKey| PeerConfig { node_id: key.node_id(), public_key: key, address };
        config.peers = others.map(peer).collect();
        let (sender, events) = sync_channel(1);
        let store = self.store.take().unwrap();
        let surroundings = Surroundings {
            clock: Arc::new(self.clock.clone()),
            protocol: self.protocol,
            room: Default::default(),
            journal: Default::default(),
        };
        let (shared, queues) =
            node::assemble(store, &config, genesis.clone(), &self.key, sender, surroundings).unwrap();
        let recovered = self.disk.recover(rng);
        let driver =
            Driver::new(Arc::clone(&shared), self.key.clone(), Box::new(self.disk.clone()), recovered).unwrap();
        self.up = Some(Up { driver, shared, queues, _events: events });
    }

    /// Ends without a word; the store keeps what was committed.
    pub(super) fn die(&mut self) {
        let Up { driver, shared, queues, .. } = self.up.take().unwrap();
        drop((driver, queues));
        self.store = Arc::into_inner(shared).map(|shared| shared.store);
        assert!(self.store.is_some(), "nobody else holds a dead node's parts");
    }

    /// Does what is due; returns how long nothing else will be.
    pub(super) fn turn(&mut self) -> Result<Duration, NodeError> {
        self.up.as_mut().unwrap().driver.turn()
    }

    /// Takes a message as `net::listen` does.
    pub(super) fn receive(&mut self, from: NodeId, message: Message) -> Result<(), NodeError> {
        let Up { driver, shared, .. } = self.up.as_mut().unwrap();
        match message {
            Message::GetBlocks { from: first, count } => {
                let blocks = listen::collect_blocks(shared, first, count.min(listen::BLOCKS_MAX)).unwrap();
                shared.net.send(&from, &Message::Blocks(blocks));
                Ok(())
            }
            Message::Transactions(list) => {
                listen::take_transactions(shared, &from, list);
                Ok(())
            }
            Message::Hello { height, .. } | Message::Status { height } => {
                if let Some(peer) = shared.net.peer(&from) {
                    peer.said_height(height);
                }
                Ok(())
            }
            other => driver.handle(Event::Message(from, other)),
        }
    }

    /// A client sends a transaction.
    pub(super) fn submit(&self, raw: Bytes) {
        let Some(Up { shared, .. }) = &self.up else { return };
        let none = NodeId(alloy_primitives::Address::ZERO);
        listen::take_transactions(shared, &none, vec![raw]);
    }

    /// The connection to `peer` stands or is gone.
    pub(super) fn connect(&mut self, peer: NodeId, stands: bool) {
        let Some(Up { driver, shared, .. }) = &mut self.up else { return };
        let Some(known) = shared.net.peer(&peer) else { return };
        known.set_outbound(stands);
        if stands {
            shared.net.send(&peer, &shared.hello());
            driver.handle(Event::PeerUp(peer)).unwrap();
        }
    }

    /// What was said since the last call, with its addressee, in order.
    pub(super) fn take_sent(&mut self) -> Vec<(NodeId, Frame)> {
        let mut sent = Vec::new();
        for (peer, queue) in &mut self.up.as_mut().unwrap().queues {
            while let Ok(frame) = queue.try_recv() {
                sent.push((peer.config.node_id, frame));
            }
        }
        sent
    }
}
