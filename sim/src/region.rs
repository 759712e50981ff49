//! The way from a replica to the simulated cloud: looks by the token before it orders, as every driver of a cloud must.
//!
//! The first thing that an order does is to have its leader show the intent (`acts`).

use std::time::Duration;

use async_trait::async_trait;
use hanse_adapters_core::cloud::{Cloud, Disk, Machine, MachineKey, MachineWish, Owner};
use hanse_adapters_core::preflight::Finding;
use hanse_adapters_core::{AdapterError, Result};
use hanse_state::Digest;
use hanse_state::cloud::MachineAct;
use tokio::sync::oneshot;

use crate::acts::Life;
use crate::provider::{Ask, Told};
use crate::world::Shared;

/// How long a call may take before nothing is known of it.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The cloud, as one life of a replica reaches it.
pub(crate) struct SimCloud {
    pub(crate) life: Life,
    pub(crate) shared: Shared,
}

impl SimCloud {
    async fn ask(&self, ask: Ask) -> Result<Told> {
        let changes = ask.changes();
        let (sender, receiver) = oneshot::channel();
        {
            let mut world = self.shared.world();
            let now_ms = world.now_ms;
            world.provider.call(now_ms, ask, sender);
        }
        let (subject, reason) = (|| "cloud".to_owned(), || "no answer in time".to_owned());
        match tokio::time::timeout(CALL_LIMIT, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) if changes => Err(AdapterError::Unknown { subject: subject(), reason: reason() }),
            Ok(Err(_)) | Err(_) => Err(AdapterError::Transient { subject: subject(), reason: reason() }),
        }
    }

    async fn shown(&self, ask: Ask) -> Result<Vec<Machine>> {
        match self.ask(ask).await? {
            Told::Machines(all) => Ok(all),
            other => unreachable!("a cloud answers what it is asked, not {other:?}"),
        }
    }

    /// An act on a machine begins: this leader must have committed the intent for it.
    fn begins(&self, token: &str, act: MachineAct, id: &str) {
        let mut world = self.shared.world();
        world.acts.begins_machine(self.life, token, act, id);
        world.judge();
    }
}

#[async_trait]
impl Cloud for SimCloud {
    async fn ensure(&self, wish: &MachineWish) -> Result<Machine> {
        self.begins(&wish.key.token, MachineAct::Create, "");
        let there = self.find(&wish.key, None).await?;
        if let Some(seen) = there.into_iter().next() {
            return Ok(seen);
        }
        self.ask(Ask::Share(wish.key.owner.clone())).await?;
        match self.ask(Ask::Run(Box::new(wish.clone()))).await? {
            Told::Made(made) => Ok(*made),
            other => unreachable!("a cloud answers what it is asked, not {other:?}"),
        }
    }

    async fn find(&self, key: &MachineKey, id: Option<&str>) -> Result<Vec<Machine>> {
        let mut all = self.shown(Ask::OfToken(key.owner.clone(), key.token.clone())).await?;
        if let Some(id) = id.filter(|id| all.iter().all(|it| it.id != *id)) {
            all.extend(self.shown(Ask::ById(id.to_owned())).await?);
        }
        Ok(all)
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Machine>> {
        self.shown(Ask::List(owner.clone())).await
    }

    async fn delete(&self, _owner: &Owner, id: &str) -> Result<()> {
        let Some(seen) = self.shown(Ask::ById(id.to_owned())).await?.into_iter().next() else { return Ok(()) };
        if seen.phase.is_over() {
            return Ok(());
        }
        self.begins(&seen.token, MachineAct::Delete, id);
        self.ask(Ask::End(id.to_owned())).await.map(drop)
    }

    async fn disks(&self, owner: &Owner) -> Result<Vec<Disk>> {
        match self.ask(Ask::Disks(owner.clone())).await? {
            Told::Disks(all) => Ok(all),
            other => unreachable!("a cloud answers what it is asked, not {other:?}"),
        }
    }

    async fn delete_disk(&self, owner: &Owner, id: &str) -> Result<()> {
        let there = self.disks(owner).await?;
        if !there.iter().any(|it| it.id == id && it.is_free && !it.kept) {
            return Ok(());
        }
        self.begins("", MachineAct::Delete, id);
        self.ask(Ask::Drop(id.to_owned())).await.map(drop)
    }

    async fn clear(&self, owner: &Owner) -> Result<Vec<String>> {
        match self.ask(Ask::Clear(owner.clone())).await? {
            Told::Cleared(gone) => Ok(gone),
            other => unreachable!("a cloud answers what it is asked, not {other:?}"),
        }
    }

    async fn preflight(&self, _wish: &MachineWish) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    fn derive(&self, label: &str) -> [u8; 32] {
        *Digest::of(label.as_bytes()).as_bytes()
    }
}
