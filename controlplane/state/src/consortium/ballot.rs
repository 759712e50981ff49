//! The exact texts that members sign. This is their specification: clients that cannot depend on this crate write the
//! same bytes, and the frozen examples in the tests of this file hold both to it.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, PublicKey, Signature};
use crate::ids::{ClusterId, ConsortiumId, ProposalKey, TenantId};
use crate::time::Millis;

/// What a member says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Choice {
    /// For it.
    Yes,
    /// Against it.
    No,
    /// Neither; counts as weight that did not say yes.
    Abstain,
}

impl Choice {
    /// The word in the signed text.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Abstain => "abstain",
        }
    }
}

/// A member's vote as recorded: final, and verifiable by anyone for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// What it says.
    pub choice: Choice,
    /// Ed25519 over [`ballot_text`] by the electorate's key.
    pub signature: Signature,
    /// When it was recorded.
    pub at: Millis,
}

/// Casts a ballot. By an owner or operator of the voter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CastBallot {
    /// On which proposal.
    pub proposal: ProposalKey,
    /// For which tenant.
    pub voter: TenantId,
    /// What it says.
    pub choice: Choice,
    /// Hash of the artifact that was read.
    pub artifact_hash: Digest,
    /// Ed25519 over [`ballot_text`].
    pub signature: Signature,
}

/// The text that a ballot signs: seven lines, each ended by a line feed.
pub fn ballot_text(
    cluster: ClusterId,
    proposal: &ProposalKey,
    artifact: &Digest,
    voter: &TenantId,
    choice: Choice,
) -> String {
    format!(
        "hanse ballot v1\ncluster: {cluster}\nconsortium: {}\nproposal: {}\nartifact: {artifact}\nvoter: {voter}\n\
         choice: {}\n",
        proposal.consortium,
        proposal.proposal,
        choice.word()
    )
}

/// The text that proves possession of a member key when joining: five lines, each ended by a line feed.
pub fn join_text(cluster: ClusterId, consortium: &ConsortiumId, tenant: &TenantId, key: &PublicKey) -> String {
    format!("hanse join v1\ncluster: {cluster}\nconsortium: {consortium}\ntenant: {tenant}\nkey: {key}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn signed_texts_are_frozen() {
        let cluster = ClusterId::parse("0193f2a4-0000-7000-8000-000000000001").unwrap();
        let text = ballot_text(
            cluster,
            &ProposalKey::parse("trade/p-1").unwrap(),
            &Digest([0xab; 32]),
            &TenantId::parse("acme").unwrap(),
            Choice::Yes,
        );
        assert_eq!(
            text,
            "hanse ballot v1\ncluster: 0193f2a4-0000-7000-8000-000000000001\nconsortium: trade\nproposal: p-1\n\
             artifact: abababababababababababababababababababababababababababababababab\nvoter: acme\nchoice: yes\n"
        );
        let text = join_text(
            cluster,
            &ConsortiumId::parse("trade").unwrap(),
            &TenantId::parse("acme").unwrap(),
            &PublicKey([0xcd; 32]),
        );
        assert_eq!(
            text,
            "hanse join v1\ncluster: 0193f2a4-0000-7000-8000-000000000001\nconsortium: trade\ntenant: acme\n\
             key: cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\n"
        );
    }
}
