//! Exchanges of one replica's program after the other, and the raise at the end.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hanse_client::pb;
use hanse_state::cluster::version::Version;

use super::{Figures, SNAPSHOT_EVERY};
use crate::processes::chance::Chance;
use crate::processes::clients::UP_MAX;
use crate::processes::stage::{Stage, resumed};

/// Percent of the exchanges in which the old program is killed instead of stopped.
const KILL_PERCENT: u64 = 40;
/// Entries that the others write meanwhile, at least: more than the log keeps behind a snapshot.
const AWAY: u64 = 3 * SNAPSHOT_EVERY;
/// A replica must have caught up after so long.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(60);
/// The older program must have refused after so long.
const REFUSED_MAX: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a replica says when it has installed a snapshot.
const INSTALLED: &str = "Done install complete snapshot";
/// How a program ends that cannot read what the cluster writes: an entry of the raise, or a snapshot behind it.
const TOO_OLD: i32 = 80;
/// With this and [`ENDED_BY_ITSELF`] the program of version 5 ends instead now and then, if it notices that its replica has ended before it
/// hears why; the reason is among its words all the same. Programs since tell the reason first.
const FAILED: i32 = 1;
const ENDED_BY_ITSELF: &str = "a part of the replica ended by itself";

/// A run under way.
pub(crate) struct Exchanges<'a> {
    stage: &'a mut Stage,
    older: PathBuf,
    newer: PathBuf,
    /// Replicas that run the newer program.
    new: Vec<u64>,
    chance: Chance,
    figures: Figures,
}

impl<'a> Exchanges<'a> {
    /// A run on a stage whose replicas all run the older program.
    pub(crate) fn new(stage: &'a mut Stage, older: &Path, newer: &Path, seed: u64) -> Self {
        let (older, newer) = (older.to_path_buf(), newer.to_path_buf());
        Self { stage, older, newer, new: Vec::new(), chance: Chance::new(seed, 13), figures: Figures::default() }
    }

    /// Plays so many rounds, and the raise. One that fails is the last.
    ///
    /// # Errors
    /// The harness failed.
    pub(crate) fn play(mut self, rounds: u64) -> Result<Figures> {
        for _ in 0..rounds {
            if let Err(error) = self.up().and_then(|()| self.down()) {
                self.figures.wrong.push(format!("{error:#}"));
                return Ok(self.figures);
            }
            self.figures.rounds += 1;
        }
        if let Err(error) = self.up().and_then(|()| self.raise()) {
            self.figures.wrong.push(format!("{error:#}"));
        }
        Ok(self.figures)
    }

    /// All to the newer program.
    fn up(&mut self) -> Result<()> {
        for id in self.order() {
            self.exchange(id, true)?;
            if self.new.len() < self.stage.cluster.ids().len() {
                self.refuses_to_raise()?;
            }
        }
        Ok(())
    }

    /// All to the older program.
    fn down(&mut self) -> Result<()> {
        self.order().into_iter().try_for_each(|id| self.exchange(id, false))
    }

    fn order(&mut self) -> Vec<u64> {
        let mut ids = self.stage.cluster.ids();
        self.chance.shuffle(&mut ids);
        ids
    }

    /// Ends one replica, lets the others go on until the log has passed it, and starts it with the other program.
    fn exchange(&mut self, id: u64, up: bool) -> Result<()> {
        let leader = self.leader()?;
        let killed = self.chance.percent(KILL_PERCENT);
        let before = self.installs(id)?;
        if killed {
            self.stage.cluster.kill(id)?;
        } else {
            self.stage.cluster.stop(id)?;
        }
        let book = &self.stage.book;
        let mark = book.now();
        while book.last_ack_called() < mark {
            self.pause(mark, "a write is acknowledged without the replica that is away")?;
        }
        let grown = self.newest()? + AWAY;
        while self.newest()? < grown {
            self.pause(mark, "the log grows")?;
        }
        let program = if up { self.newer.clone() } else { self.older.clone() };
        self.stage.cluster.set_program(id, &program)?;
        self.new.retain(|other| *other != id);
        if up {
            self.new.push(id);
        }
        self.stage.cluster.start(id)?;
        let took = self.caught_up(id)?;
        self.figures.caught_up_ms.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let installs = self.installs(id)?.saturating_sub(before);
        *self.figures.installed.entry(if up { "newer" } else { "older" }).or_default() += installs;
        self.same()?;
        self.count(id, up, leader == id, killed)
    }

    fn count(&mut self, id: u64, up: bool, led: bool, killed: bool) -> Result<()> {
        let leads = self.leader()?;
        let lead = if self.new.contains(&leads) { "newer" } else { "older" };
        let mixture = format!("{} of {} newer, {lead} leads", self.new.len(), self.stage.cluster.ids().len());
        let way = if up { "up" } else { "down" };
        let how = if killed { "killed" } else { "stopped" };
        let who = if led { "leader" } else { "follower" };
        eprintln!("hanse-faults: replica {id} ({who}, {how}) goes {way}: {mixture}");
        self.figures.exchanges += 1;
        *self.figures.kinds.entry(format!("{way}, {who}, {how}")).or_default() += 1;
        *self.figures.mixtures.entry(mixture).or_default() += 1;
        Ok(())
    }

