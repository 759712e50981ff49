//! The replicas: real `hanse server` processes, each in its own namespace and, if asked for, on its own disk and clock.
//!
//! Certificates and configurations are made as docs/operations.md tells, with the binary itself. Every process dies with
//! the harness, however that ends. A replica that ends without having been killed is remembered as a [`Death`].

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::disk::Disk;
use super::net::{Net, address, run};

/// Port of every replica's peer listener; each has an address of its own.
const PEER_PORT: u16 = 7401;
/// Port of every replica's API.
const API_PORT: u16 = 7400;
/// How long a replica may take to end when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a replica's log that are shown when it ended by itself.
const LAST_LINES: usize = 12;
/// Where Debian puts the library that gives a process another clock.
const FAKETIME: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];

/// What the replicas are given besides their place in the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    /// A disk of its own for each.
    pub(crate) disks: bool,
    /// A clock of its own for each.
    pub(crate) clocks: bool,
}

/// A replica that ended by itself.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Death {
    /// Which.
    pub(crate) replica: u64,
    /// How, and its last words.
    pub(crate) how: String,
    /// Whether a fault that may end a replica (a disk that fails) was in force.
    pub(crate) excused: bool,
}

#[derive(Debug)]
struct Replica {
    home: PathBuf,
    child: Option<Child>,
    disk: Option<Disk>,
    clock: Option<PathBuf>,
    paused: bool,
    /// Its disk fails, or has just failed: then it may end, and is started again.
    excused: bool,
}

/// The replicas of a run; killed when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    program: PathBuf,
    dir: PathBuf,
    replicas: BTreeMap<u64, Replica>,
    spaces: BTreeMap<u64, String>,
    /// Replicas that ended by themselves.
    pub(crate) deaths: Vec<Death>,
}

impl Cluster {
    /// Makes everything below `dir` and starts nothing yet.
    pub(crate) fn make(program: &Path, dir: &Path, net: &Net, count: u64, wishes: Wishes) -> Result<Self> {
        let ca = dir.join("ca");
        let (ca_text, program_text) = (path_text(&ca)?, path_text(program)?);
        run(program_text, &["ca", "init", "--cluster", "faults", "--dir", ca_text])?;
        let mut cluster = Self {
            program: program.to_path_buf(),
            dir: dir.to_path_buf(),
            replicas: BTreeMap::new(),
            spaces: (1..=count).map(|id| (id, net.of_replica(id))).collect(),
            deaths: Vec::new(),
        };
        for id in 1..=count {
            let home = dir.join(format!("n{id}"));
            std::fs::create_dir_all(&home).with_context(|| format!("make {}", home.display()))?;
            let (own, out, number) = (address(id), home.join("tls"), id.to_string());
            let names = ["--cluster", "faults", "--dir", ca_text, "--replica", &number, "--host", &own];
            run(program_text, &[&["ca", "issue"], &names[..], &["--out", path_text(&out)?]].concat())?;
            let disk = wishes.disks.then(|| Disk::make(&dir.join(format!("n{id}.img")), &home.join("disk")));
            std::fs::write(home.join("hanse.toml"), config(id, count, wishes)).context("write a configuration")?;
            let clock = wishes.clocks.then(|| home.join("clock"));
            let replica = Replica { home, child: None, disk: disk.transpose()?, clock, paused: false, excused: false };
            cluster.replicas.insert(id, replica);
            cluster.set_clock(id, 0)?;
        }
        Ok(cluster)
    }

