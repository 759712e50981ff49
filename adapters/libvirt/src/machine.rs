//! Machines: their definition, which carries the key from the first call on, and how they are read back.

use hanse_adapters_core::Result;
use hanse_adapters_core::cloud::{Machine, MachineKey, MachinePhase, MachineWish, Owner};

use crate::name::{self, Part, VolumeName};
use crate::order::Order;
use crate::virsh::{Refused, Virsh, Why};
use crate::xml::{Node, escape};

/// Namespace of our part of a definition's metadata.
const NAMESPACE: &str = "urn:hanse:machine:1";
/// From where a machine's address may be known: what the network leased, else what the hypervisor's table of neighbours has.
const SOURCES: [&str; 2] = ["lease", "arp"];

/// A machine with what only this crate needs to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) machine: Machine,
    owner: Owner,
    /// Whether it runs or is paused.
    pub(crate) is_active: bool,
    /// Its disks that are volumes: pool and name.
    pub(crate) volumes: Vec<(String, String)>,
}

impl Seen {
    /// Reads a definition and its state (`running (booted)`); `None` if it is gone or carries no key of ours.
    fn read(definition: &str, state: &str) -> Option<Self> {
        let root = Node::parse(definition)?;
        let mark = root.all("metadata", "machine").find(|it| it.is_in(NAMESPACE))?;
        let (phase, is_active, reason) = phase(state)?;
        let volume = |disk: &Node| {
            let (pool, volume) = (disk.attribute("source", "pool"), disk.attribute("source", "volume"));
            (!pool.is_empty() && !volume.is_empty()).then(|| (pool.to_owned(), volume.to_owned()))
        };
        Some(Self {
            machine: Machine {
                id: root.text("uuid").into(),
                machine: mark.own("name").into(),
                token: mark.own("token").into(),
                phase,
                address: None,
                zone: String::new(),
                reason,
            },
            owner: Owner { cluster: mark.own("cluster").into(), cloud: mark.own("cloud").into() },
            is_active,
            volumes: root.all("devices", "disk").filter_map(volume).collect(),
        })
    }

    pub(crate) fn is_of(&self, owner: &Owner) -> bool {
        self.owner == *owner
    }

    /// The volumes that were made with it and go with it.
    pub(crate) fn own_volumes(&self) -> impl Iterator<Item = &(String, String)> {
        self.volumes.iter().filter(|(_, volume)| {
            VolumeName::parse(volume)
                .is_some_and(|it| it.is_of(&self.owner) && it.token == self.machine.token && it.part != Part::Kept)
        })
    }
}

/// What a state means; `None` if there is none, because the machine is gone.
fn phase(state: &str) -> Option<(MachinePhase, bool, String)> {
    let word = state.split(" (").next().unwrap_or_default();
    let reason = if word == "running" { String::new() } else { state.to_owned() };
    match word {
        "" => None,
        "running" | "idle" | "in shutdown" => Some((MachinePhase::Running, true, reason)),
        "paused" | "pmsuspended" => Some((MachinePhase::Stopped, true, reason)),
        // `shut off`, `crashed`; and one that says nothing of itself runs no node.
        _ => Some((MachinePhase::Stopped, false, reason)),
    }
}

/// Returns the machines of these UUIDs that carry a key of ours.
async fn by_uuids(virsh: &Virsh, uuids: &[&str]) -> Result<Vec<Seen>> {
    let questions: Vec<Vec<&str>> = uuids
        .iter()
        .flat_map(|uuid| [vec!["dumpxml", "--domain", uuid], vec!["domstate", "--domain", uuid, "--reason"]])
        .collect();
    let answers = virsh.ask_each(&questions).await?;
    Ok(answers.chunks(2).filter_map(|both| Seen::read(both.first()?, both.get(1)?)).collect())
}

