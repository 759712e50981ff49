//! Three replicas of the program under test, bootstrapped through the public API.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hanse_client::{Client, ClientConfig, pb};
use hanse_proto::v1::cluster_service_client::ClusterServiceClient;
use hanse_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::failover::Cluster;
use crate::load::{self, CLIENTS_PER_CONNECTION, Op, Target};
use crate::members::{COUNT, Members, Start, free_ports, until};

/// Tenants whose metadata is written.
const TENANTS: usize = 16;
/// Of accounts that live for one run on this machine only.
const PASSWORD: &str = "a long enough passphrase for one run";

/// The cluster and a session in it.
pub(crate) struct Hanse {
    pub(crate) members: Members,
    pub(crate) cold_start: Duration,
    dir: PathBuf,
    addresses: Vec<String>,
    ca: String,
    token: String,
}

fn program(hanse: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(hanse).args(arguments).output().with_context(|| format!("start {}", hanse.display()))?;
    if !output.status.success() {
        bail!("hanse {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

impl Hanse {
    /// Makes certificates and configurations, starts three replicas, makes an administrator and tenants.
    pub(crate) async fn start(hanse: &Path, dir: &Path) -> Result<Self> {
        let ca_dir = dir.join("ca").display().to_string();
        std::fs::create_dir_all(dir).context("make a folder")?;
        program(hanse, &["ca", "init", "--dir", &ca_dir, "--cluster", "bench"])?;
        let ports = free_ports(COUNT * 2)?;
        let address = |n: usize| format!("127.0.0.1:{}", ports[n]);
        let mut replicas = String::new();
        for id in 1..=COUNT {
            let (api, peer) = (address(id - 1), address(COUNT + id - 1));
            replicas += &format!("[[replicas]]\nid = {id}\npeer = \"{peer}\"\napi = \"{api}\"\n\n");
        }
        let mut starts = Vec::new();
        for id in 1..=COUNT {
            let home = dir.join(format!("n{id}"));
            let (tls, number) = (home.join("tls").display().to_string(), id.to_string());
            program(
                hanse,
                &[
                    "ca",
                    "issue",
                    "--dir",
                    &ca_dir,
                    "--cluster",
                    "bench",
                    "--replica",
                    &number,
                    "--host",
                    "127.0.0.1",
                    "--out",
                    &tls,
                ],
            )?;
            let config = format!(
                "version = 1\ncluster = \"bench\"\nreplica = {id}\ndata = \"data\"\ntls = \"tls\"\npeer_listen = \"{}\"\napi_listen = \"{}\"\n\n{replicas}",
                address(COUNT + id - 1),
                address(id - 1),
            );
            let file = home.join("hanse.toml");
            std::fs::write(&file, config).context("write a configuration")?;
            let arguments = ["server", "--die-with-parent", "--config"].map(String::from).into_iter();
            let arguments = arguments.chain([file.display().to_string()]).collect();
            starts.push(Start { program: hanse.to_owned(), arguments, log: home.join("log") });
        }
        let ca = std::fs::read_to_string(dir.join("ca/api-ca.pem")).context("read the API's authority")?;
        let begin = Instant::now();
        let members = Members::start(starts)?;
        let addresses = (0..COUNT).map(address).collect();
        let mut this =
            Self { members, cold_start: Duration::ZERO, dir: dir.to_owned(), addresses, ca, token: String::new() };
        this.bootstrap(begin).await?;
        Ok(this)
    }

    async fn bootstrap(&mut self, begin: Instant) -> Result<()> {
        let client = Client::new(ClientConfig::new(self.addresses.clone(), self.ca.clone()))?;
        let files: Vec<_> = (1..=COUNT).map(|id| self.dir.join(format!("n{id}/data/setup-code"))).collect();
        let code = until("a setup code", || async { files.iter().find_map(|file| std::fs::read_to_string(file).ok()) });
        let code = code.await?;
        until("the first administrator", || async {
            let request = pb::BootstrapRequest {
                setup_code: code.trim().into(),
                account: "admin".into(),
                password: PASSWORD.into(),
                ..Default::default()
            };
            client.call(request).await.ok()
        })
        .await?;
        self.cold_start = begin.elapsed();
        let login = pb::LoginRequest { account: "admin".into(), password: PASSWORD.into(), ..Default::default() };
        self.token = client.call(login).await?.token;
        client.set_token(Some(&self.token))?;
        for tenant in 0..TENANTS {
            let request = pb::CreateTenantRequest {
                tenant: format!("t{tenant}"),
                display_name: format!("Tenant {tenant}"),
                owner_account: "owner".into(),
                owner_password: PASSWORD.into(),
                ..Default::default()
            };
            client.call(request).await.context("make a tenant")?;
        }
        Ok(())
    }

    /// Authority, certificate and key that another server on this machine may use for its clients.
    pub(crate) fn tls(&self) -> (PathBuf, PathBuf, String) {
        (self.dir.join("n1/tls/api.pem"), self.dir.join("n1/tls/api.key"), self.ca.clone())
    }

    /// Connections to the leader for so many clients.
    pub(crate) async fn target(&self, clients: usize) -> Result<Calls> {
        let leader = until("a leader", || self.leader()).await?;
        self.calls(leader, clients.div_ceil(CLIENTS_PER_CONNECTION)).await
    }

    async fn calls(&self, place: usize, connections: usize) -> Result<Calls> {
        let mut channels = Vec::new();
        for _ in 0..connections {
            channels.push(TenantServiceClient::new(load::channel(&self.addresses[place], &self.ca).await?));
        }
        Ok(Calls { channels, token: format!("Bearer {}", self.token).parse()? })
    }

    async fn status(&self, place: usize) -> Option<pb::GetStatusResponse> {
        let channel = load::channel(&self.addresses[place], &self.ca).await.ok()?;
        let mut request = Request::new(pb::GetStatusRequest {});
        request.set_timeout(Duration::from_secs(1));
        Some(ClusterServiceClient::new(channel).get_status(request).await.ok()?.into_inner())
    }
}

impl Cluster for Hanse {
    type Calls = Calls;

    fn members(&mut self) -> &mut Members {
        &mut self.members
    }

    async fn leader(&self) -> Option<usize> {
        for place in 0..COUNT {
            if let Some(status) = self.status(place).await
                && status.leader_id == (place + 1).to_string()
            {
                return Some(place);
            }
        }
        None
    }

    async fn calls_to(&self, place: usize) -> Result<Calls> {
        self.calls(place, 1).await
    }

    async fn is_caught_up(&self, place: usize) -> bool {
        let (mut known, mut own) = (0, None);
        for at in 0..COUNT {
            let Some(status) = self.status(at).await else { return false };
            known = known.max(status.revision);
            if at == place {
                own = (!status.leader_id.is_empty()).then_some(status.revision);
            }
        }
        own.is_some_and(|own| own == known)
    }
}

/// Calls over some connections.
#[derive(Clone)]
pub(crate) struct Calls {
    channels: Vec<TenantServiceClient<Channel>>,
    token: MetadataValue<Ascii>,
}

impl Target for Calls {
    async fn call(&self, op: Op, client: usize, count: u64) -> Result<(), Status> {
        let mut channel = self.channels[client % self.channels.len()].clone();
        let tenant = format!("t{}", client % TENANTS);
        match op {
            Op::Write => {
                let mut request = Request::new(pb::SetTenantMetadataRequest {
                    request_id: hanse_client::new_request_id(),
                    tenant,
                    set: [(format!("bench-{}", client / TENANTS), load::value(count))].into(),
                    // As etcd, which answers a put with its revision.
                    header_only: true,
                    ..Default::default()
                });
                request.metadata_mut().insert("authorization", self.token.clone());
                channel.set_tenant_metadata(request).await.map(drop)
            }
            Op::Read => {
                let mut request = Request::new(pb::GetTenantRequest { tenant });
                request.metadata_mut().insert("authorization", self.token.clone());
                channel.get_tenant(request).await.map(drop)
            }
        }
    }
}
