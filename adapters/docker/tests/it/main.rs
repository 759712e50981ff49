//! The docker adapter against a real Docker Engine in namespaces of its own.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hanse_adapters_core::{
    Adapter, AdapterError, Artifact, InstanceKey, InstanceSpec, Ports, RunSpec, RunState, conformance,
};
use hanse_adapters_docker::{DockerAdapter, DockerTarget, Limits, scan_engine_id};
use hanse_fixtures::dockerd::{self, Dockerd};

const LIMIT: Duration = Duration::from_secs(60);
const MEMORY: u64 = 64 * 1024 * 1024;

fn artifact() -> Artifact {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_hanse-host-test-docker"));
    Artifact { sha256: hanse_hostrun::file_sha256(&path).unwrap(), path }
}

fn target(engine: &Dockerd) -> DockerTarget {
    DockerTarget {
        endpoint: engine.endpoint(),
        engine_id: engine.id().unwrap(),
        publish_address: dockerd::ADDRESS.parse().unwrap(),
        limits: Limits { memory_bytes: MEMORY, cpu_milli: 500, pids: 50 },
        keep: Duration::ZERO,
    }
}

fn adapter(engine: &Dockerd) -> DockerAdapter {
    DockerAdapter::new(target(engine), artifact()).unwrap()
}

fn key() -> InstanceKey {
    InstanceKey::new("c", "x.y.node").unwrap()
}

fn spec(generation: u64, args: &[&str]) -> InstanceSpec {
    InstanceSpec {
        key: key(),
        generation,
        artifact_sha256: artifact().sha256,
        program: None,
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        env: [("COLOUR".to_owned(), "blue".to_owned())].into(),
        ports: Ports { public: [26_656].into(), local: [8_545].into() },
    }
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How the node ended, once it has.
async fn ended(host: &DockerAdapter) -> (Option<i32>, Option<i32>, String) {
    until("it ends", async || match host.look(&key()).await.unwrap().unwrap().run {
        RunState::Exited { code, signal, last_log } => Some((code, signal, last_log)),
        RunState::Prepared | RunState::Running { .. } => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_list() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Dockerd::spawn(dir.path()).unwrap();
    // Otherwise every check begins without an image.
    let target = DockerTarget { keep: Duration::from_secs(3_600), limits: Limits::default(), ..target(&engine) };
    let make = move || Arc::new(DockerAdapter::new(target.clone(), artifact()).unwrap()) as Arc<dyn Adapter>;
    conformance::run(&make, &artifact(), "docker").await.unwrap_or_else(|failed| panic!("{failed}"));
}

/// What the engine itself says of a node, and what is left of it after its end: nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_confined_labelled_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Dockerd::spawn(dir.path()).unwrap();
    let host = adapter(&engine);
    engine.docker(&["volume", "create", "strangers"]).unwrap();
    engine.docker(&["network", "create", "strangers"]).unwrap();
    host.put_artifact(&artifact()).await.unwrap();
    host.ensure(&spec(7, &["sleep"])).await.unwrap();
    let id = engine.docker(&["ps", "-q", "--filter", "label=hanse.cluster=c"]).unwrap();
    let told = |format: &str| engine.docker(&["inspect", "--format", format, &id]).unwrap();
    assert_eq!(
        told("{{index .Config.Labels \"hanse.generation\"}} {{index .Config.Labels \"hanse.object\"}}"),
        "7 x.y.node"
    );
    let limits =
        told("{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}");
    assert_eq!(limits, format!("{MEMORY} {MEMORY} 500000000 50"));
    assert_eq!(
        told("{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.RestartPolicy.Name}}"),
        "true [ALL] no"
    );
    // Peers' port at the one address, clients' port nowhere.
    assert_eq!(
        told("{{json .HostConfig.PortBindings}}"),
        r#"{"26656/tcp":[{"HostIp":"10.203.0.1","HostPort":"26656"}]}"#
    );
    // The kernel's word on the limit, not the engine's.
    let group = format!("/proc/{}/cgroup", told("{{.State.Pid}}"));
    let group = std::fs::read_to_string(group).unwrap();
    let memory = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"].iter().find_map(|root| {
        let path = group.lines().find_map(|line| line.split_once("::").or_else(|| line.split_once(":memory:")))?.1;
        let names = ["memory.max", "memory.limit_in_bytes"];
        names.iter().find_map(|name| std::fs::read_to_string(format!("{root}{path}/{name}")).ok())
    });
    assert_eq!(memory.unwrap().trim(), MEMORY.to_string());

    host.remove(&key()).await.unwrap();
    assert_eq!(engine.docker(&["ps", "-aq"]).unwrap(), "");
    assert_eq!(engine.docker(&["volume", "ls", "-q"]).unwrap(), "strangers");
    assert_eq!(engine.docker(&["image", "ls", "-q"]).unwrap(), "");
    let networks = engine.docker(&["network", "ls", "--format", "{{.Name}}"]).unwrap();
    assert_eq!(networks.lines().filter(|name| name.contains("hanse")).count(), 0, "{networks}");
    assert!(networks.contains("strangers"));
}

