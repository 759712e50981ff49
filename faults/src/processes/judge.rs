//! What the history of a run says, judged against the lists as they are at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::checker::{Call, Model, Verdict, check};
use super::work::{HASH_START, Record, What, hash_next};

/// Findings of one sort that are told in full.
const TOLD_MAX: usize = 10;

/// A list of numbers of which only the end is known: how many, and the last.
struct List;

impl Model for List {
    type State = (u64, u64);
    type Op = What;

    fn step(state: &(u64, u64), op: &What) -> Option<(u64, u64)> {
        let (count, _) = *state;
        match *op {
            What::Append { value } => Some((count + 1, value)),
            // Of those nobody knows of, only those that are in the final list come here.
            What::Cas { expect, value, won: Some(true) | None } => (count == expect).then_some((count + 1, value)),
            What::Cas { expect, won: Some(false), .. } => (count != expect).then_some(*state),
            What::Read { count, last, .. } => ((count, last) == *state).then_some(*state),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// Acknowledged numbers that are not in the final list.
    pub(crate) lost: u64,
    /// Numbers that are in a list more than once.
    pub(crate) doubled: u64,
    /// Numbers that are in a list although nobody was told that they might be.
    pub(crate) phantom: u64,
    /// Keys whose reads saw numbers in another order than the final one.
    pub(crate) reordered: u64,
    /// Keys whose history cannot have happened in any order.
    pub(crate) violated: u64,
    /// Keys whose search gave up.
    pub(crate) gave_up: u64,
    /// Calls that were checked.
    pub(crate) calls: u64,
    /// The first findings, in words.
    pub(crate) told: Vec<String>,
}

impl Findings {
    /// `ok`, `violated` or `unknown`.
    pub(crate) fn linearizable(&self) -> &'static str {
        match (self.violated, self.gave_up) {
            (0, 0) => "ok",
            (0, _) => "unknown",
            _ => "violated",
        }
    }

    /// Whether nothing was found.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.phantom + self.reordered + self.violated + self.gave_up == 0
    }

    fn tell(&mut self, words: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(words);
        }
    }
}

/// Judges the history of every key. `finals` are the lists as a linearizable read gave them after everything healed.
pub(crate) fn judge(history: &[Record], finals: &[Vec<u64>]) -> Findings {
    let mut findings = Findings::default();
    let mut by_key: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
    for record in history {
        by_key.entry(record.key).or_default().push(*record);
    }
    for (key, list) in finals.iter().enumerate() {
        let records = by_key.remove(&key).unwrap_or_default();
        judge_key(key, &records, list, &mut findings);
    }
    findings
}

fn judge_key(key: usize, records: &[Record], list: &[u64], findings: &mut Findings) {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for value in list {
        *seen.entry(*value).or_default() += 1;
    }
    for (value, times) in seen.iter().filter(|(_, times)| **times > 1) {
        findings.doubled += 1;
        findings.tell(format!("key {key}: number {value} is there {times} times"));
    }
    // The first number is the one that the key was made with.
    let mut expected: BTreeSet<u64> = list.first().copied().into_iter().collect();
    for record in records {
        let (value, acked) = match record.what {
            What::Append { value } => (value, record.returned.is_some()),
            What::Cas { value, won, .. } if won != Some(false) => (value, won == Some(true)),
            What::Cas { .. } | What::Read { .. } => continue,
        };
        expected.insert(value);
        if acked && !seen.contains_key(&value) {
            findings.lost += 1;
            findings.tell(format!("key {key}: number {value} was acknowledged and is not there"));
        }
    }
    for value in list.iter().filter(|value| !expected.contains(value)) {
        findings.phantom += 1;
        findings.tell(format!("key {key}: number {value} is there although its write was refused or never sent"));
    }
    prefixes(key, records, list, findings);
    order(key, records, list, &seen, findings);
}

