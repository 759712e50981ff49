//! The driver: puts a store under a seeded load as openraft would, until it is killed.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use hanse_raft::ReplicaId;
use hanse_raft::inside::{Parts, Types};
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt as _;
use openraft::{RaftLogReader, RaftSnapshotBuilder, Vote};
use tokio::task::JoinHandle;

use super::acks::{Acks, Step};
use super::{Entry, checksum, entry, leader, log_id, open};
use crate::rng::Rng;

/// Appends that may be in flight, as openraft pipelines them.
const IN_FLIGHT_MAX: usize = 8;
/// Entries of one append at most.
const BATCH_MAX: u64 = 8;
/// Longest filler of an ordinary entry, in bytes.
const FILLER_MAX: u64 = 1_500;
/// Filler of a rare long entry, in bytes.
const FILLER_LONG: u64 = 40_000;

/// What the driver is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The data folder.
    #[arg(long)]
    pub data: PathBuf,
    /// The file of acknowledgements, outside the disk under test.
    #[arg(long)]
    pub acks: PathBuf,
    /// Where the randomness begins.
    #[arg(long)]
    pub seed: u64,
    /// Steps to do; then it closes the store and ends. 0: until killed.
    #[arg(long, default_value_t = 0)]
    pub steps: u64,
    /// A mutant: entries are acknowledged when they can be read, before they are durable.
    #[arg(long)]
    pub ack_early: bool,
}

/// Drives the store.
///
/// # Errors
/// The first step that fails, as every step does once the disk is gone.
pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("start a runtime")?.block_on(drive(options))
}

async fn drive(options: &Options) -> Result<()> {
    let mut driver = Driver::start(options).await?;
    let mut step = 0;
    while options.steps == 0 || step < options.steps {
        driver.step().await?;
        step += 1;
    }
    driver.settle().await?;
    let store = driver.parts.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await.context("close the store")
}

struct Driver {
    parts: Parts,
    acks: Arc<Mutex<Acks>>,
    rng: Rng,
    /// Makes the entries of two runs on one store differ.
    stream: u64,
    term: u64,
    /// Terms of the entries in the log, by index.
    terms: BTreeMap<u64, u64>,
    /// Index of the next entry.
    next: u64,
    applied: Option<u64>,
    snapshot: Option<u64>,
    /// Appends in flight, oldest first.
    waiting: VecDeque<JoinHandle<Result<()>>>,
    /// Entries not yet applied, in order.
    tail: VecDeque<Entry>,
    ack_early: bool,
}

/// A replica that is not the leader of any entry ([`super::leader`]).
const FOLLOWER: ReplicaId = ReplicaId(2);

impl Driver {
    /// Opens the store; what an earlier run left is applied, as openraft would.
    async fn start(options: &Options) -> Result<Self> {
        let acks = Acks::append(&options.acks)?;
        let data = options.data.clone();
        let opened = tokio::task::spawn_blocking(move || open(&data)).await.context("open the store")?;
        let mut parts = opened.context("open the store")?;
        // Every other store is a follower's, which syncs where it appends; whoever acknowledges early must not find that done.
        if options.seed % 2 == 1 && !options.ack_early {
            parts.log.belong_to(FOLLOWER);
        }
        let applied = parts.machine.applied_state().await.context("read the applied index")?.0.map(|id| id.index);
        let state = parts.log.get_log_state().await.context("read the ends of the log")?;
        let term = parts.log.read_vote().await.context("read the vote")?.map_or(0, |vote| vote.leader_id.term);
        let entries: Vec<Entry> = parts.log.try_get_log_entries(..).await.context("read the log")?;
        let terms = entries.iter().map(|e| (e.log_id.index, e.log_id.leader_id.term)).collect();
        let mut driver = Self {
            parts,
            acks: Arc::new(Mutex::new(acks)),
            rng: Rng::new(options.seed),
            stream: options.seed,
            term,
            terms,
            next: state.last_log_id.map_or(0, |id| id.index + 1),
            applied,
            snapshot: applied,
            waiting: VecDeque::new(),
            tail: entries.into_iter().filter(|e| applied.is_none_or(|a| e.log_id.index > a)).collect(),
            ack_early: options.ack_early,
        };
        let all = driver.tail.len();
        driver.apply(all).await?;
        driver.vote().await?;
        Ok(driver)
    }

    async fn step(&mut self) -> Result<()> {
        match self.rng.within(1, 100) {
            1..=66 => self.append().await,
            67..=72 => self.vote().await,
            73..=77 => self.truncate().await,
            78..=95 => {
                let some = self.rng.index(40) + 1;
                self.apply(some).await
            }
            _ => self.snapshot().await,
        }
    }

