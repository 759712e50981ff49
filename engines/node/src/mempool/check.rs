//! Who may enter the pool: the rules that need no lock, and the reasons of a refusal.

use alloy_consensus::Transaction;
use alloy_eips::Encodable2718;
use alloy_primitives::U256;
use revm::context_interface::cfg::gas::calculate_initial_tx_gas;
use revm::primitives::eip3860::MAX_INITCODE_SIZE;

use crate::NodeError;
use crate::block::{self, Tx};
use crate::config::MempoolConfig;
use crate::exec::ChainRules;

/// Why a transaction is not admitted. The texts are those of Ethereum clients where one exists.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("invalid signature")]
    Signature,
    #[error("{0}")]
    Form(String),
    #[error("oversized data: {bytes} bytes, limit {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("max initcode size exceeded: code size {bytes}, limit {limit}")]
    InitCode { bytes: usize, limit: usize },
    #[error("already known")]
    Known,
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow { next: u64, nonce: u64 },
    #[error("nonce too high: next nonce {next}, tx nonce {nonce}")]
    NonceTooHigh { next: u64, nonce: u64 },
    #[error("nonce too high: next nonce {next}, tx nonce {nonce}; an account that does not exist leaves no gap")]
    NewAccountGap { next: u64, nonce: u64 },
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, waiting cost {waiting}")]
    Funds { balance: U256, cost: U256, waiting: U256 },
    #[error("intrinsic gas too low: have {gas}, want {want}")]
    Gas { gas: u64, want: u64 },
    #[error("exceeds block gas limit")]
    BlockGas,
    #[error("transaction gas limit too high: this chain's rules allow {limit} (EIP-7825)")]
    TransactionGas { limit: u64 },
    #[error("max fee per gas less than block base fee: address offers {offered}, base fee {base_fee}")]
    BaseFee { base_fee: u64, offered: u128 },
    #[error("max priority fee per gas higher than max fee per gas")]
    Tip,
    #[error("replacement transaction underpriced")]
    Underpriced,
    #[error("txpool is full: {limit} transactions wait; send it again later")]
    Full { limit: usize },
    #[error("txpool is full for this sender: {limit} of its transactions wait; send it again later")]
    SenderFull { limit: usize },
    #[error("{0}")]
    NotListed(String),
    #[error("this node cannot read its state")]
    Node(#[source] NodeError),
}

impl AdmitError {
    /// Whether the same transaction may be admitted later: blocks empty the pool, a node that is a block behind catches
    /// up, an account is funded. What is not passing stays refused for ever, on every node of the chain.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::NonceTooHigh { .. }
            | Self::NewAccountGap { .. }
            | Self::Funds { .. }
            | Self::Full { .. }
            | Self::SenderFull { .. }
            | Self::Node(_) => true,
            Self::Signature
            | Self::Form(_)
            | Self::TooLarge { .. }
            | Self::InitCode { .. }
            | Self::Known
            | Self::NotListed(_)
            | Self::NonceTooLow { .. }
            | Self::Gas { .. }
            | Self::BlockGas
            | Self::TransactionGas { .. }
            | Self::BaseFee { .. }
            | Self::Tip
            | Self::Underpriced => false,
        }
    }
}

/// Checks what follows from the transaction and the chain's rules alone.
///
/// # Errors
/// The first rule it breaks; it stays broken for ever.
pub(super) fn check(tx: &Tx, rules: &ChainRules, limits: &MempoolConfig) -> Result<(), AdmitError> {
    block::check_form(tx, rules.chain_id, rules.fork).map_err(AdmitError::Form)?;
    let bytes = tx.encode_2718_len();
    // What no block has room for would only wait.
    let limit = limits.transaction_bytes_max.min(rules.transaction_bytes_max());
    if bytes > limit {
        return Err(AdmitError::TooLarge { bytes, limit });
    }
    // EIP-3860: execution refuses it, so it would only wait.
    if tx.is_create() && tx.input().len() > MAX_INITCODE_SIZE {
        return Err(AdmitError::InitCode { bytes: tx.input().len(), limit: MAX_INITCODE_SIZE });
    }
    check_gas(tx, rules)
}

fn check_gas(tx: &Tx, rules: &ChainRules) -> Result<(), AdmitError> {
    if tx.gas_limit() > rules.block_gas_limit {
        return Err(AdmitError::BlockGas);
    }
    if tx.gas_limit() > rules.transaction_gas_max() {
        return Err(AdmitError::TransactionGas { limit: rules.transaction_gas_max() });
    }
    if tx.max_fee_per_gas() < u128::from(rules.base_fee) {
        return Err(AdmitError::BaseFee { base_fee: rules.base_fee, offered: tx.max_fee_per_gas() });
    }
    if tx.max_priority_fee_per_gas().is_some_and(|tip| tip > tx.max_fee_per_gas()) {
        return Err(AdmitError::Tip);
    }
    let (accounts, slots) = tx
        .access_list()
        .map_or((0, 0), |list| (list.len() as u64, list.iter().map(|item| item.storage_keys.len() as u64).sum()));
    let authorizations = tx.authorization_list().map_or(0, |list| list.len() as u64);
    // EIP-7702: a list without entries is invalid, and so is the making of a contract.
    if matches!(tx, Tx::Eip7702(_)) && authorizations == 0 {
        return Err(AdmitError::Form("the authorization list is empty".to_owned()));
    }
    let gas =
        calculate_initial_tx_gas(rules.fork.spec(), tx.input(), tx.is_create(), accounts, slots, authorizations, None);
    let want = (gas.initial_regular_gas + gas.initial_state_gas).max(gas.floor_gas);
    if tx.gas_limit() < want {
        return Err(AdmitError::Gas { gas: tx.gas_limit(), want });
    }
    Ok(())
}

/// What a transaction may cost its sender at most.
pub(super) fn cost(tx: &Tx) -> U256 {
    U256::from(tx.gas_limit()).saturating_mul(U256::from(tx.max_fee_per_gas())).saturating_add(tx.value())
}
