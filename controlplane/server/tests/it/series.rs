//! Figures over time as a client sees them, and that every replica knows the whole day, a new leader too.

use hanse_proto::v1 as pb;
use hanse_server::series::{Key, Metric, keep};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::harness::*;

const CHAIN: &str = "consortiums/trade/chains/supply-1";
const MINUTE: u64 = 60_000;

/// So many blocks a minute, minute by minute.
fn see(one: &One, resource: &str, from: u64, to: u64, height: impl Fn(u64) -> u64) {
    let series = one.context.observed().series();
    for at in (from..to).step_by(10_000) {
        series.record(resource, Metric::Height, at, i64::try_from(height(at)).unwrap());
    }
}

fn minutes(one: &One, resource: &str, from: u64, to: u64) -> usize {
    let key = Key { resource: resource.into(), metric: Metric::Height };
    one.context.observed().series().points(&key, from, to, MINUTE).len()
}

fn series(resource: &str) -> pb::GetSeriesRequest {
    pb::GetSeriesRequest { resource: resource.into(), window_ms: 3_600_000, ..Default::default() }
}

#[tokio::test]
async fn a_replica_that_comes_to_lead_asks_the_others_and_a_follower_copies_the_leader() {
    let cluster = Cluster::start(3).await;
    let root = cluster.bootstrapped().await;
    let leader = cluster.leader().await;
    let [first, second] = cluster.members.iter().filter(|one| one.id != leader.id).collect::<Vec<_>>()[..] else {
        panic!("three replicas")
    };
    // What the leader before saw, which one replica copied; then a time in which nobody looked; then what this leader saw.
    let end = now().0 / MINUTE * MINUTE;
    let (old, gap, own) = (end - 40 * MINUTE, end - 20 * MINUTE, end - 10 * MINUTE);
    see(first, CHAIN, old, gap + 1, |at| (at - old) / 1_000);
    see(leader, CHAIN, own, end, |at| 10_000 + (at - own) / 500);
    assert_eq!(minutes(leader, CHAIN, old, gap), 0);

    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let keeping: Vec<_> = [leader, second]
        .map(|one| {
            let folder = dir.path().join(one.id.to_string());
            std::fs::create_dir(&folder).unwrap();
            tokio::spawn(keep::run(one.context.clone(), folder, stop.clone()))
        })
        .into();
    wait_for("the leader has what it did not see", async || (minutes(leader, CHAIN, old, gap - 1) == 20).then_some(()))
        .await;

    // Through a follower, and by whoever may see it.
    let client = cluster.client(cluster.follower().await).await.with_token(&root.token);
    let answer = client.monitoring().get_series(series(CHAIN)).await.unwrap().into_inner();
    assert_eq!(answer.to_ms - answer.from_ms, 3_600_000);
    assert_eq!(answer.since_ms, i64::try_from(old).unwrap());
    let [height] = &answer.series[..] else { panic!("{answer:?}") };
    assert!(height.counter && height.step_ms == 60_000, "{height:?}");
    let at = |ms: u64| height.points.iter().find(|it| it.at_ms == i64::try_from(ms).unwrap());
    assert_eq!(at(old + MINUTE).and_then(|it| it.rate_milli), Some(1_000), "one a second");
    assert!(at(gap + MINUTE).is_none(), "a gap has no points");
    assert_eq!(at(own).map(|it| it.rate_milli), Some(None), "and after it how fast is not known");
    assert_eq!(at(own + MINUTE).and_then(|it| it.rate_milli), Some(2_000));
    let rates = height.rates.unwrap();
    assert_eq!((rates.min, rates.median, rates.max), (1_000, 1_000, 2_000), "{rates:?}");
    let values = height.values.unwrap();
    assert_eq!((values.min, values.max, values.now), (0, 11_180, Some(11_180)), "{values:?}");

    stop.cancel();
    for kept in keeping {
        kept.await.unwrap();
    }
    let written = keep::load(&dir.path().join(leader.id.to_string()));
    let key = Key { resource: CHAIN.into(), metric: Metric::Height };
    assert_eq!(written.points(&key, old, gap - 1, MINUTE).len(), 20, "and it is on its disk");
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_is_what_is_told() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let one = cluster.leader().await;
    let end = now().0;
    for resource in [CHAIN, &format!("{CHAIN}/nodes/n0"), "consortiums/other/chains/c", "hosts/h1"] {
        see(one, resource, end - 5 * MINUTE, end, |at| at / 1_000);
    }
    let named = async |request: pb::GetSeriesRequest| {
        let answer = root.monitoring().get_series(request).await.unwrap().into_inner();
        answer.series.into_iter().map(|one| one.resource).collect::<Vec<_>>()
    };
    assert_eq!(named(series(CHAIN)).await, [CHAIN.to_owned(), format!("{CHAIN}/nodes/n0")]);
    assert_eq!(named(pb::GetSeriesRequest { own_only: true, ..series(CHAIN) }).await, [CHAIN]);
    assert_eq!(named(series("consortiums/-/chains/-")).await, ["consortiums/other/chains/c", CHAIN]);

    for (window_ms, from_ms) in [(-1, 0), (86_400_001, 0), (3_600_000, 5)] {
        let wrong = pb::GetSeriesRequest { window_ms, from_ms, ..series(CHAIN) };
        let refused = root.monitoring().get_series(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains("window_ms"), "{refused:?}");
    }
    let day = pb::GetSeriesRequest { window_ms: 86_400_000, ..series(CHAIN) };
    let day = root.monitoring().get_series(day).await.unwrap().into_inner();
    assert_eq!(day.series[0].step_ms, 24 * 60_000, "about sixty spans");
    cluster.stop().await;
}
