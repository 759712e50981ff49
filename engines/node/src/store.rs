//! The ledger's store: one redb file `data/ledger.redb`.
//!
//! Blocks, commit certificates, receipts, indexes and the latest state. A block, its certificate
//! and all its changes go into one durable transaction ([`Store::commit`]); readers take a
//! [`Snapshot`] and never see half a block. History grows without end; only the latest state is
//! kept. It never decides whether a block is right; that is `exec`'s and `consensus`' business.

use std::path::Path;

use alloy_primitives::{Address, B256, Bytes, U256};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::NodeError;
use crate::block::Block;
use crate::state::{AccountRecord, StateDiff};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const CERTIFICATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("certificates");
const RECEIPTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("receipts");
const BLOCK_NUMBERS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("block_numbers");
const TRANSACTIONS: TableDefinition<'_, &[u8; 32], (u64, u32)> = TableDefinition::new("transactions");
const ACCOUNTS: TableDefinition<'_, &[u8; 20], &[u8; AccountRecord::BYTES]> = TableDefinition::new("accounts");
const STORAGE: TableDefinition<'_, &[u8; 52], &[u8; 32]> = TableDefinition::new("storage");
const CODE: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("code");

const VERSION: &[u8] = &[1];
/// Memory redb may use for its page cache.
const CACHE_BYTES: usize = 64 << 20;

/// What a transaction did, as stored beside its block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredReceipt {
    /// EIP-2718 type.
    pub(crate) tx_type: u8,
    /// Whether it ended without revert or halt.
    pub(crate) success: bool,
    /// Gas of this transaction.
    pub(crate) gas_used: u64,
    /// Gas of the block up to and with this transaction.
    pub(crate) cumulative_gas_used: u64,
    /// The signer.
    pub(crate) from: Address,
    /// The contract it made, if any.
    pub(crate) contract: Option<Address>,
    /// Its logs in order.
    pub(crate) logs: Vec<StoredLog>,
}

/// One log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLog {
    /// The contract that wrote it.
    pub(crate) address: Address,
    /// Its topics, at most four.
    pub(crate) topics: Vec<B256>,
    /// Its data.
    pub(crate) data: Bytes,
}

/// The open store.
pub(crate) struct Store {
    db: Database,
}

impl Store {
    /// Opens or makes the store; redb locks the file, so a second node on it is refused.
    ///
    /// # Errors
    /// The file is in use, of another version, or damaged.
    pub(crate) fn open(path: &Path) -> Result<Self, NodeError> {
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(NodeError::store("open its file (is another node running on this home?)"))?;
        let store = Self { db };
        store.prepare()?;
        Ok(store)
    }

    fn prepare(&self) -> Result<(), NodeError> {
        let tx = self.begin()?;
        {
            let mut meta = tx.open_table(META).map_err(NodeError::store("open a table"))?;
            let version =
                meta.get("version").map_err(NodeError::store("read its version"))?.map(|v| v.value().to_vec());
            match version.as_deref() {
                None => {
                    meta.insert("version", VERSION).map_err(NodeError::store("write its version"))?;
                }
                Some(VERSION) => {}
                Some(other) => {
                    return Err(NodeError::Corrupt {
                        what: "the ledger's store",
                        reason: format!("version {other:?}, this program reads {VERSION:?}"),
                    });
                }
            }
            tx.open_table(BLOCKS).map_err(NodeError::store("open a table"))?;
            tx.open_table(CERTIFICATES).map_err(NodeError::store("open a table"))?;
            tx.open_table(RECEIPTS).map_err(NodeError::store("open a table"))?;
            tx.open_table(BLOCK_NUMBERS).map_err(NodeError::store("open a table"))?;
            tx.open_table(TRANSACTIONS).map_err(NodeError::store("open a table"))?;
            tx.open_table(ACCOUNTS).map_err(NodeError::store("open a table"))?;
            tx.open_table(STORAGE).map_err(NodeError::store("open a table"))?;
            tx.open_table(CODE).map_err(NodeError::store("open a table"))?;
        }
        tx.commit().map_err(NodeError::store("commit"))
    }

    fn begin(&self) -> Result<WriteTransaction, NodeError> {
        self.db.begin_write().map_err(NodeError::store("begin a transaction"))
    }

