//! The crash sweep's share of CI: some of its cases, spread over all stages, faults and habits of the cloud; and mistakes.

use hanse_sim::Mutant;
use hanse_sim::sweep::{Cloud, Figures, Options, Stage, sweep};

fn some(stages: &[Stage], every: usize) -> Figures {
    let figures = sweep(&Options { stages: stages.to_vec(), every, ..Options::default() });
    assert!(figures.is_good(), "{figures:#?}");
    // Runs that did nothing would prove nothing.
    assert!(figures.runs > stages.len() as u64 && figures.points > 10, "{figures:?}");
    figures
}

#[test]
fn a_chain_is_made_and_grows_through_faults_of_the_leader() {
    some(&[Stage::Create, Stage::Add, Stage::Remove], 149);
}

#[test]
fn a_chain_is_changed_and_healed_through_faults_of_the_leader() {
    some(&[Stage::Roll, Stage::Pause, Stage::Resume, Stage::Repair], 109);
}

#[test]
fn a_chain_is_deleted_through_faults_of_the_leader_and_its_name_is_free_again() {
    some(&[Stage::Delete, Stage::Again, Stage::AtOnce], 199);
}

#[test]
fn planted_orphans_are_removed_though_lists_are_late_and_strangers_are_left_alone() {
    let late = Options { stages: vec![Stage::Orphans], clouds: vec![Cloud::ListsLate], every: 7, ..Options::default() };
    let figures = sweep(&late);
    assert!(figures.is_good(), "{figures:#?}");
    // Three hosts have one each, in each run.
    assert_eq!(figures.removed, 3 * figures.runs, "{figures:?}");
}

#[test]
fn machines_are_ordered_and_deleted_through_faults_of_the_leader() {
    some(&[Stage::Order, Stage::Discard, Stage::Reorder, Stage::Lost], 13);
}

#[test]
fn what_nobody_ordered_in_a_cloud_goes_and_a_stranger_s_machine_stays() {
    let late = Options { stages: vec![Stage::Strays], clouds: vec![Cloud::ListsLate], every: 6, ..Options::default() };
    let figures = sweep(&late);
    assert!(figures.is_good(), "{figures:#?}");
    // One that nobody ordered, a second one of a token and a disk that no machine has, in each run.
    assert_eq!(figures.removed, 3 * figures.runs, "{figures:?}");
}

#[test]
fn settings_are_changed_and_rolled_back_through_faults_of_the_leader() {
    some(&[Stage::Refit, Stage::RollBack], 97);
}

#[test]
fn nodes_move_through_faults_of_the_leader() {
    some(&[Stage::Move, Stage::Drain, Stage::GiveUp], 211);
}

/// Each act is nine seconds on its way and waits for the one before: that takes its time, and ends. A leader is killed long after the
/// first nodes have come back with the new setting.
#[test]
fn what_is_late_at_every_act_ends() {
    let late = |stage| Options { stages: vec![stage], clouds: vec![Cloud::ArrivesLate], ..Options::default() };
    let figures = sweep(&Options { every: 122, ..late(Stage::Refit) });
    assert!(figures.is_good() && figures.by["kill"] == 1, "{figures:#?}");
    // Without a fault of the leader; the minute that others have would not do.
    let figures = sweep(&Options { part: (1, 1_000), ..late(Stage::Drain) });
    assert!(figures.is_good() && figures.healed_ms_max > 60_000, "{figures:#?}");
}

/// A cloud that has no room makes no machine, so nothing ever comes of the order: the point is struck in the next cloud.
#[test]
fn a_point_that_a_cloud_leads_around_is_struck_in_the_next_one() {
    let clouds = vec![Cloud::LacksRoom, Cloud::Calm];
    // The one that hands over when the cloud has told what it made.
    let part = (13, 26);
    let figures = sweep(&Options { stages: vec![Stage::Withdraw], clouds, part, ..Options::default() });
    assert!(figures.is_good(), "{figures:#?}");
    assert_eq!((figures.passed_by, figures.runs, figures.by["transfer"]), (1, 2, 1), "{figures:?}");
}

#[test]
fn seats_are_taken_and_given_up_through_faults_of_the_leader() {
    let figures = sweep(&Options { stages: vec![Stage::Seat, Stage::Unseat], every: 11, ..Options::default() });
    assert!(figures.is_good() && figures.runs > 2 && figures.points == 8, "{figures:#?}");
}

/// What the sweep finds with a mistake put in.
fn with(mutant: Mutant) -> Figures {
    with_in(Stage::Create, 40, mutant)
}

fn with_in(stage: Stage, every: usize, mutant: Mutant) -> Figures {
    sweep(&Options { stages: vec![stage], every, mutant: Some(mutant), ..Options::default() })
}

#[test]
fn a_machine_that_is_ordered_before_its_intent_is_found() {
    let figures = with_in(Stage::Order, 1_000, Mutant::ActBeforeIntent);
    assert!(figures.violations > 0 && figures.bad[0].contains("act without intent"), "{figures:#?}");
}

#[test]
fn an_orphan_that_is_removed_at_sight_is_found() {
    for stage in [Stage::Strays, Stage::Orphans] {
        let figures = with_in(stage, 1_000, Mutant::OrphansAtSight);
        assert!(figures.violations > 0 && figures.bad[0].contains("removed at sight"), "{figures:#?}");
    }
}

#[test]
fn an_act_before_its_intent_is_found() {
    let figures = with(Mutant::ActBeforeIntent);
    assert!(figures.violations > 0 && figures.bad[0].contains("act without intent"), "{figures:#?}");
}

#[test]
fn a_token_that_is_not_sent_is_found() {
    let figures = with(Mutant::CreateWithoutKey);
    assert!(figures.orphans + figures.doubles > 0, "{figures:#?}");
}
