//! Rules of clouds and machines: all checks, then all changes.

use std::net::IpAddr;

use super::{
    AddCloud, CLOUDS_MAX, Cloud, CloudKind, CloudSpec, CreateMachine, DISK_GIB_MAX, DataDisk, DeleteMachine,
    FILE_NAME_MAX, HostKey, MACHINES_MAX, Machine, MachineAct, MachineFact, MachineSpec, MachineState, RANGES_MAX,
    RecordMachineFact, RecordMachineIntent, RemoveCloud, RemoveCloudOrphan, query,
};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::host::apply::{admit, check_fingerprint, check_word};
use crate::host::properties::{Tenancy, check_zone};
use crate::host::way::Way;
use crate::host::{EnrolHost, PORT_MIN, PORTS_PER_NODE, Reach, SLOTS_MAX, TEXT_MAX, care};
use crate::ids::HostId;
use crate::{Digest, Rejection, State, check, name};

/// SSH's own port, at which machines are reached.
const SSH_PORT: u16 = 22;
/// Longest reason that is kept.
const REASON_MAX: usize = 500;

/// What the state keeps of a reason.
#[must_use]
pub fn reason_kept(reason: &str) -> String {
    check::clip(reason, REASON_MAX)
}

pub(crate) fn add(state: &mut State, cx: &mut Cx<'_>, c: &AddCloud) -> Result<Outcome, Rejection> {
    let resource = name::cloud(&c.cloud);
    if state.clouds.contains_key(&c.cloud) {
        return Err(Rejection::AlreadyExists { field: "cloud".into(), what: resource });
    }
    check_cloud(&c.spec)?;
    check::quota("cloud", "the number of clouds", state.clouds.len(), CLOUDS_MAX)?;

    let cloud = Cloud { id: c.cloud.clone(), spec: c.spec.clone(), created_at: cx.now };
    state.clouds.insert(c.cloud.clone(), cloud);
    cx.created(resource.clone());
    Ok(Outcome::Done { resource })
}

pub(crate) fn remove(state: &mut State, cx: &mut Cx<'_>, c: &RemoveCloud) -> Result<Outcome, Rejection> {
    query::cloud(state, &c.cloud)?;
    let resource = name::cloud(&c.cloud);
    let of_it = query::machines_of(state, &c.cloud).count();
    if let Some(first) = query::machines_of(state, &c.cloud).next() {
        let needs = format!("{of_it} machines are of it, {} first: delete them", name::machine(&first.id));
        return Err(check::wrong_state("cloud", resource, "in use", &needs));
    }

    state.clouds.remove(&c.cloud);
    cx.deleted(resource.clone());
    Ok(Outcome::Done { resource })
}

pub(crate) fn create(state: &mut State, cx: &mut Cx<'_>, c: &CreateMachine) -> Result<Outcome, Rejection> {
    let resource = name::machine(&c.machine);
    if state.machines.contains_key(&c.machine) {
        return Err(Rejection::AlreadyExists { field: "machine".into(), what: resource });
    }
    if state.hosts.contains_key(&c.machine) {
        return Err(Rejection::AlreadyExists { field: "machine".into(), what: name::host(&c.machine) });
    }
    let cloud = query::cloud(state, &c.spec.cloud)?;
    check_machine(&c.spec, cloud)?;
    let there = query::machines_of(state, &c.spec.cloud).count();
    let most = usize::try_from(cloud.spec.machines_max).unwrap_or(usize::MAX);
    check::quota("machine", &format!("the machines of {}", name::cloud(&c.spec.cloud)), there, most)?;
    let cluster = check::cluster_id(state)?;

    let life = cx.revision.to_be_bytes();
    let token = Digest::of_parts(&[cluster.uuid().as_bytes(), c.machine.as_str().as_bytes(), &life]);
    let machine = Machine {
        id: c.machine.clone(),
        spec: c.spec.clone(),
        token,
        state: MachineState::Requested,
        state_reason: String::new(),
        state_since: cx.now,
        instance: None,
        fingerprint: None,
        address: None,
        created_at: cx.now,
    };
    state.machines.insert(c.machine.clone(), machine);
    cx.created(resource.clone());
    Ok(Outcome::Done { resource })
}

