//! The real parts that tests run against, installed from the package registries: an SSH server from Debian; Foundry's
//! `cast`, `anvil` and `forge`, a compiler for forge, ethers and viem from npm; web3.py and injectived from PyPI. What is
//! there already is left alone, so a second run costs nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Debian package and the program that tells whether it is there.
const DEBIAN: &[(&str, &str)] = &[
    ("openssh-server", "/usr/sbin/sshd"),
    ("openssh-client", "/usr/bin/ssh"),
    ("openssh-client", "/usr/bin/ssh-keygen"),
    // Hosts on which everything is done as root through it.
    ("sudo", "/usr/bin/sudo"),
    // An account whose shell is none of POSIX's.
    ("tcsh", "/bin/tcsh"),
    // The Docker adapter is tried with a real engine; it writes rules with the latter.
    ("docker.io", "/usr/sbin/dockerd"),
    ("iptables", "/usr/sbin/iptables"),
    // The libvirt adapter is tried with a real daemon, which gives out addresses by the third and filters packets by the above;
    // what it tells a machine's first start is read by the last two.
    ("libvirt-clients", "/usr/bin/virsh"),
    ("libvirt-daemon", "/usr/sbin/libvirtd"),
    ("dnsmasq-base", "/usr/sbin/dnsmasq"),
    ("libarchive-tools", "/usr/bin/bsdtar"),
    ("util-linux", "/usr/sbin/blkid"),
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

/// The emulator and the image that its guests start from, with the libraries that a plain Debian 12 lacks. Unpacked beside the
/// rest and not installed: its package and that of the tools above may be of different releases, which Debian does not
/// install together.
const QEMU: &[&str] = &[
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
    "ipxe",
    "ipxe-qemu",
    "libcapstone4",
    "libdaxctl1",
    "libfdt1",
    "libfuse3-3",
    "libibverbs1",
    "libjpeg62-turbo",
    "libndctl6",
    "libnl-route-3-200",
    "libnl-3-200",
    "libnuma1",
    "libpixman-1-0",
    "libpmem1",
    "libpng16-16",
    "librdmacm1",
    "libsasl2-2",
    "libslirp0",
    "libvdeplug2",
];

/// npm packages with their exact versions: outside EVM clients, and the chain that ours is compared with.
const NPM: &[(&str, &str)] = &[
    ("@foundry-rs/cast", "1.7.1"),
    ("@foundry-rs/anvil", "1.7.1"),
    ("@foundry-rs/forge", "1.7.1"),
    ("solc", "0.8.37"),
    ("ethers", "6.17.0"),
    ("viem", "2.57.20"),
];

/// The PyPI package of a BFT chain that no one here wrote: what the CometBFT engine is tried with, and a peer for figures.
/// Never part of the product.
const INJECTIVE: &str = "injective-core==1.20.1";

/// The PyPI package of the outside client in Python, exactly.
const WEB3: &str = "web3==8.0.0";

/// What speaks EC2's interface: one whose instances are containers that accept SSH, and one that knows the interface's shapes and limits.
const CLOUDS: &[(&str, &[&str])] = &[
    ("ministack", &["ministack==1.5.33", "docker==7.2.0", "cryptography==50.0.2"]),
    ("moto", &["moto[ec2,server]==5.2.5"]),
];

/// What provisions hosts by other means, exactly; only `bench provision` needs it.
const ANSIBLE: &str = "ansible-core==2.19.14";

/// What was installed, and where.
pub(crate) struct Parts {
    /// Foundry's command-line client.
    pub(crate) cast: PathBuf,
    /// Holds `node_modules` and `python`.
    pub(crate) folder: PathBuf,
}

/// Installs what is missing and returns where it is.
pub(crate) fn install() -> Result<Parts> {
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
    let folder = std::env::current_dir()?.join("target/parts");
    std::fs::create_dir_all(&folder).context("make target/parts")?;
    python(&folder)?;
    qemu(&folder.join("qemu"))?;
    injectived()?;
    for (name, packages) in CLOUDS {
        environment(&folder.join(name), packages)?;
    }
    Ok(Parts { cast: npm(&folder)?, folder })
}

/// Installs etcd, which only `bench core` needs.
pub(crate) fn etcd() -> Result<()> {
    if is_there("etcd") { Ok(()) } else { apt(&["etcd-server"]) }
}

/// Installs valgrind, which only `dist` needs.
pub(crate) fn valgrind() -> Result<()> {
    if is_there("valgrind") { Ok(()) } else { apt(&["valgrind"]) }
}

/// Installs Ansible, which only `bench provision` needs; returns the program that plays.
pub(crate) fn ansible() -> Result<PathBuf> {
    let home = std::env::current_dir()?.join("target/parts/ansible");
    environment(&home, &[ANSIBLE])?;
    Ok(home.join("bin/ansible-playbook"))
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

/// Unpacks the emulator.
fn qemu(home: &Path) -> Result<()> {
    let mark = home.join("whole");
    if mark.exists() {
        return Ok(());
    }
    let packages = home.join("packages");
    std::fs::create_dir_all(&packages).with_context(|| format!("make {}", packages.display()))?;
    for args in [vec!["update", "-q"], [vec!["download", "-q"], QEMU.to_vec()].concat()] {
        let status = Command::new("apt-get").args(&args).current_dir(&packages).status().context("start apt-get")?;
        if !status.success() {
            bail!("apt-get {args:?} failed: {status} (the list is Debian 12's)");
        }
    }
    for package in std::fs::read_dir(&packages).with_context(|| format!("read {}", packages.display()))? {
        let status = Command::new("dpkg").arg("-x").arg(package?.path()).arg(home).status().context("start dpkg")?;
        if !status.success() {
            bail!("dpkg could not unpack into {}: {status}", home.display());
        }
    }
    std::fs::remove_dir_all(&packages).with_context(|| format!("remove {}", packages.display()))?;
    std::fs::write(&mark, "").with_context(|| format!("write {}", mark.display()))
}

/// Returns the path of `cast`.
fn npm(folder: &Path) -> Result<PathBuf> {
    let is_current = |(name, version): &(&str, &str)| {
        let manifest = std::fs::read_to_string(folder.join("node_modules").join(name).join("package.json"));
        manifest.is_ok_and(|text| text.contains(&format!("\"version\": \"{version}\"")))
    };
    if !NPM.iter().all(is_current) {
        let status = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
            .arg(folder)
            .args(NPM.iter().map(|(name, version)| format!("{name}@{version}")))
            .status()
            .context("start npm")?;
        if !status.success() {
            bail!("npm could not install {NPM:?}: {status}");
        }
    }
    let cast = folder.join("node_modules/.bin/cast");
    if !is_there(&cast) {
        bail!("{} does not run", cast.display());
    }
    Ok(cast)
}

/// What `cargo xtask parts` needs of Python.
fn python(folder: &Path) -> Result<()> {
    environment(&folder.join("python"), &[WEB3])
}

/// Installs the other chain; returns its program.
pub(crate) fn injectived() -> Result<PathBuf> {
    let home = std::env::current_dir()?.join("target/parts/injective");
    environment(&home, &[INJECTIVE])?;
    // The package unpacks its program where it says so.
    let output = Command::new(home.join("bin/python3"))
        .args(["-c", "import injective_core; print(injective_core.get_binary_path())"])
        .output()
        .context("start python3")?;
    if !output.status.success() {
        bail!("{INJECTIVE} does not say where its program is: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout).context("a path that is text")?.trim().into())
}

/// A Python environment of its own with some packages, so that nothing of the machine's Python is touched.
fn environment(home: &Path, packages: &[&str]) -> Result<()> {
    let mark = home.join(packages.join(" "));
    if mark.exists() {
        return Ok(());
    }
    let make = || Command::new("python3").args(["-m", "venv", "--clear"]).arg(home).status().context("start python3");
    // Debian keeps what makes environments in a package of its own.
    if !make()?.success() {
        apt(&["python3-venv"])?;
        let status = make()?;
        if !status.success() {
            bail!("python3 -m venv failed: {status}");
        }
    }
    let status = Command::new(home.join("bin/python3"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(packages)
        .status()
        .context("start pip")?;
    if !status.success() {
        bail!("pip could not install {packages:?}: {status}");
    }
    std::fs::write(&mark, "").with_context(|| format!("write {}", mark.display()))
}

fn is_there(program: impl AsRef<std::ffi::OsStr>) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
