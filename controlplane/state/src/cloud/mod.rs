//! Clouds, and the machines that are made there to become hosts.
//!
//! A cloud is one region of one account. Its credentials are *not* here: the log is copied, backed up and read by auditors.
//! The record names a file that lies on every replica. A machine is wanted by a person, ordered by the leader after the
//! intent has committed, and becomes a host in the very entry that says it answers with the key it must have; then it is a
//! host like any other. Its token, which no other machine ever has, is what the cloud knows it by.
//!
//! What this never does: hold a secret, make a machine again that the cloud ended, or let one host stand for two machines.

pub(crate) mod apply;
pub mod query;

pub use apply::{host_of, reason_kept};

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::ids::{CloudId, HostId};
use crate::time::Millis;

/// Clouds of the platform.
pub const CLOUDS_MAX: usize = 100;
/// Machines that one cloud may be given at most.
pub const MACHINES_MAX: u32 = 1_000;
/// Ranges of addresses that one rule names.
pub const RANGES_MAX: usize = 16;
/// Longest name of a file of credentials.
pub const FILE_NAME_MAX: usize = 64;
/// Largest disk, GiB.
pub const DISK_GIB_MAX: u32 = 65_536;

/// What a cloud speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloudKind {
    /// The interface of Amazon EC2.
    Ec2,
    /// A hypervisor with libvirt. Since version 6.
    Libvirt,
}

/// What is said of a cloud when it is added, and stays so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudSpec {
    /// What it speaks.
    pub kind: CloudKind,
    /// `https://host[:port][/path]`; `http://` to an address of the loopback only. Of a hypervisor
    /// `qemu+ssh://user@host[:port]/system`.
    pub endpoint: String,
    /// Name of the region; of a hypervisor, what it is called, which becomes its machines' zone.
    pub region: String,
    /// Name of the file with its credentials in each replica's folder for them (`cloud_credentials` of the configuration).
    pub credentials: String,
    /// Whether its machines are reached at public addresses.
    pub public: bool,
    /// Addresses that may log in to its machines, the replicas' own: `10.0.0.0/24`; one at least, at most [`RANGES_MAX`].
    pub ssh_from: Vec<String>,
    /// Addresses besides its own machines' that may reach nodes there, at most [`RANGES_MAX`].
    pub peers_from: Vec<String>,
    /// Account that its images let in by key.
    pub user: String,
    /// Absolute folder of the instances on its machines.
    pub root: String,
    /// First port that nodes on its machines may use.
    pub port_first: u16,
    /// How many ports from there on.
    pub port_count: u16,
    /// How many machines it may be given, 1 to [`MACHINES_MAX`].
    pub machines_max: u32,
}

/// A cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cloud {
    /// Its id.
    pub id: CloudId,
    /// What was said of it.
    pub spec: CloudSpec,
    /// When it was added.
    pub created_at: Millis,
}

/// From where the platform knows the host key of a machine that is not there yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum HostKey {
    /// The platform makes the key and the machine gets it with its first start (cloud-init). Whoever may read what a machine
    /// was started with in that account, and every process on the machine, can read it.
    Made,
    /// The image has it; a person says which, `SHA256:...` as `ssh-keygen -lf` prints it.
    Known(String),
}

/// A disk of its own that a machine's nodes live on: made in the machine's order, formatted by the machine's first start and
/// mounted at the cloud's root folder. The machine is a host only once that is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataDisk {
    /// Its size in GiB, 1 to [`DISK_GIB_MAX`].
    pub gib: u32,
    /// The cloud's name of its kind (`gp3`); empty is the cloud's own choice.
    pub kind: String,
    /// Whether it stays in the cloud when the machine is deleted or ends; it is then listed and never removed by itself.
    pub keep: bool,
}

/// What is said of a machine when it is wanted, and stays so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// In which cloud.
    pub cloud: CloudId,
    /// The cloud's name of the image.
    pub image: String,
    /// The cloud's name of the size.
    pub machine_type: String,
    /// The cloud's zone, which becomes the host's failure zone; empty is any.
    pub zone: String,
    /// The cloud's name of the subnet; empty is one of the zone.
    pub subnet: String,
    /// Root disk in GiB, at most [`DISK_GIB_MAX`]; 0 is the image's.
    pub disk_gib: u32,
    /// How many nodes it takes once it is a host.
    pub slots: u32,
    /// How its host key is known.
    pub host_key: HostKey,
    /// The disk that its nodes live on; `None` is the root disk. Since version 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_disk: Option<DataDisk>,
}

