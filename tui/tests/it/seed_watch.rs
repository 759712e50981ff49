//! What is watched in the small consortium of `seed`.

use hanse_tui::app::model::plan::{Plan, Planned};
use hanse_tui::app::model::watch::{Artifact, Finding, Series};

use super::seed::{CHAIN, NOW};

pub(crate) fn findings() -> Vec<Finding> {
    let finding = |severity: &str, code: &str, resource: String, what: &str, cause: &str| Finding {
        severity: severity.into(),
        code: code.into(),
        resource,
        what: what.into(),
        cause: cause.into(),
        recipe: "bring 1 of n1, n3 back: their hosts first".into(),
    };
    vec![
        finding(
            "CRITICAL",
            "STALLED",
            CHAIN.into(),
            "no node has seen a new block for 45 s",
            "2 of 4 validators take part, 3 are needed; n1: its host cannot be reached",
        ),
        finding(
            "WARNING",
            "NODE_DOWN",
            format!("{CHAIN}/nodes/n1"),
            "it does not take part",
            "its host cannot be reached: no route",
        ),
        finding(
            "WARNING",
            "DISK_FORECAST",
            "hosts/h2".into(),
            "its disk is full in about 9 hours at this rate",
            "the ledger's data\u{1b}[31m grow",
        ),
    ]
}

pub(crate) fn series(of: &str) -> Vec<Series> {
    let one = |metric: &str, unit: &str, values: Vec<i64>| Series {
        resource: format!("{of}/nodes/n0"),
        metric: metric.into(),
        unit: unit.into(),
        min: values.iter().min().copied().unwrap_or_default(),
        max: values.iter().max().copied().unwrap_or_default(),
        span_ms: 3_600_000,
        values,
    };
    vec![
        one("height", "", (0..60).map(|n| 1_200_000 + n * 72).collect()),
        one("cpu", "permille", (0..60).map(|n| 50 + (n * 37) % 90).collect()),
        one("memory", "bytes", vec![300 << 20; 60]),
        one("disk_free", "bytes", (0..60).map(|n| (90_i64 << 30) - (n << 24)).collect()),
    ]
}

pub(crate) fn artifacts() -> Vec<Artifact> {
    let one = |n: u8, title: &str, version: &str, kind: &str, word: &str| Artifact {
        name: format!("artifacts/{}", format!("{n:02x}").repeat(32)),
        title: title.into(),
        version: version.into(),
        kind: kind.into(),
        size: 87_654_321,
        word: word.into(),
        by: "accounts/root".into(),
        at: NOW - 7_200_000,
    };
    vec![
        one(0x1a, "injectived", "1.20.1", "BUNDLE", "injective-labs"),
        one(0x2b, "ledgerd", "1.2.0", "PROGRAM", "built here, ticket 118"),
    ]
}

/// What the server foresees; another restart than that of the first node would be refused.
pub(crate) fn plan(of: &Planned) -> Plan {
    let refused = match of {
        Planned::Restart(node) if !node.ends_with("/n0") => {
            "accept_outage is false: it must be agreed to, for the chain makes no block while this one starts (say so)"
                .to_owned()
        }
        _ => String::new(),
    };
    if !refused.is_empty() {
        return Plan { refused, ..Plan::default() };
    }
    let words = [
        "now 4 of 4 validators are well: it tolerates 1 failure",
        "with this you tolerate 0 failures for about 2 minutes: 4 nodes one after another, about 30 seconds each",
    ];
    Plan {
        refused,
        words: words.map(str::to_owned).to_vec(),
        risks: vec!["hosts/h1 has 2 of 4 validators: the chain makes no block while it is down".to_owned()],
    }
}
