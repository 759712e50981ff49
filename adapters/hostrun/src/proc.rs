//! Processes of the host: told apart by pid *and* start time, watched and signalled through pidfds.
//!
//! A pid alone is reused by the kernel; pid, start tick and boot id together name one process for ever. A pidfd that
//! was opened before the start tick was read cannot come to mean another process. Kernels before 5.3 have no pidfds:
//! there the start tick is read again before each signal.
//!
//! That there is no such process is an answer; that the host could not look (no descriptor left, no `/proc`) is an
//! error and never taken for an end, or a second process would be started beside a live one. It never signals by a
//! bare pid what it has not identified.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// Environment variable that marks every process of an instance with the instance's folder.
pub(crate) const MARK: &str = "HANSE_INSTANCE_DIR";

/// One process for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcId {
    pub(crate) pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks after boot.
    pub(crate) start_ticks: u64,
    /// Which boot the ticks count from.
    pub(crate) boot_id: String,
}

/// How often `/proc` is read where the kernel has no pidfds to wait on.
const POLL: Duration = Duration::from_millis(20);

/// Longest time that a process takes to end after `/proc` no longer shows it as alive.
const ENDING_MAX: Duration = Duration::from_secs(5);

/// A live process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: ProcId,
    pid: Pid,
    /// `None` where the kernel has no pidfds.
    fd: Option<OwnedFd>,
}

impl Process {
    /// Returns the process that has `pid` now, `None` if there is none or it only waits to be reaped.
    ///
    /// # Errors
    /// The host could not look; nothing is known of the process then.
    pub(crate) fn open(pid: u32) -> io::Result<Option<Self>> {
        Self::open_with(pid, |pid| pidfd_open(pid, PidfdFlags::empty()))
    }

    fn open_with(number: u32, pidfd: impl FnOnce(Pid) -> Result<OwnedFd, Errno>) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let fd = match pidfd(pid) {
            Ok(fd) => Some(fd),
            Err(Errno::SRCH) => return Ok(None),
            Err(Errno::NOSYS) => None,
            Err(e) => return Err(e.into()),
        };
        let Some(start_ticks) = start_ticks(number)? else {
            return match &fd {
                // The first thread of a process that ends is a zombie while the others still go; its pidfd says that it
                // has ended once all have. If it does not soon, `/proc` is not to be trusted.
                Some(fd) if !ends_within(fd, ENDING_MAX)? => {
                    Err(io::Error::other(format!("/proc does not show live process {pid}")))
                }
                Some(_) | None => Ok(None),
            };
        };
        let id = ProcId { pid: number, start_ticks, boot_id: boot_id()? };
        Ok(Some(Self { id, pid, fd }))
    }

    /// Returns the process named `id` if it still lives.
    ///
    /// # Errors
    /// As [`Process::open`].
    pub(crate) fn find(id: &ProcId) -> io::Result<Option<Self>> {
        Ok(Self::open(id.pid)?.filter(|found| found.id == *id))
    }

    /// Sends a signal; a process that is gone already is a success.
    ///
    /// # Errors
    /// The kernel refused, or the host could not look.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent = match &self.fd {
            Some(fd) => pidfd_send_signal(fd, signal),
            // Between the look and the signal the pid could be reused only if all pids came round in that instant.
            None if self.has_ended()? => return Ok(()),
            None => kill_process(self.pid, signal),
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Waits until the process has ended; returns whether it has, within `limit`.
    ///
    /// # Errors
    /// The host could not look.
    pub(crate) fn wait_end(&self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = match &self.fd {
                Some(fd) => poll_end(fd, left)?,
                None => self.has_ended()?,
            };
            if ended || left.is_zero() {
                return Ok(ended);
            }
            if self.fd.is_none() {
                std::thread::sleep(POLL.min(left));
            }
        }
    }

    /// Asks `/proc`.
    fn has_ended(&self) -> io::Result<bool> {
        Ok(start_ticks(self.id.pid)? != Some(self.id.start_ticks))
    }
}

/// Waits on a pidfd for at most `limit`; it may return `false` earlier, after a signal.
fn poll_end(fd: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: limit.as_secs().min(1 << 30) as i64, tv_nsec: limit.subsec_nanos().into() };
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn ends_within(fd: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if poll_end(fd, left)? || left.is_zero() {
            return poll_end(fd, Duration::ZERO);
        }
    }
}

/// Which boot this is; empty where the kernel does not say.
fn boot_id() -> io::Result<String> {
    Ok(read_of_process("/proc/sys/kernel/random/boot_id")?
        .map(|bytes| text(&bytes).trim().to_owned())
        .unwrap_or_default())
}

/// Start tick of `pid`; `None` if there is no such process or it is a zombie.
fn start_ticks(pid: u32) -> io::Result<Option<u64>> {
    match read_of_process(&format!("/proc/{pid}/stat"))? {
        Some(stat) => Ok(parse_stat(&text(&stat))),
        // Not mounted, `/proc` would say of every process that it is not there.
        None => fs::metadata("/proc/self/stat").map(|_| None),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads a file of `/proc`; `None` if what it tells of is gone.
fn read_of_process(path: &str) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// ENOENT before opening, ESRCH when the process ends between opening and reading (proc(5)).
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::SRCH)
}

/// The name in parentheses may itself hold spaces and parentheses: fields are counted from the last one.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    // State is field 3, the start time field 22 (proc(5)).
    let ticks = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X" | "x")).then_some(ticks)
}

