//! Replicas with their API in this process, and clients that speak to them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use hanse_adapters_core::{Adapter, AdapterError};
use hanse_engines_core::Engine;
use hanse_proto::v1 as pb;
use hanse_proto::v1::account_service_client::AccountServiceClient;
use hanse_proto::v1::artifact_service_client::ArtifactServiceClient;
use hanse_proto::v1::cluster_service_client::ClusterServiceClient;
use hanse_proto::v1::tenant_service_client::TenantServiceClient;
use hanse_raft::{PeerTls, Replica, ReplicaConfig, ReplicaId, Timings};
use hanse_server::artifacts::{ArtifactStore, sync};
use hanse_server::observed::Observed;
use hanse_server::reconcile::connect::{HostConnector, HostKeys};
use hanse_server::reconcile::setup::code_hash;
use hanse_server::{ApiTls, Context, Limits, Member, Parts, Trail, ca, serve};
use hanse_state::cluster::InitCluster;
use hanse_state::cluster::version::Version;
use hanse_state::host::Host;
use hanse_state::host::way::Way;
use hanse_state::ids::{ClusterId, RequestId};
use hanse_state::{Applied, Command, Millis, Request as Order};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

pub const CLUSTER: &str = "test";
pub const SETUP_CODE: &str = "BCDF-GHJK-LMNP-QRST";
pub const PASSWORD: &str = "a long enough password";

/// Longest wait for anything; only a broken test needs it.
pub const LONG: Duration = Duration::from_secs(60);

/// One replica with its API.
pub struct One {
    pub id: u64,
    pub replica: Replica,
    pub api: SocketAddr,
    pub context: Context,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

/// A cluster in this process.
pub struct Cluster {
    pub dir: tempfile::TempDir,
    pub members: Vec<One>,
}

/// What a test may choose.
#[derive(Default)]
pub struct Choice {
    pub hosts: Option<Arc<dyn HostConnector>>,
    pub engines: BTreeMap<String, Arc<dyn Engine>>,
}

/// Reaches no host.
pub struct NoHosts;

#[async_trait]
impl HostConnector for NoHosts {
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Adapter>, AdapterError> {
        Err(AdapterError::Transient { subject: host.id.to_string(), reason: "no hosts in this test".into() })
    }
    async fn scan(&self, address: &str, port: u16, _: &Way) -> Result<HostKeys, AdapterError> {
        Ok(HostKeys { fingerprint: format!("SHA256:of-{address}-{port}"), authority: None })
    }
    async fn scan_docker(&self, endpoint: &str) -> Result<String, AdapterError> {
        Ok(format!("engine-of-{endpoint}"))
    }
}

pub fn now() -> Millis {
    Millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Waits until `check` gives something.
pub async fn wait_for<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let until = tokio::time::Instant::now() + LONG;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < until, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Cluster {
    /// Starts `n` replicas and names the cluster; one leads when this returns.
    pub async fn start(n: u64) -> Self {
        Self::start_with(n, Choice::default()).await
    }

    pub async fn start_with(n: u64, choice: Choice) -> Self {
        let this = Self::start_unnamed(n, choice).await;
        this.name().await;
        this
    }

    /// Starts `n` replicas; nobody has given the first entry yet.
    pub async fn start_unnamed(n: u64, choice: Choice) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authorities = dir.path().join("ca");
        ca::create(&authorities, CLUSTER).unwrap();
        let (mut listeners, mut members, mut addresses) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for id in 1..=n {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (api, peer) = (listener.local_addr().unwrap(), free_port());
            let member = hanse_raft::Member { peer_address: peer.to_string(), api_address: api.to_string() };
            members.insert(ReplicaId(id), member);
            addresses.insert(id, api.to_string());
            listeners.push((id, listener));
        }
        let hosts = choice.hosts.unwrap_or_else(|| Arc::new(NoHosts));
        let engines = Arc::new(choice.engines);
        let starting = listeners.into_iter().map(|(id, listener)| {
            let (dir, members, addresses) = (dir.path().to_path_buf(), members.clone(), addresses.clone());
            let (hosts, engines) = (hosts.clone(), engines.clone());
            async move { One::start(&dir, id, listener, members, addresses, hosts, engines).await }
        });
        let members = futures::future::join_all(starting).await;
        Self { dir, members }
    }

    /// Gives the first entry, as the first leader does.
    pub async fn name(&self) {
        let command = Command::InitCluster(InitCluster {
            cluster: ClusterId::new(uuid::Uuid::now_v7()).unwrap(),
            name: CLUSTER.into(),
            setup_code_hash: code_hash(SETUP_CODE),
            version: Version::NEWEST,
        });
        wait_for("the first entry", async || {
            let leader = self.leader_now()?;
            let applied = leader.system_try(command.clone()).await?;
            applied.outcome.is_ok().then_some(())
        })
        .await;
    }

    pub fn leader_now(&self) -> Option<&One> {
        self.members.iter().find(|one| one.replica.is_leader().is_some())
    }

    pub async fn leader(&self) -> &One {
        wait_for("a leader", async || self.leader_now()).await
    }

    /// A replica that follows and knows its leader.
    pub async fn follower(&self) -> &One {
        wait_for("a follower", async || self.members.iter().find(|one| one.replica.known_leader().is_some())).await
    }

    pub fn api_ca(&self) -> String {
        read(self.dir.path().join("ca/api-ca.pem"))
    }

    /// A client of replica `one` without a session.
    pub async fn client(&self, one: &One) -> Client {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.api_ca())).domain_name("hanse-api");
        let endpoint = Endpoint::from_shared(format!("https://{}", one.api)).unwrap().tls_config(tls).unwrap();
        Client { channel: endpoint.connect().await.unwrap(), token: String::new() }
    }

    /// A client of the first replica, with the first administrator's session.
    pub async fn bootstrapped(&self) -> Client {
        let leader = self.leader().await;
        let client = self.client(leader).await;
        let request = pb::BootstrapRequest {
            request_id: request_id(),
            setup_code: SETUP_CODE.into(),
            account: "root".into(),
            password: PASSWORD.into(),
        };
        client.cluster().bootstrap(request).await.unwrap();
        client.login("root", PASSWORD).await.unwrap()
    }

    pub async fn stop(self) {
        for one in self.members {
            one.stop.cancel();
            one.replica.shutdown().await;
            one.served.await.unwrap();
        }
    }
}

