//! One round after the other: somebody goes or is new, the log is purged, it comes, is killed, and must join.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use hanse_client::pb;

use super::{Figures, SNAPSHOT_EVERY};
use crate::canary;
use crate::processes::chance::Chance;
use crate::processes::clients::UP_MAX;
use crate::processes::stage::Stage;

/// A replica must have joined after so long (I-13).
const JOINED_MAX: Duration = Duration::from_secs(30);
/// Snapshots that the others make while a replica is away, at least.
const BEHIND: u64 = 3;
/// Percent of the rounds with a kill, and of these with a second one.
const KILL_PERCENT: (u64, u64) = (75, 30);
/// Longest wait for a snapshot to come in; a replica that gets none is not killed.
const INSTALL_MAX: Duration = Duration::from_secs(10);
/// Longest pause between the sight of an incoming snapshot and the kill; a snapshot comes in within a tenth of a second.
const KILL_AFTER_MS: u64 = 60;
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often an incoming snapshot is looked for.
const PEEK_EVERY: Duration = Duration::from_millis(1);
/// Writes that are made to get the log purged to its last entry.
const TIP_WRITES_MAX: u64 = 20 * SNAPSHOT_EVERY;
/// Looks whether it is, after each snapshot that covers everything.
const TIP_LOOKS_MAX: u64 = 5;
/// What a replica says when it has installed a snapshot.
const INSTALLED: &str = "Done install complete snapshot";

/// Who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comer {
    /// A new learner with an empty folder.
    Empty,
    /// The learner of the round before.
    Learner,
    /// A voter that follows.
    Follower,
    /// The voter that led.
    Leader,
}

impl Comer {
    fn name(self, idle: bool) -> String {
        let who = match self {
            Comer::Empty => "empty-learner",
            Comer::Learner => "learner-back",
            Comer::Follower => "follower-back",
            Comer::Leader => "leader-back",
        };
        format!("{who}-{}", if idle { "idle" } else { "load" })
    }
}

/// How somebody came.
#[derive(Clone, Debug)]
struct Coming {
    id: u64,
    /// Who, and whether the leader was idle.
    name: String,
    /// How often it was killed meanwhile.
    kills: u64,
    /// Snapshots it has installed, as its log tells or as they were found on its disk after a kill.
    installs: u64,
    /// Snapshots that the leader has made meanwhile.
    made: u64,
    /// Whether it got as far as the leader in time.
    joined: bool,
    /// In milliseconds from its last start.
    took: u64,
}

impl fmt::Display for Coming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, kills, installs, made, took, .. } = self;
        write!(f, "{name} {id}: {kills} kills, {installs} installed, {made} made meanwhile, {took} ms")
    }
}

/// The rounds of a run under way.
pub(crate) struct Rounds<'a> {
    stage: &'a mut Stage,
    chance: Chance,
    learner: Option<u64>,
    figures: Figures,
}

impl<'a> Rounds<'a> {
    /// A run on a stage with its first replicas.
    pub(crate) fn new(stage: &'a mut Stage, seed: u64) -> Self {
        Self { stage, chance: Chance::new(seed, 11), learner: None, figures: Figures::default() }
    }

    /// Plays so many rounds. One that does not come to its end is the last.
    pub(crate) fn play(mut self, rounds: u64) -> Figures {
        for number in 0..rounds {
            // Idle and loaded by turns; who comes by turns as well, but that a learner must be there to come back.
            let idle = number % 2 == 0;
            let comer = match number / 2 % 4 {
                0 => Comer::Empty,
                1 if self.learner.is_some() => Comer::Learner,
                2 => Comer::Leader,
                _ => Comer::Follower,
            };
            if let Err(error) = self.round(comer, idle) {
                self.figures.stuck += 1;
                self.figures.wrong.push(format!("{}: {error:#}", comer.name(idle)));
            }
            if self.figures.stuck > 0 {
                break;
            }
        }
        self.rest(false);
        self.figures
    }

    fn round(&mut self, comer: Comer, idle: bool) -> Result<()> {
        let leader = self.leader()?;
        let id = self.leave(comer, leader)?;
        let leader = self.leader()?;
        self.fall_behind(leader)?;
        self.rest(idle);
        if idle {
            self.figures.purged_to_tip += u64::from(self.purge_to_tip(leader)?);
        }
        let id = match id {
            Some(id) => id,
            None => self.order()?,
        };
        let installed = self.installs(id)?;
        let made = self.number(leader, "hanse_raft_snapshot_index")?;
        let newest = self.newest(id)?;
        self.stage.cluster.start(id)?;
        let (kills, landed) = self.kill(id, newest)?;
        // Snapshots go on being made while it comes, also where the leader was idle until now.
        let still = self.chance.percent(50);
        self.rest(idle && still);
        let begun = Instant::now();
        let joined = self.joined(id)?;
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        // One that was killed when its snapshot was on the disk, and not in its log yet, begins from it.
        let installs = self.installs(id)?.saturating_sub(installed).max(landed);
        let coming = Coming { id, name: comer.name(idle), kills, installs, made: self.made_since(made)?, joined, took };
        self.rest(true);
        self.close(&coming);
        self.rest(false);
        Ok(())
    }

