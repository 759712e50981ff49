//! Reading: consistent views of the whole store and of one block's state.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use super::history::{self, Past, Reader};
use super::{
    ACCOUNTS, BLOCK_NUMBERS, BLOCKS, CERTIFICATES, CODE, HASHES, META, NODES, OLDEST_BLOCK, OLDEST_STATE, RECEIPTS,
    STORAGE, StoredReceipt, TRANSACTIONS, node_key, number, slot_key,
};
use crate::NodeError;
use crate::block::{self, Block};
use crate::state::AccountRecord;
use crate::trie;

/// A consistent view of the store; copies are cheap and see the same.
#[derive(Clone)]
pub(crate) struct Snapshot(Arc<Tables>);

struct Tables {
    meta: ReadOnlyTable<&'static str, &'static [u8]>,
    blocks: ReadOnlyTable<u64, &'static [u8]>,
    certificates: ReadOnlyTable<u64, &'static [u8]>,
    receipts: ReadOnlyTable<u64, &'static [u8]>,
    block_numbers: ReadOnlyTable<&'static [u8; 32], u64>,
    transactions: ReadOnlyTable<&'static [u8; 32], (u64, u32)>,
    accounts: ReadOnlyTable<&'static [u8; 20], &'static [u8; AccountRecord::BYTES]>,
    storage: ReadOnlyTable<&'static [u8; 52], &'static [u8; 32]>,
    code: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
    nodes: ReadOnlyTable<&'static [u8], &'static [u8]>,
    hashes: ReadOnlyTable<u64, &'static [u8; 32]>,
    history: Reader,
}

const READ: &str = "read";

impl Snapshot {
    pub(super) fn open(tx: &ReadTransaction) -> Result<Self, redb::TableError> {
        Ok(Self(Arc::new(Tables {
            meta: tx.open_table(META)?,
            blocks: tx.open_table(BLOCKS)?,
            certificates: tx.open_table(CERTIFICATES)?,
            receipts: tx.open_table(RECEIPTS)?,
            block_numbers: tx.open_table(BLOCK_NUMBERS)?,
            transactions: tx.open_table(TRANSACTIONS)?,
            accounts: tx.open_table(ACCOUNTS)?,
            storage: tx.open_table(STORAGE)?,
            code: tx.open_table(CODE)?,
            nodes: tx.open_table(NODES)?,
            hashes: tx.open_table(HASHES)?,
            history: Reader::open(tx)?,
        })))
    }

    pub(super) fn accounts_table(&self) -> &ReadOnlyTable<&'static [u8; 20], &'static [u8; AccountRecord::BYTES]> {
        &self.0.accounts
    }

    pub(super) fn storage_table(&self) -> &ReadOnlyTable<&'static [u8; 52], &'static [u8; 32]> {
        &self.0.storage
    }

    fn meta_number(&self, name: &str) -> Result<u64, NodeError> {
        let found = self.0.meta.get(name).map_err(NodeError::store(READ))?;
        Ok(found.map_or(0, |value| number(value.value())))
    }

    /// The oldest block whose state can be read.
    pub(crate) fn oldest_state(&self) -> Result<u64, NodeError> {
        self.meta_number(OLDEST_STATE)
    }

    /// The oldest block after block 0 that is kept; 1 if nothing was removed.
    pub(crate) fn oldest_block(&self) -> Result<u64, NodeError> {
        Ok(self.meta_number(OLDEST_BLOCK)?.max(1))
    }

