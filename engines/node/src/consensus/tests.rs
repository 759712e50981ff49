//! One node's consensus without a network: what it says to good and bad input, and after a crash.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use alloy_primitives::B256;
use arc_malachitebft_core_types as ct;
use ct::{CommitCertificate, CommitSignature, Context, NilOrVal, Round, SignedMessage, SignedVote, VoteType};

use super::context::{Cx, Height, Proposal, Validators, Vote};
use super::driver::Driver;
use super::wire::{BlockForm, CertificateForm, Message};
use crate::block::Block;
use crate::config::{NodeConfig, PeerConfig};
use crate::exec;
use crate::genesis::{BLOCK_BYTES_MOST, Fork, Genesis, GenesisValidator};
use crate::keys::NodeKey;
use crate::node;

fn keys() -> Vec<NodeKey> {
    (1..=4).map(|n| NodeKey::from_seed([n; 32])).collect()
}

fn genesis() -> Genesis {
    Genesis {
        version: 1,
        chain_id: 7,
        genesis_time_ms: 1_700_000_000_000,
        block_time_ms: 1000,
        block_gas_limit: 30_000_000,
        fork: Fork::Osaka,
        block_bytes_max: BLOCK_BYTES_MOST,
        base_fee: 0,
        fee_recipient: None,
        validators: keys().iter().map(|k| GenesisValidator { public_key: k.public_key(), power: 1 }).collect(),
        governance: None,
        anchor: None,
        alloc: Default::default(),
    }
}

/// The proposer of height 1, round 0, and the others.
fn proposer_and_rest() -> (NodeKey, Vec<NodeKey>) {
    let validators = Validators::of(&genesis().validators);
    let proposer = Cx.select_proposer(&validators, Height(1), Round::new(0)).id;
    let (mut first, rest): (Vec<_>, Vec<_>) = keys().into_iter().partition(|k| k.node_id() == proposer);
    (first.remove(0), rest)
}

/// Opens the node of `key` on `home` as `node start` does, without network, and starts its height.
fn open(home: &Path, key: &NodeKey) -> Driver {
    open_with(home, key, genesis())
}

fn open_with(home: &Path, key: &NodeKey, genesis: Genesis) -> Driver {
    let address = "127.0.0.1:1".parse().unwrap();
    let others = keys().into_iter().map(|k| k.public_key()).filter(|k| *k != key.public_key());
    let config = NodeConfig {
        version: 1,
        chain: String::new(),
        p2p_listen: address,
        rpc_listen: address,
        log: String::new(),
        mempool: Default::default(),
        fast_join: false,
        history: Default::default(),
        rpc: Default::default(),
        metrics: Default::default(),
        peers: others.map(|k| PeerConfig { node_id: k.node_id(), public_key: k, address }).collect(),
    };
    let (events, _) = sync_channel(16);
    let (shared, _, (wal, recovered)) = node::open(home, &config, genesis, key, events, Default::default()).unwrap();
    let mut driver = Driver::new(shared, key.clone(), Box::new(wal), recovered).unwrap();
    driver.start_height().unwrap();
    driver.drain().unwrap();
    driver
}

/// Block 1 as its proposer would make it; `edit` spoils it.
fn block(driver: &Driver, by: &NodeKey, edit: impl FnOnce(&mut alloy_consensus::Header)) -> Block {
    let shared = &driver.host.shared;
    let snapshot = shared.store.snapshot().unwrap();
    let now = shared.clock.wall_ms();
    let made = exec::build(&snapshot, &shared.rules, by.node_id().0, now, std::iter::empty()).unwrap();
    let mut header = made.0.header().clone();
    edit(&mut header);
    Block::new(header, Vec::new())
}

fn propose(driver: &mut Driver, by: &NodeKey, block: Block) {
    let proposal =
        Proposal { height: Height(1), round: Round::new(0), block, pol_round: Round::Nil, proposer: by.node_id() };
    let signature = by.signing().sign(&proposal.sign_bytes(&driver.host.shared.chain));
    let signed = SignedMessage::new(proposal, signature);
    driver.on_message(by.node_id(), Message::Proposal((&signed).into())).unwrap();
    driver.drain().unwrap();
}

