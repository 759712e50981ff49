//! A short run of the artifact in the home of an instance.
//!
//! The program gets a minimal environment, no input, and its own process group; both outputs are read to the end but
//! kept only up to a limit. After the time-out the whole group is killed. It never leaves a process behind on purpose.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hanse_adapters_core::{AdapterError, InstanceKey, InstanceSpec, RunOutput, RunSpec};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::bundle::{Program, placed};
use crate::layout::{Layout, io_error};
use crate::proc::Process;
use crate::wire::Composed;

/// Each output is cut at this size.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Longest run that is granted, whatever is asked for.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// How long a process that left the group may keep the outputs open after the run ended.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Runs the artifact and returns what it printed.
pub(crate) fn run(layout: &Layout, key: &InstanceKey, spec: &RunSpec) -> Result<RunOutput, AdapterError> {
    crate::start::check_passable(&key.to_string(), &spec.args, &spec.env)?;
    let program = placed(layout, &spec.artifact_sha256, spec.program.as_deref())?;
    let dir = layout.instance(key)?;
    let _lock = dir.lock()?;
    let home = dir.make_home()?;
    watch(&program, &home, spec)
}

/// Runs the artifact in any folder and returns what it printed; it is trusted to change nothing there.
pub(crate) fn run_in(layout: &Layout, home: &Path, spec: &RunSpec) -> Result<RunOutput, AdapterError> {
    crate::start::check_passable(&home.display().to_string(), &spec.args, &spec.env)?;
    let program = placed(layout, &spec.artifact_sha256, spec.program.as_deref())?;
    watch(&program, home, spec)
}

fn watch(program: &Program, home: &Path, spec: &RunSpec) -> Result<RunOutput, AdapterError> {
    let mut command = command(program, home, &spec.args, &spec.env);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| io_error(&program.path.display().to_string(), &e))?;
    let stdout = child.stdout.take().map(keep);
    let stderr = child.stderr.take().map(keep);
    // The child is not reaped before `wait`, so its pid and group id mean it until then.
    let limit = spec.timeout.min(TIMEOUT_MAX);
    let ended = Process::open(child.id()).and_then(|process| process.map_or(Ok(true), |p| p.wait_end(limit)));
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Also after a good end: what it left in its group is not ours to keep. None left is fine.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().map_err(|e| io_error("run", &e))?;
    // Only now: a program that could not be watched is not left behind.
    let ended = ended.map_err(|e| io_error("run", &e))?;
    let text = |pipe: Option<Receiver<Vec<u8>>>| {
        let bytes = pipe.and_then(|rx| rx.recv_timeout(DRAIN_LIMIT).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(RunOutput { code: if ended { status.code() } else { None }, stdout: text(stdout), stderr: text(stderr) })
}

/// What the process of `spec` is to be started with; its home is made.
pub(crate) fn compose(layout: &Layout, spec: &InstanceSpec) -> Result<Composed, AdapterError> {
    crate::start::check_passable(&spec.key.to_string(), &spec.args, &spec.env)?;
    let program = placed(layout, &spec.artifact_sha256, spec.program.as_deref())?;
    let dir = layout.instance(&spec.key)?;
    let _lock = dir.lock()?;
    let command = command(&program, &dir.make_home()?, &spec.args, &spec.env);
    let text = |word: &std::ffi::OsStr| word.to_string_lossy().into_owned();
    let env = command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect();
    Ok(Composed {
        program: text(command.get_program()),
        args: command.get_args().map(text).collect(),
        env,
        home: dir.home().display().to_string(),
    })
}

/// Returns the command for `program` in `home`: arguments and environment as they are but for `{home}` and `{artifact}`,
/// nothing inherited.
pub(crate) fn command(program: &Program, home: &Path, args: &[String], env: &BTreeMap<String, String>) -> Command {
    let (home_text, folder) = (home.display().to_string(), program.folder.display().to_string());
    let filled = |text: &String| text.replace("{home}", &home_text).replace("{artifact}", &folder);
    let mut command = Command::new(&program.path);
    command
        .args(args.iter().map(filled))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("HOME", home)
        .envs(env.iter().map(|(name, value)| (name, filled(value))))
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// Reads `pipe` to its end in a thread, so that the program never blocks on it; keeps the first bytes.
fn keep(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut chunk = [0; 16 * 1024];
        while let Ok(n @ 1..) = pipe.read(&mut chunk) {
            let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&chunk[..n.min(room)]);
        }
        // The receiver may have given up; then nobody wants the bytes.
        let _ = tx.send(kept);
    });
    rx
}
