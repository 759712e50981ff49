//! Processes that live and do nothing: started anew within the budget, never at the cost of the quorum, and not before a leader
//! has watched them for long.

use std::collections::{BTreeMap, BTreeSet};

use hanse_planner::*;
use hanse_state::chain::node::{NodeAct, NodeFact, NodeState, RESTART_BUDGET, RestartNode};
use hanse_state::time::HOUR_MS;
use hanse_state::{Actor, Command, Millis};
use proptest::prelude::*;

use super::world::{World, node_key};

/// What a leader has seen of a node that answers at `height`, which is that of its chain.
fn hears(w: &World, observed: &mut Observed, n: u64, height: u64, at: Millis) {
    let generation = w.state.nodes[&node_key(n)].generation;
    let health = HealthView { generation, height, peers: 3, syncing: false, reasons: Vec::new(), at };
    let instance = InstanceView { generation, run: Run::Running };
    observed.nodes.insert(node_key(n), NodeView { instance: Some(instance), health: Some(health) });
    let before = observed.quiet.get(&node_key(n)).copied();
    let quiet = Quiet::after_answer(before, generation, (Some(height - 1), height, height), at);
    observed.quiet.insert(node_key(n), quiet);
}

/// What a leader has seen of a node that answered until `since` and whose process runs, in four looks until `now`.
fn is_silent(w: &World, observed: &mut Observed, n: u64, since: Millis, now: Millis) {
    hears(w, observed, n, 9, since);
    let generation = w.state.nodes[&node_key(n)].generation;
    let mut quiet = observed.quiet.get(&node_key(n)).copied();
    for part in 0..=3 {
        let at = since.plus(now.since(since) * part / 3);
        quiet = Some(Quiet::after_silence(quiet, generation, at, at));
    }
    observed.quiet.insert(node_key(n), quiet.unwrap());
}

fn unhealthy(w: &mut World, n: u64) {
    w.fact(n, NodeFact::Unhealthy { reason: "silent for 15 seconds".into() });
}

fn restarts(w: &World, observed: &Observed, n: u64, now: Millis) -> Option<String> {
    match plan_node(&w.state, &node_key(n), observed, now) {
        Step::Do(Act::Restart { reason, .. }) => Some(reason),
        _ => None,
    }
}

#[test]
fn a_process_that_gives_no_answer_is_started_anew_after_a_minute_of_looks() {
    let mut w = World::running(4);
    unhealthy(&mut w, 0);
    let (since, mut observed) = (w.at, Observed::default());
    is_silent(&w, &mut observed, 0, since, since.plus(HANG_MS - 1));
    assert_eq!(restarts(&w, &observed, 0, since.plus(HANG_MS * 2)), None, "what was not looked at does not count");
    is_silent(&w, &mut observed, 0, since, since.plus(HANG_MS));
    let reason = restarts(&w, &observed, 0, since.plus(HANG_MS)).unwrap();
    assert_eq!(reason, "its process lives and has given no answer for 60 seconds");
    // A new leader has watched nothing yet, and a host that is out of reach says nothing of the process.
    let quiet = observed.quiet.remove(&node_key(0)).unwrap();
    assert_eq!(restarts(&w, &observed, 0, since.plus(HANG_MS)), None);
    // One answer that was lost for a minute is one look.
    let one = Quiet::after_silence(None, quiet.generation, since, since.plus(HANG_MS));
    observed.quiet.insert(node_key(0), Quiet { has_risen: true, ..one });
    assert_eq!(restarts(&w, &observed, 0, since.plus(HANG_MS)), None);
    observed.quiet.insert(node_key(0), quiet);
    observed.nodes.get_mut(&node_key(0)).unwrap().instance.as_mut().unwrap().run =
        Run::Unreachable { reason: "no route".into() };
    assert_eq!(restarts(&w, &observed, 0, since.plus(HANG_MS)), None);
}