    fn begin(&self, step: Step) -> Result<()> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).begin(step)
    }

    fn done(&self, step: Step) -> Result<()> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).done(step)
    }

    async fn append(&mut self) -> Result<()> {
        if self.waiting.len() >= IN_FLIGHT_MAX {
            self.wait_for_one().await?;
        }
        let mut batch = Vec::new();
        for _ in 0..self.rng.within(1, BATCH_MAX) {
            let filler = if self.rng.one_in(60) { FILLER_LONG } else { self.rng.within(0, FILLER_MAX) };
            batch.push(entry(self.term, self.next, self.stream, usize::try_from(filler)?));
            self.terms.insert(self.next, self.term);
            self.next += 1;
        }
        let step = |e: &Entry| Step::Entry { term: e.log_id.leader_id.term, index: e.log_id.index, crc: checksum(e) };
        let steps: Vec<Step> = batch.iter().map(step).collect();
        for step in &steps {
            self.begin(*step)?;
        }
        self.tail.extend(batch.iter().cloned());
        let (sender, answer) = Types::oneshot();
        self.parts.log.append(batch, IOFlushed::signal(sender)).await.context("append")?;
        if self.ack_early {
            for step in &steps {
                self.done(*step)?;
            }
        }
        let (acks, late) = (self.acks.clone(), !self.ack_early);
        self.waiting.push_back(tokio::spawn(async move {
            answer.await.context("the store dropped an append")?.context("append")?;
            let mut acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
            for step in steps.into_iter().filter(|_| late) {
                acks.done(step)?;
            }
            Ok(())
        }));
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<()> {
        match self.waiting.pop_front() {
            Some(waiting) => waiting.await.context("wait for an append")?,
            None => Ok(()),
        }
    }

    /// Waits until every append is acknowledged.
    async fn settle(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    /// Moves on by a term, as a candidate that wins.
    async fn vote(&mut self) -> Result<()> {
        self.term += 1;
        for committed in [false, true] {
            let step = Step::Vote { term: self.term, committed };
            self.begin(step)?;
            self.parts.log.save_vote(&Vote { leader_id: leader(self.term), committed }).await.context("save a vote")?;
            self.done(step)?;
        }
        Ok(())
    }

    /// Cuts some of what is not applied, as a follower does that another leader overrules.
    async fn truncate(&mut self) -> Result<()> {
        self.settle().await?;
        if self.tail.len() < 2 {
            return Ok(());
        }
        let kept = self.rng.index(self.tail.len() - 1);
        self.tail.truncate(kept + 1);
        let last = self.tail.back().context("an entry is kept")?.log_id;
        self.begin(Step::Truncate(last.index))?;
        self.parts.log.truncate_after(Some(last)).await.context("truncate")?;
        self.done(Step::Truncate(last.index))?;
        self.next = last.index + 1;
        self.terms.split_off(&self.next);
        self.vote().await
    }

    /// Applies up to so many entries, which writes history.
    async fn apply(&mut self, some: usize) -> Result<()> {
        self.settle().await?;
        let count = some.min(self.tail.len());
        let entries: Vec<Entry> = self.tail.drain(..count).collect();
        let Some(last) = entries.last().map(|e| e.log_id.index) else { return Ok(()) };
        let items = futures::stream::iter(entries.into_iter().map(|e| Ok((e, None))));
        self.parts.machine.apply(items).await.context("apply")?;
        self.applied = Some(last);
        Ok(())
    }

    async fn snapshot(&mut self) -> Result<()> {
        self.settle().await?;
        let Some(applied) = self.applied.filter(|a| self.snapshot.is_none_or(|s| *a > s)) else { return Ok(()) };
        self.begin(Step::Snapshot(applied))?;
        self.parts.machine.get_snapshot_builder().await.build_snapshot().await.context("build a snapshot")?;
        self.done(Step::Snapshot(applied))?;
        self.snapshot = Some(applied);
        if self.rng.one_in(3) {
            return Ok(());
        }
        let index = applied.saturating_sub(self.rng.within(0, 20));
        let Some(term) = self.terms.get(&index).copied() else { return Ok(()) };
        self.begin(Step::Purge(index))?;
        self.parts.log.purge(log_id(term, index)).await.context("purge")?;
        self.done(Step::Purge(index))?;
        self.terms = self.terms.split_off(&(index + 1));
        Ok(())
    }
}
