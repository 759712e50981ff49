//! One disk whose power can be cut: an ext4 file system on a loop device, over a FUSE export of qemu-storage-daemon that
//! logs every request. Killing the daemon is the power cut.
//!
//! Everything that a rig makes carries the name of its folder, `hanse-power-cut.<pid>.…`. A rig undoes what it made when
//! it is dropped, and [`clean_up_after_the_dead`] undoes what a killed run has left.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Begins the name of every run's folder.
const NAME: &str = "hanse-power-cut.";
/// Size of the disk.
const DISK: &str = "256M";
/// Size of the log's file; it is sparse.
const LOG_BYTES: u64 = 8 << 30;
/// How long a step of the system may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at whether it is done.
const LOOK: Duration = Duration::from_millis(5);
/// Tries to get a loop device, which others may take between the search and the attach.
const LOOP_TRIES: usize = 20;

/// Name of the file in a run's folder that the run holds locked as long as it lives.
const ALIVE: &str = "alive";

/// The folder of one run; removed when dropped.
#[derive(Debug)]
pub struct Folder {
    folder: tempfile::TempDir,
    /// Locked until we end, however we do: so another run can tell the dead from the living.
    _alive: fs::File,
}

impl Folder {
    /// Makes the folder of a run, after cleaning up what dead runs have left.
    ///
    /// # Errors
    /// If the machine cannot do what a rig needs: says what is missing.
    pub fn new() -> Result<Self> {
        check_machine()?;
        clean_up_after_the_dead()?;
        let folder = tempfile::Builder::new().prefix(&format!("{NAME}{}.", std::process::id())).tempdir();
        let folder = folder.context("make a folder")?;
        let alive = fs::File::create(folder.path().join(ALIVE)).context("make a lock file")?;
        alive.lock().context("lock the folder")?;
        Ok(Self { folder, _alive: alive })
    }

