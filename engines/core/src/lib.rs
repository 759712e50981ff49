//! What every engine can do.
//!
//! An engine is the driver for one kind of ledger: it knows a ledger's keys, genesis, configuration, start, health and
//! explorer, and reaches hosts only through an [`Adapter`]. Every act is idempotent: keys are made once on the host and
//! stay there, the same genesis comes from the same inputs, and starting what runs is a success.
//!
//! What an engine never does: place nodes, retry, remember, or hold a node's private key.

mod anchor;
#[cfg(feature = "conformance")]
pub mod conformance;
mod explorer;
mod governance;
mod program;
mod role;
mod survey;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use async_trait::async_trait;
use hanse_adapters_core::{Adapter, AdapterError, Artifact, Claim, InstanceKey, InstanceStatus, Ports};
use serde::{Deserialize, Serialize};

pub use anchor::{AnchorOrder, AnchoredHead, Anchors};
pub use explorer::{Account, Block, BlockRef, Log, Transaction};
pub use governance::{
    AllowList, Evidence, Governance, GovernancePlan, LedgerValidator, ListChange, PendingValidators, Rules, Upgrade,
};
pub use program::{NodeProgram, WayBack};
pub use role::{ChainMark, Progress, Role, Seat};
pub use survey::{Found, Survey, of_folder, of_port};

/// How an engine's call failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The host said no or was out of reach; see the inner class.
    #[error("host: {0}")]
    Host(#[source] AdapterError),
    /// The node answered with an error or with something that is not an answer.
    #[error("{node}: {reason}")]
    Node {
        /// Which node.
        node: String,
        /// What it said and what to do.
        reason: String,
    },
    /// The node refused for now (full, busy, starting): nothing happened, and the same may succeed later.
    #[error("{node}: {reason} (for now)")]
    NotNow {
        /// Which node.
        node: String,
        /// What it said.
        reason: String,
    },
    /// What was asked for is not there (block, transaction, contract).
    #[error("{0} is not on this chain")]
    NotFound(String),
    /// The input is wrong: names the field, the reason and what to do.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which field.
        field: String,
        /// Why and what to do.
        reason: String,
    },
    /// The ledger cannot do this.
    #[error("this ledger cannot {0}")]
    Unsupported(String),
}

/// Result of an engine's call.
pub type Result<T> = std::result::Result<T, EngineError>;

/// One node as the engine needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Its name for ever on its host.
    pub key: InstanceKey,
    /// Goes up with every wished change or restart.
    pub generation: u64,
    /// Where peers reach it.
    pub host_address: String,
    /// Whether its host gives it a network of its own, in which the host's address is not one that it can listen at.
    pub own_network: bool,
    /// Port for peers, at [`NodePlan::listen_address`].
    pub p2p_port: u16,
    /// Port for clients, loopback of the host.
    pub rpc_port: u16,
    /// The further ports that [`Engine::ports`] asks for, by name.
    pub ports: BTreeMap<String, u16>,
    /// Validated parameters of the chain's template, by name, as in [`ChainPlan::parameters`].
    pub parameters: BTreeMap<String, u64>,
    /// Who it is, once that is known: [`Engine::start`] refuses a home that holds the key of another.
    pub identity: Option<NodeIdentity>,
    /// The last that this node is known to have signed: [`Engine::start`] refuses a home that is behind it.
    pub signed: Option<Signed>,
    /// The block before which it stops, if it is to: [`Engine::configure`] writes nothing that says otherwise, not even for a moment,
    /// for what a deposed leader writes late may be half of it.
    pub halt: Option<u64>,
    /// The program that was voted on for it; `None` is the engine's own, see [`Engine::artifact`].
    #[serde(skip)]
    pub program: Option<NodeProgram>,
}

impl NodePlan {
    /// Where it listens for peers: the host's address, or all where that is not the node's own or only a name (which may mean
    /// another address on the host itself).
    pub fn listen_address(&self) -> IpAddr {
        let own = (!self.own_network).then(|| self.host_address.parse().ok()).flatten();
        own.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// The ports it listens on: peers' at the host's address, clients' through the adapter alone.
    pub fn listens(&self) -> Ports {
        let local = self.ports.values().copied().chain([self.rpc_port]).collect();
        Ports { public: [self.p2p_port].into(), local }
    }
}

/// How far a validator has signed. Ordered: a validator that signs again for something at or before this may contradict
/// itself, which its chain punishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signed {
    /// Height of the block.
    pub height: u64,
    /// Round of that height.
    pub round: u32,
    /// Step of that round, as the ledger numbers its steps.
    pub step: u32,
}

