//! Holds what review would otherwise have to remember: which crate may depend on which, how long files may grow, and
//! what must never be committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Longest source file in lines; a longer one needs a reason in [`LONG_FILES`].
const LINES_MAX: usize = 500;

/// Files allowed to be longer, each with its reason.
const LONG_FILES: &[(&str, usize, &str)] =
    &[("tui/src/i18n/texts.rs", 800, "one table: a text in both languages a line, nothing to read from the top")];

/// For each crate the crates of ours it may depend on (tests' dependencies apart). One direction, as in HOUSE.md.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("hanse-adapters-core", &[]),
    ("hanse-hostrun", &["hanse-adapters-core"]),
    // The program for hosts, and what carries it; the latter's build script calls cargo for the former.
    ("hanse-host", &["hanse-hostrun"]),
    ("hanse-carried", &[]),
    ("hanse-adapters-docker", &["hanse-adapters-core", "hanse-hostrun"]),
    ("hanse-adapters-ec2", &["hanse-adapters-core"]),
    ("hanse-adapters-libvirt", &["hanse-adapters-core", "hanse-adapters-ssh"]),
    ("hanse-adapters-local", &["hanse-adapters-core", "hanse-hostrun"]),
    ("hanse-adapters-ssh", &["hanse-adapters-core", "hanse-carried", "hanse-hostrun"]),
    ("hanse-engines-core", &["hanse-adapters-core"]),
    ("hanse-engines-evm", &["hanse-adapters-core", "hanse-engines-core"]),
    ("hanse-engines-embedded", &["hanse-adapters-core", "hanse-engines-core", "hanse-engines-evm"]),
    ("hanse-engines-cometbft", &["hanse-adapters-core", "hanse-engines-core", "hanse-engines-evm"]),
    // The node verifies checkpoints of the audit trail.
    ("hanse-node", &["hanse-trail"]),
    ("hanse-cork", &[]),
    ("hanse-proto", &[]),
    ("hanse-client", &["hanse-cork", "hanse-proto"]),
    ("hanse-tui", &["hanse-client", "hanse-proto"]),
    ("hanse-bench", &["hanse-client", "hanse-cork", "hanse-proto"]),
    ("hanse-bench-ledger", &[]),
    // The product without its binary, as that wires it; nothing depends on it.
    (
        "hanse-bench-provision",
        &[
            "hanse-adapters-core",
            "hanse-adapters-local",
            "hanse-adapters-ssh",
            "hanse-engines-core",
            "hanse-engines-embedded",
            "hanse-hostrun",
            "hanse-raft",
            "hanse-server",
            "hanse-state",
        ],
    ),
    ("hanse-state", &[]),
    ("hanse-backup", &["hanse-state"]),
    // What a witness needs, who has neither state nor log.
    ("hanse-trail", &[]),
    ("hanse-planner", &["hanse-state"]),
    ("hanse-raft", &["hanse-state"]),
    // Stands in for a crate of openraft's; nothing of ours names it.
    ("base2histogram", &[]),
    (
        "hanse-server",
        &[
            "hanse-adapters-core",
            "hanse-backup",
            "hanse-cork",
            "hanse-engines-core",
            "hanse-planner",
            "hanse-proto",
            "hanse-raft",
            "hanse-state",
            "hanse-trail",
        ],
    ),
    ("hanse-fixtures", &[]),
    // A tool of developers; nothing depends on it.
    ("hanse-faults", &["hanse-client", "hanse-proto", "hanse-raft", "hanse-state"]),
    // The same; no part of it is in the product.
    (
        "hanse-sim",
        &["hanse-adapters-core", "hanse-engines-core", "hanse-planner", "hanse-raft", "hanse-server", "hanse-state"],
    ),
    ("xtask", &[]),
];

/// Crates from outside that only the named crates may use.
const OWNED: &[(&str, &[&str])] = &[
    // The harnesses drive store and consensus through openraft's own traits, as openraft does.
    ("openraft", &["hanse-raft", "hanse-faults", "hanse-sim"]),
    ("turmoil", &["hanse-sim"]),
    ("sled", &["hanse-raft"]),
    ("bollard", &["hanse-adapters-docker"]),
    ("quick-xml", &["hanse-adapters-ec2", "hanse-adapters-libvirt"]),
    ("russh", &["hanse-adapters-ssh"]),
    ("ratatui", &["hanse-tui"]),
    ("revm", &["hanse-node"]),
    ("redb", &["hanse-node"]),
];

pub(crate) fn run() -> Result<()> {
    eprintln!("xtask: tidy");
    let mut faults = dependency_faults()?;
    for file in tracked_files()? {
        faults.extend(file_faults(&file)?);
    }
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        eprintln!("  {fault}");
    }
    bail!("tidy found {} fault(s)", faults.len())
}

fn dependency_faults() -> Result<Vec<String>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .context("start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        DEPENDENCIES.iter().map(|(name, deps)| (*name, deps.iter().copied().collect())).collect();
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let name = package["name"].as_str().context("package name")?;
        for dependency in package["dependencies"].as_array().context("dependencies")? {
            let on = dependency["name"].as_str().context("dependency name")?;
            let for_tests = dependency["kind"].as_str() == Some("dev");
            if for_tests {
                continue;
            }
            if on.starts_with("hanse-") && name != "hanse" && !allowed.get(name).is_some_and(|set| set.contains(on)) {
                faults.push(format!("{name} must not depend on {on} (table in xtask/src/tidy.rs, HOUSE.md)"));
            }
            if let Some((_, owners)) = OWNED.iter().find(|(owned, _)| *owned == on)
                && !owners.contains(&name)
            {
                faults.push(format!("{name} must not name {on}; only {owners:?} may"));
            }
        }
        if name != "hanse" && !allowed.contains_key(name) {
            faults.push(format!("{name} has no row in the dependency table"));
        }
    }
    Ok(faults)
}

fn tracked_files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git").args(["ls-files", "-z"]).output().context("start git ls-files")?;
    let list = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    Ok(list.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).filter(|path| path.exists()).collect())
}

fn file_faults(path: &Path) -> Result<Vec<String>> {
    let is_rust = path.extension().is_some_and(|e| e == "rs");
    let is_text =
        is_rust || path.extension().is_some_and(|e| matches!(e.to_str(), Some("md" | "toml" | "sh" | "proto")));
    if !is_text {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let name = path.to_string_lossy();
    let mut faults = Vec::new();
    let lines = text.lines().count();
    let limit = LONG_FILES.iter().find(|(file, ..)| *file == name).map_or(LINES_MAX, |(_, limit, _)| *limit);
    if is_rust && lines > limit {
        faults.push(format!("{name}: {lines} lines, at most {limit}: split it or give a reason in xtask/src/tidy.rs"));
    }
    if name != "xtask/src/tidy.rs" {
        for word in ["/work/", "/root/", "todo!(", "unimplemented!(", "#[ignore"] {
            if text.contains(word) {
                faults.push(format!("{name}: holds `{word}`"));
            }
        }
    }
    if is_rust
        && (name.ends_with("lib.rs") || name.ends_with("mod.rs") || name.ends_with("main.rs"))
        && !text.starts_with("//!")
    {
        faults.push(format!("{name}: begin with //!: what it is, how it works, what it never does"));
    }
    Ok(faults)
}
