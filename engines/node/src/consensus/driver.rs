//! The consensus thread: feeds the core, stores what it decides, keeps the block time.
//!
//! One thread, one loop ([`Driver::run`]), one queue of events with a bound. Clock, log and events come in from
//! outside, so that a simulated network drives the same code by [`Driver::turn`] and [`Driver::handle`]. Between two heights the core rests at
//! the old one; votes for the next are buffered by the core, proposals here. A height is started
//! only after the block before it is durable. It never waits for a peer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use arc_malachitebft_core_consensus as cc;
use arc_malachitebft_core_types as ct;
use arc_malachitebft_metrics::Metrics;
use cc::{Input, LocallyProposedValue, Params, process};
use ct::{CommitCertificate, SignedProposal, ValuePayload, VoteExtensionPolicy};

use super::context::{Cx, Height, Validators};
use super::evidence::{self, Evidence};
use super::host::{Host, Known};
use super::sync::Sync;
use super::wire::{self, CertificateForm, Message};
use crate::NodeError;
use crate::block::Block;
use crate::exec::Executed;
use crate::governance::Outlook;
use crate::keys::{NodeId, NodeKey};
use crate::net::Event;
use crate::node::Shared;
use crate::room::LOOK_EVERY;
use crate::wal::{Log, Recovered};

/// The loop wakes at least so often, for catch-up and heartbeats.
const TICK: Duration = Duration::from_millis(100);
/// How often the height is told to all peers.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The core's buffer: heights and inputs per height.
const BUFFER: (usize, usize) = (4, 512);
/// Waiting transactions that a newly connected peer is told.
const SAMPLE_MAX: usize = 512;

/// The consensus thread's state.
pub(crate) struct Driver {
    pub(super) core: cc::State<Cx>,
    metrics: Metrics,
    pub(super) host: Host,
    pub(super) sync: Sync,
    /// The newest stored block.
    pub(super) head: Block,
    /// When the next height starts; `None` while one is under way.
    pub(super) start_at: Option<Instant>,
    height_started: Instant,
    block_time: Duration,
    last_heartbeat: Instant,
    /// Proposals for a height that has not started, a few.
    pub(super) early: Vec<SignedProposal<Cx>>,
    /// Evidence of this height that was looked at.
    noted: BTreeSet<evidence::Key>,
    /// Why this node must not go on to the next height, if so.
    pub(super) halted: Option<String>,
    /// What the log held at start, until the first height starts.
    recovered: Option<Recovered>,
}

