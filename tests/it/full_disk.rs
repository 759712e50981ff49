//! Disks that fill up under real replicas: the full one steps aside and says why, nothing that was acknowledged is lost,
//! and all of it goes on by itself when there is room again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::wait::until;

const LONG: Duration = Duration::from_secs(120);
const PASSWORD: [(&str, &str); 1] = [("HANSE_PASSWORD", "correct horse battery staple")];
/// Room of each replica's file system.
const BYTES: u64 = 256 << 20;

/// A file system in memory under one replica's data folder; unmounted when dropped.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    fn mount(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={BYTES},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(folder).status().unwrap();
        assert!(mounted.success(), "this test mounts small file systems, so it needs root");
        Self { folder: folder.to_owned() }
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let file = File::create(self.folder.join("ballast")).unwrap();
        let (mut taken, mut step) = (0, BYTES);
        while step >= 4_096 {
            match fallocate(&file, FallocateFlags::empty(), taken, step) {
                Ok(()) => taken += step,
                Err(rustix::io::Errno::NOSPC) => step /= 2,
                Err(error) => panic!("{error}"),
            }
        }
        let free = rustix::fs::statvfs(&self.folder).unwrap().f_bavail;
        assert_eq!(free, 0, "pages are still free");
    }

    fn empty(&self) {
        std::fs::remove_file(self.folder.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a replica may still be ending; nothing can be done about a failure here.
        drop(Command::new("umount").arg("-l").arg(&self.folder).status());
    }
}

fn create(cluster: &Cluster, plan: &str) -> Result<Value, (i32, String)> {
    cluster.ask("admin", &["plan", "set", plan, "--currency", "CNY", "--rate-micro-per-node-hour", "5"])
}

/// Creates the plan, asking again while the lead changes; `kept` is what must be there at the end.
fn must_create(cluster: &Cluster, plan: String, kept: &mut Vec<String>) {
    until("a write", LONG, || create(cluster, &plan).map_err(|(_, words)| words));
    kept.push(plan);
}

fn plans(cluster: &Cluster) -> Result<Vec<String>, String> {
    let list = cluster.ask("admin", &["plan", "list"]).map_err(|(_, words)| words)?;
    let plans = list["plans"].as_array().ok_or("no list")?.iter();
    Ok(plans.filter_map(|plan| plan["plan"].as_str().map(str::to_owned)).collect())
}

/// Waits until all three answer with one digest.
fn agree(cluster: &Cluster) {
    until("three equal replicas", LONG, || {
        let status = cluster.ask("admin", &["cluster", "status"]).map_err(|(_, words)| words)?;
        let replicas = status["replicas"].as_array().ok_or("no replicas")?;
        let digests: Vec<_> = replicas.iter().map(|replica| replica["digest"].as_str().unwrap_or_default()).collect();
        let equal = digests.len() == 3 && !digests[0].is_empty() && digests.iter().all(|digest| *digest == digests[0]);
        if equal { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn replicas_whose_logs_cannot_be_written_work_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::prepare(dir.path(), "test", "");
    for id in 1..=3 {
        cluster.start_replica_with_log(id, Path::new("/dev/full"));
    }
    cluster.bootstrap(PASSWORD[0].1);
    // An election is where a replica says most.
    let leader = cluster.leader("admin");
    cluster.kill(leader);
    must_create(&cluster, "after".into(), &mut Vec::new());
    cluster.start_replica_with_log(leader, Path::new("/dev/full"));
    agree(&cluster);
    assert!((1..=3).all(|id| cluster.runs(id)), "none has ended");
}

#[test]
fn a_full_replica_steps_aside_all_full_ones_say_so_and_all_go_on_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::prepare(dir.path(), "test", "");
    let disks: Vec<SmallDisk> = (1..=3).map(|id| SmallDisk::mount(&dir.path().join(format!("n{id}/data")))).collect();
    let disk = |id: u64| &disks[usize::try_from(id - 1).unwrap()];
    for id in 1..=3 {
        cluster.start_replica(id);
    }
    cluster.bootstrap(PASSWORD[0].1);
    let mut kept = Vec::new();
    must_create(&cluster, "before".into(), &mut kept);

    // The leader's disk is full: another one leads, and writes go on without it.
    let first = cluster.leader("admin");
    disk(first).fill();
    let second = until("another leader", LONG, || match cluster.leader("admin") {
        leader if leader == first => Err(format!("replica {first} still leads")),
        leader => Ok(leader),
    });
    for n in 0..10 {
        must_create(&cluster, format!("one-full-{n}"), &mut kept);
    }
    assert!(cluster.runs(first), "the full replica has ended");

    // It is killed while its disk is full: it starts when there is room.
    cluster.kill(first);
    cluster.start_replica(first);
    let log = dir.path().join(format!("n{first}/replica.log"));
    until("the full replica says why it waits", LONG, || {
        let text = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
        if text.contains("this replica starts when there is room") { Ok(()) } else { Err("not yet".into()) }
    });
    assert!(cluster.runs(first));
    disk(first).empty();
    agree(&cluster);

    // All three are full: a write is refused with the reason, and reads go on.
    for id in 1..=3 {
        disk(id).fill();
    }
    let (code, words) = until("a refusal", LONG, || match create(&cluster, "refused") {
        Err((code, words)) if words.contains("DISK_FULL") => Ok((code, words)),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("ResourceExhausted") && words.contains("MiB are needed"), "{words}");
    assert!(words.contains("/data/raft") && words.contains("make room"), "{words}");
    assert!(words.contains("\"none\""), "a refused write has no effect: {words}");
    let there = until("a read", LONG, || plans(&cluster));
    assert!(kept.iter().all(|plan| there.contains(plan)), "{kept:?} in {there:?}");

    // There is room again: everything goes on, nothing is lost, nobody has ended.
    for id in 1..=3 {
        disk(id).empty();
    }
    must_create(&cluster, "after".into(), &mut kept);
    agree(&cluster);
    let there = plans(&cluster).unwrap();
    assert!(kept.iter().all(|plan| there.contains(plan)), "{kept:?} in {there:?}");
    assert!([first, second].into_iter().all(|id| cluster.runs(id)));
}
