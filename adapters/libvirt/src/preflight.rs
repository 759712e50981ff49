//! What must hold before machines are ordered, looked at all at once.

use hanse_adapters_core::cloud::MachineWish;
use hanse_adapters_core::preflight::Finding;
use hanse_adapters_core::{AdapterError, Result};

use crate::machine::Host;
use crate::order;
use crate::virsh::{Refused, Virsh};
use crate::volume;
use crate::xml::Node;

/// Space that a pool should have beside an image: a root disk grows as it is written to.
const POOL_BYTES_LEAST: u64 = 2 << 30;
const GIB: u64 = 1 << 30;

/// Looks at everything; see [`hanse_adapters_core::cloud::Cloud::preflight`].
pub(crate) async fn look(virsh: &Virsh, wish: &MachineWish) -> Result<Vec<Finding>> {
    let mut all = Vec::new();
    let told = match virsh.ask(&["capabilities"]).await.map_err(AdapterError::from) {
        Ok(told) => told,
        Err(error @ (AdapterError::Denied { .. } | AdapterError::Invalid { .. })) => {
            let advice =
                "everything else waits for this: repair the endpoint, the file of credentials or the account there";
            return Ok(vec![Finding::error("credentials", error.to_string(), advice)]);
        }
        Err(error) => return Err(error),
    };
    all.push(Finding::fine("credentials", format!("{} answers them", virsh.name())));
    all.push(acceleration(&told));
    all.push(seen("firewall", virsh.ask(&["nwfilter-list"]).await, |_| {
        Finding::fine("firewall", "this hypervisor filters packets")
    })?);
    if !wish.machine_type.is_empty() {
        all.push(size(virsh, &wish.machine_type).await?);
    }
    if !wish.image.is_empty() {
        all.extend(image(virsh, &wish.image).await?);
    }
    all.push(network(virsh, &wish.subnet).await?);
    Ok(all)
}

/// What was refused is a finding; what was not answered is none.
fn seen(
    check: &str,
    told: std::result::Result<String, Refused>,
    fine: impl FnOnce(&str) -> Finding,
) -> Result<Finding> {
    match told.map_err(AdapterError::from) {
        Ok(told) => Ok(fine(&told)),
        Err(error @ (AdapterError::Transient { .. } | AdapterError::Unknown { .. })) => Err(error),
        Err(error) => {
            Ok(Finding::error(check, error.to_string(), "repair what it names on the hypervisor, or name another"))
        }
    }
}

fn acceleration(capabilities: &str) -> Finding {
    match Host::read(capabilities) {
        None => {
            Finding::error("machines", "this hypervisor runs no machines of its own architecture", "install QEMU there")
        }
        Some(host) if host.kind == "kvm" => Finding::fine("machines", format!("{} with KVM", host.arch)),
        Some(host) => {
            let found = format!("{} without KVM ({}): machines are many times slower", host.arch, host.kind);
            Finding::warning("machines", found, "let the hypervisor use /dev/kvm")
        }
    }
}

async fn size(virsh: &Virsh, text: &str) -> Result<Finding> {
    let (cpus, mib) = match order::size(text) {
        Ok(size) => size,
        Err(error) => return Ok(Finding::error("type", error.to_string(), "say 2x4096 for two processors and 4 GiB")),
    };
    seen("type", virsh.ask(&["nodeinfo"]).await, |told| {
        let (has_cpus, has_mib) = (figure(told, "CPU(s)"), figure(told, "Memory size") / 1_024);
        let found = format!("{cpus} processors and {mib} MiB of the hypervisor's {has_cpus} and {has_mib}");
        if u64::from(cpus) > has_cpus || u64::from(mib) > has_mib {
            return Finding::error("type", found, "take a smaller type");
        }
        Finding::fine("type", found)
    })
}

/// The first number behind a label of a table.
fn figure(table: &str, label: &str) -> u64 {
    let line = table.lines().find_map(|line| line.trim().strip_prefix(label)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

async fn image(virsh: &Virsh, text: &str) -> Result<Vec<Finding>> {
    let (pool, name) = match order::image(text) {
        Ok(both) => both,
        Err(error) => return Ok(vec![Finding::error("image", error.to_string(), "say it as base/debian.qcow2")]),
    };
    let found = volume::image(virsh, &pool, &name).await;
    let found = found.map(|image| format!("{text} has {} GiB", image.gib()));
    let image = seen("image", found, |found| Finding::fine("image", found))?;
    let space = seen("space", virsh.ask(&["pool-dumpxml", "--pool", &pool]).await, |told| {
        let free: u64 = Node::parse(told).and_then(|it| it.text("available").parse().ok()).unwrap_or(0);
        let found = format!("pool {pool} has {} GiB left", free / GIB);
        if free < POOL_BYTES_LEAST {
            return Finding::error("space", found, "make room in it, or take an image of another pool");
        }
        Finding::fine("space", found)
    })?;
    Ok(vec![image, space])
}

async fn network(virsh: &Virsh, subnet: &str) -> Result<Finding> {
    let name = match order::network(subnet) {
        Ok(name) => name,
        Err(error) => return Ok(Finding::error("subnet", error.to_string(), "name a network of the hypervisor")),
    };
    seen("subnet", virsh.ask(&["net-info", "--network", &name]).await, |told| {
        let is_active = told.lines().any(|line| line.starts_with("Active:") && line.ends_with("yes"));
        if is_active {
            return Finding::fine("subnet", format!("network {name} is active"));
        }
        Finding::error("subnet", format!("network {name} is not active"), format!("say `virsh net-start {name}` there"))
    })
}
