//! What operators look at, against real replicas: doctor, metrics, the folder of a stopped replica, the support bundle.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::wait::until;

const LONG: Duration = Duration::from_secs(120);
const PASSWORD: [(&str, &str); 1] = [("HANSE_PASSWORD", "correct horse battery staple")];
/// Writes made before anything is read.
const WRITES: usize = 12;

fn findings(report: &Value) -> BTreeMap<String, (String, String)> {
    let list = report["findings"].as_array().unwrap().iter();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    list.map(|it| (text(it, "check"), (text(it, "severity"), text(it, "what")))).collect()
}

/// Gives where a replica's metrics are: its log says so.
fn metrics_address(dir: &Path, id: u64) -> String {
    let log = std::fs::read_to_string(dir.join(format!("n{id}/replica.log"))).unwrap();
    let address = log.lines().rev().find_map(|line| line.split_once("metrics at http://")).unwrap().1;
    address.trim().trim_end_matches("/metrics").to_owned()
}

/// Reads from the address of a replica's metrics.
fn metrics(dir: &Path, id: u64, path: &str) -> (String, String) {
    let address = metrics_address(dir, id);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Gives the samples by their whole name.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Gives every file below `dir` with its content and time of change.
fn files(dir: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            if meta.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.display().to_string(), (std::fs::read(&path).unwrap(), meta.modified().unwrap()));
            }
        }
    }
    found
}

/// Waits until all that answer have one digest; gives it and its revision.
fn agree(cluster: &Cluster, count: usize) -> (String, u64) {
    until("equal replicas", LONG, || {
        let status = cluster.ask("admin", &["cluster", "status"]).map_err(|(_, words)| words)?;
        let of = |replica: &Value| (replica["digest"].clone(), replica["digest_revision"].clone());
        let all: Vec<_> = status["replicas"].as_array().ok_or("no replicas")?.iter().map(of).collect();
        let known: Vec<_> = all.iter().filter(|(digest, _)| digest != "").collect();
        match known.first() {
            Some((digest, revision)) if known.len() == count && known.iter().all(|it| **it == *known[0]) => {
                Ok((digest.as_str().unwrap().to_owned(), revision.as_u64().unwrap()))
            }
            _ => Err(status.to_string()),
        }
    })
}

#[test]
fn operators_see_what_is_and_what_is_wrong_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut cluster = Cluster::start(dir.path(), "metrics_listen = \"127.0.0.1:0\"");
    let setup_code = cluster.setup_code();
    cluster.bootstrap(PASSWORD[0].1);
    for n in 0..WRITES {
        let name = format!("p{n}");
        let args = ["plan", "set", &name, "--currency", "CNY", "--rate-micro-per-node-hour", "5"];
        until("a write", LONG, || cluster.ask("admin", &args).map_err(|(_, words)| words));
    }
    // The leader still writes down who is there; after that nothing but the test makes revisions.
    cluster.known_to_the_log("admin", 3);
    let (digest, revision) = agree(&cluster, 3);
    let leader = cluster.leader("admin");
    let follower = (1..=3).find(|id| *id != leader).unwrap();

    doctor_of_a_healthy_cluster(&cluster, &at("n1/hanse.toml"), leader);
    metrics_of(dir.path(), leader, follower);

    // A running replica's folder is not looked into.
    let data = at(&format!("n{follower}/data"));
    let (code, words) = cluster.ask("admin", &["debug", "log", "--data", &data]).unwrap_err();
    assert_eq!(code, 2, "{words}");
    assert!(words.contains("in use by another process"), "{words}");

    // One is stopped: doctor names it, and its folder can be read.
    cluster.terminate(follower);
    let report = until("doctor sees that a replica is away", LONG, || {
        let report = cluster.ask("admin", &["doctor"]).map_err(|(code, words)| format!("{code}: {words}"))?;
        if findings(&report)["quorum"].0 == "warning" { Ok(report) } else { Err(report.to_string()) }
    });
    let found = findings(&report);
    assert!(found["quorum"].1.starts_with("2 of 3"), "{report}");
    let advice = report["findings"].as_array().unwrap().iter().find(|it| it["check"] == "quorum").unwrap();
    assert!(advice["advice"].as_str().unwrap().contains(&format!("replica {follower} ")), "{report}");
    assert!(found.values().all(|(severity, _)| severity != "error"), "{report}");
    folder_of_a_stopped_replica(&cluster, &data, &digest, revision);
    bundle(&cluster, dir.path(), &setup_code, leader);
}

