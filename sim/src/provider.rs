//! A cloud's region: machines by the cloud's name of them, and what they share. Like the hosts it is outside the replicas.
//!
//! A call takes its time there and back, and what it orders happens when it arrives, whoever still waits. The region keeps a
//! cloud's word: an order with a token that it knows gives the machine of that token, tags are there from the order on, and what
//! machines share cannot go while one of them has it. How it errs is its habit (`cloud`).

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use hanse_adapters_core::AdapterError;
use hanse_adapters_core::cloud::{Disk, Machine, MachinePhase, MachineWish, Owner};
use tokio::sync::oneshot;

use crate::cloud::{Cloud, DELETE_MS, Fate, LATE_MS, LIST_LATE_MS, MAKING_MS, fate};
use crate::dice::Dice;
use crate::sweep::{Step, trap};
use crate::volumes::Volume;

/// From the order until a machine runs, and until it answers with SSH.
const BOOT_MS: u64 = 1_000;
const ANSWERS_MS: u64 = 1_800;
/// How long a machine takes to end where that is not slow, and how long one that has ended is shown by its name.
const END_MS: u64 = 300;
const SHOWN_MS: u64 = 30_000;
/// What the machines of an owner share.
const SHARED: [&str; 2] = ["security group", "key pair"];

type Answer = oneshot::Sender<Result<Told, AdapterError>>;

/// What a region is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// The machines of a token that are not over.
    OfToken(Owner, String),
    /// The machine of that name, over or not.
    ById(String),
    /// The owner's machines that are not over.
    List(Owner),
    /// What the owner's machines share is to be there.
    Share(Owner),
    /// A machine is to be there.
    Run(Box<MachineWish>),
    /// A machine is to end.
    End(String),
    /// What the owner's machines share is to go, if there are none.
    Clear(Owner),
    /// The owner's disks.
    Disks(Owner),
    /// A disk is to go.
    Drop(String),
}

impl Ask {
    /// Whether it changes anything: then no answer means that nothing is known.
    pub(crate) const fn changes(&self) -> bool {
        !matches!(self, Self::OfToken(..) | Self::ById(_) | Self::List(_) | Self::Disks(_))
    }

    /// What a change does and to what: each meets the habit once.
    fn thing(&self) -> Option<(&'static str, String)> {
        match self {
            Self::OfToken(..) | Self::ById(_) | Self::List(_) | Self::Disks(_) => None,
            Self::Share(owner) => Some(("share", owner.cloud.clone())),
            Self::Run(wish) => Some(("run", wish.key.token.clone())),
            Self::End(id) => Some(("end", id.clone())),
            Self::Clear(owner) => Some(("clear", owner.cloud.clone())),
            Self::Drop(id) => Some(("drop", id.clone())),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::OfToken(_, token) => format!("show machines of token {}", short(token)),
            Self::ById(id) => format!("show {id}"),
            Self::List(owner) => format!("list machines of {}", owner.cloud),
            Self::Share(owner) => format!("make what machines of {} share", owner.cloud),
            Self::Run(wish) => format!("run {} of token {}", wish.key.machine, short(&wish.key.token)),
            Self::End(id) => format!("end {id}"),
            Self::Clear(owner) => format!("clear what machines of {} shared", owner.cloud),
            Self::Disks(owner) => format!("list disks of {}", owner.cloud),
            Self::Drop(id) => format!("delete {id}"),
        }
    }
}

/// What a region answers.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Machines(Vec<Machine>),
    Made(Box<Machine>),
    Cleared(Vec<String>),
    Disks(Vec<Disk>),
    Done,
}

struct Call {
    ask: Ask,
    fate: Fate,
    back_ms: u64,
    answer: Answer,
}

