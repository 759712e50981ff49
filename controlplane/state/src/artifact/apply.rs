//! Rules of artifacts and publishers: all checks, then all changes.

use super::{
    ARTIFACT_BYTES_MAX, ARTIFACTS_MAX, Artifact, ArtifactKind, DeleteArtifact, FILES_MAX, ImportArtifact, NAME_MAX,
    PROGRAM_MAX, PUBLISHERS_MAX, PinPublisher, Publisher, REASON_MAX, STORE_BYTES_MAX, UnpinPublisher, Word, query,
    signed_text,
};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::{Rejection, State, check, name};

pub(crate) fn import(state: &mut State, cx: &mut Cx<'_>, c: &ImportArtifact) -> Result<Outcome, Rejection> {
    let resource = name::artifact(&c.sha256);
    check_shape(c)?;
    check_word(state, c)?;
    if let Some(known) = state.artifacts.get(&c.sha256) {
        let same = (&known.name, &known.version, known.kind) == (&c.name, &c.version, c.kind);
        return match same {
            // Brought again, for a replica that lost its content.
            true => Ok(Outcome::Unchanged { resource }),
            false => Err(Rejection::AlreadyExists { field: "sha256".into(), what: resource }),
        };
    }
    if let Some(other) = state.artifacts.values().find(|it| it.name == c.name && it.version == c.version) {
        let what = format!("{} {} ({})", c.name, c.version, name::artifact(&other.sha256));
        return Err(Rejection::AlreadyExists { field: "version".into(), what });
    }
    check::quota("sha256", "the number of artifacts", state.artifacts.len(), ARTIFACTS_MAX)?;
    let room = STORE_BYTES_MAX.saturating_sub(query::bytes(state));
    if c.size_bytes > room {
        let what = "the bytes of all artifacts".into();
        return Err(Rejection::QuotaExceeded { field: "size_bytes".into(), what, limit: STORE_BYTES_MAX });
    }

    let artifact = Artifact {
        sha256: c.sha256,
        name: c.name.clone(),
        version: c.version.clone(),
        kind: c.kind,
        size_bytes: c.size_bytes,
        files: c.files,
        program: c.program.clone(),
        word: c.word.clone(),
        imported_by: cx.request.actor.to_string(),
        imported_at: cx.now,
    };
    state.artifacts.insert(c.sha256, artifact);
    cx.created(resource.clone());
    Ok(Outcome::Done { resource })
}

pub(crate) fn delete(state: &mut State, cx: &mut Cx<'_>, c: &DeleteArtifact) -> Result<Outcome, Rejection> {
    query::get(state, &c.sha256)?;
    let resource = name::artifact(&c.sha256);
    crate::chain::outfit_apply::check_unused(state, &c.sha256)?;

    state.artifacts.remove(&c.sha256);
    cx.deleted(resource.clone());
    Ok(Outcome::Done { resource })
}

pub(crate) fn pin(state: &mut State, cx: &mut Cx<'_>, c: &PinPublisher) -> Result<Outcome, Rejection> {
    let resource = name::publisher(&c.publisher);
    match state.publishers.get(&c.publisher) {
        Some(known) if known.key == c.key => return Ok(Outcome::Unchanged { resource }),
        Some(_) => return Err(Rejection::AlreadyExists { field: "publisher".into(), what: resource }),
        None => {}
    }
    if let Some(other) = state.publishers.values().find(|it| it.key == c.key) {
        let what = format!("this key, as {}", name::publisher(&other.id));
        return Err(Rejection::AlreadyExists { field: "key".into(), what });
    }
    check::quota("publisher", "the number of publishers", state.publishers.len(), PUBLISHERS_MAX)?;

    let publisher = Publisher { id: c.publisher.clone(), key: c.key, pinned_at: cx.now };
    state.publishers.insert(c.publisher.clone(), publisher);
    cx.created(resource.clone());
    Ok(Outcome::Done { resource })
}

pub(crate) fn unpin(state: &mut State, cx: &mut Cx<'_>, c: &UnpinPublisher) -> Result<Outcome, Rejection> {
    query::publisher(state, &c.publisher)?;
    let resource = name::publisher(&c.publisher);

    state.publishers.remove(&c.publisher);
    cx.deleted(resource.clone());
    Ok(Outcome::Done { resource })
}

fn check_shape(c: &ImportArtifact) -> Result<(), Rejection> {
    word("name", &c.name, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c))?;
    word("version", &c.version, |c| c.is_ascii_alphanumeric() || "-._+".contains(c))?;
    check::range("size_bytes", c.size_bytes, 1, ARTIFACT_BYTES_MAX)?;
    match c.kind {
        ArtifactKind::Bundle => {
            check::range("files", u64::from(c.files), 1, u64::from(FILES_MAX))?;
            check::text("program", &c.program, PROGRAM_MAX)
        }
        ArtifactKind::Program | ArtifactKind::Image => {
            check::range("files", u64::from(c.files), 1, 1)?;
            if c.program.is_empty() {
                return Ok(());
            }
            Err(check::invalid("program", &c.program, "empty: only a bundle names the program among its files"))
        }
    }
}

fn word(field: &str, value: &str, allowed: impl Fn(char) -> bool) -> Result<(), Rejection> {
    let starts = value.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if starts && value.len() <= NAME_MAX && value.chars().all(allowed) {
        return Ok(());
    }
    let rule = format!(
        "1 to {NAME_MAX} letters (of a name lower-case), digits, '-', '.', '_' (of a version also '+'), the first a letter or digit"
    );
    Err(check::invalid(field, value, rule))
}

fn check_word(state: &State, c: &ImportArtifact) -> Result<(), Rejection> {
    let (publisher, signature) = match &c.word {
        Word::Unsigned { reason } => return check::text("unsigned_reason", reason, REASON_MAX),
        Word::Signed { publisher, signature } => (publisher, signature),
    };
    let key = query::publisher(state, publisher)?.key;
    let text = signed_text(&c.sha256, c.kind, &c.name, &c.version);
    if key.verifies(text.as_bytes(), signature) {
        return Ok(());
    }
    let rule = format!("{publisher}'s over this very content, kind, name and version");
    Err(check::invalid("signature", signature, rule))
}
