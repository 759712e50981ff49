//! The folder of one replica: certificates and configuration, made as docs/operations.md tells, with the binary itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::cluster::Wishes;
use super::net::{address, run};

/// Port of every replica's peer listener; each has an address of its own.
const PEER_PORT: u16 = 7401;
/// Port of every replica's metrics.
const METRICS_PORT: u16 = 7402;
/// Port of every replica's API.
const API_PORT: u16 = 7400;

/// Makes the authorities of a run below `dir`.
pub(crate) fn authorities(program: &Path, dir: &Path) -> Result<()> {
    run(text(program)?, &["ca", "init", "--cluster", "faults", "--dir", text(&dir.join("ca"))?]).map(drop)
}

/// Makes the home of replica `id` with its certificates, and returns it.
pub(crate) fn make(program: &Path, dir: &Path, id: u64, place: u64) -> Result<PathBuf> {
    let (ca, home) = (dir.join("ca"), dir.join(format!("n{id}")));
    std::fs::create_dir_all(&home).with_context(|| format!("make {}", home.display()))?;
    let (own, out, number) = (address(place), home.join("tls"), id.to_string());
    let names = ["--cluster", "faults", "--dir", text(&ca)?, "--replica", &number, "--host", &own];
    run(text(program)?, &[&["ca", "issue"], &names[..], &["--out", text(&out)?]].concat())?;
    Ok(home)
}

/// The configuration of replica `id`; `members` are all replicas with their places.
pub(crate) fn config(id: u64, members: &BTreeMap<u64, u64>, joins: bool, wishes: Wishes) -> String {
    let (data, place) = (folder(wishes), members.get(&id).copied().unwrap_or(id));
    let join = if joins { "join = true\n" } else { "" };
    // Small snapshots, so that a run has many of them and replicas that were away are brought up by one.
    let mut text = format!(
        "version = 1\ncluster = \"faults\"\nreplica = {id}\n{join}data = \"{data}\"\ntls = \"tls\"\n\
         peer_listen = \"{}\"\napi_listen = \"{}\"\n",
        peer(place),
        api(place)
    );
    if wishes.metrics {
        text.push_str(&format!("metrics_listen = \"{}\"\n", metrics(place)));
    }
    for (other, place) in members {
        text.push_str(&format!("[[replicas]]\nid = {other}\npeer = \"{}\"\napi = \"{}\"\n", peer(*place), api(*place)));
    }
    text.push_str(&format!(
        "[timing]\nsnapshot_every = {}\nheartbeat_ms = 100\nelection_min_ms = 600\nelection_max_ms = 1200\n",
        wishes.snapshot_every
    ));
    text
}

/// Name of a replica's data folder within its home.
pub(crate) fn folder(wishes: Wishes) -> &'static str {
    if wishes.disks { "disk/data" } else { "data" }
}

/// Where the replica of a place tells its numbers.
pub(crate) fn metrics(place: u64) -> String {
    format!("{}:{METRICS_PORT}", address(place))
}

/// API address of a place.
pub(crate) fn api(place: u64) -> String {
    format!("{}:{API_PORT}", address(place))
}

/// Peer address of a place.
pub(crate) fn peer(place: u64) -> String {
    format!("{}:{PEER_PORT}", address(place))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
