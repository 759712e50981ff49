//! What is known of an instance, and its end: look, stop, remove, list, tail.
//!
//! Two files say everything: `spec.json` (what was wished last) and `status.json` (what the supervisor saw last), and
//! `/proc` has the last word on whether a process lives. Looking takes no lock and changes nothing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use hanse_adapters_core::{AdapterError, InstanceKey, InstanceSpec, InstanceStatus, RunState};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::layout::{InstanceDir, Layout, invalid, io_error, read_json, write_json};
use crate::proc::{ProcId, Process, marked};

/// Version of `spec.json` and `status.json`.
pub(crate) const FILE_VERSION: u32 = 1;
/// How much of the log an ended instance shows.
const LAST_LOG_LINES: u32 = 20;
/// Most of a log that is ever read at once.
const TAIL_BYTES_MAX: u64 = 256 * 1024;
/// How long the supervisor may take to write down the end it saw.
const RECORD_LIMIT: Duration = Duration::from_secs(5);
/// How long the kernel may take to end a process after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Grace on removal and replacement.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// Longest grace that is granted, whatever is asked for.
const GRACE_MAX: Duration = Duration::from_secs(600);
/// How often what carries the mark is looked for again while it is being killed.
const KILL_ROUNDS: u32 = 8;

/// `spec.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSpec {
    pub(crate) version: u32,
    pub(crate) spec: InstanceSpec,
    /// Absolute path of the program.
    pub(crate) program: std::path::PathBuf,
    /// Absolute path of the folder with the artifact's files; empty in files of programs that knew no bundles.
    #[serde(default)]
    pub(crate) folder: std::path::PathBuf,
}

/// `status.json`, of the generation it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredStatus {
    pub(crate) version: u32,
    pub(crate) generation: u64,
    pub(crate) phase: Phase,
}

/// `fence.json` and `written.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredFence {
    version: u32,
    generation: u64,
}

/// How far the supervisor came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// A supervisor was started and has not spoken yet.
    Starting,
    /// The process was started.
    Running { child: ProcId, supervisor: ProcId, since_ms: u64 },
    /// The process ended and the supervisor saw how.
    Exited { code: Option<i32>, signal: Option<i32>, ended_ms: u64 },
    /// The process could not be started.
    Failed { reason: String },
}

/// Both files of one instance.
pub(crate) struct Stored {
    pub(crate) spec: Option<StoredSpec>,
    /// Only if it is of the generation of `spec`.
    pub(crate) phase: Option<Phase>,
}

pub(crate) fn load(dir: &InstanceDir) -> Result<Stored, AdapterError> {
    let spec: Option<StoredSpec> = read_json(&dir.spec())?;
    let status: Option<StoredStatus> = read_json(&dir.status())?;
    let versions = spec.iter().map(|s| s.version).chain(status.iter().map(|s| s.version));
    for version in versions {
        if version != FILE_VERSION {
            return Err(invalid(
                &dir.key,
                format!("its files have version {version}, this program knows {FILE_VERSION}"),
            ));
        }
    }
    let generation = spec.as_ref().map(|s| s.spec.generation);
    let phase = status.filter(|s| Some(s.generation) == generation).map(|s| s.phase);
    Ok(Stored { spec, phase })
}

pub(crate) fn look(layout: &Layout, key: &InstanceKey) -> Result<Option<InstanceStatus>, AdapterError> {
    let dir = layout.instance(key)?;
    if !dir.exists() {
        return Ok(None);
    }
    status(&dir).map(Some)
}

