//! The end of a run: everything is healed, and then demanded.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::cluster::Death;
use super::judge::{Findings, judge};
use super::logs::{self, Logs};
use super::stage::Stage;
use crate::canary::{self, Canaries, Leaks};

/// Action of the audit records that the workload's writes leave.
const ACTION: &str = "SetPlan";

/// Median and largest of some milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// Half of them are at most so long.
    pub p50: u64,
    /// The longest.
    pub max: u64,
}

impl Spread {
    /// Of these.
    pub(crate) fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let p50 = values.get(values.len() / 2).copied().unwrap_or(0);
        Self { count: values.len(), p50, max: values.last().copied().unwrap_or(0) }
    }
}

/// What the end of a run shows, whatever the run was.
#[derive(Clone, Debug, Serialize)]
pub struct Ending {
    /// Writes that were acknowledged.
    pub acked: u64,
    /// Writes of which the client never heard.
    pub unknown: u64,
    /// Acknowledged writes that are gone.
    pub lost: u64,
    /// Writes that were done more than once.
    pub doubled: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Tries with a request id that had been sent before.
    pub retries: u64,
    /// Acknowledged writes that were sent again and answered.
    pub repeated: u64,
    /// Answers of replicas that had no room.
    pub exhausted: u64,
    /// `ok`, `violated`, or `unknown` if a search gave up.
    pub linearizable: &'static str,
    /// Whether no two replicas had different digests at one revision.
    pub digests_equal: bool,
    /// How often two replicas were compared.
    pub digests_compared: u64,
    /// Revisions at which two replicas had different digests.
    pub diverged: u64,
    /// Log entries of two replicas that were compared at the end.
    pub entries_compared: u64,
    /// Those that differed.
    pub entries_differing: u64,
    /// Terms that were seen led.
    pub terms: u64,
    /// Terms that changed hands, which ours may.
    pub terms_shared: u64,
    /// Whether the audit trail verifies and has exactly one entry for each write.
    pub audit_ok: bool,
    /// Secrets that were given to the cluster or made by it.
    pub canaries: u64,
    /// Places where one was found in clear.
    pub leaks: u64,
    /// Bytes that were searched for them.
    pub searched_bytes: u64,
    pub(crate) deaths: Vec<Death>,
    pub(crate) findings: Findings,
    /// Everything that must not be, in words.
    pub wrong: Vec<String>,
}

