//! Making an instance's process run: adopt, replace or start, and who hosts the supervisor.
//!
//! Everything happens under the instance's lock. Order of writes: the wish (`spec.json`), then `Starting`, then the
//! supervisor writes `Running` or `Failed`. A crash between any two leaves a state from which the same request goes on:
//! a generation that never got as far as `Running` is started, one that did is never started twice.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hanse_adapters_core::{AdapterError, InstanceSpec, InstanceStatus};

use crate::bundle::placed;
use crate::instance::{FILE_VERSION, GRACE, Phase, StoredSpec, StoredStatus, end_processes, fenced, load, status};
use crate::layout::{InstanceDir, Layout, invalid, io_error, write_json};
use crate::proc::MARK;
use crate::supervise::{ATTACHED, open_log};

/// How long a supervisor may take to start the process.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often `status.json` is read while a supervisor starts.
const POLL: Duration = Duration::from_millis(5);
/// Most arguments and environment entries of an instance.
const ITEMS_MAX: usize = 256;

/// What a supervisor is made of.
#[derive(Clone, Copy)]
pub(crate) struct Mount<'a> {
    /// The program whose `host-supervise` it is.
    pub(crate) exe: &'a Path,
    /// Whether this process ends soon, so that its children are pid 1's then. Of one that lives on a supervisor is made
    /// pid 1's by a process in between.
    pub(crate) is_brief: bool,
}

/// Makes the process of `spec` run and returns its status.
pub(crate) fn ensure(layout: &Layout, mount: Mount<'_>, spec: &InstanceSpec) -> Result<InstanceStatus, AdapterError> {
    check_passable(&spec.key.to_string(), &spec.args, &spec.env)?;
    let program = placed(layout, &spec.artifact_sha256, spec.program.as_deref())?;
    let dir = layout.instance(&spec.key)?;
    let _lock = dir.lock()?;
    let fence = fenced(&dir)?;
    if fence > spec.generation {
        let asked = spec.generation;
        let reason = format!("it was stopped for good: only generation {fence} or later may run, {asked} was asked");
        return Err(invalid(&spec.key, reason));
    }
    let stored = load(&dir)?;
    if let Some(old) = &stored.spec {
        if old.spec.generation > spec.generation {
            let reason = format!(
                "generation {} is on the host, {} was asked: another controller went on; read the newest state",
                old.spec.generation, spec.generation
            );
            return Err(invalid(&spec.key, reason));
        }
        // The generation alone decides: another program's hash under the same one (a newer control plane taking over)
        // adopts what runs, and takes effect with the next generation.
        let same = old.spec.generation == spec.generation;
        if same && matches!(stored.phase, Some(Phase::Running { .. } | Phase::Exited { .. } | Phase::Failed { .. })) {
            return status(&dir);
        }
    }
    // Of an older generation, or of a start that a crash cut off.
    end_processes(&dir, GRACE)?;
    start(
        &dir,
        mount,
        StoredSpec { version: FILE_VERSION, spec: spec.clone(), program: program.path, folder: program.folder },
    )
}

/// Checks that a process can be given these arguments and this environment.
pub(crate) fn check_passable(
    subject: &str,
    args: &[String],
    env: &BTreeMap<String, String>,
) -> Result<(), AdapterError> {
    if args.len() > ITEMS_MAX || env.len() > ITEMS_MAX {
        return Err(invalid(subject, format!("more than {ITEMS_MAX} arguments or environment entries")));
    }
    let zero = args.iter().chain(env.keys()).chain(env.values()).any(|text| text.contains('\0'));
    let name = env.keys().any(|name| name.is_empty() || name.contains('=') || name == MARK);
    if zero || name {
        return Err(invalid(subject, "an argument or environment entry cannot be passed to a process"));
    }
    Ok(())
}

fn start(dir: &InstanceDir, mount: Mount<'_>, stored: StoredSpec) -> Result<InstanceStatus, AdapterError> {
    let fail = |e: std::io::Error| io_error(&dir.key.to_string(), &e);
    let generation = stored.spec.generation;
    dir.make_home()?;
    write_json(&dir.spec(), &stored).map_err(fail)?;
    write_json(&dir.status(), &StoredStatus { version: FILE_VERSION, generation, phase: Phase::Starting })
        .map_err(fail)?;
    let mut command = match (systemd_hosts(), mount.is_brief) {
        (true, _) => systemd_run(dir, mount.exe, generation),
        (false, false) => own(dir, mount.exe),
        (false, true) => return start_attached(dir, mount.exe),
    };
    // Both end at once and leave the supervisor running.
    let output = command.stdin(Stdio::null()).output().map_err(fail)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(AdapterError::Transient {
            subject: dir.key.to_string(),
            reason: format!("its supervisor could not be started ({}): {said}", output.status),
        });
    }
    wait_started(dir, || Ok(()))
}