#[test]
fn one_that_has_not_answered_since_its_start_is_given_longer() {
    let mut w = World::running(4);
    unhealthy(&mut w, 0);
    let (since, mut observed) = (w.at, Observed::default());
    let mut silent_until = |ms: u64| {
        is_silent(&w, &mut observed, 0, since, since.plus(ms));
        observed.nodes.get_mut(&node_key(0)).unwrap().health = None;
        restarts(&w, &observed, 0, since.plus(ms))
    };
    assert_eq!(silent_until(HANG_START_MS - 1), None);
    assert!(silent_until(HANG_START_MS).is_some());
}

#[test]
fn a_height_that_stands_while_the_chain_goes_on_is_told_and_then_repaired() {
    let mut w = World::running(4);
    let (since, generation) = (w.at, w.state.nodes[&node_key(0)].generation);
    let mut observed = Observed::default();
    // Seen to rise to 5, then at 5 in each look while the others are at `best`.
    let seen = |observed: &mut Observed, best: u64, until: u64| {
        hears(&w, observed, 0, 5, since.plus(until));
        let mut quiet = Quiet::after_answer(None, generation, (Some(4), 5, 5), since);
        for ms in (0..=until).step_by(2_000) {
            quiet = Quiet::after_answer(Some(quiet), generation, (Some(5), 5, best), since.plus(ms));
        }
        observed.quiet.insert(node_key(0), quiet);
    };
    let now = since.plus(HANG_MS);
    for (best, until) in [(4 + HANG_BEHIND, HANG_MS), (5 + HANG_BEHIND, HANG_MS - 2_000)] {
        seen(&mut observed, best, until);
        let step = plan_node(&w.state, &node_key(0), &observed, now);
        assert!(!matches!(step, Step::Do(Act::RecordHealth { .. })), "{best} {until}: {step:?}");
    }
    seen(&mut observed, 5 + HANG_BEHIND, HANG_MS);
    let Step::Do(Act::RecordHealth { fact, .. }) = plan_node(&w.state, &node_key(0), &observed, now) else { panic!() };
    let words = "it has stood at height 5 for 60 seconds while its chain went on";
    assert_eq!(fact, NodeFact::Unhealthy { reason: words.into() });
    w.fact(0, fact);
    assert_eq!(restarts(&w, &observed, 0, now).unwrap(), words);
    // What it says of itself is not mended by starting it again.
    observed.nodes.get_mut(&node_key(0)).unwrap().health.as_mut().unwrap().reasons = vec!["disk full".into()];
    assert_eq!(restarts(&w, &observed, 0, now), None);
}

#[test]
fn one_block_and_it_counts_anew_and_a_chain_that_stands_as_a_whole_never_begins() {
    let stood = |quiet, height, best, ms| {
        Quiet::after_answer(Some(quiet), 1, (Some(height), height, best), Millis(ms)).behind_since
    };
    let behind = Quiet::after_answer(None, 1, (Some(4), 5, 99), Millis(1));
    assert_eq!(stood(behind, 5, 99, 2), Some(Millis(1)));
    let risen = Quiet::after_answer(Some(behind), 1, (Some(5), 6, 99), Millis(3));
    assert_eq!(risen.behind_since, Some(Millis(3)));
    assert_eq!(stood(risen, 6, 6, 4), None, "nobody is ahead");
    // A chain that goes on again after an hour: whoever is looked at last was not behind before.
    let idle = Quiet::after_answer(None, 1, (Some(5), 5, 5), Millis(1));
    assert_eq!(stood(idle, 5, 99, 3_600_000), Some(Millis(3_600_000)));
    // Another process is another story.
    assert_eq!(Quiet::after_answer(Some(behind), 2, (None, 5, 99), Millis(9)).behind_since, Some(Millis(9)));
    assert_eq!(
        Quiet::after_silence(Some(Quiet::after_silence(None, 1, Millis(1), Millis(2))), 2, Millis(8), Millis(9)).looks,
        1
    );
}

