//! The ledger's store: one redb file `data/ledger.redb`.
//!
//! Blocks, commit certificates, receipts, indexes, the state with its tries, and what older states
//! held (`history`). A block, its certificate and all its changes go into one durable transaction
//! ([`Store::commit`]), and so does the removal of what is older than [`Keep`] says; readers take a
//! [`Snapshot`] and never see half a block. It never decides whether a block is right; that is
//! `exec`'s and `consensus`' business.

mod backend;
mod evidence;
mod history;
mod migrate;
#[cfg(test)]
mod tests;
mod transfer;
mod view;

pub(crate) use view::{Snapshot, StateView};

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_trie::Nibbles;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::NodeError;
use crate::block::{self, Block};
use crate::config::{HistoryConfig, Keep};
use crate::room::Room;
use crate::state::{AccountRecord, StateDiff};
use backend::PatientFile;
use history::Recorder;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const CERTIFICATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("certificates");
const RECEIPTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("receipts");
const BLOCK_NUMBERS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("block_numbers");
const TRANSACTIONS: TableDefinition<'_, &[u8; 32], (u64, u32)> = TableDefinition::new("transactions");
const ACCOUNTS: TableDefinition<'_, &[u8; 20], &[u8; AccountRecord::BYTES]> = TableDefinition::new("accounts");
const STORAGE: TableDefinition<'_, &[u8; 52], &[u8; 32]> = TableDefinition::new("storage");
const CODE: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("code");
/// The tries' nodes by [`node_key`], RLP.
const NODES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("nodes");
/// Block hashes by number; they stay when blocks are pruned.
const HASHES: TableDefinition<'_, u64, &[u8; 32]> = TableDefinition::new("hashes");

/// 2: tries, history and hashes. Version 1 is read and raised (`migrate`).
const VERSION: &[u8] = &[2];
/// In META: the oldest block whose state can be read, eight bytes.
const OLDEST_STATE: &str = "oldest_state";
/// In META: the oldest block after block 0 that is here, eight bytes.
const OLDEST_BLOCK: &str = "oldest_block";
/// Blocks that one commit prunes at most, so that a changed configuration does not stall the chain.
const PRUNE_MAX: u64 = 16;
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

/// Number and hash of the newest block in a store that no node holds; nothing is written.
///
/// # Errors
/// A node holds the file, it was not closed in order, or it cannot be read.
pub(crate) fn peek(path: &Path) -> Result<(u64, B256), NodeError> {
    let what = "read its newest block (does a node run on it, or did one not end in order?)";
    let db = redb::ReadOnlyDatabase::open(path).map_err(NodeError::store(what))?;
    let tx = db.begin_read().map_err(NodeError::store(what))?;
    let meta = tx.open_table(META).map_err(NodeError::store(what))?;
    if let Some(found) = meta.get("version").map_err(NodeError::store(what))? {
        check_known(found.value())?;
    }
    let blocks = tx.open_table(BLOCKS).map_err(NodeError::store(what))?;
    let empty = || NodeError::Corrupt { what: "the ledger's store", reason: "it holds no block".to_owned() };
    let (number, raw) = blocks.last().map_err(NodeError::store(what))?.ok_or_else(empty)?;
    let header = block::decode_header(raw.value())
        .map_err(|reason| NodeError::Corrupt { what: "the newest stored block", reason })?;
    Ok((number.value(), header.hash_slow()))
}

fn check_known(version: &[u8]) -> Result<(), NodeError> {
    if version == VERSION || version == migrate::V1 {
        return Ok(());
    }
    let reason = format!("version {version:?}, this program reads {VERSION:?} and {:?}", migrate::V1);
    Err(NodeError::Corrupt { what: "the ledger's store", reason })
}

/// The open store.
pub(crate) struct Store {
    db: Database,
    keep: HistoryConfig,
    /// `None` for one in memory.
    path: Option<PathBuf>,
    /// The view of the newest commit, so that readers need not open all tables each time.
    newest: Mutex<Option<Snapshot>>,
    /// Whether commits may be lost in a power cut, for tests that make long chains.
    #[cfg(test)]
    lazy: std::sync::atomic::AtomicBool,
}

impl Store {
    /// Opens or makes the store; redb locks the file, so a second node on it is refused.
    ///
    /// # Errors
    /// The file is in use, of another version, or damaged.
    pub(crate) fn open(path: &Path, keep: HistoryConfig) -> Result<Self, NodeError> {
        Self::open_patient(path, keep, Room::impatient())
    }

