//! Bringing content to the platform: each file in pieces, going on where the leader has got to.
//!
//! A leader that changes in between may have nothing of a file: then it begins anew, said so, a few times at most.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use hanse_client::pb;
use tokio::time::Instant;

use super::super::context::Context;
use super::super::error::CliError;
use super::content::{Content, Piece, Source};

/// Bytes of a piece.
const PIECE_BYTES: usize = 1 << 20;
/// Times that a file may begin anew.
const ANEW_MAX: u32 = 5;
/// Between two words about how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at who has it.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Puts every file that the leader does not have whole.
///
/// # Errors
/// A file changed or cannot be read; the platform refuses.
pub(crate) async fn put(context: &Context, content: &Content) -> Result<(), CliError> {
    let sha256 = content.pieces.iter().map(|piece| piece.sha256.clone()).collect();
    let there = context.call(pb::GetContentRequest { sha256 }).await?.contents;
    let (mut said, mut done) = (Instant::now(), 0);
    for (piece, known) in content.pieces.iter().zip(there) {
        if !known.whole {
            put_piece(context, piece, known.received_bytes, |at| {
                if said.elapsed() >= SAY_EVERY {
                    said = Instant::now();
                    context.say(&format!("{} of {} MiB", (done + at) >> 20, content.size >> 20));
                }
            })
            .await?;
        }
        done += piece.size;
    }
    Ok(())
}

async fn put_piece(context: &Context, piece: &Piece, from: u64, mut each: impl FnMut(u64)) -> Result<(), CliError> {
    let (mut at, mut anew) = (from, 0);
    loop {
        let data = read(piece, at)?;
        let request = pb::PutContentRequest {
            request_id: String::new(),
            sha256: piece.sha256.clone(),
            size_bytes: piece.size,
            offset: at,
            data,
        };
        let held = context.call(request).await?.content.unwrap_or_default();
        if held.whole {
            return Ok(());
        }
        if held.received_bytes < at {
            anew += 1;
            context.say("the leader has changed; its copy goes on from where it is");
            if anew > ANEW_MAX {
                let message = format!("{} began anew {ANEW_MAX} times", piece.sha256);
                return Err(CliError::Failed(format!(
                    "{message}; look at `hanse replica list`, then run the command again"
                )));
            }
        }
        at = held.received_bytes;
        each(at);
    }
}

fn read(piece: &Piece, at: u64) -> Result<Vec<u8>, CliError> {
    match &piece.source {
        Source::Bytes(bytes) => {
            let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Ok(bytes[from..bytes.len().min(from.saturating_add(PIECE_BYTES))].to_vec())
        }
        Source::File(path) => {
            let mut file = File::open(path).map_err(|e| CliError::file(path, &e))?;
            file.seek(SeekFrom::Start(at)).map_err(|e| CliError::file(path, &e))?;
            let mut data = Vec::with_capacity(PIECE_BYTES);
            let left = piece.size.saturating_sub(at).min(PIECE_BYTES as u64);
            file.take(left).read_to_end(&mut data).map_err(|e| CliError::file(path, &e))?;
            if (data.len() as u64) < left {
                return Err(CliError::local(
                    format!("{} became shorter while it was sent", path.display()),
                    "Run the command again.",
                ));
            }
            Ok(data)
        }
    }
}

/// Waits until a majority of the replicas has all of it: then no single disk can lose it. Returns who has it, in words.
///
/// # Errors
/// It is not so in the time of the command.
pub(crate) async fn wait_for_majority(context: &Context, sha256: &str, limit: Duration) -> Result<(), CliError> {
    let until = Instant::now() + limit;
    loop {
        let copies = context.call(pb::GetArtifactRequest { sha256: sha256.into() }).await?.copies;
        let whole = copies.iter().filter(|copy| copy.state() == pb::CopyState::Whole).count();
        if whole > copies.len() / 2 {
            context.say(&format!("{whole} of {} replicas have it", copies.len()));
            return Ok(());
        }
        if Instant::now() >= until {
            let message = format!(
                "it is imported, but so far {whole} of {} replicas have it; `hanse artifact get {sha256}` tells more",
                copies.len()
            );
            return Err(CliError::StillRunning(message));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
