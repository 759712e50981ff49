//! How accounts sign transactions and what they are called: one place for all that a chain with
//! other algorithms (SM2 and SM3, say) would do differently.
//!
//! A scheme gives a transaction's hash, the key that signed it and the address of a key. Pool and
//! execution ask [`ChainRules::accounts`](crate::exec::ChainRules) and never the transaction itself.
//! A signature has the form of Ethereum's envelopes, two numbers of 32 bytes and a bit, which SM2's
//! have too. It is not the EVM's business: opcodes, precompiles, contract addresses, block hashes
//! and tries stay Ethereum's.

use std::fmt::Debug;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_primitives::{Address, B256, keccak256};

use crate::block::Tx;

/// The algorithms of a chain's accounts. The same on all nodes of a chain.
pub(crate) trait AccountScheme: Debug + Send + Sync {
    /// The hash by which the transaction is known.
    fn transaction_hash(&self, tx: &Tx) -> B256;

    /// The public key that signed the transaction; `None` if none can have.
    fn public_key(&self, tx: &Tx) -> Option<Vec<u8>>;

    /// The address of a public key as [`AccountScheme::public_key`] gives it.
    fn address(&self, public_key: &[u8]) -> Address;

    /// The address whose key signed the transaction; `None` if none can have.
    fn sender(&self, tx: &Tx) -> Option<Address> {
        self.public_key(tx).map(|key| self.address(&key))
    }
}

/// Ethereum's: ECDSA over secp256k1, keccak256; the key is 64 bytes without a prefix.
#[derive(Debug)]
pub(crate) struct Ethereum;

impl AccountScheme for Ethereum {
    fn transaction_hash(&self, tx: &Tx) -> B256 {
        *tx.tx_hash()
    }

    fn public_key(&self, tx: &Tx) -> Option<Vec<u8>> {
        // EIP-2: of the two signatures with one meaning only that with the lower s counts.
        if tx.signature().normalize_s().is_some() {
            return None;
        }
        let key = tx.signature().recover_from_prehash(&tx.signature_hash()).ok()?;
        key.to_encoded_point(false).as_bytes().get(1..).map(<[u8]>::to_vec)
    }

    fn address(&self, public_key: &[u8]) -> Address {
        Address::from_slice(&keccak256(public_key)[12..])
    }

    fn sender(&self, tx: &Tx) -> Option<Address> {
        tx.recover_signer().ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloy_consensus::{SignableTransaction, TxEip1559};
    use alloy_eips::Encodable2718;
    use alloy_primitives::{Signature, U256};
    use k256::ecdsa::SigningKey;

    /// Stands for a scheme that shares nothing with Ethereum's: r is the signer's key, s a tag over
    /// key and content. Proves nothing, but differs in hash, recovery and address alike.
    #[derive(Debug)]
    pub(crate) struct Tagged;

    impl Tagged {
        pub(crate) fn sign(tx: TxEip1559, key: U256) -> Tx {
            let tag = Self::tag(tx.signature_hash(), key);
            tx.into_signed(Signature::new(key, tag, false)).into()
        }

        fn tag(content: B256, key: U256) -> U256 {
            U256::from_be_bytes(keccak256([b"tag", content.as_slice(), &key.to_be_bytes::<32>()].concat()).0)
        }
    }

    impl AccountScheme for Tagged {
        fn transaction_hash(&self, tx: &Tx) -> B256 {
            keccak256([b"other".as_slice(), &tx.encoded_2718()].concat())
        }

        fn public_key(&self, tx: &Tx) -> Option<Vec<u8>> {
            let (key, tag) = (tx.signature().r(), tx.signature().s());
            (Self::tag(tx.signature_hash(), key) == tag).then(|| key.to_be_bytes_vec())
        }

        fn address(&self, public_key: &[u8]) -> Address {
            Address::from_slice(&public_key[..20])
        }
    }

    pub(crate) fn signed(tx: TxEip1559, key: &SigningKey) -> Tx {
        let (signature, recovery) = key.sign_prehash_recoverable(tx.signature_hash().as_slice()).unwrap();
        let bytes = signature.to_bytes();
        let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
        tx.into_signed(Signature::new(r, s, recovery.is_y_odd())).into()
    }

    /// Foundry's first development account, whose address everyone knows.
    pub(crate) fn rich() -> (SigningKey, Address) {
        let key = hex::decode("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80").unwrap();
        let address = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266".parse().unwrap();
        (SigningKey::from_slice(&key).unwrap(), address)
    }

    #[test]
    fn ethereums_key_and_address_are_those_that_everyone_gets() {
        let (key, address) = rich();
        let tx = signed(TxEip1559 { chain_id: 7, ..Default::default() }, &key);
        assert_eq!(Ethereum.sender(&tx), Some(address));
        assert_eq!(Ethereum.address(&Ethereum.public_key(&tx).unwrap()), address);
        // The same signature with the higher s is not accepted.
        let Tx::Eip1559(low) = &tx else { panic!("{tx:?}") };
        let order = U256::from_be_slice(
            &hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").unwrap(),
        );
        let signature = low.signature();
        let high = Signature::new(signature.r(), order - signature.s(), !signature.v());
        let high: Tx = low.tx().clone().into_signed(high).into();
        assert_eq!((Ethereum.sender(&high), Ethereum.public_key(&high)), (None, None));
    }

    #[test]
    fn another_scheme_gives_other_senders_and_hashes() {
        let key = U256::from(5u64) << 96;
        let tx = Tagged::sign(TxEip1559 { chain_id: 7, ..Default::default() }, key);
        assert_eq!(Tagged.sender(&tx), Some(Address::from_slice(&key.to_be_bytes::<32>()[..20])));
        assert_ne!(Tagged.transaction_hash(&tx), *tx.tx_hash());
        assert_eq!(Tagged.sender(&signed(TxEip1559::default(), &rich().0)), None);
    }
}