impl std::fmt::Display for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "height {}, round {}, step {}", self.height, self.round, self.step)
    }
}

/// What a node said of itself after its keys were made: the public half only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The ledger's own name for the node, hex.
    pub node_id: String,
    /// Its public key, hex.
    pub public_key: String,
    /// What it contributes to the genesis (see [`Engine::contribute`]), in the engine's own form; public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contribution: Option<String>,
}

/// The chain as the engine needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainPlan {
    /// Numeric chain id (EIP-155).
    pub chain_id: u64,
    /// When the chain was ordered, milliseconds since 1970: the genesis time.
    pub genesis_time_ms: u64,
    /// Validated parameters of the template, by name.
    pub parameters: BTreeMap<String, u64>,
    /// Opening balances: address (0x, 40 hex) to amount in wei (decimal).
    pub alloc: BTreeMap<String, String>,
    /// Who may change the chain while it runs; `None`: nobody.
    pub governance: Option<GovernancePlan>,
    /// Key of the control plane whose audit trail has its heads recorded on the chain, in the text form of a signed note's key;
    /// `None`: nobody's.
    pub anchor: Option<String>,
}

/// A node and where its peers find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who.
    pub identity: NodeIdentity,
    /// `host:port`.
    pub address: String,
}

/// What a running node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Latest block.
    pub height: u64,
    /// Its hash, 0x-hex.
    pub block_hash: String,
    /// When it was made, milliseconds since 1970.
    pub block_time_ms: u64,
    /// Connected peers.
    pub peers: u32,
    /// Still catching up.
    pub syncing: bool,
    /// Node software's version.
    pub version: String,
    /// What keeps it from following its chain, in its own words (halted for an upgrade, a full disk, too few
    /// validators); empty if it says that it is ready, or if this ledger's nodes do not say.
    pub reasons: Vec<String>,
    /// Its own voting power in the newest block; `None` if the ledger does not say.
    pub power: Option<u64>,
}

