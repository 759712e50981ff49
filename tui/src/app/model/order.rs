//! What is ordered of clouds by filling in fields: another cloud, and a machine of one.
//!
//! Credentials are never typed here: they lie in a file on each replica, and only its name is said.

use crate::app::input::Input;
use crate::i18n::T;

/// First port of nodes, how many, and how many machines, if nothing else is said.
const PORT_FIRST: u32 = 30_000;
const PORT_COUNT: u32 = 100;
const MACHINES_MAX: u32 = 20;
/// What is said of a data disk that stays.
const KEEP: &str = "keep";

/// A cloud to be added, as it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewCloud {
    /// Id.
    pub cloud: String,
    /// Where it is asked.
    pub endpoint: String,
    /// Region.
    pub region: String,
    /// Name of the file with its credentials on each replica.
    pub credentials: String,
    /// Whether its machines are reached at public addresses.
    pub public: bool,
    /// Who may log in to its machines.
    pub ssh_from: Vec<String>,
    /// Who else may reach nodes there.
    pub peers_from: Vec<String>,
    /// Account of its images.
    pub user: String,
    /// Folder that nodes live in.
    pub root: String,
    /// First port of nodes, and how many.
    pub ports: (u32, u32),
    /// How many machines it may be given.
    pub machines_max: u32,
}

/// A machine to be made, as it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMachine {
    /// Id, of the machine and of the host.
    pub machine: String,
    /// Id of its cloud.
    pub cloud: String,
    /// Image, by the cloud's name.
    pub image: String,
    /// Size, by the cloud's name.
    pub machine_type: String,
    /// Zone, empty for any.
    pub zone: String,
    /// Subnet, empty for one of the zone.
    pub subnet: String,
    /// Root disk in GiB, 0 for the image's.
    pub disk_gib: u32,
    /// The disk that its nodes live on, if it is not the root disk.
    pub data_disk: Option<NewDisk>,
    /// Nodes that fit.
    pub slots: u32,
    /// Host key of the image, empty if the platform makes one.
    pub host_key: String,
}

/// A data disk, as it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewDisk {
    /// Its size in GiB.
    pub gib: u32,
    /// Its kind, by the cloud's name; empty is the cloud's choice.
    pub kind: String,
    /// Whether it stays when the machine goes.
    pub keep: bool,
}

/// Fields of a cloud, with what most say.
pub(super) fn cloud_fields() -> Vec<(T, String)> {
    let fields = [
        (T::NewId, ""),
        (T::CloudUrl, "https://"),
        (T::CloudRegion, ""),
        (T::CloudCredentials, ""),
        (T::CloudPublic, "no"),
        (T::CloudSshFrom, ""),
        (T::CloudPeersFrom, ""),
        (T::CloudUser, ""),
        (T::CloudRoot, "/srv/hanse"),
        (T::CloudPorts, "30000+100"),
        (T::CloudMachinesMax, "20"),
    ];
    fields.map(|(label, text)| (label, text.to_owned())).into()
}

/// Fields of a machine of `cloud`.
pub(super) fn machine_fields(cloud: &str) -> Vec<(T, String)> {
    let fields = [
        (T::NewId, ""),
        (T::MachineCloud, cloud),
        (T::MachineImage, ""),
        (T::MachineType, ""),
        (T::MachineZone, ""),
        (T::MachineSubnet, ""),
        (T::MachineDisk, "0"),
        (T::MachineDataDisk, ""),
        (T::MachineSlots, "4"),
        (T::MachineHostKey, ""),
    ];
    fields.map(|(label, text)| (label, text.to_owned())).into()
}

/// Texts of fields by their labels.
struct Filled<'a>(&'a [(T, Input)]);

impl Filled<'_> {
    fn text(&self, label: T) -> String {
        self.0.iter().find(|(of, _)| *of == label).map(|(_, input)| input.text().trim().to_owned()).unwrap_or_default()
    }

    /// A text without spaces that must be there.
    fn word(&self, label: T, wrong: T) -> Result<String, T> {
        let text = self.text(label);
        if text.is_empty() || text.contains(' ') { Err(wrong) } else { Ok(text) }
    }

    fn number(&self, label: T, least: u32, wrong: T) -> Result<u32, T> {
        self.text(label).parse().ok().filter(|number| *number >= least).ok_or(wrong)
    }
}

/// Returns the cloud that the fields say, or what is wrong with them.
pub(super) fn cloud(fields: &[(T, Input)]) -> Result<NewCloud, T> {
    let of = Filled(fields);
    let needed = |label| of.word(label, T::CloudNeeds);
    let list = |label| of.text(label).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let ports = of.text(T::CloudPorts);
    let (first, count) = ports.split_once('+').ok_or(T::CloudPortsWrong)?;
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|it| *it > 0).map(u32::from);
    let ports = port(first).zip(port(count)).ok_or(T::CloudPortsWrong)?;
    let ssh_from = list(T::CloudSshFrom);
    if ssh_from.is_empty() {
        return Err(T::CloudNeeds);
    }
    Ok(NewCloud {
        cloud: needed(T::NewId)?,
        endpoint: needed(T::CloudUrl).and_then(|url| if url == "https://" { Err(T::CloudNeeds) } else { Ok(url) })?,
        region: needed(T::CloudRegion)?,
        credentials: needed(T::CloudCredentials)?,
        public: match of.text(T::CloudPublic).as_str() {
            "yes" => true,
            "no" => false,
            _ => return Err(T::CloudPublicWrong),
        },
        ssh_from,
        peers_from: list(T::CloudPeersFrom),
        user: needed(T::CloudUser)?,
        root: needed(T::CloudRoot)?,
        ports,
        machines_max: of.number(T::CloudMachinesMax, 1, T::CloudMachinesWrong)?,
    })
}

