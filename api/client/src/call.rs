//! The table of calls: which path and response belong to a request, and how it may be repeated.

use hanse_proto::v1 as pb;

/// How a call may be sent again when its outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing: as often as one likes.
    Read,
    /// It changes something once: with the same request id only.
    SameId,
    /// Every attempt gets an id of its own, because the first answer (a token shown once) cannot be given again;
    /// a surplus session is bounded by the account's limit and ends by itself.
    FreshId,
}

/// A unary request of the contract.
pub trait Call: prost::Message + Clone + Default + 'static {
    /// What it is answered with.
    type Response: prost::Message + Default + 'static;
    /// gRPC path.
    const PATH: &'static str;
    /// Name of the response's message.
    const RESPONSE: &'static str;
    /// How it may be repeated.
    const REPEAT: Repeat;
    /// Returns the request id's field, if the request has one.
    fn request_id_mut(&mut self) -> Option<&mut String>;
}

macro_rules! calls {
    ($($service:literal { $($kind:ident $method:ident($request:ident) -> $response:ident;)* })*) => {
        $($(
            impl Call for pb::$request {
                type Response = pb::$response;
                const PATH: &'static str = concat!("/hanse.v1.", $service, "/", stringify!($method));
                const RESPONSE: &'static str = stringify!($response);
                const REPEAT: Repeat = calls!(@repeat $kind);
                fn request_id_mut(&mut self) -> Option<&mut String> {
                    calls!(@id $kind self)
                }
            }
        )*)*

        /// Every unary call: path and how it may be repeated.
        #[cfg(test)]
        pub(crate) const TABLE: &[(&str, Repeat)] = &[
            $($((<pb::$request as Call>::PATH, <pb::$request as Call>::REPEAT),)*)*
        ];
    };
    (@repeat read) => { Repeat::Read };
    (@repeat write) => { Repeat::SameId };
    (@repeat fresh) => { Repeat::FreshId };
    (@id read $this:ident) => { None };
    (@id write $this:ident) => { Some(&mut $this.request_id) };
    (@id fresh $this:ident) => { Some(&mut $this.request_id) };
}

