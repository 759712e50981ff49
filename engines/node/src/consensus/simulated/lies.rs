//! What an equivocator says beside what its two nodes say: contradictions of its own votes, heights that it does not
//! have, and blocks that nobody decided.

use alloy_primitives::B256;
use arc_malachitebft_core_types as ct;

use super::run::World;
use crate::consensus::context::{Height, Vote};
use crate::consensus::wire::{BlockForm, CertificateForm, Message, VoteForm};
use crate::exec;

impl World {
    /// An equivocator contradicts its own vote, and claims blocks that it does not have.
    pub(super) fn lie(&mut self, from: usize, to: usize, message: &Message) {
        if let Message::Vote(form) = message
            && self.rng.chance(30)
        {
            let mut vote = form.decode().unwrap().message;
            vote.value = ct::NilOrVal::Val(B256::repeat_byte(self.rng.below(256) as u8));
            let signature = self.nodes[from].key.signing().sign(&vote.sign_bytes(&self.chain));
            let signed = ct::SignedMessage::new(vote, signature);
            self.report.contradictions += 1;
            self.route(from, to, Message::Vote(VoteForm::from(&signed)).encode());
        }
        if let Message::Status { height } = message {
            self.route(from, to, Message::Status { height: height + 2 }.encode());
        }
    }

    /// An equivocator's answer to a node that wants the block after its own newest: one that nobody decided.
    pub(super) fn forge(&mut self, node: usize) -> Option<Message> {
        let shared = self.nodes[node].shared()?;
        let snapshot = shared.store.snapshot().unwrap();
        let me = self.nodes[node].id().0;
        let time = shared.clock.wall_ms();
        let (block, _) = exec::build(&snapshot, &shared.rules, me, time, std::iter::empty()).unwrap();
        let vote = Vote {
            height: Height(block.number()),
            round: ct::Round::new(0),
            value: ct::NilOrVal::Val(block.hash()),
            kind: ct::VoteType::Precommit,
            voter: self.nodes[node].id(),
        };
        let signature = self.nodes[node].key.signing().sign(&vote.sign_bytes(&self.chain));
        let certificate = ct::CommitCertificate {
            height: vote.height,
            round: vote.round,
            value_id: block.hash(),
            commit_signatures: vec![ct::CommitSignature::new(vote.voter, signature)],
        };
        let certificate = CertificateForm::from(&certificate).encode();
        self.report.forged += 1;
        Some(Message::Blocks(vec![BlockForm { block: block.raw().clone(), certificate }]))
    }
}
