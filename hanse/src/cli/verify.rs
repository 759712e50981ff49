//! The hash chain of the audit trail, checked from its lines alone.
//!
//! A line is the record's JSON with `"hash"` as its last key. Its hash is the SHA-256 of the line without that key, and
//! its `prev_hash` is the hash of the line before (zeros for the first). The bytes are checked, not what a parser makes
//! of them, so that an added, doubled or reordered key is found too.

use ring::digest::{SHA256, digest};
use serde::Deserialize;

/// Hash before the first record.
const HASH_ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const HASH_KEY: &str = r#","hash":""#;
const LINE_END: &str = r#""}"#;

/// Count and last hash of a trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// How many records.
    pub(crate) count: u64,
    /// Hex hash of the last; zeros if there is none.
    pub(crate) hash: String,
}

/// The first place where a trail is broken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// A line is not a record.
    #[error("line {line} is not an audit record: {detail}")]
    Format {
        /// Which line.
        line: u64,
        /// Why.
        detail: String,
    },
    /// A record is missing, doubled or moved.
    #[error("line {line} holds record {found} where {expected} must stand: a record is missing, doubled or moved")]
    Order {
        /// Which line.
        line: u64,
        /// Which record must stand there.
        expected: u64,
        /// Which stands there.
        found: u64,
    },
    /// A record does not continue the one before.
    #[error("line {line} (record {seq}) does not continue the record before it")]
    Chain {
        /// Which line.
        line: u64,
        /// Which record.
        seq: u64,
    },
    /// A record was changed.
    #[error("line {line} (record {seq}) was changed after it was written")]
    Changed {
        /// Which line.
        line: u64,
        /// Which record.
        seq: u64,
    },
    /// The trail is another than the head's.
    #[error("line {line} (record {count}) does not have the head's hash: the trail was written anew")]
    Rewritten {
        /// Which line.
        line: u64,
        /// The head's record.
        count: u64,
    },
    /// Records are missing at the end.
    #[error("the trail ends at record {found}, but the head is record {expected}: the end is cut off")]
    Truncated {
        /// The head's record.
        expected: u64,
        /// The last record.
        found: u64,
    },
}

/// Checks line after line.
#[derive(Debug)]
pub(crate) struct Verifier {
    head: Head,
    lines: u64,
    last: Head,
}

/// The parts of a record that the chain needs.
#[derive(Deserialize)]
struct Record {
    seq: u64,
    prev_hash: String,
}

