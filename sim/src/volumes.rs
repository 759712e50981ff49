//! Disks of a cloud's region that no machine has: how they are shown and how they go.
//!
//! A disk is shown as free until its deletion arrives. Where things go slowly it is then shown as going, and where lists are late
//! everything is shown as it was.

use hanse_adapters_core::cloud::{Disk, Owner};
use hanse_state::State;

use crate::cloud::{Cloud, DELETE_MS, LIST_LATE_MS};
use crate::inventory::STRANGERS;
use crate::provider::Provider;

/// A disk that was put there by the run.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    owner: Owner,
    kept: bool,
    since_ms: u64,
    /// When its deletion arrived, and when that was done.
    going_ms: Option<(u64, u64)>,
}

impl Volume {
    fn is_there(&self, at_ms: u64) -> bool {
        self.since_ms <= at_ms && self.going_ms.is_none_or(|(_, gone_ms)| at_ms < gone_ms)
    }
}

impl Provider {
    /// Puts disks there that no machine has: one with this cluster's mark, one that is to be kept, and a stranger's.
    pub(crate) fn plant_volumes(&mut self, now_ms: u64, cluster: &str, cloud: &str) {
        for (id, cluster, kept) in
            [("vol-left", cluster, false), ("vol-kept", cluster, true), ("vol-stranger", STRANGERS, false)]
        {
            let owner = Owner { cluster: cluster.into(), cloud: cloud.into() };
            self.volumes.insert(id.into(), Volume { owner, kept, since_ms: now_ms, going_ms: None });
        }
    }

    /// The owner's disks, as they are shown now.
    pub(crate) fn shown_volumes(&self, now_ms: u64, owner: &Owner) -> Vec<Disk> {
        let late_ms = if self.habit == Cloud::ListsLate { LIST_LATE_MS } else { 0 };
        let Some(at_ms) = now_ms.checked_sub(late_ms) else { return Vec::new() };
        let there = self.volumes.iter().filter(|(_, it)| it.owner == *owner && it.is_there(at_ms));
        let shown = there.map(|(id, it)| Disk {
            id: id.clone(),
            machine: "old".into(),
            token: String::new(),
            gib: 10,
            is_free: it.going_ms.is_none_or(|(begin_ms, _)| at_ms < begin_ms),
            kept: it.kept,
            zone: "zone-1".into(),
        });
        shown.collect()
    }

    /// A disk is to go; a second order changes nothing.
    pub(crate) fn drop_volume(&mut self, now_ms: u64, id: &str) {
        let takes_ms = if self.habit == Cloud::DeletesSlowly { DELETE_MS } else { 0 };
        if let Some(it) = self.volumes.get_mut(id).filter(|it| it.going_ms.is_none()) {
            it.going_ms = Some((now_ms, now_ms + takes_ms));
        }
    }

    /// Since when a disk is there.
    pub(crate) fn volume_since_ms(&self, id: &str) -> Option<u64> {
        self.volumes.get(id).filter(|it| it.going_ms.is_none()).map(|it| it.since_ms)
    }

    /// Gives a disk of this cluster's that nobody wants to keep and nobody has deleted.
    pub(crate) fn left_volume(&self, state: &State) -> Option<String> {
        let cluster = state.cluster.as_ref()?.id.to_string();
        let is_left = |it: &Volume| it.owner.cluster == cluster && !it.kept && it.going_ms.is_none();
        self.volumes.iter().find(|(_, it)| is_left(it)).map(|(id, _)| format!("orphan: {id} in the cloud"))
    }

    /// Gives a disk that is kept or a stranger's and was deleted.
    pub(crate) fn robbed_volume(&self) -> Option<String> {
        let is_robbed = |it: &Volume| (it.kept || it.owner.cluster == STRANGERS) && it.going_ms.is_some();
        self.volumes.iter().find(|(_, it)| is_robbed(it)).map(|(id, _)| format!("{id}, kept or a stranger's, is gone"))
    }
}