    /// As [`Store::open`], for a node: writes wait for room on the disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn open_patient(path: &Path, keep: HistoryConfig, room: Room) -> Result<Self, NodeError> {
        let file = PatientFile::open(path, room)?;
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(file)
            .map_err(NodeError::store("open its file (is another node running on this home?)"))?;
        let store = Self {
            db,
            keep,
            path: Some(path.to_owned()),
            newest: Mutex::default(),
            #[cfg(test)]
            lazy: Default::default(),
        };
        store.prepare()?;
        Ok(store)
    }

    /// A store that lives as long as the value, for simulated nodes.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Result<Self, NodeError> {
        let db = Database::builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .map_err(NodeError::store("open in memory"))?;
        let store = Self {
            db,
            keep: HistoryConfig::default(),
            path: None,
            newest: Mutex::default(),
            #[cfg(test)]
            lazy: Default::default(),
        };
        store.prepare()?;
        Ok(store)
    }

    /// Size of its file in bytes, `None` if there is none or it cannot be looked at.
    pub(crate) fn disk_bytes(&self) -> Option<u64> {
        std::fs::metadata(self.path.as_ref()?).ok().map(|file| file.len())
    }

    fn prepare(&self) -> Result<(), NodeError> {
        let tx = self.begin()?;
        open_tables(&tx).map_err(NodeError::store("open a table"))?;
        let version = meta(&tx, "version").map_err(NodeError::store("read its version"))?;
        match version.as_deref() {
            None | Some(VERSION) => {}
            Some(migrate::V1) => migrate::from_v1(&tx)?,
            Some(other) => check_known(other)?,
        }
        set_meta(&tx, "version", VERSION).map_err(NodeError::store("write its version"))?;
        tx.commit().map_err(NodeError::store("commit"))
    }

    fn begin(&self) -> Result<WriteTransaction, NodeError> {
        #[allow(unused_mut, reason = "tests change it")]
        let mut tx = self.db.begin_write().map_err(NodeError::store("begin a transaction"))?;
        #[cfg(test)]
        if self.lazy.load(std::sync::atomic::Ordering::Relaxed) {
            tx.set_durability(redb::Durability::None).map_err(NodeError::store("begin a transaction"))?;
        }
        Ok(tx)
    }

    /// Whether commits may be lost in a power cut from now on.
    #[cfg(test)]
    pub(crate) fn set_lazy(&self, lazy: bool) {
        self.lazy.store(lazy, std::sync::atomic::Ordering::Relaxed);
    }

    /// A consistent view that later commits do not change; as new as the newest commit that returned.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, NodeError> {
        let mut newest = self.newest.lock().expect("no holder of the snapshot's lock panics");
        if let Some(snapshot) = &*newest {
            return Ok(snapshot.clone());
        }
        let tx = self.db.begin_read().map_err(NodeError::store("begin reading"))?;
        let snapshot = Snapshot::open(&tx).map_err(NodeError::store("open a table"))?;
        *newest = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Stores a block with everything that follows from it, durably, all or nothing, and removes
    /// what has become too old to be kept. `certificate` is empty for block 0 only.
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
        write_state(&tx, block.number(), diff).map_err(NodeError::store("write the state"))?;
        prune(&tx, block.number(), &self.keep).map_err(NodeError::store("prune what is too old"))?;
        tx.commit().map_err(NodeError::store("commit a block"))?;
        self.forget_view();
        Ok(())
    }

    /// The next reader sees the newest commit.
    fn forget_view(&self) {
        *self.newest.lock().expect("no holder of the snapshot's lock panics") = None;
    }
}

fn open_tables(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(META)?;
    tx.open_table(BLOCKS)?;
    tx.open_table(CERTIFICATES)?;
    tx.open_table(RECEIPTS)?;
    tx.open_table(BLOCK_NUMBERS)?;
    tx.open_table(TRANSACTIONS)?;
    tx.open_table(ACCOUNTS)?;
    tx.open_table(STORAGE)?;
    tx.open_table(CODE)?;
    tx.open_table(NODES)?;
    tx.open_table(HASHES)?;
    evidence::open_table(tx)?;
    history::open_tables(tx)
}

fn meta(tx: &WriteTransaction, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    Ok(tx.open_table(META)?.get(name)?.map(|value| value.value().to_vec()))
}

fn set_meta(tx: &WriteTransaction, name: &str, value: &[u8]) -> Result<(), redb::Error> {
    tx.open_table(META)?.insert(name, value)?;
    Ok(())
}

fn meta_number(tx: &WriteTransaction, name: &str) -> Result<u64, redb::Error> {
    Ok(meta(tx, name)?.map_or(0, |value| number(&value)))
}

