//! What is wrong is told with who, why and what to do, and goes when it is gone.

use hanse_planner::diagnose::*;
use hanse_planner::*;
use hanse_state::chain::node::{NodeFact, NodeState, RESTART_BUDGET, RestartNode};
use hanse_state::chain::repair::{SetChainRepair, left};
use hanse_state::time::HOUR_MS;
use hanse_state::{Actor, Command, Millis};

use super::world::{World, node_key};

/// Four nodes that run and see blocks, on hosts with room.
fn well(w: &World) -> (Observed, Figures) {
    let (mut observed, mut figures) = (Observed::default(), Figures::default());
    for n in 0..4 {
        let node = &w.state.nodes[&node_key(n)];
        let instance = Some(InstanceView { generation: node.generation, run: Run::Running });
        let health = HealthView {
            generation: node.generation,
            height: 100,
            peers: 3,
            syncing: false,
            reasons: Vec::new(),
            at: w.at,
        };
        observed.nodes.insert(node_key(n), NodeView { instance, health: Some(health) });
        let seen = NodeFigures { rose_at: Some(w.at), block_time_ms: Some(1_000), round: None };
        figures.nodes.insert(node_key(n), seen);
        let host = HostFigures { disk_free: Some(100 << 30), clock_offset_ms: Some(5), ..HostFigures::default() };
        figures.hosts.insert(node.host.clone().unwrap(), host);
    }
    (observed, figures)
}

fn kill(observed: &mut Observed, n: u64) {
    let run = Run::Exited { code: None, reason: "signal 9".into() };
    observed.nodes.get_mut(&node_key(n)).unwrap().instance.as_mut().unwrap().run = run;
}

fn codes(found: &[Finding]) -> Vec<(&str, &str)> {
    found.iter().map(|it| (it.code, it.resource.rsplit('/').next().unwrap())).collect()
}

#[test]
fn a_chain_that_is_well_has_no_findings() {
    let w = World::running(4);
    let (observed, figures) = well(&w);
    assert_eq!(diagnose(&w.state, &observed, &figures, w.at), []);
}

#[test]
fn two_of_four_down_are_named_with_what_to_do_and_it_goes_when_they_are_back() {
    let w = World::running(4);
    let (mut observed, figures) = well(&w);
    kill(&mut observed, 1);
    let one = diagnose(&w.state, &observed, &figures, w.at.plus(5_000));
    assert_eq!(codes(&one), [("NO_RESERVE", "supply-1"), ("NODE_DOWN", "n1")]);
    kill(&mut observed, 3);
    let early = diagnose(&w.state, &observed, &figures, w.at.plus(5_000));
    assert_eq!(early[0].code, "NO_QUORUM");
    let late = diagnose(&w.state, &observed, &figures, w.at.plus(STALL_MS));
    assert_eq!(codes(&late), [("STALLED", "supply-1"), ("NODE_DOWN", "n1"), ("NODE_DOWN", "n3")]);
    let stalled = &late[0];
    assert_eq!(stalled.severity, Severity::Critical);
    assert_eq!(stalled.what, "no node has seen a new block for 30 s");
    let (n1, n3) = (stalled.cause.contains("n1: its process ended"), stalled.cause.contains("n3: its process ended"));
    assert!(n1 && n3 && stalled.cause.starts_with("2 of 4 validators take part, 3 are needed"), "{}", stalled.cause);
    assert!(stalled.recipe.starts_with("bring 1 of n1, n3 back"), "{}", stalled.recipe);
    let (back, mut figures) = well(&w);
    figures.nodes.values_mut().for_each(|it| it.rose_at = Some(w.at.plus(STALL_MS)));
    assert_eq!(diagnose(&w.state, &back, &figures, w.at.plus(STALL_MS)), []);
}

