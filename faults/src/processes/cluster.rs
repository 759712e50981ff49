//! The replicas: real `hanse server` processes, each in its own namespace and, if asked for, on its own disk and clock.
//!
//! Certificates and configurations are made as docs/operations.md tells, with the binary itself (`home`). A replica lives at
//! a place, which is a namespace with an address; the first replicas' places have their ids' numbers, and a later replica may
//! move into the place of one that is gone, as on a machine that is used again. Every process dies with the harness, however
//! that ends. A replica that ends without having been killed is remembered as a [`Death`], unless it is to leave the cluster
//! and says so with its exit code.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::disk::Disk;
use super::home::{self, api, folder};
use super::net::Net;

/// How long a replica may take to end when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a replica's log that are shown when it ended by itself.
const LAST_LINES: usize = 12;
/// Where Debian puts the library that gives a process another clock.
const FAKETIME: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];

/// Exit code of a replica that was taken out of the cluster.
const REMOVED: i32 = 79;

/// What the replicas are given besides their place in the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    /// A disk of its own for each.
    pub(crate) disks: bool,
    /// A clock of its own for each.
    pub(crate) clocks: bool,
    /// Entries between two snapshots.
    pub(crate) snapshot_every: u64,
    /// Numbers of their own, to be asked for.
    pub(crate) metrics: bool,
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
    /// Number of its namespace and address.
    place: u64,
    /// What it runs.
    program: PathBuf,
    child: Option<Child>,
    disk: Option<Disk>,
    clock: Option<PathBuf>,
    paused: bool,
    /// Its disk fails, or has just failed: then it may end, and is started again.
    excused: bool,
    /// It was ordered out of the cluster: it may end with [`REMOVED`], and is then not started again.
    leaves: bool,
    /// It has ended with [`REMOVED`].
    has_left: bool,
}

/// The replicas of a run; killed when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    program: PathBuf,
    dir: PathBuf,
    wishes: Wishes,
    replicas: BTreeMap<u64, Replica>,
    /// Namespaces by place.
    spaces: BTreeMap<u64, String>,
    /// Homes of replicas that are no more.
    left: Vec<PathBuf>,
    /// Replicas that ended by themselves.
    pub(crate) deaths: Vec<Death>,
}

impl Cluster {
    /// Makes everything of `count` first replicas below `dir` and starts nothing yet.
    pub(crate) fn make(program: &Path, dir: &Path, net: &Net, count: u64, wishes: Wishes) -> Result<Self> {
        home::authorities(program, dir)?;
        let mut cluster = Self {
            program: program.to_path_buf(),
            dir: dir.to_path_buf(),
            wishes,
            replicas: BTreeMap::new(),
            spaces: net.places().iter().map(|place| (*place, net.of_replica(*place))).collect(),
            left: Vec::new(),
            deaths: Vec::new(),
        };
        let first: BTreeMap<u64, u64> = (1..=count).map(|id| (id, id)).collect();
        for id in 1..=count {
            cluster.furnish(id, id, &first, false)?;
        }
        Ok(cluster)
    }

    /// Makes the home of a replica that joins at `place`, and starts nothing yet.
    pub(crate) fn join(&mut self, id: u64, place: u64) -> Result<()> {
        let mut members: BTreeMap<u64, u64> = self.replicas.iter().map(|(id, replica)| (*id, replica.place)).collect();
        // The configuration of one that joins names those that stay.
        members.retain(|id, _| !self.replicas.get(id).is_some_and(|replica| replica.leaves));
        members.insert(id, place);
        self.furnish(id, place, &members, true)
    }

    fn furnish(&mut self, id: u64, place: u64, members: &BTreeMap<u64, u64>, joins: bool) -> Result<()> {
        let wishes = self.wishes;
        let home = home::make(&self.program, &self.dir, id, place)?;
        let disk = wishes.disks.then(|| Disk::make(&self.dir.join(format!("n{id}.img")), &home.join("disk")));
        std::fs::write(home.join("hanse.toml"), home::config(id, members, joins, wishes))
            .context("write a configuration")?;
        let clock = wishes.clocks.then(|| home.join("clock"));
        let replica = Replica {
            home,
            place,
            program: self.program.clone(),
            child: None,
            disk: disk.transpose()?,
            clock,
            paused: false,
            excused: false,
            leaves: false,
            has_left: false,
        };
        self.replicas.insert(id, replica);
        self.set_clock(id, 0)
    }

    /// From now on this replica may end because it was taken out.
    pub(crate) fn leave(&mut self, id: u64) -> Result<()> {
        self.replica(id)?.leaves = true;
        Ok(())
    }

    /// Whether a replica has ended because it was taken out.
    pub(crate) fn has_left(&mut self, id: u64) -> Result<bool> {
        self.look()?;
        Ok(self.replica(id)?.has_left)
    }

    /// Forgets a replica, killing it if it still runs. Its folder stays, its place is free.
    pub(crate) fn retire(&mut self, id: u64) -> Result<()> {
        self.kill(id)?;
        let replica = self.replicas.remove(&id).with_context(|| format!("there is no replica {id}"))?;
        self.left.push(replica.home);
        Ok(())
    }

    /// A place that no replica has.
    pub(crate) fn free_places(&self) -> Vec<u64> {
        let taken = |place: &u64| self.replicas.values().any(|replica| replica.place == *place);
        self.spaces.keys().copied().filter(|place| !taken(place)).collect()
    }

    /// Where a replica is.
    pub(crate) fn place(&self, id: u64) -> Result<u64> {
        self.replicas.get(&id).map(|replica| replica.place).with_context(|| format!("there is no replica {id}"))
    }

