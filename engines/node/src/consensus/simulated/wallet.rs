//! Signed transfers of simulated clients.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use k256::ecdsa::SigningKey;

use crate::block::Tx;

/// One client's account.
pub(in crate::consensus) struct Wallet {
    key: SigningKey,
    next_nonce: u64,
}

impl Wallet {
    pub(in crate::consensus) fn new(number: u8) -> Self {
        Self { key: SigningKey::from_bytes(&[number + 1; 32].into()).unwrap(), next_nonce: 0 }
    }

    pub(in crate::consensus) fn address(&self) -> Address {
        let point = self.key.verifying_key().to_encoded_point(false);
        Address::from_slice(&keccak256(&point.as_bytes()[1..])[12..])
    }

    pub(in crate::consensus) fn sign(&self, hash: B256) -> Signature {
        let (signature, recovery) = self.key.sign_prehash_recoverable(hash.as_slice()).unwrap();
        Signature::from_signature_and_parity(signature, recovery.is_y_odd())
    }

    /// The next transfer of 1 wei to `to`: its hash and its network form.
    pub(in crate::consensus) fn transfer(&mut self, chain_id: u64, to: Address) -> (B256, Bytes) {
        self.transact(chain_id, to, 1, Bytes::new())
    }

    /// The next transaction: its hash and its network form.
    pub(in crate::consensus) fn transact(
        &mut self,
        chain_id: u64,
        to: Address,
        value: u64,
        input: Bytes,
    ) -> (B256, Bytes) {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        let gas_limit = if input.is_empty() { 21_000 } else { 2_000_000 };
        let (to, value) = (TxKind::Call(to), U256::from(value));
        let tx = TxEip1559 { chain_id, nonce, gas_limit, to, value, input, ..Default::default() };
        let signature = self.sign(tx.signature_hash());
        let signed = Tx::from(tx.into_signed(signature));
        (*signed.tx_hash(), signed.encoded_2718().into())
    }
}
