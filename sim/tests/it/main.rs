//! The simulation's share of CI: a few seeds hold, the same seed is the same run, and mistakes are found.
#![allow(clippy::unwrap_used)]

mod sweep;

use hanse_sim::{Mutant, Options, run};

fn options(ticks: u64, voters: u64, mutant: Option<Mutant>) -> Options {
    Options { ticks, voters, mutant, print: false }
}

fn hold(seeds: std::ops::Range<u64>, ticks: u64, voters: u64) {
    let (mut acked, mut reads, mut elections, mut nodes) = (0, 0, 0, 0);
    let (mut ordered, mut left, mut deployed) = (0, 0, 0);
    for seed in seeds {
        let report = run(seed, &options(ticks, voters, None));
        let replay = format!("cargo xtask sim --seed {seed} --ticks {ticks} --voters {voters}");
        assert!(report.violations.is_empty(), "{:#?}\nreplay: {replay}", report.violations);
        assert_eq!(report.lost, 0);
        acked += report.acked;
        reads += report.reads;
        elections += report.elections;
        nodes += report.nodes;
        ordered += report.ordered;
        left += report.left;
        deployed += report.deployed;
    }
    // Runs that did nothing would prove nothing.
    assert!(acked > 40 && reads > 40 && elections > 2, "{acked} acked, {reads} reads, {elections} elections");
    assert!(nodes >= 12, "{nodes} nodes run");
    assert!(ordered > 1 && left > 0 && deployed > 0, "{ordered} ordered, {left} left, {deployed} deployed");
}

#[test]
fn three_voters_hold() {
    hold(1..4, 3_000, 3);
}

#[test]
fn three_more_voters_hold() {
    hold(6..9, 3_000, 3);
}

#[test]
fn five_voters_hold() {
    hold(103..106, 3_000, 5);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1..4 {
        let first = run(seed, &options(2_000, 3, None));
        let second = run(seed, &options(2_000, 3, None));
        assert!(first.lines > 1_000, "{first:?}");
        assert_eq!(first, second);
    }
    let (one, other) = (run(1, &options(300, 3, None)), run(2, &options(300, 3, None)));
    assert_ne!(one.trace, other.trace, "the seed must matter");
}

/// Runs seeds with a mistake put in until one shows it, by an invariant that names what is wrong.
fn found(mutant: Mutant, by: &[&str]) {
    found_from(1, mutant, by);
}

/// As [`found`], beginning with a seed that is known to show it soon.
fn found_from(first: u64, mutant: Mutant, by: &[&str]) {
    let seeds = first..first + SEEDS_MAX;
    let report = seeds.map(|seed| run(seed, &options(3_000, 3, Some(mutant)))).find(|r| !r.violations.is_empty());
    let report = report.unwrap_or_else(|| panic!("{mutant} lives after {SEEDS_MAX} seeds"));
    let first = &report.violations[0];
    assert!(by.iter().any(|invariant| first.contains(invariant)), "{mutant} was found by another check: {first}");
}

/// Seeds that a mistake may hide from.
const SEEDS_MAX: u64 = 24;

#[test]
fn acknowledging_before_durable_is_found() {
    found(Mutant::AckBeforeDurable, &["commit on quorum"]);
}

#[test]
fn a_forgotten_vote_is_found() {
    found(Mutant::SkipVote, &["monotonic vote"]);
}

#[test]
fn committing_without_a_quorum_is_found() {
    found(Mutant::CommitWithoutQuorum, &["commit on quorum"]);
}

#[test]
fn a_snapshot_without_the_remembered_requests_is_found() {
    found(Mutant::SnapshotForgetsRequests, &["equal states", "exactly once"]);
}

#[test]
fn each_replica_with_its_own_clock_is_found() {
    found(Mutant::WallClockInApply, &["equal states"]);
}

#[test]
fn a_leader_that_reads_without_asking_is_found() {
    found_from(18, Mutant::ReadWithoutIndex, &["linearizable read"]);
}

#[test]
fn acting_before_the_intent_commits_is_found() {
    found(Mutant::ActBeforeIntent, &["act without intent"]);
}

#[test]
fn creating_without_a_look_is_found() {
    found(Mutant::CreateWithoutLook, &["doubled node"]);
}

#[test]
fn creating_without_a_key_is_found() {
    found(Mutant::CreateWithoutKey, &["doubled node", "orphan"]);
}

#[test]
fn an_id_used_again_after_its_disk_was_lost_is_found() {
    found(Mutant::IdAfterWipe, &["monotonic vote", "commit on quorum", "leader completeness", "election safety"]);
}

#[test]
fn a_vote_for_a_learner_without_the_log_is_found() {
    found_from(2, Mutant::PromoteUnready, &["caught up before it votes"]);
}

#[test]
fn a_leader_that_takes_itself_out_is_found() {
    found_from(6, Mutant::LeaderTakesItselfOut, &["hand over first"]);
}

#[test]
fn an_id_that_is_given_again_is_found() {
    found_from(4, Mutant::IdAgain, &["two lives"]);
}

#[test]
fn a_contract_that_is_deployed_twice_is_found() {
    found_from(4, Mutant::DeployAgain, &["deployed twice"]);
}
