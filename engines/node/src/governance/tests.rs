//! Governance on a chain of real blocks, without consensus: what proposals do, when, and what refuses them.

#![allow(clippy::unwrap_used)]

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_primitives::{Signature, TxKind, keccak256};
use k256::ecdsa::SigningKey;
use revm::context::result::ExecutionResult;
use serde_json::json;

use super::layout::Layout;
use super::*;
use crate::block::{Block, Tx};
use crate::config::MempoolConfig;
use crate::exec::{self, ChainRules};
use crate::keys::{NodeKey, PublicKey};
use crate::mempool::{AdmitError, Mempool};
use crate::store::Store;

const CHAIN_ID: u64 = 7;

pub(super) fn account(number: u8) -> SigningKey {
    SigningKey::from_slice(&[number; 32]).unwrap()
}

pub(super) fn address_of(key: &SigningKey) -> Address {
    let point = key.verifying_key().to_encoded_point(false);
    Address::from_slice(&keccak256(&point.as_bytes()[1..])[12..])
}

fn sign_hash(key: &SigningKey, hash: B256) -> Signature {
    let (signature, recovery) = key.sign_prehash_recoverable(hash.as_slice()).unwrap();
    Signature::from_signature_and_parity(signature, recovery.is_y_odd())
}

fn node_key(number: u8) -> B256 {
    B256::from(NodeKey::from_seed([number; 32]).public_key().0)
}

/// A chain of blocks with governance: members 11, 12 and 13, two of whom must sign; validators 1 to 4.
struct Chain {
    genesis: Genesis,
    rules: ChainRules,
    store: Store,
    nonce: u64,
}

impl Chain {
    fn new(lists: serde_json::Value) -> Self {
        let validators: Vec<_> =
            (1..=4u8).map(|n| json!({ "public_key": NodeKey::from_seed([n; 32]).public_key(), "power": 1 })).collect();
        let members = [11, 12, 13].map(|n| address_of(&account(n)));
        let mut governance = json!({ "members": members, "threshold": 2 });
        governance.as_object_mut().unwrap().extend(lists.as_object().unwrap().clone());
        let text = json!({
            "version": 1, "chain_id": CHAIN_ID, "genesis_time_ms": 1, "block_time_ms": 1000,
            "block_gas_limit": 30_000_000, "validators": validators, "governance": governance,
        });
        let genesis = Genesis::from_json(&text.to_string()).unwrap();
        let store = Store::in_memory().unwrap();
        let (block, diff) = exec::genesis_block(&genesis).unwrap();
        store.commit(&block, &[], &[], &diff).unwrap();
        Self { rules: ChainRules::of(&genesis), genesis, store, nonce: 0 }
    }

    fn domain(&self) -> Domain {
        self.rules.governance.unwrap()
    }

    /// A proposal signed by `signers`, with the sequence that is next.
    fn call(&self, changes: &[Change], signers: &[u8]) -> Call {
        let snapshot = self.store.snapshot().unwrap();
        let sequence = Layout::new(&mut snapshot.latest()).sequence().unwrap();
        self.sign(Call { changes: changes.to_vec(), sequence, deadline: 0, signatures: vec![] }, signers)
    }

    fn sign(&self, mut call: Call, signers: &[u8]) -> Call {
        let hash = self.domain().signing_hash(&call);
        call.signatures = signers.iter().map(|n| sign_hash(&account(*n), hash).as_bytes().to_vec().into()).collect();
        call
    }

    /// A transaction of account 50, or another.
    fn tx(&mut self, to: TxKind, input: Bytes) -> Tx {
        let nonce = self.nonce;
        self.nonce += 1;
        tx(50, nonce, to, input)
    }

    /// Makes the next block of these transactions as one validator, and checks it as another.
    fn add(&self, transactions: &[(Tx, u8)]) -> Vec<bool> {
        let snapshot = self.store.snapshot().unwrap();
        let proposer = NodeKey::from_seed([4; 32]).node_id().0;
        let list = transactions.iter().map(|(tx, from)| (tx.clone(), address_of(&account(*from))));
        let (block, executed) = exec::build(&snapshot, &self.rules, proposer, 1000, list).unwrap();
        exec::validate(&snapshot, &self.rules, None, &block).unwrap();
        self.store.commit(&block, b"c", &executed.receipts, &executed.diff).unwrap();
        executed.receipts.iter().map(|receipt| receipt.success).collect()
    }

