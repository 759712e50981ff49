//! Which figures there are, what they are called and what they are counted in.

use serde::{Deserialize, Serialize};

/// A figure of a node or a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// 1 while the node's process runs, else 0.
    Up,
    /// Latest block.
    Height,
    /// Connected peers.
    Peers,
    /// 1 while the node catches up, else 0.
    Syncing,
    /// Milliseconds from block to block, as the blocks say.
    BlockTime,
    /// Round of the height under way, of ledgers that say.
    Round,
    /// Processor, thousandths of one (node) or of all (host).
    Cpu,
    /// Resident memory of the node's processes, or memory in use on the host.
    Memory,
    /// Bytes of the disk that the node's folder takes.
    DiskUsed,
    /// Bytes free on the host's file system of instances.
    DiskFree,
    /// Load of the last minute, thousandths.
    Load,
    /// The host's clock less the leader's.
    ClockOffset,
    /// 1 if the host answered, else 0.
    Reachable,
}

impl Metric {
    /// Every figure.
    pub const ALL: [Self; 13] = [
        Self::Up,
        Self::Height,
        Self::Peers,
        Self::Syncing,
        Self::BlockTime,
        Self::Round,
        Self::Cpu,
        Self::Memory,
        Self::DiskUsed,
        Self::DiskFree,
        Self::Load,
        Self::ClockOffset,
        Self::Reachable,
    ];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Height => "height",
            Self::Peers => "peers",
            Self::Syncing => "syncing",
            Self::BlockTime => "block_time",
            Self::Round => "round",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::DiskUsed => "disk_used",
            Self::DiskFree => "disk_free",
            Self::Load => "load",
            Self::ClockOffset => "clock_offset",
            Self::Reachable => "reachable",
        }
    }

    /// What it is counted in; empty for plain numbers.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Up | Self::Height | Self::Peers | Self::Syncing | Self::Round | Self::Reachable => "",
            Self::BlockTime | Self::ClockOffset => "ms",
            Self::Cpu | Self::Load => "permille",
            Self::Memory | Self::DiskUsed | Self::DiskFree => "bytes",
        }
    }

    /// The figure of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }
}
