//! Lines about hosts.

use hanse_state::host::care::{BeginHostMaintenance, DrainHost, RetireHost};
use hanse_state::host::orphan::RemoveOrphan;
use hanse_state::host::properties::{SetHostProperties, Tenancy};
use hanse_state::host::way::{Jump, Login, Pin, ReachChange, SetHostReach, Way};
use hanse_state::host::*;
use hanse_state::{Command, Millis};

use super::Args;
use crate::world;

fn pairs_of<'a>(a: &'a Args, key: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let pairs = a.get(key).unwrap_or_default().split(',').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once(':').unwrap_or((pair, "")))
}

fn docker(a: &Args, endpoint: &str) -> Reach {
    let number = |name: &str, usual: u64| u32::try_from(a.number(name, usual)).unwrap();
    Reach::Docker {
        endpoint: endpoint.into(),
        engine_id: a.text("engine", "ABCD:EFGH"),
        memory_mib: number("memory", 2_048),
        cpu_milli: number("cpu", 500),
        pids: number("pids", 4_096),
    }
}

/// Machines on the way: `jumps=bastion:C,inner:D`, each with the letter of its key; an empty list is none.
fn jumps(a: &Args) -> Option<Vec<Jump>> {
    a.get("jumps")?;
    let jump = |(address, letter): (&str, &str)| Jump {
        address: address.into(),
        port: 22,
        user: "ops".into(),
        fingerprint: format!("SHA256:{}", letter.repeat(43)),
    };
    Some(pairs_of(a, "jumps").map(jump).collect())
}

fn login(a: &Args) -> Option<Login> {
    a.get("login").map(|login| match login {
        "key" => Login::Key,
        "certificate" => Login::Certificate,
        "agent" => Login::Agent,
        other => panic!("no login {other}"),
    })
}

/// `pin=key:B` or `pin=authority:B`.
fn pin(a: &Args) -> Option<(Pin, String)> {
    let (kind, letter) = a.get("pin")?.split_once(':').unwrap();
    let kind = if kind == "authority" { Pin::Authority } else { Pin::Key };
    Some((kind, format!("SHA256:{}", letter.repeat(43))))
}

fn change(a: &Args) -> ReachChange {
    ReachChange {
        address: a.get("address").map(str::to_owned),
        port: a.get("port").map(|port| port.parse().unwrap()),
        user: a.get("user").map(str::to_owned),
        pin: pin(a),
        jumps: jumps(a),
        login: login(a),
        sudo: a.get("sudo").map(|sudo| sudo == "yes"),
    }
}

pub(super) fn hosts(a: &Args) -> Option<Command> {
    let host = || a.id("host", "h1");
    let fingerprint = |key: &str| format!("SHA256:{}", a.text(key, "B").repeat(43));
    Some(match a.word(1) {
        "EnrolHost" => {
            let name: String = a.text("host", "h1");
            let mut enrol = world::host(&name, u32::try_from(a.number("slots", 4)).unwrap());
            enrol.port_first = u16::try_from(a.number("port", 20_000)).unwrap();
            enrol.port_count = u16::try_from(a.number("ports", 100)).unwrap();
            enrol.peer_address = a.text("address", &enrol.peer_address);
            if let Some(root) = a.get("local") {
                enrol.reach = Reach::Local { root: root.into() };
            }
            if let Some(endpoint) = a.get("docker") {
                enrol.reach = docker(a, endpoint);
            }
            if let (Some(user), Reach::Ssh { user: old, .. }) = (a.get("user"), &mut enrol.reach) {
                *old = user.into();
            }
            if let (Some(text), Reach::Ssh { fingerprint, .. }) = (a.get("fingerprint"), &mut enrol.reach) {
                *fingerprint = text.into();
            }
            if let Reach::Ssh { way, .. } = &mut enrol.reach {
                let pin = pin(a).map_or(Pin::Key, |(kind, _)| kind);
                let (jumps, login) = (jumps(a).unwrap_or_default(), login(a).unwrap_or_default());
                *way = Way { jumps, pin, login, sudo: a.get("sudo") == Some("yes") };
            }
            enrol.zone = a.text("zone", "");
            enrol.tenancy = a.get("tenant").map_or(Tenancy::Shared, |_| Tenancy::Dedicated(a.id("tenant", "acme")));
            // Keys and values: `labels=rack:r1,disk:ssd`.
            let label = |pair: (&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
            enrol.labels = pairs_of(a, "labels").map(label).collect();
            Command::EnrolHost(enrol)
        }
        "SetHostReach" => Command::SetHostReach(SetHostReach { host: host(), change: change(a) }),
        // What is to be removed has no value: `labels=rack:r2,disk:`.
        "SetHostProperties" => Command::SetHostProperties(SetHostProperties {
            host: host(),
            zone: a.get("zone").map(str::to_owned),
            labels: pairs_of(a, "labels")
                .map(|(key, value)| (key.to_owned(), Some(value.to_owned()).filter(|value| !value.is_empty())))
                .collect(),
            tenancy: a.get("tenant").map(|tenant| match tenant {
                "" => Tenancy::Shared,
                _ => Tenancy::Dedicated(a.id("tenant", "acme")),
            }),
            slots: a.get("slots").map(|slots| slots.parse().unwrap()),
        }),
        "RemoveOrphan" => Command::RemoveOrphan(RemoveOrphan {
            host: host(),
            object: a.text("object", "trade.gone.n0"),
            generation: a.number("generation", 1),
            seen_since: Millis(world::START.0 + a.number("since", 0)),
        }),
        "BeginHostMaintenance" => Command::BeginHostMaintenance(BeginHostMaintenance {
            host: host(),
            reason: a.text("reason", "new disk"),
            forced: a.get("forced").is_some(),
        }),
        "DrainHost" => Command::DrainHost(DrainHost {
            host: host(),
            reason: a.text("reason", "new disk"),
            accept_outage: a.get("accept").is_some(),
        }),
        "RetireHost" => Command::RetireHost(RetireHost { host: host(), reason: a.text("reason", "sold") }),
        "CordonHost" => Command::CordonHost(CordonHost { host: host(), reason: a.text("reason", "new disk") }),
        "UncordonHost" => Command::UncordonHost(UncordonHost { host: host() }),
        "RecordHostFacts" => Command::RecordHostFacts(RecordHostFacts {
            host: host(),
            facts: HostFacts {
                hostname: a.text("hostname", "h1"),
                arch: "x86-64".into(),
                kernel: "6.1".into(),
                cpus: 2,
                memory_bytes: 1 << 30,
                disk_free_bytes: 1 << 34,
                systemd: true,
            },
        }),
        "RecordHostKeyChanged" => {
            let jump = a.get("jump").map(|jump| jump.parse().unwrap());
            Command::RecordHostKeyChanged(RecordHostKeyChanged { host: host(), seen: fingerprint("seen"), jump })
        }
        "AcceptHostKey" => {
            Command::AcceptHostKey(AcceptHostKey { host: host(), fingerprint: fingerprint("fingerprint") })
        }
        _ => return None,
    })
}
