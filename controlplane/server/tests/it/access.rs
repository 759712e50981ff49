//! Who may call what: every RPC of the contract has a line here, or this file fails.

use std::collections::BTreeMap;

use hanse_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

use crate::harness::*;

/// What a call needs before anything else is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Nothing: the setup code, a password or the question itself is the key.
    Nothing,
    /// An open session; roles and scope are the state's to decide.
    Session,
    /// An open session of an account of the platform.
    Platform,
    /// A replica's certificate: no session opens it.
    Replica,
}
use Needs::{Nothing, Platform, Replica, Session};

const TABLE: &[(&str, &[(&str, Needs)])] = &[
    (
        "AccountService",
        &[
            ("Login", Nothing),
            ("Logout", Session),
            ("WhoAmI", Session),
            ("CreateAccount", Session),
            ("ListAccounts", Session),
            ("SuspendAccount", Session),
            ("RestoreAccount", Session),
            ("ListSessions", Session),
            ("RevokeSession", Session),
        ],
    ),
    (
        "ArtifactService",
        &[
            ("GetContent", Platform),
            ("PutContent", Platform),
            ("ImportArtifact", Platform),
            ("GetArtifact", Platform),
            ("ListArtifacts", Platform),
            ("VerifyArtifact", Platform),
            ("DeleteArtifact", Platform),
            ("PinPublisher", Platform),
            ("UnpinPublisher", Platform),
            ("ListPublishers", Platform),
            ("GetContentPiece", Replica),
            ("GetCopy", Replica),
        ],
    ),
    (
        "AuditService",
        &[
            ("ListAudit", Session),
            ("GetAuditHead", Session),
            ("ExportAudit", Session),
            ("GetAuditCheckpoint", Session),
            ("GetAuditRecordProof", Session),
            ("GetAuditConsistencyProof", Session),
        ],
    ),
    ("BackupService", &[("CreateBackup", Platform), ("ResumeCluster", Platform)]),
    (
        "BillingService",
        &[("SetPlan", Platform), ("ListPlans", Session), ("GetUsage", Session), ("GetInvoiceDraft", Session)],
    ),
    (
        "ChainService",
        &[
            ("GetChain", Session),
            ("GetChainGovernance", Session),
            ("ListChains", Session),
            ("GetNode", Session),
            ("ListNodes", Session),
            ("RestartNode", Session),
            ("PauseChain", Session),
            ("ImportChain", Session),
            ("ForgetChain", Session),
            ("AdoptChain", Session),
            ("GiveBackNode", Session),
            ("ResumeChain", Session),
            ("UndeleteChain", Session),
            ("RollChain", Session),
            ("RollBackChain", Session),
            ("HaltRollout", Session),
            ("ContinueRollout", Session),
            ("SetChainRepair", Session),
            ("PlanChain", Session),
            ("MoveNode", Session),
            ("GetNodeLog", Session),
            ("SendTransaction", Session),
            ("CallContract", Session),
            ("DeployContract", Session),
            ("GetContract", Session),
            ("ListContracts", Session),
        ],
    ),
    (
        "CloudService",
        &[
            ("AddCloud", Platform),
            ("GetCloud", Session),
            ("ListClouds", Session),
            ("RemoveCloud", Platform),
            ("CheckCloud", Platform),
            ("CreateMachine", Platform),
            ("GetMachine", Session),
            ("ListMachines", Session),
            ("DeleteMachine", Platform),
        ],
    ),
    (
        "ClusterService",
        &[
            ("GetStatus", Nothing),
            ("Bootstrap", Nothing),
            ("Watch", Session),
            ("GetVersion", Nothing),
            ("RaiseClusterVersion", Platform),
        ],
    ),
    (
        "ConsortiumService",
        &[
            ("CreateConsortium", Session),
            ("GetConsortium", Session),
            ("ListConsortiums", Session),
            ("InviteMember", Session),
            ("JoinConsortium", Session),
            ("ActivateConsortium", Session),
            ("OpenProposal", Session),
            ("GetProposal", Session),
            ("ListProposals", Session),
            ("CastBallot", Session),
        ],
    ),
    (
        "ExplorerService",
        &[
            ("ListBlocks", Session),
            ("GetBlock", Session),
            ("GetTransaction", Session),
            ("GetAccount", Session),
            ("ListAnchors", Session),
        ],
    ),
    (
        "HostService",
        &[
            ("ScanHostKey", Platform),
            ("ScanDockerEngine", Platform),
            ("PreflightHost", Platform),
            ("EnrolHost", Platform),
            ("GetHost", Session),
            ("ListHosts", Session),
            ("ListOrphans", Session),
            ("CordonHost", Session),
            ("BeginHostMaintenance", Platform),
            ("DrainHost", Platform),
            ("RetireHost", Platform),
            ("UncordonHost", Session),
            ("AcceptHostKey", Platform),
            ("SetHostProperties", Platform),
            ("SetHostReach", Platform),
        ],
    ),
    (
        "MonitoringService",
        &[("ListSeries", Session), ("GetSeries", Session), ("ListFindings", Session), ("GetSeriesCopy", Replica)],
    ),
    ("OperationService", &[("GetOperation", Session), ("ListOperations", Session)]),
    (
        "ReplicaService",
        &[
            ("ListReplicas", Platform),
            ("AddReplica", Platform),
            ("PromoteReplica", Platform),
            ("RemoveReplica", Platform),
            ("ReplaceReplica", Platform),
            ("TransferLeader", Platform),
        ],
    ),
    ("TemplateService", &[("ListTemplates", Session)]),
    (
        "TenantService",
        &[("CreateTenant", Platform), ("GetTenant", Session), ("ListTenants", Session), ("SetTenantMetadata", Session)],
    ),
];

