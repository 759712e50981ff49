//! Machines of clouds: ordered once, looked at until they answer with their key, and deleted.
//!
//! `RecordMachineIntent` → [`Cloud::ensure`] (which looks by the token before it orders) → `Launched`, with the host key that the
//! machine must show → looks, until the cloud says where it is and SSH shows that key there → `Answers`, whose entry makes it a
//! host. A leader that is killed anywhere in between leaves a token that the next one finds it by.
//!
//! No credential of ours is sent to a machine before its key was compared: the look takes the key and hangs up.
//!
//! What this never does: make a machine again that a cloud ended, or say a machine gone while the cloud still shows it.

use std::sync::Arc;

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::cloud::{
    Cloud, DataDisk as WishedDisk, Ingress, Machine as Seen, MachineKey, MachinePhase, MachineWish, Owner, Source,
};
use hanse_state::cloud::{
    CloudSpec, DataDisk, HostKey, Machine, MachineAct, MachineFact, RecordMachineFact, RecordMachineIntent, query,
    reason_kept,
};
use hanse_state::host::way::Way;
use hanse_state::ids::{CloudId, HostId};
use hanse_state::{Command, State, name};

use super::World;
use super::act::Trouble;
use super::order::OrderError;
use super::{data_disk, host_key};

/// SSH's own port.
const SSH_PORT: u16 = 22;
/// How long what a person must repair rests before it is tried again, milliseconds.
const REST_MS: u64 = 60_000;
/// How long a cloud may not show a machine that it has made, milliseconds.
const LAG_MS: u64 = 5 * 60 * 1_000;

/// A cloud of the state as its driver, with the mark that all of ours there carry.
pub(super) async fn reach(world: &World, state: &State, id: &CloudId) -> Result<(Arc<dyn Cloud>, Owner), Trouble> {
    let record = state.clouds.get(id).ok_or_else(|| Trouble::Stale(format!("cloud {id} is gone")))?;
    let cluster = state.cluster.as_ref().ok_or_else(|| Trouble::Stale("the cluster has no name yet".into()))?;
    let cloud = world.hosts.cloud(record).await?;
    Ok((cloud, Owner { cluster: cluster.id.to_string(), cloud: id.to_string() }))
}

/// Orders a machine, or adopts what is there of its token.
pub(super) async fn create(world: &World, state: &State, id: &HostId) -> Result<(), Trouble> {
    let machine = get(state, id)?;
    let (cloud, owner) = match reach(world, state, &machine.spec.cloud).await {
        Ok(reached) => reached,
        Err(trouble) => return hold_up(world, machine, trouble).await,
    };
    let intent = RecordMachineIntent { machine: id.clone(), token: machine.token, act: MachineAct::Create };
    world.order(Command::RecordMachineIntent(intent)).await?;
    match ensure(world, state, machine, &*cloud, owner).await {
        Ok((instance, fingerprint)) => record(world, machine, MachineFact::Launched { instance, fingerprint }).await,
        Err(trouble) => hold_up(world, machine, trouble).await,
    }
}

async fn ensure(
    world: &World,
    state: &State,
    machine: &Machine,
    cloud: &dyn Cloud,
    owner: Owner,
) -> Result<(String, String), Trouble> {
    let spec = &query::cloud(state, &machine.spec.cloud).map_err(OrderError::Rejected)?.spec;
    let (user_data, fingerprint) = match &machine.spec.host_key {
        HostKey::Known(fingerprint) => (String::new(), fingerprint.clone()),
        HostKey::Made => {
            let seed = cloud.derive(&format!("hanse host key of {} {}", owner.cluster, machine.token));
            host_key::cloud_config(&seed)
        }
    };
    let user_data = match &machine.spec.data_disk {
        Some(disk) => data_disk::told(&user_data, spec, disk),
        None => user_data,
    };
    let wish = MachineWish {
        key: key(machine, owner),
        image: machine.spec.image.clone(),
        machine_type: machine.spec.machine_type.clone(),
        zone: machine.spec.zone.clone(),
        subnet: machine.spec.subnet.clone(),
        disk_gib: machine.spec.disk_gib,
        data_disk: machine.spec.data_disk.as_ref().map(wished_disk),
        user_data,
        login_key: world.hosts.login_key().await?,
        ingress: ingress(spec),
    };
    let seen = cloud.ensure(&wish).await?;
    Ok((seen.id, fingerprint))
}

