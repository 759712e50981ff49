//! Audit records.

use hanse_proto::v1 as pb;
use hanse_state::audit::AuditRecord;

use super::ms;
use crate::error::ApiError;
use crate::trail::Proven;

/// A record.
pub(crate) fn record(it: &AuditRecord) -> pb::AuditRecord {
    pb::AuditRecord {
        seq: it.seq,
        revision: it.revision,
        at_ms: ms(it.at),
        actor: it.actor.clone(),
        source: it.source.clone(),
        action: it.action.clone(),
        resource: it.resource.clone(),
        request_id: it.request_id.clone(),
        outcome: it.outcome.clone(),
        detail: it.detail.clone(),
        prev_hash: it.prev_hash.to_string(),
        hash: it.hash.to_string(),
    }
}

/// A checkpoint: the note, and what can be read in it.
pub(crate) fn checkpoint(it: &Proven) -> pb::AuditCheckpoint {
    pb::AuditCheckpoint {
        note: it.note.clone(),
        tree_size: it.checkpoint.size,
        root_hash: hex::encode(it.checkpoint.root),
        head_hash: hex::encode(it.checkpoint.chain),
        verifier_key: it.key.to_string(),
    }
}

/// A proof's hashes.
pub(crate) fn proof(it: &Proven) -> Vec<String> {
    it.proof.iter().map(hex::encode).collect()
}

/// A record's line: its canonical JSON, `hash` as the last key.
pub(crate) fn line(it: &AuditRecord) -> Result<String, ApiError> {
    serde_json::to_string(it).map_err(|error| ApiError::internal("audit line", error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use hanse_state::digest::Digest;
    use hanse_state::time::Millis;

    #[test]
    fn a_line_without_its_hash_is_what_was_hashed() {
        let mut it = AuditRecord {
            seq: 1,
            revision: 4,
            at: Millis(5),
            actor: "accounts/li@acme".into(),
            source: "10.0.0.1".into(),
            action: "CastBallot".into(),
            resource: "consortiums/trade/proposals/p-1".into(),
            request_id: "x".into(),
            outcome: "ok".into(),
            detail: "{\"a\":\"ü\"}".into(),
            prev_hash: Digest::default(),
            hash: Digest::default(),
        };
        it.hash = it.expected_hash();
        let text = line(&it).unwrap();
        let body = text.replace(&format!(",\"hash\":\"{}\"", it.hash), "");
        assert_eq!(Digest::of(body.as_bytes()), it.hash);
    }
}
