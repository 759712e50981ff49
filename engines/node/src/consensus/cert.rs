//! Certificates: many signatures that prove one fact.
//!
//! A certificate counts only if every signature in it is by a known validator, no validator stands
//! in it twice, every signature is right for exactly the vote that it claims, and the power behind
//! it reaches the threshold. One bad signature refuses the whole certificate.

use alloy_primitives::B256;
use arc_malachitebft_core_types as ct;
use arc_malachitebft_signing_ed25519::Signature;
use ct::{
    CertificateError, CommitCertificate, NilOrVal, PolkaCertificate, RoundCertificate, RoundCertificateType,
    ThresholdParam, ThresholdParams, ValidatorSet, VoteType,
};
use std::collections::BTreeSet;

use super::context::{Cx, Validators, Vote};
use crate::keys::NodeId;

#[cfg(test)]
thread_local! {
    /// A mutant for the simulated network: shows that the simulation would notice.
    static TRUST: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
pub(super) fn trust_certificates(trust: bool) {
    TRUST.set(trust);
}

type Verdict = Result<(), CertificateError<Cx>>;

/// Verifies that more than two thirds precommitted the value.
///
/// # Errors
/// What is wrong with the certificate.
pub(crate) fn verify_commit(
    chain: &B256,
    certificate: &CommitCertificate<Cx>,
    validators: &Validators,
    thresholds: ThresholdParams,
) -> Verdict {
    #[cfg(test)]
    if TRUST.get() {
        return Ok(());
    }
    let mut count = Count::new(chain, validators);
    for signed in &certificate.commit_signatures {
        let vote = Vote {
            height: certificate.height,
            round: certificate.round,
            value: NilOrVal::Val(certificate.value_id),
            kind: VoteType::Precommit,
            voter: signed.address,
        };
        if !count.add(&vote, &signed.signature)? {
            return Err(CertificateError::InvalidCommitSignature(signed.clone()));
        }
    }
    count.reaches(thresholds.quorum)
}

/// Verifies that more than two thirds prevoted the value.
///
/// # Errors
/// What is wrong with the certificate.
pub(crate) fn verify_polka(
    chain: &B256,
    certificate: &PolkaCertificate<Cx>,
    validators: &Validators,
    thresholds: ThresholdParams,
) -> Verdict {
    let mut count = Count::new(chain, validators);
    for signed in &certificate.polka_signatures {
        let vote = Vote {
            height: certificate.height,
            round: certificate.round,
            value: NilOrVal::Val(certificate.value_id),
            kind: VoteType::Prevote,
            voter: signed.address,
        };
        if !count.add(&vote, &signed.signature)? {
            return Err(CertificateError::InvalidPolkaSignature(signed.clone()));
        }
    }
    count.reaches(thresholds.quorum)
}

/// Verifies that a round was rightly entered: more than a third voted in it (skip), or more than
/// two thirds precommitted in the one before.
///
/// # Errors
/// What is wrong with the certificate.
pub(crate) fn verify_round(
    chain: &B256,
    certificate: &RoundCertificate<Cx>,
    validators: &Validators,
    thresholds: ThresholdParams,
) -> Verdict {
    let mut count = Count::new(chain, validators);
    for signed in &certificate.round_signatures {
        let wrong_kind =
            certificate.cert_type == RoundCertificateType::Precommit && signed.vote_type != VoteType::Precommit;
        if wrong_kind {
            return Err(CertificateError::InvalidVoteType(signed.address));
        }
        let vote = Vote {
            height: certificate.height,
            round: certificate.round,
            value: signed.value_id,
            kind: signed.vote_type,
            voter: signed.address,
        };
        if !count.add(&vote, &signed.signature)? {
            return Err(CertificateError::InvalidRoundSignature(signed.clone()));
        }
    }
    count.reaches(match certificate.cert_type {
        RoundCertificateType::Skip => thresholds.honest,
        RoundCertificateType::Precommit => thresholds.quorum,
    })
}

/// Power counted so far, each validator once.
struct Count<'a> {
    chain: &'a B256,
    validators: &'a Validators,
    seen: BTreeSet<NodeId>,
    power: u64,
}

impl<'a> Count<'a> {
    fn new(chain: &'a B256, validators: &'a Validators) -> Self {
        Self { chain, validators, seen: BTreeSet::new(), power: 0 }
    }

    /// Counts a vote; returns whether its signature is right.
    fn add(&mut self, vote: &Vote, signature: &Signature) -> Result<bool, CertificateError<Cx>> {
        let Some(validator) = self.validators.get(&vote.voter) else {
            return Err(CertificateError::UnknownValidator(vote.voter));
        };
        if !self.seen.insert(vote.voter) {
            return Err(CertificateError::DuplicateVote(vote.voter));
        }
        if validator.key.verify(&vote.sign_bytes(self.chain), signature).is_err() {
            return Ok(false);
        }
        self.power = self
            .power
            .checked_add(validator.power)
            .ok_or(CertificateError::VotingPowerOverflow { signed: self.power, added: validator.power })?;
        Ok(true)
    }

