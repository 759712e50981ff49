//! Nodes that are not the platform's: they are asked over plain HTTP, and nothing is ever done to them.
//!
//! [`Watched`] is an adapter that can dial and nothing else, so that an engine can ask such a node what it asks of its own, and
//! every act through it is refused whoever tries. What answers is believed only while it shows the pinned chain id and
//! first block: another chain at the same address is told of, and its heights are not taken over.

use std::time::Duration;

use async_trait::async_trait;
use hanse_adapters_core::{
    Adapter, AdapterError, Artifact, FileSpec, HostFacts, InstanceKey, InstanceSpec, InstanceStatus, Result, RunOutput,
    RunSpec, Stream,
};
use hanse_engines_core::{Engine, EngineError, NodePlan};
use hanse_state::State;
use hanse_state::chain::Chain;
use hanse_state::chain::imported::Endpoint;
use hanse_state::chain::node::{Node, instance_object};

/// Longest hash that a stranger's answer is quoted with.
const HASH_CHARS_MAX: usize = 66;
/// How long a connection may take to open.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// The engines' name for the port of the consensus.
const CONSENSUS_RPC: &str = "consensus-rpc";

/// The way to a node that is only watched.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    endpoint: Endpoint,
}

impl Watched {
    /// The way to this endpoint; nothing is opened yet.
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        Self { endpoint: endpoint.clone() }
    }

    fn never<T>(&self, act: &str) -> Result<T> {
        Err(AdapterError::Denied {
            subject: self.endpoint.to_string(),
            reason: format!("it belongs to an imported chain, which is only watched: {act} is never done there"),
        })
    }
}

#[async_trait]
impl Adapter for Watched {
    async fn inspect(&self) -> Result<HostFacts> {
        self.never("looking at its host")
    }

    async fn put_artifact(&self, _artifact: &Artifact) -> Result<()> {
        self.never("putting a program")
    }

    async fn put_files(&self, _key: &InstanceKey, _files: &[FileSpec]) -> Result<()> {
        self.never("writing files")
    }

    async fn run(&self, _key: &InstanceKey, _spec: &RunSpec) -> Result<RunOutput> {
        self.never("running a program")
    }

    async fn ensure(&self, _spec: &InstanceSpec) -> Result<InstanceStatus> {
        self.never("starting a process")
    }

    async fn look(&self, _key: &InstanceKey) -> Result<Option<InstanceStatus>> {
        self.never("looking at its process")
    }

    async fn stop(&self, _key: &InstanceKey, _grace: Duration) -> Result<()> {
        self.never("stopping a process")
    }

    async fn remove(&self, _key: &InstanceKey) -> Result<()> {
        self.never("removing anything")
    }

    async fn list(&self, _cluster: &str) -> Result<Vec<InstanceStatus>> {
        self.never("listing instances")
    }

    async fn tail(&self, _key: &InstanceKey, _lines: u32) -> Result<String> {
        self.never("reading its log")
    }

    async fn dial(&self, port: u16) -> Result<Box<dyn Stream>> {
        let Endpoint { host, rpc_port, consensus_port } = &self.endpoint;
        if port != *rpc_port && Some(port) != *consensus_port {
            return self.never("dialling another port");
        }
        let silent = |reason: String| AdapterError::Transient { subject: format!("{host}:{port}"), reason };
        let opened = tokio::time::timeout(DIAL_LIMIT, tokio::net::TcpStream::connect((host.as_str(), port))).await;
        let stream = opened.map_err(|_| silent(format!("no connection within {} s", DIAL_LIMIT.as_secs())))?;
        Ok(Box::new(stream.map_err(|error| silent(error.to_string()))?))
    }
}

/// The node as its engine needs to know it to ask; `None` if it cannot be named.
pub(crate) fn plan(state: &State, node: &Node, endpoint: &Endpoint) -> Option<NodePlan> {
    let cluster = state.cluster.as_ref()?.id.to_string();
    let key = InstanceKey::new(&cluster, &instance_object(&node.key))?;
    Some(question(key, endpoint))
}

/// An endpoint that is no node of a chain yet, as an engine needs to know it to ask.
pub(crate) fn question(key: InstanceKey, endpoint: &Endpoint) -> NodePlan {
    NodePlan {
        key,
        generation: 0,
        host_address: endpoint.host.clone(),
        own_network: false,
        p2p_port: 0,
        rpc_port: endpoint.rpc_port,
        ports: endpoint.consensus_port.map(|port| (CONSENSUS_RPC.to_owned(), port)).into_iter().collect(),
        parameters: std::collections::BTreeMap::new(),
        identity: None,
        signed: None,
        halt: None,
        program: None,
    }
}

/// Returns why what answers at an endpoint is not the chain that is pinned; `None` if it is.
///
/// # Errors
/// It could not be asked.
pub(crate) async fn stranger(
    engine: &dyn Engine,
    adapter: &Watched,
    plan: &NodePlan,
    pinned: (u64, &str),
) -> std::result::Result<Option<String>, EngineError> {
    let seen = engine.mark(adapter, plan).await?;
    if (seen.chain_id, seen.first_block.as_str()) == pinned {
        return Ok(None);
    }
    // A stranger's words, of any length.
    let shown: String = seen.first_block.chars().take(HASH_CHARS_MAX).collect();
    let first_block = if pinned.1.is_empty() { "no first block" } else { pinned.1 };
    Ok(Some(format!(
        "another chain answers at {}: chain id {}, first block {}; pinned are {} and {first_block}. Nothing that it says is believed",
        adapter.endpoint, seen.chain_id, shown, pinned.0
    )))
}

/// Says how a node of the pinned chain answers at an endpoint, or something that may be one: it takes connections and is not seen to be
/// of another chain. `None` if nothing takes a connection there, or another chain answers.
pub(crate) async fn answers(
    engine: &dyn Engine,
    endpoint: &Endpoint,
    plan: &NodePlan,
    pinned: (u64, &str),
) -> Option<String> {
    let adapter = Watched::new(endpoint);
    if adapter.dial(endpoint.rpc_port).await.is_err() {
        return None;
    }
    match tokio::time::timeout(DIAL_LIMIT, stranger(engine, &adapter, plan, pinned)).await {
        Ok(Ok(Some(_))) => None,
        Ok(Ok(None)) => Some(format!("a node of the chain still answers at {endpoint}")),
        Ok(Err(error)) => Some(format!("something still answers at {endpoint} ({error})")),
        Err(_) => Some(format!("something still listens at {endpoint}, and says nothing within {DIAL_LIMIT:?}")),
    }
}

/// What an imported chain is pinned to: its chain id and its first block's hash; empty if it was not imported.
pub(crate) fn pinned(chain: &Chain) -> (u64, &str) {
    (chain.spec.chain_id, chain.imported.as_ref().map_or("", |imported| imported.first_block.as_str()))
}
