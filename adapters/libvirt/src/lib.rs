//! Hypervisors with libvirt: machines on the owner's own hardware.
//!
//! A hypervisor is asked by libvirt's own client, `virsh`, over SSH with a pinned host key (docs/decisions/0014): nothing is linked,
//! and nothing of ours is put there. A machine's UUID is made of its token and its definition carries the key, so that an order
//! that is made again is the same order: it is defined first, then its volumes are made, then it is started, and whoever comes
//! after a crash goes on from what is there.
//!
//! What this never does: touch what lacks the owner's mark, hand a shell anything but quoted words, or choose an image.

mod credentials;
mod filter;
mod machine;
mod name;
mod order;
mod preflight;
mod seed;
mod uri;
mod virsh;
mod volume;
mod xml;

use async_trait::async_trait;
use hanse_adapters_core::cloud::{Cloud, Disk, Machine, MachineKey, MachineWish, Owner};
use hanse_adapters_core::preflight::Finding;
use hanse_adapters_core::{AdapterError, Result};
use hanse_adapters_ssh::{HostPin, Identity, Login, SshCommands, SshTarget};

pub use credentials::Credentials;
use machine::{Host, Seen};
use order::Order;
use uri::Place;
use virsh::{Refused, Virsh, Why};

/// Where a hypervisor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibvirtTarget {
    /// `qemu+ssh://USER@HOST[:PORT]/system`, as libvirt writes it.
    pub endpoint: String,
    /// What the hypervisor is called: the zone of its machines.
    pub region: String,
}

/// One hypervisor.
pub struct LibvirtCloud {
    virsh: Virsh,
    credentials: Credentials,
    region: String,
}

impl LibvirtCloud {
    /// The hypervisor `target`, asked with `credentials`. Nothing is connected yet.
    ///
    /// # Errors
    /// `Invalid` if there can be no such hypervisor, or the credentials cannot be used.
    pub fn new(target: &LibvirtTarget, credentials: Credentials) -> Result<Self> {
        let place = Place::parse(&target.endpoint)?;
        let ssh = SshCommands::new(SshTarget {
            address: place.host,
            port: place.port,
            user: place.user,
            jumps: Vec::new(),
            pin: HostPin::Key(credentials.host_key.clone()),
            root: None,
            login: Login::Key(Identity::Key(credentials.identity.to_string())),
            sudo: false,
        })?;
        Ok(Self { virsh: Virsh::new(ssh, place.local), credentials, region: target.region.clone() })
    }

    /// Makes a machine, or goes on where making it was left off.
    async fn make(&self, wish: &MachineWish, there: Option<Seen>) -> Result<()> {
        let (virsh, key) = (&self.virsh, &wish.key);
        let uuid = name::machine_uuid(&key.token);
        let order = Order::read(wish)?;
        let image = volume::image(virsh, &order.pool, &order.image).await?;
        let mut macs: Vec<String> =
            machine::list(virsh, &key.owner).await?.iter().map(|it| name::mac(&it.machine.token)).collect();
        macs.push(name::mac(&key.token));
        macs.sort();
        macs.dedup();
        filter::ensure(virsh, &key.owner, &wish.ingress, &macs).await?;
        if there.is_none() {
            let told = virsh.ask(&["capabilities"]).await?;
            let host = Host::read(&told).ok_or_else(|| AdapterError::Invalid {
                subject: virsh.name().into(),
                reason: "runs no machines of its own architecture: install QEMU there".into(),
            })?;
            let text = machine::definition(wish, &order, &host);
            virsh.change(&["define", "--file", "/dev/stdin"], Some(text.as_bytes())).await?;
        }
        volume::ensure(virsh, wish, &order, &image).await?;
        match virsh.change(&["start", "--domain", &uuid], None).await {
            Err(Refused { why: Why::There, .. }) => {}
            other => drop(other?),
        }
        // It comes back with its hypervisor.
        Ok(virsh.change(&["autostart", "--domain", &uuid], None).await.map(drop)?)
    }

    /// The machine of a token; another's under its UUID is refused.
    async fn of_token(&self, key: &MachineKey) -> Result<Option<Seen>> {
        let seen = machine::by_uuid(&self.virsh, &name::machine_uuid(&key.token)).await?;
        Ok(seen.filter(|it| it.is_of(&key.owner) && it.machine.token == key.token))
    }

