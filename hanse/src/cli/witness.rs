//! `hanse audit checkpoint|prove|verify --witness`: what somebody outside needs to notice that the trail was changed.
//!
//! A witness is a person or a machine that keeps, apart from the platform, the checkpoints it has seen. Whatever is done to the
//! replicas afterwards, a trail that was cut, changed or written anew cannot continue them. Every proof is checked here before it
//! is shown; a replica's word counts for nothing.

use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use hanse_client::pb;
use hanse_trail::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use hanse_trail::{Checkpoint, Hash, Seen, VerifierKey, Witness, WitnessError, record_of};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::audit::ProveArgs;
use super::context::{Context, Global};
use super::error::CliError;
use crate::output::{self, Format};

/// A file with a key or a checkpoint is far shorter.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Prints a checkpoint: as text the signed note itself, so that it can be kept in a file.
///
/// # Errors
/// The call failed, or the answer is not what its note says.
pub(super) async fn checkpoint(global: &Global) -> Result<(), CliError> {
    let answer = Context::new(global)?.call(pb::GetAuditCheckpointRequest {}).await?;
    let (note, _, checkpoint) = open(answer.checkpoint.as_ref())?;
    match global.format() {
        Format::Json => {
            output::print_json(&hanse_client::json::response::<pb::GetAuditCheckpointRequest>(&answer))?;
        }
        Format::Table => output::print(&note)?,
        Format::Name => output::print(&format!("{}\n", checkpoint.size))?,
    }
    Ok(())
}

/// Prints a proof that was checked.
///
/// # Errors
/// The call failed, or the proof does not hold.
pub(super) async fn prove(args: ProveArgs, global: &Global) -> Result<(), CliError> {
    let context = Context::new(global)?;
    let (value, words) = match args {
        ProveArgs { seq: Some(seq), .. } => {
            let answer = context.call(pb::GetAuditRecordProofRequest { seq }).await?;
            let (_, _, checkpoint) = open(answer.checkpoint.as_ref())?;
            if !includes(&answer, seq, &checkpoint) {
                return Err(CliError::Failed(format!("the proof of record {seq} does not hold")));
            }
            let value = hanse_client::json::response::<pb::GetAuditRecordProofRequest>(&answer);
            (
                value,
                format!(
                    "record {seq} is one of the {} records with root {}",
                    checkpoint.size,
                    hex::encode(checkpoint.root)
                ),
            )
        }
        ProveArgs { since, root, .. } => {
            let old_size = since.unwrap_or_default();
            let answer = context.call(pb::GetAuditConsistencyProofRequest { old_size }).await?;
            let (_, _, checkpoint) = open(answer.checkpoint.as_ref())?;
            let words = continues(&answer.proof, old_size, root.as_ref(), &checkpoint)?;
            let value = hanse_client::json::response::<pb::GetAuditConsistencyProofRequest>(&answer);
            let (size, root) = (checkpoint.size, hex::encode(checkpoint.root));
            (value, format!("from {old_size} to {size} records with root {root}{words}"))
        }
    };
    match global.format() {
        Format::Json => output::print_json(&value)?,
        Format::Table | Format::Name => {
            let hashes = value["proof"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let path: String = hashes.map(|hash| format!("  {hash}\n")).collect();
            output::print(&format!("{words}\n{path}"))?;
        }
    }
    Ok(())
}

/// Whether the answer proves that its line is record `seq` of the checkpoint's tree.
fn includes(answer: &pb::GetAuditRecordProofResponse, seq: u64, checkpoint: &Checkpoint) -> bool {
    match (record_of(&answer.line), hashes(&answer.proof)) {
        (Some((number, chain)), Some(proof)) if number == seq && seq > 0 => {
            verify_inclusion(&leaf_hash(&chain), seq - 1, checkpoint.size, &proof, &checkpoint.root)
        }
        _ => false,
    }
}

/// Checks a proof with the earlier root, which only who asks can know; says whether it was checked.
fn continues(
    proof: &[String],
    old_size: u64,
    old_root: Option<&String>,
    checkpoint: &Checkpoint,
) -> Result<&'static str, CliError> {
    let Some(old_root) = old_root else { return Ok("; give --root to have it checked with the earlier root") };
    let roots = hashes(std::slice::from_ref(old_root));
    let Some([old_root]) = roots.as_deref() else {
        return Err(CliError::local("--root is not 64 hex digits", "It is `root_hash` of the earlier checkpoint."));
    };
    let proof = hashes(proof).unwrap_or_default();
    if verify_consistency(old_size, checkpoint.size, &proof, old_root, &checkpoint.root) {
        return Ok(", which begins with the earlier ones");
    }
    let seen = WitnessError::Changed { seen: old_size };
    Err(CliError::Failed(seen.to_string()))
}

