//! A simulated network of real nodes: the real driver, core, execution, store and message encoding, without sockets,
//! threads or the machine's clock.
//!
//! One seed decides everything: delays, losses, duplicates, partitions, crashes and what survives them, so the same
//! seed gives the same run ([`Report::trace`]). After the chaos the network heals and the laws are checked:
//!
//! - agreement: no two nodes ever store different blocks at one height;
//! - validity: a block holds only submitted transactions, each at most once;
//! - no equivocation: whatever leaves an honest node, over all its crashes, is at most one value for each height,
//!   round and kind;
//! - liveness: after healing, every node goes on and every submitted transaction is in the chain, within a bound.
//!
//! A crash hits between two operations on the log; what was appended and not synced is lost as the seed says. An
//! equivocator is two nodes with one key (Bano and others, "Twins: BFT Systems Made Robust", 2021), whose votes are
//! also contradicted on purpose, and who serves forged blocks to those who catch up.
//!
//! `HANSE_SIM_SEEDS=1..500` runs more seeds than CI does; a failure names its seed.

#![allow(clippy::unwrap_used)]

mod disk;
mod govern;
mod laws;
mod lies;
mod node;
mod plan;
mod run;
pub(super) mod wallet;

use plan::{Mutant, Plan, Report};
use run::run;

/// Seeds from `HANSE_SIM_SEEDS` (`7` or `1..500`, the end included), or `default`.
fn seeds(default: std::ops::RangeInclusive<u64>) -> std::ops::RangeInclusive<u64> {
    let Ok(text) = std::env::var("HANSE_SIM_SEEDS") else { return default };
    let (first, last) = text.split_once("..").unwrap_or((&text, &text));
    let number =
        |part: &str| part.trim_start_matches('=').parse().expect("HANSE_SIM_SEEDS is a number or `first..last`");
    number(first)..=number(last)
}

/// Runs a plan over seeds; a law that is broken ends the test with the seed and the reason.
fn hold(seeds: std::ops::RangeInclusive<u64>, plan: &Plan) -> Report {
    let mut total = Report::default();
    for seed in seeds {
        match run(seed, plan) {
            Ok(report) => total.add(&report),
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    println!("{}", total.to_json(plan));
    total
}

#[test]
fn simulated_network_of_four_keeps_the_laws() {
    let total = hold(seeds(1..=10), &Plan::honest(4));
    assert!(total.crashes > 0 && total.lost > 0 && total.duplicated > 0 && total.partitions > 0, "{total:?}");
}

#[test]
fn simulated_network_of_seven_keeps_the_laws() {
    hold(seeds(101..=103), &Plan::honest(7));
}

#[test]
fn simulated_equivocator_of_four_changes_nothing_and_is_recorded() {
    let total = hold(seeds(201..=206), &Plan { equivocators: 1, ..Plan::honest(4) });
    assert!(total.forged > 0, "blocks with forged certificates were offered: {total:?}");
}

#[test]
fn simulated_equivocators_two_of_seven_change_nothing_and_are_recorded() {
    hold(seeds(301..=302), &Plan { equivocators: 2, ..Plan::honest(7) });
}

/// Validators go and come while nodes crash and the network splits; the program is upgraded node by node.
#[test]
fn simulated_governance_keeps_the_laws_and_an_upgrade_halts_old_programs_only() {
    let total = hold(seeds(401..=405), &Plan { governed: true, ..Plan::honest(5) });
    assert!(total.changes > 0 && total.halts > 0, "{total:?}");
}

#[test]
fn simulated_run_is_the_same_for_the_same_seed() {
    let plan = Plan { equivocators: 1, ..Plan::honest(4) };
    let (first, second) = (run(42, &plan).unwrap(), run(42, &plan).unwrap());
    assert_eq!(first, second);
    assert_ne!(first.trace, run(43, &plan).unwrap().trace);
}

/// The first law that breaks within some seeds, if one does.
fn broken(seeds: std::ops::RangeInclusive<u64>, plan: &Plan) -> Option<String> {
    seeds.into_iter().find_map(|seed| run(seed, plan).err())
}

/// The harness can fail: without the sync before a message, a restarted node contradicts itself.
#[test]
fn simulated_mutant_that_does_not_sync_its_log_is_found() {
    let reason = broken(1..=40, &Plan { mutant: Some(Mutant::LogNotSynced), ..Plan::honest(4) });
    assert!(reason.as_ref().is_some_and(|r| r.contains("equivocation")), "{reason:?}");
}

/// Likewise if the log is written but not read again.
#[test]
fn simulated_mutant_that_does_not_replay_its_log_is_found() {
    let reason = broken(1..=40, &Plan { mutant: Some(Mutant::LogNotReplayed), ..Plan::honest(4) });
    assert!(reason.as_ref().is_some_and(|r| r.contains("equivocation")), "{reason:?}");
}

/// Likewise if certificates of blocks are taken on trust.
#[test]
fn simulated_mutant_that_trusts_certificates_is_found() {
    let plan = Plan { equivocators: 1, mutant: Some(Mutant::CertificatesTrusted), ..Plan::honest(4) };
    let reason = broken(1..=40, &plan);
    assert!(reason.as_ref().is_some_and(|r| r.contains("fork") || r.contains("invalid")), "{reason:?}");
}
