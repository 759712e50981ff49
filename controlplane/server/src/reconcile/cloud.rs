//! Looking at clouds for what carries this cluster's mark and no machine is or has, and for machines that were ended there.
//!
//! What nobody could foresee leaves machines behind: an order whose leader was deposed while it was under way, a cloud that
//! forgot a token and made a second one, a restore. As on hosts the state is read *after* the cloud, a thing must be there at
//! two looks and for the grace time, and the removal is an entry of its own before it is done; its check is the word that counts.
//!
//! What it never does: touch what lacks the mark or is to be kept, or remove anything after a restore, whose backup may be older.

use std::collections::{BTreeMap, BTreeSet};

use hanse_adapters_core::cloud::{Cloud, Disk, Machine as Seen, MachinePhase, Owner};
use hanse_state::cloud::{Machine, MachineFact, MachineState, RemoveCloudOrphan, query};
use hanse_state::cluster::version::Version;
use hanse_state::ids::CloudId;
use hanse_state::{Command, Millis, State, name};
use tracing::{info, warn};

use super::World;
use super::act::Trouble;
use super::driver::ActOn;
use super::machine;
use super::orphan::look_pause_ms;
use crate::orphans::{Found, Orphan};

/// What a host's machine waits for while its cloud does not show it.
const UNSEEN: &str = "the cloud does not show it: looked for again; it counts as ended after the orphans' grace";

/// Plans a look at each cloud that is due for one.
pub(super) fn plan(world: &World, state: &State, mut due: impl FnMut(String, ActOn)) {
    let now = (world.clock)().0;
    let pause = look_pause_ms(&world.timing);
    for id in state.clouds.keys() {
        let looked = world.observed.cloud_orphans.looked_at(id);
        if looked.is_none_or(|at| now >= at.saturating_add(pause)) {
            let (world, id) = (world.clone(), id.clone());
            due(format!("{}/orphans", name::cloud(&id)), Box::pin(async move { sweep(&world, &id).await }));
        }
    }
}

async fn sweep(world: &World, id: &CloudId) -> Result<(), Trouble> {
    let (cloud, owner) = machine::reach(world, &world.replica.local(), id).await?;
    let there = cloud.list(&owner).await?;
    // What cannot be told of disks keeps nothing from being done about machines.
    let (disks, untold) = match disks(world, &*cloud, &owner).await {
        Ok(disks) => (disks, Ok(())),
        Err(trouble) => (Vec::new(), Err(trouble)),
    };
    // Only now: whatever is there and asked for was asked for before it was made.
    let state = world.replica.read().await;
    let state = state.map_err(|error| Trouble::Stale(format!("cloud {id}: no majority answers: {error}")))?;
    let now = (world.clock)().0;
    world.observed.cloud_orphans.saw(id, now, world.timing.orphan_grace_ms, unasked(&state, id, &there, &disks));
    let machines = there.iter().map(|it| (it.id.as_str(), (it.token.as_str(), Kind::Machine)));
    let known: BTreeMap<&str, (&str, Kind)> =
        machines.chain(disks.iter().map(|it| (it.id.as_str(), (it.token.as_str(), Kind::Disk)))).collect();
    miss(world, &state, id, &*cloud, &owner, &there).await?;
    // One that cannot be deleted keeps none of the others.
    let mut first = Ok(());
    for orphan in world.observed.cloud_orphans.due(id, now) {
        // What is due was seen at this look.
        let Some(what) = known.get(orphan.object.as_str()) else { continue };
        if let Err(trouble) = delete(world, id, &*cloud, &owner, &orphan, *what).await {
            warn!(cloud = %id, instance = %orphan.object, %trouble, "an orphan could not be deleted");
            first = first.and(Err(trouble));
        }
    }
    first.and(untold)?;
    clear(&state, id, &*cloud, &owner, &there).await
}

/// Removes what machines of a cloud shared, once there are none: the last two may have gone at once, each with the other still
/// there, and a firewall's group stays while a machine that is ending has it.
///
/// Not after a restore, whose state may be older than what is there. A machine that is ordered at this very moment may miss what
/// it needs; its order is then made again.
async fn clear(state: &State, id: &CloudId, cloud: &dyn Cloud, owner: &Owner, there: &[Seen]) -> Result<(), Trouble> {
    let restored = state.cluster.as_ref().is_some_and(|cluster| cluster.restored.is_some());
    if restored || !there.is_empty() || query::machines_of(state, id).next().is_some() {
        return Ok(());
    }
    for what in cloud.clear(owner).await? {
        info!(cloud = %id, what, "no machine needs it any more; removed");
    }
    Ok(())
}

async fn delete(
    world: &World,
    id: &CloudId,
    cloud: &dyn Cloud,
    owner: &Owner,
    orphan: &Orphan,
    what: (&str, Kind),
) -> Result<(), Trouble> {
    order(world, id, orphan, what).await?;
    match what.1 {
        Kind::Machine => cloud.delete(owner, &orphan.object).await?,
        Kind::Disk => cloud.delete_disk(owner, &orphan.object).await?,
    }
    info!(cloud = %id, instance = %orphan.object, "an orphan was deleted");
    world.observed.cloud_orphans.gone(id, &orphan.object);
    Ok(())
}

