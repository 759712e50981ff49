//! What machines stand on: the subnet they are put in, the group that lets in what is needed, the key that logs in.
//!
//! The group and the key are made with the first machine, shared by all of one owner, and carry the owner's mark. The group
//! lets in exactly what the wish says: what else it let in, from an older setting or a hand, is taken out again.
//!
//! What this never does: use or change a group or key that lacks the mark, or change a subnet.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hanse_adapters_core::cloud::{Ingress, MachineWish, Owner, Source};
use hanse_adapters_core::{AdapterError, Result};

use crate::client::{Call, Client};
use crate::xml::Node;

/// Tag of the owning cluster's id.
pub(crate) const CLUSTER: &str = "hanse:cluster";
/// Tag of what the cluster calls the cloud.
pub(crate) const CLOUD: &str = "hanse:cloud";

/// Where a machine is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) id: String,
    pub(crate) vpc: String,
    pub(crate) zone: String,
    /// Free addresses, as the cloud counts them.
    pub(crate) free: u64,
}

impl Subnet {
    fn read(item: &Node) -> Self {
        Self {
            id: item.text("subnetId").into(),
            vpc: item.text("vpcId").into(),
            zone: item.text("availabilityZone").into(),
            free: item.text("availableIpAddressCount").parse().unwrap_or(0),
        }
    }
}

/// Returns the subnet that the wish names, or one of its zone (else of any) with free addresses: which, its token decides, so
/// that machines are spread and a repeated order is the same order.
///
/// # Errors
/// `Invalid` if there is none.
pub(crate) async fn subnet(client: &Client, wish: &MachineWish) -> Result<Subnet> {
    let mut call = Call::ask("DescribeSubnets");
    if wish.subnet.is_empty() {
        call = call.filter(1, "default-for-az", &["true"]);
        if !wish.zone.is_empty() {
            call = call.filter(2, "availability-zone", &[&wish.zone]);
        }
    } else {
        call = call.with("SubnetId.1", &wish.subnet);
    }
    let wrong = |reason: String| AdapterError::Invalid { subject: format!("region {}", client.region()), reason };
    let answer = match client.call(call).await {
        Err(refused) if refused.code == "InvalidSubnetID.NotFound" => {
            return Err(wrong(format!("has no subnet {}: name one that `describe-subnets` lists", wish.subnet)));
        }
        other => other?,
    };
    let mut all: Vec<Subnet> = answer.items("subnetSet").map(Subnet::read).collect();
    let turn = |subnet: &Subnet| {
        let both = format!("{}{}", wish.key.token, subnet.id);
        (subnet.free == 0, ring::digest::digest(&ring::digest::SHA256, both.as_bytes()).as_ref().to_vec())
    };
    all.sort_by_key(turn);
    let Some(subnet) = all.into_iter().next() else {
        let zone = if wish.zone.is_empty() { "any zone" } else { &wish.zone };
        return Err(wrong(format!("has no default subnet in {zone}: name a subnet")));
    };
    if !wish.zone.is_empty() && subnet.zone != wish.zone {
        return Err(wrong(format!("subnet {} is in zone {}, not in {}", subnet.id, subnet.zone, wish.zone)));
    }
    Ok(subnet)
}

/// Adds the owner's mark and more tags to a call that creates a `kind` of thing.
pub(crate) fn marked(call: Call, kind: &str, at: usize, owner: &Owner, more: &[(&str, &str)]) -> Call {
    let prefix = format!("TagSpecification.{at}");
    let tags = [(CLUSTER, owner.cluster.as_str()), (CLOUD, owner.cloud.as_str())];
    let call = call.with(format!("{prefix}.ResourceType"), kind);
    tags.iter().chain(more).enumerate().fold(call, |call, (n, (key, value))| {
        let n = n + 1;
        call.with(format!("{prefix}.Tag.{n}.Key"), *key).with(format!("{prefix}.Tag.{n}.Value"), *value)
    })
}