    /// Ids of all replicas.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.replicas.keys().copied().collect()
    }

    /// API addresses of all replicas.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.replicas.keys().map(|id| format!("{}:{API_PORT}", address(*id))).collect()
    }

    /// The API authority that clients trust.
    pub(crate) fn api_ca(&self) -> PathBuf {
        self.dir.join("ca/api-ca.pem")
    }

    /// The setup code, once a replica has written it.
    pub(crate) fn setup_code(&self) -> Option<String> {
        let folder = |replica: &Replica| if replica.disk.is_some() { "disk/data" } else { "data" };
        let mut files = self.replicas.values().map(|replica| replica.home.join(folder(replica)).join("setup-code"));
        files.find_map(|file| std::fs::read_to_string(file).ok()).map(|code| code.trim().to_string())
    }

    /// Starts a replica if it does not run.
    pub(crate) fn start(&mut self, id: u64) -> Result<()> {
        let space = self.spaces.get(&id).context("a replica of this cluster")?.clone();
        let program = self.program.clone();
        let replica = self.replica(id)?;
        if replica.child.is_some() {
            return Ok(());
        }
        let file = replica.home.join("replica.log");
        let log = File::options().create(true).append(true).open(&file).context("open a replica's log")?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={space}")).arg("--").arg(program);
        command.args(["server", "--die-with-parent", "--config"]).arg(replica.home.join("hanse.toml"));
        if let Some(clock) = &replica.clock {
            let library = FAKETIME.iter().find(|path| Path::new(path).exists());
            command.env("LD_PRELOAD", library.context("libfaketime is missing (`cargo xtask parts`)")?);
            command.env("FAKETIME_TIMESTAMP_FILE", clock).env("FAKETIME_CACHE_DURATION", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        replica.child = Some(child.context("start nsenter (Debian package util-linux)")?);
        replica.paused = false;
        Ok(())
    }

    /// Kills a replica with SIGKILL and waits until it is gone. False if it did not run.
    pub(crate) fn kill(&mut self, id: u64) -> Result<bool> {
        let Some(mut child) = self.replica(id)?.child.take() else { return Ok(false) };
        child.kill().with_context(|| format!("kill replica {id}"))?;
        child.wait().with_context(|| format!("wait for replica {id}"))?;
        Ok(true)
    }

    /// Asks a replica to end and waits; it must end with success. False if it did not run.
    pub(crate) fn stop(&mut self, id: u64) -> Result<bool> {
        let log = self.replica(id)?.home.join("replica.log");
        let Some(mut child) = self.replica(id)?.child.take() else { return Ok(false) };
        signal(&child, Signal::TERM)?;
        let end = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = child.try_wait().context("look at a replica")? {
                // One that was still coming up has no handler yet and ends by the signal itself; nothing is lost by that.
                if !status.success() && status.signal() != Some(Signal::TERM.as_raw()) {
                    let how = format!("asked to stop: {status}; last words:\n{}", last_lines(&log));
                    self.deaths.push(Death { replica: id, how, excused: false });
                }
                return Ok(true);
            }
            if Instant::now() > end {
                child.kill().context("kill a replica that does not stop")?;
                child.wait().context("wait for a replica")?;
                let how = format!("did not stop within {STOP_MAX:?}; last words:\n{}", last_lines(&log));
                self.deaths.push(Death { replica: id, how, excused: false });
                return Ok(true);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Stops a replica's process where it is, or lets it go on. False if it does not run.
    pub(crate) fn pause(&mut self, id: u64, paused: bool) -> Result<bool> {
        let replica = self.replica(id)?;
        let Some(child) = &replica.child else { return Ok(false) };
        signal(child, if paused { Signal::STOP } else { Signal::CONT })?;
        let end = Instant::now() + STOP_MAX;
        while is_stopped(child.id())? != paused {
            if Instant::now() > end {
                bail!("replica {id} did not become {}", if paused { "stopped" } else { "running" });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        replica.paused = paused;
        Ok(true)
    }

    /// Sets a replica's clock apart from the true one by so many seconds, while it runs.
    pub(crate) fn set_clock(&mut self, id: u64, seconds: i64) -> Result<()> {
        let Some(clock) = &self.replica(id)?.clock else { return Ok(()) };
        let temp = clock.with_extension("new");
        std::fs::write(&temp, format!("{seconds:+}\n")).context("write a clock")?;
        std::fs::rename(&temp, clock).context("write a clock")
    }

    /// The disk of a replica and its process id; `None` if it has no disk of its own or does not run.
    pub(crate) fn disk(&self, id: u64) -> Option<(&Disk, u32)> {
        let replica = self.replicas.get(&id)?;
        Some((replica.disk.as_ref()?, replica.child.as_ref()?.id()))
    }

    /// The disk alone.
    pub(crate) fn disk_of(&self, id: u64) -> Option<&Disk> {
        self.replicas.get(&id)?.disk.as_ref()
    }

    /// From now on this replica may (or may not) end by itself.
    pub(crate) fn excuse(&mut self, id: u64, excused: bool) -> Result<()> {
        self.replica(id)?.excused = excused;
        Ok(())
    }

    /// Looks for replicas that ended by themselves, and remembers them.
    pub(crate) fn look(&mut self) -> Result<()> {
        for (id, replica) in &mut self.replicas {
            let Some(child) = &mut replica.child else { continue };
            if let Some(status) = child.try_wait().context("look at a replica")? {
                replica.child = None;
                let how = format!("{status}; last words:\n{}", last_lines(&replica.home.join("replica.log")));
                eprintln!("hanse-faults: replica {id} ended by itself: {how}");
                self.deaths.push(Death { replica: *id, how, excused: replica.excused });
            }
        }
        Ok(())
    }

    /// Lets every paused replica go on and starts every one that does not run.
    pub(crate) fn revive(&mut self) -> Result<()> {
        self.look()?;
        for id in self.ids() {
            if self.replica(id)?.paused {
                self.pause(id, false)?;
            }
            self.start(id)?;
        }
        Ok(())
    }

    /// Whether every replica runs.
    pub(crate) fn all_run(&mut self) -> Result<bool> {
        self.look()?;
        Ok(self.replicas.values().all(|replica| replica.child.is_some()))
    }

    /// Where the administrator's session is kept for the CLI.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.dir.join("admin.token")
    }

    /// Runs the CLI of the binary in the clients' namespace, as the administrator, and returns what it printed.
    pub(crate) fn cli(&self, net: &Net, args: &[&str]) -> Result<String> {
        let output = Command::new("nsenter")
            .arg(format!("--net={}", net.of_clients()))
            .arg("--")
            .arg(&self.program)
            .args(args)
            .env("HANSE_ENDPOINT", self.endpoints().join(","))
            .env("HANSE_CA", self.api_ca())
            .env("HANSE_TOKEN_FILE", self.token_file())
            .stdin(Stdio::null())
            .output()
            .context("start the CLI")?;
        if !output.status.success() {
            bail!("hanse {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn replica(&mut self, id: u64) -> Result<&mut Replica> {
        self.replicas.get_mut(&id).with_context(|| format!("there is no replica {id}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for replica in self.replicas.values_mut() {
            // A process that hangs in a frozen disk ends only when that is thawed. It fails if nothing is frozen.
            if let Some(disk) = &replica.disk {
                let _ = disk.thaw();
            }
            if let Some(mut child) = replica.child.take() {
                // It may have ended by itself in this moment; then there is nothing left to do.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

fn config(id: u64, count: u64, wishes: Wishes) -> String {
    let data = if wishes.disks { "disk/data" } else { "data" };
    let own = address(id);
    // Small snapshots, so that a run has many of them and replicas that were away are brought up by one.
    let mut text = format!(
        "version = 1\ncluster = \"faults\"\nreplica = {id}\ndata = \"{data}\"\ntls = \"tls\"\n\
         peer_listen = \"{own}:{PEER_PORT}\"\napi_listen = \"{own}:{API_PORT}\"\n"
    );
    for other in 1..=count {
        let place = address(other);
        text.push_str(&format!(
            "[[replicas]]\nid = {other}\npeer = \"{place}:{PEER_PORT}\"\napi = \"{place}:{API_PORT}\"\n"
        ));
    }
    text.push_str(
        "[timing]\nsnapshot_every = 500\nheartbeat_ms = 100\nelection_min_ms = 600\nelection_max_ms = 1200\n",
    );
    text
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(child.id().cast_signed()).context("a process id")?;
    kill_process(pid, signal).context("send a signal to a replica")
}

/// Whether a process is stopped by a signal.
fn is_stopped(pid: u32) -> Result<bool> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("look at a replica")?;
    // The name, in brackets, may hold anything.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    Ok(state == Some('T'))
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

fn last_lines(log: &Path) -> String {
    match std::fs::read_to_string(log) {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
        }
        Err(error) => format!("(its log {} cannot be read: {error})", log.display()),
    }
}
