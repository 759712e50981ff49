//! The hosts that nodes run on: a world outside the replicas, which goes on when all of them have crashed.
//!
//! A call takes its time to the host and back. What it orders happens when it arrives, whether or not anyone still waits
//! for the answer: a leader may have crashed, given up or been deposed meanwhile, and an order may arrive after a later
//! one. A host keeps its word as every adapter must (`hanse_adapters_core::conformance`): it creates or adopts by key, and
//! leaves a newer generation alone.

use std::collections::{BTreeMap, BTreeSet};

use hanse_adapters_core::{AdapterError, InstanceKey, InstanceSpec, InstanceStatus, RunState};
use hanse_engines_core::NodeHealth;
use hanse_state::Digest;
use tokio::sync::oneshot;

use crate::ask::{Ask, Told, outcome, words};
use crate::chains::{Chains, Tx};
use crate::cloud::{Fate, Flaw, Sky, Temper};
use crate::dice::Dice;

/// The file without which no node starts.
pub(crate) const GENESIS_FILE: &str = "genesis";
/// The file with a node's settings, a name and a value in each line.
pub(crate) const SETTINGS_FILE: &str = "settings";
/// The setting that the sweep changes, and a value with which no node starts.
pub(crate) const SETTING: &str = "mempool_transactions";
pub(crate) const SETTING_BAD: u64 = 666;
/// So often the schedule ends the process of one node; more would spend the node's budget of restarts.
const DEATHS_MAX: u64 = 2;
/// One block in so many milliseconds.
pub(crate) const BLOCK_MS: u64 = 500;

type Answer = oneshot::Sender<Result<Told, AdapterError>>;

struct Call {
    host: String,
    ask: Ask,
    fate: Fate,
    back_ms: u64,
    answer: Answer,
}

pub(crate) struct Process {
    pid: u32,
    since_ms: u64,
    port: u16,
    pub(crate) hangs_until_ms: u64,
    /// How far behind the chain it is.
    pub(crate) behind_ms: u64,
    /// What it took, and when that comes into a block.
    pub(crate) waiting: Vec<(u64, Tx)>,
    /// The same of seats.
    pub(crate) seats: Vec<(u64, bool)>,
}

