//! Who did what, when, with which outcome: one record for each request, chained by hashes so that an edit shows.
//!
//! The chain: `hash` is the SHA-256 of the record's JSON (fields in the order of [`AuditRecord`], no white space,
//! without `hash`); `prev_hash` is the `hash` of the record before, zeros for the first. The state keeps the head.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::time::Millis;

/// What the JSON of a record takes besides its detail, mostly; room for it is made at once.
const BODY_BYTES: usize = 768;

/// Head of the chain, in the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// How many records there are; the last one's `seq`.
    pub count: u64,
    /// `hash` of the last one.
    pub head: Digest,
}

impl AuditHead {
    /// Goes on to `record`, the next one of the chain.
    ///
    /// # Errors
    /// It is not the next one, or was changed; the head is as before.
    pub fn follow(&mut self, record: &AuditRecord) -> Result<(), AuditError> {
        if record.seq != self.count + 1 {
            return Err(AuditError::Gap { expected: self.count + 1, found: record.seq });
        }
        if record.prev_hash != self.head {
            return Err(AuditError::Broken { seq: record.seq });
        }
        if record.hash != record.expected_hash() {
            return Err(AuditError::Changed { seq: record.seq });
        }
        *self = Self { count: record.seq, head: record.hash };
        Ok(())
    }
}

/// One request, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// From 1 on, without gap.
    pub seq: u64,
    /// Log entry.
    pub revision: u64,
    /// Log time.
    pub at: Millis,
    /// Who: `system`, `setup-code` or `accounts/...`.
    pub actor: String,
    /// From where (address of the client), empty for the system.
    pub source: String,
    /// Which command.
    pub action: String,
    /// Which resource.
    pub resource: String,
    /// Which request.
    pub request_id: String,
    /// `ok` or the rejection's reason.
    pub outcome: String,
    /// What was asked as JSON, without any secret.
    pub detail: String,
    /// `hash` of the record before.
    pub prev_hash: Digest,
    /// Hash of this record.
    pub hash: Digest,
}

/// Where a chain of records is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// A number is missing or doubled.
    #[error("audit record {found} stands where {expected} must")]
    Gap {
        /// Number that must come.
        expected: u64,
        /// Number that came.
        found: u64,
    },
    /// The record does not continue the one before.
    #[error("audit record {seq} does not continue the record before it")]
    Broken {
        /// Its number.
        seq: u64,
    },
    /// The record's content is not what was hashed.
    #[error("audit record {seq} was changed after it was written")]
    Changed {
        /// Its number.
        seq: u64,
    },
    /// The last record is not the head that the state keeps.
    #[error("the records end at {found}, the head is {expected}")]
    Head {
        /// Count in the state.
        expected: u64,
        /// Last number read.
        found: u64,
    },
}

impl AuditRecord {
    /// The hash that the record must have.
    pub fn expected_hash(&self) -> Digest {
        #[derive(Serialize)]
        struct Body<'a> {
            seq: u64,
            revision: u64,
            at: Millis,
            actor: &'a str,
            source: &'a str,
            action: &'a str,
            resource: &'a str,
            request_id: &'a str,
            outcome: &'a str,
            detail: &'a str,
            prev_hash: Digest,
        }
        let body = Body {
            seq: self.seq,
            revision: self.revision,
            at: self.at,
            actor: &self.actor,
            source: &self.source,
            action: &self.action,
            resource: &self.resource,
            request_id: &self.request_id,
            outcome: &self.outcome,
            detail: &self.detail,
            prev_hash: self.prev_hash,
        };
        let mut json = Vec::with_capacity(self.detail.len() + BODY_BYTES);
        serde_json::to_writer(&mut json, &body).expect("plain struct of text and whole numbers");
        Digest::of(&json)
    }
}

/// Returns the head that `records` from the first on lead to.
///
/// # Errors
/// The first place where the chain is broken.
pub fn verify<'a>(records: impl Iterator<Item = &'a AuditRecord>) -> Result<AuditHead, AuditError> {
    let mut head = AuditHead::default();
    for record in records {
        head.follow(record)?;
    }
    Ok(head)
}

/// Verifies `records` and that they end at the head that the state keeps.
///
/// # Errors
/// The first place where the chain is broken, or `Head`.
pub fn verify_against<'a>(
    records: impl Iterator<Item = &'a AuditRecord>,
    expected: &AuditHead,
) -> Result<(), AuditError> {
    let found = verify(records)?;
    if &found == expected { Ok(()) } else { Err(AuditError::Head { expected: expected.count, found: found.count }) }
}