/// Returns the status of an instance whose folder is there.
pub(crate) fn status(dir: &InstanceDir) -> Result<InstanceStatus, AdapterError> {
    let stored = load(dir)?;
    let run = match stored.phase {
        None | Some(Phase::Starting) => RunState::Prepared,
        Some(Phase::Running { child, supervisor, since_ms }) => match find(&dir.key, &child)? {
            Some(_) => RunState::Running { pid: child.pid, since_ms },
            // Gone: its supervisor writes how in a moment, or was killed itself (a reboot ends both).
            None => exited_after(dir, &supervisor)?,
        },
        Some(Phase::Exited { code, signal, .. }) => exited(dir, code, signal)?,
        Some(Phase::Failed { reason }) => RunState::Exited { code: None, signal: None, last_log: reason },
    };
    let generation = stored.spec.map_or(0, |s| s.spec.generation);
    let taken = crate::claim::is_taken(dir)?;
    Ok(InstanceStatus { key: dir.key.clone(), generation, run, taken })
}

/// As [`Process::find`]; that the host cannot look is `Transient`, so that nobody takes it for an end.
fn find(key: &InstanceKey, id: &ProcId) -> Result<Option<Process>, AdapterError> {
    Process::find(id).map_err(|e| cannot_look(key, &e))
}

fn cannot_look(key: &InstanceKey, error: &io::Error) -> AdapterError {
    AdapterError::Transient {
        subject: key.to_string(),
        reason: format!("the host cannot look at its processes: {error}; free descriptors or memory there"),
    }
}

fn exited_after(dir: &InstanceDir, supervisor: &ProcId) -> Result<RunState, AdapterError> {
    if let Some(supervisor) = find(&dir.key, supervisor)? {
        // It ends itself after writing; if it does not in time, the end is told without its cause.
        supervisor.wait_end(RECORD_LIMIT).map_err(|e| cannot_look(&dir.key, &e))?;
    }
    match load(dir)?.phase {
        Some(Phase::Exited { code, signal, .. }) => exited(dir, code, signal),
        _ => exited(dir, None, None),
    }
}

fn exited(dir: &InstanceDir, code: Option<i32>, signal: Option<i32>) -> Result<RunState, AdapterError> {
    Ok(RunState::Exited { code, signal, last_log: log_tail(dir, LAST_LOG_LINES)? })
}

pub(crate) fn stop(layout: &Layout, key: &InstanceKey, grace: Duration) -> Result<(), AdapterError> {
    let dir = layout.instance(key)?;
    match dir.lock_existing()? {
        Some(_lock) => end_processes(&dir, grace.min(GRACE_MAX)),
        None => Ok(()),
    }
}

/// Stops the instance and keeps every older generation from starting, in this order: first the fence is durable, so that a
/// crash in between leaves an instance that runs and is stopped by the same request.
pub(crate) fn fence(layout: &Layout, key: &InstanceKey, generation: u64, grace: Duration) -> Result<(), AdapterError> {
    let dir = layout.instance(key)?;
    let _lock = dir.lock()?;
    check_newest(&dir, generation, "stopped")?;
    let fence = StoredFence { version: FILE_VERSION, generation };
    write_json(&dir.fence(), &fence).map_err(|e| io_error(&dir.key.to_string(), &e))?;
    end_processes(&dir, grace.min(GRACE_MAX))
}

/// Takes the home for files of `generation`: first that is durable, so that whatever of an older one comes later is refused, also before
/// anything of this one was started.
pub(crate) fn claim(dir: &InstanceDir, generation: u64) -> Result<(), AdapterError> {
    check_newest(dir, generation, "written")?;
    let known = stored_generation(dir, &dir.written(), "mark of what was written")?;
    if known > generation {
        let reason =
            format!("files of generation {known} are there, {generation} was to be written: read the newest state");
        return Err(invalid(&dir.key, reason));
    }
    if known < generation {
        let mark = StoredFence { version: FILE_VERSION, generation };
        write_json(&dir.written(), &mark).map_err(|e| io_error(&dir.key.to_string(), &e))?;
    }
    Ok(())
}

/// Checks that nothing newer than `generation` is on the host.
fn check_newest(dir: &InstanceDir, generation: u64, what: &str) -> Result<(), AdapterError> {
    let known = load(dir)?.spec.map_or(0, |spec| spec.spec.generation).max(fenced(dir)?);
    if known > generation {
        let reason = format!("generation {known} is on the host, {generation} was to be {what}: read the newest state");
        return Err(invalid(&dir.key, reason));
    }
    Ok(())
}

