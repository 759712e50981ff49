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
        // The engines do not give these yet; 0 and empty say "unknown".
        gas_limit: 0,
        state_root: it.state_root,
        transaction_hashes: it.transactions,
        base_fee_wei: String::new(),
    }
}

/// A transaction with its receipt.
pub(crate) fn transaction(it: engine::Transaction) -> pb::Transaction {
    let state = match it.success {
        None => pb::TransactionState::Pending,
        Some(true) => pb::TransactionState::Succeeded,
        Some(false) => pb::TransactionState::Reverted,
    };
    let gas_price = price(it.fee.as_deref(), it.gas_used);
    pb::Transaction {
        hash: it.hash,
        state: state.into(),
        block: it.block.unwrap_or(0),
        block_hash: it.block_hash.unwrap_or_default(),
        index: 0,
        from: it.from,
        to: it.to.unwrap_or_default(),
        value_wei: it.value,
        nonce: it.nonce,
        gas_limit: 0,
        gas_used: it.gas_used.unwrap_or(0),
        gas_price_wei: gas_price.unwrap_or_default(),
        input: bytes(&it.input).unwrap_or_default(),
        contract_address: it.contract.unwrap_or_default(),
        logs: Vec::new(),
    }
}

/// Price of a unit of gas, from the fee that was paid.
fn price(fee: Option<&str>, gas_used: Option<u64>) -> Option<String> {
    let (fee, gas) = (fee?.parse::<u128>().ok()?, u128::from(gas_used?));
    (gas > 0).then(|| (fee / gas).to_string())
}

/// An account of the ledger.
pub(crate) fn account(it: engine::Account) -> pb::LedgerAccount {
    pb::LedgerAccount {
        address: it.address,
        balance_wei: it.balance,
        nonce: it.nonce,
        // The engine says only whether there is code: at least one byte then.
        code_bytes: u64::from(it.is_contract),
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
    fn gas_price_follows_from_the_fee() {
        assert_eq!(price(Some("21000000000000"), Some(21_000)).as_deref(), Some("1000000000"));
        assert_eq!(price(Some("1"), Some(0)), None);
        assert_eq!(price(None, Some(1)), None);
    }

    #[test]
    fn hex_is_checked_by_length() {
        assert!(is_hex(&format!("0x{}", "aB".repeat(20)), 40));
        for text in ["", "0x", &"a".repeat(42), &format!("0x{}", "g".repeat(40))] {
            assert!(!is_hex(text, 40), "{text}");
        }
    }
}
