//! What leaders may do to hosts: each act once for each intent that this very leader has committed (RELIABILITY.md I-8).
//!
//! A leader that was deposed commits nothing more, so it begins nothing more. What it had begun before may still arrive at
//! a host; the host's keys and generations make that harmless, and `hosts` looks whether they do.

use std::collections::{BTreeMap, BTreeSet};

use hanse_raft::ReplicaId;
use hanse_state::chain::node::NodeAct;
use hanse_state::cloud::MachineAct;
use hanse_state::ids::RequestId;
use hanse_state::{Applied, Command, Request, State, name};

/// A leader writes the removal of an orphan down once, and in a run of the sweep there are two.
const REMOVALS_MAX: u64 = 2;

/// One life of a replica, from start to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    pub(crate) replica: ReplicaId,
    pub(crate) number: u64,
}

/// Where a node is; the state gives each place to one node, whatever a host calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// An act on one generation of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deed {
    pub(crate) place: Place,
    pub(crate) generation: u64,
    pub(crate) act: NodeAct,
}

/// Intents and acts of a run.
#[derive(Default)]
pub(crate) struct Acts {
    /// Who proposed which intent.
    meant: BTreeMap<RequestId, Life>,
    committed: BTreeSet<RequestId>,
    /// How often each act on a generation of a node was intended.
    intended: BTreeMap<(Place, u64, NodeAct), u64>,
    /// How often the removal of each orphan was written down, by host or cloud and by its name there.
    removed: BTreeMap<(String, String), u64>,
    /// Committed intents whose act has not begun.
    open: BTreeMap<(Life, Deed), u64>,
    /// The same of orders of machines, by token.
    orders: BTreeMap<(Life, String), u64>,
    /// What a leader may end in a cloud: tokens of machines, names of orphans. One intent may end more than one of a token.
    ends: BTreeSet<(Life, String)>,
    /// Acts begun, for the figures.
    pub(crate) begun: u64,
    found: Vec<String>,
}

impl Acts {
    /// A leader proposes an intent.
    pub(crate) fn means(&mut self, life: Life, request: RequestId) {
        self.meant.insert(request, life);
    }

    /// A replica has applied a request; the first one counts. Gives whether that was the removal of an orphan.
    pub(crate) fn applied(&mut self, request: &Request, applied: &Applied, after: &State) -> bool {
        match &request.command {
            Command::RemoveOrphan(_) | Command::RemoveCloudOrphan(_) | Command::RecordMachineIntent(_)
                if applied.outcome.is_ok() && self.committed.insert(request.id) =>
            {
                self.applied_first(request)
            }
            Command::RecordIntent(_) => {
                self.intended(request, applied, after);
                false
            }
            _ => false,
        }
    }

    /// An order that concerns a cloud, or the removal of an orphan.
    fn applied_first(&mut self, request: &Request) -> bool {
        let life = self.meant.get(&request.id).copied();
        let (place, object) = match &request.command {
            Command::RemoveOrphan(it) => (name::host(&it.host), &it.object),
            Command::RemoveCloudOrphan(it) => {
                self.ends.extend(life.map(|life| (life, it.instance.clone())));
                (name::cloud(&it.cloud), &it.instance)
            }
            Command::RecordMachineIntent(it) => {
                let Some(life) = life else { return false };
                let key = (life, it.token.to_string());
                match it.act {
                    MachineAct::Create => *self.orders.entry(key).or_default() += 1,
                    MachineAct::Delete => drop(self.ends.insert(key)),
                }
                return false;
            }
            _ => return false,
        };
        *self.removed.entry((place, object.clone())).or_default() += 1;
        true
    }

    /// A leader begins to order a machine, or to end the one that its cloud calls `id`.
    pub(crate) fn begins_machine(&mut self, life: Life, token: &str, act: MachineAct, id: &str) {
        self.begun += 1;
        let is_meant = match act {
            MachineAct::Create => match self.orders.get_mut(&(life, token.to_owned())) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    true
                }
                Some(_) | None => false,
            },
            MachineAct::Delete => [token, id].iter().any(|what| self.ends.contains(&(life, (*what).to_owned()))),
        };
        if !is_meant {
            let Life { replica, number } = life;
            self.found
                .push(format!("act without intent: {replica} in its life {number} begins to {act:?} a machine {id}"));
        }
    }

    /// The intent of an act on a node.
    fn intended(&mut self, request: &Request, applied: &Applied, after: &State) {
        let (Command::RecordIntent(intent), Some(life)) = (&request.command, self.meant.get(&request.id)) else {
            return;
        };
        if !self.committed.insert(request.id) || applied.outcome.is_err() {
            return;
        }
        let node = after.nodes.get(&intent.node).expect("a node whose intent was taken");
        let host = node.host.as_ref().and_then(|id| after.hosts.get(id)).expect("such a node has a host");
        let place = Place { host: host.peer_address.clone(), port: node.p2p_port };
        let deed = Deed { place, generation: intent.generation, act: intent.act };
        *self.intended.entry((deed.place.clone(), deed.generation, deed.act)).or_default() += 1;
        *self.open.entry((*life, deed)).or_default() += 1;
    }

    /// A leader begins an act.
    pub(crate) fn begins(&mut self, life: Life, deed: Deed) {
        self.begun += 1;
        let key = (life, deed);
        match self.open.get_mut(&key) {
            Some(left) if *left > 0 => *left -= 1,
            Some(_) | None => {
                let (Life { replica, number }, deed) = &key;
                self.found.push(format!("act without intent: {replica} in its life {number} begins {deed:?}"));
            }
        }
    }

    /// How often one act on one generation of a node was intended at most.
    pub(crate) fn repeats(&self) -> u64 {
        // A seat is asked about until its ledger has followed.
        let acts = self.intended.iter().filter(|((_, _, act), _)| *act != NodeAct::Seat);
        acts.map(|(_, times)| *times).max().unwrap_or(0)
    }

    /// Gives an orphan whose removal was written down more often than by each of two leaders.
    pub(crate) fn removed_again(&self) -> Option<String> {
        let again = self.removed.iter().find(|(_, times)| **times > REMOVALS_MAX);
        again.map(|((place, object), times)| {
            format!("the removal of {object} on {place} was written down {times} times")
        })
    }

    /// How many orphans were removed.
    pub(crate) fn removals(&self) -> u64 {
        self.removed.len() as u64
    }

    /// Takes what did not hold.
    pub(crate) fn take_found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }
}
