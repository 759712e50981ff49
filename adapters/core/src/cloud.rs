//! What every cloud can do: make machines, find its own again, and delete them.
//!
//! A [`Cloud`] value stands for one region of one cloud and the account that its credentials belong to. The layers above
//! cannot tell clouds apart: they ask for a machine by its key, look until it runs, and reach it as any host over SSH.
//!
//! A machine is named by its key for ever: whose it is, what people call it, and a token that no other machine ever has. All
//! are its tags from the call that creates it on, so that whatever happens to the caller, the next one
//! finds it. [`Cloud::ensure`] looks first and creates only what is not there.
//!
//! What a cloud never does: touch what lacks the owner's mark, decide that a machine is no longer wanted, keep state that a
//! new leader would need, or say a credential in an error.

use async_trait::async_trait;

use crate::Result;
use crate::preflight::Finding;

/// Whose a thing in a cloud is: the mark that all of ours carry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Id of the cluster.
    pub cluster: String,
    /// What the cluster calls this cloud: two of its clouds may be one account.
    pub cloud: String,
}

/// Names one machine for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineKey {
    /// Whose it is.
    pub owner: Owner,
    /// What people call it.
    pub machine: String,
    /// 64 hex digits that no other machine has; also what makes a repeated order to the cloud the same order.
    pub token: String,
}

/// From where a port of a machine may be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Addresses, as `10.0.0.0/8`.
    Cidr(String),
    /// The owner's machines.
    OwnMachines,
}

/// Ports that are let in, over TCP; everything else is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ingress {
    /// First port.
    pub port_first: u16,
    /// Last port.
    pub port_last: u16,
    /// From where.
    pub from: Source,
}

/// A disk of its own for what a machine's instances keep, made in the machine's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDisk {
    /// Its size in GiB.
    pub gib: u32,
    /// The cloud's name of its kind; empty is the cloud's own choice.
    pub kind: String,
    /// Whether it stays when the machine goes; otherwise the cloud deletes it with the machine.
    pub keep: bool,
}

/// A disk as a cloud shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The cloud's name of it.
    pub id: String,
    /// What people call the machine that it was ordered with, by its tag; empty if the tag is gone.
    pub machine: String,
    /// That machine's token, by its tag; empty if the tag is gone.
    pub token: String,
    /// Its size in GiB, 0 if the cloud does not say.
    pub gib: u32,
    /// Whether no machine has it.
    pub is_free: bool,
    /// Whether it was ordered to stay when its machine goes.
    pub kept: bool,
    /// The cloud's zone.
    pub zone: String,
}

/// A machine that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineWish {
    /// Its name.
    pub key: MachineKey,
    /// The cloud's name of the image that it starts from.
    pub image: String,
    /// The cloud's name of its size.
    pub machine_type: String,
    /// The cloud's zone; empty is any, or the subnet's.
    pub zone: String,
    /// The cloud's name of the subnet; empty is one of the zone.
    pub subnet: String,
    /// Size of its root disk in GiB; 0 is the image's own.
    pub disk_gib: u32,
    /// The disk beside it, if one is wanted.
    pub data_disk: Option<DataDisk>,
    /// What its first start is told (cloud-init's `#cloud-config`), as plain text; may be empty.
    pub user_data: String,
    /// The key that its account lets in, one line as in `authorized_keys`.
    pub login_key: String,
    /// What may reach it.
    pub ingress: Vec<Ingress>,
}

/// How far a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MachinePhase {
    /// It was ordered and will run.
    Starting,
    /// It runs, as far as the cloud knows.
    Running,
    /// It was stopped, by a person or by the cloud, and keeps its disk.
    Stopped,
    /// It is being deleted; its disks and its place in the group are not free yet.
    Ending,
    /// It is gone.
    Ended,
}

impl MachinePhase {
    /// Whether it will not run again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Ending | Self::Ended)
    }
}

/// A machine as a cloud shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The cloud's name of it.
    pub id: String,
    /// What people call it, by its tag; empty if the tag is gone.
    pub machine: String,
    /// Its token, by its tag; empty if the tag is gone.
    pub token: String,
    /// How far it is.
    pub phase: MachinePhase,
    /// Where it is reached, once the cloud knows.
    pub address: Option<String>,
    /// The cloud's zone.
    pub zone: String,
    /// Why it is in this phase, in the cloud's words; empty if it does not say.
    pub reason: String,
}

/// One region of one cloud.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// Creates the machine unless one of its token is there, and returns it. With it comes what it needs: the login key and
    /// the firewall's group, which the owner's machines share. Asked again with the same key and wish this is
    /// the same machine, also if the cloud does not show it yet.
    ///
    /// # Errors
    /// `Denied` if credentials or a limit of the account are in the way, `Invalid` if there can be no such machine,
    /// `Transient` if nothing was made; `Unknown` if it may have been: ask again.
    async fn ensure(&self, wish: &MachineWish) -> Result<Machine>;

    /// Returns the machines of this token that are not over, the oldest first; more than one if a cloud that forgot an order
    /// was asked twice. With `id` also the machine of that name, whether it is over or not, unless the cloud no longer knows it.
    ///
    /// # Errors
    /// `Denied`, `Transient`.
    async fn find(&self, key: &MachineKey, id: Option<&str>) -> Result<Vec<Machine>>;

    /// Returns every machine of `owner` that is not over.
    ///
    /// # Errors
    /// `Denied`, `Transient`.
    async fn list(&self, owner: &Owner) -> Result<Vec<Machine>>;

    /// Orders the deletion of a machine of `owner` with its disks, but for one that is to be kept; one that is gone is a success. It
    /// has ended when [`Cloud::find`] says so.
    ///
    /// # Errors
    /// `Denied` also if the machine does not carry the owner's mark; `Transient`, `Unknown`.
    async fn delete(&self, owner: &Owner, id: &str) -> Result<()>;

    /// Returns every disk of `owner`, with a machine or without.
    ///
    /// # Errors
    /// `Denied`, `Transient`.
    async fn disks(&self, owner: &Owner) -> Result<Vec<Disk>>;

    /// Deletes a disk of `owner` that no machine has; one that is gone is a success.
    ///
    /// # Errors
    /// `Denied` also if the disk does not carry the owner's mark, or is to be kept; `Transient` also while a machine has it;
    /// `Unknown`.
    async fn delete_disk(&self, owner: &Owner, id: &str) -> Result<()>;

    /// Removes what `owner` has here besides machines and no machine needs: disks without a machine that are not to be kept,
    /// and, once no machine is left, the firewall's group and the login keys. Returns what it removed, in words.
    ///
    /// # Errors
    /// As [`Cloud::delete`].
    async fn clear(&self, owner: &Owner) -> Result<Vec<String>>;

    /// Looks at everything that must hold before machines like `wish` are ordered: credentials, region, image, type, subnet,
    /// limits. Makes nothing. Empty fields of the wish are not looked at.
    ///
    /// # Errors
    /// None for what it found; `Transient` if the cloud does not answer at all.
    async fn preflight(&self, wish: &MachineWish) -> Result<Vec<Finding>>;

    /// Returns 32 bytes that only who holds this cloud's credentials can know, the same for the same label: every replica makes
    /// the same host key for a machine of them, and none has to keep it.
    fn derive(&self, label: &str) -> [u8; 32];
}
