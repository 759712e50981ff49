//! Machines: one order each, their tags in that order, and how they are read back.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hanse_adapters_core::cloud::{Machine, MachineKey, MachinePhase, MachineWish, Owner};
use hanse_adapters_core::{AdapterError, Result};

use crate::client::{Call, Client, Refused};
use crate::disk::{KEEP, YES};
use crate::ground::{Subnet, is_of, marked, of, tag};
use crate::xml::Node;

/// Tag of what people call a machine.
pub(crate) const MACHINE: &str = "hanse:machine";
/// Tag of its token.
pub(crate) const TOKEN: &str = "hanse:token";
/// States of a machine that has not ended.
const LIVE: [&str; 4] = ["pending", "running", "stopping", "stopped"];
/// Pages of one list: a thousand machines each.
const PAGES_MAX: usize = 100;

/// A machine with what only this crate needs to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) machine: Machine,
    /// When it was started, as text that sorts.
    launched: String,
    item: Node,
}

impl Seen {
    /// Reads one; `is_public` says which of its addresses counts.
    fn read(item: &Node, is_public: bool) -> Self {
        let address = item.text(if is_public { "ipAddress" } else { "privateIpAddress" });
        let reason = [item.text("stateReason/message"), item.text("reason")].into_iter().find(|it| !it.is_empty());
        let phase = match item.text("instanceState/name") {
            "pending" => MachinePhase::Starting,
            "running" => MachinePhase::Running,
            "stopping" | "stopped" => MachinePhase::Stopped,
            "shutting-down" => MachinePhase::Ending,
            // `terminated`; and one that says nothing of itself is not ours to count on.
            _ => MachinePhase::Ended,
        };
        let machine = Machine {
            id: item.text("instanceId").into(),
            machine: tag(item, MACHINE).into(),
            token: tag(item, TOKEN).into(),
            phase,
            address: (!address.is_empty()).then(|| address.to_owned()),
            zone: item.text("placement/availabilityZone").into(),
            reason: reason.unwrap_or_default().into(),
        };
        Self { machine, launched: item.text("launchTime").into(), item: item.clone() }
    }

    /// Whether it carries the owner's mark.
    pub(crate) fn is_of(&self, owner: &Owner) -> bool {
        is_of(&self.item, owner)
    }
}

/// Returns what a question about machines answers, all pages, the oldest first.
async fn read_all(
    client: &Client,
    call: impl Fn() -> Call,
    is_public: bool,
) -> std::result::Result<Vec<Seen>, Refused> {
    let (mut all, mut token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let answer = client.call(call().with_some("NextToken", &token)).await?;
        let found = answer.items("reservationSet").flat_map(|it| it.items("instancesSet"));
        all.extend(found.map(|item| Seen::read(item, is_public)));
        answer.text("nextToken").clone_into(&mut token);
        if token.is_empty() {
            all.sort_by(|a, b| (&a.launched, &a.machine.id).cmp(&(&b.launched, &b.machine.id)));
            return Ok(all);
        }
    }
    let reason = format!("lists more than {PAGES_MAX} pages of machines");
    let error = AdapterError::Transient { subject: format!("region {}", client.region()), reason };
    Err(Refused { code: String::new(), error })
}

/// Returns the owner's machines that have not ended.
pub(crate) async fn list(client: &Client, owner: &Owner, is_public: bool) -> Result<Vec<Seen>> {
    let call = || of(Call::ask("DescribeInstances"), 1, owner).filter(3, "instance-state-name", &LIVE);
    let all = read_all(client, call, is_public).await?;
    // A cloud that does not know a filter may answer as if it were not there.
    Ok(all.into_iter().filter(|it| it.is_of(owner) && !it.machine.phase.is_over()).collect())
}

