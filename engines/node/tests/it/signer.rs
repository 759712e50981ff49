//! Signed transactions without `cast`: an account, its nonce, EIP-1559 transactions of no price.

use alloy_consensus::{EthereumTxEnvelope, SignableTransaction, TxEip1559, TxEip4844};
use alloy_eips::Encodable2718;
use alloy_primitives::{B256, Bytes, Signature, TxKind, U256, hex};
use k256::ecdsa::SigningKey;

use crate::net::CHAIN_ID;

/// An account and the nonce of its next transaction.
pub(crate) struct Wallet {
    key: SigningKey,
    pub(crate) next_nonce: u64,
}

impl Wallet {
    /// The account of a key in hexadecimal.
    pub(crate) fn new(key: &str) -> Self {
        Self { key: SigningKey::from_slice(&hex::decode(key).unwrap()).unwrap(), next_nonce: 0 }
    }

    /// The next transaction: its hash and its network form.
    pub(crate) fn send(&mut self, to: TxKind, value: u64, input: Bytes) -> (B256, Bytes) {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        let gas_limit = if input.is_empty() { 21_000 } else { 5_000_000 };
        let value = U256::from(value);
        let tx = TxEip1559 { chain_id: CHAIN_ID, nonce, gas_limit, to, value, input, ..Default::default() };
        let (signature, recovery) = self.key.sign_prehash_recoverable(tx.signature_hash().as_slice()).unwrap();
        let signature = Signature::from_signature_and_parity(signature, recovery.is_y_odd());
        let signed: EthereumTxEnvelope<TxEip4844> = tx.into_signed(signature).into();
        (*signed.tx_hash(), signed.encoded_2718().into())
    }
}