/// One kind of ledger.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Name used in templates, e.g. `embedded`.
    fn name(&self) -> &'static str;

    /// The node software that [`Engine::prepare`] puts on hosts, unless the node has a [program of its own](NodePlan::program).
    fn artifact(&self) -> &Artifact;

    /// Installs the software and makes the node's keys on the host; the same node gives the same identity every time.
    ///
    /// # Errors
    /// `Host`, or `Node` if the software answers with nonsense. Doing it again is safe.
    async fn prepare(&self, host: &dyn Adapter, node: &NodePlan) -> Result<NodeIdentity>;

    /// Names of the ports that a node needs on its host's loopback besides the one for peers and the one for clients.
    fn ports(&self) -> &'static [&'static str] {
        &[]
    }

    /// Has a prepared node make what it contributes to the genesis of `chain` on its host (a signed claim to a seat, a
    /// certificate), and returns it; it goes into [`NodeIdentity::contribution`]. The same node gives the same every
    /// time. A ledger whose genesis needs keys alone has none.
    ///
    /// # Errors
    /// `Host`, or `Node` if the software refuses. Doing it again is safe.
    async fn contribute(
        &self,
        _host: &dyn Adapter,
        _node: &NodePlan,
        _chain: &ChainPlan,
        _identity: &NodeIdentity,
    ) -> Result<Option<String>> {
        Ok(None)
    }

    /// Returns the genesis every node starts from: same inputs, same bytes. Validators are in the order given.
    ///
    /// # Errors
    /// `Invalid` names the parameter.
    fn genesis(&self, chain: &ChainPlan, validators: &[NodeIdentity]) -> Result<Vec<u8>>;

    /// Writes genesis and configuration. `peers` holds every node of the chain, this one included.
    ///
    /// # Errors
    /// `Host`. Doing it again is safe.
    async fn configure(
        &self,
        host: &dyn Adapter,
        node: &NodePlan,
        identity: &NodeIdentity,
        genesis: &[u8],
        peers: &[Peer],
    ) -> Result<()>;

    /// Makes the node's process run (see [`Adapter::ensure`]).
    ///
    /// # Errors
    /// `Host`; `Invalid` if the node could contradict what it signed before, see [`NodePlan::signed`]: nothing was started.
    async fn start(&self, host: &dyn Adapter, node: &NodePlan) -> Result<InstanceStatus>;

    /// Returns whether the node can go back to `node.program`, which it ran before it ran another. Nothing of the node is changed; what
    /// is asked of the program before, it is asked on the node's host. `from` is the first block that was for the other program, if
    /// they were exchanged at a height: without that block the program before goes on.
    ///
    /// # Errors
    /// `Host`, or `Node` if the program does not answer.
    async fn way_back(&self, _host: &dyn Adapter, _node: &NodePlan, _from: Option<u64>) -> Result<WayBack> {
        let reason = "whether an older program reads what a newer one wrote is known to its makers alone: ask them";
        Ok(WayBack::Unknown(reason.into()))
    }

    /// Returns how far the node has signed by what its home says, running or not; `None` if it has signed nothing, or if
    /// this ledger keeps no such record outside its own store.
    ///
    /// # Errors
    /// `Host`, or `Node` if the record cannot be read.
    async fn signed(&self, _host: &dyn Adapter, _node: &NodePlan) -> Result<Option<Signed>> {
        Ok(None)
    }

    /// Returns the validators of the newest block, in the ledger's order.
    ///
    /// # Errors
    /// `Unsupported`, `Host`, `Node`.
    async fn validators(&self, _host: &dyn Adapter, _node: &NodePlan) -> Result<Vec<LedgerValidator>> {
        Err(EngineError::Unsupported("list its validators".into()))
    }

    /// Brings `seat` to `role`: looks at the chain, does the one act that is due next (on the hosts of `others` where it
    /// takes their consent, on the seat's own where it must act itself), and says what it waits for. To be called until
    /// it says `Done`; every call looks first, so it can be taken up by another caller at any point. `others` are the
    /// nodes that validate already and consented; the consortium's vote, which decides, comes before this.
    ///
    /// # Errors
    /// `Unsupported`; `Host`; `Node` if the chain refuses an act.
    async fn ensure_role(
        &self,
        _chain: &ChainPlan,
        _seat: &Seat<'_>,
        _role: Role,
        _others: &[Seat<'_>],
    ) -> Result<Progress> {
        Err(EngineError::Unsupported("change its validators through this program".into()))
    }

    /// Has the node stop before it executes block `height`, for a change of software that all must make at one block;
    /// `None` takes it back. It takes effect when the node starts next.
    ///
    /// # Errors
    /// `Unsupported`, `Host`.
    async fn halt_at(&self, _host: &dyn Adapter, _node: &NodePlan, _height: Option<u64>) -> Result<()> {
        Err(EngineError::Unsupported("stop at a height that is written into its configuration".into()))
    }

    /// Returns whether the node stands before it executes block `height`, at which it was told to stop: it has executed all before
    /// it and waits, or has ended for that. `false` says nothing of where it is.
    ///
    /// # Errors
    /// `Unsupported`, `Host`, `Node`.
    async fn stands_at(&self, _host: &dyn Adapter, _node: &NodePlan, _height: u64) -> Result<bool> {
        Err(EngineError::Unsupported("tell whether it stands at a height".into()))
    }

    /// Has the node, which stands before block `height`, execute it when it starts next, with `node.program`; and keeps what
    /// [`Engine::way_back`] must know of how it stood. Doing it again is safe.
    ///
    /// # Errors
    /// `Unsupported`, `Host`, `Node`.
    async fn go_on_from(&self, _host: &dyn Adapter, _node: &NodePlan, _height: u64) -> Result<()> {
        Err(EngineError::Unsupported("go on from a height at which it stands".into()))
    }

    /// Asks the running node which chain it is of.
    ///
    /// # Errors
    /// `Unsupported`; `NotFound` if the node keeps the first block no more; `Host`, `Node`.
    async fn mark(&self, _host: &dyn Adapter, _node: &NodePlan) -> Result<ChainMark> {
        Err(EngineError::Unsupported("say which chain it is of".into()))
    }

    /// Asks the running node who it is, by its identity's `node_id`; `None` if this ledger's nodes do not tell.
    ///
    /// # Errors
    /// `Host`, `Node`.
    async fn who(&self, _host: &dyn Adapter, _node: &NodePlan) -> Result<Option<String>> {
        Ok(None)
    }

    /// Whether proofs of double signing name the validator with this identity so.
    fn is_named(&self, identity: &NodeIdentity, validator: &str) -> bool {
        identity.node_id == validator
    }

    /// What of a node's home that others made there is to be taken over.
    ///
    /// # Errors
    /// `Unsupported`.
    fn claim(&self, _home: &str) -> Result<Claim> {
        Err(EngineError::Unsupported("be taken over from others".into()))
    }

    /// Looks at such a home, whether its node runs or not: what it says, and whether it can be taken over. The software is put on the
    /// host; of the home nothing is changed.
    ///
    /// # Errors
    /// `Unsupported`, `Host`. What is wrong with the home is a finding, not an error.
    async fn survey(&self, _host: &dyn Adapter, _home: &str) -> Result<Survey> {
        Err(EngineError::Unsupported("be taken over from others".into()))
    }

    /// Checks the copy of such a home that is the node's own now, before anything is started on it: it is of the node's key, and
    /// the program reads it.
    ///
    /// # Errors
    /// `Unsupported`, `Host`, `Invalid` if it is not.
    async fn check_copy(&self, _host: &dyn Adapter, _node: &NodePlan) -> Result<()> {
        Err(EngineError::Unsupported("be taken over from others".into()))
    }

    /// Asks the running node how it is.
    ///
    /// # Errors
    /// `Host` if its port cannot be reached, `Node` if it answers with an error.
    async fn health(&self, host: &dyn Adapter, node: &NodePlan) -> Result<NodeHealth>;

    /// Returns a block.
    ///
    /// # Errors
    /// `NotFound`, `Host`, `Node`.
    async fn block(&self, host: &dyn Adapter, node: &NodePlan, which: &BlockRef) -> Result<Block>;

    /// Returns how many transactions are in the blocks of these heights together.
    ///
    /// # Errors
    /// `Unsupported`, `NotFound` (also of blocks that this node does not keep), `Host`, `Node`.
    async fn transactions(&self, _: &dyn Adapter, _: &NodePlan, _: RangeInclusive<u64>) -> Result<u64> {
        Err(EngineError::Unsupported("count the transactions of blocks".into()))
    }

    /// Returns a transaction, waiting ones included.
    ///
    /// # Errors
    /// `NotFound`, `Host`, `Node`.
    async fn transaction(&self, host: &dyn Adapter, node: &NodePlan, hash: &str) -> Result<Transaction>;

    /// Returns an account at the newest block.
    ///
    /// # Errors
    /// `Invalid` (address), `Host`, `Node`.
    async fn account(&self, host: &dyn Adapter, node: &NodePlan, address: &str) -> Result<Account>;

    /// Returns who decides on the chain as the node knows it: validators, and what members may change and have decided.
    ///
    /// # Errors
    /// `Unsupported` by a ledger that has none of it, `Host`, `Node`.
    async fn governance(&self, _host: &dyn Adapter, _node: &NodePlan) -> Result<Governance> {
        Err(EngineError::Unsupported("say who governs it".into()))
    }

    /// Sends a signed transaction (raw bytes) and returns its hash. Sending one that is known is a success.
    ///
    /// # Errors
    /// `Node` with the ledger's reason if it refuses.
    async fn send_raw(&self, host: &dyn Adapter, node: &NodePlan, raw: &[u8]) -> Result<String>;

    /// Calls a contract without changing anything and returns what it returned.
    ///
    /// # Errors
    /// `Node` with the revert reason.
    async fn call(&self, host: &dyn Adapter, node: &NodePlan, to: &str, input: &[u8]) -> Result<Vec<u8>>;

    /// Returns what the chain holds of an audit trail: at least `limit` heads recorded in block `height` (the newest without it)
    /// and before, the newest first. `None` if its genesis names nobody's trail.
    ///
    /// # Errors
    /// `Unsupported` by a ledger that has no such thing, `Host`, `Node`.
    async fn anchors(
        &self,
        _host: &dyn Adapter,
        _node: &NodePlan,
        _limit: usize,
        _height: Option<u64>,
    ) -> Result<Option<Anchors>> {
        Err(EngineError::Unsupported("hold heads of an audit trail".into()))
    }

    /// Sends a head of an audit trail to be recorded and returns the transaction's hash. Sending one that is recorded already
    /// changes nothing. `sender` is the secret of the account that sends it; the account needs no money while gas is free.
    ///
    /// # Errors
    /// As [`Engine::anchors`]; `Node` with the ledger's reason if it refuses.
    async fn send_anchor(
        &self,
        _host: &dyn Adapter,
        _node: &NodePlan,
        _order: &AnchorOrder,
        _sender: &[u8; 32],
    ) -> Result<String> {
        Err(EngineError::Unsupported("hold heads of an audit trail".into()))
    }
}
