//! The heads that were recorded, from the newest back: each one's log names the block of the one before.

use alloy_primitives::{B256, U256, keccak256};

use super::execute::ANCHORED;
use super::{ADDRESS, Recorded};
use crate::NodeError;
use crate::native::abi::WORD;
use crate::store::{Snapshot, StoredLog};

/// A head and where it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchored {
    pub(crate) head: Recorded,
    pub(crate) block_hash: B256,
    pub(crate) transaction: B256,
    /// The block of the head before; 0 if there was none.
    pub(crate) previous: u64,
}

/// Gives the heads recorded in block `height` and before, the newest first, and the block in which the next older one is, if there
/// are more. At least `most` of them, if so many are there: a block's are never torn apart. It ends where blocks are pruned; then
/// the second is a block that is not kept.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn before(
    snapshot: &Snapshot,
    mut height: u64,
    most: usize,
) -> Result<(Vec<Anchored>, Option<u64>), NodeError> {
    let mut found = Vec::new();
    while height > 0 && found.len() < most {
        let Some(block) = snapshot.block(height)? else { return Ok((found, Some(height))) };
        let receipts = snapshot.receipts(height)?.unwrap_or_default();
        let mut here = Vec::new();
        for (tx, receipt) in block.transactions().iter().zip(&receipts) {
            let heads = receipt.logs.iter().filter_map(|log| read(log, height));
            here.extend(heads.map(|(head, previous)| Anchored {
                head,
                block_hash: block.hash(),
                transaction: *tx.tx_hash(),
                previous,
            }));
        }
        // The first of a block names the one before it that is in another block.
        height = here.first().map_or(0, |first| first.previous);
        found.extend(here.into_iter().rev());
    }
    Ok((found, (height > 0).then_some(height)))
}

/// Reads a log of the anchor; `None` if it is none.
fn read(log: &StoredLog, height: u64) -> Option<(Recorded, u64)> {
    let [event, size, root] = *log.topics.as_slice() else { return None };
    if log.address != ADDRESS || event != keccak256(ANCHORED) {
        return None;
    }
    let (words, _) = log.data.as_chunks::<WORD>();
    let [chain, at_ms, era, previous] = *words else { return None };
    let small = |word: [u8; WORD]| u64::try_from(U256::from_be_bytes(word)).ok();
    let head =
        Recorded { size: small(size.0)?, root, chain: chain.into(), at_ms: small(at_ms)?, height, era: small(era)? };
    Some((head, small(previous)?))
}
