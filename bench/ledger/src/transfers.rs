//! Accounts and the transfers they sign. The same for both networks but for chain id and gas price.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, Signature, TxKind, U256, keccak256};
use anyhow::{Context as _, Result};
use k256::ecdsa::SigningKey;

/// Accounts that send; the first is for single transfers, the others for the load.
pub(crate) const SENDERS: usize = 61;
/// Accounts that receive, so that the state does not stay at a handful of accounts.
const RECEIVERS: u64 = 1000;

/// The senders, with their next nonces.
#[derive(Debug)]
pub(crate) struct Accounts {
    chain_id: u64,
    senders: Vec<(SigningKey, u64)>,
}

impl Accounts {
    pub(crate) fn new(chain_id: u64) -> Result<Self> {
        let senders = (0..SENDERS).map(|n| {
            let secret = keccak256(format!("bench sender {n}"));
            Ok((SigningKey::from_slice(secret.as_slice()).context("make a key")?, 0))
        });
        Ok(Self { chain_id, senders: senders.collect::<Result<_>>()? })
    }

    pub(crate) fn chain_id(&self) -> u64 {
        self.chain_id
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = Address> {
        self.senders.iter().map(|(key, _)| Address::from_private_key(key))
    }

    /// The next transfer of a sender, signed, in hexadecimal.
    pub(crate) fn next(&mut self, sender: usize, gas_price: u128) -> Result<String> {
        let (key, nonce) = &mut self.senders[sender];
        let receiver = keccak256(((*nonce * SENDERS as u64 + sender as u64) % RECEIVERS).to_be_bytes());
        let tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce: *nonce,
            gas_limit: 21_000,
            max_fee_per_gas: gas_price,
            max_priority_fee_per_gas: gas_price,
            to: TxKind::Call(Address::from_slice(&receiver[12..])),
            value: U256::from(1),
            ..TxEip1559::default()
        };
        let (signature, recovery) =
            key.sign_prehash_recoverable(tx.signature_hash().as_slice()).context("sign a transfer")?;
        let bytes = signature.to_bytes();
        let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
        *nonce += 1;
        let signed: TxEnvelope = tx.into_signed(Signature::new(r, s, recovery.is_y_odd())).into();
        Ok(format!("0x{}", hex::encode(signed.encoded_2718())))
    }

    /// As many transfers of a sender as asked for, beginning with its next nonce; the nonces are not used up.
    pub(crate) fn ahead(&mut self, sender: usize, count: usize, gas_price: u128) -> Result<Vec<String>> {
        (0..count).map(|_| self.next(sender, gas_price)).collect()
    }
}
