#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const NODE: &str = "consortiums/trade/chains/supply-1/nodes/n0";

fn key(metric: Metric) -> Key {
    Key { resource: NODE.into(), metric }
}

#[test]
fn a_day_of_minutes_and_an_hour_of_tens_of_seconds_are_kept_and_no_more() {
    let series = Series::default();
    // Two days, one sample in five seconds; the value is the second.
    for second in (0..2 * 86_400_u64).step_by(5) {
        series.record(NODE, Metric::Height, second * 1_000, i64::try_from(second).unwrap());
    }
    let end = 2 * 86_400_000;
    let day = series.points(&key(Metric::Height), 0, end, COARSE_MS);
    assert_eq!(day.len(), COARSE_POINTS + 1, "with the minute under way");
    assert_eq!(day[0], Point { at_ms: 86_340_000, min: 86_340, max: 86_395, avg: 86_367 });
    let fine = series.points(&key(Metric::Height), end - 600_000, end, FINE_MS);
    assert_eq!(fine.len(), 60, "ten minutes");
    assert_eq!(fine[59], Point { at_ms: end - 10_000, min: 172_790, max: 172_795, avg: 172_792 });
    // Further back than the fine ring reaches it is minutes, whatever was asked for.
    let back = series.points(&key(Metric::Height), end - 7_200_000, end, FINE_MS);
    assert_eq!(back.len(), 120);
    let quarters = series.points(&key(Metric::Height), end - 3_600_000, end, 15 * 60_000);
    assert!(quarters.len() <= 5 && quarters[1].max - quarters[1].min == 895, "{quarters:?}");
}

#[test]
fn counters_become_shares_and_a_new_process_makes_no_nonsense() {
    let series = Series::default();
    for (at, cpu) in [(0, 100), (10_000, 5_100), (20_000, 40), (30_000, 10_040)] {
        series.record_share(NODE, Metric::Cpu, at, cpu);
    }
    assert_eq!(series.last(NODE, Metric::Cpu), Some((30_000, 1_000)));
    let seen: Vec<i64> = series.points(&key(Metric::Cpu), 0, 40_000, FINE_MS).iter().map(|point| point.avg).collect();
    assert_eq!(seen, [500, 1_000], "nothing for the first reading and for the one that went back");
    series.record_ratio("hosts/h1", Metric::Cpu, 0, 10, 100);
    series.record_ratio("hosts/h1", Metric::Cpu, 10_000, 60, 200);
    assert_eq!(series.last("hosts/h1", Metric::Cpu), Some((10_000, 500)));
}

#[test]
fn what_another_replica_saw_fills_the_past_and_changes_nothing_seen_here() {
    let (leader, heir) = (Series::default(), Series::default());
    for minute in 0..10_u64 {
        leader.record(NODE, Metric::Height, minute * COARSE_MS, i64::try_from(minute).unwrap());
    }
    let copy = leader.minutes(None, 0, 10);
    assert_eq!(copy[0].1.len(), 9, "the minute under way is not copied");
    heir.merge(copy[0].0.clone(), copy[0].1.clone());
    heir.merge(copy[0].0.clone(), copy[0].1.clone());
    for minute in 9..12_u64 {
        heir.record(NODE, Metric::Height, minute * COARSE_MS, 100);
    }
    heir.merge(copy[0].0.clone(), vec![Point { at_ms: 10 * COARSE_MS, min: 0, max: 0, avg: 0 }]);
    let seen: Vec<i64> = heir.points(&key(Metric::Height), 0, 900_000, COARSE_MS).iter().map(|it| it.avg).collect();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 100, 100, 100]);
}

