//! The program of the version before, for the test of a rolling upgrade: built from this repository's own history.
//!
//! The commit's files go to `target/previous/src`; the build uses the target folder of this one and the same features, so
//! that crates from the registry are not built twice. A program that is there already is left alone.
//!
//! Cargo names what it builds of a workspace by the path within it, so both versions' crates have one name, and looks at
//! times only: without care one would be taken for the other. So ours are removed before the build and after it, and the program
//! is asked for something that only the newer version knows.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The last commit that speaks cluster versions up to 5 only. Raised with the cluster version: the commit before the one that
/// brings a new version.
const COMMIT: &str = "e755fa3f0f54650878e588278ebfbd5d2c2c9429";
/// What only the program of a newer version says of itself.
const NEWER: &str = "cluster versions 1 to 6";

/// Builds the program if it is not there, and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_dir()?.join("target"),
    };
    let folder = target.join("previous");
    let program = folder.join(format!("hanse-{}", &COMMIT[..7]));
    if program.exists() {
        return Ok(program);
    }
    eprintln!("xtask: the program of {}", &COMMIT[..7]);
    let source = folder.join("src");
    check_out(&folder, &source)?;
    forget_ours(&target)?;
    let mut cargo = super::cargo(&["build", "--locked", "--workspace", "--bin", "hanse", "--target-dir"]);
    cargo.arg(&target).current_dir(&source);
    super::step("build the version before", cargo)?;
    let built = target.join("debug/hanse");
    let says = Command::new(&built).arg("--version").output().context("start what was built")?;
    if !says.status.success() || String::from_utf8_lossy(&says.stdout).contains(NEWER) {
        bail!("{} is not the program of the version before: it says {says:?}", built.display());
    }
    // Aside first: a half copied program must not stand under its name.
    let aside = program.with_extension("new");
    std::fs::copy(&built, &aside).context("copy the program of the version before")?;
    forget_ours(&target)?;
    std::fs::rename(&aside, &program).context("name the program of the version before")?;
    Ok(program)
}

/// Removes what was built of this workspace's crates, but the program that is running.
fn forget_ours(target: &Path) -> Result<()> {
    let metadata = super::cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]).output();
    let metadata = metadata.context("start cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).context("read cargo metadata")?;
    let names = metadata["packages"].as_array().into_iter().flatten().filter_map(|package| package["name"].as_str());
    let mut clean = super::cargo(&["clean", "--quiet", "--target-dir"]);
    clean.arg(target);
    for name in names.filter(|name| *name != "xtask") {
        clean.args(["--package", name]);
    }
    super::step("forget what was built of our crates", clean)
}

/// Writes the files of the commit.
fn check_out(folder: &Path, source: &Path) -> Result<()> {
    let known = Command::new("git").args(["cat-file", "-e", &format!("{COMMIT}^{{commit}}")]).status();
    if !known.context("start git")?.success() {
        bail!(
            "commit {COMMIT} is not in this clone: the test of a rolling upgrade needs it; get the whole history \
             (`git fetch --unshallow`)"
        );
    }
    if source.exists() {
        std::fs::remove_dir_all(source).context("remove a half-made target/previous/src")?;
    }
    std::fs::create_dir_all(source).context("make target/previous/src")?;
    let archive = folder.join("src.tar");
    let mut git = Command::new("git");
    git.args(["archive", "--format=tar", "--output"]).arg(&archive).arg(COMMIT);
    super::step("git archive", git)?;
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&archive).arg("-C").arg(source);
    super::step("unpack", tar)?;
    std::fs::remove_file(&archive).context("remove target/previous/src.tar")
}
