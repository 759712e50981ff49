//! Answers the effects of Malachite's core, all in one match.
//!
//! Order is what makes it safe: the log is synced before any message leaves, and a failure to do so
//! stops the node before the message. While the log is replayed, what is in it already is not
//! appended again, and a request for a value waits until the replay is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use arc_malachitebft_core_consensus as cc;
use arc_malachitebft_core_types as ct;
use cc::{ConsensusMsg, Effect, Input, LivenessMsg, LocallyProposedValue, Resumable, Resume, SignedConsensusMsg};
use ct::{CommitCertificate, LinearTimeouts, Round, SignedMessage, Timeout, TimeoutKind};

use super::cert;
use super::context::{Cx, Height, Validators};
use super::wire::{self, Message};
use crate::NodeError;
use crate::block::Block;
use crate::exec::{self, Executed};
use crate::keys::NodeKey;
use crate::node::Shared;
use crate::wal::Log;

/// Own messages of the current height that a newly connected peer is told again.
const SAID_MAX: usize = 256;
/// Transactions considered for one block.
const CANDIDATES_MAX: usize = 5_000;

/// A block of the current height and what this node found out about it.
pub(super) struct Known {
    pub(super) block: Block,
    /// `None` if it came from the log and was not executed since.
    pub(super) verdict: Option<Result<Executed, String>>,
}

/// Everything the core's effects touch.
pub(super) struct Host {
    pub(super) shared: Arc<Shared>,
    pub(super) key: NodeKey,
    /// Who votes on the height under way, or the next while none is.
    pub(super) validators: Validators,
    /// Who votes on the one after.
    pub(super) following: Validators,
    pub(super) wal: Box<dyn Log>,
    timeouts: LinearTimeouts,
    /// Timeouts under way; a handful, so a list will do.
    timers: Vec<(Instant, Timeout)>,
    /// Inputs for the core that its own effects or the network brought about.
    pub(super) queue: VecDeque<Input<Cx>>,
    /// Blocks of the current height by hash, bounded by the driver.
    pub(super) blocks: BTreeMap<B256, Known>,
    /// What this node said at the current height, bounded by [`SAID_MAX`].
    pub(super) said: Vec<Message>,
    /// While the log is replayed: its records.
    pub(super) replayed: Option<BTreeSet<Vec<u8>>>,
    /// A value that the core asked for during the replay.
    pub(super) wanted: Option<(Height, Round)>,
    /// What the core decided and the driver has not stored yet.
    pub(super) decided: Option<CommitCertificate<Cx>>,
    /// Set once; nothing leaves the node after.
    pub(super) fatal: Option<NodeError>,
}

impl Host {
    pub(super) fn new(
        shared: Arc<Shared>,
        key: NodeKey,
        (validators, following): (Validators, Validators),
        wal: Box<dyn Log>,
        block_time: Duration,
    ) -> Self {
        Self {
            shared,
            key,
            validators,
            following,
            wal,
            timeouts: timeouts(block_time),
            timers: Vec::new(),
            queue: VecDeque::new(),
            blocks: BTreeMap::new(),
            said: Vec::new(),
            replayed: None,
            wanted: None,
            decided: None,
            fatal: None,
        }
    }

    /// Who votes on `height`, where `next` is the height after the newest block. Further ahead no one knows yet; the
    /// core checks again when that height has come.
    pub(super) fn validators_at(&self, height: u64, next: u64) -> &Validators {
        if height <= next { &self.validators } else { &self.following }
    }