#[test]
fn two_of_four_that_hang_are_left_to_people() {
    let mut w = World::running(4);
    let (since, now, mut observed) = (w.at, w.at.plus(HANG_MS * 2), Observed::default());
    for n in [0, 1] {
        unhealthy(&mut w, n);
        is_silent(&w, &mut observed, n, since, now);
    }
    for n in [0, 1] {
        assert_eq!(restarts(&w, &observed, n, now), None);
        let step = plan_repair(&w.state, &node_key(n), &observed, now);
        assert!(matches!(&step, Step::Wait { reason } if reason.contains("quorum")), "{step:?}");
    }
}

#[test]
fn of_three_none_can_be_spared_though_it_hangs() {
    let mut w = World::running(3);
    unhealthy(&mut w, 0);
    let (since, now, mut observed) = (w.at, w.at.plus(HANG_MS), Observed::default());
    (1..3).for_each(|n| hears(&w, &mut observed, n, 9, now));
    is_silent(&w, &mut observed, 0, since, now);
    let step = plan_repair(&w.state, &node_key(0), &observed, now);
    assert!(matches!(&step, Step::Wait { reason } if reason.contains("quorum")), "{step:?}");
}

/// It lives: whoever calls it blocked looks at it no more, and when it dies in earnest nobody starts it.
#[test]
fn one_that_hangs_on_when_its_budget_is_spent_is_looked_at_as_before() {
    let mut w = World::running(4);
    for _ in 0..RESTART_BUDGET {
        let generation = w.state.nodes[&node_key(0)].generation;
        let restart = RestartNode { node: node_key(0), generation, reason: "it hung".into(), accept_outage: false };
        w.ok(Actor::System, Command::RestartNode(restart));
        w.intent(0, NodeAct::Start);
        w.fact(0, NodeFact::Started);
        w.fact(0, NodeFact::Healthy);
    }
    unhealthy(&mut w, 0);
    let (since, now, mut observed) = (w.at, w.at.plus(HANG_MS), Observed::default());
    is_silent(&w, &mut observed, 0, since, now);
    let step = plan_repair(&w.state, &node_key(0), &observed, now);
    assert!(matches!(&step, Step::Wait { reason } if reason.contains("within an hour")), "{step:?}");
    let generation = w.state.nodes[&node_key(0)].generation;
    let ended = InstanceView { generation, run: Run::Exited { code: Some(1), reason: String::new() } };
    observed.nodes.get_mut(&node_key(0)).unwrap().instance = Some(ended);
    let step = plan_repair(&w.state, &node_key(0), &observed, now);
    assert!(matches!(step, Step::Do(Act::Block { .. })), "one that is dead is blocked: {step:?}");
}

