//! A replica's folder is emptied: it refuses to start, is replaced by a command, and the cluster is whole again; then the
//! lead moves, and an unsafe removal is refused.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, hanse};
use crate::wait::until;

/// Longest wait for anything on a busy two-core machine.
const LONG: Duration = Duration::from_secs(120);
const PASSWORD: &str = "correct horse battery staple";

fn rows(list: &Value) -> Vec<Value> {
    list["replicas"].as_array().cloned().unwrap_or_default()
}

fn row<'a>(rows: &'a [Value], id: &str) -> Option<&'a Value> {
    rows.iter().find(|row| row["id"] == id)
}

/// A cluster with an administrator, an acknowledged write, and every replica known to the log with its folder's name.
fn begin(dir: &std::path::Path) -> Cluster {
    let cluster = Cluster::start(dir, "");
    cluster.bootstrap(PASSWORD);
    cluster.tell("admin", &["plan", "set", "standard", "--currency", "CNY", "--rate-micro-per-node-hour", "360000"]);
    cluster.known_to_the_log("admin", 3);
    cluster
}

/// A certificate for replica 4, beside the configuration that the command has written.
fn issue(dir: &std::path::Path, id: &str) {
    let (ca, out) = (dir.join("ca"), dir.join(format!("n{id}/tls")));
    let (ca, out) = (ca.to_str().unwrap(), out.to_str().unwrap());
    hanse(&["ca", "issue", "--cluster", "test", "--dir", ca, "--replica", id, "--host", "127.0.0.1", "--out", out]);
}

#[test]
fn an_emptied_replica_refuses_and_is_replaced_by_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = begin(dir.path());
    let leader = cluster.leader("admin");
    let victim = (1..=3).find(|id| *id != leader).unwrap();
    let (victim_id, home) = (victim.to_string(), dir.path().join(format!("n{victim}")));

    cluster.kill(victim);
    std::fs::remove_dir_all(home.join("data")).unwrap();
    cluster.start_replica(victim);
    let (code, words) = cluster.ended(victim, LONG);
    assert_eq!(code, Some(78), "{words}");
    assert!(words.contains("hanse replica replace") && words.contains("emptied"), "{words}");

    // Ordered twice, as after an interruption: it is one replacement.
    let held: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [peer, api] = [0, 1].map(|n: usize| held[n].local_addr().unwrap().to_string());
    drop(held);
    std::fs::create_dir_all(dir.path().join("n4")).unwrap();
    let config = dir.path().join("n4/hanse.toml").display().to_string();
    let replace = [
        "replica",
        "replace",
        &victim_id,
        "--peer",
        &peer,
        "--api",
        &api,
        "--config-out",
        &config,
        "--confirm",
        &victim_id,
        "--no-wait",
    ];
    for _ in 0..2 {
        let ordered = cluster.tell("admin", &replace);
        assert_eq!((&ordered["replica"]["id"], &ordered["join"]["cluster_name"]), (&"4".into(), &"test".into()));
    }
    let listed = cluster.tell("admin", &["replica", "list"]);
    assert!(row(&rows(&listed), &victim_id).is_some(), "the old one stays until the new one votes: {listed}");
    issue(dir.path(), "4");
    cluster.start_replica(4);
    until("the new one votes and the old one is out", LONG, || {
        let list = cluster.ask("admin", &["replica", "list"]).map_err(|(_, words)| words)?;
        let rows = rows(&list);
        let new = row(&rows, "4").is_some_and(|row| row["standing"] == "VOTER" && row["waits_for"] == "");
        if new && row(&rows, &victim_id).is_none() && rows.len() == 3 { Ok(()) } else { Err(list.to_string()) }
    });

    // What was acknowledged before is there, on the new one alone too, and all hold the same.
    let endpoint = [("HANSE_ENDPOINT", api.as_str())];
    until("digests are equal", LONG, || {
        let status = cluster.ask_with("admin", &["cluster", "status"], &endpoint).map_err(|(_, words)| words)?;
        let digests: Vec<_> =
            rows(&status).iter().map(|row| (row["digest_revision"].clone(), row["digest"].clone())).collect();
        let same = digests.len() == 3 && digests.windows(2).all(|pair| pair[0] == pair[1]) && digests[0].1 != "";
        if same { Ok(()) } else { Err(status.to_string()) }
    });
    let plans = cluster.ask_with("admin", &["plan", "list"], &endpoint).unwrap();
    assert!(plans.to_string().contains("\"standard\""), "{plans}");

    // The old one, whatever its folder holds, is told that it is out.
    cluster.start_replica(victim);
    let (code, words) = cluster.ended(victim, LONG);
    assert_eq!(code, Some(79), "{words}");
    assert!(words.contains("was removed from the cluster"), "{words}");

    // The lead moves to the new one; with another dead, taking the third out would leave no majority.
    cluster.tell("admin", &["replica", "transfer-leader", "4", "--reason", "test"]);
    until("4 leads", LONG, || if cluster.leader("admin") == 4 { Ok(()) } else { Err("another leads".into()) });
    let third = (1..=3).find(|id| *id != victim && *id != leader).unwrap();
    cluster.kill(leader);
    let unsafe_removal = ["replica", "remove", &third.to_string(), "--confirm", &third.to_string(), "--no-wait"];
    until("the leader misses the dead one", LONG, || {
        let list = cluster.ask("admin", &["replica", "list"]).map_err(|(_, words)| words)?;
        let missed = row(&rows(&list), &leader.to_string()).is_some_and(|row| row["role"] == "UNREACHABLE");
        if missed { Ok(()) } else { Err(list.to_string()) }
    });
    let (code, words) = cluster.ask("admin", &unsafe_removal).unwrap_err();
    assert_eq!(code, 5, "{words}");
    assert!(words.contains("NO_MAJORITY_LEFT"), "{words}");
    // Taking the dead one out is safe.
    let dead = leader.to_string();
    // A habit of the fingers, or another's name, is no word that this one goes for ever.
    for habit in [["--yes", "--no-wait"], ["--confirm=9", "--no-wait"]] {
        let (code, words) =
            cluster.ask("admin", &[["replica", "remove", &dead].as_slice(), &habit].concat()).unwrap_err();
        assert!(code == 2 && words.contains(&format!("--confirm={dead}")), "{code}: {words}");
    }
    cluster.tell("admin", &["replica", "remove", &dead, "--confirm", &dead, "--wait", "--reason", "dead"]);
    let list = cluster.tell("admin", &["replica", "list"]);
    assert_eq!((rows(&list).len(), &list["changing"]), (2, &false.into()), "{list}");

    let trail = cluster.tell("admin", &["audit", "list"]).to_string();
    for action in ["AddReplica", "RecordReplica", "TransferLeader", "RemoveReplica"] {
        assert!(trail.contains(action), "{action} left no trace");
    }
}

