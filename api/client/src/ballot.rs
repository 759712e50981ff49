//! The text a ballot signs, and its signature.
//!
//! The voter's own machine computes the hash of the artifact it was shown; a hash that the server merely states is
//! never signed.

use hanse_proto::v1 as pb;
use ring::digest::{SHA256, digest};

use crate::key::MemberKey;

/// Why a ballot cannot be signed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BallotError {
    /// The choice is missing.
    #[error("the choice must be yes, no or abstain")]
    Choice,
    /// The artifact's bytes do not have the stated hash.
    #[error("the artifact shown has hash {computed}, but the server states {stated}")]
    Artifact {
        /// Hash of the bytes.
        computed: String,
        /// Hash the server states.
        stated: String,
    },
    /// A part holds a character that could forge another line of the text.
    #[error("{field} {value:?} is not a plain id")]
    Part {
        /// Which part.
        field: &'static str,
        /// Its value.
        value: String,
    },
}

/// Returns the hex SHA-256 of an artifact's bytes.
pub fn artifact_hash(artifact: &[u8]) -> String {
    hex::encode(digest(&SHA256, artifact))
}

/// Returns the text that a ballot signs.
///
/// # Errors
/// [`BallotError::Choice`] or [`BallotError::Part`].
pub fn text(
    cluster_id: &str,
    consortium: &str,
    proposal: &str,
    artifact_hash: &str,
    voter: &str,
    choice: pb::Choice,
) -> Result<String, BallotError> {
    let choice = match choice {
        pb::Choice::Yes => "yes",
        pb::Choice::No => "no",
        pb::Choice::Abstain => "abstain",
        pb::Choice::Unspecified => return Err(BallotError::Choice),
    };
    for (field, value) in [
        ("cluster", cluster_id),
        ("consortium", consortium),
        ("proposal", proposal),
        ("artifact hash", artifact_hash),
        ("voter", voter),
    ] {
        check_part(field, value)?;
    }
    Ok(format!(
        "hanse ballot v1\ncluster: {cluster_id}\nconsortium: {consortium}\nproposal: {proposal}\n\
         artifact: {artifact_hash}\nvoter: {voter}\nchoice: {choice}\n"
    ))
}

/// Returns the signed ballot for a proposal as it was shown, ready to be sent.
///
/// # Errors
/// Any [`BallotError`]; nothing was signed.
pub fn sign(
    key: &MemberKey,
    cluster_id: &str,
    shown: &pb::Proposal,
    voter: &str,
    choice: pb::Choice,
) -> Result<pb::CastBallotRequest, BallotError> {
    let computed = artifact_hash(&shown.artifact);
    if computed != shown.artifact_hash {
        return Err(BallotError::Artifact { computed, stated: shown.artifact_hash.clone() });
    }
    let text = text(cluster_id, &shown.consortium, &shown.proposal, &computed, voter, choice)?;
    Ok(pb::CastBallotRequest {
        request_id: String::new(),
        validate_only: false,
        consortium: shown.consortium.clone(),
        proposal: shown.proposal.clone(),
        voter: voter.to_owned(),
        choice: choice.into(),
        artifact_hash: computed,
        signature: key.sign_hex(&text),
    })
}

/// Refuses a part with anything but lower-case letters, digits and dashes, which is all that ids and hashes have.
pub(crate) fn check_part(field: &'static str, value: &str) -> Result<(), BallotError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !value.is_empty() && value.bytes().all(plain) {
        Ok(())
    } else {
        Err(BallotError::Part { field, value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Frozen: what members have signed must verify for ever.
    #[test]
    fn frozen_text() {
        let hash = artifact_hash(b"{}");
        let text =
            text("0190c0de-0000-7000-8000-000000000001", "trade", "p-1", &hash, "acme", pb::Choice::Yes).unwrap();
        assert_eq!(
            text,
            "hanse ballot v1\n\
             cluster: 0190c0de-0000-7000-8000-000000000001\n\
             consortium: trade\n\
             proposal: p-1\n\
             artifact: 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\n\
             voter: acme\n\
             choice: yes\n"
        );
    }

    #[test]
    fn a_forged_line_is_refused() {
        let error = text("c", "trade\nvoter: evil", "p-1", "aa", "acme", pb::Choice::No).unwrap_err();
        assert!(matches!(error, BallotError::Part { field: "consortium", .. }));
        assert_eq!(text("c", "t", "p-1", "aa", "a", pb::Choice::Unspecified).unwrap_err(), BallotError::Choice);
    }

    #[test]
    fn a_stated_hash_is_never_signed() {
        let key = MemberKey::generate().unwrap();
        let mut proposal = pb::Proposal {
            consortium: "trade".to_owned(),
            proposal: "p-1".to_owned(),
            artifact: b"{\"version\":1}".to_vec(),
            artifact_hash: artifact_hash(b"another"),
            ..pb::Proposal::default()
        };
        assert!(matches!(sign(&key, "c", &proposal, "acme", pb::Choice::Yes), Err(BallotError::Artifact { .. })));
        proposal.artifact_hash = artifact_hash(&proposal.artifact);
        let ballot = sign(&key, "c", &proposal, "acme", pb::Choice::Yes).unwrap();
        let text = text("c", "trade", "p-1", &proposal.artifact_hash, "acme", pb::Choice::Yes).unwrap();
        let public = hex::decode(key.public_hex()).unwrap();
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public)
            .verify(text.as_bytes(), &hex::decode(ballot.signature).unwrap())
            .unwrap();
    }
}