/// Returns every machine of `owner`.
pub(crate) async fn list(virsh: &Virsh, owner: &Owner) -> Result<Vec<Seen>> {
    let all = virsh.ask(&["list", "--all", "--uuid"]).await?;
    let uuids: Vec<&str> = all.split_whitespace().collect();
    let mut seen = by_uuids(virsh, &uuids).await?;
    seen.retain(|it| it.is_of(owner));
    Ok(seen)
}

/// Returns the machine of this UUID, if there is one that carries a key of ours.
pub(crate) async fn by_uuid(virsh: &Virsh, uuid: &str) -> Result<Option<Seen>> {
    Ok(by_uuids(virsh, &[uuid]).await?.pop())
}

/// Adds to a machine that runs where it is reached, once that is known.
pub(crate) async fn address(virsh: &Virsh, seen: &mut Seen) -> Result<()> {
    if !seen.is_active {
        return Ok(());
    }
    let mac = name::mac(&seen.machine.token);
    for source in SOURCES {
        let words = ["domifaddr", "--domain", &seen.machine.id, "--source", source, "--full"];
        match virsh.ask(&words).await {
            Ok(told) => seen.machine.address = leased(&told, &mac),
            // It ended meanwhile.
            Err(Refused { why: Why::Missing | Why::Idle, .. }) => return Ok(()),
            // Not every hypervisor knows its neighbours; what the network leased is the better word anyway.
            Err(Refused { why: Why::Other, error: hanse_adapters_core::AdapterError::Invalid { .. } }) => {}
            Err(refused) => return Err(refused.into()),
        }
        if seen.machine.address.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

/// The first address of the interface `mac` in a table of name, MAC, kind and address.
fn leased(table: &str, mac: &str) -> Option<String> {
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, it, "ipv4", address] if *it == mac => address.split('/').next().map(str::to_owned),
            _ => None,
        }
    };
    table.lines().find_map(of_line)
}

/// The definition of a machine; the same for the same order.
pub(crate) fn definition(wish: &MachineWish, order: &Order, host: &Host) -> String {
    let key = &wish.key;
    let disks: String = order
        .disks(wish)
        .iter()
        .zip(["vda", "vdb", "vdc"])
        .map(|(disk, device)| {
            let (format, read_only) = if disk.part == Part::Seed { ("raw", "<readonly/>") } else { ("qcow2", "") };
            format!(
                "<disk type='volume' device='disk'><driver name='qemu' type='{format}'/><source pool='{}' volume='{}'/>\
                 <target dev='{device}' bus='virtio'/>{read_only}</disk>\n",
                escape(&disk.pool),
                escape(&VolumeName::new(key, disk.part).text()),
            )
        })
        .collect();
    let cpu = if host.kind == "kvm" { "<cpu mode='host-model'/>" } else { "" };
    format!(
        "<domain type='{kind}'>\n<name>{name}</name>\n<uuid>{uuid}</uuid>\n<metadata>{mark}</metadata>\n\
         <memory unit='MiB'>{mib}</memory>\n<vcpu>{cpus}</vcpu>\n<os><type arch='{arch}'>hvm</type><boot dev='hd'/></os>\n\
         <features><acpi/><apic/></features>\n{cpu}\n<on_reboot>restart</on_reboot>\n<on_crash>restart</on_crash>\n<devices>\n{disks}\
         <interface type='network'><mac address='{mac}'/><source network='{network}'/><model type='virtio'/>\
         <filterref filter='{filter}'/></interface>\n<serial type='pty'/>\n\
         <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\n</devices>\n</domain>\n",
        kind = escape(&host.kind),
        arch = escape(&host.arch),
        name = escape(&name::machine(key)),
        uuid = name::machine_uuid(&key.token),
        mark = mark(key),
        mib = order.mib,
        cpus = order.cpus,
        mac = name::mac(&key.token),
        network = escape(&order.network),
        filter = name::filter(&key.owner).0,
    )
}

