//! One run: the world's clock, its network with faults, its crashes and clients.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use alloy_primitives::{Address, B256, Bytes};
use bytes::Bytes as Frame;
use serde_json::json;

use super::disk::Disk;
use super::govern::NEW_PROTOCOL;
use super::laws::Laws;
use super::node::{GENESIS_MS, SimClock, SimNode};
use super::plan::{Mutant, Plan, Report, Rng};
use super::wallet::Wallet;
use crate::consensus::cert;
use crate::consensus::wire::Message;
use crate::exec;
use crate::genesis::Genesis;
use crate::keys::{NodeId, NodeKey};

pub(super) const CHAIN_ID: u64 = 7;
pub(super) const SECOND: u64 = 1_000_000;
/// How long the chaos lasts.
pub(super) const CHAOS: u64 = 25 * SECOND;
/// By then all must be well.
const HEALED_LIMIT: u64 = CHAOS + 120 * SECOND;
/// Blocks that every node must add after the healing.
const HEALED_BLOCKS: u64 = 5;
const CLIENTS: u8 = 3;
/// Where all transfers go.
const RECIPIENT: Address = Address::repeat_byte(0xee);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Deliver { from: usize, to: usize, frame: Frame },
    Wake { node: usize, token: u64 },
    Boot { node: usize },
    Connect { from: usize, to: usize },
    Trouble,
    Kill,
    Submit,
    Clients,
    Govern,
    Heal,
}

/// The network's faults for the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    loss_percent: u64,
    duplicate_percent: u64,
    delay_max: u64,
    /// From, to: nothing passes.
    cut: BTreeSet<(usize, usize)>,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) plan: Plan,
    pub(super) genesis: Genesis,
    pub(super) clock: SimClock,
    pub(super) now: u64,
    pub(super) queue: BinaryHeap<Reverse<(u64, u64, Action)>>,
    pub(super) sequence: u64,
    pub(super) nodes: Vec<SimNode>,
    /// Indices of the nodes of each validator: two for an equivocator.
    pub(super) of: BTreeMap<NodeId, Vec<usize>>,
    pub(super) weather: Weather,
    pub(super) wallets: Vec<Wallet>,
    /// Submitted and not yet seen in the chain.
    pub(super) open: BTreeMap<B256, Bytes>,
    pub(super) laws: Laws,
    pub(super) chain: B256,
    pub(super) healed: bool,
    /// The last height that the older program may decide.
    pub(super) upgrade_after: u64,
    pub(super) report: Report,
}

/// Runs a plan with a seed.
///
/// # Errors
/// The law that was broken.
pub(super) fn run(seed: u64, plan: &Plan) -> Result<Report, String> {
    cert::trust_certificates(plan.mutant == Some(Mutant::CertificatesTrusted));
    let result = World::new(seed, plan.clone()).run();
    cert::trust_certificates(false);
    result
}

fn genesis(plan: &Plan, wallets: &[Wallet]) -> (Genesis, Vec<NodeKey>) {
    let keys: Vec<_> = (1..=plan.validators).map(|n| NodeKey::from_seed([n as u8; 32])).collect();
    let validators: Vec<_> = keys.iter().map(|k| json!({ "public_key": k.public_key(), "power": 1 })).collect();
    let rich: BTreeMap<_, _> = wallets.iter().map(|w| (w.address(), json!({ "balance": "1000000" }))).collect();
    let members: Vec<_> = wallets.iter().map(Wallet::address).collect();
    let governance = plan.governed.then(|| json!({ "members": members, "threshold": 2 }));
    let text = json!({
        "governance": governance, "version": 1, "chain_id": CHAIN_ID, "genesis_time_ms": GENESIS_MS, "block_time_ms": 400,
        "block_gas_limit": 30_000_000, "validators": validators, "alloc": rich,
    });
    let genesis = Genesis::from_json(&text.to_string()).unwrap();
    (genesis, keys)
}

