//! With which cluster version each command came, and each field of one that came later.

use super::Command;
use crate::chain::node::{NodeAct, NodeFact, RecordIntent, RecordNodeFact};
use crate::cloud::CloudKind;
use crate::cluster::InitCluster;
use crate::cluster::version::{RaiseClusterVersion, Version};
use crate::consortium::CreateConsortium;
use crate::consortium::policy::ActionKind;
use crate::consortium::proposal::{Action, OpenProposal};

impl Command {
    /// The cluster version it came with: builds of an older one cannot read it. A command with a field that
    /// came later is of that later version when the field is set.
    pub fn since(&self) -> Version {
        match self {
            Self::InitCluster(_)
            | Self::Bootstrap(_)
            | Self::CheckDigest(_)
            | Self::CreateBackup(_)
            | Self::RestoreCluster(_)
            | Self::ResumeCluster(_)
            | Self::CreateAccount(_)
            | Self::SuspendAccount(_)
            | Self::RestoreAccount(_)
            | Self::OpenSession(_)
            | Self::CloseSession(_)
            | Self::RecordLoginFailure(_)
            | Self::CreateTenant(_)
            | Self::InviteMember(_)
            | Self::JoinConsortium(_)
            | Self::ActivateConsortium(_)
            | Self::CloseProposal(_)
            | Self::CastBallot(_)
            | Self::CordonHost(_)
            | Self::UncordonHost(_)
            | Self::RecordHostFacts(_)
            | Self::AcceptHostKey(_)
            | Self::RecordGenesis(_)
            | Self::DeployContract(_)
            | Self::RecordContractFact(_)
            | Self::SetPlan(_)
            | Self::Meter(_)
            | Self::SetTenantMetadata(_)
            | Self::AddReplica(_)
            | Self::PromoteReplica(_)
            | Self::RemoveReplica(_)
            | Self::TransferLeader(_)
            | Self::RecordReplica(_) => Version::FIRST,
            Self::RaiseClusterVersion(_) => Version(2),
            Self::RecordTransaction(_) => Version(3),
            Self::RemoveOrphan(_) => Version(4),
            Self::DrainHost(c) if c.accept_outage => Version::MOVES,
            Self::SetHostProperties(_) | Self::BeginHostMaintenance(_) | Self::DrainHost(_) | Self::RetireHost(_) => {
                Version(4)
            }
            Self::EnrolHost(c) => c.since(),
            Self::SetHostReach(_)
            | Self::SetChainRepair(_)
            | Self::MoveNode(_)
            | Self::RecordEvicted(_)
            | Self::ImportChain(_) => Version(5),
            Self::ForgetChain(c) if !c.lost.is_empty() => Version::ADOPTS,
            Self::ForgetChain(_) => Version(5),
            Self::RollBackChain(c) if c.number.is_some() => Version::HEIGHTS,
            Self::RollBackChain(_) => Version(5),
            Self::AdoptChain(_) | Self::GiveBackNode(_) | Self::EndAdoption(_) => Version::ADOPTS,
            Self::RecordHostKeyChanged(c) => {
                if c.jump.is_none() {
                    Version::FIRST
                } else {
                    Version(5)
                }
            }
            Self::ImportArtifact(_) | Self::DeleteArtifact(_) | Self::PinPublisher(_) | Self::UnpinPublisher(_) => {
                Version(4)
            }
            Self::PauseChain(_) | Self::ResumeChain(_) | Self::UndeleteChain(_) | Self::PurgeChain(_) => Version(4),
            Self::RollChain(_)
            | Self::HaltRollout(_)
            | Self::ContinueRollout(_)
            | Self::RollNode(_)
            | Self::ReleaseNode(_) => Version(4),
            Self::CreateMachine(c) if c.spec.data_disk.is_some() => Version::DISKS,
            Self::RemoveCloudOrphan(c) if c.disk => Version::DISKS,
            Self::AddCloud(c) if c.spec.kind == CloudKind::Libvirt => Version::HYPERVISORS,
            Self::AddCloud(_)
            | Self::RemoveCloud(_)
            | Self::CreateMachine(_)
            | Self::DeleteMachine(_)
            | Self::RecordMachineIntent(_)
            | Self::RecordMachineFact(_)
            | Self::RemoveCloudOrphan(_) => Version(5),
            Self::CreateConsortium(CreateConsortium { charter, .. }) => {
                let is_first = charter.policies.keys().all(|kind| *kind == ActionKind::CreateChain);
                if is_first { Version::FIRST } else { Version(4) }
            }
            Self::RecordIntent(RecordIntent { act, .. }) => match act {
                NodeAct::Remove => Version(4),
                NodeAct::Fence | NodeAct::Carry | NodeAct::Clear => Version::MOVES,
                NodeAct::Seat => Version::SEATS,
                NodeAct::Return => Version::ADOPTS,
                NodeAct::Prepare | NodeAct::Configure | NodeAct::Start | NodeAct::Stop => Version::FIRST,
            },
            Self::ExchangeProgram(_) | Self::RecordUnseated(_) => Version::HEIGHTS,
            Self::RecordNodeFact(RecordNodeFact { fact: NodeFact::Halted { .. }, .. }) => Version::HEIGHTS,
            Self::RecordNodeFact(c) if !c.output.is_empty() && c.fact != NodeFact::Returned => Version(5),
            Self::RecordNodeFact(RecordNodeFact { fact, .. }) => match fact {
                NodeFact::Halted { .. } => Version::HEIGHTS,
                NodeFact::Signed { .. } => Version(3),
                NodeFact::Stopped | NodeFact::Removed => Version(4),
                NodeFact::Fenced | NodeFact::Carried | NodeFact::Cleared => Version::MOVES,
                NodeFact::Seated { .. } | NodeFact::Seating { .. } => Version::SEATS,
                NodeFact::Returned => Version::ADOPTS,
                NodeFact::Prepared { identity } if identity.contribution.is_some() => Version(3),
                NodeFact::Prepared { .. }
                | NodeFact::Configured
                | NodeFact::Started
                | NodeFact::Healthy
                | NodeFact::Unhealthy { .. }
                | NodeFact::Failed { .. }
                | NodeFact::Waiting { .. } => Version::FIRST,
            },
            Self::RestartNode(c) if c.accept_outage => Version(5),
            Self::RestartNode(_) => Version::FIRST,
            Self::OpenProposal(OpenProposal { action: Action::ChangeChain(c), .. }) => c.change.since(),
            Self::OpenProposal(OpenProposal { action: Action::CreateChain(spec), .. }) => {
                if spec.governance.is_some() || spec.anchor.is_some() { Version(3) } else { Version::FIRST }
            }
        }
    }

    /// The version it puts the cluster at, if it is one that does.
    pub fn sets_version(&self) -> Option<Version> {
        if let Self::InitCluster(InitCluster { version, .. })
        | Self::RaiseClusterVersion(RaiseClusterVersion { version }) = self
        {
            Some(*version)
        } else {
            None
        }
    }
}
