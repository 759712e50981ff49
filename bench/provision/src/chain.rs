//! A chain of four real nodes of the embedded ledger on four SSH hosts, by the product's own driver and program.
//!
//! Measured is the time from the ballot that decides until a node has the first block. What the ledger itself takes from its
//! processes' start to the first block is measured beside it: the same four nodes on this machine, prepared beforehand, all
//! started at once. What is left is the control plane's: keys made, genesis, configurations, uploads and starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use hanse_adapters_core::{Adapter as _, Artifact, InstanceKey};
use hanse_adapters_local::LocalAdapter;
use hanse_engines_core::{ChainPlan, Engine, NodePlan, Peer};
use hanse_engines_embedded::EmbeddedEngine;
use hanse_server::context;
use hanse_state::Outcome;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, until};
use crate::fleet::Map;
use crate::story;

/// Nodes of the chain: the smallest number that survives the loss of one.
pub(crate) const NODES: usize = 4;
/// Longest wait for the first block.
const LIMIT: Duration = Duration::from_secs(120);
/// Pause between two questions for it.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// What was measured, seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// From the deciding ballot to the first block.
    pub(crate) chain_s: f64,
    /// From the ledger's own start to its first block.
    pub(crate) ledger_s: f64,
    /// Size of the program that a node is.
    pub(crate) program_bytes: u64,
}

/// Measures both; everything lies in `dir`.
pub(crate) async fn run(dir: &Path, map: &Map, program: &Path) -> Result<Figures> {
    let sha256 = hanse_hostrun::file_sha256(program).context("hash the program")?;
    let engine = EmbeddedEngine::new(Artifact { sha256, path: program.to_path_buf() });
    let here = LocalAdapter::new(dir.join("here"), program.to_path_buf());
    let ledger_s = alone(&engine, &here, map).await?;
    let chain_s = ordered(dir, map, &engine, &here).await?;
    Ok(Figures { chain_s, ledger_s, program_bytes: std::fs::metadata(program)?.len() })
}

fn plan(object: &str, p2p_port: u16, rpc_port: u16) -> Result<NodePlan> {
    Ok(NodePlan {
        key: InstanceKey::new("bench", object).context("a plain name")?,
        generation: 1,
        host_address: "127.0.0.1".into(),
        own_network: false,
        p2p_port,
        rpc_port,
        ports: BTreeMap::new(),
        parameters: BTreeMap::from([("block_gas_limit".into(), 30_000_000), ("block_time_ms".into(), 1_000)]),
        identity: None,
        signed: None,
        halt: None,
        program: None,
    })
}

/// The ledger without a control plane.
async fn alone(engine: &EmbeddedEngine, here: &LocalAdapter, map: &Map) -> Result<f64> {
    let hosts = map.hosts.iter().take(NODES).enumerate();
    let nodes: Vec<NodePlan> = hosts
        .map(|(n, host)| plan(&format!("a.b.n{n}"), host.service_port, host.service_port + 1))
        .collect::<Result<_>>()?;
    let started = start(engine, here, &nodes).await;
    // However it ended: nothing is left running.
    for node in &nodes {
        here.remove(&node.key).await?;
    }
    started
}

/// Prepares the nodes, then starts them all; returns the seconds from there to the first block.
async fn start(engine: &EmbeddedEngine, here: &LocalAdapter, nodes: &[NodePlan]) -> Result<f64> {
    let mut peers = Vec::new();
    for node in nodes {
        let identity = engine.prepare(here, node).await?;
        peers.push(Peer { identity, address: format!("127.0.0.1:{}", node.p2p_port) });
    }
    let plan = ChainPlan {
        chain_id: 1,
        genesis_time_ms: context::clock().0,
        parameters: nodes[0].parameters.clone(),
        alloc: story::alloc(),
        governance: None,
        anchor: None,
    };
    let identities: Vec<_> = peers.iter().map(|peer| peer.identity.clone()).collect();
    let genesis = engine.genesis(&plan, &identities)?;
    for (node, peer) in nodes.iter().zip(&peers) {
        engine.configure(here, node, &peer.identity, &genesis, &peers).await?;
    }
    let begin = Instant::now();
    for outcome in futures::future::join_all(nodes.iter().map(|node| engine.start(here, node))).await {
        outcome?;
    }
    first_block(engine, here, &nodes[0]).await?;
    Ok(begin.elapsed().as_secs_f64())
}

async fn first_block(engine: &EmbeddedEngine, here: &LocalAdapter, node: &NodePlan) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let why = match engine.health(here, node).await {
            Ok(health) if health.height >= 1 => return Ok(()),
            Ok(health) => format!("height {}, {} peers, {:?}", health.height, health.peers, health.reasons),
            Err(error) => error.to_string(),
        };
        if Instant::now() > end {
            bail!("no block within {} s: {why}", LIMIT.as_secs());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The same by the product, on hosts behind SSH.
async fn ordered(dir: &Path, map: &Map, engine: &EmbeddedEngine, here: &LocalAdapter) -> Result<f64> {
    let driver: Arc<dyn Engine> = Arc::new(engine.clone());
    let map = Map { hosts: map.hosts.iter().take(NODES).cloned().collect(), ..map.clone() };
    let cluster = Cluster::start(dir, &map, &driver).await?;
    for (actor, command) in story::platform()?.into_iter().chain(story::enrolments(&map)?) {
        cluster.order(actor, command).await?;
    }
    let (actor, command) = story::proposal(1, NODES)?;
    let Outcome::ProposalOpened { proposal, artifact_hash, .. } = cluster.order(actor, command).await? else {
        bail!("a proposal was answered by something else");
    };
    let (actor, command) = story::ballot(&proposal, artifact_hash)?;
    let begin = Instant::now();
    cluster.order(actor, command).await?;
    let state = until("a leader", || cluster.leader()).await?.replica.local();
    let node = state.nodes.values().next().ok_or_else(|| anyhow!("the chain was ordered and has no node"))?;
    first_block(engine, here, &plan("first", node.p2p_port, node.rpc_port)?).await?;
    let seconds = begin.elapsed().as_secs_f64();
    cluster.stop().await;
    Ok(seconds)
}