impl Driver {
    /// A driver at rest; [`Driver::run`] starts the next height.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn new(
        shared: Arc<Shared>,
        key: NodeKey,
        wal: Box<dyn Log>,
        recovered: Recovered,
    ) -> Result<Self, NodeError> {
        let genesis = &shared.genesis;
        let outlook = read_outlook(&shared)?;
        let validators = Validators::of(&outlook.validators);
        let block_time = Duration::from_millis(genesis.block_time_ms);
        let head = shared.store.snapshot()?.head_block()?;
        let params = Params {
            address: key.node_id(),
            threshold_params: Default::default(),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        let next = Height(head.number() + 1);
        let core = cc::State::new(Cx, next, validators.clone(), params, BUFFER.0, BUFFER.1);
        let now = shared.clock.now();
        let wait = genesis.genesis_time_ms.saturating_sub(shared.clock.wall_ms());
        let following = Validators::of(&outlook.following);
        let host = Host::new(shared, key, (validators, following), wal, block_time);
        host.shared.note_head(&head);
        host.shared.status().equivocations = host.shared.store.evidence()?.len() as u64;
        let mut driver = Self {
            core,
            metrics: Metrics::new(),
            host,
            sync: Sync::default(),
            head,
            start_at: Some(now + Duration::from_millis(wait)),
            height_started: now,
            block_time,
            last_heartbeat: now,
            early: Vec::new(),
            noted: BTreeSet::new(),
            recovered: Some(recovered),
            halted: None,
        };
        driver.look_ahead(&outlook);
        Ok(driver)
    }

    /// Takes over what is decided for the next heights: who votes, who may connect, whether this program may go on.
    fn look_ahead(&mut self, outlook: &Outlook) {
        let shared = &self.host.shared;
        self.host.validators = Validators::of(&outlook.validators);
        self.host.following = Validators::of(&outlook.following);
        shared.net.allow(outlook.nodes.as_ref());
        let knows = shared.protocol;
        self.halted = (outlook.version > knows).then(|| {
            format!(
                "upgrade needed: version {}; this program knows up to {knows}. The members decided that blocks from \
                 {} on need the newer program: install it and start the node again",
                outlook.version, outlook.height
            )
        });
        if let Some(reason) = &self.halted {
            tracing::error!(height = outlook.height, reason, "the node votes no more");
        }
        let mut status = shared.status();
        status.validator = self.host.validators.get(&shared.me).is_some();
        status.halted.clone_from(&self.halted);
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// Whatever makes going on unsafe; nothing left the node after it.
    pub(crate) fn run(mut self, events: &Receiver<Event>) -> Result<(), NodeError> {
        loop {
            let patience = self.turn()?;
            match events.recv_timeout(patience) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Takes one event in; what follows from it happens in the next [`Driver::turn`].
    ///
    /// # Errors
    /// As [`Driver::run`].
    pub(crate) fn handle(&mut self, event: Event) -> Result<(), NodeError> {
        match event {
            Event::Stop => Ok(()),
            Event::PeerUp(peer) => {
                self.greet(&peer);
                Ok(())
            }
            Event::Message(from, message) => self.on_message(from, message),
        }
    }

    /// Does all that is due now and returns how long nothing else will be, if no event comes.
    ///
    /// # Errors
    /// As [`Driver::run`].
    pub(crate) fn turn(&mut self) -> Result<Duration, NodeError> {
        loop {
            let now = self.now();
            self.host.fire_timers(now);
            self.drain()?;
            if self.halted.is_some() {
                self.heartbeat(now);
                return Ok(TICK);
            }
            let due = self.start_at.is_some_and(|at| at <= now);
            if (due || self.host.shared.room.short().is_some()) && !self.host.shared.room.look() {
                // Neither a new height nor blocks of peers; the height under way comes to its end.
                self.heartbeat(now);
                return Ok(self.patience(now).max(LOOK_EVERY.min(TICK)));
            }
            if !due {
                self.sync_tick(now);
                self.heartbeat(now);
                return Ok(self.patience(now));
            }
            self.start_height()?;
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.host.shared.clock.now()
    }

    fn patience(&self, now: Instant) -> Duration {
        let next = [self.host.next_timer(), self.start_at].into_iter().flatten().min();
        next.map_or(TICK, |at| at.saturating_duration_since(now).min(TICK))
    }

    fn heartbeat(&mut self, now: Instant) {
        if now.duration_since(self.last_heartbeat) >= HEARTBEAT {
            self.last_heartbeat = now;
            self.announce();
        }
    }

    fn announce(&self) {
        let status = Message::Status { height: self.head.number() };
        self.host.shared.net.broadcast(&status, None);
    }

    /// Tells a newly connected peer what it missed of this height.
    fn greet(&self, peer: &NodeId) {
        let net = &self.host.shared.net;
        for message in &self.host.said {
            net.send(peer, message);
        }
        let waiting = self.host.shared.mempool.ready(SAMPLE_MAX);
        if !waiting.is_empty() {
            let encoded = waiting.iter().map(|(tx, _)| crate::node::encode_tx(tx)).collect();
            net.send(peer, &Message::Transactions(encoded));
        }
    }

    /// Feeds all queued inputs and stores a decision if there is one.
    pub(super) fn drain(&mut self) -> Result<(), NodeError> {
        while let Some(input) = self.host.queue.pop_front() {
            self.feed(input)?;
            self.note_evidence()?;
        }
        match self.host.decided.take() {
            Some(certificate) => self.store_decision(&certificate),
            None => Ok(()),
        }
    }

    fn feed(&mut self, input: Input<Cx>) -> Result<(), NodeError> {
        let host = &mut self.host;
        let result: Result<(), cc::Error<Cx>> = process!(
            input: input,
            state: &mut self.core,
            metrics: &self.metrics,
            with: effect => host.effect(effect)
        );
        if let Some(error) = host.fatal.take() {
            return Err(error);
        }
        match result {
            Ok(()) => Ok(()),
            Err(error @ cc::Error::ReplayDivergence(..)) => Err(NodeError::Consensus(error.to_string())),
            Err(error) => {
                tracing::warn!(%error, "consensus refused an input");
                Ok(())
            }
        }
    }

    /// Verifies and stores what the core has found out about liars. The core keeps its own copy, because it uses it to
    /// refuse more of the same.
    pub(super) fn note_evidence(&mut self) -> Result<(), NodeError> {
        let (votes, proposals) = (self.core.driver.votes().evidence(), self.core.driver.proposals().evidence());
        if votes.is_empty() && proposals.is_empty() {
            return Ok(());
        }
        let votes = votes.iter().flat_map(|(_, pairs)| pairs).map(|(a, b)| Evidence::of_votes(a, b));
        let proposals = proposals.iter().flat_map(|(_, pairs)| pairs).map(|(a, b)| Evidence::of_proposals(a, b));
        let fresh: Vec<_> = votes.chain(proposals).filter(|found| !self.noted.contains(&found.key())).collect();
        let shared = &self.host.shared;
        for found in fresh {
            self.noted.insert(found.key());
            if !found.is_proof(&shared.chain, &self.host.validators) {
                tracing::warn!(validator = %found.validator(), "what looked like evidence proves nothing");
                continue;
            }
            if shared.store.add_evidence(&found)? {
                shared.status().equivocations += 1;
                tracing::error!(
                    validator = %found.validator(), height = found.height, round = found.round, kind = ?found.kind,
                    "a validator signed two different messages for one step; the evidence is stored"
                );
            }
        }
        Ok(())
    }

    pub(super) fn start_height(&mut self) -> Result<(), NodeError> {
        let height = self.head.number() + 1;
        self.start_at = None;
        self.height_started = self.now();
        self.host.leave_height();
        self.host.said.clear();
        self.noted.clear();
        let recovered = self.recovered.take().filter(|r| r.height == height);
        match recovered {
            Some(recovered) if !recovered.records.is_empty() => self.replay(height, recovered)?,
            _ => {
                self.host.wal.reset(height)?;
                self.feed(self.start_input(height))?;
            }
        }
        let early = std::mem::take(&mut self.early);
        for proposal in early {
            self.on_proposal(proposal)?;
        }
        Ok(())
    }

    /// `false`: the height is not restarted by the application's wish, which would throw away what
    /// the log and the buffers hold.
    fn start_input(&self, height: u64) -> Input<Cx> {
        let validators = self.host.validators.clone();
        Input::StartHeight(Height(height), validators, false, None, VoteExtensionPolicy::Disabled)
    }

    /// Brings the core back to where it was when the node was killed. The core derives its votes
    /// anew and finds each signed one in its index, so that none is signed differently.
    fn replay(&mut self, height: u64, recovered: Recovered) -> Result<(), NodeError> {
        let corrupt = |reason| NodeError::Corrupt { what: "the consensus log", reason };
        let inputs = recovered
            .records
            .iter()
            .map(|record| wire::decode_record(record).map_err(corrupt))
            .collect::<Result<Vec<_>, _>>()?;
        tracing::info!(height, records = inputs.len(), cut = recovered.cut_bytes, "replaying the log");
        for input in &inputs {
            if let Input::ProposedValue(value, _) = input {
                let known = Known { block: value.value.clone(), verdict: None };
                self.host.blocks.insert(value.value.hash(), known);
            }
        }
        self.host.replayed = Some(recovered.records.into_iter().collect::<BTreeSet<_>>());
        self.core.index_wal_entries(&inputs);
        self.feed(self.start_input(height))?;
        for input in inputs.clone() {
            self.feed(input)?;
        }
        self.core.reset_entries_index();
        self.host.replayed = None;
        self.propose_after_replay(&inputs);
        Ok(())
    }

    /// Says the round's own proposal again if the log holds one (the core repeats votes only), else
    /// proposes if the core asked for it during the replay.
    fn propose_after_replay(&mut self, inputs: &[Input<Cx>]) {
        let (me, round) = (self.host.key.node_id(), self.core.round());
        let wanted = self.host.wanted.take().filter(|(_, wanted)| *wanted == round);
        let own = inputs.iter().find_map(|input| match input {
            Input::Proposal(p) if p.message.proposer == me && p.message.round == round => Some(p),
            _ => None,
        });
        if let Some(proposal) = own {
            return self.host.publish(Message::Proposal(proposal.into()));
        }
        let Some((height, round)) = wanted else { return };
        // Killed between choosing a block and signing it: no one has seen it, but it is as good.
        let begun = inputs.iter().find_map(|input| match input {
            Input::ProposedValue(v, _) if v.proposer == me && v.round == round => Some(&v.value),
            _ => None,
        });
        match begun {
            Some(block) => {
                let value = LocallyProposedValue::new(height, round, block.clone());
                self.host.queue.push_back(Input::Propose(value));
            }
            None => self.host.propose(height, round),
        }
    }

    fn store_decision(&mut self, certificate: &CommitCertificate<Cx>) -> Result<(), NodeError> {
        let hash = certificate.value_id;
        let Some(known) = self.host.blocks.remove(&hash) else {
            return Err(NodeError::Consensus(format!("the decided block {hash} is not here")));
        };
        let verdict = match known.verdict {
            Some(Ok(executed)) => Ok(executed),
            // From the log, or judged invalid by a clock: execution alone counts now.
            _ => self.execute(&known.block)?,
        };
        let executed = verdict.map_err(|reason| {
            NodeError::Consensus(format!(
                "more than two thirds decided block {hash}, which this node finds invalid ({reason}); \
                 compare program versions"
            ))
        })?;
        let round = certificate.round.as_u32().unwrap_or(0);
        let certificate = CertificateForm::from(certificate).encode();
        self.commit(known.block, &certificate, &executed)?;
        tracing::info!(
            height = self.head.number(), round, hash = %self.head.hash(),
            transactions = self.head.transactions().len(), "block"
        );
        self.announce();
        self.start_at = Some((self.height_started + self.block_time).max(self.now()));
        Ok(())
    }

    /// Stores a decided block and leaves its height.
    pub(super) fn commit(&mut self, block: Block, certificate: &[u8], executed: &Executed) -> Result<(), NodeError> {
        let shared = &self.host.shared;
        let commit = || shared.store.commit(&block, certificate, &executed.receipts, &executed.diff);
        shared.metrics.store_commit.time(commit)?;
        shared.metrics.stored(&block, executed, certificate, &self.host.validators.ids());
        // Not the senders alone: an authorization (EIP-7702) uses up a nonce of another account.
        let senders = executed.diff.accounts.keys().copied().collect();
        shared.mempool.settle(&shared.store.snapshot()?, &senders)?;
        shared.journal.settle(&shared.mempool);
        shared.note_head(&block);
        self.head = block;
        self.host.leave_height();
        let outlook = read_outlook(&self.host.shared)?;
        self.look_ahead(&outlook);
        Ok(())
    }
}

/// What is decided for the blocks after the newest stored one.
fn read_outlook(shared: &Shared) -> Result<Outlook, NodeError> {
    let peers = shared.net.peers().map(|peer| peer.config.public_key);
    Outlook::read(&shared.store.snapshot()?, &shared.genesis, peers)
}
