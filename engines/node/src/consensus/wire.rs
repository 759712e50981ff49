//! The form of messages on the network, in the log and in the store: MessagePack with named
//! fields. Decoding checks only the form; signatures are checked where they count.

use alloy_primitives::{Address, B256, Bytes, FixedBytes};
use arc_malachitebft_core_consensus as cc;
use arc_malachitebft_core_types as ct;
use arc_malachitebft_signing_ed25519::Signature;
use cc::{Input, ProposedValue};
use ct::{
    CommitCertificate, CommitSignature, NilOrVal, PolkaCertificate, PolkaSignature, Round, RoundCertificate,
    RoundCertificateType, RoundSignature, SignedMessage, SignedProposal, SignedVote, Timeout, TimeoutKind, Validity,
    ValueOrigin, VoteType,
};
use serde::{Deserialize, Serialize};

use super::context::{Cx, Height, Proposal, Vote};
use crate::block::Block;
use crate::keys::NodeId;

type Sig = FixedBytes<64>;

/// What nodes say to each other. One message a frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// First on each connection: the chain's identity (block 0's hash) and the sender's height.
    Hello {
        chain: B256,
        height: u64,
    },
    /// The sender's newest block.
    Status {
        height: u64,
    },
    /// Consensus.
    Vote(VoteForm),
    Proposal(ProposalForm),
    Polka(CertificateForm),
    Round(RoundForm),
    /// Asks for up to `count` blocks from `from` on.
    GetBlocks {
        from: u64,
        count: u32,
    },
    /// Consecutive blocks with their certificates.
    Blocks(Vec<BlockForm>),
    /// Signed transactions, EIP-2718.
    Transactions(Vec<Bytes>),
}

/// A block and the proof that it was decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BlockForm {
    pub(crate) block: Bytes,
    /// An encoded [`CertificateForm`].
    pub(crate) certificate: Bytes,
}

/// A vote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VoteForm {
    height: u64,
    round: i64,
    precommit: bool,
    value: Option<B256>,
    voter: Address,
    signature: Sig,
}

/// A proposal with its block.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProposalForm {
    height: u64,
    round: i64,
    pol_round: i64,
    block: Bytes,
    proposer: Address,
    signature: Sig,
}

/// A commit or polka certificate; which of the two follows from where it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CertificateForm {
    pub(crate) height: u64,
    pub(crate) round: i64,
    pub(crate) value: B256,
    pub(crate) signatures: Vec<(Address, Sig)>,
}

/// A round certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RoundForm {
    height: u64,
    round: i64,
    skip: bool,
    signatures: Vec<(bool, Option<B256>, Address, Sig)>,
}

/// One record of the write-ahead log.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Record {
    Vote(VoteForm),
    Proposal(ProposalForm),
    Polka(CertificateForm),
    Value { height: u64, round: i64, valid_round: i64, proposer: Address, block: Bytes, valid: bool },
    Timeout { kind: u8, round: i64 },
}

impl Message {
    pub(crate) fn encode(&self) -> bytes::Bytes {
        rmp_serde::to_vec_named(self).expect("messages are plain data").into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        rmp_serde::from_slice(bytes).map_err(|e| e.to_string())
    }
}

fn round(value: i64) -> Result<Round, String> {
    match u32::try_from(value) {
        Ok(round) => Ok(Round::new(round)),
        Err(_) if value == -1 => Ok(Round::Nil),
        Err(_) => Err(format!("round {value}")),
    }
}

fn signature(bytes: &Sig) -> Signature {
    Signature::from_bytes(bytes.0)
}

fn sig(signature: &Signature) -> Sig {
    FixedBytes(signature.to_bytes())
}

fn nil_or(value: Option<B256>) -> NilOrVal<B256> {
    value.map_or(NilOrVal::Nil, NilOrVal::Val)
}

fn optional(value: &NilOrVal<B256>) -> Option<B256> {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(id) => Some(*id),
    }
}

impl From<&SignedVote<Cx>> for VoteForm {
    fn from(signed: &SignedVote<Cx>) -> Self {
        let vote = &signed.message;
        Self {
            height: vote.height.0,
            round: vote.round.as_i64(),
            precommit: vote.kind == VoteType::Precommit,
            value: optional(&vote.value),
            voter: vote.voter.0,
            signature: sig(&signed.signature),
        }
    }
}

impl VoteForm {
    pub(crate) fn decode(&self) -> Result<SignedVote<Cx>, String> {
        let vote = Vote {
            height: Height(self.height),
            round: round(self.round)?,
            value: nil_or(self.value),
            kind: kind(self.precommit),
            voter: NodeId(self.voter),
        };
        Ok(SignedMessage::new(vote, signature(&self.signature)))
    }
}

fn kind(precommit: bool) -> VoteType {
    if precommit { VoteType::Precommit } else { VoteType::Prevote }
}

impl From<&SignedProposal<Cx>> for ProposalForm {
    fn from(signed: &SignedProposal<Cx>) -> Self {
        let proposal = &signed.message;
        Self {
            height: proposal.height.0,
            round: proposal.round.as_i64(),
            pol_round: proposal.pol_round.as_i64(),
            block: proposal.block.raw().clone(),
            proposer: proposal.proposer.0,
            signature: sig(&signed.signature),
        }
    }
}

impl ProposalForm {
    pub(crate) fn decode(&self) -> Result<SignedProposal<Cx>, String> {
        let proposal = Proposal {
            height: Height(self.height),
            round: round(self.round)?,
            block: Block::decode(self.block.clone())?,
            pol_round: round(self.pol_round)?,
            proposer: NodeId(self.proposer),
        };
        Ok(SignedMessage::new(proposal, signature(&self.signature)))
    }
}

