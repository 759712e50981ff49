//! The store of one replica: what was acknowledged is there after a restart, or the replica says that it is lost.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
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
    let payload = EntryPayload::Normal(EntryBytes([PAYLOAD, &index.to_be_bytes()].concat().into()));
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

/// The first segment, the only one while a log is short.
fn segment(dir: &Path) -> PathBuf {
    dir.join("wal/00000000000000000001.log")
}

/// Changes a file behind our back.
fn tamper(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Gives where each record of a segment lies: offset, length, kind.
fn records(bytes: &[u8]) -> Vec<(usize, usize, u8)> {
    let mut records = Vec::new();
    let mut at = 0;
    while at + 32 <= bytes.len() && bytes[at + 4] == 1 {
        let body = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let length = 32 + body.next_multiple_of(8);
        records.push((at, length, bytes[at + 5]));
        at += length;
    }
    records
}

const KIND_ENTRY: u8 = 2;
const KIND_VOTE: u8 = 3;

/// Gives where the records of a kind lie.
fn of_kind(bytes: &[u8], kind: u8) -> Vec<(usize, usize)> {
    records(bytes).into_iter().filter(|r| r.2 == kind).map(|(at, length, _)| (at, length)).collect()
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
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
    tamper(&segment(dir.path()), |bytes| {
        let (at, length) = of_kind(bytes, KIND_ENTRY)[7];
        bytes.copy_within(at + length.., at);
    });
    assert!(lost(dir.path()).contains("does not follow"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_above_the_log_is_found() {
    let dir = filled().await;
    tamper(&segment(dir.path()), |bytes| {
        let (at, length) = of_kind(bytes, KIND_ENTRY)[19];
        bytes[at..at + length].fill(0);
    });
    let words = lost(dir.path());
    assert!(words.contains("were acknowledged") && words.contains("the log ends at entry 18"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_below_the_mark_is_found() {
    let dir = filled().await;
    let mut parts = open(dir.path()).unwrap();
    vote(&mut parts.log, 9).await;
    parts.store.close();
    tamper(&segment(dir.path()), |bytes| {
        let (at, length) = *of_kind(bytes, KIND_VOTE).last().unwrap();
        bytes[at..at + length].fill(0);
    });
    let words = lost(dir.path());
    assert!(words.contains("vote Some(VoteV1 { term: 9"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_in_another_place_is_found() {
    let dir = filled().await;
    tamper(&segment(dir.path()), |bytes| {
        let entries = of_kind(bytes, KIND_ENTRY);
        assert_eq!(entries[6].1, entries[7].1);
        bytes.copy_within(entries[6].0..entries[6].0 + entries[6].1, entries[7].0);
    });
    assert!(lost(dir.path()).contains("does not follow"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_record_is_found() {
    let dir = filled().await;
    tamper(&segment(dir.path()), |bytes| {
        let (at, _) = of_kind(bytes, KIND_ENTRY)[7];
        bytes[at + 40] ^= 1;
    });
    assert!(lost(dir.path()).contains("bad checksum"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_mark_hides_no_damage_before_a_witness() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().store.close();
    let before = fs::read(dir.path().join("wal/mark")).unwrap();
    let mut parts = open(dir.path()).unwrap();
    for index in 0..10 {
        parts.log.blocking_append([entry(1, index)]).await.unwrap();
    }
    parts.store.close();
    // As a power cut would leave it: the mark never reached the disk.
    fs::write(dir.path().join("wal/mark"), &before).unwrap();
    tamper(&segment(dir.path()), |bytes| {
        let (at, length) = of_kind(bytes, KIND_ENTRY)[5];
        bytes[at..at + length].fill(0);
    });
    let words = lost(dir.path());
    assert!(words.contains("shows that it was acknowledged"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_or_store_that_is_gone_or_damaged_is_found() {
    let dir = filled().await;
    let mark = dir.path().join("wal/mark");
    let bytes = fs::read(&mark).unwrap();
    fs::remove_file(&mark).unwrap();
    assert!(lost(dir.path()).contains("its file is gone"));
    let mut damaged = bytes.clone();
    damaged[9] ^= 4;
    damaged[4_096 + 9] ^= 4;
    fs::write(&mark, &damaged).unwrap();
    assert!(lost(dir.path()).contains("high-water mark"));
    fs::write(&mark, &bytes[..100]).unwrap();
    assert!(lost(dir.path()).contains("high-water mark"));
    fs::write(&mark, &bytes).unwrap();
    open(dir.path()).unwrap().store.close();
    fs::rename(dir.path().join("wal"), dir.path().join("aside")).unwrap();
    assert!(lost(dir.path()).contains("its folder is gone"));
    fs::remove_dir(dir.path().join("wal")).unwrap();
    fs::rename(dir.path().join("aside"), dir.path().join("wal")).unwrap();
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    assert!(lost(dir.path()).contains("its folder is gone"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_damaged_mark_of_two_is_no_loss() {
    for slot in [0, 4_096] {
        let dir = filled().await;
        tamper(&dir.path().join("wal/mark"), |bytes| bytes[slot + 9] ^= 4);
        let parts = open(dir.path()).unwrap();
        assert_eq!(all(&parts.log).await.len(), 20);
        parts.store.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_gone_cut_short_or_of_another_log_are_found() {
    let dir = filled().await;
    let sound = fs::read(segment(dir.path())).unwrap();
    fs::remove_file(segment(dir.path())).unwrap();
    assert!(open(dir.path()).is_err_and(|e| e.is_lost()));
    for length in [0, 100, 4_096, sound.len() - 1] {
        fs::write(segment(dir.path()), &sound[..length]).unwrap();
        assert!(open(dir.path()).is_err_and(|e| e.is_lost()), "cut to {length}");
    }
    let other = filled().await;
    fs::copy(segment(other.path()), segment(dir.path())).unwrap();
    assert!(lost(dir.path()).contains("another log"));
    // With the mark of the other log too.
    fs::copy(other.path().join("wal/mark"), dir.path().join("wal/mark")).unwrap();
    assert!(lost(dir.path()).contains("another store"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_a_segment_is_found() {
    let dir = filled().await;
    let older = fs::read(segment(dir.path())).unwrap();
    let mut parts = open(dir.path()).unwrap();
    parts.log.blocking_append([entry(2, 20)]).await.unwrap();
    parts.store.close();
    fs::write(segment(dir.path()), &older).unwrap();
    assert!(lost(dir.path()).contains("were acknowledged"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_between_write_and_mark_is_no_loss() {
    let dir = filled().await;
    let mark = dir.path().join("wal/mark");
    let before = fs::read(&mark).unwrap();
    let mut parts = open(dir.path()).unwrap();
    parts.log.blocking_append([entry(2, 20), entry(2, 21)]).await.unwrap();
    vote(&mut parts.log, 3).await;
    parts.store.close();
    fs::write(&mark, before).unwrap();
    fs::write(dir.path().join("wal/mark.new"), b"half a mark").unwrap();
    let mut parts = open(dir.path()).unwrap();
    assert_eq!(all(&parts.log).await.len(), 22);
    assert_eq!(parts.log.read_vote().await.unwrap().unwrap().leader_id, leader(3));
    parts.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_that_was_never_acknowledged_is_written_over() {
    let dir = filled().await;
    tamper(&segment(dir.path()), |bytes| {
        let (at, length, _) = *records(bytes).last().unwrap();
        let torn = bytes[at..at + length - 8].to_vec();
        bytes[at + length..at + 2 * length - 8].copy_from_slice(&torn);
    });
    let mut parts = open(dir.path()).unwrap();
    assert_eq!(all(&parts.log).await.len(), 20);
    parts.log.blocking_append([entry(2, 20)]).await.unwrap();
    parts.store.close();
    let parts = open(dir.path()).unwrap();
    assert_eq!(all(&parts.log).await.len(), 21);
    parts.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_any_file_of_the_log_is_never_silent() {
    let dir = filled().await;
    let expected = (0..20).map(|i| entry(1 + i / 10, i)).collect::<Vec<_>>();
    let sound = fs::read(segment(dir.path())).unwrap();
    let records = records(&sound);
    let end = records.last().map(|(at, length, _)| at + length).unwrap();
    let mut seen = 0;
    let targets = records.iter().flat_map(|(at, length, _)| [at + 3, at + 20, at + length / 2, at + length - 9]);
    let beyond = [end + 1, end + 5_000, sound.len() - 1];
    for position in targets.chain(beyond) {
        let copy = tempfile::tempdir().unwrap();
        copy_all(dir.path(), copy.path());
        tamper(&segment(copy.path()), |bytes| bytes[position] ^= 16);
        match open(copy.path()) {
            Err(error) => {
                assert!(error.is_lost() && position < end, "{error}");
                seen += 1;
            }
            Ok(mut parts) => {
                assert!(position >= end, "the flip at {position} went unseen");
                assert_eq!(all(&parts.log).await, expected);
                assert_eq!(parts.log.read_vote().await.unwrap().unwrap().leader_id, leader(2));
                parts.store.close();
            }
        }
    }
    assert_eq!(seen, records.len() * 4);
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
