//! Room on the disk: a replica stops taking requests while it can still write what it has accepted.
//!
//! How it works. The free space is looked at twice a second ([`watch`]). Below a low-water mark the leader refuses new
//! requests with a [`Shortage`] and hands the lead to a replica that has room, if there is one. What was accepted before is
//! written all the same: the log has its segments made ahead (`wal::pool`), and the store asks the file system for blocks
//! before it writes (`durable`), holds changes in memory while it gets none, and goes on by itself. A follower that holds
//! much in memory, or whose log has no next segment, takes no more entries, but still votes and hears its leader.
//!
//! What it never does: try a failed write or fsync again (those stay fatal), or drop what was acknowledged.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::durable::Durable;
use crate::error::StoreError;
use crate::inside::LOG_DIR;
use crate::machine::{Machine, blocking};
use crate::meter::Room;
use crate::network::Network;
use crate::types::{ReplicaId, Types};

/// Free space below which no new request is taken: two segments of the log and twice what the store may hold back.
const LOW_BYTES: u64 = 96 << 20;
/// Free space at which requests are taken again; above the mark, so that it does not go to and fro.
const ENOUGH_BYTES: u64 = 112 << 20;
/// Free space without which a replica does not start: opening writes a little.
const START_BYTES: u64 = 32 << 20;
/// Between two looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two tries to hand the lead to a replica with room.
const HAND_OVER_EVERY: Duration = Duration::from_secs(5);

/// Why a replica takes no requests now: its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The folder that has too little room.
    pub folder: PathBuf,
    /// Bytes that are free there.
    pub free_bytes: u64,
    /// Bytes that must be free before requests are taken again.
    pub needed_bytes: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, needed) = (self.free_bytes >> 20, self.needed_bytes >> 20);
        write!(f, "{} has {free} MiB free, {needed} MiB are needed", self.folder.display())
    }
}

/// The room of one data folder; a clone is another handle.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    low: Mutex<Option<Shortage>>,
    held: AtomicBool,
    ending: AtomicBool,
}

impl Space {
    /// Gives the room of a folder, not yet looked at.
    pub(crate) fn new(folder: &Path) -> Self {
        let (low, held, ending) = (Mutex::default(), AtomicBool::new(false), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { folder: folder.to_owned(), low, held, ending }) }
    }

    /// Looks how much is free. Blocks on the disk.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn look(&self) -> Result<(), StoreError> {
        let free_bytes = free(&self.inner.folder)?;
        let mut low = self.inner.low.lock().unwrap_or_else(PoisonError::into_inner);
        let was = low.is_some();
        let short = free_bytes < if was { ENOUGH_BYTES } else { LOW_BYTES };
        *low = short.then(|| self.shortage(free_bytes));
        match (was, &*low) {
            (false, Some(shortage)) => tracing::error!(%shortage, "the disk is full: new requests are refused"),
            (true, None) => tracing::warn!("there is room on the disk again: requests are taken"),
            _ => {}
        }
        Ok(())
    }

    /// Gives why nothing new is taken; `None` while there is room.
    pub(crate) fn short(&self) -> Option<Shortage> {
        let low = self.inner.low.lock().unwrap_or_else(PoisonError::into_inner).clone();
        low.or_else(|| self.held().then(|| self.now()))
    }

    /// Gives the shortage as it is at this moment. Blocks on the disk.
    pub(crate) fn now(&self) -> Shortage {
        // A system that does not even answer this has no room to offer.
        self.shortage(free(&self.inner.folder).unwrap_or(0))
    }

    fn shortage(&self, free_bytes: u64) -> Shortage {
        Shortage { folder: self.inner.folder.clone(), free_bytes, needed_bytes: ENOUGH_BYTES }
    }

    /// Gives what each part of the folder takes, and what is free. Blocks on the disk.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn measure(&self) -> Result<Room, StoreError> {
        let mut parts = Vec::new();
        for (name, folder) in [("log", LOG_DIR), ("store", "store"), ("history", "history"), ("snapshots", "snapshots")]
        {
            let folder = self.inner.folder.join(folder);
            let taken = taken(&folder).map_err(|e| StoreError::io(format!("measure {}", folder.display()), e))?;
            parts.push((name, taken));
        }
        let free_bytes = free(&self.inner.folder)?;
        Ok(Room { parts, free_bytes, short: self.short().is_some(), snapshot_at: None })
    }

    /// Says whether the store holds changes in memory for want of blocks.
    pub(crate) fn held(&self) -> bool {
        self.inner.held.load(Ordering::Acquire)
    }

    /// Sets that.
    pub(crate) fn hold(&self, held: bool) {
        self.inner.held.store(held, Ordering::Release);
    }

    /// Ends all waiting for room: the replica ends.
    pub(crate) fn end(&self) {
        self.inner.ending.store(true, Ordering::Release);
    }

    /// Says whether nobody waits for room any more.
    pub(crate) fn ending(&self) -> bool {
        self.inner.ending.load(Ordering::Acquire)
    }

    /// Waits a moment for room.
    ///
    /// # Errors
    /// [`StoreError::Closed`] if the replica ends.
    pub(crate) async fn pause(&self) -> Result<(), StoreError> {
        if self.ending() {
            return Err(StoreError::Closed);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }

    /// Waits until so many bytes are free besides what is kept for the log.
    ///
    /// # Errors
    /// [`StoreError::Closed`] if the replica ends; what the system answers.
    pub(crate) async fn wait_for(&self, bytes: u64) -> Result<(), StoreError> {
        loop {
            let folder = self.inner.folder.clone();
            if blocking(move || free(&folder)).await? >= bytes.saturating_add(START_BYTES / 2) {
                return Ok(());
            }
            tracing::warn!(bytes, "a snapshot waits for room on the disk");
            self.pause().await?;
        }
    }
}

