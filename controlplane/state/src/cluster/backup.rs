//! Backups, and the life that begins with a restore.
//!
//! A backup is asked for by an entry of its own, so that the trail says who took a copy of everything, and so that the
//! copy, made of the state after that entry, holds all that was acknowledged before. A restore is an entry too, the one
//! right after the backup's: the chain of audit records goes on across the seam. Restored, the cluster is *paused*: its
//! reconcilers touch no host until an administrator resumes it, because the cluster it was copied from may still run.

use serde::{Deserialize, Serialize};

use super::Cluster;
use super::version::Version;
use crate::apply::Cx;
use crate::chain::node::{Node, NodeState};
use crate::check;
use crate::command::Outcome;
use crate::digest::Digest;
use crate::ids::{BackupId, ChainKey, IncarnationId, NodeKey};
use crate::time::Millis;
use crate::{Rejection, State, name};

/// How far generations are raised when a restored cluster is resumed: more than any node comes to between a backup and its loss.
pub const GENERATIONS_MAX: u64 = 1_000_000;

/// A backup that was asked for. Whether the copy arrived is known to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupNote {
    /// Its id.
    pub id: BackupId,
    /// When.
    pub at: Millis,
    /// The entry that asked for it; the copy is at this revision or a little later.
    pub revision: u64,
}

/// Where a cluster was restored from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// This life of the platform.
    pub incarnation: IncarnationId,
    /// The backup.
    pub backup: BackupId,
    /// Revision of the backup.
    pub from_revision: u64,
    /// Name of the cluster that the backup was taken of.
    pub from_name: String,
    /// When.
    pub at: Millis,
    /// When an administrator said that the old cluster is gone; until then hosts are left alone.
    pub resumed_at: Option<Millis>,
}

/// Asks for a backup. By an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBackup {
    /// Its id, chosen by the proposer.
    pub backup: BackupId,
    /// The backup whose history it continues; `None` if it is whole.
    pub base: Option<BackupId>,
}

/// Begins another life after a backup. By the system, as the first entry after the backup's; never over the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreCluster {
    /// The backup.
    pub backup: BackupId,
    /// Revision of the backup.
    pub revision: u64,
    /// Digest of the state in the backup.
    pub digest: Digest,
    /// The new life.
    pub incarnation: IncarnationId,
    /// Name of the new cluster; another than the old one's, so that certificates keep their replicas apart.
    pub name: String,
}

/// Lets a restored cluster act on hosts again. By an administrator, who has made sure that the old cluster is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeCluster {
    /// The life that is meant, so that a word about another cluster is refused.
    pub incarnation: IncarnationId,
}

fn cluster(state: &State) -> Result<Cluster, Rejection> {
    check::cluster_id(state)?;
    state.cluster.clone().ok_or_else(|| check::wrong_state("cluster", "the cluster".into(), "not initialised", ""))
}

/// Raises the generations of all nodes beyond what they may have come to after the backup: hosts refuse what is older than what they
/// have.
fn raise(state: &mut State, cx: &mut Cx<'_>) {
    // Hosts know the numbers of nodes of others too, once they are taken over: of those that were given back as well.
    let is_on_host = |node: &&Node| node.watched.is_none() || node.adopting.is_some();
    let keys: Vec<NodeKey> = state.nodes.values().filter(is_on_host).map(|node| node.key.clone()).collect();
    for key in keys {
        if let Some(node) = state.nodes.get_mut(&key) {
            node.generation = node.generation.saturating_add(GENERATIONS_MAX);
            // What was begun before the backup is begun again under the new number.
            node.intent = None;
            cx.updated(name::node(&key));
        }
    }
    let chains: Vec<ChainKey> = state.retired.keys().cloned().collect();
    for key in chains {
        let newest = state.retired.get(&key).copied().unwrap_or(0);
        state.retired.insert(key, newest.saturating_add(GENERATIONS_MAX));
    }
}

/// Whether the node's process was started before a restored cluster was resumed, under a number that no node has any more: that it is
/// started anew is nobody's fault, and counts against nobody.
pub fn is_from_before(state: &State, node: &Node) -> bool {
    let restored = state.cluster.as_ref().and_then(|cluster| cluster.restored.as_ref());
    let resumed_at = restored.and_then(|restored| restored.resumed_at);
    node.state == NodeState::Running
        && node.generation > GENERATIONS_MAX
        && resumed_at.is_some_and(|at| node.state_since <= at)
}

pub(crate) fn create(state: &mut State, cx: &mut Cx<'_>, c: &CreateBackup) -> Result<Outcome, Rejection> {
    let mut cluster = cluster(state)?;

    cluster.last_backup = Some(BackupNote { id: c.backup, at: cx.now, revision: cx.revision });
    state.cluster = Some(cluster);
    cx.updated("cluster".into());
    Ok(Outcome::Done { resource: "cluster".into() })
}

pub(crate) fn restore(state: &mut State, cx: &mut Cx<'_>, c: &RestoreCluster) -> Result<Outcome, Rejection> {
    let mut cluster = cluster(state)?;
    check::text("name", &c.name, check::DISPLAY_NAME_MAX)?;
    if c.name == cluster.name {
        return Err(check::invalid("name", &c.name, "another name than that of the cluster the backup was taken of"));
    }
    if c.revision.checked_add(1) != Some(cx.revision) {
        return Err(check::invalid("revision", c.revision, "that of the entry right before"));
    }
    if c.digest != state.digest() {
        return Err(check::invalid("digest", c.digest, format!("this state's, {}", state.digest())));
    }

    cluster.restored = Some(Restored {
        incarnation: c.incarnation,
        backup: c.backup,
        from_revision: c.revision,
        from_name: std::mem::replace(&mut cluster.name, c.name.clone()),
        at: cx.now,
        resumed_at: None,
    });
    // The replicas of the new life have other certificates and folders: none of the old ones is known.
    cluster.replicas = crate::replica::Replicas::default();
    state.cluster = Some(cluster);
    // A token of the old cluster must open nothing here.
    state.sessions.clear();
    cx.updated("cluster".into());
    Ok(Outcome::Done { resource: "cluster".into() })
}

pub(crate) fn resume(state: &mut State, cx: &mut Cx<'_>, c: &ResumeCluster) -> Result<Outcome, Rejection> {
    let mut cluster = cluster(state)?;
    let Some(restored) = &mut cluster.restored else {
        return Err(check::wrong_state(
            "cluster",
            "the cluster".into(),
            "not restored",
            "a cluster restored from a backup",
        ));
    };
    if restored.incarnation != c.incarnation {
        return Err(check::invalid("incarnation", c.incarnation, format!("this cluster's, {}", restored.incarnation)));
    }
    if restored.resumed_at.is_some() {
        return Ok(Outcome::Unchanged { resource: "cluster".into() });
    }

    restored.resumed_at = Some(cx.now);
    state.cluster = Some(cluster);
    if state.version() >= Version::HEIGHTS {
        raise(state, cx);
    }
    cx.updated("cluster".into());
    Ok(Outcome::Done { resource: "cluster".into() })
}