/// Life of a machine: `Requested` → `Creating` → `Starting` → `Ready` → `Deleting`, then it is gone; `Ended` when the cloud
/// says so and nobody here wished it. `Deleting` can follow each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MachineState {
    /// Wanted; nothing was asked of the cloud.
    Requested,
    /// The leader has begun to order it.
    Creating,
    /// The cloud has it; it does not answer yet.
    Starting,
    /// It is a host.
    Ready,
    /// The cloud ended it; a person decides.
    Ended,
    /// It is being deleted; its host is gone.
    Deleting,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its id, and that of the host that it becomes.
    pub id: HostId,
    /// What was said of it.
    pub spec: MachineSpec,
    /// What the cloud knows it by.
    pub token: Digest,
    /// How far it is.
    pub state: MachineState,
    /// What it waits for or what is wrong, in words.
    pub state_reason: String,
    /// In this state since when.
    pub state_since: Millis,
    /// The cloud's name of it, once it has one.
    pub instance: Option<String>,
    /// The host key that it must show, once that is known.
    pub fingerprint: Option<String>,
    /// Where it is reached, once it answered there.
    pub address: Option<String>,
    /// When it was wanted.
    pub created_at: Millis,
}

/// Adds a cloud. By an administrator. Since version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddCloud {
    /// Its id.
    pub cloud: CloudId,
    /// What it is.
    pub spec: CloudSpec,
}

/// Forgets a cloud that no machine is of. By an administrator. Since version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveCloud {
    /// Which.
    pub cloud: CloudId,
}

/// Wants a machine. By an administrator or operator. Since version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateMachine {
    /// Its id; neither a machine nor a host has it.
    pub machine: HostId,
    /// What it is.
    pub spec: MachineSpec,
}

/// Wants a machine gone; its host, on which nothing is, is forgotten in the same entry. By an administrator or operator. Since
/// version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteMachine {
    /// Which.
    pub machine: HostId,
    /// Why, for the audit trail.
    pub reason: String,
}

/// What the leader is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineAct {
    /// Order it, or adopt what is there.
    Create,
    /// Delete it.
    Delete,
}

/// The leader is about to act on a machine: what is not in the log was not begun. By the system. Since version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordMachineIntent {
    /// Which.
    pub machine: HostId,
    /// Its token: one that was made anew under the same name is another.
    pub token: Digest,
    /// What.
    pub act: MachineAct,
}

/// What the leader saw of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum MachineFact {
    /// The cloud has it, under this name; it must show this host key.
    Launched {
        /// The cloud's name of it.
        instance: String,
        /// `SHA256:...`.
        fingerprint: String,
    },
    /// It answers with its key: it becomes a host.
    Answers {
        /// Where it is reached.
        address: String,
        /// The cloud's zone.
        zone: String,
    },
    /// It is not there yet, or something is in the way.
    Waiting {
        /// What.
        reason: String,
    },
    /// The cloud ended it.
    Ended {
        /// Why, in the cloud's words.
        reason: String,
    },
    /// It was to be deleted and is no more.
    Gone,
}

/// Writes down what the leader saw of a machine. By the system. Since version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordMachineFact {
    /// Which.
    pub machine: HostId,
    /// Its token.
    pub token: Digest,
    /// What.
    pub fact: MachineFact,
}

/// Deletes from a cloud what carries this cluster's mark there and no machine is. By the system. Since version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveCloudOrphan {
    /// From which cloud.
    pub cloud: CloudId,
    /// The cloud's name of it.
    pub instance: String,
    /// The token that it carries; may be empty.
    pub token: String,
    /// Since when it was seen there without being asked for, by the leader's clock.
    pub seen_since: Millis,
    /// Whether it is a disk: one that a machine's token is on is that machine's. Since version 6.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disk: bool,
}
