//! Hosts.

use hanse_adapters_core::preflight::{Finding, Severity};
use hanse_proto::v1 as pb;
use hanse_state::State;
use hanse_state::host::properties::{SetHostProperties, Tenancy};
use hanse_state::host::way::{Jump, Login, Pin, ReachChange, SetHostReach, Way};
use hanse_state::host::{EnrolHost, Host, HostFacts, HostState, Reach};
use hanse_state::ids::HostId;
use hanse_state::name;
use hanse_state::time::Millis;

use super::{fits, id, ms, required, text};
use crate::error::ApiError;
use crate::observed::Observed;
use crate::orphans::Orphan;

/// SSH's own port, if none is given.
pub(crate) const SSH_PORT: u32 = 22;

/// Orphans that are shown with a host.
const ORPHANS_SHOWN: usize = 20;

/// What a look at host `id` found that nothing asks for.
pub(crate) fn orphan(id: &HostId, it: Orphan) -> pb::Orphan {
    let moment = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    pb::Orphan {
        host: id.to_string(),
        object: it.object,
        generation: it.generation,
        runs: it.runs,
        first_seen_ms: moment(it.first_seen_ms),
        last_seen_ms: moment(it.last_seen_ms),
        sightings: it.sightings,
        remove_at_ms: it.remove_at_ms.map_or(0, moment),
        kept_reason: it.kept,
    }
}

/// A host with the nodes that are placed on it, and what the leader saw there that nothing asks for.
pub(crate) fn host(observed: &Observed, state: &State, it: &Host) -> pb::Host {
    let orphans = observed.orphans.of(&it.id).into_iter().take(ORPHANS_SHOWN);
    let used = state.nodes.values().filter(|node| node.host.as_ref() == Some(&it.id)).count();
    let life = match it.state {
        HostState::Ready => pb::HostState::Ready,
        HostState::Cordoned => pb::HostState::Cordoned,
        HostState::Maintenance => pb::HostState::Maintenance,
        HostState::Draining => pb::HostState::Draining,
        HostState::Distrusted => pb::HostState::Distrusted,
    };
    pb::Host {
        name: name::host(&it.id),
        host: it.id.to_string(),
        reach: Some(match &it.reach {
            Reach::Local { root } => pb::host::Reach::Local(pb::LocalReach { root: root.clone() }),
            Reach::Ssh { address, port, user, fingerprint, root, way } => pb::host::Reach::Ssh(pb::SshReach {
                address: address.clone(),
                port: (*port).into(),
                user: user.clone(),
                fingerprint: fingerprint.clone(),
                root: root.clone(),
                jumps: way.jumps.iter().map(jump).collect(),
                pins_authority: way.pin == Pin::Authority,
                login: match way.login {
                    Login::Key => pb::SshLogin::Key,
                    Login::Certificate => pb::SshLogin::Certificate,
                    Login::Agent => pb::SshLogin::Agent,
                }
                .into(),
                sudo: way.sudo,
            }),
            Reach::Docker { endpoint, engine_id, memory_mib, cpu_milli, pids } => {
                pb::host::Reach::Docker(pb::DockerReach {
                    endpoint: endpoint.clone(),
                    engine_id: engine_id.clone(),
                    memory_mib: *memory_mib,
                    cpu_milli: *cpu_milli,
                    pids: *pids,
                })
            }
        }),
        peer_address: it.peer_address.clone(),
        port_first: it.port_first.into(),
        port_count: it.port_count.into(),
        slots: it.slots,
        slots_used: u32::try_from(used).unwrap_or(u32::MAX),
        facts: it.facts.as_ref().map(|seen| facts(seen, it.facts_at)),
        state: life.into(),
        state_reason: it.state_reason.clone(),
        state_since_ms: ms(it.state_since),
        created_at_ms: ms(it.created_at),
        seen_fingerprint: it.seen_fingerprint.clone().unwrap_or_default(),
        seen_machine: seen_machine(it),
        orphans: orphans.map(|orphan_there| orphan(&it.id, orphan_there)).collect(),
        zone: it.zone.clone(),
        labels: it.labels.clone().into_iter().collect(),
        dedicated_to: match &it.tenancy {
            Tenancy::Shared => String::new(),
            Tenancy::Dedicated(tenant) => tenant.to_string(),
        },
    }
}

