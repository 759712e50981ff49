//! What a vote needs, as arithmetic over whole weights.

use serde::{Deserialize, Serialize};

/// Kinds of action that a charter has a policy for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ActionKind {
    /// A new chain.
    CreateChain,
    /// A change of a chain. Came with cluster version 4, as all that follow.
    ChangeChain,
    /// A chain's end.
    DeleteChain,
}

impl ActionKind {
    /// The kinds that every charter names.
    pub const NAMED: [Self; 1] = [Self::CreateChain];

    /// The kind whose policy counts where a charter does not name this one: what it took to make a chain.
    pub const fn stand_in(self) -> Self {
        match self {
            Self::CreateChain | Self::ChangeChain | Self::DeleteChain => Self::CreateChain,
        }
    }
}

/// How much of the electorate's weight must say yes. Abstaining is not a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Policy {
    /// More than half.
    Majority,
    /// At least two thirds.
    TwoThirds,
    /// All.
    Unanimous,
}

impl Policy {
    /// Returns whether `yes` of `total` weight satisfies the policy. Nothing satisfies it over an empty electorate.
    pub fn holds(self, yes: u64, total: u64) -> bool {
        let (yes, total) = (u128::from(yes), u128::from(total));
        total > 0
            && match self {
                Self::Majority => yes * 2 > total,
                Self::TwoThirds => yes * 3 >= total * 2,
                Self::Unanimous => yes == total,
            }
    }
}

/// Sums of weights by choice, and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Weight of the yes ballots.
    pub yes: u64,
    /// Weight of the no ballots.
    pub no: u64,
    /// Weight of the abstentions.
    pub abstain: u64,
    /// Weight of the whole electorate.
    pub total: u64,
    /// What is certain by now.
    pub verdict: Verdict,
}

/// What the ballots so far make certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// The policy holds, whatever the others say.
    Passed,
    /// The policy can no longer hold.
    Rejected,
    /// Still open.
    Open,
}

impl Tally {
    /// The tally of these sums under `policy`.
    pub fn new(policy: Policy, yes: u64, no: u64, abstain: u64, total: u64) -> Self {
        let still_possible = total.saturating_sub(no).saturating_sub(abstain);
        let verdict = if policy.holds(yes, total) {
            Verdict::Passed
        } else if !policy.holds(still_possible, total) {
            Verdict::Rejected
        } else {
            Verdict::Open
        };
        Self { yes, no, abstain, total, verdict }
    }
}