/// Every RPC of the contract, from its own descriptors.
fn contract() -> Vec<(String, String)> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let files = set.file.iter().filter(|file| file.package() == "hanse.v1");
    let services = files.flat_map(|file| &file.service);
    services
        .flat_map(|service| service.method.iter().map(|method| (service.name().to_string(), method.name().to_string())))
        .collect()
}

#[test]
fn the_table_and_the_contract_name_the_same_calls() {
    let mut table: BTreeMap<(String, String), Needs> = BTreeMap::new();
    for (service, methods) in TABLE {
        for (method, needs) in *methods {
            assert!(table.insert((service.to_string(), method.to_string()), *needs).is_none(), "{service}/{method}");
        }
    }
    let contract = contract();
    for call in &contract {
        assert!(table.remove(call).is_some(), "{call:?} has no line in the table: decide who may call it");
    }
    assert!(table.is_empty(), "not in the contract: {table:?}");
}

/// Sends bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(dst, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; bytes::Buf::remaining(src)];
        bytes::Buf::copy_to_slice(src, &mut item);
        Ok(Some(item))
    }
}

/// Calls a method with an empty message; the answer's first message or the refusal.
async fn call(client: &Client, service: &str, method: &str, authorization: Option<&str>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(client.channel.clone());
    grpc.ready().await.unwrap();
    let path = format!("/hanse.v1.{service}/{method}").parse().unwrap();
    let mut request = Request::new(Vec::new());
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().unwrap());
    }
    let mut answer = grpc.server_streaming(request, path, Raw).await?.into_inner();
    answer.message().await.map(|_| ())
}

#[tokio::test]
async fn without_a_session_nothing_but_the_open_calls_is_answered() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let forged = format!("Bearer hanse_{}", "A".repeat(43));
    for (service, methods) in TABLE {
        for (method, needs) in *methods {
            for header in [None, Some("Bearer x"), Some("Basic cm9vdDpyb290"), Some(forged.as_str())] {
                let code =
                    call(&root, service, method, header).await.map_or_else(|status| status.code(), |()| Code::Ok);
                let refused = code == Code::Unauthenticated;
                let open = *needs == Nothing && *method != "Login";
                assert_eq!(refused, !open && *method != "Login", "{service}/{method} with {header:?}: {code:?}");
            }
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn calls_of_the_platform_refuse_every_role_of_a_tenant() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let owner = root.tenant("acme").await;
    let header = format!("Bearer {}", owner.token);
    for (service, methods) in TABLE {
        for (method, _) in methods.iter().filter(|(_, needs)| *needs == Platform) {
            let status = call(&owner, service, method, Some(&header)).await.unwrap_err();
            // An empty request may be refused for its content first; it must never succeed.
            assert!(
                matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument),
                "{service}/{method}: {status:?}"
            );
        }
    }
    let denied = owner.tenants().create_tenant(create_tenant("bank")).await.unwrap_err();
    assert_eq!((denied.code(), reason(&denied).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    cluster.stop().await;
}

#[tokio::test]
async fn calls_between_replicas_are_opened_by_no_session() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let header = format!("Bearer {}", root.token);
    for (service, methods) in TABLE {
        for (method, _) in methods.iter().filter(|(_, needs)| *needs == Replica) {
            let status = call(&root, service, method, Some(&header)).await.unwrap_err();
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "NOT_A_REPLICA"), "{method}");
        }
    }
    cluster.stop().await;
}
