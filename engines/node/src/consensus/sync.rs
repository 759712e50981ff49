//! Catch-up: blocks that this node missed, from peers that have them.
//!
//! A peer's height is known from its announcements. One request at a time; each answer's blocks
//! are taken in order, each only with a commit certificate that proves it and after execution
//! gives its own header. So a lying peer can waste time but never change the chain. The core is
//! passed by: a certificate proves what the core would decide, and the next height starts it anew.

use std::time::{Duration, Instant};

use arc_malachitebft_core_types as ct;
use ct::{CommitCertificate, NilOrVal, SignedMessage, VoteType};

use super::cert;
use super::context::{Cx, Vote};
use super::driver::Driver;
use super::wire::{BlockForm, CertificateForm, Message};
use crate::NodeError;
use crate::block::Block;
use crate::keys::NodeId;
use crate::net::listen::BLOCKS_MAX;

/// One block behind is normal for a moment: the votes may still be on their way.
const GRACE: Duration = Duration::from_millis(700);
/// An unanswered request goes to another peer after this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two answers, the height after the first is not started yet.
const PAUSE: Duration = Duration::from_millis(500);

/// What catch-up is waiting for.
#[derive(Default)]
pub(crate) struct Sync {
    behind_since: Option<Instant>,
    pub(super) asked: Option<(NodeId, Instant)>,
    turn: usize,
}

impl Driver {
    /// Asks a peer for blocks if it has any that this node lacks.
    pub(super) fn sync_tick(&mut self, now: Instant) {
        let head = self.head.number();
        let net = &self.host.shared.net;
        let ahead: Vec<_> = net.peers().filter(|peer| peer.is_outbound() && peer.height() > head).collect();
        let best = ahead.iter().map(|peer| peer.height()).max().unwrap_or(head);
        self.host.shared.status().syncing = best > head + 1;
        if ahead.is_empty() {
            self.sync.behind_since = None;
            return;
        }
        let since = *self.sync.behind_since.get_or_insert(now);
        let waiting = self.sync.asked.is_some_and(|(_, at)| now.duration_since(at) < ANSWER_TIMEOUT);
        if waiting || (best == head + 1 && now.duration_since(since) < GRACE) {
            return;
        }
        self.sync.turn = self.sync.turn.wrapping_add(1);
        let peer = ahead[self.sync.turn % ahead.len()].config.node_id;
        self.sync.asked = Some((peer, now));
        net.send(&peer, &Message::GetBlocks { from: head + 1, count: BLOCKS_MAX });
    }

    /// Takes the blocks of an answer.
    pub(super) fn on_blocks(&mut self, from: NodeId, list: Vec<BlockForm>) -> Result<(), NodeError> {
        if self.sync.asked.is_none_or(|(peer, _)| peer != from) {
            return Ok(());
        }
        self.sync.asked = None;
        let before = self.head.number();
        for form in list.iter().take(BLOCKS_MAX as usize) {
            // The next block is not for this program to judge.
            if self.halted.is_some() {
                break;
            }
            if let Err(reason) = self.take_block(form)? {
                tracing::warn!(peer = %from, reason, "a peer's block is refused");
                // Not asked again until it announces a block anew.
                if let Some(peer) = self.host.shared.net.peer(&from) {
                    peer.said_height(0);
                }
                break;
            }
        }
        let height = self.head.number();
        if height > before {
            tracing::info!(from = before + 1, to = height, peer = %from, "caught up by blocks of a peer");
            self.sync.behind_since = None;
            self.host.shared.net.broadcast(&Message::Status { height }, None);
            let best = self.host.shared.net.peers().map(|p| p.height()).max().unwrap_or(0);
            let pause = if best > height { PAUSE } else { Duration::ZERO };
            self.start_at = Some(self.now() + pause);
        }
        Ok(())
    }

    /// Verifies, executes and stores one block; the inner error is the peer's fault.
    fn take_block(&mut self, form: &BlockForm) -> Result<Result<(), String>, NodeError> {
        let proven = self.prove(form);
        let (block, certificate) = match proven {
            Ok(Some(proven)) => proven,
            Ok(None) => return Ok(Ok(())),
            Err(reason) => return Ok(Err(reason)),
        };
        match self.execute(&block)? {
            Ok(executed) => {
                self.compare_votes(&certificate)?;
                self.commit(block, &form.certificate, &executed)?;
                Ok(Ok(()))
            }
            // Not the peer's fault: more than two thirds stand behind the block.
            Err(reason) => Err(NodeError::Consensus(format!(
                "block {} has a good certificate but this node finds it invalid ({reason}); \
                 compare program versions",
                block.hash()
            ))),
        }
    }

    /// Looks for validators who told this node something else than what they signed in the certificate: one who lies to
    /// each half of the network is found out only here.
    fn compare_votes(&mut self, certificate: &CommitCertificate<Cx>) -> Result<(), NodeError> {
        if self.core.height() != certificate.height {
            return Ok(());
        }
        for signed in &certificate.commit_signatures {
            let vote = Vote {
                height: certificate.height,
                round: certificate.round,
                value: NilOrVal::Val(certificate.value_id),
                kind: VoteType::Precommit,
                voter: signed.address,
            };
            // The core keeps what it finds; all of it is noted below.
            let _ = self.core.record_vote_evidence(SignedMessage::new(vote, signed.signature));
        }
        self.note_evidence()
    }

    /// The block and its certificate if it is the next one and the certificate is good; `None` if it is here already.
    fn prove(&self, form: &BlockForm) -> Result<Option<(Block, CommitCertificate<Cx>)>, String> {
        let block = Block::decode(form.block.clone())?;
        let next = self.head.number() + 1;
        if block.number() < next {
            return Ok(None);
        }
        if block.number() > next {
            return Err(format!("block {} does not follow {}", block.number(), next - 1));
        }
        let certificate = CertificateForm::read(&form.certificate)?.commit()?;
        if certificate.height.0 != block.number() || certificate.value_id != block.hash() {
            return Err("the certificate is of another block".to_owned());
        }
        let chain = &self.host.shared.chain;
        cert::verify_commit(chain, &certificate, &self.host.validators, Default::default())
            .map_err(|e| e.to_string())?;
        Ok(Some((block, certificate)))
    }
}
