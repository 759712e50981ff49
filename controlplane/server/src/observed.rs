//! What the leader saw of the world last: heights, heartbeats, processes. In memory only.
//!
//! It is the planner's second input and the API's source for heights. A new leader begins with nothing and looks again;
//! nothing here is ever the only copy of something that matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hanse_adapters_core::Expiry;
use hanse_engines_core::Signed;
use hanse_planner::diagnose::DoubleSign;
use hanse_planner::{HEALTH_SILENCE_MS, HealthView, InstanceView, Limits, Quiet, Run};
use hanse_state::Millis;
use hanse_state::ids::{ChainKey, CloudId, HostId, NodeKey};

use crate::config::Timing;
use crate::orphans::Orphans;
use crate::series::Series;

/// Proofs of double signing that are kept of a chain; one is reason enough to look.
pub const DOUBLE_SIGNS_MAX: usize = 100;

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
    quiet: Option<Quiet>,
    /// Generation of the process that had ended when it was asked where it stands.
    placed: Option<u64>,
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
    /// Certificates that hosts were last reached with.
    expiries: RwLock<BTreeMap<HostId, Vec<Expiry>>>,
    /// Proofs of double signing by chain, each once whoever kept it.
    double_signs: RwLock<BTreeMap<ChainKey, BTreeSet<DoubleSign>>>,
    /// Since when this replica leads, milliseconds since 1970.
    since: AtomicU64,
    /// The last day; outlives a change of leader.
    series: Series,
    /// How patient this replica is.
    limits: Limits,
}

impl Observed {
    /// Nothing seen yet but what `series` knows of the last day.
    pub fn with_series(series: Series) -> Self {
        Self { series, ..Self::default() }
    }

    /// The same, as patient as `timing` says.
    #[must_use]
    pub fn with_timing(self, timing: &Timing) -> Self {
        Self { limits: Limits { hang_ms: timing.hang_ms }, ..self }
    }

    /// The last day as time series.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Returns what `node` last said of itself, `None` if this leader has not heard it.
    pub fn node(&self, node: &NodeKey) -> Option<NodeView> {
        self.reader().get(node).and_then(|look| look.view.clone())
    }

    /// Returns the greatest height of the other nodes of the chain of `node` that were heard lately, 0 if none was.
    pub(crate) fn best_height(&self, node: &NodeKey, now_ms: u64) -> u64 {
        best_of_others(&self.reader(), node, now_ms)
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
        let quiet = nodes.iter().filter_map(|(key, look)| Some((key.clone(), look.quiet?))).collect();
        let placed = nodes.iter().filter_map(|(key, look)| Some((key.clone(), look.placed?))).collect();
        let validators = self.validators.read().unwrap_or_else(PoisonError::into_inner).clone();
        let since = Millis(self.since.load(Ordering::Relaxed));
        hanse_planner::Observed { nodes: views.collect(), validators, quiet, placed, since, limits: self.limits }
    }

    /// Returns what `chain` was last seen to hold of the audit trail, `None` if this leader has not looked.
    pub fn anchor(&self, chain: &ChainKey) -> Option<AnchorView> {
        self.anchors.read().unwrap_or_else(PoisonError::into_inner).get(chain).cloned()
    }

    /// Keeps the certificates that `host` was reached with, in place of those of the last time.
    pub fn reached_with(&self, host: &HostId, expiries: Vec<Expiry>) {
        self.expiries.write().unwrap_or_else(PoisonError::into_inner).insert(host.clone(), expiries);
    }

    /// Returns the certificates that hosts were last reached with.
    pub fn expiries(&self) -> Vec<(HostId, Expiry)> {
        let all = self.expiries.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().flat_map(|(host, list)| list.iter().map(|it| (host.clone(), it.clone()))).collect()
    }

    /// Keeps proofs of double signing that a node of `chain` told of, up to [`DOUBLE_SIGNS_MAX`], the newest.
    pub fn double_signed(&self, chain: &ChainKey, proofs: impl IntoIterator<Item = DoubleSign>) {
        let mut all = self.double_signs.write().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(chain.clone()).or_default();
        known.extend(proofs);
        while known.len() > DOUBLE_SIGNS_MAX {
            known.pop_first();
        }
    }

