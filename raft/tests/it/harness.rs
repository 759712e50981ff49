//! Replicas in this process, over real sockets and mutual TLS, each with its own folder.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hanse_raft::{Member, PeerTls, ProposeError, RaftError, Replica, ReplicaConfig, ReplicaId, Timings, peer_name};
use hanse_state::cluster::InitCluster;
use hanse_state::cluster::version::Version;
use hanse_state::ids::{ClusterId, RequestId};
use hanse_state::{Applied, Command, Digest, Millis, Request};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) const CLUSTER: &str = "test";
/// Generous: the machine may be busy with other builds.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A certificate authority of peers.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for a name.
    pub(crate) fn issue(&self, name: &str) -> PeerTls {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        PeerTls { ca_pem: self.pem(), cert_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}

/// Waits until `probe` gives something.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < until, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A request of the system; only the first is accepted, every one is recorded.
pub(crate) fn request(name: &str) -> Request {
    let cluster = ClusterId::new(uuid::Uuid::now_v7()).unwrap();
    let command = Command::InitCluster(InitCluster {
        cluster,
        name: name.to_owned(),
        setup_code_hash: Digest::of(b"code"),
        version: Version::FIRST,
    });
    Request::system(RequestId::new(uuid::Uuid::now_v7()).unwrap(), Millis(1_790_000_000_000), command)
}

/// Gives listeners below the ports that the system hands out, so that a replica that is away keeps its port.
fn free_ports(count: usize) -> Vec<TcpListener> {
    let start = 12_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % 18_000).unwrap();
    let ports = (start..30_000).chain(12_000..start);
    ports.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(count).collect()
}

/// One direction of dialling between two replicas.
struct Link {
    address: std::net::SocketAddr,
    cut: watch::Sender<bool>,
}

impl Link {
    fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let cut = watch::Sender::new(false);
        let state = cut.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (target, state) = (target.clone(), state.clone());
                tokio::spawn(async move {
                    let Ok(far) = tokio::net::TcpStream::connect(target).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::join!(
                        carry(near_in, far_out, state.subscribe()),
                        carry(far_in, near_out, state.subscribe())
                    );
                });
            }
        });
        Self { address, cut }
    }
}

/// Carries bytes one way; while the link is cut they are held back, and nobody is told.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if cut.wait_for(|cut| !cut).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Three replicas.
pub(crate) struct Trio {
    pub(crate) ca: Ca,
    pub(crate) members: BTreeMap<ReplicaId, Member>,
    pub(crate) replicas: BTreeMap<ReplicaId, Replica>,
    links: BTreeMap<(u64, u64), Link>,
    folder: TempDir,
    snapshot_every: u64,
}

