//! The log on a disk that loses power, fails, or is full: what was acknowledged is there, and the open never refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use hanse_raft::inside::{Disk, EntryBytes, LogStore, Options, Wal, log_alone};
use hanse_raft::{ReplicaId, StoreError};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{EntryPayload, LogId, RaftLogReader, Vote};
use proptest::prelude::*;

use crate::harness::eventually;
use crate::sim_disk::{Dice, SimDisk};

type Id = LogId<LeaderId<u64, ReplicaId>>;
type Entry = openraft::Entry<LeaderId<u64, ReplicaId>, EntryPayload<EntryBytes, ReplicaId, hanse_raft::Member>>;

/// Small, so that a run crosses many segments.
const OPTIONS: Options = Options { first_bytes: 8 * 1024, segment_bytes: 32 * 1024, kept_bytes_max: 8 * 1024 };

fn leader(term: u64) -> LeaderId<u64, ReplicaId> {
    LeaderId { term, node_id: ReplicaId(1) }
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let fill = (term * 31 + index).to_be_bytes();
    let body: Vec<u8> = fill.iter().copied().cycle().take(bytes).collect();
    Entry { log_id: LogId::new(leader(term), index), payload: EntryPayload::Normal(EntryBytes(body.into())) }
}

/// What a log says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    purged: Option<Id>,
    entries: Vec<Entry>,
    vote: u64,
}

impl Model {
    fn last(&self) -> Option<Id> {
        self.entries.last().map(|e| e.log_id).or(self.purged)
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(entry) => self.entries.push(entry.clone()),
            Step::Vote(term) => self.vote = *term,
            Step::Truncate(keep) => self.entries.retain(|e| keep.is_some_and(|id| e.log_id.index <= id.index)),
            Step::Purge(upto) => {
                self.entries.retain(|e| e.log_id.index > upto.index);
                self.purged = Some(*upto);
            }
        }
    }
}

async fn read(log: &mut LogStore) -> Model {
    let state = log.get_log_state().await.unwrap();
    let entries = log.try_get_log_entries(..).await.unwrap();
    let vote = log.read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term);
    let model = Model { purged: state.last_purged_log_id, entries, vote };
    assert_eq!(model.last(), state.last_log_id);
    model
}

/// One record's worth of change.
#[derive(Clone, Debug)]
enum Step {
    Append(Entry),
    Vote(u64),
    Truncate(Option<Id>),
    Purge(Id),
}

/// Draws the next call, as the steps it is made of.
fn draw(model: &Model, dice: &mut Dice) -> Vec<Step> {
    let (first, last) = (model.entries.first(), model.last());
    match dice.below(12) {
        0 | 1 => vec![Step::Vote(model.vote + 1)],
        2 if first.is_some() => {
            let place = usize::try_from(dice.below(model.entries.len() as u64)).unwrap();
            let keep = place.checked_sub(1).map(|before| model.entries[before].log_id).or(model.purged);
            vec![Step::Truncate(keep)]
        }
        3 if first.is_some() => {
            let place = usize::try_from(dice.below(model.entries.len() as u64)).unwrap();
            vec![Step::Purge(model.entries[place].log_id)]
        }
        _ => {
            let next = last.map_or(0, |id| id.index + 1);
            let term = last.map_or(1, |id| id.leader_id.term).max(model.vote);
            let sizes = (0..=dice.below(4)).map(|_| usize::try_from(dice.below(3_000)).unwrap());
            (next..).zip(sizes).map(|(index, bytes)| Step::Append(entry(term, index, bytes))).collect()
        }
    }
}

/// Makes the call.
fn call(log: &LogStore, steps: &[Step]) -> BoxFuture<'static, bool> {
    let mut log = log.clone();
    let (first, entries) = (
        steps[0].clone(),
        steps.iter().filter_map(|step| match step {
            Step::Append(entry) => Some(entry.clone()),
            Step::Vote(_) | Step::Truncate(_) | Step::Purge(_) => None,
        }),
    );
    let entries: Vec<_> = entries.collect();
    Box::pin(async move {
        match first {
            Step::Append(_) => log.blocking_append(entries).await.is_ok(),
            Step::Vote(term) => log.save_vote(&Vote { leader_id: leader(term), committed: true }).await.is_ok(),
            Step::Truncate(keep) => log.truncate_after(keep).await.is_ok(),
            // Its answer is no promise.
            Step::Purge(upto) => {
                // An error here is seen by the next call, which fails as well.
                let _ = log.purge(upto).await;
                false
            }
        }
    })
}

