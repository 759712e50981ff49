//! Evidence of double signing in the store: verified before it comes here, kept for good, bounded for each validator.

use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::Store;
use crate::NodeError;
use crate::consensus::evidence::{Evidence, PER_VALIDATOR_MAX};

/// By validator, height, round and kind; at most [`PER_VALIDATOR_MAX`] a validator.
const EVIDENCE: TableDefinition<'_, (&[u8; 20], u64, i64, u8), &[u8]> = TableDefinition::new("evidence");

pub(super) fn open_table(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(EVIDENCE)?;
    Ok(())
}

impl Store {
    /// Stores verified evidence durably; returns whether it is new and within the validator's bound.
    ///
    /// # Errors
    /// The disk refused; nothing was changed and the node must stop.
    pub(crate) fn add_evidence(&self, evidence: &Evidence) -> Result<bool, NodeError> {
        let tx = self.begin()?;
        let added = write(&tx, evidence).map_err(NodeError::store("write evidence"))?;
        tx.commit().map_err(NodeError::store("commit evidence"))?;
        Ok(added)
    }

    /// All evidence, by validator and height.
    ///
    /// # Errors
    /// The store cannot be read, or a record is damaged.
    pub(crate) fn evidence(&self) -> Result<Vec<Evidence>, NodeError> {
        let tx = self.db.begin_read().map_err(NodeError::store("begin reading"))?;
        let table = tx.open_table(EVIDENCE).map_err(NodeError::store("open a table"))?;
        let mut all = Vec::new();
        for entry in table.iter().map_err(NodeError::store("read"))? {
            let (_, bytes) = entry.map_err(NodeError::store("read"))?;
            let corrupt = |reason| NodeError::Corrupt { what: "stored evidence", reason };
            all.push(Evidence::decode(bytes.value()).map_err(corrupt)?);
        }
        Ok(all)
    }
}

fn write(tx: &WriteTransaction, evidence: &Evidence) -> Result<bool, redb::Error> {
    let mut table = tx.open_table(EVIDENCE)?;
    let (validator, height, round, kind) = evidence.key();
    let own = (&validator, 0, i64::MIN, 0)..=(&validator, u64::MAX, i64::MAX, u8::MAX);
    let full = table.range(own)?.count() >= PER_VALIDATOR_MAX;
    let key = (&validator, height, round, kind);
    if full || table.get(key)?.is_some() {
        return Ok(false);
    }
    table.insert(key, evidence.encode().as_slice())?;
    Ok(true)
}