fn mark(key: &MachineKey) -> String {
    format!(
        "<hanse:machine xmlns:hanse='{NAMESPACE}' cluster='{}' cloud='{}' name='{}' token='{}'/>",
        escape(&key.owner.cluster),
        escape(&key.owner.cloud),
        escape(&key.machine),
        escape(&key.token),
    )
}

/// What a hypervisor runs machines with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// `kvm`, or `qemu` where there is no acceleration.
    pub(crate) kind: String,
    pub(crate) arch: String,
}

impl Host {
    /// Reads what the hypervisor says it can do; `None` if it runs no machines of its own architecture.
    pub(crate) fn read(capabilities: &str) -> Option<Self> {
        let root = Node::parse(capabilities)?;
        let arch = root.text("host/cpu/arch");
        let guest =
            root.each("guest").find(|it| it.text("os_type") == "hvm" && it.attribute("arch", "name") == arch)?;
        let kinds: Vec<&str> = guest.all("arch", "domain").map(|it| it.own("type")).collect();
        let kind = kinds.iter().find(|kind| **kind == "kvm").or(kinds.first())?;
        Some(Self { kind: (*kind).to_owned(), arch: arch.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::order::tests::wish;

    #[test]
    fn a_definition_is_read_back_as_it_was_ordered() {
        let mut wish = wish();
        wish.key.machine = "m'1<&>".into();
        let order = Order::read(&wish).unwrap();
        let host = Host { kind: "kvm".into(), arch: "x86_64".into() };
        let text = definition(&wish, &order, &host);
        assert_eq!(text, definition(&wish, &order, &host));
        let seen = Seen::read(&text, "running (booted)").unwrap();
        assert_eq!((&seen.machine.machine, &seen.machine.token), (&wish.key.machine, &wish.key.token));
        assert!(seen.is_of(&wish.key.owner) && seen.is_active && seen.machine.phase == MachinePhase::Running);
        assert!(!seen.is_of(&Owner { cloud: "other".into(), ..wish.key.owner.clone() }));
        let own: Vec<&str> = seen.own_volumes().map(|(pool, _)| pool.as_str()).collect();
        assert_eq!(
            (seen.volumes.len(), own.as_slice()),
            (3, ["base", "base"].as_slice()),
            "the kept one is not among them"
        );
        assert!(Seen::read(&text.replace(NAMESPACE, "urn:other"), "running").is_none());
        assert!(Seen::read(&text, "").is_none(), "gone between two questions");
    }

    #[test]
    fn states_addresses_and_capabilities_are_read() {
        for (state, expected, active) in [
            ("running (booted)", MachinePhase::Running, true),
            ("paused (I/O error)", MachinePhase::Stopped, true),
            ("shut off (crashed)", MachinePhase::Stopped, false),
            ("no state", MachinePhase::Stopped, false),
        ] {
            let (phase, is_active, _) = phase(state).unwrap();
            assert_eq!((phase, is_active), (expected, active), "{state}");
        }
        let table = " vnet0 02:11:22:33:44:55 ipv6 fe80::1/64\n vnet0 02:11:22:33:44:55 ipv4 10.7.0.9/24\n vnet1 02:00 ipv4 10.7.0.8/24";
        assert_eq!(leased(table, "02:11:22:33:44:55").as_deref(), Some("10.7.0.9"));
        assert_eq!(leased(table, "02:99"), None);
        let text = "<capabilities><host><cpu><arch>x86_64</arch></cpu></host>\
                    <guest><os_type>hvm</os_type><arch name='i686'><domain type='qemu'/></arch></guest>\
                    <guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/></arch></guest></capabilities>";
        assert_eq!(Host::read(text).unwrap(), Host { kind: "kvm".into(), arch: "x86_64".into() });
        assert_eq!(Host::read(&text.replace("'kvm'", "'qemu'")).unwrap().kind, "qemu");
        assert_eq!(Host::read(&text.replace("hvm", "exe")), None);
    }
}