/// Runs until the power goes. Gives what must be there, and every step that may be there in addition.
async fn run(log: &LogStore, mut model: Model, dice: &mut Dice) -> (Model, Vec<Step>) {
    let mut certain = model.clone();
    let mut open: Vec<Step> = Vec::new();
    for _ in 0..200 {
        let mut batch = Vec::new();
        for _ in 0..=dice.below(6) {
            let steps = draw(&model, dice);
            steps.iter().for_each(|step| model.apply(step));
            batch.push(steps);
        }
        let answers = join_all(batch.iter().map(|steps| call(log, steps))).await;
        let alive = answers.last().copied().unwrap_or(true) || log.clone().save_vote(&vote(&mut model)).await.is_ok();
        if alive {
            // Answers come in order: what came after is durable, and so is this.
            open.clear();
            certain = model.clone();
            continue;
        }
        let acknowledged = answers.iter().rposition(|answer| *answer).map_or(0, |at| at + 1);
        batch[..acknowledged].iter().flatten().for_each(|step| certain.apply(step));
        open.extend(batch[acknowledged..].iter().flatten().cloned());
        open.push(Step::Vote(model.vote));
        return (certain, open);
    }
    (certain, open)
}

fn vote(model: &mut Model) -> Vote<LeaderId<u64, ReplicaId>> {
    model.vote += 1;
    Vote { leader_id: leader(model.vote), committed: true }
}

/// Checks that what was found is what must be there, and a part of the rest in order.
fn check(found: &Model, certain: &Model, open: &[Step]) {
    let mut allowed = certain.clone();
    if *found == allowed {
        return;
    }
    for step in open {
        allowed.apply(step);
        if *found == allowed {
            return;
        }
    }
    let ends = |model: &Model| (model.purged, model.last(), model.vote);
    panic!("found {:?}, acknowledged {:?}, then {} steps open", ends(found), ends(certain), open.len());
}

