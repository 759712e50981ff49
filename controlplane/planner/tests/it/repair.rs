//! Dead, gone, silent and distrusted: what is done about it, and when not.

use hanse_planner::*;
use hanse_state::chain::node::{NodeFact, RESTART_BUDGET, RestartNode};
use hanse_state::host::RecordHostKeyChanged;
use hanse_state::{Actor, Command, Millis};

use super::world::{World, node_key};

fn seen(w: &World, n: u64, run: Run) -> Observed {
    let mut observed = Observed::default();
    let generation = w.state.nodes[&node_key(n)].generation;
    let view = NodeView { instance: Some(InstanceView { generation, run }), health: None };
    observed.nodes.insert(node_key(n), view);
    observed
}

fn exited() -> Run {
    Run::Exited { code: Some(1), reason: "panic".into() }
}

#[test]
fn a_dead_process_is_restarted_with_pauses_until_the_budget_is_spent() {
    let mut w = World::running(4);
    let (mut pauses, mut told) = (Vec::new(), 0);
    for _ in 0..RESTART_BUDGET {
        let mut waited = 0;
        let reason = loop {
            match plan_node(&w.state, &node_key(0), &seen(&w, 0, exited()), w.at.plus(waited)) {
                Step::Do(Act::Restart { reason, .. }) => break reason,
                Step::Wait { .. } => waited += 100,
                // Nothing is called healthy while it is dead and its pause lasts; that is said once.
                Step::Do(Act::RecordHealth { fact: fact @ NodeFact::Unhealthy { .. }, .. }) => {
                    assert_eq!(
                        fact,
                        NodeFact::Unhealthy {
                            reason: "the process ended with code 1: panic; it is started again after a pause".into()
                        }
                    );
                    told += 1;
                    w.fact(0, fact);
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason, "the process ended with code 1: panic");
        pauses.push(waited);
        w.at = w.at.plus(waited);
        let generation = w.state.nodes[&node_key(0)].generation;
        w.ok(
            Actor::System,
            Command::RestartNode(RestartNode { node: node_key(0), generation, reason, accept_outage: false }),
        );
        w.intent(0, hanse_state::chain::node::NodeAct::Start);
        w.fact(0, NodeFact::Started);
        w.at = w.state.nodes[&node_key(0)].restarts.last().copied().unwrap();
    }
    // The state's clock runs on with each entry; the pauses are those of the planner less these few milliseconds.
    assert_eq!(pauses[0], 0);
    assert_eq!(told, pauses.len() - 1, "all but the first had to wait");
    assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    let step = plan_node(&w.state, &node_key(0), &seen(&w, 0, exited()), w.at.plus(BACKOFF_MS_MAX));
    assert!(matches!(step, Step::Do(Act::Block { .. })), "{step:?}");
}

#[test]
fn missing_is_dead_unreachable_is_not() {
    let w = World::running(4);
    let plan = |run| plan_node(&w.state, &node_key(0), &seen(&w, 0, run), w.at);
    assert!(matches!(plan(Run::Missing), Step::Do(Act::Restart { .. })));
    assert!(matches!(plan(Run::Running), Step::Do(Act::CheckHealth { .. })));
    let unreachable = Run::Unreachable { reason: "no route".into() };
    assert!(matches!(plan(unreachable.clone()), Step::Do(Act::CheckHealth { .. })));
    // Silent for long, it is unhealthy, but it is never restarted where it cannot be seen.
    let step = plan_node(&w.state, &node_key(0), &seen(&w, 0, unreachable), w.at.plus(START_GRACE_MS * 2));
    let Step::Do(Act::RecordHealth { fact: NodeFact::Unhealthy { reason }, .. }) = step else { panic!("{step:?}") };
    assert!(reason.contains("no route"), "{reason}");
}

#[test]
fn a_live_process_is_replaced_only_while_the_quorum_stands() {
    let mut w = World::running(4);
    let old = |w: &World| {
        let mut observed = seen(w, 0, Run::Running);
        observed.nodes.get_mut(&node_key(0)).unwrap().instance.as_mut().unwrap().generation += 1;
        observed
    };
    assert!(matches!(plan_repair(&w.state, &node_key(0), &old(&w), w.at), Step::Do(Act::Restart { .. })));
    w.fact(1, NodeFact::Unhealthy { reason: "slow".into() });
    let step = plan_repair(&w.state, &node_key(0), &old(&w), w.at);
    assert!(matches!(&step, Step::Wait { reason } if reason.contains("quorum")), "{step:?}");
    // A dead one is restarted nevertheless.
    assert!(matches!(plan_repair(&w.state, &node_key(0), &seen(&w, 0, exited()), w.at), Step::Do(Act::Restart { .. })));
    assert_eq!([1, 2, 3, 4, 7].map(quorum), [1, 2, 3, 3, 5]);
}

#[test]
fn nothing_is_done_on_a_distrusted_host_or_with_a_blocked_node() {
    let mut w = World::running(4);
    w.fact(1, NodeFact::Failed { reason: "disk full".into() });
    let blocked = plan_node(&w.state, &node_key(1), &seen(&w, 1, exited()), w.at);
    assert_eq!(blocked, Step::Wait { reason: "blocked: disk full".into() });
    let host = w.state.nodes[&node_key(0)].host.clone().unwrap();
    let changed = RecordHostKeyChanged { host, seen: format!("SHA256:{}", "B".repeat(43)), jump: None };
    w.ok(Actor::System, Command::RecordHostKeyChanged(changed));
    let step = plan_node(&w.state, &node_key(0), &seen(&w, 0, exited()), w.at);
    assert!(matches!(&step, Step::Wait { reason } if reason.contains("distrusted")), "{step:?}");
}

#[test]
fn a_log_ahead_of_the_leaders_clock_stops_neither_health_nor_repair() {
    let mut w = World::running(4);
    // A former leader's clock was a day ahead; this one's is right.
    let behind = Millis(w.at.0.saturating_sub(24 * hanse_state::time::HOUR_MS));
    let generation = w.state.nodes[&node_key(0)].generation;
    let mut observed = seen(&w, 0, Run::Running);
    let health = HealthView { generation, height: 9, peers: 3, syncing: false, reasons: Vec::new(), at: behind };
    observed.nodes.get_mut(&node_key(0)).unwrap().health = Some(health.clone());
    w.fact(0, NodeFact::Unhealthy { reason: "silent".into() });
    let step = plan_node(&w.state, &node_key(0), &observed, behind);
    assert!(matches!(step, Step::Do(Act::RecordHealth { fact: NodeFact::Healthy, .. })), "{step:?}");
    // What another generation said is no health of this one.
    observed.nodes.get_mut(&node_key(0)).unwrap().health = Some(HealthView { generation: generation + 1, ..health });
    let step = plan_node(&w.state, &node_key(0), &observed, behind);
    assert!(!matches!(step, Step::Do(Act::RecordHealth { .. })), "{step:?}");

    let reason = "the process ended".to_owned();
    w.ok(
        Actor::System,
        Command::RestartNode(RestartNode { node: node_key(0), generation, reason, accept_outage: false }),
    );
    w.intent(0, hanse_state::chain::node::NodeAct::Start);
    w.fact(0, NodeFact::Started);
    let step = plan_node(&w.state, &node_key(0), &seen(&w, 0, exited()), behind);
    assert!(matches!(step, Step::Do(Act::Restart { .. })), "{step:?}");
}

#[test]
fn a_node_that_says_that_it_does_not_follow_is_unhealthy_in_its_own_words_and_is_not_restarted() {
    let mut w = World::running(4);
    let generation = w.state.nodes[&node_key(0)].generation;
    let mut observed = seen(&w, 0, Run::Running);
    let mut says = |w: &World, reasons: &[&str], peers| {
        let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        let health = HealthView { generation, height: 9, peers, syncing: false, reasons, at: w.at };
        observed.nodes.get_mut(&node_key(0)).unwrap().health = Some(health);
        plan_node(&w.state, &node_key(0), &observed, w.at)
    };
    assert_eq!(says(&w, &[], 3), Step::Done);
    let unhealthy = |step: Step| match step {
        Step::Do(Act::RecordHealth { fact: NodeFact::Unhealthy { reason }, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(unhealthy(says(&w, &["upgrade needed: version 2"], 3)), "upgrade needed: version 2");
    let alone = unhealthy(says(&w, &["validators with power 1 of 4 are connected"], 0));
    assert_eq!(alone, "it has no peers; validators with power 1 of 4 are connected");

    // Other words are no change of health; none are one.
    w.fact(0, NodeFact::Unhealthy { reason: "upgrade needed: version 2".into() });
    assert_eq!(says(&w, &["the disk is full"], 3), Step::Done);
    let step = says(&w, &[], 3);
    assert!(matches!(step, Step::Do(Act::RecordHealth { fact: NodeFact::Healthy, .. })), "{step:?}");
}

#[test]
fn on_a_host_in_maintenance_nothing_is_repaired_and_nothing_counts_as_well() {
    let mut w = World::running(4);
    let root = || Actor::Account("root".parse().unwrap());
    let raise =
        hanse_state::cluster::version::RaiseClusterVersion { version: hanse_state::cluster::version::Version(4) };
    w.ok(root(), Command::RaiseClusterVersion(raise));
    let on = |w: &World, n: u64| w.state.nodes[&node_key(n)].host.clone().unwrap();
    let maintained = on(&w, 0);
    let elsewhere = (1..4).find(|n| on(&w, *n) != maintained).unwrap();
    assert!(may_disturb(&w.state, &node_key(elsewhere)), "all others are well");
    let begin = |forced| {
        Command::BeginHostMaintenance(hanse_state::host::care::BeginHostMaintenance {
            host: maintained.clone(),
            reason: "new disk".into(),
            forced,
        })
    };
    assert!(w.send(root(), begin(false)).outcome.is_err(), "two of four nodes are on it");
    w.ok(root(), begin(true));
    let step = plan_node(&w.state, &node_key(0), &seen(&w, 0, exited()), w.at);
    assert!(matches!(&step, Step::Wait { reason } if reason.contains("in maintenance: new disk")), "{step:?}");
    assert!(!may_disturb(&w.state, &node_key(elsewhere)), "the nodes there may be down at any moment");
    let end = hanse_state::host::UncordonHost { host: maintained };
    w.ok(root(), Command::UncordonHost(end));
    let step = plan_node(&w.state, &node_key(0), &seen(&w, 0, exited()), w.at);
    assert!(matches!(step, Step::Do(Act::Restart { .. })), "{step:?}");
}