/// An instance's home on its host.
#[derive(Default)]
pub(crate) struct Home {
    pub(crate) name: String,
    pub(crate) identity: Option<String>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The generation whose files were written last; 0 before the first that named one.
    pub(crate) written: u64,
    pub(crate) generation: u64,
    /// The first generation that may run.
    pub(crate) fence: u64,
    pub(crate) process: Option<Process>,
    /// The settings as they were when it was started last.
    pub(crate) runs_with: Vec<u8>,
    pub(crate) deaths: u64,
    /// Since when it is there, once a tick has seen it.
    pub(crate) since_ms: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Host {
    pub(crate) homes: BTreeMap<InstanceKey, Home>,
    denied_until_ms: u64,
    down_until_ms: u64,
}

/// All hosts, by address, and the calls on their way.
pub(crate) struct Hosts {
    pub(crate) hosts: BTreeMap<String, Host>,
    /// Addresses at which a machine was that is no more.
    gone: BTreeSet<String>,
    calls: BTreeMap<(u64, u64), Call>,
    answers: BTreeMap<(u64, u64), (Answer, Result<Told, AdapterError>)>,
    pub(crate) number_last: u64,
    pid_last: u32,
    pub(crate) dice: Dice,
    pub(crate) temper: Temper,
    pub(crate) sky: Sky,
    pub(crate) flaw: Flaw,
    pub(crate) chains: Chains,
    /// When the first node of each genesis started: height goes on from there, whoever starts anew.
    born: BTreeMap<Digest, u64>,
    /// Starts of processes, for the figures.
    pub(crate) started: u64,
    pub(crate) said: Vec<String>,
    found: Vec<String>,
}

impl Hosts {
    pub(crate) fn new(seed: u64, flaw: Flaw) -> Self {
        Self {
            hosts: BTreeMap::new(),
            gone: BTreeSet::new(),
            calls: BTreeMap::new(),
            answers: BTreeMap::new(),
            number_last: 0,
            pid_last: 0,
            dice: Dice::new(seed, "hosts"),
            temper: Temper::default(),
            sky: Sky::default(),
            flaw,
            chains: Chains::default(),
            born: BTreeMap::new(),
            started: 0,
            said: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Sends a call on its way.
    pub(crate) fn call(&mut self, now_ms: u64, host: &str, ask: Ask, answer: Answer) {
        let Temper { refused, lost, lied, slow } = self.temper;
        let die = self.dice.range(0, 99);
        let fate = match die {
            _ if die < refused => Fate::Refused,
            _ if die < refused + lost => Fate::Lost,
            _ if die < refused + lost + lied => Fate::Lied,
            _ => Fate::Answered,
        };
        let mut way = || if self.dice.chance(slow) { self.dice.range(1_000, 12_000) } else { self.dice.range(1, 60) };
        let (there_ms, back_ms) = (way(), way());
        // A habit is not the dice's, so that its runs do not change those without.
        let (fate, there_ms) = self.sky.meets(&ask).map_or((fate, there_ms), |(fate, late)| (fate, there_ms + late));
        self.number_last += 1;
        let call = Call { host: host.to_owned(), ask, fate, back_ms, answer };
        self.calls.insert((now_ms + there_ms, self.number_last), call);
    }

    /// Carries out what has arrived and hands over the answers that are back.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        while let Some(entry) = self.calls.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            let ((_, number), call) = entry.remove_entry();
            let back = (now_ms + call.back_ms, number);
            let result = self.arrive(now_ms, &call);
            self.sky.arrived(&call.ask);
            self.remember(now_ms, &call.host);
            self.said.push(format!("{} {}: {:?} {}", call.host, words(&call.ask), call.fate, outcome(&result)));
            if call.fate != Fate::Lost {
                self.answers.insert(back, (call.answer, result));
            }
        }
        while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            let (answer, result) = entry.remove();
            // Who asked may be gone.
            drop(answer.send(result));
        }
        self.finish_deletions(now_ms);
        let homes = self.hosts.values_mut().flat_map(|host| host.homes.values_mut());
        homes.for_each(|home| home.since_ms = home.since_ms.or(Some(now_ms)));
        self.make_blocks(now_ms);
    }

    fn arrive(&mut self, now_ms: u64, call: &Call) -> Result<Told, AdapterError> {
        let transient =
            |reason: &str| AdapterError::Transient { subject: format!("host {}", call.host), reason: reason.into() };
        if self.gone.contains(&call.host) {
            return Err(transient("out of reach"));
        }
        let host = self.hosts.entry(call.host.clone()).or_default();
        if call.fate == Fate::Refused || host.down_until_ms > now_ms {
            return Err(transient("out of reach"));
        }
        if host.denied_until_ms > now_ms {
            let subject = format!("host {}", call.host);
            return Err(AdapterError::Denied { subject, reason: "the credential is refused".into() });
        }
        if let (Ask::Remove(key, upto), true) = (&call.ask, call.fate != Fate::Throttled) {
            self.check_newest(&call.host, key, *upto, "removed")?;
        }
        match call.fate {
            Fate::Throttled => return Err(transient("429: too many requests")),
            Fate::Half => {
                self.half(&call.host, &call.ask);
                return Err(transient("500: it ended half-way"));
            }
            Fate::Answered | Fate::Refused | Fate::Denied | Fate::Lost | Fate::Lied => {}
        }
        let result = self.habit(now_ms, &call.host, &call.ask);
        let result = result.unwrap_or_else(|| self.carry_out(now_ms, &call.host, &call.ask));
        if call.fate == Fate::Lied { Err(transient("the connection broke")) } else { result }
    }

