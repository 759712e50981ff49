//! A ledger's driver for the benchmark: the same calls of the adapter as the embedded ledger's driver makes, with a program
//! that answers at a port instead of a ledger. Everything around it is the product's: state, planner, reconciler, adapter.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use hanse_adapters_core::{Adapter, Artifact, FileSpec, InstanceSpec, InstanceStatus};
use hanse_engines_core::{
    Account, Block, BlockRef, ChainPlan, Engine, EngineError, NodeHealth, NodeIdentity, NodePlan, Peer, Result,
    Transaction,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Name of the configuration in a home.
const CONFIG: &str = "node.conf";
/// What is sent to the port and must come back.
const QUESTION: &[u8] = b"are you there?";
/// How long the port may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The template of the configuration, which every contender fills in for each host.
pub(crate) const TEMPLATE: &str = include_str!("node.conf.in");

/// The driver.
pub(crate) struct BenchEngine {
    artifact: Artifact,
}

impl BenchEngine {
    pub(crate) fn new(artifact: Artifact) -> Self {
        Self { artifact }
    }
}

/// The configuration of one node.
pub(crate) fn config(name: &str, address: &str, port: u16) -> String {
    TEMPLATE.replace("{{ name }}", name).replace("{{ address }}", address).replace("{{ port }}", &port.to_string())
}

fn config_of(node: &NodePlan) -> String {
    config(&node.key.to_string(), &node.host_address, node.rpc_port)
}

fn silent(node: &NodePlan, reason: impl std::fmt::Display) -> EngineError {
    EngineError::NotNow { node: node.key.to_string(), reason: reason.to_string() }
}

fn cannot<T>() -> Result<T> {
    Err(EngineError::Unsupported("do more than answer at its port".into()))
}

#[async_trait]
impl Engine for BenchEngine {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    async fn prepare(&self, host: &dyn Adapter, node: &NodePlan) -> Result<NodeIdentity> {
        host.put_artifact(&self.artifact).await.map_err(EngineError::Host)?;
        let name = node.key.to_string();
        Ok(NodeIdentity { public_key: format!("key of {name}"), node_id: name, contribution: None })
    }

    fn genesis(&self, chain: &ChainPlan, _: &[NodeIdentity]) -> Result<Vec<u8>> {
        Ok(chain.chain_id.to_string().into_bytes())
    }

    async fn configure(
        &self,
        host: &dyn Adapter,
        node: &NodePlan,
        _: &NodeIdentity,
        _: &[u8],
        _: &[Peer],
    ) -> Result<()> {
        let file = FileSpec { path: CONFIG.into(), mode: 0o600, content: config_of(node).into_bytes() };
        host.put_files(&node.key, &[file]).await.map_err(EngineError::Host)
    }

    async fn start(&self, host: &dyn Adapter, node: &NodePlan) -> Result<InstanceStatus> {
        host.put_artifact(&self.artifact).await.map_err(EngineError::Host)?;
        let spec = InstanceSpec {
            key: node.key.clone(),
            generation: node.generation,
            artifact_sha256: self.artifact.sha256.clone(),
            program: None,
            args: vec!["listen".into(), node.rpc_port.to_string()],
            env: BTreeMap::new(),
            ports: Default::default(),
        };
        host.ensure(&spec).await.map_err(EngineError::Host)
    }

    /// The configuration is what it should be, and the port answers.
    async fn health(&self, host: &dyn Adapter, node: &NodePlan) -> Result<NodeHealth> {
        let there = host.read_file(&node.key, CONFIG).await.map_err(EngineError::Host)?;
        if there.as_deref() != Some(config_of(node).as_bytes()) {
            return Err(EngineError::Node { node: node.key.to_string(), reason: "its configuration differs".into() });
        }
        let mut stream = host.dial(node.rpc_port).await.map_err(EngineError::Host)?;
        let asked = async {
            stream.write_all(QUESTION).await?;
            let mut answer = vec![0; QUESTION.len()];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        match tokio::time::timeout(ANSWER_LIMIT, asked).await {
            Ok(Ok(answer)) if answer == QUESTION => {}
            Ok(Ok(_)) => return Err(silent(node, "its port answers something else")),
            Ok(Err(error)) => return Err(silent(node, error)),
            Err(_) => return Err(silent(node, "its port does not answer in time")),
        }
        Ok(NodeHealth {
            height: 1,
            block_hash: String::new(),
            block_time_ms: 0,
            peers: 1,
            syncing: false,
            version: String::new(),
            reasons: Vec::new(),
            power: None,
        })
    }

    async fn block(&self, _: &dyn Adapter, _: &NodePlan, _: &BlockRef) -> Result<Block> {
        cannot()
    }

    async fn transaction(&self, _: &dyn Adapter, _: &NodePlan, _: &str) -> Result<Transaction> {
        cannot()
    }

    async fn account(&self, _: &dyn Adapter, _: &NodePlan, _: &str) -> Result<Account> {
        cannot()
    }

    async fn send_raw(&self, _: &dyn Adapter, _: &NodePlan, _: &[u8]) -> Result<String> {
        cannot()
    }

    async fn call(&self, _: &dyn Adapter, _: &NodePlan, _: &str, _: &[u8]) -> Result<Vec<u8>> {
        cannot()
    }
}