/// Starts our own supervisor as a child of this process, which ends soon; a process in between would cost its host one more.
fn start_attached(dir: &InstanceDir, exe: &Path) -> Result<InstanceStatus, AdapterError> {
    let fail = |e: std::io::Error| io_error(&dir.key.to_string(), &e);
    let log = open_log(&dir.path).map_err(fail)?;
    let mut command = own(dir, exe);
    command.env(ATTACHED, "1").process_group(0).stdin(Stdio::null()).stderr(log);
    let mut supervisor = command.spawn().map_err(fail)?;
    let started = wait_started(dir, || match supervisor.try_wait() {
        Ok(None) => Ok(()),
        // It may have written how its process ended before it ended itself.
        Ok(Some(_)) if !matches!(load(dir)?.phase, None | Some(Phase::Starting)) => Ok(()),
        Ok(Some(ended)) => Err(AdapterError::Transient {
            subject: dir.key.to_string(),
            reason: format!("its supervisor ended ({ended}) before it had started it: its log says why"),
        }),
        Err(error) => Err(fail(error)),
    });
    // While this process lives, somebody must take the end of its child.
    std::thread::spawn(move || supervisor.wait());
    started
}

/// Waits until the process was started or could not be, as long as `goes_on` finds that there is something to wait for.
fn wait_started(
    dir: &InstanceDir,
    mut goes_on: impl FnMut() -> Result<(), AdapterError>,
) -> Result<InstanceStatus, AdapterError> {
    let deadline = Instant::now() + START_LIMIT;
    while matches!(load(dir)?.phase, None | Some(Phase::Starting)) {
        goes_on()?;
        if Instant::now() > deadline {
            return Err(AdapterError::Unknown {
                subject: dir.key.to_string(),
                reason: format!("its supervisor has not started it within {} s", START_LIMIT.as_secs()),
            });
        }
        std::thread::sleep(POLL);
    }
    status(dir)
}

/// Our own supervisor: this very program, which detaches itself.
fn own(dir: &InstanceDir, exe: &Path) -> Command {
    let mut command = Command::new(exe);
    command
        .arg("host-supervise")
        .arg(&dir.path)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env(MARK, &dir.path)
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Whether systemd runs this host and lets us make units: then it hosts the supervisor, out of reach of logind's
/// `KillUserProcesses`, which would end what a session left behind.
pub(crate) fn systemd_hosts() -> bool {
    Path::new("/run/systemd/system").is_dir() && rustix::process::geteuid().is_root()
}

/// The same supervisor as the main process of a transient unit; argv only, no shell (systemd-run(1)).
fn systemd_run(dir: &InstanceDir, exe: &Path, generation: u64) -> Command {
    let mut command = Command::new("systemd-run");
    command
        .args(["--quiet", "--collect", "--no-ask-password", "--service-type=exec"])
        // Only the supervisor's own end ends the unit; when it is killed the node lives on and is found by its pid.
        .args(["--property=KillMode=process", "--property=OOMPolicy=continue"])
        .arg(format!("--unit={}", unit_name(dir, generation)))
        .arg(format!("--setenv={MARK}={}", dir.path.display()))
        .arg(format!("--setenv={}=1", crate::supervise::ATTACHED))
        .arg("--")
        .arg(exe)
        .arg("host-supervise")
        .arg(&dir.path)
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// A unit's name is at most 255 bytes and two keys must not meet in one: a hash of the folder, and the generation so
/// that a unit that systemd still collects does not stand in the way of its successor.
fn unit_name(dir: &InstanceDir, generation: u64) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, dir.path.as_os_str().as_encoded_bytes());
    let object: String = dir.key.object().chars().take(100).collect();
    format!("hanse-{object}-{}-{generation}.service", hex::encode(&digest.as_ref()[..8]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hanse_adapters_core::InstanceKey;

    use super::*;

    /// Nobody would write how it went: it is told at once, and not only when the time to start is over.
    #[test]
    fn a_supervisor_that_ends_without_a_word_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        let dir = Layout::new(root.path()).instance(&InstanceKey::new("c", "n").unwrap()).unwrap();
        dir.make_home().unwrap();
        let told = start_attached(&dir, Path::new("/bin/false")).unwrap_err();
        assert!(matches!(&told, AdapterError::Transient { reason, .. } if reason.contains("ended")), "{told}");
    }
}
