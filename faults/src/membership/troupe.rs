//! The orders of a run, one after the other, and what becomes of each.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hanse_client::{Call, ClientError, new_request_id, pb};

use super::Figures;
use super::joint::{JOINT_MAX, Joints};
use super::tail::Tail;
use super::trouble::{Mire, Trouble};
use crate::processes::chance::Chance;
use crate::processes::clients::UP_MAX;
use crate::processes::net::Cuts;
use crate::processes::stage::{Stage, resumed};
use crate::processes::work::no_answer;

/// Voters at least and at most.
const VOTERS: (usize, usize) = (3, 5);
/// Percent of the changes that something befalls.
const TROUBLE_PERCENT: u64 = 80;
/// Percent of these that come while the links lose packets.
const MIRE_PERCENT: u64 = 50;
/// A change must come to its end so soon after what befell it is healed.
const CHANGE_MAX: Duration = Duration::from_secs(90);
/// One that was taken out must have noticed after so long.
const LEAVE_MAX: Duration = Duration::from_secs(60);
/// Longest wait for one word on the membership.
const WORD_MAX: Duration = Duration::from_secs(1);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Refusals that are told in words.
const TOLD_MAX: usize = 12;
/// What a leader says when it ends the joint configuration of another.
const INHERITED: &str = "left a joint configuration that an interrupted change had left behind";

/// A kind of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    AddVoter,
    AddLearner,
    Promote,
    RemoveLeader,
    RemoveOther,
    ReplaceLeader,
    ReplaceOther,
    Transfer,
}

/// Every kind once, so that a short run has them all.
const OVERTURE: [Kind; 8] = [
    Kind::AddVoter,
    Kind::AddLearner,
    Kind::Promote,
    Kind::RemoveLeader,
    Kind::ReplaceLeader,
    Kind::Transfer,
    Kind::RemoveOther,
    Kind::ReplaceOther,
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::AddVoter => "add-voter",
            Kind::AddLearner => "add-learner",
            Kind::Promote => "promote",
            Kind::RemoveLeader => "remove-leader",
            Kind::RemoveOther => "remove",
            Kind::ReplaceLeader => "replace-leader",
            Kind::ReplaceOther => "replace",
            Kind::Transfer => "transfer",
        }
    }
}

/// The membership as the leader tells it.
#[derive(Clone, Debug, Default)]
struct Roll {
    leader: Option<u64>,
    voters: BTreeSet<u64>,
    /// Members and those that shall be.
    present: BTreeSet<u64>,
    /// Those that are not yet as they shall be, and what they wait for.
    waiting: Vec<String>,
    joint: bool,
}

/// What an order must lead to.
#[derive(Clone, Copy, Debug)]
struct Goal {
    /// Whom the order is about.
    subject: u64,
    /// Who votes in the end.
    votes: Option<u64>,
    /// Who only learns in the end.
    learns: Option<u64>,
    /// Who is gone in the end.
    gone: Option<u64>,
}

impl Goal {
    fn is_reached(&self, roll: &Roll) -> bool {
        let votes = self.votes.is_none_or(|id| roll.voters.contains(&id));
        let learns = self.learns.is_none_or(|id| roll.present.contains(&id) && !roll.voters.contains(&id));
        let gone = self.gone.is_none_or(|id| !roll.present.contains(&id));
        votes && learns && gone && !roll.joint && roll.waiting.is_empty()
    }
}

/// A run under way.
pub(crate) struct Troupe<'a> {
    stage: &'a mut Stage,
    chance: Chance,
    /// Whether the voters grow in number.
    grows: bool,
    overture: VecDeque<Kind>,
    joints: Joints,
    /// Those that were taken out and have not ended yet.
    leaving: Vec<(u64, Instant)>,
    figures: Figures,
}

impl<'a> Troupe<'a> {
    /// A run on a stage with its first replicas.
    pub(crate) fn new(stage: &'a mut Stage, seed: u64) -> Self {
        let overture = OVERTURE.into_iter().collect();
        let (chance, figures) = (Chance::new(seed, 7), Figures::default());
        Self { stage, chance, grows: true, overture, joints: Joints::default(), leaving: Vec::new(), figures }
    }

