//! Machines that run nodes: how they are reached, what they are, which slots and ports are taken.

pub(crate) mod apply;
pub mod care;
pub mod orphan;
pub mod placement;
pub mod properties;
pub mod query;
pub mod spread;
pub mod way;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::properties::Tenancy;
use self::way::Way;
use crate::cluster::version::Version;
use crate::ids::{HostId, NodeKey};
use crate::time::Millis;

/// Hosts on the platform.
pub const HOSTS_MAX: usize = 10_000;
/// Nodes of a host.
pub const SLOTS_MAX: u32 = 1_000;
/// Lowest port a host may offer (those below are the system's).
pub const PORT_MIN: u16 = 1_024;
/// Ports of a node: the chain's network and the JSON-RPC.
pub const PORTS_PER_NODE: u32 = 2;
/// Longest address, user or path.
pub const TEXT_MAX: usize = 255;

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Reach {
    /// Processes on the replica's own machine.
    Local {
        /// Folder of the instances.
        root: String,
    },
    /// Over SSH with a pinned host key.
    Ssh {
        /// Name or address.
        address: String,
        /// Port.
        port: u16,
        /// User.
        user: String,
        /// What is pinned, `SHA256:...` as `ssh-keygen -lf` prints it: its key, unless the way says otherwise.
        fingerprint: String,
        /// Folder of the instances.
        root: String,
        /// What else is to be known of the way there. Since version 5.
        #[serde(default, skip_serializing_if = "Way::is_plain")]
        way: Way,
    },
    /// A Docker Engine: each node is a container. Since version 4.
    Docker {
        /// `unix:///absolute/path`, or `tcp://` with an address of the loopback.
        endpoint: String,
        /// Pinned id of the engine, as `docker info --format {{.ID}}` prints it.
        engine_id: String,
        /// Most memory of a node, MiB; 0 is no limit.
        memory_mib: u32,
        /// Most processor time of a node, thousandths of a processor; 0 is no limit.
        cpu_milli: u32,
        /// Most processes and threads of a node; 0 is no limit.
        pids: u32,
    },
}

/// Least memory that a node's container may be limited to, MiB.
pub const MEMORY_MIB_MIN: u32 = 64;
/// Least processor time that a node's container may be limited to, thousandths of a processor.
pub const CPU_MILLI_MIN: u32 = 10;
/// Fewest processes and threads that a node's container may be limited to.
pub const PIDS_MIN: u32 = 16;

/// Life of a host: `Ready` ⇄ `Cordoned`, `Maintenance` or `Draining`; gone when it is retired; `Distrusted` when its key changed, until an administrator accepts the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostState {
    /// Takes nodes.
    Ready,
    /// Keeps its nodes, takes no new ones.
    Cordoned,
    /// Somebody works on it: nothing is placed, done or repaired there. Came with cluster version 4.
    Maintenance,
    /// Its nodes are to be moved away, it takes no new ones. Came with cluster version 4.
    Draining,
    /// Nothing is done on it.
    Distrusted,
}

/// What a host said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFacts {
    /// Kernel's host name.
    pub hostname: String,
    /// Machine, e.g. `x86_64`.
    pub arch: String,
    /// Kernel release.
    pub kernel: String,
    /// Usable processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Free bytes for instances.
    pub disk_free_bytes: u64,
    /// Whether systemd supervises the instances.
    pub systemd: bool,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// How it is reached.
    pub reach: Reach,
    /// Address at which nodes on other hosts reach its nodes.
    pub peer_address: String,
    /// First port that nodes may use.
    pub port_first: u16,
    /// How many ports from there on.
    pub port_count: u16,
    /// How many nodes it takes.
    pub slots: u32,
    /// Whether it takes nodes.
    pub state: HostState,
    /// Why, in words.
    pub state_reason: String,
    /// Since when.
    pub state_since: Millis,
    /// What it last said of itself.
    pub facts: Option<HostFacts>,
    /// When it said so.
    pub facts_at: Option<Millis>,
    /// Key it showed instead of the pinned one, while distrusted.
    pub seen_fingerprint: Option<String>,
    /// Taken ports and by whom, within its range.
    pub ports: BTreeMap<u16, NodeKey>,
    /// When it was enrolled.
    pub created_at: Millis,
    /// Failure zone: what may fail with it as one (a rack, a room, a site); empty is none. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// What people call it by, by key; at most [`properties::LABELS_MAX`]. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whose nodes it takes. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "Tenancy::is_shared")]
    pub tenancy: Tenancy,
    /// Which machine on the way showed `seen_fingerprint`, counted from 0; `None` is the host itself. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_jump: Option<u8>,
    /// What is left there of nodes that were given up, and up to which generation: removed as soon as the host answers, and never
    /// run again. Their ports stay taken until then. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evicted: BTreeMap<NodeKey, u64>,
    /// While it drains: whether nodes are moved away also from chains that make no block meanwhile. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outage_accepted: bool,
}

/// Adds a host; nodes that wait for a slot are placed in the same entry. By an administrator or operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolHost {
    /// Its id.
    pub host: HostId,
    /// How it is reached.
    pub reach: Reach,
    /// Address at which nodes on other hosts reach its nodes.
    pub peer_address: String,
    /// First port that nodes may use.
    pub port_first: u16,
    /// How many ports from there on.
    pub port_count: u16,
    /// How many nodes it takes.
    pub slots: u32,
    /// Failure zone; empty is none. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Labels by key. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whose nodes it takes. Came with cluster version 4.
    #[serde(default, skip_serializing_if = "Tenancy::is_shared")]
    pub tenancy: Tenancy,
}

impl EnrolHost {
    /// The cluster version that it needs.
    pub(crate) fn since(&self) -> Version {
        let is_docker = match &self.reach {
            Reach::Ssh { way, .. } if !way.is_plain() => return Version(5),
            Reach::Ssh { .. } | Reach::Local { .. } => false,
            Reach::Docker { .. } => true,
        };
        let is_plain = !is_docker && self.zone.is_empty() && self.labels.is_empty() && self.tenancy.is_shared();
        if is_plain { Version::FIRST } else { Version(4) }
    }
}

/// Stops placing nodes on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CordonHost {
    /// Which.
    pub host: HostId,
    /// Why.
    pub reason: String,
}

/// Takes nodes again: ends a cordon, a maintenance or a drain; nodes that wait for a slot are placed in the same entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UncordonHost {
    /// Which.
    pub host: HostId,
}

/// A host said what it is. By the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordHostFacts {
    /// Which.
    pub host: HostId,
    /// What.
    pub facts: HostFacts,
}

/// A host showed another key than the pinned one: it is distrusted from here on. By the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordHostKeyChanged {
    /// Which.
    pub host: HostId,
    /// Fingerprint it showed.
    pub seen: String,
    /// Which machine on the way showed it, counted from 0; `None` is the host itself. Came with cluster version 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jump: Option<u8>,
}

/// Pins the new key of a distrusted host. By an administrator who compared it at the host's own console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptHostKey {
    /// Which.
    pub host: HostId,
    /// The fingerprint that was compared.
    pub fingerprint: String,
}
