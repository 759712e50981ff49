//! The program of the version before, for the test of a rolling upgrade: built from this repository's own history.
//!
//! The commit's files go to `target/previous/src`; the build uses the target folder of this one and the same features, so
//! that crates from the registry are not built twice. A program that is there already is left alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The last commit that speaks cluster version 1 only. Raised with the cluster version: the commit before the one that
/// brings a new version.
const COMMIT: &str = "33bd35f352e9d9c9e42e7f01dae8314ee1243c67";

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
    let mut cargo = super::cargo(&["build", "--locked", "--workspace", "--bin", "hanse", "--target-dir"]);
    cargo.arg(&target).current_dir(&source);
    super::step("build the version before", cargo)?;
    // Aside first: a half copied program must not stand under its name.
    let aside = program.with_extension("new");
    std::fs::copy(target.join("debug/hanse"), &aside).context("copy the program of the version before")?;
    std::fs::rename(&aside, &program).context("name the program of the version before")?;
    Ok(program)
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
