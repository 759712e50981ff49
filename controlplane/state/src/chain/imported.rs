//! Chains that were made outside of the platform: known and watched, never touched.
//!
//! An imported chain is a chain whose wish is [`Wish::Watch`](super::life::Wish::Watch): the leader asks its endpoints how they are,
//! and people see heights, findings, series and blocks as of any other chain. Its nodes have no host and cost nothing, no
//! act is planned for them, and every order that would touch it is refused. What answers at an endpoint is believed only while
//! it shows the pinned chain id and first block.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{ChainKey, NodeId, TenantId};
use crate::time::Millis;

/// Most endpoints of an imported chain.
pub const ENDPOINTS_MAX: usize = 32;
/// Longest name or address of an endpoint's host.
pub const ENDPOINT_HOST_MAX: usize = 253;

/// Where a node that is not the platform's answers, over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Port of Ethereum's JSON-RPC.
    pub rpc_port: u16,
    /// Port of the consensus' own RPC, of ledgers that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consensus_port: Option<u16>,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.rpc_port)
    }
}

/// What an imported chain is known by. Came with cluster version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// Hash of its first block, `0x` and 64 lower-case hex digits.
    pub first_block: String,
    /// When it was imported.
    pub since: Millis,
    /// Why.
    pub reason: String,
}

/// Makes a chain of others known, to be watched. By an administrator or operator. Came with cluster version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportChain {
    /// Under which name, of which consortium.
    pub chain: ChainKey,
    /// Name of the template that its ledger is like.
    pub template: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of its first block, `0x` and 64 lower-case hex digits.
    pub first_block: String,
    /// Active member whose chain it is.
    pub owner: TenantId,
    /// Its nodes, in order `n0`, `n1`, ...; at most [`ENDPOINTS_MAX`].
    pub endpoints: Vec<Endpoint>,
    /// Why.
    pub reason: String,
}

/// Forgets an imported chain; nothing of the chain itself changes. By an administrator or operator. Came with cluster version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetChain {
    /// Which.
    pub chain: ChainKey,
    /// Why.
    pub reason: String,
    /// Nodes that were taken over and are written off, because their hosts are lost for good. Came with cluster version 6.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lost: BTreeSet<NodeId>,
}