/// The first generation that may run; 0 if the instance was never fenced.
pub(crate) fn fenced(dir: &InstanceDir) -> Result<u64, AdapterError> {
    stored_generation(dir, &dir.fence(), "fence")
}

/// The generation in a file of this kind, `what` in words; 0 if there is no such file.
fn stored_generation(dir: &InstanceDir, path: &Path, what: &str) -> Result<u64, AdapterError> {
    match read_json::<StoredFence>(path)? {
        Some(stored) if stored.version != FILE_VERSION => {
            let reason = format!("its {what} has version {}, this program knows {FILE_VERSION}", stored.version);
            Err(invalid(&dir.key, reason))
        }
        Some(stored) => Ok(stored.generation),
        None => Ok(0),
    }
}

pub(crate) fn remove(layout: &Layout, key: &InstanceKey, upto: Option<u64>) -> Result<(), AdapterError> {
    let dir = layout.instance(key)?;
    let Some(_lock) = dir.lock_existing()? else { return Ok(()) };
    if let Some(generation) = upto {
        check_newest(&dir, generation, "removed")?;
    }
    end_processes(&dir, GRACE)?;
    // The lock file goes with the folder; whoever waits for it sees that the folder went away.
    match fs::remove_dir_all(&dir.path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io_error(&dir.key.to_string(), &e)),
    }
}

/// Ends everything of the instance: the node is asked, then killed; then whatever else carries its mark.
pub(crate) fn end_processes(dir: &InstanceDir, grace: Duration) -> Result<(), AdapterError> {
    let fail = |e: io::Error| io_error(&dir.key.to_string(), &e);
    let phase = load(dir).ok().and_then(|stored| last_phase(dir, stored));
    if let Some(Phase::Running { child, supervisor, .. }) = phase {
        if let Some(child) = find(&dir.key, &child)? {
            child.signal(Signal::TERM).map_err(fail)?;
            if !child.wait_end(grace).map_err(fail)? {
                child.signal(Signal::KILL).map_err(fail)?;
                child.wait_end(KILL_LIMIT).map_err(fail)?;
            }
        }
        if let Some(supervisor) = find(&dir.key, &supervisor)? {
            supervisor.wait_end(RECORD_LIMIT).map_err(fail)?;
        }
    }
    for _ in 0..KILL_ROUNDS {
        let left = marked(&dir.path).map_err(|e| cannot_look(&dir.key, &e))?;
        if left.is_empty() {
            return Ok(());
        }
        for process in &left {
            process.signal(Signal::KILL).map_err(fail)?;
        }
        for process in &left {
            process.wait_end(KILL_LIMIT).map_err(fail)?;
        }
    }
    Err(AdapterError::Transient { subject: dir.key.to_string(), reason: "a process does not end after SIGKILL".into() })
}

/// The phase of whatever generation ran last, for ending it.
fn last_phase(dir: &InstanceDir, stored: Stored) -> Option<Phase> {
    stored.phase.or_else(|| read_json::<StoredStatus>(&dir.status()).ok().flatten().map(|s| s.phase))
}

pub(crate) fn list(layout: &Layout, cluster: &str) -> Result<Vec<InstanceStatus>, AdapterError> {
    let probe = InstanceKey::new(cluster, "x").ok_or_else(|| invalid(cluster, "is not a valid cluster name"))?;
    let entries = match fs::read_dir(layout.cluster_dir(probe.cluster())) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_error(cluster, &e)),
    };
    let names: BTreeSet<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let keys = names.iter().filter_map(|name| InstanceKey::new(cluster, name));
    // One that is removed meanwhile is left out.
    keys.filter_map(|key| look(layout, &key).transpose()).collect()
}

