//! What a run that was killed itself could not clean up: removed by the next run.

use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::net::{self, run};

/// Beginning of the name of every run's folder; the harness's process id follows.
const PREFIX: &str = "hanse-faults-";

/// A folder for a run, removed when dropped.
pub(crate) fn folder() -> Result<TempDir> {
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().context("make a folder for the run")
}

/// Removes namespaces, mounts and folders of runs whose process is gone. What cannot be removed is told and left.
pub(crate) fn remove() {
    net::remove_leftovers();
    let temp = std::env::temp_dir();
    let Ok(entries) = std::fs::read_dir(&temp) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if is_leftover(&path) {
            unmount_below(&path);
            if let Err(error) = std::fs::remove_dir_all(&path) {
                eprintln!("hanse-faults: {} of an earlier run stays: {error}", path.display());
            }
        }
    }
}

fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let pid = name.and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')?.0.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

fn unmount_below(path: &Path) {
    let Ok(mounts) = std::fs::read_to_string("/proc/mounts") else { return };
    for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(mount).starts_with(path) {
            // It fails if it is not frozen, which is the usual case.
            let _ = run("fsfreeze", &["-u", mount]);
            if let Err(error) = run("umount", &["-l", mount]) {
                eprintln!("hanse-faults: {mount} of an earlier run stays: {error:#}");
            }
        }
    }
}
