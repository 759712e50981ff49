//! The one list of checks that every adapter passes, so that the layers above cannot tell adapters apart.
//!
//! [`run`] takes a way to make a fresh adapter for one and the same host, and the artifact of the stand-in program
//! (`hanse_hostrun::trial`), and goes through [`CHECKS`] in order, each in a cluster of its own which it leaves empty.
//! The host must be this machine, because the checks kill processes from outside and look at them.

mod bundle;
mod dial;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dial::dial;

use crate::{
    Adapter, AdapterError, Artifact, FileSpec, InstanceKey, InstanceSpec, InstanceStatus, Ports, RunSpec, RunState,
};

/// How long anything may take on a slow machine before a check fails.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a predicate is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How many callers ensure one key at once.
const CALLERS: usize = 8;

/// Makes a fresh adapter, with a connection of its own, for the same host.
pub type Make = dyn Fn() -> Arc<dyn Adapter> + Send + Sync;

/// What a check works with.
pub struct Bench<'a> {
    make: &'a Make,
    host: Arc<dyn Adapter>,
    artifact: &'a Artifact,
    cluster: String,
}

type Checked<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
type Check = for<'a> fn(&'a Bench<'a>) -> Checked<'a>;

/// Every check with its name, in order.
pub const CHECKS: &[(&str, Check)] = &[
    ("inspect says what the host is", |b| Box::pin(inspect(b))),
    ("an artifact is put once and refused if its hash differs", |b| Box::pin(artifact(b))),
    ("a run returns what the program left", |b| Box::pin(runs(b))),
    ("files are written atomically and stay inside the home", |b| Box::pin(files(b))),
    ("files of an older generation come too late", |b| Box::pin(files_at(b))),
    ("a bundle's files lie beside its program", |b| Box::pin(bundle::bundle(b))),
    ("ensure creates, adopts, replaces and refuses", |b| Box::pin(ensure(b))),
    ("a process survives the adapter that started it", |b| Box::pin(survives(b))),
    ("the end of a process is seen", |b| Box::pin(ends(b))),
    ("stop and remove leave nothing and can be repeated", |b| Box::pin(stop_and_remove(b))),
    ("a fence stops and keeps every older order out", |b| Box::pin(fence(b))),
    ("a list shows ours alone", |b| Box::pin(list(b))),
    ("tail returns the last lines", |b| Box::pin(tail(b))),
    ("figures tell what is used and what is left", |b| Box::pin(figures(b))),
    ("dial reaches a port of the host", |b| Box::pin(dial(b))),
    ("callers at once get one process", |b| Box::pin(at_once(b))),
];

