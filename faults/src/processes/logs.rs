//! Whether the logs of stopped replicas agree: one entry at each index, whoever holds it.
//!
//! Raft's log matching, looked at from outside: `hanse debug log` shows index, term, leader and requests of what a replica
//! holds, and what two replicas both call committed must be the same. What a log no longer holds is in the digests.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::cluster::Cluster;
use super::net::run;

/// More entries than a log holds between two snapshots.
const ENTRIES_MAX: &str = "1000000";
/// Differences that are told.
const TOLD_MAX: usize = 10;

/// What was compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logs {
    /// Entries that two replicas both call committed.
    pub(crate) compared: u64,
    /// Those that differ, in words.
    pub(crate) differing: Vec<String>,
}

/// Compares the logs of all replicas, which must not run.
pub(crate) fn compare(cluster: &Cluster) -> Result<Logs> {
    let mut logs = Logs::default();
    let mut known: BTreeMap<u64, (u64, Value)> = BTreeMap::new();
    let program = cluster.program().to_str().context("the program's path is not UTF-8")?;
    for id in cluster.ids() {
        let data = cluster.data(id)?;
        let data = data.to_str().context("a data folder's path is not UTF-8")?;
        let text = run(program, &["debug", "log", "--data", data, "--limit", ENTRIES_MAX, "-o", "json"])?;
        let log: Value = serde_json::from_str(&text).with_context(|| format!("the log of replica {id}"))?;
        note(&mut logs, &mut known, id, &log);
    }
    Ok(logs)
}

fn note(logs: &mut Logs, known: &mut BTreeMap<u64, (u64, Value)>, id: u64, log: &Value) {
    let committed = log["committed"].as_u64().unwrap_or(0);
    for entry in log["entries"].as_array().into_iter().flatten() {
        let Some(index) = entry["index"].as_u64().filter(|index| *index <= committed) else { continue };
        match known.get(&index) {
            None => drop(known.insert(index, (id, entry.clone()))),
            Some((_, same)) if same == entry => logs.compared += 1,
            Some((other, differs)) if logs.differing.len() < TOLD_MAX => logs.differing.push(format!(
                "entry {index}: the log of replica {other} holds {differs}, that of replica {id} {entry}"
            )),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_both_call_committed_is_compared() {
        let entry = |index: u64, term: u64| json!({ "index": index, "term": term, "leader": 1 });
        let log = |committed: u64, terms: [u64; 3]| {
            let entries: Vec<_> = (1..).zip(terms).map(|(index, term)| entry(index, term)).collect();
            json!({ "committed": committed, "entries": entries })
        };
        let (mut logs, mut known) = (Logs::default(), BTreeMap::new());
        note(&mut logs, &mut known, 1, &log(3, [1, 1, 2]));
        note(&mut logs, &mut known, 2, &log(2, [1, 1, 9]));
        assert_eq!((logs.compared, logs.differing.len()), (2, 0));
        note(&mut logs, &mut known, 3, &log(3, [1, 1, 9]));
        assert_eq!((logs.compared, logs.differing.len()), (4, 1));
        assert!(logs.differing[0].starts_with("entry 3: the log of replica 1"), "{:?}", logs.differing);
    }
}