    /// The newest block's state.
    pub(crate) fn latest(&self) -> StateView<'_> {
        StateView { snapshot: self, at: None }
    }

    /// The state after block `number`; `None` if it is not kept or does not exist yet.
    pub(crate) fn state_at(&self, number: u64) -> Result<Option<StateView<'_>>, NodeError> {
        let head = self.head()?.unwrap_or(0);
        if number > head || number < self.oldest_state()? {
            return Ok(None);
        }
        Ok(Some(StateView { snapshot: self, at: (number < head).then_some(number) }))
    }

    /// The number of the newest block, or `None` before block 0.
    pub(crate) fn head(&self) -> Result<Option<u64>, NodeError> {
        let last = self.0.blocks.last().map_err(NodeError::store(READ))?;
        Ok(last.map(|(number, _)| number.value()))
    }

    /// A block by number.
    pub(crate) fn block(&self, number: u64) -> Result<Option<Block>, NodeError> {
        let Some(raw) = self.0.blocks.get(number).map_err(NodeError::store(READ))? else {
            return Ok(None);
        };
        Block::decode_stored(Bytes::copy_from_slice(raw.value())).map(Some).map_err(|reason| NodeError::Corrupt {
            what: "a stored block",
            reason: format!("block {number}: {reason}"),
        })
    }

    /// A block's header by number, without reading its body.
    pub(crate) fn header(&self, number: u64) -> Result<Option<Header>, NodeError> {
        let Some(raw) = self.0.blocks.get(number).map_err(NodeError::store(READ))? else {
            return Ok(None);
        };
        block::decode_header(raw.value()).map(Some).map_err(|reason| NodeError::Corrupt {
            what: "a stored block",
            reason: format!("block {number}: {reason}"),
        })
    }

    /// The newest block.
    pub(crate) fn head_block(&self) -> Result<Block, NodeError> {
        let missing = || NodeError::Corrupt { what: "the ledger's store", reason: "block 0 is missing".to_owned() };
        let head = self.head()?.ok_or_else(missing)?;
        self.block(head)?.ok_or_else(missing)
    }

    /// A block's hash, known for pruned blocks too.
    pub(crate) fn block_hash(&self, number: u64) -> Result<Option<B256>, NodeError> {
        let found = self.0.hashes.get(number).map_err(NodeError::store(READ))?;
        Ok(found.map(|hash| B256::from(*hash.value())))
    }

    /// The encoded certificate of a block; empty for block 0.
    pub(crate) fn certificate(&self, number: u64) -> Result<Option<Vec<u8>>, NodeError> {
        let found = self.0.certificates.get(number).map_err(NodeError::store(READ))?;
        Ok(found.map(|bytes| bytes.value().to_vec()))
    }

    /// The receipts of a block, in its order.
    pub(crate) fn receipts(&self, number: u64) -> Result<Option<Vec<StoredReceipt>>, NodeError> {
        let Some(bytes) = self.0.receipts.get(number).map_err(NodeError::store(READ))? else {
            return Ok(None);
        };
        rmp_serde::from_slice(bytes.value())
            .map(Some)
            .map_err(|e| NodeError::Corrupt { what: "stored receipts", reason: format!("block {number}: {e}") })
    }

    /// The number of the block with this hash.
    pub(crate) fn block_number(&self, hash: B256) -> Result<Option<u64>, NodeError> {
        let found = self.0.block_numbers.get(&hash.0).map_err(NodeError::store(READ))?;
        Ok(found.map(|number| number.value()))
    }

    /// Block number and index of a transaction.
    pub(crate) fn transaction(&self, hash: B256) -> Result<Option<(u64, u32)>, NodeError> {
        let found = self.0.transactions.get(&hash.0).map_err(NodeError::store(READ))?;
        Ok(found.map(|place| place.value()))
    }

    /// An account of the latest state.
    pub(crate) fn account(&self, address: Address) -> Result<Option<AccountRecord>, NodeError> {
        self.latest().account(address)
    }

    /// Contract code by its hash.
    pub(crate) fn code(&self, hash: B256) -> Result<Option<Bytes>, NodeError> {
        let found = self.0.code.get(&hash.0).map_err(NodeError::store(READ))?;
        Ok(found.map(|bytes| Bytes::copy_from_slice(bytes.value())))
    }

    /// All slots of an account in the latest state.
    pub(crate) fn slots(&self, address: Address) -> Result<Vec<(U256, U256)>, NodeError> {
        let (first, last) = (slot_key(address, U256::ZERO), slot_key(address, U256::MAX));
        let mut all = Vec::new();
        for entry in self.0.storage.range::<&[u8; 52]>(&first..=&last).map_err(NodeError::store(READ))? {
            let (key, value) = entry.map_err(NodeError::store(READ))?;
            all.push((U256::from_be_slice(&key.value()[20..]), U256::from_be_bytes(*value.value())));
        }
        Ok(all)
    }

    /// The keys of all nodes of an account's storage trie in the latest state.
    pub(crate) fn storage_nodes(&self, address: Address) -> Result<Vec<Vec<u8>>, NodeError> {
        let first = node_key(Some(address), &Nibbles::new());
        let mut all = Vec::new();
        for entry in self.0.nodes.range::<&[u8]>(first.as_slice()..).map_err(NodeError::store(READ))? {
            let (key, _) = entry.map_err(NodeError::store(READ))?;
            if !key.value().starts_with(&first) {
                break;
            }
            all.push(key.value().to_vec());
        }
        Ok(all)
    }
}

