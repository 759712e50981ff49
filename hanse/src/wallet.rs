//! A user's own ledger account: a secp256k1 key in a file, and transactions signed with it on the user's machine.
//!
//! The platform only ever sees signed bytes.

use std::path::Path;

use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Bytes, TxKind, U256};
use anyhow::{Context as _, Result};
use k256::ecdsa::SigningKey;
use zeroize::Zeroizing;

/// Gas of a plain transfer.
pub(crate) const TRANSFER_GAS: u64 = 21_000;

/// A ledger account with its key.
pub(crate) struct Wallet {
    key: SigningKey,
}

/// What a transaction does besides who signs it.
pub(crate) struct Order {
    /// EIP-155 chain id.
    pub(crate) chain_id: u64,
    /// Sender's next sequence number.
    pub(crate) nonce: u64,
    /// Receiver; `None` creates a contract.
    pub(crate) to: Option<Address>,
    /// Amount in wei.
    pub(crate) value: U256,
    /// Input data, or the contract's creation code.
    pub(crate) input: Vec<u8>,
    /// Most gas it may use.
    pub(crate) gas_limit: u64,
    /// Most wei per gas; 0 on a chain without fees.
    pub(crate) gas_price: u128,
}

impl Wallet {
    /// A new random key.
    pub(crate) fn generate() -> Result<Self> {
        loop {
            let mut bytes = Zeroizing::new([0u8; 32]);
            ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), bytes.as_mut())
                .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
            // All but about 2^-128 of 32-byte strings are keys.
            if let Ok(key) = SigningKey::from_slice(bytes.as_ref()) {
                return Ok(Self { key });
            }
        }
    }

    /// The key kept at `path` (64 hex digits, optionally after `0x`).
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = hanse_client::files::read(path).with_context(|| format!("read account key {}", path.display()))?;
        let digits = text.trim().trim_start_matches("0x");
        let bytes = Zeroizing::new(hex::decode(digits).with_context(|| format!("{}: not hex", path.display()))?);
        let key = SigningKey::from_slice(&bytes).with_context(|| format!("{}: not a secp256k1 key", path.display()))?;
        Ok(Self { key })
    }

    /// Keeps the key at `path`, which must not exist, readable by the owner only.
    pub(crate) fn save_new(&self, path: &Path) -> Result<()> {
        let text = Zeroizing::new(hex::encode(self.key.to_bytes()) + "\n");
        hanse_client::files::write_new(path, text.as_bytes()).with_context(|| format!("write {}", path.display()))
    }

    /// The account's address, `0x` and 40 lower-case hex digits.
    pub(crate) fn address(&self) -> String {
        format!("{:#x}", Address::from_private_key(&self.key))
    }

    /// Returns the signed EIP-1559 transaction as it goes over the wire.
    pub(crate) fn sign(&self, order: Order) -> Result<Vec<u8>> {
        let transaction = TxEip1559 {
            chain_id: order.chain_id,
            nonce: order.nonce,
            gas_limit: order.gas_limit,
            max_fee_per_gas: order.gas_price,
            max_priority_fee_per_gas: order.gas_price,
            to: order.to.map_or(TxKind::Create, TxKind::Call),
            value: order.value,
            access_list: Default::default(),
            input: Bytes::from(order.input),
        };
        let hash = transaction.signature_hash();
        let (signature, recovery) =
            self.key.sign_prehash_recoverable(hash.as_slice()).context("sign the transaction")?;
        Ok(transaction.into_signed((signature, recovery).into()).encoded_2718())
    }
}
