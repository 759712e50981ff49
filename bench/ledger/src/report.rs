//! Medians, ratios, and how they are printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::network::Figures;

/// Everything of one run, by round.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) ours: Vec<Figures>,
    pub(crate) theirs: Vec<Figures>,
}

type Field = (&'static str, fn(&Figures) -> f64);

const FIELDS: &[Field] = &[
    ("transfers_per_s", |f| f.per_s),
    ("transfers", |f| f.transfers as f64),
    ("blocks_under_load", |f| f.blocks_under_load as f64),
    ("refused", |f| f.refused as f64),
    ("cpu_us_per_transfer", |f| f.cpu_us_per_transfer),
    ("empty_block_s", |f| f.empty_block_s),
    ("receipt_median_s", |f| f.receipt_median_s),
    ("receipt_p99_s", |f| f.receipt_p99_s),
    ("rss_idle_mb", |f| f.rss_idle_mb),
    ("rss_loaded_mb", |f| f.rss_loaded_mb),
    ("disk_bytes_per_transfer", |f| f.disk_bytes_per_transfer),
    ("catch_up_blocks_per_s", |f| f.catch_up_blocks_per_s),
];

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).map(|value| (value * 1000.0).round() / 1000.0)
}

fn side(rounds: &[Figures]) -> Value {
    let mut all = serde_json::Map::new();
    for (name, field) in FIELDS {
        all.insert((*name).to_owned(), json!(median(rounds.iter().map(field))));
    }
    if let Some(last) = rounds.last() {
        all.insert("rss_each_mb".to_owned(), json!(last.rss_each_mb));
        all.insert("first_refusal".to_owned(), json!(last.first_refusal));
    }
    Value::Object(all)
}

impl Report {
    /// Median over the rounds of ours divided by theirs in the same round; `None` without theirs.
    fn ratio(&self, field: fn(&Figures) -> f64) -> Option<f64> {
        median(self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| field(ours) / field(theirs)))
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "bench": "ledger",
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "rounds": self.ours.len(),
            "block_time_s": 1,
            "tps_ratio": self.ratio(|f| f.per_s),
            "memory_ratio": self.ratio(|f| f.rss_loaded_mb),
            "receipt_block_times": median(self.ours.iter().map(|f| f.receipt_median_s)),
            "ours": side(&self.ours),
            "theirs": if self.theirs.is_empty() { Value::Null } else { side(&self.theirs) },
        })
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:<26}{:>14}{:>14}{:>10}\n", "median of the rounds", "hanse", "injectived", "ratio");
        let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| value.to_string());
        for (name, field) in FIELDS {
            let (ours, theirs) = (median(self.ours.iter().map(field)), median(self.theirs.iter().map(field)));
            let line =
                writeln!(text, "{name:<26}{:>14}{:>14}{:>10}", show(ours), show(theirs), show(self.ratio(*field)));
            line.expect("a String takes everything");
        }
        text
    }
}
