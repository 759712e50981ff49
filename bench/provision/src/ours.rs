//! The product under measure: three replicas with their reconcilers over mutual TLS, in a process of their own.
//!
//! Cold: hosts that were never touched are enrolled, two chains of half the nodes each are proposed and voted through, and
//! the reconciler of the leader provisions all nodes until the last is recorded healthy. Each step is an entry that a
//! majority has synced to disk. Warm: the lead is handed to another replica, which knows nothing of the hosts: it connects
//! anew, has the program on each host hashed, and looks at each process, configuration and port.
//!
//! What it never does: call an adapter itself, or count the start of the replicas and the accounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use async_trait::async_trait;
use hanse_adapters_core::{Adapter, AdapterError, Artifact};
use hanse_adapters_ssh::{Identity, SshAdapter, SshTarget};
use hanse_engines_core::Engine;
use hanse_raft::{PeerTls, Replica, ReplicaConfig, ReplicaId, Timings};
use hanse_server::config::Timing;
use hanse_server::observed::Observed;
use hanse_server::reconcile::connect::HostConnector;
use hanse_server::reconcile::{self, World};
use hanse_server::{ca, context};
use hanse_state::chain::node::{Health, NodeState};
use hanse_state::host::{Host, Reach};
use hanse_state::ids::HostId;
use hanse_state::{Actor, Command, Outcome, Request, State};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::engine::BenchEngine;
use crate::fleet::Map;
use crate::story;
use crate::usage::{own_cpu, own_peak_mb};

/// Replicas.
const COUNT: u64 = 3;
const CLUSTER: &str = "bench";
/// Longest wait for anything; only a broken run needs it.
const LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks at the state.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What was measured; seconds and MB.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) cold_s: f64,
    pub(crate) cold_cpu_s: f64,
    pub(crate) warm_s: f64,
    pub(crate) peak_mb: f64,
    /// Log entries and requests of the cold run: every step's intent and fact among them.
    pub(crate) cold_requests: u64,
}

/// Gives one adapter, and so one connection, for each host; each replica has its own.
struct Connector {
    artifact: Artifact,
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
            host_key_fingerprint: fingerprint.clone(),
            root: Some(root.clone()),
            identity: Identity::File(self.identity.clone()),
        };
        let adapter: Arc<dyn Adapter> = Arc::new(SshAdapter::new(target, self.artifact.clone())?);
        known.insert(host.id.clone(), Arc::clone(&adapter));
        Ok(adapter)
    }

    async fn scan(&self, address: &str, port: u16) -> Result<String, AdapterError> {
        hanse_adapters_ssh::scan_host_key(address, port).await
    }

    async fn scan_docker(&self, endpoint: &str) -> Result<String, AdapterError> {
        Err(AdapterError::Invalid { subject: endpoint.to_owned(), reason: "no Docker in this benchmark".into() })
    }
}

struct One {
    replica: Replica,
    observed: Arc<Observed>,
}

struct Cluster {
    members: Vec<One>,
    stop: CancellationToken,
}

impl Cluster {
    async fn start(dir: &Path, map: &Map, program: &Path) -> Result<Self> {
        let sha256 = hanse_hostrun::file_sha256(program).context("hash the program")?;
        let artifact = Artifact { sha256, path: program.to_path_buf() };
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
            let engine: Arc<dyn Engine> = Arc::new(BenchEngine::new(artifact.clone()));
            let connector =
                Connector { artifact: artifact.clone(), identity: map.identity.clone(), known: Mutex::default() };
            let world = World {
                replica: Arc::new(replica.clone()),
                observed: Arc::clone(&observed),
                hosts: Arc::new(connector),
                engines: Arc::new(BTreeMap::from([(engine.name().to_owned(), engine)])),
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

    fn leader(&self) -> Option<&One> {
        self.members.iter().find(|one| one.replica.is_leader().is_some())
    }

    async fn order(&self, actor: Actor, command: Command) -> Result<Outcome> {
        let leader = until("a leader", || self.leader()).await?;
        let request = Request::new(context::new_request_id(), actor, "", context::clock(), command.clone());
        let applied = leader.replica.propose(request).await.map_err(|e| anyhow!("{}: {e}", command.name()))?;
        applied.outcome.map_err(|rejection| anyhow!("{}: {}", command.name(), rejection.message()))
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

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
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

fn is_done(state: &State, count: usize) -> bool {
    let healthy =
        |node: &&hanse_state::chain::node::Node| node.state == NodeState::Running && node.health == Health::Healthy;
    state.nodes.values().filter(healthy).count() == count
}

/// What keeps nodes from being healthy, for a run that does not end.
fn obstacles(state: &State) -> String {
    let words = |node: &hanse_state::chain::node::Node| {
        format!("{} {:?} {:?} {}", node.key, node.state, node.health, node.state_reason)
    };
    state.nodes.values().map(words).collect::<Vec<_>>().join("\n")
}

/// Measures; everything of the replicas lies in `dir`.
pub(crate) async fn run(dir: &Path, map: &Map, program: &Path) -> Result<Figures> {
    let cluster = Cluster::start(dir, map, program).await?;
    for (actor, command) in story::platform()? {
        cluster.order(actor, command).await?;
    }
    let count = map.hosts.len();
    let before = until("a leader", || cluster.leader()).await?.replica.local().revision;
    let (cpu, begin) = (own_cpu(), Instant::now());
    let enrolments = story::enrolments(map)?;
    let enrolled = enrolments.into_iter().map(|(actor, command)| cluster.order(actor, command));
    for outcome in futures::future::join_all(enrolled).await {
        outcome?;
    }
    for (number, nodes) in story::chains(count) {
        let (actor, command) = story::proposal(number, nodes)?;
        let Outcome::ProposalOpened { proposal, artifact_hash, .. } = cluster.order(actor, command).await? else {
            bail!("a proposal was answered by something else");
        };
        let (actor, command) = story::ballot(&proposal, artifact_hash)?;
        cluster.order(actor, command).await?;
    }
    let leader = until("a leader", || cluster.leader()).await?;
    let done = until("all nodes", || is_done(&leader.replica.local(), count).then_some(())).await;
    done.with_context(|| obstacles(&leader.replica.local()))?;
    let mut figures = Figures {
        cold_s: begin.elapsed().as_secs_f64(),
        cold_cpu_s: own_cpu() - cpu,
        cold_requests: leader.replica.local().revision - before,
        ..Figures::default()
    };
    figures.warm_s = warm(&cluster, leader, count).await?;
    figures.peak_mb = own_peak_mb()?;
    cluster.stop.cancel();
    for one in &cluster.members {
        one.replica.shutdown().await;
    }
    Ok(figures)
}

/// Hands the lead to another replica and waits until it has seen every node.
async fn warm(cluster: &Cluster, leader: &One, count: usize) -> Result<f64> {
    let begin = Instant::now();
    leader.replica.hand_over().await;
    let next = until("another leader", || cluster.leader()).await?;
    let state = next.replica.local();
    let seen = || state.nodes.keys().filter(|key| next.observed.node(key).is_some()).count();
    until("a look at all nodes", || (seen() == count).then_some(())).await?;
    if next.replica.local().nodes.values().any(|node| node.generation != 1) {
        bail!("a node was started again though nothing had changed");
    }
    Ok(begin.elapsed().as_secs_f64())
}