fn vote(driver: &Driver, by: &NodeKey, kind: VoteType, value: NilOrVal<B256>) -> SignedVote<Cx> {
    let vote = Vote { height: Height(1), round: Round::new(0), value, kind, voter: by.node_id() };
    let signature = by.signing().sign(&vote.sign_bytes(&driver.host.shared.chain));
    SignedMessage::new(vote, signature)
}

/// What the node itself has voted, in order.
fn votes(driver: &Driver) -> Vec<SignedVote<Cx>> {
    let said = driver.host.said.iter();
    said.filter_map(|message| match message {
        Message::Vote(form) => Some(form.decode().unwrap()),
        _ => None,
    })
    .collect()
}

fn proposed(driver: &Driver) -> Vec<B256> {
    let said = driver.host.said.iter();
    said.filter_map(|message| match message {
        Message::Proposal(form) => Some(form.decode().unwrap().message.block.hash()),
        _ => None,
    })
    .collect()
}

#[test]
fn a_good_block_gets_a_vote_and_a_false_state_root_gets_nil() {
    let (proposer, rest) = proposer_and_rest();
    let home = tempfile::tempdir().unwrap();
    let mut driver = open(home.path(), &rest[0]);
    let good = block(&driver, &proposer, |_| {});
    propose(&mut driver, &proposer, good.clone());
    let said = votes(&driver);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].message.value, NilOrVal::Val(good.hash()));

    type Spoil = fn(&mut alloy_consensus::Header);
    let spoils: [Spoil; 4] = [
        |h| h.state_root = B256::ZERO,
        |h| h.gas_used = 1,
        |h| h.extra_data = 1u64.to_be_bytes().to_vec().into(),
        |h| h.parent_hash = B256::ZERO,
    ];
    for spoil in spoils {
        let home = tempfile::tempdir().unwrap();
        let mut driver = open(home.path(), &rest[0]);
        let bad = block(&driver, &proposer, spoil);
        propose(&mut driver, &proposer, bad);
        let said = votes(&driver);
        assert_eq!((said.len(), said[0].message.value), (1, NilOrVal::Nil));
    }
}

#[test]
fn a_proposal_by_another_validator_or_with_a_forged_signature_gets_no_vote() {
    let (proposer, rest) = proposer_and_rest();
    let home = tempfile::tempdir().unwrap();
    let mut driver = open(home.path(), &rest[0]);
    let made = block(&driver, &rest[1], |_| {});
    propose(&mut driver, &rest[1], made);
    let made = block(&driver, &proposer, |_| {});
    let forged = Proposal {
        height: Height(1),
        round: Round::new(0),
        block: made,
        pol_round: Round::Nil,
        proposer: proposer.node_id(),
    };
    let signature = rest[1].signing().sign(&forged.sign_bytes(&driver.host.shared.chain));
    let signed = SignedMessage::new(forged, signature);
    let message = Message::Proposal((&signed).into());
    driver.on_message(proposer.node_id(), message).unwrap();
    driver.drain().unwrap();
    assert!(votes(&driver).is_empty());
}

#[test]
fn after_a_crash_the_same_vote_is_said_again_and_no_other() {
    let (proposer, rest) = proposer_and_rest();
    let home = tempfile::tempdir().unwrap();
    let mut driver = open(home.path(), &rest[0]);
    let first = block(&driver, &proposer, |_| {});
    propose(&mut driver, &proposer, first.clone());
    let before = votes(&driver);
    drop(driver);

    // The proposer lies to the restarted node: another block for the same round.
    let mut driver = open(home.path(), &rest[0]);
    assert_eq!(votes(&driver), before, "signature and all");
    let time = (first.time_ms() + 5).to_be_bytes().to_vec();
    let second = block(&driver, &proposer, |h| h.extra_data = time.into());
    assert_ne!(second.hash(), first.hash());
    propose(&mut driver, &proposer, second);
    assert_eq!(votes(&driver), before);
    // The others' votes still lead to the precommit of the first.
    for other in [&proposer, &rest[1]] {
        let prevote = vote(&driver, other, VoteType::Prevote, NilOrVal::Val(first.hash()));
        driver.on_message(other.node_id(), Message::Vote((&prevote).into())).unwrap();
        driver.drain().unwrap();
    }
    let last = votes(&driver).pop().unwrap().message;
    assert_eq!((last.kind, last.value), (VoteType::Precommit, NilOrVal::Val(first.hash())));
}

