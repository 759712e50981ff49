//! A running node: opens what is on disk, starts its parts, stops them in order.
//!
//! Parts: the consensus thread, one sending task a peer, the accepting task, the JSON-RPC server.
//! They share `Shared` and stop by one token; the consensus thread ends by an event. If
//! consensus fails, the node ends with its error rather than serve an old state.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use alloy_eips::{Decodable2718, Encodable2718};
use alloy_primitives::{B256, Bytes};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::NodeError;
use crate::block::{Block, Tx};
use crate::clock::{Clock, SystemClock};
use crate::config::NodeConfig;
use crate::consensus::driver::Driver;
use crate::consensus::wire::Message;
use crate::exec::{self, ChainRules};
use crate::feed::Feed;
use crate::genesis::{GENESIS_FILE, Genesis, GenesisValidator};
use crate::gossip::Gossip;
use crate::governance::{self, PROTOCOL_VERSION};
use crate::join;
use crate::keys::{NodeId, NodeKey};
use crate::mempool::journal::{JOURNAL_FILE, Journal};
use crate::mempool::{AdmitError, Mempool};
use crate::metrics::Metrics;
use crate::net::tls::Identity;
use crate::net::{Event, Net, Queues, listen, peer};
use crate::room::Room;
use crate::rpc::{self, Listeners, RpcState};
use crate::store::Store;
use crate::wal::{Recovered, Wal};

/// Events that wait for the consensus thread; beyond, peers' messages are dropped.
const EVENTS_MAX: usize = 4096;

/// What the node knows about itself, for status requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) height: u64,
    pub(crate) hash: B256,
    pub(crate) time_ms: u64,
    pub(crate) round: u32,
    pub(crate) syncing: bool,
    /// Whether this node votes on the next block.
    pub(crate) validator: bool,
    /// Why this node goes on no more, if so; it still answers questions.
    pub(crate) halted: Option<String>,
    /// When the newest block was stored or found, by this machine's clock.
    pub(crate) moved: Option<Instant>,
    /// Stored records of validators that signed two different things for one step.
    pub(crate) equivocations: u64,
}

/// What all parts share.
pub(crate) struct Shared {
    pub(crate) genesis: Genesis,
    /// The chain's identity: block 0's hash.
    pub(crate) chain: B256,
    pub(crate) me: NodeId,
    pub(crate) store: Store,
    pub(crate) rules: ChainRules,
    pub(crate) mempool: Mempool,
    /// What clients handed in, kept until it is in a block.
    pub(crate) journal: Journal,
    pub(crate) net: Net,
    /// Clients' transactions on their way to all peers.
    pub(crate) gossip: Gossip,
    pub(crate) clock: Arc<dyn Clock>,
    /// The version of the chain's rules that this program knows.
    pub(crate) protocol: u64,
    /// The room on the disk of the data folder.
    pub(crate) room: Room,
    /// Who wants to hear of blocks and transactions.
    pub(crate) feed: Feed,
    pub(crate) metrics: Metrics,
    pub(crate) rpc: RpcState,
    pub(crate) started: Instant,
    events: SyncSender<Event>,
    status: Mutex<Status>,
}

impl Shared {
    /// Hands an event to consensus, or drops it if it cannot keep up.
    pub(crate) fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            tracing::debug!("consensus is busy, a message is dropped");
        }
    }

    /// The first message on a connection.
    pub(crate) fn hello(&self) -> Message {
        Message::Hello { chain: self.chain, height: self.status().height }
    }

    /// The status, locked for the moment.
    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().expect("no holder of the status lock panics")
    }

    /// The validators of the next block.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn validators(&self) -> Result<Vec<GenesisValidator>, NodeError> {
        let snapshot = self.store.snapshot()?;
        let next = snapshot.head()?.unwrap_or(0) + 1;
        governance::validators_at(snapshot.latest(), &self.genesis, next)
    }

    /// Notes the newest stored block.
    pub(crate) fn note_head(&self, block: &Block) {
        let mut status = self.status();
        // Block 0 may be much older than the chain's start.
        if status.height > 0 && block.number() == status.height + 1 {
            let interval = Duration::from_millis(block.time_ms().saturating_sub(status.time_ms));
            self.metrics.block_interval.observe(interval);
        }
        status.height = block.number();
        status.hash = block.hash();
        status.time_ms = block.time_ms();
        status.moved = Some(Instant::now());
        drop(status);
        self.feed.note_head(block.number());
    }

    /// Why this node goes on no more or waits, if so; it still answers questions.
    pub(crate) fn halted(&self) -> Option<String> {
        let upgrade = self.status().halted.clone();
        upgrade.or_else(|| self.room.short())
    }

    /// Admits a transaction to the pool.
    ///
    /// # Errors
    /// The rule it breaks.
    pub(crate) fn admit(&self, tx: Tx) -> Result<B256, AdmitError> {
        let hash = self.mempool.admit(tx, &self.store, &self.rules)?;
        self.feed.note_admitted(hash);
        Ok(hash)
    }
}

