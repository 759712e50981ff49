//! Volumes: a machine's root disk over its image, its data disk, and what its first start is told.
//!
//! What this never does: delete a volume whose name is not the owner's mark, that is to be kept, or that a machine has.

use std::collections::BTreeSet;

use hanse_adapters_core::cloud::{Disk, MachineWish, Owner};
use hanse_adapters_core::{AdapterError, Result};

use crate::machine;
use crate::name::{self, Part, VolumeName};
use crate::order::Order;
use crate::seed;
use crate::virsh::{Refused, Virsh, Why};
use crate::xml::{Node, escape};

const GIB: u64 = 1 << 30;

/// An image, as the pool shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    path: String,
    format: String,
    bytes: u64,
}

impl Image {
    fn read(description: &str) -> Option<Self> {
        let root = Node::parse(description)?;
        let format = root.attribute("target/format", "type");
        Some(Self {
            path: root.text("target/path").into(),
            // What a pool finds in a plain image (`iso`, `dos`) is no format of an image.
            format: if format == "qcow2" { format } else { "raw" }.into(),
            bytes: root.text("capacity").parse().ok()?,
        })
    }

    /// The size of a root disk of `gib` over it, bytes; 0 is its own.
    fn root_bytes(&self, gib: u32) -> Result<u64> {
        match u64::from(gib) * GIB {
            0 => Ok(self.bytes),
            bytes if bytes < self.bytes => Err(AdapterError::Invalid {
                subject: format!("root disk of {gib} GiB"),
                reason: format!("is smaller than the image, which has {} GiB: say more", self.bytes.div_ceil(GIB)),
            }),
            bytes => Ok(bytes),
        }
    }

    pub(crate) fn gib(&self) -> u64 {
        self.bytes.div_ceil(GIB)
    }
}

/// Returns the image that an order names.
///
/// # Errors
/// `Invalid` if there is none.
pub(crate) async fn image(virsh: &Virsh, pool: &str, volume: &str) -> std::result::Result<Image, Refused> {
    let told = virsh.ask(&["vol-dumpxml", "--pool", pool, "--vol", volume]).await?;
    Image::read(&told).ok_or_else(|| {
        let (subject, reason) = (format!("image {pool}/{volume}"), "is described in a way that is not known".into());
        AdapterError::Invalid { subject, reason }.into()
    })
}

/// Makes the disks of a machine that does not run yet; those that are there already stay as they are.
pub(crate) async fn ensure(virsh: &Virsh, wish: &MachineWish, order: &Order, image: &Image) -> Result<()> {
    let seed = seed::image(wish, &name::machine_uuid(&wish.key.token));
    for disk in order.disks(wish) {
        let volume = VolumeName::new(&wish.key, disk.part).text();
        let (format, bytes, over) = match disk.part {
            Part::Root => {
                let over = format!(
                    "<backingStore><path>{}</path><format type='{}'/></backingStore>",
                    escape(&image.path),
                    escape(&image.format)
                );
                ("qcow2", image.root_bytes(wish.disk_gib)?, over)
            }
            Part::Data | Part::Kept => {
                ("qcow2", wish.data_disk.as_ref().map_or(0, |it| u64::from(it.gib)) * GIB, String::new())
            }
            Part::Seed => ("raw", u64::try_from(seed.len()).unwrap_or(u64::MAX), String::new()),
        };
        let text = format!(
            "<volume><name>{}</name><capacity unit='bytes'>{bytes}</capacity><target><format type='{format}'/>\
             <permissions><mode>0600</mode></permissions></target>{over}</volume>",
            escape(&volume)
        );
        let words = ["vol-create", "--pool", &disk.pool, "--file", "/dev/stdin"];
        match virsh.change(&words, Some(text.as_bytes())).await {
            // Whoever was first; or the order of a leader that did not come to its end.
            Err(Refused { why: Why::There, .. }) => {}
            other => drop(other?),
        }
        if disk.part == Part::Seed {
            let words = ["vol-upload", "--pool", &disk.pool, "--vol", &volume, "--file", "/dev/stdin"];
            virsh.change(&words, Some(&seed)).await?;
        }
    }
    Ok(())
}