/// Filters a question by the owner's mark, from filter `n` on.
pub(crate) fn of(call: Call, n: usize, owner: &Owner) -> Call {
    call.filter(n, &format!("tag:{CLUSTER}"), &[&owner.cluster]).filter(n + 1, &format!("tag:{CLOUD}"), &[&owner.cloud])
}

/// Whether something carries the owner's mark.
pub(crate) fn is_of(item: &Node, owner: &Owner) -> bool {
    tag(item, CLUSTER) == owner.cluster && tag(item, CLOUD) == owner.cloud
}

/// The value of a tag; empty if there is none.
pub(crate) fn tag<'a>(item: &'a Node, key: &str) -> &'a str {
    item.items("tagSet").find(|it| it.text("key") == key).map_or("", |it| it.text("value"))
}

/// What groups and keys of an owner are called.
fn name(owner: &Owner) -> String {
    let cluster: String = owner.cluster.chars().take(8).collect();
    format!("hanse-{cluster}-{}", owner.cloud)
}

/// Returns the id of the owner's group in `vpc`, which lets in what is wished and nothing else.
pub(crate) async fn group(client: &Client, owner: &Owner, vpc: &str, wished: &[Ingress]) -> Result<String> {
    let name = name(owner);
    let look = || Call::ask("DescribeSecurityGroups").filter(1, "group-name", &[&name]).filter(2, "vpc-id", &[vpc]);
    let mut answer = client.call(look()).await?;
    if answer.items("securityGroupInfo").next().is_none() {
        let create = Call::change("CreateSecurityGroup")
            .with("GroupName", &name)
            .with("GroupDescription", "What the nodes of a Hanse cluster need")
            .with("VpcId", vpc);
        match client.call(marked(create, "security-group", 1, owner, &[("Name", &name)])).await {
            // Whoever was first: it is looked at again.
            Err(refused) if refused.code == "InvalidGroup.Duplicate" => {}
            other => drop(other?),
        }
        answer = client.call(look()).await?;
    }
    let Some(group) = answer.items("securityGroupInfo").next() else {
        let reason = "was made, and is not shown yet".into();
        return Err(AdapterError::Transient { subject: format!("security group {name}"), reason });
    };
    let id = group.text("groupId").to_owned();
    if !is_of(group, owner) {
        let reason = "is there and does not carry this cluster's tags: rename or delete it".into();
        return Err(AdapterError::Denied { subject: format!("security group {name} ({id})"), reason });
    }
    let there = rules(group, &id);
    let wished: BTreeSet<Rule> = wished.iter().map(|it| Rule::of(it, &id)).collect();
    for rule in wished.difference(&there) {
        let call = rule.write(Call::change("AuthorizeSecurityGroupIngress").with("GroupId", &id));
        match client.call(call).await {
            Err(refused) if refused.code == "InvalidPermission.Duplicate" => {}
            other => drop(other?),
        }
    }
    // Afterwards: whoever may come in by both is not shut out in between.
    for rule in there.difference(&wished) {
        client.call(rule.write(Call::change("RevokeSecurityGroupIngress").with("GroupId", &id))).await?;
    }
    Ok(id)
}

/// One way in, as a cloud writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    protocol: String,
    first: String,
    last: String,
    cidr: String,
    group: String,
}

impl Rule {
    fn of(it: &Ingress, own: &str) -> Self {
        let (cidr, group) = match &it.from {
            Source::Cidr(cidr) => (cidr.clone(), String::new()),
            Source::OwnMachines => (String::new(), own.to_owned()),
        };
        let (first, last) = (it.port_first.to_string(), it.port_last.to_string());
        Self { protocol: "tcp".into(), first, last, cidr, group }
    }

