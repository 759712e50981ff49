//! The nodes' processes: started, looked at through /proc, ended.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// How long a node may take to end.
const STOP_MAX: Duration = Duration::from_secs(20);
/// Ticks of processor time in a second: Linux tells them to users in hundredths.
const TICKS: f64 = 100.0;

/// A running node; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command` with its output in `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(log).context("open a log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share the log")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {:?}", command.get_program()))?;
        Ok(Self(child))
    }

    /// Asks it to end and waits; kills it if it does not.
    pub(crate) fn stop(mut self) -> Result<()> {
        if let Some(pid) = Pid::from_raw(self.0.id().cast_signed()) {
            kill_process(pid, Signal::TERM).context("ask a node to end")?;
        }
        let until = Instant::now() + STOP_MAX;
        while self.0.try_wait().context("wait for a node")?.is_none() {
            if Instant::now() > until {
                return Ok(()); // Dropped, and so killed.
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Processor time so far, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).context("a node has ended")?;
        // After the name, which may hold anything, come the state and then numbers; user and system time are the 14th
        // and 15th field of the whole line (proc(5)).
        let (_, rest) = stat.rsplit_once(')').context("read /proc/PID/stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields.get(11..13).context("read /proc/PID/stat")?;
        let ticks = ticks.iter().map(|field| field.parse::<u64>()).sum::<Result<u64, _>>();
        Ok(ticks.context("read /proc/PID/stat")? as f64 / TICKS)
    }

    /// Resident memory in MB (10^6 bytes).
    pub(crate) fn rss_mb(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).context("a node has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("read /proc/PID/status")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().context("read /proc/PID/status")?;
        Ok(kib * 1_024.0 / 1e6)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed; that is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes that a folder's files take on disk.
pub(crate) fn disk_bytes(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.context("list a folder")?;
        // A database may remove a file between listing and looking.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(sum)
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
