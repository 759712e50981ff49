//! The network of a run: one namespace for each replica's place and one for the clients, joined by a bridge in a namespace
//! of its own. There is no way out of it. Numbers here are places; a first replica's place has the number of its id.
//!
//! Faults are nft rules in the namespace that receives: who may not be heard by whom, and how much gets lost. The whole
//! table is written anew for each change, in one transaction, so that what is in force is what [`Net::apply`] was last
//! told. What a killed run left behind is removed by the next ([`remove_leftovers`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Beginning of every namespace's name; the harness's process id follows.
const PREFIX: &str = "hf";
/// The network within; it is nobody else's, so its numbers do not matter.
const SUBNET: &str = "10.77.0";
/// Number of the clients' address.
const CLIENTS: u64 = 100;

/// The links that are cut and the packets that get lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cuts {
    /// `(from, to)`: what `from` sends does not reach `to`.
    pub(crate) links: BTreeSet<(u64, u64)>,
    /// Percent of the packets from other replicas that a replica loses.
    pub(crate) loss: BTreeMap<u64, u64>,
}

/// The namespaces of a run; removed when dropped.
#[derive(Debug)]
pub(crate) struct Net {
    base: String,
    replicas: Vec<u64>,
}

impl Net {
    /// Makes the namespaces of `replicas`.
    pub(crate) fn make(replicas: &[u64]) -> Result<Self> {
        let net = Self { base: format!("{PREFIX}{}", std::process::id()), replicas: replicas.to_vec() };
        let bridge = net.space("b");
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", "br0", "up"])?;
        for id in replicas {
            net.join(&bridge, &net.space(&id.to_string()), *id)?;
        }
        net.join(&bridge, &net.space("c"), CLIENTS)?;
        Ok(net)
    }

    fn join(&self, bridge: &str, space: &str, number: u64) -> Result<()> {
        let port = format!("p{number}");
        ip(&["netns", "add", space])?;
        ip(&["-n", bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", space])?;
        ip(&["-n", bridge, "link", "set", &port, "master", "br0", "up"])?;
        ip(&["-n", space, "addr", "add", &format!("{}/24", address(number)), "dev", "eth0"])?;
        ip(&["-n", space, "link", "set", "eth0", "up"])?;
        ip(&["-n", space, "link", "set", "lo", "up"])
    }

    fn space(&self, part: &str) -> String {
        format!("{}-{part}", self.base)
    }

    /// The places for replicas.
    pub(crate) fn places(&self) -> &[u64] {
        &self.replicas
    }

    /// Path of the namespace of a replica's place.
    pub(crate) fn of_replica(&self, id: u64) -> String {
        format!("/run/netns/{}", self.space(&id.to_string()))
    }

    /// Path of the clients' namespace.
    pub(crate) fn of_clients(&self) -> String {
        format!("/run/netns/{}", self.space("c"))
    }

    /// Puts exactly `cuts` in force.
    pub(crate) fn apply(&self, cuts: &Cuts) -> Result<()> {
        for id in &self.replicas {
            // Added first, so that there is something to delete; all three in one transaction.
            let mut text = String::from("table inet hf\ndelete table inet hf\ntable inet hf {\n chain in {\n");
            text.push_str("  type filter hook input priority 0; policy accept;\n");
            let mut rules = 0;
            for (from, _) in cuts.links.iter().filter(|(_, to)| to == id) {
                text.push_str(&format!("  ip saddr {} drop\n", address(*from)));
                rules += 1;
            }
            if let Some(percent) = cuts.loss.get(id) {
                let others: Vec<String> = self.replicas.iter().filter(|o| *o != id).map(|o| address(*o)).collect();
                let others = others.join(", ");
                text.push_str(&format!("  ip saddr {{ {others} }} numgen random mod 100 < {percent} drop\n"));
                rules += 1;
            }
            text.push_str(" }\n}\n");
            self.nft(*id, &text)?;
            let found = self.rules(*id)?;
            if found != rules {
                bail!("replica {id} has {found} rules in force instead of {rules}");
            }
        }
        Ok(())
    }

    fn nft(&self, id: u64, text: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.space(&id.to_string()), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start nft (Debian package nftables; `cargo xtask parts` installs it)")?;
        child.stdin.take().context("nft's input")?.write_all(text.as_bytes()).context("write nft's input")?;
        let output = child.wait_with_output().context("wait for nft")?;
        if !output.status.success() {
            bail!("nft: {}\nof\n{text}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn rules(&self, id: u64) -> Result<usize> {
        let space = self.space(&id.to_string());
        let text = run("ip", &["netns", "exec", &space, "nft", "list", "table", "inet", "hf"])?;
        Ok(text.lines().filter(|line| line.trim_end().ends_with(" drop")).count())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        remove(&self.base);
    }
}

/// Address of a replica.
pub(crate) fn address(number: u64) -> String {
    format!("{SUBNET}.{number}")
}

/// Removes the namespaces of runs that are no more.
pub(crate) fn remove_leftovers() {
    let Ok(folder) = std::fs::read_dir("/run/netns") else { return };
    let names = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let bases: BTreeSet<String> = names
        .filter_map(|name| {
            let pid = name.strip_prefix(PREFIX)?.split_once('-')?.0.parse::<u32>().ok()?;
            let is_gone = !std::path::Path::new(&format!("/proc/{pid}")).exists();
            is_gone.then(|| format!("{PREFIX}{pid}"))
        })
        .collect();
    for base in bases {
        remove(&base);
    }
}

/// Removes all namespaces of one run. Says what could not be removed; there is nobody left to handle it.
fn remove(base: &str) {
    let Ok(folder) = std::fs::read_dir("/run/netns") else { return };
    for name in folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        if name.strip_prefix(base).is_some_and(|rest| rest.starts_with('-'))
            && let Err(error) = ip(&["netns", "del", &name])
        {
            eprintln!("hanse-faults: namespace {name} stays: {error:#}");
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    run("ip", args).map(drop)
}

/// Runs a system tool and returns what it printed.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program} (`cargo xtask parts` installs what is missing)"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
