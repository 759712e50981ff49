//! What a call says, what it does, and why one is refused. Everything is decided from the call, the height and the storage.

use std::error::Error;

use alloy_primitives::{B256, Bytes, U256};
use hanse_trail::merkle::{Hash, verify_consistency};
use hanse_trail::{Checkpoint, CheckpointError};

use super::layout::{self, Recorded};
use super::{NAME_BYTES_MAX, Trust};
use crate::governance::{Slots, SlotsMut};
use crate::native::abi::{Event, Reader, WORD, selector};
use crate::native::{Done, Failure, refuse};

const ANCHOR: &str = "anchor(string,bytes32[])";
const LATEST: &str = "latest()";
/// The log of a head.
pub(super) const ANCHORED: &str = "Anchored(uint64,bytes32,bytes32,uint64,uint64,uint64)";
/// Longest checkpoint: its lines without the name take some 300 bytes, and each signature names the trail once more.
const CHECKPOINT_BYTES_MAX: usize = 1_024 + 4 * NAME_BYTES_MAX;
/// Hashes in a proof: a path of a tree of 2^64 leaves, and the node it begins with.
const PROOF_MAX: usize = 65;

/// A call, read.
pub(super) enum Call {
    /// Record a head.
    Anchor(Order),
    /// Say which is the last.
    Latest,
}

/// What shall be recorded.
pub(super) struct Order {
    note: Bytes,
    /// That the tree continues the one recorded last.
    proof: Vec<Hash>,
}

impl Order {
    /// The checkpoint, if it is signed by whom the chain trusts.
    pub(super) fn open(&self, trust: &Trust) -> Result<Checkpoint, CheckpointError> {
        let text = std::str::from_utf8(&self.note).map_err(|_| CheckpointError::Format("it is not UTF-8"))?;
        Checkpoint::open(text, &trust.key)
    }

    /// Hashes in its proof.
    pub(super) fn hashes(&self) -> u64 {
        self.proof.len() as u64
    }
}

/// Reads a call's input.
///
/// # Errors
/// The reason, for the one who sent it.
pub(super) fn decode(input: &[u8]) -> Result<Call, String> {
    if input == selector(LATEST) {
        return Ok(Call::Latest);
    }
    let body = input
        .strip_prefix(&selector(ANCHOR))
        .ok_or_else(|| format!("unknown function; the anchor has only {ANCHOR} and {LATEST}"))?;
    let reader = Reader(body);
    let note = reader.bytes(reader.offset(0, 0)?, CHECKPOINT_BYTES_MAX, "the checkpoint")?;
    let at = reader.offset(0, WORD)?;
    let count = reader.length(at, PROOF_MAX, "hashes in the proof")?;
    let hash = |i| reader.word(at + WORD + i * WORD).map(|word| word.to_be_bytes());
    Ok(Call::Anchor(Order { note, proof: (0..count).map(hash).collect::<Result<_, _>>()? }))
}

/// Records a head in the block of `height`. What is recorded already is no fault and changes nothing. After a failure the caller
/// reverts the storage.
///
/// # Errors
/// The rule that it breaks, or that the storage failed.
pub(super) fn record<S: SlotsMut>(
    slots: &mut S,
    trust: &Trust,
    height: u64,
    order: &Order,
) -> Result<Done, Failure<S::Error>> {
    let checkpoint = match order.open(trust) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return refuse(chain(&error)),
    };
    let last = layout::read(slots)?.of(trust);
    let Checkpoint { size, root, chain, at_ms, .. } = checkpoint;
    if size == 0 {
        return refuse("the checkpoint has no records");
    }
    if size < last.size {
        let Recorded { size: known, height, .. } = last;
        return refuse(format!("the checkpoint has {size} records, but block {height} recorded {known}"));
    }
    if !verify_consistency(last.size, size, &order.proof, &root_of(&last), &root)
        || (size == last.size && last.chain != chain)
    {
        let Recorded { size: known, height, .. } = last;
        return refuse(format!(
            "it is not proven that the first {known} records are those that block {height} recorded: the proof is of another \
             size, or the trail was changed"
        ));
    }
    if size == last.size {
        return Ok(Done::default());
    }
    let new = Recorded { size, root: root.into(), chain: chain.into(), at_ms, height, era: trust.era };
    layout::write(slots, &new)?;
    let data = [U256::from_be_bytes(chain), U256::from(at_ms), U256::from(trust.era), U256::from(last.height)];
    let events = vec![Event::new(ANCHORED, &[B256::from(U256::from(size)), new.root], &data)];
    Ok(Done { events, ..Done::default() })
}

/// The root that the next tree must continue.
fn root_of(last: &Recorded) -> Hash {
    if last.size == 0 { hanse_trail::merkle::empty_root() } else { last.root.0 }
}

/// What `latest()` returns: size, root, chain hash, time, height, era, and the key, each one word.
pub(super) fn latest<S: Slots>(slots: &mut S, trust: &Trust) -> Result<Done, Failure<S::Error>> {
    let last = layout::read(slots)?.of(trust);
    let words: [U256; 7] = [
        U256::from(last.size),
        last.root.into(),
        last.chain.into(),
        U256::from(last.at_ms),
        U256::from(if last.size == 0 { 0 } else { last.height }),
        U256::from(trust.era),
        U256::from_be_bytes(*trust.key.public()),
    ];
    let output: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes::<WORD>()).collect();
    Ok(Done { output: output.into(), ..Done::default() })
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
