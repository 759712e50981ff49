//! Disks: the one that a machine's nodes live on, as part of the machine's order, and those that no machine has any more.
//!
//! All disks of an order carry its tags from the order on. What is to stay when its machine goes also carries a mark of its own:
//! when the machine is gone, nothing else tells it from one that only stayed behind.
//!
//! What this never does: delete a disk that a machine has, that carries that mark, or that lacks the owner's.

use hanse_adapters_core::cloud::{DataDisk, Disk, MachineWish, Owner};
use hanse_adapters_core::{AdapterError, Result};

use crate::client::{Call, Client, Refused};
use crate::ground::{is_of, of, tag};
use crate::machine::{MACHINE, TOKEN};
use crate::xml::Node;

/// Tag of disks that stay when their machine goes.
pub(crate) const KEEP: &str = "hanse:keep";
/// Its value.
pub(crate) const YES: &str = "yes";
/// What a data disk may be called in an order ("Device names for volumes on Amazon EC2 instances": what is recommended for data).
const DEVICES: std::ops::RangeInclusive<char> = 'f'..='p';
/// Pages of one list.
const PAGES_MAX: usize = 100;

/// Adds the disks that are wished to an order; what the image calls its own decides what they are called.
///
/// # Errors
/// `Invalid` if the image says too little, or has no room for one more.
pub(crate) async fn wished(client: &Client, mut call: Call, wish: &MachineWish) -> Result<Call> {
    if wish.disk_gib == 0 && wish.data_disk.is_none() {
        return Ok(call);
    }
    let image = ImageDisks::read(&client.call(Call::ask("DescribeImages").with("ImageId.1", &wish.image)).await?);
    let wrong =
        |reason: &str| AdapterError::Invalid { subject: format!("image {}", wish.image), reason: reason.into() };
    let mut count = 0;
    if wish.disk_gib > 0 {
        if image.root.is_empty() {
            return Err(wrong("does not say what its root disk is called: leave the disk's size out"));
        }
        count += 1;
        call = with_root(call, count, &image.root, wish.disk_gib);
    }
    if let Some(disk) = &wish.data_disk {
        let device = image.free().ok_or_else(|| wrong("has a disk of its own for every name: take another image"))?;
        call = with_data(call, count + 1, &device, disk);
    }
    Ok(call)
}

/// The root disk's size, as part of an order: mapping number `n`.
fn with_root(call: Call, n: usize, device: &str, gib: u32) -> Call {
    let prefix = format!("BlockDeviceMapping.{n}");
    call.with(format!("{prefix}.DeviceName"), device)
        .with(format!("{prefix}.Ebs.VolumeSize"), gib.to_string())
        .with(format!("{prefix}.Ebs.DeleteOnTermination"), "true")
}

/// What an image says of disks.
struct ImageDisks {
    /// What it calls its root disk; empty if it does not say.
    root: String,
    /// What all its disks are called.
    names: Vec<String>,
}

impl ImageDisks {
    /// Reads the answer to a question about one image.
    fn read(answer: &Node) -> Self {
        let image = answer.items("imagesSet").next();
        let root = image.map_or("", |it| it.text("rootDeviceName")).to_owned();
        let names = image.into_iter().flat_map(|it| it.items("blockDeviceMapping"));
        Self { names: names.map(|it| it.text("deviceName").to_owned()).collect(), root }
    }

    /// A name for one more, the same for the same image; `None` if it has them all.
    fn free(&self) -> Option<String> {
        let is_free = |name: &String| self.root != *name && !self.names.contains(name);
        DEVICES.map(|letter| format!("/dev/sd{letter}")).find(is_free)
    }
}

/// The data disk, as part of an order: mapping number `n`.
fn with_data(call: Call, n: usize, device: &str, disk: &DataDisk) -> Call {
    let prefix = format!("BlockDeviceMapping.{n}");
    call.with(format!("{prefix}.DeviceName"), device)
        .with(format!("{prefix}.Ebs.VolumeSize"), disk.gib.to_string())
        .with_some(format!("{prefix}.Ebs.VolumeType"), &disk.kind)
        .with(format!("{prefix}.Ebs.DeleteOnTermination"), if disk.keep { "false" } else { "true" })
}

