//! Which figures there are, what they are called and what they are counted in.

use serde::{Deserialize, Serialize};

/// A figure of a chain, a node or a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// 1 while the node's process runs, else 0.
    Up,
    /// Latest block; of a chain the highest that a node has.
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
    /// Starts of a node by the platform since its process was first wanted: its generation.
    Starts,
    /// Transactions in the blocks of a chain, thousandths a second.
    Transactions,
    /// How long ago the newest block of a chain was made: grows while a chain stalls.
    BlockAge,
}

impl Metric {
    /// Every figure.
    pub const ALL: [Self; 16] = [
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
        Self::Starts,
        Self::Transactions,
        Self::BlockAge,
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
            Self::Starts => "starts",
            Self::Transactions => "transactions",
            Self::BlockAge => "block_age",
        }
    }

    /// What it is counted in: `ms`, `bytes`, `permille`, `milli` (thousandths), `milli_per_s`; empty for plain numbers.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Up | Self::Height | Self::Peers | Self::Syncing | Self::Round | Self::Reachable | Self::Starts => "",
            Self::BlockTime | Self::ClockOffset | Self::BlockAge => "ms",
            Self::Transactions => "milli_per_s",
            Self::Cpu => "permille",
            // A number of processes, not a share of something.
            Self::Load => "milli",
            Self::Memory | Self::DiskUsed | Self::DiskFree => "bytes",
        }
    }

    /// Whether it only grows, so that how fast is what there is to see.
    pub const fn is_counter(self) -> bool {
        matches!(self, Self::Height | Self::Starts)
    }

    /// The figure of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }
}