fn jump(jump: &Jump) -> pb::SshJump {
    pb::SshJump {
        address: jump.address.clone(),
        port: jump.port.into(),
        user: jump.user.clone(),
        fingerprint: jump.fingerprint.clone(),
    }
}

/// The machine on the way that showed another key, empty for the host itself.
fn seen_machine(host: &Host) -> String {
    let Reach::Ssh { way, .. } = &host.reach else { return String::new() };
    let jump = host.seen_jump.and_then(|jump| way.jumps.get(usize::from(jump)));
    jump.map(Jump::machine).unwrap_or_default()
}

/// Machines on the way as asked for.
pub(crate) fn jumps(asked: Vec<pb::SshJump>) -> Result<Vec<Jump>, ApiError> {
    let jump = |it: pb::SshJump| {
        Ok(Jump {
            address: text("jumps.address", it.address)?,
            port: port("jumps.port", it.port)?,
            user: text("jumps.user", it.user)?,
            fingerprint: text("jumps.fingerprint", it.fingerprint)?,
        })
    };
    asked.into_iter().map(jump).collect()
}

/// A kind of login as asked for.
pub(crate) fn login(asked: i32) -> Result<Login, ApiError> {
    match pb::SshLogin::try_from(asked) {
        Ok(pb::SshLogin::Unspecified | pb::SshLogin::Key) => Ok(Login::Key),
        Ok(pb::SshLogin::Certificate) => Ok(Login::Certificate),
        Ok(pb::SshLogin::Agent) => Ok(Login::Agent),
        Err(_) => Err(ApiError::invalid("login", &format!("is {asked}"), "ask for KEY, CERTIFICATE or AGENT")),
    }
}

fn pin(is_authority: bool) -> Pin {
    if is_authority { Pin::Authority } else { Pin::Key }
}

/// A change of the way to a host as asked for.
pub(crate) fn reach_change(request: pb::SetHostReachRequest) -> Result<SetHostReach, ApiError> {
    if request.pins_authority && request.fingerprint.is_none() {
        let what = "name the authority's fingerprint with it";
        return Err(ApiError::invalid("pins_authority", "pins nothing without `fingerprint`", what));
    }
    if !request.set_jumps && !request.jumps.is_empty() {
        return Err(ApiError::invalid(
            "jumps",
            "is given and `set_jumps` is not",
            "say that they are to replace the others",
        ));
    }
    let optional = |field, named: Option<String>| named.map(|it| text(field, it)).transpose();
    let pinned = optional("fingerprint", request.fingerprint)?;
    let change = ReachChange {
        address: optional("address", request.address)?,
        port: request.port.map(|it| port("port", it)).transpose()?,
        user: optional("user", request.user)?,
        pin: pinned.map(|fingerprint| (pin(request.pins_authority), fingerprint)),
        jumps: request.set_jumps.then(|| jumps(request.jumps)).transpose()?,
        login: request.login.map(login).transpose()?,
        sudo: request.sudo,
    };
    Ok(SetHostReach { host: id("host", &request.host)?, change })
}

fn facts(facts: &HostFacts, at: Option<Millis>) -> pb::HostFacts {
    pb::HostFacts {
        os: format!("{} (kernel {})", facts.hostname, facts.kernel),
        arch: facts.arch.clone(),
        cpus: facts.cpus,
        memory_bytes: facts.memory_bytes,
        disk_free_bytes: facts.disk_free_bytes,
        supervisor: if facts.systemd { "systemd" } else { "hanse" }.into(),
        seen_at_ms: ms(at),
    }
}

