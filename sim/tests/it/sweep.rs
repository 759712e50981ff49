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

/// What the sweep finds with a mistake put in.
fn with(mutant: Mutant) -> Figures {
    sweep(&Options { stages: vec![Stage::Create], every: 40, mutant: Some(mutant), ..Options::default() })
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
