//! What a contender costs the machine that steers: processor time and memory of it and all processes it started.
//!
//! sshd and what runs on the hosts belong to the hosts and are not counted.

use std::collections::BTreeMap;
use std::fs;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Ticks of `/proc/*/stat` in a second: USER_HZ, which Linux fixes for programs.
const TICKS: f64 = 100.0;
/// Pause between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What one contender took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) memory_mb: f64,
}

/// Fields of `/proc/<pid>/stat` from the third on, as `proc(5)` numbers them.
fn stat(pid: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

fn seconds(fields: &[u64], from: usize) -> f64 {
    // proc(5) counts from 1, and two fields stand before what `stat` returns.
    fields.get(from - 3..from - 1).map_or(0.0, |two| two.iter().sum::<u64>() as f64 / TICKS)
}

/// Processor time of this process itself.
pub(crate) fn own_cpu() -> f64 {
    stat("self").map_or(0.0, |fields| seconds(&fields, 14))
}

/// Processor time of all children that were waited for, with theirs.
pub(crate) fn children_cpu() -> f64 {
    stat("self").map_or(0.0, |fields| seconds(&fields, 16))
}

/// Most memory that this process has held, in MB.
pub(crate) fn own_peak_mb() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/status").context("look at the own memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().context("VmHWM")?;
    Ok(kib * 1024.0 / 1e6)
}

/// Waits for a child and returns what it and all it started took. Memory is proportional (PSS): what its processes share
/// counts once.
pub(crate) fn watch(mut child: Child, what: &str) -> Result<Cost> {
    let (cpu, begin) = (children_cpu(), Instant::now());
    let (done, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let watcher = {
        let (done, peak, root) = (Arc::clone(&done), Arc::clone(&peak), child.id());
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(pss_kib(root), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        })
    };
    let status = child.wait().with_context(|| format!("wait for {what}"))?;
    let seconds = begin.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    if watcher.join().is_err() {
        bail!("the watch over {what} failed");
    }
    if !status.success() {
        bail!("{what} failed: {status}");
    }
    let memory_mb = peak.load(Ordering::Relaxed) as f64 * 1024.0 / 1e6;
    Ok(Cost { seconds, cpu_seconds: children_cpu() - cpu, memory_mb })
}

/// Memory of a process and all that descend from it.
fn pss_kib(root: u32) -> u64 {
    let mut parents: BTreeMap<u32, u32> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // Field 4 is the parent.
        let parent = name.to_str().and_then(stat).and_then(|fields| fields.get(1).copied()).unwrap_or(0);
        parents.insert(pid, u32::try_from(parent).unwrap_or(0));
    }
    let descends = |pid: u32| {
        let mut at = pid;
        while at != root {
            match parents.get(&at) {
                Some(parent) if *parent > 1 => at = *parent,
                Some(_) | None => return false,
            }
        }
        true
    };
    parents.keys().filter(|pid| descends(**pid)).map(|pid| pss_of(*pid)).sum()
}

fn pss_of(pid: u32) -> u64 {
    // One that ended meanwhile holds nothing.
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}
