//! Chains of others that are taken over: what the consortium agreed to, where each node's home is, and the way back.
//!
//! First the consortium votes ([`Change::Adopt`](super::life::Change::Adopt)); every member that is to own a node must agree. Then an
//! operator says where each node is ([`AdoptChain`]); with that order come the nodes' keys, ports and the genesis, as they were found there.
//! From then on a rolling change takes one node after another, each only while all others are well: its home is fenced, so that nothing
//! can start it there again, its process is seen to have ended, the home is copied on its host, and the platform's process is started on
//! the copy. A node that does not get well halts the rolling change; until the last node is well, each can be
//! [given back](GiveBackNode): ours is stopped, what it has signed and stored since goes back into its owner's home, and only
//! then can that one be started again.
//!
//! What this never does: have two processes with one key, or remove the owner's home.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::imported::Endpoint;
use super::node::{NodeIdentity, Signed};
use crate::digest::Blob;
use crate::ids::{ChainKey, HostId, NodeId, NodeKey, TenantId};
use crate::time::Millis;

/// What the consortium agreed to of a chain of others. Came with cluster version 6, as everything here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adoption {
    /// Who is to own each node, in their order.
    pub owners: Vec<TenantId>,
    /// When it was agreed to.
    pub agreed_at: Millis,
    /// When an operator said where the nodes are; `None` until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<Millis>,
}

/// A node of others that is taken over, or was, while its chain is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopting {
    /// Its owner's home folder on its host, absolute.
    pub home: String,
    /// Whether the platform may stop the process that runs there.
    pub stop: bool,
    /// Where it answers while it is its owner's.
    pub endpoint: Endpoint,
    /// Whether the platform's process has run since it was taken: what it has signed is in the platform's home then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub started: bool,
}

/// Where one node of a chain of others is, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptNode {
    /// Which.
    pub node: NodeId,
    /// On which host.
    pub host: HostId,
    /// Its home folder there, absolute.
    pub home: String,
    /// Whether the platform may stop the process that runs there; else its owner does, and the platform waits.
    pub stop: bool,
    /// Who it is, by its key.
    pub identity: NodeIdentity,
    /// Its port of the chain's network, which it keeps.
    pub p2p_port: u16,
    /// Its port of the JSON-RPC, which it keeps.
    pub rpc_port: u16,
    /// Its further ports, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// How far it had signed when it was looked at, if its ledger keeps a record of that: a home that is behind it is never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
}

/// Takes a chain of others over, as its consortium agreed to. By an administrator or operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptChain {
    /// Which.
    pub chain: ChainKey,
    /// Each of its nodes.
    pub nodes: Vec<AdoptNode>,
    /// Its genesis file.
    pub genesis: Blob,
    /// What is set on its nodes, by the names of the template's settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, u64>,
    /// Why.
    pub reason: String,
}

/// Gives a node that was taken over back to its owner, while the taking over goes on; it halts. By an administrator or operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveBackNode {
    /// Which.
    pub node: NodeKey,
    /// Its generation: two leaders cannot give it back twice.
    pub generation: u64,
    /// Why.
    pub reason: String,
}

/// Every node of a chain of others was taken over and is well: it is a chain as any other. By the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndAdoption {
    /// Which.
    pub chain: ChainKey,
}