/// Asks for a checkpoint and adds it to the witness's file if it continues the last one there.
///
/// # Errors
/// The call failed, or the trail is not the one that the witness has seen: then the file is as before.
pub(super) async fn watch(path: &Path, key: Option<&str>, global: &Global) -> Result<(), CliError> {
    let context = Context::new(global)?;
    let fail = |error: &dyn std::fmt::Display| CliError::file(path, error);
    let mut file = File::options().read(true).append(true).create(true).open(path).map_err(|error| fail(&error))?;
    // Two that run at once would each continue the same checkpoint.
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| fail(&error))?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| fail(&error))?;
    let answer = context.call(pb::GetAuditCheckpointRequest {}).await?;
    let (note, shown, checkpoint) = open(answer.checkpoint.as_ref())?;
    let given = key.map(read_key).transpose()?;
    let is_new = text.is_empty();
    let mut witness = if is_new {
        if given.is_none() {
            context.say(&format!(
                "trusting the key {shown} from now on; compare it with audit.vkey of the authority's folder"
            ));
        }
        Witness::new(given.unwrap_or(shown))
    } else {
        known(path, &text, given.as_ref())?
    };
    let last = witness.seen().last().cloned();
    let seen = match &last {
        Some(last) if checkpoint.size > last.size => {
            let answer = context.call(pb::GetAuditConsistencyProofRequest { old_size: last.size }).await?;
            let (note, ..) = open(answer.checkpoint.as_ref())?;
            Seen { note, proof: hashes(&answer.proof).unwrap_or_default() }
        }
        _ => Seen { note, proof: Vec::new() },
    };
    witness.accept(&seen).map_err(|error| alarm(path, &error))?;
    let now = witness.seen().last().ok_or_else(|| CliError::Failed("nothing was seen".to_owned()))?;
    let grown = now.size - last.as_ref().map_or(0, |last| last.size);
    if last.is_none() || grown > 0 {
        let head = if is_new { witness.head_line() } else { String::new() };
        let written = file.write_all((head + &seen.line()).as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|error| fail(&error))?;
    }
    let root = hex::encode(now.root);
    match global.format() {
        Format::Json => output::print_json(&json!({
            "ok": true, "tree_size": now.size, "root_hash": root, "grown_by": grown,
            "checkpoints": witness.seen().len() - usize::from(last.is_some() && grown == 0),
        }))?,
        Format::Table | Format::Name => {
            output::print(&format!("{} records, {grown} more than before, nothing changed; root {root}\n", now.size))?;
        }
    }
    Ok(())
}

/// Gives the checkpoints that a witness has seen, after the file was checked.
///
/// # Errors
/// The file cannot be read or is not what a witness writes.
pub(super) fn seen(path: &Path, key: Option<&str>) -> Result<Vec<Checkpoint>, CliError> {
    let given = key.map(read_key).transpose()?;
    let text = std::fs::read_to_string(path).map_err(|error| CliError::file(path, &error))?;
    let witness = known(path, &text, given.as_ref())?;
    if witness.seen().is_empty() {
        return Err(CliError::file(path, &"the witness has seen nothing yet"));
    }
    Ok(witness.seen().to_vec())
}

/// Reads a checkpoint from a file: the note, or what `-o json` printed. Without a key its signature is not checked, which is said.
///
/// # Errors
/// The file cannot be read, or the checkpoint is not to be trusted.
pub(super) fn read_checkpoint(path: &Path, key: Option<&str>) -> Result<Checkpoint, CliError> {
    let text = read_short(path)?;
    let note = match serde_json::from_str::<Value>(&text) {
        Ok(value) => value["checkpoint"]["note"].as_str().unwrap_or_default().to_owned(),
        Err(_) => text,
    };
    let opened = match key {
        Some(key) => Checkpoint::open(&note, &read_key(key)?),
        None => {
            output::say("the checkpoint's signature is not checked; give --key to check it");
            Checkpoint::open_unverified(&note)
        }
    };
    opened.map_err(|error| CliError::Failed(format!("{}: {}", path.display(), chain(&error))))
}

fn known(path: &Path, text: &str, given: Option<&VerifierKey>) -> Result<Witness, CliError> {
    let witness = Witness::read(text).map_err(|error| alarm(path, &error))?;
    match given {
        Some(key) if key != witness.key() => {
            Err(CliError::file(path, &format!("the witness trusts the key {}, not the given one", witness.key())))
        }
        _ => Ok(witness),
    }
}

fn alarm(path: &Path, error: &WitnessError) -> CliError {
    CliError::Failed(format!("{}: {}", path.display(), chain(error)))
}

/// An error with its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn read_short(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| CliError::file(path, &error))?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| CliError::file(path, &error))?;
    Ok(text)
}

/// Reads a key as text, or from the file of that name.
pub(super) fn read_key(given: &str) -> Result<VerifierKey, CliError> {
    if let Ok(key) = VerifierKey::parse(given) {
        return Ok(key);
    }
    let path = Path::new(given);
    VerifierKey::parse(&read_short(path)?).map_err(|error| CliError::file(path, &error))
}

/// Takes a checkpoint out of an answer: its note, the key it names, and what the note says. The answer must not say otherwise, and
/// must be signed by the key it names; whether that is the right key only somebody outside can know.
pub(super) fn open(shown: Option<&pb::AuditCheckpoint>) -> Result<(String, VerifierKey, Checkpoint), CliError> {
    let fault = |why: String| CliError::Failed(format!("the replica's checkpoint: {why}"));
    let shown = shown.ok_or_else(|| fault("there is none in the answer".to_owned()))?;
    let key = VerifierKey::parse(&shown.verifier_key).map_err(|error| fault(chain(&error)))?;
    let checkpoint = Checkpoint::open(&shown.note, &key).map_err(|error| fault(chain(&error)))?;
    let said = (shown.tree_size, shown.root_hash.as_str(), shown.head_hash.as_str());
    if said != (checkpoint.size, &hex::encode(checkpoint.root), &hex::encode(checkpoint.chain)) {
        return Err(fault("the answer says other things than its note".to_owned()));
    }
    Ok((shown.note.clone(), key, checkpoint))
}

pub(super) fn hashes(proof: &[String]) -> Option<Vec<Hash>> {
    let one = |text: &String| {
        let mut hash = Hash::default();
        hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
    };
    proof.iter().map(one).collect()
}