#[test]
fn a_quorum_that_is_gone_is_told_while_another_node_is_on_its_way() {
    let mut w = World::running(4);
    let (mut observed, figures) = well(&w);
    let set = |w: &mut World, state: NodeState| w.state.nodes.get_mut(&node_key(2)).unwrap().state = state;
    let of_chain = |w: &World, observed: &Observed| {
        let found = diagnose(&w.state, observed, &figures, w.at.plus(5_000));
        found.into_iter().filter(|it| it.resource.ends_with("supply-1")).collect::<Vec<_>>()
    };
    // Planned, and a quorum is there without it.
    set(&mut w, NodeState::Moving);
    assert_eq!(of_chain(&w, &observed), []);
    // One that starts may take part in a moment; one that is moved does not.
    kill(&mut observed, 1);
    set(&mut w, NodeState::Starting);
    assert_eq!(of_chain(&w, &observed), []);
    set(&mut w, NodeState::Moving);
    let [found] = of_chain(&w, &observed).try_into().unwrap();
    assert_eq!((found.code, found.severity), ("NO_QUORUM", Severity::Critical));
    assert!(found.cause.starts_with("2 of 4 validators take part, 3 are needed"), "{}", found.cause);
    assert!(found.cause.contains("n2: it is being moved"), "{}", found.cause);
    kill(&mut observed, 3);
    set(&mut w, NodeState::Starting);
    assert_eq!(codes(&of_chain(&w, &observed)), [("NO_QUORUM", "supply-1")]);
    // Of a chain that is paused: it makes no block on purpose.
    set(&mut w, NodeState::Stopped);
    assert_eq!(of_chain(&w, &observed), []);
}

#[test]
fn a_stalled_chain_with_all_nodes_up_is_told_by_its_probable_cause() {
    let w = World::running(4);
    let cause = |spoil: &dyn Fn(&mut Observed, &mut Figures)| {
        let (mut observed, mut figures) = well(&w);
        spoil(&mut observed, &mut figures);
        let found = diagnose(&w.state, &observed, &figures, w.at.plus(STALL_MS));
        let stalled = found.into_iter().find(|it| it.code == "STALLED").unwrap();
        stalled.cause + " | " + &stalled.recipe
    };
    let first_host = w.state.nodes[&node_key(0)].host.clone().unwrap();
    let health = |observed: &mut Observed, n: u64, change: &dyn Fn(&mut HealthView)| {
        change(observed.nodes.get_mut(&node_key(n)).unwrap().health.as_mut().unwrap());
    };
    let unknown = cause(&|_, _| {});
    assert!(unknown.contains("none of the usual"), "{unknown}");
    let cut = cause(&|o, _| (0..4).for_each(|n| health(o, n, &|it| it.peers = 1)));
    assert!(cut.starts_with("n0, n1, n2, n3 reach too few peers") && cut.contains("h1.example:"), "{cut}");
    let clock = cause(&|_, f| f.hosts.get_mut(&first_host).unwrap().clock_offset_ms = Some(-9_000));
    assert!(clock.starts_with("the clocks of the hosts of n0") && clock.contains("chrony"), "{clock}");
    let full = cause(&|_, f| f.hosts.get_mut(&first_host).unwrap().disk_free = Some(1 << 20));
    assert!(full.starts_with("the disk of n0"), "{full}");
    let halted = cause(&|o, _| health(o, 2, &|it| it.reasons = vec!["halted for an upgrade at height 100".into()]));
    assert!(halted.contains("on purpose (upgrade), say n2"), "{halted}");
    // A slow chain is granted ten of its blocks.
    let (observed, mut figures) = well(&w);
    figures.nodes.values_mut().for_each(|it| it.block_time_ms = Some(60_000));
    assert_eq!(diagnose(&w.state, &observed, &figures, w.at.plus(STALL_MS)), []);
}

