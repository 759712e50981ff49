//! Processes of the host: told apart by pid *and* start time, watched and signalled through pidfds.
//!
//! A pid alone is reused by the kernel; pid, start tick and boot id together name one process for ever. A pidfd that
//! was opened before the start tick was read cannot come to mean another process. It never signals by a bare pid what
//! it has not identified.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
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

/// A live process, held by a pidfd.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: ProcId,
    fd: OwnedFd,
}

impl Process {
    /// Returns the process that has `pid` now, `None` if there is none or it only waits to be reaped.
    pub(crate) fn open(pid: u32) -> Option<Self> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let fd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        let start_ticks = start_ticks(pid)?;
        Some(Self { id: ProcId { pid, start_ticks, boot_id: boot_id() }, fd })
    }

    /// Returns the process named `id` if it still lives.
    pub(crate) fn find(id: &ProcId) -> Option<Self> {
        Self::open(id.pid).filter(|found| found.id == *id)
    }

    /// Sends a signal; a process that is gone already is a success.
    pub(crate) fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Waits until the process has ended; returns whether it has, within `limit`.
    pub(crate) fn wait_end(&self, limit: Duration) -> rustix::io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs().min(1 << 30) as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&timeout)) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(e) => return Err(e),
            }
        }
    }
}

/// Which boot this is; empty where the kernel does not say.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// Start tick of `pid`; `None` if there is no such process or it is a zombie.
fn start_ticks(pid: u32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
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
pub(crate) fn marked(dir: &Path) -> Vec<Process> {
    let wanted = format!("{MARK}={}", dir.display());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mark = |pid: &u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|b| *b == 0).any(|entry| entry == wanted.as_bytes())
    };
    // Opened first, read again after: a pid that was reused in between does not carry the mark.
    pids.filter(|pid| *pid != std::process::id())
        .filter(mark)
        .filter_map(Process::open)
        .filter(|p| mark(&p.id.pid))
        .collect()
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
        let me = Process::open(std::process::id()).unwrap();
        assert!(Process::find(&me.id).is_some());
        assert!(Process::find(&ProcId { start_ticks: me.id.start_ticks + 1, ..me.id.clone() }).is_none());
        assert!(Process::find(&ProcId { boot_id: "another".into(), ..me.id.clone() }).is_none());
    }

    #[test]
    fn waiting_for_the_living_ends_at_the_limit() {
        let me = Process::open(std::process::id()).unwrap();
        assert!(!me.wait_end(Duration::from_millis(20)).unwrap());
    }
}