impl One {
    async fn start(
        dir: &Path,
        id: u64,
        listener: TcpListener,
        members: BTreeMap<ReplicaId, hanse_raft::Member>,
        addresses: BTreeMap<u64, String>,
        hosts: Arc<dyn HostConnector>,
        engines: Arc<BTreeMap<String, Arc<dyn Engine>>>,
    ) -> Self {
        let tls_dir = dir.join(format!("tls-{id}"));
        ca::issue(&dir.join("ca"), &tls_dir, CLUSTER, id, &["127.0.0.1".into()]).unwrap();
        let tls = ApiTls::read(&tls_dir).unwrap();
        let stop = CancellationToken::new();
        let config = ReplicaConfig {
            id: ReplicaId(id),
            cluster_name: CLUSTER.into(),
            data_dir: dir.join(format!("data-{id}")),
            peer_listen: members[&ReplicaId(id)].peer_address.parse().unwrap(),
            members,
            tls: PeerTls {
                ca_pem: read(tls_dir.join("peer-ca.pem")),
                cert_pem: read(tls_dir.join("peer.pem")),
                key_pem: read(tls_dir.join("peer.key")),
            },
            timings: Timings::default(),
            snapshot_every: 10_000,
            bootstrap: true,
        };
        let replica = Replica::start(config, stop.clone()).await.unwrap();
        let api = listener.local_addr().unwrap();
        let parts = Parts {
            replica: replica.clone(),
            observed: Arc::new(Observed::default()),
            hosts,
            engines,
            member: Member { own: id, api_addresses: addresses, cluster: CLUSTER.into() },
            trail: Trail::open(&tls_dir, &tls_dir, CLUSTER).unwrap(),
            artifacts: ArtifactStore::open(&dir.join(format!("artifacts-{id}")), 0).unwrap(),
            configured_artifacts: BTreeMap::new(),
            limits: Limits { heartbeat: Duration::from_millis(100), ..Limits::default() },
        };
        let context = Context::new(parts, &tls, stop.clone()).unwrap();
        tokio::spawn(sync::run(context.clone(), stop.clone()));
        let (ended, served) = (stop.clone(), context.clone());
        let served = tokio::spawn(async move { serve(served, listener, &tls, ended).await.unwrap() });
        Self { id, replica, api, context, stop, served }
    }

