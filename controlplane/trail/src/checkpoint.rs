//! A checkpoint: what a replica signs of the trail at one moment, as C2SP specifies it (c2sp.org/tlog-checkpoint).
//!
//! Six lines: origin, tree size, root (base64); then of our own `chain <hex>`, the chain hash of the last record, `cluster <id>`
//! and `time <milliseconds>`. Outside witnesses pass over lines that they do not know, and so does [`Checkpoint::parse`] over
//! lines after these.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::merkle::Hash;
use crate::note::{self, NoteError, SigningKey, VerifierKey};

/// Size, root and what else is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the trail: [`crate::origin`].
    pub origin: String,
    /// How many records there are.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// Chain hash of the last record; zeros if there is none.
    pub chain: Hash,
    /// Id of the cluster.
    pub cluster: String,
    /// Log time in milliseconds since 1970.
    pub at_ms: u64,
}

/// Why a checkpoint is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Its signature is missing or does not fit.
    #[error("the checkpoint cannot be trusted")]
    Note(#[source] NoteError),
    /// Its text is none of a checkpoint.
    #[error("this is not a checkpoint of an audit trail: {0}")]
    Format(&'static str),
}

impl Checkpoint {
    /// Gives the text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let (root, chain) = (BASE64.encode(self.root), hex::encode(self.chain));
        let Self { origin, size, cluster, at_ms, .. } = self;
        format!("{origin}\n{size}\n{root}\nchain {chain}\ncluster {cluster}\ntime {at_ms}\n")
    }

    /// Gives the signed note.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(&self.text())
    }

    /// Reads a note that `key` has signed.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(key.open(note).map_err(CheckpointError::Note)?)?;
        let fits = checkpoint.origin == key.name();
        if fits { Ok(checkpoint) } else { Err(CheckpointError::Format("its origin is not the name of its key")) }
    }

    /// Reads a note without looking at its signatures: whoever calls has no key, and must say so.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open_unverified(note: &str) -> Result<Self, CheckpointError> {
        let (text, _) = note::split(note).map_err(CheckpointError::Note)?;
        Self::parse(text)
    }

    /// Reads the text that is signed.
    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.lines();
        let mut line = |what| lines.next().filter(|line| !line.is_empty()).ok_or(CheckpointError::Format(what));
        let origin = line("the first line, its origin, is missing")?.to_owned();
        let size = whole(line("the second line, the tree's size, is missing")?)
            .ok_or(CheckpointError::Format("the second line is not the tree's size"))?;
        let root = line("the third line, the root, is missing")?;
        let root = BASE64.decode(root).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let root = root.ok_or(CheckpointError::Format("the third line is not 32 bytes of base64"))?;
        let chain = line("the line `chain` is missing")?.strip_prefix("chain ");
        let chain = chain.and_then(crate::lines::parse_hash);
        let chain = chain.ok_or(CheckpointError::Format("the fourth line is not `chain` and 64 hex digits"))?;
        let cluster = line("the line `cluster` is missing")?.strip_prefix("cluster ").map(str::to_owned);
        let cluster = cluster.ok_or(CheckpointError::Format("the fifth line is not `cluster` and its id"))?;
        let at_ms = line("the line `time` is missing")?.strip_prefix("time ").and_then(whole);
        let at_ms = at_ms.ok_or(CheckpointError::Format("the sixth line is not `time` and milliseconds"))?;
        Ok(Self { origin, size, root, chain, cluster, at_ms })
    }
}

/// Reads a whole number that is written in the one way it can be: without sign and leading zeros.
fn whole(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}
