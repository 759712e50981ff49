//! A node that others run: what its home says, before its chain is taken over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hanse_adapters_core::preflight::Finding;

use crate::NodeIdentity;

/// What was seen of a home of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Everything that was looked at, good and bad; with an error among them the home is not taken over as it is.
    pub findings: Vec<Finding>,
    /// What is in it; `None` if it cannot be read.
    pub found: Option<Found>,
}

/// What is in a home of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who it is, by its key.
    pub identity: NodeIdentity,
    /// Its genesis file.
    pub genesis: Vec<u8>,
    /// The chain id that the genesis gives.
    pub chain_id: u64,
    /// Hash of the first block that the genesis gives, `0x` and lower-case hex.
    pub first_block: String,
    /// Public keys of the validators that the genesis names.
    pub validators: Vec<String>,
    /// Where it listens for peers.
    pub p2p_address: IpAddr,
    /// Its port there.
    pub p2p_port: u16,
    /// Its port for clients.
    pub rpc_port: u16,
    /// Its further ports, by [`Engine::ports`](crate::Engine::ports)' names.
    pub ports: BTreeMap<String, u16>,
    /// What is set on it, by the names of the template's settings.
    pub settings: BTreeMap<String, u64>,
    /// Whether a process holds the home.
    pub is_held: bool,
}
