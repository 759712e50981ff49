//! Frozen: what version 1 sends, logs and stores stays readable and is written the same, byte for byte. A changed line in
//! `tests/frozen/wire_v1.txt` means that nodes of two program versions no longer understand each other, or that a log
//! cannot be replayed after an upgrade: then the protocol's name (`net::tls`) or the log's header needs a new version.

#![allow(clippy::unwrap_used)]

use alloy_primitives::{B256, Bytes};
use arc_malachitebft_core_consensus as cc;
use arc_malachitebft_core_types as ct;
use cc::{Input, ProposedValue};
use ct::{
    CommitCertificate, CommitSignature, NilOrVal, PolkaCertificate, PolkaSignature, Round, RoundCertificate,
    RoundCertificateType, RoundSignature, SignedMessage, SignedProposal, SignedVote, Timeout, TimeoutKind, Validity,
    ValueOrigin, VoteType,
};

use super::context::{Cx, Height, Proposal, Vote};
use super::wire::{BlockForm, CertificateForm, Message, decode_record, encode_record};
use crate::block::{Block, open_header};
use crate::keys::NodeKey;

const FROZEN: &str = include_str!("../../tests/frozen/wire_v1.txt");
const CHAIN: B256 = B256::repeat_byte(9);

fn key() -> NodeKey {
    NodeKey::from_seed([1; 32])
}

fn block() -> Block {
    let mut header = open_header(CHAIN, 5, key().node_id().0, 1_700_000_000_123, (30_000_000, 0));
    header.transactions_root = alloy_consensus::proofs::calculate_transaction_root::<crate::block::Tx>(&[]);
    Block::new(header, Vec::new())
}

fn vote(kind: VoteType, value: NilOrVal<B256>) -> SignedVote<Cx> {
    let vote = Vote { height: Height(5), round: Round::new(2), value, kind, voter: key().node_id() };
    let signature = key().signing().sign(&vote.sign_bytes(&CHAIN));
    SignedMessage::new(vote, signature)
}

fn proposal() -> SignedProposal<Cx> {
    let (height, round, pol_round) = (Height(5), Round::new(2), Round::new(1));
    let proposal = Proposal { height, round, block: block(), pol_round, proposer: key().node_id() };
    let signature = key().signing().sign(&proposal.sign_bytes(&CHAIN));
    SignedMessage::new(proposal, signature)
}

fn polka() -> PolkaCertificate<Cx> {
    let signed = vote(VoteType::Prevote, NilOrVal::Val(block().hash()));
    let polka_signatures = vec![PolkaSignature::new(key().node_id(), signed.signature)];
    PolkaCertificate { height: Height(5), round: Round::new(2), value_id: block().hash(), polka_signatures }
}

fn commit() -> CommitCertificate<Cx> {
    let signed = vote(VoteType::Precommit, NilOrVal::Val(block().hash()));
    let commit_signatures = vec![CommitSignature::new(key().node_id(), signed.signature)];
    CommitCertificate { height: Height(5), round: Round::new(2), value_id: block().hash(), commit_signatures }
}

fn round(cert_type: RoundCertificateType, kind: VoteType) -> RoundCertificate<Cx> {
    let signature = vote(kind, NilOrVal::Nil).signature;
    let round_signatures = vec![RoundSignature::new(kind, NilOrVal::Nil, key().node_id(), signature)];
    RoundCertificate { height: Height(5), round: Round::new(2), cert_type, round_signatures }
}

/// One of each kind of message, by name.
fn messages() -> Vec<(&'static str, Message)> {
    let certificate = CertificateForm::from(&commit()).encode();
    vec![
        ("hello", Message::Hello { chain: CHAIN, height: 4 }),
        ("status", Message::Status { height: 4 }),
        ("prevote", Message::Vote((&vote(VoteType::Prevote, NilOrVal::Nil)).into())),
        ("precommit", Message::Vote((&vote(VoteType::Precommit, NilOrVal::Val(block().hash()))).into())),
        ("proposal", Message::Proposal((&proposal()).into())),
        ("polka", Message::Polka((&polka()).into())),
        ("skip", Message::Round((&round(RoundCertificateType::Skip, VoteType::Prevote)).into())),
        ("round", Message::Round((&round(RoundCertificateType::Precommit, VoteType::Precommit)).into())),
        ("get_blocks", Message::GetBlocks { from: 3, count: 64 }),
        ("blocks", Message::Blocks(vec![BlockForm { block: block().raw().clone(), certificate }])),
        ("transactions", Message::Transactions(vec![Bytes::from_static(b"\x02\x01")])),
    ]
}

/// One of each kind of record in the log, by name.
fn records() -> Vec<(&'static str, Input<Cx>)> {
    let value = |validity| ProposedValue {
        height: Height(5),
        round: Round::new(2),
        valid_round: Round::Nil,
        proposer: key().node_id(),
        value: block(),
        validity,
    };
    let timeout = |kind| Input::TimeoutElapsed(Timeout::new(Round::new(2), kind));
    vec![
        ("vote", Input::Vote(vote(VoteType::Precommit, NilOrVal::Nil))),
        ("proposal", Input::Proposal(proposal())),
        ("polka", Input::PolkaCertificate(polka())),
        ("valid", Input::ProposedValue(value(Validity::Valid), ValueOrigin::Consensus)),
        ("invalid", Input::ProposedValue(value(Validity::Invalid), ValueOrigin::Consensus)),
        ("timeout_propose", timeout(TimeoutKind::Propose)),
        ("timeout_prevote", timeout(TimeoutKind::Prevote)),
        ("timeout_precommit", timeout(TimeoutKind::Precommit)),
    ]
}

#[test]
fn what_version_1_says_and_logs_is_read_and_written_the_same() {
    let mut now = String::new();
    for (name, message) in messages() {
        now += &format!("message {name} {}\n", hex::encode(message.encode()));
    }
    for (name, input) in records() {
        now += &format!("record {name} {}\n", hex::encode(encode_record(&input).unwrap()));
    }
    now += &format!("certificate commit {}\n", hex::encode(CertificateForm::from(&commit()).encode()));
    assert_eq!(now, FROZEN);
    for line in FROZEN.lines() {
        let (kind, bytes) = line.rsplit_once(' ').unwrap();
        let bytes = hex::decode(bytes).unwrap();
        let again = match kind.split_once(' ').unwrap().0 {
            "message" => Message::decode(&bytes).unwrap().encode().to_vec(),
            "record" => encode_record(&decode_record(&bytes).unwrap()).unwrap(),
            _ => CertificateForm::read(&bytes).unwrap().encode().to_vec(),
        };
        assert_eq!(again, bytes, "{kind}");
    }
}
