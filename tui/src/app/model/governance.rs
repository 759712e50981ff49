//! Who decides on a chain, as its nodes say.

/// Governance of one chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Governance {
    /// Node that was asked, resource name.
    pub node: String,
    /// Whether members can change the chain.
    pub governed: bool,
    /// The height that this is about: the block after the newest.
    pub next_height: u64,
    /// How many members must sign.
    pub threshold: u64,
    /// Number of the next proposal.
    pub sequence: u64,
    /// (account, tenant that named it or empty).
    pub members: Vec<(String, String)>,
    /// In force, then what is decided and not in force yet by height.
    pub validators: Vec<ValidatorSet>,
    /// Nodes besides the validators.
    pub nodes: AllowList,
    /// Who may send.
    pub senders: AllowList,
    /// Who may create contracts.
    pub deployers: AllowList,
    /// (version, last height of older programs).
    pub upgrade: Option<(u64, u64)>,
    /// Versions of the rules: (known by the asked node's program, needed by the next block).
    pub protocol: (u64, u64),
    /// Why the asked node takes no further block; empty if it does.
    pub halted: String,
    /// Proofs of double signing.
    pub evidence: Vec<DoubleSigning>,
    /// Nodes that gave no answer: evidence only they hold is missing.
    pub silent: Vec<String>,
}

/// Validators from a height on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidatorSet {
    /// First height that it votes on; 0 for the set in force.
    pub from_height: u64,
    /// The whole set.
    pub validators: Vec<Validator>,
}

/// One validator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validator {
    /// Resource name; empty if it is no node of this platform.
    pub node: String,
    /// Tenant that owns it.
    pub owner: String,
    /// Its power.
    pub power: u64,
    /// Id on the ledger.
    pub node_id: String,
}

/// A list of who may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    /// Whether it counts: (now, once all that is decided is in force).
    pub restricted: (bool, bool),
    /// Who is on it.
    pub entries: Vec<String>,
    /// Decided and not in force yet.
    pub pending: Vec<ListChange>,
}

/// A change of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListChange {
    /// Who.
    pub entry: String,
    /// Whether it will be on the list.
    pub allowed: bool,
    /// From which height on.
    pub from_height: u64,
}

/// A proof that a validator signed two different things for one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoubleSigning {
    /// Resource name of the node, or its id on the ledger if it is none of this platform.
    pub who: String,
    /// Tenant that owns it.
    pub owner: String,
    /// What was signed twice.
    pub kind: String,
    /// At which height.
    pub height: u64,
}

/// What a chain was last seen to hold of the platform's audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnchorSeen {
    /// Records of the last head; 0 if there is none.
    pub records: u64,
    /// The block that holds it.
    pub height: u64,
    /// The trail's time of it.
    pub at: i64,
    /// What is wrong, empty if nothing is.
    pub error: String,
}