/// A machine.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) owner: Owner,
    pub(crate) machine: String,
    pub(crate) token: String,
    pub(crate) phase: MachinePhase,
    pub(crate) address: String,
    pub(crate) fingerprint: String,
    reason: String,
    since_ms: u64,
    /// When it will have ended, or has.
    ends_ms: Option<u64>,
    /// Put there by the run, and not by an order.
    pub(crate) planted: bool,
}

impl Made {
    fn shown(&self, id: &str) -> Machine {
        let runs = self.phase == MachinePhase::Running;
        Machine {
            id: id.to_owned(),
            machine: self.machine.clone(),
            token: self.token.clone(),
            phase: self.phase,
            address: runs.then(|| self.address.clone()),
            zone: "zone-1".into(),
            reason: self.reason.clone(),
        }
    }

    fn end(&mut self, now_ms: u64, takes_ms: u64) {
        if !self.phase.is_over() {
            (self.phase, self.ends_ms) = (MachinePhase::Ending, Some(now_ms + takes_ms));
        }
    }
}

/// The region, and the calls on their way.
pub(crate) struct Provider {
    pub(crate) habit: Cloud,
    /// The mistake: a token makes no order the same order.
    pub(crate) is_forgetful: bool,
    /// Machines by the cloud's name of them.
    pub(crate) made: BTreeMap<String, Made>,
    /// Disks that no machine has, by the cloud's name of them.
    pub(crate) volumes: BTreeMap<String, Volume>,
    /// What is shared, by owner.
    pub(crate) shared: BTreeSet<(Owner, &'static str)>,
    calls: BTreeMap<(u64, u64), Call>,
    answers: BTreeMap<(u64, u64), (Answer, Result<Told, AdapterError>)>,
    number_last: u64,
    made_last: u64,
    dice: Dice,
    met: BTreeSet<(&'static str, String)>,
    /// As it was, oldest first; kept where lists are late.
    past: Vec<(u64, BTreeMap<String, Made>)>,
    /// Calls that have arrived, by what they do and to what.
    arrived: BTreeMap<(&'static str, String), u64>,
    reached: Vec<Step>,
    ended: Vec<String>,
    said: Vec<String>,
    found: Vec<String>,
}

impl Provider {
    pub(crate) fn new(seed: u64, is_forgetful: bool) -> Self {
        Self {
            habit: Cloud::Calm,
            is_forgetful,
            made: BTreeMap::new(),
            volumes: BTreeMap::new(),
            shared: BTreeSet::new(),
            calls: BTreeMap::new(),
            answers: BTreeMap::new(),
            number_last: 0,
            made_last: 0,
            dice: Dice::new(seed, "provider"),
            met: BTreeSet::new(),
            past: Vec::new(),
            arrived: BTreeMap::new(),
            reached: Vec::new(),
            ended: Vec::new(),
            said: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Sends a call on its way.
    pub(crate) fn call(&mut self, now_ms: u64, ask: Ask, answer: Answer) {
        let (there_ms, back_ms) = (self.dice.range(1, 60), self.dice.range(1, 60));
        let is_first = ask.thing().is_some_and(|thing| self.met.insert(thing));
        let met = if is_first { fate(self.habit) } else { Fate::Answered };
        // Only orders of machines are counted against a limit.
        let fate = if met == Fate::Denied && !matches!(ask, Ask::Run(_)) { Fate::Answered } else { met };
        let late_ms = if is_first && self.habit == Cloud::ArrivesLate { LATE_MS } else { 0 };
        self.number_last += 1;
        self.calls.insert((now_ms + there_ms + late_ms, self.number_last), Call { ask, fate, back_ms, answer });
    }

    /// From now on each thing meets the habit once more.
    pub(crate) fn begin_anew(&mut self) {
        self.met.clear();
    }

    /// Machines go on, what has arrived is carried out, and answers that are back are handed over.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        self.live(now_ms);
        while let Some(entry) = self.calls.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            let ((_, number), call) = entry.remove_entry();
            let result = self.arrive(now_ms, &call);
            let outcome = result.as_ref().map_or_else(ToString::to_string, |told| format!("{told:?}"));
            self.said.push(format!("cloud: {}: {:?} {outcome}", call.ask.words(), call.fate));
            if call.fate != Fate::Lost {
                self.answers.insert((now_ms + call.back_ms, number), (call.answer, result));
            }
            self.remember(now_ms);
        }
        while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            let (answer, result) = entry.remove();
            // Who asked may be gone.
            drop(answer.send(result));
        }
    }

    /// Machines that were ordered run, and those that end have ended, after their time.
    fn live(&mut self, now_ms: u64) {
        let mut changed = false;
        for made in self.made.values_mut() {
            let next = match made.phase {
                MachinePhase::Starting if now_ms >= made.since_ms + BOOT_MS => MachinePhase::Running,
                MachinePhase::Ending if made.ends_ms.is_some_and(|at| at <= now_ms) => MachinePhase::Ended,
                other => other,
            };
            if made.phase == MachinePhase::Ending {
                self.ended.push(made.address.clone());
            }
            changed |= next != made.phase;
            made.phase = next;
        }
        let is_old = |made: &Made| made.ends_ms.is_some_and(|at| at + SHOWN_MS <= now_ms);
        let before = self.made.len();
        self.made.retain(|_, made| made.phase != MachinePhase::Ended || !is_old(made));
        if changed || before != self.made.len() {
            self.remember(now_ms);
        }
    }

    fn arrive(&mut self, now_ms: u64, call: &Call) -> Result<Told, AdapterError> {
        let subject = || format!("cloud ({})", call.ask.words());
        let unknown = |reason: &str| AdapterError::Unknown { subject: subject(), reason: reason.into() };
        if let Some(thing) = call.ask.thing() {
            *self.arrived.entry(thing).or_default() += 1;
            self.reach(&call.ask);
        }
        match call.fate {
            Fate::Refused | Fate::Throttled => {
                let reason = "429: too many requests".into();
                return Err(AdapterError::Transient { subject: subject(), reason });
            }
            Fate::Denied => {
                let reason = "InstanceLimitExceeded: delete machines, or have the provider raise it".into();
                return Err(AdapterError::Denied { subject: subject(), reason });
            }
            Fate::Half => {
                self.half(&call.ask);
                return Err(unknown("500: it ended half-way"));
            }
            Fate::Answered | Fate::Lost | Fate::Lied => {}
        }
        let result = self.carry_out(now_ms, &call.ask);
        if call.fate == Fate::Lied { Err(unknown("500: internal error")) } else { result }
    }

    fn carry_out(&mut self, now_ms: u64, ask: &Ask) -> Result<Told, AdapterError> {
        Ok(match ask {
            Ask::OfToken(owner, token) => {
                self.shown(now_ms, |_, it| it.owner == *owner && it.token == *token && !it.phase.is_over())
            }
            Ask::ById(id) => self.shown(now_ms, |known, _| known == id),
            Ask::List(owner) => self.shown(now_ms, |_, it| it.owner == *owner && !it.phase.is_over()),
            Ask::Share(owner) => {
                self.shared.extend(SHARED.map(|what| (owner.clone(), what)));
                Told::Done
            }
            Ask::Run(wish) => Told::Made(Box::new(self.run(now_ms, wish)?)),
            Ask::End(id) => {
                let takes_ms = if self.habit == Cloud::DeletesSlowly { DELETE_MS } else { END_MS };
                if let Some(made) = self.made.get_mut(id) {
                    made.end(now_ms, takes_ms);
                }
                Told::Done
            }
            Ask::Clear(owner) => Told::Cleared(self.clear(owner)),
            Ask::Disks(owner) => Told::Disks(self.shown_volumes(now_ms, owner)),
            Ask::Drop(id) => {
                self.drop_volume(now_ms, id);
                Told::Done
            }
        })
    }

    /// Does a part of what is asked.
    fn half(&mut self, ask: &Ask) {
        match ask {
            Ask::Share(owner) => drop(self.shared.insert((owner.clone(), SHARED[0]))),
            Ask::Clear(owner) => drop(self.shared.remove(&(owner.clone(), SHARED[1]))),
            // It is stopped, and still there.
            Ask::End(id) => {
                if let Some(made) = self.made.get_mut(id).filter(|made| !made.phase.is_over()) {
                    made.phase = MachinePhase::Stopped;
                }
            }
            // What could be half of a machine is over at once and shown as such: none is made.
            Ask::Run(_) | Ask::OfToken(..) | Ask::ById(_) | Ask::List(_) | Ask::Disks(_) | Ask::Drop(_) => {}
        }
    }

    fn run(&mut self, now_ms: u64, wish: &MachineWish) -> Result<Machine, AdapterError> {
        let subject = || format!("machine {}", wish.key.machine);
        if SHARED.iter().any(|what| !self.shared.contains(&(wish.key.owner.clone(), *what))) {
            let reason = "InvalidGroup.NotFound: what its machines share is not there".into();
            return Err(AdapterError::Invalid { subject: subject(), reason });
        }
        let is_it = |it: &Made| it.token == wish.key.token && !it.planted;
        if let Some((id, made)) = self.made.iter().find(|(_, it)| is_it(it) && !self.is_forgetful) {
            if self.habit == Cloud::RacesNames && now_ms < made.since_ms + MAKING_MS {
                let reason = "409: an order of this token is being carried out".into();
                return Err(AdapterError::Transient { subject: subject(), reason });
            }
            return Ok(made.shown(id));
        }
        if let Some((id, _)) = self.made.iter().find(|(_, it)| is_it(it) && !it.phase.is_over()) {
            self.found.push(format!("doubled machine: {} is ordered while {id} is there", wish.key.machine));
        }
        self.made_last += 1;
        let id = format!("i-{:04}", self.made_last);
        let made = Made {
            owner: wish.key.owner.clone(),
            machine: wish.key.machine.clone(),
            token: wish.key.token.clone(),
            phase: MachinePhase::Starting,
            address: format!("{id}.cloud.example"),
            fingerprint: fingerprint(&wish.user_data),
            reason: String::new(),
            since_ms: now_ms,
            ends_ms: None,
            planted: false,
        };
        let shown = made.shown(&id);
        self.made.insert(id, made);
        Ok(shown)
    }

    /// As clouds do it: the firewall's group stays while a machine that is ending has it.
    fn clear(&mut self, owner: &Owner) -> Vec<String> {
        let phases: Vec<MachinePhase> =
            self.made.values().filter(|it| it.owner == *owner).map(|made| made.phase).collect();
        if phases.iter().any(|phase| !phase.is_over()) {
            return Vec::new();
        }
        let is_ending = phases.contains(&MachinePhase::Ending);
        let goes = SHARED.into_iter().filter(|what| !is_ending || *what != SHARED[0]);
        goes.filter(|what| self.shared.remove(&(owner.clone(), *what))).map(str::to_owned).collect()
    }

    /// What it shows now: where lists are late, what it had then.
    fn shown(&self, now_ms: u64, is_asked: impl Fn(&str, &Made) -> bool) -> Told {
        let none = BTreeMap::new();
        let there = if self.habit == Cloud::ListsLate {
            self.past.iter().rev().find(|(at_ms, _)| at_ms + LIST_LATE_MS <= now_ms).map_or(&none, |(_, all)| all)
        } else {
            &self.made
        };
        let mut all: Vec<(&String, &Made)> = there.iter().filter(|(id, made)| is_asked(id, made)).collect();
        all.sort_by_key(|(_, made)| made.since_ms);
        Told::Machines(all.into_iter().map(|(id, made)| made.shown(id)).collect())
    }

    fn remember(&mut self, now_ms: u64) {
        if self.habit == Cloud::ListsLate {
            self.past.push((now_ms, self.made.clone()));
        }
    }

    /// Notes which step of a leader's has come here.
    fn reach(&mut self, ask: &Ask) {
        match ask {
            Ask::Run(wish) => self.reached.push(trap::create_machine(&wish.key.machine)),
            Ask::End(id) => {
                let Some(made) = self.made.get(id) else { return };
                let step = if made.planted { trap::remove_stray(id) } else { trap::delete_machine(&made.machine) };
                self.reached.push(step);
            }
            Ask::Drop(id) => self.reached.push(trap::remove_stray(id)),
            Ask::OfToken(..) | Ask::ById(_) | Ask::List(_) | Ask::Share(_) | Ask::Clear(_) | Ask::Disks(_) => {}
        }
    }

    /// The key that SSH shows at an address; nothing if nobody answers there.
    pub(crate) fn greets(&self, now_ms: u64, address: &str) -> Option<Option<String>> {
        let made = self.made.values().find(|made| made.address == address)?;
        let answers = made.phase == MachinePhase::Running && now_ms >= made.since_ms + ANSWERS_MS;
        Some(answers.then(|| made.fingerprint.clone()))
    }

    /// Since when a machine or a disk is there.
    pub(crate) fn since_ms(&self, id: &str) -> Option<u64> {
        let made = self.made.get(id).filter(|made| !made.phase.is_over());
        made.map(|made| made.since_ms).or_else(|| self.volume_since_ms(id))
    }

    /// The cloud ends a machine by itself.
    pub(crate) fn end_by_itself(&mut self, now_ms: u64, machine: &str) {
        for made in self.made.values_mut().filter(|made| made.machine == machine) {
            made.end(now_ms, 0);
            made.reason = "Server.SpotInstanceTermination".into();
        }
        self.remember(now_ms);
    }

    /// Puts a machine there that nobody ordered; where lists are late it is shown late.
    pub(crate) fn plant(&mut self, now_ms: u64, id: &str, owner: Owner, machine: &str, token: &str) {
        let made = Made {
            owner,
            machine: machine.into(),
            token: token.into(),
            phase: MachinePhase::Running,
            address: format!("{id}.cloud.example"),
            fingerprint: String::new(),
            reason: String::new(),
            since_ms: now_ms,
            ends_ms: None,
            planted: true,
        };
        self.made.insert(id.into(), made);
        self.remember(now_ms);
    }

    /// How often one order of a machine, and one end of it, came again at most.
    pub(crate) fn repeats(&self) -> (u64, u64) {
        let most = |what: &str| self.arrived.iter().filter(|((it, _), _)| *it == what).map(|(_, times)| *times).max();
        let again = |what: &str| most(what).unwrap_or(0).saturating_sub(1);
        (again("run"), again("end"))
    }

    /// Takes the steps whose call has arrived.
    pub(crate) fn take_reached(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.reached)
    }

    /// Takes the addresses of machines that are over.
    pub(crate) fn take_ended(&mut self) -> Vec<String> {
        std::mem::take(&mut self.ended)
    }

    /// Takes lines for the trace.
    pub(crate) fn take_said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// Takes what did not hold.
    pub(crate) fn take_found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }
}

/// What of a token is told.
fn short(token: &str) -> &str {
    token.get(..8).unwrap_or(token)
}

/// The host key that a machine has of what its first start is told (cloud-init's `ssh_keys`).
fn fingerprint(user_data: &str) -> String {
    let public = user_data.lines().find_map(|line| line.trim().strip_prefix("ed25519_public: ssh-ed25519 "));
    let blob = public.and_then(|text| BASE64_STANDARD.decode(text.trim()).ok()).unwrap_or_default();
    let hash = ring::digest::digest(&ring::digest::SHA256, &blob);
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(hash))
}
