//! Hosts, clouds and machines of the seeded cluster.

use hanse_tui::app::model::cloud::{Cloud, Machine};
use hanse_tui::app::model::data::Host;
use hanse_tui::app::model::edit::Way;

use crate::seed::NOW;

pub(crate) fn clouds() -> Vec<Cloud> {
    let cloud = |id: &str, machines: u64, orphans: &[&str]| Cloud {
        name: format!("clouds/{id}"),
        kind: "EC2".into(),
        region: format!("{id}-1"),
        endpoint: format!("https://ec2.{id}.example"),
        credentials: format!("{id}.toml"),
        machines: (machines, 20),
        lets_in: vec!["22 <- 10.0.0.0/24".into()],
        login: "admin /srv/hanse".into(),
        at: NOW - 86_400_000,
        orphans: orphans.iter().map(|it| (*it).to_owned()).collect(),
    };
    let orphans = [
        "i-0ff (seen 2 times): deleted after the grace time",
        "vol-07a (seen 2 times): 100 GiB of m0 in east-1a, ordered to be kept: delete it in the cloud when it is not needed any more",
    ];
    vec![cloud("east", 3, &orphans), cloud("west", 0, &[])]
}

pub(crate) fn machines() -> Vec<Machine> {
    let machine = |id: &str, state: &str, reason: &str, address: &str| Machine {
        name: format!("machines/{id}"),
        cloud: "east".into(),
        state: state.into(),
        reason: reason.into(),
        since: NOW - 125_000,
        machine_type: "m7.large".into(),
        image: "ami-0abc".into(),
        place: "east-1a".into(),
        instance: if state == "CREATING" { String::new() } else { format!("i-0{id}") },
        address: address.into(),
        fingerprint: format!("SHA256:{}", "A".repeat(43)),
        token: "5d".repeat(32),
        data_disk: if id == "m1" { "100 GiB gp3, kept when the machine goes".into() } else { String::new() },
        slots: 4,
    };
    let limit = "VcpuLimitExceeded: 8 of 8 (a limit of the account: delete machines, or have the provider raise it)";
    vec![
        machine("m1", "READY", "", "10.1.0.5"),
        machine("m2", "STARTING", "it runs at 10.1.0.6 and does not answer with SSH yet", ""),
        machine("m3", "CREATING", limit, ""),
        machine("m4", "ENDED", "the cloud ended i-0m4: Server.SpotInstanceTermination", "10.1.0.8"),
    ]
}

pub(crate) fn hosts() -> Vec<Host> {
    let host = |id: &str, state: &str, reason: &str| Host {
        name: format!("hosts/{id}"),
        state: state.into(),
        reason: reason.into(),
        reach: format!("ssh hanse@10.1.0.{}:22 /srv/hanse", &id[1..]),
        pinned: format!("SHA256:{}", "A".repeat(43)),
        expected: format!("SHA256:{}", "A".repeat(43)),
        way: ["via ops@10.0.0.1:22 SHA256:J".into(), "as root (sudo)".into()]
            .into_iter()
            .filter(|_| id == "h2")
            .collect(),
        seen: if state == "DISTRUSTED" { format!("SHA256:{}BCDEFGHI", "z".repeat(35)) } else { String::new() },
        address: format!("10.1.0.{}", &id[1..]),
        slots: (3, 8),
        capacity: "8 cpu, 31.2 GiB, 210.4 GiB free".into(),
        zone: "rack-1".into(),
        labels: vec!["disk=ssd".into()],
        dedicated_to: String::new(),
        seen_at: NOW - 12_000,
        orphans: (id == "h2")
            .then(|| "trade.old-1.n2 (generation 3, runs, seen 2 times): removed after the grace time".into())
            .into_iter()
            .collect(),
        ssh: (id != "h3").then(|| Way {
            address: format!("10.1.0.{}", &id[1..]),
            port: "22".into(),
            user: "hanse".into(),
            pin: format!("SHA256:{}", "A".repeat(43)),
            jumps: if id == "h2" { "ops@10.0.0.1:22=SHA256:J".into() } else { String::new() },
            login: "key".into(),
            sudo: if id == "h2" { "yes" } else { "no" }.into(),
        }),
    };
    vec![
        host("h1", "READY", ""),
        host("h2", "CORDONED", "disk is replaced"),
        host("h3", "DISTRUSTED", "host key changed to SHA256:Zm9v"),
    ]
}