#[test]
fn a_proposer_that_crashes_never_proposes_a_second_block() {
    let (proposer, _) = proposer_and_rest();
    let home = tempfile::tempdir().unwrap();
    let driver = open(home.path(), &proposer);
    let before = (proposed(&driver), votes(&driver));
    assert_eq!((before.0.len(), before.1.len()), (1, 1));
    drop(driver);
    let log = home.path().join("data/consensus.wal");
    let whole = std::fs::read(&log).unwrap();
    // Killed at any byte of the log: what it kept decides, and it never contradicts itself.
    for length in (0..=whole.len()).step_by(97).chain([whole.len()]) {
        std::fs::write(&log, &whole[..length]).unwrap();
        let driver = open(home.path(), &proposer);
        assert_eq!(proposed(&driver).len(), 1, "at {length}");
        assert_eq!(votes(&driver).len(), 1, "at {length}");
        let choice = votes(&driver)[0].message.value;
        assert_eq!(choice, NilOrVal::Val(proposed(&driver)[0]), "at {length}");
        if length == whole.len() {
            assert_eq!((proposed(&driver), votes(&driver)), before);
        }
    }
}

#[test]
fn catch_up_takes_a_proven_block_and_refuses_a_forged_certificate() {
    let (proposer, rest) = proposer_and_rest();
    let home = tempfile::tempdir().unwrap();
    let mut driver = open(home.path(), &rest[0]);
    let made = block(&driver, &proposer, |_| {});
    let certificate = |signers: &[&NodeKey], round: u32| {
        let value = NilOrVal::Val(made.hash());
        let signatures = signers.iter().map(|key| {
            let signed = vote(&driver, key, VoteType::Precommit, value);
            CommitSignature::new(key.node_id(), signed.signature)
        });
        CertificateForm::from(&CommitCertificate {
            height: Height(1),
            round: Round::new(round),
            value_id: made.hash(),
            commit_signatures: signatures.collect(),
        })
        .encode()
    };
    let forged = [
        certificate(&[&proposer, &rest[1]], 0),
        certificate(&[&proposer, &rest[1], &rest[1]], 0),
        certificate(&[&proposer, &rest[1], &rest[2]], 1),
        Default::default(),
    ];
    let good = certificate(&[&proposer, &rest[1], &rest[2]], 0);
    let from = rest[1].node_id();
    for (certificate, height) in forged.into_iter().map(|c| (c, 0)).chain([(good, 1)]) {
        driver.sync.asked = Some((from, Instant::now()));
        let form = BlockForm { block: made.raw().clone(), certificate };
        driver.on_message(from, Message::Blocks(vec![form])).unwrap();
        assert_eq!(driver.head.number(), height);
    }
    assert_eq!(driver.head.hash(), made.hash());
    let stored = driver.host.shared.store.snapshot().unwrap().certificate(1).unwrap().unwrap();
    assert_eq!(CertificateForm::read(&stored).unwrap().signatures.len(), 3);
}

/// A certificate of any block by some validators.
fn certificate_of(driver: &Driver, block: &Block, signers: &[&NodeKey]) -> alloy_primitives::Bytes {
    let (height, value) = (Height(block.number()), NilOrVal::Val(block.hash()));
    let signatures = signers.iter().map(|key| {
        let vote = Vote { height, round: Round::new(0), value, kind: VoteType::Precommit, voter: key.node_id() };
        CommitSignature::new(key.node_id(), key.signing().sign(&vote.sign_bytes(&driver.host.shared.chain)))
    });
    CertificateForm::from(&CommitCertificate {
        height,
        round: Round::new(0),
        value_id: block.hash(),
        commit_signatures: signatures.collect(),
    })
    .encode()
}

