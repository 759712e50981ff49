//! The state over many blocks: roots against a model, older states, proofs, pruning, older versions.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use alloy_consensus::constants::KECCAK_EMPTY;
use alloy_consensus::{Header, TrieAccount};
use alloy_primitives::{B256, keccak256};
use alloy_trie::proof::verify_proof;
use alloy_trie::root::{state_root_unhashed, storage_root_unhashed};
use proptest::prelude::*;
use redb::ReadableTableMetadata;
use revm::state::{Account, AccountInfo, AccountStatus, EvmState, EvmStorageSlot};

use super::*;
use crate::block::{Block, open_header};
use crate::state::Overlay;

/// A whole state as one would write it down: nonce, balance, slots.
type Model = BTreeMap<Address, (u64, U256, BTreeMap<U256, U256>)>;

#[derive(Clone, Debug)]
enum Step {
    /// Sets balance and nonce and writes slots; zero removes one.
    Write(u8, u64, Vec<(u8, u8)>),
    /// The account is made anew (CREATE2 at the same place) with these slots.
    Create(u8, Vec<(u8, u8)>),
    /// The account ends.
    Destroy(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let slots = || prop::collection::vec((0u8..12, 0u8..3), 0..6);
    prop_oneof![
        6 => (0u8..24, 1u64..1000, slots()).prop_map(|(a, n, s)| Step::Write(a, n, s)),
        2 => (0u8..24, slots()).prop_map(|(a, s)| Step::Create(a, s)),
        2 => (0u8..24).prop_map(Step::Destroy),
    ]
}

fn address(n: u8) -> Address {
    Address::from_slice(&keccak256([n])[12..])
}

fn model_root(model: &Model) -> B256 {
    state_root_unhashed(model.iter().map(|(address, (nonce, balance, slots))| {
        let storage_root = storage_root_unhashed(slots.iter().map(|(slot, value)| (B256::from(*slot), *value)));
        (*address, TrieAccount { nonce: *nonce, balance: *balance, storage_root, code_hash: KECCAK_EMPTY })
    }))
}

/// One step as one transaction's outcome, and in the model.
fn apply(overlay: &mut Overlay<'_>, model: &mut Model, step: &Step) {
    let (n, status, nonce, slots) = match step {
        Step::Write(n, nonce, slots) => (*n, AccountStatus::Touched, *nonce, slots.as_slice()),
        Step::Create(n, slots) => (*n, AccountStatus::Touched | AccountStatus::Created, 1, slots.as_slice()),
        Step::Destroy(n) => (*n, AccountStatus::Touched | AccountStatus::SelfDestructed, 0, [].as_slice()),
    };
    let at = address(n);
    let info = AccountInfo { nonce, balance: U256::from(nonce * 3), code_hash: KECCAK_EMPTY, ..Default::default() };
    let mut account = Account::from(info);
    account.status = status;
    if matches!(step, Step::Destroy(_)) {
        model.remove(&at);
    } else {
        if matches!(step, Step::Create(..)) {
            model.remove(&at);
        }
        let entry = model.entry(at).or_default();
        (entry.0, entry.1) = (nonce, U256::from(nonce * 3));
        for (slot, value) in slots {
            let (slot, value) = (U256::from(*slot), U256::from(*value));
            // What was there before does not matter, only that it changes.
            let slot_change = EvmStorageSlot::new_changed(value + U256::from(1), value, Default::default());
            account.storage.insert(slot, slot_change);
            if value.is_zero() {
                entry.2.remove(&slot)
            } else {
                entry.2.insert(slot, value)
            };
        }
    }
    overlay.apply(EvmState::from_iter([(at, account)]));
}

fn header(number: u64) -> Header {
    open_header(B256::repeat_byte(number as u8), number, Address::ZERO, number * 1000, (30_000_000, 0))
}

/// Stores the next block with these steps; returns its root.
fn next(store: &Store, model: &mut Model, steps: &[Step]) -> B256 {
    let snapshot = store.snapshot().unwrap();
    let number = snapshot.head().unwrap().map_or(0, |head| head + 1);
    let mut overlay = Overlay::new(snapshot.latest());
    for step in steps {
        apply(&mut overlay, model, step);
    }
    let (diff, root) = overlay.finish().unwrap();
    let mut header = header(number);
    header.state_root = root;
    header.transactions_root = alloy_trie::EMPTY_ROOT_HASH;
    store.commit(&Block::new(header, Vec::new()), &[], &[], &diff).unwrap();
    root
}

/// Compares a state with what it should be, and proves all of it against its root.
fn check(state: StateView<'_>, model: &Model, root: B256) {
    for n in 0..24 {
        let at = address(n);
        let expected = model.get(&at);
        let slots: Vec<_> = (0..12).map(U256::from).collect();
        let proof = state.prove(at, &slots).unwrap();
        assert_eq!(proof.account.map(|a| (a.nonce, a.balance)), expected.map(|(nonce, balance, _)| (*nonce, *balance)));
        let leaf = proof.account.map(|account| account.leaf());
        verify_proof(root, Nibbles::unpack(keccak256(at)), leaf, &proof.nodes).unwrap();
        let storage_root = proof.account.map_or(alloy_trie::EMPTY_ROOT_HASH, |account| account.storage_root);
        for slot in proof.storage {
            let value = expected.and_then(|(.., slots)| slots.get(&slot.slot)).copied().unwrap_or_default();
            assert_eq!(slot.value, value);
            assert_eq!(state.slot(at, slot.slot).unwrap(), value);
            let key = Nibbles::unpack(keccak256(slot.slot.to_be_bytes::<32>()));
            verify_proof(storage_root, key, crate::state::slot_leaf(value), &slot.nodes).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn every_state_is_the_models_now_later_and_after_a_reopen(
        blocks in prop::collection::vec(prop::collection::vec(step(), 0..20), 2..10),
        keep in 1u64..6,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let config = HistoryConfig { states: Keep::Last(keep), blocks: Keep::All };
        let mut store = Store::open(&path, config.clone()).unwrap();
        let (mut model, mut past) = (Model::new(), Vec::new());
        for (number, steps) in blocks.iter().enumerate() {
            let root = next(&store, &mut model, steps);
            prop_assert_eq!(root, model_root(&model));
            past.push((model.clone(), root));
            if number % 3 == 2 {
                drop(store);
                store = Store::open(&path, config.clone()).unwrap();
            }
        }
        let snapshot = store.snapshot().unwrap();
        let head = past.len() as u64 - 1;
        for (number, (model, root)) in past.iter().enumerate() {
            let state = snapshot.state_at(number as u64).unwrap();
            prop_assert_eq!(state.is_some(), number as u64 + keep > head, "{} of {}", number, head);
            if let Some(state) = state {
                check(state, model, *root);
            }
        }
        prop_assert!(snapshot.state_at(head + 1).unwrap().is_none());
    }
}

/// Twenty slots of a few accounts change in each block.
fn busy(number: u64) -> Vec<Step> {
    let slots = |n: u8| (0..12u8).map(|slot| (slot, (number as u8).wrapping_add(n) % 3)).collect();
    (0..20).map(|n| Step::Write(n, number + 1, slots(n))).collect()
}

#[test]
fn what_is_pruned_gives_its_room_back() {
    let folder = tempfile::tempdir().unwrap();
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let run = |name: &str, states: Keep, blocks: u64| {
        let path = folder.path().join(name);
        let store = Store::open(&path, HistoryConfig { states, blocks: Keep::All }).unwrap();
        let mut model = Model::new();
        for number in 0..blocks {
            next(&store, &mut model, &busy(number));
        }
        let snapshot = store.snapshot().unwrap();
        let entries = store.db.begin_read().unwrap().open_table(history::HISTORY).unwrap().len().unwrap();
        (snapshot.oldest_state().unwrap(), entries, path)
    };
    let (oldest, few, pruned) = run("pruned", Keep::Last(5), 30);
    assert_eq!(oldest, 25);
    let (_, all, archive) = run("archive", Keep::All, 30);
    assert!(few * 4 < all, "{few} of {all} entries");
    assert!(size(&pruned) < size(&archive), "{} {}", size(&pruned), size(&archive));
    // The room is used again: four times the blocks, the same entries, hardly a larger file.
    let (_, later, longer) = run("longer", Keep::Last(5), 120);
    assert_eq!(later, few);
    assert!(size(&longer) <= size(&pruned) * 3 / 2, "{} {}", size(&longer), size(&pruned));
}

#[test]
fn pruned_blocks_are_gone_but_their_hashes_stay() {
    let folder = tempfile::tempdir().unwrap();
    let keep = HistoryConfig { states: Keep::Last(1), blocks: Keep::Last(8) };
    let store = Store::open(&folder.path().join("db"), keep).unwrap();
    let mut model = Model::new();
    for number in 0..40 {
        next(&store, &mut model, &busy(number));
    }
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.oldest_block().unwrap(), 32);
    for number in 1..32 {
        assert!(snapshot.block(number).unwrap().is_none());
        assert!(snapshot.receipts(number).unwrap().is_none());
        let hash = snapshot.block_hash(number).unwrap().unwrap();
        assert_eq!(snapshot.block_number(hash).unwrap(), None);
    }
    for number in [0].into_iter().chain(32..40) {
        let block = snapshot.block(number).unwrap().unwrap();
        assert_eq!(snapshot.block_hash(number).unwrap(), Some(block.hash()));
    }
}

#[test]
fn a_store_of_version_1_is_read_and_one_of_version_9_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = Store::open(&path, Default::default()).unwrap();
    let mut model = Model::new();
    for number in 0..5 {
        next(&store, &mut model, &busy(number));
    }
    let downgrade = |store: &Store, version: &[u8]| {
        let tx = store.begin().unwrap();
        tx.delete_table(NODES).unwrap();
        tx.delete_table(HASHES).unwrap();
        tx.delete_table(history::HISTORY).unwrap();
        tx.delete_table(history::CHANGES).unwrap();
        set_meta(&tx, "version", version).unwrap();
        tx.commit().unwrap();
    };
    // What version 1 had is what is left without the new tables.
    downgrade(&store, &[1]);
    drop(store);
    let store = Store::open(&path, Default::default()).unwrap();
    let snapshot = store.snapshot().unwrap();
    check(snapshot.latest(), &model, model_root(&model));
    assert_eq!(snapshot.oldest_state().unwrap(), 4);
    assert_eq!(snapshot.block_hash(3).unwrap(), Some(snapshot.block(3).unwrap().unwrap().hash()));
    assert_eq!(next(&store, &mut model, &busy(5)), model_root(&model));

    // An account that is not the block's: the store is refused and not touched.
    downgrade(&store, &[1]);
    let tx = store.begin().unwrap();
    tx.open_table(ACCOUNTS).unwrap().remove(&address(1).into_array()).unwrap();
    tx.commit().unwrap();
    drop(snapshot);
    drop(store);
    let refused = Store::open(&path, Default::default()).err().unwrap().to_string();
    assert!(refused.contains("state root"), "{refused}");

    let other = folder.path().join("other");
    downgrade(&Store::open(&other, Default::default()).unwrap(), &[9]);
    let refused = Store::open(&other, Default::default()).err().unwrap().to_string();
    assert!(refused.contains("version [9], this program reads [2]"), "{refused}");
}

/// Frozen: what stands in a store of version 2 under each kind of key, as it must stay readable.
#[test]
fn the_frozen_records_of_version_2_are_read_and_written_alike() {
    let frozen = include_str!("../../tests/frozen/store_v2.hex");
    let mut lines = frozen.lines().map(|line| hex::decode(line.split_whitespace().last().unwrap()).unwrap());
    let record = AccountRecord {
        nonce: 7,
        balance: U256::from(1_000_000_007u64),
        code_hash: B256::repeat_byte(0x11),
        storage_root: B256::repeat_byte(0x22),
    };
    let receipt = StoredReceipt {
        tx_type: 2,
        success: true,
        gas_used: 21_000,
        cumulative_gas_used: 63_000,
        from: Address::repeat_byte(0x33),
        contract: Some(Address::repeat_byte(0x44)),
        logs: vec![StoredLog {
            address: Address::repeat_byte(0x55),
            topics: vec![B256::repeat_byte(0x66)],
            data: Bytes::from_static(b"data"),
        }],
    };
    let receipts = lines.next().unwrap();
    assert_eq!(rmp_serde::from_slice::<Vec<StoredReceipt>>(&receipts).unwrap(), vec![receipt.clone()]);
    assert_eq!(rmp_serde::to_vec_named(&vec![receipt]).unwrap(), receipts);
    let account = lines.next().unwrap();
    assert_eq!(AccountRecord::decode(account.as_slice().try_into().unwrap()), record);
    assert_eq!(record.encode().as_slice(), account);
    let path = Nibbles::from_nibbles([1, 2, 15]);
    assert_eq!(node_key(None, &path), lines.next().unwrap());
    assert_eq!(node_key(Some(Address::repeat_byte(0x77)), &path), lines.next().unwrap());
    assert_eq!(slot_key(Address::repeat_byte(0x88), U256::from(9)).as_slice(), lines.next().unwrap());
    assert_eq!(lines.next(), None);
}
