//! The file of an outside witness: the key it trusts, and every checkpoint it has accepted.
//!
//! JSON lines. The first names format and key; each other holds a checkpoint and the proof (hex) that it continues the one
//! before, so that the file can be checked again at any time, by anybody, without a replica. It only grows.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::lines::parse_hash;
use crate::merkle::{Hash, verify_consistency};
use crate::note::{NoteError, VerifierKey};

/// Format of the file.
const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadV1 {
    version: u32,
    key: String,
}

/// Each other line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenV1 {
    checkpoint: String,
    proof: Vec<String>,
}

/// An accepted checkpoint, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The signed note.
    pub note: String,
    /// The proof that it continues the one before.
    pub proof: Vec<Hash>,
}

/// Why a checkpoint is not accepted, or the file is not what it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// The file is something else.
    #[error("line {line} of the witness file is not what a witness writes: {detail}")]
    Format {
        /// Which line.
        line: u64,
        /// Why.
        detail: String,
    },
    /// The key is none.
    #[error("the key in the witness file")]
    Key(#[source] NoteError),
    /// The checkpoint itself is not taken.
    #[error("the checkpoint is refused")]
    Checkpoint(#[source] CheckpointError),
    /// It is of another cluster.
    #[error("the checkpoint is of cluster {found}, the witness watches {watched}")]
    Foreign {
        /// The checkpoint's.
        found: String,
        /// The file's.
        watched: String,
    },
    /// The trail became shorter.
    #[error("the trail has {found} records, but the witness saw {seen}: the end was cut off")]
    CutOff {
        /// Records now.
        found: u64,
        /// Records seen.
        seen: u64,
    },
    /// The trail is another one.
    #[error("the first {seen} records are no longer those that the witness saw: the trail was changed or written anew")]
    Changed {
        /// Records seen.
        seen: u64,
    },
}

/// What a witness knows.
#[derive(Clone, Debug)]
pub struct Witness {
    key: VerifierKey,
    seen: Vec<Checkpoint>,
}

impl Witness {
    /// Begins to watch with trust in `key`.
    #[must_use]
    pub fn new(key: VerifierKey) -> Self {
        Self { key, seen: Vec::new() }
    }

    /// Reads a file and checks it from the first line to the last.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn read(text: &str) -> Result<Self, WitnessError> {
        let mut lines = text.split_inclusive('\n').zip(1..);
        let format = |line, detail: &str| WitnessError::Format { line, detail: detail.to_owned() };
        let (head, _) = lines.next().ok_or_else(|| format(1, "it is empty"))?;
        let head: HeadV1 = serde_json::from_str(head).map_err(|error| format(1, &error.to_string()))?;
        if head.version != VERSION {
            return Err(format(1, &format!("it has version {}, this build reads {VERSION}", head.version)));
        }
        let mut witness = Self::new(VerifierKey::parse(&head.key).map_err(WitnessError::Key)?);
        for (text, line) in lines {
            if !text.ends_with('\n') {
                return Err(format(line, "it is cut off; remove it and ask again"));
            }
            let seen: SeenV1 = serde_json::from_str(text).map_err(|error| format(line, &error.to_string()))?;
            let proof = seen.proof.iter().map(|hash| parse_hash(hash)).collect::<Option<Vec<_>>>();
            let proof = proof.ok_or_else(|| format(line, "its proof is not made of hashes"))?;
            witness.accept(&Seen { note: seen.checkpoint, proof })?;
        }
        Ok(witness)
    }

    /// Gives the key it trusts.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Gives the checkpoints it has accepted, the oldest first.
    #[must_use]
    pub fn seen(&self) -> &[Checkpoint] {
        &self.seen
    }

    /// Accepts the next checkpoint.
    ///
    /// # Errors
    /// [`WitnessError`]; nothing changed.
    pub fn accept(&mut self, next: &Seen) -> Result<(), WitnessError> {
        let checkpoint = Checkpoint::open(&next.note, &self.key).map_err(WitnessError::Checkpoint)?;
        if let Some(last) = self.seen.last() {
            if checkpoint.cluster != last.cluster {
                return Err(WitnessError::Foreign { found: checkpoint.cluster, watched: last.cluster.clone() });
            }
            if checkpoint.size < last.size {
                return Err(WitnessError::CutOff { found: checkpoint.size, seen: last.size });
            }
            if !verify_consistency(last.size, checkpoint.size, &next.proof, &last.root, &checkpoint.root)
                || (checkpoint.size == last.size && checkpoint.chain != last.chain)
            {
                return Err(WitnessError::Changed { seen: last.size });
            }
        }
        self.seen.push(checkpoint);
        Ok(())
    }

    /// Gives the first line of its file.
    #[must_use]
    pub fn head_line(&self) -> String {
        line(&HeadV1 { version: VERSION, key: self.key.to_string() })
    }
}

impl Seen {
    /// Gives its line of the file.
    #[must_use]
    pub fn line(&self) -> String {
        line(&SeenV1 { checkpoint: self.note.clone(), proof: self.proof.iter().map(hex::encode).collect() })
    }
}

fn line(it: &impl Serialize) -> String {
    serde_json::to_string(it).expect("plain data") + "\n"
}
