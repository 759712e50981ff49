//! What is printed: raw figures, and the ratios that are goals.

use serde_json::{Value, json};

use crate::chain;
use crate::ours::Figures;
use crate::usage::Cost;

/// Everything of one run; what was left out is `None`.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) hosts: usize,
    pub(crate) program_bytes: u64,
    /// By round.
    pub(crate) ours: Vec<Figures>,
    pub(crate) handshakes_s: Vec<f64>,
    /// Seconds and processor time, by round.
    pub(crate) openssh: Vec<(f64, f64)>,
    pub(crate) ansible_cold: Option<Cost>,
    pub(crate) ansible_warm: Option<Cost>,
    pub(crate) ansible_tuned: Option<Cost>,
    pub(crate) large: Option<Large>,
    /// By round.
    pub(crate) chain: Vec<chain::Figures>,
}

/// The large program.
#[derive(Clone, Debug)]
pub(crate) struct Large {
    pub(crate) bytes: u64,
    pub(crate) ours: Figures,
    pub(crate) line_s: f64,
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(rounded(a? / b?))
}

fn cost(cost: Option<Cost>) -> Value {
    cost.map_or(Value::Null, |cost| {
        json!({"s": rounded(cost.seconds), "cpu_s": rounded(cost.cpu_seconds), "memory_mb": rounded(cost.memory_mb)})
    })
}

impl Report {
    pub(crate) fn json(&self) -> Value {
        let ours = |field: fn(&Figures) -> f64| median(self.ours.iter().map(field));
        let (cold, warm) = (ours(|f| f.cold_s), ours(|f| f.warm_s));
        let (cpu, memory) = (ours(|f| f.cold_cpu_s), ours(|f| f.peak_mb));
        let handshakes = median(self.handshakes_s.iter().copied());
        let openssh = median(self.openssh.iter().map(|(seconds, _)| *seconds));
        json!({
            "bench": "provision",
            "hosts": self.hosts,
            "program_bytes": self.program_bytes,
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "cold_ratio": ratio(self.ansible_cold.map(|c| c.seconds), cold),
            "cold_ratio_tuned": ratio(self.ansible_tuned.map(|c| c.seconds), cold),
            "cold_ratio_openssh": ratio(openssh, cold),
            "warm_ratio": ratio(self.ansible_warm.map(|c| c.seconds), warm),
            "cpu_ratio": ratio(self.ansible_cold.map(|c| c.cpu_seconds), cpu),
            "memory_ratio": ratio(self.ansible_cold.map(|c| c.memory_mb), memory),
            "handshakes_ratio": ratio(cold, handshakes),
            "large_line_ratio": self.large.as_ref().and_then(|l| ratio(Some(l.ours.cold_s), Some(l.line_s))),
            "chain_beyond_ledger_s": median(self.chain.iter().map(|it| it.chain_s - it.ledger_s)).map(rounded),
            "raw": {
                "ours": self.ours,
                "chain": self.chain,
                "handshakes_s": self.handshakes_s,
                "openssh_s": self.openssh.iter().map(|(s, _)| rounded(*s)).collect::<Vec<_>>(),
                "openssh_cpu_s": self.openssh.iter().map(|(_, cpu)| rounded(*cpu)).collect::<Vec<_>>(),
                "ansible": cost(self.ansible_cold),
                "ansible_warm": cost(self.ansible_warm),
                "ansible_tuned": cost(self.ansible_tuned),
                "large": self.large.as_ref().map(|l| json!({
                    "bytes": l.bytes, "ours": l.ours, "line_s": rounded(l.line_s),
                    "mb_per_s": rounded(l.bytes as f64 * self.hosts as f64 / 1e6 / l.ours.cold_s),
                })),
            },
        })
    }
}
