//! The judge: opens what is left of a store and compares it with what was acknowledged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hanse_raft::inside::{self, Parts};
use hanse_raft::{RaftError, StoreError};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt as _, RaftStateMachine};
use openraft::{RaftLogReader, Vote};
use serde::{Deserialize, Serialize};

use super::acks::Demand;
use super::{Entry, checksum, entry, leader, marker, open};

/// Reasons kept of one judgement.
const REASONS_MAX: usize = 8;
/// Makes the entry that the judge itself appends differ from any of the driver's.
const JUDGE_STREAM: u64 = u64::MAX;

/// What the judge is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The data folder.
    #[arg(long)]
    pub data: PathBuf,
    /// The file of acknowledgements.
    #[arg(long)]
    pub acks: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Acknowledgements that were compared: entries that had to be there, votes, snapshots.
    pub acked: u64,
    /// Acknowledged entries or snapshots that are not there, though the store opened.
    pub lost: u64,
    /// Votes that went back.
    pub votes_lost: u64,
    /// Things that are there and were never written there, or history that is not what was applied.
    pub silent: u64,
    /// The store said that it is lost.
    pub refused: u64,
    /// It was refused not at once but when what is damaged was read.
    pub found_on_read: u64,
    /// An acknowledged snapshot is not the one the state begins at, though an older one and the log suffice.
    pub snapshots_behind: u64,
    /// In words, the first few.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// Says whether everything acknowledged is there and equal.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lost + self.votes_lost + self.silent + self.refused + self.found_on_read == 0
    }

    fn say(&mut self, reason: impl Into<String>) {
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason.into());
        }
    }

    fn lost(&mut self, reason: impl Into<String>) {
        self.lost += 1;
        self.say(reason);
    }

    fn silent(&mut self, reason: impl Into<String>) {
        self.silent += 1;
        self.say(reason);
    }
}

/// Judges a folder and prints the verdict as one line of JSON.
///
/// # Errors
/// If it could not be judged; never because of what was found.
pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let demand = Demand::read(&options.acks)?;
    let verdict = runtime.context("start a runtime")?.block_on(judge(&options.data, &demand))?;
    println!("{}", serde_json::to_string(&verdict)?);
    Ok(())
}

/// Opens the store, compares, replays the log, reads all history, then writes on and opens it once more.
///
/// # Errors
/// If the system refuses (no file, no memory): that is no verdict.
pub async fn judge(data: &Path, demand: &Demand) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let Some(mut parts) = opened(data, "open", &mut verdict).await? else { return Ok(verdict) };
    let step = compare(&mut parts, demand, &mut verdict).await;
    let step = match step {
        Ok(()) => write_on(&mut parts).await,
        Err(error) => Err(error),
    };
    let store = parts.store.clone();
    drop(parts);
    tokio::task::spawn_blocking(move || store.close()).await.context("close the store")?;
    match step {
        Ok(()) => {}
        Err(error) if is_lost(&error) => {
            verdict.found_on_read += 1;
            verdict.say(format!("{error:#}"));
            return Ok(verdict);
        }
        Err(error) => return Err(error),
    }
    if let Some(mut parts) = opened(data, "open again", &mut verdict).await? {
        let log: Vec<Entry> = parts.log.try_get_log_entries(..).await.context("read the log again")?;
        if log.last().map(|e| e.log_id.leader_id.term) != Some(u64::from(u32::MAX)) {
            verdict.lost("the entry written after the cut is not there after a restart");
        }
        tokio::task::spawn_blocking(move || parts.store.close()).await.context("close the store")?;
    }
    Ok(verdict)
}

async fn opened(data: &Path, what: &str, verdict: &mut Verdict) -> Result<Option<Parts>> {
    let data = data.to_owned();
    match tokio::task::spawn_blocking(move || open(&data)).await.context("open the store")? {
        Ok(parts) => Ok(Some(parts)),
        Err(error @ StoreError::Lost { .. }) => {
            verdict.refused += 1;
            verdict.say(format!("{what}: {error}"));
            Ok(None)
        }
        Err(error) => Err(anyhow::Error::new(error).context(what.to_owned())),
    }
}

/// Says whether an error is the store's own word that it is lost, or a replay that came out different.
fn is_lost(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let store = cause.downcast_ref::<StoreError>().or_else(|| io.and_then(|e| e.downcast_ref()));
        let raft = cause.downcast_ref::<RaftError>().or_else(|| io.and_then(|e| e.downcast_ref()));
        store.is_some_and(StoreError::is_lost) || raft.is_some_and(RaftError::is_lost)
    })
}

