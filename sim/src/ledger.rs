//! A ledger's driver over simulated hosts, one for each life of a replica: the first thing it does is to have its leader
//! show the intent.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::acts::{Deed, Life, Place};
use crate::adapter::SimHost;
use crate::ask::Told;
use crate::chains::Taken;
use crate::hosts::{GENESIS_FILE, SETTINGS_FILE, VALIDATOR};
use crate::world::Shared;
use async_trait::async_trait;
use hanse_adapters_core::{Adapter, Artifact, FileSpec, InstanceSpec, InstanceStatus, RunSpec};
use hanse_engines_core::{
    Account, Block, BlockRef, ChainPlan, Engine, EngineError, LedgerValidator, NodeHealth, NodeIdentity, NodePlan,
    Peer, Progress, Result, Role, Seat, Transaction,
};
use hanse_state::Digest;
use hanse_state::chain::node::NodeAct;

/// An engine that templates name; its nodes here are made up.
pub(crate) struct SimEngine {
    name: &'static str,
    life: Life,
    artifact: Artifact,
    shared: Shared,
}

impl SimEngine {
    pub(crate) fn new(name: &'static str, life: Life, shared: Shared) -> Self {
        let artifact = Artifact { sha256: "00".repeat(32), path: "sim".into() };
        Self { name, life, artifact, shared }
    }

    /// An act begins: this leader must have committed the intent for this very act.
    fn begins(&self, node: &NodePlan, act: NodeAct) {
        let place = Place { host: node.host_address.clone(), port: node.p2p_port };
        let mut world = self.shared.world();
        world.acts.begins(self.life, Deed { place, generation: node.generation, act });
        world.judge();
    }
}

#[async_trait]
impl Engine for SimEngine {
    fn name(&self) -> &'static str {
        self.name
    }

    fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    async fn prepare(&self, host: &dyn Adapter, node: &NodePlan) -> Result<NodeIdentity> {
        self.begins(node, NodeAct::Prepare);
        let spec = RunSpec {
            artifact_sha256: self.artifact.sha256.clone(),
            program: None,
            args: vec!["init".into()],
            env: BTreeMap::new(),
            timeout: Duration::from_secs(60),
        };
        let output = host.run(&node.key, &spec).await.map_err(EngineError::Host)?;
        let public_key = Digest::of(output.stdout.as_bytes()).to_string();
        Ok(NodeIdentity { node_id: output.stdout, public_key, contribution: None })
    }

    fn genesis(&self, chain: &ChainPlan, validators: &[NodeIdentity]) -> Result<Vec<u8>> {
        let each = validators.iter().map(|it| format!("{VALIDATOR} {} {}\n", it.node_id, it.public_key));
        Ok(format!("{} {}\n{}", chain.chain_id, chain.genesis_time_ms, each.collect::<String>()).into_bytes())
    }

    async fn configure(
        &self,
        host: &dyn Adapter,
        node: &NodePlan,
        _identity: &NodeIdentity,
        genesis: &[u8],
        _peers: &[Peer],
    ) -> Result<()> {
        self.begins(node, NodeAct::Configure);
        let file = |path: &str, content: Vec<u8>| FileSpec { path: path.into(), mode: 0o600, content };
        let settings: String = node.parameters.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        let files = [file(GENESIS_FILE, genesis.to_vec()), file(SETTINGS_FILE, settings.into_bytes())];
        host.put_files_at(&node.key, node.generation, &files).await.map_err(EngineError::Host)
    }

    async fn start(&self, host: &dyn Adapter, node: &NodePlan) -> Result<InstanceStatus> {
        self.begins(node, NodeAct::Start);
        let spec = InstanceSpec {
            key: node.key.clone(),
            generation: node.generation,
            artifact_sha256: self.artifact.sha256.clone(),
            program: None,
            args: vec!["start".into(), node.p2p_port.to_string()],
            env: BTreeMap::new(),
            ports: node.listens(),
        };
        host.ensure(&spec).await.map_err(EngineError::Host)
    }

    async fn health(&self, _host: &dyn Adapter, node: &NodePlan) -> Result<NodeHealth> {
        let host = SimHost::at(&node.host_address, self.shared.clone());
        let health = host.health(&node.key).await.map_err(EngineError::Host)?;
        health.ok_or_else(|| EngineError::Node { node: node.key.to_string(), reason: "no answer".into() })
    }

    async fn validators(&self, _host: &dyn Adapter, node: &NodePlan) -> Result<Vec<LedgerValidator>> {
        let host = SimHost::at(&node.host_address, self.shared.clone());
        let answer = host.validators(&node.key).await.map_err(EngineError::Host)?;
        let all = answer.ok_or_else(|| EngineError::Node { node: node.key.to_string(), reason: "no answer".into() })?;
        let one = |(node_id, public_key)| LedgerValidator { node_id, public_key, power: 1 };
        Ok(all.into_iter().map(one).collect())
    }

    async fn ensure_role(
        &self,
        _chain: &ChainPlan,
        seat: &Seat<'_>,
        role: Role,
        others: &[Seat<'_>],
    ) -> Result<Progress> {
        self.begins(seat.node, NodeAct::Seat);
        let wished = role == Role::Validator;
        let all = self.validators(seat.host, seat.node).await?;
        if all.iter().any(|it| it.node_id == seat.identity.node_id) == wished {
            return Ok(Progress::Done);
        }
        if wished && others.len() * 3 < all.len() * 2 {
            let reason = format!("{} of {} validators act for it", others.len(), all.len());
            return Ok(Progress::Waits { reason });
        }
        let host = SimHost::at(&seat.node.host_address, self.shared.clone());
        host.seat(&seat.node.key, wished).await.map_err(EngineError::Host)?;
        Ok(Progress::Waits { reason: "its transaction is on the way".into() })
    }

    async fn block(&self, _host: &dyn Adapter, _node: &NodePlan, _which: &BlockRef) -> Result<Block> {
        Err(unsupported())
    }

    async fn transaction(&self, _host: &dyn Adapter, node: &NodePlan, hash: &str) -> Result<Transaction> {
        let host = SimHost::at(&node.host_address, self.shared.clone());
        match host.find(&node.key, hash).await.map_err(EngineError::Host)? {
            Told::Found(Some(transaction)) => Ok(*transaction),
            Told::Found(None) => Err(EngineError::NotFound(format!("transaction {hash}"))),
            other => unreachable!("a host answers what it is asked, not {other:?}"),
        }
    }

    async fn account(&self, _host: &dyn Adapter, _node: &NodePlan, _address: &str) -> Result<Account> {
        Err(unsupported())
    }

    async fn send_raw(&self, _host: &dyn Adapter, node: &NodePlan, raw: &[u8]) -> Result<String> {
        let host = SimHost::at(&node.host_address, self.shared.clone());
        let node_name = node.key.to_string();
        match host.send(&node.key, raw).await.map_err(EngineError::Host)? {
            Told::Taken(Taken::Hash(hash)) => Ok(hash),
            Told::Taken(Taken::Refused(reason)) => Err(EngineError::Node { node: node_name, reason }),
            Told::Full => Err(EngineError::NotNow { node: node_name, reason: "the pool is full".into() }),
            other => unreachable!("a host answers what it is asked, not {other:?}"),
        }
    }

    async fn call(&self, _host: &dyn Adapter, _node: &NodePlan, _to: &str, _input: &[u8]) -> Result<Vec<u8>> {
        Err(unsupported())
    }
}

fn unsupported() -> EngineError {
    EngineError::Unsupported("be asked in the simulation".into())
}