/// Returns every live process that carries the mark of the instance in `dir`, besides this one: the node, what it
/// started, and supervisors.
///
/// # Errors
/// The host could not look; there may be more than is known.
pub(crate) fn marked(dir: &Path) -> io::Result<Vec<Process>> {
    let wanted = format!("{MARK}={}", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() || !has_mark(pid, &wanted)? {
            continue;
        }
        // Opened first, read again after: a pid that was reused in between does not carry the mark.
        if let Some(process) = Process::open(pid)?
            && has_mark(pid, &wanted)?
        {
            found.push(process);
        }
    }
    Ok(found)
}

/// Returns `roots` and all that descends from them, each once, those that ended meanwhile possibly among them; `None` where the kernel
/// does not tell a process's children (proc(5), `CONFIG_PROC_CHILDREN`).
///
/// # Errors
/// The host could not look.
pub(crate) fn descendants(roots: Vec<u32>) -> io::Result<Option<Vec<u32>>> {
    let mut all = BTreeSet::new();
    let mut next = roots;
    while let Some(pid) = next.pop() {
        if !all.insert(pid) {
            continue;
        }
        let threads = match fs::read_dir(format!("/proc/{pid}/task")) {
            Ok(threads) => threads,
            Err(e) if is_gone(&e) => continue,
            Err(e) => return Err(e),
        };
        for thread in threads {
            let thread = match thread {
                Ok(thread) => thread.path(),
                Err(e) if is_gone(&e) => break,
                Err(e) => return Err(e),
            };
            match read_of_process(&format!("{}/children", thread.display()))? {
                Some(children) => {
                    next.extend(text(&children).split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()))
                }
                None if thread.exists() => return Ok(None),
                None => {}
            }
        }
    }
    Ok(Some(all.into_iter().collect()))
}

fn has_mark(pid: u32, wanted: &str) -> io::Result<bool> {
    match read_of_process(&format!("/proc/{pid}/environ")) {
        Ok(environ) => Ok(environ.unwrap_or_default().split(|b| *b == 0).any(|entry| entry == wanted.as_bytes())),
        // Another account's: what we start runs under ours.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stat_with_a_hostile_name_is_read() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(parse_stat(&format!("7 (a) b (c) {tail}")), Some(4242));
        assert_eq!(parse_stat(&format!("7 (x) {}", tail.replacen('S', "Z", 1))), None);
        assert_eq!(parse_stat("7 (x"), None);
    }

    #[test]
    fn a_process_is_found_by_all_of_its_name() {
        let me = Process::open(std::process::id()).unwrap().unwrap();
        assert!(Process::find(&me.id).unwrap().is_some());
        assert!(Process::find(&ProcId { start_ticks: me.id.start_ticks + 1, ..me.id.clone() }).unwrap().is_none());
        assert!(Process::find(&ProcId { boot_id: "another".into(), ..me.id.clone() }).unwrap().is_none());
    }

    #[test]
    fn children_of_children_are_found() {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "sleep 100 & echo begun; wait"]).stdout(std::process::Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let pid = shell.id();
        let mut begun = [0; 6];
        io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut begun).unwrap();
        let of_me = descendants(vec![std::process::id()]).unwrap().expect("this kernel tells children");
        let of_shell = descendants(vec![pid]).unwrap().unwrap();
        for pid in &of_shell {
            kill_process(Pid::from_raw(*pid as i32).unwrap(), Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
        assert_eq!(of_shell.len(), 2, "the shell and what it started");
        assert!(of_shell.iter().all(|pid| of_me.contains(pid)) && of_me.contains(&std::process::id()));
        assert_eq!(descendants(vec![pid]).unwrap().unwrap(), [pid], "one that is gone has none");
    }

    #[test]
    fn only_no_such_process_means_that_there_is_none() {
        let me = std::process::id();
        assert!(Process::open_with(me, |_| Err(Errno::SRCH)).unwrap().is_none());
        for cannot_look in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::PERM] {
            let error = Process::open_with(me, |_| Err(cannot_look)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(cannot_look.raw_os_error()));
        }
    }

    #[test]
    fn what_proc_no_longer_shows_is_waited_for_until_it_has_ended() {
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        // Stands for the threads that still end after the first one has.
        let mut ending = std::process::Command::new("sleep").arg("0.3").spawn().unwrap();
        let its_fd = pidfd_open(Pid::from_child(&ending), PidfdFlags::empty());
        assert!(Process::open_with(gone.id(), |_| its_fd).unwrap().is_none());
        assert!(ending.try_wait().unwrap().is_some(), "it was not waited for");
    }

    #[test]
    fn without_pidfds_a_process_is_watched_and_ended_by_its_start_tick() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::open_with(child.id(), |_| Err(Errno::NOSYS)).unwrap().unwrap();
        assert_eq!(process.id, Process::open(child.id()).unwrap().unwrap().id);
        assert!(!process.wait_end(Duration::from_millis(1)).unwrap());
        // A pid that came to mean another process is left alone.
        let reused = ProcId { start_ticks: process.id.start_ticks + 1, ..process.id.clone() };
        Process { id: reused, pid: process.pid, fd: None }.signal(Signal::KILL).unwrap();
        assert!(!process.wait_end(Duration::from_millis(1)).unwrap());
        process.signal(Signal::KILL).unwrap();
        assert!(process.wait_end(Duration::from_secs(60)).unwrap(), "a zombie has ended");
        child.wait().unwrap();
        assert!(process.wait_end(Duration::ZERO).unwrap());
        process.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn waiting_for_the_living_ends_at_the_limit() {
        let me = Process::open(std::process::id()).unwrap().unwrap();
        assert!(!me.wait_end(Duration::from_millis(20)).unwrap());
    }
}
