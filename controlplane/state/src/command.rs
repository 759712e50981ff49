//! Orders: everything that can change the state. One variant a command; its struct lives in its area.

mod since;

use serde::{Deserialize, Serialize};

use crate::account::{CloseSession, CreateAccount, OpenSession, RecordLoginFailure, RestoreAccount, SuspendAccount};
use crate::artifact::{DeleteArtifact, ImportArtifact, PinPublisher, UnpinPublisher};
use crate::billing::{Meter, SetPlan};
use crate::chain::adopting::{AdoptChain, EndAdoption, GiveBackNode};
use crate::chain::height::ExchangeProgram;
use crate::chain::imported::{ForgetChain, ImportChain};
use crate::chain::life::{PauseChain, PurgeChain, ResumeChain, UndeleteChain};
use crate::chain::moving::{MoveNode, RecordEvicted};
use crate::chain::node::{RecordIntent, RecordNodeFact, RestartNode};
use crate::chain::outfit::RollBackChain;
use crate::chain::repair::SetChainRepair;
use crate::chain::rollout::{ContinueRollout, HaltRollout, ReleaseNode, RollChain, RollNode};
use crate::chain::seat::RecordUnseated;
use crate::chain::{RecordGenesis, RecordTransaction};
use crate::cloud::{
    AddCloud, CreateMachine, DeleteMachine, RecordMachineFact, RecordMachineIntent, RemoveCloud, RemoveCloudOrphan,
};
use crate::cluster::backup::{CreateBackup, RestoreCluster, ResumeCluster};
use crate::cluster::version::RaiseClusterVersion;
use crate::cluster::{Bootstrap, CheckDigest, InitCluster};
use crate::consortium::ballot::CastBallot;
use crate::consortium::proposal::{CloseProposal, OpenProposal, ProposalState};
use crate::consortium::{ActivateConsortium, CreateConsortium, InviteMember, JoinConsortium};
use crate::contract::{DeployContract, RecordContractFact};
use crate::digest::Digest;
use crate::host::care::{BeginHostMaintenance, DrainHost, RetireHost};
use crate::host::orphan::RemoveOrphan;
use crate::host::properties::SetHostProperties;
use crate::host::way::SetHostReach;
use crate::host::{AcceptHostKey, CordonHost, EnrolHost, RecordHostFacts, RecordHostKeyChanged, UncordonHost};
use crate::ids::{AccountId, OperationId, ProposalKey, RequestId};
use crate::name;
use crate::replica::{AddReplica, PromoteReplica, RecordReplica, RemoveReplica, TransferLeader};
use crate::tenant::{CreateTenant, SetTenantMetadata};
use crate::time::Millis;

/// Format of requests that this version writes.
pub const REQUEST_VERSION: u16 = 1;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Actor {
    /// The platform itself: the leader's reconcilers.
    System,
    /// The holder of the one-time setup code, before there is any account.
    SetupCode,
    /// An account, authenticated by the API.
    Account(AccountId),
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::SetupCode => f.write_str("setup-code"),
            Self::Account(account) => write!(f, "accounts/{account}"),
        }
    }
}

/// What a log entry holds: one command with who asked for it and when the leader took it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Format; [`REQUEST_VERSION`].
    pub version: u16,
    /// Made by the client, one for all tries.
    pub id: RequestId,
    /// Who asks.
    pub actor: Actor,
    /// Address of the client for the audit record, empty for the system.
    pub source: String,
    /// Stamped by the leader; `apply` never lets log time go back.
    pub at: Millis,
    /// What is wanted.
    pub command: Command,
    /// Session in which the account asks: it must be open when the request is applied. `None` for the platform itself
    /// and for what an older replica proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Digest>,
}

impl Request {
    /// A request of the current version.
    pub fn new(id: RequestId, actor: Actor, source: impl Into<String>, at: Millis, command: Command) -> Self {
        Self { version: REQUEST_VERSION, id, actor, source: source.into(), at, command, session: None }
    }

    /// The same request, asked for in this session (the hash of its token).
    #[must_use]
    pub fn in_session(self, session: Digest) -> Self {
        Self { session: Some(session), ..self }
    }

    /// A request of the platform itself.
    pub fn system(id: RequestId, at: Millis, command: Command) -> Self {
        Self::new(id, Actor::System, "", at, command)
    }
}

