//! The store of one replica: what was acknowledged is there after a restart, or the replica says that it is lost.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use hanse_raft::StoreError;
use hanse_raft::inside::{EntryBytes, LogStore, Parts, Stop, Types};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{EntryPayload, LogId, RaftLogReader, Vote};
use tempfile::TempDir;

use hanse_raft::ReplicaId;

const PAYLOAD: &[u8] = b"a request that can be found again in the file";

type Entry = openraft::Entry<LeaderId<u64, ReplicaId>, EntryPayload<EntryBytes, ReplicaId, hanse_raft::Member>>;

fn leader(term: u64) -> LeaderId<u64, ReplicaId> {
    LeaderId { term, node_id: ReplicaId(1) }
}

fn entry(term: u64, index: u64) -> Entry {
    let payload = EntryPayload::Normal(EntryBytes([PAYLOAD, &index.to_be_bytes()].concat()));
    Entry { log_id: LogId::new(leader(term), index), payload }
}

fn open(dir: &Path) -> Result<Parts, StoreError> {
    Parts::open(dir, Stop::default())
}

fn lost(dir: &Path) -> String {
    match open(dir) {
        Err(error @ StoreError::Lost { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(parts) => {
            parts.store.close();
            panic!("the damage went unseen");
        }
    }
}

async fn vote(log: &mut LogStore, term: u64) {
    log.save_vote(&Vote { leader_id: leader(term), committed: true }).await.unwrap();
}

async fn all(log: &LogStore) -> Vec<Entry> {
    log.clone().try_get_log_entries(..).await.unwrap()
}

/// Makes a store with 20 entries and a vote in term 2, and closes it.
async fn filled() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut parts = open(dir.path()).unwrap();
    vote(&mut parts.log, 1).await;
    parts.log.blocking_append((0..10).map(|i| entry(1, i))).await.unwrap();
    vote(&mut parts.log, 2).await;
    for index in 10..20 {
        parts.log.blocking_append([entry(2, index)]).await.unwrap();
    }
    parts.store.close();
    dir
}

/// Changes the store behind our back.
fn tamper(dir: &Path, change: impl FnOnce(&sled::Db)) {
    let db = sled::open(dir.join("store")).unwrap();
    change(&db);
    db.flush().unwrap();
}

fn log_key(index: u64) -> Vec<u8> {
    [b"l".as_slice(), &index.to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = filled().await;
    let mut parts = open(dir.path()).unwrap();
    assert_eq!(all(&parts.log).await, (0..20).map(|i| entry(1 + i / 10, i)).collect::<Vec<_>>());
    assert_eq!(parts.log.read_vote().await.unwrap().unwrap().leader_id, leader(2));
    parts.log.truncate_after(Some(entry(2, 14).log_id)).await.unwrap();
    parts.log.purge(entry(1, 4).log_id).await.unwrap();
    parts.store.close();
    // Nothing covers the purged entries: without a snapshot that reaches them the replica is lost.
    assert!(lost(dir.path()).contains("no snapshot reaches it"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_entries_stay_gone_and_can_be_written_anew() {
    let dir = filled().await;
    let mut parts = open(dir.path()).unwrap();
    parts.log.truncate_after(Some(entry(2, 14).log_id)).await.unwrap();
    parts.log.blocking_append([entry(3, 15)]).await.unwrap();
    parts.store.close();
    let parts = open(dir.path()).unwrap();
    assert_eq!(all(&parts.log).await.last().unwrap().log_id, entry(3, 15).log_id);
    parts.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_is_found() {
    let dir = filled().await;
    tamper(dir.path(), |db| assert!(db.remove(log_key(7)).unwrap().is_some()));
    assert!(lost(dir.path()).contains("a hole"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_above_the_log_is_found() {
    let dir = filled().await;
    tamper(dir.path(), |db| assert!(db.remove(log_key(19)).unwrap().is_some()));
    assert!(lost(dir.path()).contains("were acknowledged"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_below_the_mark_is_found() {
    let dir = filled().await;
    tamper(dir.path(), |db| assert!(db.remove(b"m/vote").unwrap().is_some()));
    assert!(lost(dir.path()).contains("vote"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_under_another_key_is_found() {
    let dir = filled().await;
    tamper(dir.path(), |db| {
        let other = db.get(log_key(6)).unwrap().unwrap();
        db.insert(log_key(7), other).unwrap();
    });
    assert!(lost(dir.path()).contains("found under key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_value_is_found() {
    let dir = filled().await;
    tamper(dir.path(), |db| {
        let mut value = db.get(log_key(7)).unwrap().unwrap().to_vec();
        value[20] ^= 1;
        db.insert(log_key(7), value).unwrap();
    });
    assert!(lost(dir.path()).contains("bad checksum"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_or_store_that_is_gone_or_damaged_is_found() {
    let dir = filled().await;
    let mark = dir.path().join("mark");
    let bytes = fs::read(&mark).unwrap();
    fs::remove_file(&mark).unwrap();
    assert!(lost(dir.path()).contains("its file is gone"));
    let mut damaged = bytes.clone();
    damaged[9] ^= 4;
    fs::write(&mark, damaged).unwrap();
    assert!(lost(dir.path()).contains("high-water mark"));
    fs::write(&mark, bytes).unwrap();
    open(dir.path()).unwrap().store.close();
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    assert!(lost(dir.path()).contains("its folder is gone"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_between_batch_and_mark_is_no_loss() {
    let dir = filled().await;
    let mark = dir.path().join("mark");
    let before = fs::read(&mark).unwrap();
    let mut parts = open(dir.path()).unwrap();
    parts.log.blocking_append([entry(2, 20), entry(2, 21)]).await.unwrap();
    vote(&mut parts.log, 3).await;
    parts.store.close();
    fs::write(&mark, before).unwrap();
    fs::write(dir.path().join("mark.new"), b"half a mark").unwrap();
    let mut parts = open(dir.path()).unwrap();
    assert_eq!(all(&parts.log).await.len(), 22);
    assert_eq!(parts.log.read_vote().await.unwrap().unwrap().leader_id, leader(3));
    parts.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_file_is_never_silent() {
    let dir = filled().await;
    let file = dir.path().join("store/db");
    let sound = fs::read(&file).unwrap();
    let found = |i: &usize| sound[*i..].starts_with(PAYLOAD);
    let targets: Vec<_> = (0..sound.len()).filter(found).collect();
    assert!(targets.len() >= 20, "the entries are not in the file");
    let spread = (0..24).map(|i| i * sound.len().min(64 * 1024) / 24);
    let mut seen = 0;
    for position in targets.into_iter().step_by(3).chain(spread) {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("store")).unwrap();
        for name in ["mark", "store/conf"] {
            fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        let mut damaged = sound.clone();
        damaged[position] ^= 16;
        fs::write(copy.path().join("store/db"), damaged).unwrap();
        match open(copy.path()) {
            Err(error) => {
                assert!(error.is_lost(), "{error}");
                seen += 1;
            }
            Ok(mut parts) => {
                assert_eq!(all(&parts.log).await, (0..20).map(|i| entry(1 + i / 10, i)).collect::<Vec<_>>());
                assert_eq!(parts.log.read_vote().await.unwrap().unwrap().leader_id, leader(2));
                parts.store.close();
            }
        }
    }
    assert!(seen > 0, "no flip hit anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_use_is_refused() {
    let dir = filled().await;
    let parts = open(dir.path()).unwrap();
    let path = dir.path().to_owned();
    let second = tokio::task::spawn_blocking(move || open(&path).map(|_| ())).await.unwrap();
    assert!(matches!(second, Err(StoreError::Busy { .. })), "{second:?}");
    parts.store.close();
}

/// Not a test by itself: the process that the next test kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_appends_until_killed() {
    let Ok(dir) = std::env::var("HANSE_RAFT_CHILD_DIR") else { return };
    let mut parts = open(Path::new(&dir)).unwrap();
    let from = parts.log.get_log_state().await.unwrap().last_log_id.map_or(0, |id| id.index + 1);
    for index in from.. {
        if index % 50 == 0 {
            vote(&mut parts.log, index / 50 + 1).await;
        }
        parts.log.blocking_append([entry(index / 50 + 1, index)]).await.unwrap();
        println!("acknowledged {index}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "disk::child_that_appends_until_killed", "--nocapture"])
            .env("HANSE_RAFT_CHILD_DIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some((_, index)) = line.unwrap().split_once("acknowledged ") {
                acknowledged = index.parse().unwrap();
                if acknowledged >= round * 60 {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(acknowledged >= round * 60, "the child ended by itself");
        let parts = open(dir.path()).unwrap();
        let entries: Vec<Entry> = all(&parts.log).await;
        assert!(entries.last().unwrap().log_id.index >= acknowledged);
        parts.store.close();
    }
}

// The suite names the types; keep the alias honest.
const _: fn(Entry) -> <Types as openraft::RaftTypeConfig>::Entry = |entry| entry;
