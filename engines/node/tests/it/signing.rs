//! Foundry's first development account as a wallet that signs without asking the chain.

use alloy_consensus::{EthereumTxEnvelope, SignableTransaction, TxEip1559, TxEip2930, TxEip4844, TxLegacy};
use alloy_eips::Encodable2718;
use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use k256::ecdsa::SigningKey;

use crate::net::{CHAIN_ID, RICH_KEY};

/// What all kinds of transactions have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    pub(crate) nonce: u64,
    pub(crate) to: Option<Address>,
    pub(crate) value: u64,
    pub(crate) input: Bytes,
    pub(crate) gas: u64,
    pub(crate) price: u128,
}

/// The form of the envelope.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    Legacy,
    WithList(AccessList),
    WithTip(u128),
}

/// A signed transaction in its network form.
pub(crate) fn sign(order: &Order, form: &Form) -> Bytes {
    let (chain_id, to) = (CHAIN_ID, order.to.map_or(TxKind::Create, TxKind::Call));
    let (nonce, gas_limit, value, input) = (order.nonce, order.gas, U256::from(order.value), order.input.clone());
    let signed: EthereumTxEnvelope<TxEip4844> = match form {
        Form::Legacy => {
            let chain_id = Some(chain_id);
            let tx = TxLegacy { chain_id, nonce, gas_price: order.price, gas_limit, to, value, input };
            let signature = signature(&tx);
            tx.into_signed(signature).into()
        }
        Form::WithList(list) => {
            let access_list = list.clone();
            let tx = TxEip2930 { chain_id, nonce, gas_price: order.price, gas_limit, to, value, access_list, input };
            let signature = signature(&tx);
            tx.into_signed(signature).into()
        }
        Form::WithTip(tip) => {
            let (max_fee_per_gas, max_priority_fee_per_gas, access_list) = (order.price, *tip, AccessList::default());
            let tx = TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to,
                value,
                access_list,
                input,
            };
            let signature = signature(&tx);
            tx.into_signed(signature).into()
        }
    };
    signed.encoded_2718().into()
}

fn signature(tx: &impl SignableTransaction<Signature>) -> Signature {
    let secret: B256 = RICH_KEY.parse().unwrap();
    let key = SigningKey::from_slice(secret.as_slice()).unwrap();
    key.sign_prehash_recoverable(tx.signature_hash().as_slice()).unwrap().into()
}

/// Input of a Solidity function: the signature's selector and whole words.
pub(crate) fn input(signature: &str, words: &[B256]) -> Bytes {
    let mut bytes = keccak256(signature)[..4].to_vec();
    for word in words {
        bytes.extend_from_slice(word.as_slice());
    }
    bytes.into()
}

/// A number as a word.
pub(crate) fn word(value: u64) -> B256 {
    U256::from(value).into()
}