#[test]
fn hosts_are_told_before_they_hurt() {
    let w = World::running(4);
    let host = w.state.nodes[&node_key(0)].host.clone().unwrap();
    let told = |seen: HostFigures| {
        let (observed, mut figures) = well(&w);
        figures.hosts.insert(host.clone(), seen);
        diagnose(&w.state, &observed, &figures, w.at)
    };
    let gib = 1 << 30;
    let slow = told(HostFigures { disk_free: Some(100 * gib), disk_less_an_hour: gib, ..HostFigures::default() });
    assert_eq!(slow, [], "in about 99 hours is not told");
    let soon = told(HostFigures { disk_free: Some(10 * gib), disk_less_an_hour: gib, ..HostFigures::default() });
    assert_eq!((soon[0].code, soon[0].severity), ("DISK_FORECAST", Severity::Warning));
    assert!(
        soon[0].what.starts_with("its disk is full in about 9 hours at this rate (1024 MiB an hour"),
        "{}",
        soon[0].what
    );
    let now = told(HostFigures { disk_free: Some(gib / 2), disk_less_an_hour: gib, ..HostFigures::default() });
    assert_eq!((now[0].code, now[0].severity), ("DISK_FORECAST", Severity::Critical));
    let silent = told(HostFigures { silent: true, clock_offset_ms: Some(2_500), ..HostFigures::default() });
    assert_eq!(codes(&silent).iter().map(|it| it.0).collect::<Vec<_>>(), ["HOST_SILENT", "CLOCK_OFFSET"]);
    assert!(silent[1].what.contains("2 s ahead"), "{}", silent[1].what);
}

/// n0 dies, is started again by the system, and is well.
fn restarted(w: &mut World) {
    let generation = w.state.nodes[&node_key(0)].generation;
    let restart = RestartNode { node: node_key(0), generation, reason: "it died".into(), accept_outage: false };
    w.ok(Actor::System, Command::RestartNode(restart));
    w.intent(0, hanse_state::chain::node::NodeAct::Start);
    w.fact(0, NodeFact::Started);
    w.fact(0, NodeFact::Healthy);
}

#[test]
fn repairs_left_are_counted_down_and_a_person_gives_them_back() {
    let mut w = World::running(4);
    for spent in 1..RESTART_BUDGET {
        restarted(&mut w);
        assert_eq!(left(&w.state, &w.state.nodes[&node_key(0)], w.state.now), RESTART_BUDGET - spent);
    }
    let (observed, figures) = well(&w);
    let found = diagnose(&w.state, &observed, &figures, w.at);
    assert_eq!(codes(&found), [("REPAIRS_LOW", "n0")]);
    assert_eq!(
        diagnose(&w.state, &observed, &figures, Millis(w.state.now.0 + HOUR_MS + 1))
            .iter()
            .filter(|it| it.code == "REPAIRS_LOW")
            .count(),
        0
    );
    let generation = w.state.nodes[&node_key(0)].generation;
    let by_hand = RestartNode { node: node_key(0), generation, reason: "looked at".into(), accept_outage: false };
    w.ok(super::world::actor("oda"), Command::RestartNode(by_hand));
    assert_eq!(left(&w.state, &w.state.nodes[&node_key(0)], w.state.now), RESTART_BUDGET);
}

