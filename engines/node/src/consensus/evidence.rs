//! Evidence of equivocation: two messages of one validator for one height, round and kind that cannot both be honest.
//!
//! The core detects the pair; here it is verified (both signatures, by a validator of that height), cut down to what
//! anyone needs to verify it again (a proposal's block is not kept, its hash is what was signed), and stored for good,
//! at most [`PER_VALIDATOR_MAX`] pairs a validator. It never punishes: removing a validator is the members' decision.

use alloy_primitives::{Address, B256, Bytes, FixedBytes};
use arc_malachitebft_core_types as ct;
use arc_malachitebft_signing_ed25519::Signature;
use ct::{NilOrVal, Round, SignedProposal, SignedVote, VoteType};
use serde::{Deserialize, Serialize};

use super::context::{Cx, Height, Validators, Vote, proposal_sign_bytes};
use crate::keys::NodeId;

/// Pairs kept of one validator; one proves the fault, some more show how long it went on.
pub(crate) const PER_VALIDATOR_MAX: usize = 16;
/// The format's version.
const VERSION: u32 = 1;

/// What kind of message was signed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Prevote,
    Precommit,
    Proposal,
}

/// Two contradicting messages of one validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// Format version, 1.
    version: u32,
    pub(crate) kind: Kind,
    pub(crate) height: u64,
    pub(crate) round: i64,
    validator: Address,
    pub(crate) first: Signed,
    pub(crate) second: Signed,
}

/// What differs between the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signed {
    /// The block's hash; `None` is a vote for nil.
    pub(crate) value: Option<B256>,
    /// Of a proposal: the round of the polka that it repeats, -1 if none. Of a vote: -1.
    pub(crate) pol_round: i64,
    pub(crate) signature: FixedBytes<64>,
}

/// The place of a record in the store: a validator is guilty of one thing once.
pub(crate) type Key = ([u8; 20], u64, i64, u8);

impl Evidence {
    /// Of two votes that the core found.
    pub(crate) fn of_votes(first: &SignedVote<Cx>, second: &SignedVote<Cx>) -> Self {
        let signed = |vote: &SignedVote<Cx>| Signed {
            value: match vote.message.value {
                NilOrVal::Nil => None,
                NilOrVal::Val(id) => Some(id),
            },
            pol_round: -1,
            signature: FixedBytes(vote.signature.to_bytes()),
        };
        let vote = &first.message;
        Self {
            version: VERSION,
            kind: match vote.kind {
                VoteType::Prevote => Kind::Prevote,
                VoteType::Precommit => Kind::Precommit,
            },
            height: vote.height.0,
            round: vote.round.as_i64(),
            validator: vote.voter.0,
            first: signed(first),
            second: signed(second),
        }
    }

    /// Of two proposals that the core found.
    pub(crate) fn of_proposals(first: &SignedProposal<Cx>, second: &SignedProposal<Cx>) -> Self {
        let signed = |proposal: &SignedProposal<Cx>| Signed {
            value: Some(proposal.message.block.hash()),
            pol_round: proposal.message.pol_round.as_i64(),
            signature: FixedBytes(proposal.signature.to_bytes()),
        };
        let proposal = &first.message;
        Self {
            version: VERSION,
            kind: Kind::Proposal,
            height: proposal.height.0,
            round: proposal.round.as_i64(),
            validator: proposal.proposer.0,
            first: signed(first),
            second: signed(second),
        }
    }

    /// Who did it.
    pub(crate) fn validator(&self) -> NodeId {
        NodeId(self.validator)
    }

    pub(crate) fn key(&self) -> Key {
        (self.validator.into_array(), self.height, self.round, self.kind as u8)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("evidence is plain data")
    }

