//! Comparisons of content with its hashes that people asked for: each runs once, however often it is asked about.
//!
//! What this never does: keep more than [`CHECKS_MAX`] answers, or hold a caller up for long.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hanse_state::artifact::Artifact;
use tokio::sync::watch;

use super::{ArtifactStore, StoreError};

/// Answers that are remembered.
const CHECKS_MAX: usize = 16;
/// Longest a caller is held up for one.
const WAIT: Duration = Duration::from_secs(5);

/// What was found of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Not known yet.
    Reading,
    /// All is there and has its hash.
    Whole { files: u32 },
    /// Something is not there.
    Partial { files: u32, reason: String },
    /// Something was not what it is named; it was dropped.
    Damaged { files: u32, reason: String },
}

/// By the text that asked for it, oldest first.
#[derive(Default)]
pub(crate) struct Checks(Mutex<VecDeque<(String, watch::Receiver<Found>)>>);

impl Checks {
    /// Returns what the comparison named `name` has found; begins it if there is none, and waits a little for its end.
    pub(crate) async fn ask(&self, store: &ArtifactStore, artifact: &Artifact, name: &str) -> Found {
        let mut found = self.begun(store, artifact, name);
        // Not yet, or the task was dropped because the replica stops.
        drop(tokio::time::timeout(WAIT, found.wait_for(|found| *found != Found::Reading)).await);
        found.borrow().clone()
    }

    fn begun(&self, store: &ArtifactStore, artifact: &Artifact, name: &str) -> watch::Receiver<Found> {
        let name = format!("{}/{name}", artifact.sha256);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = known.iter().find(|(known, _)| *known == name) {
            return found.clone();
        }
        let (sender, receiver) = watch::channel(Found::Reading);
        let (store, artifact) = (store.clone(), Arc::new(artifact.clone()));
        tokio::task::spawn_blocking(move || sender.send_replace(look(&store, &artifact, true)));
        if known.len() >= CHECKS_MAX {
            known.pop_front();
        }
        known.push_back((name, receiver.clone()));
        receiver
    }
}

/// Looks which files of an artifact are there; reads them if `read`. Blocks.
pub(super) fn look(store: &ArtifactStore, artifact: &Artifact, read: bool) -> Found {
    let all = match store.files_of(artifact) {
        Ok(all) => all,
        Err(error) => return Found::Partial { files: 0, reason: error.to_string() },
    };
    let (mut files, mut missing, mut damaged) = (0, None, None);
    for sha256 in &all {
        let found = if read { store.verify(sha256) } else { store.path(sha256).map(drop) };
        match found {
            Ok(()) => files += 1,
            Err(error @ StoreError::Hash { .. }) => damaged = Some(error.to_string()),
            Err(error) => missing = Some(error.to_string()),
        }
    }
    match (damaged, missing) {
        (Some(reason), _) => Found::Damaged { files, reason },
        (None, Some(reason)) => Found::Partial { files, reason },
        (None, None) => Found::Whole { files },
    }
}
