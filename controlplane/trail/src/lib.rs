//! Proving that the audit trail is the one that it was: a Merkle tree over its records, signed checkpoints of it, and proofs.
//!
//! [`merkle`]: the tree of RFC 6962, its inclusion and consistency proofs, and their verification. Leaf number `i` (from 0)
//! is the 32-byte chain hash of record `i + 1`, which stands for the whole record and all records before it. [`Tree`]: what a
//! replica keeps of the tree to make proofs. [`note`] and [`Checkpoint`]: size, root and chain hash as text that is signed with Ed25519, in the
//! formats that public logs and their witnesses use. [`Verifier`]: exported lines checked one by one, against checkpoints.
//! [`Witness`]: the file in which somebody outside keeps the checkpoints he has seen, each proven to continue the one before.
//!
//! The embedded ledger's node judges transactions by [`Checkpoint::open`] and [`merkle::verify_consistency`] (its audit anchor), so
//! what these two accept is a rule of consensus there: it changes with that node's protocol version or not at all.
//!
//! What this never does: IO, or trust in what it is handed: a replica, a file and a proof are all taken for forged until they add up.

mod checkpoint;
mod lines;
pub mod merkle;
pub mod note;
mod tree;
mod witness;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use lines::{Broken, Head, Verifier, record_of};
pub use merkle::Hash;
pub use note::{NoteError, SigningKey, VerifierKey};
pub use tree::{BLOCK_LEAVES, Tree, View};
pub use witness::{Seen, Witness, WitnessError};

/// The name under which the trail of a cluster is known outside, and the name of its key.
#[must_use]
pub fn origin(cluster: &str) -> String {
    format!("{cluster}.hanse.internal/audit")
}
