//! What is watched in the small consortium of `seed`.

use hanse_tui::app::model::plan::{Plan, Planned};
use hanse_tui::app::model::watch::{Artifact, Finding, Series, Sought, Window};

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

/// Sixty spans; a quarter of an hour in the middle was not seen, and of the day only the last six hours are known.
pub(crate) fn series(of: &Sought, window: Window) -> Vec<Series> {
    let known = |n: i64| match window {
        Window::Hour => !(20..35).contains(&n),
        Window::SixHours => true,
        Window::Day => n >= 45,
    };
    let since = NOW - 6 * 3_600_000;
    let one = |resource: &str, metric: &str, unit: &str, value: &dyn Fn(i64) -> i64| {
        let values: Vec<Option<i64>> = (0..60).map(|n| known(n).then(|| value(n))).collect();
        let mut seen: Vec<i64> = values.iter().flatten().copied().collect();
        let now = seen.last().copied();
        seen.sort_unstable();
        Series {
            resource: resource.into(),
            metric: metric.into(),
            unit: unit.into(),
            min: seen[0],
            median: seen[seen.len() / 2],
            max: seen[seen.len() - 1],
            values,
            now,
            now_age: 3_000,
            since,
        }
    };
    let node = |of: &str| {
        vec![
            one(of, "height", "", &|n| 1_200_000 + n * 72),
            one(of, "height/s", "milli_per_s", &|n| 1_180 + n % 7),
            one(of, "peers", "", &|n| if n == 40 { 2 } else { 3 }),
            one(of, "cpu", "permille", &|n| 50 + (n * 37) % 90),
            one(of, "memory", "bytes", &|_| 300 << 20),
            one(of, "disk_used", "bytes", &|n| (1_i64 << 30) + (n << 24)),
            one(of, "starts", "", &|_| 1),
        ]
    };
    let chain = |of: &str| {
        // What was seen last is older than a minute: it says nothing of now.
        let age = Series { now_age: 720_000, ..one(of, "block_age", "ms", &|n| if n == 50 { 45_000 } else { 700 }) };
        vec![
            one(of, "height/s", "milli_per_s", &|n| 990 + n % 20),
            one(of, "transactions", "milli_per_s", &|n| if n < 15 { 0 } else { 212_000 + n * 300 }),
            one(of, "peers", "", &|_| 3),
            one(of, "round", "", &|n| i64::from(n == 50) * 4),
            age,
        ]
    };
    match of {
        Sought::Chains => chain(CHAIN).into_iter().filter(|it| it.metric == "transactions").collect(),
        Sought::Own(of) if of.starts_with("hosts/") => vec![
            one(of, "cpu", "permille", &|n| 120 + (n * 53) % 300),
            one(of, "load", "milli", &|n| 800 + (n * 53) % 300),
            one(of, "memory", "bytes", &|_| 11 << 30),
            one(of, "disk_free", "bytes", &|n| (90_i64 << 30) - (n << 24)),
            one(of, "clock_offset", "ms", &|n| n % 5 - 2),
        ],
        // Of this one nothing was ever seen.
        Sought::Own(of) if of.contains("/trace-3/") || of.ends_with("/pay-4") => Vec::new(),
        Sought::Own(of) if of.contains("/nodes/") => node(of),
        Sought::Own(of) => chain(of),
        Sought::All(of) => [chain(of), node(&format!("{of}/nodes/n0"))].concat(),
    }
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
