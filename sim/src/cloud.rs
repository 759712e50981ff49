//! How hosts and clouds answer: the dice of a run under faults, the habits of a cloud, and mistakes put in on purpose.
//!
//! A habit is what a cloud does without being broken. Those that concern a call strike the first call of each kind on each
//! thing, so that every step of a run meets it once, and never the same step for ever; how late a list is and how slowly a
//! thing goes is the cloud's nature and stays so to the end.

use std::collections::{BTreeMap, BTreeSet};

use hanse_adapters_core::{AdapterError, InstanceKey, InstanceStatus};
use hanse_state::chain::node::NodeAct;

use crate::ask::{Ask, Told};
use crate::hosts::{Hosts, status};
use crate::sweep::Stage;

/// How late a list is, where it is.
pub(crate) const LIST_LATE_MS: u64 = 5_000;
/// How long a thing takes to go, where that is slow.
pub(crate) const DELETE_MS: u64 = 8_000;
/// How long a thing is being made, where names are raced for.
pub(crate) const MAKING_MS: u64 = 1_000;
/// How long a late call is on its way: longer than anyone waits, and than it takes the next leader to do it again.
pub(crate) const LATE_MS: u64 = 9_000;

/// What a cloud does beside what it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cloud {
    /// Nothing.
    #[default]
    Calm,
    /// It does a thing, and the answer is lost.
    LosesReplies,
    /// It refuses: too many requests (429).
    Throttles,
    /// It does a thing and says that it failed (500).
    FailsAfterwards,
    /// Its lists are five seconds old.
    ListsLate,
    /// A thing is being made for a second, and meanwhile its name is taken (409).
    RacesNames,
    /// What is removed goes after eight seconds, and is shown until then.
    DeletesSlowly,
    /// It does half of a thing and says that it failed.
    HalfSucceeds,
    /// A call is on its way for nine seconds: its sender has given up, and others have done it before it comes.
    ArrivesLate,
    /// It refuses an order of a machine: the account has as many as it may have. Only regions do so, hosts do not.
    LacksRoom,
}

impl Cloud {
    /// Every habit.
    pub const ALL: [Self; 10] = [
        Self::Calm,
        Self::LosesReplies,
        Self::Throttles,
        Self::FailsAfterwards,
        Self::ListsLate,
        Self::RacesNames,
        Self::DeletesSlowly,
        Self::HalfSucceeds,
        Self::ArrivesLate,
        Self::LacksRoom,
    ];

    /// Its name on the command line and in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::LosesReplies => "loses-replies",
            Self::Throttles => "throttles",
            Self::FailsAfterwards => "fails-afterwards",
            Self::ListsLate => "lists-late",
            Self::RacesNames => "races-names",
            Self::DeletesSlowly => "deletes-slowly",
            Self::HalfSucceeds => "half-succeeds",
            Self::ArrivesLate => "arrives-late",
            Self::LacksRoom => "lacks-room",
        }
    }

    /// Whether a stage can meet it.
    pub(crate) const fn is_met_by(self, stage: Stage) -> bool {
        !matches!(self, Self::LacksRoom) || stage.is_of_machines()
    }
}

/// What a cloud remembers.
#[derive(Default)]
pub(crate) struct Sky {
    pub(crate) cloud: Cloud,
    /// Calls that have met the habit.
    met: BTreeSet<(&'static str, InstanceKey)>,
    /// Until when a thing is being made.
    making: BTreeMap<InstanceKey, u64>,
    /// When a thing is gone, by its host.
    going: BTreeMap<(String, InstanceKey), u64>,
    /// Lists as they were, by host, oldest first.
    lists: BTreeMap<String, Vec<(u64, Vec<InstanceStatus>)>>,
    /// Acts whose call has arrived since they were last taken, by the object they are done to.
    reached: Vec<(NodeAct, String)>,
}

impl Sky {
    /// What becomes of a call, and how much longer it is on its way there; `None` if the dice decide.
    pub(crate) fn meets(&mut self, ask: &Ask) -> Option<(Fate, u64)> {
        if self.cloud == Cloud::Calm {
            return None;
        }
        let (act, key) = of(ask)?;
        let is_first = self.met.insert((act.word(), key.clone()));
        // No host has a limit that an account could reach.
        let fate = if is_first && self.cloud != Cloud::LacksRoom { fate(self.cloud) } else { Fate::Answered };
        Some((fate, if is_first && self.cloud == Cloud::ArrivesLate { LATE_MS } else { 0 }))
    }

