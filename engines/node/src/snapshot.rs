//! Snapshots: the whole state after one block, so that a new node need not execute all before it.
//!
//! A snapshot is a stream of records, each `length u32 | CRC32 u32 | MessagePack`, big endian, after the
//! magic `HSNP` and the version: the block with certificate and receipts, accounts, slots, code, end.
//! It proves itself: the tries built from accounts and slots must have the state root of the block's
//! header, the header's hash must be the one that the certificate signs, code is known by its hash,
//! receipts by the header's root, and the hashes of the 256 blocks before stand in the state (EIP-2935,
//! so only chains with fork "osaka" have snapshots).
//!
//! What is trusted: either the block hash that the operator names, or more than two thirds of the
//! genesis' validators, who must have signed. The certificate must also be good for the validators that
//! the state itself names. An import builds a store of its own and puts it in place only when all holds.

#[cfg(test)]
mod tests;

use std::io::{Read, Write};
use std::path::Path;

use alloy_eips::eip2935::{HISTORY_SERVE_WINDOW, HISTORY_STORAGE_ADDRESS};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_trie::KECCAK_EMPTY;
use serde::{Deserialize, Serialize};

use crate::NodeError;
use crate::block::Block;
use crate::config::HistoryConfig;
use crate::consensus::trust;
use crate::exec;
use crate::genesis::{Fork, Genesis};
use crate::keys::sync_parent;
use crate::state::AccountRecord;
use crate::store::{Snapshot, Store, StoredReceipt};

const MAGIC: &[u8; 5] = b"HSNP\x01";
/// A record holds at most a block, or a batch of accounts or slots, or one contract's code.
const RECORD_BYTES_MAX: usize = 16 << 20;
/// Accounts or slots in a record.
const BATCH: usize = 8192;
/// The opcode BLOCKHASH reaches so far back.
const HASHES: u64 = 256;
const ACCOUNT_BYTES: usize = 20 + AccountRecord::BYTES;
const SLOT_BYTES: usize = 20 + 32 + 32;

#[derive(Serialize, Deserialize)]
enum Record {
    Head {
        /// Block 0's hash.
        chain: B256,
        block: Bytes,
        certificate: Bytes,
        receipts: Vec<StoredReceipt>,
    },
    /// Address and record, one after the other.
    Accounts(Bytes),
    /// Address, slot, value, one after the other.
    Slots(Bytes),
    Code(Bytes),
    End,
}

/// What an export wrote or an import took over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) height: u64,
    pub(crate) hash: B256,
    pub(crate) accounts: u64,
    pub(crate) slots: u64,
}

/// Writes the newest state.
///
/// # Errors
/// The chain has no snapshots, the store cannot be read, or `out` cannot be written.
pub(crate) fn export(snapshot: &Snapshot, genesis: &Genesis, out: &mut impl Write) -> Result<Summary, NodeError> {
    if genesis.fork < Fork::Osaka {
        return Err(refuse("fork", "chains with fork \"prague\" have none", "copy the data folder of a stopped node"));
    }
    let block = snapshot.head_block()?;
    let number = block.number();
    if number == 0 {
        return Err(refuse("height", "the chain has no block after block 0", "wait for one"));
    }
    let chain = snapshot.block_hash(0)?.unwrap_or_default();
    let head = Record::Head {
        chain,
        block: block.raw().clone(),
        certificate: snapshot.certificate(number)?.unwrap_or_default().into(),
        receipts: snapshot.receipts(number)?.unwrap_or_default(),
    };
    out.write_all(MAGIC).map_err(io("cannot write"))?;
    put(out, &head)?;
    let mut summary = Summary { height: number, hash: block.hash(), ..Summary::default() };
    let (mut batch, mut codes) = (Vec::new(), std::collections::BTreeSet::new());
    snapshot.each_account(|address, record| {
        batch.extend_from_slice(address.as_slice());
        batch.extend_from_slice(&record.encode());
        if record.code_hash != KECCAK_EMPTY {
            codes.insert(record.code_hash);
        }
        summary.accounts += 1;
        flush(out, &mut batch, BATCH * ACCOUNT_BYTES, Record::Accounts)
    })?;
    flush(out, &mut batch, 1, Record::Accounts)?;
    snapshot.each_slot(|address, slot, value| {
        batch.extend_from_slice(address.as_slice());
        batch.extend_from_slice(&slot.to_be_bytes::<32>());
        batch.extend_from_slice(&value.to_be_bytes::<32>());
        summary.slots += 1;
        flush(out, &mut batch, BATCH * SLOT_BYTES, Record::Slots)
    })?;
    flush(out, &mut batch, 1, Record::Slots)?;
    for hash in codes {
        let code = snapshot.code(hash)?.ok_or_else(|| damaged(format!("the store lacks code {hash}")))?;
        put(out, &Record::Code(code))?;
    }
    put(out, &Record::End)?;
    out.flush().map_err(io("cannot write"))?;
    Ok(summary)
}