pub(crate) fn delete(state: &mut State, cx: &mut Cx<'_>, c: &DeleteMachine) -> Result<Outcome, Rejection> {
    let machine = query::machine(state, &c.machine)?.clone();
    let resource = name::machine(&c.machine);
    check::text("reason", &c.reason, TEXT_MAX)?;
    if machine.state == MachineState::Deleting {
        return Ok(Outcome::Unchanged { resource });
    }
    let is_host = state.hosts.contains_key(&c.machine);
    if is_host {
        care::check_empty(state, &c.machine)?;
    }

    if is_host {
        state.hosts.remove(&c.machine);
        cx.deleted(name::host(&c.machine));
    }
    if machine.state == MachineState::Requested {
        // Nothing was asked of the cloud.
        state.machines.remove(&c.machine);
        cx.deleted(resource.clone());
        return Ok(Outcome::Done { resource });
    }
    go(state, cx, machine, MachineState::Deleting, &c.reason);
    Ok(Outcome::Done { resource })
}

pub(crate) fn intent(state: &mut State, cx: &mut Cx<'_>, c: &RecordMachineIntent) -> Result<Outcome, Rejection> {
    let machine = of_token(state, &c.machine, c.token)?;
    let resource = name::machine(&c.machine);
    let wrong = |needs| Err(check::wrong_state("machine", resource.clone(), machine.state, needs));
    match (c.act, machine.state) {
        (MachineAct::Create, MachineState::Requested) => {
            go(state, cx, machine, MachineState::Creating, "");
            Ok(Outcome::Done { resource })
        }
        (MachineAct::Create, MachineState::Creating) | (MachineAct::Delete, MachineState::Deleting) => {
            Ok(Outcome::Unchanged { resource })
        }
        (MachineAct::Create, _) => wrong("only one that the cloud does not have is ordered"),
        (MachineAct::Delete, _) => wrong("only one that a person wants gone is deleted"),
    }
}

pub(crate) fn fact(state: &mut State, cx: &mut Cx<'_>, c: &RecordMachineFact) -> Result<Outcome, Rejection> {
    let mut machine = of_token(state, &c.machine, c.token)?;
    let resource = name::machine(&c.machine);
    let wrong = |needs| Err(check::wrong_state("machine", resource.clone(), machine.state, needs));
    let done = |resource| Ok(Outcome::Done { resource });
    match (&c.fact, machine.state) {
        (MachineFact::Launched { instance, fingerprint }, MachineState::Creating) => {
            check_word("fact.instance", instance)?;
            check_fingerprint("fact.fingerprint", fingerprint)?;
            machine.instance = Some(instance.clone());
            machine.fingerprint = Some(fingerprint.clone());
            go(state, cx, machine, MachineState::Starting, "");
            done(resource)
        }
        (MachineFact::Answers { address, zone }, MachineState::Starting) => {
            let enrol = host_of(state, &machine, address, zone)?;
            admit(state, cx, &enrol)?;
            machine.address = Some(address.clone());
            go(state, cx, machine, MachineState::Ready, "");
            done(resource)
        }
        (MachineFact::Waiting { reason }, _) => {
            let reason = reason_kept(reason);
            if machine.state_reason == reason {
                return Ok(Outcome::Unchanged { resource });
            }
            machine.state_reason = reason;
            state.machines.insert(c.machine.clone(), machine);
            cx.updated(resource.clone());
            done(resource)
        }
        (MachineFact::Ended { reason }, MachineState::Creating | MachineState::Starting | MachineState::Ready) => {
            go(state, cx, machine, MachineState::Ended, reason);
            done(resource)
        }
        (MachineFact::Gone, MachineState::Deleting) => {
            state.machines.remove(&c.machine);
            cx.deleted(resource.clone());
            done(resource)
        }
        (MachineFact::Launched { .. }, _) => wrong("only one that is being created is launched"),
        (MachineFact::Answers { .. }, _) => wrong("only one that starts becomes a host"),
        (MachineFact::Ended { .. }, _) => wrong("only one that was wanted is missed"),
        (MachineFact::Gone, _) => wrong("only one that is being deleted goes"),
    }
}

pub(crate) fn remove_orphan(state: &State, cx: &mut Cx<'_>, c: &RemoveCloudOrphan) -> Result<Outcome, Rejection> {
    query::cloud(state, &c.cloud)?;
    check_word("instance", &c.instance)?;
    let is_it = |it: &&Machine| it.instance.as_ref() == Some(&c.instance);
    // Before the cloud's name of it is known, whatever carries the token may be it; a disk of its token is always its own.
    let may_be = |it: &&Machine| (c.disk || it.instance.is_none()) && it.token.to_string() == c.token;
    if let Some(machine) = state.machines.values().find(|it| is_it(it) || may_be(it)) {
        let rule = format!("something that {} is not", name::machine(&machine.id));
        return Err(check::invalid("instance", &c.instance, rule));
    }
    if c.seen_since > cx.now {
        return Err(check::invalid("seen_since", c.seen_since.0, "before now"));
    }
    cx.updated(name::cloud(&c.cloud));
    Ok(Outcome::Done { resource: name::cloud_orphan(&c.cloud, &c.instance) })
}

