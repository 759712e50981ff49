//! A disk of a replica's own: a file system in a sparse file, mounted through a loop device.
//!
//! It can be filled to the last block, frozen (every writer hangs in the kernel) and throttled. It is thawed and
//! unmounted when dropped. Nothing but the replica ever writes to it, so that no freeze can hang this program.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::net::run;

/// Size of the file system; the file is sparse.
const BYTES: u64 = 1 << 30;
/// A file system with less room than this counts as full.
const FULL_BELOW: u64 = 64 << 10;
/// Writes a second that a slow disk makes.
const SLOW_IOPS: u64 = 20;
/// Where the kernel's throttle is, if it has one.
const BLKIO: &str = "/sys/fs/cgroup/blkio";

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes a file system in `image` and mounts it at `mount`.
    pub(crate) fn make(image: &Path, mount: &Path) -> Result<Self> {
        File::create(image)
            .and_then(|file| file.set_len(BYTES))
            .with_context(|| format!("make {}", image.display()))?;
        std::fs::create_dir_all(mount).with_context(|| format!("make {}", mount.display()))?;
        // No blocks kept for root: replicas of a test are root, and would get them.
        run("mkfs.ext4", &["-q", "-F", "-m", "0", text(image)?])?;
        run("mount", &["-o", "loop", text(image)?, text(mount)?])?;
        Ok(Self { image: image.to_path_buf(), mount: mount.to_path_buf() })
    }

    /// Takes all room that is left.
    pub(crate) fn fill(&self) -> Result<()> {
        let file = File::create(self.ballast()).context("make the ballast")?;
        let (mut len, mut step) = (0, BYTES);
        // Halving steps: the file system itself needs some of what it says is free.
        while step >= 4_096 {
            match fallocate(&file, FallocateFlags::empty(), len, step) {
                Ok(()) => len += step,
                Err(rustix::io::Errno::NOSPC) => step /= 2,
                Err(error) => return Err(error).context("take the room"),
            }
        }
        let left = self.free()?;
        if left >= FULL_BELOW {
            bail!("{left} bytes are still free on {}", self.mount.display());
        }
        Ok(())
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) -> Result<()> {
        match std::fs::remove_file(self.ballast()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context("remove the ballast"),
        }
    }

    /// Thaws it if it is frozen and gives the room back.
    pub(crate) fn mend(&self) -> Result<()> {
        // It fails if it is not frozen, which is the usual case.
        let _ = self.thaw();
        self.empty()
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }

    fn free(&self) -> Result<u64> {
        let stat = statvfs(&self.mount).with_context(|| format!("look at {}", self.mount.display()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Hangs every write until [`Disk::thaw`].
    pub(crate) fn freeze(&self) -> Result<()> {
        run("fsfreeze", &["-f", text(&self.mount)?]).map(drop)
    }

    /// Lets writes go on. In a process of its own, as only that is sure not to hang.
    pub(crate) fn thaw(&self) -> Result<()> {
        run("fsfreeze", &["-u", text(&self.mount)?]).map(drop)
    }

    /// Slows the writes of process `pid` down; with `None` of none any more.
    pub(crate) fn throttle(&self, group: &str, pid: u32) -> Result<()> {
        let folder = Path::new(BLKIO).join(group);
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let rule = format!("{} {SLOW_IOPS}", self.device()?);
        std::fs::write(folder.join("blkio.throttle.write_iops_device"), rule).context("set the throttle")?;
        std::fs::write(folder.join("cgroup.procs"), pid.to_string()).context("put the replica under the throttle")
    }

    /// Whether this kernel can slow a process's writes down.
    pub(crate) fn can_throttle() -> bool {
        Path::new(BLKIO).join("blkio.throttle.write_iops_device").exists()
    }

    /// Takes the throttle away: the process (if it still runs) goes back, and the group is removed.
    pub(crate) fn release(group: &str) -> Result<()> {
        let folder = Path::new(BLKIO).join(group);
        if !folder.exists() {
            return Ok(());
        }
        let members = std::fs::read_to_string(folder.join("cgroup.procs")).context("read the throttle's members")?;
        for pid in members.lines() {
            let moved = std::fs::write(Path::new(BLKIO).join("cgroup.procs"), pid);
            if moved.is_err() && Path::new(&format!("/proc/{pid}")).exists() {
                return moved.context("take the replica from under the throttle");
            }
        }
        std::fs::remove_dir(&folder).with_context(|| format!("remove {}", folder.display()))
    }

    /// `major:minor` of the loop device.
    fn device(&self) -> Result<String> {
        let number = std::fs::metadata(&self.mount).map(|meta| std::os::unix::fs::MetadataExt::dev(&meta))?;
        Ok(format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It fails if nothing is frozen, which is the usual case.
        let _ = self.thaw();
        // Lazily: a replica that was just killed may need a moment to let go.
        let unmounted = text(&self.mount).and_then(|mount| run("umount", &["-l", mount]));
        if let Err(error) = unmounted {
            eprintln!("hanse-faults: {} stays mounted: {error:#}", self.mount.display());
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
