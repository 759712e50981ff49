//! The driver of the embedded ledger: our own BFT node that executes Ethereum transactions.
//!
//! The node ships inside the one binary (`hanse node init|start`). Its keys are made on the host and stay there; genesis
//! and configuration are written by `files` in the form that the node reads (checked against the node's own types
//! in the tests, so that this crate stays small); a running node is asked over JSON-RPC (see `hanse-engines-evm`) through
//! [`Adapter::dial`], which stays on the host's loopback.
//!
//! It never holds a node's or a user's private key, retries, or reaches a node's port past the adapter.

mod anchor;
mod explorer;
mod files;
mod governance;
mod survey;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use hanse_adapters_core::{Adapter, Artifact, Claim, FileSpec, InstanceSpec, InstanceStatus, RunSpec};
use hanse_engines_core::{
    Account, AnchorOrder, Anchors, Block, BlockRef, ChainMark, ChainPlan, Engine, EngineError, Governance,
    LedgerValidator, NodeHealth, NodeIdentity, NodePlan, NodeProgram, Peer, Result, Survey, Transaction, WayBack,
};
use hanse_engines_evm::rpc::Rpc;
use hanse_engines_evm::{self as evm, LATEST, nonsense, refused};
use serde_json::json;

/// How long making keys may take on a slow host.
const INIT_LIMIT: Duration = Duration::from_secs(60);

/// The embedded ledger, as far as the control plane drives it.
#[derive(Clone, Debug)]
pub struct EmbeddedEngine {
    artifact: Arc<OnceLock<Artifact>>,
}

impl EmbeddedEngine {
    /// Returns the engine whose nodes run `artifact`: a program with the commands `node init` and `node start`.
    pub fn new(artifact: Artifact) -> Self {
        Self::with_later(Arc::new(OnceLock::from(artifact)))
    }

    /// As [`EmbeddedEngine::new`] with an artifact that must be known before any host is acted on: whoever gives out
    /// adapters sees to that. A replica need not read its whole program before it answers anybody.
    pub fn with_later(artifact: Arc<OnceLock<Artifact>>) -> Self {
        Self { artifact }
    }

    /// What the node runs.
    fn program<'a>(&'a self, node: &'a NodePlan) -> Result<&'a Artifact> {
        match &node.program {
            None => Ok(self.artifact()),
            Some(NodeProgram::Program(artifact)) => Ok(artifact),
            Some(NodeProgram::Bundle(_)) => {
                let reason = "is a bundle; a node of this ledger is one program: import it as such";
                Err(EngineError::Invalid { field: "program".into(), reason: reason.into() })
            }
        }
    }

    /// Runs a command of the node's program in its home, and returns what it printed.
    async fn tell(&self, host: &dyn Adapter, node: &NodePlan, command: &str) -> Result<(Option<i32>, String, String)> {
        let program = self.program(node)?;
        host.put_artifact(program).await.map_err(EngineError::Host)?;
        let spec = RunSpec {
            artifact_sha256: program.sha256.clone(),
            program: None,
            args: Self::args(command),
            env: BTreeMap::new(),
            timeout: INIT_LIMIT,
        };
        let output = host.run(&node.key, &spec).await.map_err(EngineError::Host)?;
        Ok((output.code, output.stdout, output.stderr))
    }

