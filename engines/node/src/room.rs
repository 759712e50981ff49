//! Room on the disk: a node without room votes no more, keeps answering, and goes on by itself when there is room again.
//!
//! Two lines of defence. Below [`LOW_BYTES`] of free space the driver starts no new height, so that what is under way
//! can still be written. And a write that the file system refuses for want of room ([`Room::insist`]) is tried again,
//! at the same place with the same bytes, until it succeeds: the writer waits, so no message leaves that the log does
//! not hold, while readers go on. What such a write needs first is a reserve of [`RESERVE_BYTES`], a file that is given up
//! then and made anew when there is room: so a node that is started on a full disk can open its store and answer. Only
//! writes are repeated, never a sync: a failed sync stays fatal, because nobody
//! knows what it lost.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Free space below which no height is started: a full block in log and store, several times over.
pub(crate) const LOW_BYTES: u64 = 32 << 20;
/// Free space at which heights are started again; above the mark, so that it does not go to and fro.
pub(crate) const ENOUGH_BYTES: u64 = 40 << 20;
/// Size of the reserve; opening the store and ending a height need less.
const RESERVE_BYTES: u64 = 8 << 20;
/// The reserve's file below the data folder.
const RESERVE_FILE: &str = "reserve";
/// Between two looks or tries.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The room of one data folder; a clone is another handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// `None` for simulated nodes, which have no disk.
    folder: Option<PathBuf>,
    /// Why nothing is written now.
    short: Mutex<Option<String>>,
    /// The node stops: nobody waits any more.
    ending: AtomicBool,
    /// Whether the reserve was seen; a file of an earlier run is made anew once, which costs nothing.
    has_reserve: AtomicBool,
}

impl Room {
    /// The room of a folder, not yet looked at.
    pub(crate) fn of(folder: &Path) -> Self {
        Self(Arc::new(Inner { folder: Some(folder.to_owned()), ..Inner::default() }))
    }

    /// For commands that end: a write that is refused is an error.
    pub(crate) fn impatient() -> Self {
        let room = Self::default();
        room.end();
        room
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.short.lock().expect("no holder of the room's lock panics")
    }

    /// Why nothing is written now, if so.
    pub(crate) fn short(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Nobody waits for room from now on.
    pub(crate) fn end(&self) {
        self.0.ending.store(true, Ordering::Relaxed);
    }

    /// Looks whether there is room for a new height.
    pub(crate) fn look(&self) -> bool {
        let Some(folder) = &self.0.folder else { return true };
        // A system that does not even answer this has no room to offer.
        let free = rustix::fs::statvfs(folder).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        let needed = if self.lock().is_some() { ENOUGH_BYTES } else { LOW_BYTES };
        if free >= ENOUGH_BYTES + RESERVE_BYTES {
            self.keep_reserve(folder);
        }
        self.note((free < needed).then(|| {
            let (free, needed) = (free >> 20, ENOUGH_BYTES >> 20);
            format!("disk full: {} has {free} MiB free, {needed} MiB are needed; make room", folder.display())
        }))
    }

    /// Makes the reserve if it is not there.
    fn keep_reserve(&self, folder: &Path) {
        let path = folder.join(RESERVE_FILE);
        if self.0.has_reserve.load(Ordering::Relaxed) {
            return;
        }
        let made = File::create(&path).and_then(|file| {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES).map_err(Error::from)
        });
        match made {
            Ok(()) => self.0.has_reserve.store(true, Ordering::Relaxed),
            // Without it a node that is started on a full disk waits until there is room.
            Err(error) => tracing::debug!(%error, path = %path.display(), "no reserve could be made"),
        }
    }

    /// Gives the reserve up; returns whether there was one.
    fn give_up_reserve(&self) -> bool {
        let Some(folder) = &self.0.folder else { return false };
        self.0.has_reserve.store(false, Ordering::Relaxed);
        let freed = std::fs::remove_file(folder.join(RESERVE_FILE)).is_ok();
        if freed {
            tracing::warn!("the disk is full: the reserve is given up");
        }
        freed
    }