#[test]
fn a_spent_budget_and_a_chain_without_repair_are_told_with_what_to_do() {
    let mut w = World::running(4);
    let root = super::world::actor("root");
    let raise =
        hanse_state::cluster::version::RaiseClusterVersion { version: hanse_state::cluster::version::Version::NEWEST };
    w.ok(root, Command::RaiseClusterVersion(raise));
    let said = |w: &mut World, restarts_per_hour| {
        let reason = "try".to_owned();
        let set = SetChainRepair { chain: super::world::chain_key(), restarts_per_hour, reason };
        w.ok(super::world::actor("oda"), Command::SetChainRepair(set));
        let (observed, figures) = well(w);
        diagnose(&w.state, &observed, &figures, w.at)
    };
    assert_eq!(said(&mut w, Some(1)), [], "one that is left of one is no news");
    restarted(&mut w);
    let found = said(&mut w, Some(1));
    assert_eq!(codes(&found), [("REPAIRS_SPENT", "n0")]);
    assert!(found[0].recipe.contains("`hanse chain repair trade supply-1 --restarts-per-hour N"), "{found:?}");
    let found = said(&mut w, Some(0));
    assert_eq!(codes(&found).iter().map(|it| it.0).collect::<Vec<_>>(), ["REPAIR_OFF"]);
    assert!(found[0].recipe.contains("--default"), "{found:?}");

    // A dead node of such a chain is told, and neither started nor blocked.
    let generation = w.state.nodes[&node_key(1)].generation;
    let run = Run::Exited { code: Some(1), reason: "panic".into() };
    let view = NodeView { instance: Some(InstanceView { generation, run }), health: None };
    let observed = Observed { nodes: [(node_key(1), view)].into(), ..Observed::default() };
    let step = plan_node(&w.state, &node_key(1), &observed, w.at);
    let Step::Do(Act::RecordHealth { fact: fact @ NodeFact::Unhealthy { .. }, .. }) = step else { panic!("{step:?}") };
    let words = "the process ended with code 1: panic; automatic repair of its chain is off";
    assert_eq!(fact, NodeFact::Unhealthy { reason: words.into() });
    w.fact(1, fact);
    let step = plan_node(&w.state, &node_key(1), &observed, w.at);
    assert_eq!(step, Step::Wait { reason: words.into() });
    said(&mut w, None);
    let step = plan_node(&w.state, &node_key(1), &observed, w.at);
    assert!(matches!(step, Step::Do(Act::Restart { .. })), "{step:?}");
}

#[test]
fn certificates_that_end_are_told_a_month_and_a_week_before() {
    let w = World::running(4);
    let day = 24 * HOUR_MS;
    let told = |left: i64| {
        let (observed, mut figures) = well(&w);
        let until = Millis(w.at.0.saturating_add_signed(left));
        let (what, renew) = ("the SSH certificate of h1".into(), "sign it anew".into());
        figures.expiries = vec![Expiry { resource: "hosts/h1".into(), what, until, renew }];
        let found = diagnose(&w.state, &observed, &figures, w.at);
        found.into_iter().map(|it| (it.code, it.severity, it.what)).next()
    };
    let ms = |days: u64| i64::try_from(days * day).unwrap();
    assert_eq!(told(ms(30)), None);
    let (code, severity, what) = told(ms(30) - 1).unwrap();
    assert_eq!(
        (code, severity, what.as_str()),
        ("CERTIFICATE_EXPIRES", Severity::Warning, "the SSH certificate of h1 ends in 29 days")
    );
    assert_eq!(told(ms(7)).unwrap().1, Severity::Warning);
    assert_eq!(told(ms(7) - 1).unwrap().1, Severity::Critical);
    assert_eq!(told(-1).unwrap().0, "CERTIFICATE_EXPIRED");
}

#[test]
fn a_validator_that_signed_twice_is_named_once_with_its_newest_proof() {
    let w = World::running(4);
    let (observed, mut figures) = well(&w);
    // A ledger may name its validators otherwise than its nodes.
    let n2 = w.state.nodes.keys().nth(2).cloned();
    let proof = |node_id: &str, height| DoubleSign {
        height,
        round: 1,
        node_id: node_id.into(),
        kind: "prevote".into(),
        node: n2.clone().filter(|_| node_id == "00ab"),
    };
    let proofs = vec![proof("00ab", 7), proof("00ab", 9), proof("stranger", 3)];
    figures.double_signs = [(super::world::chain_key(), proofs)].into();
    let found = diagnose(&w.state, &observed, &figures, w.at);
    assert_eq!(codes(&found), [("DOUBLE_SIGN", "supply-1"), ("DOUBLE_SIGN", "n2")]);
    assert!(found.iter().all(|it| it.severity == Severity::Critical));
    assert_eq!(
        found[1].what,
        "n2 (00ab) signed two different messages (prevote) at height 9, round 1; 2 proofs of it are kept"
    );
    assert!(found[0].what.starts_with("validator stranger signed"), "{found:?}");
}
