//! The driver of CometBFT chains: applications of the Cosmos SDK that speak Ethereum's JSON-RPC beside CometBFT's.
//!
//! The program is not ours: an operator imports it as a bundle, with a [`Profile`] that says how it spells addresses, coins
//! and chain ids. Its own commands make every key on the host (`keys`), and a signed claim to a validator's seat
//! (`contribution`); the genesis is a pure function of all of these (`genesis`); configuration is the application's own
//! with what the driver decides put in (`config`). Health comes from CometBFT's RPC, blocks and accounts from Ethereum's.
//! Validators join and leave by the application's transactions, acted out on the hosts of those who must act (`roles`).
//!
//! It never holds a private key, never starts a home that is behind what its validator signed (`guard`), and never reaches
//! a node's port past the adapter.

mod bech32;
mod config;
mod contribution;
mod evidence;
mod genesis;
mod guard;
mod health;
mod height;
mod keys;
mod profile;
mod roles;
mod survey;
mod time;
mod tool;

use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hanse_adapters_core::{Adapter, Artifact, Bundle, Claim, InstanceSpec, InstanceStatus};
use hanse_engines_core::{
    Account, Block, BlockRef, ChainMark, ChainPlan, Engine, EngineError, Governance, LedgerValidator, NodeHealth,
    NodeIdentity, NodePlan, NodeProgram, Peer, Progress, Result, Role, Seat, Signed, Survey, Transaction, WayBack,
};
use hanse_engines_evm::rpc::Rpc;
use hanse_engines_evm::{self as evm, explorer, nonsense};
use serde_json::json;

pub use profile::Profile;
use tool::Tool;

/// Port of CometBFT's RPC.
pub(crate) const CONSENSUS_RPC: &str = "consensus-rpc";
/// Port of the application's gRPC.
pub(crate) const GRPC: &str = "grpc";
/// Port of CometBFT's metrics.
pub(crate) const METRICS: &str = "metrics";
/// Port of Ethereum's JSON-RPC over WebSocket.
pub(crate) const WEBSOCKET: &str = "websocket";
/// Height of the first block of these chains, if none is carried over from another chain.
const FIRST_BLOCK: u64 = 1;
/// What a node needs besides the ports for peers and for clients.
const PORTS: &[&str] = &[CONSENSUS_RPC, GRPC, METRICS, WEBSOCKET];

/// CometBFT with an application, as far as the control plane drives it.
#[derive(Clone, Debug)]
pub struct CometBftEngine {
    /// Names the bundle, also before its files are here.
    artifact: Artifact,
    bundle: Arc<OnceLock<Bundle>>,
    profile: Profile,
}

impl CometBftEngine {
    /// Returns the engine whose nodes run the program of `bundle`, which is the application of `profile`.
    pub fn new(bundle: Bundle, profile: Profile) -> Self {
        Self::with_later(bundle.manifest.clone(), Arc::new(OnceLock::from(bundle)), profile)
    }

    /// As [`CometBftEngine::new`] with a bundle, named by `artifact`, whose files may still be on their way to this replica.
    /// Until they are known, what needs them waits ([`EngineError::NotNow`]).
    pub fn with_later(artifact: Artifact, bundle: Arc<OnceLock<Bundle>>, profile: Profile) -> Self {
        Self { artifact, bundle, profile }
    }

    /// What the node runs.
    fn bundle<'a>(&'a self, node: &'a NodePlan) -> Result<&'a Bundle> {
        match &node.program {
            None => self.own(),
            Some(NodeProgram::Bundle(bundle)) => Ok(bundle),
            Some(NodeProgram::Program(_)) => {
                let reason = "is one file; a node of this ledger is a bundle: import it as such";
                Err(EngineError::Invalid { field: "program".into(), reason: reason.into() })
            }
        }
    }

    /// What nodes run that were voted no other program.
    fn own(&self) -> Result<&Bundle> {
        self.bundle.get().ok_or_else(|| EngineError::NotNow {
            node: "engine `cometbft`".into(),
            reason: format!(
                "its program, artifact {}, is not on this replica yet; `hanse artifact get {}` tells who has it",
                self.artifact.sha256, self.artifact.sha256
            ),
        })
    }

