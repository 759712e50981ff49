//! Keeps this replica's copies: fetches what the state names and this folder lacks, and clears away what nobody wants.
//!
//! Every replica does so for itself, from any other that has a piece; what came is taken only with the right hash. It runs
//! beside everything else, one file at a time.
//!
//! What this never does: ask anybody but replicas of this cluster, or delete what the state names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use hanse_proto::v1 as pb;
use hanse_proto::v1::artifact_service_client::ArtifactServiceClient;
use hanse_state::artifact::{ARTIFACT_BYTES_MAX, Artifact, ArtifactKind};
use hanse_state::{Digest, State};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::check::{Found, look};
use super::{ArtifactStore, PIECE_BYTES_MAX, StoreError};
use crate::context::Context;

/// Between two looks.
const ROUND: Duration = Duration::from_secs(1);
/// Longest wait for a piece.
const PIECE_MAX: Duration = Duration::from_secs(20);
/// How long content that is not imported is kept since it was last put or asked about: an upload over a slow line may be
/// broken off in the evening and go on in the morning.
const KEEP: Duration = Duration::from_secs(24 * 3_600);
/// Room of a message besides its piece.
const MESSAGE_ROOM: usize = 64 << 10;

/// Runs until `shutdown`.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let mut last = BTreeSet::new();
    let mut said = BTreeMap::new();
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let state = context.replica().local();
        // Before the log is read nothing is known to be unwanted.
        if state.revision == 0 {
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = fetch_all(&context, &state, &mut said) => {}
        }
        let store = context.artifacts().clone();
        let before = std::mem::take(&mut last);
        let cleared = tokio::task::spawn_blocking(move || clear(&store, &state, &before)).await;
        match cleared {
            Ok(Ok(wanted)) => last = wanted,
            Ok(Err(error)) => tracing::warn!(%error, "unwanted content of artifacts cannot be cleared away"),
            Err(error) => tracing::warn!(%error, "clearing away content of artifacts was broken off"),
        }
    }
}

/// Fetches what is missing; says each new trouble once.
async fn fetch_all(context: &Context, state: &State, said: &mut BTreeMap<Digest, String>) {
    for artifact in state.artifacts.values() {
        match fetch(context, artifact).await {
            Ok(()) => drop(said.remove(&artifact.sha256)),
            Err(reason) => {
                if said.insert(artifact.sha256, reason.clone()).as_ref() != Some(&reason) {
                    tracing::warn!(artifact = %artifact.sha256, reason, "its content is not all here yet");
                }
            }
        }
    }
}

/// Fetches all of one artifact: a bundle's manifest first, which names the rest.
async fn fetch(context: &Context, artifact: &Artifact) -> Result<(), String> {
    let (store, looked) = (context.artifacts().clone(), artifact.clone());
    let found = tokio::task::spawn_blocking(move || look(&store, &looked, false)).await.map_err(|e| e.to_string())?;
    if let Found::Whole { .. } = found {
        return Ok(());
    }
    fetch_file(context, &artifact.sha256).await?;
    if artifact.kind == ArtifactKind::Bundle {
        let (_, hashes) = context.artifacts().manifest(&artifact.sha256).map_err(|e| e.to_string())?;
        for sha256 in hashes {
            fetch_file(context, &sha256).await?;
        }
    }
    tracing::info!(artifact = %artifact.sha256, name = %artifact.name, "its content is here");
    Ok(())
}

/// Fetches one file from the first replica that has it whole.
async fn fetch_file(context: &Context, sha256: &Digest) -> Result<(), String> {
    if context.artifacts().path(sha256).is_ok() {
        return Ok(());
    }
    let mut reasons = Vec::new();
    for (id, address) in context.api_addresses() {
        let Some(channel) = context.peers().get(id, &address) else { continue };
        match fetch_from(context.artifacts(), channel, sha256).await {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(format!("replica {id}: {reason}")),
        }
    }
    Err(if reasons.is_empty() {
        format!("{sha256} is not here, and there is no other replica")
    } else {
        reasons.join("; ")
    })
}

async fn fetch_from(store: &ArtifactStore, channel: Channel, sha256: &Digest) -> Result<(), String> {
    let mut peer = client(channel);
    let mut held = blocking(store, sha256, |store, sha256| store.held(sha256)).await?;
    while !held.whole {
        let request = pb::GetContentPieceRequest { sha256: sha256.to_string(), offset: held.bytes };
        let answer = tokio::time::timeout(PIECE_MAX, peer.get_content_piece(request)).await;
        let piece =
            answer.map_err(|_| "no answer".to_owned())?.map_err(|status| status.message().to_owned())?.into_inner();
        if piece.size_bytes > ARTIFACT_BYTES_MAX || (piece.data.is_empty() && held.bytes < piece.size_bytes) {
            return Err("answered with nonsense".into());
        }
        let before = held.bytes;
        held = blocking(store, sha256, move |store, sha256| store.put(sha256, piece.size_bytes, before, &piece.data))
            .await?;
        if held.bytes < before {
            return Err("another was writing the same file".into());
        }
    }
    Ok(())
}

/// Runs what blocks on the disk where that holds nobody up.
async fn blocking<T: Send + 'static>(
    store: &ArtifactStore,
    sha256: &Digest,
    act: impl FnOnce(&ArtifactStore, &Digest) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, String> {
    let (store, sha256) = (store.clone(), *sha256);
    let done = tokio::task::spawn_blocking(move || act(&store, &sha256)).await;
    done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// A client of another replica's artifacts.
pub(crate) fn client(channel: Channel) -> ArtifactServiceClient<Channel> {
    ArtifactServiceClient::new(channel).max_decoding_message_size(PIECE_BYTES_MAX + MESSAGE_ROOM)
}

/// Deletes files that the state does not name: at once if it named them in the last round (`before`), else after a day.
/// Returns what it names now. Blocks.
fn clear(store: &ArtifactStore, state: &State, before: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, StoreError> {
    let mut wanted = BTreeSet::new();
    for artifact in state.artifacts.values() {
        wanted.extend(store.files_of(artifact)?);
    }
    let folder = &store.inner.folder;
    let fail = |source| StoreError::Io { path: folder.clone(), source };
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Ok(sha256) = name.strip_suffix(".part").unwrap_or(name).parse::<Digest>() else { continue };
        let age = fs::metadata(&path).and_then(|it| it.modified()).ok().and_then(|at| at.elapsed().ok());
        let old = age.is_some_and(|age| age > KEEP);
        if !wanted.contains(&sha256) && (before.contains(&sha256) || old) {
            fs::remove_file(&path).map_err(fail)?;
            tracing::info!(%sha256, "content that no artifact has any more is deleted");
        }
    }
    Ok(wanted)
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
