//! From the JSON of an Ethereum node to the explorer's forms; `None` for anything that does not fit.

use hanse_engines_core::{Account, Block, Log, Transaction};
use serde_json::Value;

/// Most hex digits of a number: 256 bits.
const DIGITS_MAX: usize = 64;
/// `decimal` works in groups of nine digits.
const GROUP: u64 = 1_000_000_000;

/// From `eth_getBlockByNumber` without transactions; its time is in whole seconds.
pub fn block(value: &Value) -> Option<Block> {
    let transactions = value["transactions"].as_array()?;
    Some(Block {
        height: quantity(&value["number"])?,
        hash: text(&value["hash"])?,
        parent_hash: text(&value["parentHash"])?,
        time_ms: quantity(&value["timestamp"])?.checked_mul(1_000)?,
        state_root: text(&value["stateRoot"])?,
        proposer: text(&value["miner"])?,
        gas_used: quantity(&value["gasUsed"])?,
        gas_limit: quantity(&value["gasLimit"])?,
        base_fee: match &value["baseFeePerGas"] {
            Value::Null => None,
            price => Some(decimal(price)?),
        },
        transactions: transactions.iter().map(text).collect::<Option<_>>()?,
    })
}

/// From `eth_getTransactionByHash` and `eth_getTransactionReceipt`.
pub fn transaction(value: &Value, receipt: &Value) -> Option<Transaction> {
    let done = !receipt.is_null();
    let gas_used = if done { Some(quantity(&receipt["gasUsed"])?) } else { None };
    let fee = match gas_used {
        Some(gas) => {
            let price = u128::from_str_radix(digits(&receipt["effectiveGasPrice"])?, 16).ok()?;
            Some(u128::from(gas).checked_mul(price)?.to_string())
        }
        None => None,
    };
    Some(Transaction {
        hash: text(&value["hash"])?,
        block: if done { Some(quantity(&receipt["blockNumber"])?) } else { None },
        block_hash: if done { Some(text(&receipt["blockHash"])?) } else { None },
        index: if done { Some(u32::try_from(quantity(&receipt["transactionIndex"])?).ok()?) } else { None },
        from: text(&value["from"])?,
        to: optional(&value["to"])?,
        value: decimal(&value["value"])?,
        nonce: quantity(&value["nonce"])?,
        input: text(&value["input"])?,
        gas_limit: quantity(&value["gas"])?,
        gas_price: decimal(if done { &receipt["effectiveGasPrice"] } else { &value["gasPrice"] })?,
        success: if done { Some(quantity(&receipt["status"])? == 1) } else { None },
        gas_used,
        fee,
        // A receipt names the address also of a creation that failed.
        contract: optional(&receipt["contractAddress"])?.filter(|_| receipt["status"] == "0x1"),
        logs: if done { receipt["logs"].as_array()?.iter().map(log).collect::<Option<_>>()? } else { Vec::new() },
    })
}

fn log(value: &Value) -> Option<Log> {
    Some(Log {
        address: text(&value["address"])?,
        topics: value["topics"].as_array()?.iter().map(text).collect::<Option<_>>()?,
        data: text(&value["data"])?,
    })
}

/// From balance, sequence number, code and height, in this order.
pub fn account(address: &str, answers: &[Value]) -> Option<Account> {
    let [balance, nonce, code, height] = answers else { return None };
    Some(Account {
        address: address.to_owned(),
        balance: decimal(balance)?,
        nonce: quantity(nonce)?,
        code_bytes: u64::try_from(bytes(code)?.len()).ok()?,
        height: quantity(height)?,
    })
}

/// Returns what 0x-hex stands for.
pub fn bytes(value: &Value) -> Option<Vec<u8>> {
    hex::decode(value.as_str()?.strip_prefix("0x")?).ok()
}

/// Returns a text.
pub fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Returns a text or `null`. The outer `None` is nonsense, the inner one is `null`.
pub fn optional(value: &Value) -> Option<Option<String>> {
    if value.is_null() { Some(None) } else { text(value).map(Some) }
}

fn digits(value: &Value) -> Option<&str> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    let fits = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then_some(digits)
}

/// Returns the number of a quantity.
pub fn quantity(value: &Value) -> Option<u64> {
    u64::from_str_radix(digits(value)?, 16).ok()
}

/// A 256-bit number from hex to decimal: groups of nine digits, least first.
fn decimal(value: &Value) -> Option<String> {
    let mut groups: Vec<u64> = vec![0];
    for digit in digits(value)?.chars() {
        let mut carry = u64::from(digit.to_digit(16)?);
        for group in &mut groups {
            let next = *group * 16 + carry;
            *group = next % GROUP;
            carry = next / GROUP;
        }
        if carry > 0 {
            groups.push(carry);
        }
    }
    let (first, rest) = groups.split_last()?;
    Some(rest.iter().rev().fold(first.to_string(), |all, group| format!("{all}{group:09}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_of_256_bits_are_exact() {
        let cases = [
            ("0x0", "0"),
            ("0xde0b6b3a7640000", "1000000000000000000"),
            ("0x3b9aca00", "1000000000"),
            (
                "0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                "115792089237316195423570985008687907853269984665640564039457584007913129639935",
            ),
        ];
        for (hex, expected) in cases {
            assert_eq!(decimal(&json!(hex)).unwrap(), expected);
        }
        for bad in ["", "0x", "12", "0xg", &format!("0x{}", "f".repeat(65))] {
            assert_eq!(decimal(&json!(bad)), None, "{bad}");
        }
    }

    #[test]
    fn nonsense_is_not_read() {
        assert!(block(&json!({})).is_none());
        assert!(transaction(&json!({ "hash": 1 }), &Value::Null).is_none());
        assert!(account("0x", &[]).is_none());
    }
}
