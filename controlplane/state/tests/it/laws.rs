//! Laws over random logs: what holds whatever is asked, in whatever order.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use hanse_state::billing::UsageRecord;
use hanse_state::billing::query::{invoice_draft, recompute_invoice};
use hanse_state::chain::life::NodeWish;
use hanse_state::chain::node::NodeState;
use hanse_state::consortium::ballot::Choice;
use hanse_state::consortium::policy::{Policy, Tally, Verdict};
use hanse_state::consortium::proposal::ProposalState;
use hanse_state::{Actor, Command, Millis, Record, Request, State, apply, audit, codec};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::parse::{self, Args};
use super::world::{MEMBERS, World, actor, ballot, owner, spec};

/// Lines of the scripts that random logs are made of; good ones and bad ones.
const LINES: [&str; 113] = [
    "system RecordIntent Prepare",
    "system RecordIntent Configure",
    "system RecordIntent Start",
    "system RecordNodeFact Prepared",
    "system RecordNodeFact Configured",
    "system RecordNodeFact Started",
    "system RecordNodeFact Started",
    "system RecordNodeFact Healthy",
    "system RecordNodeFact Healthy",
    "system RecordNodeFact Unhealthy",
    "system RecordNodeFact Failed",
    "system RecordNodeFact Waiting reason=later output=said_this",
    "system RecordNodeFact Prepared output=said_that",
    "system RecordNodeFact Waiting",
    "system RestartNode",
    "system RestartNode",
    "oda RestartNode",
    "system RecordIntent Start generation=1",
    "system RecordGenesis",
    "system RecordGenesis bytes=other",
    "system Meter",
    "system Meter",
    "root SetPlan rate=1234567",
    "root SetPlan from=50000 rate=7654321",
    "oda EnrolHost host=h3 slots=2",
    "oda EnrolHost host=h4 slots=1 address=h3.example port=30000",
    "oda CordonHost host=h1",
    "oda EnrolHost host=h5 slots=2 tenant=globex zone=z2",
    "oda SetHostProperties host=h1 tenant=acme",
    "oda SetHostProperties host=h2 tenant= slots=6",
    "oda SetHostProperties host=h3 tenant=globex zone=z1 labels=rack:r1",
    "oda SetHostProperties host=h1 slots=2",
    "oda BeginHostMaintenance host=h1",
    "oda BeginHostMaintenance host=h2 forced=yes",
    "oda DrainHost host=h3",
    "oda UncordonHost host=h2",
    "root RetireHost host=h1",
    "root RetireHost host=h4",
    "oda UncordonHost host=h1",
    "system RecordHostKeyChanged host=h2",
    "root AcceptHostKey host=h2 fingerprint=B",
    "root SetHostReach host=h2 jumps=bastion:C login=agent",
    "root SetHostReach host=h2 jumps= pin=authority:D",
    "system RecordHostKeyChanged host=h2 seen=E jump=0",
    "system RecordReplica Member replica=1",
    "system RecordReplica Member replica=4",
    "system RecordReplica Member replica=4 votes=no",
    "root AddReplica floor=1",
    "root AddReplica floor=3 peer=10.0.0.9:7401 api=10.0.0.9:7400 vote=yes replaces=1",
    "root RemoveReplica replica=4",
    "root PromoteReplica replica=4",
    "system RecordReplica Gone replica=4",
    "owner@acme OpenProposal chain=a chain-id=11 nodes=2",
    "owner@globex OpenProposal chain=b chain-id=12 nodes=5",
    "owner@acme CastBallot",
    "owner@globex CastBallot choice=no",
    "owner@hooli CastBallot",
    "owner@initech CastBallot choice=abstain",
    "owner@acme CastBallot proposal=trade/p-2",
    "owner@globex CastBallot proposal=trade/p-2",
    "owner@hooli CastBallot proposal=trade/p-2",
    "system CloseProposal proposal=trade/p-2",
    "dev@acme DeployContract",
    "system RecordContractFact Sent",
    "system RecordContractFact Deployed",
    "system RecordContractFact Failed",
    "system OpenSession account=root",
    "owner@umbrella CastBallot voter=acme",
    "root RaiseClusterVersion version=5",
    "root RaiseClusterVersion version=4",
    "oda PauseChain",
    "oda PauseChain",
    "oda ResumeChain",
    "oda ResumeChain chain=trade/a",
    "root UndeleteChain",
    "system PurgeChain",
    "system PurgeChain",
    "system RecordIntent Stop",
    "system RecordIntent Stop",
    "system RecordNodeFact Stopped",
    "system RecordNodeFact Stopped",
    "system RecordIntent Remove",
    "system RecordIntent Remove",
    "system RecordNodeFact Removed",
    "system RecordNodeFact Removed",
    "owner@acme OpenProposal change=delete grace=1000",
    "owner@acme OpenProposal change=delete grace=1000",
    "owner@acme OpenProposal change=undelete",
    "owner@globex OpenProposal change=pause",
    "owner@globex CastBallot proposal=trade/p-3",
    "oda RollChain",
    "oda RollChain",
    "system RollNode number=1",
    "system RollNode number=1",
    "system RollNode number=2",
    "system HaltRollout number=1",
    "oda SetChainRepair restarts=1",
    "oda SetChainRepair",
    "oda ContinueRollout",
    "owner@acme OpenProposal change=add-nodes owners=acme,globex",
    "owner@acme OpenProposal change=add-nodes",
    "owner@globex OpenProposal change=remove-nodes nodes=n4",
    "system ReleaseNode",
    "root ImportArtifact",
    "root DeleteArtifact",
    "owner@acme OpenProposal change=upgrade",
    "owner@acme OpenProposal change=upgrade",
    "oda RollBackChain",
    "owner@acme OpenProposal change=reconfigure",
    "owner@acme OpenProposal change=upgrade at=100",
    "system ExchangeProgram number=1",
    "system ExchangeProgram number=2",
    "system RecordNodeFact Halted height=100",
];