/// Returns the owner's disks.
pub(crate) async fn list(client: &Client, owner: &Owner) -> Result<Vec<Disk>> {
    let (mut all, mut token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let call = of(Call::ask("DescribeVolumes"), 1, owner).with_some("NextToken", &token);
        let answer = client.call(call).await?;
        // A cloud that does not know a filter may answer as if it were not there.
        all.extend(answer.items("volumeSet").filter(|it| is_of(it, owner)).map(read));
        answer.text("nextToken").clone_into(&mut token);
        if token.is_empty() {
            return Ok(all);
        }
    }
    let reason = format!("lists more than {PAGES_MAX} pages of disks");
    Err(AdapterError::Transient { subject: format!("region {}", client.region()), reason })
}

fn read(item: &Node) -> Disk {
    Disk {
        id: item.text("volumeId").into(),
        machine: tag(item, MACHINE).into(),
        token: tag(item, TOKEN).into(),
        gib: item.text("size").parse().unwrap_or(0),
        // `creating`, `in-use` and `deleting` have a machine, or will be gone.
        is_free: matches!(item.text("status"), "available" | "error"),
        kept: tag(item, KEEP) == YES,
        zone: item.text("availabilityZone").into(),
    }
}

/// Deletes a disk of the owner's that no machine has; one that is gone is a success.
pub(crate) async fn delete(client: &Client, owner: &Owner, id: &str) -> Result<()> {
    let subject = || format!("disk {id}");
    let answer = match client.call(Call::ask("DescribeVolumes").with("VolumeId.1", id)).await {
        Err(refused) if refused.code == "InvalidVolume.NotFound" => return Ok(()),
        other => other?,
    };
    let Some(item) = answer.items("volumeSet").find(|it| it.text("volumeId") == id) else { return Ok(()) };
    let denied = |reason: &str| Err(AdapterError::Denied { subject: subject(), reason: reason.into() });
    if !is_of(item, owner) {
        return denied("does not carry this cluster's tags, so it is not ours to delete");
    }
    let disk = read(item);
    if disk.kept {
        return denied("was ordered to be kept: delete it in the cloud if it is not needed");
    }
    if !disk.is_free {
        let reason = format!("is {}, so it is not deleted now", item.text("status"));
        return Err(AdapterError::Transient { subject: subject(), reason });
    }
    Ok(remove(client, id).await?)
}

/// Deletes the owner's disks that no machine has and nobody wants to keep; returns them in words.
pub(crate) async fn clear(client: &Client, owner: &Owner) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for disk in list(client, owner).await?.into_iter().filter(|it| it.is_free && !it.kept) {
        remove(client, &disk.id).await?;
        gone.push(format!("disk {}", disk.id));
    }
    Ok(gone)
}

async fn remove(client: &Client, id: &str) -> std::result::Result<(), Refused> {
    match client.call(Call::change("DeleteVolume").with("VolumeId", id)).await {
        // Another leader, or a person, was first.
        Err(refused) if refused.code == "InvalidVolume.NotFound" => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_data_disk_takes_no_name_that_the_image_has() {
        let image = |devices: &[&str]| {
            let items: String =
                devices.iter().map(|it| format!("<item><deviceName>{it}</deviceName></item>")).collect();
            let text = format!(
                "<a><imagesSet><item><rootDeviceName>/dev/sda1</rootDeviceName><blockDeviceMapping>{items}\
                 </blockDeviceMapping></item></imagesSet></a>"
            );
            ImageDisks::read(&Node::parse(text.as_bytes()).unwrap())
        };
        assert_eq!(image(&["/dev/sda1"]).free().unwrap(), "/dev/sdf");
        assert_eq!(image(&["/dev/sda1", "/dev/sdf", "/dev/sdg"]).free().unwrap(), "/dev/sdh");
        let all: Vec<String> = DEVICES.map(|letter| format!("/dev/sd{letter}")).collect();
        assert_eq!(image(&all.iter().map(String::as_str).collect::<Vec<_>>()).free(), None);
        let unsaid = ImageDisks::read(&Node::parse(b"<a><imagesSet/></a>").unwrap());
        assert_eq!((unsaid.root.as_str(), unsaid.free().unwrap().as_str()), ("", "/dev/sdf"));
    }
}
