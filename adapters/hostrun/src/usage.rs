//! What an instance uses of its host and what the host has left, read from `/proc` and the file system; nothing is changed.
//!
//! Processor time is counted from each process's start, so that the asker makes rates of it: a process that ended takes its
//! time with it, and the sum may go back then.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hanse_adapters_core::{AdapterError, HostLoad, InstanceKey, InstanceUsage};

use crate::facts::now_ms;
use crate::instance::{Phase, load as load_instance};
use crate::layout::{InstanceDir, Layout, invalid, io_error, make_dir};
use crate::proc::{Process, descendants, marked};

/// Files and folders of a home that are measured; a larger home is told as far as it was read.
const ENTRIES_MAX: usize = 200_000;
/// Bytes of a block in `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// Returns what the processes and the home of `key` use, `None` if the host has nothing of it.
pub(crate) fn usage(layout: &Layout, key: &InstanceKey) -> Result<Option<InstanceUsage>, AdapterError> {
    let dir = layout.instance(key)?;
    if !dir.exists() {
        return Ok(None);
    }
    let processes = processes(&dir)?;
    let page = rustix::param::page_size() as u64;
    let ticks = rustix::param::clock_ticks_per_second();
    let mut usage = InstanceUsage { disk_bytes: Some(disk_bytes(&dir.path)), ..InstanceUsage::default() };
    for pid in processes {
        // One that ends between the look and here uses nothing any more.
        let Some((cpu, pages)) = of_process(pid) else { continue };
        usage.processes += 1;
        usage.cpu_ms += cpu.saturating_mul(1_000) / ticks.max(1);
        usage.memory_bytes += pages.saturating_mul(page);
    }
    Ok(Some(usage))
}

/// The supervisor, the process and all that descends from them. To look for the mark of the instance in every process of the host,
/// as is done before anything is ended, costs a busy host too much to do it with each look.
fn processes(dir: &InstanceDir) -> Result<Vec<u32>, AdapterError> {
    let failed = |e: std::io::Error| io_error(&dir.key.to_string(), &e);
    let Some(Phase::Running { child, supervisor, .. }) = load_instance(dir)?.phase else { return Ok(Vec::new()) };
    let mut roots = Vec::new();
    for id in [supervisor, child] {
        roots.extend(Process::find(&id).map_err(failed)?.map(|found| found.id.pid));
    }
    match descendants(roots).map_err(failed)? {
        Some(all) => Ok(all),
        None => Ok(marked(&dir.path).map_err(failed)?.into_iter().map(|process| process.id.pid).collect()),
    }
}

/// Returns what the host has and has left.
pub(crate) fn load(layout: &Layout) -> Result<HostLoad, AdapterError> {
    make_dir(layout.root())?;
    let disk = rustix::fs::statvfs(layout.root()).map_err(|e| io_error("file system", &e.into()))?;
    let read = |path: &str| fs::read_to_string(path).map_err(|e| io_error(path, &e));
    let (stat, meminfo, loadavg) = (read("/proc/stat")?, read("/proc/meminfo")?, read("/proc/loadavg")?);
    let unread = |path: &str| invalid(path, "is not as proc(5) says");
    let (cpu_busy_ticks, cpu_total_ticks) = busy(&stat).ok_or_else(|| unread("/proc/stat"))?;
    let memory = |name: &str| kib(&meminfo, name).map(|n| n * 1_024).ok_or_else(|| unread("/proc/meminfo"));
    Ok(HostLoad {
        cpu_busy_ticks,
        cpu_total_ticks,
        load_milli: milli(&loadavg).ok_or_else(|| unread("/proc/loadavg"))?,
        memory_bytes: memory("MemTotal:")?,
        memory_available_bytes: memory("MemAvailable:")?,
        disk_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        disk_free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        clock_ms: now_ms(),
    })
}

/// Processor ticks and resident pages of a process.
fn of_process(pid: u32) -> Option<(u64, u64)> {
    parse_process(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 14 and 15 (user and system time) and 24 (resident pages) of proc(5), counted from the last parenthesis.
fn parse_process(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some((number(14)? + number(15)?, number(24)?))
}

/// Busy and all ticks of all processors since the start.
fn busy(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let (all, idle) = (ticks.iter().sum::<u64>(), ticks.get(3)? + ticks.get(4)?);
    Some((all - idle, all))
}

fn kib(meminfo: &str, name: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The load of the last minute in thousandths: "0.52 ..." is 520.
fn milli(loadavg: &str) -> Option<u64> {
    let (whole, part) = loadavg.split_whitespace().next()?.split_once('.')?;
    let part: String = part.chars().chain("000".chars()).take(3).collect();
    Some(whole.parse::<u64>().ok()? * 1_000 + part.parse::<u64>().ok()?)
}

/// Bytes of the disk below `dir`; never through a link, and each file with several names once a name.
fn disk_bytes(dir: &Path) -> u64 {
    let (mut bytes, mut seen, mut folders) = (0_u64, 0, vec![dir.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        // What goes away while it is counted is not there any more.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                return bytes;
            }
            let Ok(found) = fs::symlink_metadata(entry.path()) else { continue };
            bytes = bytes.saturating_add(found.blocks().saturating_mul(BLOCK_BYTES));
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn proc_is_read_as_its_manual_says() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 4242 20 99 22";
        assert_eq!(parse_process(stat), Some((200, 99)));
        assert_eq!(parse_process("7 (x"), None);
        assert_eq!(busy("cpu  10 1 5 80 4 0 0 0 0 0\ncpu0 1 1 1 1"), Some((16, 100)));
        assert_eq!(kib("MemTotal:  12 kB\nMemAvailable:   7 kB\n", "MemAvailable:"), Some(7));
        assert_eq!((milli("0.52 1.00 2.00 1/2 3"), milli("12.05 0 0")), (Some(520), Some(12_050)));
    }

    #[test]
    fn a_host_says_what_it_has_left() {
        let root = tempfile::tempdir().unwrap();
        let found = load(&Layout::new(root.path())).unwrap();
        assert!(found.memory_available_bytes > 0 && found.memory_available_bytes <= found.memory_bytes);
        assert!(found.disk_free_bytes <= found.disk_bytes && found.cpu_busy_ticks <= found.cpu_total_ticks);
    }
}