#[test]
fn a_leader_that_was_deposed_takes_the_minutes_of_the_next_one() {
    let (deposed, leader) = (Series::default(), Series::default());
    for minute in 0..3_u64 {
        deposed.record(NODE, Metric::Peers, minute * COARSE_MS, 1);
    }
    for minute in 2..6_u64 {
        leader.record(NODE, Metric::Peers, minute * COARSE_MS + 30_000, 2);
    }
    let minutes = || leader.minutes(None, 0, 10).remove(0);
    let seen = |series: &Series| -> Vec<i64> {
        series.points(&key(Metric::Peers), 0, 900_000, COARSE_MS).iter().map(|it| it.avg).collect()
    };
    deposed.close();
    deposed.merge(minutes().0, minutes().1);
    assert_eq!(seen(&deposed), [1, 1, 1, 2, 2], "all but the minute under way");
    // It leads again: what it sees comes after what it took.
    deposed.record(NODE, Metric::Peers, 4 * COARSE_MS + 50_000, 9);
    deposed.record(NODE, Metric::Peers, 5 * COARSE_MS, 3);
    deposed.close();
    deposed.close();
    assert_eq!(seen(&deposed), [1, 1, 1, 2, 2, 3]);
}

/// What a new leader knows of the past are minutes: tens of seconds of its own must not stand before them.
#[test]
fn a_new_leader_shows_the_past_in_minutes_until_its_own_tens_of_seconds_reach_back() {
    let (leader, heir) = (Series::default(), Series::default());
    for tens in 0..60_u64 {
        leader.record(NODE, Metric::Peers, tens * FINE_MS, 1);
    }
    let past = leader.minutes(None, 0, 10).remove(0);
    heir.merge(past.0, past.1);
    for tens in 60..90_u64 {
        heir.record(NODE, Metric::Peers, tens * FINE_MS, 2);
    }
    let of = |from_ms| heir.points(&key(Metric::Peers), from_ms, 900_000, FINE_MS);
    let all: Vec<i64> = of(0).iter().map(|it| it.avg).collect();
    assert_eq!(all, [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2], "minutes: nine copied, five of its own");
    assert_eq!(of(600_000).len(), 30, "tens of seconds since it leads");
}

/// The hole that a deposed leader has in its tens of seconds is never filled; the minutes are.
#[test]
fn one_that_leads_again_shows_no_hole_where_minutes_are_known() {
    let (again, between) = (Series::default(), Series::default());
    let hour = 3_600_000;
    for tens in 0..30_u64 {
        again.record(NODE, Metric::Peers, tens * FINE_MS, 1);
    }
    again.close();
    for minute in 5..60_u64 {
        between.record(NODE, Metric::Peers, minute * COARSE_MS, 2);
    }
    let past = between.minutes(None, 0, 10).remove(0);
    again.merge(past.0, past.1);
    for tens in 0..30_u64 {
        again.record(NODE, Metric::Peers, hour + tens * FINE_MS, 3);
    }
    let seen = again.points(&key(Metric::Peers), 0, hour + 300_000, FINE_MS);
    assert!(seen.windows(2).all(|two| two[1].at_ms - two[0].at_ms <= 2 * COARSE_MS), "{seen:?}");
    assert_eq!(seen.len(), 5 + 54 + 5);
}

#[test]
fn there_is_an_end_to_how_many_series_there_are() {
    let series = Series::default();
    for n in 0..SERIES_MAX + 5 {
        series.record(&format!("hosts/h{n}"), Metric::Load, 1_000, 1);
    }
    assert_eq!((series.list().len(), series.refused()), (SERIES_MAX, 5));
    series.prune(DAY_MS + 1_000);
    assert_eq!(series.list().len(), 0);
}

proptest! {
    /// Whatever the clock does: points are in order, none begins twice, least <= mean <= greatest, never more than the bound.
    #[test]
    fn points_are_in_order_and_bounded(samples in prop::collection::vec((0_u64..200_000_000, any::<i64>()), 1..400), step in 1_u64..1_000_000) {
        let series = Series::default();
        for (at, value) in &samples {
            series.record(NODE, Metric::Memory, *at, *value);
        }
        let points = series.points(&key(Metric::Memory), 0, u64::MAX, step);
        prop_assert!(!points.is_empty() && points.len() <= COARSE_POINTS + 1);
        prop_assert!(points.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms));
        prop_assert!(points.iter().all(|it| it.min <= it.avg && it.avg <= it.max));
        let (least, greatest) = (samples.iter().map(|it| it.1).min().unwrap(), samples.iter().map(|it| it.1).max().unwrap());
        prop_assert!(points.iter().all(|it| least <= it.min && it.max <= greatest));
    }
}