    /// Returns the proofs of double signing that nodes told of, by chain.
    pub fn double_signs(&self) -> BTreeMap<ChainKey, Vec<DoubleSign>> {
        let all = self.double_signs.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(chain, proofs)| (chain.clone(), proofs.iter().cloned().collect())).collect()
    }

    /// Keeps what `chain` was seen to hold of the audit trail.
    pub fn anchored(&self, chain: &ChainKey, view: AnchorView) {
        self.anchors.write().unwrap_or_else(PoisonError::into_inner).insert(chain.clone(), view);
    }

    /// Keeps who validates on `chain`, by public key.
    pub fn validate(&self, chain: &ChainKey, keys: BTreeSet<String>) {
        self.validators.write().unwrap_or_else(PoisonError::into_inner).insert(chain.clone(), keys);
    }

    /// Forgets who validates on `chain`.
    pub fn validators_unknown(&self, chain: &ChainKey) {
        self.validators.write().unwrap_or_else(PoisonError::into_inner).remove(chain);
    }

    /// Keeps a look at the process of `node`; of one that does not run it is not known whether it would answer.
    pub fn saw(&self, node: &NodeKey, instance: InstanceView) {
        let mut nodes = self.writer();
        let look = nodes.entry(node.clone()).or_default();
        if instance.run != Run::Running {
            look.quiet = None;
        }
        look.instance = Some(instance);
    }

    /// Keeps that it was asked whether `node`, whose process of `generation` had ended, stands at the height it was told of.
    pub(crate) fn placed(&self, node: &NodeKey, generation: u64) {
        self.writer().entry(node.clone()).or_default().placed = Some(generation);
    }

    /// Keeps what `node` said of itself.
    pub fn heard(&self, node: &NodeKey, view: NodeView) {
        let mut nodes = self.writer();
        let best = best_of_others(&nodes, node, view.at_ms);
        let look = nodes.entry(node.clone()).or_default();
        let last = look.view.as_ref().filter(|old| old.generation == view.generation).map(|old| old.height);
        let (heights, at) = ((last, view.height, best), Millis(view.at_ms));
        look.quiet = Some(Quiet::after_answer(look.quiet, view.generation, heights, at));
        look.view = Some(view);
    }

    /// Keeps that `node`, whose process of `generation` runs, gave no answer at `at` to a look that began at `began`.
    pub fn mute(&self, node: &NodeKey, generation: u64, began: Millis, at: Millis) {
        let mut nodes = self.writer();
        let look = nodes.entry(node.clone()).or_default();
        look.quiet = Some(Quiet::after_silence(look.quiet, generation, began, at));
    }

    /// Whether `node` would answer is not known now: what was seen of its silence does not count.
    pub fn unquiet(&self, node: &NodeKey) {
        if let Some(look) = self.writer().get_mut(node) {
            look.quiet = None;
        }
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

    /// This replica leads from `now_ms` on.
    pub fn begin(&self, now_ms: u64) {
        self.since.store(now_ms, Ordering::Relaxed);
    }

    /// Forgets everything; a replica that stops being the leader does so.
    pub fn clear(&self) {
        self.writer().clear();
        self.orphans.clear();
        self.cloud_orphans.clear();
        self.rests.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.missed.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.anchors.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.expiries.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.double_signs.write().unwrap_or_else(PoisonError::into_inner).clear();
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

/// The greatest height of the other nodes of the chain of `node` that were heard lately.
fn best_of_others(nodes: &BTreeMap<NodeKey, Look>, node: &NodeKey, now_ms: u64) -> u64 {
    let first = NodeKey::new(node.chain.clone(), hanse_state::ids::NodeId::new(0));
    let chain = nodes.range(first..).take_while(|(key, _)| key.chain == node.chain);
    let others = chain.filter(|(key, _)| *key != node).filter_map(|(_, look)| look.view.as_ref());
    let fresh = others.filter(|view| now_ms.saturating_sub(view.at_ms) < HEALTH_SILENCE_MS);
    fresh.map(|view| view.height).max().unwrap_or(0)
}
