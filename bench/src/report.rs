//! Medians, ratios, and how they are printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::CLIENTS;
use crate::load::{Figures, Op};

/// Everything of one run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) fsync_us: u64,
    pub(crate) etcd_version: Option<String>,
    pub(crate) ours: Side,
    pub(crate) theirs: Side,
}

/// One cluster's figures.
#[derive(Debug, Default)]
pub(crate) struct Side {
    rounds: BTreeMap<(Op, usize), Vec<Figures>>,
    pub(crate) rss_idle_mb: f64,
    pub(crate) rss_loaded_mb: f64,
    pub(crate) failover_s: Vec<f64>,
    pub(crate) cold_start_s: f64,
    pub(crate) restart_s: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Side {
    pub(crate) fn add(&mut self, op: Op, clients: usize, figures: Figures) {
        self.rounds.entry((op, clients)).or_default().push(figures);
    }

    fn median(&self, op: Op, clients: usize, of: impl Fn(&Figures) -> f64) -> f64 {
        median(self.rounds.get(&(op, clients)).into_iter().flatten().map(of).collect())
    }

    fn worst_failover(&self) -> f64 {
        self.failover_s.iter().copied().fold(0.0, f64::max)
    }

    fn json(&self) -> Value {
        let mut loads = Vec::new();
        for ((op, clients), rounds) in &self.rounds {
            loads.push(json!({
                "op": format!("{op:?}").to_lowercase(), "clients": clients,
                "per_s": round(self.median(*op, *clients, |f| f.per_s)),
                "p50_us": self.median(*op, *clients, |f| f64::from(f.p50_us)),
                "p99_us": self.median(*op, *clients, |f| f64::from(f.p99_us)),
                "cpu_us": round(self.median(*op, *clients, |f| f.cpu_us)),
                "errors": rounds.iter().map(|f| f.errors).sum::<usize>(),
                "rounds_per_s": rounds.iter().map(|f| round(f.per_s)).collect::<Vec<_>>(),
            }));
        }
        json!({
            "loads": loads, "rss_idle_mb": round(self.rss_idle_mb), "rss_loaded_mb": round(self.rss_loaded_mb),
            "failover_median_s": round(median(self.failover_s.clone())), "failover_worst_s": round(self.worst_failover()),
            "cold_start_s": round(self.cold_start_s), "restart_s": round(self.restart_s),
        })
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

impl Report {
    /// Median over the rounds of ours divided by theirs in the same round.
    fn ratio(&self, op: Op, clients: usize, of: impl Fn(&Figures) -> f64) -> Option<f64> {
        let (ours, theirs) = (self.ours.rounds.get(&(op, clients))?, self.theirs.rounds.get(&(op, clients))?);
        Some(round(median(ours.iter().zip(theirs).map(|(a, b)| of(a) / of(b)).collect())))
    }

    /// The keys of issue 3 and both raw figures.
    pub(crate) fn json(&self) -> Value {
        let writes = |clients| self.ratio(Op::Write, clients, |f| f.per_s);
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        json!({
            "bench": "core", "cores": cores, "fsync_us": self.fsync_us, "etcd": self.etcd_version,
            "writes_ratio_1": writes(1), "writes_ratio_16": writes(16), "writes_ratio_64": writes(64),
            "writes_ratio_256": writes(256),
            "latency_ratio_1": self.ratio(Op::Write, 1, |f| f64::from(f.p50_us)),
            "reads_ratio_64": self.ratio(Op::Read, 64, |f| f.per_s),
            "cpu_us_per_write_64": round(self.ours.median(Op::Write, 64, |f| f.cpu_us)),
            "failover_s": round(median(self.ours.failover_s.clone())),
            "rss_mb": round(self.ours.rss_idle_mb),
            "ours": self.ours.json(),
            "theirs": self.etcd_version.as_ref().map(|_| self.theirs.json()),
        })
    }

    /// The same for people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "append + fdatasync {} us; etcd: {}\n",
            self.fsync_us,
            self.etcd_version.as_deref().unwrap_or("not installed")
        );
        for op in [Op::Write, Op::Read] {
            for clients in CLIENTS {
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "{op:?} {clients:3}: {}; {}; ratio {}",
                    line(&self.ours, op, clients),
                    line(&self.theirs, op, clients),
                    self.ratio(op, clients, |f| f.per_s).unwrap_or(f64::NAN)
                );
            }
        }
        for (name, side) in [("hanse", &self.ours), ("etcd", &self.theirs)] {
            let _ = writeln!(
                text,
                "{name}: idle {:.1} MB, loaded {:.1} MB, fail-over {:.2} s median, {:.2} s worst, cold start {:.2} s, restart {:.2} s",
                side.rss_idle_mb,
                side.rss_loaded_mb,
                median(side.failover_s.clone()),
                side.worst_failover(),
                side.cold_start_s,
                side.restart_s
            );
        }
        text
    }
}

fn line(side: &Side, op: Op, clients: usize) -> String {
    format!(
        "{:.0}/s p50 {} us p99 {} us cpu {:.0} us",
        side.median(op, clients, |f| f.per_s),
        side.median(op, clients, |f| f64::from(f.p50_us)),
        side.median(op, clients, |f| f64::from(f.p99_us)),
        side.median(op, clients, |f| f.cpu_us)
    )
}
