//! Mutants: the product with one mistake on purpose, which the harness must notice.
//!
//! Each is a patch in `faults/mutants`, headed by what it breaks and the command that must fail because of it. The
//! sources are copied to `target/mutants/tree` and only the copy is patched; it is built into a target folder of its own,
//! so that no mutant can ever be taken for the product. A mutant is killed when its command builds, runs, and ends with
//! the code that says "a test failed" or "an invariant did not hold" - not when it fails to build or to start. A patch
//! that names a crate from outside (`Vendor:`) changes a copy of it, `vendor/NAME` beside the copied sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Where the patches are.
const FOLDER: &str = "faults/mutants";

struct Mutant {
    name: String,
    patch: PathBuf,
    what: String,
    kill: Vec<String>,
    /// A crate from outside that the patch changes, as `vendor/NAME` of the copy.
    vendor: Option<String>,
}

/// Runs every mutant, or the named one; fails if one survives.
pub(crate) fn run(names: &[&str]) -> Result<()> {
    let all = mutants()?;
    let chosen: Vec<&Mutant> =
        all.iter().filter(|mutant| names.is_empty() || names.contains(&mutant.name.as_str())).collect();
    if chosen.is_empty() || (!names.is_empty() && chosen.len() != names.len()) {
        bail!("known mutants: {}", all.iter().map(|mutant| mutant.name.as_str()).collect::<Vec<_>>().join(", "));
    }
    let mut alive = Vec::new();
    for mutant in chosen {
        eprintln!("xtask: mutant {}: {}", mutant.name, mutant.what);
        let killed = is_killed(mutant)?;
        println!("{:<20} {}", mutant.name, if killed { "killed" } else { "SURVIVED" });
        if !killed {
            alive.push(mutant.name.as_str());
        }
    }
    if !alive.is_empty() {
        bail!("survived: {}", alive.join(", "));
    }
    Ok(())
}

/// Checks that every patch of the sources still applies to them; those of crates from outside are left out.
pub(crate) fn check() -> Result<()> {
    eprintln!("xtask: mutants apply");
    let mut stale = Vec::new();
    for mutant in mutants()?.into_iter().filter(|mutant| mutant.vendor.is_none()) {
        let status = Command::new("patch")
            .args(["-p1", "--quiet", "--dry-run", "--force", "--input"])
            .arg(&mutant.patch)
            .status()
            .context("start patch (Debian package patch)")?;
        if !status.success() {
            stale.push(mutant.name);
        }
    }
    if !stale.is_empty() {
        bail!("patches that no longer apply, make them anew: {}", stale.join(", "));
    }
    Ok(())
}

fn mutants() -> Result<Vec<Mutant>> {
    let folder = std::env::current_dir()?.join(FOLDER);
    let mut patches: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("read {FOLDER} (start this in the repository's root)"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    patches.into_iter().map(read).collect()
}

fn read(patch: PathBuf) -> Result<Mutant> {
    let text = std::fs::read_to_string(&patch).with_context(|| format!("read {}", patch.display()))?;
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned());
    let header = |key: &str| line(key).with_context(|| format!("{} has no line `{key}`", patch.display()));
    let name = patch.file_stem().and_then(|stem| stem.to_str()).context("a patch's name")?.to_owned();
    let (what, kill) = (header("Mutant:")?, header("Kill:")?);
    let kill = kill.split_whitespace().map(str::to_owned).collect();
    Ok(Mutant { name, what, kill, vendor: line("Vendor:"), patch })
}

fn is_killed(mutant: &Mutant) -> Result<bool> {
    let tree = std::env::current_dir()?.join("target/mutants/tree");
    copy(&tree)?;
    if let Some(name) = &mutant.vendor {
        vendor(&tree, name)?;
    }
    let status = Command::new("patch")
        .args(["-p1", "--quiet", "--input"])
        .arg(&mutant.patch)
        .current_dir(&tree)
        .status()
        .context("start patch (Debian package patch)")?;
    if !status.success() {
        bail!("{} no longer applies: make it anew", mutant.patch.display());
    }
    // nextest says 100 when a test failed; the fault harness says 1 when an invariant did not hold.
    let expected = match mutant.kill.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["cargo", "nextest", ..] => 100,
        ["cargo", "run", ..] => 1,
        _ => bail!("{}: the command must begin with `cargo nextest` or `cargo run`", mutant.name),
    };
    let target = std::env::current_dir()?.join("target/mutants/target");
    let code = Command::new(&mutant.kill[0])
        .args(&mutant.kill[1..])
        .env("CARGO_TARGET_DIR", target)
        .current_dir(&tree)
        .status()
        .with_context(|| format!("start {:?}", mutant.kill))?
        .code();
    match code {
        Some(0) => Ok(false),
        Some(code) if code == expected => Ok(true),
        other => bail!("{}: ended with {other:?} instead of {expected}: that proves nothing", mutant.name),
    }
}

/// Makes `tree` equal to the tracked files. What is equal already keeps its time, so that it is not built again; what is no
/// longer tracked goes, for two files of one module would not build.
fn copy(tree: &Path) -> Result<()> {
    let output = Command::new("git").args(["ls-files", "-z"]).output().context("start git ls-files")?;
    let names = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    let tracked: BTreeSet<&Path> = names.split('\0').filter(|name| !name.is_empty()).map(Path::new).collect();
    if tree.is_dir() {
        remove_others(tree, tree, &tracked)?;
    }
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (Path::new(name), tree.join(name));
        // A file that is tracked and deleted, for example in a rebase.
        if !from.is_file() {
            continue;
        }
        let bytes = std::fs::read(from).with_context(|| format!("read {name}"))?;
        if std::fs::read(&to).is_ok_and(|known| known == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        std::fs::write(&to, bytes).with_context(|| format!("write {}", to.display()))?;
    }
    Ok(())
}

/// Removes files below `folder` that are not in `tracked`, which is relative to `tree`.
fn remove_others(tree: &Path, folder: &Path, tracked: &BTreeSet<&Path>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(tree, &path, tracked)?;
        } else if path.strip_prefix(tree).is_ok_and(|name| !tracked.contains(name)) {
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Copies crate `name`, as cargo has downloaded it, to `vendor/` of the copy, and has the copy build with that.
fn vendor(tree: &Path, name: &str) -> Result<()> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("start cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let found = packages.iter().find(|package| package["name"] == name).with_context(|| format!("no crate {name}"))?;
    let manifest = Path::new(found["manifest_path"].as_str().context("manifest_path")?);
    let to = tree.join("vendor").join(name);
    copy_folder(manifest.parent().context("a crate's folder")?, &to)?;
    // A workspace of its own: the one around it does not know it.
    append(&to.join("Cargo.toml"), "\n[workspace]\n")?;
    replace_crate(&tree.join("Cargo.toml"), name)
}

/// Has the workspace of `manifest` build crate `name` from `vendor/`, beside what it replaces already.
fn replace_crate(manifest: &Path, name: &str) -> Result<()> {
    const TABLE: &str = "\n[patch.crates-io]\n";
    let mut text = std::fs::read_to_string(manifest).with_context(|| format!("read {}", manifest.display()))?;
    if !text.contains(TABLE) {
        text.push_str(TABLE);
    }
    let text = text.replacen(TABLE, &format!("{TABLE}{name} = {{ path = \"vendor/{name}\" }}\n"), 1);
    std::fs::write(manifest, text).with_context(|| format!("write {}", manifest.display()))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            std::fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut all = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    all.push_str(text);
    std::fs::write(path, all).with_context(|| format!("write {}", path.display()))
}
