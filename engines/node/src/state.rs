//! The state during execution: one block's state and the changes on top of it.
//!
//! [`Overlay`] is revm's database. It reads through to the stored state, collects the changes of one
//! transaction after the other, and gives a [`StateDiff`] with the state root as Ethereum defines
//! it; of the tries only the paths to what changed are touched. It never writes to the store.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::TrieAccount;
use alloy_consensus::constants::KECCAK_EMPTY;
use alloy_eips::eip2935::{HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};
use revm::Database;
use revm::bytecode::Bytecode;
use revm::state::{Account, AccountInfo, EvmState};

use crate::NodeError;
use crate::genesis::{Fork, Genesis, GenesisAccount};
use crate::store::{StateView, node_key};
use crate::trie::Trie;

/// An account as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountRecord {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
    pub(crate) storage_root: B256,
}

impl AccountRecord {
    /// What stands for an account that does not exist.
    pub(crate) const ABSENT: Self =
        Self { nonce: 0, balance: U256::ZERO, code_hash: KECCAK_EMPTY, storage_root: EMPTY_ROOT_HASH };
    /// Size of the fixed encoding.
    pub(crate) const BYTES: usize = 104;

    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0u8; Self::BYTES];
        bytes[..8].copy_from_slice(&self.nonce.to_be_bytes());
        bytes[8..40].copy_from_slice(&self.balance.to_be_bytes::<32>());
        bytes[40..72].copy_from_slice(self.code_hash.as_slice());
        bytes[72..].copy_from_slice(self.storage_root.as_slice());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let mut nonce = [0u8; 8];
        nonce.copy_from_slice(&bytes[..8]);
        Self {
            nonce: u64::from_be_bytes(nonce),
            balance: U256::from_be_slice(&bytes[8..40]),
            code_hash: B256::from_slice(&bytes[40..72]),
            storage_root: B256::from_slice(&bytes[72..]),
        }
    }

    /// What stands in the accounts' trie.
    pub(crate) fn leaf(&self) -> Vec<u8> {
        alloy_rlp::encode(TrieAccount {
            nonce: self.nonce,
            balance: self.balance,
            storage_root: self.storage_root,
            code_hash: self.code_hash,
        })
    }
}

/// What stands in a storage trie for a slot; zero is not there.
pub(crate) fn slot_leaf(value: U256) -> Option<Vec<u8>> {
    (!value.is_zero()).then(|| alloy_rlp::encode(value))
}

/// All changes of one block, ready to be stored.
#[derive(Debug, Default)]
pub(crate) struct StateDiff {
    /// Changed accounts; `None` means deleted.
    pub(crate) accounts: BTreeMap<Address, Option<AccountRecord>>,
    /// Changed slots by account and slot; zero means deleted.
    pub(crate) storage: BTreeMap<(Address, U256), U256>,
    /// Changed nodes of the tries by the store's key; `None` means deleted.
    pub(crate) nodes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// New code by hash.
    pub(crate) code: BTreeMap<B256, Bytes>,
}

/// A block's state and the changes on top of it.
pub(crate) struct Overlay<'a> {
    base: Option<StateView<'a>>,
    infos: BTreeMap<Address, Option<(u64, U256, B256)>>,
    storage: BTreeMap<Address, BTreeMap<U256, U256>>,
    wiped: BTreeSet<Address>,
    code: BTreeMap<B256, Bytes>,
}

impl<'a> Overlay<'a> {
    /// No changes yet.
    pub(crate) fn new(base: StateView<'a>) -> Self {
        Self { base: Some(base), ..Overlay::empty() }
    }

    fn empty() -> Self {
        Self {
            base: None,
            infos: BTreeMap::new(),
            storage: BTreeMap::new(),
            wiped: BTreeSet::new(),
            code: BTreeMap::new(),
        }
    }

