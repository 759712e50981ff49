//! What a wish says in libvirt's words: the image as `POOL/VOLUME`, the size as `2x4096`, the subnet as a network.

use hanse_adapters_core::cloud::MachineWish;
use hanse_adapters_core::{AdapterError, Result};

use crate::name::Part;

/// The network of machines whose wish names none; every libvirt has one of this name.
const NETWORK: &str = "default";

/// A disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OrderedDisk {
    pub(crate) part: Part,
    pub(crate) pool: String,
}

/// A wish, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Where the image is, and the machine's root disk is made.
    pub(crate) pool: String,
    /// The volume that is the image.
    pub(crate) image: String,
    pub(crate) cpus: u32,
    pub(crate) mib: u32,
    pub(crate) network: String,
}

impl Order {
    /// # Errors
    /// `Invalid` says how what is wrong is written.
    pub(crate) fn read(wish: &MachineWish) -> Result<Self> {
        let (pool, image) = image(&wish.image)?;
        let (cpus, mib) = size(&wish.machine_type)?;
        let network = network(&wish.subnet)?;
        if let Some(disk) = wish.data_disk.as_ref().filter(|it| !it.kind.is_empty()) {
            is_name(&disk.kind).then_some(()).ok_or_else(|| {
                invalid("kind of data disk", &disk.kind, "is not the name of a pool that the disk is made in")
            })?;
        }
        Ok(Self { pool, image, cpus, mib, network })
    }

    /// The disks of a machine, in the order in which it sees them.
    pub(crate) fn disks(&self, wish: &MachineWish) -> Vec<OrderedDisk> {
        let pool = |kind: &str| if kind.is_empty() { self.pool.clone() } else { kind.to_owned() };
        let root = OrderedDisk { part: Part::Root, pool: self.pool.clone() };
        let data = wish.data_disk.iter().map(|disk| OrderedDisk { part: Part::of(disk), pool: pool(&disk.kind) });
        let seed = OrderedDisk { part: Part::Seed, pool: self.pool.clone() };
        [root].into_iter().chain(data).chain([seed]).collect()
    }
}

/// The pool and volume of an image.
pub(crate) fn image(text: &str) -> Result<(String, String)> {
    match text.split_once('/') {
        Some((pool, volume)) if is_name(pool) && is_name(volume) => Ok((pool.into(), volume.into())),
        Some(_) | None => Err(invalid("image", text, "is not POOL/VOLUME, as `virsh vol-list POOL` shows it")),
    }
}

/// Processors and MiB.
pub(crate) fn size(text: &str) -> Result<(u32, u32)> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|it| *it > 0 && it.to_string() == text);
    text.split_once('x')
        .and_then(|(cpus, mib)| Some((number(cpus)?, number(mib)?)))
        .ok_or_else(|| invalid("type", text, "is not PROCESSORSxMIB: say 2x4096 for two processors and 4 GiB"))
}

/// The network that a subnet names.
pub(crate) fn network(subnet: &str) -> Result<String> {
    let name = if subnet.is_empty() { NETWORK } else { subnet };
    if is_name(name) {
        Ok(name.into())
    } else {
        Err(invalid("subnet", subnet, "is no network's name, as `virsh net-list` shows it"))
    }
}

/// What virsh takes as a name, and never as an option.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

fn invalid(what: &str, text: &str, reason: &str) -> AdapterError {
    AdapterError::Invalid { subject: format!("{what} {text}"), reason: reason.into() }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use hanse_adapters_core::cloud::{DataDisk, MachineKey, Owner};

    use super::*;

    pub(crate) fn wish() -> MachineWish {
        let owner = Owner { cluster: "c1".into(), cloud: "lab".into() };
        MachineWish {
            key: MachineKey { owner, machine: "m1".into(), token: "ab".repeat(32) },
            image: "base/debian.qcow2".into(),
            machine_type: "2x4096".into(),
            zone: String::new(),
            subnet: String::new(),
            disk_gib: 0,
            data_disk: Some(DataDisk { gib: 5, kind: "fast".into(), keep: true }),
            user_data: String::new(),
            login_key: "ssh-ed25519 AAAA replicas".into(),
            ingress: Vec::new(),
        }
    }

    #[test]
    fn wishes_are_read_and_what_is_wrong_is_named() {
        let order = Order::read(&wish()).unwrap();
        assert_eq!((order.cpus, order.mib, order.network.as_str()), (2, 4096, "default"));
        let pools: Vec<(Part, String)> = order.disks(&wish()).into_iter().map(|it| (it.part, it.pool)).collect();
        assert_eq!(pools, [(Part::Root, "base".into()), (Part::Kept, "fast".into()), (Part::Seed, "base".into())]);
        for (image, size, subnet, words) in [
            ("debian.qcow2", "1x1", "", "POOL/VOLUME"),
            ("base/-x", "1x1", "", "POOL/VOLUME"),
            ("a/b/c", "1x1", "", "POOL/VOLUME"),
            ("a/b", "t3.micro", "", "2x4096"),
            ("a/b", "0x5", "", "2x4096"),
            ("a/b", "+1x5", "", "2x4096"),
            ("a/b", "1x1", "--all", "virsh net-list"),
        ] {
            let wrong = MachineWish { image: image.into(), machine_type: size.into(), subnet: subnet.into(), ..wish() };
            let error = Order::read(&wrong).unwrap_err();
            assert!(matches!(error, AdapterError::Invalid { .. }) && error.to_string().contains(words), "{error}");
        }
    }
}
