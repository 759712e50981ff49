//! Dead, gone, silent and distrusted: what is done about it, and when not.

use std::collections::BTreeMap;

use hanse_planner::*;
use hanse_state::chain::node::{Health, Node, NodeAct, NodeFact, NodeState, RESTART_BUDGET, RestartNode};
use hanse_state::chain::repair::SetChainRepair;
use hanse_state::cluster::backup::{RestoreCluster, ResumeCluster};
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::consortium::policy::Policy;
use hanse_state::host::RecordHostKeyChanged;
use hanse_state::host::care::BeginHostMaintenance;
use hanse_state::{Actor, Command, Millis};

use super::world::{World, actor, chain_key, node_key, spec};

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
    let plan = |run| {
        let observed = Observed { since: w.at, ..seen(&w, 0, run) };
        plan_node(&w.state, &node_key(0), &observed, w.at)
    };
    assert!(matches!(plan(Run::Missing), Step::Do(Act::Restart { .. })));
    assert!(matches!(plan(Run::Running), Step::Do(Act::CheckHealth { .. })));
    let unreachable = Run::Unreachable { reason: "no route".into() };
    assert!(matches!(plan(unreachable.clone()), Step::Do(Act::CheckHealth { .. })));
    // Silent for long, it is unhealthy, but it is never restarted where it cannot be seen.
    let step = plan_node(&w.state, &node_key(0), &seen(&w, 0, unreachable), w.at.plus(START_GRACE_MS * 2));
    let Step::Do(Act::RecordHealth { fact: NodeFact::Unhealthy { reason }, .. }) = step else { panic!("{step:?}") };
    assert!(reason.contains("no route"), "{reason}");
}

/// What was before it led it has not seen: neither that nobody answered, nor for how long.
#[test]
fn a_new_leader_knows_of_no_silence_before_it_led() {
    let w = World::running(4);
    let led = w.at.plus(START_GRACE_MS * 60);
    for (run, words) in [
        (Run::Running, "silent for 15 seconds"),
        (Run::Unreachable { reason: "no route".into() }, "silent for 15 seconds: host unreachable: no route"),
    ] {
        let observed = Observed { since: led, ..seen(&w, 0, run) };
        let plan = |later| plan_node(&w.state, &node_key(0), &observed, led.plus(later));
        for later in [0, HEALTH_SILENCE_MS - 1] {
            assert!(matches!(plan(later), Step::Do(Act::CheckHealth { .. })), "{:?}", plan(later));
        }
        let step = plan(HEALTH_SILENCE_MS);
        let Step::Do(Act::RecordHealth { fact: NodeFact::Unhealthy { reason }, .. }) = step else { panic!("{step:?}") };
        assert_eq!(reason, words);
    }
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

/// A chain of so many nodes in a cluster that was restored from a backup and is resumed: the nodes run under their old numbers.
fn restored(nodes: usize) -> (World, BTreeMap<u64, u64>) {
    restored_from(World::running(nodes), nodes)
}

fn restored_from(mut w: World, nodes: usize) -> (World, BTreeMap<u64, u64>) {
    w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(6) }));
    let running = (0..nodes as u64).map(|n| (n, w.state.nodes[&node_key(n)].generation)).collect();
    let incarnation = "0193f2a4-0000-7000-8000-00000000000c".parse().unwrap();
    let restore = RestoreCluster {
        backup: "0193f2a4-0000-7000-8000-00000000000b".parse().unwrap(),
        revision: w.state.revision,
        digest: w.state.digest(),
        incarnation,
        name: "test-2".into(),
    };
    w.ok(Actor::System, Command::RestoreCluster(restore));
    w.ok(actor("root"), Command::ResumeCluster(ResumeCluster { incarnation }));
    (w, running)
}

/// What a leader sees of processes that run under these numbers.
fn under(w: &World, running: &BTreeMap<u64, u64>) -> Observed {
    let mut observed = Observed::default();
    for (n, generation) in running {
        let generation = *generation;
        let health = HealthView { generation, height: 9, peers: 3, syncing: false, reasons: Vec::new(), at: w.at };
        let instance = InstanceView { generation, run: Run::Running };
        observed.nodes.insert(node_key(*n), NodeView { instance: Some(instance), health: Some(health) });
    }
    observed
}