impl Shared {
    /// Admits what clients handed in before the node ended, as far as it may still run.
    fn admit_again(&self, kept: Vec<Bytes>) {
        let (all, mut waits) = (kept.len(), 0);
        for raw in kept {
            let admitted = Tx::decode_2718_exact(&raw).ok().map(|tx| self.mempool.admit(tx, &self.store, &self.rules));
            if let Some(Ok(hash)) = admitted {
                self.journal.found_again(hash);
                waits += 1;
            }
        }
        if all > 0 {
            tracing::info!(waits, done = all - waits, "transactions of before wait again");
        }
    }
}

/// A transaction in its network form.
pub(crate) fn encode_tx(tx: &Tx) -> Bytes {
    tx.encoded_2718().into()
}

/// Runs the node on `home` until `stop`.
///
/// # Errors
/// It could not start (nothing was left running), or consensus could not go on safely.
pub async fn run(home: &Path, stop: CancellationToken) -> Result<(), NodeError> {
    let config = NodeConfig::load(home)?;
    let genesis = Genesis::load(home)?;
    let key = NodeKey::load(home)?;
    if !config.rpc_listen.ip().is_loopback() && config.rpc.tokens.is_empty() {
        tracing::warn!(
            rpc = %config.rpc_listen,
            "the JSON-RPC server listens beyond this host and asks no one who they are, as rpc.open says"
        );
    }
    let p2p = bind("p2p_listen", config.p2p_listen).await?;
    let listeners = Listeners {
        rpc: bind("rpc_listen", config.rpc_listen).await?,
        metrics: match config.metrics.listen {
            Some(address) => Some(bind("metrics.listen", address).await?),
            None => None,
        },
    };
    if config.fast_join {
        tokio::select! {
            joined = join::run(home, &config, &genesis, &key) => joined?,
            () = stop.cancelled() => return Ok(()),
        }
    }
    let (events, receiver) = std::sync::mpsc::sync_channel(EVENTS_MAX);
    // Opening writes a little, and may wait for room; a node that is told to stop does not.
    let room = Room::of(&home.join("data"));
    let waiting = tokio::spawn({
        let (room, stop) = (room.clone(), stop.clone());
        async move {
            stop.cancelled().await;
            room.end();
        }
    });
    let opened = open(home, &config, genesis, &key, events.clone(), room);
    waiting.abort();
    let (shared, queues, (wal, recovered)) = opened?;
    let driver = Driver::new(Arc::clone(&shared), key.clone(), Box::new(wal), recovered)?;

    let identity = Identity::new(&key)?;
    let mut tasks = JoinSet::new();
    start_net(&shared, &identity, p2p, queues, &stop, &mut tasks)?;
    rpc::spawn(&shared, listeners, &stop, &mut tasks)?;
    tracing::info!(
        node = %shared.me, chain = config.chain, chain_id = shared.genesis.chain_id,
        height = shared.status().height, p2p = %config.p2p_listen, rpc = %config.rpc_listen,
        "node started"
    );
    let (ended, consensus_ended) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("consensus".to_owned())
        .spawn(move || {
            let result = driver.run(&receiver);
            // The receiver waits for exactly this, or is gone because the node stops anyway.
            let _ = ended.send(());
            result
        })
        .map_err(NodeError::io("cannot start the consensus thread for", home))?;
    tokio::select! {
        () = stop.cancelled() => {}
        _ = consensus_ended => {}
    }
    stop.cancel();
    shared.room.end();
    // A full queue empties quickly; a consensus thread that has ended already needs no event.
    let _ = tokio::task::spawn_blocking(move || events.send(Event::Stop).is_ok()).await;
    let consensus = tokio::task::spawn_blocking(move || thread.join()).await;
    while tasks.join_next().await.is_some() {}
    match consensus {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(NodeError::Task("the consensus thread")),
    }
}

