//! The real parts that tests run against, installed from the package registries: an SSH server from Debian, `cast` from
//! npm. What is there already is left alone, so a second run costs nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Debian package and the program that tells whether it is there.
const DEBIAN: &[(&str, &str)] = &[
    ("openssh-server", "/usr/sbin/sshd"),
    ("openssh-client", "/usr/bin/ssh"),
    ("openssh-client", "/usr/bin/ssh-keygen"),
    // What `cargo xtask faults processes` makes its network, its faults and its disks with.
    ("iproute2", "/usr/sbin/ip"),
    ("nftables", "/usr/sbin/nft"),
    ("util-linux", "/usr/bin/nsenter"),
    ("e2fsprogs", "/usr/sbin/mkfs.ext4"),
    ("patch", "/usr/bin/patch"),
    // The audit trail's second verifier (tests/witness) is written in it.
    ("python3", "/usr/bin/python3"),
    ("libfaketime", "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"),
    // And the power cuts and the trace of system calls.
    ("qemu-utils", "/usr/bin/qemu-storage-daemon"),
    ("strace", "/usr/bin/strace"),
    ("patch", "/usr/bin/patch"),
];

/// The npm package of the outside EVM client, exactly.
const CAST: &str = "@foundry-rs/cast@1.7.1";

/// Installs what is missing and returns the path of `cast`.
pub(crate) fn install() -> Result<PathBuf> {
    eprintln!("xtask: parts");
    let mut missing: Vec<&str> =
        DEBIAN.iter().filter(|(_, file)| !Path::new(file).exists()).map(|(name, _)| *name).collect();
    if !is_there("npm") {
        missing.push("npm");
    }
    missing.dedup();
    if !missing.is_empty() {
        apt(&missing)?;
    }
    // sshd refuses to start without this folder, which Debian's service makes and a machine without systemd lacks.
    std::fs::create_dir_all("/run/sshd").context("make /run/sshd (needs root, as the whole of `xtask parts` does)")?;
    cast()
}

/// Installs etcd, which only `bench core` needs.
pub(crate) fn etcd() -> Result<()> {
    if is_there("etcd") { Ok(()) } else { apt(&["etcd-server"]) }
}

fn apt(packages: &[&str]) -> Result<()> {
    for args in
        [vec!["update", "-q"], [vec!["install", "-q", "-y", "--no-install-recommends"], packages.to_vec()].concat()]
    {
        let status = Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(&args)
            .status()
            .context("start apt-get")?;
        if !status.success() {
            bail!("apt-get {args:?} failed: {status}; install {packages:?} by hand and run this again");
        }
    }
    Ok(())
}

fn cast() -> Result<PathBuf> {
    let folder = std::env::current_dir()?.join("target/parts");
    let program = folder.join("node_modules/.bin/cast");
    if !program.exists() {
        std::fs::create_dir_all(&folder).context("make target/parts")?;
        let status = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
            .arg(&folder)
            .arg(CAST)
            .status()
            .context("start npm")?;
        if !status.success() {
            bail!("npm could not install {CAST}: {status}");
        }
    }
    let works = Command::new(&program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !works {
        bail!("{} does not run", program.display());
    }
    Ok(program)
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