/// Figures of a node and of the host, of one that runs nothing too; what was made to measure it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_the_host_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Dockerd::spawn(dir.path()).unwrap();
    let host = adapter(&engine);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let memory = memory.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024;
    let idle = host.load().await.unwrap().expect("measured by a container made for it");
    assert_eq!(engine.docker(&["ps", "-aq"]).unwrap(), "", "which is gone");
    assert_eq!(host.load().await.unwrap(), None, "once a minute and not with every question");
    assert_eq!(host.usage(&key()).await.unwrap(), None, "there is no such node");

    host.put_artifact(&artifact()).await.unwrap();
    host.ensure(&spec(1, &["eat_slowly"])).await.unwrap();
    let size = 3 * 1_024 * 1_024;
    let fill = RunSpec {
        artifact_sha256: artifact().sha256,
        program: None,
        args: ["fill", "{home}/ledger", &size.to_string()].map(str::to_owned).into(),
        env: [].into(),
        timeout: LIMIT,
    };
    host.run(&key(), &fill).await.unwrap();
    let used =
        until("it used its processor", async || host.usage(&key()).await.unwrap().filter(|used| used.cpu_ms >= 200))
            .await;
    assert!(used.disk_bytes.is_some_and(|bytes| (size..4 * size).contains(&bytes)), "{used:?}");
    assert!((1 << 20..MEMORY).contains(&used.memory_bytes) && used.processes >= 1, "{used:?}");
    let busy = host.load().await.unwrap().expect("measured inside of the node's container");
    for load in [&idle, &busy] {
        assert_eq!(load.memory_bytes, memory, "the host's, not the container's");
        assert!(load.disk_free_bytes > 0 && load.disk_free_bytes <= load.disk_bytes, "{load:?}");
    }
    assert!(busy.cpu_total_ticks > idle.cpu_total_ticks && busy.cpu_busy_ticks > idle.cpu_busy_ticks);
    // A node that was made later and has ended hides not the one that runs.
    let ended = InstanceKey::new("c", "x.y.ended").unwrap();
    let ports = Ports { public: [26_700].into(), local: [8_700].into() };
    host.ensure(&InstanceSpec { key: ended.clone(), ports, ..spec(1, &["sleep"]) }).await.unwrap();
    host.stop(&ended, LIMIT).await.unwrap();
    for _ in 0..2 {
        assert!(host.load().await.unwrap().is_some(), "the node that runs is entered whenever it is asked for");
    }
    host.remove(&ended).await.unwrap();
    let stranger = adapter(&engine);
    assert_eq!(stranger.list("d").await.unwrap(), []);
    assert!(stranger.load().await.unwrap().is_some(), "measured by a container made for it");
    assert_eq!(stranger.load().await.unwrap(), None, "the container of another cluster is not entered");
    host.stop(&key(), LIMIT).await.unwrap();
    assert_eq!(host.usage(&key()).await.unwrap(), None, "what has ended uses nothing");
}

/// An engine that is asked twice at once for a network makes two of one name, and then starts nothing on either.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_made_at_once_share_one_network() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Dockerd::spawn(dir.path()).unwrap();
    let host = adapter(&engine);
    host.put_artifact(&artifact()).await.unwrap();
    let specs = (0..6u16).map(|n| InstanceSpec {
        key: InstanceKey::new("c", &format!("x.y.n{n}")).unwrap(),
        ports: Ports { public: [26_656 + n].into(), local: [8_545].into() },
        ..spec(1, &["sleep"])
    });
    let specs: Vec<InstanceSpec> = specs.collect();
    let made = futures::future::join_all(specs.iter().map(|spec| host.ensure(spec))).await;
    for status in made {
        assert!(matches!(status.unwrap().run, RunState::Running { .. }));
    }
    let networks = engine.docker(&["network", "ls", "-q", "--filter", "label=hanse.cluster=c"]).unwrap();
    assert_eq!(networks.lines().count(), 1, "{networks}");
    for spec in &specs {
        host.remove(&spec.key).await.unwrap();
    }
}