/// What an accepted command answers; the changed things themselves are read from the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done: this resource was made or changed.
    Done {
        /// Resource name.
        resource: String,
    },
    /// Nothing had to be done: it was so already.
    Unchanged {
        /// Resource name.
        resource: String,
    },
    /// A proposal is open.
    ProposalOpened {
        /// Its key.
        proposal: ProposalKey,
        /// SHA-256 of its artifact.
        artifact_hash: crate::digest::Digest,
        /// When the vote ends.
        deadline: Millis,
    },
    /// A ballot is recorded.
    BallotCast {
        /// On which proposal.
        proposal: ProposalKey,
        /// The proposal's state after it.
        state: ProposalState,
        /// The operation that it started, if it decided.
        operation: Option<OperationId>,
    },
    /// Work has begun.
    OperationStarted {
        /// Resource that is being made.
        resource: String,
        /// The operation.
        operation: OperationId,
    },
    /// A session is open.
    SessionOpened {
        /// Whose.
        account: AccountId,
        /// When it ends.
        expires_at: Millis,
    },
    /// Usage was written.
    Metered {
        /// How many records.
        records: u64,
    },
}

/// Everything that can change the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is documented at its struct")]
pub enum Command {
    InitCluster(InitCluster),
    Bootstrap(Bootstrap),
    CheckDigest(CheckDigest),
    CreateBackup(CreateBackup),
    RestoreCluster(RestoreCluster),
    ResumeCluster(ResumeCluster),
    CreateAccount(CreateAccount),
    SuspendAccount(SuspendAccount),
    RestoreAccount(RestoreAccount),
    OpenSession(OpenSession),
    CloseSession(CloseSession),
    RecordLoginFailure(RecordLoginFailure),
    CreateTenant(CreateTenant),
    CreateConsortium(CreateConsortium),
    InviteMember(InviteMember),
    JoinConsortium(JoinConsortium),
    ActivateConsortium(ActivateConsortium),
    OpenProposal(OpenProposal),
    CloseProposal(CloseProposal),
    CastBallot(CastBallot),
    EnrolHost(EnrolHost),
    CordonHost(CordonHost),
    UncordonHost(UncordonHost),
    RecordHostFacts(RecordHostFacts),
    RecordHostKeyChanged(RecordHostKeyChanged),
    AcceptHostKey(AcceptHostKey),
    SetHostProperties(SetHostProperties),
    SetHostReach(SetHostReach),
    BeginHostMaintenance(BeginHostMaintenance),
    DrainHost(DrainHost),
    RetireHost(RetireHost),
    RecordGenesis(RecordGenesis),
    RecordIntent(RecordIntent),
    RecordNodeFact(RecordNodeFact),
    RestartNode(RestartNode),
    DeployContract(DeployContract),
    RecordContractFact(RecordContractFact),
    SetPlan(SetPlan),
    Meter(Meter),
    SetTenantMetadata(SetTenantMetadata),
    AddReplica(AddReplica),
    PromoteReplica(PromoteReplica),
    RemoveReplica(RemoveReplica),
    TransferLeader(TransferLeader),
    RecordReplica(RecordReplica),
    RaiseClusterVersion(RaiseClusterVersion),
    RecordTransaction(RecordTransaction),
    RemoveOrphan(RemoveOrphan),
    ImportArtifact(ImportArtifact),
    DeleteArtifact(DeleteArtifact),
    PinPublisher(PinPublisher),
    UnpinPublisher(UnpinPublisher),
    PauseChain(PauseChain),
    ResumeChain(ResumeChain),
    UndeleteChain(UndeleteChain),
    PurgeChain(PurgeChain),
    RollChain(RollChain),
    RollBackChain(RollBackChain),
    HaltRollout(HaltRollout),
    ContinueRollout(ContinueRollout),
    RollNode(RollNode),
    ReleaseNode(ReleaseNode),
    ExchangeProgram(ExchangeProgram),
    RecordUnseated(RecordUnseated),
    MoveNode(MoveNode),
    RecordEvicted(RecordEvicted),
    SetChainRepair(SetChainRepair),
    AddCloud(AddCloud),
    RemoveCloud(RemoveCloud),
    CreateMachine(CreateMachine),
    DeleteMachine(DeleteMachine),
    RecordMachineIntent(RecordMachineIntent),
    RecordMachineFact(RecordMachineFact),
    RemoveCloudOrphan(RemoveCloudOrphan),
    ImportChain(ImportChain),
    ForgetChain(ForgetChain),
    AdoptChain(AdoptChain),
    GiveBackNode(GiveBackNode),
    EndAdoption(EndAdoption),
}

