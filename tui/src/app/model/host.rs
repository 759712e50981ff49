//! Hosts, and what was found on them.

use super::edit::Way;

/// A machine that nodes run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Resource name.
    pub name: String,
    /// `READY`, `CORDONED`, `DISTRUSTED`, ...
    pub state: String,
    /// Why.
    pub reason: String,
    /// `local` or `ssh user@address:port`.
    pub reach: String,
    /// Pinned fingerprint, empty if it is not behind SSH.
    pub pinned: String,
    /// What is pinned of the machine that showed `seen`: the host itself, or one on the way.
    pub expected: String,
    /// What is special about the way there, one line each: machines between with their keys, the login, root.
    pub way: Vec<String>,
    /// Fingerprint it showed instead, empty unless it is distrusted.
    pub seen: String,
    /// Address for peers.
    pub address: String,
    /// Slots used and all.
    pub slots: (u64, u64),
    /// Processors, memory and free disk in words.
    pub capacity: String,
    /// Failure zone, empty for none.
    pub zone: String,
    /// Labels as `key=value`, in the order of their keys.
    pub labels: Vec<String>,
    /// The tenant whose nodes alone it takes, empty for all.
    pub dedicated_to: String,
    /// Last facts.
    pub seen_at: i64,
    /// What is there and nothing asks for, one line each.
    pub orphans: Vec<String>,
    /// How it is reached, if it is behind SSH.
    pub ssh: Option<Way>,
}

/// One thing that was looked at on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCheck {
    /// What.
    pub check: String,
    /// `FINE`, `WARNING`, `ERROR`.
    pub severity: String,
    /// What was seen.
    pub found: String,
    /// What to do, empty if it is fine.
    pub advice: String,
}