    /// Gives its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Says clearly what this machine lacks.
fn check_machine() -> Result<()> {
    for path in ["/dev/fuse", "/dev/loop-control"] {
        ensure!(Path::new(path).exists(), "the power-cut rig needs {path}, which this machine lacks");
    }
    for (program, package) in [
        ("qemu-storage-daemon", "qemu-utils"),
        ("losetup", "mount"),
        ("mkfs.ext4", "e2fsprogs"),
        ("setpriv", "util-linux"),
    ] {
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        // mkfs.ext4 knows -V only and answers anything else with an error: that it starts is enough.
        found.with_context(|| {
            format!("the power-cut rig needs {program} (Debian package {package}; cargo xtask parts)")
        })?;
    }
    let id = output(Command::new("id").arg("-u"))?;
    ensure!(id.trim() == "0", "the power-cut rig mounts file systems: it must run as root");
    Ok(())
}

/// Runs a program; gives what it printed.
///
/// # Errors
/// If it fails, with what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(done.status.success(), "{command:?}: {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Waits for something to become true.
///
/// # Errors
/// If it does not within the limit, or if looking fails.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + LIMIT;
    while !is_so()? {
        ensure!(Instant::now() < until, "not within {LIMIT:?}: {what}");
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Makes a command that the system ends when we end, however we do.
pub fn bound_to_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Makes a fresh file system in a file.
///
/// # Errors
/// If mkfs fails.
pub fn format(path: &Path) -> Result<()> {
    // No lazy work: the kernel must not write to a fresh file system on its own account.
    let options = ["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    output(Command::new("mkfs.ext4").args(options).arg(path).arg(DISK)).map(|_| ())
}

/// A loop device with a mounted file system; undone when dropped.
#[derive(Debug)]
pub struct Mounted {
    device: Option<String>,
    point: PathBuf,
    is_mounted: bool,
}

impl Mounted {
    /// Mounts the image `file` at `point`; the kernel replays the journal of a disk that was cut.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new(file: &Path, point: &Path) -> Result<Self> {
        fs::create_dir_all(point).with_context(|| format!("make {}", point.display()))?;
        let mut mounted = Self { device: Some(attach(file)?), point: point.to_owned(), is_mounted: false };
        let device = mounted.device.clone().unwrap_or_default();
        output(Command::new("mount").args(["-t", "ext4", "-o", "errors=continue"]).arg(&device).arg(point))?;
        mounted.is_mounted = true;
        Ok(mounted)
    }

    fn undo(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_mounted) {
            // Lazily, because a disk that is gone cannot be written back.
            output(Command::new("umount").arg("-l").arg(&self.point))?;
        }
        match self.device.take() {
            Some(device) => output(Command::new("losetup").arg("-d").arg(device)).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        report(self.undo());
    }
}

fn attach(file: &Path) -> Result<String> {
    let mut last = None;
    for _ in 0..LOOP_TRIES {
        match output(Command::new("losetup").args(["-f", "--show"]).arg(file)) {
            Ok(device) => return Ok(device.trim().to_owned()),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(LOOK);
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no loop device")))
}

/// Cleaning up goes on after a failure, but does not hide it.
fn report(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("hanse-faults: cannot clean up: {error:#}");
    }
}

/// The disk under power; cut when dropped.
#[derive(Debug)]
pub struct Rig {
    folder: PathBuf,
    daemon: Child,
    is_exported: bool,
    mounted: Option<Mounted>,
}

impl Rig {
    /// Starts a disk in `folder`, which begins as the image `base.raw` there.
    ///
    /// # Errors
    /// If the daemon or the mount fails.
    pub fn start(folder: &Path) -> Result<Self> {
        let log = fs::File::create(folder.join("log.raw")).context("make the log")?;
        log.set_len(LOG_BYTES).context("size the log")?;
        let export = folder.join("exp.raw");
        fs::write(&export, "").context("make the export's place")?;
        let node =
            |name: &str, file: &str| format!("driver=file,node-name={name},filename={}", folder.join(file).display());
        let daemon = bound_to_us("qemu-storage-daemon")
            .args(["--blockdev", &node("base", "base.raw"), "--blockdev", &node("log", "log.raw")])
            .args(["--blockdev", "driver=blklogwrites,node-name=disk,file=base,log=log,log-sector-size=512"])
            .arg("--export")
            .arg(format!("type=fuse,id=out,node-name=disk,mountpoint={},writable=on", export.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("daemon.log")).context("make the daemon's log")?)
            .spawn()
            .context("start qemu-storage-daemon")?;
        let mut rig = Self { folder: folder.to_owned(), daemon, is_exported: false, mounted: None };
        wait_until("the export of qemu-storage-daemon", || {
            if let Some(status) = rig.daemon.try_wait().context("look at the daemon")? {
                let said = fs::read_to_string(folder.join("daemon.log")).unwrap_or_default();
                bail!("qemu-storage-daemon ended: {status}: {}", said.trim());
            }
            Ok(mounts()?.contains(&export))
        })?;
        rig.is_exported = true;
        rig.mounted = Some(Mounted::new(&export, &rig.point())?);
        Ok(rig)
    }

    /// Gives where its file system is.
    #[must_use]
    pub fn point(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// Gives the file of its block log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log.raw")
    }

    /// Kills the daemon: the disk is gone at this instant. Whoever uses it gets errors from now on.
    ///
    /// # Errors
    /// If it had ended before.
    pub fn cut(&mut self) -> Result<()> {
        if let Some(status) = self.daemon.try_wait().context("look at the daemon")? {
            bail!("qemu-storage-daemon ended by itself: {status}");
        }
        self.daemon.kill().context("kill the daemon")?;
        self.daemon.wait().context("wait for the daemon").map(|_| ())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Killed already after a cut.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        drop(self.mounted.take());
        if std::mem::take(&mut self.is_exported) {
            report(output(Command::new("umount").arg("-l").arg(self.folder.join("exp.raw"))).map(|_| ()));
        }
    }
}

/// Gives every mount point.
fn mounts() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect())
}

/// Undoes what runs that were killed have left: processes, mounts, loop devices, folders, all found by our own name.
///
/// # Errors
/// If the system cannot be asked.
pub fn clean_up_after_the_dead() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir()).context("list the folder of temporary files")? {
        let path = entry.context("list the folder of temporary files")?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let Some(pid) = name.strip_prefix(NAME).and_then(|rest| rest.split('.').next()) else { continue };
        if !is_alive(&path, pid)? {
            report(clean_up(&path));
        }
    }
    Ok(())
}

/// Says whether the run that owns a folder lives: it holds the lock, or has only just made the folder.
fn is_alive(folder: &Path, pid: &str) -> Result<bool> {
    match fs::File::open(folder.join(ALIVE)) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Ok(false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(error).context("try the lock of another run"),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Path::new("/proc").join(pid).exists()),
        Err(error) => Err(error).context("look at the lock of another run"),
    }
}

fn clean_up(folder: &Path) -> Result<()> {
    eprintln!("hanse-faults: cleaning up after a run that was killed: {}", folder.display());
    let text = folder.to_string_lossy();
    for entry in fs::read_dir("/proc").context("list the processes")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if name.chars().all(|c| c.is_ascii_digit()) && line.contains(text.as_ref()) {
            output(Command::new("kill").args(["-KILL", &name]))?;
        }
    }
    for point in mounts()?.iter().rev().filter(|point| point.starts_with(folder)) {
        output(Command::new("umount").arg("-l").arg(point))?;
    }
    for line in output(Command::new("losetup").args(["--list", "--noheadings", "-O", "NAME,BACK-FILE"]))?.lines() {
        if let Some((device, file)) = line.trim().split_once(char::is_whitespace)
            && file.contains(text.as_ref())
        {
            output(Command::new("losetup").args(["-d", device]))?;
        }
    }
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}
