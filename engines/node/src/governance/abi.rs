//! The transaction's input: `execute((uint8,bytes32,uint256)[] changes, uint256 sequence, uint256 deadline, bytes[]
//! signatures)` as Solidity's ABI encodes it, and the logs' and errors' forms. Reading is strict about bounds and takes
//! no input that means nothing.

use alloy_primitives::{B256, Bytes, U256, keccak256};

use super::{Action, CHANGES_MAX, Call, Change, MEMBERS_MAX};

const EXECUTE: &str = "execute((uint8,bytes32,uint256)[],uint256,uint256,bytes[])";
const WORD: usize = 32;

fn selector(signature: &str) -> [u8; 4] {
    let hash = keccak256(signature);
    [hash[0], hash[1], hash[2], hash[3]]
}

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
        bytes.extend_from_slice(&U256::from(signature.len()).to_be_bytes::<WORD>());
        bytes.extend_from_slice(signature);
        bytes.resize(bytes.len() + (WORD - signature.len() % WORD) % WORD, 0);
    }
    bytes.into()
}

/// Reads a call's input.
///
/// # Errors
/// The reason, for the one who sent it.
pub(super) fn decode(input: &[u8]) -> Result<Call, String> {
    let body = input
        .strip_prefix(&selector(EXECUTE))
        .ok_or_else(|| format!("unknown function; governance has only {EXECUTE}"))?;
    let reader = Reader(body);
    let changes_at = reader.offset(0, 0)?;
    let sequence = reader.small(WORD, "sequence")?;
    let deadline = reader.small(2 * WORD, "deadline")?;
    let signatures_at = reader.offset(0, 3 * WORD)?;
    let count = reader.length(changes_at, CHANGES_MAX, "changes")?;
    let changes = (0..count).map(|i| reader.change(changes_at + WORD + i * 3 * WORD)).collect::<Result<_, _>>()?;
    let count = reader.length(signatures_at, MEMBERS_MAX, "signatures")?;
    let start = signatures_at + WORD;
    let signatures =
        (0..count).map(|i| reader.bytes(reader.offset(start, start + i * WORD)?)).collect::<Result<_, _>>()?;
    Ok(Call { changes, sequence, deadline, signatures })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn word(&self, at: usize) -> Result<U256, String> {
        let bytes = at.checked_add(WORD).and_then(|end| self.0.get(at..end));
        bytes.map(U256::from_be_slice).ok_or_else(|| format!("the input ends before byte {at} of its arguments"))
    }

    fn small(&self, at: usize, what: &str) -> Result<u64, String> {
        u64::try_from(self.word(at)?).map_err(|_| format!("{what} is too large"))
    }

    /// Where a dynamic part begins: `base` and what the word at `at` says.
    fn offset(&self, base: usize, at: usize) -> Result<usize, String> {
        let offset = usize::try_from(self.word(at)?).ok().and_then(|offset| base.checked_add(offset));
        offset.filter(|offset| *offset <= self.0.len()).ok_or_else(|| "an offset points behind the input".to_owned())
    }

    fn length(&self, at: usize, most: usize, what: &str) -> Result<usize, String> {
        let length = usize::try_from(self.word(at)?).ok().filter(|length| *length <= most);
        length.ok_or_else(|| format!("more than {most} {what}"))
    }

    fn change(&self, at: usize) -> Result<Change, String> {
        let number = self.word(at)?;
        let action = Action::of_number(number).ok_or_else(|| format!("there is no action {number}"))?;
        Ok(Change { action, subject: B256::from(self.word(at + WORD)?), value: self.word(at + 2 * WORD)? })
    }

    fn bytes(&self, at: usize) -> Result<Bytes, String> {
        let length = self.length(at, 65, "bytes in a signature")?;
        let start = at + WORD;
        let bytes = self.0.get(start..start + length);
        bytes.map(Bytes::copy_from_slice).ok_or_else(|| "a signature is cut off".to_owned())
    }
}

/// The output of a revert: Solidity's `Error(string)`.
pub(super) fn error(reason: &str) -> Bytes {
    let mut bytes = selector("Error(string)").to_vec();
    bytes.extend_from_slice(&U256::from(WORD).to_be_bytes::<WORD>());
    bytes.extend_from_slice(&U256::from(reason.len()).to_be_bytes::<WORD>());
    bytes.extend_from_slice(reason.as_bytes());
    bytes.resize(bytes.len() + (WORD - reason.len() % WORD) % WORD, 0);
    bytes.into()
}

/// A log: topics and data of a typed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) topics: Vec<B256>,
    pub(super) data: Bytes,
}

impl Event {
    pub(super) fn new(signature: &str, indexed: &[B256], data: &[U256]) -> Self {
        let mut topics = vec![keccak256(signature)];
        topics.extend_from_slice(indexed);
        let data: Vec<u8> = data.iter().flat_map(|word| word.to_be_bytes::<WORD>()).collect();
        Self { topics, data: data.into() }
    }
}
