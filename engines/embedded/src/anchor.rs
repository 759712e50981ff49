//! Heads of an audit trail on this ledger: its native contract's call, signed, and what a node says of those recorded.

use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Bytes, TxKind, U256, address, keccak256};
use hanse_engines_core::{AnchorOrder, AnchoredHead, Anchors, EngineError, Result};
use k256::ecdsa::SigningKey;
use serde_json::Value;

use crate::explorer::bytes;

/// Where the ledger keeps the last head.
const ADDRESS: Address = address!("48616e7365000000000000000000000000000002");
/// The native contract's function.
const ANCHOR: &str = "anchor(string,bytes32[])";
/// What any transaction costs, and at most a byte of its input (EIP-7623).
const TRANSACTION_GAS: u64 = 21_000;
const BYTE_GAS: u64 = 40;
/// What the native contract takes at most, and for each hash of a proof.
const ANCHOR_GAS: u64 = 100_000;
const HASH_GAS: u64 = 500;
/// Bytes of a word of Solidity's ABI.
const WORD: usize = 32;

/// The account that sends heads. Its secret never shows itself.
pub(crate) struct Sender(SigningKey);

impl Sender {
    /// The account of a secret.
    pub(crate) fn new(secret: &[u8; 32]) -> Result<Self> {
        let key = SigningKey::from_slice(secret).map_err(|_| invalid("sender", "is no secp256k1 key"))?;
        Ok(Self(key))
    }

    /// Its address.
    pub(crate) fn address(&self) -> Address {
        Address::from_private_key(&self.0)
    }

    /// Gives the signed transaction as it goes over the wire: the same for the same order, nonce and price.
    pub(crate) fn sign(&self, order: &AnchorOrder, nonce: u64, price: u64) -> Result<Vec<u8>> {
        let input = input(&order.checkpoint, &order.proof);
        let gas = TRANSACTION_GAS + BYTE_GAS * input.len() as u64 + ANCHOR_GAS + HASH_GAS * order.proof.len() as u64;
        let transaction = TxEip1559 {
            chain_id: order.chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: u128::from(price),
            to: TxKind::Call(ADDRESS),
            input: Bytes::from(input),
            ..Default::default()
        };
        let hash = transaction.signature_hash();
        let signed = self.0.sign_prehash_recoverable(hash.as_slice());
        let (signature, recovery) = signed.map_err(|error| invalid("sender", &error.to_string()))?;
        Ok(transaction.into_signed((signature, recovery).into()).encoded_2718())
    }
}

fn invalid(field: &str, reason: &str) -> EngineError {
    EngineError::Invalid { field: field.to_owned(), reason: reason.to_owned() }
}

/// The call in Solidity's ABI.
fn input(checkpoint: &str, proof: &[[u8; 32]]) -> Vec<u8> {
    let mut input = keccak256(ANCHOR)[..4].to_vec();
    let padded = checkpoint.len().next_multiple_of(WORD);
    let word = |number: usize| U256::from(number).to_be_bytes::<WORD>();
    input.extend(word(2 * WORD));
    input.extend(word(3 * WORD + padded));
    input.extend(word(checkpoint.len()));
    input.extend(checkpoint.as_bytes());
    input.resize(input.len() + padded - checkpoint.len(), 0);
    input.extend(word(proof.len()));
    input.extend(proof.iter().flatten());
    input
}

/// Reads what a node says; `None` for anything that does not fit.
pub(crate) fn read(value: &Value) -> Option<Anchors> {
    let latest = match &value["latest"] {
        Value::Null => None,
        latest => Some(head(latest)?),
    };
    Some(Anchors {
        key: value["key"].as_str()?.to_owned(),
        era: value["era"].as_u64()?,
        latest,
        heads: value["heads"].as_array()?.iter().map(head).collect::<Option<_>>()?,
        older_height: match &value["older_height"] {
            Value::Null => None,
            height => Some(height.as_u64()?),
        },
        pruned: value["pruned"].as_bool()?,
    })
}

fn head(value: &Value) -> Option<AnchoredHead> {
    let hash = |name: &str| bytes(&value[name]).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let place = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Some(AnchoredHead {
        size: value["size"].as_u64().filter(|size| *size > 0)?,
        root: hash("root")?,
        chain: hash("chain")?,
        time_ms: value["time_ms"].as_u64()?,
        era: value["era"].as_u64()?,
        height: value["height"].as_u64()?,
        block_hash: place("block_hash"),
        transaction: place("transaction_hash"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    /// What the node's own frozen calls are must come out of their parts here.
    #[test]
    fn the_call_is_the_one_that_the_node_reads() {
        let frozen: Value = serde_json::from_str(include_str!("../../node/tests/frozen/anchor_v1.json")).unwrap();
        for call in frozen["inputs"].as_array().unwrap() {
            let call = bytes(call).unwrap();
            let number = |at: usize| usize::try_from(U256::from_be_slice(&call[4 + at..4 + at + WORD])).unwrap();
            let (note, proof) = (number(0), number(WORD));
            let text = String::from_utf8(call[4 + note + WORD..][..number(note)].to_vec()).unwrap();
            let hashes: Vec<[u8; 32]> =
                call[4 + proof + WORD..].chunks(WORD).map(|chunk| chunk.try_into().unwrap()).collect();
            assert_eq!(hashes.len(), number(proof));
            assert_eq!(input(&text, &hashes), call);
        }
        assert_eq!(frozen["address"], json!(ADDRESS));
    }

    #[test]
    fn answers_that_are_none_are_not_taken_for_heads() {
        let hash = format!("0x{}", "ab".repeat(32));
        let head = json!({ "size": 4, "root": hash, "chain": hash, "time_ms": 5, "era": 0, "height": 6 });
        let good = json!({ "key": "k", "era": 0, "latest": head, "heads": [head], "older_height": 2, "pruned": false });
        assert_eq!(read(&good).unwrap().latest.unwrap().size, 4);
        for (field, nonsense) in
            [("key", json!(1)), ("latest", json!({})), ("heads", json!(null)), ("pruned", json!(0))]
        {
            let mut bad = good.clone();
            bad[field] = nonsense;
            assert_eq!(read(&bad), None, "{field}");
        }
    }
}