/// The answer to an order may be lost, and the replica be a member before it is asked again.
#[test]
fn an_order_that_is_repeated_with_its_id_gets_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = begin(dir.path());
    let id = hanse_client::new_request_id();
    // Nobody is there, and nobody needs to be: a learner has no vote.
    let add = ["replica", "add", "--peer", "127.0.0.1:1", "--api", "127.0.0.1:2", "--request-id", &id, "--no-wait"];
    let first = cluster.tell("admin", &add);
    until("it is a member", LONG, || {
        let list = cluster.ask("admin", &["replica", "list"]).map_err(|(_, words)| words)?;
        let member = row(&rows(&list), "4").is_some_and(|row| row["standing"] == "LEARNER");
        if member { Ok(()) } else { Err(list.to_string()) }
    });
    let again = cluster.tell("admin", &add);
    assert_eq!(first["replica"]["id"], again["replica"]["id"]);
    assert_eq!(first["header"]["revision"], again["header"]["revision"], "{first}\n{again}");
    let list = cluster.tell("admin", &["replica", "list"]);
    assert_eq!(rows(&list).len(), 4, "it was done once: {list}");

    // Nor does what has happened since refuse an order that was accepted: this one is out by then and answers nobody.
    let leader = cluster.leader("admin");
    let gone = (1..=3).find(|id| *id != leader).unwrap().to_string();
    let id = hanse_client::new_request_id();
    let promote = ["replica", "promote", &gone, "--request-id", &id, "--no-wait"];
    let first = cluster.tell("admin", &promote);
    cluster.tell("admin", &["replica", "remove", &gone, "--confirm", &gone, "--wait", "--reason", "test"]);
    let again = cluster.tell("admin", &promote);
    assert_eq!(first["header"]["revision"], again["header"]["revision"], "{first}\n{again}");
    let (code, words) = cluster.ask("admin", &["replica", "promote", &gone, "--no-wait"]).unwrap_err();
    assert_eq!(code, 5, "a new order is judged by what is: {words}");
}