    /// Carries out so many changes. One that does not come to its end is the last.
    ///
    /// # Errors
    /// The harness failed.
    pub(crate) fn play(mut self, changes: u64) -> Result<Figures> {
        // An order that is refused again and again must not keep a run for ever.
        let mut orders = 0;
        while self.figures.changes < changes && self.figures.stalled == 0 {
            orders += 1;
            if orders > changes.saturating_mul(4) {
                self.figures.wrong.push(format!("of {orders} orders only {} were taken", self.figures.changes));
                break;
            }
            let roll = self.roll_surely()?;
            let kind = self.next(&roll);
            self.change(kind, &roll)?;
            self.see_off(false)?;
        }
        self.see_off(true)?;
        for id in self.stage.cluster.ids() {
            self.count_inherited(id)?;
        }
        Ok(self.figures)
    }

    /// Chooses the next order among those that this membership allows.
    fn next(&mut self, roll: &Roll) -> Kind {
        let count = roll.voters.len();
        if count <= VOTERS.0 {
            self.grows = true;
        }
        if count >= VOTERS.1 {
            self.grows = false;
        }
        if let Some(place) = self.overture.iter().position(|kind| allowed(*kind, roll)) {
            // The position was just found.
            return self.overture.remove(place).unwrap_or(Kind::Transfer);
        }
        let learns = roll.present.difference(&roll.voters).next().is_some();
        loop {
            let kind = match (self.chance.below(20), self.grows) {
                (0..=11, true) if learns => Kind::Promote,
                (0..=6, true) => Kind::AddVoter,
                (7..=11, true) => Kind::AddLearner,
                (0..=4, false) => Kind::RemoveLeader,
                (5..=11, false) => Kind::RemoveOther,
                (12 | 13, _) => Kind::ReplaceLeader,
                (14..=17, _) => Kind::ReplaceOther,
                _ => Kind::Transfer,
            };
            if allowed(kind, roll) {
                return kind;
            }
        }
    }

    /// Gives one order and follows it to its end, through what befalls it.
    fn change(&mut self, kind: Kind, roll: &Roll) -> Result<()> {
        let begun = Instant::now();
        let (troubled, mired) = (self.chance.percent(TROUBLE_PERCENT), self.chance.percent(MIRE_PERCENT));
        let mut tail = Tail::begin(&self.stage.cluster)?;
        let mire = if troubled && mired { Mire::begin(self.stage, &mut self.chance)? } else { Mire::default() };
        let goal = match self.order(kind, roll)? {
            Ok(goal) => goal,
            Err(error) => {
                self.refused(kind, &error);
                return self.stage.net.apply(&Cuts::default());
            }
        };
        let trouble = if troubled {
            Some(Trouble::choose(self.stage, &mut self.chance, roll.leader, goal.subject, mire)?)
        } else {
            None
        };
        let told = trouble.as_ref().map(|trouble| trouble.words.clone());
        let words = format!("{} {} of {:?}: {}", kind.name(), goal.subject, roll.voters, told.unwrap_or_default());
        let trouble = match trouble {
            Some(trouble) => self.strike(trouble, &mut tail)?,
            None => None,
        };
        let ended = self.follow(goal, trouble)?;
        let took = begun.elapsed();
        let line = format!("{words} ({} ms)", took.as_millis());
        eprintln!("hanse-faults: {}: {line}", self.figures.changes + 1);
        self.figures.log.push(line);
        if let Err(why) = ended {
            self.figures.stalled += 1;
            self.figures.wrong.push(format!("{words} did not come to its end: {why}"));
            return Ok(());
        }
        self.figures.changes += 1;
        *self.figures.kinds.entry(kind.name()).or_default() += 1;
        self.figures.change_ms.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        if let Some(id) = goal.gone {
            self.stage.clients.part(id);
            self.leaving.push((id, Instant::now()));
        }
        Ok(())
    }

    /// Puts trouble in force at its moment; `None` if there was nobody to do it to.
    fn strike(&mut self, mut trouble: Trouble, tail: &mut Tail) -> Result<Option<Trouble>> {
        let begun = trouble.wait(self.stage, tail)?;
        if !trouble.strike(self.stage)? {
            trouble.heal(self.stage)?;
            return Ok(None);
        }
        *self.figures.faults.entry(trouble.kind()).or_default() += 1;
        *self.figures.faults.entry("loss").or_default() += u64::from(trouble.has_mire());
        self.figures.aimed += u64::from(begun);
        Ok(Some(trouble))
    }