/// A controller that dies between two calls: what it made is found by its labels and completed, never doubled.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_controller_left_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Dockerd::spawn(dir.path()).unwrap();
    let host = adapter(&engine);
    host.put_artifact(&artifact()).await.unwrap();
    host.ensure(&spec(1, &["sleep"])).await.unwrap();
    let name = engine.docker(&["ps", "--format", "{{.Names}}"]).unwrap();
    // Made and never started: the same wish starts it.
    let labels = ["hanse.role=node", "hanse.cluster=c", "hanse.object=x.y.node", "hanse.generation=2"];
    engine.docker(&["rm", "-f", &name]).unwrap();
    let image = engine.docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).unwrap();
    let made: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
    let start = ["--entrypoint", "/hanse/bin/hanse", &image, "sleep"];
    engine.docker(&[["create", "--name", &name].as_slice(), &made, &start].concat()).unwrap();
    assert_eq!(host.look(&key()).await.unwrap().unwrap().run, RunState::Prepared);
    let status = host.ensure(&spec(2, &["sleep"])).await.unwrap();
    assert!(matches!(status.run, RunState::Running { .. }) && status.generation == 2, "{status:?}");
    // A short container under the home's one name whose asker died is taken away, and the work is done.
    let short = name.replace("hanse-node-", "hanse-run-");
    engine.docker(&["create", "--name", &short, "--label", "hanse.role=tool", &image, "x"]).unwrap();
    let print = RunSpec {
        artifact_sha256: artifact().sha256,
        program: None,
        args: vec!["print".into(), "hello".into()],
        env: [].into(),
        timeout: LIMIT,
    };
    assert_eq!(host.run(&key(), &print).await.unwrap().stdout, "hello\n");
    assert_eq!(engine.docker(&["ps", "-aq"]).unwrap().lines().count(), 1);
    // The engine itself is killed and comes back: containers ended with it, and that is what is said.
    Command::new("kill").args(["-9", &engine.pid().unwrap().to_string()]).status().unwrap();
    until("the silence is told", async || {
        matches!(host.look(&key()).await, Err(AdapterError::Transient { .. })).then_some(())
    })
    .await;
    engine.stop();
    engine.start().unwrap();
    let (_, signal, _) = ended(&host).await;
    assert!(signal.is_some() || host.look(&key()).await.unwrap().unwrap().generation == 2);
    host.ensure(&spec(3, &["sleep"])).await.unwrap();
    assert_eq!(engine.docker(&["ps", "-q"]).unwrap().lines().count(), 1);
    host.remove(&key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Dockerd::spawn(dir.path()).unwrap();
    assert_eq!(scan_engine_id(&engine.endpoint()).await.unwrap(), engine.id().unwrap());
    // Another engine than the pinned one is not touched.
    let other = DockerTarget { engine_id: "SOME:OTHER".into(), ..target(&engine) };
    let other = DockerAdapter::new(other, artifact()).unwrap();
    let denied = other.put_artifact(&artifact()).await.unwrap_err();
    assert!(matches!(denied, AdapterError::Denied { .. }) && denied.to_string().contains("SOME:OTHER"), "{denied}");
    assert_eq!(engine.docker(&["image", "ls", "-q"]).unwrap(), "");
    let nobody = DockerTarget { endpoint: "unix:///nowhere/docker.sock".into(), ..target(&engine) };
    let silent = DockerAdapter::new(nobody, artifact()).unwrap().look(&key()).await.unwrap_err();
    assert!(matches!(silent, AdapterError::Transient { .. }), "{silent}");

    let host = adapter(&engine);
    host.put_artifact(&artifact()).await.unwrap();
    // A port that somebody has: a person must act, and afterwards the same wish is carried out.
    let taken = Command::new("nsenter")
        .args(["-t", &engine.pid().unwrap().to_string(), "-n", "python3", "-c"])
        .arg("import socket,time;s=socket.socket();s.bind(('10.203.0.1',26656));s.listen();print('up',flush=True);time.sleep(600)")
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut taken = taken.unwrap();
    std::io::Read::read_exact(taken.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
    let refused = host.ensure(&spec(1, &["sleep"])).await.unwrap_err();
    assert!(matches!(refused, AdapterError::Invalid { .. }) && refused.to_string().contains("26656"), "{refused}");
    taken.kill().unwrap();
    taken.wait().unwrap();
    assert!(matches!(host.ensure(&spec(1, &["sleep"])).await.unwrap().run, RunState::Running { .. }));
    // More memory than its limit: the kernel ends it, and that is what is said.
    host.ensure(&spec(2, &["eat"])).await.unwrap();
    let (_, signal, log) = ended(&host).await;
    assert_eq!(signal, Some(9), "{log}");
    assert!(log.contains("more memory than its limit"), "{log}");
    // A volume of our name that is not ours stays what it is.
    host.remove(&key()).await.unwrap();
    engine.docker(&["volume", "create", "hanse-artifacts"]).unwrap();
    let refused = host.put_artifact(&artifact()).await.unwrap_err();
    assert!(matches!(refused, AdapterError::Invalid { .. }) && refused.to_string().contains("not ours"), "{refused}");
}
