//! What older states held: for each change of a block the value before it.
//!
//! `history` is ordered by kind, key and block: the state of block N holds for a key the first
//! entry of a later block, or what it holds now if there is none. `changes` lists each block's keys,
//! so that an old block's entries can be removed. Accounts, slots and the tries' nodes are treated
//! alike, therefore proofs can be given for any state that is kept.

use redb::{ReadOnlyTable, ReadTransaction, Table, TableDefinition, WriteTransaction};

/// Kind, length of the key, key, block (big endian); value: what was there before the block, empty
/// for nothing. Nothing that is stored is ever empty.
pub(super) const HISTORY: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("history");
/// By block: kind, length, key of each change, one after the other.
pub(super) const CHANGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("changes");

pub(super) const ACCOUNT: u8 = 0;
pub(super) const SLOT: u8 = 1;
pub(super) const NODE: u8 = 2;

pub(super) fn open_tables(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(HISTORY)?;
    tx.open_table(CHANGES)?;
    Ok(())
}

/// Writes one block's entries.
pub(super) struct Recorder<'tx> {
    tx: &'tx WriteTransaction,
    history: Table<'tx, &'static [u8], &'static [u8]>,
    block: u64,
    keys: Vec<u8>,
}

impl<'tx> Recorder<'tx> {
    pub(super) fn open(tx: &'tx WriteTransaction, block: u64) -> Result<Self, redb::Error> {
        Ok(Self { tx, history: tx.open_table(HISTORY)?, block, keys: Vec::new() })
    }

    /// Notes what stood at `key` before this block. Block 0 has no state before it.
    pub(super) fn note(&mut self, kind: u8, key: &[u8], old: Option<&[u8]>) -> Result<(), redb::Error> {
        if self.block == 0 {
            return Ok(());
        }
        let start = self.keys.len();
        push_prefix(&mut self.keys, kind, key);
        let mut entry = self.keys[start..].to_vec();
        entry.extend_from_slice(&self.block.to_be_bytes());
        self.history.insert(entry.as_slice(), old.unwrap_or_default())?;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), redb::Error> {
        if !self.keys.is_empty() {
            self.tx.open_table(CHANGES)?.insert(self.block, self.keys.as_slice())?;
        }
        Ok(())
    }
}

/// Removes the entries of a block: states before it can no longer be read.
pub(super) fn forget(tx: &WriteTransaction, block: u64) -> Result<(), redb::Error> {
    let mut history = tx.open_table(HISTORY)?;
    let mut changes = tx.open_table(CHANGES)?;
    let Some(keys) = changes.remove(block)? else { return Ok(()) };
    let mut rest = keys.value();
    while let [_, length, ..] = *rest {
        let (prefix, others) = rest.split_at((2 + usize::from(length)).min(rest.len()));
        let mut entry = prefix.to_vec();
        entry.extend_from_slice(&block.to_be_bytes());
        history.remove(entry.as_slice())?;
        rest = others;
    }
    Ok(())
}

fn push_prefix(out: &mut Vec<u8>, kind: u8, key: &[u8]) {
    out.push(kind);
    // The longest is a node of a storage trie: 1 + 20 + 64.
    out.push(u8::try_from(key.len()).expect("keys are at most 85 bytes"));
    out.extend_from_slice(key);
}

/// The table for readers.
pub(super) struct Reader(ReadOnlyTable<&'static [u8], &'static [u8]>);

/// What a key held in an older state.
pub(super) enum Past {
    /// It has not changed since: what it holds now.
    Unchanged,
    Absent,
    Value(Vec<u8>),
}

impl Reader {
    pub(super) fn open(tx: &ReadTransaction) -> Result<Self, redb::TableError> {
        tx.open_table(HISTORY).map(Self)
    }

    /// What `key` held after block `at`.
    pub(super) fn past(&self, kind: u8, key: &[u8], at: u64) -> Result<Past, redb::StorageError> {
        let mut first = Vec::with_capacity(key.len() + 10);
        push_prefix(&mut first, kind, key);
        let mut last = first.clone();
        first.extend_from_slice(&at.saturating_add(1).to_be_bytes());
        last.extend_from_slice(&u64::MAX.to_be_bytes());
        let Some(entry) = self.0.range::<&[u8]>(first.as_slice()..=last.as_slice())?.next() else {
            return Ok(Past::Unchanged);
        };
        let (_, value) = entry?;
        Ok(match value.value() {
            [] => Past::Absent,
            bytes => Past::Value(bytes.to_vec()),
        })
    }
}
