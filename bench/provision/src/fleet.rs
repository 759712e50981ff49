//! Hosts: real sshd processes on loopback, each with its own port, host key, log and folder; one key logs in to all.
//!
//! What it never does: listen on another address than 127.0.0.1, or leave a process behind that it or a contender started.

use std::fs::{self, OpenOptions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// How long sshd may take to listen.
const START_LIMIT: Duration = Duration::from_secs(30);

/// One host as contenders know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostAt {
    pub(crate) name: String,
    pub(crate) ssh_port: u16,
    /// Pinned key, `SHA256:...`.
    pub(crate) fingerprint: String,
    /// Its folder.
    pub(crate) root: PathBuf,
    /// First of two ports that what is provisioned may use.
    pub(crate) service_port: u16,
}

/// All hosts, and who logs in to them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Map {
    pub(crate) user: String,
    pub(crate) identity: PathBuf,
    pub(crate) known_hosts: PathBuf,
    pub(crate) hosts: Vec<HostAt>,
}

/// The running hosts.
pub(crate) struct Fleet {
    pub(crate) map: Map,
    dir: PathBuf,
    children: Vec<Child>,
}

impl Fleet {
    /// Starts `count` sshd in `dir`.
    pub(crate) fn start(dir: &Path, count: usize) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let identity = dir.join("client_key");
        keygen(&identity)?;
        // sshd run by root insists on its folder for privilege separation.
        if fs::create_dir_all("/run/sshd").is_ok() {
            fs::set_permissions("/run/sshd", fs::Permissions::from_mode(0o755)).context("/run/sshd")?;
        }
        let map = Map {
            user: text(Command::new("id").arg("-un"))?,
            identity,
            known_hosts: dir.join("known_hosts"),
            hosts: Vec::new(),
        };
        let mut fleet = Self { map, dir, children: Vec::new() };
        let ports = free_ports(count * 3)?;
        for (n, port) in ports.chunks(3).enumerate() {
            fleet.add(n, port)?;
        }
        fleet.write_known_hosts()?;
        for host in &fleet.map.hosts {
            let until = Instant::now() + START_LIMIT;
            while TcpStream::connect(("127.0.0.1", host.ssh_port)).is_err() {
                ensure!(Instant::now() < until, "the sshd of {} does not listen", host.name);
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(fleet)
    }

    fn add(&mut self, n: usize, ports: &[u16]) -> Result<()> {
        let home = self.dir.join(format!("h{n}"));
        fs::create_dir_all(&home)?;
        keygen(&home.join("host_key"))?;
        let line = text(Command::new("ssh-keygen").arg("-lf").arg(home.join("host_key.pub")))?;
        let fingerprint = line.split_whitespace().nth(1).context("ssh-keygen printed no fingerprint")?.to_owned();
        let config = home.join("sshd_config");
        // A bash that sshd starts reads the account's .bashrc at level 1: whatever a developer's machine does there (some 0.2 s of
        // version managers that lock each other out, on one of ours) is no part of any contender's work.
        let (shown, keys) = (home.display(), self.dir.join("client_key.pub"));
        fs::write(
            &config,
            format!(
                "Port {}\nListenAddress 127.0.0.1\nHostKey {shown}/host_key\nAuthorizedKeysFile {}\nPidFile none\n\
                 UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PermitRootLogin prohibit-password\nUseDNS no\nPrintMotd no\nSubsystem sftp internal-sftp\n\
                 SetEnv SHLVL=2\n",
                ports[0],
                keys.display()
            ),
        )?;
        let log = OpenOptions::new().create(true).append(true).open(home.join("sshd.log"))?;
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start sshd: install Debian's openssh-server")?;
        self.children.push(child);
        self.map.hosts.push(HostAt {
            name: format!("h{n}"),
            ssh_port: ports[0],
            fingerprint,
            root: home.join("root"),
            service_port: ports[1],
        });
        Ok(())
    }

    fn write_known_hosts(&self) -> Result<()> {
        let mut lines = String::new();
        for host in &self.map.hosts {
            let key = fs::read_to_string(self.dir.join(&host.name).join("host_key.pub"))?;
            lines += &format!("[127.0.0.1]:{} {key}", host.ssh_port);
        }
        fs::write(&self.map.known_hosts, lines).context("write known_hosts")
    }

    /// Ends what contenders started on the hosts and forgets their files: the next begins with bare hosts.
    pub(crate) fn clear(&self) -> Result<()> {
        let is_ours = |exe: &Path| self.map.hosts.iter().any(|host| exe.starts_with(&host.root));
        let until = Instant::now() + START_LIMIT;
        loop {
            let mut found = Vec::new();
            for entry in fs::read_dir("/proc")?.flatten() {
                let pid: Option<u32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
                // One that ended meanwhile has no program any more.
                let exe = fs::read_link(entry.path().join("exe")).unwrap_or_default();
                found.extend(pid.filter(|_| is_ours(&exe)));
            }
            if found.is_empty() {
                break;
            }
            ensure!(Instant::now() < until, "processes {found:?} on the hosts do not end");
            for pid in found {
                // One that ended meanwhile is fine; what stays is seen by the next look.
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for host in &self.map.hosts {
            if host.root.exists() {
                fs::remove_dir_all(&host.root).with_context(|| format!("empty {}", host.name))?;
            }
        }
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            eprintln!("bench: what ran on the hosts may still run: {error}");
        }
        for child in &mut self.children {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// First ports that are tried. Below what Linux gives to outgoing connections (`ip_local_port_range` begins at 32768): one of
/// those would take a port between the look and its use, and the node that it was meant for could not start.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Ports that are free now, each with the next one, all different; not the same in runs one after another.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let span = PORTS.end - PORTS.start;
    let begin = u16::try_from(std::process::id() % u32::from(span / 2)).context("an offset")? * 2;
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let candidates = (0..span).step_by(2).map(|step| PORTS.start + (begin + step) % span);
    let ports: Vec<u16> = candidates.filter(|port| is_free(*port) && is_free(port + 1)).take(count).collect();
    ensure!(ports.len() == count, "only {} of {count} pairs of ports are free", ports.len());
    Ok(ports)
}

fn keygen(path: &Path) -> Result<()> {
    let mut made = Command::new("ssh-keygen");
    made.args(["-q", "-t", "ed25519", "-N", "", "-C", "hanse-bench", "-f"]).arg(path);
    text(&mut made).map(drop).context("ssh-keygen: install Debian's openssh-client")
}

/// What a program printed.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