    /// Waits until a replica has got as far as the newest is at the beginning of this call.
    fn caught_up(&mut self, id: u64) -> Result<Duration> {
        let (begun, wanted) = (Instant::now(), self.newest()?);
        loop {
            self.stage.cluster.look()?;
            if self.stage.clients.ask(&self.stage.sight, id)?.is_some_and(|word| word.revision >= wanted) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > CAUGHT_UP_MAX {
                bail!("replica {id} did not catch up within {CAUGHT_UP_MAX:?} with {}", self.words_of(id));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn words_of(&self, id: u64) -> &'static str {
        if self.new.contains(&id) { "the newer program" } else { "the older program" }
    }

    /// Lets the writers rest until all replicas have one digest at one revision.
    fn same(&mut self) -> Result<()> {
        self.stage.book.rest.store(true, Ordering::Relaxed);
        let agreed = self.stage.clients.agree(&self.stage.sight);
        self.stage.book.rest.store(false, Ordering::Relaxed);
        agreed.context("after an exchange")?;
        resumed(&self.stage.book, self.stage.book.now(), &mut self.stage.cluster).map(drop)
    }

    /// A raise must be refused while somebody speaks the older version only. The version is named, because a leader of the
    /// older program means its own newest otherwise.
    fn refuses_to_raise(&mut self) -> Result<()> {
        match self.stage.clients.call(raise())? {
            Ok(answer) => bail!("the version was raised although not all speak it: {answer:?}"),
            Err(error) => *self.figures.refused.entry(error.reason.clone()).or_default() += 1,
        }
        Ok(())
    }

    /// Raises the version, and sees the older program refuse in every replica's folder.
    fn raise(&mut self) -> Result<()> {
        let end = Instant::now() + UP_MAX;
        let raised = loop {
            match self.stage.clients.call(raise())? {
                Ok(answer) => break answer,
                Err(error) if Instant::now() > end => bail!("the version cannot be raised: {error}"),
                // The leader may not have heard all of them yet.
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        };
        self.figures.raised = Some((raised.was.into(), raised.version.into()));
        for id in self.order() {
            self.stage.cluster.stop(id)?;
            self.stage.cluster.set_program(id, &self.older)?;
            let before = self.stage.cluster.words(id)?.len();
            self.stage.cluster.start(id)?;
            let code = self.stage.cluster.ended(id, REFUSED_MAX)?;
            let words = self.stage.cluster.words(id)?;
            let words = words.get(before..).unwrap_or_default();
            let said = words.lines().rev().find(|line| line.contains("speaks 1 to"));
            let is_known = code == Some(TOO_OLD) || code == Some(FAILED) && words.contains(ENDED_BY_ITSELF);
            let (Some(code), Some(said), true) = (code, said, is_known) else {
                bail!("the older program on replica {id} after the raise: exit {code:?}, {words}");
            };
            self.figures.too_old.push(format!("replica {id}: exit {code}, says {said:?}"));
            self.stage.cluster.set_program(id, &self.newer)?;
            self.stage.cluster.start(id)?;
            self.caught_up(id)?;
            self.same()?;
        }
        Ok(())
    }

    /// Revision that the whole cluster has reached.
    fn newest(&self) -> Result<u64> {
        let list = self.status()?;
        Ok(list.header.map_or(0, |header| header.revision))
    }

    fn leader(&self) -> Result<u64> {
        let list = self.status()?;
        list.header.and_then(|header| header.leader_id.parse().ok()).context("a leader")
    }

    /// The leader's word on the membership, which both programs give.
    fn status(&self) -> Result<pb::ListReplicasResponse> {
        let end = Instant::now() + UP_MAX;
        loop {
            match self.stage.clients.call(pb::ListReplicasRequest::default())? {
                Ok(list) if list.header.as_ref().is_some_and(|header| !header.leader_id.is_empty()) => return Ok(list),
                Err(error) if Instant::now() > end => bail!("nobody tells the membership: {error}"),
                Ok(_) | Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn pause(&self, mark: u64, what: &str) -> Result<()> {
        if Duration::from_nanos(self.stage.book.now().saturating_sub(mark)) > UP_MAX {
            bail!("not within {UP_MAX:?}: {what}");
        }
        std::thread::sleep(LOOK_EVERY);
        Ok(())
    }

    fn installs(&self, id: u64) -> Result<u64> {
        Ok(self.stage.cluster.words(id)?.matches(INSTALLED).count() as u64)
    }
}

fn raise() -> pb::RaiseClusterVersionRequest {
    pb::RaiseClusterVersionRequest { version: Version::NEWEST.0.into(), ..Default::default() }
}