    /// When the next timeout elapses.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.iter().map(|(at, _)| *at).min()
    }

    /// Turns elapsed timeouts into inputs.
    pub(super) fn fire_timers(&mut self, now: Instant) {
        let timers = std::mem::take(&mut self.timers);
        let (due, later): (Vec<_>, Vec<_>) = timers.into_iter().partition(|(at, _)| *at <= now);
        self.timers = later;
        self.queue.extend(due.into_iter().map(|(_, timeout)| Input::TimeoutElapsed(timeout)));
    }

    /// Forgets the height that has ended.
    pub(super) fn leave_height(&mut self) {
        self.timers.clear();
        self.queue.clear();
        self.blocks.clear();
        self.wanted = None;
        self.decided = None;
    }

    /// Answers one effect; longer than other functions, because all effects are in one match and a
    /// new one cannot be overlooked. Failures that make going on unsafe are kept in `fatal`.
    pub(super) fn effect(&mut self, effect: Effect<Cx>) -> Result<Resume<Cx>, NodeError> {
        let chain = self.shared.chain;
        Ok(match effect {
            Effect::CancelAllTimeouts(r) => {
                self.timers.clear();
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                self.timers.retain(|(_, other)| *other != timeout);
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                self.schedule(timeout);
                r.resume_with(())
            }
            Effect::StartRound(height, round, proposer, _role, r) => {
                tracing::debug!(%height, %round, %proposer, "round starts");
                self.shared.status().round = round.as_u32().unwrap_or(0);
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(message, r) => {
                self.publish(match &message {
                    SignedConsensusMsg::Vote(vote) => Message::Vote(vote.into()),
                    SignedConsensusMsg::Proposal(proposal) => Message::Proposal(proposal.into()),
                });
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(message, r) => {
                self.publish(match &message {
                    LivenessMsg::Vote(vote) => Message::Vote(vote.into()),
                    LivenessMsg::PolkaCertificate(c) => Message::Polka(c.into()),
                    LivenessMsg::SkipRoundCertificate(c) => Message::Round(c.into()),
                });
                r.resume_with(())
            }
            Effect::RepublishVote(vote, r) => {
                self.republish(Message::Vote((&vote).into()));
                r.resume_with(())
            }
            Effect::RepublishRoundCertificate(certificate, r) => {
                self.republish(Message::Round((&certificate).into()));
                r.resume_with(())
            }
            Effect::GetValue(height, round, _timeout, r) => {
                if self.replayed.is_some() {
                    self.wanted = Some((height, round));
                } else {
                    self.propose(height, round);
                }
                r.resume_with(())
            }
            // The block travels inside each proposal, so there is nothing to stream again.
            Effect::RestreamProposal(_, _, _, _, _, r) => r.resume_with(()),
            // Catch-up goes past the core (`sync`), so it never sees a synced value.
            Effect::CertVerifiedSyncValue(response, _, r) => {
                tracing::warn!(height = %response.certificate.height, "an unexpected synced value");
                r.resume_with(())
            }
            Effect::CertRejectedSyncValue(_, height, error, r) => {
                tracing::warn!(%height, %error, "an unexpected synced value");
                r.resume_with(())
            }
            Effect::Decide(certificate, _, r) => {
                tracing::debug!(height = %certificate.height, round = %certificate.round, "decided");
                r.resume_with(())
            }
            // Evidence is noted as soon as the core has it (`Driver::note_evidence`).
            Effect::Finalize(certificate, _, _evidence, r) => {
                self.decided = Some(certificate);
                r.resume_with(())
            }
            Effect::SignVote(vote, r) => {
                let signature = self.key.signing().sign(&vote.sign_bytes(&chain));
                r.resume_with(SignedMessage::new(vote, signature))
            }
            Effect::SignProposal(proposal, r) => {
                let signature = self.key.signing().sign(&proposal.sign_bytes(&chain));
                r.resume_with(SignedMessage::new(proposal, signature))
            }
            Effect::VerifySignature(signed, key, r) => {
                let bytes = match &signed.message {
                    ConsensusMsg::Vote(vote) => vote.sign_bytes(&chain),
                    ConsensusMsg::Proposal(proposal) => proposal.sign_bytes(&chain),
                };
                r.resume_with(key.verify(&bytes, &signed.signature).is_ok())
            }
            Effect::VerifyCommitCertificate(c, set, thresholds, r) => {
                r.resume_with(cert::verify_commit(&chain, &c, &set, thresholds))
            }
            Effect::VerifyExtendedCommitCertificate(c, set, thresholds, _policy, r) => {
                let bare = c.trim_vote_extensions();
                r.resume_with(cert::verify_commit(&chain, &bare, &set, thresholds))
            }
            Effect::VerifyPolkaCertificate(c, set, thresholds, r) => {
                r.resume_with(cert::verify_polka(&chain, &c, &set, thresholds))
            }
            Effect::VerifyRoundCertificate(c, set, thresholds, r) => {
                r.resume_with(cert::verify_round(&chain, &c, &set, thresholds))
            }
            Effect::WalAppend(_, input, r) => {
                self.keep(&input);
                r.resume_with(())
            }
            // Vote extensions are disabled in every StartHeight.
            Effect::ExtendVote(_, _, _, _, r) => r.resume_with(None),
            Effect::VerifyVoteExtension(_, _, _, _, _, _, r) => {
                r.resume_with(Err(cc::VoteExtensionError::InvalidVoteExtension))
            }
        })
    }

    fn schedule(&mut self, timeout: Timeout) {
        let duration = match timeout.kind {
            TimeoutKind::FinalizeHeight(duration) => duration,
            _ => self.timeouts.duration_for(timeout),
        };
        self.timers.retain(|(_, other)| *other != timeout);
        self.timers.push((self.shared.clock.now() + duration, timeout));
    }

    /// Appends an input to the log, unless the log holds it already.
    fn keep(&mut self, input: &Input<Cx>) {
        let appended = match wire::encode_record(input) {
            Ok(record) if self.replayed.as_ref().is_some_and(|old| old.contains(&record)) => Ok(()),
            Ok(record) => self.wal.append(&record),
            Err(reason) => Err(NodeError::Consensus(reason)),
        };
        if let Err(error) = appended {
            self.fatal.get_or_insert(error);
        }
    }

    /// Syncs the log, then sends to all peers and remembers for those that connect later.
    pub(super) fn publish(&mut self, message: Message) {
        if self.fatal.is_none()
            && let Err(error) = self.shared.metrics.log_sync.time(|| self.wal.sync())
        {
            self.fatal = Some(error);
        }
        if self.fatal.is_some() {
            return;
        }
        self.shared.net.broadcast(&message, None);
        if self.said.len() < SAID_MAX {
            self.said.push(message);
        }
    }

    /// Sends again what was published before, and the newest own proposal with it: the core repeats
    /// votes only, but a peer that missed the block cannot vote for it.
    fn republish(&mut self, message: Message) {
        if self.fatal.is_some() {
            return;
        }
        let proposal = self.said.iter().rev().find(|m| matches!(m, Message::Proposal(_)));
        if let Some(proposal) = proposal {
            self.shared.net.broadcast(proposal, None);
        }
        self.shared.net.broadcast(&message, None);
    }

    /// Builds a block and proposes it.
    pub(super) fn propose(&mut self, height: Height, round: Round) {
        match self.build() {
            Ok((block, executed)) => {
                let known = Known { block: block.clone(), verdict: Some(Ok(executed)) };
                self.blocks.insert(block.hash(), known);
                let value = LocallyProposedValue::new(height, round, block);
                self.queue.push_back(Input::Propose(value));
            }
            Err(error) => {
                self.fatal.get_or_insert(error);
            }
        }
    }

    fn build(&self) -> Result<(Block, Executed), NodeError> {
        let snapshot = self.shared.store.snapshot()?;
        let ready = self.shared.mempool.ready(CANDIDATES_MAX);
        let me = self.key.node_id().0;
        let now = self.shared.clock.wall_ms();
        let _timer = self.shared.metrics.execution.start();
        exec::build(&snapshot, &self.shared.rules, me, now, ready.into_iter())
    }
}

/// Small beside the block time, so that one dead proposer in four does not stall the chain.
fn timeouts(block_time: Duration) -> LinearTimeouts {
    LinearTimeouts {
        propose: (block_time * 2).max(Duration::from_secs(1)),
        propose_delta: Duration::from_millis(500),
        prevote: Duration::from_millis(300),
        prevote_delta: Duration::from_millis(200),
        precommit: Duration::from_millis(300),
        precommit_delta: Duration::from_millis(200),
        rebroadcast: Duration::from_secs(1),
        max_timeout: Duration::from_secs(15),
    }
}
