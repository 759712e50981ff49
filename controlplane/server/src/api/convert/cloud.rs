//! Clouds and their machines.

use hanse_proto::v1 as pb;
use hanse_state::cloud::{Cloud, CloudKind, CloudSpec, DataDisk, HostKey, Machine, MachineSpec, MachineState, query};
use hanse_state::{State, name};

use super::{fits, id, ms, text};
use crate::error::ApiError;
use crate::observed::Observed;
use crate::orphans::Orphan;

/// Orphans that are shown with a cloud.
const ORPHANS_SHOWN: usize = 50;

/// A cloud with how many machines are of it, and what the leader saw there that no machine is.
pub(crate) fn cloud(observed: &Observed, state: &State, it: &Cloud) -> pb::Cloud {
    let machines = query::machines_of(state, &it.id).count();
    pb::Cloud {
        name: name::cloud(&it.id),
        cloud: it.id.to_string(),
        spec: Some(pb::CloudSpec {
            kind: match it.spec.kind {
                CloudKind::Ec2 => pb::CloudKind::Ec2,
                CloudKind::Libvirt => pb::CloudKind::Libvirt,
            }
            .into(),
            endpoint: it.spec.endpoint.clone(),
            region: it.spec.region.clone(),
            credentials: it.spec.credentials.clone(),
            public: it.spec.public,
            ssh_from: it.spec.ssh_from.clone(),
            peers_from: it.spec.peers_from.clone(),
            user: it.spec.user.clone(),
            root: it.spec.root.clone(),
            port_first: it.spec.port_first.into(),
            port_count: it.spec.port_count.into(),
            machines_max: it.spec.machines_max,
        }),
        machines: u32::try_from(machines).unwrap_or(u32::MAX),
        created_at_ms: ms(it.created_at),
        orphans: observed.cloud_orphans.of(&it.id).into_iter().take(ORPHANS_SHOWN).map(orphan).collect(),
    }
}

fn orphan(it: Orphan) -> pb::CloudOrphan {
    let moment = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    pb::CloudOrphan {
        instance: it.object,
        first_seen_ms: moment(it.first_seen_ms),
        last_seen_ms: moment(it.last_seen_ms),
        sightings: it.sightings,
        remove_at_ms: it.remove_at_ms.map_or(0, moment),
        kept_reason: it.kept,
    }
}

/// A machine.
pub(crate) fn machine(it: &Machine) -> pb::Machine {
    let state = match it.state {
        MachineState::Requested => pb::MachineState::Requested,
        MachineState::Creating => pb::MachineState::Creating,
        MachineState::Starting => pb::MachineState::Starting,
        MachineState::Ready => pb::MachineState::Ready,
        MachineState::Ended => pb::MachineState::Ended,
        MachineState::Deleting => pb::MachineState::Deleting,
    };
    pb::Machine {
        name: name::machine(&it.id),
        machine: it.id.to_string(),
        spec: Some(pb::MachineSpec {
            cloud: it.spec.cloud.to_string(),
            image: it.spec.image.clone(),
            machine_type: it.spec.machine_type.clone(),
            zone: it.spec.zone.clone(),
            subnet: it.spec.subnet.clone(),
            disk_gib: it.spec.disk_gib,
            slots: it.spec.slots,
            host_key: match &it.spec.host_key {
                HostKey::Made => String::new(),
                HostKey::Known(fingerprint) => fingerprint.clone(),
            },
            data_disk: it.spec.data_disk.as_ref().map(|disk| pb::DataDisk {
                gib: disk.gib,
                kind: disk.kind.clone(),
                keep: disk.keep,
            }),
        }),
        state: state.into(),
        state_reason: it.state_reason.clone(),
        state_since_ms: ms(it.state_since),
        instance: it.instance.clone().unwrap_or_default(),
        address: it.address.clone().unwrap_or_default(),
        fingerprint: it.fingerprint.clone().unwrap_or_default(),
        token: it.token.to_string(),
        created_at_ms: ms(it.created_at),
    }
}

