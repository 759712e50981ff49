//! Which adapter reaches which host: the one place that names the adapters.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hanse_adapters_core::{Adapter, AdapterError, Artifact, Result};
use hanse_adapters_docker::{DockerAdapter, DockerTarget, Limits};
use hanse_adapters_local::LocalAdapter;
use hanse_adapters_ssh::{Identity, SshAdapter, SshTarget};
use hanse_server::reconcile::connect::HostConnector;
use hanse_state::host::{Host, Reach};
use hanse_state::ids::HostId;

use crate::software::Software;

/// Keeps one adapter, and so one connection, for each host.
pub(crate) struct Connector {
    software: Software,
    ssh_identity: Option<PathBuf>,
    known: Mutex<BTreeMap<HostId, Known>>,
}

/// An adapter and what it was made for; a host that is reached in another way gets another.
type Known = (Reach, Arc<dyn Adapter>);

impl Connector {
    /// A connector that puts `software` on hosts and shows `ssh_identity` to those reached by SSH. No adapter is given out
    /// before the software's hash is known.
    pub(crate) fn new(software: Software, ssh_identity: Option<PathBuf>) -> Self {
        Self { software, ssh_identity, known: Mutex::new(BTreeMap::new()) }
    }
}

#[async_trait]
impl HostConnector for Connector {
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Adapter>> {
        let artifact = self.software.artifact().await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((reach, adapter)) = known.get(&host.id)
            && *reach == host.reach
        {
            return Ok(Arc::clone(adapter));
        }
        let adapter = self.make(host, artifact)?;
        known.insert(host.id.clone(), (host.reach.clone(), Arc::clone(&adapter)));
        Ok(adapter)
    }

    async fn scan(&self, address: &str, port: u16) -> Result<String> {
        hanse_adapters_ssh::scan_host_key(address, port).await
    }

    async fn scan_docker(&self, endpoint: &str) -> Result<String> {
        hanse_adapters_docker::scan_engine_id(endpoint).await
    }
}

/// How long a Docker host keeps image and artifacts that no node of it needs any more.
const KEEP: Duration = Duration::from_secs(3_600);

impl Connector {
    fn make(&self, host: &Host, artifact: &Artifact) -> Result<Arc<dyn Adapter>> {
        match &host.reach {
            Reach::Local { root } => Ok(Arc::new(LocalAdapter::new(PathBuf::from(root), artifact.path.clone()))),
            Reach::Ssh { address, port, user, fingerprint, root } => {
                let identity = self.ssh_identity.clone().ok_or_else(|| AdapterError::Invalid {
                    subject: format!("host {}", host.id),
                    reason: "this replica has no `ssh_identity` in its configuration; set it on every replica".into(),
                })?;
                let target = SshTarget {
                    address: address.clone(),
                    port: *port,
                    user: user.clone(),
                    jumps: Vec::new(),
                    host_key_fingerprint: fingerprint.clone(),
                    root: (!root.is_empty()).then(|| root.clone()),
                    identity: Identity::File(identity),
                };
                Ok(Arc::new(SshAdapter::new(target)?))
            }
            Reach::Docker { endpoint, engine_id, memory_mib, cpu_milli, pids } => {
                let publish_address = host.peer_address.parse().map_err(|e| AdapterError::Invalid {
                    subject: format!("host {}", host.id),
                    reason: format!("its peer address {} is no IP address: {e}", host.peer_address),
                })?;
                let memory_bytes = u64::from(*memory_mib) << 20;
                let target = DockerTarget {
                    endpoint: endpoint.clone(),
                    engine_id: engine_id.clone(),
                    publish_address,
                    limits: Limits { memory_bytes, cpu_milli: *cpu_milli, pids: *pids },
                    keep: KEEP,
                };
                Ok(Arc::new(DockerAdapter::new(target, artifact.clone())?))
            }
        }
    }
}
