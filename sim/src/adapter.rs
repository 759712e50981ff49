//! The way from a replica to the simulated hosts: the adapter and its connector.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hanse_adapters_core::cloud::Cloud;
use hanse_adapters_core::{
    Adapter, AdapterError, Artifact, FileSpec, HomeFile, HostFacts, InstanceKey, InstanceSpec, InstanceStatus, Piece,
    Result, RunOutput, RunSpec, Stream,
};
use hanse_engines_core::NodeHealth;
use hanse_server::reconcile::connect::{HostConnector, HostKeys};
use hanse_state::host::way::Way;
use hanse_state::host::{Host, Reach};
use tokio::sync::oneshot;

use crate::acts::Life;
use crate::ask::{Ask, Told};
use crate::region::SimCloud;
use crate::world::{EPOCH_MS, Shared};

/// How long a call may take before nothing is known of it.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// The key that every host shows, and that is pinned.
pub(crate) const FINGERPRINT: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// One host, as a replica reaches it.
#[derive(Clone)]
pub(crate) struct SimHost {
    address: String,
    shared: Shared,
}

impl SimHost {
    pub(crate) fn at(address: &str, shared: Shared) -> Self {
        Self { address: address.to_owned(), shared }
    }

    async fn ask(&self, ask: Ask) -> Result<Told> {
        let subject = format!("host {}", self.address);
        let changes = ask.changes();
        let (sender, receiver) = oneshot::channel();
        {
            let mut world = self.shared.world();
            let now_ms = world.now_ms;
            world.hosts.call(now_ms, &self.address, ask, sender);
        }
        match tokio::time::timeout(CALL_LIMIT, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) if changes => {
                // A lost answer is known as such only after the limit: nobody tells the caller.
                Err(AdapterError::Unknown { subject, reason: "no answer in time".into() })
            }
            Ok(Err(_)) | Err(_) => Err(AdapterError::Transient { subject, reason: "no answer in time".into() }),
        }
    }

    async fn seen(&self, ask: Ask) -> Result<Option<InstanceStatus>> {
        match self.ask(ask).await? {
            Told::Seen(status) => Ok(status),
            other => unreachable!("a host answers what it is asked, not {other:?}"),
        }
    }

    /// Hands the node a signed transaction.
    pub(crate) async fn send(&self, key: &InstanceKey, raw: &[u8]) -> Result<Told> {
        self.ask(Ask::Send(key.clone(), raw.to_vec())).await
    }

    /// Asks the node for a transaction.
    pub(crate) async fn find(&self, key: &InstanceKey, hash: &str) -> Result<Told> {
        self.ask(Ask::Find(key.clone(), hash.to_owned())).await
    }

    /// Has the node take a seat among the validators, or give it up.
    pub(crate) async fn seat(&self, key: &InstanceKey, validates: bool) -> Result<()> {
        self.ask(Ask::Seat(key.clone(), validates)).await.map(drop)
    }

    /// Asks the node who validates; nothing if it does not answer.
    pub(crate) async fn validators(&self, key: &InstanceKey) -> Result<Option<Vec<(String, String)>>> {
        match self.ask(Ask::Validators(key.clone())).await? {
            Told::Validators(all) => Ok(all),
            other => unreachable!("a host answers what it is asked, not {other:?}"),
        }
    }

    /// Asks the node itself; nothing if it does not answer.
    pub(crate) async fn health(&self, key: &InstanceKey) -> Result<Option<NodeHealth>> {
        match self.ask(Ask::Health(key.clone())).await? {
            Told::Health(health) => Ok(health),
            other => unreachable!("a host answers what it is asked, not {other:?}"),
        }
    }
}

#[async_trait]
impl Adapter for SimHost {
    async fn inspect(&self) -> Result<HostFacts> {
        self.ask(Ask::Inspect).await?;
        Ok(HostFacts {
            hostname: self.address.clone(),
            arch: "x86_64".into(),
            kernel: "sim".into(),
            cpus: 2,
            memory_bytes: 1 << 30,
            disk_free_bytes: 1 << 30,
            clock_ms: EPOCH_MS,
            systemd: false,
        })
    }

    async fn put_artifact(&self, _artifact: &Artifact) -> Result<()> {
        Ok(())
    }

    async fn put_files(&self, key: &InstanceKey, files: &[FileSpec]) -> Result<()> {
        self.ask(Ask::Write(key.clone(), None, files.to_vec())).await.map(drop)
    }

    async fn put_files_at(&self, key: &InstanceKey, generation: u64, files: &[FileSpec]) -> Result<()> {
        self.ask(Ask::Write(key.clone(), Some(generation), files.to_vec())).await.map(drop)
    }

