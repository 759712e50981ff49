//! Who decides on a chain: its validators, and the members whose signatures change it while it runs.

use serde::{Deserialize, Serialize};

/// Governance of a chain from its first block on. An account is `0x` and 40 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GovernancePlan {
    /// The members' accounts, distinct.
    pub members: Vec<String>,
    /// How many of them must sign a change, from 1 to their number.
    pub threshold: u32,
    /// Accounts that may send transactions; `None`: all.
    pub senders: Option<Vec<String>>,
    /// Accounts that may create contracts; `None`: all.
    pub deployers: Option<Vec<String>>,
    /// Whether only validators and nodes that members let in may connect.
    pub restrict_nodes: bool,
}

/// What a node says of its chain's governance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Governance {
    /// The height that the rest is about: the block after the newest.
    pub next_height: u64,
    /// Who votes on it.
    pub validators: Vec<LedgerValidator>,
    /// Sets of validators that are decided and not in force yet, by height.
    pub pending: Vec<PendingValidators>,
    /// Members and what they may change; `None` on a chain that nobody can change.
    pub rules: Option<Rules>,
    /// Version of the chain's rules that the node's program knows.
    pub protocol: u64,
    /// Why the node takes no further block, in its own words.
    pub halted: Option<String>,
    /// Proofs that validators signed two different things for one step; the newest last.
    pub evidence: Vec<Evidence>,
}

/// One validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerValidator {
    /// The ledger's own name for the node, hex.
    pub node_id: String,
    /// Its key, hex.
    pub public_key: String,
    /// Its power; more than two thirds of all decide a block.
    pub power: u64,
}

/// A set of validators that will count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingValidators {
    /// The first height that it votes on.
    pub from_height: u64,
    /// The whole set.
    pub validators: Vec<LedgerValidator>,
}

/// What members have decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The account that proposals are sent to, 0x-hex.
    pub account: String,
    /// What tells the chain from another one with its chain id, 0x-hex.
    pub genesis_hash: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The members' accounts, 0x-hex.
    pub members: Vec<String>,
    /// How many must sign.
    pub threshold: u64,
    /// How many proposals were executed; the next one has this number.
    pub sequence: u64,
    /// Keys of nodes that may connect besides the validators.
    pub nodes: AllowList,
    /// Accounts that may send transactions.
    pub senders: AllowList,
    /// Accounts that may create contracts.
    pub deployers: AllowList,
    /// An upgrade that is or was scheduled.
    pub upgrade: Option<Upgrade>,
    /// Version of the chain's rules that the next block needs.
    pub protocol_needed: u64,
}

/// A list of who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList {
    /// Whether it counts at the next height; otherwise all may.
    pub restricted: bool,
    /// Whether it counts once all that is decided is in force.
    pub restricted_soon: bool,
    /// Who is on it.
    pub entries: Vec<String>,
    /// What is decided and not in force yet.
    pub pending: Vec<ListChange>,
}

/// A change of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListChange {
    /// Who.
    pub entry: String,
    /// Whether it will be on the list.
    pub allowed: bool,
    /// From which height on.
    pub from_height: u64,
}

/// A scheduled change of the chain's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Version that programs must know.
    pub version: u64,
    /// Last height that programs which do not may vote on.
    pub after_height: u64,
}

/// A proof of double signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Whose.
    pub node_id: String,
    /// What was signed twice, the ledger's own word: a proposal or a kind of vote.
    pub kind: String,
    /// At which height.
    pub height: u64,
    /// In which round.
    pub round: u64,
}
