//! Three replicas with their reconcilers over mutual TLS in this process: the product, but for its API.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use async_trait::async_trait;
use hanse_adapters_core::{Adapter, AdapterError};
use hanse_adapters_ssh::{HostPin, Identity, Login, SshAdapter, SshTarget};
use hanse_engines_core::Engine;
use hanse_raft::{PeerTls, Replica, ReplicaConfig, ReplicaId, Timings};
use hanse_server::config::Timing;
use hanse_server::observed::Observed;
use hanse_server::reconcile::connect::{HostConnector, HostKeys};
use hanse_server::reconcile::{self, World};
use hanse_server::{ca, context};
use hanse_state::host::way::Way;
use hanse_state::host::{Host, Reach};
use hanse_state::ids::HostId;
use hanse_state::{Actor, Command, Outcome, Request};
use tokio_util::sync::CancellationToken;

use crate::fleet::Map;

/// Replicas.
const COUNT: u64 = 3;
const CLUSTER: &str = "bench";
/// Longest wait for anything; only a broken run needs it.
const LIMIT: Duration = Duration::from_secs(300);
/// Pause between two looks at the state.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Gives one adapter, and so one connection, for each host; each replica has its own.
struct Connector {
    identity: PathBuf,
    known: Mutex<BTreeMap<HostId, Arc<dyn Adapter>>>,
}

#[async_trait]
impl HostConnector for Connector {
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Adapter>, AdapterError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(adapter) = known.get(&host.id) {
            return Ok(Arc::clone(adapter));
        }
        let Reach::Ssh { address, port, user, fingerprint, root, .. } = &host.reach else {
            return Err(AdapterError::Invalid { subject: host.id.to_string(), reason: "is not behind SSH".into() });
        };
        let target = SshTarget {
            address: address.clone(),
            port: *port,
            user: user.clone(),
            jumps: Vec::new(),
            pin: HostPin::Key(fingerprint.clone()),
            root: Some(root.clone()),
            login: Login::Key(Identity::File(self.identity.clone())),
            sudo: false,
        };
        let adapter: Arc<dyn Adapter> = Arc::new(SshAdapter::new(target)?);
        known.insert(host.id.clone(), Arc::clone(&adapter));
        Ok(adapter)
    }

    async fn scan(&self, address: &str, port: u16, _: &Way) -> Result<HostKeys, AdapterError> {
        let fingerprint = hanse_adapters_ssh::scan_host_key(address, port).await?;
        Ok(HostKeys { fingerprint, authority: None })
    }

    async fn scan_docker(&self, endpoint: &str) -> Result<String, AdapterError> {
        Err(AdapterError::Invalid { subject: endpoint.to_owned(), reason: "no Docker in this benchmark".into() })
    }
}

/// One replica.
pub(crate) struct One {
    pub(crate) replica: Replica,
    pub(crate) observed: Arc<Observed>,
}

/// The replicas.
pub(crate) struct Cluster {
    members: Vec<One>,
    stop: CancellationToken,
}

impl Cluster {
    /// Starts the replicas in `dir`; `engine` drives the ledger that templates name.
    pub(crate) async fn start(dir: &Path, map: &Map, engine: &Arc<dyn Engine>) -> Result<Self> {
        let authorities = dir.join("ca");
        ca::create(&authorities, CLUSTER)?;
        let mut members = BTreeMap::new();
        for id in 1..=COUNT {
            let peer = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
            let member = hanse_raft::Member { api_address: peer.clone(), peer_address: peer };
            members.insert(ReplicaId(id), member);
        }
        let stop = CancellationToken::new();
        let mut this = Self { members: Vec::new(), stop: stop.clone() };
        for id in 1..=COUNT {
            let tls = dir.join(format!("tls-{id}"));
            ca::issue(&authorities, &tls, CLUSTER, id, &["127.0.0.1".into()])?;
            let replica = Replica::start(config(dir, id, &tls, &members)?, stop.clone()).await?;
            let observed = Arc::new(Observed::default());
            let connector = Connector { identity: map.identity.clone(), known: Mutex::default() };
            let world = World {
                replica: Arc::new(replica.clone()),
                observed: Arc::clone(&observed),
                hosts: Arc::new(connector),
                engines: Arc::new(BTreeMap::from([(engine.name().to_owned(), Arc::clone(engine))])),
                programs: hanse_server::programs::Programs::default(),
                clock: Arc::new(context::clock),
                new_id: Arc::new(context::new_request_id),
                timing: Timing::default(),
                notary: None,
                cluster_name: CLUSTER.into(),
                setup: None,
            };
            let token = stop.clone();
            tokio::spawn(async move { reconcile::run(world, token).await });
            this.members.push(One { replica, observed });
        }
        Ok(this)
    }

    /// Who leads, if somebody does.
    pub(crate) fn leader(&self) -> Option<&One> {
        self.members.iter().find(|one| one.replica.is_leader().is_some())
    }

    /// Gives an order to the leader.
    pub(crate) async fn order(&self, actor: Actor, command: Command) -> Result<Outcome> {
        let leader = until("a leader", || self.leader()).await?;
        let request = Request::new(context::new_request_id(), actor, "", context::clock(), command.clone());
        let applied = leader.replica.propose(request).await.map_err(|e| anyhow!("{}: {e}", command.name()))?;
        applied.outcome.map_err(|rejection| anyhow!("{}: {}", command.name(), rejection.message()))
    }

    /// Stops all replicas.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        for one in &self.members {
            one.replica.shutdown().await;
        }
    }
}

fn config(dir: &Path, id: u64, tls: &Path, members: &BTreeMap<ReplicaId, hanse_raft::Member>) -> Result<ReplicaConfig> {
    let read = |name: &str| std::fs::read_to_string(tls.join(name)).with_context(|| format!("read {name}"));
    let own = members.get(&ReplicaId(id)).context("the replica is listed")?;
    Ok(ReplicaConfig {
        id: ReplicaId(id),
        cluster_name: CLUSTER.into(),
        data_dir: dir.join(format!("data-{id}")),
        peer_listen: own.peer_address.parse().context("an address")?,
        members: members.clone(),
        tls: PeerTls { ca_pem: read("peer-ca.pem")?, cert_pem: read("peer.pem")?, key_pem: read("peer.key")? },
        timings: Timings::default(),
        snapshot_every: Timing::default().snapshot_every,
        bootstrap: true,
    })
}

/// Looks until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("waited {} s for {what}", LIMIT.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
