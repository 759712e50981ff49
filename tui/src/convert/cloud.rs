//! Clouds and machines, from the wire.

use hanse_client::pb;

use super::word;
use crate::app::model::cloud::{Cloud, Machine};
use crate::app::model::order::{NewCloud, NewMachine};

pub(crate) fn cloud(c: pb::Cloud) -> Cloud {
    let spec = c.spec.unwrap_or_default();
    let ssh = spec.ssh_from.iter().map(|from| format!("22 <- {from}"));
    let port_last = (spec.port_first + spec.port_count).saturating_sub(1);
    let peers = spec.peers_from.iter().map(|from| format!("{}-{port_last} <- {from}", spec.port_first));
    Cloud {
        name: c.name,
        kind: word(spec.kind().as_str_name(), "CLOUD_KIND_"),
        machines: (c.machines.into(), spec.machines_max.into()),
        lets_in: ssh.chain(peers).collect(),
        login: format!("{} {}", spec.user, spec.root),
        region: spec.region,
        endpoint: spec.endpoint,
        credentials: spec.credentials,
        at: c.created_at_ms,
        orphans: c.orphans.iter().map(orphan).collect(),
    }
}

/// A hypervisor is written as libvirt writes it; everything else is asked over HTTP.
fn kind(endpoint: &str) -> pb::CloudKind {
    if endpoint.contains("+ssh://") { pb::CloudKind::Libvirt } else { pb::CloudKind::Ec2 }
}

/// Asks for another cloud.
pub(crate) fn add(it: NewCloud) -> pb::AddCloudRequest {
    let (port_first, port_count) = it.ports;
    let spec = pb::CloudSpec {
        kind: kind(&it.endpoint).into(),
        endpoint: it.endpoint,
        region: it.region,
        credentials: it.credentials,
        public: it.public,
        ssh_from: it.ssh_from,
        peers_from: it.peers_from,
        user: it.user,
        root: it.root,
        port_first,
        port_count,
        machines_max: it.machines_max,
    };
    pb::AddCloudRequest { cloud: it.cloud, spec: Some(spec), ..Default::default() }
}

/// Asks for another machine, after a look at its cloud.
pub(crate) fn create(it: NewMachine) -> pb::CreateMachineRequest {
    let spec = pb::MachineSpec {
        cloud: it.cloud,
        image: it.image,
        machine_type: it.machine_type,
        zone: it.zone,
        subnet: it.subnet,
        disk_gib: it.disk_gib,
        slots: it.slots,
        host_key: it.host_key,
        data_disk: it.data_disk.map(|disk| pb::DataDisk { gib: disk.gib, kind: disk.kind, keep: disk.keep }),
    };
    pb::CreateMachineRequest { machine: it.machine, spec: Some(spec), preflight: true, ..Default::default() }
}

fn orphan(it: &pb::CloudOrphan) -> String {
    let fate = if it.kept_reason.is_empty() { "deleted after the grace time" } else { it.kept_reason.as_str() };
    format!("{} (seen {} times): {fate}", it.instance, it.sightings)
}

/// A data disk in words.
fn disk(it: &pb::DataDisk) -> String {
    let fate = if it.keep { "kept when the machine goes" } else { "goes with the machine" };
    format!("{} GiB {}, {fate}", it.gib, it.kind).replace(" ,", ",")
}

pub(crate) fn machine(m: pb::Machine) -> Machine {
    let state = word(m.state().as_str_name(), "MACHINE_STATE_");
    let spec = m.spec.unwrap_or_default();
    Machine {
        name: m.name,
        cloud: spec.cloud,
        state,
        reason: m.state_reason,
        since: m.state_since_ms,
        machine_type: spec.machine_type,
        image: spec.image,
        place: format!("{} {}", spec.zone, spec.subnet).trim().to_owned(),
        instance: m.instance,
        address: m.address,
        fingerprint: m.fingerprint,
        token: m.token,
        data_disk: spec.data_disk.as_ref().map(disk).unwrap_or_default(),
        slots: spec.slots.into(),
    }
}
