//! A rolling upgrade from the build before this one, with real programs of both: replica by replica under load, one of
//! them back and forth, then the raise, after which the older program refuses and harms nothing.
//!
//! The older program is found as `$HANSE_PREVIOUS`; `cargo xtask parts` builds it from the history of this repository.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::load::Load;
use crate::wait::until;

/// Longest wait for anything on a busy two-core machine.
const LONG: Duration = Duration::from_secs(180);
const PASSWORD: &str = "correct horse battery staple";
/// The version this build raises the cluster to, and the newest that the older one speaks.
const NEWEST: u64 = 6;
const WAS: u64 = 5;
/// What a build says that cannot read what the cluster writes.
const TOO_OLD: i32 = 80;
/// How the build of version 5 ends now and then instead, with the same reason among its words: when it notices that its replica has ended
/// before it hears why. Builds since tell the reason first.
const FAILED: (i32, &str) = (1, "a part of the replica ended by itself");
/// Every so many revisions the digest looks at the whole state.
const WHOLE_STATE_EVERY: u64 = 1_000;
/// Entries between two snapshots; a replica that was away for more gets one from the leader.
const SNAPSHOT_EVERY: u64 = 50;

fn previous() -> PathBuf {
    let program = std::env::var_os("HANSE_PREVIOUS").map(PathBuf::from);
    let program =
        program.expect("`cargo xtask parts` builds the program of the version before: name it in HANSE_PREVIOUS");
    assert!(program.is_file(), "{} is not there; `cargo xtask parts` builds it", program.display());
    program
}

/// A cluster on the older program, with an administrator, a tenant, and writers on it.
fn begin(dir: &std::path::Path, old: &std::path::Path) -> (Cluster, Load) {
    let mut cluster = Cluster::prepare(dir, "test", "");
    for id in 1..=3 {
        let path = dir.join(format!("n{id}/hanse.toml"));
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{config}snapshot_every = {SNAPSHOT_EVERY}\n")).unwrap();
        cluster.start_replica_with(id, old);
    }
    let password = [("HANSE_PASSWORD", PASSWORD)];
    cluster.bootstrap(PASSWORD);
    cluster.ask_with("admin", &["tenant", "create", "acme", "--owner", "owner"], &password).unwrap();
    cluster.known_to_the_log("admin", 3);
    let load = Load::start(&cluster.environment("admin"));
    (cluster, load)
}

fn status(cluster: &Cluster) -> Result<Value, String> {
    cluster.ask("admin", &["cluster", "status"]).map_err(|(_, words)| words)
}

/// Waits until the log has passed `revision`.
fn reach(cluster: &Cluster, revision: u64) {
    until("the log has grown", LONG, || {
        let status = status(cluster)?;
        if status["revision"].as_u64() >= Some(revision) { Ok(()) } else { Err(status["revision"].to_string()) }
    });
}

fn revision(cluster: &Cluster) -> u64 {
    until("a revision", LONG, || status(cluster)?["revision"].as_u64().ok_or_else(|| "none".to_owned()))
}

/// Lets the load pass the next look at the whole state; then all replicas hold the same, to the last request.
fn same_beyond_a_look(cluster: &Cluster, load: &Load) {
    let next = revision(cluster) / WHOLE_STATE_EVERY + 1;
    reach(cluster, next * WHOLE_STATE_EVERY + 1);
    load.pause();
    until("digests are equal", LONG, || {
        let status = status(cluster)?;
        let rows = status["replicas"].as_array().ok_or("no replicas")?;
        let digests: Vec<_> = rows.iter().map(|row| (&row["digest_revision"], &row["digest"])).collect();
        let same = digests.len() == 3 && digests.iter().all(|it| *it == digests[0]) && digests[0].1 != "";
        if same { Ok(()) } else { Err(status.to_string()) }
    });
    load.go_on();
}

/// Entries that each replica that answers has applied.
fn applied(cluster: &Cluster) -> Result<BTreeMap<String, u64>, String> {
    let status = status(cluster)?;
    let rows = status["replicas"].as_array().ok_or("no replicas")?;
    Ok(rows.iter().filter_map(|row| Some((row["id"].as_str()?.to_owned(), row["applied_index"].as_u64()?))).collect())
}

/// Stops a replica, lets the log grow by so much that the leader must send it a snapshot, and starts it with another
/// program.
fn exchange(cluster: &mut Cluster, id: u64, program: &std::path::Path) {
    cluster.terminate(id);
    let newest = |cluster: &Cluster| applied(cluster)?.into_values().max().ok_or_else(|| "nobody answers".to_owned());
    let grown = until("an entry", LONG, || newest(cluster)) + 3 * SNAPSHOT_EVERY;
    until("the log has grown", LONG, || match newest(cluster)? {
        index if index >= grown => Ok(()),
        index => Err(format!("{index} of {grown}")),
    });
    cluster.start_replica_with(id, program);
    until("the replica is back and has caught up", LONG, || {
        let applied = applied(cluster)?;
        if applied.get(&id.to_string()) >= Some(&grown) { Ok(()) } else { Err(format!("{applied:?}")) }
    });
}

