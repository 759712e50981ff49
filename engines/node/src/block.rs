//! A block: an Ethereum header and its transactions, in Ethereum's own encoding.
//!
//! The hash is the header's keccak, so any Ethereum client can check it. What differs from
//! mainnet: `beneficiary` is the node id of the validator that built the block; `extra_data` holds
//! the block's time in milliseconds (8 bytes) or, in block 0, the genesis hash; the base fee is
//! the genesis'; blob gas, difficulty, mix hash and withdrawals are always zero or empty. A [`Block`] never changes once
//! decoded, and its body always belongs to its header.

use std::sync::Arc;

use alloy_consensus::proofs::{calculate_transaction_root, calculate_withdrawals_root};
use alloy_consensus::{BlockBody, EMPTY_OMMER_ROOT_HASH, EthereumTxEnvelope, Header, Transaction, TxEip4844};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::{Decodable, Encodable};

use crate::genesis::{BLOCK_BYTES_MOST, Fork};

/// A signed transaction of any type; type 3 (blobs) is never admitted.
pub(crate) type Tx = EthereumTxEnvelope<TxEip4844>;
type EthBlock = alloy_consensus::Block<Tx>;

/// Largest encoded block of any chain; a proposal with its block must fit into one frame and one log record.
pub(crate) const BLOCK_BYTES_MAX: usize = BLOCK_BYTES_MOST as usize;

/// An immutable block. Equal and ordered by hash.
#[derive(Clone)]
pub(crate) struct Block(Arc<Inner>);

struct Inner {
    hash: B256,
    raw: Bytes,
    block: EthBlock,
}

impl Block {
    /// A block from a finished header and its transactions.
    pub(crate) fn new(header: Header, transactions: Vec<Tx>) -> Self {
        let body = BlockBody { transactions, ommers: Vec::new(), withdrawals: Some(Default::default()) };
        let block = EthBlock { header, body };
        let mut raw = Vec::with_capacity(block.length());
        block.encode(&mut raw);
        Self(Arc::new(Inner { hash: block.header.hash_slow(), raw: raw.into(), block }))
    }

    /// Reads a block and checks that the body belongs to the header.
    ///
    /// # Errors
    /// The reason, in words. A body that does not belong to its header is refused here, so that
    /// one block hash never stands for two contents.
    pub(crate) fn decode(raw: Bytes) -> Result<Self, String> {
        let block = parse(&raw)?;
        if !block.body.ommers.is_empty() || block.body.withdrawals.as_ref().is_none_or(|w| !w.is_empty()) {
            return Err("ommers or withdrawals are not empty".to_owned());
        }
        if calculate_transaction_root(&block.body.transactions) != block.header.transactions_root {
            return Err("the body does not belong to the header".to_owned());
        }
        let mut canonical = Vec::with_capacity(raw.len());
        block.encode(&mut canonical);
        if canonical != raw {
            return Err("the encoding is not canonical".to_owned());
        }
        Ok(Self(Arc::new(Inner { hash: block.header.hash_slow(), raw, block })))
    }

    /// Reads a block of this node's own store. It was checked before it was written there, so the root over its transactions
    /// and the encoding are not computed again; what comes from anywhere else needs [`Block::decode`].
    ///
    /// # Errors
    /// The reason, in words.
    pub(crate) fn decode_stored(raw: Bytes) -> Result<Self, String> {
        let block = parse(&raw)?;
        Ok(Self(Arc::new(Inner { hash: block.header.hash_slow(), raw, block })))
    }

    pub(crate) fn hash(&self) -> B256 {
        self.0.hash
    }

    pub(crate) fn raw(&self) -> &Bytes {
        &self.0.raw
    }

    pub(crate) fn header(&self) -> &Header {
        &self.0.block.header
    }

    pub(crate) fn transactions(&self) -> &[Tx] {
        &self.0.block.body.transactions
    }

    pub(crate) fn number(&self) -> u64 {
        self.header().number
    }

    /// The block's time in milliseconds since 1970 (block 0: whole seconds).
    pub(crate) fn time_ms(&self) -> u64 {
        time_ms(self.header())
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} {})", self.number(), self.hash())
    }
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}
impl Eq for Block {}
impl PartialOrd for Block {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Block {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.hash().cmp(&other.hash())
    }
}

/// A block of whole bytes, whatever it says.
fn parse(raw: &Bytes) -> Result<EthBlock, String> {
    if raw.len() > BLOCK_BYTES_MAX {
        return Err(format!("{} bytes are more than {BLOCK_BYTES_MAX}", raw.len()));
    }
    let mut rest = raw.as_ref();
    let block = EthBlock::decode(&mut rest).map_err(|e| e.to_string())?;
    if rest.is_empty() { Ok(block) } else { Err("bytes follow the block".to_owned()) }
}

