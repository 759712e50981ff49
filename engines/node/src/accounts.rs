//! How accounts sign transactions and what they are called: one place for all that a chain with
//! other algorithms (SM2 and SM3, say) would do differently.
//!
//! A scheme gives a transaction's hash, the key that signed it and the address of a key. Pool and
//! execution ask [`ChainRules::accounts`](crate::exec::ChainRules) and never the transaction itself.
//! A signature has the form of Ethereum's envelopes, two numbers of 32 bytes and a bit, which SM2's
//! have too. It is not the EVM's business: opcodes, precompiles, contract addresses, block hashes
//! and tries stay Ethereum's.

use std::fmt::Debug;

use alloy_primitives::{Address, B256, Signature, U256, keccak256};
use k256::elliptic_curve::ops::{Invert, LinearCombination, Reduce};
use k256::elliptic_curve::point::DecompressPoint;
use k256::elliptic_curve::sec1::ToEncodedPoint;
use k256::{AffinePoint, NonZeroScalar, ProjectivePoint, Scalar};

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
        recover(tx.signature(), tx.signature_hash())
    }

    fn address(&self, public_key: &[u8]) -> Address {
        Address::from_slice(&keccak256(public_key)[12..])
    }
}

/// The key that a signature over `hash` gives (SEC 1, 4.1.6). The usual function of the library then
/// verifies the signature with that key, which can only succeed and costs as much again; this is what
/// four nodes spend most of their time on.
fn recover(signature: &Signature, hash: B256) -> Option<Vec<u8>> {
    let scalar = |value: U256| Option::from(NonZeroScalar::from_repr(value.to_be_bytes::<32>().into()));
    let (r, s): (NonZeroScalar, NonZeroScalar) = (scalar(signature.r())?, scalar(signature.s())?);
    let z = <Scalar as Reduce<k256::U256>>::reduce_bytes(&hash.0.into());
    let point: Option<AffinePoint> =
        AffinePoint::decompress(&signature.r().to_be_bytes::<32>().into(), u8::from(signature.v()).into()).into();
    let inverse = *r.invert();
    let (of_generator, of_point) = (-(inverse * z), inverse * *s);
    let key = ProjectivePoint::lincomb(&ProjectivePoint::GENERATOR, &of_generator, &point?.into(), &of_point);
    // The point at infinity is encoded in one byte and is no key.
    key.to_affine().to_encoded_point(false).as_bytes().get(1..65).map(<[u8]>::to_vec)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloy_consensus::{SignableTransaction, TxEip1559};
    use alloy_eips::Encodable2718;
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
    fn recovery_is_the_librarys_for_signatures_good_and_bad() {
        use alloy_consensus::transaction::SignerRecoverable;
        let order = U256::from_be_slice(
            &hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").unwrap(),
        );
        let mut recovered = 0;
        for n in 0..100u64 {
            let key = SigningKey::from_slice(keccak256(n.to_be_bytes()).as_slice()).unwrap();
            let tx = signed(TxEip1559 { chain_id: 7, nonce: n, ..Default::default() }, &key);
            let Tx::Eip1559(good) = &tx else { panic!("{tx:?}") };
            let (r, s, v) = (good.signature().r(), good.signature().s(), good.signature().v());
            let random = U256::from_be_bytes(keccak256(r.to_be_bytes::<32>()).0);
            let odd = [(r, s, v), (r, s, !v), (random, s, v), (r, random, v), (r, order - s, !v)];
            let wrong = [(U256::ZERO, s, v), (r, U256::ZERO, v), (order, s, v), (U256::MAX, s, v), (r, order, v)];
            for (r, s, v) in odd.into_iter().chain(wrong) {
                let tx: Tx = good.tx().clone().into_signed(Signature::new(r, s, v)).into();
                let sender = Ethereum.sender(&tx);
                assert_eq!(sender, tx.recover_signer().ok(), "{r} {s} {v}");
                recovered += usize::from(sender.is_some());
            }
        }
        assert!((200..=500).contains(&recovered), "{recovered}");
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