/// Returns the machines of a token that have not ended.
pub(crate) async fn of_token(client: &Client, key: &MachineKey, is_public: bool) -> Result<Vec<Seen>> {
    let call = || {
        of(Call::ask("DescribeInstances"), 1, &key.owner).filter(3, "instance-state-name", &LIVE).filter(
            4,
            &format!("tag:{TOKEN}"),
            &[&key.token],
        )
    };
    let all = read_all(client, call, is_public).await?;
    let is_it = |it: &Seen| it.is_of(&key.owner) && it.machine.token == key.token && !it.machine.phase.is_over();
    Ok(all.into_iter().filter(is_it).collect())
}

/// Returns the machine that the cloud calls `id`, if it still knows it.
pub(crate) async fn by_id(client: &Client, id: &str, is_public: bool) -> Result<Option<Seen>> {
    match read_all(client, || Call::ask("DescribeInstances").with("InstanceId.1", id), is_public).await {
        Ok(all) => Ok(all.into_iter().find(|it| it.machine.id == id)),
        Err(refused) if refused.code.starts_with("InvalidInstanceID") => Ok(None),
        Err(refused) => Err(refused.into()),
    }
}

/// Where and with what a machine starts, besides its wish.
pub(crate) struct Ground {
    pub(crate) subnet: Subnet,
    pub(crate) group: String,
    pub(crate) key_pair: String,
    pub(crate) is_public: bool,
}

/// The order for a machine; its token makes a repeated order the same order.
pub(crate) fn order(wish: &MachineWish, ground: &Ground) -> Call {
    let mut call = Call::change("RunInstances")
        .with("MinCount", "1")
        .with("MaxCount", "1")
        .with("ClientToken", &wish.key.token)
        .with("ImageId", &wish.image)
        .with("InstanceType", &wish.machine_type)
        .with_some("KeyName", &ground.key_pair)
        .with_some("UserData", &BASE64_STANDARD.encode(&wish.user_data));
    if ground.is_public {
        // An address of its own can only be asked for with the interface.
        let prefix = "NetworkInterface.1";
        call = call
            .with(format!("{prefix}.DeviceIndex"), "0")
            .with(format!("{prefix}.SubnetId"), &ground.subnet.id)
            .with(format!("{prefix}.AssociatePublicIpAddress"), "true")
            .with_some(format!("{prefix}.SecurityGroupId.1"), &ground.group);
    } else {
        call = call.with("SubnetId", &ground.subnet.id).with_some("SecurityGroupId.1", &ground.group);
    }
    let names = [("Name", format!("hanse-{}", wish.key.machine))];
    let tags = [(MACHINE, wish.key.machine.as_str()), (TOKEN, wish.key.token.as_str()), ("Name", names[0].1.as_str())];
    call = marked(call, "instance", 1, &wish.key.owner, &tags);
    let keep: &[(&str, &str)] = if wish.data_disk.as_ref().is_some_and(|it| it.keep) { &[(KEEP, YES)] } else { &[] };
    marked(call, "volume", 2, &wish.key.owner, &[&tags, keep].concat())
}

/// Reads the answer to an order.
pub(crate) fn ordered(answer: &Node, is_public: bool) -> Option<Seen> {
    answer.items("instancesSet").next().map(|item| Seen::read(item, is_public))
}

/// How many machines of the account have not ended, whosever they are.
pub(crate) async fn count(client: &Client) -> std::result::Result<usize, Refused> {
    let call = || Call::ask("DescribeInstances").filter(1, "instance-state-name", &LIVE);
    let all = read_all(client, call, false).await?;
    Ok(all.iter().filter(|it| !it.machine.phase.is_over()).count())
}

/// Orders the end of a machine; one that is gone is a success.
pub(crate) async fn end(client: &Client, id: &str) -> std::result::Result<(), Refused> {
    match client.call(Call::change("TerminateInstances").with("InstanceId.1", id)).await {
        Err(refused) if refused.code.starts_with("InvalidInstanceID") => Ok(()),
        other => other.map(drop),
    }
}
