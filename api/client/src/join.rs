//! The text by which a tenant proves that it holds the key it joins a consortium with.

use hanse_proto::v1 as pb;

use crate::ballot::{BallotError, check_part};
use crate::key::MemberKey;

/// Returns the text that a joining member signs.
///
/// # Errors
/// [`BallotError::Part`].
pub fn text(cluster_id: &str, consortium: &str, tenant: &str, key_hex: &str) -> Result<String, BallotError> {
    for (field, value) in [("cluster", cluster_id), ("consortium", consortium), ("tenant", tenant), ("key", key_hex)] {
        check_part(field, value)?;
    }
    Ok(format!("hanse join v1\ncluster: {cluster_id}\nconsortium: {consortium}\ntenant: {tenant}\nkey: {key_hex}\n"))
}

/// Returns the signed request to join, ready to be sent.
///
/// # Errors
/// [`BallotError::Part`]; nothing was signed.
pub fn sign(
    key: &MemberKey,
    cluster_id: &str,
    consortium: &str,
    tenant: &str,
) -> Result<pb::JoinConsortiumRequest, BallotError> {
    let member_key = key.public_hex();
    let proof = key.sign_hex(&text(cluster_id, consortium, tenant, &member_key)?);
    Ok(pb::JoinConsortiumRequest {
        request_id: String::new(),
        validate_only: false,
        consortium: consortium.to_owned(),
        member_key,
        proof,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    /// Frozen: the server checks exactly this text.
    #[test]
    fn frozen_text() {
        assert_eq!(
            super::text("0190c0de-0000-7000-8000-000000000001", "trade", "acme", "ab").unwrap(),
            "hanse join v1\ncluster: 0190c0de-0000-7000-8000-000000000001\nconsortium: trade\ntenant: acme\nkey: ab\n"
        );
    }
}
