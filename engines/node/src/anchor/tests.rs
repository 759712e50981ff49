//! The anchor on a chain of real blocks, without consensus: what is recorded, what is refused and why.

#![allow(clippy::unwrap_used)]

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_primitives::{B256, Signature, TxKind, U256, keccak256};
use hanse_trail::merkle::{self, Hash};
use hanse_trail::{Checkpoint, SigningKey, note};
use k256::ecdsa;
use revm::context::result::ExecutionResult;
use serde_json::json;

use super::*;
use crate::config::MempoolConfig;
use crate::exec::{self, ChainRules};
use crate::governance::{Action, Call, Change, signed_input};
use crate::keys::NodeKey;
use crate::mempool::{AdmitError, Mempool};
use crate::native::abi::{append_bytes, selector};
use crate::store::Store;

const CHAIN_ID: u64 = 7;
const ORIGIN: &str = "demo.hanse.internal/audit";

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::parse(&note::private_text(ORIGIN, &[seed; 32])).unwrap()
}

fn wallet(number: u8) -> ecdsa::SigningKey {
    ecdsa::SigningKey::from_slice(&[number; 32]).unwrap()
}

fn address_of(key: &ecdsa::SigningKey) -> Address {
    Address::from_private_key(key)
}

fn sign_hash(key: &ecdsa::SigningKey, hash: B256) -> Signature {
    let (signature, recovery) = key.sign_prehash_recoverable(hash.as_slice()).unwrap();
    Signature::from_signature_and_parity(signature, recovery.is_y_odd())
}

/// A platform's audit trail: the chain hash of each record.
struct Trail(Vec<Hash>);

impl Trail {
    fn new(records: u8) -> Self {
        Self((0..records).map(|n| keccak256([n]).0).collect())
    }

    fn leaves(&self) -> Vec<Hash> {
        self.0.iter().map(|chain| merkle::leaf_hash(chain)).collect()
    }

    fn checkpoint(&self, size: usize) -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.into(),
            size: size as u64,
            root: merkle::root(self.leaves().as_slice(), size as u64).unwrap(),
            chain: size.checked_sub(1).map_or([0; 32], |last| self.0[last]),
            cluster: "0190f5c4-7a60-7000-8000-000000000001".into(),
            at_ms: 1_000 * size as u64,
        }
    }

    fn proof(&self, old: usize, new: usize) -> Vec<Hash> {
        merkle::consistency(self.leaves().as_slice(), old as u64, new as u64).unwrap()
    }

    /// A call that records `new` records after `old`, signed by a key.
    fn input(&self, old: usize, new: usize, key: &SigningKey) -> Bytes {
        encode(&self.checkpoint(new).sign(key), &self.proof(old, new))
    }
}

fn encode(note: &str, proof: &[Hash]) -> Bytes {
    let mut bytes = selector("anchor(string,bytes32[])").to_vec();
    let mut word = |value: usize| bytes.extend_from_slice(&U256::from(value).to_be_bytes::<32>());
    word(64);
    word(64 + 32 + note.len().next_multiple_of(32));
    append_bytes(&mut bytes, note.as_bytes());
    bytes.extend_from_slice(&U256::from(proof.len()).to_be_bytes::<32>());
    bytes.extend(proof.iter().flatten());
    bytes.into()
}

/// A chain with an anchor for key 1, with or without governance (members 11 and 12, both must sign).
struct Chain {
    rules: ChainRules,
    store: Store,
}

impl Chain {
    fn new(governance: Option<serde_json::Value>) -> Self {
        let validators: Vec<_> =
            (1..=4u8).map(|n| json!({ "public_key": NodeKey::from_seed([n; 32]).public_key(), "power": 1 })).collect();
        let mut text = json!({
            "version": 1, "chain_id": CHAIN_ID, "genesis_time_ms": 1, "block_time_ms": 1000,
            "block_gas_limit": 30_000_000, "validators": validators,
            "anchor": { "key": signing_key(1).public().to_string() },
        });
        if let Some(lists) = governance {
            let members = [11, 12].map(|n| address_of(&wallet(n)));
            text["governance"] = json!({ "members": members, "threshold": 2 });
            text["governance"].as_object_mut().unwrap().extend(lists.as_object().unwrap().clone());
        }
        let genesis = Genesis::from_json(&text.to_string()).unwrap();
        let store = Store::in_memory().unwrap();
        let (block, diff) = exec::genesis_block(&genesis).unwrap();
        store.commit(&block, &[], &[], &diff).unwrap();
        Self { rules: ChainRules::of(&genesis), store }
    }

