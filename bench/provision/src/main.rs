//! Measures provisioning: as many hosts as are asked for get a program, a configuration from a template, a supervised process
//! and a check of its port; by the product, by Ansible and by OpenSSH's own programs, on the same hosts in one run.
//!
//! `cargo xtask bench provision` builds what is needed and runs this. The hosts are real sshd processes on loopback. The
//! product is three replicas with their reconcilers in a process of their own (`ours`): state, journal, planner, reconciler
//! and SSH adapter are the product's; only the ledger's driver is the benchmark's, because no ledger is to be measured.
//!
//! Then a chain of four nodes of the embedded ledger is made on four of the hosts, by the product's own driver and program.
//!
//! What it never does: talk to anything but what it started, on 127.0.0.1, and leave anything running or on disk.

mod ansible;
mod chain;
mod cluster;
mod engine;
mod fleet;
mod openssh;
mod ours;
mod report;
mod story;
mod usage;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use hanse_adapters_ssh::{HostPin, Identity, Login, SshAdapter, SshTarget};

use crate::fleet::{Fleet, Map};
use crate::report::{Large, Report};

#[derive(Debug, Parser)]
#[command(about = "Provisioning of many hosts over SSH, beside Ansible's and OpenSSH's own")]
struct Arguments {
    /// What runs on the hosts: hanse-bench-host.
    #[arg(long)]
    program: PathBuf,
    /// The product's own program, whose nodes are the chain of four; the chain is left out if it is not named.
    #[arg(long)]
    hanse: Option<PathBuf>,
    /// ansible-playbook; left out if it is not named.
    #[arg(long)]
    ansible: Option<PathBuf>,
    /// Folder to work in: its disk is the one that is measured.
    #[arg(long)]
    dir: PathBuf,
    /// How many hosts.
    #[arg(long, default_value_t = 32)]
    hosts: usize,
    /// Rounds of all but Ansible; the figures are their medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Size of the program.
    #[arg(long, default_value_t = 1_000_000)]
    bytes: u64,
    /// Size of the large program; 0 leaves it out.
    #[arg(long, default_value_t = 20_000_000)]
    large_bytes: u64,
    /// Measure the product alone on the hosts of this file (used by this program itself).
    #[arg(long, hide = true)]
    ours: Option<PathBuf>,
    /// With it: the chain of four instead (used by this program itself).
    #[arg(long, hide = true, requires = "ours")]
    chain: bool,
    /// Output.
    #[arg(short, long, default_value = "json", value_parser = ["json"])]
    output: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // One thread for two processors, as the product's own server takes.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads((processors / 2).max(1)).enable_all().build().context("start the runtime")?;
    if let Some(map) = &arguments.ours {
        let map: Map = serde_json::from_slice(&std::fs::read(map)?).context("read the hosts")?;
        let (dir, program) = (&arguments.dir, &arguments.program);
        let printed = if arguments.chain {
            serde_json::to_string(&runtime.block_on(chain::run(dir, &map, program))?)?
        } else {
            serde_json::to_string(&runtime.block_on(ours::run(dir, &map, program))?)?
        };
        println!("{printed}");
        return Ok(());
    }
    let report = run(&arguments, &runtime)?;
    println!("{}", report.json());
    Ok(())
}

fn say(words: std::fmt::Arguments<'_>) {
    eprintln!("bench: {words}");
}

