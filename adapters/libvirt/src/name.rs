//! What things are called, so that whoever looks next finds them: all is derived from the owner's mark and the machine's token.
//!
//! A machine carries its key in its definition. Volumes and filters of libvirt carry nothing but a name, so theirs *is* the mark.

use hanse_adapters_core::cloud::{DataDisk, MachineKey, Owner};

/// Hex digits of an owner in names.
const OWNER_DIGITS: usize = 16;
/// Hex digits of a token.
const TOKEN_DIGITS: usize = 64;

/// Bytes that only this text has.
fn digest(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
    bytes
}

/// The owner's mark in names.
pub(crate) fn mark(owner: &Owner) -> String {
    hex::encode(digest(&format!("{}\n{}", owner.cluster, owner.cloud)))[..OWNER_DIGITS].to_owned()
}

/// A UUID made of a text (version 8 of RFC 9562).
fn uuid(text: &str) -> String {
    let mut bytes = digest(text);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let all = hex::encode(&bytes[..16]);
    format!("{}-{}-{}-{}-{}", &all[..8], &all[8..12], &all[12..16], &all[16..20], &all[20..])
}

/// The machine's UUID: whoever orders it again orders the same.
pub(crate) fn machine_uuid(token: &str) -> String {
    uuid(&format!("hanse machine {token}"))
}

/// The address of its interface; one of those that nobody else gives out (the bit for locally administered ones is set).
pub(crate) fn mac(token: &str) -> String {
    let bytes = digest(&format!("hanse interface {token}"));
    format!("02:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2], bytes[3], bytes[4])
}

/// What people see in lists of the hypervisor.
pub(crate) fn machine(key: &MachineKey) -> String {
    let token: String = key.token.chars().take(8).collect();
    format!("hanse-{}-{}-{token}", key.owner.cloud, key.machine)
}

/// The owner's filter and its UUID.
pub(crate) fn filter(owner: &Owner) -> (String, String) {
    (format!("hanse-{}", mark(owner)), uuid(&format!("hanse filter {}\n{}", owner.cluster, owner.cloud)))
}

/// What a volume is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The disk that the machine starts from.
    Root,
    /// What its first start is told.
    Seed,
    /// The data disk.
    Data,
    /// The data disk, which stays when the machine goes.
    Kept,
}

const PARTS: [(Part, &str); 4] =
    [(Part::Root, "root"), (Part::Seed, "seed"), (Part::Data, "data"), (Part::Kept, "kept")];

impl Part {
    /// Which the data disk is.
    pub(crate) fn of(disk: &DataDisk) -> Self {
        if disk.keep { Self::Kept } else { Self::Data }
    }

    fn word(self) -> &'static str {
        PARTS.iter().find(|(part, _)| *part == self).map_or("", |(_, word)| word)
    }
}

/// A volume's name, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeName {
    mark: String,
    pub(crate) token: String,
    pub(crate) part: Part,
    pub(crate) machine: String,
}

impl VolumeName {
    pub(crate) fn new(key: &MachineKey, part: Part) -> Self {
        Self { mark: mark(&key.owner), token: key.token.clone(), part, machine: key.machine.clone() }
    }

    /// As libvirt is told it.
    pub(crate) fn text(&self) -> String {
        format!("hanse-{}-{}-{}-{}", self.mark, self.token, self.part.word(), self.machine)
    }

    /// Reads a name; `None` if it is not one of ours.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("hanse-")?;
        let (mark, rest) = rest.split_once('-')?;
        let (token, rest) = rest.split_once('-')?;
        let (part, machine) = rest.split_once('-')?;
        let is_hex = |text: &str, digits: usize| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
        let part = PARTS.iter().find(|(_, word)| *word == part)?.0;
        (is_hex(mark, OWNER_DIGITS) && is_hex(token, TOKEN_DIGITS)).then(|| Self {
            mark: mark.into(),
            token: token.into(),
            part,
            machine: machine.into(),
        })
    }

    pub(crate) fn is_of(&self, owner: &Owner) -> bool {
        self.mark == mark(owner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_the_same_each_time_and_read_back() {
        let owner = Owner { cluster: "c1".into(), cloud: "lab".into() };
        let key = MachineKey { owner: owner.clone(), machine: "m-1.a".into(), token: "ab".repeat(32) };
        for part in [Part::Root, Part::Seed, Part::Data, Part::Kept] {
            let name = VolumeName::new(&key, part);
            assert_eq!(VolumeName::parse(&name.text()).unwrap(), name);
            assert!(name.is_of(&owner));
            // Two clouds of one cluster may be one hypervisor, and so may the clouds of two clusters.
            assert!(!name.is_of(&Owner { cloud: "lab2".into(), ..owner.clone() }));
            assert!(!name.is_of(&Owner { cluster: "c2".into(), ..owner.clone() }));
            assert!(name.text().len() <= 100);
        }
        let uuid = machine_uuid(&key.token);
        assert_eq!((uuid.len(), &uuid[14..15], machine_uuid(&key.token)), (36, "8", uuid.clone()));
        assert_ne!(uuid, machine_uuid(&"ac".repeat(32)));
        assert!(mac(&key.token).starts_with("02:") && mac(&key.token).len() == 17);
        for other in ["", "hanse", "hanse-x-y-root-m", "debian.qcow2", "hanse-0123456789abcdef-12-root-m"] {
            assert_eq!(VolumeName::parse(other), None, "{other}");
        }
    }
}