#[test]
fn a_hanging_node_is_a_finding() {
    let mut w = World::running(4);
    unhealthy(&mut w, 0);
    let (since, now, mut observed) = (w.at, w.at.plus(HANG_MS), Observed::default());
    is_silent(&w, &mut observed, 0, since, now);
    let found = diagnose::diagnose(&w.state, &observed, &diagnose::Figures::default(), now);
    let found = found.iter().find(|it| it.code == "NODE_HANGS").unwrap();
    assert!(found.cause.contains("no answer for 60 seconds"), "{found:?}");
    assert!(found.recipe.starts_with("it is started anew by itself"), "{found:?}");
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Pass(u64),
    Hang(u64),
    Wake(u64),
    Die(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let node = 0_u64..7;
    prop_oneof![
        4 => (1_u64..90_000).prop_map(Event::Pass),
        2 => node.clone().prop_map(Event::Hang),
        1 => node.clone().prop_map(Event::Wake),
        1 => node.prop_map(Event::Die),
    ]
}

/// The nodes as they are, whatever is written of them.
#[derive(Default)]
struct Truth {
    silent: BTreeMap<u64, Millis>,
    dead: BTreeSet<u64>,
    /// When each was started anew by the platform.
    restarts: BTreeMap<u64, Vec<Millis>>,
}

impl Truth {
    fn look(&self, w: &World, count: u64) -> Observed {
        let mut observed = Observed::default();
        for n in 0..count {
            match self.silent.get(&n) {
                Some(since) => is_silent(w, &mut observed, n, *since, w.at),
                None => hears(w, &mut observed, n, 9, w.at),
            }
            if self.dead.contains(&n) {
                let instance = observed.nodes.get_mut(&node_key(n)).unwrap().instance.as_mut().unwrap();
                instance.run = Run::Exited { code: Some(1), reason: String::new() };
            }
        }
        observed
    }

    /// One round, planned from one state: the laws hold for what it does.
    fn round(&mut self, w: &mut World, count: u64) {
        let observed = self.look(w, count);
        let (state, now) = (w.state.clone(), w.at);
        let steps: Vec<Step> = (0..count).map(|n| plan_node(&state, &node_key(n), &observed, now)).collect();
        let is_restarted = |n: u64| matches!(steps[usize::try_from(n).unwrap()], Step::Do(Act::Restart { .. }));
        let takes_part = |n: u64| !self.silent.contains_key(&n) && !self.dead.contains(&n);
        let untouched = (0..count).filter(|n| takes_part(*n) && !is_restarted(*n)).count();
        let nodes = usize::try_from(count).unwrap();
        for n in (0..count).filter(|n| is_restarted(*n) && !self.dead.contains(n)) {
            assert!(untouched >= quorum(nodes).min(nodes - 1), "{n} is disturbed while {untouched} of {nodes} go on");
        }
        assert!((0..count).all(|n| !is_restarted(n) || !takes_part(n)), "what takes part is left alone: {steps:?}");
        for (n, step) in (0..count).zip(steps) {
            self.carry_out(w, n, step);
        }
    }

    fn carry_out(&mut self, w: &mut World, n: u64, step: Step) {
        match step {
            Step::Do(Act::Restart { node, generation, reason }) => {
                let times = self.restarts.entry(n).or_default();
                let within = times.iter().filter(|at| w.at.since(**at) < HOUR_MS).count();
                assert!(within < RESTART_BUDGET, "{n} was started anew {within} times within the hour");
                let paused = times.last().is_none_or(|last| within == 0 || w.at.since(*last) >= BACKOFF_MS_BASE);
                assert!(paused, "{n} is started anew without a pause: {times:?}, now {:?}", w.at);
                w.ok(
                    Actor::System,
                    Command::RestartNode(RestartNode { node, generation, reason, accept_outage: false }),
                );
                times.push(w.at);
                w.intent(n, NodeAct::Start);
                w.fact(n, NodeFact::Started);
                w.fact(n, NodeFact::Healthy);
                self.silent.remove(&n);
                self.dead.remove(&n);
            }
            Step::Do(Act::RecordHealth { fact, .. }) => w.fact(n, fact),
            Step::Do(Act::Block { reason, .. }) => w.fact(n, NodeFact::Failed { reason }),
            Step::Do(_) | Step::Wait { .. } | Step::Done => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn repair_keeps_its_budget_and_the_quorum(count in 1_u64..8, events in prop::collection::vec(event(), 1..60)) {
        let mut w = World::running(usize::try_from(count).unwrap());
        let mut truth = Truth::default();
        for event in events {
            let runs = |n: u64| n < count && w.state.nodes[&node_key(n)].state == NodeState::Running;
            match event {
                Event::Pass(ms) => w.at = w.at.plus(ms),
                Event::Hang(n) if runs(n) => { truth.silent.entry(n).or_insert(w.at); }
                Event::Die(n) if runs(n) => { truth.dead.insert(n); }
                Event::Wake(n) => { truth.silent.remove(&n); }
                Event::Hang(_) | Event::Die(_) => {}
            }
            truth.round(&mut w, count);
        }
    }
}
