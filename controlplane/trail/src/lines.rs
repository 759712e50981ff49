//! The hash chain of the audit trail, checked from its lines alone.
//!
//! A line is the record's JSON with `"hash"` as its last key. Its hash is the SHA-256 of the line without that key, and
//! its `prev_hash` is the hash of the line before (zeros for the first). The bytes are checked, not what a parser makes
//! of them, so that an added, doubled or reordered key is found too. Beside the chain the Merkle tree is computed, and both are
//! compared with what is known of the trail: heads and checkpoints.

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::merkle::{Frontier, Hash, leaf_hash};

/// Hash before the first record.
const HASH_ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const HASH_KEY: &str = r#","hash":""#;
const LINE_END: &str = r#""}"#;

/// Count and last hash of a trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many records.
    pub count: u64,
    /// Hex hash of the last; zeros if there is none.
    pub hash: String,
}

/// What must be true of the trail at one record.
#[derive(Debug)]
struct Mark {
    head: Head,
    root: Option<Hash>,
}

/// The first place where a trail is broken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
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
    /// The tree over the records is another than the checkpoint's.
    #[error("the first {count} records do not make the root of the checkpoint: the trail was changed")]
    Root {
        /// The checkpoint's records.
        count: u64,
    },
    /// The trail is another than the head's.
    #[error("line {line} (record {count}) does not have the hash that is known of it: the trail was written anew")]
    Rewritten {
        /// Which line.
        line: u64,
        /// The head's record.
        count: u64,
    },
    /// Records are missing at the end.
    #[error("the trail ends at record {found}, but record {expected} is known: the end is cut off")]
    Truncated {
        /// The head's record.
        expected: u64,
        /// The last record.
        found: u64,
    },
}

/// Checks line after line.
#[derive(Debug)]
pub struct Verifier {
    /// By number of records.
    marks: Vec<Mark>,
    /// Of them, those that were reached.
    reached: usize,
    lines: u64,
    last: Head,
    tree: Frontier,
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
    #[must_use]
    pub fn new(head: Head) -> Verifier {
        Self::of(vec![Mark { head, root: None }])
    }

    /// Returns a verifier of a trail from its first record that must contain what these checkpoints say.
    #[must_use]
    pub fn against(checkpoints: &[Checkpoint]) -> Verifier {
        let mark =
            |it: &Checkpoint| Mark { head: Head { count: it.size, hash: hex::encode(it.chain) }, root: Some(it.root) };
        Self::of(checkpoints.iter().map(mark).collect())
    }

