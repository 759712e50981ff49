//! What peers say: votes, proposals, certificates and blocks are sorted into what counts now, what counts soon and what
//! is refused. What is kept for later is checked first, so that a stranger cannot fill it.

use arc_malachitebft_core_consensus as cc;
use arc_malachitebft_core_types as ct;
use cc::{Input, ProposedValue};
use ct::{Context, Round, SignedProposal, SignedVote, Validity, ValueOrigin};

use super::context::Cx;
use super::driver::Driver;
use super::host::Known;
use super::wire::Message;
use crate::NodeError;
use crate::block::Block;
use crate::exec::{self, BlockError, Executed};
use crate::keys::NodeId;

/// Votes are taken for so many heights ahead; the core buffers them.
const HEIGHTS_AHEAD: u64 = 2;
/// Proposals kept for the next height or two.
const EARLY_MAX: usize = 16;
/// Different blocks executed at one height; honest proposers need one a round.
const BLOCKS_MAX: usize = 64;
/// How far ahead of this node's clock a proposed block's time may be.
const CLOCK_DRIFT_MS: u64 = 10_000;

impl Driver {
    pub(super) fn on_message(&mut self, from: NodeId, message: Message) -> Result<(), NodeError> {
        if self.halted.is_some() {
            return Ok(());
        }
        let next = self.head.number() + 1;
        let running = self.start_at.is_none();
        let decoded = match message {
            Message::Vote(form) => form.decode().map(|vote| {
                let height = vote.message.height.0;
                let wanted = (next..=next + HEIGHTS_AHEAD).contains(&height);
                if wanted && (height == next && running || self.is_a_validators(&vote)) {
                    self.host.queue.push_back(Input::Vote(vote));
                }
            }),
            Message::Proposal(form) => match form.decode() {
                Ok(proposal) => {
                    let height = proposal.message.height.0;
                    if height == next && running {
                        self.on_proposal(proposal)?;
                    } else if (next..=next + 1).contains(&height)
                        && self.early.len() < EARLY_MAX
                        && self.is_the_proposers(&proposal)
                    {
                        self.early.push(proposal);
                    }
                    Ok(())
                }
                Err(reason) => Err(reason),
            },
            Message::Polka(form) => form.polka().map(|certificate| {
                if certificate.height.0 == next && running {
                    self.host.queue.push_back(Input::PolkaCertificate(certificate));
                }
            }),
            Message::Round(form) => form.decode().map(|certificate| {
                if certificate.height.0 == next && running {
                    self.host.queue.push_back(Input::RoundCertificate(certificate));
                }
            }),
            Message::Blocks(list) => {
                self.on_blocks(from, list)?;
                Ok(())
            }
            Message::Status { .. } | Message::Hello { .. } | Message::GetBlocks { .. } | Message::Transactions(_) => {
                Ok(())
            }
        };
        if let Err(reason) = decoded {
            tracing::warn!(peer = %from, reason, "a peer sent what cannot be read");
        }
        Ok(())
    }

    /// Whether the right proposer signed it; what is kept for later must not be anyone's to fill.
    fn is_the_proposers(&self, signed: &SignedProposal<Cx>) -> bool {
        let proposal = &signed.message;
        let validators = self.host.validators_at(proposal.height.0, self.head.number() + 1);
        let expected = Cx.select_proposer(validators, proposal.height, proposal.round);
        let bytes = proposal.sign_bytes(&self.host.shared.chain);
        let right = proposal.round != Round::Nil
            && expected.id == proposal.proposer
            && expected.key.verify(&bytes, &signed.signature).is_ok();
        if !right {
            tracing::warn!(
                proposer = %proposal.proposer, round = %proposal.round,
                "a proposal that is not the proposer's"
            );
        }
        right
    }

    /// Whether a validator signed it. The core checks votes of the running height itself; those it
    /// buffers for later heights it would keep unchecked.
    fn is_a_validators(&self, vote: &SignedVote<Cx>) -> bool {
        let bytes = vote.message.sign_bytes(&self.host.shared.chain);
        let validators = self.host.validators_at(vote.message.height.0, self.head.number() + 1);
        let voter = validators.get(&vote.message.voter);
        voter.is_some_and(|v| v.key.verify(&bytes, &vote.signature).is_ok())
    }

    /// Executes a proposed block and hands proposal and verdict to the core.
    pub(super) fn on_proposal(&mut self, signed: SignedProposal<Cx>) -> Result<(), NodeError> {
        let proposal = &signed.message;
        if proposal.height.0 != self.head.number() + 1 {
            if proposal.height.0 > self.head.number() + 1 && self.early.len() < EARLY_MAX {
                self.early.push(signed);
            }
            return Ok(());
        }
        // Checked before execution, which is dear; the core checks it again.
        if !self.is_the_proposers(&signed) {
            return Ok(());
        }
        let hash = proposal.block.hash();
        if !self.host.blocks.contains_key(&hash) {
            if self.host.blocks.len() >= BLOCKS_MAX {
                tracing::warn!(proposer = %proposal.proposer, "too many blocks proposed at this height");
                return Ok(());
            }
            let verdict = self.judge(&proposal.block)?;
            if let Err(reason) = &verdict {
                tracing::warn!(proposer = %proposal.proposer, block = %hash, reason, "an invalid block was proposed");
            }
            let validity = Validity::from_bool(verdict.is_ok());
            let known = Known { block: proposal.block.clone(), verdict: Some(verdict) };
            self.host.blocks.insert(hash, known);
            let value = ProposedValue {
                height: proposal.height,
                round: proposal.round,
                valid_round: proposal.pol_round,
                proposer: proposal.proposer,
                value: proposal.block.clone(),
                validity,
            };
            self.host.queue.push_back(Input::ProposedValue(value, ValueOrigin::Consensus));
        }
        self.host.queue.push_back(Input::Proposal(signed));
        Ok(())
    }

    fn judge(&self, block: &Block) -> Result<Result<Executed, String>, NodeError> {
        if block.time_ms() > self.host.shared.clock.wall_ms() + CLOCK_DRIFT_MS {
            return Ok(Err("its time is too far ahead of this node's clock".to_owned()));
        }
        self.execute(block)
    }

    /// Executes a block on the newest state: what follows, or the rule it breaks.
    pub(super) fn execute(&self, block: &Block) -> Result<Result<Executed, String>, NodeError> {
        let shared = &self.host.shared;
        let snapshot = shared.store.snapshot()?;
        let pool = Some(&shared.mempool);
        match shared.metrics.execution.time(|| exec::validate(&snapshot, &shared.rules, pool, block)) {
            Ok(executed) => Ok(Ok(executed)),
            Err(BlockError::Invalid(reason)) => Ok(Err(reason)),
            Err(BlockError::Node(error)) => Err(error),
        }
    }
}