/// Heals everything, demands what must hold, and judges. The workers must have ended. `wrong` is what the run itself saw.
///
/// # Errors
/// The harness failed: nothing is proven.
pub(crate) fn end(stage: &mut Stage, canaries: &Canaries, mut wrong: Vec<String>) -> Result<Ending> {
    let Stage { clients, cluster, net, book, sight, .. } = stage;
    cluster.revive()?;
    let finals = clients.agree(sight).and_then(|_| clients.finals(book)).and_then(|finals| {
        audit(&cluster.cli(net, &["audit", "export", "--timeout", "120s"]).context("the audit trail")?, &finals)?;
        cluster.cli(net, &["audit", "verify", "--timeout", "120s"]).context("the audit trail")?;
        // Each key that takes appends gets one more, after the history was closed.
        for key in book.keys.iter().filter(|key| !key.is_cas) {
            clients.write_once(&key.plan)?;
        }
        clients.agree(sight)?;
        Ok(finals)
    });
    let (audit_ok, finals) = match finals {
        Ok(finals) => (true, finals),
        Err(error) => {
            wrong.push(format!("after healing: {error:#}"));
            (false, Vec::new())
        }
    };
    if !cluster.all_run()? {
        wrong.push("after healing a replica does not run".into());
    }
    wrong.extend(panics(&cluster.homes())?);
    // From here on no replica runs.
    let looked = canary::look(stage, canaries).and_then(|leaks| Ok((leaks, logs::compare(&stage.cluster)?)));
    let (leaks, logs) = match looked {
        Ok(both) => both,
        // A cluster that is broken may have nothing to look at; what is known of it must be told all the same.
        Err(error) if !wrong.is_empty() => {
            wrong.push(format!("what is left could not be looked at: {error:#}"));
            (Leaks::default(), Logs::default())
        }
        Err(error) => return Err(error),
    };
    wrong.extend(leaks.told.iter().chain(&logs.differing).cloned());
    let Stage { cluster, book, sight, .. } = stage;
    let (history, mut answers) = book.take();
    wrong.append(&mut answers);
    let findings = judge(&history, &finals);
    wrong.extend(findings.told.iter().cloned());
    let differing = sight.differing.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let unexcused = cluster.deaths.iter().filter(|death| !death.excused);
    wrong.extend(unexcused.map(|death| format!("replica {} ended by itself: {}", death.replica, death.how)));
    let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    let (acked, reads) = (count(&book.acked), count(&book.reads));
    if acked == 0 || reads == 0 {
        wrong.push("nothing was acknowledged or read: the run proves nothing".into());
    }
    let (terms, terms_shared) = sight.terms();
    wrong.extend(differing.iter().cloned());
    Ok(Ending {
        acked,
        unknown: count(&book.unknown),
        lost: findings.lost,
        doubled: findings.doubled,
        reads,
        retries: count(&book.retries),
        repeated: count(&book.repeated),
        exhausted: count(&book.exhausted),
        linearizable: findings.linearizable(),
        digests_equal: differing.is_empty(),
        digests_compared: count(&sight.compared),
        diverged: differing.len() as u64,
        entries_compared: logs.compared,
        entries_differing: logs.differing.len() as u64,
        terms,
        terms_shared,
        audit_ok,
        canaries: leaks.canaries,
        leaks: leaks.found,
        searched_bytes: leaks.bytes,
        deaths: cluster.deaths.clone(),
        findings,
        wrong,
    })
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  writes acknowledged {}, unknown {}, lost {}, doubled {}; reads {}",
            self.acked, self.unknown, self.lost, self.doubled, self.reads
        )?;
        writeln!(f, "  retries {}, repeated after the answer {}", self.retries, self.repeated)?;
        writeln!(f, "  linearizable: {} ({} calls checked)", self.linearizable, self.findings.calls)?;
        writeln!(
            f,
            "  digests equal: {} ({} compared); log entries equal: {} ({} compared); audit: {}; terms {}",
            self.digests_equal,
            self.digests_compared,
            self.entries_differing == 0,
            self.entries_compared,
            self.audit_ok,
            self.terms
        )?;
        writeln!(f, "  canaries {}, leaks {}, in {} bytes", self.canaries, self.leaks, self.searched_bytes)?;
        self.wrong.iter().try_for_each(|words| writeln!(f, "  WRONG: {words}"))
    }
}

impl Ending {
    /// Whether everything held that every run demands.
    pub(crate) fn holds(&self) -> bool {
        self.wrong.is_empty() && self.findings.is_clean() && self.leaks == 0
    }
}

/// Panics that the replicas' logs tell of: one in a task of its own does not end a replica.
fn panics(homes: &[PathBuf]) -> Result<Vec<String>> {
    let mut told = Vec::new();
    for home in homes {
        let log = std::fs::read(home.join("replica.log")).context("read a replica's log")?;
        let log = String::from_utf8_lossy(&log);
        told.extend(
            log.lines().filter(|line| line.contains("panicked at")).map(|line| format!("{}: {line}", home.display())),
        );
    }
    Ok(told)
}

/// Each number in a list has exactly one record in the trail.
fn audit(lines: &str, finals: &[Vec<u64>]) -> Result<()> {
    let mut requests = BTreeSet::new();
    let mut done = 0u64;
    for line in lines.lines() {
        let record: serde_json::Value = serde_json::from_str(line).context("a record of the audit trail")?;
        if record["action"] == ACTION && record["outcome"] == "ok" {
            done += 1;
            let id = record["request_id"].as_str().context("a record's request id")?;
            anyhow::ensure!(requests.insert(id.to_owned()), "request {id} has two records that say it was done");
        }
    }
    let written: u64 = finals.iter().map(|list| list.len() as u64).sum();
    anyhow::ensure!(done == written, "the audit trail has {done} writes, the lists have {written}");
    Ok(())
}