/// Eight bytes as META holds them; shorter ones count from their end.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
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
    tx.open_table(HASHES)?.insert(number, &block.hash().0)?;
    let mut transactions = tx.open_table(TRANSACTIONS)?;
    for (index, transaction) in (0u32..).zip(block.transactions()) {
        transactions.insert(&transaction.tx_hash().0, (number, index))?;
    }
    Ok(())
}

fn write_state(tx: &WriteTransaction, block: u64, diff: &StateDiff) -> Result<(), redb::Error> {
    let mut recorder = Recorder::open(tx, block)?;
    let mut storage = tx.open_table(STORAGE)?;
    for ((address, slot), value) in &diff.storage {
        let key = slot_key(*address, *slot);
        let old =
            if value.is_zero() { storage.remove(&key)? } else { storage.insert(&key, &value.to_be_bytes::<32>())? };
        recorder.note(history::SLOT, &key, old.as_ref().map(|old| old.value().as_slice()))?;
    }
    let mut accounts = tx.open_table(ACCOUNTS)?;
    for (address, record) in &diff.accounts {
        let key = address.into_array();
        let old = match record {
            Some(record) => accounts.insert(&key, &record.encode())?,
            None => accounts.remove(&key)?,
        };
        recorder.note(history::ACCOUNT, &key, old.as_ref().map(|old| old.value().as_slice()))?;
    }
    let mut nodes = tx.open_table(NODES)?;
    for (key, node) in &diff.nodes {
        let old = match node {
            Some(node) => nodes.insert(key.as_slice(), node.as_slice())?,
            None => nodes.remove(key.as_slice())?,
        };
        recorder.note(history::NODE, key, old.as_ref().map(|old| old.value()))?;
    }
    let mut code = tx.open_table(CODE)?;
    for (hash, bytes) in &diff.code {
        code.insert(&hash.0, bytes.as_ref())?;
    }
    recorder.finish()
}

/// Removes states and blocks older than `keep` says, at most [`PRUNE_MAX`] of each.
fn prune(tx: &WriteTransaction, head: u64, keep: &HistoryConfig) -> Result<(), redb::Error> {
    if let Keep::Last(count) = keep.states {
        let oldest = meta_number(tx, OLDEST_STATE)?;
        // The newest state is not history.
        let wanted = head.saturating_sub(count.saturating_sub(1)).min(oldest + PRUNE_MAX);
        for block in oldest + 1..=wanted {
            history::forget(tx, block)?;
        }
        if wanted > oldest {
            set_meta(tx, OLDEST_STATE, &wanted.to_be_bytes())?;
        }
    }
    if let Keep::Last(count) = keep.blocks {
        let oldest = meta_number(tx, OLDEST_BLOCK)?.max(1);
        let wanted = head.saturating_sub(count.saturating_sub(1)).min(oldest + PRUNE_MAX);
        for block in oldest..wanted {
            forget_block(tx, block)?;
        }
        if wanted > oldest {
            set_meta(tx, OLDEST_BLOCK, &wanted.to_be_bytes())?;
        }
    }
    Ok(())
}

/// Removes a block, its receipts, certificate and indexes; its hash stays.
fn forget_block(tx: &WriteTransaction, number: u64) -> Result<(), redb::Error> {
    let mut blocks = tx.open_table(BLOCKS)?;
    let Some(raw) = blocks.remove(number)? else { return Ok(()) };
    // What cannot be read has no index entries that could be found; readers complain of it long before.
    if let Ok(block) = Block::decode_stored(Bytes::copy_from_slice(raw.value())) {
        let mut transactions = tx.open_table(TRANSACTIONS)?;
        for transaction in block.transactions() {
            transactions.remove(&transaction.tx_hash().0)?;
        }
        tx.open_table(BLOCK_NUMBERS)?.remove(&block.hash().0)?;
    }
    tx.open_table(RECEIPTS)?.remove(number)?;
    tx.open_table(CERTIFICATES)?.remove(number)?;
    Ok(())
}

fn slot_key(address: Address, slot: U256) -> [u8; 52] {
    let mut key = [0u8; 52];
    key[..20].copy_from_slice(address.as_slice());
    key[20..].copy_from_slice(&slot.to_be_bytes::<32>());
    key
}

/// Where a trie's node stands: the accounts' trie, or the storage trie of `owner`; then the path,
/// one nibble a byte.
pub(crate) fn node_key(owner: Option<Address>, path: &Nibbles) -> Vec<u8> {
    let mut key = Vec::with_capacity(21 + path.len());
    match owner {
        None => key.push(0),
        Some(address) => {
            key.push(1);
            key.extend_from_slice(address.as_slice());
        }
    }
    key.extend(path.iter());
    key
}