    fn reaches(&self, threshold: ThresholdParam) -> Verdict {
        let total = self.validators.total_voting_power();
        if threshold.is_met(self.power, total) {
            return Ok(());
        }
        Err(CertificateError::NotEnoughVotingPower {
            signed: self.power,
            total,
            expected: threshold.min_expected(total),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::context::{Height, Validator};
    use super::*;
    use crate::keys::NodeKey;
    use ct::{CommitSignature, PolkaSignature, Round, RoundSignature};

    const CHAIN: B256 = B256::repeat_byte(9);
    const VALUE: B256 = B256::repeat_byte(5);

    fn keys() -> Vec<NodeKey> {
        (1..=4).map(|n| NodeKey::from_seed([n; 32])).collect()
    }

    fn validators() -> Validators {
        let keys = keys();
        let all =
            keys.iter().map(|k| Validator { id: k.node_id(), key: k.public_key().verifying().unwrap(), power: 1 });
        Validators::new(all.collect())
    }

    fn sign(key: &NodeKey, kind: VoteType, value: NilOrVal<B256>, round: u32) -> Signature {
        let vote = Vote { height: Height(3), round: Round::new(round), value, kind, voter: key.node_id() };
        key.signing().sign(&vote.sign_bytes(&CHAIN))
    }

    fn commit(signers: &[usize]) -> CommitCertificate<Cx> {
        let keys = keys();
        let signatures = signers.iter().map(|i| {
            let signature = sign(&keys[*i], VoteType::Precommit, NilOrVal::Val(VALUE), 0);
            CommitSignature::new(keys[*i].node_id(), signature)
        });
        CommitCertificate {
            height: Height(3),
            round: Round::new(0),
            value_id: VALUE,
            commit_signatures: signatures.collect(),
        }
    }

    fn check(certificate: &CommitCertificate<Cx>) -> Verdict {
        verify_commit(&CHAIN, certificate, &validators(), ThresholdParams::default())
    }

    #[test]
    fn three_of_four_commit_and_two_do_not() {
        assert_eq!(check(&commit(&[0, 1, 2])), Ok(()));
        assert_eq!(check(&commit(&[0, 1, 2, 3])), Ok(()));
        assert!(matches!(
            check(&commit(&[0, 1])),
            Err(CertificateError::NotEnoughVotingPower { signed: 2, total: 4, expected: 3 })
        ));
        assert!(check(&commit(&[])).is_err());
    }

    #[test]
    fn a_doubled_signer_does_not_count_twice() {
        assert!(matches!(check(&commit(&[0, 1, 1])), Err(CertificateError::DuplicateVote(_))));
    }

    #[test]
    fn a_forged_signature_refuses_all_even_with_a_quorum_beside_it() {
        let mut forged = commit(&[0, 1, 2, 3]);
        forged.commit_signatures[3].signature = forged.commit_signatures[2].signature;
        assert!(matches!(check(&forged), Err(CertificateError::InvalidCommitSignature(_))));
    }

    #[test]
    fn signatures_for_another_round_value_chain_or_kind_are_refused() {
        let good = commit(&[0, 1, 2]);
        let mut round = good.clone();
        round.round = Round::new(1);
        assert!(check(&round).is_err());
        let mut value = good.clone();
        value.value_id = B256::ZERO;
        assert!(check(&value).is_err());
        let other = verify_commit(&B256::ZERO, &good, &validators(), ThresholdParams::default());
        assert!(other.is_err());
        let polka = PolkaCertificate {
            height: good.height,
            round: good.round,
            value_id: good.value_id,
            polka_signatures: good
                .commit_signatures
                .iter()
                .map(|s| PolkaSignature::new(s.address, s.signature))
                .collect(),
        };
        let verdict = verify_polka(&CHAIN, &polka, &validators(), ThresholdParams::default());
        assert!(matches!(verdict, Err(CertificateError::InvalidPolkaSignature(_))));
    }

    #[test]
    fn a_stranger_is_refused() {
        let mut certificate = commit(&[0, 1, 2]);
        let stranger = NodeKey::from_seed([99; 32]);
        certificate.commit_signatures[0] =
            CommitSignature::new(stranger.node_id(), sign(&stranger, VoteType::Precommit, NilOrVal::Val(VALUE), 0));
        assert!(matches!(check(&certificate), Err(CertificateError::UnknownValidator(_))));
    }

    #[test]
    fn round_certificates_need_a_third_to_skip_and_two_thirds_of_precommits() {
        let keys = keys();
        let certificate = |cert_type, kind, signers: usize| RoundCertificate {
            height: Height(3),
            round: Round::new(2),
            cert_type,
            round_signatures: keys[..signers]
                .iter()
                .map(|k| {
                    let signature = sign(k, kind, NilOrVal::Nil, 2);
                    RoundSignature::new(kind, NilOrVal::Nil, k.node_id(), signature)
                })
                .collect(),
        };
        let check = |c: &RoundCertificate<Cx>| verify_round(&CHAIN, c, &validators(), ThresholdParams::default());
        use RoundCertificateType::{Precommit, Skip};
        assert_eq!(check(&certificate(Skip, VoteType::Prevote, 2)), Ok(()));
        assert!(check(&certificate(Skip, VoteType::Prevote, 1)).is_err());
        assert_eq!(check(&certificate(Precommit, VoteType::Precommit, 3)), Ok(()));
        assert!(check(&certificate(Precommit, VoteType::Precommit, 2)).is_err());
        assert!(matches!(
            check(&certificate(Precommit, VoteType::Prevote, 4)),
            Err(CertificateError::InvalidVoteType(_))
        ));
    }
}