/// The enrolment of a machine that answers.
///
/// # Errors
/// `NotFound` if its cloud is gone; `InvalidValue` if there can be no such address.
pub fn host_of(state: &State, machine: &Machine, address: &str, zone: &str) -> Result<EnrolHost, Rejection> {
    let cloud = query::cloud(state, &machine.spec.cloud)?;
    check_word("fact.address", address)?;
    let zone = if machine.spec.zone.is_empty() { zone } else { &machine.spec.zone };
    Ok(EnrolHost {
        host: machine.id.clone(),
        reach: Reach::Ssh {
            address: address.into(),
            port: SSH_PORT,
            user: cloud.spec.user.clone(),
            fingerprint: machine.fingerprint.clone().unwrap_or_default(),
            root: cloud.spec.root.clone(),
            way: Way::default(),
        },
        peer_address: address.into(),
        port_first: cloud.spec.port_first,
        port_count: cloud.spec.port_count,
        slots: machine.spec.slots,
        // A cloud may call its zones what no failure zone may be called.
        zone: check_zone(zone).map_or_else(|_| String::new(), |()| zone.to_owned()),
        labels: [("cloud".to_owned(), machine.spec.cloud.to_string())].into(),
        tenancy: Tenancy::Shared,
    })
}

fn go(state: &mut State, cx: &mut Cx<'_>, mut machine: Machine, to: MachineState, reason: &str) {
    machine.state = to;
    machine.state_reason = reason_kept(reason);
    machine.state_since = cx.now;
    cx.updated(name::machine(&machine.id));
    state.machines.insert(machine.id.clone(), machine);
}

fn of_token(state: &State, id: &HostId, token: Digest) -> Result<Machine, Rejection> {
    let machine = query::machine(state, id)?;
    if machine.token == token {
        return Ok(machine.clone());
    }
    Err(check::invalid("token", token, "that of the machine: another one had this name"))
}

fn check_cloud(spec: &CloudSpec) -> Result<(), Rejection> {
    match spec.kind {
        CloudKind::Ec2 => check_endpoint(&spec.endpoint)?,
        CloudKind::Libvirt => check_hypervisor(spec)?,
    }
    check_word("region", &spec.region)?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let file = &spec.credentials;
    if file.is_empty() || file.len() > FILE_NAME_MAX || file.starts_with('.') || !file.bytes().all(is_name) {
        let rule = "the name of a file in the replicas' folder for them: letters, digits, '-', '_' and '.'";
        return Err(check::invalid("credentials", file, rule));
    }
    check_word("user", &spec.user)?;
    crate::host::apply::check_root("root", &spec.root)?;
    check::range("ssh_from", spec.ssh_from.len() as u64, 1, RANGES_MAX as u64)?;
    check::range("peers_from", spec.peers_from.len() as u64, 0, RANGES_MAX as u64)?;
    spec.ssh_from.iter().try_for_each(|range| check_range("ssh_from", range))?;
    spec.peers_from.iter().try_for_each(|range| check_range("peers_from", range))?;
    check::range("port_first", spec.port_first.into(), PORT_MIN.into(), u16::MAX.into())?;
    let room = u64::from(u16::MAX) + 1 - u64::from(spec.port_first);
    check::range("port_count", spec.port_count.into(), PORTS_PER_NODE.into(), room)?;
    check::range("machines_max", spec.machines_max.into(), 1, MACHINES_MAX.into())
}

fn check_machine(spec: &MachineSpec, cloud: &Cloud) -> Result<(), Rejection> {
    match cloud.spec.kind {
        CloudKind::Ec2 => {
            check_word("image", &spec.image)?;
            check_word("machine_type", &spec.machine_type)?;
        }
        CloudKind::Libvirt => check_guest(spec, cloud)?,
    }
    for (field, word) in [("zone", &spec.zone), ("subnet", &spec.subnet)] {
        if !word.is_empty() {
            check_word(field, word)?;
        }
    }
    check::range("disk_gib", spec.disk_gib.into(), 0, DISK_GIB_MAX.into())?;
    let room = u32::from(cloud.spec.port_count) / PORTS_PER_NODE;
    check::range("slots", spec.slots.into(), 1, room.min(SLOTS_MAX).into())?;
    if let Some(disk) = &spec.data_disk {
        check_data_disk(disk, cloud)?;
    }
    match &spec.host_key {
        HostKey::Made => Ok(()),
        HostKey::Known(fingerprint) => check_fingerprint("host_key", fingerprint),
    }
}

