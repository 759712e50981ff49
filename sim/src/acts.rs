//! What leaders may do to hosts: each act once for each intent that this very leader has committed (RELIABILITY.md I-8).
//!
//! A leader that was deposed commits nothing more, so it begins nothing more. What it had begun before may still arrive at
//! a host; the host's keys and generations make that harmless, and `hosts` looks whether they do.

use std::collections::{BTreeMap, BTreeSet};

use hanse_raft::ReplicaId;
use hanse_state::chain::node::NodeAct;
use hanse_state::ids::{HostId, RequestId};
use hanse_state::{Applied, Command, Request, State};

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
    /// How often the removal of each orphan was written down.
    removed: BTreeMap<(HostId, String), u64>,
    /// Committed intents whose act has not begun.
    open: BTreeMap<(Life, Deed), u64>,
    /// Acts begun, for the figures.
    pub(crate) begun: u64,
    found: Vec<String>,
}

impl Acts {
    /// A leader proposes an intent.
    pub(crate) fn means(&mut self, life: Life, request: RequestId) {
        self.meant.insert(request, life);
    }

    /// A replica has applied a request; the first one counts.
    pub(crate) fn applied(&mut self, request: &Request, applied: &Applied, after: &State) {
        if let (Command::RemoveOrphan(it), true) = (&request.command, applied.outcome.is_ok())
            && self.committed.insert(request.id)
        {
            *self.removed.entry((it.host.clone(), it.object.clone())).or_default() += 1;
        }
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
        self.intended.values().copied().max().unwrap_or(0)
    }

    /// Gives an orphan whose removal was written down more often than by each of two leaders.
    pub(crate) fn removed_again(&self) -> Option<String> {
        let again = self.removed.iter().find(|(_, times)| **times > REMOVALS_MAX);
        again.map(|((host, object), times)| format!("the removal of {object} on {host} was written down {times} times"))
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