impl Trio {
    /// Lays out three replicas that reach each other only over links that a test can cut.
    pub(crate) fn linked(snapshot_every: u64) -> Self {
        let mut trio = Self::new(snapshot_every);
        for (from, to) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
            let target = trio.members[&ReplicaId(to)].peer_address.clone();
            trio.links.insert((from, to), Link::start(target));
        }
        trio
    }

    /// Cuts or heals every link to and from a replica; a cut link is silent, as when packets are dropped.
    pub(crate) fn cut(&self, id: ReplicaId, cut: bool) {
        for ((from, to), link) in &self.links {
            if [*from, *to].contains(&id.0) {
                link.cut.send_replace(cut);
            }
        }
    }

    /// Lays out three replicas; none runs yet.
    pub(crate) fn new(snapshot_every: u64) -> Self {
        let listeners = free_ports(3);
        let members = (1..).zip(&listeners).map(|(id, listener)| {
            let peer_address = listener.local_addr().unwrap().to_string();
            (ReplicaId(id), Member { peer_address, api_address: format!("127.0.0.1:{id}") })
        });
        let members = members.collect();
        Self {
            ca: Ca::new(),
            members,
            replicas: BTreeMap::new(),
            links: BTreeMap::new(),
            folder: tempfile::tempdir().unwrap(),
            snapshot_every,
        }
    }

    pub(crate) fn data_dir(&self, id: u64) -> PathBuf {
        self.folder.path().join(id.to_string())
    }

    pub(crate) fn config(&self, id: u64) -> ReplicaConfig {
        let mut members = self.members.clone();
        for ((_, to), link) in self.links.iter().filter(|((from, _), _)| *from == id) {
            members.get_mut(&ReplicaId(*to)).unwrap().peer_address = link.address.to_string();
        }
        let id = ReplicaId(id);
        ReplicaConfig {
            id,
            cluster_name: CLUSTER.into(),
            data_dir: self.data_dir(id.0),
            peer_listen: self.members[&id].peer_address.parse().unwrap(),
            members,
            tls: self.ca.issue(&peer_name(CLUSTER, id)),
            timings: Timings { heartbeat_ms: 150, election_min_ms: 1_000, election_max_ms: 2_000 },
            snapshot_every: self.snapshot_every,
            bootstrap: true,
        }
    }

    /// Starts a replica that joins: the others know nothing of it but what the membership will say.
    pub(crate) async fn start_joining(&mut self, id: u64) -> Member {
        let address = free_ports(1)[0].local_addr().unwrap().to_string();
        let member = Member { peer_address: address, api_address: format!("127.0.0.1:{id}") };
        self.members.insert(ReplicaId(id), member.clone());
        let config = ReplicaConfig { bootstrap: false, ..self.config(id) };
        let replica = Replica::start(config, CancellationToken::new()).await.unwrap();
        self.replicas.insert(ReplicaId(id), replica);
        member
    }

    pub(crate) async fn try_start(&mut self, id: u64) -> Result<(), RaftError> {
        let replica = Replica::start(self.config(id), CancellationToken::new()).await?;
        self.replicas.insert(ReplicaId(id), replica);
        Ok(())
    }

    pub(crate) async fn start(&mut self, id: u64) {
        self.try_start(id).await.unwrap();
    }

    pub(crate) async fn start_all(snapshot_every: u64) -> Self {
        let mut trio = Self::new(snapshot_every);
        for id in 1..=3 {
            trio.start(id).await;
        }
        trio
    }

    pub(crate) async fn stop(&mut self, id: ReplicaId) {
        self.replicas.remove(&id).unwrap().shutdown().await;
    }

    pub(crate) async fn stop_all(&mut self) {
        for (_, replica) in std::mem::take(&mut self.replicas) {
            replica.shutdown().await;
        }
    }

    /// Waits for a leader that serves reads.
    pub(crate) async fn leader(&self) -> Replica {
        eventually("a leader", async || {
            for replica in self.replicas.values() {
                if replica.is_leader().is_some() && replica.read().await.is_ok() {
                    return Some(replica.clone());
                }
            }
            None
        })
        .await
    }

    /// Proposes one request through whoever leads, asking again while there is no leader.
    pub(crate) async fn propose(&self, name: &str) -> Applied {
        self.order(request(name)).await
    }

    /// The same with any request.
    pub(crate) async fn order(&self, wanted: Request) -> Applied {
        eventually("the request is applied", async || match self.leader().await.propose(wanted.clone()).await {
            Ok(applied) => Some(applied),
            Err(ProposeError::NotLeader { .. } | ProposeError::Unavailable(_)) => None,
            Err(error) => panic!("{error}"),
        })
        .await
    }

    /// Waits until every running replica has applied `index`, and compares their digests.
    pub(crate) async fn agree(&self, index: u64) {
        for replica in self.replicas.values() {
            eventually("the replica has caught up", async || (replica.local().revision >= index).then_some(())).await;
        }
        let digests: Vec<_> = self.replicas.values().map(|r| (r.status().digest_revision, r.status().digest)).collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ: {digests:?}");
    }
}