impl World {
    fn new(seed: u64, plan: Plan) -> Self {
        let wallets: Vec<_> = (0..CLIENTS).map(Wallet::new).collect();
        let (genesis, keys) = genesis(&plan, &wallets);
        let mut rng = Rng(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let clock = SimClock::new();
        let mut nodes = Vec::new();
        let mut of: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            for _ in 0..if index < plan.equivocators { 2 } else { 1 } {
                of.entry(key.node_id()).or_default().push(nodes.len());
                let skewed = clock.skewed(rng.below(300));
                nodes.push(SimNode::new(key.clone(), Disk::new(plan.mutant), skewed));
            }
        }
        let chain = exec::genesis_block(&genesis).unwrap().0.hash();
        Self {
            rng,
            plan,
            genesis,
            clock,
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            nodes,
            of,
            weather: Weather { delay_max: 20_000, ..Default::default() },
            wallets,
            open: BTreeMap::new(),
            laws: Laws::default(),
            chain,
            healed: false,
            upgrade_after: u64::MAX,
            report: Report::default(),
        }
    }

    fn run(mut self) -> Result<Report, String> {
        for node in 0..self.nodes.len() {
            self.after(0, Action::Boot { node });
        }
        self.after(SECOND / 2, Action::Trouble);
        self.after(SECOND, Action::Kill);
        self.after(SECOND / 4, Action::Submit);
        self.after(SECOND, Action::Clients);
        if self.plan.governed {
            self.after(SECOND, Action::Govern);
        }
        self.after(CHAOS, Action::Heal);
        let mut goal = None;
        while let Some(Reverse((at, _, action))) = self.queue.pop() {
            self.now = at;
            self.clock.set(at);
            self.act(action);
            if let Some(broken) = self.laws.broken.take() {
                return Err(broken);
            }
            if self.healed {
                let goal = *goal.get_or_insert(self.laws.height() + HEALED_BLOCKS);
                if self.is_well(goal) {
                    return self.finish();
                }
            }
            if at > HEALED_LIMIT {
                return Err(format!("liveness: at {} s {}", at / SECOND, self.complaint()));
            }
        }
        Err("liveness: nothing is due any more".to_owned())
    }

