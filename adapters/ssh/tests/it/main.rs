//! The ssh adapter against real sshd instances on the loopback.
#![allow(clippy::unwrap_used)]

mod preflight;
mod ways;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hanse_adapters_core::{
    Adapter, AdapterError, Artifact, FileSpec, InstanceKey, InstanceSpec, RunSpec, RunState, conformance,
};
use hanse_adapters_ssh::{HostPin, Identity, Jump, Login, SshAdapter, SshTarget, scan_host_key};
use hanse_fixtures::sshd::Sshd;

const LIMIT: Duration = Duration::from_secs(60);

fn artifact() -> Artifact {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_hanse-host-test-ssh"));
    Artifact { sha256: hanse_hostrun::file_sha256(&path).unwrap(), path }
}

fn target(sshd: &Sshd) -> SshTarget {
    SshTarget {
        address: "127.0.0.1".into(),
        port: sshd.port,
        user: sshd.user.clone(),
        jumps: Vec::new(),
        pin: HostPin::Key(sshd.fingerprint.clone()),
        root: Some(sshd.root.to_str().unwrap().into()),
        login: Login::Key(Identity::File(sshd.identity_path.clone())),
        sudo: false,
    }
}

/// The machine between that `sshd` is.
fn by_way_of(sshd: &Sshd) -> Jump {
    Jump {
        address: "127.0.0.1".into(),
        port: sshd.port,
        user: sshd.user.clone(),
        host_key_fingerprint: sshd.fingerprint.clone(),
    }
}

fn adapter(sshd: &Sshd) -> SshAdapter {
    SshAdapter::new(target(sshd)).unwrap()
}

fn key() -> InstanceKey {
    InstanceKey::new("c", "x.y.node").unwrap()
}

fn spec(generation: u64) -> InstanceSpec {
    let (key, args, env) = (key(), vec!["sleep".into()], [].into());
    InstanceSpec {
        key,
        generation,
        artifact_sha256: artifact().sha256,
        program: None,
        args,
        env,
        ports: Default::default(),
    }
}