/// A data disk as clouds are asked for it.
pub(crate) fn wished_disk(disk: &DataDisk) -> WishedDisk {
    WishedDisk { gib: disk.gib, kind: disk.kind.clone(), keep: disk.keep }
}

/// What may reach a machine: SSH from the replicas, nodes' ports from each other and from whoever else is named.
pub(crate) fn ingress(spec: &CloudSpec) -> Vec<Ingress> {
    let (port_first, port_last) = (spec.port_first, spec.port_first.saturating_add(spec.port_count.saturating_sub(1)));
    let ssh = |from: &String| Ingress { port_first: SSH_PORT, port_last: SSH_PORT, from: Source::Cidr(from.clone()) };
    let node = |from| Ingress { port_first, port_last, from };
    let mut all: Vec<Ingress> = spec.ssh_from.iter().map(ssh).collect();
    all.push(node(Source::OwnMachines));
    all.extend(spec.peers_from.iter().map(|from| node(Source::Cidr(from.clone()))));
    all
}

/// Looks whether a machine answers with its key yet; until it does it is looked at again, after a growing pause.
pub(super) async fn look(world: &World, state: &State, id: &HostId) -> Result<(), Trouble> {
    let machine = get(state, id)?;
    let (cloud, owner) = match reach(world, state, &machine.spec.cloud).await {
        Ok(reached) => reached,
        Err(trouble) => return hold_up(world, machine, trouble).await,
    };
    let all = match cloud.find(&key(machine, owner), machine.instance.as_deref()).await {
        Ok(all) => all,
        Err(error) => return hold_up(world, machine, error.into()).await,
    };
    let waits = |reason: String| async move {
        wait(world, machine, &reason).await?;
        Err(Trouble::Stale(reason))
    };
    let Some(seen) = all.into_iter().find(|it| Some(&it.id) == machine.instance.as_ref()) else {
        if (world.clock)().since(machine.state_since) < LAG_MS {
            return waits("the cloud does not show it yet".into()).await;
        }
        return record(world, machine, MachineFact::Ended { reason: "the cloud does not know it".into() }).await;
    };
    match (seen.phase, &seen.address) {
        (MachinePhase::Ending | MachinePhase::Ended, _) => {
            record(world, machine, MachineFact::Ended { reason: ended(&seen) }).await
        }
        (MachinePhase::Stopped, _) => waits("it was stopped: start it in the cloud, or delete it".into()).await,
        (MachinePhase::Starting, _) => waits("the cloud starts it".into()).await,
        (MachinePhase::Running, None) => waits("it runs and has no address yet".into()).await,
        (MachinePhase::Running, Some(address)) => match answers(world, state, machine, address).await {
            Ok(()) => {
                let (address, zone) = (address.clone(), seen.zone.clone());
                match record(world, machine, MachineFact::Answers { address, zone }).await {
                    Err(trouble @ Trouble::Order(OrderError::Rejected(_))) => hold_up(world, machine, trouble).await,
                    other => other,
                }
            }
            Err(reason) => waits(reason).await,
        },
    }
}

/// Says what is in the way until a machine can be a host: it shows its key, and its nodes would be where they were ordered to be.
async fn answers(world: &World, state: &State, machine: &Machine, address: &str) -> Result<(), String> {
    greet(world, machine, address).await?;
    if machine.spec.data_disk.is_none() {
        return Ok(());
    }
    data_disk::is_used(world, state, machine, address).await
}

/// Takes the key that SSH shows at `address` and compares it; says what is in the way if it is not the one.
async fn greet(world: &World, machine: &Machine, address: &str) -> Result<(), String> {
    let pinned = machine.fingerprint.as_deref().unwrap_or_default();
    match world.hosts.scan(address, SSH_PORT, &Way::default()).await.map(|it| it.fingerprint) {
        Ok(shown) if shown == pinned => Ok(()),
        Ok(shown) => Err(format!(
            "it shows host key {shown} at {address} and must show {pinned}: its first start may not be over, or it is not the \
             machine; nothing was sent to it"
        )),
        Err(_) => Err(format!("it runs at {address} and does not answer with SSH yet")),
    }
}