    /// Proposes as the platform itself.
    pub async fn system_try(&self, command: Command) -> Option<Applied> {
        let id = RequestId::new(uuid::Uuid::now_v7()).unwrap();
        self.replica.propose(Order::system(id, now(), command)).await.ok()
    }

    pub async fn system(&self, command: Command) {
        self.system_try(command).await.unwrap().outcome.unwrap();
    }
}

/// Speaks to one replica, with a session or without.
#[derive(Clone)]
pub struct Client {
    pub channel: Channel,
    pub token: String,
}

/// Puts the session on every request.
#[derive(Clone)]
pub struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let value = format!("Bearer {}", self.0);
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        Ok(request)
    }
}

pub type Bound = InterceptedService<Channel, Bearer>;

macro_rules! service {
    ($name:ident, $client:ident, $module:ident) => {
        pub fn $name(&self) -> pb::$module::$client<Bound> {
            pb::$module::$client::with_interceptor(self.channel.clone(), Bearer(self.token.clone()))
        }
    };
}

impl Client {
    service!(consortiums, ConsortiumServiceClient, consortium_service_client);
    service!(chains, ChainServiceClient, chain_service_client);
    service!(explorer, ExplorerServiceClient, explorer_service_client);
    service!(hosts, HostServiceClient, host_service_client);
    service!(clouds, CloudServiceClient, cloud_service_client);
    service!(operations, OperationServiceClient, operation_service_client);
    service!(billing, BillingServiceClient, billing_service_client);
    service!(audit, AuditServiceClient, audit_service_client);
    service!(monitoring, MonitoringServiceClient, monitoring_service_client);

    pub fn cluster(&self) -> ClusterServiceClient<Bound> {
        ClusterServiceClient::with_interceptor(self.channel.clone(), Bearer(self.token.clone()))
    }

    pub fn accounts(&self) -> AccountServiceClient<Bound> {
        AccountServiceClient::with_interceptor(self.channel.clone(), Bearer(self.token.clone()))
    }

    pub fn artifacts(&self) -> ArtifactServiceClient<Bound> {
        ArtifactServiceClient::with_interceptor(self.channel.clone(), Bearer(self.token.clone()))
    }

    pub fn tenants(&self) -> TenantServiceClient<Bound> {
        TenantServiceClient::with_interceptor(self.channel.clone(), Bearer(self.token.clone()))
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self { channel: self.channel.clone(), token: token.into() }
    }

    pub async fn login(&self, account: &str, password: &str) -> Result<Self, Status> {
        let request = pb::LoginRequest {
            request_id: request_id(),
            account: account.into(),
            password: password.into(),
            lifetime_ms: 0,
        };
        let answer = self.accounts().login(request).await?.into_inner();
        Ok(self.with_token(&answer.token))
    }

    /// Makes a tenant and logs its owner in.
    pub async fn tenant(&self, tenant: &str) -> Self {
        let request = create_tenant(tenant);
        self.tenants().create_tenant(request).await.unwrap();
        self.login(&format!("owner@{tenant}"), PASSWORD).await.unwrap()
    }
}

pub fn create_tenant(tenant: &str) -> pb::CreateTenantRequest {
    pb::CreateTenantRequest {
        request_id: request_id(),
        validate_only: false,
        tenant: tenant.into(),
        display_name: format!("{tenant} Ltd"),
        owner_account: "owner".into(),
        owner_password: PASSWORD.into(),
    }
}

/// The machine-readable part of a refusal.
pub fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

pub fn metadata(status: &Status, key: &str) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().and_then(|info| info.metadata.get(key).cloned()).unwrap_or_default()
}