async fn bind(field: &'static str, address: std::net::SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).await.map_err(|source| NodeError::Listen { field, address, source })
}

pub(crate) type Opened = (Arc<Shared>, Queues, (Wal, Recovered));

/// Opens what is on disk and sets up what the parts share; nothing runs yet.
///
/// # Errors
/// The data is in use, damaged, or of another genesis.
pub(crate) fn open(
    home: &Path,
    config: &NodeConfig,
    genesis: Genesis,
    key: &NodeKey,
    events: SyncSender<Event>,
    room: Room,
) -> Result<Opened, NodeError> {
    let data = home.join("data");
    std::fs::create_dir_all(&data).map_err(NodeError::io("cannot create", &data))?;
    let store = Store::open_patient(&data.join("ledger.redb"), config.history.clone(), room.clone())?;
    let (mut wal, recovered) = Wal::open(&data.join("consensus.wal"))?;
    wal.wait_for(room.clone());
    let log = (wal, recovered);
    let path = data.join(JOURNAL_FILE);
    let (journal, kept) = Journal::open(&path).map_err(NodeError::io("cannot open", &path))?;
    let surroundings = Surroundings { journal, ..Surroundings::real(room) };
    let (shared, queues) = assemble(store, config, genesis, key, events, surroundings)?;
    shared.admit_again(kept);
    Ok((shared, queues, log))
}

/// What a simulation replaces.
pub(crate) struct Surroundings {
    pub(crate) clock: Arc<dyn Clock>,
    /// The version of the chain's rules that the program knows.
    pub(crate) protocol: u64,
    pub(crate) room: Room,
    pub(crate) journal: Journal,
}

impl Surroundings {
    fn real(room: Room) -> Self {
        Self { clock: Arc::new(SystemClock), protocol: PROTOCOL_VERSION, room, journal: Journal::default() }
    }
}

/// Sets up what the parts share on an open store.
///
/// # Errors
/// The store is damaged or of another genesis.
pub(crate) fn assemble(
    store: Store,
    config: &NodeConfig,
    genesis: Genesis,
    key: &NodeKey,
    events: SyncSender<Event>,
    surroundings: Surroundings,
) -> Result<(Arc<Shared>, Queues), NodeError> {
    let chain = open_chain(&store, &genesis)?;
    let me = key.node_id();
    let (net, queues) = Net::new(config, me);
    let rules = ChainRules::of(&genesis);
    let shared = Arc::new(Shared {
        genesis,
        chain,
        me,
        store,
        rules,
        mempool: Mempool::new(config.mempool.clone()),
        journal: surroundings.journal,
        net,
        clock: surroundings.clock,
        protocol: surroundings.protocol,
        room: surroundings.room,
        feed: Feed::new(),
        metrics: Metrics::default(),
        rpc: RpcState::new(config.rpc.clone()),
        started: Instant::now(),
        gossip: Gossip::default(),
        events,
        status: Mutex::default(),
    });
    Ok((shared, queues))
}

/// Writes block 0 into a new store, or checks that the store is of this genesis; returns its hash.
fn open_chain(store: &Store, genesis: &Genesis) -> Result<B256, NodeError> {
    let (block, diff) = exec::genesis_block(genesis)?;
    match store.snapshot()?.block(0)? {
        None => store.commit(&block, &[], &[], &diff)?,
        Some(stored) if stored.hash() == block.hash() => {}
        Some(stored) => {
            return Err(NodeError::invalid(
                GENESIS_FILE,
                "(all)",
                format!(
                    "it gives block 0 {}, but the data folder holds a chain that starts with {}",
                    block.hash(),
                    stored.hash()
                ),
                "put back the genesis that the data was made with, or move the data folder away",
            ));
        }
    }
    Ok(block.hash())
}

fn start_net(
    shared: &Arc<Shared>,
    identity: &Identity,
    listener: TcpListener,
    queues: Queues,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<(), NodeError> {
    let allowed = shared.net.peers().map(|peer| peer.config.public_key).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(identity.server(allowed)?));
    for (to, queue) in queues {
        let client = identity.client(to.config.public_key)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        tasks.spawn(peer::run(Arc::clone(shared), to, queue, connector, stop.clone()));
    }
    let (gossiper, stopped) = (Arc::clone(shared), stop.clone());
    tasks.spawn(async move { gossiper.gossip.run(&gossiper.net, stopped).await });
    tasks.spawn(listen::run(Arc::clone(shared), listener, acceptor, stop.clone()));
    Ok(())
}