    fn tx(&self, from: u8, to: Address, input: Bytes) -> Tx {
        let account = self.store.snapshot().unwrap().account(address_of(&wallet(from))).unwrap();
        let nonce = account.map_or(0, |account| account.nonce);
        let to = TxKind::Call(to);
        let tx = TxEip1559 { chain_id: CHAIN_ID, nonce, gas_limit: 2_000_000, to, input, ..Default::default() };
        let signature = sign_hash(&wallet(from), tx.signature_hash());
        tx.into_signed(signature).into()
    }

    /// Makes the next block of these transactions as one validator, and checks it as another.
    fn add(&self, transactions: &[(Tx, u8)]) -> Vec<bool> {
        let snapshot = self.store.snapshot().unwrap();
        let proposer = NodeKey::from_seed([4; 32]).node_id().0;
        let list = transactions.iter().map(|(tx, from)| (tx.clone(), address_of(&wallet(*from))));
        let (block, executed) = exec::build(&snapshot, &self.rules, proposer, 1000, list).unwrap();
        exec::validate(&snapshot, &self.rules, None, &block).unwrap();
        self.store.commit(&block, b"c", &executed.receipts, &executed.diff).unwrap();
        executed.receipts.iter().map(|receipt| receipt.success).collect()
    }

    /// Sends a call of the anchor in a block of its own.
    fn anchor(&self, input: Bytes) -> bool {
        self.add(&[(self.tx(50, ADDRESS, input), 50)]) == [true]
    }

    fn call(&self, input: Bytes) -> ExecutionResult {
        let snapshot = self.store.snapshot().unwrap();
        let head = snapshot.head_block().unwrap();
        let tx = revm::context::TxEnv {
            caller: address_of(&wallet(60)),
            kind: TxKind::Call(ADDRESS),
            data: input,
            gas_limit: 2_000_000,
            chain_id: Some(CHAIN_ID),
            ..Default::default()
        };
        exec::call(snapshot.latest(), &self.rules, head.header(), tx).unwrap()
    }

