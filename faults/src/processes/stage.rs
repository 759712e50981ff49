//! What every run with real processes plays on: network, replicas, clients, and what the clients note.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::clients::{Clients, UP_MAX};
use super::cluster::{Cluster, Wishes};
use super::leftovers;
use super::net::Net;
use super::watch::Sight;
use super::work::{Book, KEYS_AT_ONCE, Pace};

/// Clients that write and read at once.
pub(crate) const WORKERS: u64 = 8;
/// Writes that all keys of a run take together, with room to spare (100 plans of 1,000 prices is the product's limit).
const WRITES_MAX: u64 = 80_000;
/// Shortest pause of a worker between two calls.
const PAUSE_MIN: Duration = Duration::from_millis(15);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a stage is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    /// What the replicas run, and the CLI.
    pub(crate) program: &'a Path,
    /// What the replicas run at first, if it is something else.
    pub(crate) begins_on: Option<&'a Path>,
    /// Folder that is kept; a temporary one without.
    pub(crate) keep: Option<&'a Path>,
    /// First replicas.
    pub(crate) replicas: u64,
    /// Places for replicas, at least as many.
    pub(crate) places: u64,
    /// What the replicas are given.
    pub(crate) wishes: Wishes,
    /// How fast the workers work and over how many keys.
    pub(crate) pace: (Pace, usize),
    /// Where the randomness begins.
    pub(crate) seed: u64,
}

/// A cluster under load. Fields are dropped in this order: clients, replicas, network, folder.
pub(crate) struct Stage {
    /// The clients.
    pub(crate) clients: Clients,
    /// The replicas.
    pub(crate) cluster: Cluster,
    /// Their network.
    pub(crate) net: Net,
    /// What the workers note.
    pub(crate) book: Arc<Book>,
    /// What is seen of the replicas.
    pub(crate) sight: Arc<Sight>,
    _folder: TempDir,
}

impl Stage {
    /// Makes everything and waits until writes are acknowledged.
    ///
    /// # Errors
    /// This machine cannot, or the cluster does not come up.
    pub(crate) fn set(scene: Scene<'_>) -> Result<Self> {
        leftovers::remove();
        let folder = leftovers::folder()?;
        let dir = scene.keep.unwrap_or(folder.path()).to_path_buf();
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let places: Vec<u64> = (1..=scene.places).collect();
        let net = Net::make(&places)?;
        let mut cluster = Cluster::make(scene.program, &dir, &net, scene.replicas, scene.wishes)?;
        if let Some(other) = scene.begins_on {
            cluster.ids().into_iter().try_for_each(|id| cluster.set_program(id, other))?;
        }
        cluster.revive()?;
        let mut clients = Clients::enter(&cluster, &net)?;
        let book = Arc::new(clients.make_keys(scene.pace.1)?);
        let sight = Arc::new(Sight::default());
        clients.agree(&sight).context("before the first fault")?;
        clients.watch(&sight);
        clients.work(&book, WORKERS, scene.pace.0, scene.seed);
        resumed(&book, 0, &mut cluster).context("before the first fault")?;
        Ok(Self { clients, cluster, net, book, sight, _folder: folder })
    }

    /// Ends the workers and whoever looks at the replicas.
    ///
    /// # Errors
    /// A worker panicked.
    pub(crate) fn quiet(&mut self) -> Result<()> {
        self.book.stop.store(true, Ordering::Relaxed);
        self.sight.stop.store(true, Ordering::Relaxed);
        self.clients.join()
    }
}

/// How fast the workers work and over how many keys in a run of that length, so that it stays within the product's limits.
pub(crate) fn pace(whole: Duration) -> (Pace, usize) {
    // Half of the calls are writes.
    let calls = u32::try_from(WRITES_MAX * 2 / WORKERS).unwrap_or(1);
    let pause = (whole / calls).max(PAUSE_MIN);
    let calls = whole.as_millis() / pause.as_millis().max(1) * u128::from(WORKERS);
    let keys = usize::try_from(calls / 2 / 900).unwrap_or(100).clamp(4, 90) + KEYS_AT_ONCE;
    (Pace { keys_at_once: KEYS_AT_ONCE, pause }, keys.min(99))
}

/// Waits until a write is acknowledged whose call began after `after`, both in nanoseconds of the book. Returns how
/// long after `after` that was.
pub(crate) fn resumed(book: &Book, after: u64, cluster: &mut Cluster) -> Result<Duration> {
    let end = Instant::now() + UP_MAX;
    while book.last_ack_called() < after.max(1) {
        // A replica that failed of a full disk may only now notice; its supervisor starts it again.
        cluster.revive()?;
        if Instant::now() > end {
            bail!("no write was acknowledged within {UP_MAX:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(Duration::from_nanos(book.last_ack().saturating_sub(after)))
}
