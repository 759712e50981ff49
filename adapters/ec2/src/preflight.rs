//! What must hold before machines are ordered, looked at all at once.

use hanse_adapters_core::cloud::MachineWish;
use hanse_adapters_core::preflight::Finding;
use hanse_adapters_core::{AdapterError, Result};

use crate::client::{Call, Client, Refused};
use crate::disk;
use crate::ground::{self, Subnet};
use crate::machine::{self, Ground};
use crate::xml::Node;

/// Free addresses below which a subnet is nearly full.
const ADDRESSES_WISHED: u64 = 8;

/// Looks at everything; see [`hanse_adapters_core::cloud::Cloud::preflight`].
pub(crate) async fn look(client: &Client, wish: &MachineWish, is_public: bool) -> Result<Vec<Finding>> {
    let mut all = Vec::new();
    let zones = match client.call(Call::ask("DescribeAvailabilityZones")).await {
        Ok(answer) => answer,
        Err(Refused { error: error @ (AdapterError::Denied { .. } | AdapterError::Invalid { .. }), .. }) => {
            let advice = "everything else waits for this: repair the credentials, the endpoint or the region";
            return Ok(vec![Finding::error("credentials", error.to_string(), advice)]);
        }
        Err(refused) => return Err(refused.into()),
    };
    all.push(Finding::fine("credentials", format!("region {} answers them", client.region())));
    all.push(zone(&zones, wish));
    if !wish.image.is_empty() {
        all.push(told("image", image(client, &wish.image).await));
    }
    if !wish.machine_type.is_empty() {
        all.push(told("type", machine_type(client, &wish.machine_type).await));
    }
    all.push(told("limit", limit(client).await));
    match ground::subnet(client, wish).await {
        Err(error) => all.push(Finding::error("subnet", error.to_string(), "name a subnet of this region and zone")),
        Ok(subnet) => {
            all.push(addresses(&subnet));
            if !wish.image.is_empty() && !wish.machine_type.is_empty() {
                all.push(told("rights", rights(client, wish, subnet, is_public).await));
            }
        }
    }
    Ok(all)
}

/// What could not be looked at is told, and is no error of its own: some clouds know less.
fn told(check: &str, found: std::result::Result<Finding, Refused>) -> Finding {
    found.unwrap_or_else(|refused| match refused.error {
        error @ AdapterError::Denied { .. } => {
            Finding::error(check, error.to_string(), "give these credentials the right (docs/operations.md)")
        }
        error => Finding::warning(check, format!("not told: {error}"), "see to it yourself, this cloud does not say"),
    })
}

fn zone(answer: &Node, wish: &MachineWish) -> Finding {
    let all: Vec<(&str, &str)> =
        answer.items("availabilityZoneInfo").map(|it| (it.text("zoneName"), it.text("zoneState"))).collect();
    let names = all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if wish.zone.is_empty() {
        return Finding::fine("zone", format!("there are {names}"));
    }
    match all.iter().find(|(name, _)| *name == wish.zone) {
        Some((name, "available")) => Finding::fine("zone", format!("{name} is available")),
        Some((name, state)) => Finding::warning("zone", format!("{name} is {state}"), "take another zone meanwhile"),
        None => Finding::error("zone", format!("there is no {}", wish.zone), format!("take one of {names}")),
    }
}

async fn image(client: &Client, id: &str) -> std::result::Result<Finding, Refused> {
    let advice = "name an image of this region that this account may use";
    let answer = match client.call(Call::ask("DescribeImages").with("ImageId.1", id)).await {
        Err(refused) if refused.code.starts_with("InvalidAMIID") => {
            return Ok(Finding::error("image", format!("there is no {id}"), advice));
        }
        other => other?,
    };
    let Some(image) = answer.items("imagesSet").next() else {
        return Ok(Finding::error("image", format!("there is no {id}"), advice));
    };
    let (name, state) = (image.text("name"), image.text("imageState"));
    if state == "available" || state.is_empty() {
        return Ok(Finding::fine("image", format!("{id} is {name} ({})", image.text("architecture"))));
    }
    Ok(Finding::error("image", format!("{id} ({name}) is {state}"), "wait until it is available, or take another"))
}

async fn machine_type(client: &Client, name: &str) -> std::result::Result<Finding, Refused> {
    let none = || Finding::error("type", format!("there is no {name}"), "name a type that the region offers");
    let answer = match client.call(Call::ask("DescribeInstanceTypes").with("InstanceType.1", name)).await {
        Err(refused) if refused.code == "InvalidInstanceType" => return Ok(none()),
        other => other?,
    };
    let Some(it) = answer.items("instanceTypeSet").next() else { return Ok(none()) };
    let (cpus, memory) = (it.text("vCpuInfo/defaultVCpus"), it.text("memoryInfo/sizeInMiB"));
    Ok(Finding::fine("type", format!("{name} has {cpus} processors and {memory} MiB")))
}

/// The account's own count of machines, where the cloud tells it.
async fn limit(client: &Client) -> std::result::Result<Finding, Refused> {
    let answer = client.call(Call::ask("DescribeAccountAttributes").with("AttributeName.1", "max-instances")).await?;
    let most = answer
        .items("accountAttributeSet")
        .find(|it| it.text("attributeName") == "max-instances")
        .and_then(|it| it.items("attributeValueSet").next())
        .and_then(|it| it.text("attributeValue").parse::<usize>().ok());
    let Some(most) = most else {
        return Ok(Finding::warning("limit", "the cloud tells no limit of machines", "ask the provider for it"));
    };
    let live = machine::count(client).await?;
    let found = format!("{live} of at most {most} machines of the account");
    if live >= most {
        return Ok(Finding::error("limit", found, "delete machines, or have the provider raise the limit"));
    }
    Ok(Finding::fine("limit", found))
}

fn addresses(subnet: &Subnet) -> Finding {
    let found = format!("{} in {} has {} free addresses", subnet.id, subnet.zone, subnet.free);
    match subnet.free {
        0 => Finding::error("subnet", found, "take another subnet"),
        1..ADDRESSES_WISHED => Finding::warning("subnet", found, "it is soon full: take another, or free some"),
        _ => Finding::fine("subnet", found),
    }
}

/// Has the cloud judge an order without carrying it out.
async fn rights(
    client: &Client,
    wish: &MachineWish,
    subnet: Subnet,
    is_public: bool,
) -> std::result::Result<Finding, Refused> {
    let ground = Ground { subnet, group: String::new(), key_pair: String::new(), is_public };
    let order = disk::wished(client, machine::order(wish, &ground), wish).await;
    let order = order.map_err(|error| Refused { code: String::new(), error });
    let told = match order {
        Ok(order) => client.call(order.with("DryRun", "true")).await,
        Err(refused) => Err(refused),
    };
    match told {
        Err(refused) if refused.code == "DryRunOperation" => {
            Ok(Finding::fine("rights", "these credentials may make such a machine"))
        }
        Err(Refused { error: error @ AdapterError::Invalid { .. }, .. }) => {
            Ok(Finding::error("rights", error.to_string(), "repair what it names"))
        }
        Err(refused) => Err(refused),
        Ok(answer) => {
            // It carried out what it was only to judge. The mark would bring the sweep here; this is sooner.
            if let Some(seen) = machine::ordered(&answer, is_public).filter(|it| !it.machine.phase.is_over()) {
                machine::end(client, &seen.machine.id).await?;
            }
            let found = "this cloud cannot judge an order without carrying it out; what it made was deleted at once";
            Ok(Finding::warning("rights", found, "the first machine will tell"))
        }
    }
}