    /// A consistent view that later commits do not change.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, NodeError> {
        let tx = self.db.begin_read().map_err(NodeError::store("begin reading"))?;
        let what = "open a table";
        Ok(Snapshot {
            blocks: tx.open_table(BLOCKS).map_err(NodeError::store(what))?,
            certificates: tx.open_table(CERTIFICATES).map_err(NodeError::store(what))?,
            receipts: tx.open_table(RECEIPTS).map_err(NodeError::store(what))?,
            block_numbers: tx.open_table(BLOCK_NUMBERS).map_err(NodeError::store(what))?,
            transactions: tx.open_table(TRANSACTIONS).map_err(NodeError::store(what))?,
            accounts: tx.open_table(ACCOUNTS).map_err(NodeError::store(what))?,
            storage: tx.open_table(STORAGE).map_err(NodeError::store(what))?,
            code: tx.open_table(CODE).map_err(NodeError::store(what))?,
        })
    }

    /// Stores a block with everything that follows from it, durably, all or nothing.
    /// `certificate` is empty for block 0 only.
    ///
    /// # Errors
    /// The disk refused; nothing was changed and the node must stop.
    pub(crate) fn commit(
        &self,
        block: &Block,
        certificate: &[u8],
        receipts: &[StoredReceipt],
        diff: &StateDiff,
    ) -> Result<(), NodeError> {
        let tx = self.begin()?;
        write_block(&tx, block, certificate, receipts).map_err(NodeError::store("write a block"))?;
        write_state(&tx, diff).map_err(NodeError::store("write the state"))?;
        tx.commit().map_err(NodeError::store("commit a block"))
    }
}

fn write_block(
    tx: &WriteTransaction,
    block: &Block,
    certificate: &[u8],
    receipts: &[StoredReceipt],
) -> Result<(), redb::Error> {
    let number = block.number();
    tx.open_table(BLOCKS)?.insert(number, block.raw().as_ref())?;
    tx.open_table(CERTIFICATES)?.insert(number, certificate)?;
    let encoded = rmp_serde::to_vec_named(receipts).expect("receipts are plain data");
    tx.open_table(RECEIPTS)?.insert(number, encoded.as_slice())?;
    tx.open_table(BLOCK_NUMBERS)?.insert(&block.hash().0, number)?;
    let mut transactions = tx.open_table(TRANSACTIONS)?;
    for (index, transaction) in (0u32..).zip(block.transactions()) {
        transactions.insert(&transaction.tx_hash().0, (number, index))?;
    }
    Ok(())
}

fn write_state(tx: &WriteTransaction, diff: &StateDiff) -> Result<(), redb::Error> {
    let mut storage = tx.open_table(STORAGE)?;
    for address in &diff.wiped {
        let (first, last) = (slot_key(*address, U256::ZERO), slot_key(*address, U256::MAX));
        storage.retain_in::<&[u8; 52], _>(&first..=&last, |_, _| false)?;
    }
    for ((address, slot), value) in &diff.storage {
        let key = slot_key(*address, *slot);
        if value.is_zero() {
            storage.remove(&key)?;
        } else {
            storage.insert(&key, &value.to_be_bytes::<32>())?;
        }
    }
    let mut accounts = tx.open_table(ACCOUNTS)?;
    for (address, record) in &diff.accounts {
        match record {
            Some(record) => accounts.insert(&address.into_array(), &record.encode())?.is_some(),
            None => accounts.remove(&address.into_array())?.is_some(),
        };
    }
    let mut code = tx.open_table(CODE)?;
    for (hash, bytes) in &diff.code {
        code.insert(&hash.0, bytes.as_ref())?;
    }
    Ok(())
}

fn slot_key(address: Address, slot: U256) -> [u8; 52] {
    let mut key = [0u8; 52];
    key[..20].copy_from_slice(address.as_slice());
    key[20..].copy_from_slice(&slot.to_be_bytes::<32>());
    key
}

/// A consistent view of the store.
pub(crate) struct Snapshot {
    blocks: ReadOnlyTable<u64, &'static [u8]>,
    certificates: ReadOnlyTable<u64, &'static [u8]>,
    receipts: ReadOnlyTable<u64, &'static [u8]>,
    block_numbers: ReadOnlyTable<&'static [u8; 32], u64>,
    transactions: ReadOnlyTable<&'static [u8; 32], (u64, u32)>,
    accounts: ReadOnlyTable<&'static [u8; 20], &'static [u8; AccountRecord::BYTES]>,
    storage: ReadOnlyTable<&'static [u8; 52], &'static [u8; 32]>,
    code: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
}