impl Verifier {
    /// Returns a verifier of a trail from its first record that must contain this head; records after it are
    /// checked too, for a trail grows while it is read.
    pub(crate) fn new(head: Head) -> Verifier {
        Verifier { head, lines: 0, last: Head { count: 0, hash: HASH_ZERO.to_owned() } }
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// The trail is broken here.
    pub(crate) fn take(&mut self, text: &str) -> Result<(), Broken> {
        self.lines += 1;
        let line = self.lines;
        let format = |detail: &str| Broken::Format { line, detail: detail.to_owned() };
        let (body, hash) = text
            .strip_suffix(LINE_END)
            .and_then(|text| text.rsplit_once(HASH_KEY))
            .filter(|(_, hash)| hash.len() == HASH_ZERO.len() && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .ok_or_else(|| format("it does not end with its hash"))?;
        let record: Record = serde_json::from_str(text).map_err(|error| format(&error.to_string()))?;
        let expected = self.last.count + 1;
        if record.seq != expected {
            return Err(Broken::Order { line, expected, found: record.seq });
        }
        if hex::encode(digest(&SHA256, format!("{body}}}").as_bytes())) != hash {
            return Err(Broken::Changed { line, seq: record.seq });
        }
        if record.prev_hash != self.last.hash {
            return Err(Broken::Chain { line, seq: record.seq });
        }
        if record.seq == self.head.count && hash != self.head.hash {
            return Err(Broken::Rewritten { line, count: record.seq });
        }
        self.last = Head { count: record.seq, hash: hash.to_owned() };
        Ok(())
    }

    /// Returns the last record's number and hash.
    ///
    /// # Errors
    /// The head was not reached, or a head of no records does not have the hash of none.
    pub(crate) fn finish(self) -> Result<Head, Broken> {
        if self.last.count < self.head.count {
            return Err(Broken::Truncated { expected: self.head.count, found: self.last.count });
        }
        if self.head.count == 0 && self.head.hash != HASH_ZERO {
            return Err(Broken::Rewritten { line: 0, count: 0 });
        }
        Ok(self.last)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn line(seq: u64, action: &str, prev_hash: &str) -> (String, String) {
        let body =
            format!(r#"{{"seq":{seq},"action":"{action}","detail":"{{\"hash\":\"x\"}}","prev_hash":"{prev_hash}""#);
        let hash = hex::encode(digest(&SHA256, format!("{body}}}").as_bytes()));
        (format!(r#"{body},"hash":"{hash}"}}"#), hash)
    }

    fn trail(actions: &[&str]) -> (Vec<String>, Head) {
        let mut head = Head { count: 0, hash: HASH_ZERO.to_owned() };
        let mut lines = Vec::new();
        for action in actions {
            let (text, hash) = line(head.count + 1, action, &head.hash);
            lines.push(text);
            head = Head { count: head.count + 1, hash };
        }
        (lines, head)
    }

    fn check(lines: &[String], head: &Head) -> Result<Head, Broken> {
        let mut verifier = Verifier::new(head.clone());
        for line in lines {
            verifier.take(line)?;
        }
        verifier.finish()
    }

    #[test]
    fn an_unbroken_trail_and_one_that_has_grown() {
        let (lines, head) = trail(&["a", "b", "c", "d"]);
        assert_eq!(check(&lines, &head), Ok(head.clone()));
        let (_, earlier) = trail(&["a", "b"]);
        assert_eq!(check(&lines, &earlier), Ok(head));
        let (none, empty) = trail(&[]);
        assert_eq!(check(&none, &empty), Ok(empty));
    }

    #[test]
    fn an_edit_is_found() {
        let (mut lines, head) = trail(&["a", "b", "c"]);
        lines[1] = lines[1].replace(r#""action":"b""#, r#""action":"B""#);
        assert_eq!(check(&lines, &head), Err(Broken::Changed { line: 2, seq: 2 }));
    }

    #[test]
    fn an_added_key_is_found() {
        let (mut lines, head) = trail(&["a", "b"]);
        lines[0] = lines[0].replacen('{', r#"{"actor":"nobody","#, 1);
        assert_eq!(check(&lines, &head), Err(Broken::Changed { line: 1, seq: 1 }));
    }

    #[test]
    fn a_deletion_and_a_reordering_are_found() {
        let (lines, head) = trail(&["a", "b", "c"]);
        let mut gap = lines.clone();
        gap.remove(1);
        assert_eq!(check(&gap, &head), Err(Broken::Order { line: 2, expected: 2, found: 3 }));
        let mut moved = lines.clone();
        moved.swap(0, 1);
        assert_eq!(check(&moved, &head), Err(Broken::Order { line: 1, expected: 1, found: 2 }));
        let doubled = [lines[0].clone(), lines[0].clone()];
        assert_eq!(check(&doubled, &head), Err(Broken::Order { line: 2, expected: 2, found: 1 }));
    }

    #[test]
    fn a_cut_end_is_found_with_the_head() {
        let (lines, head) = trail(&["a", "b", "c"]);
        assert_eq!(check(&lines[..2], &head), Err(Broken::Truncated { expected: 3, found: 2 }));
    }

    #[test]
    fn a_trail_written_anew_is_found_with_the_head() {
        let (_, head) = trail(&["a", "b", "c"]);
        let (forged, _) = trail(&["a", "x", "c"]);
        assert_eq!(check(&forged, &head), Err(Broken::Rewritten { line: 3, count: 3 }));
        let (mut spliced, _) = trail(&["a", "b", "c"]);
        spliced[1] = forged[1].clone();
        assert_eq!(check(&spliced, &head), Err(Broken::Chain { line: 3, seq: 3 }));
    }

    #[test]
    fn what_is_no_record_is_said() {
        let (_, head) = trail(&["a"]);
        for bad in ["", "{}", "hello", r#"{"seq":1,"prev_hash":"","hash":"zz"}"#] {
            assert!(matches!(check(&[bad.to_owned()], &head), Err(Broken::Format { line: 1, .. })), "{bad}");
        }
    }
}
