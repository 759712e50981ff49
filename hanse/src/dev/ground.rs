//! The ground a demo stands on: a folder with a lock, ports, two certificate authorities, three configurations, and the
//! secrets that the demo's people keep.
//!
//! Made once and found again by `--keep`. Everything is below one folder; nothing else on the machine is touched.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hanse_server::ca;
use hanse_server::config::{CONFIG_VERSION, Config, ReplicaEntry, Timing};
use rustix::fs::{FlockOperation, flock, statvfs};
use serde::{Deserialize, Serialize};

/// Replicas of a demo.
pub(crate) const REPLICAS: u64 = 3;
/// Hosts of a demo, each a folder of this machine.
pub(crate) const HOSTS: u16 = 4;
/// Ports that each host may give to nodes.
pub(crate) const PORTS_PER_HOST: u16 = 8;
/// Free space without which a demo does not begin: three logs, four ledgers and one copy of this program.
const DISK_FREE_MIN: u64 = 600 << 20;
/// Where host ports are looked for: below the range the kernel gives to outgoing connections.
const HOST_PORTS: std::ops::Range<u16> = 10_000..32_000;
/// How many blocks of ports are tried before giving up.
const PORT_TRIES: u16 = 200;

/// Version of `dev.json`.
const LAYOUT_VERSION: u32 = 1;

/// What `dev.json` remembers between two runs in the same folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Layout {
    version: u32,
    /// Cluster's name.
    pub(crate) cluster: String,
    /// API and peer port of each replica, by id.
    pub(crate) replicas: BTreeMap<u64, (u16, u16)>,
    /// First port of each host, by name.
    pub(crate) hosts: BTreeMap<String, u16>,
    /// Passwords of the demo's accounts, made on first use.
    pub(crate) passwords: BTreeMap<String, String>,
}

/// A prepared folder, locked for this process.
#[derive(Debug)]
pub(crate) struct Ground {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// What is remembered.
    pub(crate) layout: Layout,
    _lock: File,
}

impl Ground {
    /// Prepares `dir`, or finds what an earlier run left there.
    pub(crate) fn prepare(dir: &Path) -> Result<Self> {
        make_dir(dir)?;
        let dir = dir.canonicalize().with_context(|| format!("resolve {}", dir.display()))?;
        let lock = lock(&dir)?;
        check_disk(&dir)?;
        let file = dir.join("dev.json");
        let layout = match std::fs::read(&file) {
            Ok(bytes) => known_layout(&bytes, &file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => new_layout()?,
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        let ground = Self { dir, layout, _lock: lock };
        ground.save()?;
        ground.write_certificates()?;
        ground.write_configs()?;
        Ok(ground)
    }

    /// Folder of host `name`.
    pub(crate) fn host_root(&self, name: &str) -> PathBuf {
        self.dir.join("hosts").join(name)
    }

    /// Configuration file of replica `id`.
    pub(crate) fn config_path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("n{id}")).join("hanse.toml")
    }

    /// The API CA that clients trust.
    pub(crate) fn api_ca(&self) -> PathBuf {
        self.dir.join("ca/api-ca.pem")
    }

    /// API addresses of all replicas.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.layout.replicas.values().map(|(api, _)| format!("127.0.0.1:{api}")).collect()
    }

    /// The password of a demo account; made when first asked for and kept in the folder.
    pub(crate) fn password(&mut self, account: &str) -> Result<String> {
        if let Some(known) = self.layout.passwords.get(account) {
            return Ok(known.clone());
        }
        let mut bytes = [0u8; 18];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
            .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        let password = hex::encode(bytes);
        self.layout.passwords.insert(account.to_string(), password.clone());
        self.save()?;
        Ok(password)
    }

    fn save(&self) -> Result<()> {
        write_private(&self.dir.join("dev.json"), &serde_json::to_vec_pretty(&self.layout)?)
    }

    fn write_certificates(&self) -> Result<()> {
        let authority = self.dir.join("ca");
        if !authority.join("peer-ca.pem").exists() {
            ca::create(&authority, &self.layout.cluster)?;
        }
        for id in self.layout.replicas.keys() {
            ca::issue(
                &authority,
                &self.dir.join(format!("n{id}/tls")),
                &self.layout.cluster,
                *id,
                &["127.0.0.1".into()],
            )?;
        }
        Ok(())
    }

    fn write_configs(&self) -> Result<()> {
        let replicas: Vec<ReplicaEntry> = self
            .layout
            .replicas
            .iter()
            .map(|(id, (api, peer))| ReplicaEntry {
                id: *id,
                peer: format!("127.0.0.1:{peer}"),
                api: format!("127.0.0.1:{api}"),
            })
            .collect();
        for (id, (api, peer)) in &self.layout.replicas {
            let config = Config {
                version: CONFIG_VERSION,
                cluster: self.layout.cluster.clone(),
                replica: *id,
                join: false,
                data: "data".into(),
                peer_listen: (Ipv4Addr::LOCALHOST, *peer).into(),
                api_listen: (Ipv4Addr::LOCALHOST, *api).into(),
                tls: "tls".into(),
                cloud_credentials: None,
                ssh_identity: None,
                ssh_certificate: None,
                ssh_agent: None,
                node_artifact: None,
                cometbft: None,
                metrics_listen: None,
                reflection: true,
                replicas: replicas.clone(),
                // Three replicas, four nodes and a console share one machine here, and nobody waits for a fail-over:
                // patient elections rather than needless ones.
                timing: Timing {
                    heartbeat_ms: 100,
                    election_min_ms: 600,
                    election_max_ms: 1_200,
                    meter_ms: 2_000,
                    anchor_ms: 10_000,
                    ..Timing::default()
                },
            };
            write_private(&self.config_path(*id), toml::to_string_pretty(&config)?.as_bytes())?;
        }
        Ok(())
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("dev.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("{} is in use by another `hanse dev`; stop it first or give another --keep folder", dir.display());
    }
    Ok(file)
}

