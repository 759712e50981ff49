//! A new node's first step: a snapshot from a peer, over the same mutual TLS as everything else.
//!
//! The connection is one of its own, told apart by the protocol that TLS agrees on; the peer writes its
//! snapshot and closes. The joining node keeps it in a file until it has ended, then imports it as
//! `snapshot` does, with the same proofs: a lying peer wastes time and nothing else. If no peer has one,
//! the node executes all blocks. It never touches a home that holds a chain.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::NodeError;
use crate::config::{NodeConfig, PeerConfig};
use crate::genesis::Genesis;
use crate::keys::NodeKey;
use crate::net::tls::Identity;
use crate::node::Shared;
use crate::snapshot;
use crate::store::Store;

/// Snapshots that one process writes at once; each reads the whole state.
static WRITING: Semaphore = Semaphore::const_new(2);
/// Bytes that leave together.
const CHUNK: usize = 256 << 10;
/// Chunks read ahead of the network.
const AHEAD: usize = 4;
/// Connecting must be done by then. A peer that is about to join itself accepts nobody yet, so that nodes of a new
/// chain that are all told to join wait so long for each other.
const CONNECT: Duration = Duration::from_secs(3);
/// Each chunk must be done by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// A snapshot larger than this is not taken; a peer must not fill the disk.
const SNAPSHOT_BYTES_MAX: u64 = 64 << 30;

/// Writes the newest snapshot to a peer that asked; returns why that ended.
pub(crate) async fn serve(shared: Arc<Shared>, mut stream: impl AsyncWrite + Unpin) -> String {
    let Ok(_place) = WRITING.try_acquire() else {
        return "too many ask for snapshots at once".to_owned();
    };
    let (sender, mut chunks) = mpsc::channel(AHEAD);
    let export = tokio::task::spawn_blocking(move || {
        let snapshot = shared.store.snapshot()?;
        let mut out = BufWriter::with_capacity(CHUNK, Channel(sender));
        snapshot::export(&snapshot, &shared.genesis, &mut out)
    });
    while let Some(chunk) = chunks.recv().await {
        match timeout(PATIENCE, stream.write_all(&chunk)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "it takes no bytes".to_owned(),
        }
    }
    match export.await {
        Ok(Ok(summary)) => {
            // Whoever asked may be gone already, having all.
            let _ = timeout(PATIENCE, stream.shutdown()).await;
            format!("it has the snapshot of block {}", summary.height)
        }
        Ok(Err(error)) => error.chain(),
        Err(_) => "the export ended unexpectedly".to_owned(),
    }
}

/// Hands what is written to the task that sends it.
struct Channel(mpsc::Sender<Vec<u8>>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.blocking_send(bytes.to_vec()).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Takes a snapshot from the first peer that has a good one, if the home holds no chain yet.
///
/// # Errors
/// The home cannot be read or written; peers' faults are only logged.
pub(crate) async fn run(home: &Path, config: &NodeConfig, genesis: &Genesis, key: &NodeKey) -> Result<(), NodeError> {
    let data = home.join("data");
    std::fs::create_dir_all(&data).map_err(NodeError::io("cannot create", &data))?;
    if Store::open(&data.join("ledger.redb"), config.history.clone())?.snapshot()?.head()?.unwrap_or(0) > 0 {
        return Ok(());
    }
    let identity = Identity::new(key)?;
    let file = data.join("snapshot.part");
    for peer in config.peers.iter().filter(|peer| peer.node_id != key.node_id()) {
        if let Err(reason) = fetch(peer, &identity, &file).await {
            tracing::info!(peer = %peer.node_id, reason, "no snapshot of this peer");
            continue;
        }
        let (home, genesis, keep, from) = (home.to_owned(), genesis.clone(), config.history.clone(), file.clone());
        let import = tokio::task::spawn_blocking(move || {
            let mut input = BufReader::new(File::open(&from).map_err(NodeError::io("cannot open", &from))?);
            snapshot::import(&home, &genesis, &keep, None, &mut input)
        });
        let imported = import.await.map_err(|_| NodeError::Task("the import of a snapshot"))?;
        std::fs::remove_file(&file).map_err(NodeError::io("cannot remove", &file))?;
        match imported {
            Ok(summary) => {
                tracing::info!(peer = %peer.node_id, height = summary.height, "joined by a peer's snapshot");
                return Ok(());
            }
            Err(error) => tracing::warn!(peer = %peer.node_id, error = error.chain(), "a peer's snapshot is refused"),
        }
    }
    tracing::warn!("no peer has a good snapshot; this node executes all blocks");
    Ok(())
}

/// Downloads a peer's snapshot into a file.
async fn fetch(peer: &PeerConfig, identity: &Identity, file: &Path) -> Result<(), String> {
    let config = identity.snapshot_client(peer.public_key).map_err(|e| e.chain())?;
    let connect = async {
        let tcp = TcpStream::connect(peer.address).await?;
        // The name is not checked, the key is.
        let name = ServerName::try_from("node.invalid").expect("a constant name");
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    };
    let stream = match timeout(CONNECT, connect).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("connecting timed out".to_owned()),
    };
    receive(stream, file).await
}

async fn receive(mut stream: impl AsyncRead + Unpin, file: &Path) -> Result<(), String> {
    let mut out = tokio::fs::File::create(file).await.map_err(|e| e.to_string())?;
    let mut chunk = vec![0; CHUNK];
    let mut total = 0u64;
    loop {
        let got = match timeout(PATIENCE, stream.read(&mut chunk)).await {
            Ok(Ok(0)) => break,
            Ok(Ok(got)) => got,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("it fell silent".to_owned()),
        };
        total += got as u64;
        if total > SNAPSHOT_BYTES_MAX {
            return Err("its snapshot is too large".to_owned());
        }
        out.write_all(&chunk[..got]).await.map_err(|e| e.to_string())?;
    }
    out.flush().await.map_err(|e| e.to_string())?;
    if total == 0 { Err("it has none".to_owned()) } else { Ok(()) }
}