    fn args(command: &str) -> Vec<String> {
        ["node", command, "--home", "{home}"].map(str::to_owned).into()
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn artifact(&self) -> &Artifact {
        self.artifact.get().expect("no adapter is given out before the artifact is known")
    }

    async fn prepare(&self, host: &dyn Adapter, node: &NodePlan) -> Result<NodeIdentity> {
        let (code, stdout, stderr) = self.tell(host, node, "init").await?;
        if code != Some(0) {
            let how = code.map_or("by a signal or the time-out".into(), |code| format!("with code {code}"));
            return Err(refused(node, format!("making its keys ended {how}: {}", stderr.trim())));
        }
        files::identity(&stdout).map_err(|reason| refused(node, reason))
    }

    fn genesis(&self, chain: &ChainPlan, validators: &[NodeIdentity]) -> Result<Vec<u8>> {
        files::genesis(chain, validators)
    }

    async fn configure(
        &self,
        host: &dyn Adapter,
        node: &NodePlan,
        identity: &NodeIdentity,
        genesis: &[u8],
        peers: &[Peer],
    ) -> Result<()> {
        let config = files::config(node, identity, peers).await?;
        let file = |path: &str, content: &[u8]| FileSpec { path: path.into(), mode: 0o600, content: content.into() };
        let files = [file(files::GENESIS_FILE, genesis), file(files::CONFIG_FILE, config.as_bytes())];
        host.put_files_at(&node.key, node.generation, &files).await.map_err(EngineError::Host)
    }

    async fn start(&self, host: &dyn Adapter, node: &NodePlan) -> Result<InstanceStatus> {
        // Asked again because the program may have changed since the node was prepared.
        let program = self.program(node)?;
        host.put_artifact(program).await.map_err(EngineError::Host)?;
        let spec = InstanceSpec {
            key: node.key.clone(),
            generation: node.generation,
            artifact_sha256: program.sha256.clone(),
            program: None,
            args: Self::args("start"),
            env: BTreeMap::new(),
            ports: node.listens(),
        };
        host.ensure(&spec).await.map_err(EngineError::Host)
    }

    async fn mark(&self, host: &dyn Adapter, node: &NodePlan) -> Result<ChainMark> {
        let chain_id = evm::chain_id(host, node).await?;
        let first_block = self.block(host, node, &BlockRef::Height(0)).await?.hash;
        Ok(ChainMark { chain_id, first_block })
    }

    /// Asks the program before, on the host, what it makes of the node's home: its configuration, its genesis and, unless the
    /// node runs and holds it, its store. What it cannot see then it refuses by itself when it starts, before it writes: every
    /// program of this ledger compares the version of the store with its own.
    async fn way_back(&self, host: &dyn Adapter, node: &NodePlan, _from: Option<u64>) -> Result<WayBack> {
        let (code, stdout, stderr) = self.tell(host, node, "show").await?;
        Ok(files::way_back(code, &stdout, &stderr))
    }

    async fn who(&self, host: &dyn Adapter, node: &NodePlan) -> Result<Option<String>> {
        let status = Rpc::new(host, node).one("consensus_status", json!([])).await?;
        let named = status["node_id"].as_str().map(str::to_owned);
        named.map(Some).ok_or_else(|| nonsense(node, "consensus_status", &status))
    }

    fn claim(&self, home: &str) -> Result<Claim> {
        Ok(survey::claim(home))
    }

    async fn survey(&self, host: &dyn Adapter, home: &str) -> Result<Survey> {
        let program = self.artifact();
        host.put_artifact(program).await.map_err(EngineError::Host)?;
        let show = RunSpec {
            artifact_sha256: program.sha256.clone(),
            program: None,
            args: Self::args("show"),
            env: BTreeMap::new(),
            timeout: INIT_LIMIT,
        };
        let reads = [files::GENESIS_FILE.to_owned()];
        let seen = host.survey_home(&survey::claim(home), &reads, &show).await.map_err(EngineError::Host)?;
        Ok(survey::judge(&seen))
    }

    async fn check_copy(&self, host: &dyn Adapter, node: &NodePlan) -> Result<()> {
        survey::check_copy(node, &self.tell(host, node, "show").await?)
    }

    async fn health(&self, host: &dyn Adapter, node: &NodePlan) -> Result<NodeHealth> {
        let status = Rpc::new(host, node).one("consensus_status", json!([])).await?;
        explorer::health(&status).ok_or_else(|| nonsense(node, "consensus_status", &status))
    }

    async fn block(&self, host: &dyn Adapter, node: &NodePlan, which: &BlockRef) -> Result<Block> {
        let found = evm::block(host, node, which).await?;
        explorer::block(&found).ok_or_else(|| nonsense(node, "eth_getBlockByNumber", &found))
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

    async fn governance(&self, host: &dyn Adapter, node: &NodePlan) -> Result<Governance> {
        let calls = governance::METHODS.map(|method| (method, json!([])));
        let answers = Rpc::new(host, node).all(&calls).await?;
        governance::read(&answers).ok_or_else(|| nonsense(node, "questions about governance", &json!(answers)))
    }

    async fn validators(&self, host: &dyn Adapter, node: &NodePlan) -> Result<Vec<LedgerValidator>> {
        let answer = Rpc::new(host, node).one("consensus_validators", json!([])).await?;
        governance::validators(&answer).ok_or_else(|| nonsense(node, "consensus_validators", &answer))
    }

    async fn send_raw(&self, host: &dyn Adapter, node: &NodePlan, raw: &[u8]) -> Result<String> {
        evm::send_raw(host, node, raw).await
    }

    async fn anchors(
        &self,
        host: &dyn Adapter,
        node: &NodePlan,
        limit: usize,
        height: Option<u64>,
    ) -> Result<Option<Anchors>> {
        let method = "consensus_anchors";
        let params = height.map_or_else(|| json!([limit]), |height| json!([limit, height]));
        let found = Rpc::new(host, node).one(method, params).await?;
        if found.is_null() {
            return Ok(None);
        }
        anchor::read(&found).map(Some).ok_or_else(|| nonsense(node, method, &found))
    }

    async fn send_anchor(
        &self,
        host: &dyn Adapter,
        node: &NodePlan,
        order: &AnchorOrder,
        sender: &[u8; 32],
    ) -> Result<String> {
        let sender = anchor::Sender::new(sender)?;
        // The nonce of the newest block, not the pool's: of two heads under way the second would continue what is not there yet.
        let calls = [("eth_getTransactionCount", json!([sender.address(), LATEST])), ("eth_gasPrice", json!([]))];
        let answers = Rpc::new(host, node).all(&calls).await?;
        let numbers: Option<Vec<u64>> = answers.iter().map(explorer::quantity).collect();
        let Some([nonce, price]) = numbers.as_deref() else { return Err(nonsense(node, "a batch", &json!(answers))) };
        self.send_raw(host, node, &sender.sign(order, *nonce, *price)?).await
    }

    async fn call(&self, host: &dyn Adapter, node: &NodePlan, to: &str, input: &[u8]) -> Result<Vec<u8>> {
        evm::call(host, node, to, input).await
    }
}