    fn carry_out(&mut self, now_ms: u64, address: &str, ask: &Ask) -> Result<Told, AdapterError> {
        if let Ask::Fence(key, generation) = ask {
            return self.fence(address, key, *generation).map(|()| Told::Done);
        }
        if let Ask::Ensure(spec) = ask {
            return self.ensure(now_ms, address, spec).map(|status| Told::Seen(Some(status)));
        }
        if let Ask::Seat(key, validates) = ask {
            return self.seat(now_ms, address, key, *validates);
        }
        if matches!(ask, Ask::Send(..) | Ask::Find(..)) {
            return self.ask_node(now_ms, address, ask);
        }
        if let Ask::Write(key, generation, files) = ask {
            return self.write(address, key, *generation, files).map(|()| Told::Done);
        }
        if let Some(carried) = self.carry(address, ask) {
            return carried;
        }
        if let (Ask::List(_), Some(list)) = (ask, self.late_list(now_ms, address)) {
            return Ok(Told::List(list));
        }
        let all_genesis = self.running_genesis();
        let host = self.hosts.entry(address.to_owned()).or_default();
        Ok(match ask {
            Ask::Fence(..) | Ask::Write(..) => unreachable!("carried out above"),
            Ask::Inspect => Told::Inspected,
            Ask::MakeKeys(key) => {
                let count = u64::try_from(host.homes.len()).expect("homes in memory");
                let home = host.homes.entry(key.clone()).or_default();
                // Another home would have other keys.
                let made = || Digest::of(format!("{address} {key} {count} {now_ms}").as_bytes()).to_string();
                Told::Identity(home.identity.get_or_insert_with(made).clone())
            }
            Ask::Look(key) => Told::Seen(host.homes.get(key).map(|home| status(key, home))),
            Ask::Health(key) => {
                let home = host.homes.get(key);
                Told::Health(home.and_then(|home| health(now_ms, home, &all_genesis, &self.born)))
            }
            Ask::Validators(key) => {
                let home = host.homes.get(key).filter(|home| home.process.is_some());
                let genesis = home.and_then(|home| home.files.get(GENESIS_FILE));
                Told::Validators(genesis.map(|genesis| self.chains.validators(genesis, validators(genesis))))
            }
            Ask::Stop(key) => {
                if let Some(home) = host.homes.get_mut(key) {
                    home.process = None;
                }
                Told::Done
            }
            Ask::Remove(key, _) => {
                host.homes.remove(key);
                Told::Done
            }
            Ask::List(cluster) => {
                let ours = host.homes.iter().filter(|(key, _)| key.cluster() == cluster);
                Told::List(ours.map(|(key, home)| status(key, home)).collect())
            }
            Ask::Ensure(_) | Ask::Send(..) | Ask::Find(..) | Ask::Seat(..) => unreachable!("answered above"),
            Ask::ListHome(_) | Ask::ReadPiece(..) | Ask::WritePiece(..) => unreachable!("answered above"),
        })
    }

    fn ensure(&mut self, now_ms: u64, address: &str, spec: &InstanceSpec) -> Result<InstanceStatus, AdapterError> {
        let key = self.key_of(spec);
        let host = self.hosts.entry(address.to_owned()).or_default();
        let like = host.homes.get(&spec.key).map(|home| (home.identity.clone(), home.files.clone()));
        let home = host.homes.entry(key.clone()).or_default();
        if let (Flaw::Nameless, Some((identity, files))) = (self.flaw, like) {
            (home.identity, home.files) = (identity, files);
        }
        if home.generation > spec.generation {
            let reason = format!("generation {} is there, {} was asked for", home.generation, spec.generation);
            return Err(AdapterError::Invalid { subject: spec.key.to_string(), reason });
        }
        if home.fence > spec.generation {
            let reason = format!("only generation {} or later may run, {} was asked for", home.fence, spec.generation);
            return Err(AdapterError::Invalid { subject: spec.key.to_string(), reason });
        }
        if home.generation == spec.generation && self.flaw != Flaw::Blind {
            return Ok(status(&spec.key, home));
        }
        if self.flaw == Flaw::Blind && home.process.is_some() {
            self.found.push(format!("doubled node: {key} on {address} is started while it runs"));
        }
        // The older one ends before the newer one begins.
        home.generation = spec.generation;
        home.name = key.to_string();
        let ready = home.identity.is_some() && home.files.contains_key(GENESIS_FILE);
        let port = spec.args.last().and_then(|port| port.parse().ok()).unwrap_or_default();
        self.pid_last += 1;
        let behind_ms = self.dice.pick(&[0, 0, 500, 3_000]);
        let (pid, since_ms) = (self.pid_last, now_ms);
        let process =
            Process { pid, since_ms, port, hangs_until_ms: 0, behind_ms, waiting: Vec::new(), seats: Vec::new() };
        if let Some(genesis) = home.files.get(GENESIS_FILE).filter(|_| ready) {
            self.born.entry(Digest::of(genesis)).or_insert(now_ms);
        }
        let starts = ready && home.files.get(SETTINGS_FILE).is_none_or(|it| !ends_at_once(it));
        home.process = starts.then_some(process);
        home.runs_with = home.files.get(SETTINGS_FILE).cloned().unwrap_or_default();
        let identity = home.identity.clone();
        let told = status(&spec.key, home);
        self.started += 1;
        self.check_key(identity.as_ref());
        let host = self.hosts.entry(address.to_owned()).or_default();
        let on_port = |(_, home): &(&InstanceKey, &Home)| home.process.as_ref().is_some_and(|it| it.port == port);
        let rivals: Vec<String> = host.homes.iter().filter(on_port).map(|(key, _)| key.to_string()).collect();
        if rivals.len() > 1 {
            self.found.push(format!("doubled node: {} live on port {port} of {address}", rivals.join(" and ")));
        }
        Ok(told)
    }