/// Writes a batch that has become large enough.
fn flush(
    out: &mut impl Write,
    batch: &mut Vec<u8>,
    least: usize,
    record: impl Fn(Bytes) -> Record,
) -> Result<(), NodeError> {
    if batch.len() < least {
        return Ok(());
    }
    put(out, &record(std::mem::take(batch).into()))
}

fn put(out: &mut impl Write, record: &Record) -> Result<(), NodeError> {
    let payload = rmp_serde::to_vec(record).expect("records are plain data");
    let length = u32::try_from(payload.len()).ok().filter(|n| *n as usize <= RECORD_BYTES_MAX);
    let length = length.ok_or_else(|| damaged(format!("a record of {} bytes", payload.len())))?;
    let write = out
        .write_all(&length.to_be_bytes())
        .and_then(|()| out.write_all(&crc32fast::hash(&payload).to_be_bytes()))
        .and_then(|()| out.write_all(&payload));
    write.map_err(io("cannot write"))
}

fn next(input: &mut impl Read) -> Result<Record, NodeError> {
    let mut frame = [0u8; 8];
    input.read_exact(&mut frame).map_err(io("cannot read"))?;
    let [a, b, c, d, e, f, g, h] = frame;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > RECORD_BYTES_MAX {
        return Err(damaged(format!("a record of {length} bytes")));
    }
    let mut payload = vec![0; length];
    input.read_exact(&mut payload).map_err(io("cannot read"))?;
    if crc32fast::hash(&payload) != u32::from_be_bytes([e, f, g, h]) {
        return Err(damaged("a record's checksum is wrong".to_owned()));
    }
    rmp_serde::from_slice(&payload).map_err(|e| damaged(e.to_string()))
}

/// Builds the store of `home` from a snapshot. A store that holds blocks after block 0 is not touched.
///
/// # Errors
/// The snapshot is damaged, of another chain, or not proved; the home is as it was.
pub(crate) fn import(
    home: &Path,
    genesis: &Genesis,
    keep: &HistoryConfig,
    trusted: Option<B256>,
    input: &mut impl Read,
) -> Result<Summary, NodeError> {
    let data = home.join("data");
    std::fs::create_dir_all(&data).map_err(NodeError::io("cannot create", &data))?;
    let (place, part) = (data.join("ledger.redb"), data.join("ledger.redb.part"));
    // Held until the end: no node may start on what is about to be replaced.
    let old = Store::open(&place, keep.clone())?;
    if old.snapshot()?.head()?.unwrap_or(0) > 0 {
        return Err(refuse("home", "it holds a chain already", "move its data folder away, or start the node"));
    }
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(NodeError::io("cannot remove", &part)(error));
        }
        _ => {}
    }
    let store = Store::open(&part, keep.clone())?;
    let (block, diff) = exec::genesis_block(genesis)?;
    store.commit(&block, &[], &[], &diff)?;
    let taken = take(&store, genesis, block.hash(), trusted, input);
    drop(store);
    if taken.is_err() {
        std::fs::remove_file(&part).map_err(NodeError::io("cannot remove", &part))?;
    }
    let summary = taken?;
    std::fs::rename(&part, &place).map_err(NodeError::io("cannot put in place", &place))?;
    sync_parent(&place)?;
    drop(old);
    Ok(summary)
}

