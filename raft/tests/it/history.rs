//! A long history: a start and a page read little of it, a power cut takes nothing that was durable, damage is found.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hanse_raft::inside::{Disk as _, Folder, HistoryFiles, records_read_and_sent, sealed_record};
use hanse_raft::{ReplicaId, Seed, StoreError};
use hanse_state::{State, apply};

use crate::harness::{LIMIT, Trio, eventually, request};
use crate::sim_disk::{Dice, SimDisk};

type Heads = BTreeMap<String, u64>;

fn body(kind: &str, seq: u64) -> Vec<u8> {
    let length = usize::try_from(seq * 37 % 180).unwrap();
    format!("{kind} {seq} ").bytes().chain(std::iter::repeat_n(b'.', length)).collect()
}

/// Appends records `from..=to` of a kind.
fn append(files: &HistoryFiles, kind: &str, from: u64, to: u64) -> Result<(), StoreError> {
    let records: Vec<_> = (from..=to).map(|seq| sealed_record(kind, seq, &body(kind, seq))).collect();
    files.append(records.iter().map(|(key, value)| (key, value)))
}

fn expect(files: &HistoryFiles, kind: &str, from: u64, to: u64) {
    let wanted: Vec<_> = (from..=to).map(|seq| (seq, body(kind, seq))).collect();
    assert_eq!(files.read(kind, from, to, usize::MAX).unwrap(), wanted);
}

fn heads(of: &[(&str, u64)]) -> Heads {
    of.iter().map(|(kind, last)| ((*kind).to_owned(), *last)).collect()
}

/// History of 40,000 audit records in segments of 256 KiB, and one of another kind.
fn long(dir: &Path) -> Heads {
    let files = HistoryFiles::open_sized(Arc::new(Folder::open(dir).unwrap()), &Heads::new(), SMALL).unwrap();
    for from in (1..40_000).step_by(2_500) {
        append(&files, "audit", from, from + 2_499).unwrap();
    }
    append(&files, "usage", 1, 1).unwrap();
    heads(&[("audit", 40_000), ("usage", 1)])
}

const SMALL: u32 = 256 * 1024;

fn reopen(dir: &Path, durable: &Heads) -> Result<HistoryFiles, StoreError> {
    HistoryFiles::open_sized(Arc::new(Folder::open(dir).unwrap()), durable, SMALL)
}

#[test]
fn a_start_reads_the_last_segment_and_a_page_reads_itself() {
    let dir = tempfile::tempdir().unwrap();
    let durable = long(dir.path());
    let files = reopen(dir.path(), &durable).unwrap();
    assert_eq!(files.heads(), durable);
    let at_start = files.looked_at();
    // A record has 50 bytes at least, and a segment is 256 KiB long.
    assert!((1..=u64::from(SMALL) / 50).contains(&at_start), "{at_start} of 40,000 records were read");
    for from in [1, 2, 4_999, 20_000, 39_501, 39_990] {
        let before = files.looked_at();
        let page = files.read("audit", from, 40_000, 500).unwrap();
        let wanted = 500.min(40_000 - from + 1);
        assert_eq!((page.len() as u64, page[0].0), (wanted, from));
        assert_eq!(files.looked_at() - before, wanted);
        assert_eq!(page[0].1, body("audit", from));
    }
    expect(&files, "audit", 1, 40_000);
    expect(&files, "usage", 1, 1);
    assert!(files.read("operation", 1, 10, 10).unwrap().is_empty());
}

#[test]
fn what_is_there_is_never_made_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let durable = long(dir.path());
    let files = reopen(dir.path(), &durable).unwrap();
    // A replay makes the same again.
    append(&files, "audit", 39_900, 40_010).unwrap();
    expect(&files, "audit", 39_900, 40_010);
    let other = sealed_record("audit", 7, b"another");
    let error = files.append([(&other.0, &other.1)].into_iter()).unwrap_err();
    assert!(error.is_lost() && error.to_string().contains("another one is there"), "{error}");
    let error = append(&files, "audit", 40_012, 40_012).unwrap_err();
    assert!(error.is_lost() && error.to_string().contains("does not follow"), "{error}");
    let error = append(&files, "usage", 3, 3).unwrap_err();
    assert!(error.is_lost(), "{error}");
}

/// Changes a file of the folder.
fn tamper(dir: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(dir.join(name)).unwrap();
    change(&mut bytes);
    std::fs::write(dir.join(name), bytes).unwrap();
}