    /// # Errors
    /// The bytes are damaged or of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let read: Self = rmp_serde::from_slice(bytes).map_err(|e| e.to_string())?;
        if read.version == VERSION {
            return Ok(read);
        }
        Err(format!("evidence of version {}, this program reads {VERSION}", read.version))
    }

    /// Whether it proves what it claims: two different messages, both signed by a validator of the height's set.
    pub(crate) fn is_proof(&self, chain: &B256, validators: &Validators) -> bool {
        let differ = (self.first.value, self.first.pol_round) != (self.second.value, self.second.pol_round);
        let Some(validator) = validators.get(&self.validator()) else { return false };
        let signed_by_it = |signed: &Signed| {
            let signature = Signature::from_bytes(signed.signature.0);
            self.sign_bytes(chain, signed).is_some_and(|bytes| validator.key.verify(&bytes, &signature).is_ok())
        };
        differ && signed_by_it(&self.first) && signed_by_it(&self.second)
    }

    /// The very bytes that were signed, for the record's reader.
    pub(crate) fn signed_bytes(&self, chain: &B256, signed: &Signed) -> Bytes {
        self.sign_bytes(chain, signed).unwrap_or_default().into()
    }

    fn sign_bytes(&self, chain: &B256, signed: &Signed) -> Option<Vec<u8>> {
        let round = |value: i64| if value == -1 { Some(Round::Nil) } else { u32::try_from(value).ok().map(Round::new) };
        let (height, at) = (Height(self.height), round(self.round)?);
        let kind = match self.kind {
            Kind::Proposal => {
                let pol = round(signed.pol_round)?;
                return Some(proposal_sign_bytes(chain, height, at, pol, &signed.value?, &self.validator()));
            }
            Kind::Prevote => VoteType::Prevote,
            Kind::Precommit => VoteType::Precommit,
        };
        let value = signed.value.map_or(NilOrVal::Nil, NilOrVal::Val);
        Some(Vote { height, round: at, value, kind, voter: self.validator() }.sign_bytes(chain))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::context::Validator;
    use super::*;
    use crate::keys::NodeKey;
    use crate::store::Store;
    use ct::SignedMessage;

    const CHAIN: B256 = B256::repeat_byte(9);
    /// Frozen: a record as version 1 writes it must stay readable.
    const V1: &str = include_str!("../../tests/frozen/evidence_v1.hex");

    fn vote(key: &NodeKey, height: u64, value: NilOrVal<B256>) -> SignedVote<Cx> {
        let round = Round::new(0);
        let vote = Vote { height: Height(height), round, value, kind: VoteType::Prevote, voter: key.node_id() };
        let signature = key.signing().sign(&vote.sign_bytes(&CHAIN));
        SignedMessage::new(vote, signature)
    }

    fn pair(key: &NodeKey, height: u64) -> Evidence {
        let first = vote(key, height, NilOrVal::Nil);
        Evidence::of_votes(&first, &vote(key, height, NilOrVal::Val(B256::repeat_byte(1))))
    }

    fn set(key: &NodeKey) -> Validators {
        Validators::new(vec![Validator { id: key.node_id(), key: key.public_key().verifying().unwrap(), power: 1 }])
    }

    #[test]
    fn a_true_pair_is_proof_and_nothing_else_is() {
        let (guilty, other) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
        let good = pair(&guilty, 5);
        assert!(good.is_proof(&CHAIN, &set(&guilty)));
        assert!(!good.is_proof(&B256::ZERO, &set(&guilty)), "another chain");
        assert!(!good.is_proof(&CHAIN, &set(&other)), "no validator of that height");
        let same = Evidence { second: good.first.clone(), ..good.clone() };
        assert!(!same.is_proof(&CHAIN, &set(&guilty)), "one message said twice");
        let framed = Evidence { validator: other.node_id().0, ..good.clone() };
        assert!(!framed.is_proof(&CHAIN, &set(&other)), "signed by someone else");
        let moved = Evidence { height: 6, ..good };
        assert!(!moved.is_proof(&CHAIN, &set(&guilty)), "signed for another height");
    }

    #[test]
    fn the_frozen_record_reads_and_writes_back() {
        let bytes = hex::decode(V1.trim()).unwrap();
        let read = Evidence::decode(&bytes).unwrap();
        assert_eq!(read, pair(&NodeKey::from_seed([1; 32]), 5));
        assert_eq!(read.encode(), bytes);
    }

    #[test]
    fn records_survive_and_are_bounded_for_each_validator() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.redb");
        let (guilty, other) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
        let store = Store::open(&path, Default::default()).unwrap();
        for height in 1..=PER_VALIDATOR_MAX as u64 + 5 {
            let stored = store.add_evidence(&pair(&guilty, height)).unwrap();
            assert_eq!(stored, height <= PER_VALIDATOR_MAX as u64, "height {height}");
        }
        assert!(!store.add_evidence(&pair(&guilty, 1)).unwrap(), "known already");
        assert!(store.add_evidence(&pair(&other, 3)).unwrap(), "another validator's bound is its own");
        drop(store);
        let kept = Store::open(&path, Default::default()).unwrap().evidence().unwrap();
        assert_eq!(kept.len(), PER_VALIDATOR_MAX + 1);
        assert!(kept.iter().any(|e| *e == pair(&guilty, PER_VALIDATOR_MAX as u64)));
    }
}
