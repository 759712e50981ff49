//! The store: power cuts, damage, the trace of system calls; each with a mutant that must not pass.

use std::path::Path;
use std::process::Stdio;

use hanse_faults::power_cut::rig::{clean_up_after_the_dead, wait_until};
use hanse_faults::{damage, power_cut, trace};

/// Power cuts that a mutant may survive by luck, each with a chance well under three in four.
const CUTS_TO_CATCH: u64 = 40;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_hanse-faults"))
}

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let measure = |cuts, seed| {
        let figures = power_cut::measure(&power_cut::Options::short(cuts, seed), program()).unwrap();
        assert!(figures.passed(), "{figures:#?}");
        figures
    };
    let figures = measure(6, 11);
    assert_eq!((figures.cuts, figures.images), (6, 24));
    assert!(figures.acked > 100, "the store did nothing: {figures:#?}");
    // On an idle machine all six may come when nothing is under way; one that does not is wanted.
    let tried =
        figures.images_unflushed > 0 || (200..200 + CUTS_TO_CATCH).any(|seed| measure(1, seed).images_unflushed > 0);
    assert!(tried, "no cut tried the store");
}

/// Cuts the power of a mutant until it is caught, so often that only a blind rig lets it live: one cut may come when
/// nothing is under way, and on a fast disk many do.
fn caught(mutant: impl Fn(power_cut::Options) -> power_cut::Options) -> bool {
    (100..100 + CUTS_TO_CATCH).any(|seed| {
        let figures = power_cut::measure(&mutant(power_cut::Options::short(1, seed)), program()).unwrap();
        figures.lost > 0
    })
}

#[test]
fn a_store_that_does_not_sync_is_caught_by_the_power_cut() {
    let mutant = |options| power_cut::Options { skip_sync: Some("all".into()), ..options };
    assert!(caught(mutant), "the mutant lives");
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught_by_the_power_cut() {
    assert!(caught(|options| power_cut::Options { ack_early: true, ..options }), "the mutant lives");
}

#[test]
fn what_a_killed_run_has_left_is_cleaned_up_and_a_running_one_is_left_alone() {
    let mut run = std::process::Command::new(program());
    let mut run = run.args(["power-cut", "--cuts", "50"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let name = format!("hanse-power-cut.{}.", run.id());
    let its_mount = || std::fs::read_to_string("/proc/self/mounts").unwrap().contains(&name);
    wait_until("the disk of the run is mounted", || Ok(its_mount())).unwrap();
    clean_up_after_the_dead().unwrap();
    assert!(run.try_wait().unwrap().is_none(), "a running one was disturbed");
    run.kill().unwrap();
    run.wait().unwrap();
    let its_folder = || {
        let left = std::fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok);
        left.map(|e| e.file_name().into_string().unwrap()).any(|n| n.starts_with(&name))
    };
    // A `mount` that the dead run had started may come to its end after a first look; whoever looks next finds it.
    let gone = || {
        clean_up_after_the_dead()?;
        Ok(!its_mount() && !its_folder())
    };
    wait_until("nothing is mounted any more and its folder is gone", gone).unwrap();
}

#[test]
fn no_damage_is_silent() {
    let options = damage::Options { rounds: 60, seed: 3, output: "text".into() };
    let figures = damage::measure(&options, program()).unwrap();
    assert!(figures.passed(), "{figures:#?}");
    assert!(figures.total.refused > 0, "no damage hit anything: {figures:#?}");
}

fn traced(skip_sync: bool, ack_early: bool) -> trace::Figures {
    let options = trace::Options { steps: 60, seed: 5, output: "text".into(), skip_sync, ack_early };
    trace::measure(&options, program()).unwrap()
}

#[test]
fn every_acknowledgement_is_preceded_by_a_sync_of_its_bytes() {
    let figures = traced(false, false);
    assert!(figures.entries > 50 && figures.votes > 2, "{figures:#?}");
    assert_eq!(figures.violations, 0, "{figures:#?}");
}

#[test]
fn an_acknowledgement_without_a_sync_is_seen_in_the_trace() {
    let (skipped, early) = (traced(true, false), traced(false, true));
    assert!(skipped.violations == skipped.entries + skipped.votes, "{skipped:#?}");
    assert!(early.violations > 0, "{early:#?}");
}