/// Deletes a volume; one that is gone is a success.
pub(crate) async fn delete(virsh: &Virsh, pool: &str, volume: &str) -> Result<()> {
    match virsh.change(&["vol-delete", "--pool", pool, "--vol", volume], None).await {
        Err(Refused { why: Why::Missing, .. }) => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// Returns every volume of `owner` in the pools that are active.
pub(crate) async fn list(virsh: &Virsh, owner: &Owner) -> Result<Vec<Disk>> {
    let pools = virsh.ask(&["pool-list", "--name"]).await?;
    let pools: Vec<&str> = pools.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    let questions: Vec<Vec<&str>> = pools.iter().map(|pool| vec!["vol-list", "--pool", pool]).collect();
    let tables = virsh.ask_each(&questions).await?;
    let mut ours: Vec<(&str, &str, VolumeName)> = Vec::new();
    for (pool, table) in pools.iter().zip(&tables) {
        let names = table.lines().filter_map(|line| line.split_whitespace().next());
        let read = names.filter_map(|it| Some((*pool, it, VolumeName::parse(it)?)));
        ours.extend(read.filter(|(_, _, name)| name.is_of(owner)));
    }
    let questions: Vec<Vec<&str>> =
        ours.iter().map(|(pool, volume, _)| vec!["vol-dumpxml", "--pool", pool, "--vol", volume]).collect();
    let described = virsh.ask_each(&questions).await?;
    // Only now: a machine is defined before its disks are made.
    let used: BTreeSet<String> = machine::list(virsh, owner).await?.into_iter().map(|it| it.machine.token).collect();
    let disk = |((pool, volume, name), text): ((&str, &str, VolumeName), String)| {
        let bytes: u64 = Node::parse(&text)?.text("capacity").parse().unwrap_or(0);
        Some(Disk {
            id: format!("{pool}/{volume}"),
            is_free: !used.contains(&name.token),
            kept: name.part == Part::Kept,
            gib: u32::try_from(bytes.div_ceil(GIB)).unwrap_or(u32::MAX),
            zone: String::new(),
            machine: name.machine,
            token: name.token,
        })
    };
    Ok(ours.into_iter().zip(described).filter_map(disk).collect())
}

/// Deletes a volume of `owner` that no machine has.
pub(crate) async fn delete_free(virsh: &Virsh, owner: &Owner, id: &str) -> Result<()> {
    let subject = format!("disk {id}");
    let denied = |reason: &str| AdapterError::Denied { subject: subject.clone(), reason: reason.into() };
    let named = id.split_once('/').and_then(|(pool, volume)| Some((pool, volume, VolumeName::parse(volume)?)));
    let Some((pool, volume, name)) = named.filter(|(_, _, name)| name.is_of(owner)) else {
        return Err(denied("does not carry this cluster's mark, so it is not ours to delete"));
    };
    if name.part == Part::Kept {
        return Err(denied("was ordered to be kept: delete it with virsh when it is not needed any more"));
    }
    if machine::by_uuid(virsh, &name::machine_uuid(&name.token)).await?.is_some() {
        let reason = "a machine has it".into();
        return Err(AdapterError::Transient { subject, reason });
    }
    delete(virsh, pool, volume).await
}

/// Deletes what no machine has and is not to be kept; returns it in words.
pub(crate) async fn clear(virsh: &Virsh, owner: &Owner) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for disk in list(virsh, owner).await?.into_iter().filter(|it| it.is_free && !it.kept) {
        delete_free(virsh, owner, &disk.id).await?;
        gone.push(format!("disk {}", disk.id));
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_root_disk_is_never_smaller_than_its_image() {
        let text = "<volume><capacity unit='bytes'>3221225473</capacity><target><path>/p/d</path><format type='qcow2'/></target></volume>";
        let image = Image::read(text).unwrap();
        assert_eq!((image.root_bytes(0).unwrap(), image.root_bytes(4).unwrap()), (3 * GIB + 1, 4 * GIB));
        let error = image.root_bytes(3).unwrap_err().to_string();
        assert!(error.contains("which has 4 GiB"), "{error}");
        assert_eq!(Image::read(&text.replace("qcow2", "iso")).unwrap().format, "raw");
    }
}
