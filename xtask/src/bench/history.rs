//! What a long history costs a replica: `cargo xtask bench history [--entries N] [--dir DIR] [-o json]`.
//!
//! A release build of raft's example fills a data folder and then, each time as a process of its own, starts a replica on
//! it and pages through: once after the kernel's cache was dropped (if that is allowed, else `cold` is false), once more.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

const USAGE: &str = "usage: cargo xtask bench history [--entries N] [--dir DIR] [-o json]";
/// What the issue asks for.
const ENTRIES: u64 = 5_000_000;

pub(super) fn run(args: &[&str]) -> Result<()> {
    let (mut entries, mut dir, mut json_wanted) = (ENTRIES, std::env::temp_dir(), false);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().copied().context(USAGE);
        match *arg {
            "--entries" => entries = value()?.parse().context("--entries takes a number")?,
            "--dir" => dir = PathBuf::from(value()?),
            "-o" => json_wanted = value()? == "json",
            _ => bail!("{USAGE}"),
        }
    }
    let program = build()?;
    let folder = tempfile::tempdir_in(&dir).with_context(|| format!("make a folder in {}", dir.display()))?;
    let data = folder.path().join("data");
    let data_text = data.to_str().context("the folder's name is text")?;
    let fill = step(&program, &["fill", data_text, &entries.to_string()])?;
    let cold = Command::new("sync").status().is_ok() && std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    let first = step(&program, &["run", data_text])?;
    let second = step(&program, &["run", data_text])?;
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let figures = json!({
        "bench": "history", "cores": cores, "entries": entries, "fill_s": fill["fill_s"], "disk_mb": megabytes(&data)?,
        "cold": cold, "first": first, "second": second,
    });
    println!("{}", if json_wanted { figures.to_string() } else { serde_json::to_string_pretty(&figures)? });
    Ok(())
}

/// Builds the example; gives its path.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--locked", "--package", "hanse-raft", "--example", "history"])
        .arg("--message-format=json")
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo")?;
    if !output.status.success() {
        bail!("the build failed: {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut made = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let example = made.rfind(|message| message["target"]["kind"] == json!(["example"]));
    let path = example.as_ref().and_then(|message| message["executable"].as_str()).context("cargo named no example")?;
    Ok(PathBuf::from(path))
}

/// Runs the example; gives the figures it prints.
fn step(program: &Path, args: &[&str]) -> Result<Value> {
    let output = Command::new(program).args(args).stderr(Stdio::inherit()).output().context("start the example")?;
    if !output.status.success() {
        bail!("{args:?} failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("read what the example printed")
}

/// Gives what a folder takes.
fn megabytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() { folders.push(entry.path()) } else { bytes += metadata.len() }
        }
    }
    Ok(bytes / 1024 / 1024)
}
