//! What a host offers and what stands in the way, seen on the host itself; nothing is judged and nothing changed, but that
//! the root folder is made.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::preflight::{HostReport, PreflightWish};
use rustix::process::{Resource, geteuid, getrlimit};

use crate::facts::{available_bytes, inspect};
use crate::layout::{Layout, io_error};

pub(crate) fn report(layout: &Layout, wish: &PreflightWish) -> Result<HostReport, AdapterError> {
    let facts = inspect(layout)?;
    let disk = rustix::fs::statvfs(layout.root()).map_err(|e| io_error("file system", &e.into()))?;
    let meminfo = fs::read_to_string("/proc/meminfo").map_err(|e| io_error("/proc/meminfo", &e))?;
    let is_root = geteuid().is_root();
    Ok(HostReport {
        user: user(),
        is_root,
        has_sudo: !is_root && has_sudo(),
        arch: facts.arch,
        kernel: facts.kernel,
        cpus: facts.cpus,
        memory_bytes: facts.memory_bytes,
        memory_available_bytes: available_bytes(&meminfo).unwrap_or(facts.memory_bytes),
        disk_free_bytes: facts.disk_free_bytes,
        // Some file systems make inodes as they need them and say that they have none at all.
        inodes_free: (disk.f_files > 0).then_some(disk.f_favail),
        files_max: getrlimit(Resource::Nofile).maximum,
        tasks_max: getrlimit(Resource::Nproc).maximum,
        busy_ports: busy(wish),
        clock_ms: crate::facts::now_ms(),
        has_systemd: std::path::Path::new("/run/systemd/system").is_dir(),
    })
}

/// The account's name, its number if it has none.
fn user() -> String {
    let id = geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let own = lines.find(|fields| fields.get(2).and_then(|text| text.parse().ok()) == Some(id));
    own.and_then(|fields| fields.first().map(|name| (*name).to_owned())).unwrap_or_else(|| id.to_string())
}

/// `-n` never asks; it fails at once where a password would be needed or there is no sudo.
fn has_sudo() -> bool {
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sudo.status().is_ok_and(|status| status.success())
}

/// Ports that cannot be listened on now. Closed again at once: nobody can have connected meanwhile.
fn busy(wish: &PreflightWish) -> Vec<u16> {
    let range = (0..wish.port_count).filter_map(|offset| wish.port_first.checked_add(offset));
    range
        .filter(|port| !wish.own_ports.contains(port))
        .filter(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_err())
        .collect()
}