/// Failing seeds are kept beside the tests and tried first from then on.
fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::Direct("tests/laws.proptest-regressions");
    ProptestConfig { cases: 24, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

fn step() -> impl Strategy<Value = (usize, u64, u64)> {
    (0..LINES.len(), 0_u64..6, prop_oneof![0_u64..3_000, 0_u64..40_000_000])
}

fn steps() -> impl Strategy<Value = Vec<(usize, u64, u64)>> {
    prop::collection::vec(step(), 1..80)
}

/// A world after these random steps, started from a running or a just ordered chain.
fn play(is_running: bool, steps: &[(usize, u64, u64)]) -> World {
    let mut w = if is_running { World::running(4) } else { World::ordered(4) };
    // Logs that begin with a running chain are of the newest version, the others of the first.
    if is_running {
        let raise = parse::command(&w, &Args::parse("root RaiseClusterVersion version=4"));
        w.ok(actor("root"), raise);
    }
    for (line, node, wait) in steps {
        w.at = w.at.plus(*wait);
        let args = Args::parse(&format!("{} node={node}", LINES[*line]));
        let command = parse::command(&w, &args);
        w.send(actor(args.verb()), command);
    }
    w
}

fn replay(log: &[Request]) -> State {
    let mut state = State::default();
    for (index, request) in (1..).zip(log) {
        apply(&mut state, index, request);
    }
    state
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn same_log_same_state_also_over_a_snapshot(is_running: bool, steps in steps(), cut in 0.0..1.0_f64) {
        let w = play(is_running, &steps);
        let state = replay(&w.log);
        prop_assert_eq!(state.digest(), w.state.digest());
        prop_assert_eq!(codec::encode_state(&state), codec::encode_state(&w.state));

        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let cut = (w.log.len() as f64 * cut) as usize;
        let mut state = codec::decode_state(&codec::encode_state(&replay(&w.log[..cut]))).unwrap();
        for (index, request) in (state.revision + 1..).zip(&w.log[cut..]) {
            apply(&mut state, index, request);
        }
        prop_assert_eq!(codec::encode_state(&state), codec::encode_state(&w.state));
    }

    #[test]
    fn a_retry_never_executes_twice(is_running: bool, steps in steps(), pick: prop::sample::Index) {
        let mut w = play(is_running, &steps);
        // What the cluster is too old for is not remembered: it may come again once the cluster was raised.
        let users: Vec<Request> =
            w.log.iter().filter(|request| w.state.dedup.seen.contains_key(&request.id)).cloned().collect();
        let request = Request { at: w.at, source: "198.51.100.1:9".into(), ..pick.get(&users).clone() };
        let first = w.state.dedup.seen[&request.id].clone();
        let records = w.records.len();
        let applied = w.apply(request);
        prop_assert!(applied.replayed);
        prop_assert_eq!((applied.revision, applied.outcome), (first.revision, first.outcome));
        prop_assert_eq!(w.records.len(), records);
    }

    #[test]
    fn ports_and_slots_are_never_given_twice(is_running: bool, steps in steps()) {
        let w = play(is_running, &steps);
        let mut taken = BTreeSet::new();
        let mut nodes_of: BTreeMap<_, u32> = BTreeMap::new();
        for node in w.state.nodes.values() {
            let Some(host) = &node.host else { continue };
            *nodes_of.entry(host.clone()).or_default() += 1;
            // Retired only when empty: every node's host is there.
            let range = &w.state.hosts[host];
            prop_assert!(range.tenancy.takes(&node.owner), "{} on {host}", node.key);
            for port in [node.p2p_port, node.rpc_port] {
                prop_assert!(taken.insert((range.peer_address.clone(), port)), "{} {port} twice", host);
                prop_assert!(port >= range.port_first && port - range.port_first < range.port_count);
                prop_assert_eq!(range.ports.get(&port), Some(&node.key));
            }
        }
        for host in w.state.hosts.values() {
            let count = nodes_of.get(&host.id).copied().unwrap_or(0);
            prop_assert!(count <= host.slots);
            prop_assert_eq!(host.ports.len(), count as usize * 2);
        }
    }

    /// A random walk seldom comes so far, so here a chain goes all the way: whatever happens between, a deleted chain leaves
    /// nothing behind, and every operation on it ends.
    #[test]
    fn a_deleted_chain_goes_wholly(is_running: bool, before in steps(), between in steps()) {
        let mut w = play(is_running, &before);
        for (who, line) in [("root", "RaiseClusterVersion version=4"), ("oda", "UncordonHost host=h1"), ("root", "AcceptHostKey host=h2 fingerprint=B")] {
            w.send(actor(who), parse::command(&w, &Args::parse(&format!("{who} {line}"))));
        }
        delete(&mut w);
        for (line, node, wait) in &between {
            w.at = w.at.plus(*wait);
            let args = Args::parse(&format!("{} node={node}", LINES[*line]));
            let command = parse::command(&w, &args);
            w.send(actor(args.verb()), command);
        }
        delete(&mut w);
        w.at = w.at.plus(2_000);
        // Whatever the hosts have shown meanwhile is found to be right.
        let shown: Vec<_> = w.state.hosts.values().filter_map(|it| Some((it.id.clone(), it.seen_fingerprint.clone()?))).collect();
        for (host, fingerprint) in shown {
            w.send(actor("root"), Command::AcceptHostKey(hanse_state::host::AcceptHostKey { host, fingerprint }));
        }
        let key = super::world::chain_key();
        w.send(Actor::System, parse::command(&w, &Args::parse("system PurgeChain")));
        let left: Vec<_> = w.state.nodes.keys().filter(|node| node.chain == key).map(|node| node.node.number()).collect();
        for node in left {
            // One that a host refused to remove waits for a person.
            w.send(actor("oda"), parse::command(&w, &Args::parse(&format!("oda RestartNode node={node}"))));
            for line in ["RecordIntent Remove", "RecordNodeFact Removed"] {
                let line = format!("system {line} node={node}");
                let applied = w.send(Actor::System, parse::command(&w, &Args::parse(&line)));
                prop_assert!(applied.outcome.is_ok(), "{} {:?}", line, applied.outcome);
            }
        }
        prop_assert!(!w.state.chains.contains_key(&key));
        prop_assert!(w.state.nodes.keys().all(|node| node.chain != key));
        prop_assert!(w.state.contracts.keys().all(|contract| contract.chain != key));
        prop_assert!(w.state.hosts.values().all(|host| host.ports.values().all(|node| node.chain != key)));
        for operation in w.state.operations.values() {
            let is_about_it = *hanse_state::operation::query::chain_of(&operation.kind) == key;
            prop_assert!(!is_about_it || operation.state != hanse_state::operation::OperationState::Running, "{operation:?}");
        }
    }

    /// A node is stopped or going exactly if that is wished, what holds a port is there, and of the operations that change a
    /// chain only its latest may still be under way.
    #[test]
    fn what_is_wished_is_what_a_node_goes_towards(is_running: bool, steps in steps()) {
        let w = play(is_running, &steps);
        for node in w.state.nodes.values() {
            let rests = matches!(node.state, NodeState::Stopping | NodeState::Stopped | NodeState::Removing);
            let runs = matches!(node.wish, NodeWish::Run | NodeWish::Leave);
            prop_assert!(rests != runs || node.state == NodeState::Blocked, "{node:?}");
            prop_assert!(runs || node.metered_until.is_none(), "{node:?}");
            let chain = &w.state.chains[&node.key.chain];
            let ever = (chain.spec.nodes.len() as u64).max(chain.nodes_ever.into());
            prop_assert!(node.key.node.number() < ever, "a number may be given twice: {node:?}");
            let rollout = chain.rollout.as_ref().map_or(0, |rollout| rollout.number);
            prop_assert!(node.rolled <= rollout && node.joined <= node.rolled, "{node:?}");
            prop_assert!(w.state.chains.contains_key(&node.key.chain));
        }
        prop_assert!(w.state.hosts.values().all(|host| host.ports.values().all(|node| w.state.nodes.contains_key(node))));
        for operation in w.state.operations.values() {
            let chain = w.state.chains.get(hanse_state::operation::query::chain_of(&operation.kind));
            let latest = chain.and_then(|chain| chain.change);
            let is_change = matches!(operation.kind, hanse_state::operation::OperationKind::ChangeChain { .. });
            let runs = operation.state == hanse_state::operation::OperationState::Running;
            prop_assert!(!(is_change && runs) || latest == Some(operation.id), "{operation:?}");
        }
    }

    #[test]
    fn usage_adds_up_and_the_invoice_is_recomputed(is_running: bool, steps in steps()) {
        let mut w = play(is_running, &steps);
        let meter = Command::Meter(hanse_state::billing::Meter { until: Millis(u64::MAX) });
        w.send(Actor::System, meter);
        prop_assert_eq!(running_ms(&w.log), metered_ms(&w.records));
        let usage: Vec<UsageRecord> = w.records.iter().filter_map(|record| match record {
            Record::Usage(usage) => Some(usage.clone()),
            Record::Audit(_) | Record::OperationLog(_) => None,
        }).collect();
        let months: BTreeSet<_> = usage.iter().map(|usage| usage.from.month()).collect();
        for month in months {
            for tenant in w.state.tenants.keys() {
                let recomputed = recompute_invoice(usage.iter().cloned(), tenant, month);
                prop_assert_eq!(invoice_draft(&w.state, tenant, month), recomputed);
            }
        }
    }

    #[test]
    fn the_audit_chain_verifies_and_every_edit_is_found(is_running: bool, steps in steps(), pick: prop::sample::Index, field in 0..6) {
        let w = play(is_running, &steps);
        let mut records: Vec<_> = w.records.iter().filter_map(|record| match record {
            Record::Audit(audit) => Some(audit.clone()),
            Record::Usage(_) | Record::OperationLog(_) => None,
        }).collect();
        prop_assert_eq!(records.len() as u64, w.state.audit.count);
        audit::verify_against(records.iter(), &w.state.audit).unwrap();
        prop_assert!(records.iter().all(|record| !record.detail.contains("argon2")));
        let index = pick.index(records.len());
        match field {
            0 => records[index].outcome.push('x'),
            1 => records[index].at = records[index].at.plus(1),
            2 => records[index].actor.push('x'),
            3 => drop(records.remove(index)),
            4 => { records[index].detail.push(' '); records[index].hash = records[index].expected_hash(); }
            _ => { let copy = records[index].clone(); records.insert(index, copy); }
        }
        prop_assert!(audit::verify_against(records.iter(), &w.state.audit).is_err());
    }

    /// One leaf for each command that was applied, none for a retry; so the trail's length is the number of applied commands.
    #[test]
    fn every_applied_command_has_one_audit_record(is_running: bool, steps in steps(), picks in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let mut log = play(is_running, &steps).log;
        for pick in picks {
            log.push(pick.get(&log).clone());
        }
        let (mut state, mut applied) = (State::default(), 0);
        for (index, request) in (1..).zip(&log) {
            let done = apply(&mut state, index, request);
            let audited: Vec<_> = done.records.iter().filter_map(|record| match record {
                Record::Audit(audit) => Some((audit.revision, audit.request_id.clone())),
                Record::Usage(_) | Record::OperationLog(_) => None,
            }).collect();
            let expected = if done.replayed { Vec::new() } else { vec![(index, request.id.to_string())] };
            prop_assert_eq!(audited, expected);
            applied += u64::from(!done.replayed);
        }
        prop_assert_eq!(state.audit.count, applied);
    }

    #[test]
    fn numbers_of_history_have_no_gaps(is_running: bool, steps in steps()) {
        let w = play(is_running, &steps);
        for kind in ["audit", "usage", "operation"] {
            let seqs: Vec<u64> = w.records.iter().filter(|record| record.kind() == kind).map(Record::seq).collect();
            prop_assert_eq!(&seqs, &(1..=seqs.len() as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_tally_is_what_the_weights_say(weights in prop::array::uniform4(1_u64..10), choices in prop::array::uniform4(0..3_usize), order in Just([0, 1, 2, 3]).prop_shuffle(), policy in 0..3_usize) {
        let policy = [Policy::Majority, Policy::TwoThirds, Policy::Unanimous][policy];
        let choices = choices.map(|choice: usize| [Choice::Yes, Choice::No, Choice::Abstain][choice]);
        let weight = |choice| (0..4).filter(|i| choices[*i] == choice).map(|i| weights[i]).sum::<u64>();
        let total = weights.iter().sum();
        let full = Tally::new(policy, weight(Choice::Yes), weight(Choice::No), weight(Choice::Abstain), total);
        prop_assert_ne!(full.verdict, Verdict::Open);

        let mut w = World::platform();
        w.found(policy, &weights);
        w.enrol("h1", 4);
        let (proposal, artifact) = w.propose(spec(4));
        for i in order {
            let cast = Command::CastBallot(ballot(MEMBERS[i], choices[i], &proposal, artifact));
            let was = w.state.proposals[&proposal].state;
            let is_taken = w.send(owner(MEMBERS[i]), cast.clone()).outcome.is_ok();
            prop_assert_eq!(is_taken, was == ProposalState::Open);
            // Never two ballots of one member, and never a chain without the vote.
            prop_assert!(w.send(owner(MEMBERS[i]), cast).outcome.is_err());
            let passed = w.state.proposals[&proposal].state == ProposalState::Passed;
            prop_assert_eq!(passed, w.state.chains.len() == 1);
        }
        let is_passed = w.state.proposals[&proposal].state == ProposalState::Passed;
        prop_assert_eq!(is_passed, full.verdict == Verdict::Passed);
        prop_assert_eq!(is_passed, policy.holds(weight(Choice::Yes), total));
    }
}

/// Votes the end of the usual chain through, whatever else is open.
fn delete(w: &mut World) {
    for proposal in w.state.proposals.keys().cloned().collect::<Vec<_>>() {
        w.at = w.at.plus(120_000);
        let close = Command::CloseProposal(hanse_state::consortium::proposal::CloseProposal { proposal });
        w.send(Actor::System, close);
    }
    let open = parse::command(w, &Args::parse("owner@acme OpenProposal change=delete grace=1000"));
    w.send(actor("owner@acme"), open);
    let Some(proposal) = w.state.proposals.keys().next_back().cloned() else { return };
    for name in MEMBERS {
        let cast = parse::command(w, &Args::parse(&format!("owner@{name} CastBallot proposal={proposal}")));
        w.send(owner(name), cast);
    }
}

/// Milliseconds that nodes were in state `Running`, by replaying the log.
fn running_ms(log: &[Request]) -> u64 {
    let mut state = State::default();
    let mut since: BTreeMap<_, Millis> = BTreeMap::new();
    let mut sum = 0;
    for (index, request) in (1..).zip(log) {
        apply(&mut state, index, request);
        for node in state.nodes.values() {
            // A restart within one entry has no length, but a new generation starts its own time.
            match (node.state == NodeState::Running, since.contains_key(&node.key)) {
                (true, false) => drop(since.insert(node.key.clone(), state.now)),
                (false, true) => sum += state.now.since(since.remove(&node.key).unwrap()),
                (true, true) | (false, false) => {}
            }
        }
    }
    sum + since.values().map(|at| state.now.since(*at)).sum::<u64>()
}

fn metered_ms(records: &[Record]) -> u64 {
    let usage = |record: &Record| match record {
        Record::Usage(usage) => usage.to.since(usage.from),
        Record::Audit(_) | Record::OperationLog(_) => 0,
    };
    records.iter().map(usage).sum()
}