/// Returns the machine that the fields say, or what is wrong with them.
pub(super) fn machine(fields: &[(T, Input)]) -> Result<NewMachine, T> {
    let of = Filled(fields);
    let needed = |label| of.word(label, T::MachineNeeds);
    let host_key = of.text(T::MachineHostKey);
    if !host_key.is_empty() && !host_key.starts_with("SHA256:") {
        return Err(T::MachineKeyWrong);
    }
    Ok(NewMachine {
        machine: needed(T::NewId)?,
        cloud: needed(T::MachineCloud)?,
        image: needed(T::MachineImage)?,
        machine_type: needed(T::MachineType)?,
        zone: of.text(T::MachineZone),
        subnet: of.text(T::MachineSubnet),
        disk_gib: of.number(T::MachineDisk, 0, T::MachineNumbers)?,
        data_disk: data_disk(&of.text(T::MachineDataDisk))?,
        slots: of.number(T::MachineSlots, 1, T::MachineNumbers)?,
        host_key,
    })
}

/// Reads `GIB [KIND] [keep]`; empty is none.
fn data_disk(text: &str) -> Result<Option<NewDisk>, T> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let keep = words.len() > 1 && words.last() == Some(&KEEP);
    words.truncate(words.len() - usize::from(keep));
    let (gib, kind) = match words[..] {
        [] => return Ok(None),
        [gib] => (gib, ""),
        [gib, kind] => (gib, kind),
        _ => return Err(T::MachineDataDiskWrong),
    };
    let gib = gib.parse().ok().filter(|gib| *gib > 0).ok_or(T::MachineDataDiskWrong)?;
    Ok(Some(NewDisk { gib, kind: kind.to_owned(), keep }))
}

impl NewCloud {
    /// The same on the command line.
    pub fn command(&self) -> String {
        let mut words = format!(
            "hanse cloud add {} --url {} --region {} --credentials-file {}",
            self.cloud, self.endpoint, self.region, self.credentials
        );
        words.extend(self.public.then_some(" --public"));
        words.extend(self.ssh_from.iter().map(|from| format!(" --ssh-from {from}")));
        words.extend(self.peers_from.iter().map(|from| format!(" --peers-from {from}")));
        words.push_str(&format!(" --user {} --root {}", self.user, self.root));
        // What the command takes by itself is not said.
        let (first, count) = self.ports;
        let numbers = [("port-first", first, PORT_FIRST), ("port-count", count, PORT_COUNT)];
        for (option, number, usual) in [&numbers[..], &[("machines-max", self.machines_max, MACHINES_MAX)]].concat() {
            words.extend((number != usual).then(|| format!(" --{option} {number}")));
        }
        words
    }
}

impl NewMachine {
    /// The same on the command line.
    pub fn command(&self) -> String {
        let mut words = format!(
            "hanse cloud machine create {} --cloud {} --image {} --type {}",
            self.machine, self.cloud, self.image, self.machine_type
        );
        for (option, text) in [("zone", &self.zone), ("subnet", &self.subnet), ("host-key", &self.host_key)] {
            words.extend((!text.is_empty()).then(|| format!(" --{option} {text}")));
        }
        words.extend((self.disk_gib > 0).then(|| format!(" --disk-gib {}", self.disk_gib)));
        if let Some(NewDisk { gib, kind, keep }) = &self.data_disk {
            words.push_str(&format!(" --data-disk-gib {gib}"));
            words.extend((!kind.is_empty()).then(|| format!(" --data-disk-kind {kind}")));
            words.extend(keep.then_some(" --keep-data-disk"));
        }
        format!("{words} --slots {}", self.slots)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_data_disk_is_said_in_up_to_three_words() {
        let disk = |gib, kind: &str, keep| Some(NewDisk { gib, kind: kind.into(), keep });
        for (text, said) in [
            ("", None),
            (" 100 ", disk(100, "", false)),
            ("100 gp3", disk(100, "gp3", false)),
            ("100 keep", disk(100, "", true)),
            ("100 gp3 keep", disk(100, "gp3", true)),
        ] {
            assert_eq!(data_disk(text), Ok(said), "{text}");
        }
        for text in ["0", "-1", "gp3", "keep", "100 gp3 keep please", "100 gp3 io2", "100GB"] {
            assert_eq!(data_disk(text), Err(T::MachineDataDiskWrong), "{text}");
        }
    }
}