async fn running(host: &SshAdapter, generation: u64) -> u32 {
    match host.ensure(&spec(generation)).await.unwrap().run {
        RunState::Running { pid, .. } => pid,
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn sshd(dir: &tempfile::TempDir) -> Sshd {
    Sshd::spawn(&dir.path().join("host")).unwrap()
}

/// The same list as the local adapter's, on several hosts at once.
#[tokio::test(flavor = "multi_thread")]
async fn conformance_list_on_three_hosts_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let hosts: Vec<Sshd> = (0..3).map(|n| Sshd::spawn(&dir.path().join(format!("host{n}"))).unwrap()).collect();
    let mut runs = tokio::task::JoinSet::new();
    for (n, host) in hosts.iter().enumerate() {
        let target = target(host);
        let make = move || Arc::new(SshAdapter::new(target.clone()).unwrap()) as Arc<dyn Adapter>;
        runs.spawn(async move { (n, conformance::run(&make, &artifact(), &format!("ssh{n}")).await) });
    }
    for (n, outcome) in runs.join_all().await {
        outcome.unwrap_or_else(|failed| panic!("host {n}: {failed}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_host_key_is_refused_before_any_credential() {
    let dir = tempfile::tempdir().unwrap();
    let mut sshd = sshd(&dir);
    assert_eq!(scan_host_key("127.0.0.1", sshd.port).await.unwrap(), sshd.fingerprint);
    let host = adapter(&sshd);
    assert!(!sshd.log().contains("userauth"), "enrolment sends no credential: {}", sshd.log());
    host.inspect().await.unwrap();
    // The log would show an attempt: it shows this one.
    until("the login is logged", || sshd.log().contains("userauth-request for user")).await;

    let changed = sshd.change_host_key().unwrap();
    std::fs::write(&sshd.log_path, "").unwrap();
    let error = host.inspect().await.unwrap_err();
    let AdapterError::Denied { reason, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains(&sshd.fingerprint) && reason.contains(&changed), "{reason}");
    until("the refused connection ends", || {
        sshd.log().contains("Connection closed by")
            || sshd.log().contains("Connection reset by")
            || sshd.log().contains("disconnected")
    })
    .await;
    let log = sshd.log();
    assert!(log.contains("Connection from 127.0.0.1"), "{log}");
    assert!(!log.contains("userauth") && !log.contains("Accepted") && !log.contains("Failed publickey"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_key_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    let (sshd, other) = (sshd(&dir), Sshd::spawn(&dir.path().join("other")).unwrap());
    let login = Login::Key(Identity::Key(std::fs::read_to_string(&other.identity_path).unwrap()));
    let host = SshAdapter::new(SshTarget { login, ..target(&sshd) }).unwrap();
    let error = host.inspect().await.unwrap_err();
    assert!(matches!(&error, AdapterError::Denied { reason, .. } if reason.contains("SHA256:")), "{error:?}");
    assert!(!sshd.root.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_work_is_invalid() {
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(&dir);
    let bad = [
        SshTarget { root: Some("a b".into()), ..target(&sshd) },
        SshTarget { root: Some("../x".into()), ..target(&sshd) },
        SshTarget { pin: HostPin::Key("MD5:aa".into()), ..target(&sshd) },
        SshTarget { address: String::new(), ..target(&sshd) },
        SshTarget { user: "a b".into(), ..target(&sshd) },
        SshTarget { login: Login::Key(Identity::Key("no key".into())), ..target(&sshd) },
        SshTarget { login: Login::Key(Identity::File("/nowhere".into())), ..target(&sshd) },
    ];
    for target in bad {
        let shown = format!("{target:?}");
        assert!(matches!(SshAdapter::new(target), Err(AdapterError::Invalid { .. })), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sshd_that_dies_in_mid_call_leaves_the_outcome_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let mut sshd = sshd(&dir);
    let host = Arc::new(adapter(&sshd));
    host.put_artifact(&artifact()).await.unwrap();
    let call = {
        let (host, marker) = (Arc::clone(&host), sshd.root.join("instances/c/busy/home"));
        let busy = InstanceKey::new("c", "busy").unwrap();
        let spec = RunSpec {
            artifact_sha256: artifact().sha256,
            program: None,
            args: vec!["sleep".into()],
            env: BTreeMap::new(),
            timeout: Duration::from_secs(5),
        };
        let call = tokio::spawn(async move { host.run(&busy, &spec).await });
        until("the run has begun on the host", || marker.exists()).await;
        call
    };
    sshd.kill();
    let error = tokio::time::timeout(LIMIT, call).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, AdapterError::Unknown { .. }), "{error:?}");
    let error = host.look(&key()).await.unwrap_err();
    assert!(matches!(error, AdapterError::Transient { .. }), "{error:?}");
    sshd.start().unwrap();
    assert!(host.look(&key()).await.unwrap().is_none());
    // Waits for the run that is still under way on the host, and leaves nothing.
    host.remove(&InstanceKey::new("c", "busy").unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_survives_its_sshd_and_every_connection() {
    let dir = tempfile::tempdir().unwrap();
    let mut sshd = sshd(&dir);
    let host = adapter(&sshd);
    host.put_artifact(&artifact()).await.unwrap();
    let pid = running(&host, 1).await;
    sshd.kill();
    drop(host);
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    sshd.start().unwrap();
    let host = adapter(&sshd);
    assert_eq!(running(&host, 1).await, pid);
    host.remove(&key()).await.unwrap();
    until("it ends", || !Path::new(&format!("/proc/{pid}/exe")).exists()).await;
}

/// A truncated or foreign file in the program's place is never used; a deleted program comes back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_program_on_the_host_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(&dir);
    let folder = sshd.root.join("artifacts").join(hanse_carried::sha256());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(".upload-0123"), "left by a connection that broke").unwrap();
    std::fs::write(folder.join("hanse"), "#!/bin/sh\necho half a program\n").unwrap();
    std::os::unix::fs::chown(folder.join("hanse"), None, None).unwrap();
    let host = adapter(&sshd);
    host.inspect().await.unwrap();
    assert_eq!(std::fs::read(folder.join("hanse")).unwrap(), hanse_carried::PROGRAM);
    std::fs::remove_file(folder.join("hanse")).unwrap();
    host.inspect().await.unwrap();
    assert_eq!(std::fs::read(folder.join("hanse")).unwrap(), hanse_carried::PROGRAM);
    // Not even for an artifact of a node.
    std::fs::remove_file(folder.join("hanse")).unwrap();
    let deadline = Instant::now() + LIMIT;
    while let Err(error) = host.put_artifact(&artifact()).await {
        assert!(matches!(error, AdapterError::Transient { .. }) && Instant::now() < deadline, "{error:?}");
    }
    assert_eq!(serving(&sshd.root), 1);
}

/// A connection that breaks in mid upload, and a file that is not what it is said to be.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_off_or_wrong_never_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut sshd = sshd(&dir);
    let path = dir.path().join("large");
    std::fs::write(&path, vec![9; 128 * 1024 * 1024]).unwrap();
    let large = Artifact { sha256: hanse_hostrun::file_sha256(&path).unwrap(), path: path.clone() };
    let host = Arc::new(adapter(&sshd));
    host.inspect().await.unwrap();
    let folder = sshd.root.join("artifacts").join(&large.sha256);
    let upload = {
        let (host, large) = (Arc::clone(&host), large.clone());
        tokio::spawn(async move { host.put_artifact(&large).await })
    };
    let arrived = || {
        std::fs::read_dir(&folder).into_iter().flatten().flatten().any(|it| it.metadata().is_ok_and(|m| m.len() > 0))
    };
    until("some of it has arrived", arrived).await;
    sshd.kill();
    let error = tokio::time::timeout(LIMIT, upload).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, AdapterError::Transient { .. }), "{error:?}");
    until("the part is deleted", || std::fs::read_dir(&folder).unwrap().next().is_none()).await;
    sshd.start().unwrap();
    host.put_artifact(&large).await.unwrap();
    assert_eq!(hanse_hostrun::file_sha256(&folder.join("hanse")).unwrap(), large.sha256);

    let claimed = Artifact { sha256: "ab".repeat(32), path };
    let error = host.put_artifact(&claimed).await.unwrap_err();
    assert!(matches!(&error, AdapterError::Invalid { reason, .. } if reason.contains("has the hash")), "{error:?}");
    assert!(std::fs::read_dir(sshd.root.join("artifacts").join(&claimed.sha256)).unwrap().next().is_none());
    host.inspect().await.unwrap();
}

/// sshd grants ten sessions per connection: more callers than that wait for each other instead of failing.
#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_one_connection() {
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(&dir);
    let host = Arc::new(adapter(&sshd));
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..24 {
        let host = Arc::clone(&host);
        calls.spawn(async move {
            let key = InstanceKey::new("many", &format!("n{n}")).unwrap();
            let file = FileSpec { path: "big".into(), mode: 0o600, content: vec![n; 300_000] };
            host.put_files(&key, &[file]).await
        });
    }
    for outcome in calls.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(host.list("many").await.unwrap().len(), 24);
    assert_eq!(sshd.log().matches("Connection from 127.0.0.1").count(), 1);
}

/// Another artifact than our own program is checked and placed by our program; a partial one never gets its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_artifact_arrives_whole_and_once() {
    const BYTES: usize = 64 * 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(&dir);
    let path = dir.path().join("large");
    let content: Vec<u8> =
        (0..BYTES / 4).flat_map(|n| u32::try_from(n).unwrap().wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(&path, &content).unwrap();
    let large = Artifact { sha256: hanse_hostrun::file_sha256(&path).unwrap(), path };
    let host = adapter(&sshd);
    let first = Instant::now();
    host.inspect().await.unwrap();
    println!("connect, upload our program, inspect: {:?}", first.elapsed());
    let started = Instant::now();
    host.put_artifact(&large).await.unwrap();
    let took = started.elapsed();
    println!("64 MiB uploaded, hashed, placed in {took:?}: {:.0} MB/s", BYTES as f64 / 1e6 / took.as_secs_f64());
    let folder = sshd.root.join("artifacts").join(&large.sha256);
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["hanse"]);
    assert_eq!(std::fs::read(folder.join("hanse")).unwrap(), content);
    let again = Instant::now();
    host.put_artifact(&large).await.unwrap();
    adapter(&sshd).put_artifact(&large).await.unwrap();
    println!("known, over this and another connection: {:?}", again.elapsed());
    host.put_artifact(&artifact()).await.unwrap();
    let (ensure, look) = (Instant::now(), running(&host, 1).await);
    println!("ensure of process {look}: {:?}", ensure.elapsed());
    let adopt = Instant::now();
    running(&host, 1).await;
    println!("ensure of a running one: {:?}", adopt.elapsed());
    host.remove(&key()).await.unwrap();
}

/// Programs on the host whose command line is ours below `root`.
fn serving(root: &Path) -> usize {
    let command = |entry: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok()?;
        text.contains(root.to_str()?).then_some(text)
    };
    std::fs::read_dir("/proc").unwrap().filter_map(command).filter(|text| serves(text)).count()
}

/// Whether a command line is that of our program where it answers requests; the first one goes on from its own upload.
fn serves(command: &str) -> bool {
    command.ends_with("host-run\0") || command.ends_with("host-keep\0")
}

/// Calls one after another share one program on the host, and nothing of it is left once nobody is there to ask.
#[tokio::test(flavor = "multi_thread")]
async fn one_program_on_the_host_answers_many_calls_and_ends_with_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(&dir);
    let host = adapter(&sshd);
    host.inspect().await.unwrap();
    let sessions = || sshd.log().matches("Starting session: command").count();
    let before = sessions();
    for _ in 0..50 {
        host.inspect().await.unwrap();
        assert!(host.look(&key()).await.unwrap().is_none());
    }
    assert_eq!(sessions(), before, "no further command was executed for a hundred calls");
    assert_eq!(serving(&sshd.root), 1);
    drop(host);
    until("it ends with the connection", || serving(&sshd.root) == 0).await;
}

/// A request that breaks the program's framing, or takes too long, does not poison the next call.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_between_two_calls_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(&dir);
    let host = adapter(&sshd);
    host.inspect().await.unwrap();
    let pids = || -> Vec<String> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let ours = entries.filter(|entry| {
            let text = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            text.contains(sshd.root.to_str().unwrap()) && serves(&text)
        });
        ours.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let first = pids();
    assert_eq!(first.len(), 1);
    assert!(std::process::Command::new("kill").args(["-9", &first[0]]).status().unwrap().success());
    until("it is gone", || pids().is_empty()).await;
    // A question is asked again by the reconciler; the one after it finds a program of its own.
    let deadline = Instant::now() + LIMIT;
    while host.inspect().await.is_err() {
        assert!(Instant::now() < deadline, "it was never started again");
    }
    let second = pids();
    assert!(second.len() == 1 && second != first, "{second:?}");
}