    /// Takes over the verdict; returns whether there is room.
    fn note(&self, reason: Option<String>) -> bool {
        let mut short = self.lock();
        match (&*short, &reason) {
            (None, Some(reason)) => tracing::error!(reason, "the node votes no more until there is room"),
            (Some(_), None) => tracing::warn!("there is room on the disk again: the node goes on"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        *short = reason;
        short.is_none()
    }

    /// Writes until it succeeds or fails for another reason than want of room. `write` must do the same whenever it is
    /// called, also after it has written a part.
    ///
    /// # Errors
    /// What the write answers, or that the node stops before there is room.
    pub(crate) fn insist(&self, mut write: impl FnMut() -> Result<()>) -> Result<()> {
        let mut refused = false;
        loop {
            match write() {
                Err(error) if is_full(&error) => {
                    if self.0.ending.load(Ordering::Relaxed) {
                        return Err(error);
                    }
                    if self.give_up_reserve() {
                        continue;
                    }
                    refused = true;
                    let folder = self.0.folder.as_ref().map_or_else(String::new, |f| f.display().to_string());
                    self.note(Some(format!("disk full: a write in {folder} is refused; make room")));
                    std::thread::sleep(LOOK_EVERY);
                }
                other => {
                    if refused && other.is_ok() {
                        self.look();
                    }
                    return other;
                }
            }
        }
    }
}

/// Whether an error is want of room (a quota that is used up is, too).
fn is_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;
    use std::time::Instant;

    use super::*;
    use crate::block::{Block, open_header};
    use crate::state::StateDiff;
    use crate::store::Store;
    use crate::wal::{Log, Wal};

    /// A file system of its own, so small that it can be filled; mounting one needs root.
    struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        fn mount(mebibytes: u32) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let options = format!("size={mebibytes}m");
            let mounted =
                Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).status();
            assert!(mounted.unwrap().success(), "cannot mount a tmpfs; this test needs root");
            Self(folder)
        }

        fn fill(&self) {
            let ballast = std::fs::File::create(self.0.path().join("ballast")).unwrap();
            let mut end = 0u64;
            for step in [1 << 20, 1 << 12] {
                while std::os::unix::fs::FileExt::write_all_at(&ballast, &vec![1; step], end).is_ok() {
                    end += step as u64;
                }
            }
        }

        fn make_room(&self) {
            std::fs::remove_file(self.0.path().join("ballast")).unwrap();
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
        }
    }

    fn wait_until(what: &str, predicate: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !predicate() {
            assert!(Instant::now() < until, "waited for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_log_waits_for_room_and_then_holds_every_record_whole() {
        let disk = SmallDisk::mount(2);
        let (room, path) = (Room::of(disk.0.path()), disk.0.path().join("wal"));
        let (mut wal, _) = Wal::open(&path).unwrap();
        wal.wait_for(room.clone());
        wal.reset(7).unwrap();
        disk.fill();
        let writer = std::thread::spawn(move || {
            // Larger than what a page that is there already may still take.
            (0..4u8).for_each(|n| wal.append(&[n; 9_000]).unwrap());
            wal.sync().unwrap();
        });
        wait_until("the refusal", || room.short().is_some_and(|reason| reason.starts_with("disk full")));
        assert!(!writer.is_finished());
        disk.make_room();
        writer.join().unwrap();
        let (_, recovered) = Wal::open(&path).unwrap();
        assert_eq!(recovered.records, (0..4u8).map(|n| vec![n; 9_000]).collect::<Vec<_>>());
        assert_eq!((recovered.height, recovered.cut_bytes), (7, 0));
    }

    #[test]
    fn the_store_waits_for_room_while_readers_go_on() {
        let disk = SmallDisk::mount(8);
        let (room, path) = (Room::of(disk.0.path()), disk.0.path().join("ledger.redb"));
        let store = Arc::new(Store::open_patient(&path, Default::default(), room.clone()).unwrap());
        let block = |number: u64| {
            let mut header = open_header(Default::default(), number, Default::default(), number, (30_000_000, 0));
            header.extra_data = vec![number as u8; 200_000].into();
            Block::new(header, Vec::new())
        };
        store.commit(&block(0), &[], &[], &StateDiff::default()).unwrap();
        disk.fill();
        let writer = std::thread::spawn({
            let store = Arc::clone(&store);
            move || (1..4).for_each(|n| store.commit(&block(n), b"c", &[], &StateDiff::default()).unwrap())
        });
        wait_until("the refusal", || room.short().is_some());
        assert!(!writer.is_finished());
        assert_eq!(store.snapshot().unwrap().head().unwrap(), Some(0), "readers see what was committed");
        disk.make_room();
        writer.join().unwrap();
        assert_eq!(store.snapshot().unwrap().head().unwrap(), Some(3));
        drop(store);
        let again = Store::open(&path, Default::default()).unwrap();
        assert_eq!(again.snapshot().unwrap().block(3).unwrap().unwrap().hash(), block(3).hash());
    }

    #[test]
    fn a_node_that_stops_does_not_wait() {
        let disk = SmallDisk::mount(1);
        let (room, path) = (Room::of(disk.0.path()), disk.0.path().join("wal"));
        let (mut wal, _) = Wal::open(&path).unwrap();
        wal.wait_for(room.clone());
        disk.fill();
        room.end();
        assert!(wal.append(&[1; 9_000]).unwrap_err().chain().contains("No space left"));
    }

    #[test]
    fn the_mark_is_low_and_the_way_back_is_higher() {
        let disk = SmallDisk::mount(36);
        let room = Room::of(disk.0.path());
        assert!(room.look(), "36 MiB are above the mark");
        std::fs::write(disk.0.path().join("ballast"), vec![1; 5 << 20]).unwrap();
        assert!(!room.look());
        assert!(room.short().unwrap().contains("40 MiB are needed"));
        disk.make_room();
        assert!(!room.look(), "36 MiB are not enough to go on");
        let other = SmallDisk::mount(48);
        assert!(Room::of(other.0.path()).look());
    }
}