    /// As it is shown to others.
    async fn shown(&self, mut seen: Seen) -> Result<Machine> {
        machine::address(&self.virsh, &mut seen).await?;
        Ok(Machine { zone: self.region.clone(), ..seen.machine })
    }
}

/// Whether a text can be a machine's name here.
fn is_uuid(id: &str) -> bool {
    id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

#[async_trait]
impl Cloud for LibvirtCloud {
    async fn ensure(&self, wish: &MachineWish) -> Result<Machine> {
        let there = self.of_token(&wish.key).await?;
        if let Some(seen) = there.as_ref().filter(|it| it.is_active) {
            return self.shown(seen.clone()).await;
        }
        self.make(wish, there).await?;
        match self.of_token(&wish.key).await? {
            Some(seen) => self.shown(seen).await,
            None => Err(AdapterError::Unknown {
                subject: format!("machine {}", wish.key.machine),
                reason: "was started and is not there any more".into(),
            }),
        }
    }

    async fn find(&self, key: &MachineKey, id: Option<&str>) -> Result<Vec<Machine>> {
        let mut all: Vec<Seen> = self.of_token(key).await?.into_iter().collect();
        if let Some(id) = id.filter(|id| is_uuid(id) && all.iter().all(|it| it.machine.id != *id)) {
            all.extend(machine::by_uuid(&self.virsh, id).await?.filter(|it| it.is_of(&key.owner)));
        }
        let mut shown = Vec::new();
        for seen in all {
            shown.push(self.shown(seen).await?);
        }
        Ok(shown)
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Machine>> {
        let mut shown = Vec::new();
        for seen in machine::list(&self.virsh, owner).await? {
            shown.push(self.shown(seen).await?);
        }
        Ok(shown)
    }

    async fn delete(&self, owner: &Owner, id: &str) -> Result<()> {
        let virsh = &self.virsh;
        let denied = || AdapterError::Denied {
            subject: format!("machine {id}"),
            reason: "does not carry this cluster's mark, so it is not ours to delete".into(),
        };
        if !is_uuid(id) {
            return Err(denied());
        }
        let Some(seen) = machine::by_uuid(virsh, id).await? else {
            // Gone, or one that never carried a mark.
            return match virsh.ask(&["domstate", "--domain", id]).await {
                Ok(_) => Err(denied()),
                Err(Refused { why: Why::Missing, .. }) => Ok(()),
                Err(refused) => Err(refused.into()),
            };
        };
        if !seen.is_of(owner) {
            return Err(denied());
        }
        match virsh.change(&["destroy", "--domain", id], None).await {
            Err(Refused { why: Why::Missing | Why::Idle, .. }) => {}
            other => drop(other?),
        }
        for (pool, volume) in seen.own_volumes() {
            volume::delete(virsh, pool, volume).await?;
        }
        // Last: as long as it is there, whoever comes next finds what is left.
        match virsh.change(&["undefine", "--domain", id, "--managed-save", "--snapshots-metadata"], None).await {
            Err(Refused { why: Why::Missing, .. }) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    async fn disks(&self, owner: &Owner) -> Result<Vec<Disk>> {
        let all = volume::list(&self.virsh, owner).await?;
        Ok(all.into_iter().map(|disk| Disk { zone: self.region.clone(), ..disk }).collect())
    }

    async fn delete_disk(&self, owner: &Owner, id: &str) -> Result<()> {
        volume::delete_free(&self.virsh, owner, id).await
    }

    async fn clear(&self, owner: &Owner) -> Result<Vec<String>> {
        let mut gone = volume::clear(&self.virsh, owner).await?;
        if machine::list(&self.virsh, owner).await?.is_empty() {
            gone.extend(filter::clear(&self.virsh, owner).await?);
        }
        Ok(gone)
    }

    async fn preflight(&self, wish: &MachineWish) -> Result<Vec<Finding>> {
        preflight::look(&self.virsh, wish).await
    }

    fn derive(&self, label: &str) -> [u8; 32] {
        self.credentials.derive(label)
    }
}