    /// Counts a round and demands equal digests.
    fn close(&mut self, coming: &Coming) {
        let line = coming.to_string();
        eprintln!("hanse-faults: {}: {line}", self.figures.rounds + 1);
        let agreed = if coming.joined {
            self.stage.clients.agree_within(&self.stage.sight, JOINED_MAX)
        } else {
            Err(anyhow!("it has not got as far as the leader was"))
        };
        match agreed {
            Ok(_) => {
                self.figures.rounds += 1;
                *self.figures.kinds.entry(coming.name.clone()).or_default() += 1;
                self.figures.joined_ms.push(coming.took);
            }
            Err(error) => {
                self.figures.stuck += 1;
                self.figures.wrong.push(format!("{line}: it did not join within {JOINED_MAX:?}: {error:#}"));
            }
        }
        self.figures.installed += coming.installs;
        self.figures.unproven += u64::from(coming.installs == 0);
        self.figures.overtaken += u64::from(coming.made >= 2);
        self.figures.log.push(line);
    }

    /// Lets somebody go, or makes room for somebody new. `None` if it is yet to be ordered.
    fn leave(&mut self, comer: Comer, leader: u64) -> Result<Option<u64>> {
        let id = match comer {
            Comer::Empty => {
                if let Some(old) = self.learner.take() {
                    self.dismiss(old)?;
                }
                return Ok(None);
            }
            Comer::Learner => self.learner.context("a learner")?,
            Comer::Leader => leader,
            Comer::Follower => {
                let learner = self.learner;
                let ids = self.stage.cluster.ids();
                let others: Vec<u64> = ids.into_iter().filter(|id| *id != leader && Some(*id) != learner).collect();
                *self.chance.pick(&others)
            }
        };
        if self.chance.percent(50) {
            self.stage.cluster.kill(id)?;
        } else {
            self.stage.cluster.stop(id)?;
        }
        Ok(Some(id))
    }

    /// Takes the old learner out.
    fn dismiss(&mut self, id: u64) -> Result<()> {
        let request = pb::RemoveReplicaRequest { replica: id.to_string(), ..Default::default() };
        self.stage.cluster.leave(id)?;
        self.stage.clients.part(id);
        self.stage.clients.call(request)?.context("take the learner out")?;
        self.until("the learner is out", |rounds| {
            let list = rounds.stage.clients.call(pb::ListReplicasRequest::default())?;
            Ok(list.is_ok_and(|list| list.replicas.iter().all(|row| row.id != id.to_string())))
        })?;
        self.stage.cluster.retire(id)
    }

    /// Orders a new learner and waits until it is a member; it does not run yet.
    fn order(&mut self) -> Result<u64> {
        let free = self.stage.cluster.free_places();
        let place = *self.chance.pick(&free);
        let (peer_address, api_address) = self.stage.cluster.addresses(place);
        let request = pb::AddReplicaRequest { peer_address, api_address, ..Default::default() };
        let answer = self.stage.clients.call(request)?.context("order a learner")?;
        let id: u64 = answer.replica.context("the new replica")?.id.parse().context("the new replica's id")?;
        self.stage.cluster.join(id, place)?;
        self.stage.clients.meet(&self.stage.cluster, id)?;
        self.stage.clients.watch_one(&self.stage.sight, id);
        self.learner = Some(id);
        Ok(id)
    }

    /// Waits until the others have gone on for some snapshots.
    fn fall_behind(&mut self, leader: u64) -> Result<()> {
        let from = self.number(leader, "hanse_raft_last_index")?;
        self.until("the log is purged beyond it", |rounds| {
            Ok(rounds.number(leader, "hanse_raft_purged_index")? >= from + BEHIND * SNAPSHOT_EVERY)
        })
    }