/// Opens, or if that succeeds reads everything; gives the loss that was found.
fn found(dir: &Path, durable: &Heads) -> Option<String> {
    let all = || {
        let files = reopen(dir, durable)?;
        durable.iter().try_for_each(|(kind, last)| {
            let records = files.read(kind, 1, *last, usize::MAX)?;
            assert_eq!(records, (1..=*last).map(|seq| (seq, body(kind, seq))).collect::<Vec<_>>());
            Ok(())
        })
    };
    match all() {
        Ok(()) => None,
        Err(error @ StoreError::Lost { .. }) => Some(error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn damage_is_found_at_the_start_or_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let durable = long(dir.path());
    assert_eq!(found(dir.path(), &durable), None);
    let mut names = Folder::open(dir.path()).unwrap().list().unwrap();
    names.sort();
    assert!(names.len() > 20, "{names:?}");
    let mut dice = Dice::new(11);
    for name in &names {
        let sound = std::fs::read(dir.path().join(name)).unwrap();
        let middle = usize::try_from(dice.below(sound.len() as u64)).unwrap();
        for position in [0, 4, 9, 20, middle, sound.len() - 1] {
            tamper(dir.path(), name, |bytes| bytes[position] ^= 1 << dice.below(8));
            assert!(found(dir.path(), &durable).is_some(), "a bit of {name} at {position} went unseen");
            std::fs::write(dir.path().join(name), &sound).unwrap();
        }
        for length in [0, 10, middle, sound.len() - 1] {
            std::fs::write(dir.path().join(name), &sound[..length]).unwrap();
            assert!(found(dir.path(), &durable).is_some(), "{name} cut to {length} went unseen");
            std::fs::write(dir.path().join(name), &sound).unwrap();
        }
        std::fs::remove_file(dir.path().join(name)).unwrap();
        assert!(reopen(dir.path(), &durable).is_err_and(|e| e.is_lost()), "{name} is gone, which went unseen");
        std::fs::write(dir.path().join(name), &sound).unwrap();
    }
    assert_eq!(found(dir.path(), &durable), None);
    // An older copy of the last segment.
    let last = names.iter().rfind(|name| name.starts_with("audit") && name.ends_with(".records")).unwrap();
    let older = std::fs::read(dir.path().join(last)).unwrap();
    append(&reopen(dir.path(), &durable).unwrap(), "audit", 40_001, 40_020).unwrap();
    std::fs::write(dir.path().join(last), older).unwrap();
    assert!(found(dir.path(), &heads(&[("audit", 40_020), ("usage", 1)])).unwrap().contains("40001"));
}

#[test]
fn a_power_cut_takes_nothing_that_was_durable() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed * 7_919 + 1);
        let mut disk = SimDisk::default();
        let mut durable = Heads::new();
        for _ in 0..4 {
            let files = HistoryFiles::open_sized(Arc::new(disk.clone()), &durable, 2_048);
            let files = files.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            for (kind, last) in &durable {
                expect(&files, kind, 1, *last);
            }
            // What lies beyond is whole, too.
            for (kind, last) in files.heads() {
                assert!(last >= durable.get(&kind).copied().unwrap_or(0), "seed {seed}");
                expect(&files, &kind, 1, last);
            }
            disk.cut_after(dice.below(60));
            loop {
                let kind = ["audit", "usage"][usize::try_from(dice.below(2)).unwrap()];
                // From what the store knows on: what was torn is made again.
                let from = durable.get(kind).copied().unwrap_or(0) + 1;
                let to = from + dice.below(40);
                if append(&files, kind, from, to).is_err() {
                    break;
                }
                durable.insert(kind.to_owned(), to);
            }
            disk = disk.after_cut(&mut dice);
        }
        assert!(durable.values().sum::<u64>() > 0 || seed > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_starts_and_pages_without_reading_its_whole_history() {
    const RECORDS: u64 = 150_000;
    let mut trio = Trio::new(10_000);
    trio.members.retain(|id, _| id.0 == 1);
    let mut seed = Seed::begin(&trio.data_dir(1)).await.unwrap();
    let mut state = State::default();
    for index in 1..=RECORDS {
        for record in apply(&mut state, index, &request("long")).records {
            seed.record(&record).await.unwrap();
        }
    }
    seed.finish(&state, trio.members.clone()).await.unwrap();
    trio.start(1).await;
    let replica = trio.leader().await;
    let (at_start, _) = records_read_and_sent(&replica);
    assert!(at_start < RECORDS / 2, "{at_start} of {RECORDS} records were read at the start");
    for after in [0, 1, RECORDS / 3, RECORDS / 2, RECORDS - 600, RECORDS - 1] {
        let (before, _) = records_read_and_sent(&replica);
        let page = replica.history("audit", after, 500).await.unwrap();
        let wanted = 500.min(RECORDS - after);
        assert_eq!((page.len() as u64, page[0].seq()), (wanted, after + 1));
        assert_eq!(records_read_and_sent(&replica).0 - before, wanted);
    }
    // It goes on, and what is new is there at once and after a restart.
    let applied = trio.propose("after").await;
    assert_eq!(replica.history("audit", RECORDS, 10).await.unwrap().len(), 1);
    trio.stop_all().await;
    trio.start(1).await;
    let replica = trio.leader().await;
    assert_eq!(replica.local().revision, applied.revision);
    assert_eq!(replica.history("audit", RECORDS - 1, 10).await.unwrap().len(), 2);
    trio.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_away_is_sent_only_what_it_lacks() {
    let mut trio = Trio::start_all(50).await;
    let mut applied = trio.propose("first").await;
    for number in 0..200 {
        applied = trio.propose(&format!("a{number}")).await;
    }
    trio.agree(applied.revision).await;
    trio.stop(ReplicaId(3)).await;
    for number in 0..150 {
        applied = trio.propose(&format!("b{number}")).await;
    }
    let leader = trio.leader().await;
    eventually("the log that it needs is purged", async || {
        (leader.status().purged? > applied.revision - 100).then_some(())
    })
    .await;
    let sent = |trio: &Trio| trio.replicas.values().map(|r| records_read_and_sent(r).1).sum::<u64>();
    let before = sent(&trio);
    trio.start(3).await;
    trio.agree(applied.revision).await;
    let came = sent(&trio) - before;
    assert!((1..=150).contains(&came), "{came} records were sent, it lacked 150, within {LIMIT:?}");
    let theirs = leader.history("audit", 0, 1_000).await.unwrap();
    assert_eq!(trio.replicas[&ReplicaId(3)].history("audit", 0, 1_000).await.unwrap(), theirs);
    trio.stop_all().await;
}
