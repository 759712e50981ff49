//! Three processes of one cluster: started, looked at through /proc, killed, ended.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// Members of a cluster.
pub(crate) const COUNT: usize = 3;
/// How long a member may take to end.
const STOP_MAX: Duration = Duration::from_secs(15);
/// Ticks of processor time in a second: Linux tells them to users in hundredths.
const TICKS: f64 = 100.0;

/// How one member is started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) log: PathBuf,
}

/// The members by place; `None` while one is dead.
#[derive(Debug)]
pub(crate) struct Members {
    starts: Vec<Start>,
    children: Vec<Option<Child>>,
}

impl Members {
    /// Starts all.
    pub(crate) fn start(starts: Vec<Start>) -> Result<Self> {
        let mut members = Self { children: starts.iter().map(|_| None).collect(), starts };
        for place in 0..members.starts.len() {
            members.start_one(place)?;
        }
        Ok(members)
    }

    /// Starts one that is dead.
    pub(crate) fn start_one(&mut self, place: usize) -> Result<()> {
        let start = &self.starts[place];
        let log: File = OpenOptions::new().create(true).append(true).open(&start.log).context("open a log")?;
        let child = Command::new(&start.program)
            .args(&start.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", start.program.display()))?;
        self.children[place] = Some(child);
        Ok(())
    }

    /// Kills one at once.
    pub(crate) async fn kill(&mut self, place: usize) -> Result<()> {
        let mut child = self.children[place].take().context("it is dead already")?;
        child.kill().await.context("kill a member")
    }

    /// Asks all to end and waits.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for pid in self.pids() {
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                kill_process(pid, Signal::TERM).context("ask a member to end")?;
            }
        }
        for child in self.children.iter_mut().filter_map(Option::take) {
            let mut child = child;
            if tokio::time::timeout(STOP_MAX, child.wait()).await.is_err() {
                child.kill().await.context("kill a member that does not end")?;
            }
        }
        Ok(())
    }

    fn pids(&self) -> Vec<u32> {
        self.children.iter().flatten().filter_map(Child::id).collect()
    }

    /// Processor time of all so far, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let mut ticks = 0;
        for pid in self.pids() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("a member has ended")?;
            // After the name, which may hold anything, come the state and then numbers; user and system time are the
            // 14th and 15th field of the whole line (proc(5)).
            let (_, rest) = stat.rsplit_once(')').context("read /proc/PID/stat")?;
            let fields: Vec<&str> = rest.split_whitespace().collect();
            for field in &fields[11..13] {
                ticks += field.parse::<u64>().context("read /proc/PID/stat")?;
            }
        }
        Ok(ticks as f64 / TICKS)
    }

    /// Resident memory of the largest, in MB (10^6 bytes).
    pub(crate) fn rss_mb(&self) -> Result<f64> {
        let mut largest: f64 = 0.0;
        for pid in self.pids() {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("a member has ended")?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("read /proc/PID/status")?;
            let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().context("read /proc/PID/status")?;
            largest = largest.max(kib * 1_024.0 / 1e6);
        }
        Ok(largest)
    }
}

/// Gives ports that were free a moment ago.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Asks until it is so.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> Result<T> {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = ask().await {
            return Ok(found);
        }
        if tokio::time::Instant::now() > end {
            bail!("{what}: not within a minute");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