calls! {
    "ClusterService" {
        read GetStatus(GetStatusRequest) -> GetStatusResponse;
        write Bootstrap(BootstrapRequest) -> BootstrapResponse;
        read GetVersion(GetVersionRequest) -> GetVersionResponse;
        write RaiseClusterVersion(RaiseClusterVersionRequest) -> RaiseClusterVersionResponse;
    }
    "AccountService" {
        fresh Login(LoginRequest) -> LoginResponse;
        write Logout(LogoutRequest) -> LogoutResponse;
        read WhoAmI(WhoAmIRequest) -> WhoAmIResponse;
        write CreateAccount(CreateAccountRequest) -> CreateAccountResponse;
        read ListAccounts(ListAccountsRequest) -> ListAccountsResponse;
        write SuspendAccount(SuspendAccountRequest) -> SuspendAccountResponse;
        write RestoreAccount(RestoreAccountRequest) -> RestoreAccountResponse;
        read ListSessions(ListSessionsRequest) -> ListSessionsResponse;
        write RevokeSession(RevokeSessionRequest) -> RevokeSessionResponse;
    }
    "TenantService" {
        write CreateTenant(CreateTenantRequest) -> CreateTenantResponse;
        read GetTenant(GetTenantRequest) -> GetTenantResponse;
        read ListTenants(ListTenantsRequest) -> ListTenantsResponse;
        write SetTenantMetadata(SetTenantMetadataRequest) -> SetTenantMetadataResponse;
    }
    "ConsortiumService" {
        write CreateConsortium(CreateConsortiumRequest) -> CreateConsortiumResponse;
        read GetConsortium(GetConsortiumRequest) -> GetConsortiumResponse;
        read ListConsortiums(ListConsortiumsRequest) -> ListConsortiumsResponse;
        write InviteMember(InviteMemberRequest) -> InviteMemberResponse;
        write JoinConsortium(JoinConsortiumRequest) -> JoinConsortiumResponse;
        write ActivateConsortium(ActivateConsortiumRequest) -> ActivateConsortiumResponse;
        write OpenProposal(OpenProposalRequest) -> OpenProposalResponse;
        read GetProposal(GetProposalRequest) -> GetProposalResponse;
        read ListProposals(ListProposalsRequest) -> ListProposalsResponse;
        write CastBallot(CastBallotRequest) -> CastBallotResponse;
    }
    "TemplateService" {
        read ListTemplates(ListTemplatesRequest) -> ListTemplatesResponse;
    }
    "HostService" {
        read ScanHostKey(ScanHostKeyRequest) -> ScanHostKeyResponse;
        read ScanDockerEngine(ScanDockerEngineRequest) -> ScanDockerEngineResponse;
        read PreflightHost(PreflightHostRequest) -> PreflightHostResponse;
        write EnrolHost(EnrolHostRequest) -> EnrolHostResponse;
        read GetHost(GetHostRequest) -> GetHostResponse;
        read ListHosts(ListHostsRequest) -> ListHostsResponse;
        read ListOrphans(ListOrphansRequest) -> ListOrphansResponse;
        write CordonHost(CordonHostRequest) -> CordonHostResponse;
        write BeginHostMaintenance(BeginHostMaintenanceRequest) -> BeginHostMaintenanceResponse;
        write DrainHost(DrainHostRequest) -> DrainHostResponse;
        write RetireHost(RetireHostRequest) -> RetireHostResponse;
        write UncordonHost(UncordonHostRequest) -> UncordonHostResponse;
        write AcceptHostKey(AcceptHostKeyRequest) -> AcceptHostKeyResponse;
        write SetHostProperties(SetHostPropertiesRequest) -> SetHostPropertiesResponse;
        write SetHostReach(SetHostReachRequest) -> SetHostReachResponse;
    }
    "CloudService" {
        write AddCloud(AddCloudRequest) -> AddCloudResponse;
        read GetCloud(GetCloudRequest) -> GetCloudResponse;
        read ListClouds(ListCloudsRequest) -> ListCloudsResponse;
        write RemoveCloud(RemoveCloudRequest) -> RemoveCloudResponse;
        read CheckCloud(CheckCloudRequest) -> CheckCloudResponse;
        write CreateMachine(CreateMachineRequest) -> CreateMachineResponse;
        read GetMachine(GetMachineRequest) -> GetMachineResponse;
        read ListMachines(ListMachinesRequest) -> ListMachinesResponse;
        write DeleteMachine(DeleteMachineRequest) -> DeleteMachineResponse;
    }
    "ChainService" {
        read GetChain(GetChainRequest) -> GetChainResponse;
        read GetChainGovernance(GetChainGovernanceRequest) -> GetChainGovernanceResponse;
        read ListChains(ListChainsRequest) -> ListChainsResponse;
        read GetNode(GetNodeRequest) -> GetNodeResponse;
        read ListNodes(ListNodesRequest) -> ListNodesResponse;
        write RestartNode(RestartNodeRequest) -> RestartNodeResponse;
        write PauseChain(PauseChainRequest) -> PauseChainResponse;
        write ImportChain(ImportChainRequest) -> ImportChainResponse;
        write ForgetChain(ForgetChainRequest) -> ForgetChainResponse;
        write AdoptChain(AdoptChainRequest) -> AdoptChainResponse;
        write GiveBackNode(GiveBackNodeRequest) -> GiveBackNodeResponse;
        write ResumeChain(ResumeChainRequest) -> ResumeChainResponse;
        write UndeleteChain(UndeleteChainRequest) -> UndeleteChainResponse;
        write RollChain(RollChainRequest) -> RollChainResponse;
        write RollBackChain(RollBackChainRequest) -> RollBackChainResponse;
        write HaltRollout(HaltRolloutRequest) -> HaltRolloutResponse;
        write ContinueRollout(ContinueRolloutRequest) -> ContinueRolloutResponse;
        write MoveNode(MoveNodeRequest) -> MoveNodeResponse;
        write SetChainRepair(SetChainRepairRequest) -> SetChainRepairResponse;
        read PlanChain(PlanChainRequest) -> PlanChainResponse;
        read GetNodeLog(GetNodeLogRequest) -> GetNodeLogResponse;
        write SendTransaction(SendTransactionRequest) -> SendTransactionResponse;
        read CallContract(CallContractRequest) -> CallContractResponse;
        write DeployContract(DeployContractRequest) -> DeployContractResponse;
        read GetContract(GetContractRequest) -> GetContractResponse;
        read ListContracts(ListContractsRequest) -> ListContractsResponse;
    }
    "ExplorerService" {
        read ListBlocks(ListBlocksRequest) -> ListBlocksResponse;
        read GetBlock(GetBlockRequest) -> GetBlockResponse;
        read GetTransaction(GetTransactionRequest) -> GetTransactionResponse;
        read GetAccount(GetAccountRequest) -> GetAccountResponse;
        read ListAnchors(ListAnchorsRequest) -> ListAnchorsResponse;
    }
    "ReplicaService" {
        read ListReplicas(ListReplicasRequest) -> ListReplicasResponse;
        write AddReplica(AddReplicaRequest) -> AddReplicaResponse;
        write PromoteReplica(PromoteReplicaRequest) -> PromoteReplicaResponse;
        write RemoveReplica(RemoveReplicaRequest) -> RemoveReplicaResponse;
        write ReplaceReplica(ReplaceReplicaRequest) -> ReplaceReplicaResponse;
        write TransferLeader(TransferLeaderRequest) -> TransferLeaderResponse;
    }
    "OperationService" {
        read GetOperation(GetOperationRequest) -> GetOperationResponse;
        read ListOperations(ListOperationsRequest) -> ListOperationsResponse;
    }
    "BillingService" {
        write SetPlan(SetPlanRequest) -> SetPlanResponse;
        read ListPlans(ListPlansRequest) -> ListPlansResponse;
        read GetUsage(GetUsageRequest) -> GetUsageResponse;
        read GetInvoiceDraft(GetInvoiceDraftRequest) -> GetInvoiceDraftResponse;
    }
    "BackupService" {
        write ResumeCluster(ResumeClusterRequest) -> ResumeClusterResponse;
    }
    "ArtifactService" {
        read GetContent(GetContentRequest) -> GetContentResponse;
        write PutContent(PutContentRequest) -> PutContentResponse;
        write ImportArtifact(ImportArtifactRequest) -> ImportArtifactResponse;
        read GetArtifact(GetArtifactRequest) -> GetArtifactResponse;
        read ListArtifacts(ListArtifactsRequest) -> ListArtifactsResponse;
        write VerifyArtifact(VerifyArtifactRequest) -> VerifyArtifactResponse;
        write DeleteArtifact(DeleteArtifactRequest) -> DeleteArtifactResponse;
        write PinPublisher(PinPublisherRequest) -> PinPublisherResponse;
        write UnpinPublisher(UnpinPublisherRequest) -> UnpinPublisherResponse;
        read ListPublishers(ListPublishersRequest) -> ListPublishersResponse;
        read GetContentPiece(GetContentPieceRequest) -> GetContentPieceResponse;
        read GetCopy(GetCopyRequest) -> GetCopyResponse;
    }
    "MonitoringService" {
        read ListSeries(ListSeriesRequest) -> ListSeriesResponse;
        read GetSeries(GetSeriesRequest) -> GetSeriesResponse;
        read ListFindings(ListFindingsRequest) -> ListFindingsResponse;
        read GetSeriesCopy(GetSeriesCopyRequest) -> GetSeriesCopyResponse;
    }
    "AuditService" {
        read ListAudit(ListAuditRequest) -> ListAuditResponse;
        read GetAuditHead(GetAuditHeadRequest) -> GetAuditHeadResponse;
        read GetAuditCheckpoint(GetAuditCheckpointRequest) -> GetAuditCheckpointResponse;
        read GetAuditRecordProof(GetAuditRecordProofRequest) -> GetAuditRecordProofResponse;
        read GetAuditConsistencyProof(GetAuditConsistencyProofRequest) -> GetAuditConsistencyProofResponse;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use prost::Message as _;

    use super::*;

    /// The table names every unary method of the contract, and calls a write what carries a request id.
    #[test]
    fn table_follows_the_contract() {
        let set = prost_types::FileDescriptorSet::decode(hanse_proto::FILE_DESCRIPTOR_SET).unwrap();
        let with_id: BTreeMap<String, bool> = set
            .file
            .iter()
            .flat_map(|file| &file.message_type)
            .map(|message| {
                let has_id = message.field.iter().any(|field| field.name() == "request_id");
                (format!(".hanse.v1.{}", message.name()), has_id)
            })
            .collect();
        let mut expected = BTreeMap::new();
        for service in set.file.iter().flat_map(|file| &file.service) {
            for method in service.method.iter().filter(|method| !method.server_streaming()) {
                let path = format!("/hanse.v1.{}/{}", service.name(), method.name());
                expected.insert(path, with_id[method.input_type()]);
            }
        }
        let table: BTreeMap<String, bool> =
            TABLE.iter().map(|(path, repeat)| ((*path).to_owned(), *repeat != Repeat::Read)).collect();
        assert_eq!(table, expected);
    }
}
