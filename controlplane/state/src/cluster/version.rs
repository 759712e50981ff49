//! The cluster version: what all replicas of a cluster can read, and so what may be written.
//!
//! Replicas are replaced one after another, so builds of different age share one log. A build speaks a range of versions
//! ([`SPOKEN`]); the cluster is at one of them, and everything that is written or computed alike on all replicas (a
//! command, a field, a rule of the digest) belongs to the version it came with. Nothing of a newer version is written
//! before an administrator has raised the cluster ([`RaiseClusterVersion`]), which takes that all replicas speak it. Until
//! then every replica can go back to the older build; afterwards none can.
//!
//! What this never does: lower the version, raise it by itself, or guess about a version that this build does not speak.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::apply::Cx;
use crate::check;
use crate::command::{Command, Outcome};
use crate::{Rejection, State};

/// A cluster version: a small number that counts changes of what is written, not releases.
///
/// | version | what came with it |
/// |---|---|
/// | 1 | everything up to entries of many requests |
/// | 2 | [`RaiseClusterVersion`]; the digest's look at the whole state leaves out what it has seen already |
/// | 3 | chains with governance: a field of what [`OpenProposal`](crate::consortium::proposal::OpenProposal) orders;
/// | | chains that record the audit trail's heads: another field of it; [`RecordTransaction`](crate::chain::RecordTransaction); the
/// | | template `cosmos-evm`, what a node contributes to a genesis, its further ports, and how far it has signed |
/// | 4 | the life of chains and hosts: a chain is [paused](crate::chain::life::PauseChain), resumed, deleted and taken back, also by
/// | | [vote](crate::chain::life::ChangeChain); charters name more kinds of action;
/// | | [rolling changes](crate::chain::rollout::RollChain), nodes that join and leave |
/// | | hosts' zones, labels and tenancy: fields of [`EnrolHost`](crate::host::EnrolHost);
/// | | [`SetHostProperties`](crate::host::properties::SetHostProperties); maintenance, drain and retirement (
/// | | [`care`](crate::host::care)); hosts that are Docker Engines; the removal of what no node is; artifacts and their publishers |
/// | | software that the platform keeps: artifacts and publishers |
/// | | hosts that are Docker Engines: [`Reach::Docker`](crate::host::Reach::Docker);
/// | | [`RemoveOrphan`](crate::host::orphan::RemoveOrphan) |
/// | 5 | provisioning at depth: [ways](crate::host::way) to hosts behind SSH, which [`SetHostReach`](crate::host::way::SetHostReach)
/// | | changes; what was done on a host for each [step](crate::operation::Step); software that is voted on, clouds;
/// | | nodes are [moved](crate::chain::moving::MoveNode) to other hosts with their keys, also off a host that is drained;
/// | | a chain's nodes are spread over failure zones; an outage by a restart by hand or by validators that leave is agreed to |
/// | | who validates on a CometBFT chain is [voted on](crate::chain::seat), and its nodes join and leave a chain that runs;
/// | | chains that were made outside of the platform are [imported](crate::chain::imported) and watched;
/// | | how often a chain's nodes are [started again](crate::chain::repair::SetChainRepair) by the platform;
/// | | clouds and their machines: commands, records of the state ([`cloud`](crate::cloud)) |
/// | | a chain's program and its nodes' settings are changed by vote, and [rolled back](crate::chain::outfit::RollBackChain); an artifact in use is kept |
/// | 6 | chains of others are [taken over](crate::chain::adopting) |
/// | | all nodes of a chain change their program [at one height](crate::chain::height);
/// | | machines of clouds have [data disks](crate::cloud::DataDisk) of their own; disks that nobody asked for are removed;
/// | | a cloud may be a [hypervisor](crate::cloud::CloudKind::Libvirt);
/// | | a reversed vote on a seat waits for the ledger's word; lost validators [are counted](crate::chain::seat::RecordUnseated);
/// | | resuming after a restore raises generations; the last node of a change halts it too |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u16);

