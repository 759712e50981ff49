//! Reads of this area, from a snapshot of the state.

use super::{Artifact, Publisher};
use crate::ids::PublisherId;
use crate::{Digest, Rejection, State, name};

/// Returns the artifact.
///
/// # Errors
/// `NotFound`.
pub fn get<'a>(state: &'a State, sha256: &Digest) -> Result<&'a Artifact, Rejection> {
    let missing = || Rejection::NotFound { field: "sha256".into(), what: name::artifact(sha256) };
    state.artifacts.get(sha256).ok_or_else(missing)
}

/// Returns the publisher.
///
/// # Errors
/// `NotFound`.
pub fn publisher<'a>(state: &'a State, id: &PublisherId) -> Result<&'a Publisher, Rejection> {
    let missing = || Rejection::NotFound { field: "publisher".into(), what: name::publisher(id) };
    state.publishers.get(id).ok_or_else(missing)
}

/// Returns bytes of all artifacts together.
pub fn bytes(state: &State) -> u64 {
    state.artifacts.values().map(|it| it.size_bytes).sum()
}