/// Every read must have seen a beginning of the final list.
fn prefixes(key: usize, records: &[Record], list: &[u64], findings: &mut Findings) {
    let mut hashes = vec![HASH_START];
    for value in list {
        let last = hashes.last().copied().unwrap_or(HASH_START);
        hashes.push(hash_next(last, *value));
    }
    let wrong = records.iter().find(|record| match record.what {
        What::Read { count, hash, .. } => {
            usize::try_from(count).ok().and_then(|count| hashes.get(count)).is_none_or(|known| *known != hash)
        }
        What::Append { .. } | What::Cas { .. } => false,
    });
    if let Some(record) = wrong {
        findings.reordered += 1;
        findings.tell(format!("key {key}: a read saw what is no beginning of the final list: {record:?}"));
    }
}

fn order(key: usize, records: &[Record], list: &[u64], seen: &HashMap<u64, u64>, findings: &mut Findings) {
    let mut calls: Vec<Call<What>> = Vec::new();
    for record in records {
        let open_value = match record.what {
            What::Append { value } | What::Cas { value, .. } if record.returned.is_none() => Some(value),
            _ => None,
        };
        // What never came into the list took effect after everything that is checked, or never.
        if open_value.is_some_and(|value| !seen.contains_key(&value)) {
            continue;
        }
        calls.push(Call { called: record.called, returned: record.returned, op: record.what });
    }
    findings.calls += calls.len() as u64;
    let start = (1, list.first().copied().unwrap_or(0));
    match check::<List>(start, &calls) {
        Verdict::Linearizable => {}
        Verdict::Violated => {
            findings.violated += 1;
            findings.tell(format!("key {key}: its {} calls cannot have happened in any order", calls.len()));
        }
        Verdict::Unknown => {
            findings.gave_up += 1;
            findings.tell(format!("key {key}: the search over its {} calls gave up", calls.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::work::hash_of;
    use super::*;

    fn append(value: u64, called: u64, returned: Option<u64>) -> Record {
        Record { key: 0, called, returned, what: What::Append { value } }
    }

    fn read(values: &[u64], called: u64, returned: u64) -> Record {
        let what = What::Read { count: values.len() as u64, last: *values.last().unwrap(), hash: hash_of(values) };
        Record { key: 0, called, returned: Some(returned), what }
    }

    fn cas(expect: u64, value: u64, won: bool, called: u64, returned: u64) -> Record {
        Record { key: 0, called, returned: Some(returned), what: What::Cas { expect, value, won: Some(won) } }
    }

    #[test]
    fn a_history_that_happened_is_clean() {
        let history = [append(11, 0, Some(9)), append(12, 5, None), read(&[0, 11], 10, 20), read(&[0, 11, 12], 15, 30)];
        let findings = judge(&history, &[vec![0, 11, 12]]);
        assert!(findings.is_clean(), "{findings:?}");
        assert_eq!(findings.calls, 4);
        // The same if the unanswered write was never done.
        assert!(judge(&history[..3], &[vec![0, 11]]).is_clean());
    }

    #[test]
    fn each_sort_of_wrong_is_found() {
        let acked = append(11, 0, Some(9));
        assert_eq!(judge(&[acked], &[vec![0]]).lost, 1);
        assert_eq!(judge(&[acked], &[vec![0, 11, 11]]).doubled, 1);
        assert_eq!(judge(&[acked], &[vec![0, 11, 77]]).phantom, 1);
        assert_eq!(judge(&[acked, append(12, 0, Some(9)), read(&[0, 12], 20, 30)], &[vec![0, 11, 12]]).reordered, 1);
        // A stale read: it began after the write was acknowledged.
        let findings = judge(&[acked, read(&[0], 20, 30)], &[vec![0, 11]]);
        assert_eq!((findings.linearizable(), findings.reordered), ("violated", 0));
        // Two winners of one condition, and a loser whose condition held.
        let winners = [cas(1, 11, true, 0, 9), cas(1, 12, true, 0, 9)];
        assert_eq!(judge(&winners, &[vec![0, 11, 12]]).linearizable(), "violated");
        assert_eq!(judge(&[cas(1, 11, false, 0, 9)], &[vec![0]]).linearizable(), "violated");
        assert_eq!(judge(&[cas(1, 11, true, 0, 9), cas(1, 12, false, 5, 9)], &[vec![0, 11]]).linearizable(), "ok");
    }
}