fn take(
    store: &Store,
    genesis: &Genesis,
    chain: B256,
    trusted: Option<B256>,
    input: &mut impl Read,
) -> Result<Summary, NodeError> {
    let mut magic = [0u8; MAGIC.len()];
    input.read_exact(&mut magic).map_err(io("cannot read"))?;
    if magic != *MAGIC {
        return Err(damaged("it does not begin as a snapshot of version 1".to_owned()));
    }
    let Record::Head { chain: of, block, certificate, receipts } = next(input)? else {
        return Err(damaged("it does not begin with a block".to_owned()));
    };
    if of != chain {
        return Err(refuse(
            "chain",
            &format!("it is of chain {of}, the genesis gives {chain}"),
            "take one of this chain",
        ));
    }
    let block = Block::decode(block).map_err(damaged)?;
    // Before anything is written: who is not trusted cannot fill the disk.
    trust::vouched(genesis, chain, &block, &certificate, trusted)?;
    if exec::receipts_root(&receipts) != block.header().receipts_root {
        return Err(damaged("its receipts are not the block's".to_owned()));
    }
    let mut summary = Summary { height: block.number(), hash: block.hash(), ..Summary::default() };
    let import = store.import()?;
    loop {
        match next(input)? {
            Record::Accounts(bytes) => {
                summary.accounts += (bytes.len() / ACCOUNT_BYTES) as u64;
                import.accounts(accounts(&bytes)?)?;
            }
            Record::Slots(bytes) => {
                summary.slots += (bytes.len() / SLOT_BYTES) as u64;
                import.slots(slots(&bytes)?)?;
            }
            Record::Code(code) => import.code(&code)?,
            Record::End => break,
            Record::Head { .. } => return Err(damaged("it has two heads".to_owned())),
        }
    }
    let root = import.root()?;
    if root != block.header().state_root {
        return Err(damaged(format!("its state has root {root}, the block says {}", block.header().state_root)));
    }
    import.finish(&block, &certificate, &receipts)?;
    check(store, genesis, &block, &certificate)?;
    Ok(summary)
}

/// Checks what can be read only from the state: codes, hashes of older blocks, validators.
fn check(store: &Store, genesis: &Genesis, block: &Block, certificate: &[u8]) -> Result<(), NodeError> {
    let snapshot = store.snapshot()?;
    snapshot.each_account(|address, record| {
        if record.code_hash != KECCAK_EMPTY && snapshot.code(record.code_hash)?.is_none() {
            return Err(damaged(format!("the code of {address} is missing")));
        }
        Ok(())
    })?;
    trust::decided(genesis, &snapshot, block, certificate)?;
    store.note_hashes(&hashes(&snapshot, block)?)
}

/// The hashes of the blocks before, as the state has them.
fn hashes(snapshot: &Snapshot, block: &Block) -> Result<Vec<(u64, B256)>, NodeError> {
    let mut hashes = Vec::new();
    for number in block.number().saturating_sub(HASHES).max(1)..block.number() {
        let slot = U256::from(number % HISTORY_SERVE_WINDOW as u64);
        hashes.push((number, B256::from(snapshot.latest().slot(HISTORY_STORAGE_ADDRESS, slot)?)));
    }
    let last = hashes.last().map(|(_, hash)| *hash);
    if block.number() > 1 && last != Some(block.header().parent_hash) {
        return Err(damaged("its contract of block hashes does not know the block's parent".to_owned()));
    }
    Ok(hashes)
}

fn accounts(bytes: &[u8]) -> Result<impl Iterator<Item = (Address, AccountRecord)>, NodeError> {
    let (entries, rest) = bytes.as_chunks::<ACCOUNT_BYTES>();
    if !rest.is_empty() {
        return Err(damaged("half an account".to_owned()));
    }
    Ok(entries.iter().map(|entry| {
        let record = entry[20..].try_into().expect("a chunk is an address and a record");
        (Address::from_slice(&entry[..20]), AccountRecord::decode(record))
    }))
}

fn slots(bytes: &[u8]) -> Result<impl Iterator<Item = (Address, U256, U256)>, NodeError> {
    let (entries, rest) = bytes.as_chunks::<SLOT_BYTES>();
    if !rest.is_empty() {
        return Err(damaged("half a slot".to_owned()));
    }
    Ok(entries.iter().map(|entry| {
        let (address, words) = entry.split_at(20);
        let (slot, value) = words.split_at(32);
        (Address::from_slice(address), U256::from_be_slice(slot), U256::from_be_slice(value))
    }))
}

fn damaged(reason: String) -> NodeError {
    NodeError::Corrupt { what: "the snapshot", reason }
}

fn refuse(field: &str, reason: &str, action: &str) -> NodeError {
    NodeError::invalid("snapshot", field, reason, action)
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> NodeError {
    NodeError::io(what, "the snapshot")
}