impl Version {
    /// The version of clusters from before there were versions.
    pub const FIRST: Self = Self(1);
    /// The newest that this build speaks.
    pub const NEWEST: Self = Self(6);
    /// The first in which a chain's nodes are spread over failure zones.
    pub(crate) const ZONES: Self = Self(5);
    /// The first in which nodes move to other hosts.
    pub const MOVES: Self = Self(5);
    /// The first in which generations never repeat for a chain's name.
    pub(crate) const RETIRES: Self = Self(5);
    /// The first in which a consortium votes on who validates where the ledger's own transactions do it.
    pub const SEATS: Self = Self(5);
    /// The first in which a person must agree to what costs a chain its blocks: a restart by hand, validators that leave.
    pub(crate) const GUARDED: Self = Self(5);
    /// The first in which all nodes of a chain change their program at one height.
    pub const HEIGHTS: Self = Self(6);
    /// The first in which chains of others are taken over.
    pub const ADOPTS: Self = Self(6);
    /// The first in which machines of clouds have data disks.
    pub const DISKS: Self = Self(6);
    /// The first in which a cloud may be a hypervisor with libvirt.
    pub const HYPERVISORS: Self = Self(6);
    /// The first whose digest leaves out what it has mixed in outcome by outcome: remembered requests, earlier digests.
    pub(crate) const LEAN_DIGEST: Self = Self(2);

    /// Whether it is [`Version::FIRST`].
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }
}

impl Default for Version {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The versions a build speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: Version,
    /// The newest.
    pub newest: Version,
}

/// What this build speaks.
pub const SPOKEN: Versions = Versions { oldest: Version::FIRST, newest: Version::NEWEST };

impl Versions {
    /// What builds speak that say nothing of versions.
    pub const UNSAID: Self = Self { oldest: Version::FIRST, newest: Version::FIRST };

    /// Whether `version` is spoken.
    pub fn contains(&self, version: Version) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest { self.oldest.fmt(f) } else { write!(f, "{} to {}", self.oldest, self.newest) }
    }
}

/// Raises the cluster to a version, for ever. By an administrator, and only while all replicas speak it: the leader asks
/// them before it proposes this, for builds of the version before cannot read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaiseClusterVersion {
    /// The version, at least the cluster's.
    pub version: Version,
}

/// Checks that a command may be in the log of a cluster at this state's version. What sets the version is not bound by
/// it: the leader has asked all replicas.
///
/// # Errors
/// `TooNew`.
pub fn check(state: &State, command: &Command) -> Result<(), Rejection> {
    let (since, version) = (command.since(), state.version());
    if since <= version || command.sets_version().is_some() {
        return Ok(());
    }
    Err(Rejection::TooNew { command: command.name().into(), since, version })
}

/// Checks that this build speaks a version that a command sets. A log never gets so far: its entry is not even decoded.
pub(crate) fn check_spoken(version: Version) -> Result<(), Rejection> {
    if SPOKEN.contains(version) {
        return Ok(());
    }
    Err(check::invalid("version", version, format!("one that this build speaks, {SPOKEN}")))
}

pub(crate) fn raise(state: &mut State, cx: &mut Cx<'_>, c: &RaiseClusterVersion) -> Result<Outcome, Rejection> {
    check::cluster_id(state)?;
    let resource = "cluster".to_owned();
    let current = state.version();
    if c.version == current {
        return Ok(Outcome::Unchanged { resource });
    }
    if c.version < current {
        let rule = format!("at least {current}, the version the cluster is at: it is never lowered");
        return Err(check::invalid("version", c.version, rule));
    }
    check_spoken(c.version)?;

    if let Some(cluster) = &mut state.cluster {
        cluster.version = c.version;
    }
    cx.updated(resource.clone());
    Ok(Outcome::Done { resource })
}
