//! A node that others run: what its home says, before its chain is taken over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hanse_adapters_core::preflight::Finding;
use hanse_adapters_core::{Holder, HomeSeen};

use crate::{NodeIdentity, Signed};

/// What was seen of a home of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Everything that was looked at, good and bad; with an error among them the home is not taken over as it is.
    pub findings: Vec<Finding>,
    /// What is in it; `None` if it cannot be read.
    pub found: Option<Found>,
}

/// What is in a home of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who it is, by its key.
    pub identity: NodeIdentity,
    /// Its genesis file.
    pub genesis: Vec<u8>,
    /// The chain id that the genesis gives.
    pub chain_id: u64,
    /// Hash of the first block, `0x` and lower-case hex: as the genesis gives it, or as the node that holds the home says. `None` if neither
    /// does.
    pub first_block: Option<String>,
    /// Public keys of the validators that the genesis names; none if the genesis says nothing of who validates now.
    pub validators: Vec<String>,
    /// Where it listens for peers.
    pub p2p_address: IpAddr,
    /// Its port there.
    pub p2p_port: u16,
    /// Its port for clients.
    pub rpc_port: u16,
    /// Its further ports, by [`Engine::ports`](crate::Engine::ports)' names.
    pub ports: BTreeMap<String, u16>,
    /// What is set on it, by the names of the template's settings.
    pub settings: BTreeMap<String, u64>,
    /// Whether a process holds the home.
    pub is_held: bool,
    /// How far it has signed, if it keeps a record of that.
    pub signed: Option<Signed>,
}

/// What can be said of a home of any ledger.
pub fn of_folder(seen: &HomeSeen) -> Vec<Finding> {
    let mut findings = Vec::new();
    match seen.obstacle.as_str() {
        "" => {
            findings.push(Finding::fine("home", format!("{}: {} files, {} bytes", seen.home, seen.files, seen.bytes)))
        }
        why => {
            findings.push(Finding::error("home", why, "a home of plain files that our account can read is taken over"))
        }
    }
    if let Some(by) = &seen.taken_by {
        findings.push(Finding::warning(
            "mark",
            format!("it is taken over by {by} already"),
            "go on only if that is this node",
        ));
    }
    let needed = seen.bytes.saturating_add(64 << 20);
    findings.push(match seen.disk_free_bytes >= needed {
        true => Finding::fine("disk", format!("{} bytes are free, it needs {needed}", seen.disk_free_bytes)),
        false => {
            let found = format!("{} bytes are free, a copy of the home needs {needed}", seen.disk_free_bytes);
            Finding::error("disk", found, "free space where the host's root folder is")
        }
    });
    findings.push(match seen.holders.as_slice() {
        [] => Finding::fine("process", "no process holds it"),
        [one] if one.pid > 0 => Finding::fine("process", format!("process {} holds it: {}", one.pid, one.command)),
        [_] => {
            let found = "a process holds it that our account cannot see";
            Finding::error("process", found, "reach the host as the account that runs the node, or as root")
        }
        several => {
            let all: Vec<String> = several.iter().map(|Holder { pid, command }| format!("{pid} ({command})")).collect();
            Finding::error(
                "process",
                format!("several processes hold it: {}", all.join(", ")),
                "let only the node hold it",
            )
        }
    });
    findings
}

/// A port is the node's own, or nobody's.
pub fn of_port(seen: &HomeSeen, port: u16, of: &str) -> Finding {
    match seen.listening.get(&port) {
        Some(false) => {
            let found = format!("another process than the node listens at port {port}, which is the one for {of}");
            Finding::error("port", found, "let only the node listen there")
        }
        Some(true) => Finding::fine("port", format!("the node listens at port {port} for {of}")),
        None => Finding::fine("port", format!("port {port} for {of} is free")),
    }
}
