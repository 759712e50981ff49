//! What native contracts speak: calls and answers as Solidity's ABI encodes them, typed logs, and reverts with a reason.
//! Reading is strict about bounds.

use alloy_primitives::{B256, Bytes, U256, keccak256};

/// Bytes of a word.
pub(crate) const WORD: usize = 32;

/// The first four bytes of a call of this function.
pub(crate) fn selector(signature: &str) -> [u8; 4] {
    let hash = keccak256(signature);
    [hash[0], hash[1], hash[2], hash[3]]
}

/// A call's arguments.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn word(&self, at: usize) -> Result<U256, String> {
        let bytes = at.checked_add(WORD).and_then(|end| self.0.get(at..end));
        bytes.map(U256::from_be_slice).ok_or_else(|| format!("the input ends before byte {at} of its arguments"))
    }

    pub(crate) fn small(&self, at: usize, what: &str) -> Result<u64, String> {
        u64::try_from(self.word(at)?).map_err(|_| format!("{what} is too large"))
    }

    /// Where a dynamic part begins: `base` and what the word at `at` says.
    pub(crate) fn offset(&self, base: usize, at: usize) -> Result<usize, String> {
        let offset = usize::try_from(self.word(at)?).ok().and_then(|offset| base.checked_add(offset));
        offset.filter(|offset| *offset <= self.0.len()).ok_or_else(|| "an offset points behind the input".to_owned())
    }

    /// The length that stands at `at`, of at most `most` of `what`.
    pub(crate) fn length(&self, at: usize, most: usize, what: &str) -> Result<usize, String> {
        let length = usize::try_from(self.word(at)?).ok().filter(|length| *length <= most);
        length.ok_or_else(|| format!("more than {most} {what}"))
    }

    /// The bytes of a `name` whose length stands at `at`.
    pub(crate) fn bytes(&self, at: usize, most: usize, name: &str) -> Result<Bytes, String> {
        let length = self.length(at, most, &format!("bytes in {name}"))?;
        let start = at + WORD;
        let bytes = self.0.get(start..start + length);
        bytes.map(Bytes::copy_from_slice).ok_or_else(|| format!("{name} is cut off"))
    }
}

/// The output of a revert: Solidity's `Error(string)`.
pub(crate) fn error(reason: &str) -> Bytes {
    let mut bytes = selector("Error(string)").to_vec();
    bytes.extend_from_slice(&U256::from(WORD).to_be_bytes::<WORD>());
    append_bytes(&mut bytes, reason.as_bytes());
    bytes.into()
}

/// Appends a dynamic part of bytes: its length and itself, filled up to whole words.
pub(crate) fn append_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&U256::from(bytes.len()).to_be_bytes::<WORD>());
    to.extend_from_slice(bytes);
    to.resize(to.len() + (WORD - bytes.len() % WORD) % WORD, 0);
}

/// A log: topics and data of a typed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) topics: Vec<B256>,
    pub(crate) data: Bytes,
}

impl Event {
    pub(crate) fn new(signature: &str, indexed: &[B256], data: &[U256]) -> Self {
        let mut topics = vec![keccak256(signature)];
        topics.extend_from_slice(indexed);
        let data: Vec<u8> = data.iter().flat_map(|word| word.to_be_bytes::<WORD>()).collect();
        Self { topics, data: data.into() }
    }
}
