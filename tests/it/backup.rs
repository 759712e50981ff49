//! A backup taken under load, restored beside the cluster it was taken of: what was acknowledged is there, what is the old
//! cluster's stays the old cluster's, and no host is touched before an administrator says so.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::wait::until;

const LONG: Duration = Duration::from_secs(120);
const PASSWORD: [(&str, &str); 1] = [("HANSE_PASSWORD", "correct horse battery staple")];
/// Writers at once, each a chain of processes.
const WRITERS: usize = 2;

/// Writes prices as fast as the CLI can, and knows which were acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
}

impl Load {
    fn acknowledged(&self) -> Vec<String> {
        self.acknowledged.lock().unwrap().clone()
    }

    fn wait_for(&self, more: usize) {
        let wanted = self.acknowledged().len() + more;
        until("the writers go on", LONG, || match self.acknowledged().len() {
            found if found >= wanted => Ok(()),
            found => Err(format!("{found} of {wanted}")),
        });
    }
}

pub(crate) fn set_plan(cluster: &Cluster, plan: &str) -> Result<Value, (i32, String)> {
    cluster.ask("admin", &["plan", "set", plan, "--currency", "CNY", "--rate-micro-per-node-hour", "5"])
}

fn plans(cluster: &Cluster) -> Vec<String> {
    let listed = cluster.tell("admin", &["plan", "list"]);
    listed["plans"].as_array().unwrap().iter().map(|plan| plan["plan"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn bootstrapped(dir: &Path) -> Cluster {
    let cluster = Cluster::start(dir, "");
    cluster.bootstrap(PASSWORD[0].1);
    cluster
}

#[test]
fn a_backup_under_load_becomes_a_new_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let old_dir = dir.path().join("old");
    std::fs::create_dir(&old_dir).unwrap();
    let old = bootstrapped(&old_dir);
    let (key, whole, next) = (at("key"), at("whole"), at("next"));
    old.tell("admin", &["backup", "keygen", &key]);

    let load = Load { stop: Arc::default(), acknowledged: Arc::default() };
    let (before_whole, before_next) = std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (stop, acknowledged, old) = (load.stop.clone(), load.acknowledged.clone(), &old);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let plan = format!("w{writer}-{number}");
                    if set_plan(old, &plan).is_ok() {
                        acknowledged.lock().unwrap().push(plan);
                    }
                }
            });
        }
        // The writers end also when something here fails.
        let _stop = StopOnDrop(load.stop.clone());
        load.wait_for(5);
        let before_whole = load.acknowledged();
        let made = old.tell("admin", &["backup", "create", &whole, "--key-file", &key]);
        assert_eq!(made["cluster_name"], "test", "{made}");
        load.wait_for(5);
        let before_next = load.acknowledged();
        let continued = old.tell("admin", &["backup", "create", &next, "--key-file", &key, "--base", &whole]);
        assert_eq!(continued["base"], made["backup"], "{continued}");
        assert!(continued["revision"].as_u64() > made["revision"].as_u64());
        (before_whole, before_next)
    });
    let verified = old.tell("admin", &["backup", "verify", &whole, &next, "--key-file", &key]);
    assert_eq!(verified["backups"].as_array().unwrap().len(), 2);
    let last = &verified["backups"][1];
    let status = old.tell("admin", &["cluster", "status"]);
    assert!(status["backup_revision"].as_u64().unwrap() > 0 && status["paused"] == false, "{status}");
    refusals(&old, &at, &whole, &next, &key);

    // The new cluster of three, beside the old one, which still runs.
    let new_dir = dir.path().join("new");
    std::fs::create_dir(&new_dir).unwrap();
    let mut new = Cluster::prepare(&new_dir, "test-2", "");
    let configs: Vec<String> = (1..=3).map(|id| at(&format!("new/n{id}/hanse.toml"))).collect();
    let mut restore = vec!["backup", "restore", &whole, &next, "--key-file", &key];
    restore.extend(configs.iter().flat_map(|config| ["--config", config.as_str()]));
    let restored = new.tell("nobody", &restore);
    assert_eq!(restored["from_revision"], last["revision"], "{restored}");
    let (code, words) = new.ask("nobody", &restore).unwrap_err();
    assert!(code == 2 && words.contains("not empty"), "exit {code}: {words}");
    for id in 1..=3 {
        new.start_replica(id);
    }
    it_is_another_life(&old, &new, &restored);
    let found = plans(&new);
    for plan in before_whole.iter().chain(&before_next) {
        assert!(found.contains(plan), "{plan} was acknowledged before the backup and is not in it");
    }
    assert_eq!(old.tell("admin", &["cluster", "status"])["cluster_id"], restored["cluster_id"]);

    hosts_wait_for_a_word(&new, &at("host"));
    set_plan(&new, "after").unwrap();
    new.tell("admin", &["audit", "verify"]);
    let trail = new.tell("admin", &["audit", "list"]).to_string();
    assert!(trail.contains("RestoreCluster") && trail.contains("ResumeCluster") && trail.contains("CreateBackup"));
    let (_, words) =
        new.ask("admin", &["backup", "create", &at("x"), "--key-file", &key, "--base", &next]).unwrap_err();
    assert!(words.contains("FOREIGN_BASE"), "{words}");

    // A seeded replica comes back on its data, and all three hold the same state.
    new.kill(1);
    new.start_replica(1);
    the_same_everywhere(&new);
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What must not pass: a half, a wrong order, a changed byte, no decision about encryption, the old cluster's name.
fn refusals(old: &Cluster, at: &impl Fn(&str) -> String, whole: &str, next: &str, key: &str) {
    let (code, _) = old.ask("admin", &["backup", "create", &at("unsaid")]).unwrap_err();
    assert!(code == 2 && !Path::new(&at("unsaid")).exists());
    let (code, words) = old.ask("admin", &["backup", "verify", next, "--key-file", key]).unwrap_err();
    assert!(code == 2 && words.contains("must come first"), "exit {code}: {words}");
    let mut bytes = std::fs::read(whole).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(at("changed"), bytes).unwrap();
    let (code, words) = old.ask("admin", &["backup", "verify", &at("changed"), "--key-file", key]).unwrap_err();
    assert!(code == 1 && words.contains("was changed"), "exit {code}: {words}");
    let same = at("old/n1/hanse.toml");
    let text = std::fs::read_to_string(&same).unwrap().replace("data = \"data\"", "data = \"data-2\"");
    std::fs::write(at("old/n1/same.toml"), text).unwrap();
    let args = ["backup", "restore", whole, "--key-file", key, "--config", &at("old/n1/same.toml")];
    let (code, words) = old.ask("admin", &args).unwrap_err();
    assert!(code == 2 && words.contains("another name"), "exit {code}: {words}");
    assert!(!Path::new(&at("old/n1/data-2")).exists());
}