    /// From now on each thing meets the habit once more.
    pub(crate) fn begin_anew(&mut self) {
        self.met.clear();
    }

    /// Remembers that a call has arrived.
    pub(crate) fn arrived(&mut self, ask: &Ask) {
        if let Some((act, key)) = of(ask) {
            self.reached.push((act, key.object().to_owned()));
        }
    }

    /// Takes the acts whose call has arrived.
    pub(crate) fn take_reached(&mut self) -> Vec<(NodeAct, String)> {
        std::mem::take(&mut self.reached)
    }
}

/// The act on a node that a call carries out.
fn of(ask: &Ask) -> Option<(NodeAct, &InstanceKey)> {
    match ask {
        Ask::MakeKeys(key) => Some((NodeAct::Prepare, key)),
        Ask::Write(key, ..) => Some((NodeAct::Configure, key)),
        Ask::Ensure(spec) => Some((NodeAct::Start, &spec.key)),
        Ask::Stop(key) | Ask::Fence(key, _) => Some((NodeAct::Stop, key)),
        Ask::Remove(key, _) => Some((NodeAct::Remove, key)),
        Ask::Inspect | Ask::Look(_) | Ask::Health(_) | Ask::Validators(_) | Ask::Send(..) | Ask::Find(..) => None,
        Ask::Seat(key, _) => Some((NodeAct::Seat, key)),
        Ask::WritePiece(key, ..) => Some((NodeAct::Carry, key)),
        Ask::List(_) | Ask::ListHome(_) | Ask::ReadPiece(..) => None,
    }
}

impl Hosts {
    /// What the cloud's habit makes of a call that has arrived; `None` if nothing.
    pub(crate) fn habit(&mut self, now_ms: u64, address: &str, ask: &Ask) -> Option<Result<Told, AdapterError>> {
        let refused = |key: &InstanceKey, reason: &str| {
            Some(Err(AdapterError::Transient { subject: key.to_string(), reason: reason.into() }))
        };
        let (act, key) = of(ask)?;
        if self.sky.going.contains_key(&(address.to_owned(), key.clone())) {
            return match act {
                NodeAct::Remove => Some(Ok(Told::Done)),
                _ => refused(key, "409: it is being deleted"),
            };
        }
        match (self.sky.cloud, act) {
            (Cloud::DeletesSlowly, NodeAct::Remove) => {
                let home = self.hosts.get_mut(address).and_then(|host| host.homes.get_mut(key))?;
                // Nothing but a fence is nothing to delete.
                if home.identity.is_none() && home.files.is_empty() && home.generation == 0 {
                    return None;
                }
                home.process = None;
                self.sky.going.insert((address.to_owned(), key.clone()), now_ms + DELETE_MS);
                Some(Ok(Told::Done))
            }
            (Cloud::RacesNames, NodeAct::Prepare) => match self.sky.making.get(key) {
                Some(until_ms) if *until_ms > now_ms => refused(key, "409: this name is being made"),
                Some(_) => None,
                None => {
                    self.sky.making.insert(key.clone(), now_ms + MAKING_MS);
                    None
                }
            },
            _ => None,
        }
    }

