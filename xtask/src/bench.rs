//! Figures that issues ask for, measured and printed with their conditions.

mod history;

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

pub(crate) fn run(args: &[&str]) -> Result<()> {
    match args {
        ["build"] => build(),
        ["history", rest @ ..] => history::run(rest),
        ["core", rest @ ..] => core(rest),
        ["ledger", rest @ ..] => ledger(rest),
        ["provision", rest @ ..] => provision(rest),
        _ => bail!(
            "usage: cargo xtask bench build|history|core|ledger|provision [--rounds N] [--seconds N] [--kills N] [--no-etcd] \
             [--receipts N] [--no-injectived] [--hosts N] [--bytes N] [--large-bytes N] [--no-ansible] [--no-chain] [-o json]"
        ),
    }
}

/// A release build of the product from nothing, in a target folder of its own.
fn build() -> Result<()> {
    let target = tempfile::tempdir().context("make a target folder")?;
    let start = Instant::now();
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked", "--package", "hanse", "--target-dir"])
        .arg(target.path())
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("release build failed: {status}");
    }
    let seconds = start.elapsed().as_secs();
    let size = std::fs::metadata(target.path().join("release/hanse")).context("look at the binary")?.len();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("{}", serde_json::json!({"bench": "build", "cores": cores, "seconds": seconds, "binary_bytes": size}));
    Ok(())
}

/// Speed, memory and disk of the embedded ledger, beside injectived's. Ours is built as it is handed out.
fn ledger(args: &[&str]) -> Result<()> {
    let packages = ["--package", "hanse-node", "--package", "hanse-bench-ledger"];
    let status = Command::new("cargo")
        .args(["build", "--profile", "dist", "--locked"])
        .args(packages)
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("build of {packages:?} failed: {status}");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), std::path::PathBuf::from);
    let built = target.join("dist");
    let mut bench = Command::new(built.join("hanse-bench-ledger"));
    // On the disk of the target folder: a folder for temporary files may be memory.
    bench.arg("--node").arg(built.join("hanse-node")).arg("--dir").arg(&target);
    bench.args(args.iter().filter(|argument| **argument != "--no-injectived"));
    if !args.contains(&"--no-injectived") {
        bench.arg("--injectived").arg(crate::parts::injectived()?);
    }
    let status = bench.status().context("start the benchmark")?;
    if !status.success() {
        bail!("bench ledger failed: {status}");
    }
    Ok(())
}

/// Speed of the replicated core through the public API, beside etcd's. Both programs are built as they are handed out.
fn core(args: &[&str]) -> Result<()> {
    let built = crate::dist::build()?;
    if !args.contains(&"--no-etcd") {
        crate::parts::etcd()?;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), std::path::PathBuf::from);
    // On the disk of the target folder: a folder for temporary files may be memory.
    let status = Command::new(built.join("hanse-bench"))
        .arg("--hanse")
        .arg(built.join("hanse"))
        .arg("--dir")
        .arg(&target)
        .args(args)
        .status()
        .context("start the benchmark")?;
    if !status.success() {
        bail!("bench core failed: {status}");
    }
    Ok(())
}

/// Speed and cost of provisioning over SSH, beside Ansible's and OpenSSH's own. A release build: what the product spends
/// there is not what the last tenth of an optimiser changes.
fn provision(args: &[&str]) -> Result<()> {
    let has_chain = !args.contains(&"--no-chain");
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--locked", "--package", "hanse-bench-provision"]);
    if has_chain {
        build.args(["--package", "hanse"]);
    }
    let status = build.status().context("start cargo")?;
    if !status.success() {
        bail!("build of the benchmark failed: {status}");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), std::path::PathBuf::from);
    let built = target.join("release");
    // Of the size that it is said to have: names of functions are a third of it.
    let program = built.join("hanse-bench-host.stripped");
    let mut strip = Command::new("strip");
    strip.arg("-s").arg("-o").arg(&program).arg(built.join("hanse-bench-host"));
    if !strip.status().context("start strip, of the binutils that the linker is of")?.success() {
        bail!("strip could not write {}", program.display());
    }
    let mut bench = Command::new(built.join("hanse-bench-provision"));
    // On the disk of the target folder: a folder for temporary files may be memory.
    bench.arg("--program").arg(&program).arg("--dir").arg(&target);
    bench.args(args.iter().filter(|argument| !["--no-ansible", "--no-chain"].contains(*argument)));
    if has_chain {
        bench.arg("--hanse").arg(built.join("hanse"));
    }
    if !args.contains(&"--no-ansible") {
        bench.arg("--ansible").arg(crate::parts::ansible()?);
    }
    let status = bench.status().context("start the benchmark")?;
    if !status.success() {
        bail!("bench provision failed: {status}");
    }
    Ok(())
}