/// Offers the next block, as a peer that has it, with a certificate by `signers`; returns whether it was taken.
fn offer(
    driver: &mut Driver,
    signers: &[&NodeKey],
    transactions: Vec<(crate::block::Tx, alloy_primitives::Address)>,
) -> bool {
    let shared = std::sync::Arc::clone(&driver.host.shared);
    let (by, now) = (signers[0].node_id(), shared.clock.wall_ms());
    let snapshot = shared.store.snapshot().unwrap();
    let block = exec::build(&snapshot, &shared.rules, by.0, now, transactions.into_iter()).unwrap().0;
    let certificate = certificate_of(driver, &block, signers);
    driver.sync.asked = Some((by, Instant::now()));
    driver.on_message(by, Message::Blocks(vec![BlockForm { block: block.raw().clone(), certificate }])).unwrap();
    driver.head.hash() == block.hash()
}

#[test]
fn a_removed_validators_signature_counts_for_nothing_in_catch_up_nor_after_a_restart() {
    use super::simulated::wallet::Wallet;
    use crate::governance::{ADDRESS, Action, Call, Change, signed_input};

    let keys = keys();
    let (gone, rest) = (&keys[0], [&keys[1], &keys[2], &keys[3]]);
    let mut member = Wallet::new(0);
    let mut text = serde_json::to_value(genesis()).unwrap();
    text["governance"] = serde_json::json!({ "members": [member.address()], "threshold": 1 });
    let governed = Genesis::from_json(&text.to_string()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut driver = open_with(home.path(), rest[0], governed.clone());
    let change = Change {
        action: Action::SetValidator,
        subject: gone.public_key().0.into(),
        value: alloy_primitives::U256::ZERO,
    };
    let call = Call { changes: vec![change], sequence: 0, deadline: 0, signatures: Vec::new() };
    let sign = |hash| alloy_primitives::Bytes::from(member.sign(hash).as_bytes().to_vec());
    let input = signed_input(&driver.host.shared.rules.governance.unwrap(), call, &[&sign]);
    let sender = member.address();
    let (_, raw) = member.transact(7, ADDRESS, 0, input);
    let tx = <crate::block::Tx as alloy_eips::Decodable2718>::decode_2718_exact(&raw).unwrap();

    assert!(offer(&mut driver, &[rest[0], rest[1], gone], vec![(tx, sender)]), "it decides on its own removal");
    assert!(offer(&mut driver, &[rest[0], rest[1], gone], vec![]), "it still votes on the block after");
    assert!(!offer(&mut driver, &[rest[0], rest[1], gone], vec![]), "and no more two blocks after");
    drop(driver);
    let mut driver = open_with(home.path(), rest[0], governed);
    assert!(!offer(&mut driver, &[rest[0], rest[1], gone], vec![]), "nor after a restart");
    assert!(!offer(&mut driver, &[rest[0], rest[1]], vec![]));
    assert!(offer(&mut driver, &rest, vec![]), "those who stay decide");
    assert_eq!(driver.head.number(), 3);
}

#[test]
fn a_validator_that_told_the_others_something_else_is_found_out_by_their_certificate() {
    let (proposer, rest) = proposer_and_rest();
    let home = tempfile::tempdir().unwrap();
    let mut driver = open(home.path(), &rest[0]);
    let liar = &rest[1];
    let nil = vote(&driver, liar, VoteType::Precommit, NilOrVal::Nil);
    driver.on_message(liar.node_id(), Message::Vote((&nil).into())).unwrap();
    driver.drain().unwrap();
    assert!(driver.host.shared.store.evidence().unwrap().is_empty());
    assert!(offer(&mut driver, &[&proposer, liar, &rest[2]], vec![]));
    let evidence = driver.host.shared.store.evidence().unwrap();
    assert_eq!(evidence.iter().map(|e| e.validator()).collect::<Vec<_>>(), [liar.node_id()]);
    assert_eq!(driver.host.shared.status().equivocations, 1);
}
