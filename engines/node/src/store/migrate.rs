//! Stores of version 1, which had no tries, no history and no list of hashes.
//!
//! The tries are built from the accounts and slots in one transaction, and the root must be the one
//! that the newest block's header names; otherwise the store is left as it is. The newest state is
//! the oldest that can be read afterwards.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::EMPTY_ROOT_HASH;
use redb::{ReadableTable, WriteTransaction};

use super::{ACCOUNTS, BLOCKS, HASHES, NODES, OLDEST_STATE, STORAGE, node_key, set_meta};
use crate::NodeError;
use crate::block::Block;
use crate::state::{AccountRecord, slot_leaf};
use crate::trie::{Changes, Trie};

pub(super) const V1: &[u8] = &[1];

/// Brings a store of version 1 to version 2.
///
/// # Errors
/// The store cannot be read, or its state is not the one of its newest block.
pub(super) fn from_v1(tx: &WriteTransaction) -> Result<(), NodeError> {
    let head = hashes(tx).map_err(NodeError::store("list block hashes"))?;
    let Some(raw) = head else { return Ok(()) };
    let corrupt = |reason: String| NodeError::Corrupt { what: "the ledger's store", reason };
    let head = Block::decode(raw).map_err(|reason| corrupt(format!("its newest block: {reason}")))?;
    tracing::info!(head = head.number(), "raising the store to version 2: building the state's tries");
    let root = build_tries(tx)?;
    if root != head.header().state_root {
        return Err(corrupt(format!(
            "its accounts give state root {root}, block {} says {}",
            head.number(),
            head.header().state_root
        )));
    }
    set_meta(tx, OLDEST_STATE, &head.number().to_be_bytes()).map_err(NodeError::store("note its oldest state"))
}

/// Lists the blocks' hashes; returns the newest block.
fn hashes(tx: &WriteTransaction) -> Result<Option<Bytes>, redb::Error> {
    let (blocks, mut hashes) = (tx.open_table(BLOCKS)?, tx.open_table(HASHES)?);
    for entry in tx.open_table(super::BLOCK_NUMBERS)?.iter()? {
        let (hash, number) = entry?;
        hashes.insert(number.value(), hash.value())?;
    }
    Ok(blocks.last()?.map(|(_, raw)| Bytes::copy_from_slice(raw.value())))
}

/// Writes the nodes of all tries as the accounts and slots demand; returns the state root.
///
/// # Errors
/// The store cannot be read or written, or an account names another storage root than its slots give.
pub(super) fn build_tries(tx: &WriteTransaction) -> Result<B256, NodeError> {
    let nothing = |_: &alloy_trie::Nibbles| Ok(None);
    let mut accounts = Trie::open(&nothing)?;
    for (address, record) in all_accounts(tx).map_err(NodeError::store("read the accounts"))? {
        let mut storage = Trie::open(&nothing)?;
        for (slot, value) in slots(tx, address).map_err(NodeError::store("read the storage"))? {
            storage.set(keccak256(slot.to_be_bytes::<32>()), slot_leaf(value))?;
        }
        let (root, changes) = storage.finish();
        if root != EMPTY_ROOT_HASH {
            write_nodes(tx, Some(address), changes).map_err(NodeError::store("write a trie"))?;
        }
        if root != record.storage_root {
            return Err(NodeError::Corrupt {
                what: "the state",
                reason: format!("account {address} names storage root {}, its slots give {root}", record.storage_root),
            });
        }
        accounts.set(keccak256(address), Some(record.leaf()))?;
    }
    let (root, changes) = accounts.finish();
    write_nodes(tx, None, changes).map_err(NodeError::store("write a trie"))?;
    Ok(root)
}

fn all_accounts(tx: &WriteTransaction) -> Result<BTreeMap<Address, AccountRecord>, redb::Error> {
    let mut all = BTreeMap::new();
    for entry in tx.open_table(ACCOUNTS)?.iter()? {
        let (address, record) = entry?;
        all.insert(Address::from(*address.value()), AccountRecord::decode(record.value()));
    }
    Ok(all)
}

fn slots(tx: &WriteTransaction, address: Address) -> Result<Vec<(U256, U256)>, redb::Error> {
    let (first, last) = (super::slot_key(address, U256::ZERO), super::slot_key(address, U256::MAX));
    let mut all = Vec::new();
    for entry in tx.open_table(STORAGE)?.range::<&[u8; 52]>(&first..=&last)? {
        let (key, value) = entry?;
        all.push((U256::from_be_slice(&key.value()[20..]), U256::from_be_bytes(*value.value())));
    }
    Ok(all)
}

fn write_nodes(tx: &WriteTransaction, owner: Option<Address>, changes: Changes) -> Result<(), redb::Error> {
    let mut nodes = tx.open_table(NODES)?;
    for (path, node) in changes {
        let key = node_key(owner, &path);
        match node {
            Some(node) => nodes.insert(key.as_slice(), node.as_slice())?,
            None => nodes.remove(key.as_slice())?,
        };
    }
    Ok(())
}