    /// Makes the keys, whatever is to be run: nothing else is run here.
    async fn run(&self, key: &InstanceKey, _spec: &RunSpec) -> Result<RunOutput> {
        match self.ask(Ask::MakeKeys(key.clone())).await? {
            Told::Identity(stdout) => Ok(RunOutput { code: Some(0), stdout, stderr: String::new() }),
            other => unreachable!("a host answers what it is asked, not {other:?}"),
        }
    }

    async fn ensure(&self, spec: &InstanceSpec) -> Result<InstanceStatus> {
        let seen = self.seen(Ask::Ensure(spec.clone())).await?;
        Ok(seen.expect("what was ensured is there"))
    }

    async fn look(&self, key: &InstanceKey) -> Result<Option<InstanceStatus>> {
        self.seen(Ask::Look(key.clone())).await
    }

    async fn stop(&self, key: &InstanceKey, _grace: Duration) -> Result<()> {
        self.ask(Ask::Stop(key.clone())).await.map(drop)
    }

    async fn fence(&self, key: &InstanceKey, generation: u64, _grace: Duration) -> Result<()> {
        self.ask(Ask::Fence(key.clone(), generation)).await.map(drop)
    }

    async fn remove(&self, key: &InstanceKey) -> Result<()> {
        self.remove_at(key, u64::MAX).await
    }

    async fn remove_at(&self, key: &InstanceKey, generation: u64) -> Result<()> {
        self.ask(Ask::Remove(key.clone(), generation)).await.map(drop)
    }

    async fn list_home(&self, key: &InstanceKey) -> Result<Vec<HomeFile>> {
        match self.ask(Ask::ListHome(key.clone())).await? {
            Told::Home(files) => Ok(files),
            other => unreachable!("a host answers what it is asked, not {other:?}"),
        }
    }

    async fn read_piece(&self, key: &InstanceKey, path: &str, offset: u64) -> Result<Vec<u8>> {
        match self.ask(Ask::ReadPiece(key.clone(), path.to_owned(), offset)).await? {
            Told::Piece(content) => Ok(content),
            other => unreachable!("a host answers what it is asked, not {other:?}"),
        }
    }

    async fn write_piece(&self, key: &InstanceKey, generation: u64, piece: &Piece) -> Result<()> {
        self.ask(Ask::WritePiece(key.clone(), generation, piece.clone())).await.map(drop)
    }

    async fn list(&self, cluster: &str) -> Result<Vec<InstanceStatus>> {
        match self.ask(Ask::List(cluster.to_owned())).await? {
            Told::List(list) => Ok(list),
            other => unreachable!("a host answers what it is asked, not {other:?}"),
        }
    }

    async fn tail(&self, _key: &InstanceKey, _lines: u32) -> Result<String> {
        Ok(String::new())
    }

    async fn dial(&self, port: u16) -> Result<Box<dyn Stream>> {
        let subject = format!("host {} port {port}", self.address);
        Err(AdapterError::Transient { subject, reason: "simulated nodes have no ports".into() })
    }
}

/// Gives every replica the same hosts and the same cloud.
pub(crate) struct SimConnector {
    pub(crate) life: Life,
    pub(crate) shared: Shared,
}

#[async_trait]
impl HostConnector for SimConnector {
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Adapter>> {
        let address = match &host.reach {
            Reach::Ssh { address, .. } => address.clone(),
            Reach::Local { .. } | Reach::Docker { .. } => host.peer_address.clone(),
        };
        Ok(Arc::new(SimHost::at(&address, self.shared.clone())))
    }

    async fn scan(&self, address: &str, _port: u16, _way: &Way) -> Result<HostKeys> {
        let shown = {
            let world = self.shared.world();
            world.provider.greets(world.now_ms, address)
        };
        // A host that is no cloud's machine answers always.
        match shown.unwrap_or_else(|| Some(FINGERPRINT.into())) {
            Some(fingerprint) => Ok(HostKeys { fingerprint, authority: None }),
            None => Err(AdapterError::Transient { subject: address.into(), reason: "connection refused".into() }),
        }
    }

    async fn cloud(&self, _cloud: &hanse_state::cloud::Cloud) -> Result<Arc<dyn Cloud>> {
        Ok(Arc::new(SimCloud { life: self.life, shared: self.shared.clone() }))
    }

    async fn login_key(&self) -> Result<String> {
        Ok("ssh-ed25519 AAAA".into())
    }

    async fn scan_docker(&self, endpoint: &str) -> Result<String> {
        Ok(endpoint.into())
    }
}