/// Runs every check on the host that `make` makes adapters for; `name` keeps concurrent runs on one host apart.
///
/// # Errors
/// The names of the checks that failed, each with what was seen.
pub async fn run(make: &Make, artifact: &Artifact, name: &str) -> Result<(), String> {
    let mut failures = Vec::new();
    for (number, (title, check)) in CHECKS.iter().enumerate() {
        let bench = Bench { make, host: make(), artifact, cluster: format!("{name}-{number}") };
        let mut outcome = check(&bench).await;
        // Whatever a check did, nothing of it stays.
        if let Err(left) = bench.clear().await {
            outcome = outcome.and(Err(format!("clearing: {left}")));
        }
        if let Err(seen) = outcome {
            failures.push(format!("{title}: {seen}"));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

impl Bench<'_> {
    fn key(&self, object: &str) -> Result<InstanceKey, String> {
        InstanceKey::new(&self.cluster, object).ok_or_else(|| format!("{object} is not a key"))
    }

    fn spec(&self, object: &str, generation: u64, args: &[&str]) -> Result<InstanceSpec, String> {
        Ok(InstanceSpec {
            key: self.key(object)?,
            generation,
            artifact_sha256: self.artifact.sha256.clone(),
            program: None,
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            env: BTreeMap::new(),
            ports: Ports::default(),
        })
    }

    /// Puts the artifact and ensures; returns the pid.
    async fn up(&self, object: &str, generation: u64, args: &[&str]) -> Result<u32, String> {
        self.host.put_artifact(self.artifact).await.map_err(|e| e.to_string())?;
        let status = self.host.ensure(&self.spec(object, generation, args)?).await.map_err(|e| e.to_string())?;
        pid(&status)
    }

    async fn look(&self, object: &str) -> Result<InstanceStatus, String> {
        let found = self.host.look(&self.key(object)?).await.map_err(|e| e.to_string())?;
        found.ok_or_else(|| format!("{object} is not on the host"))
    }

    /// Looks until the process has ended.
    async fn ended(&self, object: &str) -> Result<(Option<i32>, Option<i32>, String), String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.look(object).await?.run {
                RunState::Exited { code, signal, last_log } => return Ok((code, signal, last_log)),
                other if Instant::now() > deadline => return Err(format!("still {other:?}")),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Runs the trial program in the home of `key`, which must succeed; returns what it printed.
    async fn says(&self, key: &InstanceKey, args: &[&str]) -> Result<String, String> {
        let out = self.host.run(key, &short(&self.artifact.sha256, args)).await.map_err(|e| e.to_string())?;
        that(out.code == Some(0), &format!("{args:?} succeeds: {}", out.stderr))?;
        Ok(out.stdout)
    }

    async fn clear(&self) -> Result<(), String> {
        for status in self.host.list(&self.cluster).await.map_err(|e| e.to_string())? {
            self.host.remove(&status.key).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

fn pid(status: &InstanceStatus) -> Result<u32, String> {
    match &status.run {
        RunState::Running { pid, .. } => Ok(*pid),
        other => Err(format!("not running: {other:?}")),
    }
}

fn that(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("does not hold: {what}")) }
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    matches!(state, Some(state) if state != "Z" && state != "X")
}

/// The process that `pid`'s own world knows as `inner`, as this machine numbers it: a container counts for itself.
fn outside(pid: u32, inner: u32) -> Result<u32, String> {
    let world = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let its = world(&pid.to_string()).ok_or("the process has ended")?;
    if world("self").as_ref() == Some(&its) {
        return Ok(inner);
    }
    for entry in std::fs::read_dir("/proc").map_err(|e| e.to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(number) = name.parse::<u32>() else { continue };
        let status = std::fs::read_to_string(format!("/proc/{name}/status")).unwrap_or_default();
        let known_as =
            status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last()?.parse().ok());
        if known_as == Some(inner) && world(&name).as_ref() == Some(&its) {
            return Ok(number);
        }
    }
    Err(format!("{inner} is not in the world of {pid}"))
}

async fn until(what: &str, holds: impl Fn() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        that(Instant::now() < deadline, what)?;
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

fn kill_9(pid: u32) -> Result<(), String> {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    that(status.map_err(|e| format!("kill: {e}"))?.success(), "kill -9 found the process")
}

async fn inspect(b: &Bench<'_>) -> Result<(), String> {
    let facts = b.host.inspect().await.map_err(|e| e.to_string())?;
    that(facts.cpus > 0 && facts.memory_bytes > 0 && facts.disk_free_bytes > 0, "it has resources")?;
    that(!facts.hostname.is_empty() && !facts.kernel.is_empty() && !facts.arch.is_empty(), "it has names")?;
    that(facts.clock_ms > 1_600_000_000_000, "its clock is set")
}

async fn artifact(b: &Bench<'_>) -> Result<(), String> {
    b.host.put_artifact(b.artifact).await.map_err(|e| e.to_string())?;
    b.host.put_artifact(b.artifact).await.map_err(|e| format!("again: {e}"))?;
    (b.make)().put_artifact(b.artifact).await.map_err(|e| format!("from another connection: {e}"))?;
    let lie = Artifact { sha256: "ab".repeat(32), path: b.artifact.path.clone() };
    let refused = matches!(b.host.put_artifact(&lie).await, Err(AdapterError::Invalid { .. }));
    that(refused, "a wrong hash is Invalid")?;
    let missing = short(&lie.sha256, &["print"]);
    let refused = matches!(b.host.run(&b.key("a")?, &missing).await, Err(AdapterError::Invalid { .. }));
    that(refused, "an artifact that is not on the host is Invalid")?;
    let path = short("../../etc", &[]);
    that(matches!(b.host.run(&b.key("a")?, &path).await, Err(AdapterError::Invalid { .. })), "a hash is no path")
}

async fn runs(b: &Bench<'_>) -> Result<(), String> {
    b.host.put_artifact(b.artifact).await.map_err(|e| e.to_string())?;
    let key = b.key("runner")?;
    let run = async |args: &[&str], timeout: Duration| {
        let spec = RunSpec { timeout, ..short(&b.artifact.sha256, args) };
        b.host.run(&key, &spec).await.map_err(|e| e.to_string())
    };
    let hostile = "$(touch x); `id` && \"'\n";
    let out = run(&["print", hostile, "{home}/f"], LIMIT).await?;
    that(out.code == Some(0) && out.stderr == "printed\n", "it ran")?;
    let home = out.stdout.strip_prefix(hostile).and_then(|rest| rest.trim().strip_suffix("/f"));
    that(home.is_some_and(|home| home.starts_with('/')), "arguments arrive as they are, {home} as a path")?;
    that(run(&["exit", "3"], LIMIT).await?.code == Some(3), "the exit code comes back")?;
    let out = run(&["sleep"], Duration::from_millis(300)).await?;
    that(out.code.is_none() && out.stdout == "sleeping\n", "the time-out kills it")?;
    let env = run(&["env"], LIMIT).await?.stdout;
    that(env.lines().any(|l| l.starts_with("HOME=/")) && !env.contains("CARGO"), "the environment is minimal")?;
    let flood = run(&["flood", "100000"], LIMIT).await?.stdout;
    that(flood.len() > 100_000 && flood.len() <= 1024 * 1024, "the output is cut at a limit")
}

async fn files(b: &Bench<'_>) -> Result<(), String> {
    b.host.put_artifact(b.artifact).await.map_err(|e| e.to_string())?;
    let key = b.key("filer")?;
    let file = |path: &str, mode: u32, text: &str| FileSpec { path: path.into(), mode, content: text.into() };
    let put = async |files: &[FileSpec]| b.host.put_files(&key, files).await;
    put(&[file("a", 0o600, "one"), file("sub/b", 0o640, "two")]).await.map_err(|e| e.to_string())?;
    // The trial program looks, for the home need not be visible from outside.
    let seen = async |name: &str| b.says(&key, &["show", &format!("{{home}}/{name}")]).await;
    let first = seen("a").await?;
    let inode = first.lines().nth(1).map(str::to_owned);
    that(first.starts_with("600\n") && first.ends_with("\none"), "content and mode arrive")?;
    that(seen("sub/b").await?.starts_with("640\n"), "folders are made")?;
    put(&[file("a", 0o600, "one")]).await.map_err(|e| e.to_string())?;
    that(seen("a").await?.lines().nth(1) == inode.as_deref(), "an equal file is untouched")?;
    put(&[file("a", 0o644, "new")]).await.map_err(|e| e.to_string())?;
    let replaced = seen("a").await?;
    let is_new = replaced.starts_with("644\n") && replaced.ends_with("\nnew");
    that(is_new && replaced.lines().nth(1) != inode.as_deref(), "a file is replaced, never written into")?;
    b.says(&key, &["link", "/tmp", "{home}/link"]).await?;
    for bad in ["../x", "/etc/x", "sub/../../x", "link/x", "", "sub"] {
        let refused = matches!(put(&[file(bad, 0o600, "no")]).await, Err(AdapterError::Invalid { .. }));
        that(refused, &format!("{bad:?} is refused"))?;
        let refused = matches!(b.host.read_file(&key, bad).await, Err(AdapterError::Invalid { .. }));
        that(refused, &format!("{bad:?} is not read"))?;
    }
    let read = async |path: &str| b.host.read_file(&key, path).await.map_err(|e| e.to_string());
    that(read("sub/b").await?.as_deref() == Some(b"two".as_slice()), "a file is read back")?;
    that(read("sub/none").await?.is_none() && read("none/b").await?.is_none(), "one that is not there is none")?;
    that(b.host.read_file(&b.key("nobody")?, "a").await.is_ok_and(|f| f.is_none()), "nor is one of nobody")?;
    b.says(&key, &["fill", "{home}/big", &(crate::READ_BYTES_MAX + 1).to_string()]).await?;
    let refused = matches!(b.host.read_file(&key, "big").await, Err(AdapterError::Invalid { .. }));
    that(refused, "a file beyond the limit is not read")
}

async fn files_at(b: &Bench<'_>) -> Result<(), String> {
    b.host.put_artifact(b.artifact).await.map_err(|e| e.to_string())?;
    let key = b.key("filer")?;
    let put = async |generation: u64, text: &str| {
        let file = FileSpec { path: "a".into(), mode: 0o600, content: text.into() };
        b.host.put_files_at(&key, generation, &[file]).await
    };
    let holds = async |text: &str| {
        let read = b.host.read_file(&key, "a").await.map_err(|e| e.to_string())?;
        that(read.as_deref() == Some(text.as_bytes()), &format!("{text} is there, not {read:?}"))
    };
    put(3, "three").await.map_err(|e| e.to_string())?;
    put(3, "three again").await.map_err(|e| format!("again: {e}"))?;
    holds("three again").await?;
    let late = put(2, "late").await;
    that(matches!(late, Err(AdapterError::Invalid { .. })), "files older than what was written are refused")?;
    holds("three again").await?;
    b.up("filer", 4, &["sleep"]).await?;
    let late = put(3, "late").await;
    that(matches!(late, Err(AdapterError::Invalid { .. })), "files older than what was started are refused")?;
    put(4, "four").await.map_err(|e| e.to_string())?;
    b.host.fence(&key, 6, Duration::from_secs(5)).await.map_err(|e| e.to_string())?;
    let late = put(5, "late").await;
    that(matches!(late, Err(AdapterError::Invalid { .. })), "files older than the fence are refused")?;
    holds("four").await?;
    put(6, "six").await.map_err(|e| format!("of the fence's own generation: {e}"))?;
    holds("six").await
}

/// A short run of the artifact `sha256`.
fn short(sha256: &str, args: &[&str]) -> RunSpec {
    let args = args.iter().map(|a| (*a).to_owned()).collect();
    RunSpec { artifact_sha256: sha256.into(), program: None, args, env: BTreeMap::new(), timeout: LIMIT }
}

async fn ensure(b: &Bench<'_>) -> Result<(), String> {
    let first = b.up("node", 3, &["sleep"]).await?;
    that(alive(first), "it runs")?;
    that(b.up("node", 3, &["sleep"]).await? == first, "the same generation is adopted")?;
    that(b.up("node", 3, &["exit", "1"]).await? == first, "whatever else the wish says")?;
    let second = b.up("node", 4, &["sleep"]).await?;
    that(second != first && !alive(first) && alive(second), "an older generation is replaced")?;
    let older = b.host.ensure(&b.spec("node", 3, &["sleep"])?).await;
    that(matches!(older, Err(AdapterError::Invalid { .. })), "a newer generation is not touched")?;
    let found = b.look("node").await?;
    that(pid(&found)? == second && found.generation == 4, "look agrees")
}

async fn survives(b: &Bench<'_>) -> Result<(), String> {
    let pid_of = {
        let host = (b.make)();
        host.put_artifact(b.artifact).await.map_err(|e| e.to_string())?;
        pid(&host.ensure(&b.spec("node", 1, &["sleep"])?).await.map_err(|e| e.to_string())?)?
    };
    let again = (b.make)().look(&b.key("node")?).await.map_err(|e| e.to_string())?;
    that(again.as_ref().map(pid) == Some(Ok(pid_of)) && alive(pid_of), "it lives and another adapter finds it")
}

async fn ends(b: &Bench<'_>) -> Result<(), String> {
    let first = b.up("killed", 1, &["sleep"]).await?;
    let deadline = Instant::now() + LIMIT;
    while !b.host.tail(&b.key("killed")?, 5).await.map_err(|e| e.to_string())?.contains("sleeping") {
        that(Instant::now() < deadline, "the program speaks")?;
        tokio::time::sleep(POLL).await;
    }
    kill_9(first)?;
    let (code, signal, log) = b.ended("killed").await?;
    that(code.is_none() && signal == Some(9) && log.contains("sleeping"), "a kill is seen as signal 9, with the log")?;
    let same = b.host.ensure(&b.spec("killed", 1, &["sleep"])?).await.map_err(|e| e.to_string())?;
    that(matches!(same.run, RunState::Exited { signal: Some(9), .. }), "the same generation is not started again")?;
    that(b.up("killed", 2, &["sleep"]).await? != first, "the next one is")?;
    b.host.ensure(&b.spec("leaver", 1, &["exit", "7"])?).await.map_err(|e| e.to_string())?;
    that(b.ended("leaver").await?.0 == Some(7), "an exit code is seen")
}

async fn stop_and_remove(b: &Bench<'_>) -> Result<(), String> {
    let key = b.key("node")?;
    that(b.host.look(&key).await.map_err(|e| e.to_string())?.is_none(), "nothing is there before")?;
    b.host.stop(&key, Duration::from_secs(5)).await.map_err(|e| format!("stop of nothing: {e}"))?;
    b.host.remove(&key).await.map_err(|e| format!("remove of nothing: {e}"))?;
    let first = b.up("node", 1, &["stubborn"]).await?;
    let log = async || b.host.tail(&key, 5).await.map_err(|e| e.to_string());
    let deadline = Instant::now() + LIMIT;
    let left = loop {
        let said = log().await?;
        // Its own process may have spoken first.
        let left = said.lines().find_map(|line| line.strip_prefix("left ")?.split(' ').next()?.parse::<u32>().ok());
        if let Some(left) = left {
            break outside(first, left)?;
        }
        that(Instant::now() < deadline, "the program speaks")?;
        tokio::time::sleep(POLL).await;
    };
    b.host.stop(&key, Duration::from_secs(5)).await.map_err(|e| e.to_string())?;
    that(!alive(first) && !alive(left), "stop ends the process and what it started")?;
    that(matches!(b.look("node").await?.run, RunState::Exited { .. }), "its files stay")?;
    b.host.stop(&key, Duration::from_secs(5)).await.map_err(|e| format!("stop again: {e}"))?;
    let third = b.up("node", 2, &["sleep"]).await?;
    b.host.remove(&key).await.map_err(|e| e.to_string())?;
    until("remove ends the process", || !alive(third)).await?;
    that(b.host.look(&key).await.map_err(|e| e.to_string())?.is_none(), "nothing is there after")?;
    b.host.remove(&key).await.map_err(|e| format!("remove again: {e}"))
}

async fn fence(b: &Bench<'_>) -> Result<(), String> {
    const GRACE: Duration = Duration::from_secs(5);
    let key = b.key("node")?;
    let fence = async |generation| b.host.fence(&key, generation, GRACE).await;
    let first = b.up("node", 3, &["sleep"]).await?;
    let refused = fence(2).await;
    that(matches!(refused, Err(AdapterError::Invalid { .. })), "a fence below what runs is refused")?;
    fence(5).await.map_err(|e| e.to_string())?;
    that(!alive(first), "the process is stopped")?;
    let late = b.host.ensure(&b.spec("node", 4, &["sleep"])?).await;
    that(matches!(late, Err(AdapterError::Invalid { .. })), "a late order of an older generation is refused")?;
    that(!matches!(b.look("node").await?.run, RunState::Running { .. }), "nothing runs after a late order")?;
    fence(5).await.map_err(|e| format!("fence again: {e}"))?;
    b.up("node", 5, &["sleep"]).await.map_err(|e| format!("the fence's own generation may run: {e}"))?;
    b.host.remove(&key).await.map_err(|e| e.to_string())?;
    fence(7).await.map_err(|e| format!("fence of nothing: {e}"))?;
    let late = b.host.ensure(&b.spec("node", 6, &["sleep"])?).await;
    that(matches!(late, Err(AdapterError::Invalid { .. })), "also what was never there is fenced")?;

    let late = b.host.remove_at(&key, 6).await;
    that(matches!(late, Err(AdapterError::Invalid { .. })), "a late removal spares what was only fenced yet")?;
    let runs = b.up("node", 7, &["sleep"]).await?;
    let late = b.host.remove_at(&key, 6).await;
    that(matches!(late, Err(AdapterError::Invalid { .. })), "a late removal is refused")?;
    that(alive(runs), "what is newer runs on")?;
    b.host.remove_at(&key, 7).await.map_err(|e| e.to_string())?;
    that(b.host.look(&key).await.map_err(|e| e.to_string())?.is_none(), "a removal of the newest leaves nothing")?;
    b.host.remove_at(&key, 7).await.map_err(|e| format!("remove again: {e}"))
}

async fn list(b: &Bench<'_>) -> Result<(), String> {
    let empty = b.host.list(&b.cluster).await.map_err(|e| e.to_string())?;
    that(empty.is_empty(), "a new cluster has nothing")?;
    let one = b.up("b", 1, &["sleep"]).await?;
    b.host.put_files(&b.key("a")?, &[]).await.map_err(|e| e.to_string())?;
    let stranger = InstanceKey::new(&format!("{}-stranger", b.cluster), "s").ok_or("key")?;
    let theirs = InstanceSpec { key: stranger.clone(), ..b.spec("s", 1, &["sleep"])? };
    let theirs = pid(&b.host.ensure(&theirs).await.map_err(|e| e.to_string())?)?;
    let seen = b.host.list(&b.cluster).await.map_err(|e| e.to_string());
    b.clear().await?;
    let spared = alive(theirs);
    b.host.remove(&stranger).await.map_err(|e| e.to_string())?;
    let seen: Vec<_> = seen?.into_iter().map(|s| (s.key.object().to_owned(), s.run)).collect();
    that(seen.len() == 2 && seen[0] == ("a".into(), RunState::Prepared) && seen[1].0 == "b", "ours in key order")?;
    that(matches!(seen[1].1, RunState::Running { pid, .. } if pid == one), "with their state")?;
    that(spared, "strangers are left alone")
}

async fn tail(b: &Bench<'_>) -> Result<(), String> {
    b.host.put_artifact(b.artifact).await.map_err(|e| e.to_string())?;
    b.host.ensure(&b.spec("talker", 1, &["flood", "100"])?).await.map_err(|e| e.to_string())?;
    b.ended("talker").await?;
    let text = b.host.tail(&b.key("talker")?, 2).await.map_err(|e| e.to_string())?;
    let lines: Vec<&str> = text.lines().collect();
    that(lines.len() == 2 && lines[1].starts_with("line 99 "), "the last lines, no more")
}

async fn figures(b: &Bench<'_>) -> Result<(), String> {
    let key = b.key("node")?;
    let none = b.host.usage(&key).await.map_err(|e| e.to_string())?;
    that(none.is_none(), "what is not there uses nothing")?;
    b.up("node", 1, &["sleep"]).await?;
    let before = b.host.usage(&key).await.map_err(|e| e.to_string())?;
    let big = FileSpec { path: "big".into(), mode: 0o600, content: vec![7; 3 << 20] };
    b.host.put_files(&key, &[big]).await.map_err(|e| e.to_string())?;
    let after = b.host.usage(&key).await.map_err(|e| e.to_string())?;
    // An adapter that cannot tell says so every time.
    that(before.is_some() == after.is_some(), "it can tell or it cannot")?;
    if let (Some(before), Some(after)) = (before, after) {
        that(before.memory_bytes > 0 && before.processes > 0, &format!("a live process is seen: {before:?}"))?;
        let grew = before.disk_bytes.zip(after.disk_bytes).is_some_and(|(before, after)| after >= before + (3 << 20));
        that(grew, &format!("its files are seen: {before:?}, {after:?}"))?;
    }
    let Some(load) = b.host.load().await.map_err(|e| e.to_string())? else { return Ok(()) };
    let facts = b.host.inspect().await.map_err(|e| e.to_string())?;
    that(load.memory_bytes == facts.memory_bytes, "the host's memory is what it said before")?;
    that(load.disk_free_bytes <= load.disk_bytes && load.clock_ms.abs_diff(facts.clock_ms) < 60_000, "disk and clock")
}

async fn at_once(b: &Bench<'_>) -> Result<(), String> {
    b.host.put_artifact(b.artifact).await.map_err(|e| e.to_string())?;
    let spec = b.spec("node", 1, &["sleep"])?;
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..CALLERS {
        let (host, spec) = (if n % 2 == 0 { b.host.clone() } else { (b.make)() }, spec.clone());
        callers.spawn(async move { host.ensure(&spec).await });
    }
    let mut pids = BTreeSet::new();
    for result in callers.join_all().await {
        pids.insert(pid(&result.map_err(|e| e.to_string())?)?);
    }
    that(pids.len() == 1, &format!("one process, not {pids:?}"))
}