/// An enrolment as asked for.
pub(crate) fn enrol(request: pb::EnrolHostRequest) -> Result<EnrolHost, ApiError> {
    let reach = match required("reach", request.reach)? {
        pb::enrol_host_request::Reach::Local(local) => Reach::Local { root: text("local.root", local.root)? },
        pb::enrol_host_request::Reach::Ssh(ssh) => Reach::Ssh {
            address: text("ssh.address", ssh.address)?,
            port: port("ssh.port", ssh.port)?,
            user: text("ssh.user", ssh.user)?,
            fingerprint: text("ssh.fingerprint", ssh.fingerprint)?,
            root: text("ssh.root", ssh.root)?,
            way: Way {
                jumps: jumps(ssh.jumps)?,
                pin: pin(ssh.pins_authority),
                login: login(ssh.login)?,
                sudo: ssh.sudo,
            },
        },
        pb::enrol_host_request::Reach::Docker(docker) => Reach::Docker {
            endpoint: text("docker.endpoint", docker.endpoint)?,
            engine_id: text("docker.engine_id", docker.engine_id)?,
            memory_mib: docker.memory_mib,
            cpu_milli: docker.cpu_milli,
            pids: docker.pids,
        },
    };
    Ok(EnrolHost {
        host: id("host", &request.host)?,
        reach,
        peer_address: text("peer_address", request.peer_address)?,
        port_first: fits("port_first", request.port_first)?,
        port_count: fits("port_count", request.port_count)?,
        slots: request.slots,
        zone: text("zone", request.zone)?,
        labels: request.labels.into_iter().collect(),
        tenancy: tenancy(&request.dedicated_to)?,
    })
}

/// A change of properties as asked for.
pub(crate) fn properties(request: pb::SetHostPropertiesRequest) -> Result<SetHostProperties, ApiError> {
    if let Some(key) = request.remove_labels.iter().find(|key| request.set_labels.contains_key(*key)) {
        return Err(ApiError::invalid("remove_labels", &format!("names {key}, which is also set"), "name it once"));
    }
    let set = request.set_labels.into_iter().map(|(key, value)| (key, Some(value)));
    let remove = request.remove_labels.into_iter().map(|key| (key, None));
    Ok(SetHostProperties {
        host: id("host", &request.host)?,
        zone: request.zone.map(|zone| text("zone", zone)).transpose()?,
        labels: set.chain(remove).collect(),
        tenancy: request.dedicated_to.as_deref().map(tenancy).transpose()?,
        slots: request.slots,
    })
}

/// Whose nodes a host takes; empty is everybody's.
fn tenancy(tenant: &str) -> Result<Tenancy, ApiError> {
    if tenant.is_empty() { Ok(Tenancy::Shared) } else { Ok(Tenancy::Dedicated(id("dedicated_to", tenant)?)) }
}

/// What was found on a host.
pub(crate) fn finding(it: &Finding) -> pb::PreflightFinding {
    let severity = match it.severity {
        Severity::Fine => pb::PreflightSeverity::Fine,
        Severity::Warning => pb::PreflightSeverity::Warning,
        Severity::Error => pb::PreflightSeverity::Error,
    };
    pb::PreflightFinding {
        check: it.check.clone(),
        severity: severity.into(),
        found: it.found.clone(),
        advice: it.advice.clone(),
    }
}

/// A port of SSH; 0 means 22.
pub(crate) fn port(field: &str, port: u32) -> Result<u16, ApiError> {
    fits(field, if port == 0 { SSH_PORT } else { port })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn faults_of_an_enrolment_are_named() {
        let ssh = pb::SshReach { address: "10.0.0.5".into(), port: 70_000, user: "op".into(), ..Default::default() };
        let base = pb::EnrolHostRequest { host: "h1".into(), port_first: 30_000, ..Default::default() };
        let cases = [
            (pb::EnrolHostRequest { reach: None, ..base.clone() }, "reach"),
            (pb::EnrolHostRequest { reach: Some(pb::enrol_host_request::Reach::Ssh(ssh)), ..base.clone() }, "ssh.port"),
            (with_local(pb::EnrolHostRequest { port_first: 66_000, ..base.clone() }), "port_first"),
            (with_local(pb::EnrolHostRequest { port_count: 66_000, ..base.clone() }), "port_count"),
            (with_local(pb::EnrolHostRequest { host: "H 1".into(), ..base }), "host"),
        ];
        for (request, field) in cases {
            assert_eq!(enrol(request).unwrap_err().field(), Some(field));
        }
    }

    fn with_local(request: pb::EnrolHostRequest) -> pb::EnrolHostRequest {
        let local = pb::LocalReach { root: "/var/lib/hanse".into() };
        pb::EnrolHostRequest { reach: Some(pb::enrol_host_request::Reach::Local(local)), ..request }
    }
}
