//! Hosts, and how they are reached, as the console shows them.

use hanse_client::{pb, way};

use super::word;
use crate::app::model::data::{Host, HostCheck};
use crate::app::model::edit::{Way, WayChange};

/// An engine and what a node there may use; what is not limited is not said.
fn docker(it: &pb::DockerReach) -> String {
    let mut text = format!("docker {}", it.endpoint);
    let limits = [(it.memory_mib, " MiB"), (it.cpu_milli, " mCPU"), (it.pids, " pids")];
    for (limit, unit) in limits.into_iter().filter(|(limit, _)| *limit > 0) {
        text.push_str(&format!(" {limit}{unit}"));
    }
    text
}

/// What is on a host and nothing asks for, in one line.
fn orphan(it: &pb::Orphan) -> String {
    let runs = if it.runs { ", runs" } else { "" };
    let fate = if it.kept_reason.is_empty() { "removed after the grace time" } else { it.kept_reason.as_str() };
    format!("{} (generation {}{runs}, seen {} times): {fate}", it.object, it.generation, it.sightings)
}

/// What is special about the way to a host, one line each.
fn way_of(s: &pb::SshReach) -> Vec<String> {
    let jump = |it: &pb::SshJump| format!("via {}@{}:{} {}", it.user, it.address, it.port, it.fingerprint);
    let mut way: Vec<String> = s.jumps.iter().map(jump).collect();
    way.extend(s.pins_authority.then(|| "pins the authority of its certificate".to_owned()));
    match s.login() {
        pb::SshLogin::Unspecified | pb::SshLogin::Key => {}
        pb::SshLogin::Certificate => way.push("login by certificate".to_owned()),
        pb::SshLogin::Agent => way.push("login by agent".to_owned()),
    }
    way.extend(s.sudo.then(|| "as root (sudo)".to_owned()));
    way
}

/// A way as it is typed.
fn typed(s: &pb::SshReach) -> Way {
    let login = match s.login() {
        pb::SshLogin::Unspecified | pb::SshLogin::Key => "key",
        pb::SshLogin::Certificate => "certificate",
        pb::SshLogin::Agent => "agent",
    };
    Way {
        address: s.address.clone(),
        port: s.port.to_string(),
        user: s.user.clone(),
        pin: format!("{}{}", if s.pins_authority { "authority " } else { "" }, s.fingerprint),
        jumps: s.jumps.iter().map(way::jump_text).collect::<Vec<_>>().join(" "),
        login: login.to_owned(),
        sudo: if s.sudo { "yes" } else { "no" }.to_owned(),
    }
}

/// Whether a text names a machine on the way with its pinned key.
pub(crate) fn is_jump(text: &str) -> bool {
    way::parse_jump(text).is_ok()
}

/// The order that a changed way is.
///
/// # Errors
/// A machine on the way is not named as it must be.
pub(crate) fn set_reach(host: String, change: WayChange) -> Result<pb::SetHostReachRequest, String> {
    let jumps = change.jumps.iter().flatten().map(|jump| way::parse_jump(jump)).collect::<Result<_, _>>()?;
    let login = change.login.map(|word| match word.as_str() {
        "certificate" => pb::SshLogin::Certificate,
        "agent" => pb::SshLogin::Agent,
        _ => pb::SshLogin::Key,
    });
    Ok(pb::SetHostReachRequest {
        host,
        address: change.address,
        port: change.port.map(u32::from),
        user: change.user,
        pins_authority: change.pin.as_ref().is_some_and(|(_, is_authority)| *is_authority),
        fingerprint: change.pin.map(|(fingerprint, _)| fingerprint),
        set_jumps: change.jumps.is_some(),
        jumps,
        login: login.map(i32::from),
        sudo: change.sudo,
        preflight: true,
        ..pb::SetHostReachRequest::default()
    })
}

/// What is pinned of the machine on the way that is called so.
fn jump_named(s: &pb::SshReach, machine: &str) -> Option<String> {
    let found = s.jumps.iter().find(|it| format!("{}@{}:{}", it.user, it.address, it.port) == machine)?;
    Some(found.fingerprint.clone())
}

pub(crate) fn host(h: pb::Host) -> Host {
    let state = word(h.state().as_str_name(), "HOST_STATE_");
    let (mut way, mut expected, mut ssh) = (Vec::new(), None, None);
    let (reach, pinned) = match h.reach {
        Some(pb::host::Reach::Local(local)) => (format!("local {}", local.root), String::new()),
        Some(pb::host::Reach::Ssh(s)) => {
            (way, ssh) = (way_of(&s), Some(typed(&s)));
            expected = jump_named(&s, &h.seen_machine);
            (format!("ssh {}@{}:{} {}", s.user, s.address, s.port, s.root), s.fingerprint)
        }
        Some(pb::host::Reach::Docker(it)) => (docker(&it), it.engine_id),
        None => (String::new(), String::new()),
    };
    let facts = h.facts.unwrap_or_default();
    let gib = |bytes: u64| format!("{}.{} GiB", bytes >> 30, ((bytes & ((1 << 30) - 1)) * 10) >> 30);
    let capacity = match facts.seen_at_ms {
        0 => String::new(),
        _ => format!("{} cpu, {}, {} free", facts.cpus, gib(facts.memory_bytes), gib(facts.disk_free_bytes)),
    };
    Host {
        name: h.name,
        state,
        reason: h.state_reason,
        reach,
        expected: expected.unwrap_or_else(|| pinned.clone()),
        pinned,
        seen: h.seen_fingerprint,
        way,
        address: h.peer_address,
        slots: (h.slots_used.into(), h.slots.into()),
        capacity,
        zone: h.zone,
        labels: h
            .labels
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>()
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect(),
        dedicated_to: h.dedicated_to,
        seen_at: facts.seen_at_ms,
        orphans: h.orphans.iter().map(orphan).collect(),
        ssh,
    }
}

pub(crate) fn host_check(f: pb::PreflightFinding) -> HostCheck {
    HostCheck {
        severity: word(f.severity().as_str_name(), "PREFLIGHT_SEVERITY_"),
        check: f.check,
        found: f.found,
        advice: f.advice,
    }
}