    /// What a replica runs from its next start on.
    pub(crate) fn set_program(&mut self, id: u64, program: &Path) -> Result<()> {
        self.replica(id)?.program = program.to_path_buf();
        Ok(())
    }

    /// Homes of all replicas there ever were.
    pub(crate) fn homes(&self) -> Vec<PathBuf> {
        let homes = self.replicas.values().map(|replica| replica.home.clone());
        homes.chain(self.left.iter().cloned()).collect()
    }

    /// Data folder of a replica.
    pub(crate) fn data(&self, id: u64) -> Result<PathBuf> {
        let replica = self.replicas.get(&id).with_context(|| format!("there is no replica {id}"))?;
        Ok(replica.home.join(folder(self.wishes)))
    }

    /// Home of a replica.
    pub(crate) fn home(&self, id: u64) -> Result<PathBuf> {
        let replica = self.replicas.get(&id).with_context(|| format!("there is no replica {id}"))?;
        Ok(replica.home.clone())
    }

    /// What a replica has written to its standard error.
    pub(crate) fn words(&self, id: u64) -> Result<String> {
        let replica = self.replicas.get(&id).with_context(|| format!("there is no replica {id}"))?;
        std::fs::read_to_string(replica.home.join("replica.log")).context("read a replica's log")
    }

    /// The folder of the whole run.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The binary that the CLI is.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Ids of all replicas.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.replicas.keys().copied().collect()
    }

    /// API addresses of all places, whoever is there.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.spaces.keys().map(|place| api(*place)).collect()
    }

    /// Peer and API address of a place.
    pub(crate) fn addresses(&self, place: u64) -> (String, String) {
        (home::peer(place), api(place))
    }

    /// Where a replica tells its numbers, if it was wished.
    pub(crate) fn metrics(&self, id: u64) -> Result<String> {
        Ok(home::metrics(self.place(id)?))
    }

    /// API address of a replica.
    pub(crate) fn endpoint(&self, id: u64) -> Result<String> {
        Ok(api(self.place(id)?))
    }

    /// The API authority that clients trust.
    pub(crate) fn api_ca(&self) -> PathBuf {
        self.dir.join("ca/api-ca.pem")
    }

    /// The setup code, once a replica has written it.
    pub(crate) fn setup_code(&self) -> Option<String> {
        let folder = folder(self.wishes);
        let mut files = self.replicas.values().map(|replica| replica.home.join(folder).join("setup-code"));
        files.find_map(|file| std::fs::read_to_string(file).ok()).map(|code| code.trim().to_string())
    }

    /// Starts a replica if it does not run.
    pub(crate) fn start(&mut self, id: u64) -> Result<()> {
        let space = self.spaces.get(&self.place(id)?).context("a place of this cluster")?.clone();
        let replica = self.replica(id)?;
        if replica.child.is_some() || replica.has_left {
            return Ok(());
        }
        let append = |name: &str| File::options().create(true).append(true).open(replica.home.join(name));
        let log = append("replica.log").context("open a replica's log")?;
        // Apart: what is printed for the person at the terminal (the setup code) must not be in the log.
        let out = append("replica.out").context("open a replica's output")?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={space}")).arg("--").arg(&replica.program);
        command.args(["server", "--die-with-parent", "--config"]).arg(replica.home.join("hanse.toml"));
        if let Some(clock) = &replica.clock {
            let library = FAKETIME.iter().find(|path| Path::new(path).exists());
            command.env("LD_PRELOAD", library.context("libfaketime is missing (`cargo xtask parts`)")?);
            command.env("FAKETIME_TIMESTAMP_FILE", clock).env("FAKETIME_CACHE_DURATION", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        let child = command.stdin(Stdio::null()).stdout(out).stderr(log).spawn();
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

    /// Waits until a replica ends by itself, which is no death here; gives its exit code, `None` if it does not.
    pub(crate) fn ended(&mut self, id: u64, limit: Duration) -> Result<Option<i32>> {
        let end = Instant::now() + limit;
        let replica = self.replica(id)?;
        while let Some(child) = &mut replica.child {
            if let Some(status) = child.try_wait().context("look at a replica")? {
                replica.child = None;
                return Ok(status.code());
            }
            if Instant::now() > end {
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(None)
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
                if replica.leaves && status.code() == Some(REMOVED) {
                    replica.has_left = true;
                    continue;
                }
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
        Ok(self.replicas.values().all(|replica| replica.child.is_some() || replica.has_left))
    }

    /// Where the administrator's session is kept for the CLI.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.dir.join("admin.token")
    }

    /// Runs the CLI of the binary in the clients' namespace, as the administrator, and returns what it printed.
    pub(crate) fn cli(&self, net: &Net, args: &[&str]) -> Result<String> {
        self.cli_as(net, &self.token_file(), args)
    }

    /// The same in another session, which the file holds.
    pub(crate) fn cli_as(&self, net: &Net, session: &Path, args: &[&str]) -> Result<String> {
        let output = Command::new("nsenter")
            .arg(format!("--net={}", net.of_clients()))
            .arg("--")
            .arg(&self.program)
            .args(args)
            .env("HANSE_ENDPOINT", self.endpoints().join(","))
            .env("HANSE_CA", self.api_ca())
            .env("HANSE_TOKEN_FILE", session)
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

fn last_lines(log: &Path) -> String {
    match std::fs::read_to_string(log) {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
        }
        Err(error) => format!("(its log {} cannot be read: {error})", log.display()),
    }
}
