//! Programs of nodes that were voted on, from the store of artifacts on this replica.
//!
//! What a node runs is named by content; before it is put on a host, all of it is read once here and compared with its hash, and
//! the host compares again. A replica that does not have it yet fetches it from the others by itself; until then whatever
//! needs it waits.
//!
//! What this never does: decide what a node runs, or take a file whose hash differs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hanse_engines_core::{EngineError, NodeProgram};
use hanse_state::artifact::ArtifactKind;
use hanse_state::chain::outfit::{Outfit, Program};
use hanse_state::{Digest, State};

use crate::artifacts::{ArtifactStore, StoreError};

/// The programs; a clone is another handle.
#[derive(Clone, Default)]
pub struct Programs {
    store: Option<ArtifactStore>,
    /// What was read and compared since this replica started, with how its files were then.
    known: Arc<Mutex<BTreeMap<Digest, (Marks, NodeProgram)>>>,
}

impl Programs {
    /// Programs from `store`.
    pub fn of(store: ArtifactStore) -> Self {
        Self { store: Some(store), known: Arc::default() }
    }

    /// Returns the program of `outfit`; `None` is the engine's own.
    ///
    /// # Errors
    /// `NotNow` if it is not (wholly) here, or not as its hash says.
    pub async fn find(&self, state: &State, outfit: &Outfit) -> Result<Option<NodeProgram>, EngineError> {
        let Some(program) = &outfit.program else { return Ok(None) };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&program.sha256).cloned();
        if let Some((marks, found)) = known
            && state.artifacts.contains_key(&program.sha256)
            && marks == marks_of(&found)
        {
            return Ok(Some(found));
        }
        let wait = |reason: String| EngineError::NotNow { node: format!("program {program}"), reason };
        let kept = state.artifacts.get(&program.sha256);
        let kind = kept.ok_or_else(|| wait("the platform keeps no such artifact: import it again".into()))?.kind;
        let store = self.store.clone().ok_or_else(|| wait("this replica keeps no artifacts".into()))?;
        let (sha256, named) = (program.sha256, program.clone());
        let read = tokio::task::spawn_blocking(move || read(&store, &named, kind)).await;
        let (marks, found) = read.map_err(|e| wait(e.to_string()))?.map_err(|error| {
            wait(format!("it is not on this replica yet ({error}); `hanse artifact get {sha256}` tells who has it"))
        })?;
        // What was written to while it was compared is compared again the next time.
        if marks == marks_of(&found) {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(sha256, (marks, found.clone()));
        }
        Ok(Some(found))
    }
}

/// Size and time of change of each file; `None` of one that is not there. A file that was deleted, brought again or written to is
/// read and compared again.
type Marks = Vec<Option<(u64, SystemTime)>>;

fn marks_of(program: &NodeProgram) -> Marks {
    let files: Vec<&PathBuf> = match program {
        NodeProgram::Program(artifact) => vec![&artifact.path],
        NodeProgram::Bundle(bundle) => {
            [&bundle.manifest.path].into_iter().chain(bundle.files.iter().map(|file| &file.path)).collect()
        }
    };
    let mark = |path: &PathBuf| {
        let known = std::fs::metadata(path).ok()?;
        Some((known.len(), known.modified().ok()?))
    };
    files.into_iter().map(mark).collect()
}

/// The program, compared with its hash, and the marks of its files from before that.
fn read(store: &ArtifactStore, program: &Program, kind: ArtifactKind) -> Result<(Marks, NodeProgram), StoreError> {
    match kind {
        ArtifactKind::Bundle => {
            let marks = marks_of(&NodeProgram::Bundle(store.named_bundle(&program.sha256)?));
            let compared = store.bundle(&program.sha256)?;
            Ok((marks, NodeProgram::Bundle(compared)))
        }
        ArtifactKind::Program | ArtifactKind::Image => {
            let path = store.path(&program.sha256)?;
            let sha256 = program.sha256.to_string();
            let found = NodeProgram::Program(hanse_adapters_core::Artifact { sha256, path });
            let marks = marks_of(&found);
            store.verify(&program.sha256)?;
            Ok((marks, found))
        }
    }
}