/// Rounds of a leader that plans all nodes of a round from one state, until nothing is left to do; gives in which order they were
/// started anew.
fn renewed(w: &mut World, running: &mut BTreeMap<u64, u64>) -> Vec<u64> {
    let is_well = |node: &Node| node.state == NodeState::Running && node.health == Health::Healthy;
    let mut order = Vec::new();
    for _ in 0..40 {
        let observed = under(w, running);
        let steps: Vec<(u64, Step)> =
            running.keys().map(|n| (*n, plan_node(&w.state, &node_key(*n), &observed, w.at))).collect();
        if steps.iter().all(|(_, step)| *step == Step::Done) {
            return order;
        }
        for (n, step) in steps {
            match step {
                Step::Do(Act::Restart { node, generation, reason }) => {
                    assert!(w.state.nodes.values().all(is_well), "n{n} while another is not well");
                    let restart = RestartNode { node, generation, reason, accept_outage: false };
                    w.ok(Actor::System, Command::RestartNode(restart));
                    order.push(n);
                }
                Step::Do(Act::Start { generation, .. }) => {
                    w.intent(n, NodeAct::Start);
                    w.fact(n, NodeFact::Started);
                    running.insert(n, generation);
                }
                Step::Do(Act::RecordHealth { fact, .. }) => w.fact(n, fact),
                Step::Do(Act::CheckHealth { .. }) | Step::Wait { .. } | Step::Done => {}
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("they do not come to their numbers: {running:?}");
}

#[test]
fn after_a_restore_all_are_started_anew_one_after_another_and_at_nobodys_cost() {
    for nodes in [1, 4] {
        let (mut w, mut running) = restored(nodes);
        // Not even where automatic repair is off does a process keep a number that no node has.
        let off = SetChainRepair { chain: chain_key(), restarts_per_hour: Some(0), reason: "by hand".into() };
        w.ok(actor("root"), Command::SetChainRepair(off));
        let order = renewed(&mut w, &mut running);
        assert_eq!(order, (0..nodes as u64).collect::<Vec<_>>());
        for node in w.state.nodes.values() {
            assert_eq!(running[&node.key.node.number()], node.generation);
            assert!(node.restarts.is_empty() && node.generation > 1_000_000, "{node:?}");
        }
    }
}

#[test]
fn after_a_restore_health_is_judged_before_a_nodes_turn_comes_and_the_ill_one_is_first() {
    let (mut w, mut running) = restored(4);
    let mut observed = under(&w, &running);
    let ill = |observed: &mut Observed, n| {
        let health = observed.nodes.get_mut(&node_key(n)).unwrap().health.as_mut().unwrap();
        health.reasons = vec!["its disk is full".into()];
    };
    ill(&mut observed, 2);
    let step = plan_node(&w.state, &node_key(2), &observed, w.at);
    let Step::Do(Act::RecordHealth { fact: fact @ NodeFact::Unhealthy { .. }, .. }) = step else { panic!("{step:?}") };
    w.fact(2, fact);
    let plan = |w: &World, n| plan_node(&w.state, &node_key(n), &observed, w.at);
    assert!(matches!(plan(&w, 0), Step::Wait { .. } | Step::Do(Act::CheckHealth { .. })), "{:?}", plan(&w, 0));
    assert!(matches!(plan(&w, 2), Step::Do(Act::Restart { .. })), "{:?}", plan(&w, 2));
    // Two that are ill: none is taken down besides.
    w.fact(1, NodeFact::Unhealthy { reason: "slow".into() });
    for n in 0..4 {
        let step = plan_repair(&w.state, &node_key(n), &observed, w.at);
        assert!(matches!(step, Step::Wait { .. }), "n{n}: {step:?}");
    }
    // Who was not looked at yet may have been started anew just now.
    w.fact(1, NodeFact::Healthy);
    w.fact(2, NodeFact::Healthy);
    let mut observed = under(&w, &running);
    observed.nodes.remove(&node_key(0));
    let step = plan_repair(&w.state, &node_key(1), &observed, w.at);
    assert!(matches!(&step, Step::Wait { reason } if reason.contains("n0 was not looked at")), "{step:?}");
    assert_eq!(renewed(&mut w, &mut running), [0, 1, 2, 3]);
}

/// A chain of seven nodes, each on a host of its own: two can be missed.
fn spread() -> (World, BTreeMap<u64, u64>) {
    let mut w = World::consortium(Policy::Majority);
    for n in 1..=7 {
        w.enrol(&format!("h{n}"), 1);
    }
    w.order(spec(7));
    w.run_chain(7);
    restored_from(w, 7)
}

#[test]
fn after_a_restore_nobody_waits_for_one_in_maintenance() {
    let (mut w, running) = spread();
    let host = w.state.nodes[&node_key(0)].host.clone().unwrap();
    let begin = BeginHostMaintenance { host, reason: "disks".into(), forced: false };
    w.ok(actor("root"), Command::BeginHostMaintenance(begin));
    // Neither while its process is the older one, nor when it was seen last as it was being started.
    let step = plan_repair(&w.state, &node_key(1), &under(&w, &running), w.at);
    assert!(matches!(step, Step::Do(Act::Restart { .. })), "{step:?}");
    let step = plan_repair(&w.state, &node_key(2), &under(&w, &running), w.at);
    assert!(matches!(&step, Step::Wait { reason } if reason.contains("after n1")), "{step:?}");
    w.state.nodes.get_mut(&node_key(0)).unwrap().state = NodeState::Starting;
    let mut observed = under(&w, &running);
    observed.nodes.remove(&node_key(0));
    let step = plan_repair(&w.state, &node_key(1), &observed, w.at);
    assert!(matches!(step, Step::Do(Act::Restart { .. })), "{step:?}");
}

#[test]
fn after_a_restore_nobody_waits_for_ever_for_one_that_does_not_come() {
    let (mut w, running) = spread();
    let generation = w.state.nodes[&node_key(0)].generation;
    let restart = RestartNode { node: node_key(0), generation, reason: "older".into(), accept_outage: false };
    w.ok(Actor::System, Command::RestartNode(restart));
    let since = w.state.nodes[&node_key(0)].state_since;
    let mut observed = under(&w, &running);
    observed.nodes.get_mut(&node_key(0)).unwrap().instance.as_mut().unwrap().run =
        Run::Unreachable { reason: "no route".into() };
    let plan = |n, now| plan_repair(&w.state, &node_key(n), &observed, now);
    let step = plan(1, since.plus(ROLL_LIMIT_MS - 1));
    assert!(matches!(&step, Step::Wait { reason } if reason.contains("n0 is being started")), "{step:?}");
    let late = since.plus(ROLL_LIMIT_MS);
    assert!(matches!(plan(1, late), Step::Do(Act::Restart { .. })), "{:?}", plan(1, late));
    assert!(matches!(plan(2, late), Step::Wait { .. }), "{:?}", plan(2, late));
}
