//! What the leader saw of the world last: heights, heartbeats, processes. In memory only.
//!
//! It is the planner's second input and the API's source for heights. A new leader begins with nothing and looks again;
//! nothing here is ever the only copy of something that matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hanse_engines_core::Signed;
use hanse_planner::{HealthView, InstanceView};
use hanse_state::Millis;
use hanse_state::ids::{ChainKey, CloudId, HostId, NodeKey};

use crate::orphans::Orphans;
use crate::series::Series;

/// What a node last said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Generation of its process.
    pub generation: u64,
    /// Latest block.
    pub height: u64,
    /// Its hash, 0x-hex.
    pub block_hash: String,
    /// When it was made, milliseconds since 1970.
    pub block_time_ms: u64,
    /// Connected peers.
    pub peers: u32,
    /// Still catching up.
    pub syncing: bool,
    /// What keeps it from following its chain, in its own words; empty if it says that it is ready, or gives no answer.
    pub reasons: Vec<String>,
    /// Process id on its host.
    pub pid: u32,
    /// When this was seen, milliseconds since 1970.
    pub at_ms: u64,
}

/// What a chain was last seen to hold of the audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnchorView {
    /// Records of the last head that it holds; 0 if none.
    pub size: u64,
    /// Root over them, hex.
    pub root: String,
    /// The block that recorded it.
    pub height: u64,
    /// Log time of that head, milliseconds since 1970.
    pub at_ms: u64,
    /// What is wrong, in words; empty if nothing is.
    pub error: String,
    /// When this was seen, milliseconds since 1970.
    pub checked_at_ms: u64,
    /// When it is looked at again.
    pub due_at_ms: u64,
}

/// One node's last looks.
#[derive(Clone, Debug, Default)]
struct Look {
    instance: Option<InstanceView>,
    view: Option<NodeView>,
}

/// The last looks, by node and by chain.
#[derive(Debug, Default)]
pub struct Observed {
    /// What is on hosts that nothing asks for.
    pub orphans: Orphans,
    /// What is in clouds that no machine is.
    pub cloud_orphans: Orphans<CloudId>,
    /// Machines that wait for a person, and until when they are left alone, milliseconds since 1970.
    rests: RwLock<BTreeMap<HostId, u64>>,
    missed: RwLock<BTreeMap<HostId, u64>>,
    nodes: RwLock<BTreeMap<NodeKey, Look>>,
    /// Of chains that record heads of the audit trail.
    anchors: RwLock<BTreeMap<ChainKey, AnchorView>>,
    /// Public keys of the validators by chain, of chains that a node is to leave.
    validators: RwLock<BTreeMap<ChainKey, BTreeSet<String>>>,
    /// How far each validator was seen to have signed; outlives a restart, because that is when it is needed.
    signed: RwLock<BTreeMap<NodeKey, Signed>>,
    /// The last day; outlives a change of leader.
    series: Series,
}

impl Observed {
    /// Nothing seen yet but what `series` knows of the last day.
    pub fn with_series(series: Series) -> Self {
        Self { series, ..Self::default() }
    }

    /// The last day as time series.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Returns what `node` last said of itself, `None` if this leader has not heard it.
    pub fn node(&self, node: &NodeKey) -> Option<NodeView> {
        self.reader().get(node).and_then(|look| look.view.clone())
    }

    /// Returns everything in the form that planners take.
    pub fn for_planning(&self) -> hanse_planner::Observed {
        let nodes = self.reader();
        let views = nodes.iter().map(|(key, look)| {
            let health = look.view.as_ref().map(|view| HealthView {
                generation: view.generation,
                height: view.height,
                peers: view.peers.into(),
                syncing: view.syncing,
                reasons: view.reasons.clone(),
                at: Millis(view.at_ms),
            });
            (key.clone(), hanse_planner::NodeView { instance: look.instance.clone(), health })
        });
        let validators = self.validators.read().unwrap_or_else(PoisonError::into_inner).clone();
        hanse_planner::Observed { nodes: views.collect(), validators }
    }

    /// Returns what `chain` was last seen to hold of the audit trail, `None` if this leader has not looked.
    pub fn anchor(&self, chain: &ChainKey) -> Option<AnchorView> {
        self.anchors.read().unwrap_or_else(PoisonError::into_inner).get(chain).cloned()
    }

    /// Keeps what `chain` was seen to hold of the audit trail.
    pub fn anchored(&self, chain: &ChainKey, view: AnchorView) {
        self.anchors.write().unwrap_or_else(PoisonError::into_inner).insert(chain.clone(), view);
    }

    /// Keeps who validates on `chain`, by public key.
    pub fn validate(&self, chain: &ChainKey, keys: BTreeSet<String>) {
        self.validators.write().unwrap_or_else(PoisonError::into_inner).insert(chain.clone(), keys);
    }

    /// Keeps a look at the process of `node`.
    pub fn saw(&self, node: &NodeKey, instance: InstanceView) {
        self.writer().entry(node.clone()).or_default().instance = Some(instance);
    }

    /// Keeps what `node` said of itself.
    pub fn heard(&self, node: &NodeKey, view: NodeView) {
        self.writer().entry(node.clone()).or_default().view = Some(view);
    }

    /// Takes back the words of `node`, which gave no answer now: what it had to say is not known any more.
    pub fn silent(&self, node: &NodeKey) {
        if let Some(view) = self.writer().get_mut(node).and_then(|look| look.view.as_mut()) {
            view.reasons.clear();
        }
    }

    /// Forgets `node`, which is asked to change: it must be looked at again.
    pub fn forget(&self, node: &NodeKey) {
        self.writer().remove(node);
    }

    /// Leaves a machine, which waits for a person, alone until then.
    pub fn machines_rest(&self, machine: &HostId, until_ms: u64) {
        self.rests.write().unwrap_or_else(PoisonError::into_inner).insert(machine.clone(), until_ms);
    }

    /// Whether a machine is left alone at that moment.
    pub fn machine_rests(&self, machine: &HostId, now_ms: u64) -> bool {
        let rests = self.rests.read().unwrap_or_else(PoisonError::into_inner);
        rests.get(machine).is_some_and(|until| now_ms < *until)
    }

    /// Since when a cloud does not show a machine; counted from now on if it was shown before.
    pub fn machine_missed(&self, machine: &HostId, now_ms: u64) -> u64 {
        *self.missed.write().unwrap_or_else(PoisonError::into_inner).entry(machine.clone()).or_insert(now_ms)
    }

    /// A cloud shows a machine.
    pub fn machine_found(&self, machine: &HostId) {
        self.missed.write().unwrap_or_else(PoisonError::into_inner).remove(machine);
    }

    /// Forgets everything; a replica that stops being the leader does so.
    pub fn clear(&self) {
        self.writer().clear();
        self.orphans.clear();
        self.cloud_orphans.clear();
        self.rests.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.missed.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.anchors.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.validators.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Keeps how far `node` has signed; it never goes back.
    pub fn has_signed(&self, node: &NodeKey, signed: Signed) {
        let mut all = self.signed.write().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(node.clone()).or_default();
        *known = signed.max(*known);
    }

    /// Returns how far `node` was seen to have signed, `None` if it was never looked at since this process began.
    pub fn signed(&self, node: &NodeKey) -> Option<Signed> {
        self.signed.read().unwrap_or_else(PoisonError::into_inner).get(node).copied()
    }

    fn reader(&self) -> RwLockReadGuard<'_, BTreeMap<NodeKey, Look>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeKey, Look>> {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner)
    }
}
