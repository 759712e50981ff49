//! What a host offers and what stands in the way, seen on the host itself; nothing is judged and nothing changed, but that
//! the root folder is made.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::preflight::{HostReport, Mount, PreflightWish};
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
        has_systemd: Path::new("/run/systemd/system").is_dir(),
        mount: mount(layout.root(), disk.f_blocks.saturating_mul(disk.f_frsize)),
    })
}

/// Where the root folder is mounted, on a file system of `bytes`.
fn mount(root: &Path, bytes: u64) -> Option<Mount> {
    let root = fs::canonicalize(root).ok()?;
    covering(&fs::read_to_string("/proc/self/mountinfo").ok()?, &root, bytes)
}

/// The mount that `folder` is on, of what `mountinfo` tells (proc_pid_mountinfo(5)): the deepest, and of those the last.
fn covering(mountinfo: &str, folder: &Path, bytes: u64) -> Option<Mount> {
    let read = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        let at = unescape(head.split(' ').nth(4)?);
        let mut tail = tail.split(' ');
        let (kind, device) = (tail.next()?.to_owned(), unescape(tail.next()?));
        folder.starts_with(&at).then(|| Mount { is_own: folder == Path::new(&at), at, device, kind, bytes })
    };
    mountinfo.lines().filter_map(read).max_by_key(|it| Path::new(&it.at).components().count())
}

/// Spaces and the like are written as octal numbers.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (written, meant)| text.replace(written, meant))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TOLD: &str = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                        30 21 0:26 / /srv rw - tmpfs tmpfs rw,size=1k\n\
                        31 30 259:1 / /srv/hanse rw,relatime shared:9 - ext4 /dev/nvme1n1 rw\n\
                        32 21 8:2 / /srv/a\\040b rw - xfs /dev/sdb rw\n";

    #[test]
    fn the_deepest_mount_is_where_a_folder_is() {
        for (folder, at, device, is_own) in [
            ("/srv/hanse", "/srv/hanse", "/dev/nvme1n1", true),
            ("/srv/hanse/instances", "/srv/hanse", "/dev/nvme1n1", false),
            ("/srv/hanse2", "/srv", "tmpfs", false),
            ("/srv/a b", "/srv/a b", "/dev/sdb", true),
            ("/var", "/", "/dev/sda1", false),
        ] {
            let it = covering(TOLD, Path::new(folder), 7).unwrap();
            assert_eq!((it.at.as_str(), it.device.as_str(), it.is_own), (at, device, is_own), "{folder}");
        }
        assert_eq!(covering("", Path::new("/srv"), 0), None);
        // Of two at one place the later one covers the earlier.
        let twice = format!("{TOLD}33 31 0:9 / /srv/hanse rw - tmpfs none rw\n");
        assert_eq!(covering(&twice, Path::new("/srv/hanse"), 0).unwrap().device, "none");
    }

    #[test]
    fn this_machine_tells_where_a_folder_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!mount(dir.path(), 1).unwrap().is_own);
        assert!(mount(Path::new("/proc"), 1).unwrap().is_own);
    }
}
