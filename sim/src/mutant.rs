//! Mistakes put in on purpose: a harness that does not find them finds nothing.

use std::fmt;
use std::str::FromStr;

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// The log answers "durable" before it is.
    AckBeforeDurable,
    /// The vote is kept in memory only.
    SkipVote,
    /// A leader reads its own state without asking the others.
    ReadWithoutIndex,
    /// Requests are not remembered: a retry runs again.
    NoDedupe,
    /// A snapshot leaves out what was remembered of requests.
    SnapshotForgetsRequests,
    /// Each replica applies by its own clock, not by the leader's stamp.
    WallClockInApply,
    /// A leader counts a follower that never got the entries.
    CommitWithoutQuorum,
    /// A committed entry is skipped by one replica after a restart.
    ApplySkipsAfterRestart,
    /// A leader answers before the entry is committed.
    AnswerBeforeCommit,
    /// A leader touches a host while its intent is still on the way.
    ActBeforeIntent,
    /// A host starts a node without looking whether it runs.
    CreateWithoutLook,
    /// A host makes a new instance at each call, for want of a key.
    CreateWithoutKey,
    /// A replica whose disk was lost starts again under its old id.
    IdAfterWipe,
    /// A leader gives a vote to a learner of which it has heard nothing.
    PromoteUnready,
    /// A leader that is to go takes itself out and hands nothing over.
    LeaderTakesItselfOut,
    /// A new replica gets the id of one that is gone.
    IdAgain,
    /// Each try to deploy a contract is another transaction.
    DeployAgain,
    /// A leader removes what nobody asks for without the grace.
    OrphansAtSight,
}

impl Mutant {
    /// Every mistake.
    pub const ALL: [Self; 18] = [
        Self::AckBeforeDurable,
        Self::SkipVote,
        Self::ReadWithoutIndex,
        Self::NoDedupe,
        Self::SnapshotForgetsRequests,
        Self::WallClockInApply,
        Self::CommitWithoutQuorum,
        Self::ApplySkipsAfterRestart,
        Self::AnswerBeforeCommit,
        Self::ActBeforeIntent,
        Self::CreateWithoutLook,
        Self::CreateWithoutKey,
        Self::IdAfterWipe,
        Self::PromoteUnready,
        Self::LeaderTakesItselfOut,
        Self::IdAgain,
        Self::DeployAgain,
        Self::OrphansAtSight,
    ];

    /// Whether it shows itself only where the membership changes.
    pub(crate) const fn is_of_membership(self) -> bool {
        matches!(self, Self::PromoteUnready | Self::LeaderTakesItselfOut | Self::IdAgain)
    }

    /// Whether only the crash sweep has what it shows itself by.
    pub const fn is_of_sweep(self) -> bool {
        matches!(self, Self::OrphansAtSight)
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeDurable => "ack-before-durable",
            Self::SkipVote => "skip-vote",
            Self::ReadWithoutIndex => "read-without-index",
            Self::NoDedupe => "no-dedupe",
            Self::SnapshotForgetsRequests => "snapshot-forgets-requests",
            Self::WallClockInApply => "wall-clock-in-apply",
            Self::CommitWithoutQuorum => "commit-without-quorum",
            Self::ApplySkipsAfterRestart => "apply-skips-after-restart",
            Self::AnswerBeforeCommit => "answer-before-commit",
            Self::ActBeforeIntent => "act-before-intent",
            Self::CreateWithoutLook => "create-without-look",
            Self::CreateWithoutKey => "create-without-key",
            Self::IdAfterWipe => "id-after-wipe",
            Self::PromoteUnready => "promote-unready",
            Self::LeaderTakesItselfOut => "leader-takes-itself-out",
            Self::IdAgain => "id-again",
            Self::DeployAgain => "deploy-again",
            Self::OrphansAtSight => "orphans-at-sight",
        }
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|m| m.name() == text)
            .ok_or_else(|| format!("no mutant {text:?}; there are {}", names()))
    }
}