    /// As hosts do it: what is older than what is there is refused.
    pub(crate) fn check_newest(
        &self,
        address: &str,
        key: &InstanceKey,
        generation: u64,
        what: &str,
    ) -> Result<(), AdapterError> {
        let home = self.hosts.get(address).and_then(|host| host.homes.get(key));
        let known = home.map_or(0, |home| home.generation.max(home.fence));
        if known <= generation {
            return Ok(());
        }
        let reason = format!("generation {known} is there, {generation} was to be {what}");
        Err(AdapterError::Invalid { subject: key.to_string(), reason })
    }

    pub(crate) fn fence(&mut self, address: &str, key: &InstanceKey, generation: u64) -> Result<(), AdapterError> {
        self.check_newest(address, key, generation, "stopped")?;
        let home = self.hosts.entry(address.to_owned()).or_default().homes.entry(key.clone()).or_default();
        (home.fence, home.process) = (generation, None);
        Ok(())
    }

    fn key_of(&mut self, spec: &InstanceSpec) -> InstanceKey {
        match self.flaw {
            Flaw::None | Flaw::Blind | Flaw::Resigned => spec.key.clone(),
            Flaw::Nameless => {
                self.number_last += 1;
                let object = format!("{}.{}", spec.key.object(), self.number_last);
                InstanceKey::new(spec.key.cluster(), &object).expect("a key with a number is a key")
            }
        }
    }

    /// The genesis of every process that runs: what peers count.
    fn running_genesis(&self) -> Vec<Vec<u8>> {
        let homes = self.hosts.values().flat_map(|host| host.homes.values());
        homes.filter(|home| home.process.is_some()).filter_map(|home| home.files.get(GENESIS_FILE).cloned()).collect()
    }

    /// Takes lines for the trace.
    pub(crate) fn take_said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// Takes what did not hold.
    pub(crate) fn take_found(&mut self) -> Vec<String> {
        let mut found = std::mem::take(&mut self.found);
        found.extend(self.chains.take_found());
        found
    }

    /// A machine is gone with everything on it.
    pub(crate) fn lose(&mut self, address: &str) {
        if self.gone.insert(address.to_owned()) {
            self.hosts.remove(address);
        }
    }

    /// This host is one that nobody reaches until then.
    pub(crate) fn down_at(&mut self, address: &str, until_ms: u64) {
        self.hosts.entry(address.to_owned()).or_default().down_until_ms = until_ms;
    }

    /// Keeps what did not hold.
    pub(crate) fn note(&mut self, found: String) {
        self.found.push(found);
    }

    /// A host that nobody reaches until then.
    pub(crate) fn down(&mut self, until_ms: u64) -> Option<String> {
        let (address, host) = self.any_host()?;
        host.down_until_ms = until_ms;
        Some(address)
    }

    /// A host that lets nobody in until then.
    pub(crate) fn deny(&mut self, until_ms: u64) -> Option<String> {
        let (address, host) = self.any_host()?;
        host.denied_until_ms = until_ms;
        Some(address)
    }