impl From<&CommitCertificate<Cx>> for CertificateForm {
    fn from(certificate: &CommitCertificate<Cx>) -> Self {
        let signatures = &certificate.commit_signatures;
        Self {
            height: certificate.height.0,
            round: certificate.round.as_i64(),
            value: certificate.value_id,
            signatures: signatures.iter().map(|s| (s.address.0, sig(&s.signature))).collect(),
        }
    }
}

impl From<&PolkaCertificate<Cx>> for CertificateForm {
    fn from(certificate: &PolkaCertificate<Cx>) -> Self {
        let signatures = &certificate.polka_signatures;
        Self {
            height: certificate.height.0,
            round: certificate.round.as_i64(),
            value: certificate.value_id,
            signatures: signatures.iter().map(|s| (s.address.0, sig(&s.signature))).collect(),
        }
    }
}

impl CertificateForm {
    pub(crate) fn encode(&self) -> Bytes {
        rmp_serde::to_vec_named(self).expect("certificates are plain data").into()
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        rmp_serde::from_slice(bytes).map_err(|e| e.to_string())
    }

    pub(crate) fn commit(&self) -> Result<CommitCertificate<Cx>, String> {
        let signatures = self.signatures.iter();
        Ok(CommitCertificate {
            height: Height(self.height),
            round: round(self.round)?,
            value_id: self.value,
            commit_signatures: signatures
                .map(|(address, s)| CommitSignature::new(NodeId(*address), signature(s)))
                .collect(),
        })
    }

    pub(crate) fn polka(&self) -> Result<PolkaCertificate<Cx>, String> {
        let signatures = self.signatures.iter();
        Ok(PolkaCertificate {
            height: Height(self.height),
            round: round(self.round)?,
            value_id: self.value,
            polka_signatures: signatures
                .map(|(address, s)| PolkaSignature::new(NodeId(*address), signature(s)))
                .collect(),
        })
    }
}

impl From<&RoundCertificate<Cx>> for RoundForm {
    fn from(certificate: &RoundCertificate<Cx>) -> Self {
        let signatures = certificate.round_signatures.iter().map(|s| {
            let precommit = s.vote_type == VoteType::Precommit;
            (precommit, optional(&s.value_id), s.address.0, sig(&s.signature))
        });
        Self {
            height: certificate.height.0,
            round: certificate.round.as_i64(),
            skip: certificate.cert_type == RoundCertificateType::Skip,
            signatures: signatures.collect(),
        }
    }
}

impl RoundForm {
    pub(crate) fn decode(&self) -> Result<RoundCertificate<Cx>, String> {
        let signatures = self.signatures.iter().map(|(precommit, value, address, s)| {
            RoundSignature::new(kind(*precommit), nil_or(*value), NodeId(*address), signature(s))
        });
        Ok(RoundCertificate {
            height: Height(self.height),
            round: round(self.round)?,
            cert_type: if self.skip { RoundCertificateType::Skip } else { RoundCertificateType::Precommit },
            round_signatures: signatures.collect(),
        })
    }
}

/// The log's form of an input.
///
/// # Errors
/// The core asked to keep an input that this version cannot keep; the node must stop.
pub(crate) fn encode_record(input: &Input<Cx>) -> Result<Vec<u8>, String> {
    let record = match input {
        Input::Vote(vote) => Record::Vote(vote.into()),
        Input::Proposal(proposal) => Record::Proposal(proposal.into()),
        Input::PolkaCertificate(certificate) => Record::Polka(certificate.into()),
        Input::ProposedValue(value, _) => Record::Value {
            height: value.height.0,
            round: value.round.as_i64(),
            valid_round: value.valid_round.as_i64(),
            proposer: value.proposer.0,
            block: value.value.raw().clone(),
            valid: value.validity.is_valid(),
        },
        Input::TimeoutElapsed(timeout) => {
            let kind = match timeout.kind {
                TimeoutKind::Propose => 1,
                TimeoutKind::Prevote => 2,
                TimeoutKind::Precommit => 3,
                TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => {
                    return Err(format!("timeout {:?} is not kept", timeout.kind));
                }
            };
            Record::Timeout { kind, round: timeout.round.as_i64() }
        }
        Input::StartHeight(..) | Input::RoundCertificate(_) | Input::Propose(_) | Input::SyncValueResponse(_) => {
            return Err("this input is never kept".to_owned());
        }
    };
    rmp_serde::to_vec_named(&record).map_err(|e| e.to_string())
}

/// The input that a record stands for.
///
/// # Errors
/// The record passed its CRC but cannot be read; the node must stop rather than guess.
pub(crate) fn decode_record(bytes: &[u8]) -> Result<Input<Cx>, String> {
    Ok(match rmp_serde::from_slice(bytes).map_err(|e| e.to_string())? {
        Record::Vote(form) => Input::Vote(form.decode()?),
        Record::Proposal(form) => Input::Proposal(form.decode()?),
        Record::Polka(form) => Input::PolkaCertificate(form.polka()?),
        Record::Value { height, round: r, valid_round, proposer, block, valid } => {
            let value = ProposedValue {
                height: Height(height),
                round: round(r)?,
                valid_round: round(valid_round)?,
                proposer: NodeId(proposer),
                value: Block::decode(block)?,
                validity: if valid { Validity::Valid } else { Validity::Invalid },
            };
            Input::ProposedValue(value, ValueOrigin::Consensus)
        }
        Record::Timeout { kind, round: r } => {
            let kind = match kind {
                1 => TimeoutKind::Propose,
                2 => TimeoutKind::Prevote,
                3 => TimeoutKind::Precommit,
                other => return Err(format!("timeout kind {other}")),
            };
            Input::TimeoutElapsed(Timeout::new(round(r)?, kind))
        }
    })
}