/// What is said of a new cloud.
pub(crate) fn cloud_spec(it: pb::CloudSpec) -> Result<CloudSpec, ApiError> {
    let kind = match it.kind() {
        pb::CloudKind::Ec2 => CloudKind::Ec2,
        pb::CloudKind::Libvirt => CloudKind::Libvirt,
        pb::CloudKind::Unspecified => {
            return Err(ApiError::invalid(
                "spec.kind",
                "names no kind of cloud",
                "say CLOUD_KIND_EC2 or CLOUD_KIND_LIBVIRT",
            ));
        }
    };
    // Here already: what is proposed is written to the log even if it is then refused.
    let user = it.endpoint.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
    if user.is_some_and(|user| user.contains(':')) {
        return Err(ApiError::invalid(
            "spec.endpoint",
            "has a password in it",
            "leave it out, and change it there: who logs in is said by the file of credentials",
        ));
    }
    let list = |field: &str, all: Vec<String>| all.into_iter().map(|it| text(field, it)).collect::<Result<_, _>>();
    Ok(CloudSpec {
        kind,
        endpoint: text("endpoint", it.endpoint)?,
        region: text("region", it.region)?,
        credentials: text("credentials", it.credentials)?,
        public: it.public,
        ssh_from: list("ssh_from", it.ssh_from)?,
        peers_from: list("peers_from", it.peers_from)?,
        user: text("user", it.user)?,
        root: text("root", it.root)?,
        port_first: fits("port_first", it.port_first)?,
        port_count: fits("port_count", it.port_count)?,
        machines_max: it.machines_max,
    })
}

/// What is said of a new machine.
pub(crate) fn machine_spec(it: pb::MachineSpec) -> Result<MachineSpec, ApiError> {
    let host_key = text("host_key", it.host_key)?;
    Ok(MachineSpec {
        cloud: id("cloud", &it.cloud)?,
        image: text("image", it.image)?,
        machine_type: text("machine_type", it.machine_type)?,
        zone: text("zone", it.zone)?,
        subnet: text("subnet", it.subnet)?,
        disk_gib: it.disk_gib,
        slots: it.slots,
        host_key: if host_key.is_empty() { HostKey::Made } else { HostKey::Known(host_key) },
        data_disk: it.data_disk.map(data_disk).transpose()?,
    })
}

fn data_disk(it: pb::DataDisk) -> Result<DataDisk, ApiError> {
    Ok(DataDisk { gib: it.gib, kind: text("data_disk.kind", it.kind)?, keep: it.keep })
}

/// What machines are meant to be like.
pub(crate) fn checked(it: pb::CheckCloudRequest) -> Result<MachineSpec, ApiError> {
    let (cloud, image, machine_type, zone, subnet) = (it.cloud, it.image, it.machine_type, it.zone, it.subnet);
    machine_spec(pb::MachineSpec { cloud, image, machine_type, zone, subnet, ..Default::default() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn faults_of_a_new_cloud_and_machine_are_named() {
        let spec = pb::CloudSpec { kind: pb::CloudKind::Ec2.into(), ..Default::default() };
        let cases = [
            (pb::CloudSpec { kind: 0, ..spec.clone() }, "spec.kind"),
            (pb::CloudSpec { kind: 99, ..spec.clone() }, "spec.kind"),
            (pb::CloudSpec { port_first: 70_000, ..spec.clone() }, "port_first"),
            (pb::CloudSpec { port_count: 70_000, ..spec }, "port_count"),
        ];
        for (spec, field) in cases {
            assert_eq!(cloud_spec(spec).unwrap_err().field(), Some(field));
        }
        let machine = pb::MachineSpec { cloud: "E ast".into(), ..Default::default() };
        assert_eq!(machine_spec(machine).unwrap_err().field(), Some("cloud"));
    }
}
