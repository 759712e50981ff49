//! The state as a whole: read for an export, written anew by an import.
//!
//! An import fills a store that holds block 0 alone, in one transaction that counts only when the
//! tries built from what came in have the root that the block's header names. Nodes of tries and
//! history are never moved from store to store; they follow from the rest.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use redb::{ReadableTable, WriteTransaction};

use super::view::Snapshot;
use super::{
    ACCOUNTS, CODE, HASHES, NODES, OLDEST_BLOCK, OLDEST_STATE, STORAGE, Store, StoredReceipt, migrate, set_meta,
    slot_key, write_block,
};
use crate::NodeError;
use crate::block::Block;
use crate::state::AccountRecord;

const READ: &str = "read the whole state";
const WRITE: &str = "write a snapshot's state";

impl Snapshot {
    /// Gives each account of the newest state to `take`, by address.
    ///
    /// # Errors
    /// The store cannot be read, or what `take` says.
    pub(crate) fn each_account(
        &self,
        mut take: impl FnMut(Address, AccountRecord) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        for entry in self.accounts_table().iter().map_err(NodeError::store(READ))? {
            let (address, record) = entry.map_err(NodeError::store(READ))?;
            take(Address::from(*address.value()), AccountRecord::decode(record.value()))?;
        }
        Ok(())
    }

    /// Gives each slot of the newest state to `take`, by account and slot.
    ///
    /// # Errors
    /// As [`Snapshot::each_account`].
    pub(crate) fn each_slot(
        &self,
        mut take: impl FnMut(Address, U256, U256) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        for entry in self.storage_table().iter().map_err(NodeError::store(READ))? {
            let (key, value) = entry.map_err(NodeError::store(READ))?;
            let (address, slot) = key.value().split_at(20);
            take(Address::from_slice(address), U256::from_be_slice(slot), U256::from_be_bytes(*value.value()))?;
        }
        Ok(())
    }
}

/// An import under way; without [`Import::finish`] nothing is changed.
pub(crate) struct Import<'s> {
    store: &'s Store,
    tx: WriteTransaction,
}

impl Store {
    /// Begins an import: the state is empty from here on.
    ///
    /// # Errors
    /// The store cannot be written, or holds more than block 0.
    pub(crate) fn import(&self) -> Result<Import<'_>, NodeError> {
        if self.snapshot()?.head()?.unwrap_or(0) > 0 {
            return Err(NodeError::Corrupt {
                what: "the ledger's store",
                reason: "it holds a chain already".to_owned(),
            });
        }
        let tx = self.begin()?;
        clear(&tx).map_err(NodeError::store(WRITE))?;
        Ok(Import { store: self, tx })
    }

    /// Notes hashes of blocks that are not here.
    ///
    /// # Errors
    /// The disk refused; nothing was changed.
    pub(crate) fn note_hashes(&self, hashes: &[(u64, B256)]) -> Result<(), NodeError> {
        let tx = self.begin()?;
        let write = || -> Result<(), redb::Error> {
            let mut table = tx.open_table(HASHES)?;
            for (number, hash) in hashes {
                table.insert(number, &hash.0)?;
            }
            Ok(())
        };
        write().map_err(NodeError::store("note block hashes"))?;
        tx.commit().map_err(NodeError::store("commit"))?;
        self.forget_view();
        Ok(())
    }
}

fn clear(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(ACCOUNTS)?.retain(|_, _| false)?;
    tx.open_table(STORAGE)?.retain(|_, _| false)?;
    tx.open_table(NODES)?.retain(|_, _| false)?;
    Ok(())
}

impl Import<'_> {
    /// Writes accounts.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(crate) fn accounts(&self, accounts: impl Iterator<Item = (Address, AccountRecord)>) -> Result<(), NodeError> {
        let write = || -> Result<(), redb::Error> {
            let mut table = self.tx.open_table(ACCOUNTS)?;
            for (address, record) in accounts {
                table.insert(&address.into_array(), &record.encode())?;
            }
            Ok(())
        };
        write().map_err(NodeError::store(WRITE))
    }

    /// Writes slots; a zero is left out.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(crate) fn slots(&self, slots: impl Iterator<Item = (Address, U256, U256)>) -> Result<(), NodeError> {
        let write = || -> Result<(), redb::Error> {
            let mut table = self.tx.open_table(STORAGE)?;
            for (address, slot, value) in slots.filter(|(.., value)| !value.is_zero()) {
                table.insert(&slot_key(address, slot), &value.to_be_bytes::<32>())?;
            }
            Ok(())
        };
        write().map_err(NodeError::store(WRITE))
    }

    /// Writes a contract's code under its own hash.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(crate) fn code(&self, code: &Bytes) -> Result<(), NodeError> {
        let write = || -> Result<(), redb::Error> {
            self.tx.open_table(CODE)?.insert(&keccak256(code).0, code.as_ref())?;
            Ok(())
        };
        write().map_err(NodeError::store(WRITE))
    }

    /// Builds the tries; returns the state's root.
    ///
    /// # Errors
    /// The store cannot be written, or an account names another storage root than its slots give.
    pub(crate) fn root(&self) -> Result<B256, NodeError> {
        migrate::build_tries(&self.tx)
    }

    /// Makes `block` the newest and oldest that is kept.
    ///
    /// # Errors
    /// The disk refused; nothing was changed.
    pub(crate) fn finish(self, block: &Block, certificate: &[u8], receipts: &[StoredReceipt]) -> Result<(), NodeError> {
        let write = || -> Result<(), redb::Error> {
            write_block(&self.tx, block, certificate, receipts)?;
            let number = block.number().to_be_bytes();
            set_meta(&self.tx, OLDEST_STATE, &number)?;
            set_meta(&self.tx, OLDEST_BLOCK, &number)
        };
        write().map_err(NodeError::store(WRITE))?;
        self.tx.commit().map_err(NodeError::store("commit a snapshot"))?;
        self.store.forget_view();
        Ok(())
    }
}