pub(crate) fn tail(layout: &Layout, key: &InstanceKey, lines: u32) -> Result<String, AdapterError> {
    log_tail(&layout.instance(key)?, lines)
}

fn log_tail(dir: &InstanceDir, lines: u32) -> Result<String, AdapterError> {
    let now = read_end(&dir.log()).map_err(|e| io_error("log", &e))?;
    let mut text = now;
    if text.lines().count() < lines as usize {
        // The log was cut a moment ago: the lines before are in the older file.
        text = read_end(&dir.log().with_extension("1")).map_err(|e| io_error("log.1", &e))? + &text;
    }
    let total = text.lines().count();
    let wanted = text.lines().skip(total.saturating_sub(lines as usize));
    Ok(wanted.fold(String::new(), |mut all, line| {
        all.push_str(line);
        all.push('\n');
        all
    }))
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(e) => return Err(e),
    };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::layout::write_json;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    const INNER: &str = "HANSE_TEST_WITHOUT_DESCRIPTORS";

    /// In a process of its own, because the limit of descriptors is the whole process's.
    #[test]
    fn a_host_without_descriptors_cannot_look_and_does_not_say_that_the_node_is_dead() {
        if std::env::var_os(INNER).is_some() {
            return without_descriptors();
        }
        let name = "instance::tests::a_host_without_descriptors_cannot_look_and_does_not_say_that_the_node_is_dead";
        let inner = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INNER, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&inner.stdout) + String::from_utf8_lossy(&inner.stderr);
        assert!(inner.status.success() && said.contains("1 passed"), "{said}");
    }

    /// A file of a later program may mean something else.
    #[test]
    fn a_mark_of_another_version_is_not_read_as_ours() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let key = InstanceKey::new("c", "n").unwrap();
        let dir = layout.instance(&key).unwrap();
        dir.make_home().unwrap();
        claim(&dir, 3).unwrap();
        claim(&dir, 3).unwrap();
        assert!(matches!(claim(&dir, 2), Err(AdapterError::Invalid { .. })));
        for (path, what) in [(dir.written(), "mark of what was written"), (dir.fence(), "fence")] {
            write_json(&path, &StoredFence { version: FILE_VERSION + 1, generation: 1 }).unwrap();
            let refused = claim(&dir, 9).unwrap_err().to_string();
            assert!(refused.contains(what) && refused.contains("has version 2"), "{refused}");
            fs::remove_file(&path).unwrap();
        }
        claim(&dir, 9).unwrap();
    }

    fn without_descriptors() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let key = InstanceKey::new("c", "n").unwrap();
        let dir = layout.instance(&key).unwrap();
        dir.make_home().unwrap();
        let me = Process::open(std::process::id()).unwrap().unwrap().id;
        let phase = Phase::Running { child: me.clone(), supervisor: me, since_ms: 1 };
        write_json(&dir.status(), &StoredStatus { version: FILE_VERSION, generation: 1, phase }).unwrap();
        let spec = InstanceSpec {
            key: key.clone(),
            generation: 1,
            artifact_sha256: String::new(),
            program: None,
            args: Vec::new(),
            env: Default::default(),
            ports: Default::default(),
        };
        write_json(
            &dir.spec(),
            &StoredSpec { version: FILE_VERSION, spec, program: "/none".into(), folder: "/".into() },
        )
        .unwrap();

        let most = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, most).unwrap();
        let mut held = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            held.push(file);
        }
        // One is left for each file that is read in turn, and none beside the pidfd.
        held.pop();
        let blind = look(&layout, &key);
        let stopped = end_processes(&dir, Duration::ZERO);
        drop(held);
        assert!(matches!(blind, Err(AdapterError::Transient { .. })), "{blind:?}");
        assert!(matches!(stopped, Err(AdapterError::Transient { .. })), "{stopped:?}");
        let status = look(&layout, &key).unwrap().unwrap();
        assert!(matches!(status.run, RunState::Running { .. }), "{status:?}");
    }
}
