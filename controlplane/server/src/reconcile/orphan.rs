//! Looking for what is on a host and nothing asks for: shown, and after a second look and the grace time removed.
//!
//! Such things are left by what nobody could foresee: a host that was away while its node was given up, an adapter's act
//! whose answer was lost, a home put back by hand. Only what carries this cluster's mark is ever looked at, and the state
//! is read *after* the host, so that what was ordered a moment ago is not taken for one. The removal is written down before it
//! is done, and that entry's check is the word that counts.
//!
//! What it never does: remove what a node of the state is called, on whatever host that is now (a validator's keys may be in
//! it, and moving them is a person's or the move's business), what was taken over from its owner's home, or anything after a restore, whose backup may be older than
//! what is on the hosts; these are shown with the reason.

use std::collections::BTreeSet;

use hanse_adapters_core::{InstanceKey, InstanceStatus, RunState};
use hanse_state::chain::node::{instance_object, is_object_of};
use hanse_state::cluster::version::Version;
use hanse_state::host::HostState;
use hanse_state::host::orphan::RemoveOrphan;
use hanse_state::ids::HostId;
use hanse_state::{Command, Millis, State, name};
use tracing::{info, warn};

use super::World;
use super::act::Trouble;
use super::driver::ActOn;
use crate::config::Timing;
use crate::orphans::{Found, Orphan};

/// The version that [`RemoveOrphan`] came with.
const REMOVES_SINCE: Version = Version(4);
/// Hosts are looked at so often within the grace time, so that the second look does not come long after it.
const LOOKS_IN_GRACE: u64 = 3;
/// Shortest and longest pause between two looks at a host, milliseconds.
const LOOK_MS_MIN: u64 = 500;
const LOOK_MS_MAX: u64 = 5 * 60 * 1_000;

/// Plans a look at each host that is due for one.
pub(super) fn plan(world: &World, state: &State, mut due: impl FnMut(String, ActOn)) {
    let now = (world.clock)().0;
    let pause = look_pause_ms(&world.timing);
    for (id, host) in &state.hosts {
        let looked = world.observed.orphans.looked_at(id);
        if host.state == HostState::Distrusted || looked.is_some_and(|at| now < at.saturating_add(pause)) {
            continue;
        }
        let (world, id) = (world.clone(), id.clone());
        let act = async move { sweep(&world, &id).await };
        due(format!("{}/orphans", name::host(&host.id)), Box::pin(act));
    }
}

/// Pause between two looks at one place, milliseconds.
pub(super) fn look_pause_ms(timing: &Timing) -> u64 {
    (timing.orphan_grace_ms / LOOKS_IN_GRACE).clamp(LOOK_MS_MIN, LOOK_MS_MAX)
}

async fn sweep(world: &World, id: &HostId) -> Result<(), Trouble> {
    let stale = |what: &str| Trouble::Stale(format!("host {id}: {what}"));
    let local = world.replica.local();
    let cluster = local.cluster.as_ref().ok_or_else(|| stale("the cluster has no name yet"))?.id.to_string();
    let host = local.hosts.get(id).ok_or_else(|| stale("is gone"))?.clone();
    let adapter = world.hosts.connect(&host).await?;
    let there = adapter.list(&cluster).await?;
    // Only now: whatever is there and asked for was asked for before it was made.
    let state = world.replica.read().await.map_err(|error| stale(&format!("no majority answers: {error}")))?;
    let now = (world.clock)().0;
    let grace = world.timing.orphan_grace_ms;
    world.observed.orphans.saw(id, now, grace, unasked(&state, id, &there));
    for orphan in world.observed.orphans.due(id, now) {
        let key = InstanceKey::new(&cluster, &orphan.object).ok_or_else(|| stale("an orphan cannot be named"))?;
        order(world, id, &orphan).await?;
        // What is still on its way to a host when a chain of that name is made again must not reach its nodes.
        match retired(&state, &orphan.object) {
            Some(newest) => adapter.remove_at(&key, orphan.generation.max(newest)).await?,
            None => adapter.remove(&key).await?,
        }
        info!(host = %id, object = %orphan.object, "an orphan was removed");
        world.observed.orphans.gone(id, &orphan.object);
    }
    Ok(())
}

/// The newest generation of a former chain's nodes, if the object has the name of one of them.
fn retired(state: &State, object: &str) -> Option<u64> {
    state.retired.iter().find(|(chain, _)| is_object_of(object, chain)).map(|(_, newest)| *newest)
}

/// Writes the removal down, once by each leader.
async fn order(world: &World, id: &HostId, orphan: &Orphan) -> Result<(), Trouble> {
    if orphan.ordered {
        return Ok(());
    }
    warn!(host = %id, object = %orphan.object, "removing what no node is");
    let remove = RemoveOrphan {
        host: id.clone(),
        object: orphan.object.clone(),
        generation: orphan.generation,
        seen_since: Millis(orphan.first_seen_ms),
    };
    world.order(Command::RemoveOrphan(remove)).await?;
    world.observed.orphans.ordered(id, &orphan.object);
    Ok(())
}

/// What of `there` is not a node that the state has on host `id`.
fn unasked(state: &State, id: &HostId, there: &[InstanceStatus]) -> Vec<Found> {
    let here = state.nodes.values().filter(|node| node.host.as_ref() == Some(id));
    let asked: BTreeSet<String> = here.map(|node| instance_object(&node.key)).collect();
    let anywhere: BTreeSet<String> = state.nodes.keys().map(instance_object).collect();
    let restored = state.cluster.as_ref().is_some_and(|cluster| cluster.restored.is_some());
    let kept = |object: &String, taken: bool| {
        if taken {
            "it was taken over from its owner's home and did not go back there: it may be the only copy of what its key has signed. \
             Its owner decides (operations.md, section 11)"
        } else if anywhere.contains(object) {
            "a node of this name is on another host or waits for one: look which of the two has its keys"
        } else if restored {
            "this cluster was restored from a backup that may be older than this: remove it by hand if it is not needed"
        } else if state.version() < REMOVES_SINCE {
            "the cluster's version does not know removals yet: raise it with `hanse cluster upgrade`"
        } else {
            ""
        }
    };
    there
        .iter()
        .map(|status| (status.key.object().to_owned(), status))
        .filter(|(object, _)| !asked.contains(object))
        .map(|(object, status)| Found {
            generation: status.generation,
            runs: matches!(status.run, RunState::Running { .. }),
            kept: kept(&object, status.taken).into(),
            object,
        })
        .collect()
}