/// Nodes that ask for the same program at once cause one upload.
#[tokio::test(flavor = "multi_thread")]
async fn callers_that_ask_at_once_share_one_upload() {
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(&dir);
    let path = dir.path().join("program");
    std::fs::write(&path, vec![7; 3_000_000]).unwrap();
    let other = Artifact { sha256: hanse_hostrun::file_sha256(&path).unwrap(), path };
    let host = Arc::new(adapter(&sshd));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (host, other) = (Arc::clone(&host), other.clone());
        calls.spawn(async move { host.put_artifact(&other).await });
    }
    for outcome in calls.join_all().await {
        outcome.unwrap();
    }
    let commands = sshd.log().matches("Starting session: command").count();
    assert_eq!(commands, 1, "in one session our program was looked for, uploaded, and has then answered everybody");
    assert_eq!(sshd.log().matches("Connection from 127.0.0.1").count(), 1);
}

/// Through another machine, as `ssh -J` goes: each machine's key is pinned, and the second one sees only the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_behind_another_is_reached_and_both_keys_are_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Sshd::spawn(&dir.path().join("first")).unwrap();
    let last = Sshd::spawn(&dir.path().join("last")).unwrap();
    // One identity for both, as the platform has.
    std::fs::copy(first.identity_path.with_extension("pub"), dir.path().join("last/authorized_keys")).unwrap();
    let jump = by_way_of(&first);
    let login = Login::Key(Identity::File(first.identity_path.clone()));
    let through = || SshTarget { jumps: vec![jump.clone()], login: login.clone(), ..target(&last) };
    let host = SshAdapter::new(through()).unwrap();
    host.inspect().await.unwrap();
    assert!(first.log().contains("direct-tcpip"), "{}", first.log());
    assert!(last.log().contains("Accepted publickey"), "{}", last.log());
    drop(host);

    let wrong = SshTarget { pin: HostPin::Key(first.fingerprint.clone()), ..through() };
    let error = SshAdapter::new(wrong).unwrap().inspect().await.unwrap_err();
    assert!(matches!(&error, AdapterError::Denied { reason, .. } if reason.contains(&last.fingerprint)), "{error:?}");
    // A changed key on the way is refused before anything is said to that machine.
    let changed = first.change_host_key().unwrap();
    std::fs::write(&first.log_path, "").unwrap();
    let error = SshAdapter::new(through()).unwrap().inspect().await.unwrap_err();
    assert!(matches!(&error, AdapterError::Denied { reason, .. } if reason.contains(&changed)), "{error:?}");
    assert!(!first.log().contains("userauth"), "{}", first.log());
}