    fn any_host(&mut self) -> Option<(String, &mut Host)> {
        let addresses: Vec<String> = self.hosts.keys().cloned().collect();
        let address = (!addresses.is_empty()).then(|| self.dice.pick(&addresses))?;
        let host = self.hosts.get_mut(&address)?;
        Some((address, host))
    }

    fn any_process(&mut self) -> Option<&mut Home> {
        let runs = |home: &Home| home.process.is_some() && home.deaths < DEATHS_MAX;
        let all: Vec<(String, InstanceKey)> = self
            .hosts
            .iter()
            .flat_map(|(address, host)| host.homes.iter().map(move |(key, home)| (address, key, home)))
            .filter(|(_, _, home)| runs(home))
            .map(|(address, key, _)| (address.clone(), key.clone()))
            .collect();
        let (address, key) = (!all.is_empty()).then(|| self.dice.pick(&all))?;
        self.hosts.get_mut(&address)?.homes.get_mut(&key)
    }

    /// A node's process ends by itself.
    pub(crate) fn kill(&mut self) -> Option<String> {
        let home = self.any_process()?;
        home.process = None;
        home.deaths += 1;
        Some(home.name.clone())
    }

    /// A node's process lives and does not answer until then.
    pub(crate) fn hang(&mut self, until_ms: u64) -> Option<String> {
        let home = self.any_process()?;
        home.process.as_mut()?.hangs_until_ms = until_ms;
        Some(home.name.clone())
    }

    /// From now on every call is answered soon.
    pub(crate) fn calm(&mut self) {
        self.temper = Temper::default();
        for host in self.hosts.values_mut() {
            (host.denied_until_ms, host.down_until_ms) = (0, 0);
            host.homes.values_mut().filter_map(|home| home.process.as_mut()).for_each(|it| it.hangs_until_ms = 0);
        }
    }
}

pub(crate) fn status(key: &InstanceKey, home: &Home) -> InstanceStatus {
    let run = match &home.process {
        Some(process) => RunState::Running { pid: process.pid, since_ms: process.since_ms },
        None if home.generation == 0 => RunState::Prepared,
        None => RunState::Exited { code: Some(1), signal: None, last_log: "ended".into() },
    };
    InstanceStatus { key: key.clone(), generation: home.generation, run, taken: false }
}

/// What a node says of itself; nothing if it is dead or hangs.
fn health(now_ms: u64, home: &Home, all_genesis: &[Vec<u8>], born: &BTreeMap<Digest, u64>) -> Option<NodeHealth> {
    home.process.as_ref().filter(|it| it.hangs_until_ms <= now_ms)?;
    let own = home.files.get(GENESIS_FILE)?;
    let born_ms = born.get(&Digest::of(own)).copied().unwrap_or(now_ms);
    let peers = all_genesis.iter().filter(|genesis| *genesis == own).count().saturating_sub(1);
    let height = (now_ms - born_ms) / BLOCK_MS;
    Some(NodeHealth {
        height,
        block_hash: format!("0x{height:064x}"),
        block_time_ms: born_ms + height * BLOCK_MS,
        peers: u32::try_from(peers).expect("a few nodes"),
        syncing: false,
        version: "sim".into(),
        reasons: Vec::new(),
        power: None,
    })
}

/// The value of a setting in a file of settings, if it names it.
pub(crate) fn setting(file: &[u8], name: &str) -> Option<u64> {
    let text = String::from_utf8_lossy(file);
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Whether a node with these settings ends as soon as it is started.
fn ends_at_once(file: &[u8]) -> bool {
    setting(file, SETTING) == Some(SETTING_BAD)
}

/// A validator in the file of a genesis: this word, its name, its key.
pub(crate) const VALIDATOR: &str = "validator";

/// Names and keys of those who validate: here as at the beginning.
pub(crate) fn validators(genesis: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(genesis);
    let one = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
        [word, name, key] if *word == VALIDATOR => Some(((*name).to_owned(), (*key).to_owned())),
        _ => None,
    };
    text.lines().filter_map(one).collect()
}