    fn tool<'a>(&'a self, host: &'a dyn Adapter, node: &'a NodePlan) -> Result<Tool<'a>> {
        Ok(Tool { bundle: self.bundle(node)?, profile: &self.profile, host, node })
    }

    async fn put(&self, host: &dyn Adapter, node: &NodePlan) -> Result<()> {
        self.bundle(node)?.put(host).await.map_err(EngineError::Host)
    }
}

#[async_trait]
impl Engine for CometBftEngine {
    fn name(&self) -> &'static str {
        "cometbft"
    }

    fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    fn ports(&self) -> &'static [&'static str] {
        PORTS
    }

    async fn prepare(&self, host: &dyn Adapter, node: &NodePlan) -> Result<NodeIdentity> {
        self.put(host, node).await?;
        keys::identity(&self.tool(host, node)?).await
    }

    async fn contribute(
        &self,
        host: &dyn Adapter,
        node: &NodePlan,
        chain: &ChainPlan,
        identity: &NodeIdentity,
    ) -> Result<Option<String>> {
        self.put(host, node).await?;
        keys::contribution(&self.tool(host, node)?, chain, identity).await.map(Some)
    }

    fn genesis(&self, chain: &ChainPlan, validators: &[NodeIdentity]) -> Result<Vec<u8>> {
        genesis::genesis(chain, validators, &self.profile)
    }

    async fn configure(
        &self,
        host: &dyn Adapter,
        node: &NodePlan,
        identity: &NodeIdentity,
        genesis: &[u8],
        peers: &[Peer],
    ) -> Result<()> {
        config::write(&self.tool(host, node)?, identity, genesis, peers).await
    }

    async fn start(&self, host: &dyn Adapter, node: &NodePlan) -> Result<InstanceStatus> {
        // Asked again because the program may have changed since the node was prepared.
        self.put(host, node).await?;
        guard::check(&self.tool(host, node)?).await?;
        let spec = InstanceSpec {
            key: node.key.clone(),
            generation: node.generation,
            artifact_sha256: self.bundle(node)?.manifest.sha256.clone(),
            program: Some(self.bundle(node)?.program.clone()),
            args: ["start", "--home", "{home}", "--log-no-color"].map(str::to_owned).into(),
            env: tool::environment(),
            ports: node.listens(),
        };
        host.ensure(&spec).await.map_err(EngineError::Host)
    }

    /// Its application's state says nothing of who can read it; that nothing was executed can be seen.
    async fn way_back(&self, host: &dyn Adapter, node: &NodePlan, from: Option<u64>) -> Result<WayBack> {
        if let Some(height) = from {
            return height::way_back(&self.tool(host, node)?, height).await;
        }
        let reason = "whether an older program of this application goes on from what a newer one wrote is known to its makers \
                      alone: once blocks were made by other rules (a store upgrade, an x/upgrade handler), it does not";
        Ok(WayBack::Unknown(reason.into()))
    }

    async fn signed(&self, host: &dyn Adapter, node: &NodePlan) -> Result<Option<Signed>> {
        guard::signed(&self.tool(host, node)?).await
    }

    async fn validators(&self, host: &dyn Adapter, node: &NodePlan) -> Result<Vec<LedgerValidator>> {
        Ok(roles::governance(host, node).await?.validators)
    }

    async fn governance(&self, host: &dyn Adapter, node: &NodePlan) -> Result<Governance> {
        let found = roles::governance(host, node).await?;
        let evidence = evidence::of(host, node, found.next_height - 1).await?;
        Ok(Governance { evidence, ..found })
    }

    async fn ensure_role(
        &self,
        chain: &ChainPlan,
        seat: &Seat<'_>,
        role: Role,
        others: &[Seat<'_>],
    ) -> Result<Progress> {
        let change = roles::Change { bundle: self.bundle(seat.node)?, profile: &self.profile, chain, seat, others };
        change.step(role).await
    }

    async fn halt_at(&self, host: &dyn Adapter, node: &NodePlan, height: Option<u64>) -> Result<()> {
        config::halt_at(&self.tool(host, node)?, height.unwrap_or(0)).await
    }

    async fn stands_at(&self, host: &dyn Adapter, node: &NodePlan, height: u64) -> Result<bool> {
        height::stands_at(&self.tool(host, node)?, height).await
    }

    async fn go_on_from(&self, host: &dyn Adapter, node: &NodePlan, height: u64) -> Result<()> {
        height::go_on(&self.tool(host, node)?, height).await
    }

    async fn mark(&self, host: &dyn Adapter, node: &NodePlan) -> Result<ChainMark> {
        let chain_id = evm::chain_id(host, node).await?;
        // By the consensus' own hash: Ethereum's of such a block is made up by the application.
        let rpc = Rpc::new(host, node).at(port(node, CONSENSUS_RPC)?);
        let found = rpc.one("block", json!({ "height": FIRST_BLOCK.to_string() })).await?;
        let hash = found["block_id"]["hash"].as_str().filter(|hash| !hash.is_empty());
        let hash = hash.ok_or_else(|| nonsense(node, "block", &found))?.to_ascii_lowercase();
        Ok(ChainMark { chain_id, first_block: format!("0x{hash}") })
    }

    async fn who(&self, host: &dyn Adapter, node: &NodePlan) -> Result<Option<String>> {
        let rpc = Rpc::new(host, node).at(port(node, CONSENSUS_RPC)?);
        let status = rpc.one("status", json!({})).await?;
        let named = status["node_info"]["id"].as_str().map(str::to_owned);
        named.map(Some).ok_or_else(|| nonsense(node, "status", &status))
    }

    fn claim(&self, home: &str) -> Result<Claim> {
        Ok(survey::claim(home))
    }

    async fn survey(&self, host: &dyn Adapter, home: &str) -> Result<Survey> {
        let bundle = self.own()?;
        bundle.put(host).await.map_err(EngineError::Host)?;
        survey::Look { engine: self, bundle, profile: &self.profile, host }.survey(home).await
    }

    /// What its databases hold only the program itself reads, when it starts.
    async fn check_copy(&self, host: &dyn Adapter, node: &NodePlan) -> Result<()> {
        self.put(host, node).await?;
        guard::check(&self.tool(host, node)?).await
    }

    fn is_named(&self, identity: &NodeIdentity, validator: &str) -> bool {
        identity.node_id == validator || evidence::address(&identity.public_key).as_deref() == Some(validator)
    }

    async fn health(&self, host: &dyn Adapter, node: &NodePlan) -> Result<NodeHealth> {
        health::health(host, node).await
    }

    async fn block(&self, host: &dyn Adapter, node: &NodePlan, which: &BlockRef) -> Result<Block> {
        let found = evm::block(host, node, which).await?;
        let block = explorer::block(&found).ok_or_else(|| nonsense(node, "eth_getBlockByNumber", &found))?;
        // Asked for block 0, which these chains do not have, `injectived` answers with block 1.
        if let BlockRef::Height(height) = which
            && block.height != *height
        {
            return Err(EngineError::NotFound(format!("block {height}")));
        }
        // Ethereum's time is in seconds, CometBFT's finer.
        let rpc = Rpc::new(host, node).at(port(node, CONSENSUS_RPC)?);
        let header = rpc.one("header", json!({ "height": block.height.to_string() })).await?;
        let time = header["header"]["time"].as_str().and_then(time::ms);
        Ok(Block { time_ms: time.unwrap_or(block.time_ms), ..block })
    }

    async fn transactions(&self, host: &dyn Adapter, node: &NodePlan, heights: RangeInclusive<u64>) -> Result<u64> {
        evm::transactions(host, node, heights).await
    }

    async fn transaction(&self, host: &dyn Adapter, node: &NodePlan, hash: &str) -> Result<Transaction> {
        evm::transaction(host, node, hash).await
    }

    async fn account(&self, host: &dyn Adapter, node: &NodePlan, address: &str) -> Result<Account> {
        evm::account(host, node, address).await
    }

    async fn send_raw(&self, host: &dyn Adapter, node: &NodePlan, raw: &[u8]) -> Result<String> {
        evm::send_raw(host, node, raw).await
    }

    async fn call(&self, host: &dyn Adapter, node: &NodePlan, to: &str, input: &[u8]) -> Result<Vec<u8>> {
        evm::call(host, node, to, input).await
    }
}

/// The named port of a node.
pub(crate) fn port(node: &NodePlan, name: &str) -> Result<u16> {
    node.ports.get(name).copied().ok_or_else(|| EngineError::Invalid {
        field: format!("ports.{name}"),
        reason: format!("node {} was placed without it: it belongs to another kind of ledger", node.key),
    })
}