    /// Why a call would be refused now.
    fn refusal(&self, input: Bytes) -> String {
        match self.call(input) {
            ExecutionResult::Revert { output, .. } => {
                let length = U256::from_be_slice(&output[36..68]).to::<usize>();
                String::from_utf8(output[68..68 + length].to_vec()).unwrap()
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    fn recorded(&self) -> (Trust, Recorded) {
        self.rules.anchor.as_ref().unwrap().read(self.store.snapshot().unwrap().latest()).unwrap()
    }

    fn history(&self, most: usize) -> (Vec<Anchored>, Option<u64>) {
        before(&self.store.snapshot().unwrap(), self.recorded().1.height, most).unwrap()
    }

    /// Sets the key to that of `seed` by governance.
    fn set_key(&self, seed: u8) {
        let snapshot = self.store.snapshot().unwrap();
        let sequence = Layout::new(&mut snapshot.latest()).sequence().unwrap();
        let subject = B256::from(*signing_key(seed).public().public());
        let changes = vec![Change { action: Action::SetAnchorKey, subject, value: U256::from(1) }];
        let call = Call { changes, sequence, deadline: 0, signatures: vec![] };
        let sign = |number: u8| move |hash: B256| Bytes::from(sign_hash(&wallet(number), hash).as_bytes().to_vec());
        let input = signed_input(&self.rules.governance.unwrap(), call, &[&sign(11), &sign(12)]);
        assert_eq!(self.add(&[(self.tx(50, crate::governance::ADDRESS, input), 50)]), [true]);
    }
}

#[test]
fn each_head_continues_the_one_before_and_all_can_be_found_again() {
    let (chain, trail, key) = (Chain::new(None), Trail::new(40), signing_key(1));
    assert_eq!((chain.recorded().1, chain.history(9)), (Recorded::default(), (vec![], None)));
    assert!(chain.anchor(trail.input(0, 5, &key)));
    chain.add(&[]);
    assert!(chain.anchor(trail.input(5, 12, &key)));
    // Two in one block, and one that says what is known already: no fault, no log.
    let first = chain.tx(50, ADDRESS, trail.input(12, 13, &key));
    let (second, third) = (trail.input(13, 40, &key), trail.input(40, 40, &key));
    let (second, third) = (chain.tx(51, ADDRESS, second), chain.tx(52, ADDRESS, third));
    assert_eq!(chain.add(&[(first, 50), (second, 51), (third, 52)]), [true; 3]);
    let (trust, last) = chain.recorded();
    let expected = trail.checkpoint(40);
    assert_eq!((&trust.key, trust.era), (key.public(), 0));
    assert_eq!((last.size, last.root.0, last.chain.0), (40, expected.root, expected.chain));
    assert_eq!((last.at_ms, last.height), (40_000, 4));

    let (heads, older) = chain.history(9);
    let sizes: Vec<_> = heads.iter().map(|it| (it.head.size, it.head.height, it.previous)).collect();
    assert_eq!(sizes, [(40, 4, 4), (13, 4, 3), (12, 3, 1), (5, 1, 0)]);
    assert_eq!((heads[0].head, older), (last, None));
    assert!(heads.iter().all(|it| it.head.root.0 == trail.checkpoint(it.head.size as usize).root));
    let (heads, older) = chain.history(1);
    assert_eq!((heads.len(), older), (2, Some(3)), "a block's heads are never torn apart");

    // Contracts and wallets ask in Ethereum's own way.
    let ExecutionResult::Success { output, .. } = chain.call(selector("latest()").to_vec().into()) else { panic!() };
    let words: Vec<_> = output.data().chunks(32).map(U256::from_be_slice).collect();
    let root = U256::from_be_bytes(expected.root);
    let public = U256::from_be_bytes(*key.public().public());
    assert_eq!(words[..2], [U256::from(40), root]);
    assert_eq!(words[3..], [U256::from(40_000), U256::from(4), U256::ZERO, public]);
}

#[test]
fn a_trail_that_was_cut_changed_or_forged_is_refused_with_the_reason() {
    let (chain, trail, key) = (Chain::new(None), Trail::new(40), signing_key(1));
    assert!(chain.anchor(trail.input(0, 12, &key)));
    let mut changed = Trail::new(40);
    changed.0[3] = [9; 32];
    let mut note = trail.checkpoint(20).sign(&key);
    note = note.replacen("\n20\n", "\n21\n", 1);
    let mut other_end = trail.checkpoint(12);
    other_end.chain = [7; 32];
    let mut elsewhere = trail.checkpoint(20);
    elsewhere.origin = "other.hanse.internal/audit".into();
    let cases = [
        (trail.input(7, 7, &key), "has 7 records, but block 1 recorded 12"),
        (trail.input(7, 20, &key), "not proven that the first 12 records"),
        (changed.input(12, 20, &key), "not proven that the first 12 records"),
        // The same number of records is to have the same root.
        (changed.input(12, 12, &key), "not proven that the first 12 records"),
        (encode(&other_end.sign(&key), &[]), "not proven that the first 12 records"),
        (trail.input(12, 20, &signing_key(2)), "it is not signed by demo.hanse.internal/audit+"),
        (encode(&note, &trail.proof(12, 21)), "does not fit"),
        (encode(&elsewhere.sign(&key), &trail.proof(12, 20)), "its origin is not the name of its key"),
        (encode("no checkpoint", &[]), "is not a signed note"),
        (encode(&trail.checkpoint(0).sign(&key), &[]), "has no records"),
        (encode(&"x".repeat(5_000), &[]), "bytes in the checkpoint"),
        (encode("x", &[[0; 32]; 66]), "more than 65 hashes"),
        (Bytes::from_static(b"\x01\x02\x03\x04"), "unknown function"),
    ];
    for (input, expected) in cases {
        let reason = chain.refusal(input.clone());
        assert!(reason.starts_with("anchor: ") && reason.contains(expected), "{reason} instead of {expected}");
        assert!(!chain.anchor(input), "{expected}");
    }
    assert_eq!((chain.recorded().1.size, chain.history(9).0.len()), (12, 1), "nothing of it changed anything");
    assert!(chain.anchor(trail.input(12, 40, &key)));
    let whole = trail.input(40, 40, &key);
    for length in (4..whole.len() - 64).step_by(11) {
        assert!(chain.refusal(whole.slice(..length)).starts_with("anchor: "), "{length}");
    }
}

#[test]
fn lists_of_senders_keep_out_all_but_what_goes_further() {
    let chain = Chain::new(Some(json!({ "senders": [] })));
    let (trail, key, pool) = (Trail::new(40), signing_key(1), Mempool::new(MempoolConfig::default()));
    let admit = |input: Bytes| pool.admit(chain.tx(60, ADDRESS, input), &chain.store, &chain.rules);
    let refused = |input| matches!(admit(input), Err(AdmitError::NotListed(reason)) if reason.contains("senders"));
    assert!(refused(trail.input(0, 5, &signing_key(2))), "signed by someone else");
    assert!(refused(Bytes::new()));
    assert!(refused(selector("latest()").to_vec().into()));
    let first = trail.input(0, 5, &key);
    admit(first.clone()).unwrap();
    assert_eq!(chain.add(&[(chain.tx(60, ADDRESS, first.clone()), 60)]), [true]);
    assert!(refused(first.clone()), "said again it is nothing new");
    // Nor is it let into a block.
    assert_eq!(chain.add(&[(chain.tx(60, ADDRESS, first), 60)]), Vec::<bool>::new());
    assert_eq!(chain.add(&[(chain.tx(60, ADDRESS, trail.input(5, 9, &key)), 60)]), [true]);
    assert_eq!(chain.add(&[(chain.tx(60, Address::repeat_byte(1), trail.input(9, 12, &key)), 60)]), Vec::<bool>::new());
}

#[test]
fn members_set_the_key_and_what_is_recorded_begins_anew() {
    let (chain, trail, other) = (Chain::new(Some(json!({}))), Trail::new(40), Trail(vec![[5; 32]; 9]));
    assert!(chain.anchor(trail.input(0, 20, &signing_key(1))));
    chain.set_key(2);
    assert!(chain.refusal(trail.input(20, 30, &signing_key(1))).contains("not signed by"));
    // The trail of the new key is another, and shorter.
    assert!(chain.anchor(other.input(0, 4, &signing_key(2))));
    let (trust, last) = chain.recorded();
    assert_eq!((&trust.key, trust.era, last.size, last.era), (signing_key(2).public(), 1, 4, 1));
    assert!(chain.refusal(trail.input(20, 30, &signing_key(2))).contains("not proven"));
    // The same key again: a platform that was restored from an older backup begins anew, if the members say so.
    chain.set_key(2);
    assert!(chain.anchor(trail.input(0, 3, &signing_key(2))));
    let heads: Vec<_> = chain.history(9).0.iter().map(|it| (it.head.era, it.head.size)).collect();
    assert_eq!(heads, [(2, 3), (1, 4), (0, 20)]);
}

#[test]
fn a_chain_without_an_anchor_knows_neither_it_nor_the_key_of_one() {
    let text = include_str!("../../tests/frozen/genesis_v1_governance.json");
    let genesis = Genesis::from_json(text).unwrap();
    assert_eq!((Rules::of(&genesis), genesis_account(&genesis)), (None, None));
    let mut with: serde_json::Value = serde_json::from_str(text).unwrap();
    with["anchor"] = json!({ "key": signing_key(1).public().to_string() });
    assert_ne!(Genesis::from_json(&with.to_string()).unwrap().hash(), genesis.hash());
    for (key, word) in [("nonsense", "anchor.key"), ("a+00000000+AAAA", "anchor.key")] {
        with["anchor"] = json!({ "key": key });
        let error = Genesis::from_json(&with.to_string()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

/// Frozen: what version 1 of a genesis with an anchor, of a call and of the storage mean stays.
#[test]
fn the_frozen_genesis_call_and_storage_keep_their_bytes() {
    let text = include_str!("../../tests/frozen/genesis_v1_anchor.json");
    let frozen: serde_json::Value = serde_json::from_str(include_str!("../../tests/frozen/anchor_v1.json")).unwrap();
    let genesis = Genesis::from_json(text).unwrap();
    let (block, diff) = exec::genesis_block(&genesis).unwrap();
    let store = Store::in_memory().unwrap();
    store.commit(&block, &[], &[], &diff).unwrap();
    let mut rules = ChainRules::of(&genesis);
    rules.chain_id = CHAIN_ID;
    let chain = Chain { rules, store };
    let trail = Trail::new(40);
    let inputs = [trail.input(0, 12, &signing_key(1)), trail.input(12, 40, &signing_key(1))];
    for input in &inputs {
        assert!(chain.anchor(input.clone()));
    }
    let snapshot = chain.store.snapshot().unwrap();
    let slots: std::collections::BTreeMap<_, _> =
        snapshot.slots(ADDRESS).unwrap().into_iter().map(|(at, value)| (B256::from(at), B256::from(value))).collect();
    let head = snapshot.head().unwrap().unwrap();
    let receipts = snapshot.receipts(head).unwrap().unwrap();
    let log = &receipts[0].logs[0];
    let now = json!({
        "address": ADDRESS, "genesis_hash": genesis.hash(), "block_0": block.hash(), "inputs": inputs, "storage": slots,
        "topics": log.topics, "data": log.data, "gas_used": receipts[0].gas_used,
    });
    assert_eq!(now, frozen, "{now}");
}