    /// Executes a proposal in a block of its own.
    fn govern(&mut self, changes: &[Change]) {
        let input = abi::encode(&self.call(changes, &[11, 13]));
        let tx = self.tx(TxKind::Call(ADDRESS), input);
        assert_eq!(self.add(&[(tx, 50)]), [true], "{changes:?}");
    }

    /// Why a proposal would be refused now.
    fn refusal(&self, call: &Call) -> String {
        self.refusal_of(abi::encode(call))
    }

    fn refusal_of(&self, input: Bytes) -> String {
        let snapshot = self.store.snapshot().unwrap();
        let head = snapshot.head_block().unwrap();
        let tx = revm::context::TxEnv {
            caller: address_of(&account(50)),
            kind: TxKind::Call(ADDRESS),
            data: input,
            gas_limit: 20_000_000,
            nonce: self.nonce,
            chain_id: Some(CHAIN_ID),
            ..Default::default()
        };
        match exec::call(snapshot.latest(), &self.rules, head.header(), tx).unwrap() {
            ExecutionResult::Revert { output, .. } => {
                let length = U256::from_be_slice(&output[36..68]).to::<usize>();
                String::from_utf8(output[68..68 + length].to_vec()).unwrap()
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    fn powers(&self, height: u64) -> Vec<u64> {
        let snapshot = self.store.snapshot().unwrap();
        validators_at(snapshot.latest(), &self.genesis, height).unwrap().iter().map(|v| v.power).collect()
    }

    fn height(&self) -> u64 {
        self.store.snapshot().unwrap().head().unwrap().unwrap()
    }

    fn outlook(&self) -> Outlook {
        let peers = (1..=9).map(|n| NodeKey::from_seed([n; 32]).public_key());
        Outlook::read(&self.store.snapshot().unwrap(), &self.genesis, peers).unwrap()
    }
}

fn tx(from: u8, nonce: u64, to: TxKind, input: Bytes) -> Tx {
    let tx = TxEip1559 { chain_id: CHAIN_ID, nonce, gas_limit: 2_000_000, to, input, ..Default::default() };
    let signature = sign_hash(&account(from), tx.signature_hash());
    tx.into_signed(signature).into()
}

fn change(action: Action, subject: B256, value: u64) -> Change {
    Change { action, subject, value: U256::from(value) }
}

fn plain(action: Action, value: u64) -> Change {
    change(action, B256::ZERO, value)
}

#[test]
fn a_change_of_validators_counts_two_blocks_later_and_the_past_stays_known() {
    let mut chain = Chain::new(json!({}));
    chain.govern(&[change(Action::SetValidator, node_key(5), 1)]);
    assert_eq!(chain.height(), 1);
    assert_eq!([1, 2, 3].map(|h| chain.powers(h).len()), [4, 4, 5]);
    assert_eq!((chain.outlook().validators.len(), chain.outlook().following.len()), (4, 5));
    chain.govern(&[change(Action::SetValidator, node_key(1), 0)]);
    assert_eq!([2, 3, 4].map(|h| chain.powers(h).len()), [4, 5, 4]);
    chain.add(&[]);
    assert_eq!([1, 2, 3, 4, 5].map(|h| chain.powers(h).len()), [4, 4, 5, 4, 4]);
    // The one that is out may no longer build a block.
    let snapshot = chain.store.snapshot().unwrap();
    let build = |seed: u8| {
        let by = NodeKey::from_seed([seed; 32]).node_id().0;
        exec::build(&snapshot, &chain.rules, by, 1000, std::iter::empty()).unwrap().0
    };
    let verdict =
        |block: &Block| exec::validate(&snapshot, &chain.rules, None, block).map(|_| ()).map_err(|e| e.to_string());
    assert_eq!(verdict(&build(1)), Err("its beneficiary is no validator".to_owned()));
    assert_eq!(verdict(&build(5)), Ok(()));
}

#[test]
fn proposals_of_one_block_are_one_change_for_the_bound() {
    let mut chain = Chain::new(json!({}));
    let first = chain.call(&[change(Action::SetValidator, node_key(5), 1)], &[11, 12]);
    let second =
        |value| Call { sequence: 1, changes: vec![change(Action::SetValidator, node_key(6), value)], ..first.clone() };
    let (second, third) = (chain.sign(second(1), &[12, 13]), second(1));
    let (a, b) =
        (chain.tx(TxKind::Call(ADDRESS), abi::encode(&first)), chain.tx(TxKind::Call(ADDRESS), abi::encode(&second)));
    // One of four may join, two of four may not.
    assert_eq!(chain.add(&[(a, 50), (b, 50)]), [true, false]);
    assert_eq!(chain.powers(3).len(), 5);
    // A block later the fifth is part of what the next is measured by.
    let again = chain.tx(TxKind::Call(ADDRESS), abi::encode(&chain.sign(third, &[12, 13])));
    assert_eq!(chain.add(&[(again, 50)]), [true]);
    assert_eq!([3, 4].map(|h| chain.powers(h).len()), [5, 6]);
}

#[test]
fn what_breaks_a_rule_is_refused_with_the_reason_and_changes_nothing() {
    let chain = Chain::new(json!({ "senders": [address_of(&account(50))] }));
    chain.add(&[]);
    let good = [change(Action::SetValidator, node_key(5), 1)];
    let refusals = |chain: &Chain, cases: Vec<(Call, &str)>| {
        for (call, expected) in cases {
            let reason = chain.refusal(&call);
            assert!(reason.contains(expected), "{reason} instead of {expected}");
        }
    };
    let other_chain = Domain { genesis_hash: B256::ZERO, ..chain.domain() };
    let mut foreign = chain.call(&good, &[11]);
    foreign.signatures.push(sign_hash(&account(12), other_chain.signing_hash(&foreign)).as_bytes().to_vec().into());
    let mut changed = chain.call(&good, &[11, 12]);
    changed.changes[0].value = U256::from(2);
    let base = chain.call(&good, &[]);
    refusals(
        &chain,
        vec![
            (chain.call(&good, &[11]), "1 members signed, 2 must"),
            (chain.call(&good, &[11, 11]), "signed twice"),
            (chain.call(&good, &[11, 50]), "no member"),
            (foreign, "no member"),
            (changed, "no member"),
            (chain.sign(Call { sequence: 4, ..base.clone() }, &[11, 12]), "has sequence 0, this one 4"),
            (chain.sign(Call { deadline: 0, changes: vec![], ..base.clone() }, &[11, 12]), "0 changes"),
        ],
    );
    let no_point = (0..=255).map(B256::repeat_byte).find(|k| PublicKey(k.0).verifying().is_none()).unwrap();
    let one = |action, subject, value| chain.call(&[change(action, subject, value)], &[11, 12]);
    refusals(
        &chain,
        vec![
            (one(Action::SetValidator, node_key(5), 2), "less than a third"),
            (one(Action::SetValidator, node_key(5), 1 << 41), "is more than"),
            (one(Action::SetValidator, node_key(5), 0), "has power 0 already"),
            (one(Action::SetValidator, no_point, 1), "wants a node's key"),
            (one(Action::SetSender, node_key(5), 1), "wants an account"),
            (one(Action::SetSender, address_of(&account(50)).into_word(), 1), "already on the list"),
            (one(Action::SetSender, address_of(&account(51)).into_word(), 0), "not on the list"),
            (one(Action::SetSender, address_of(&account(51)).into_word(), 2), "wants 0 or 1"),
            (one(Action::RestrictSenders, B256::ZERO, 1), "already in force"),
            (one(Action::SetThreshold, B256::ZERO, 4), "cannot be met"),
            (one(Action::SetThreshold, B256::ZERO, 0), "cannot be met"),
            (one(Action::ScheduleUpgrade, U256::from(2).into(), 2), "too soon"),
            (one(Action::ScheduleUpgrade, U256::from(2).into(), 0), "no upgrade to version 2 is ahead"),
            (one(Action::SetMember, address_of(&account(11)).into_word(), 1), "already a member"),
        ],
    );
    let all: Vec<_> = (1..=4).map(|n| change(Action::SetValidator, node_key(n), 0)).collect();
    refusals(&chain, vec![(chain.call(&all, &[11, 12]), "no validator would be left")]);
    let late = chain.sign(Call { deadline: 1, ..base }, &[11, 12]);
    chain.add(&[]);
    refusals(&chain, vec![(late, "its deadline was height 1")]);
    assert_eq!(chain.powers(chain.height() + 2).len(), 4);
}

#[test]
fn small_sets_change_one_by_one() {
    let mut chain = Chain::new(json!({}));
    for gone in 1..=3 {
        chain.govern(&[change(Action::SetValidator, node_key(gone), 0)]);
    }
    assert_eq!(chain.powers(chain.height() + 2), [1]);
    let two = [change(Action::SetValidator, node_key(1), 1), change(Action::SetValidator, node_key(2), 1)];
    assert!(chain.refusal(&chain.call(&two, &[11, 12])).contains("less than a third"));
    let strong = [change(Action::SetValidator, node_key(1), 5)];
    assert!(chain.refusal(&chain.call(&strong, &[11, 12])).contains("less than a third"));
    chain.govern(&two[..1]);
    assert_eq!(chain.powers(chain.height() + 2), [1, 1]);
}

#[test]
fn lists_hold_in_pool_and_block_from_two_blocks_later() {
    let mut chain = Chain::new(json!({}));
    let pool = Mempool::new(MempoolConfig::default());
    let to = TxKind::Call(Address::repeat_byte(0xaa));
    let allowed = |chain: &Chain, kind, from: u8| {
        let receipts = chain.add(&[(tx(from, nonce_of(chain, from), kind, Bytes::new()), from)]);
        !receipts.is_empty()
    };
    let nonce_of = nonce_of;
    assert!(allowed(&chain, to, 60) && allowed(&chain, TxKind::Create, 60));
    let sender = address_of(&account(50)).into_word();
    chain.govern(&[
        plain(Action::RestrictSenders, 1),
        change(Action::SetSender, sender, 1),
        plain(Action::RestrictDeployers, 1),
    ]);
    // Decided in block h, in force from h + 2 on.
    assert!(allowed(&chain, to, 60), "the block after the decision");
    assert!(!allowed(&chain, to, 60), "two blocks after the decision");
    let refused = pool.admit(tx(60, nonce_of(&chain, 60), to, Bytes::new()), &chain.store, &chain.rules);
    assert!(matches!(refused, Err(AdmitError::NotListed(reason)) if reason.contains("list of senders")));
    // Who may send may not create a contract, unless he is on that list too.
    assert!(!allowed(&chain, TxKind::Create, 50));
    chain.nonce = nonce_of(&chain, 50);
    chain.govern(&[change(Action::SetDeployer, sender, 1)]);
    assert!(!allowed(&chain, TxKind::Create, 50));
    assert!(allowed(&chain, TxKind::Create, 50));
    // Members send to governance though no list names them, and nothing else.
    let lift = chain.call(&[plain(Action::RestrictSenders, 0)], &[12, 13]);
    assert_eq!(chain.add(&[(tx(12, 0, TxKind::Call(ADDRESS), abi::encode(&lift)), 12)]), [true]);
    assert!(!allowed(&chain, to, 12));
    assert!(allowed(&chain, to, 60));
}

fn nonce_of(chain: &Chain, from: u8) -> u64 {
    let snapshot = chain.store.snapshot().unwrap();
    snapshot.account(address_of(&account(from))).unwrap().map_or(0, |account| account.nonce)
}

#[test]
fn members_and_threshold_count_from_the_next_proposal_on() {
    let mut chain = Chain::new(json!({}));
    let new = address_of(&account(14)).into_word();
    chain.govern(&[change(Action::SetMember, new, 1), plain(Action::SetThreshold, 3)]);
    let open = [plain(Action::RestrictDeployers, 1)];
    assert!(chain.refusal(&chain.call(&open, &[11, 12])).contains("2 members signed, 3 must"));
    let gone = change(Action::SetMember, address_of(&account(11)).into_word(), 0);
    let call = chain.call(&[gone, plain(Action::SetThreshold, 2)], &[11, 12, 14]);
    let sent = chain.tx(TxKind::Call(ADDRESS), abi::encode(&call));
    assert_eq!(chain.add(&[(sent, 50)]), [true]);
    assert!(chain.refusal(&chain.call(&open, &[11, 12])).contains("no member"));
    let call = chain.call(&open, &[12, 14]);
    let sent = chain.tx(TxKind::Call(ADDRESS), abi::encode(&call));
    assert_eq!(chain.add(&[(sent.clone(), 50)]), [true]);
    // Said again it is not executed again.
    let again = chain.tx(TxKind::Call(ADDRESS), abi::encode(&call));
    assert_eq!(chain.add(&[(again, 50)]), [false]);
}

#[test]
fn an_upgrade_is_needed_only_after_its_height_and_can_be_called_off_before() {
    let mut chain = Chain::new(json!({}));
    let version = U256::from(2).into();
    chain.govern(&[change(Action::ScheduleUpgrade, version, 4)]);
    assert_eq!((chain.outlook().version, chain.outlook().upgrade), (0, Some((2, 4))));
    chain.govern(&[change(Action::ScheduleUpgrade, version, 0)]);
    assert_eq!(chain.outlook().upgrade, None);
    chain.govern(&[change(Action::ScheduleUpgrade, version, 5)]);
    chain.add(&[]);
    assert_eq!(chain.outlook().version, 0, "block 5 is still the old version's");
    chain.add(&[]);
    assert_eq!((chain.height(), chain.outlook().version, chain.outlook().upgrade), (5, 2, None));
    let past = chain.call(&[change(Action::ScheduleUpgrade, version, 0)], &[11, 12]);
    assert!(chain.refusal(&past).contains("no upgrade to version 2 is ahead"));
    chain.govern(&[change(Action::ScheduleUpgrade, U256::from(3).into(), 9)]);
    assert_eq!((chain.outlook().version, chain.outlook().upgrade), (2, Some((3, 9))), "2 stays needed until then");
}

#[test]
fn nodes_of_the_list_and_validators_may_connect() {
    let listed = NodeKey::from_seed([9; 32]);
    let mut chain = Chain::new(json!({ "nodes": [listed.public_key()] }));
    assert_eq!(chain.outlook().nodes.unwrap().len(), 5);
    chain.govern(&[change(Action::SetNode, B256::from(listed.public_key().0), 0)]);
    assert!(chain.outlook().nodes.unwrap().contains(&listed.node_id()), "for one more block");
    chain.add(&[]);
    assert!(!chain.outlook().nodes.unwrap().contains(&listed.node_id()));
    chain.govern(&[plain(Action::RestrictNodes, 0), change(Action::SetValidator, node_key(5), 1)]);
    let joining = NodeKey::from_seed([5; 32]).node_id();
    assert!(chain.outlook().nodes.unwrap().contains(&joining), "who votes soon is let in at once");
    chain.add(&[]);
    assert_eq!(chain.outlook().nodes, None);
}

#[test]
fn input_that_is_cut_or_spoiled_is_refused_and_never_more() {
    let chain = Chain::new(json!({}));
    let call = chain.call(&[change(Action::SetValidator, node_key(5), 1), plain(Action::RestrictNodes, 1)], &[11, 12]);
    let whole = abi::encode(&call);
    assert_eq!(abi::decode(&whole, false).unwrap(), call);
    for length in (0..whole.len() - 32).step_by(7) {
        assert!(chain.refusal_of(whole.slice(..length)).starts_with("governance: "), "{length}");
    }
    for place in 4..whole.len() {
        let mut spoiled = whole.to_vec();
        spoiled[place] ^= 0x41;
        // Either it cannot be read, or it is another call, which nobody signed; padding means nothing.
        if let Ok(read) = abi::decode(&spoiled, false) {
            assert!(read == call || !chain.refusal(&read).is_empty());
        }
    }
    assert!(chain.refusal_of(Bytes::from_static(b"\x01\x02\x03\x04")).contains("unknown function"));
}

#[test]
fn the_order_of_members_and_lists_in_the_file_changes_nothing() {
    let first = Chain::new(json!({ "senders": [address_of(&account(1)), address_of(&account(2))] })).genesis;
    let mut second = first.clone();
    second.governance.as_mut().unwrap().members.reverse();
    second.governance.as_mut().unwrap().senders.as_mut().unwrap().reverse();
    second.validators.reverse();
    let blocks = [&first, &second].map(|genesis| exec::genesis_block(genesis).unwrap().0.hash());
    assert_eq!(blocks[0], blocks[1]);
}

/// Frozen: what version 1 of a genesis with governance, of a proposal's file and of the typed data mean stays.
#[test]
fn the_frozen_genesis_and_proposal_keep_their_hashes_and_bytes() {
    let genesis = Genesis::from_json(include_str!("../../tests/frozen/genesis_v1_governance.json")).unwrap();
    let frozen: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/frozen/governance_v1.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proposal.json");
    std::fs::write(&path, include_str!("../../tests/frozen/proposal_v1.json")).unwrap();
    let read = proposal::Proposal::load(&path).unwrap();
    let call = read.call().unwrap();
    let domain = ChainRules::of(&genesis).governance.unwrap();
    assert_eq!(read.domain(), domain);
    let now = json!({
        "genesis_hash": genesis.hash(),
        "block_0": exec::genesis_block(&genesis).unwrap().0.hash(),
        "signing_hash": domain.signing_hash(&call),
        "input": read.input().unwrap(),
        "signed_by": call.signatures.iter().map(|s| domain.signer(&call, s)).collect::<Vec<_>>(),
    });
    assert_eq!(now, frozen, "{now}");
    read.save(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), include_str!("../../tests/frozen/proposal_v1.json"));
}