async fn compare(parts: &mut Parts, demand: &Demand, verdict: &mut Verdict) -> Result<()> {
    let state = parts.log.get_log_state().await.context("read the ends of the log")?;
    let purged = state.last_purged_log_id.map(|id| id.index);
    let entries: Vec<Entry> = parts.log.try_get_log_entries(..).await.context("read the log")?;
    let applied = parts.machine.applied_state().await.context("read the applied index")?.0.map(|id| id.index);
    compare_log(&entries, purged, demand, verdict);
    if entries.last().map(|e| e.log_id).or(state.last_purged_log_id) != state.last_log_id {
        verdict.silent(format!("the log says it ends at {:?}", state.last_log_id));
    }
    if purged > demand.purge || purged > applied {
        verdict.silent(format!("purged to {purged:?}, asked {:?}, snapshot at {applied:?}", demand.purge));
    }
    if let Some(snapshot) = demand.snapshot {
        verdict.acked += 1;
        if applied.max(entries.last().map(|e| e.log_id.index)) < Some(snapshot) {
            verdict.lost(format!("a snapshot at {snapshot} was acknowledged, the state ends at {applied:?}"));
        } else if applied < Some(snapshot) {
            verdict.snapshots_behind += 1;
            verdict.say(format!("a snapshot at {snapshot} was acknowledged, the state begins at {applied:?}"));
        }
    }
    compare_vote(parts, demand, verdict).await?;
    replay(parts, entries, applied).await?;
    compare_history(parts, demand, purged, verdict).await
}

fn compare_log(entries: &[Entry], purged: Option<u64>, demand: &Demand, verdict: &mut Verdict) {
    let mut expected = purged.map_or(0, |index| index + 1);
    for entry in entries {
        let (index, term) = (entry.log_id.index, entry.log_id.leader_id.term);
        if index != expected {
            verdict.silent(format!("entry {index} stands where {expected} must"));
        }
        expected = index + 1;
        if !demand.written.get(&index).is_some_and(|set| set.contains(&(term, checksum(entry)))) {
            verdict.silent(format!("entry {index} of term {term} was never written so"));
        }
    }
    for (index, (term, crc)) in demand.acked.iter().filter(|(index, _)| purged.is_none_or(|p| **index > p)) {
        verdict.acked += 1;
        let place = entries.binary_search_by_key(index, |e| e.log_id.index);
        let found = place.ok().and_then(|i| entries.get(i));
        if found.is_none_or(|e| (e.log_id.leader_id.term, checksum(e)) != (*term, *crc)) {
            verdict.lost(format!("entry {index} of term {term} was acknowledged and is not there"));
        }
    }
}

async fn compare_vote(parts: &mut Parts, demand: &Demand, verdict: &mut Verdict) -> Result<()> {
    let vote = parts.log.read_vote().await.context("read the vote")?.map(|v| (v.leader_id.term, v.committed));
    verdict.acked += u64::from(demand.vote.is_some());
    if vote < demand.vote {
        verdict.votes_lost += 1;
        verdict.say(format!("vote {:?} was acknowledged, {vote:?} is there", demand.vote));
    }
    if vote.is_some_and(|vote| !demand.votes.contains(&vote)) {
        verdict.silent(format!("vote {vote:?} was never given"));
    }
    Ok(())
}

/// Applies the log after the snapshot; history that was written before must come out the same.
async fn replay(parts: &mut Parts, entries: Vec<Entry>, applied: Option<u64>) -> Result<()> {
    let rest = entries.into_iter().filter(|e| applied.is_none_or(|a| e.log_id.index > a)).map(|e| Ok((e, None)));
    parts.machine.apply(futures::stream::iter(rest.collect::<Vec<_>>())).await.context("replay the log")
}

/// Reads every record of history and checks the chain of hashes up to the head in the state.
async fn compare_history(parts: &Parts, demand: &Demand, purged: Option<u64>, verdict: &mut Verdict) -> Result<()> {
    let (store, machine) = (parts.store.clone(), parts.machine.clone());
    let read = move || inside::audit_records(&store, &machine);
    let (state, records) = tokio::task::spawn_blocking(read).await.context("read history")?.context("read history")?;
    if let Err(error) = hanse_state::audit::verify_against(records.iter(), &state.audit) {
        verdict.silent(format!("history: {error}"));
    }
    // An entry that was purged lives on in the state, and in the record of having been applied.
    let applied: BTreeMap<u64, &str> = records.iter().map(|r| (r.revision, r.detail.as_str())).collect();
    for (index, (term, _)) in
        demand.acked.iter().filter(|(index, _)| **index > 0 && purged.is_some_and(|p| **index <= p))
    {
        verdict.acked += 1;
        if applied.get(index).is_none_or(|detail| !detail.contains(&marker(*term, *index))) {
            verdict.lost(format!("entry {index} of term {term} was acknowledged, purged, and is not in history"));
        }
    }
    Ok(())
}

/// A store that survived must also take what comes next.
async fn write_on(parts: &mut Parts) -> Result<()> {
    let term = u64::from(u32::MAX);
    let state = parts.log.get_log_state().await.context("read the ends of the log")?;
    let next = state.last_log_id.map_or(0, |id| id.index + 1);
    parts.log.save_vote(&Vote { leader_id: leader(term), committed: true }).await.context("vote after the cut")?;
    let appended = parts.log.blocking_append([entry(term, next, JUDGE_STREAM, 100)]).await;
    appended.map_err(std::io::Error::other).context("append after the cut")
}