fn run(arguments: &Arguments, runtime: &tokio::runtime::Runtime) -> Result<Report> {
    let folder = tempfile::tempdir_in(arguments.dir.canonicalize().context("find the folder to work in")?)?;
    let dir = folder.path();
    let fleet = Fleet::start(&dir.join("fleet"), arguments.hosts)?;
    let map = &fleet.map;
    let program = padded(&arguments.program, &dir.join("program"), arguments.bytes)?;
    let mut report =
        Report { hosts: arguments.hosts, program_bytes: std::fs::metadata(&program)?.len(), ..Report::default() };
    let files = openssh::Files::make(dir, map, &program)?;
    for round in 0..arguments.rounds {
        report.handshakes_s.push(runtime.block_on(handshakes(map))?);
        fleet.clear()?;
        let figures: ours::Figures = measure_ours(dir, map, &program)?;
        fleet.clear()?;
        let openssh = openssh::run(dir, map, &files)?;
        fleet.clear()?;
        say(format_args!(
            "round {round}: {figures:?}, openssh {openssh:?}, handshakes {:?}",
            report.handshakes_s.last()
        ));
        report.ours.push(figures);
        report.openssh.push(openssh);
    }
    if let Some(ansible) = &arguments.ansible {
        let defaults = ansible::Ansible::prepare(ansible, &dir.join("ansible"), map, &program, false)?;
        report.ansible_cold = Some(defaults.play("Ansible")?);
        report.ansible_warm = Some(defaults.play("Ansible again")?);
        fleet.clear()?;
        let tuned = ansible::Ansible::prepare(ansible, &dir.join("tuned"), map, &program, true)?;
        report.ansible_tuned = Some(tuned.play("Ansible tuned")?);
        fleet.clear()?;
        say(format_args!("ansible {:?}, tuned {:?}", report.ansible_cold, report.ansible_tuned));
    }
    if arguments.large_bytes > 0 {
        let large = padded(&arguments.program, &dir.join("large"), arguments.large_bytes)?;
        let line_s = openssh::line(dir, map, &large)?;
        let ours = measure_ours(dir, map, &large)?;
        fleet.clear()?;
        report.large = Some(Large { bytes: std::fs::metadata(&large)?.len(), ours, line_s });
        say(format_args!("large: {:?}", report.large));
    }
    if let Some(hanse) = &arguments.hanse {
        if map.hosts.len() < chain::NODES {
            bail!("a chain of {} nodes needs as many hosts: give --hosts {} or more", chain::NODES, chain::NODES);
        }
        // Processes start it from folders of their own.
        let hanse = hanse.canonicalize().context("find the product's program")?;
        for _ in 0..arguments.rounds {
            let figures: chain::Figures = measure(dir, map, &hanse, &["--chain"])?;
            say(format_args!("chain: {figures:?}"));
            report.chain.push(figures);
            fleet.clear()?;
        }
    }
    Ok(report)
}

/// A program of exactly so many bytes: what follows the program in its file is not read by who starts it. One that is
/// larger already stays as it is.
fn padded(program: &Path, to: &Path, bytes: u64) -> Result<PathBuf> {
    std::fs::copy(program, to).with_context(|| format!("copy {}", program.display()))?;
    let mut file = std::fs::OpenOptions::new().append(true).open(to)?;
    let missing = bytes.saturating_sub(file.metadata()?.len());
    // Not compressible, as a program hardly is, and alike in every run.
    let mut word: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut padding = Vec::new();
    while (padding.len() as u64) < missing {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        padding.extend_from_slice(&word.to_le_bytes());
    }
    padding.truncate(usize::try_from(missing)?);
    file.write_all(&padding)?;
    Ok(to.to_path_buf())
}

/// The product in a process of its own, so that its processor time and memory are its alone.
fn measure_ours(dir: &Path, map: &Map, program: &Path) -> Result<ours::Figures> {
    measure(dir, map, program, &[])
}

fn measure<T: serde::de::DeserializeOwned>(dir: &Path, map: &Map, program: &Path, more: &[&str]) -> Result<T> {
    let home = tempfile::tempdir_in(dir)?;
    let hosts = home.path().join("hosts.json");
    std::fs::write(&hosts, serde_json::to_vec(map)?)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("--ours")
        .arg(&hosts)
        .arg("--program")
        .arg(program)
        .arg("--dir")
        .arg(home.path())
        .args(more)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("start the product")?;
    if !output.status.success() {
        bail!("the product failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("read the product's figures")
}

/// Connections to all hosts at once, with key exchange and login, and nothing more. Returns seconds.
async fn handshakes(map: &Map) -> Result<f64> {
    let mut adapters = Vec::new();
    for host in &map.hosts {
        let target = SshTarget {
            address: "127.0.0.1".into(),
            port: host.ssh_port,
            user: map.user.clone(),
            jumps: Vec::new(),
            pin: HostPin::Key(host.fingerprint.clone()),
            root: Some(host.root.display().to_string()),
            login: Login::Key(Identity::File(map.identity.clone())),
            sudo: false,
        };
        adapters.push(SshAdapter::new(target)?);
    }
    let begin = Instant::now();
    for outcome in futures::future::join_all(adapters.iter().map(SshAdapter::connect)).await {
        outcome?;
    }
    Ok(begin.elapsed().as_secs_f64())
}
