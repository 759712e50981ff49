//! Builds the program for hosts, `hanse-host`, with a profile of its own (`profile.host` of the workspace: small, one piece),
//! whatever profile the product is built with, so that what is put on a host is always small.
//!
//! Cargo is called in a folder of its own, so it waits for no lock of the build that it is part of. It takes the same
//! lock file and the crates that are there already: it asks no network that the outer build does not ask.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What of the workspace goes into the program.
const SOURCES: &[&str] =
    &["Cargo.toml", "Cargo.lock", "adapters/core", "adapters/host", "adapters/hostrun", "adapters/carried/build.rs"];

/// What the outer build says to its own compilers only: wrappers (clippy) and flags (coverage) would make another program.
const NOT_OURS: &[&str] = &[
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_INCREMENTAL",
];

fn variable(name: &str) -> PathBuf {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}")).into()
}

fn main() {
    let own = variable("CARGO_MANIFEST_DIR");
    let workspace = own.ancestors().nth(2).unwrap_or_else(|| panic!("{} is adapters/carried", own.display()));
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let target = env::var("TARGET").unwrap_or_else(|e| panic!("cargo sets TARGET: {e}"));
    let folder = variable("OUT_DIR").join("host");
    build(workspace, &target, &folder);
    let built = folder.join(target).join("host/hanse-host");
    println!("cargo::rustc-env=HANSE_HOST_PROGRAM={}", built.display());
}

fn build(workspace: &Path, target: &str, folder: &Path) {
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(workspace).args(["build", "--quiet", "--locked", "--profile", "host", "--package", "hanse-host"]);
    cargo.args(["--target", target, "--target-dir"]).arg(folder);
    for name in NOT_OURS {
        cargo.env_remove(name);
    }
    let status = cargo.status().unwrap_or_else(|e| panic!("start cargo: {e}"));
    assert!(status.success(), "the program for hosts (adapters/host) could not be built: {status}");
}
