//! The firewall: one packet filter of libvirt's for each owner, which all its machines refer to.
//!
//! Libvirt knows no groups, so the owner's other machines are let in by the addresses of their interfaces, which their tokens
//! decide: they are on the same network. Defining a filter anew changes it for machines that run. Machines may ask for anything
//! themselves; answers to that come in.
//!
//! What this never does: change or remove a filter that is not the owner's.

use hanse_adapters_core::cloud::{Ingress, Owner, Source};
use hanse_adapters_core::{AdapterError, Result};

use crate::name;
use crate::virsh::{Refused, Virsh, Why};

/// What libvirt says where it filters nothing.
const UNKNOWN: &str = "not supported by the connection driver";

/// Has the owner's filter let in what is wished, from the machines of these interfaces where it says so.
pub(crate) async fn ensure(virsh: &Virsh, owner: &Owner, wished: &[Ingress], macs: &[String]) -> Result<()> {
    let text = definition(owner, wished, macs);
    match virsh.change(&["nwfilter-define", "--file", "/dev/stdin"], Some(text.as_bytes())).await {
        Err(Refused { error: AdapterError::Invalid { subject, reason }, .. }) if reason.contains(UNKNOWN) => {
            let reason = "this hypervisor knows no packet filters (nwfilter), so its machines would be open to all: connect to the \
                          system's daemon, as qemu+ssh://USER@HOST/system";
            Err(AdapterError::Invalid { subject, reason: reason.into() })
        }
        other => Ok(other.map(drop)?),
    }
}

/// Removes the owner's filter, which no machine needs any more; returns it in words.
pub(crate) async fn clear(virsh: &Virsh, owner: &Owner) -> Result<Option<String>> {
    let (name, _) = name::filter(owner);
    match virsh.change(&["nwfilter-undefine", "--nwfilter", &name], None).await {
        Ok(_) => Ok(Some(format!("packet filter {name}"))),
        // Another leader was first, or there never was one; or a machine that is being made has it: later.
        Err(Refused { why: Why::Missing | Why::InUse, .. }) => Ok(None),
        Err(Refused { error: AdapterError::Invalid { reason, .. }, .. }) if reason.contains(UNKNOWN) => Ok(None),
        Err(refused) => Err(refused.into()),
    }
}

fn definition(owner: &Owner, wished: &[Ingress], macs: &[String]) -> String {
    let (name, uuid) = name::filter(owner);
    let mut rules = String::new();
    let mut rule = |action: &str, direction: &str, priority: u32, what: &str| {
        let head = format!("<rule action='{action}' direction='{direction}' priority='{priority}'>");
        rules.push_str(&format!("{head}<{what}/></rule>\n"));
    };
    for it in wished {
        let ports = format!("dstportstart='{}' dstportend='{}'", it.port_first, it.port_last);
        match &it.from {
            Source::Cidr(cidr) => {
                let (address, length) = cidr.split_once('/').unwrap_or((cidr, "32"));
                let protocol = if address.contains(':') { "tcp-ipv6" } else { "tcp" };
                rule("accept", "in", 500, &format!("{protocol} srcipaddr='{address}' srcipmask='{length}' {ports}"));
            }
            Source::OwnMachines => {
                for mac in macs {
                    rule("accept", "in", 500, &format!("tcp srcmacaddr='{mac}' {ports}"));
                    rule("accept", "in", 500, &format!("tcp-ipv6 srcmacaddr='{mac}' {ports}"));
                }
            }
        }
    }
    // An address of its own, and neighbours: without these nothing else comes.
    rule("accept", "in", 600, "udp srcportstart='67' dstportstart='68'");
    rule("accept", "in", 600, "icmpv6");
    rule("accept", "out", 600, "all");
    rule("accept", "out", 600, "all-ipv6");
    rule("drop", "in", 900, "all");
    rule("drop", "in", 900, "all-ipv6");
    format!("<filter name='{name}' chain='root'>\n<uuid>{uuid}</uuid>\n{rules}</filter>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wished_is_dropped() {
        let owner = Owner { cluster: "c1".into(), cloud: "lab".into() };
        let wished = [
            Ingress { port_first: 22, port_last: 22, from: Source::Cidr("10.9.0.0/16".into()) },
            Ingress { port_first: 22, port_last: 22, from: Source::Cidr("fd00::/8".into()) },
            Ingress { port_first: 30_000, port_last: 30_099, from: Source::OwnMachines },
        ];
        let text = definition(&owner, &wished, &["02:00:00:00:00:01".into(), "02:00:00:00:00:02".into()]);
        assert!(
            text.contains("<tcp srcipaddr='10.9.0.0' srcipmask='16' dstportstart='22' dstportend='22'/>"),
            "{text}"
        );
        assert!(
            text.contains("<tcp-ipv6 srcipaddr='fd00::' srcipmask='8' dstportstart='22' dstportend='22'/>"),
            "{text}"
        );
        assert_eq!(text.matches("dstportstart='30000' dstportend='30099'").count(), 4, "{text}");
        let last: Vec<&str> = text.lines().rev().skip(1).take(2).collect();
        assert!(last.iter().all(|line| line.contains("drop") && line.contains("direction='in'")), "{text}");
        let nothing = definition(&owner, &[], &[]);
        assert!(!nothing.contains("tcp"), "{nothing}");
    }
}
