//! Contracts on a chain: a transaction that the user signed is carried to the chain, and its address recorded.

pub(crate) mod apply;
pub mod query;

use serde::{Deserialize, Serialize};

use crate::digest::Blob;
use crate::ids::{AccountId, ContractKey, OperationId, TenantId};
use crate::time::Millis;

/// Greatest signed transaction in bytes.
pub const RAW_TRANSACTION_BYTES_MAX: usize = 256 * 1024;
/// Contracts of a chain, all states.
pub const CONTRACTS_PER_CHAIN_MAX: usize = 10_000;
/// Deployments of a chain that are not finished; they hold their transaction in memory.
pub const CONTRACTS_PENDING_MAX: usize = 32;

/// Life of a contract: `Requested` → `Sent` → `Deployed`, or `Failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ContractState {
    /// Recorded.
    Requested,
    /// A node took the transaction.
    Sent,
    /// It is in a block and has an address.
    Deployed,
    /// The chain refused or reverted it.
    Failed,
}

/// A contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// Its key.
    pub key: ContractKey,
    /// Tenant that deploys it.
    pub tenant: TenantId,
    /// Account that deploys it.
    pub by: AccountId,
    /// Signed by the user's own key; dropped when the deployment is finished.
    pub raw_transaction: Option<Blob>,
    /// How far it is.
    pub state: ContractState,
    /// Why, in words.
    pub state_reason: String,
    /// Since when.
    pub state_since: Millis,
    /// Hash of the transaction, once sent.
    pub tx_hash: Option<String>,
    /// Address, once deployed.
    pub address: Option<String>,
    /// Block, once deployed.
    pub block: Option<u64>,
    /// The operation that deploys it.
    pub operation: OperationId,
    /// When it was asked for.
    pub created_at: Millis,
}

/// Deploys a contract. By an owner or developer of a member of the chain's consortium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployContract {
    /// Its name on its chain.
    pub contract: ContractKey,
    /// The signed transaction, at most [`RAW_TRANSACTION_BYTES_MAX`].
    pub raw_transaction: Blob,
}

/// What was seen of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ContractFact {
    /// A node took the transaction.
    Sent {
        /// Its hash.
        tx_hash: String,
    },
    /// It is in a final block.
    Deployed {
        /// The contract's address.
        address: String,
        /// The block's number.
        block: u64,
    },
    /// The chain refused or reverted it.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Something was seen of a deployment. By the system; a known fact changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordContractFact {
    /// Of which.
    pub contract: ContractKey,
    /// What.
    pub fact: ContractFact,
}