    /// Does a part of what is asked.
    pub(crate) fn half(&mut self, address: &str, ask: &Ask) {
        let Some((_, key)) = of(ask) else { return };
        let host = self.hosts.entry(address.to_owned()).or_default();
        match ask {
            // A home without keys, or without its files.
            Ask::MakeKeys(_) | Ask::Write(..) => {
                host.homes.entry(key.clone()).or_default();
            }
            // The older process has ended, the newer one was not started.
            Ask::Ensure(spec) => {
                if let Some(home) = host.homes.get_mut(key).filter(|home| home.generation < spec.generation) {
                    home.process = None;
                }
            }
            // The fence stands, the process runs on.
            Ask::Fence(_, generation) => {
                if let Some(home) = host.homes.get_mut(key) {
                    home.fence = home.fence.max(*generation);
                }
            }
            // A piece of the piece.
            Ask::WritePiece(key, generation, piece) => {
                drop(self.write_piece(address, key, *generation, piece, piece.content.len() / 2));
            }
            // The files are gone, the home is not.
            Ask::Remove(..) => {
                if let Some(home) = host.homes.get_mut(key) {
                    (home.process, home.identity) = (None, None);
                    home.files.clear();
                }
            }
            _ => {}
        }
    }

    /// What has been removed long enough ago goes.
    pub(crate) fn finish_deletions(&mut self, now_ms: u64) {
        let gone: Vec<_> = self.sky.going.extract_if(.., |_, at_ms| *at_ms <= now_ms).map(|(place, _)| place).collect();
        for (address, key) in gone {
            if let Some(host) = self.hosts.get_mut(&address) {
                host.homes.remove(&key);
            }
        }
    }

    /// Keeps what a host has now, for lists that are late.
    pub(crate) fn remember(&mut self, now_ms: u64, address: &str) {
        if self.sky.cloud != Cloud::ListsLate {
            return;
        }
        let there = self.hosts.get(address).into_iter().flat_map(|host| &host.homes);
        let list: Vec<InstanceStatus> = there.map(|(key, home)| status(key, home)).collect();
        self.sky.lists.entry(address.to_owned()).or_default().push((now_ms, list));
    }

    /// What a host says it has, `None` if that is what it has.
    pub(crate) fn late_list(&self, now_ms: u64, address: &str) -> Option<Vec<InstanceStatus>> {
        if self.sky.cloud != Cloud::ListsLate {
            return None;
        }
        let lists = self.sky.lists.get(address).map(Vec::as_slice).unwrap_or_default();
        let old = lists.iter().rev().find(|(at_ms, _)| at_ms + LIST_LATE_MS <= now_ms);
        Some(old.map(|(_, list)| list.clone()).unwrap_or_default())
    }
}

/// What becomes of a call that meets a habit.
pub(crate) const fn fate(habit: Cloud) -> Fate {
    match habit {
        Cloud::LosesReplies => Fate::Lost,
        Cloud::Throttles => Fate::Throttled,
        Cloud::FailsAfterwards => Fate::Lied,
        Cloud::HalfSucceeds => Fate::Half,
        Cloud::LacksRoom => Fate::Denied,
        Cloud::Calm | Cloud::ListsLate | Cloud::RacesNames | Cloud::DeletesSlowly | Cloud::ArrivesLate => {
            Fate::Answered
        }
    }
}

/// How calls go wrong, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Temper {
    /// It never arrives.
    pub(crate) refused: u64,
    /// It is done, and the answer is lost.
    pub(crate) lost: u64,
    /// It is done, and the answer says that it failed.
    pub(crate) lied: u64,
    /// It takes seconds, perhaps longer than anyone waits.
    pub(crate) slow: u64,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    Refused,
    Lost,
    Lied,
    /// Refused, for there are too many.
    Throttled,
    /// Refused until a person does something about it.
    Denied,
    /// A part of it is done, and the answer says that it failed.
    Half,
}

/// A mistake of the hosts, put in on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flaw {
    #[default]
    None,
    /// Creates without looking whether it is there.
    Blind,
    /// Creates under a new name each time.
    Nameless,
    /// Takes the same transaction as another one each time.
    Resigned,
}