/// Gives the bytes free for this user where `folder` lies, or will lie.
fn free(folder: &Path) -> Result<u64, StoreError> {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let stat = rustix::fs::statvfs(there)
        .map_err(|e| StoreError::io(format!("look how much is free under {}", there.display()), e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Gives the bytes of the blocks that a folder's files take. A file that goes meanwhile counts nothing.
fn taken(folder: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) => bytes += meta.blocks() * 512,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

/// Says whether an error of the system means that there is no room.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Waits until a replica can start in `folder`; gives `false` if it is asked to end before.
///
/// # Errors
/// What the system answers.
pub(crate) async fn wait_to_start(folder: &Path, end: &CancellationToken) -> Result<bool, StoreError> {
    let mut told: Option<Instant> = None;
    loop {
        let path = folder.to_owned();
        let free_bytes = blocking(move || free(&path)).await?;
        if free_bytes >= START_BYTES {
            return Ok(true);
        }
        if told.is_none_or(|at| at.elapsed() > HAND_OVER_EVERY) {
            let shortage = Shortage { folder: folder.to_owned(), free_bytes, needed_bytes: START_BYTES };
            tracing::error!(%shortage, "the disk is full: this replica starts when there is room");
            told = Some(Instant::now());
        }
        tokio::select! {
            () = end.cancelled() => return Ok(false),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Looks at the room until `end`, and gives the lead away while there is too little.
pub(crate) async fn keep_room(
    store: Durable,
    raft: Raft<Types, Machine>,
    network: Network,
    leading: watch::Receiver<Option<u64>>,
    end: CancellationToken,
) {
    let mut next_try = Instant::now();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let space = store.space().clone();
        if let Err(error) = blocking(move || space.look()).await {
            tracing::warn!(%error, "the free space of the data folder is not known");
        }
        if leading.borrow().is_none() || store.short_of_space().is_none() || Instant::now() < next_try {
            continue;
        }
        next_try = Instant::now() + HAND_OVER_EVERY;
        if let Some(to) = with_room(&raft, &network).await {
            tracing::warn!(%to, "the disk of this leader is full: the lead is handed over");
            if let Err(error) = raft.trigger().transfer_leader(to).await {
                tracing::warn!(%error, "the lead could not be handed over");
            }
        }
    }
}

/// Finds a voter that has room and the most of the log.
async fn with_room(raft: &Raft<Types, Machine>, network: &Network) -> Option<ReplicaId> {
    let metrics = raft.metrics().borrow_watched().clone();
    let members = metrics.membership_config;
    let mut others: Vec<_> = metrics.replication?.into_iter().filter(|(id, _)| *id != metrics.id).collect();
    others.retain(|(id, _)| members.membership().voter_ids().any(|voter| voter == *id));
    others.sort_by_key(|(_, matched)| std::cmp::Reverse(matched.as_ref().map(|id| id.index)));
    for (id, _) in others {
        let Some(member) = members.membership().get_node(&id) else { continue };
        match network.has_room(id, member).await {
            Ok(()) => return Some(id),
            Err(why) => tracing::info!(%id, %why, "this replica cannot take the lead"),
        }
    }
    None
}