    pub(super) fn after(&mut self, delay: u64, action: Action) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay, self.sequence, action)));
    }

    pub(super) fn is_honest(&self, node: usize) -> bool {
        self.of[&self.nodes[node].id()].len() == 1
    }

    fn honest(&self) -> impl Iterator<Item = &SimNode> {
        (0..self.nodes.len()).filter(|node| self.is_honest(*node)).map(|node| &self.nodes[node])
    }

    fn is_well(&self, goal: u64) -> bool {
        self.open.is_empty() && self.honest().all(|node| node.is_up() && node.seen >= goal)
    }

    fn complaint(&self) -> String {
        let heights: Vec<_> = self.nodes.iter().map(|node| (node.is_up(), node.seen)).collect();
        format!("nodes (up, height) {heights:?}, {} transactions are not in the chain", self.open.len())
    }

    fn finish(mut self) -> Result<Report, String> {
        let mut evidence = 0;
        for node in self.honest() {
            let snapshot = node.shared().unwrap().store.snapshot().unwrap();
            let received = snapshot.account(RECIPIENT).unwrap().map_or(0, |account| account.balance.to::<u64>());
            let transfers = self.laws.included.iter().filter(|(hash, _)| !self.laws.proposals.contains(*hash));
            let sent = transfers.filter(|(_, height)| **height <= node.seen).count() as u64;
            if received != sent {
                return Err(format!("validity: {sent} transfers of 1 wei in the chain gave {received} wei"));
            }
            let records = node.shared().unwrap().store.evidence().unwrap();
            let liars: BTreeSet<_> = records.iter().map(|record| record.validator()).collect();
            if let Some(framed) = liars.iter().find(|liar| self.of[liar].len() == 1) {
                return Err(format!("evidence against the honest {framed}"));
            }
            evidence += records.len() as u64;
        }
        if self.plan.equivocators > 0 && evidence == 0 {
            return Err("an equivocator left no evidence".to_owned());
        }
        self.report.evidence = evidence;
        self.report.transactions = self.laws.included.len() as u64;
        self.report.height = self.laws.height();
        self.report.head = self.laws.last_hash();
        self.report.healing_s = self.now.saturating_sub(CHAOS).div_ceil(SECOND);
        let head = self.report.head;
        self.note(head.as_slice());
        Ok(self.report)
    }

    /// Mixes something that happened into the trace (FNV-1a).
    fn note(&mut self, bytes: &[u8]) {
        let mut hash = self.report.trace ^ 0xcbf2_9ce4_8422_2325 ^ self.now;
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.report.trace = hash;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Wake { node, token } => {
                if self.nodes[node].is_up() && self.nodes[node].wake == token {
                    self.pump(node);
                }
            }
            Action::Deliver { from, to, frame } => self.deliver(from, to, &frame),
            Action::Boot { node } => self.boot(node),
            Action::Connect { from, to } => self.connect(from, to),
            Action::Trouble if !self.healed => self.trouble(),
            Action::Kill if !self.healed => self.kill(),
            Action::Submit if !self.healed => self.submit(),
            Action::Trouble | Action::Kill | Action::Submit => {}
            Action::Govern if !self.healed => self.govern(),
            Action::Govern => {}
            Action::Clients => self.resubmit(),
            Action::Heal => self.heal(),
        }
    }

    fn boot(&mut self, node: usize) {
        if self.nodes[node].is_up() {
            return;
        }
        // Operators install the newer program node by node, whenever one is down in the second half of the chaos.
        if self.plan.governed && self.now > CHAOS / 2 {
            self.nodes[node].protocol = NEW_PROTOCOL;
        }
        self.nodes[node].boot(&self.genesis, &mut self.rng);
        for other in 0..self.nodes.len() {
            let (there, back) = (self.rng.below(300_000), self.rng.below(300_000));
            self.after(there, Action::Connect { from: node, to: other });
            self.after(back, Action::Connect { from: other, to: node });
        }
        self.pump(node);
    }

    fn connect(&mut self, from: usize, to: usize) {
        if self.nodes[from].is_up() && self.nodes[to].is_up() {
            let peer = self.nodes[to].id();
            self.nodes[from].connect(peer, true);
            self.pump(from);
        }
    }

    /// Lets a node do what is due, sends what it says, and notes what it stored.
    fn pump(&mut self, node: usize) {
        let result = self.nodes[node].turn();
        let sent = self.nodes[node].take_sent();
        for (to, frame) in sent {
            self.send(node, to, frame);
        }
        let before = self.nodes[node].seen;
        self.look(node);
        if self.plan.governed && self.nodes[node].seen > before {
            self.note_governance(node);
        }
        match result {
            Ok(patience) => {
                self.nodes[node].wake += 1;
                let token = self.nodes[node].wake;
                self.after(patience.as_micros().max(1) as u64, Action::Wake { node, token });
            }
            Err(_) if self.nodes[node].disk.is_killed() => self.died(node),
            Err(error) => self.stopped(node, &error.chain()),
        }
    }

    fn stopped(&mut self, node: usize, reason: &str) {
        if self.is_honest(node) {
            self.laws.broken.get_or_insert(format!("node {node} stopped by itself: {reason}"));
        }
        self.died(node);
    }

    fn died(&mut self, node: usize) {
        let id = self.nodes[node].id();
        self.report.crashes += 1;
        self.nodes[node].die();
        let others = self.of[&id].iter().any(|twin| self.nodes[*twin].is_up());
        for other in 0..self.nodes.len() {
            if !others {
                self.nodes[other].connect(id, false);
            }
        }
        let delay = SECOND / 5 + self.rng.below(5 * SECOND);
        self.after(delay, Action::Boot { node });
    }

    /// The laws look at every new block of an honest node.
    fn look(&mut self, node: usize) {
        let Some(shared) = self.nodes[node].shared().cloned() else { return };
        let snapshot = shared.store.snapshot().unwrap();
        let head = snapshot.head().unwrap().unwrap_or(0);
        let honest = self.is_honest(node);
        for number in self.nodes[node].seen + 1..=head {
            if let Err(broken) = self.check_decided(node, number) {
                self.laws.broken.get_or_insert(broken);
            }
            let block = snapshot.block(number).unwrap().unwrap();
            self.note(block.hash().as_slice());
            if honest {
                self.laws.on_stored(self.nodes[node].id(), &block);
            }
        }
        self.nodes[node].seen = head;
        let included = &self.laws.included;
        self.open.retain(|hash, _| !included.contains_key(hash));
    }

    fn send(&mut self, from: usize, to: NodeId, frame: Frame) {
        let message = Message::decode(&frame).unwrap();
        if self.is_honest(from) {
            self.laws.on_sent(self.nodes[from].id(), &message, &self.chain);
        }
        for to in self.of[&to].clone() {
            self.route(from, to, frame.clone());
            if !self.is_honest(from) {
                self.lie(from, to, &message);
            }
        }
    }

    pub(super) fn route(&mut self, from: usize, to: usize, frame: Frame) {
        if self.weather.cut.contains(&(from, to)) || self.rng.chance(self.weather.loss_percent) {
            self.report.lost += 1;
            return;
        }
        let copies = if self.rng.chance(self.weather.duplicate_percent) { 2 } else { 1 };
        self.report.duplicated += copies - 1;
        for _ in 0..copies {
            let delay = 500 + self.rng.below(self.weather.delay_max);
            self.after(delay, Action::Deliver { from, to, frame: frame.clone() });
        }
    }

    fn deliver(&mut self, from: usize, to: usize, frame: &Frame) {
        if !self.nodes[to].is_up() {
            return;
        }
        self.report.delivered += 1;
        self.note(frame);
        let message = Message::decode(frame).unwrap();
        if let Message::GetBlocks { from: first, .. } = &message
            && !self.is_honest(to)
            && *first == self.nodes[to].seen + 1
            && let Some(forged) = self.forge(to)
        {
            return self.route(to, from, forged.encode());
        }
        let sender = self.nodes[from].id();
        match self.nodes[to].receive(sender, message) {
            Ok(()) => self.pump(to),
            Err(_) if self.nodes[to].disk.is_killed() => self.died(to),
            Err(error) => self.stopped(to, &error.chain()),
        }
    }

    /// The weather changes.
    fn trouble(&mut self) {
        let count = self.nodes.len();
        let pairs: Vec<_> = (0..count).flat_map(|a| (0..count).map(move |b| (a, b))).collect();
        let one = self.rng.below(count as u64) as usize;
        let half = self.rng.next();
        let side = |node: usize| half >> node & 1;
        let mut weather = Weather { delay_max: 20_000, ..Default::default() };
        match self.rng.below(7) {
            0 => {}
            1 => weather.cut = pairs.into_iter().filter(|(a, b)| side(*a) != side(*b)).collect(),
            2 => weather.cut = pairs.into_iter().filter(|(a, b)| *a == one || *b == one).collect(),
            3 => weather.cut = pairs.into_iter().filter(|(a, _)| *a == one).collect(),
            4 => weather.cut = pairs.into_iter().filter(|(a, b)| side(*a) > side(*b)).collect(),
            5 => (weather.loss_percent, weather.duplicate_percent) = (30, 30),
            _ => (weather.delay_max, weather.duplicate_percent) = (2 * SECOND, 20),
        }
        self.report.partitions += u64::from(!weather.cut.is_empty());
        self.weather = weather;
        let next = SECOND / 2 + self.rng.below(3 * SECOND);
        self.after(next, Action::Trouble);
    }

    fn kill(&mut self) {
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        if self.nodes[node].is_up() {
            let operations = 1 + self.rng.below(30) as u32;
            self.nodes[node].disk.kill_after(operations);
        }
        let next = self.rng.below(5 * SECOND);
        self.after(next, Action::Kill);
    }

    pub(super) fn submit(&mut self) {
        // On a governed chain the last wallet sends the proposals.
        let wallet = self.rng.below(u64::from(CLIENTS) - u64::from(self.plan.governed)) as usize;
        let (hash, raw) = self.wallets[wallet].transfer(CHAIN_ID, RECIPIENT);
        self.laws.submitted.insert(hash);
        self.open.insert(hash, raw.clone());
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        self.nodes[node].submit(raw);
        let next = self.rng.below(2 * SECOND);
        self.after(next, Action::Submit);
    }

    /// Clients send again what is not in the chain yet, each time to some node: a pool does not survive a crash.
    fn resubmit(&mut self) {
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        if self.is_honest(node) {
            // By nonce, as a client does that knows its own order.
            let mut open: Vec<_> = self.open.values().cloned().collect();
            open.sort_by_key(|raw| {
                use alloy_eips::Decodable2718;
                alloy_consensus::Transaction::nonce(&crate::block::Tx::decode_2718_exact(raw).unwrap())
            });
            for raw in open {
                self.nodes[node].submit(raw);
            }
        }
        self.after(2 * SECOND, Action::Clients);
    }

    fn heal(&mut self) {
        self.healed = true;
        for node in 0..self.nodes.len() {
            if self.plan.governed && self.nodes[node].protocol != NEW_PROTOCOL && self.nodes[node].is_up() {
                self.died(node);
            }
        }
        self.weather = Weather { delay_max: 20_000, ..Default::default() };
    }
}