/// Deletes a machine, and with the last one of a cloud what they shared.
pub(super) async fn delete(world: &World, state: &State, id: &HostId) -> Result<(), Trouble> {
    let machine = get(state, id)?;
    let (cloud, owner) = match reach(world, state, &machine.spec.cloud).await {
        Ok(reached) => reached,
        Err(trouble) => return hold_up(world, machine, trouble).await,
    };
    let intent = RecordMachineIntent { machine: id.clone(), token: machine.token, act: MachineAct::Delete };
    world.order(Command::RecordMachineIntent(intent)).await?;
    match end(world, state, machine, &*cloud, &owner).await {
        Ok(true) => record(world, machine, MachineFact::Gone).await,
        Ok(false) => {
            wait(world, machine, "the cloud is deleting it").await?;
            Err(Trouble::Stale("a machine is still being deleted".into()))
        }
        Err(trouble) => hold_up(world, machine, trouble).await,
    }
}

/// Returns whether nothing of the machine is left.
async fn end(
    world: &World,
    state: &State,
    machine: &Machine,
    cloud: &dyn Cloud,
    owner: &Owner,
) -> Result<bool, Trouble> {
    let key = key(machine, owner.clone());
    let there = cloud.find(&key, machine.instance.as_deref()).await?;
    for seen in there.iter().filter(|seen| !seen.phase.is_over()) {
        cloud.delete(owner, &seen.id).await?;
    }
    let left = cloud.find(&key, machine.instance.as_deref()).await?;
    // As in `look`: a cloud may not show yet what it has made. One that was ended is shown for a while.
    if there.is_empty() && left.is_empty() && (world.clock)().since(machine.state_since) < LAG_MS {
        return Ok(false);
    }
    if left.iter().any(|seen| seen.phase != MachinePhase::Ended) {
        return Ok(false);
    }
    if query::machines_of(state, &machine.spec.cloud).count() == 1 {
        for what in cloud.clear(owner).await? {
            tracing::info!(cloud = %machine.spec.cloud, what, "no machine needs it any more; removed");
        }
    }
    Ok(true)
}

fn get<'a>(state: &'a State, id: &HostId) -> Result<&'a Machine, Trouble> {
    state.machines.get(id).ok_or_else(|| Trouble::Stale(format!("machine {id} is gone")))
}

/// What a cloud knows a machine by.
pub(super) fn key(machine: &Machine, owner: Owner) -> MachineKey {
    MachineKey { owner, machine: machine.id.to_string(), token: machine.token.to_string() }
}

/// Why a cloud ended a machine.
pub(super) fn ended(seen: &Seen) -> String {
    let why = if seen.reason.is_empty() { "it does not say why" } else { &seen.reason };
    format!("the cloud ended {}: {why}", seen.id)
}

pub(super) async fn record(world: &World, machine: &Machine, fact: MachineFact) -> Result<(), Trouble> {
    let fact = RecordMachineFact { machine: machine.id.clone(), token: machine.token, fact };
    world.order(Command::RecordMachineFact(fact)).await?;
    Ok(())
}

/// Shows what a machine waits for; what is shown already is not written again.
pub(super) async fn wait(world: &World, machine: &Machine, reason: &str) -> Result<(), Trouble> {
    if machine.state_reason == reason_kept(reason) {
        return Ok(());
    }
    record(world, machine, MachineFact::Waiting { reason: reason.into() }).await
}

/// Shows what is in the way. What a person must repair rests for a while; the rest is tried again soon.
async fn hold_up(world: &World, machine: &Machine, trouble: Trouble) -> Result<(), Trouble> {
    let is_persons = match &trouble {
        Trouble::Engine(hanse_engines_core::EngineError::Host(error)) => match error {
            AdapterError::Denied { .. } | AdapterError::Invalid { .. } => true,
            AdapterError::Transient { .. } | AdapterError::Unknown { .. } => false,
        },
        Trouble::Order(OrderError::Rejected(_)) => true,
        Trouble::Engine(_) | Trouble::Order(OrderError::NotCommitted(_)) | Trouble::Stale(_) => false,
    };
    if is_persons {
        let until = (world.clock)().0.saturating_add(REST_MS);
        world.observed.machines_rest(&machine.id, until);
        tracing::warn!(machine = %name::machine(&machine.id), %trouble, "waits for a person");
    }
    wait(world, machine, &trouble.to_string()).await?;
    Err(trouble)
}
