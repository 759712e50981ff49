//! Which adapter reaches which host: the one place that names the adapters.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hanse_adapters_core::cloud::Cloud;
use hanse_adapters_core::{Adapter, AdapterError, Artifact, Result};
use hanse_adapters_docker::{DockerAdapter, DockerTarget, Limits};
use hanse_adapters_ec2::{Credentials, Ec2Cloud, Ec2Target};
use hanse_adapters_libvirt::{LibvirtCloud, LibvirtTarget};
use hanse_adapters_local::LocalAdapter;
use hanse_adapters_ssh::{HostPin, Identity, Jump, Login, SshAdapter, SshTarget};
use hanse_server::reconcile::connect::{HostConnector, HostKeys};
use hanse_state::cloud::CloudKind;
use hanse_state::host::way::{self as state, Pin, Way};
use hanse_state::host::{Host, Reach};
use hanse_state::ids::HostId;

use crate::software::Software;

/// Keeps one adapter, and so one connection, for each host.
pub(crate) struct Connector {
    software: Software,
    keys: SshKeys,
    cloud_credentials: Option<PathBuf>,
    known: Mutex<BTreeMap<HostId, Known>>,
}

/// What this replica logs in with.
#[derive(Clone, Debug)]
pub(crate) struct SshKeys {
    /// `ssh_identity`.
    pub(crate) identity: Option<PathBuf>,
    /// `ssh_certificate`.
    pub(crate) certificate: Option<PathBuf>,
    /// `ssh_agent`.
    pub(crate) agent: Option<PathBuf>,
}

impl SshKeys {
    /// What a login of this kind shows.
    fn login(&self, kind: state::Login) -> Result<Login> {
        let identity = || -> Result<Identity> { Ok(Identity::File(named("ssh_identity", &self.identity)?)) };
        match kind {
            state::Login::Key => Ok(Login::Key(identity()?)),
            state::Login::Certificate => Ok(Login::Certificate {
                identity: identity()?,
                certificate: named("ssh_certificate", &self.certificate)?,
            }),
            state::Login::Agent => Ok(Login::Agent(named("ssh_agent", &self.agent)?)),
        }
    }
}

/// A path of the configuration that must be there.
fn named(setting: &str, path: &Option<PathBuf>) -> Result<PathBuf> {
    path.clone().ok_or_else(|| AdapterError::Invalid {
        subject: "login over SSH".into(),
        reason: format!("this replica has no `{setting}` in its configuration; set it on every replica"),
    })
}

fn jump(it: &state::Jump) -> Jump {
    Jump {
        address: it.address.clone(),
        port: it.port,
        user: it.user.clone(),
        host_key_fingerprint: it.fingerprint.clone(),
    }
}

/// An adapter and what it was made for; a host that is reached in another way gets another.
type Known = (Reach, Arc<dyn Adapter>);

impl Connector {
    /// A connector that puts `software` on hosts and shows `keys` to those reached by SSH. No adapter is given out before the
    /// software's hash is known. Clouds are asked with the files in `cloud_credentials`.
    pub(crate) fn new(software: Software, keys: SshKeys, cloud_credentials: Option<PathBuf>) -> Self {
        Self { software, keys, cloud_credentials, known: Mutex::new(BTreeMap::new()) }
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

    async fn scan(&self, address: &str, port: u16, way: &Way) -> Result<HostKeys> {
        // A server that is reached straight is asked without any credential at hand.
        let login = if way.jumps.is_empty() { None } else { Some(self.keys.login(way.login)?) };
        let jumps = way.jumps.iter().map(jump).collect();
        let shown = hanse_adapters_ssh::scan(address, port, jumps, login.as_ref()).await?;
        Ok(HostKeys { fingerprint: shown.fingerprint, authority: shown.authority })
    }

    async fn scan_docker(&self, endpoint: &str) -> Result<String> {
        hanse_adapters_docker::scan_engine_id(endpoint).await
    }

    async fn cloud(&self, cloud: &hanse_state::cloud::Cloud) -> Result<Arc<dyn Cloud>> {
        let folder = self.cloud_credentials.as_ref().ok_or_else(|| AdapterError::Invalid {
            subject: format!("cloud {}", cloud.id),
            reason: "this replica has no `cloud_credentials` in its configuration; set it on every replica".into(),
        })?;
        // A plain name by the state's own rule: nobody chooses by it which file of a replica is read.
        let file = folder.join(&cloud.spec.credentials);
        match cloud.spec.kind {
            CloudKind::Ec2 => {
                let target = Ec2Target {
                    endpoint: cloud.spec.endpoint.clone(),
                    region: cloud.spec.region.clone(),
                    is_public: cloud.spec.public,
                };
                Ok(Arc::new(Ec2Cloud::new(&target, Credentials::read(&file)?)?))
            }
            CloudKind::Libvirt => {
                let target = LibvirtTarget { endpoint: cloud.spec.endpoint.clone(), region: cloud.spec.region.clone() };
                let credentials = hanse_adapters_libvirt::Credentials::read(&file)?;
                Ok(Arc::new(LibvirtCloud::new(&target, credentials)?))
            }
        }
    }

    async fn login_key(&self) -> Result<String> {
        let identity = named("ssh_identity", &self.keys.identity)?;
        hanse_adapters_ssh::public_key(&Identity::File(identity))
    }
}

/// How long a Docker host keeps image and artifacts that no node of it needs any more.
const KEEP: Duration = Duration::from_secs(3_600);

impl Connector {
    fn make(&self, host: &Host, artifact: &Artifact) -> Result<Arc<dyn Adapter>> {
        match &host.reach {
            Reach::Local { root } => Ok(Arc::new(LocalAdapter::new(PathBuf::from(root), artifact.path.clone()))),
            Reach::Ssh { address, port, user, fingerprint, root, way } => {
                let target = SshTarget {
                    address: address.clone(),
                    port: *port,
                    user: user.clone(),
                    jumps: way.jumps.iter().map(jump).collect(),
                    pin: match way.pin {
                        Pin::Key => HostPin::Key(fingerprint.clone()),
                        Pin::Authority => HostPin::Authority(fingerprint.clone()),
                    },
                    root: (!root.is_empty()).then(|| root.clone()),
                    login: self.keys.login(way.login)?,
                    sudo: way.sudo,
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