/// The old session opens nothing, the old password does; the state is the one that the restore announced.
fn it_is_another_life(old: &Cluster, new: &Cluster, restored: &Value) {
    std::fs::copy(old.dir.join("admin.token"), new.dir.join("admin.token")).unwrap();
    until("the new cluster refuses the old token", LONG, || match new.ask("admin", &["whoami"]) {
        Err((4, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    new.ask_with("admin", &["login", "admin"], &PASSWORD).unwrap();
    let status = the_same_everywhere(new);
    assert_eq!(status["cluster_id"], restored["cluster_id"], "{status}");
    assert_eq!(status["cluster_name"], "test-2");
    assert_eq!(status["incarnation"], restored["incarnation"]);
    assert_eq!(status["paused"], true);
    assert!(status["revision"].as_u64() > restored["revision"].as_u64());
}

/// Waits until all three replicas show the same digest of the same revision.
fn the_same_everywhere(cluster: &Cluster) -> Value {
    until("the same digest everywhere", LONG, || {
        let status = cluster.ask("admin", &["cluster", "status"]).map_err(|(_, words)| words)?;
        let replicas = status["replicas"].as_array().cloned().unwrap_or_default();
        let what = |replica: &Value| (replica["digest"].clone(), replica["digest_revision"].clone());
        let first = replicas.first().map(&what);
        let well = replicas.len() == 3 && replicas[0]["digest"] != "";
        if well && replicas.iter().all(|it| Some(what(it)) == first) { Ok(status) } else { Err(status.to_string()) }
    })
}

/// A host is looked at by reconcilers only after `cluster resume`.
fn hosts_wait_for_a_word(new: &Cluster, root: &str) {
    let enrol = ["host", "enrol", "h1", "--local", "--root", root, "--peer-address", "127.0.0.1"];
    let ports = ["--port-first", "29000", "--port-count", "4", "--slots", "1"];
    new.tell("admin", &[enrol.as_slice(), ports.as_slice()].concat());
    let log = || (1..=3).map(|id| std::fs::read_to_string(new.dir.join(format!("n{id}/replica.log"))).unwrap());
    until("a leader says that it is paused", LONG, || {
        if log().any(|text| text.contains("restored and paused")) { Ok(()) } else { Err("not yet".into()) }
    });
    // Rounds of reconciling pass with every write; none of them looks at the host.
    for number in 0..5 {
        set_plan(new, &format!("paused-{number}")).unwrap();
    }
    let host = new.tell("admin", &["host", "get", "h1"]);
    assert!(host["host"]["facts"].is_null(), "{host}");
    assert!(!Path::new(root).exists(), "nothing was made on the host");
    let (code, _) = new.ask("admin", &["cluster", "resume"]).unwrap_err();
    assert_eq!(code, 2, "nobody was asked");
    new.tell("admin", &["cluster", "resume", "--yes"]);
    until("the host is looked at", LONG, || {
        let host = new.ask("admin", &["host", "get", "h1"]).map_err(|(_, words)| words)?;
        if host["host"]["facts"]["cpus"].as_u64() > Some(0) { Ok(()) } else { Err(host.to_string()) }
    });
}