    fn write(&self, call: Call) -> Call {
        let prefix = "IpPermissions.1";
        call.with(format!("{prefix}.IpProtocol"), &self.protocol)
            .with_some(format!("{prefix}.FromPort"), &self.first)
            .with_some(format!("{prefix}.ToPort"), &self.last)
            .with_some(
                format!(
                    "{prefix}.{}",
                    if self.cidr.contains(':') { "Ipv6Ranges.1.CidrIpv6" } else { "IpRanges.1.CidrIp" }
                ),
                &self.cidr,
            )
            .with_some(format!("{prefix}.Groups.1.GroupId"), &self.group)
    }
}

/// What a group lets in, one rule for each source.
fn rules(group: &Node, own: &str) -> BTreeSet<Rule> {
    let mut all = BTreeSet::new();
    for it in group.items("ipPermissions") {
        let rule = |cidr: &str, group: &str| Rule {
            protocol: it.text("ipProtocol").into(),
            first: it.text("fromPort").into(),
            last: it.text("toPort").into(),
            cidr: cidr.into(),
            group: group.into(),
        };
        all.extend(it.items("ipRanges").map(|range| rule(range.text("cidrIp"), "")));
        all.extend(it.items("ipv6Ranges").map(|range| rule(range.text("cidrIpv6"), "")));
        all.extend(it.items("groups").map(|other| {
            let id = other.text("groupId");
            rule("", if id.is_empty() { own } else { id })
        }));
    }
    all
}

/// Returns the name of the owner's key pair that lets in `login_key`, which is brought there if need be.
pub(crate) async fn key_pair(client: &Client, owner: &Owner, login_key: &str) -> Result<String> {
    // A comment does not make another key.
    let key: String = login_key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let hash = hex::encode(ring::digest::digest(&ring::digest::SHA256, key.as_bytes()));
    let name = format!("{}-{}", name(owner), &hash[..16]);
    match client.call(Call::ask("DescribeKeyPairs").with("KeyName.1", &name)).await {
        Ok(answer) if answer.items("keySet").next().is_some() => return Ok(name),
        Ok(_) => {}
        Err(refused) if refused.code == "InvalidKeyPair.NotFound" => {}
        Err(refused) => return Err(refused.into()),
    }
    let import =
        Call::change("ImportKeyPair").with("KeyName", &name).with("PublicKeyMaterial", BASE64_STANDARD.encode(&key));
    match client.call(marked(import, "key-pair", 1, owner, &[])).await {
        Err(refused) if refused.code == "InvalidKeyPair.Duplicate" => Ok(name),
        Err(refused) => Err(refused.into()),
        Ok(_) => Ok(name),
    }
}

/// Deletes the owner's groups and keys, which no machine needs any more; returns them in words.
pub(crate) async fn clear_shared(client: &Client, owner: &Owner) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    let groups = client.call(of(Call::ask("DescribeSecurityGroups"), 1, owner)).await?;
    for group in groups.items("securityGroupInfo").filter(|it| is_of(it, owner)) {
        let id = group.text("groupId");
        match client.call(Call::change("DeleteSecurityGroup").with("GroupId", id)).await {
            // A machine that is ending still has it: later.
            Err(refused) if refused.code == "DependencyViolation" => continue,
            // Another leader, or a person, was first.
            Err(refused) if refused.code == "InvalidGroup.NotFound" => continue,
            other => drop(other?),
        }
        gone.push(format!("security group {id}"));
    }
    let keys = client.call(of(Call::ask("DescribeKeyPairs"), 1, owner)).await?;
    for key in keys.items("keySet").filter(|it| is_of(it, owner)) {
        let name = key.text("keyName");
        match client.call(Call::change("DeleteKeyPair").with("KeyName", name)).await {
            // Another leader, or a person, was first.
            Err(refused) if refused.code == "InvalidKeyPair.NotFound" => continue,
            other => drop(other?),
        }
        gone.push(format!("key pair {name}"));
    }
    Ok(gone)
}
