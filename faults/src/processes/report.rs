//! The end of a run: what is demanded of the healed cluster, and the figures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Options;
use super::clients::Clients;
use super::cluster::{Cluster, Death};
use super::judge::{Findings, judge};
use super::nemesis::{Kind, Line, Outcome};
use super::net::Net;
use super::plague::Suffered;
use super::watch::Sight;
use super::work::Book;

/// Action of the audit records that the workload's writes leave.
const ACTION: &str = "SetPlan";

/// How often a kind of fault came.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Count {
    installed: u64,
    skipped: u64,
    indeterminate: u64,
}

/// Median and largest of some milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Spread {
    count: usize,
    p50: u64,
    max: u64,
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let p50 = values.get(values.len() / 2).copied().unwrap_or(0);
        Self { count: values.len(), p50, max: values.last().copied().unwrap_or(0) }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether everything held and every fault was in force.
    pub passed: bool,
    /// Runs; 1.
    pub runs: u64,
    /// The seed.
    pub seed: u64,
    /// How many replicas.
    pub replicas: u64,
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
    /// Whether the audit trail verifies and has exactly one entry for each write.
    pub audit_ok: bool,
    faults: BTreeMap<String, Count>,
    resume_ms: Spread,
    through_ms: Spread,
    deaths: Vec<Death>,
    findings: Findings,
    /// Everything that must not be, in words.
    pub wrong: Vec<String>,
    log: Vec<Line>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} with seed {} on {} replicas",
            if self.passed { "passed" } else { "FAILED" },
            self.seed,
            self.replicas
        )?;
        writeln!(
            f,
            "  writes acknowledged {}, unknown {}, lost {}, doubled {}; reads {}",
            self.acked, self.unknown, self.lost, self.doubled, self.reads
        )?;
        writeln!(f, "  retries {}, repeated after the answer {}", self.retries, self.repeated)?;
        writeln!(f, "  linearizable: {} ({} calls checked)", self.linearizable, self.findings.calls)?;
        writeln!(
            f,
            "  digests equal: {} ({} compared); audit: {}",
            self.digests_equal, self.digests_compared, self.audit_ok
        )?;
        for (kind, count) in &self.faults {
            writeln!(
                f,
                "  {kind}: {} installed, {} skipped, {} indeterminate",
                count.installed, count.skipped, count.indeterminate
            )?;
        }
        writeln!(
            f,
            "  writes resumed after healing: p50 {} ms, at most {} ms",
            self.resume_ms.p50, self.resume_ms.max
        )?;
        for words in &self.wrong {
            writeln!(f, "  WRONG: {words}")?;
        }
        Ok(())
    }
}

/// Heals everything, demands what must hold, and judges.
pub(crate) fn close(
    options: &Options,
    cluster: &mut Cluster,
    net: &Net,
    clients: &Clients,
    book: &Arc<Book>,
    sight: &Arc<Sight>,
    suffered: Suffered,
) -> Result<Report> {
    cluster.revive()?;
    let mut wrong = suffered.wrong.clone();
    let finals = clients.agree(sight).and_then(|_| clients.finals(book)).and_then(|finals| {
        audit(cluster, net, &finals)?;
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
    let (history, mut answers) = book.take();
    wrong.append(&mut answers);
    let findings = judge(&history, &finals);
    wrong.extend(findings.told.iter().cloned());
    wrong.extend(sight.differing.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
    let unexcused = cluster.deaths.iter().filter(|death| !death.excused);
    wrong.extend(unexcused.map(|death| format!("replica {} ended by itself: {}", death.replica, death.how)));
    Ok(report(options, cluster, book, sight, suffered, findings, audit_ok, wrong))
}

#[expect(clippy::too_many_arguments, reason = "it only puts together what the end of a run has found")]
fn report(
    options: &Options,
    cluster: &Cluster,
    book: &Book,
    sight: &Sight,
    suffered: Suffered,
    findings: Findings,
    audit_ok: bool,
    mut wrong: Vec<String>,
) -> Report {
    let (faults, missing) = count(options, &suffered.log);
    wrong.extend(missing);
    let acked = book.acked.load(Ordering::Relaxed);
    let reads = book.reads.load(Ordering::Relaxed);
    if acked == 0 || reads == 0 {
        wrong.push("nothing was acknowledged or read: the run proves nothing".into());
    }
    Report {
        passed: wrong.is_empty() && findings.is_clean(),
        runs: 1,
        seed: options.seed,
        replicas: options.replicas,
        acked,
        unknown: book.unknown.load(Ordering::Relaxed),
        lost: findings.lost,
        doubled: findings.doubled,
        reads,
        retries: book.retries.load(Ordering::Relaxed),
        repeated: book.repeated.load(Ordering::Relaxed),
        exhausted: book.exhausted.load(Ordering::Relaxed),
        linearizable: findings.linearizable(),
        digests_equal: sight.differing.lock().unwrap_or_else(PoisonError::into_inner).is_empty(),
        digests_compared: sight.compared.load(Ordering::Relaxed),
        audit_ok,
        faults,
        resume_ms: Spread::of(suffered.resume_ms),
        through_ms: Spread::of(suffered.through_ms),
        deaths: cluster.deaths.clone(),
        findings,
        wrong,
        log: suffered.log,
    }
}

/// Counts the faults by kind, and says which were asked for and never seen in force.
fn count(options: &Options, log: &[Line]) -> (BTreeMap<String, Count>, Vec<String>) {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for line in log {
        let entry = counts.entry(name(line.kind)).or_default();
        match line.outcome {
            Outcome::Installed => entry.installed += 1,
            Outcome::Skipped => entry.skipped += 1,
            Outcome::Indeterminate => entry.indeterminate += 1,
        }
    }
    let mut wrong = Vec::new();
    let asked: BTreeSet<Kind> = options.nemeses.iter().copied().collect();
    for kind in asked {
        if counts.get(&name(kind)).is_none_or(|count| count.installed == 0) {
            wrong.push(format!("{} was asked for and never in force: the run proves nothing of it", name(kind)));
        }
    }
    for (kind, count) in counts.iter().filter(|(_, count)| count.indeterminate > 0) {
        wrong.push(format!("{kind} was indeterminate {} times: the run proves nothing", count.indeterminate));
    }
    (counts, wrong)
}

fn name(kind: Kind) -> String {
    clap::ValueEnum::to_possible_value(&kind).map_or_else(|| format!("{kind:?}"), |value| value.get_name().to_owned())
}

/// The trail verifies, and each number in a list has exactly one record.
fn audit(cluster: &Cluster, net: &Net, finals: &[Vec<u64>]) -> Result<()> {
    cluster.cli(net, &["audit", "verify", "--timeout", "120s"]).context("the audit trail")?;
    let lines = cluster.cli(net, &["audit", "export", "--timeout", "120s"]).context("the audit trail")?;
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
