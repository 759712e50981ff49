//! Programs of others that tests run against: installed by `cargo xtask parts` below target/parts.

use std::path::PathBuf;
use std::process::Command;

/// `$HANSE_PARTS`, or where `cargo xtask parts` puts things in this checkout.
fn folder() -> PathBuf {
    match std::env::var_os("HANSE_PARTS") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/parts"),
    }
}

fn found(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run `cargo xtask parts`, or name its folder in HANSE_PARTS", path.display());
    path
}

/// Foundry's development chain.
pub(crate) fn anvil() -> Command {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    // Not the package's wrapper: killing that would leave the program behind.
    Command::new(found(folder().join(format!("node_modules/@foundry-rs/anvil-linux-{arch}/bin/anvil"))))
}

/// Foundry's `forge`, and a compiler for its `--use`.
pub(crate) fn forge() -> (Command, PathBuf) {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let modules = found(folder().join("node_modules"));
    let mut command = Command::new(found(modules.join(format!("@foundry-rs/forge-linux-{arch}/bin/forge"))));
    found(modules.join("solc"));
    command.env("NODE_PATH", modules);
    (command, script_path("solc.js"))
}

/// A script for Node.js that may `require` ethers and viem.
pub(crate) fn node_js(script: &str) -> Command {
    let modules = found(folder().join("node_modules"));
    found(modules.join("ethers"));
    found(modules.join("viem"));
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(script_path(script));
    command
}

/// A script for Python that may import web3.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(found(folder().join("python/bin/python3")));
    command.arg(script_path(script));
    command
}

fn script_path(script: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script)
}

/// Runs a command to its end and gives its output; panics with all it said if it failed.
pub(crate) fn run(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
