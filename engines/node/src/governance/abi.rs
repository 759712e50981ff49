//! The transaction's input: `execute((uint8,bytes32,uint256)[] changes, uint256 sequence, uint256 deadline, bytes[]
//! signatures)` as Solidity's ABI encodes it. Reading is strict about bounds and takes no input that means nothing.

use alloy_primitives::{B256, Bytes, U256};

use super::{Action, CHANGES_MAX, Call, Change, MEMBERS_MAX};
use crate::native::abi::{Reader, WORD, append_bytes, selector};

const EXECUTE: &str = "execute((uint8,bytes32,uint256)[],uint256,uint256,bytes[])";
/// A member's signature in bytes.
const SIGNATURE_BYTES: usize = 65;

/// A call's input.
pub(super) fn encode(call: &Call) -> Bytes {
    let mut bytes = selector(EXECUTE).to_vec();
    let mut word = |value: U256| bytes.extend_from_slice(&value.to_be_bytes::<WORD>());
    let changes_at = 4 * WORD;
    let signatures_at = changes_at + WORD + call.changes.len() * 3 * WORD;
    for value in [changes_at as u64, call.sequence, call.deadline, signatures_at as u64] {
        word(U256::from(value));
    }
    word(U256::from(call.changes.len()));
    for change in &call.changes {
        word(U256::from(change.action.number()));
        word(change.subject.into());
        word(change.value);
    }
    word(U256::from(call.signatures.len()));
    let mut at = call.signatures.len() * WORD;
    for signature in &call.signatures {
        word(U256::from(at));
        at += WORD + signature.len().div_ceil(WORD) * WORD;
    }
    for signature in &call.signatures {
        append_bytes(&mut bytes, signature);
    }
    bytes.into()
}

/// Reads a call's input, on a chain with or without an audit anchor.
///
/// # Errors
/// The reason, for the one who sent it.
pub(super) fn decode(input: &[u8], is_anchored: bool) -> Result<Call, String> {
    let body = input
        .strip_prefix(&selector(EXECUTE))
        .ok_or_else(|| format!("unknown function; governance has only {EXECUTE}"))?;
    let reader = Reader(body);
    let changes_at = reader.offset(0, 0)?;
    let sequence = reader.small(WORD, "sequence")?;
    let deadline = reader.small(2 * WORD, "deadline")?;
    let signatures_at = reader.offset(0, 3 * WORD)?;
    let count = reader.length(changes_at, CHANGES_MAX, "changes")?;
    let changes = (0..count).map(|i| change(&reader, changes_at + WORD + i * 3 * WORD, is_anchored));
    let changes = changes.collect::<Result<_, _>>()?;
    let count = reader.length(signatures_at, MEMBERS_MAX, "signatures")?;
    let start = signatures_at + WORD;
    let signatures =
        (0..count).map(|i| reader.bytes(reader.offset(start, start + i * WORD)?, SIGNATURE_BYTES, "a signature"));
    let signatures = signatures.collect::<Result<_, _>>()?;
    Ok(Call { changes, sequence, deadline, signatures })
}

/// A change of three words.
fn change(reader: &Reader<'_>, at: usize, is_anchored: bool) -> Result<Change, String> {
    let number = reader.word(at)?;
    // A chain without an anchor judges as programs did that knew none.
    let action = Action::of_number(number).filter(|action| is_anchored || *action != Action::SetAnchorKey);
    let action = action.ok_or_else(|| format!("there is no action {number}"))?;
    Ok(Change { action, subject: B256::from(reader.word(at + WORD)?), value: reader.word(at + 2 * WORD)? })
}
