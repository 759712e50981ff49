//! Real processes under faults, in short: what `cargo xtask faults processes` does for longer and with all its faults.

use std::path::PathBuf;

use hanse_faults::power_cut::whole;
use hanse_faults::processes::{Kind, Options, measure};

/// Power cuts that the mutant may survive by luck.
const CUTS_TO_CATCH: u64 = 10;

/// Every disk that a power cut may leave under a whole replica: what its clients were told is there.
#[test]
fn a_replica_whose_power_was_cut_comes_back_with_all_it_acknowledged() {
    let program = Some(PathBuf::from(env!("CARGO_BIN_EXE_hanse")));
    let options = whole::Options { cuts: 2, seed: 5, output: "text".into(), program, skip_sync: false };
    let figures = whole::measure(&options).unwrap();
    println!("{figures:#?}");
    assert!(figures.passed(), "{figures:#?}");
    assert_eq!((figures.cuts, figures.images), (2, 8));
    assert!(figures.acked >= 8, "too little was done to prove anything: {figures:#?}");
}

/// A replica whose syncs do nothing, so often that only a blind rig lets it live.
#[test]
fn a_replica_that_does_not_sync_is_caught_by_the_power_cut() {
    let caught = (100..100 + CUTS_TO_CATCH).any(|seed| {
        let program = Some(PathBuf::from(env!("CARGO_BIN_EXE_hanse")));
        let options = whole::Options { cuts: 1, seed, output: "text".into(), program, skip_sync: true };
        whole::measure(&options).unwrap().lost > 0
    });
    assert!(caught, "the mutant lives");
}

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
