//! What the host is, read from `/proc` and the file system; nothing is changed.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hanse_adapters_core::{AdapterError, HostFacts};

use crate::layout::{Layout, io_error, make_dir};
use crate::start::systemd_hosts;

pub(crate) fn inspect(layout: &Layout) -> Result<HostFacts, AdapterError> {
    make_dir(layout.root())?;
    let cpus = std::thread::available_parallelism().map_err(|e| io_error("processors", &e))?;
    Ok(HostFacts {
        hostname: read("/proc/sys/kernel/hostname")?,
        arch: std::env::consts::ARCH.into(),
        kernel: read("/proc/sys/kernel/osrelease")?,
        cpus: u32::try_from(cpus.get()).unwrap_or(u32::MAX),
        memory_bytes: memory_bytes(&read("/proc/meminfo")?)?,
        disk_free_bytes: disk_free(layout.root())?,
        clock_ms: now_ms(),
        systemd: systemd_hosts(),
    })
}

/// Bytes that are free for us on the file system that `path` is on.
pub(crate) fn disk_free(path: &Path) -> Result<u64, AdapterError> {
    let disk = rustix::fs::statvfs(path).map_err(|e| io_error("file system", &e.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn read(path: &str) -> Result<String, AdapterError> {
    fs::read_to_string(path).map(|s| s.trim().to_owned()).map_err(|e| io_error(path, &e))
}

fn memory_bytes(meminfo: &str) -> Result<u64, AdapterError> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| crate::layout::invalid("/proc/meminfo", "has no MemTotal"))
}

/// Memory that programs could have now, as the kernel estimates it.
pub(crate) fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The host's clock, milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