/// The state after one block.
#[derive(Clone, Copy)]
pub(crate) struct StateView<'a> {
    snapshot: &'a Snapshot,
    /// `None`: the newest block.
    at: Option<u64>,
}

/// What `eth_getProof` says of an account.
#[derive(Debug)]
pub(crate) struct AccountProof {
    pub(crate) account: Option<AccountRecord>,
    /// The nodes from the state root on.
    pub(crate) nodes: Vec<Bytes>,
    /// In the order they were asked for.
    pub(crate) storage: Vec<SlotProof>,
}

/// What `eth_getProof` says of a slot.
#[derive(Debug)]
pub(crate) struct SlotProof {
    pub(crate) slot: U256,
    pub(crate) value: U256,
    /// The nodes from the account's storage root on; none if it has no storage.
    pub(crate) nodes: Vec<Bytes>,
}

impl<'a> StateView<'a> {
    /// The store it is a view of.
    pub(crate) fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// Whether it is the newest block's.
    pub(crate) fn is_latest(&self) -> bool {
        self.at.is_none()
    }

    fn past(&self, kind: u8, key: &[u8]) -> Result<Past, NodeError> {
        match self.at {
            None => Ok(Past::Unchanged),
            Some(at) => self.snapshot.0.history.past(kind, key, at).map_err(NodeError::store(READ)),
        }
    }

    /// An account.
    pub(crate) fn account(&self, address: Address) -> Result<Option<AccountRecord>, NodeError> {
        let key = address.into_array();
        match self.past(history::ACCOUNT, &key)? {
            Past::Unchanged => {
                let found = self.snapshot.0.accounts.get(&key).map_err(NodeError::store(READ))?;
                Ok(found.map(|bytes| AccountRecord::decode(bytes.value())))
            }
            Past::Absent => Ok(None),
            Past::Value(bytes) => fixed(&bytes).map(|bytes| Some(AccountRecord::decode(bytes))),
        }
    }

    /// A storage slot; zero if never written.
    pub(crate) fn slot(&self, address: Address, slot: U256) -> Result<U256, NodeError> {
        let key = slot_key(address, slot);
        match self.past(history::SLOT, &key)? {
            Past::Unchanged => {
                let found = self.snapshot.0.storage.get(&key).map_err(NodeError::store(READ))?;
                Ok(found.map(|value| U256::from_be_bytes(*value.value())).unwrap_or_default())
            }
            Past::Absent => Ok(U256::ZERO),
            Past::Value(bytes) => fixed::<32>(&bytes).map(|bytes| U256::from_be_bytes(*bytes)),
        }
    }

    /// A node of the accounts' trie, or of `owner`'s storage trie.
    pub(crate) fn node(&self, owner: Option<Address>, path: &Nibbles) -> Result<Option<Vec<u8>>, NodeError> {
        let key = node_key(owner, path);
        match self.past(history::NODE, &key)? {
            Past::Unchanged => {
                let found = self.snapshot.0.nodes.get(key.as_slice()).map_err(NodeError::store(READ))?;
                Ok(found.map(|node| node.value().to_vec()))
            }
            Past::Absent => Ok(None),
            Past::Value(bytes) => Ok(Some(bytes)),
        }
    }

    /// Account and slots with the nodes that prove them against the block's state root.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn prove(&self, address: Address, slots: &[U256]) -> Result<AccountProof, NodeError> {
        let account = self.account(address)?;
        let nodes = trie::prove(&|path| self.node(None, path), keccak256(address))?;
        let has_storage = account.is_some_and(|account| account.storage_root != EMPTY_ROOT_HASH);
        let storage = slots.iter().map(|slot| {
            let key = keccak256(slot.to_be_bytes::<32>());
            let nodes =
                if has_storage { trie::prove(&|path| self.node(Some(address), path), key)? } else { Vec::new() };
            Ok(SlotProof { slot: *slot, value: self.slot(address, *slot)?, nodes })
        });
        Ok(AccountProof { account, nodes, storage: storage.collect::<Result<_, NodeError>>()? })
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], NodeError> {
    bytes.try_into().map_err(|_| NodeError::Corrupt {
        what: "the state's history",
        reason: format!("{} bytes where {N} are expected", bytes.len()),
    })
}