fn doctor_of_a_healthy_cluster(cluster: &Cluster, config: &str, leader: u64) {
    let report = cluster.tell("admin", &["doctor", "--config", config]);
    let found = findings(&report);
    for check in ["config", "data", "certificate", "key", "fsync", "leader", "quorum", "digest", "version"] {
        assert_eq!(found.get(check).map(|it| it.0.as_str()), Some("ok"), "{check}: {report}");
    }
    assert_eq!(found["leader"].1, format!("replica {leader} leads"));
    assert!(found["quorum"].1.starts_with("3 of 3"), "{report}");
    // No backup was made: that is all there is to say, but for the room of the machine that runs this.
    let bad = found.iter().filter(|(_, (severity, _))| severity != "ok").map(|(check, _)| check.as_str());
    let bad: Vec<&str> = bad.filter(|check| !["disk", "open-files"].contains(check)).collect();
    assert_eq!(bad, ["backup"], "{report}");
}

fn metrics_of(dir: &Path, leader: u64, follower: u64) {
    let (head, text) = metrics(dir, leader, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    let found = samples(&text);
    let get = |name: &str| *found.get(name).unwrap_or_else(|| panic!("{name} is missing: {text}"));
    assert_eq!(get("hanse_raft_role{role=\"leader\"}"), 1.0);
    assert_eq!(get("hanse_raft_leader"), leader as f64);
    assert!(get("hanse_raft_term") >= 1.0);
    let applied = get("hanse_raft_proposals_total{result=\"applied\"}");
    assert!(applied >= WRITES as f64, "{text}");
    assert_eq!(get("hanse_raft_commit_seconds_count"), applied);
    assert_eq!(get("hanse_raft_commit_seconds_bucket{le=\"+Inf\"}"), applied);
    assert!(get("hanse_raft_applied_index") >= applied);
    assert!(get("hanse_raft_last_index") >= get("hanse_raft_committed_index"));
    assert!(get("hanse_raft_apply_seconds_count") > 0.0 && get("hanse_log_fsync_seconds_sum") > 0.0, "{text}");
    let fsyncs = get("hanse_log_fsync_seconds_count");
    assert!(fsyncs >= 1.0, "{text}");
    let lags = found.keys().filter(|name| name.starts_with("hanse_raft_follower_lag{")).count();
    assert_eq!(lags, 2, "{text}");
    assert!(get("hanse_store_bytes{part=\"log\"}") > 0.0 && get("hanse_store_bytes{part=\"store\"}") > 0.0);
    assert!(get("process_resident_memory_bytes") > 1e6 && get("hanse_disk_free_bytes") > 0.0);
    assert_eq!(get("hanse_raft_snapshot_index"), 0.0);
    let (_, text) = metrics(dir, follower, "/metrics");
    let found = samples(&text);
    assert_eq!((found["hanse_raft_role{role=\"follower\"}"], found["hanse_raft_leader"]), (1.0, leader as f64));
    assert!(!text.contains("hanse_raft_follower_lag"), "a follower does not know: {text}");
    assert!(metrics(dir, follower, "/other").0.starts_with("HTTP/1.1 404"));
}

fn folder_of_a_stopped_replica(cluster: &Cluster, data: &str, digest: &str, revision: u64) {
    let before = files(Path::new(data));
    let log = cluster.tell("admin", &["debug", "log", "--data", data, "--limit", "1000"]);
    let entries = log["entries"].as_array().unwrap();
    let commands = entries.iter().flat_map(|entry| entry["requests"].as_array().cloned().unwrap_or_default());
    let plans = commands.filter(|request| request["command"] == "SetPlan").count();
    assert_eq!(plans, WRITES, "{log}");
    assert_eq!(entries[0]["kind"], "membership", "{log}");
    assert!(log["last"].as_u64() >= log["committed"].as_u64(), "{log}");
    let state = cluster.tell("admin", &["debug", "state", "--data", data]);
    assert_eq!((state["digest"].as_str(), state["revision"].as_u64()), (Some(digest), Some(revision)), "{state}");
    let snapshots = cluster.tell("admin", &["debug", "snapshot", "--data", data]);
    assert_eq!(snapshots["snapshots"].as_array().map(Vec::len), Some(0), "{snapshots}");
    assert_eq!(before, files(Path::new(data)), "looking changed something");
    // No hash of a password or of the setup code: those are in the log itself.
    let text = log.to_string();
    assert!(!text.contains("$argon2") && !text.contains("hash"), "{text}");
}

fn bundle(cluster: &Cluster, dir: &Path, setup_code: &str, leader: u64) {
    let home = dir.join(format!("n{leader}"));
    let token = std::fs::read_to_string(dir.join("admin.token")).unwrap().trim().to_owned();
    let key = std::fs::read_to_string(home.join("tls/peer.key")).unwrap();
    let key_line = key.lines().find(|line| line.len() > 20 && !line.starts_with('-')).unwrap().to_owned();
    let log = home.join("replica.log");
    let planted = format!("someone said password=plant3d-one\na stray {token} here\nand {key_line} too\nlast words\n");
    std::fs::File::options().append(true).open(&log).unwrap().write_all(planted.as_bytes()).unwrap();
    let out = dir.join("bundle.json");
    let args = ["debug", "bundle", "--out", out.to_str().unwrap(), "--log", log.to_str().unwrap(), "--config"];
    // The test lets the system choose the port; an operator's configuration names it.
    let address = metrics_address(dir, leader);
    let config = home.join("bundle.toml");
    let text = std::fs::read_to_string(home.join("hanse.toml")).unwrap();
    std::fs::write(
        &config,
        text.replacen("metrics_listen = \"127.0.0.1:0\"", &format!("metrics_listen = \"{address}\""), 1),
    )
    .unwrap();
    cluster.ask_with("admin", &[&args[..], &[config.to_str().unwrap()]].concat(), &PASSWORD).unwrap();
    let text = std::fs::read_to_string(&out).unwrap();
    for secret in [setup_code, &token, &key_line, "plant3d-one", PASSWORD[0].1] {
        assert!(!text.contains(secret), "the bundle holds {secret}");
    }
    let bundle: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bundle["status"]["leader_id"], leader.to_string(), "{bundle:#}");
    assert_eq!(bundle["config"]["cluster"], "test");
    assert!(bundle["versions"]["hanse"].is_string() && bundle["data_folder"].as_array().unwrap().len() > 3);
    assert!(bundle["findings"].as_array().unwrap().iter().any(|finding| finding["check"] == "quorum"));
    let holds = |part: &str, words: &str| {
        let lines = bundle[part].as_array().unwrap_or_else(|| panic!("{part}: {:#}", bundle[part]));
        lines.iter().any(|line| line.as_str().is_some_and(|line| line.contains(words)))
    };
    assert!(holds("metrics", "hanse_raft_term") && holds("log", "last words") && holds("log", "replica is up"));
    let (code, words) = cluster.ask("admin", &args[..4]).unwrap_err();
    assert_eq!(code, 2, "an existing file is overwritten: {words}");
}