fn check_disk(dir: &Path) -> Result<()> {
    let stat = statvfs(dir).with_context(|| format!("look at the file system of {}", dir.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < DISK_FREE_MIN {
        bail!(
            "only {} MiB are free on the disk of {}; a demo needs {} MiB: free some space or give --keep on another disk",
            free >> 20,
            dir.display(),
            DISK_FREE_MIN >> 20
        );
    }
    Ok(())
}

fn known_layout(bytes: &[u8], file: &Path) -> Result<Layout> {
    let layout: Layout = serde_json::from_slice(bytes)
        .with_context(|| format!("{} is damaged; remove the folder to begin anew", file.display()))?;
    if layout.version != LAYOUT_VERSION {
        bail!("{} has version {}, this program reads {LAYOUT_VERSION}", file.display(), layout.version);
    }
    for port in layout.replicas.values().flat_map(|(api, peer)| [api, peer]) {
        if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)) {
            bail!(
                "port {port}, which this folder's replicas use, cannot be had: {error}; stop what listens there and try again"
            );
        }
    }
    Ok(layout)
}

fn new_layout() -> Result<Layout> {
    // Held open together, so that the kernel gives six different ports.
    let held = (0..REPLICAS * 2)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("ask the system for a free port"))
        .collect::<Result<Vec<_>>>()?;
    let ports = held.iter().map(|l| Ok(l.local_addr()?.port())).collect::<Result<Vec<u16>>>()?;
    let replicas = (1..=REPLICAS).zip(ports.chunks(2)).map(|(id, pair)| (id, (pair[0], pair[1]))).collect();
    let mut hosts = BTreeMap::new();
    let mut from = host_ports_start()?;
    for n in 1..=HOSTS {
        let first = free_block(from)?;
        hosts.insert(format!("h{n}"), first);
        from = first + PORTS_PER_HOST;
    }
    Ok(Layout { version: LAYOUT_VERSION, cluster: "demo".into(), replicas, hosts, passwords: BTreeMap::new() })
}

/// A random start, so that two demos beside each other rarely look at the same ports.
fn host_ports_start() -> Result<u16> {
    let mut bytes = [0u8; 2];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    let room = HOST_PORTS.end - HOST_PORTS.start - PORT_TRIES * PORTS_PER_HOST;
    Ok(HOST_PORTS.start + u16::from_be_bytes(bytes) % room)
}

fn free_block(from: u16) -> Result<u16> {
    for attempt in 0..PORT_TRIES {
        let first = from + attempt * PORTS_PER_HOST;
        let free = (first..first + PORTS_PER_HOST).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        if free {
            return Ok(first);
        }
    }
    bail!("no {PORTS_PER_HOST} free ports in a row found on 127.0.0.1 from {from} on")
}

fn make_dir(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("make folder {}", dir.display()))
}

fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    use std::io::Write as _;
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let temp = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temp)
        .with_context(|| format!("write {}", temp.display()))?;
    file.write_all(content).with_context(|| format!("write {}", temp.display()))?;
    file.sync_all().with_context(|| format!("write {}", temp.display()))?;
    std::fs::rename(&temp, path).with_context(|| format!("write {}", path.display()))
}