/// A hypervisor has pools with images, machines of any size, and is one failure zone.
fn check_guest(spec: &MachineSpec, cloud: &Cloud) -> Result<(), Rejection> {
    let rule = "POOL/VOLUME, as `virsh vol-list POOL` shows it";
    let (pool, volume) = spec.image.split_once('/').ok_or_else(|| check::invalid("image", &spec.image, rule))?;
    check_word("image", pool)?;
    check_word("image", volume)?;
    let is_number = |text: &str| text.parse().is_ok_and(|it: u32| it > 0 && it.to_string() == text);
    if !spec.machine_type.split_once('x').is_some_and(|(cpus, mib)| is_number(cpus) && is_number(mib)) {
        let rule = "PROCESSORSxMIB: 2x4096 is two processors and 4 GiB";
        return Err(check::invalid("machine_type", &spec.machine_type, rule));
    }
    let region = &cloud.spec.region;
    if spec.zone.is_empty() || spec.zone == *region {
        return Ok(());
    }
    Err(check::invalid("zone", &spec.zone, format!("left out, or {region}: a hypervisor is one failure zone")))
}

/// It is mounted at the cloud's root folder, whose name goes through the machine's table of mounts.
fn check_data_disk(disk: &DataDisk, cloud: &Cloud) -> Result<(), Rejection> {
    check::range("data_disk.gib", disk.gib.into(), 1, DISK_GIB_MAX.into())?;
    if !disk.kind.is_empty() {
        check_word("data_disk.kind", &disk.kind)?;
    }
    let root = &cloud.spec.root;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.".contains(&b);
    if root.bytes().all(is_plain) && root.split('/').any(|part| !part.is_empty() && part != ".") {
        return Ok(());
    }
    let rule = "left out where the cloud's root folder is no plain one to mount it at: add the cloud again under another \
                name, with --root as /srv/hanse";
    Err(check::invalid("data_disk", format!("a disk for {root}"), rule))
}

/// Orders and their signatures are not carried over a network in the clear.
fn check_endpoint(endpoint: &str) -> Result<(), Rejection> {
    let rule = "https://host[:port][/path], or http:// with an address of the loopback";
    let invalid = || check::invalid("endpoint", endpoint, rule);
    let (is_safe, rest) = match (endpoint.strip_prefix("https://"), endpoint.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(invalid()),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]".contains(&b);
    if host.is_empty() || endpoint.len() > TEXT_MAX || !rest.bytes().all(is_plain) || !(is_safe || is_here) {
        return Err(invalid());
    }
    Ok(())
}

/// Written as libvirt writes it; its machines are reached at the addresses that its networks lease.
fn check_hypervisor(spec: &CloudSpec) -> Result<(), Rejection> {
    let rule = "qemu+ssh://USER@HOST[:PORT]/system, where virsh is";
    let invalid = || check::invalid("endpoint", &spec.endpoint, rule);
    let (driver, rest) = spec.endpoint.split_once("+ssh://").ok_or_else(invalid)?;
    let (authority, path) = rest.split_once('/').ok_or_else(invalid)?;
    let (user, host) = authority.split_once('@').ok_or_else(invalid)?;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:/[]?=@".contains(&b);
    let is_whole = [driver, user, host, path].iter().all(|part| !part.is_empty());
    let is_driver = driver.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_whole || !is_driver || spec.endpoint.len() > TEXT_MAX || !rest.bytes().all(is_plain) {
        return Err(invalid());
    }
    if user.contains(':') {
        // Said without the value: it would be in the log of requests and on screens.
        let rule = "written without a password: who logs in is said by the file of credentials";
        return Err(check::invalid("endpoint", "USER:PASSWORD@HOST", rule));
    }
    if spec.public {
        let rule = "left out for a hypervisor: its machines are reached at the addresses of its network";
        return Err(check::invalid("public", true, rule));
    }
    Ok(())
}

/// A range of addresses.
fn check_range(field: &str, range: &str) -> Result<(), Rejection> {
    let invalid = || check::invalid(field, range, "addresses as 10.0.0.0/24 (one alone: 10.0.0.7/32)");
    let (address, length) = range.split_once('/').ok_or_else(invalid)?;
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    // Written as numbers are, so that a cloud shows it as it was given.
    let is_length = length.parse::<u8>().is_ok_and(|bits| bits <= most && bits.to_string() == length);
    if is_length && address.to_string() == range[..range.len() - length.len() - 1] { Ok(()) } else { Err(invalid()) }
}