    fn of(mut marks: Vec<Mark>) -> Verifier {
        marks.sort_by_key(|mark| mark.head.count);
        let last = Head { count: 0, hash: HASH_ZERO.to_owned() };
        Verifier { marks, reached: 0, lines: 0, last, tree: Frontier::default() }
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// The trail is broken here.
    pub fn take(&mut self, text: &str) -> Result<(), Broken> {
        self.lines += 1;
        let line = self.lines;
        let format = |detail: &str| Broken::Format { line, detail: detail.to_owned() };
        let (body, chain) = split(text).ok_or_else(|| format("it does not end with its hash"))?;
        let record: Record = serde_json::from_str(text).map_err(|error| format(&error.to_string()))?;
        let expected = self.last.count + 1;
        if record.seq != expected {
            return Err(Broken::Order { line, expected, found: record.seq });
        }
        if hash_of(body) != chain {
            return Err(Broken::Changed { line, seq: record.seq });
        }
        if record.prev_hash != self.last.hash {
            return Err(Broken::Chain { line, seq: record.seq });
        }
        // A mark before this record is one of no records at all.
        self.compare()?;
        self.last = Head { count: record.seq, hash: hex::encode(chain) };
        self.tree.push(leaf_hash(&chain));
        self.compare()
    }

    /// Compares with the marks at the last record.
    fn compare(&mut self) -> Result<(), Broken> {
        while let Some(mark) = self.marks.get(self.reached).filter(|mark| mark.head.count == self.last.count) {
            if mark.head.hash != self.last.hash {
                return Err(Broken::Rewritten { line: self.lines, count: self.last.count });
            }
            if mark.root.is_some_and(|root| root != self.tree.root()) {
                return Err(Broken::Root { count: self.last.count });
            }
            self.reached += 1;
        }
        Ok(())
    }

    /// Returns the last record's number and hash, and the root over all records.
    ///
    /// # Errors
    /// A head or checkpoint was not reached, or one of no records is not that of none.
    pub fn finish(mut self) -> Result<(Head, Hash), Broken> {
        self.compare()?;
        match self.marks.get(self.reached) {
            Some(mark) => Err(Broken::Truncated { expected: mark.head.count, found: self.last.count }),
            None => {
                let root = self.tree.root();
                Ok((self.last, root))
            }
        }
    }
}

/// Gives number and chain hash of a record whose line is sound in itself; where it stands in the chain is another question.
#[must_use]
pub fn record_of(line: &str) -> Option<(u64, Hash)> {
    let (body, chain) = split(line)?;
    let record: Record = serde_json::from_str(line).ok()?;
    (hash_of(body) == chain).then_some((record.seq, chain))
}

/// Takes a line apart: what was hashed, without its last brace, and the hash.
fn split(line: &str) -> Option<(&str, Hash)> {
    let (body, hash) = line.strip_suffix(LINE_END)?.rsplit_once(HASH_KEY)?;
    Some((body, parse_hash(hash)?))
}

fn hash_of(body: &str) -> Hash {
    let hash = digest(&SHA256, format!("{body}}}").as_bytes());
    hash.as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

/// Reads a hash of 64 lower-case hex digits.
pub(crate) fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash).filter(|_| !text.bytes().any(|byte| byte.is_ascii_uppercase()))
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
        verifier.finish().map(|(head, _)| head)
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

    fn checkpoint(lines: &[String], head: &Head) -> Checkpoint {
        let mut tree = Frontier::default();
        lines.iter().for_each(|line| tree.push(leaf_hash(&record_of(line).unwrap().1)));
        let chain = parse_hash(&head.hash).unwrap();
        Checkpoint { origin: "x".into(), size: head.count, root: tree.root(), chain, cluster: "c".into(), at_ms: 1 }
    }

    #[test]
    fn checkpoints_are_compared_at_their_records_whatever_their_order() {
        let (lines, head) = trail(&["a", "b", "c", "d"]);
        let (_, earlier) = trail(&["a", "b"]);
        let (none, empty) = trail(&[]);
        let all = [checkpoint(&lines, &head), checkpoint(&none, &empty), checkpoint(&lines[..2], &earlier)];
        let check = |checkpoints: &[Checkpoint], lines: &[String]| {
            let mut verifier = Verifier::against(checkpoints);
            lines.iter().try_for_each(|line| verifier.take(line))?;
            verifier.finish()
        };
        assert_eq!(check(&all, &lines), Ok((head, all[0].root)));
        assert_eq!(check(&all, &lines[..3]), Err(Broken::Truncated { expected: 4, found: 3 }));
        // A chain hash that fits and a root that does not: a checkpoint that nobody could have made honestly.
        let mut forged = all.clone();
        forged[2].root[0] ^= 1;
        assert_eq!(check(&forged, &lines), Err(Broken::Root { count: 2 }));
        let mut forged = all.clone();
        forged[1].chain[0] ^= 1;
        assert_eq!(check(&forged, &lines), Err(Broken::Rewritten { line: 1, count: 0 }));
    }

    #[test]
    fn a_single_line_is_sound_or_none() {
        let (lines, _) = trail(&["a", "b"]);
        assert_eq!(record_of(&lines[1]).map(|(seq, _)| seq), Some(2));
        assert_eq!(record_of(&lines[1].replace(r#""seq":2"#, r#""seq":3"#)), None);
        assert_eq!(record_of(&format!("{} ", lines[1])), None);
    }

    #[test]
    fn what_is_no_record_is_said() {
        let (_, head) = trail(&["a"]);
        for bad in ["", "{}", "hello", r#"{"seq":1,"prev_hash":"","hash":"zz"}"#] {
            assert!(matches!(check(&[bad.to_owned()], &head), Err(Broken::Format { line: 1, .. })), "{bad}");
        }
    }
}
