//! The repository's own chores: `cargo xtask ci|tidy|bench`.
//!
//! Each chore prints what it runs, changes no file of the repository, and fails with the first thing that is wrong.

mod bench;
mod dist;
mod mutants;
mod parts;
mod previous;
mod tidy;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

const HELP: &str = "cargo xtask <chore>
  ci            everything a commit must pass: parts, fmt, tidy, clippy, doc, tests
  parts         the real parts that tests run against: installs sshd, cast, anvil, ethers, viem, web3.py and
                injectived, builds the version before this one
  fast          the same without the tests
  tidy          dependency table of ARCHITECTURE.md, file sizes, words that must not be committed
  deny          licences, sources and banned crates (installs cargo-deny if it is missing)
  sim            replicas in a simulated world under seeded faults; --seed S replays one (see docs/sim.md)
  faults KIND   faults on purpose: power-cut, damage, processes, membership, rejoin, upgrade ... (needs root;
                see docs/faults.md)
  faults provisioning  the crash sweep: each point of each step of a chain's life, each fault of the leader, simulated
                (needs nothing; see docs/faults.md)
  mutants NAME  mistakes on purpose, each of which a test must notice (all, or the named; see docs/mutants.md)
  dist          the program as it is handed out, laid out by what a replica runs (installs valgrind); prints its path
  bench build   time of a first release build on this machine
  bench history what a long history costs a replica: disk, memory, start, paging
  bench provision  32 SSH hosts get a program, a configuration, a process and a check, beside Ansible and OpenSSH
  bench core    writes, reads, fail-over and memory of the replicated core, beside etcd's (installs etcd-server)
";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci"] => {
            let parts = parts::install()?;
            let previous = previous::build()?;
            fast()?;
            let mut tests = cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]);
            tests.env("HANSE_CAST", parts.cast).env("HANSE_PARTS", parts.folder).env("HANSE_PREVIOUS", previous);
            step("nextest", tests)
        }
        ["fast"] => fast(),
        ["parts"] => {
            let parts = parts::install()?;
            println!("HANSE_CAST={}", parts.cast.display());
            println!("HANSE_PARTS={}", parts.folder.display());
            println!("HANSE_PREVIOUS={}", previous::build()?.display());
            Ok(())
        }
        ["tidy"] => tidy::run(),
        ["deny"] => deny(),
        ["dist"] => dist::build().map(|built| println!("{}", built.join("hanse").display())),
        ["link", ..] => dist::link(args.get(1..).unwrap_or_default()),
        ["faults", rest @ ..] => faults(rest),
        ["mutants", names @ ..] => mutants::run(names),
        ["sim", rest @ ..] => sim(rest),
        ["bench", rest @ ..] => bench::run(rest),
        _ => bail!("unknown chore\n{HELP}"),
    }
}

fn fast() -> Result<()> {
    step("fmt", cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    mutants::check()?;
    step("clippy", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    step("doc", doc)
}

fn deny() -> Result<()> {
    let present = Command::new("cargo").args(["deny", "--version"]).output().is_ok_and(|o| o.status.success());
    if !present {
        step("install cargo-deny", cargo(&["install", "--locked", "cargo-deny"]))?;
    }
    step("deny", cargo(&["deny", "check", "bans", "licenses", "sources"]))
}

/// Builds the simulation and hands it the rest; its trace and figures are on stdout.
fn sim(args: &[&str]) -> Result<()> {
    let mut sim = cargo(&["run", "--quiet", "--package", "hanse-sim", "--"]);
    sim.args(args);
    step("sim", sim)
}

/// Builds the harness and hands it the rest; what it prints on stdout is its own.
fn faults(args: &[&str]) -> Result<()> {
    if args.first() == Some(&"provisioning") {
        // Simulated, and hundreds of runs: it is the optimiser that makes minutes of them.
        let mut sweep = cargo(&["run", "--release", "--quiet", "--package", "hanse-sim", "--"]);
        sweep.args(args);
        return step("faults", sweep);
    }
    let mut harness = cargo(&["run", "--quiet", "--package", "hanse-faults", "--"]);
    harness.args(args);
    if args.first() == Some(&"upgrade") && std::env::var_os("HANSE_PREVIOUS").is_none() {
        harness.env("HANSE_PREVIOUS", previous::build()?);
    }
    step("faults", harness)
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

fn step(name: &str, mut command: Command) -> Result<()> {
    eprintln!("xtask: {name}");
    let status = command.status().with_context(|| format!("{name}: cannot start {command:?}"))?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}