    /// Waits for the goal; says what is missing if it is not reached in time.
    fn follow(&mut self, goal: Goal, mut trouble: Option<Trouble>) -> Result<Result<(), String>> {
        let mut end = Instant::now() + CHANGE_MAX;
        let mut last = Roll::default();
        let mut reached = false;
        loop {
            self.stage.cluster.look()?;
            if let Some(it) = trouble.take_if(|it| it.is_over()) {
                it.heal(self.stage)?;
                end = Instant::now() + CHANGE_MAX;
                match resumed(&self.stage.book, self.stage.book.now(), &mut self.stage.cluster) {
                    Ok(after) => self.figures.resume_ms.push(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
                    Err(error) => return Ok(Err(format!("{error:#}"))),
                }
            }
            if let Some(roll) = self.roll()? {
                self.note_joint(&roll);
                reached = goal.is_reached(&roll);
                last = roll;
            }
            if reached && trouble.is_none() {
                return Ok(Ok(()));
            }
            if Instant::now() > end {
                return Ok(Err(format!("{last:?}")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn note_joint(&mut self, roll: &Roll) {
        if self.joints.note(roll.joint, Instant::now()) {
            self.figures.wrong.push(format!("a joint configuration stays for more than {JOINT_MAX:?}: {roll:?}"));
        }
        (self.figures.joint_seen, self.figures.joint_left) = (self.joints.seen, self.joints.left);
    }

    /// Gives the order, and starts a replica that was ordered.
    fn order(&mut self, kind: Kind, roll: &Roll) -> Result<Result<Goal, ClientError>> {
        let leader = roll.leader.context("a leader")?;
        let voters: Vec<u64> = roll.voters.iter().copied().filter(|id| *id != leader).collect();
        let other = *self.chance.pick(&voters);
        let goal = |subject| Goal { subject, votes: None, learns: None, gone: None };
        match kind {
            Kind::AddVoter | Kind::AddLearner => {
                let votes = kind == Kind::AddVoter;
                let id = match self.add(None, votes)? {
                    Ok(id) => id,
                    Err(error) => return Ok(Err(error)),
                };
                let (votes, learns) = (votes.then_some(id), (!votes).then_some(id));
                Ok(Ok(Goal { votes, learns, ..goal(id) }))
            }
            Kind::Promote => {
                let id = roll.present.difference(&roll.voters).next().copied().context("a learner")?;
                let request = pb::PromoteReplicaRequest { replica: id.to_string(), ..Default::default() };
                Ok(self.give(request)?.map(|_| Goal { votes: Some(id), ..goal(id) }))
            }
            Kind::RemoveLeader | Kind::RemoveOther => {
                let id = if kind == Kind::RemoveLeader { leader } else { other };
                let request = pb::RemoveReplicaRequest { replica: id.to_string(), ..Default::default() };
                let done = self.give(request)?;
                if done.is_ok() {
                    self.stage.cluster.leave(id)?;
                }
                Ok(done.map(|_| Goal { gone: Some(id), ..goal(id) }))
            }
            Kind::ReplaceLeader | Kind::ReplaceOther => {
                let old = if kind == Kind::ReplaceLeader { leader } else { other };
                let new = self.add(Some(old), true)?;
                Ok(new.map(|id| Goal { votes: Some(id), gone: Some(old), ..goal(id) }))
            }
            Kind::Transfer => {
                let request = pb::TransferLeaderRequest { replica: other.to_string(), ..Default::default() };
                Ok(self.give(request)?.map(|_| goal(other)))
            }
        }
    }

    /// Orders a new replica in a free place, and starts it.
    fn add(&mut self, replaces: Option<u64>, vote: bool) -> Result<Result<u64, ClientError>> {
        let free = self.stage.cluster.free_places();
        if free.is_empty() {
            bail!("no place is free: those that were taken out have not ended");
        }
        let place = *self.chance.pick(&free);
        let (peer_address, api_address) = self.stage.cluster.addresses(place);
        let added = match replaces {
            None => {
                let request = pb::AddReplicaRequest { peer_address, api_address, vote, ..Default::default() };
                self.give(request)?.map(|answer| answer.replica)
            }
            Some(old) => {
                let replica = old.to_string();
                let request = pb::ReplaceReplicaRequest { replica, peer_address, api_address, ..Default::default() };
                self.give(request)?.map(|answer| answer.replica)
            }
        };
        let added = match added {
            Ok(added) => added.context("the new replica")?,
            Err(error) => return Ok(Err(error)),
        };
        let id: u64 = added.id.parse().context("the new replica's id")?;
        if let Some(old) = replaces {
            self.stage.cluster.leave(old)?;
        }
        self.stage.cluster.join(id, place)?;
        self.stage.cluster.start(id)?;
        self.stage.clients.meet(&self.stage.cluster, id)?;
        self.stage.clients.watch_one(&self.stage.sight, id);
        Ok(Ok(id))
    }

    /// Gives an order until its answer is certain: with one id, as nobody knows what became of a try without an answer.
    fn give<C>(&self, mut request: C) -> Result<Result<C::Response, ClientError>>
    where
        C: Call + Send,
        C::Response: Send,
    {
        request.request_id_mut().context("an order")?.clone_from(&new_request_id());
        let end = Instant::now() + UP_MAX;
        loop {
            match self.stage.clients.call(request.clone())? {
                Err(error) if no_answer(&error) => {
                    // The links that lose packets may be why.
                    self.stage.net.apply(&Cuts::default())?;
                    if Instant::now() > end {
                        bail!("an order gets no answer within {UP_MAX:?}: {error}");
                    }
                }
                certain => return Ok(certain),
            }
        }
    }

    fn refused(&mut self, kind: Kind, error: &ClientError) {
        let words = format!("{}: {}: {}", kind.name(), error.reason, error.message);
        eprintln!("hanse-faults: refused: {words}");
        *self.figures.refused.entry(error.reason.clone()).or_default() += 1;
        // Every order has an id of its own, and is repeated as it was.
        if error.reason == "REQUEST_ID_REUSED" {
            self.figures.wrong.push(format!("a repeated order is taken for another: {words}"));
        }
        if self.figures.refusals.len() < TOLD_MAX {
            self.figures.refusals.push(words);
        }
    }

    /// Forgets those that were taken out and have ended; with `all` waits for every one.
    fn see_off(&mut self, all: bool) -> Result<()> {
        loop {
            let mut still = Vec::new();
            for (id, since) in std::mem::take(&mut self.leaving) {
                if self.stage.cluster.has_left(id)? {
                    self.figures.left += 1;
                } else if since.elapsed() > LEAVE_MAX {
                    let words = format!("replica {id} was taken out {LEAVE_MAX:?} ago and does not know it");
                    eprintln!("hanse-faults: {words}");
                    self.figures.wrong.push(words);
                } else {
                    still.push((id, since));
                    continue;
                }
                self.count_inherited(id)?;
                self.stage.cluster.retire(id)?;
            }
            self.leaving = still;
            // A new one needs a place.
            let crowded = self.stage.cluster.free_places().is_empty();
            if self.leaving.is_empty() || !(all || crowded) {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn count_inherited(&mut self, id: u64) -> Result<()> {
        self.figures.joint_inherited += self.stage.cluster.words(id)?.matches(INHERITED).count() as u64;
        Ok(())
    }

    /// The membership; `None` if nobody gives a word on it now.
    fn roll(&self) -> Result<Option<Roll>> {
        Ok(self.stage.clients.call_within(pb::ListReplicasRequest::default(), WORD_MAX)?.ok().map(roll))
    }

    fn roll_surely(&self) -> Result<Roll> {
        let end = Instant::now() + UP_MAX;
        loop {
            match self.stage.clients.call_within(pb::ListReplicasRequest::default(), WORD_MAX)? {
                Ok(answer) => {
                    let roll = roll(answer);
                    if roll.leader.is_some() {
                        return Ok(roll);
                    }
                }
                Err(error) if Instant::now() > end => bail!("nobody tells the membership within {UP_MAX:?}: {error}"),
                Err(_) => {}
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn allowed(kind: Kind, roll: &Roll) -> bool {
    let (voters, learners) = (roll.voters.len(), roll.present.len() - roll.voters.intersection(&roll.present).count());
    match kind {
        Kind::AddVoter => voters < VOTERS.1 && learners == 0,
        Kind::AddLearner => learners == 0 && voters < VOTERS.1,
        Kind::Promote => learners > 0 && voters < VOTERS.1,
        Kind::RemoveLeader | Kind::RemoveOther => voters > VOTERS.0,
        Kind::ReplaceLeader | Kind::ReplaceOther | Kind::Transfer => true,
    }
}

fn roll(answer: pb::ListReplicasResponse) -> Roll {
    let number = |text: &String| text.parse::<u64>().ok();
    let waiting = answer.replicas.iter().filter(|row| !row.waits_for.is_empty());
    Roll {
        leader: answer.header.and_then(|header| header.leader_id.parse().ok()),
        voters: answer.voters.iter().filter_map(number).collect(),
        present: answer.replicas.iter().filter_map(|row| number(&row.id)).collect(),
        waiting: waiting.map(|row| format!("{} waits for {}", row.id, row.waits_for)).collect(),
        joint: answer.changing,
    }
}