impl Command {
    /// Its name, as in the audit record.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InitCluster(_) => "InitCluster",
            Self::Bootstrap(_) => "Bootstrap",
            Self::CheckDigest(_) => "CheckDigest",
            Self::CreateBackup(_) => "CreateBackup",
            Self::RestoreCluster(_) => "RestoreCluster",
            Self::ResumeCluster(_) => "ResumeCluster",
            Self::CreateAccount(_) => "CreateAccount",
            Self::SuspendAccount(_) => "SuspendAccount",
            Self::RestoreAccount(_) => "RestoreAccount",
            Self::OpenSession(_) => "OpenSession",
            Self::CloseSession(_) => "CloseSession",
            Self::RecordLoginFailure(_) => "RecordLoginFailure",
            Self::CreateTenant(_) => "CreateTenant",
            Self::CreateConsortium(_) => "CreateConsortium",
            Self::InviteMember(_) => "InviteMember",
            Self::JoinConsortium(_) => "JoinConsortium",
            Self::ActivateConsortium(_) => "ActivateConsortium",
            Self::OpenProposal(_) => "OpenProposal",
            Self::CloseProposal(_) => "CloseProposal",
            Self::CastBallot(_) => "CastBallot",
            Self::EnrolHost(_) => "EnrolHost",
            Self::CordonHost(_) => "CordonHost",
            Self::UncordonHost(_) => "UncordonHost",
            Self::RecordHostFacts(_) => "RecordHostFacts",
            Self::RecordHostKeyChanged(_) => "RecordHostKeyChanged",
            Self::AcceptHostKey(_) => "AcceptHostKey",
            Self::SetHostProperties(_) => "SetHostProperties",
            Self::SetHostReach(_) => "SetHostReach",
            Self::BeginHostMaintenance(_) => "BeginHostMaintenance",
            Self::DrainHost(_) => "DrainHost",
            Self::RetireHost(_) => "RetireHost",
            Self::RecordGenesis(_) => "RecordGenesis",
            Self::RecordIntent(_) => "RecordIntent",
            Self::RecordNodeFact(_) => "RecordNodeFact",
            Self::RestartNode(_) => "RestartNode",
            Self::DeployContract(_) => "DeployContract",
            Self::RecordContractFact(_) => "RecordContractFact",
            Self::SetPlan(_) => "SetPlan",
            Self::Meter(_) => "Meter",
            Self::SetTenantMetadata(_) => "SetTenantMetadata",
            Self::AddReplica(_) => "AddReplica",
            Self::PromoteReplica(_) => "PromoteReplica",
            Self::RemoveReplica(_) => "RemoveReplica",
            Self::TransferLeader(_) => "TransferLeader",
            Self::RecordReplica(_) => "RecordReplica",
            Self::RaiseClusterVersion(_) => "RaiseClusterVersion",
            Self::RecordTransaction(_) => "RecordTransaction",
            Self::RemoveOrphan(_) => "RemoveOrphan",
            Self::ImportArtifact(_) => "ImportArtifact",
            Self::DeleteArtifact(_) => "DeleteArtifact",
            Self::PinPublisher(_) => "PinPublisher",
            Self::UnpinPublisher(_) => "UnpinPublisher",
            Self::PauseChain(_) => "PauseChain",
            Self::ResumeChain(_) => "ResumeChain",
            Self::UndeleteChain(_) => "UndeleteChain",
            Self::PurgeChain(_) => "PurgeChain",
            Self::RollChain(_) => "RollChain",
            Self::RollBackChain(_) => "RollBackChain",
            Self::HaltRollout(_) => "HaltRollout",
            Self::ContinueRollout(_) => "ContinueRollout",
            Self::RollNode(_) => "RollNode",
            Self::ReleaseNode(_) => "ReleaseNode",
            Self::ExchangeProgram(_) => "ExchangeProgram",
            Self::RecordUnseated(_) => "RecordUnseated",
            Self::MoveNode(_) => "MoveNode",
            Self::RecordEvicted(_) => "RecordEvicted",
            Self::SetChainRepair(_) => "SetChainRepair",
            Self::AddCloud(_) => "AddCloud",
            Self::RemoveCloud(_) => "RemoveCloud",
            Self::CreateMachine(_) => "CreateMachine",
            Self::DeleteMachine(_) => "DeleteMachine",
            Self::RecordMachineIntent(_) => "RecordMachineIntent",
            Self::RecordMachineFact(_) => "RecordMachineFact",
            Self::RemoveCloudOrphan(_) => "RemoveCloudOrphan",
            Self::ImportChain(_) => "ImportChain",
            Self::ForgetChain(_) => "ForgetChain",
            Self::AdoptChain(_) => "AdoptChain",
            Self::GiveBackNode(_) => "GiveBackNode",
            Self::EndAdoption(_) => "EndAdoption",
        }
    }

    /// Name of the resource that it is about.
    pub fn resource(&self) -> String {
        match self {
            Self::InitCluster(_) => "cluster".into(),
            Self::Bootstrap(c) => name::account(&c.account),
            Self::CheckDigest(_)
            | Self::CreateBackup(_)
            | Self::RestoreCluster(_)
            | Self::ResumeCluster(_)
            | Self::RaiseClusterVersion(_) => "cluster".into(),
            Self::CreateAccount(c) => name::account(&c.account),
            Self::SuspendAccount(c) => name::account(&c.account),
            Self::RestoreAccount(c) => name::account(&c.account),
            Self::OpenSession(c) => name::account(&c.account),
            Self::CloseSession(_) => "sessions".into(),
            Self::RecordLoginFailure(c) => name::account(&c.account),
            Self::CreateTenant(c) => name::tenant(&c.tenant),
            Self::CreateConsortium(c) => name::consortium(&c.consortium),
            Self::InviteMember(c) => name::consortium(&c.consortium),
            Self::JoinConsortium(c) => name::consortium(&c.consortium),
            Self::ActivateConsortium(c) => name::consortium(&c.consortium),
            Self::OpenProposal(c) => name::consortium(&c.consortium),
            Self::CloseProposal(c) => name::proposal(&c.proposal),
            Self::CastBallot(c) => name::proposal(&c.proposal),
            Self::EnrolHost(c) => name::host(&c.host),
            Self::CordonHost(c) => name::host(&c.host),
            Self::UncordonHost(c) => name::host(&c.host),
            Self::RecordHostFacts(c) => name::host(&c.host),
            Self::RecordHostKeyChanged(c) => name::host(&c.host),
            Self::AcceptHostKey(c) => name::host(&c.host),
            Self::SetHostProperties(c) => name::host(&c.host),
            Self::SetHostReach(c) => name::host(&c.host),
            Self::BeginHostMaintenance(c) => name::host(&c.host),
            Self::DrainHost(c) => name::host(&c.host),
            Self::RetireHost(c) => name::host(&c.host),
            Self::RecordGenesis(c) => name::chain(&c.chain),
            Self::RecordIntent(c) => name::node(&c.node),
            Self::RecordNodeFact(c) => name::node(&c.node),
            Self::RestartNode(c) => name::node(&c.node),
            Self::DeployContract(c) => name::contract(&c.contract),
            Self::RecordContractFact(c) => name::contract(&c.contract),
            Self::SetPlan(c) => name::plan(&c.plan),
            Self::Meter(_) => "usage".into(),
            Self::SetTenantMetadata(c) => name::tenant(&c.tenant),
            Self::AddReplica(c) => c.replaces.map_or_else(|| "cluster".into(), name::replica),
            Self::PromoteReplica(c) => name::replica(c.replica),
            Self::RemoveReplica(c) => name::replica(c.replica),
            Self::TransferLeader(c) => name::replica(c.replica),
            Self::RecordReplica(c) => name::replica(c.replica),
            Self::RecordTransaction(c) => name::chain(&c.chain),
            Self::RemoveOrphan(c) => name::orphan(&c.host, &c.object),
            Self::ImportArtifact(c) => name::artifact(&c.sha256),
            Self::DeleteArtifact(c) => name::artifact(&c.sha256),
            Self::PinPublisher(c) => name::publisher(&c.publisher),
            Self::UnpinPublisher(c) => name::publisher(&c.publisher),
            Self::PauseChain(c) => name::chain(&c.chain),
            Self::ResumeChain(c) => name::chain(&c.chain),
            Self::UndeleteChain(c) => name::chain(&c.chain),
            Self::PurgeChain(c) => name::chain(&c.chain),
            Self::RollChain(c) => name::chain(&c.chain),
            Self::RollBackChain(c) => name::chain(&c.chain),
            Self::HaltRollout(c) => name::chain(&c.chain),
            Self::ContinueRollout(c) => name::chain(&c.chain),
            Self::RollNode(c) => name::node(&c.node),
            Self::ReleaseNode(c) => name::node(&c.node),
            Self::ExchangeProgram(c) => name::chain(&c.chain),
            Self::RecordUnseated(c) => name::chain(&c.chain),
            Self::MoveNode(c) => name::node(&c.node),
            Self::RecordEvicted(c) => name::host(&c.host),
            Self::SetChainRepair(c) => name::chain(&c.chain),
            Self::AddCloud(c) => name::cloud(&c.cloud),
            Self::RemoveCloud(c) => name::cloud(&c.cloud),
            Self::CreateMachine(c) => name::machine(&c.machine),
            Self::DeleteMachine(c) => name::machine(&c.machine),
            Self::RecordMachineIntent(c) => name::machine(&c.machine),
            Self::RecordMachineFact(c) => name::machine(&c.machine),
            Self::RemoveCloudOrphan(c) => name::cloud_orphan(&c.cloud, &c.instance),
            Self::ImportChain(c) => name::chain(&c.chain),
            Self::ForgetChain(c) => name::chain(&c.chain),
            Self::AdoptChain(c) => name::chain(&c.chain),
            Self::GiveBackNode(c) => name::node(&c.node),
            Self::EndAdoption(c) => name::chain(&c.chain),
        }
    }
}