/// Writes the removal down, once by each leader.
async fn order(world: &World, id: &CloudId, orphan: &Orphan, what: (&str, Kind)) -> Result<(), Trouble> {
    if orphan.ordered {
        return Ok(());
    }
    warn!(cloud = %id, instance = %orphan.object, "deleting what no machine is");
    let remove = RemoveCloudOrphan {
        cloud: id.clone(),
        instance: orphan.object.clone(),
        token: what.0.to_owned(),
        seen_since: Millis(orphan.first_seen_ms),
        disk: what.1 == Kind::Disk,
    };
    world.order(Command::RemoveCloudOrphan(remove)).await?;
    world.observed.cloud_orphans.ordered(id, &orphan.object);
    Ok(())
}

/// What an orphan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Machine,
    Disk,
}

/// The owner's disks; none as long as the cluster's version knows none.
async fn disks(world: &World, cloud: &dyn Cloud, owner: &Owner) -> Result<Vec<Disk>, Trouble> {
    if world.replica.local().version() < Version::DISKS {
        return Ok(Vec::new());
    }
    Ok(cloud.disks(owner).await?)
}

/// Why a disk stays although nothing asks for it; empty if it does not.
fn kept_disk(disk: &Disk) -> String {
    if !disk.kept {
        return String::new();
    }
    let (gib, machine, zone) = (disk.gib, &disk.machine, &disk.zone);
    format!(
        "{gib} GiB of {machine} in {zone}, ordered to be kept: delete it in the cloud when it is not needed any more"
    )
}

/// What of `there` no machine of the state is, and which disks no machine has or will have.
fn unasked(state: &State, id: &CloudId, there: &[Seen], disks: &[Disk]) -> Vec<Found> {
    let known: BTreeSet<&str> = query::machines_of(state, id).filter_map(|it| it.instance.as_deref()).collect();
    // Those whose order may be under way: the cloud's name of them is not known yet.
    let ordered: BTreeSet<String> =
        query::machines_of(state, id).filter(|it| it.instance.is_none()).map(|it| it.token.to_string()).collect();
    let restored = state.cluster.as_ref().is_some_and(|cluster| cluster.restored.is_some());
    let kept = if restored {
        "this cluster was restored from a backup that may be older than this: delete it in the cloud if it is not needed"
    } else {
        ""
    };
    let machines =
        there.iter().filter(|it| !known.contains(it.id.as_str()) && !ordered.contains(&it.token)).map(|it| Found {
            object: it.id.clone(),
            generation: 0,
            runs: it.phase == MachinePhase::Running,
            kept: kept.into(),
        });
    let tokens: BTreeSet<String> = query::machines_of(state, id).map(|it| it.token.to_string()).collect();
    let disks = disks.iter().filter(|it| it.is_free && !tokens.contains(&it.token)).map(|it| {
        let ours = kept_disk(it);
        let kept = if ours.is_empty() { kept.into() } else { ours };
        Found { object: it.id.clone(), generation: 0, runs: false, kept }
    });
    machines.chain(disks).collect()
}

/// Hosts that are not in the list are looked at by name: the cloud may have ended them.
async fn miss(
    world: &World,
    state: &State,
    id: &CloudId,
    cloud: &dyn Cloud,
    owner: &Owner,
    there: &[Seen],
) -> Result<(), Trouble> {
    found_again(world, state, id, there).await?;
    let missed = |it: &&Machine| {
        it.state == MachineState::Ready && there.iter().all(|seen| Some(&seen.id) != it.instance.as_ref())
    };
    for lost in query::machines_of(state, id).filter(missed) {
        let seen = cloud.find(&machine::key(lost, owner.clone()), lost.instance.as_deref()).await?;
        let seen = seen.into_iter().find(|seen| Some(&seen.id) == lost.instance.as_ref());
        let reason = match seen {
            Some(seen) if seen.phase.is_over() => machine::ended(&seen),
            // It was only late in the list.
            Some(_) => {
                shown(world, lost).await?;
                continue;
            }
            None => match unseen(world, lost).await? {
                Some(reason) => reason,
                None => continue,
            },
        };
        warn!(machine = %lost.id, reason, "a cloud ended a host");
        machine::record(world, lost, MachineFact::Ended { reason }).await?;
    }
    Ok(())
}

/// Why a machine that the cloud does not show at all counts as gone; `None` as long as it may only be late to show it.
async fn unseen(world: &World, lost: &Machine) -> Result<Option<String>, Trouble> {
    let now = (world.clock)().0;
    let since = world.observed.machine_missed(&lost.id, now);
    if now.saturating_sub(since) >= world.timing.orphan_grace_ms {
        let minutes = now.saturating_sub(since) / 60_000;
        return Ok(Some(format!("the cloud has not shown it for {minutes} minutes")));
    }
    machine::wait(world, lost, UNSEEN).await?;
    Ok(None)
}

/// Takes back what was said of machines that the cloud shows again.
async fn found_again(world: &World, state: &State, id: &CloudId, there: &[Seen]) -> Result<(), Trouble> {
    let is_shown = |it: &&Machine| there.iter().any(|seen| Some(&seen.id) == it.instance.as_ref());
    for machine in query::machines_of(state, id).filter(is_shown) {
        shown(world, machine).await?;
    }
    Ok(())
}

async fn shown(world: &World, machine: &Machine) -> Result<(), Trouble> {
    world.observed.machine_found(&machine.id);
    if machine.state_reason == UNSEEN {
        machine::record(world, machine, MachineFact::Waiting { reason: String::new() }).await?;
    }
    Ok(())
}
