//! The demo's replicas: three child processes of this very program.
//!
//! Each writes its log to its own folder. They die with this process, however it ends, and [`Replicas::stop`] ends them
//! in order and waits for them.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

use super::ground::Ground;

/// How long a replica may take to end after it was asked to.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Lines of a replica's log that are shown when it ends by itself.
const LAST_LINES: usize = 5;

/// The running replicas.
#[derive(Debug)]
pub(crate) struct Replicas {
    children: Vec<Replica>,
}

#[derive(Debug)]
struct Replica {
    id: u64,
    child: Child,
    log: PathBuf,
}

impl Replicas {
    /// Starts every replica of `ground`.
    pub(crate) fn start(ground: &Ground) -> Result<Self> {
        let program = std::env::current_exe().context("find this program's file")?;
        let mut children = Vec::new();
        for id in ground.layout.replicas.keys() {
            let log = ground.dir.join(format!("n{id}/replica.log"));
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&log)
                .with_context(|| format!("open {}", log.display()))?;
            let child = Command::new(&program)
                .args(["server", "--die-with-parent", "--config"])
                .arg(ground.config_path(*id))
                .stdin(Stdio::null())
                .stdout(file.try_clone().context("share the log file")?)
                .stderr(file)
                .kill_on_drop(true)
                // A Ctrl-C at the terminal is this process's to handle: it stops the replicas in order.
                .process_group(0)
                .spawn()
                .with_context(|| format!("start replica {id}"))?;
            children.push(Replica { id: *id, child, log });
        }
        Ok(Self { children })
    }

    /// Process ids by replica id.
    pub(crate) fn pids(&self) -> Vec<(u64, Option<u32>)> {
        self.children.iter().map(|replica| (replica.id, replica.child.id())).collect()
    }

    /// Fails with the cause if a replica has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        for replica in &mut self.children {
            if let Some(status) = replica.child.try_wait().context("look at a replica")? {
                bail!("replica {} ended ({status}); its last words:\n{}", replica.id, last_lines(&replica.log));
            }
        }
        Ok(())
    }

    /// Asks every replica to end and waits; kills one that does not.
    pub(crate) async fn stop(mut self) -> Result<()> {
        for replica in &self.children {
            if let Some(pid) = replica.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
                // It may have ended in this moment; then there is nothing to ask.
                match rustix::process::kill_process(pid, rustix::process::Signal::TERM) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(error) => return Err(error).context("ask a replica to end"),
                }
            }
        }
        for replica in &mut self.children {
            if tokio::time::timeout(STOP_MAX, replica.child.wait()).await.is_err() {
                replica.child.kill().await.with_context(|| format!("kill replica {}", replica.id))?;
            }
        }
        Ok(())
    }
}

fn last_lines(log: &std::path::Path) -> String {
    match std::fs::read_to_string(log) {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
        }
        Err(error) => format!("(its log {} cannot be read: {error})", log.display()),
    }
}