fn open(disk: &SimDisk) -> Result<(Wal, LogStore), StoreError> {
    log_alone(Arc::new(disk.clone()), OPTIONS)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Several lives of one log; each ends with a power cut, a kill or a clean end at a drawn moment.
async fn lives(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut disk = SimDisk::default();
    let (mut certain, mut maybe) = (Model::default(), Vec::new());
    for _ in 0..5 {
        let fuse = if dice.below(3) == 0 { 12 } else { 400 };
        disk.cut_after(dice.below(fuse));
        match open(&disk) {
            Ok((wal, mut log)) => {
                let found = read(&mut log).await;
                check(&found, &certain, &maybe);
                (certain, maybe) = run(&log, found, &mut dice).await;
                if dice.below(4) == 0 {
                    disk = disk.after_kill();
                    wal.close();
                    continue;
                }
                wal.close();
            }
            // The power went while it opened; nothing was acknowledged.
            Err(StoreError::Io { .. }) => {}
            Err(error) => panic!("a healthy log was refused: {error}"),
        }
        disk = disk.after_cut(&mut dice);
    }
    let (wal, mut log) = open(&disk).unwrap();
    check(&read(&mut log).await, &certain, &maybe);
    wal.close();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_power_cut_takes_what_was_acknowledged_or_makes_the_log_refuse(seed: u64) {
        runtime().block_on(lives(seed));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_acknowledged_and_none_is_tried_again() {
    let disk = SimDisk::default();
    let (wal, mut log) = open(&disk).unwrap();
    log.blocking_append([entry(1, 0, 100)]).await.unwrap();
    // The mark is synced while idle, and the next segment is made: neither may take the failure.
    eventually("the log is idle", async || {
        let before = disk.syncs();
        tokio::time::sleep(Duration::from_millis(100)).await;
        (disk.syncs() == before).then_some(())
    })
    .await;
    disk.fail_next_sync();
    let error = log.blocking_append([entry(1, 1, 100)]).await.unwrap_err().to_string();
    assert!(error.contains("cannot sync the log"), "{error}");
    let syncs = disk.syncs();
    for index in 2..5 {
        let error = log.blocking_append([entry(1, index, 100)]).await.unwrap_err().to_string();
        assert!(error.contains("has failed before"), "{error}");
    }
    assert!(log.save_vote(&Vote { leader_id: leader(2), committed: true }).await.is_err());
    wal.close();
    assert_eq!(disk.syncs(), syncs, "something was synced after the failure");
    let (wal, mut log) = open(&disk.after_cut(&mut Dice::new(3))).unwrap();
    assert!(!read(&mut log).await.entries.is_empty());
    wal.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_in_words_and_waited_for_and_nothing_is_lost() {
    let disk = SimDisk::default();
    let (wal, log) = open(&disk).unwrap();
    eventually("the next segment is made", async || {
        disk.list().unwrap().iter().any(|name| name.ends_with("2.log")).then_some(())
    })
    .await;
    disk.limit(Some(8 * 1024 + 8 * 1024 + 32 * 1024 + 16 * 1024));
    // The reserve takes what comes after the refusals began; then an entry waits, and it goes on when there is room.
    let (mut writer, done) = (log.clone(), Arc::new(AtomicU64::new(0)));
    let count = done.clone();
    let waiting = tokio::spawn(async move {
        for index in 0..200 {
            writer.blocking_append([entry(1, index, 1_000)]).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    eventually("refusals begin", async || wal.short_of_space()).await;
    eventually("the reserve is used", async || (done.load(Ordering::Relaxed) >= 10).then_some(())).await;
    assert!(!waiting.is_finished() && wal.short_of_space().is_some());
    disk.limit(None);
    waiting.await.unwrap();
    let mut acknowledged = 200;
    eventually("there is room again", async || wal.short_of_space().is_none().then_some(())).await;
    // The end does not wait for room, and what was not acknowledged was never promised.
    disk.limit(Some(0));
    let mut writer = log.clone();
    let from = acknowledged;
    let refused = tokio::spawn(async move {
        for index in from..from + 1_000 {
            writer.blocking_append([entry(1, index, 1_000)]).await.map_err(|error| (index, error.to_string()))?;
        }
        Ok(())
    });
    eventually("the next segment cannot be made", async || wal.short_of_space().is_some().then_some(())).await;
    wal.close();
    let (index, error) = refused.await.unwrap().unwrap_err();
    acknowledged = index;
    assert!(["cannot make segment", "closed"].iter().any(|words| error.contains(words)), "{error}");
    let disk = disk.after_kill();
    disk.limit(None);
    let (wal, mut log) = open(&disk).unwrap();
    let found = read(&mut log).await;
    let there = found.entries.len() as u64;
    assert!(there >= acknowledged, "{acknowledged} were acknowledged, {there} are there");
    for index in there..there + 50 {
        log.blocking_append([entry(1, index, 1_000)]).await.unwrap();
    }
    assert!(wal.short_of_space().is_none());
    wal.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_hold_only_purged_entries_go_and_a_missing_one_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let folder = || Arc::new(hanse_raft::inside::Folder::open(dir.path()).unwrap());
    let (wal, mut log) = log_alone(folder(), OPTIONS).unwrap();
    for index in 0..200 {
        log.blocking_append([entry(1, index, 1_000)]).await.unwrap();
    }
    let segments = || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".log")).collect();
        names.sort();
        names
    };
    let before = segments();
    assert!(before.len() >= 7, "{before:?}");
    log.purge(entry(1, 100, 0).log_id).await.unwrap();
    eventually("old segments are removed", async || (segments().len() < before.len() - 2).then_some(())).await;
    wal.close();
    let (wal, mut log) = log_alone(folder(), OPTIONS).unwrap();
    let found = read(&mut log).await;
    assert_eq!(found.entries, (101..200).map(|index| entry(1, index, 1_000)).collect::<Vec<_>>());
    wal.close();
    let left = segments();
    for (place, words) in [(0, "a hole"), (1, "a hole"), (left.len() - 2, "")] {
        let (path, aside) = (dir.path().join(&left[place]), dir.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        let error = log_alone(folder(), OPTIONS).err().unwrap();
        assert!(error.is_lost() && error.to_string().contains(words), "{error}");
        std::fs::rename(&aside, &path).unwrap();
    }
    let (wal, _) = log_alone(folder(), OPTIONS).unwrap();
    wal.close();
}
