//! Real processes under faults, in short: what `cargo xtask faults processes` does for longer and with all its faults.

use std::path::PathBuf;

use hanse_faults::how::How;
use hanse_faults::power_cut::whole;
use hanse_faults::processes::{Ending, Kind, Options, measure};
use hanse_faults::{membership, rejoin, upgrade};

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

/// What every run with real processes must have shown to have proven anything.
fn how() -> How {
    How::of(3, env!("CARGO_BIN_EXE_hanse"))
}

fn proven(ending: &Ending, acked: u64) {
    assert!(ending.acked > acked && ending.reads > acked, "too little was done to prove anything: {ending}");
    assert!(ending.digests_compared > 0 && ending.entries_compared > 0, "nothing was compared: {ending}");
    assert!(ending.canaries > 15 && ending.leaks == 0 && ending.searched_bytes > 1_000_000, "{ending}");
}

/// Every kind of change, with what befalls it as the seed has it.
#[test]
fn changes_of_the_membership_neither_split_nor_stall() {
    let options = membership::Options { changes: 8, how: how() };
    let report = membership::measure(&options).unwrap();
    println!("{report}");
    assert!(report.passed, "{:#?}", report.ending.wrong);
    let figures = &report.figures;
    assert_eq!((figures.changes, report.split, figures.joint_left, figures.stalled), (8, 0, 0, 0));
    assert!(figures.kinds.len() >= 5 && figures.left >= 2, "{:?}", figures.kinds);
    assert!(figures.faults.values().sum::<u64>() >= 3, "{:?}", figures.faults);
    proven(&report.ending, 50);
}

/// An empty learner, a learner that was away, the leader and a follower, with the leader idle and under load.
#[test]
fn whoever_comes_behind_a_purged_log_is_brought_up_by_a_snapshot() {
    let options = rejoin::Options { rounds: 8, how: how() };
    let report = rejoin::measure(&options).unwrap();
    println!("{report}");
    assert!(report.passed, "{:#?}", report.ending.wrong);
    let figures = &report.figures;
    assert_eq!((figures.rounds, figures.stuck, figures.unproven), (8, 0, 0));
    assert!(figures.purged_to_tip > 0 && figures.kills > 0 && figures.kinds.len() == 8, "{figures:#?}");
    proven(&report.ending, 50);
}

/// Up, down, up and raised, replica by replica.
#[test]
fn the_program_before_and_this_one_make_one_cluster_until_the_raise() {
    let options = upgrade::Options { rounds: 1, previous: None, how: how() };
    let report = upgrade::measure(&options).unwrap();
    println!("{report}");
    assert!(report.passed, "{:#?}", report.ending.wrong);
    let figures = &report.figures;
    assert_eq!((figures.rounds, figures.exchanges, figures.raised), (1, 9, Some((5, 6))));
    assert_eq!((figures.too_old.len(), figures.refused.values().sum::<u64>()), (3, 4), "{figures:#?}");
    assert!(figures.installed.values().all(|count| *count > 0) && figures.installed.len() == 2, "{figures:#?}");
    proven(&report.ending, 50);
}

/// A little over a minute of faults, of the kinds that cost an operator's cluster its leader.
#[test]
fn nothing_is_lost_or_stale_under_kills_pauses_and_cuts() {
    let options = Options {
        minutes: 1.2,
        replicas: 3,
        nemeses: vec![Kind::Kill, Kind::Pause, Kind::Partition, Kind::OneWay],
        longest: 5,
        how: how(),
    };
    let report = measure(&options).unwrap();
    println!("{report}");
    assert!(report.passed, "{:#?}", report.ending.wrong);
    assert!(report.ending.retries > 0 && report.ending.repeated > 0, "no answer was lost: {report}");
    proven(&report.ending, 100);
}
