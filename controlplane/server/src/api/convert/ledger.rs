//! What an engine read from a ledger.

use hanse_engines_core as engine;
use hanse_proto::v1 as pb;

use super::ms;
use hanse_state::time::Millis;

/// A block.
pub(crate) fn block(it: engine::Block) -> pb::Block {
    pb::Block {
        height: it.height,
        hash: it.hash,
        parent_hash: it.parent_hash,
        timestamp_ms: ms(Millis(it.time_ms)),
        proposer: it.proposer,
        gas_used: it.gas_used,
        gas_limit: it.gas_limit,
        state_root: it.state_root,
        transaction_hashes: it.transactions,
        base_fee_wei: it.base_fee.unwrap_or_default(),
    }
}

/// A transaction with its receipt.
pub(crate) fn transaction(it: engine::Transaction) -> pb::Transaction {
    let state = match it.success {
        None => pb::TransactionState::Pending,
        Some(true) => pb::TransactionState::Succeeded,
        Some(false) => pb::TransactionState::Reverted,
    };
    pb::Transaction {
        hash: it.hash,
        state: state.into(),
        block: it.block.unwrap_or(0),
        block_hash: it.block_hash.unwrap_or_default(),
        index: it.index.unwrap_or(0),
        from: it.from,
        to: it.to.unwrap_or_default(),
        value_wei: it.value,
        nonce: it.nonce,
        gas_limit: it.gas_limit,
        gas_used: it.gas_used.unwrap_or(0),
        gas_price_wei: it.gas_price,
        input: bytes(&it.input).unwrap_or_default(),
        contract_address: it.contract.unwrap_or_default(),
        logs: it.logs.into_iter().map(log).collect(),
    }
}

fn log(it: engine::Log) -> pb::LedgerLog {
    pb::LedgerLog { address: it.address, topics: it.topics, data: bytes(&it.data).unwrap_or_default() }
}

/// An account of the ledger.
pub(crate) fn account(it: engine::Account) -> pb::LedgerAccount {
    pb::LedgerAccount { address: it.address, balance_wei: it.balance, nonce: it.nonce, code_bytes: it.code_bytes }
}

/// A head of the audit trail that a chain holds.
pub(crate) fn anchor(it: engine::AnchoredHead) -> pb::Anchor {
    pb::Anchor {
        tree_size: it.size,
        root_hash: hex::encode(it.root),
        head_hash: hex::encode(it.chain),
        at_ms: ms(Millis(it.time_ms)),
        era: it.era,
        height: it.height,
        block_hash: it.block_hash,
        transaction_hash: it.transaction,
    }
}

/// Bytes of 0x-hex.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    hex::decode(text.strip_prefix("0x")?).ok()
}

/// Whether `text` is 0x and `digits` hex digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.strip_prefix("0x").is_some_and(|rest| rest.len() == digits && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_checked_by_length() {
        assert!(is_hex(&format!("0x{}", "aB".repeat(20)), 40));
        for text in ["", "0x", &"a".repeat(42), &format!("0x{}", "g".repeat(40))] {
            assert!(!is_hex(text, 40), "{text}");
        }
    }
}
