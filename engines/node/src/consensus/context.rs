//! Our types as Malachite's core wants them.
//!
//! What is signed begins with a tag and the chain's identity (the hash of block 0), so that a
//! signature of one chain or message kind is worthless in another. The proposer of height `h`,
//! round `r` is validator `(h + r) mod n` in the order of node ids; voting power does not weigh
//! the rotation.

use std::fmt;
use std::sync::Arc;

use alloy_primitives::B256;
use arc_malachitebft_core_types as ct;
use arc_malachitebft_signing_ed25519 as ed;
use ct::{NilOrVal, Round, SignedExtension, VoteType};

use crate::block::Block;
use crate::genesis::GenesisValidator;
use crate::keys::NodeId;

impl ct::Address for NodeId {}

/// A block number under consensus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Height(pub(crate) u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl ct::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);
    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }
    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl ct::Value for Block {
    type Id = B256;
    fn id(&self) -> B256 {
        self.hash()
    }
}

/// A proposal: the full block travels in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) block: Block,
    pub(crate) pol_round: Round,
    pub(crate) proposer: NodeId,
}

impl Proposal {
    /// What the proposer signs.
    pub(crate) fn sign_bytes(&self, chain: &B256) -> Vec<u8> {
        proposal_sign_bytes(chain, self.height, self.round, self.pol_round, &self.block.hash(), &self.proposer)
    }
}

/// What the proposer of a block with this hash signs.
pub(crate) fn proposal_sign_bytes(
    chain: &B256,
    height: Height,
    round: Round,
    pol_round: Round,
    block: &B256,
    proposer: &NodeId,
) -> Vec<u8> {
    let mut bytes = b"hanse/proposal/1".to_vec();
    bytes.extend_from_slice(chain.as_slice());
    bytes.extend_from_slice(&height.0.to_be_bytes());
    bytes.extend_from_slice(&round.as_i64().to_be_bytes());
    bytes.extend_from_slice(&pol_round.as_i64().to_be_bytes());
    bytes.extend_from_slice(block.as_slice());
    bytes.extend_from_slice(proposer.0.as_slice());
    bytes
}

impl ct::Proposal<Cx> for Proposal {
    fn height(&self) -> Height {
        self.height
    }
    fn round(&self) -> Round {
        self.round
    }
    fn value(&self) -> &Block {
        &self.block
    }
    fn take_value(self) -> Block {
        self.block
    }
    fn pol_round(&self) -> Round {
        self.pol_round
    }
    fn validator_address(&self) -> &NodeId {
        &self.proposer
    }
}

/// Blocks are not streamed in parts; the core asks for the type all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoPart;

impl ct::ProposalPart<Cx> for NoPart {
    fn is_first(&self) -> bool {
        true
    }
    fn is_last(&self) -> bool {
        true
    }
}

/// A prevote or precommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: NilOrVal<B256>,
    pub(crate) kind: VoteType,
    pub(crate) voter: NodeId,
}

impl Vote {
    /// What the voter signs.
    pub(crate) fn sign_bytes(&self, chain: &B256) -> Vec<u8> {
        let mut bytes = b"hanse/vote/1".to_vec();
        bytes.extend_from_slice(chain.as_slice());
        bytes.push(match self.kind {
            VoteType::Prevote => 1,
            VoteType::Precommit => 2,
        });
        bytes.extend_from_slice(&self.height.0.to_be_bytes());
        bytes.extend_from_slice(&self.round.as_i64().to_be_bytes());
        bytes.extend_from_slice(self.voter.0.as_slice());
        match &self.value {
            NilOrVal::Nil => bytes.push(0),
            NilOrVal::Val(id) => {
                bytes.push(1);
                bytes.extend_from_slice(id.as_slice());
            }
        }
        bytes
    }
}

impl ct::Vote<Cx> for Vote {
    fn height(&self) -> Height {
        self.height
    }
    fn round(&self) -> Round {
        self.round
    }
    fn value(&self) -> &NilOrVal<B256> {
        &self.value
    }
    fn take_value(self) -> NilOrVal<B256> {
        self.value
    }
    fn vote_type(&self) -> VoteType {
        self.kind
    }
    fn validator_address(&self) -> &NodeId {
        &self.voter
    }
    fn extension(&self) -> Option<&SignedExtension<Cx>> {
        None
    }
    fn take_extension(&mut self) -> Option<SignedExtension<Cx>> {
        None
    }
    fn extend(self, _extension: SignedExtension<Cx>) -> Self {
        self
    }
}

/// One validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validator {
    pub(crate) id: NodeId,
    pub(crate) key: ed::PublicKey,
    pub(crate) power: u64,
}

impl ct::Validator<Cx> for Validator {
    fn address(&self) -> &NodeId {
        &self.id
    }
    fn public_key(&self) -> &ed::PublicKey {
        &self.key
    }
    fn voting_power(&self) -> u64 {
        self.power
    }
}

/// The validators in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validators(Arc<Vec<Validator>>);

impl Validators {
    /// The validators of a checked genesis, or of a decided change.
    pub(crate) fn of(validators: &[GenesisValidator]) -> Self {
        let mut all: Vec<_> = validators
            .iter()
            .filter_map(|v| {
                let key = v.public_key.verifying()?;
                Some(Validator { id: v.public_key.node_id(), key, power: v.power })
            })
            .collect();
        all.sort_by_key(|v| v.id);
        Self(Arc::new(all))
    }

    #[cfg(test)]
    pub(crate) fn new(mut all: Vec<Validator>) -> Self {
        all.sort_by_key(|v| v.id);
        Self(Arc::new(all))
    }

    /// Who they are, in order of their ids.
    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.0.iter().map(|v| v.id).collect()
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<&Validator> {
        self.0.iter().find(|v| v.id == *id)
    }
}

impl ct::ValidatorSet<Cx> for Validators {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn total_voting_power(&self) -> u64 {
        self.0.iter().map(|v| v.power).sum()
    }
    fn get_by_address(&self, address: &NodeId) -> Option<&Validator> {
        self.get(address)
    }
    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.0.get(index)
    }
}

/// The core's view of our types.
#[derive(Clone, Debug)]
pub(crate) struct Cx;

impl ct::Context for Cx {
    type Address = NodeId;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = Validators;
    type Timeouts = ct::LinearTimeouts;
    type Value = Block;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = ed::Ed25519;

    fn select_proposer<'a>(&self, set: &'a Validators, height: Height, round: Round) -> &'a Validator {
        let turn = height.0.wrapping_add(u64::from(round.as_u32().unwrap_or(0)));
        &set.0[(turn % set.0.len() as u64) as usize]
    }

    fn new_proposal(&self, height: Height, round: Round, block: Block, pol_round: Round, proposer: NodeId) -> Proposal {
        Proposal { height, round, block, pol_round, proposer }
    }

    fn new_prevote(&self, height: Height, round: Round, value: NilOrVal<B256>, voter: NodeId) -> Vote {
        Vote { height, round, value, kind: VoteType::Prevote, voter }
    }

    fn new_precommit(&self, height: Height, round: Round, value: NilOrVal<B256>, voter: NodeId) -> Vote {
        Vote { height, round, value, kind: VoteType::Precommit, voter }
    }
}
