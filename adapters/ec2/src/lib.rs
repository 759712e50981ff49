//! Clouds with the interface of EC2: machines, and what they stand on.
//!
//! Requests are signed forms over HTTPS, answers are XML (docs/decisions/0013). A machine is looked for by its token's tag
//! before it is ordered; the same token is the order's `ClientToken`, so that a cloud that does not show it yet gives the
//! same one again. What a call may have done without an answer is `Unknown`: the next [`Cloud::ensure`] looks.
//!
//! What this never does: touch what lacks the owner's tags, repeat a change, log a secret, or choose an image.

mod client;
mod credentials;
mod disk;
mod ground;
mod machine;
mod preflight;
mod sign;
mod xml;

use async_trait::async_trait;
use hanse_adapters_core::cloud::{Cloud, Disk, Machine, MachineKey, MachineWish, Owner};
use hanse_adapters_core::preflight::Finding;
use hanse_adapters_core::{AdapterError, Result};

use client::{Client, Refused};
pub use credentials::Credentials;
use machine::Ground;

/// Where a region is, and how its machines are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2Target {
    /// `https://host[:port]`; `http://` on this machine only.
    pub endpoint: String,
    /// The region's name, as signatures need it.
    pub region: String,
    /// Whether machines get and are reached at public addresses; otherwise at those of their subnet.
    pub is_public: bool,
}

/// One region of a cloud with the interface of EC2.
pub struct Ec2Cloud {
    client: Client,
    credentials: Credentials,
    is_public: bool,
}

impl Ec2Cloud {
    /// The region `target`, asked with `credentials`. Nothing is asked yet.
    ///
    /// # Errors
    /// `Invalid` if there can be no such endpoint, or the authorities cannot be read.
    pub fn new(target: &Ec2Target, credentials: Credentials) -> Result<Self> {
        let client = Client::new(&target.endpoint, &target.region, credentials.clone())?;
        Ok(Self { client, credentials, is_public: target.is_public })
    }

    /// Orders a machine that is not there.
    async fn create(&self, wish: &MachineWish) -> Result<Machine> {
        let owner = &wish.key.owner;
        let subnet = ground::subnet(&self.client, wish).await?;
        let group = ground::group(&self.client, owner, &subnet.vpc, &wish.ingress).await?;
        let key_pair = ground::key_pair(&self.client, owner, &wish.login_key).await?;
        let ground = Ground { subnet, group, key_pair, is_public: self.is_public };
        let call = disk::wished(&self.client, machine::order(wish, &ground), wish).await?;
        let answer = match self.client.call(call).await {
            Err(Refused { code, .. }) if code == "IdempotentParameterMismatch" => {
                let reason =
                    "was ordered with other settings, and the cloud does not show it yet; it is looked for again";
                return Err(AdapterError::Transient { subject: about(&wish.key), reason: reason.into() });
            }
            other => other?,
        };
        machine::ordered(&answer, self.is_public).map(|it| it.machine).ok_or_else(|| AdapterError::Unknown {
            subject: about(&wish.key),
            reason: "the cloud took the order and named no machine".into(),
        })
    }
}

fn about(key: &MachineKey) -> String {
    format!("machine {}", key.machine)
}

#[async_trait]
impl Cloud for Ec2Cloud {
    async fn ensure(&self, wish: &MachineWish) -> Result<Machine> {
        let there = machine::of_token(&self.client, &wish.key, self.is_public).await?;
        match there.into_iter().next() {
            Some(seen) => Ok(seen.machine),
            None => self.create(wish).await,
        }
    }

    async fn find(&self, key: &MachineKey, id: Option<&str>) -> Result<Vec<Machine>> {
        let mut all = machine::of_token(&self.client, key, self.is_public).await?;
        if let Some(id) = id.filter(|id| all.iter().all(|it| it.machine.id != *id)) {
            all.extend(machine::by_id(&self.client, id, self.is_public).await?.filter(|it| it.is_of(&key.owner)));
        }
        Ok(all.into_iter().map(|seen| seen.machine).collect())
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Machine>> {
        let all = machine::list(&self.client, owner, self.is_public).await?;
        Ok(all.into_iter().map(|seen| seen.machine).collect())
    }

    async fn delete(&self, owner: &Owner, id: &str) -> Result<()> {
        let Some(seen) = machine::by_id(&self.client, id, self.is_public).await? else { return Ok(()) };
        if seen.machine.phase.is_over() {
            return Ok(());
        }
        if !seen.is_of(owner) {
            let reason = "does not carry this cluster's tags, so it is not ours to delete".into();
            return Err(AdapterError::Denied { subject: format!("instance {id}"), reason });
        }
        Ok(machine::end(&self.client, id).await?)
    }

    async fn disks(&self, owner: &Owner) -> Result<Vec<Disk>> {
        disk::list(&self.client, owner).await
    }

    async fn delete_disk(&self, owner: &Owner, id: &str) -> Result<()> {
        disk::delete(&self.client, owner, id).await
    }

    async fn clear(&self, owner: &Owner) -> Result<Vec<String>> {
        let mut gone = disk::clear(&self.client, owner).await?;
        if machine::list(&self.client, owner, self.is_public).await?.is_empty() {
            gone.extend(ground::clear_shared(&self.client, owner).await?);
        }
        Ok(gone)
    }

    async fn preflight(&self, wish: &MachineWish) -> Result<Vec<Finding>> {
        preflight::look(&self.client, wish, self.is_public).await
    }

    fn derive(&self, label: &str) -> [u8; 32] {
        *self.credentials.derive(label)
    }
}