const READ: &str = "read";

impl Snapshot {
    /// The number of the newest block, or `None` before block 0.
    pub(crate) fn head(&self) -> Result<Option<u64>, NodeError> {
        let last = self.blocks.last().map_err(NodeError::store(READ))?;
        Ok(last.map(|(number, _)| number.value()))
    }

    /// A block by number.
    pub(crate) fn block(&self, number: u64) -> Result<Option<Block>, NodeError> {
        let Some(raw) = self.blocks.get(number).map_err(NodeError::store(READ))? else {
            return Ok(None);
        };
        Block::decode(Bytes::copy_from_slice(raw.value())).map(Some).map_err(|reason| NodeError::Corrupt {
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

    /// The encoded certificate of a block; empty for block 0.
    pub(crate) fn certificate(&self, number: u64) -> Result<Option<Vec<u8>>, NodeError> {
        let found = self.certificates.get(number).map_err(NodeError::store(READ))?;
        Ok(found.map(|bytes| bytes.value().to_vec()))
    }

    /// The receipts of a block, in its order.
    pub(crate) fn receipts(&self, number: u64) -> Result<Option<Vec<StoredReceipt>>, NodeError> {
        let Some(bytes) = self.receipts.get(number).map_err(NodeError::store(READ))? else {
            return Ok(None);
        };
        rmp_serde::from_slice(bytes.value())
            .map(Some)
            .map_err(|e| NodeError::Corrupt { what: "stored receipts", reason: format!("block {number}: {e}") })
    }

    /// The number of the block with this hash.
    pub(crate) fn block_number(&self, hash: B256) -> Result<Option<u64>, NodeError> {
        let found = self.block_numbers.get(&hash.0).map_err(NodeError::store(READ))?;
        Ok(found.map(|number| number.value()))
    }

    /// Block number and index of a transaction.
    pub(crate) fn transaction(&self, hash: B256) -> Result<Option<(u64, u32)>, NodeError> {
        let found = self.transactions.get(&hash.0).map_err(NodeError::store(READ))?;
        Ok(found.map(|place| place.value()))
    }

    /// An account of the latest state.
    pub(crate) fn account(&self, address: Address) -> Result<Option<AccountRecord>, NodeError> {
        let found = self.accounts.get(&address.into_array()).map_err(NodeError::store(READ))?;
        Ok(found.map(|bytes| AccountRecord::decode(bytes.value())))
    }

    /// All accounts of the latest state, by address.
    pub(crate) fn accounts(&self) -> Result<Vec<(Address, AccountRecord)>, NodeError> {
        let mut all = Vec::new();
        for entry in self.accounts.iter().map_err(NodeError::store(READ))? {
            let (address, record) = entry.map_err(NodeError::store(READ))?;
            all.push((Address::from(*address.value()), AccountRecord::decode(record.value())));
        }
        Ok(all)
    }

    /// A storage slot of the latest state; zero if never written.
    pub(crate) fn slot(&self, address: Address, slot: U256) -> Result<U256, NodeError> {
        let key = slot_key(address, slot);
        let found = self.storage.get(&key).map_err(NodeError::store(READ))?;
        Ok(found.map(|value| U256::from_be_bytes(*value.value())).unwrap_or_default())
    }

    /// All slots of an account, by slot.
    pub(crate) fn slots(&self, address: Address) -> Result<Vec<(U256, U256)>, NodeError> {
        let (first, last) = (slot_key(address, U256::ZERO), slot_key(address, U256::MAX));
        let mut all = Vec::new();
        for entry in self.storage.range::<&[u8; 52]>(&first..=&last).map_err(NodeError::store(READ))? {
            let (key, value) = entry.map_err(NodeError::store(READ))?;
            all.push((U256::from_be_slice(&key.value()[20..]), U256::from_be_bytes(*value.value())));
        }
        Ok(all)
    }

    /// Contract code by its hash.
    pub(crate) fn code(&self, hash: B256) -> Result<Option<Bytes>, NodeError> {
        let found = self.code.get(&hash.0).map_err(NodeError::store(READ))?;
        Ok(found.map(|bytes| Bytes::copy_from_slice(bytes.value())))
    }
}
