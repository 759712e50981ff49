//! The same work by OpenSSH's own programs, all hosts at once, each over one kept connection (ControlPersist).
//!
//! For each host: make the folder, copy program and configuration, compare the program's hash, start it, ask its port.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::fleet::{HostAt, Map};
use crate::{engine, usage};

/// How often a port is asked on the host before it is given up, every 10 ms.
const ASKED_MAX: u32 = 1_000;

/// What lies ready to be copied.
pub(crate) struct Files {
    pub(crate) program: PathBuf,
    pub(crate) sha256: String,
    /// A folder with a configuration for each host, by its name.
    pub(crate) configs: PathBuf,
}

impl Files {
    /// Fills in every host's configuration.
    pub(crate) fn make(dir: &Path, map: &Map, program: &Path) -> Result<Self> {
        let configs = dir.join("configs");
        std::fs::create_dir_all(&configs)?;
        for host in &map.hosts {
            let text = engine::config(&host.name, "127.0.0.1", host.service_port + 1);
            std::fs::write(configs.join(&host.name), text)?;
        }
        let sha256 = hanse_hostrun::file_sha256(program).context("hash the program")?;
        Ok(Self { program: program.to_path_buf(), sha256, configs })
    }
}

/// Options that every call takes.
fn options(map: &Map, dir: &Path) -> Vec<String> {
    let control = dir.join("control-%p");
    [
        format!("IdentityFile={}", map.identity.display()),
        format!("UserKnownHostsFile={}", map.known_hosts.display()),
        "IdentitiesOnly=yes".into(),
        "StrictHostKeyChecking=yes".into(),
        "BatchMode=yes".into(),
        "ControlMaster=auto".into(),
        "ControlPersist=60".into(),
        format!("ControlPath={}", control.display()),
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option])
    .collect()
}

fn call(program: &str, options: &[String], port_flag: &str, host: &HostAt, rest: &[String]) -> Result<()> {
    let output = Command::new(program)
        .args(options)
        .args(["-q", port_flag, &host.ssh_port.to_string()])
        .args(rest)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program} for {}: {}", host.name, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Runs `work` for every host at once.
fn everywhere(map: &Map, work: impl Fn(&HostAt) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = map.hosts.iter().map(|host| scope.spawn(|| work(host))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

fn target(map: &Map) -> String {
    format!("{}@127.0.0.1", map.user)
}

/// Provisions everything; returns seconds and processor time.
pub(crate) fn run(dir: &Path, map: &Map, files: &Files) -> Result<(f64, f64)> {
    let (options, cpu, begin) = (options(map, dir), usage::children_cpu(), Instant::now());
    everywhere(map, |host| {
        let ssh = |script: String| call("ssh", &options, "-p", host, &[target(map), script]);
        let (root, port) = (host.root.display(), host.service_port + 1);
        ssh(format!("mkdir -p {root}"))?;
        let copied = [
            files.program.display().to_string(),
            files.configs.join(&host.name).display().to_string(),
            format!("{}:{root}/", target(map)),
        ];
        call("scp", &options, "-P", host, &copied)?;
        let program = files.program.file_name().context("a file's name")?.to_string_lossy().into_owned();
        ssh(format!(
            "cd {root} && echo '{}  {program}' | sha256sum -c --quiet && chmod 755 {program} && mv {} node.conf && \
             {{ setsid ./{program} listen {port} > log 2>&1 < /dev/null & echo $! > pid; }}",
            files.sha256, host.name
        ))?;
        ssh(format!(
            "for i in $(seq {ASKED_MAX}); do (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && exit 0; sleep 0.01; done; exit 1"
        ))
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    close(dir, map)?;
    Ok((seconds, usage::children_cpu() - cpu))
}

/// What the line itself takes: the bytes of `file` to every host at once over connections that are there already, thrown
/// away on arrival. Returns seconds.
pub(crate) fn line(dir: &Path, map: &Map, file: &Path) -> Result<f64> {
    let options = options(map, dir);
    everywhere(map, |host| call("ssh", &options, "-p", host, &[target(map), "true".into()]))?;
    let begin = Instant::now();
    everywhere(map, |host| {
        let status = Command::new("ssh")
            .args(&options)
            .args(["-q", "-p", &host.ssh_port.to_string(), &target(map), "cat > /dev/null"])
            .stdin(std::fs::File::open(file)?)
            .status()
            .context("start ssh")?;
        if status.success() { Ok(()) } else { bail!("ssh for {}: {status}", host.name) }
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    close(dir, map)?;
    Ok(seconds)
}

/// Ends the kept connections.
fn close(dir: &Path, map: &Map) -> Result<()> {
    let options = options(map, dir);
    everywhere(map, |host| call("ssh", &options, "-p", host, &["-O".into(), "exit".into(), target(map)]))
}
