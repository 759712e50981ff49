//! Artifacts and publishers.

use hanse_proto::v1 as pb;
use hanse_state::artifact::{Artifact, ArtifactKind, ImportArtifact, Publisher, Word};
use hanse_state::name;

use super::{hex, id, ms, text};
use crate::artifacts::Found;
use crate::error::ApiError;

pub(crate) fn artifact(it: &Artifact) -> pb::Artifact {
    let (publisher, unsigned_reason) = match &it.word {
        Word::Signed { publisher, .. } => (publisher.to_string(), String::new()),
        Word::Unsigned { reason } => (String::new(), reason.clone()),
    };
    let kind = match it.kind {
        ArtifactKind::Program => pb::ArtifactKind::Program,
        ArtifactKind::Bundle => pb::ArtifactKind::Bundle,
        ArtifactKind::Image => pb::ArtifactKind::Image,
    };
    pb::Artifact {
        name: name::artifact(&it.sha256),
        sha256: it.sha256.to_string(),
        title: it.name.clone(),
        version: it.version.clone(),
        kind: kind.into(),
        size_bytes: it.size_bytes,
        files: it.files,
        program: it.program.clone(),
        publisher,
        unsigned_reason,
        imported_by: it.imported_by.clone(),
        imported_at_ms: ms(it.imported_at),
    }
}

pub(crate) fn publisher(it: &Publisher) -> pb::Publisher {
    pb::Publisher {
        name: name::publisher(&it.id),
        publisher: it.id.to_string(),
        public_key: it.key.to_string(),
        pinned_at_ms: ms(it.pinned_at),
    }
}

/// The wish for an artifact: on a publisher's word or on an administrator's, never on both or none.
pub(crate) fn import(it: &pb::ImportArtifactRequest) -> Result<ImportArtifact, ApiError> {
    let kind = match it.kind() {
        pb::ArtifactKind::Program => ArtifactKind::Program,
        pb::ArtifactKind::Bundle => ArtifactKind::Bundle,
        pb::ArtifactKind::Image => ArtifactKind::Image,
        pb::ArtifactKind::Unspecified => {
            return Err(ApiError::invalid("kind", "is missing", "say program, bundle or image"));
        }
    };
    let signed = !it.publisher.is_empty() || !it.signature.is_empty();
    let word = match (signed, it.unsigned_reason.is_empty()) {
        (true, true) => {
            Word::Signed { publisher: id("publisher", &it.publisher)?, signature: hex("signature", &it.signature)? }
        }
        (false, false) => Word::Unsigned { reason: text("unsigned_reason", it.unsigned_reason.clone())? },
        (true, false) => {
            return Err(ApiError::invalid("unsigned_reason", "is given beside a signature", "leave one of them out"));
        }
        (false, true) => {
            let advice =
                "send the publisher's signature; an administrator may say with `unsigned_reason` why it goes without";
            return Err(ApiError::invalid("signature", "is missing", advice));
        }
    };
    Ok(ImportArtifact {
        sha256: hex("sha256", &it.sha256)?,
        name: text("title", it.title.clone())?,
        version: text("version", it.version.clone())?,
        kind,
        size_bytes: it.size_bytes,
        files: it.files,
        program: text("program", it.program.clone())?,
        word,
    })
}

/// What a replica has.
pub(crate) fn copy(replica: u64, found: Found) -> pb::Copy {
    let (state, files, reason) = match found {
        Found::Whole { files } => (pb::CopyState::Whole, files, String::new()),
        Found::Partial { files, reason } => (pb::CopyState::Partial, files, reason),
        Found::Damaged { files, reason } => (pb::CopyState::Damaged, files, reason),
        Found::Reading => (pb::CopyState::Checking, 0, String::new()),
    };
    pb::Copy { replica: replica.to_string(), state: state.into(), files, reason }
}

/// A replica that did not say.
pub(crate) fn unknown(replica: u64, reason: &str) -> pb::Copy {
    pb::Copy { replica: replica.to_string(), state: pb::CopyState::Unknown.into(), files: 0, reason: reason.into() }
}
