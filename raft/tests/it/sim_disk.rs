//! A disk in memory that can lose its power: what is written and what is durable are kept apart.
//!
//! A power cut keeps of every file what was synced, and of what was not, any subset of its 512-byte sectors; of the names
//! a prefix of the changes since the last sync of the folder (file systems journal them in order).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use hanse_raft::inside::{Disk, DiskFile};

const SECTOR: usize = 512;

/// Chance, from a seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Gives a number below `limit` (xorshift64*).
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

type Shared = Arc<Mutex<Content>>;

#[derive(Clone)]
enum NameChange {
    Put(String, Shared),
    Remove(String),
}

fn apply(names: &mut BTreeMap<String, Shared>, change: &NameChange) {
    match change {
        NameChange::Put(name, file) => drop(names.insert(name.clone(), file.clone())),
        NameChange::Remove(name) => drop(names.remove(name)),
    }
}

#[derive(Default)]
struct Inner {
    names: BTreeMap<String, Shared>,
    durable_names: BTreeMap<String, Shared>,
    changes: Vec<NameChange>,
    /// Calls until the power goes; `None` for never.
    fuse: Option<u64>,
    /// Bytes all files may have together.
    space: Option<usize>,
    fail_next_sync: bool,
    syncs: u64,
    dead: bool,
}

impl Inner {
    /// Counts a call; once the fuse has burnt down, none has effect any more.
    fn tick(&mut self) -> io::Result<()> {
        if let Some(fuse) = &mut self.fuse {
            if *fuse == 0 {
                self.dead = true;
            } else {
                *fuse -= 1;
            }
        }
        if self.dead { Err(io::Error::other("the power is cut")) } else { Ok(()) }
    }
}

/// The disk; a clone is another handle.
#[derive(Clone, Default)]
pub(crate) struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

impl SimDisk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Cuts the power after this many calls.
    pub(crate) fn cut_after(&self, calls: u64) {
        self.lock().fuse = Some(calls);
    }

    /// Limits the space, or lifts the limit.
    pub(crate) fn limit(&self, space: Option<usize>) {
        self.lock().space = space;
    }

    /// Lets the next sync of a file fail; those after it succeed.
    pub(crate) fn fail_next_sync(&self) {
        self.lock().fail_next_sync = true;
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Gives the disk as it is after a power cut.
    pub(crate) fn after_cut(&self, dice: &mut Dice) -> Self {
        let mut inner = self.lock();
        inner.dead = true;
        let mut names = inner.durable_names.clone();
        let kept = dice.below(inner.changes.len() as u64 + 1);
        for change in inner.changes.iter().take(usize::try_from(kept).unwrap()) {
            apply(&mut names, change);
        }
        // A half, all or none of the sectors, so that every kind of tear is met.
        let odds = dice.below(5);
        Self::holding(names.into_iter().map(|(name, file)| {
            let content = file.lock().unwrap();
            let mut bytes = content.durable.clone();
            for sector in &content.dirty {
                if dice.below(4) < odds {
                    let (from, to) = (sector * SECTOR, (sector * SECTOR + SECTOR).min(content.bytes.len()));
                    if bytes.len() < to {
                        bytes.resize(to, 0);
                    }
                    bytes[from..to].copy_from_slice(&content.bytes[from..to]);
                }
            }
            (name, bytes)
        }))
    }

    /// Gives the disk as it is after the process was killed: the kernel still has everything.
    pub(crate) fn after_kill(&self) -> Self {
        let mut inner = self.lock();
        inner.dead = true;
        Self::holding(inner.names.iter().map(|(name, file)| (name.clone(), file.lock().unwrap().bytes.clone())))
    }

    fn holding(files: impl Iterator<Item = (String, Vec<u8>)>) -> Self {
        let names: BTreeMap<String, Shared> = files
            .map(|(name, bytes)| {
                let content = Content { durable: bytes.clone(), bytes, dirty: BTreeSet::new() };
                (name, Arc::new(Mutex::new(content)))
            })
            .collect();
        let inner = Inner { durable_names: names.clone(), names, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.lock().names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), content: file }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.tick()?;
        let file = Shared::default();
        let change = NameChange::Put(name.to_owned(), file.clone());
        apply(&mut inner.names, &change);
        inner.changes.push(change);
        Ok(Arc::new(SimFile { disk: self.clone(), content: file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.tick()?;
        let file = inner.names.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        // In the model two changes; that the old name may stay is harmless.
        for change in [NameChange::Put(to.to_owned(), file), NameChange::Remove(from.to_owned())] {
            apply(&mut inner.names, &change);
            inner.changes.push(change);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.tick()?;
        let change = NameChange::Remove(name.to_owned());
        apply(&mut inner.names, &change);
        inner.changes.push(change);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.tick()?;
        inner.durable_names = inner.names.clone();
        inner.changes.clear();
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    content: Shared,
}

impl DiskFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().bytes.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        let content = self.content.lock().unwrap();
        let bytes = content.bytes.get(from..from + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        // The call in which the power goes may have written.
        let cut = inner.tick();
        let from = usize::try_from(offset).unwrap();
        let used: usize = inner.names.values().map(|file| file.lock().unwrap().bytes.len()).sum();
        let mut content = self.content.lock().unwrap();
        let grown = (from + bytes.len()).saturating_sub(content.bytes.len());
        if grown > 0 && inner.space.is_some_and(|space| used + grown > space) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if from + bytes.len() > content.bytes.len() {
            content.bytes.resize(from + bytes.len(), 0);
        }
        content.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        content.dirty.extend(from / SECTOR..(from + bytes.len()).div_ceil(SECTOR));
        cut
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.tick()?;
        inner.syncs += 1;
        if std::mem::take(&mut inner.fail_next_sync) {
            return Err(io::Error::other("the disk refused to sync"));
        }
        let mut content = self.content.lock().unwrap();
        content.durable = content.bytes.clone();
        content.dirty.clear();
        Ok(())
    }
}
