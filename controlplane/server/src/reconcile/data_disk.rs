//! The disk of its own that a machine's nodes live on: what the machine's first start is told, and the look whether it is so.
//!
//! cloud-init runs the script early at every start (`bootcmd`, before SSH listens) and once more at the end of the first
//! (`runcmd`), when the account is there. A machine becomes a host only once its root folder is seen on a disk of its own.
//!
//! What this never does: format anything from here, or take a machine's word before its key was compared.

use std::collections::BTreeMap;

use hanse_adapters_core::preflight::{DATA_DISK, Finding, PreflightWish, Severity};
use hanse_state::State;
use hanse_state::cloud::{CloudSpec, DataDisk, Machine, host_of};
use hanse_state::host::{EnrolHost, Host, HostState};
use hanse_state::time::Millis;

use super::World;

/// What puts a folder on an empty disk.
const SCRIPT: &str = include_str!("data_disk.sh");
/// How cloud-init's settings begin.
const HEAD: &str = "#cloud-config\n";

/// Adds the disk to what a machine's first start is told, which may be nothing yet. The same for the same order.
pub(super) fn told(user_data: &str, spec: &CloudSpec, disk: &DataDisk) -> String {
    let head = if user_data.is_empty() { HEAD } else { user_data };
    let script: String = SCRIPT.lines().map(|line| format!("      {line}\n")).collect();
    let bytes = u64::from(disk.gib) << 30;
    // All are words without quotes by the state's rules.
    let (root, account) = (&spec.root, &spec.user);
    format!(
        "{head}bootcmd:\n  - &data_disk\n    - sh\n    - -c\n    - |\n{script}    - hanse-data-disk\n    - \"{root}\"\n    \
         - \"{bytes}\"\n    - \"{account}\"\nruncmd:\n  - *data_disk\n"
    )
}

/// Looks whether the root folder of a machine that answers at `address` is on its data disk.
///
/// # Errors
/// What is in the way, in words.
pub(super) async fn is_used(world: &World, state: &State, machine: &Machine, address: &str) -> Result<(), String> {
    let enrol = host_of(state, machine, address, "").map_err(|rejection| rejection.to_string())?;
    // Its ports are not looked at: there are no nodes on it yet.
    let wish = PreflightWish { slots: machine.spec.slots, own_disk: true, ..PreflightWish::default() };
    let adapter = world.hosts.connect(&unenrolled(&enrol)).await.map_err(|error| error.to_string())?;
    let findings = adapter.preflight(&wish).await.map_err(|error| error.to_string())?;
    judge(&findings)
}

fn judge(findings: &[Finding]) -> Result<(), String> {
    if findings.iter().any(|it| it.check == DATA_DISK && it.severity == Severity::Fine) {
        return Ok(());
    }
    // What it is about first; else what kept the look from coming so far.
    let is_bad = |it: &&Finding| it.severity == Severity::Error;
    let about = findings.iter().filter(is_bad).find(|it| it.check == DATA_DISK);
    Err(about.or_else(|| findings.iter().find(is_bad)).map_or_else(
        || "whether its nodes would be on its data disk could not be looked at".into(),
        |it| format!("its data disk is not in use yet: {}: {}", it.found, it.advice),
    ))
}

/// What would be the host of an enrolment that is not written.
pub(crate) fn unenrolled(enrol: &EnrolHost) -> Host {
    Host {
        id: enrol.host.clone(),
        reach: enrol.reach.clone(),
        peer_address: enrol.peer_address.clone(),
        port_first: enrol.port_first,
        port_count: enrol.port_count,
        slots: enrol.slots,
        state: HostState::Ready,
        state_reason: String::new(),
        state_since: Millis(0),
        facts: None,
        facts_at: None,
        seen_fingerprint: None,
        seen_jump: None,
        ports: BTreeMap::new(),
        created_at: Millis(0),
        zone: enrol.zone.clone(),
        labels: enrol.labels.clone(),
        tenancy: enrol.tenancy.clone(),
        evicted: BTreeMap::new(),
        outage_accepted: false,
    }
}

#[cfg(test)]
mod tests;
