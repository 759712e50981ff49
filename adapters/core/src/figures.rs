//! What hosts tell of themselves for people to look at.

use serde::{Deserialize, Serialize};

/// What a host has and has left at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLoad {
    /// Ticks that its processors were busy since it started; with [`HostLoad::cpu_total_ticks`] it makes a share.
    pub cpu_busy_ticks: u64,
    /// All ticks since it started.
    pub cpu_total_ticks: u64,
    /// Load of the last minute, thousandths.
    pub load_milli: u64,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Of it what could be given out without swapping, bytes.
    pub memory_available_bytes: u64,
    /// The file system of the instances, bytes.
    pub disk_bytes: u64,
    /// Of it what is free for us, bytes.
    pub disk_free_bytes: u64,
    /// The host's clock, milliseconds since 1970.
    pub clock_ms: u64,
}

/// A certificate that will end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// What it is, in words.
    pub what: String,
    /// When it ends, milliseconds since 1970.
    pub until_ms: u64,
    /// What a person does to renew it.
    pub renew: String,
}

/// What the processes and the files of an instance use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceUsage {
    /// Processor time of its live processes since each began, milliseconds.
    pub cpu_ms: u64,
    /// Resident memory of them together, bytes.
    pub memory_bytes: u64,
    /// Bytes of the disk below its folder, logs included; `None` if that could not be read.
    pub disk_bytes: Option<u64>,
    /// Its live processes, the supervisor included.
    pub processes: u32,
}