/// The header of an encoded block whose body is not looked at.
///
/// # Errors
/// The reason, in words.
pub(crate) fn decode_header(raw: &[u8]) -> Result<Header, String> {
    let mut rest = raw;
    let list = alloy_rlp::Header::decode(&mut rest).map_err(|e| e.to_string())?;
    if !list.list {
        return Err("it is no list".to_owned());
    }
    Header::decode(&mut rest).map_err(|e| e.to_string())
}

/// What a header's time means in milliseconds.
pub(crate) fn time_ms(header: &Header) -> u64 {
    match <[u8; 8]>::try_from(header.extra_data.as_ref()) {
        Ok(bytes) => u64::from_be_bytes(bytes),
        Err(_) => header.timestamp.saturating_mul(1000),
    }
}

/// The header fields that are decided before execution.
pub(crate) fn open_header(
    parent_hash: B256,
    number: u64,
    beneficiary: Address,
    time_ms: u64,
    (gas_limit, base_fee): (u64, u64),
) -> Header {
    Header {
        parent_hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary,
        number,
        gas_limit,
        timestamp: time_ms / 1000,
        extra_data: Bytes::copy_from_slice(&time_ms.to_be_bytes()),
        base_fee_per_gas: Some(base_fee),
        withdrawals_root: Some(calculate_withdrawals_root(&[])),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Default::default()
    }
}

/// Whether this chain admits transactions of the form; the reason if not.
pub(crate) fn check_form(tx: &Tx, chain_id: u64, fork: Fork) -> Result<(), String> {
    match tx {
        Tx::Eip7702(_) if fork >= Fork::Osaka => {}
        Tx::Legacy(_) | Tx::Eip2930(_) | Tx::Eip1559(_) => {}
        Tx::Eip4844(_) => return Err("blob transactions (type 3) are not supported".to_owned()),
        Tx::Eip7702(_) => return Err("type 4 transactions need a chain with fork \"osaka\"".to_owned()),
    }
    match tx.chain_id() {
        Some(id) if id == chain_id => Ok(()),
        Some(id) => Err(format!("the transaction is for chain {id}, this is chain {chain_id}")),
        None => Err(format!("the signature names no chain (EIP-155); sign for chain {chain_id}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloy_consensus::{SignableTransaction, TxEip1559};
    use alloy_primitives::Signature;

    fn tx(nonce: u64) -> Tx {
        let tx = TxEip1559 { chain_id: 7, nonce, gas_limit: 21_000, ..Default::default() };
        tx.into_signed(Signature::test_signature()).into()
    }

    fn block(transactions: Vec<Tx>) -> Block {
        let mut header = open_header(B256::repeat_byte(1), 5, Address::ZERO, 1_234_567, (30_000_000, 0));
        header.transactions_root = calculate_transaction_root(&transactions);
        Block::new(header, transactions)
    }

    #[test]
    fn encoding_goes_both_ways_and_keeps_hash_and_time() {
        let block = block(vec![tx(0), tx(1)]);
        let again = Block::decode(block.raw().clone()).unwrap();
        assert_eq!(again.hash(), block.hash());
        assert_eq!(again.transactions().len(), 2);
        assert_eq!(again.time_ms(), 1_234_567);
        assert_eq!(again.header().timestamp, 1234);
        assert_eq!(decode_header(block.raw()).unwrap(), *block.header());
    }

    #[test]
    fn a_foreign_body_and_extra_bytes_are_refused() {
        let foreign = Block::new(block(vec![tx(0)]).header().clone(), vec![tx(1)]);
        assert!(Block::decode(foreign.raw().clone()).unwrap_err().contains("does not belong"));
        assert_eq!(Block::decode_stored(foreign.raw().clone()).unwrap(), foreign, "whoever stored it has looked");
        let mut longer = block(vec![]).raw().to_vec();
        longer.push(0);
        assert!(Block::decode(longer.into()).unwrap_err().contains("bytes follow"));
        let short = block(vec![tx(0)]).raw().slice(..40);
        assert!(Block::decode(short).is_err());
    }

    #[test]
    fn only_this_chains_transactions_are_admitted() {
        assert!(check_form(&tx(0), 7, Fork::Osaka).is_ok());
        assert!(check_form(&tx(0), 8, Fork::Osaka).unwrap_err().contains("for chain 7"));
    }
}
