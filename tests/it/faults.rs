//! Real processes under faults, in short: what `cargo xtask faults processes` does for longer and with all its faults.

use std::path::PathBuf;

use hanse_faults::processes::{Kind, Options, measure};

/// A little over a minute of faults, of the kinds that cost an operator's cluster its leader.
#[test]
fn nothing_is_lost_or_stale_under_kills_pauses_and_cuts() {
    let options = Options {
        minutes: 1.2,
        replicas: 3,
        seed: 3,
        nemeses: vec![Kind::Kill, Kind::Pause, Kind::Partition, Kind::OneWay],
        longest: 5,
        program: Some(PathBuf::from(env!("CARGO_BIN_EXE_hanse"))),
        keep: None,
        output: "text".into(),
    };
    let report = measure(&options).unwrap();
    println!("{report}");
    assert!(report.passed, "{:#?}", report.wrong);
    assert!(report.acked > 100 && report.reads > 100, "too little was done to prove anything: {report}");
    assert!(report.retries > 0 && report.repeated > 0, "no answer was lost: {report}");
}
