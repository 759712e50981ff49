//! The laws, checked on all that leaves an honest node and on all that is stored.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::B256;

use super::super::wire::Message;
use crate::block::Block;
use crate::keys::NodeId;

/// What honest nodes signed and stored so far.
#[derive(Default)]
pub(super) struct Laws {
    /// What each signer said, by height, round and kind.
    said: BTreeMap<(NodeId, u64, i64, &'static str), Vec<u8>>,
    /// The one block of each height.
    chain: BTreeMap<u64, B256>,
    /// All submitted transactions.
    pub(super) submitted: BTreeSet<B256>,
    /// Those of them that are proposals of members, not transfers.
    pub(super) proposals: BTreeSet<B256>,
    /// Transactions of the chain and their heights.
    pub(super) included: BTreeMap<B256, u64>,
    /// The first law that was broken.
    pub(super) broken: Option<String>,
}

impl Laws {
    fn break_law(&mut self, reason: String) {
        self.broken.get_or_insert(reason);
    }

    /// A message leaves `from`.
    pub(super) fn on_sent(&mut self, from: NodeId, message: &Message, chain: &B256) {
        let (signer, height, round, kind, value) = match message {
            Message::Vote(form) => {
                let vote = form.decode().unwrap().message;
                let kind = match vote.kind {
                    arc_malachitebft_core_types::VoteType::Prevote => "prevote",
                    arc_malachitebft_core_types::VoteType::Precommit => "precommit",
                };
                (vote.voter, vote.height.0, vote.round.as_i64(), kind, vote.sign_bytes(chain))
            }
            Message::Proposal(form) => {
                let proposal = form.decode().unwrap().message;
                let bytes = proposal.sign_bytes(chain);
                (proposal.proposer, proposal.height.0, proposal.round.as_i64(), "proposal", bytes)
            }
            _ => return,
        };
        if signer != from {
            return;
        }
        let first = self.said.entry((signer, height, round, kind)).or_insert_with(|| value.clone());
        if *first != value {
            self.break_law(format!("equivocation: {signer} signed two {kind}s at height {height}, round {round}"));
        }
    }

    /// An honest node has stored a block.
    pub(super) fn on_stored(&mut self, by: NodeId, block: &Block) {
        let (height, hash) = (block.number(), block.hash());
        match self.chain.get(&height) {
            Some(known) if *known != hash => {
                let known = *known;
                self.break_law(format!("fork: {by} stored {hash} at height {height}, another node {known}"));
            }
            Some(_) => {}
            None => {
                self.chain.insert(height, hash);
                for tx in block.transactions() {
                    let hash = *tx.tx_hash();
                    if !self.submitted.contains(&hash) {
                        self.break_law(format!("validity: {hash} at height {height} was never submitted"));
                    }
                    if let Some(before) = self.included.insert(hash, height) {
                        self.break_law(format!("validity: {hash} at heights {before} and {height}"));
                    }
                }
            }
        }
    }

    pub(super) fn height(&self) -> u64 {
        self.chain.last_key_value().map_or(0, |(height, _)| *height)
    }

    pub(super) fn last_hash(&self) -> B256 {
        self.chain.last_key_value().map_or(B256::ZERO, |(_, hash)| *hash)
    }
}