    /// Writes, one entry after the other, until only the last entry is left of the idle leader's log.
    fn purge_to_tip(&mut self, leader: u64) -> Result<bool> {
        let (mut writes, mut looks) = (0, 0);
        while writes < TIP_WRITES_MAX {
            let numbers = self.stage.clients.metrics(self.stage.cluster.metrics(leader)?)?;
            let number = |name: &str| numbers.get(name).copied().unwrap_or(0);
            if number("hanse_raft_purged_index") + 1 == number("hanse_raft_last_index") {
                return Ok(true);
            }
            // The log is purged a moment after the snapshot, but not while some of it is on its way to a follower; if that
            // is noted too late, the next entry makes good for it, and the next snapshot gives another chance.
            if number("hanse_raft_snapshot_index") == number("hanse_raft_last_index") && looks < TIP_LOOKS_MAX {
                looks += 1;
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            // Not one of the workload's writes, of which a key takes only so many.
            let set = [("tip".to_owned(), writes.to_string())].into();
            let request = pb::SetTenantMetadataRequest { tenant: canary::TENANT.into(), set, ..Default::default() };
            self.stage.clients.call(request)?.context("write an entry")?;
            (writes, looks) = (writes + 1, 0);
        }
        Ok(false)
    }

    /// Kills the comer while its snapshot comes in, and starts it again; gives how often, and after how many of these kills
    /// a newer snapshot lay on its disk than before, when the newest covered `newest`.
    fn kill(&mut self, id: u64, mut newest: u64) -> Result<(u64, u64)> {
        let mut landed = 0;
        let wishes = [self.chance.percent(KILL_PERCENT.0), self.chance.percent(KILL_PERCENT.1)];
        let mut kills = 0;
        for _ in wishes.into_iter().take_while(|wish| *wish) {
            let folder = self.stage.cluster.data(id)?.join("raft/snapshots");
            let incoming = || {
                let names = folder
                    .read_dir()
                    .into_iter()
                    .flatten()
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
                names.filter(|name| name.starts_with("incoming-")).count()
            };
            let end = Instant::now() + INSTALL_MAX;
            while incoming() == 0 {
                if Instant::now() > end {
                    return Ok((kills, landed));
                }
                std::thread::sleep(PEEK_EVERY);
            }
            std::thread::sleep(Duration::from_millis(self.chance.below(KILL_AFTER_MS)));
            if self.stage.cluster.kill(id)? {
                kills += 1;
                self.figures.kills += 1;
                self.figures.killed_in += u64::from(incoming() > 0);
                let now = self.newest(id)?;
                landed += u64::from(now > newest);
                newest = now;
            }
            self.stage.cluster.start(id)?;
        }
        Ok((kills, landed))
    }

    /// Entry that the newest snapshot on a replica's disk covers; 0 without one. Their names begin with it.
    fn newest(&self, id: u64) -> Result<u64> {
        let folder = self.stage.cluster.data(id)?.join("raft/snapshots");
        let names =
            folder.read_dir().into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let whole = names.filter(|name| name.ends_with(".snapshot"));
        Ok(whole.filter_map(|name| name.split_once('-')?.0.parse().ok()).max().unwrap_or(0))
    }

    /// Whether the comer gets as far as the leader was at the beginning of this call, in time.
    fn joined(&mut self, id: u64) -> Result<bool> {
        let end = Instant::now() + JOINED_MAX;
        let leader = self.leader()?;
        let wanted = self.word(leader)?;
        while Instant::now() < end {
            self.stage.cluster.look()?;
            if self.stage.clients.ask(&self.stage.sight, id)?.is_some_and(|word| word.revision >= wanted) {
                return Ok(true);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(false)
    }

    fn word(&self, id: u64) -> Result<u64> {
        let end = Instant::now() + UP_MAX;
        loop {
            if let Some(word) = self.stage.clients.ask(&self.stage.sight, id)? {
                return Ok(word.revision);
            }
            if Instant::now() > end {
                bail!("replica {id} says nothing of itself within {UP_MAX:?}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Who leads now, as told by a read of the log.
    fn leader(&self) -> Result<u64> {
        let end = Instant::now() + UP_MAX;
        loop {
            let list = self.stage.clients.call_within(pb::ListReplicasRequest::default(), Duration::from_secs(1))?;
            let leader = list.ok().and_then(|list| list.header?.leader_id.parse().ok());
            if let Some(leader) = leader {
                return Ok(leader);
            }
            if Instant::now() > end {
                bail!("nobody leads within {UP_MAX:?}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Snapshots that whoever leads has made since that index.
    fn made_since(&self, index: u64) -> Result<u64> {
        let leader = self.leader()?;
        Ok(self.number(leader, "hanse_raft_snapshot_index")?.saturating_sub(index) / SNAPSHOT_EVERY)
    }

    fn number(&self, id: u64, name: &str) -> Result<u64> {
        let numbers = self.stage.clients.metrics(self.stage.cluster.metrics(id)?)?;
        Ok(numbers.get(name).copied().unwrap_or(0))
    }

    /// Snapshots that a replica says it has installed.
    fn installs(&self, id: u64) -> Result<u64> {
        let path = self.stage.cluster.home(id)?.join("replica.log");
        // One that was just ordered has no log yet.
        let text = if path.exists() { self.stage.cluster.words(id)? } else { String::new() };
        Ok(text.matches(INSTALLED).count() as u64)
    }

    fn rest(&self, rest: bool) {
        self.stage.book.rest.store(rest, Ordering::Relaxed);
    }

    fn until(&self, what: &str, condition: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let end = Instant::now() + UP_MAX;
        while !condition(self)? {
            if Instant::now() > end {
                bail!("not within {UP_MAX:?}: {what}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}
