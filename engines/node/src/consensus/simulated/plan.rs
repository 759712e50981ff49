//! What is run, what came of it, and chance.

use alloy_primitives::B256;
use serde_json::{Value, json};

/// A deliberate fault in the program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// The sync before a message does nothing.
    LogNotSynced,
    /// What the log holds is not read at the start.
    LogNotReplayed,
    /// Commit certificates are taken on trust.
    CertificatesTrusted,
}

/// What is run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) validators: usize,
    pub(super) equivocators: usize,
    /// Members remove validators and take them back, and decide an upgrade of the program.
    pub(super) governed: bool,
    pub(super) mutant: Option<Mutant>,
}

impl Plan {
    pub(super) fn honest(validators: usize) -> Self {
        Self { validators, equivocators: 0, governed: false, mutant: None }
    }
}

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) runs: u64,
    /// Hash over every delivery and every stored block, in order.
    pub(super) trace: u64,
    pub(super) head: B256,
    pub(super) height: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) partitions: u64,
    pub(super) crashes: u64,
    pub(super) transactions: u64,
    pub(super) contradictions: u64,
    pub(super) forged: u64,
    pub(super) evidence: u64,
    /// Changes of validators that were decided.
    pub(super) changes: u64,
    /// Halts for an upgrade.
    pub(super) halts: u64,
    /// Virtual seconds from the end of the chaos until all was well; the longest.
    pub(super) healing_s: u64,
}

impl Report {
    pub(super) fn add(&mut self, other: &Self) {
        self.runs += 1;
        self.trace = self.trace.rotate_left(5) ^ other.trace;
        self.head = other.head;
        self.height += other.height;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.partitions += other.partitions;
        self.crashes += other.crashes;
        self.transactions += other.transactions;
        self.contradictions += other.contradictions;
        self.forged += other.forged;
        self.evidence += other.evidence;
        self.changes += other.changes;
        self.halts += other.halts;
        self.healing_s = self.healing_s.max(other.healing_s);
    }

    pub(super) fn to_json(&self, plan: &Plan) -> Value {
        json!({
            "validators": plan.validators, "equivocators": plan.equivocators, "runs": self.runs,
            "blocks": self.height, "transactions": self.transactions, "messages_delivered": self.delivered,
            "messages_lost": self.lost, "messages_duplicated": self.duplicated, "partitions": self.partitions,
            "crashes": self.crashes, "contradictory_votes_sent": self.contradictions,
            "forged_blocks_offered": self.forged, "evidence_records": self.evidence,
            "changes_of_validators": self.changes, "halts_for_an_upgrade": self.halts,
            "healing_virtual_seconds_max": self.healing_s,
        })
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014): small, and the same everywhere.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound` - 1.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