    /// The accounts of block 0.
    pub(crate) fn of_genesis(genesis: &Genesis) -> Overlay<'static> {
        let mut overlay = Overlay::empty();
        let hashes = GenesisAccount { code: HISTORY_STORAGE_CODE.clone(), nonce: 1, ..Default::default() };
        let own = (genesis.fork >= Fork::Osaka).then_some((&HISTORY_STORAGE_ADDRESS, &hashes));
        let governance = crate::governance::genesis_account(genesis);
        let governance = governance.as_ref().map(|account| (&crate::governance::ADDRESS, account));
        let anchor = crate::anchor::genesis_account(genesis);
        let anchor = anchor.as_ref().map(|account| (&crate::anchor::ADDRESS, account));
        for (address, account) in own.into_iter().chain(governance).chain(anchor).chain(&genesis.alloc) {
            // EIP-161: an empty account does not exist.
            if account.nonce == 0 && account.balance.is_zero() && account.code.is_empty() {
                continue;
            }
            let hash = if account.code.is_empty() { KECCAK_EMPTY } else { keccak256(&account.code) };
            if hash != KECCAK_EMPTY {
                overlay.code.insert(hash, account.code.clone());
            }
            overlay.infos.insert(*address, Some((account.nonce, account.balance, hash)));
            let slots = account.storage.iter().map(|(slot, value)| ((*slot).into(), (*value).into()));
            let slots: BTreeMap<U256, U256> = slots.filter(|(_, value): &(U256, U256)| !value.is_zero()).collect();
            if !slots.is_empty() {
                overlay.storage.insert(*address, slots);
            }
        }
        overlay
    }

    fn base_account(&self, address: Address) -> Result<Option<AccountRecord>, NodeError> {
        self.base.map_or(Ok(None), |base| base.account(address))
    }

    /// Nonce, balance and code hash as of now.
    fn info(&self, address: Address) -> Result<Option<(u64, U256, B256)>, NodeError> {
        match self.infos.get(&address) {
            Some(changed) => Ok(*changed),
            None => Ok(self.base_account(address)?.map(|record| (record.nonce, record.balance, record.code_hash))),
        }
    }

    /// Takes over what one transaction changed.
    pub(crate) fn apply(&mut self, changes: EvmState) {
        for (address, account) in changes {
            if account.is_touched() {
                self.apply_account(address, account);
            }
        }
    }

    fn apply_account(&mut self, address: Address, account: Account) {
        // EIP-6780 and EIP-161: destroyed in the transaction that made it, or touched and empty.
        if account.is_selfdestructed() || account.is_empty() {
            self.wiped.insert(address);
            self.storage.remove(&address);
            self.infos.insert(address, None);
            return;
        }
        if account.is_created() {
            self.wiped.insert(address);
            self.storage.remove(&address);
        }
        // A new contract, or a delegation (EIP-7702) of an account that exists.
        if let Some(code) = &account.info.code
            && account.info.code_hash != KECCAK_EMPTY
            && (account.is_created() || code.is_eip7702())
        {
            self.code.insert(account.info.code_hash, code.original_bytes());
        }
        let info = &account.info;
        self.infos.insert(address, Some((info.nonce, info.balance, info.code_hash)));
        for (slot, value) in account.changed_storage_slots() {
            self.storage.entry(address).or_default().insert(*slot, value.present_value);
        }
    }

    /// The changes and the state root after them. The base must be the newest state.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn finish(mut self) -> Result<(StateDiff, B256), NodeError> {
        debug_assert!(self.base.is_none_or(|base| base.is_latest()), "older states are only read");
        let mut diff = StateDiff::default();
        self.wipe(&mut diff)?;
        for (address, info) in &self.infos {
            let record = match info {
                None => None,
                Some((nonce, balance, code_hash)) => Some(AccountRecord {
                    nonce: *nonce,
                    balance: *balance,
                    code_hash: *code_hash,
                    storage_root: self.storage_root(*address, &mut diff)?,
                }),
            };
            diff.accounts.insert(*address, record);
        }
        let load = |path: &Nibbles| self.base.map_or(Ok(None), |base| base.node(None, path));
        let mut trie = Trie::open(&load)?;
        for (address, record) in &diff.accounts {
            trie.set(keccak256(address), record.as_ref().map(AccountRecord::leaf))?;
        }
        let (root, changes) = trie.finish();
        diff.nodes.extend(changes.into_iter().map(|(path, node)| (node_key(None, &path), node)));
        for (address, slots) in self.storage {
            diff.storage.extend(slots.into_iter().map(|(slot, value)| ((address, slot), value)));
        }
        diff.code = std::mem::take(&mut self.code);
        Ok((diff, root))
    }

    /// Removes what the wiped accounts had stored before the block; mostly nothing.
    fn wipe(&self, diff: &mut StateDiff) -> Result<(), NodeError> {
        let Some(base) = self.base.map(|base| base.snapshot()) else { return Ok(()) };
        for address in &self.wiped {
            diff.storage.extend(base.slots(*address)?.into_iter().map(|(slot, _)| ((*address, slot), U256::ZERO)));
            diff.nodes.extend(base.storage_nodes(*address)?.into_iter().map(|key| (key, None)));
        }
        Ok(())
    }

    fn storage_root(&self, address: Address, diff: &mut StateDiff) -> Result<B256, NodeError> {
        let wiped = self.wiped.contains(&address);
        let Some(changed) = self.storage.get(&address) else {
            let kept = if wiped { None } else { self.base_account(address)? };
            return Ok(kept.map_or(EMPTY_ROOT_HASH, |record| record.storage_root));
        };
        let load = |path: &Nibbles| match self.base {
            Some(base) if !wiped => base.node(Some(address), path),
            _ => Ok(None),
        };
        let mut trie = Trie::open(&load)?;
        for (slot, value) in changed {
            trie.set(keccak256(slot.to_be_bytes::<32>()), slot_leaf(*value))?;
        }
        let (root, changes) = trie.finish();
        diff.nodes.extend(changes.into_iter().map(|(path, node)| (node_key(Some(address), &path), node)));
        Ok(root)
    }
}

impl revm::database_interface::DBErrorMarker for NodeError {}

impl Database for Overlay<'_> {
    type Error = NodeError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, NodeError> {
        Ok(self.info(address)?.map(|(nonce, balance, code_hash)| AccountInfo {
            nonce,
            balance,
            code_hash,
            code: None,
            ..Default::default()
        }))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, NodeError> {
        if code_hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        let stored = match self.code.get(&code_hash) {
            Some(code) => Some(code.clone()),
            None => self.base.map_or(Ok(None), |base| base.snapshot().code(code_hash))?,
        };
        stored.map(Bytecode::new_raw).ok_or_else(|| NodeError::Corrupt {
            what: "the state",
            reason: format!("the code {code_hash} of an account is missing"),
        })
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, NodeError> {
        if let Some(value) = self.storage.get(&address).and_then(|slots| slots.get(&slot)) {
            return Ok(*value);
        }
        match self.base {
            Some(base) if !self.wiped.contains(&address) => base.slot(address, slot),
            _ => Ok(U256::ZERO),
        }
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, NodeError> {
        Ok(self.base.map_or(Ok(None), |base| base.snapshot().block_hash(number))?.unwrap_or_default())
    }
}
