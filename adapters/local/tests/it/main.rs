//! The local adapter with real processes.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hanse_adapters_core::{Adapter, Artifact, InstanceKey, InstanceSpec, RunState, conformance};
use hanse_adapters_local::LocalAdapter;

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_hanse-host-test-local").into()
}

fn artifact() -> Artifact {
    let path = program();
    Artifact { sha256: hanse_hostrun::file_sha256(&path).unwrap(), path }
}

fn adapter(root: &Path) -> LocalAdapter {
    LocalAdapter::new(root.into(), program())
}

fn spec(generation: u64, args: &[&str]) -> InstanceSpec {
    InstanceSpec {
        key: InstanceKey::new("c", "x.y.node").unwrap(),
        generation,
        artifact_sha256: artifact().sha256,
        program: None,
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        env: [("COLOUR".to_owned(), "blue".to_owned())].into(),
        ports: Default::default(),
    }
}

async fn running(host: &LocalAdapter, generation: u64) -> u32 {
    match host.ensure(&spec(generation, &["sleep"])).await.unwrap().run {
        RunState::Running { pid, .. } => pid,
        other => panic!("{other:?}"),
    }
}

fn kill_9(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// The pid of the supervisor, as it wrote it down.
fn supervisor(root: &Path) -> u32 {
    let text = std::fs::read_to_string(root.join("instances/c/x.y.node/status.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["phase"]["running"]["supervisor"]["pid"].as_u64().unwrap().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_list() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_path_buf();
    let make = move || Arc::new(adapter(&path)) as Arc<dyn Adapter>;
    conformance::run(&make, &artifact(), "local").await.unwrap_or_else(|failed| panic!("{failed}"));
}

/// The node writes to its log itself, so it neither stops nor blocks without its supervisor, and it is still found.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_leaves_the_node_known() {
    let root = tempfile::tempdir().unwrap();
    let host = adapter(root.path());
    host.put_artifact(&artifact()).await.unwrap();
    let key = spec(1, &[]).key;
    let pid = running(&host, 1).await;
    kill_9(supervisor(root.path()));
    assert_eq!(running(&host, 1).await, pid);
    kill_9(pid);
    // Nobody saw how it ended.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        match host.look(&key).await.unwrap().unwrap().run {
            RunState::Exited { code: None, signal: None, .. } => break,
            other => assert!(std::time::Instant::now() < deadline, "{other:?}"),
        }
    }
    let next = running(&host, 2).await;
    assert_ne!(next, pid);
    kill_9(supervisor(root.path()));
    host.stop(&key, Duration::from_secs(5)).await.unwrap();
    assert!(matches!(host.look(&key).await.unwrap().unwrap().run, RunState::Exited { .. }));
    host.remove(&key).await.unwrap();
}

/// A crash between the wish and the start: the same request starts it; after the start it never does again.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_cut_off_is_done_again() {
    let root = tempfile::tempdir().unwrap();
    let host = adapter(root.path());
    host.put_artifact(&artifact()).await.unwrap();
    let first = running(&host, 1).await;
    let status = root.path().join("instances/c/x.y.node/status.json");
    // What the disk holds if the controller's machine lost power right after writing the wish, while the process of
    // that half-recorded start still lives: it must not run twice.
    kill_9(supervisor(root.path()));
    std::fs::write(&status, r#"{"version":1,"generation":1,"phase":"starting"}"#).unwrap();
    let second = running(&host, 1).await;
    assert_ne!(first, second);
    // Gone, or a zombie that pid 1 has not collected yet: both have nothing left to read.
    assert!(std::fs::read(format!("/proc/{first}/environ")).unwrap_or_default().is_empty());
    host.remove(&spec(1, &[]).key).await.unwrap();
}

/// The kernel gives the pid to somebody else: the files then name a process that is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_reused_pid_is_not_taken_for_the_node() {
    let root = tempfile::tempdir().unwrap();
    let host = adapter(root.path());
    host.put_artifact(&artifact()).await.unwrap();
    let key = spec(1, &[]).key;
    running(&host, 1).await;
    host.stop(&key, Duration::from_secs(5)).await.unwrap();
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    let forged = format!(
        r#"{{"version":1,"generation":1,"phase":{{"running":{{"child":{{"pid":{0},"start_ticks":1,"boot_id":""}},"supervisor":{{"pid":{0},"start_ticks":1,"boot_id":""}},"since_ms":1}}}}}}"#,
        stranger.id()
    );
    std::fs::write(root.path().join("instances/c/x.y.node/status.json"), forged).unwrap();
    assert!(matches!(host.look(&key).await.unwrap().unwrap().run, RunState::Exited { .. }));
    host.remove(&key).await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_what_was_given() {
    let root = tempfile::tempdir().unwrap();
    let host = adapter(root.path());
    host.put_artifact(&artifact()).await.unwrap();
    let key = spec(1, &[]).key;
    host.ensure(&spec(1, &["env"])).await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !matches!(host.look(&key).await.unwrap().unwrap().run, RunState::Exited { code: Some(0), .. }) {
        assert!(std::time::Instant::now() < deadline);
    }
    let log = host.tail(&key, 50).await.unwrap();
    let mut names: Vec<&str> = log.lines().filter_map(|l| l.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["COLOUR", "HANSE_INSTANCE_DIR", "HOME", "LANG", "PATH"]);
    host.remove(&key).await.unwrap();
}
