//! Our small supervisor: the parent of one instance's process.
//!
//! `host-supervise DIR` detaches (a second copy of the program in its own session, adopted by pid 1; not where who asked
//! ends soon and says so), starts the process of `DIR/spec.json`, writes its pid and start time, waits for its end and writes how it ended, then ends itself. The
//! process writes to its log directly, so killing the supervisor neither stops nor blocks it; the supervisor only keeps
//! the log small. It never restarts anything and never listens to anyone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use hanse_adapters_core::InstanceKey;

use crate::bundle::Program;
use crate::facts::now_ms;
use crate::instance::{FILE_VERSION, Phase, StoredSpec, StoredStatus};
use crate::layout::{InstanceDir, read_json, write_json};
use crate::proc::{MARK, Process};
use crate::run::command;

/// Set on the copy that is detached already (or hosted by systemd) and does the work.
pub(crate) const ATTACHED: &str = "HANSE_SUPERVISE_ATTACHED";
/// A log above this size becomes `log.1`; both together stay below twice this, plus what is written in one interval.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How often the log's size is checked.
const LOG_CHECK: Duration = Duration::from_secs(2);

/// Supervises the process of the instance folder `dir`; the first call detaches and returns at once.
pub fn supervise(dir: &Path) -> ExitCode {
    let result = if std::env::var_os(ATTACHED).is_some() { attached(dir) } else { detach(dir) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is where it was started from; after detaching, the instance's log.
            let _ = writeln!(io::stderr(), "host-supervise {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// Starts the working copy in its own process group and leaves it to pid 1.
fn detach(dir: &Path) -> io::Result<()> {
    let log = open_log(dir)?;
    let spawned = Command::new("/proc/self/exe")
        .arg("host-supervise")
        .arg(dir)
        .env(ATTACHED, "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn();
    spawned.map(drop)
}

fn attached(dir: &Path) -> io::Result<()> {
    // Already leading a session is what systemd gives; both are far from the terminal of whoever asked.
    let _ = rustix::process::setsid();
    let dir = instance_dir(dir)?;
    let stored = read_json::<StoredSpec>(&dir.spec()).map_err(io::Error::other)?;
    let stored = stored.ok_or_else(|| io::Error::other("there is no spec.json"))?;
    let generation = stored.spec.generation;
    let record = |phase| write_json(&dir.status(), &StoredStatus { version: FILE_VERSION, generation, phase });
    let mut child = match spawn(&dir, &stored) {
        Ok(child) => child,
        Err(error) => return record(Phase::Failed { reason: format!("{}: {error}", stored.program.display()) }),
    };
    if let Err(error) = identify(&child).and_then(|phase| phase.map_or(Ok(()), record)) {
        // Nobody would know of it (a full disk, no descriptor left): end it, so that the start can be tried again.
        child.kill()?;
        child.wait()?;
        return record(Phase::Failed { reason: format!("it ran and could not be written down: {error}") });
    }
    let rotated = dir.log();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(LOG_CHECK);
            // A log that cannot be rotated (full disk) is tried again; the node must not suffer from it.
            let _ = rotate(&rotated, LOG_BYTES_MAX);
        }
    });
    let status = child.wait()?;
    record(Phase::Exited { code: status.code(), signal: status.signal(), ended_ms: now_ms() })
}

/// The phase to write down for a child that was just started; `None` if it ended already (it is a zombie until `wait`).
fn identify(child: &Child) -> io::Result<Option<Phase>> {
    let own = Process::open(std::process::id())?.ok_or_else(|| io::Error::other("/proc does not show this process"))?;
    let child = Process::open(child.id())?;
    Ok(child.map(|child| Phase::Running { child: child.id, supervisor: own.id, since_ms: now_ms() }))
}

fn spawn(dir: &InstanceDir, stored: &StoredSpec) -> io::Result<Child> {
    let home = dir.home();
    let log = open_log(&dir.path)?;
    let program = Program { path: stored.program.clone(), folder: stored.folder.clone() };
    command(&program, &home, &stored.spec.args, &stored.spec.env)
        .env(MARK, &dir.path)
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// `<root>/instances/<cluster>/<object>` names its own key.
fn instance_dir(path: &Path) -> io::Result<InstanceDir> {
    let name = |path: Option<&Path>| Some(path?.file_name()?.to_str()?.to_owned());
    let key =
        name(path.parent()).zip(name(Some(path))).and_then(|(cluster, object)| InstanceKey::new(&cluster, &object));
    let key = key.ok_or_else(|| io::Error::other("is not the folder of an instance"))?;
    Ok(InstanceDir { key, path: PathBuf::from(path) })
}

/// Appending: after the file was cut, the node's next line lands at its start.
pub(crate) fn open_log(dir: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join("log"))
}

/// Copies and cuts the log when it is larger than `limit`. Renaming would leave the node writing into the old file;
/// lines written between the copy and the cut are lost, which is the price of needing nobody in between.
fn rotate(log: &Path, limit: u64) -> io::Result<()> {
    let size = std::fs::metadata(log)?.len();
    if size <= limit {
        return Ok(());
    }
    std::fs::copy(log, log.with_extension("1"))?;
    OpenOptions::new().write(true).open(log)?.set_len(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_large_log_is_cut_and_its_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut writer = open_log(dir.path()).unwrap();
        writer.write_all(&[b'x'; 100]).unwrap();
        rotate(&log, 100).unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 100);
        rotate(&log, 99).unwrap();
        writer.write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read(&log).unwrap(), b"after\n");
        assert_eq!(std::fs::metadata(dir.path().join("log.1")).unwrap().len(), 100);
    }
}