/// How the older build's versions are written.
fn speaks() -> String {
    format!("speaks 1 to {WAS}")
}

/// The refusal of a raise.
fn refused(cluster: &Cluster) -> String {
    // Named, because the older build leads too, and means its own newest.
    let to = NEWEST.to_string();
    let (code, words) = cluster.ask("admin", &["cluster", "upgrade", "--to", &to, "--confirm", "test"]).unwrap_err();
    assert_eq!(code, 5, "{words}");
    words
}

/// The older program on this replica's folder says why it cannot go on; this one then does. It meets the entry that raised the
/// version, or, if the others' logs no longer have it, a snapshot of that version.
fn too_old(cluster: &mut Cluster, id: u64, old: &std::path::Path) {
    cluster.terminate(id);
    let before = cluster.words(id).len();
    cluster.start_replica_with(id, old);
    let (code, words) = cluster.ended(id, LONG);
    let words = &words[before..];
    let is_known = code == Some(TOO_OLD) || code == Some(FAILED.0) && words.contains(FAILED.1);
    assert!(is_known && words.contains(&speaks()), "exit {code:?}: {words}");
    cluster.start_replica(id);
}

#[test]
fn replicas_are_replaced_one_by_one_and_nothing_acknowledged_is_lost() {
    let (dir, old) = (tempfile::tempdir().unwrap(), previous());
    let new = PathBuf::from(env!("CARGO_BIN_EXE_hanse"));
    let (mut cluster, load) = begin(dir.path(), &old);

    // The first follower; the leader is of the older build.
    let leader = cluster.leader("admin");
    let [first, second] = (1..=3).filter(|id| *id != leader).collect::<Vec<_>>()[..] else { panic!("three replicas") };
    exchange(&mut cluster, first, &new);
    let words = refused(&cluster);
    for id in [leader, second] {
        assert!(
            words.contains("VERSION_NOT_SPOKEN") && words.contains(&format!("replica {id} {}", speaks())),
            "{words}"
        );
    }
    same_beyond_a_look(&cluster, &load);

    // The new one leads two old ones, and names them.
    until("the new build leads", LONG, || {
        let args = ["replica", "transfer-leader", &first.to_string(), "--reason", "upgrade"];
        cluster.ask("admin", &args).map_err(|(_, words)| words)?;
        if cluster.leader("admin") == first { Ok(()) } else { Err("another leads".into()) }
    });
    let words = refused(&cluster);
    assert!(words.contains("VERSION_NOT_SPOKEN"), "{words}");
    for id in [leader, second] {
        assert!(words.contains(&format!("replica {id} {}", speaks())), "{words}");
    }

    // The second goes to the new build, back to the old, and forth again.
    for program in [&new, &old, &new] {
        exchange(&mut cluster, second, program);
    }
    let words = refused(&cluster);
    assert!(
        words.contains(&format!("replica {leader} {}", speaks())) && !words.contains(&format!("replica {second}")),
        "{words}"
    );
    same_beyond_a_look(&cluster, &load);

    // One that is not heard is in the way as well; with the last one replaced nobody is.
    cluster.kill(leader);
    assert!(refused(&cluster).contains(&format!("replica {leader} does not answer")));
    cluster.start_replica(leader);
    let raised = until("every replica is heard to speak the new version", LONG, || {
        cluster.ask("admin", &["cluster", "upgrade", "--dry-run"]).map_err(|(_, words)| words)
    });
    assert_eq!((&raised["was"], &raised["version"]), (&WAS.into(), &NEWEST.into()), "{raised}");
    assert_eq!(status(&cluster).unwrap()["cluster_version"], WAS, "a check raises nothing");
    let raised = cluster.tell("admin", &["cluster", "upgrade", "--confirm", "test"]);
    assert_eq!((&raised["was"], &raised["version"]), (&WAS.into(), &NEWEST.into()), "{raised}");

    // The older program stops at the entry or at a snapshot; the data is unharmed.
    too_old(&mut cluster, leader, &old);
    same_beyond_a_look(&cluster, &load);
    too_old(&mut cluster, second, &old);
    same_beyond_a_look(&cluster, &load);

    assert_eq!(status(&cluster).unwrap()["cluster_version"], NEWEST);
    assert!(cluster.tell("admin", &["audit", "list"]).to_string().contains("SetTenantMetadata"));
    load.end(|lost, acknowledged| assert!(lost.is_empty() && acknowledged > 1_000, "{acknowledged}: {lost:?}"));
}
