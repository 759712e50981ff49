//! A replica in this process: the real transport with TLS, scripted data, a leader that can go and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hanse_client::pb;
use pb::account_service_server::{AccountService, AccountServiceServer};
use pb::chain_service_server::{ChainService, ChainServiceServer};
use pb::cluster_service_server::{ClusterService, ClusterServiceServer};
use pb::operation_service_server::{OperationService, OperationServiceServer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

pub(crate) const TOKEN: &str = "hanse_0123456789012345678901234567890123456789012";
pub(crate) const PASSWORD: &str = "correct-horse";

type Stream = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// What the replica is told to be like.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) lost: Arc<AtomicBool>,
    pub(crate) height: Arc<AtomicU64>,
    pub(crate) watches: Arc<AtomicU64>,
    /// Streams that are open; a send wakes them.
    streams: Arc<std::sync::Mutex<Vec<Stream>>>,
}

pub(crate) struct Running {
    pub(crate) address: String,
    pub(crate) ca_pem: String,
    pub(crate) fake: Fake,
    _runtime: tokio::runtime::Runtime,
}

pub(crate) fn start() -> Running {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![hanse_proto::API_SERVER_NAME.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let identity = Identity::from_pem(certificate.pem(), key.serialize_pem());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fake = Fake::default();
    fake.height.store(100, Ordering::SeqCst);
    let service = fake.clone();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(async move {
        Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .unwrap()
            .add_service(ClusterServiceServer::new(service.clone()))
            .add_service(AccountServiceServer::new(service.clone()))
            .add_service(ChainServiceServer::new(service.clone()))
            .add_service(OperationServiceServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    Running { address, ca_pem: authority.pem(), fake, _runtime: runtime }
}

impl Fake {
    /// Takes the leader away or gives one back; open streams end with it.
    pub(crate) fn lose(&self, lost: bool) {
        self.lost.store(lost, Ordering::SeqCst);
        if lost {
            self.streams.lock().unwrap().clear();
        }
    }

    /// Makes a block and tells it on the streams.
    pub(crate) fn block(&self) {
        let height = self.height.fetch_add(1, Ordering::SeqCst) + 1;
        let event = pb::Event { revision: height, resource: "consortiums/trade/chains/supply-1".to_owned(), change: 2 };
        let message = pb::WatchResponse { header: header(height), events: vec![event], resync: false };
        self.streams.lock().unwrap().retain(|s| s.try_send(Ok(message.clone())).is_ok());
    }

    fn leader(&self) -> Result<(), Status> {
        if self.lost.load(Ordering::SeqCst) { Err(Status::unavailable("no leader is known")) } else { Ok(()) }
    }

    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.leader()?;
        let token = request.metadata().get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
        if token == format!("Bearer {TOKEN}") { Ok(()) } else { Err(Status::unauthenticated("log in first")) }
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        header(self.height.load(Ordering::SeqCst))
    }
}

fn header(revision: u64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, replica_id: "n1".to_owned(), ..Default::default() })
}

fn account() -> pb::Account {
    pb::Account { account: "root".to_owned(), role: pb::Role::PlatformAdministrator.into(), ..Default::default() }
}

fn chain(name: &str, height: u64) -> pb::Chain {
    pb::Chain {
        name: format!("consortiums/trade/chains/{name}"),
        spec: Some(pb::ChainSpec { template: "evm-standard".to_owned(), template_version: 1, ..Default::default() }),
        state: pb::ChainState::Running.into(),
        height,
        height_seen_at_ms: 1,
        nodes_total: 4,
        nodes_running: 4,
        ..Default::default()
    }
}

/// A service of which only some calls are answered. The attribute has to see the calls written out, hence the macro.
macro_rules! service {
    ($service:ident { $($body:tt)* } $($method:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl $service for Fake {
            $($body)*
            $(async fn $method(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                Err(Status::unimplemented("not in this test"))
            })*
        }
    };
}

service! { ClusterService {
    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn get_status(&self, _: Request<pb::GetStatusRequest>) -> Result<Response<pb::GetStatusResponse>, Status> {
        let lost = self.lost.load(Ordering::SeqCst);
        let role = if lost { pb::ReplicaRole::Follower } else { pb::ReplicaRole::Leader };
        let replica = |id: &str, role: pb::ReplicaRole| pb::Replica {
            id: id.to_owned(), role: role.into(), applied_index: 100, last_log_index: 100, ..Default::default()
        };
        Ok(Response::new(pb::GetStatusResponse {
            header: self.header(),
            replicas: vec![replica("n1", role), replica("n2", pb::ReplicaRole::Follower)],
            leader_id: if lost { String::new() } else { "n1".to_owned() },
            term: 7,
            revision: 100,
            cluster_id: "0197b5a0-7c1e-7000-8000-000000000001".to_owned(),
            cluster_name: "probe".to_owned(),
            bootstrapped: true,
            ..Default::default()
        }))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.check(&request)?;
        let (sender, receiver) = mpsc::channel(16);
        self.streams.lock().unwrap().push(sender);
        self.watches.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
    bootstrap(BootstrapRequest) -> BootstrapResponse;
    get_version(GetVersionRequest) -> GetVersionResponse;
    raise_cluster_version(RaiseClusterVersionRequest) -> RaiseClusterVersionResponse;
}

service! { AccountService {
    async fn login(&self, request: Request<pb::LoginRequest>) -> Result<Response<pb::LoginResponse>, Status> {
        self.leader()?;
        if request.get_ref().password != PASSWORD {
            return Err(Status::unauthenticated("account or password is wrong"));
        }
        let token = TOKEN.to_owned();
        Ok(Response::new(pb::LoginResponse { header: self.header(), token, expires_at_ms: 0, account: Some(account()) }))
    }

    async fn who_am_i(&self, request: Request<pb::WhoAmIRequest>) -> Result<Response<pb::WhoAmIResponse>, Status> {
        self.check(&request)?;
        Ok(Response::new(pb::WhoAmIResponse { header: self.header(), account: Some(account()), session: None }))
    }
}
    logout(LogoutRequest) -> LogoutResponse;
    create_account(CreateAccountRequest) -> CreateAccountResponse;
    list_accounts(ListAccountsRequest) -> ListAccountsResponse;
    suspend_account(SuspendAccountRequest) -> SuspendAccountResponse;
    restore_account(RestoreAccountRequest) -> RestoreAccountResponse;
    list_sessions(ListSessionsRequest) -> ListSessionsResponse;
    revoke_session(RevokeSessionRequest) -> RevokeSessionResponse;
}

service! { ChainService {
    async fn list_chains(&self, request: Request<pb::ListChainsRequest>) -> Result<Response<pb::ListChainsResponse>, Status> {
        self.check(&request)?;
        let height = self.height.load(Ordering::SeqCst);
        let chains = vec![chain("pay-4", 9), chain("supply-1", height), chain("trace-3", 4)];
        Ok(Response::new(pb::ListChainsResponse { header: self.header(), chains, next_page_token: String::new() }))
    }
}
    get_chain(GetChainRequest) -> GetChainResponse;
    get_chain_governance(GetChainGovernanceRequest) -> GetChainGovernanceResponse;
    get_node(GetNodeRequest) -> GetNodeResponse;
    list_nodes(ListNodesRequest) -> ListNodesResponse;
    restart_node(RestartNodeRequest) -> RestartNodeResponse;
    pause_chain(PauseChainRequest) -> PauseChainResponse;
    import_chain(ImportChainRequest) -> ImportChainResponse;
    forget_chain(ForgetChainRequest) -> ForgetChainResponse;
    adopt_chain(AdoptChainRequest) -> AdoptChainResponse;
    give_back_node(GiveBackNodeRequest) -> GiveBackNodeResponse;
    resume_chain(ResumeChainRequest) -> ResumeChainResponse;
    undelete_chain(UndeleteChainRequest) -> UndeleteChainResponse;
    roll_chain(RollChainRequest) -> RollChainResponse;
    roll_back_chain(RollBackChainRequest) -> RollBackChainResponse;
    halt_rollout(HaltRolloutRequest) -> HaltRolloutResponse;
    continue_rollout(ContinueRolloutRequest) -> ContinueRolloutResponse;
    move_node(MoveNodeRequest) -> MoveNodeResponse;
    set_chain_repair(SetChainRepairRequest) -> SetChainRepairResponse;
    plan_chain(PlanChainRequest) -> PlanChainResponse;
    get_node_log(GetNodeLogRequest) -> GetNodeLogResponse;
    send_transaction(SendTransactionRequest) -> SendTransactionResponse;
    call_contract(CallContractRequest) -> CallContractResponse;
    deploy_contract(DeployContractRequest) -> DeployContractResponse;
    get_contract(GetContractRequest) -> GetContractResponse;
    list_contracts(ListContractsRequest) -> ListContractsResponse;
}

service! { OperationService {
    async fn list_operations(&self, request: Request<pb::ListOperationsRequest>) -> Result<Response<pb::ListOperationsResponse>, Status> {
        self.check(&request)?;
        Ok(Response::new(pb::ListOperationsResponse { header: self.header(), ..Default::default() }))
    }
}
    get_operation(GetOperationRequest) -> GetOperationResponse;
}
