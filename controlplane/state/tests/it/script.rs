//! Golden scripts: `> actor Command key=value ...` lines in, what happened out.
//!
//! Other lines of a file are the recorded output; `UPDATE_GOLDEN=1` writes them anew, and the diff is reviewed.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use hanse_state::consortium::policy::Policy;
use hanse_state::{Applied, Record, State};
use serde_json::Value;

use super::parse::{self, Args};
use super::world::World;

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut failed = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let output = run(&text);
        if output == text {
            continue;
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, output).unwrap();
        } else {
            let first = text.lines().zip(output.lines()).find(|(was, is)| was != is);
            failed.push(format!("{}: {first:?}", path.display()));
        }
    }
    assert!(failed.is_empty(), "run with UPDATE_GOLDEN=1 and review the diff:\n{}", failed.join("\n"));
}

fn run(text: &str) -> String {
    let mut world = World::empty();
    let mut output = String::new();
    for line in text.lines() {
        if line.starts_with('#') || line.is_empty() {
            writeln!(output, "{line}").unwrap();
        } else if let Some(input) = line.strip_prefix("> ") {
            writeln!(output, "{line}").unwrap();
            step(&mut world, input, &mut output);
        }
    }
    output
}

fn step(world: &mut World, input: &str, output: &mut String) {
    let args = Args::parse(input);
    match args.verb() {
        "setup" => {
            *world = match args.word(1) {
                "empty" => World::empty(),
                "platform" => World::platform(),
                "majority" => World::hosts(Policy::Majority),
                "two-thirds" => World::hosts(Policy::TwoThirds),
                "unanimous" => World::hosts(Policy::Unanimous),
                "no-hosts" => World::consortium(Policy::Majority),
                "ordered" => World::ordered(4),
                "running" => World::running(4),
                other => panic!("no setup {other}"),
            }
        }
        "wait" => world.at = world.at.plus(args.word(1).parse().unwrap()),
        "run-chain" => world.run_chain(args.word(1).parse().unwrap()),
        "roll-chain" => roll(world, args.word(1).parse().unwrap()),
        "show" => show(world, args.word(1), output),
        actor => {
            let command = parse::command(world, &args);
            let before = world.state.clone();
            let applied = match args.get("id") {
                Some(id) => world.send_with_id(super::world::actor(actor), command, id.parse().unwrap()),
                None => world.send(super::world::actor(actor), command),
            };
            describe(&before, &world.state, &applied, output);
        }
    }
}

/// Brings the first so many nodes to the rollout that is under way.
fn roll(w: &mut World, nodes: u64) {
    use hanse_state::chain::node::{NodeAct, NodeFact};
    use hanse_state::chain::rollout::RollNode;
    for n in 0..nodes {
        let node = super::world::node_key(n);
        let number = w.state.chains[&node.chain].rollout.as_ref().unwrap().number;
        let generation = w.state.nodes[&node].generation;
        if w.state.nodes[&node].rolled < number {
            w.ok(hanse_state::Actor::System, hanse_state::Command::RollNode(RollNode { node, generation, number }));
        }
        for (act, fact) in [(NodeAct::Configure, NodeFact::Configured), (NodeAct::Start, NodeFact::Started)] {
            w.intent(n, act);
            w.fact(n, fact);
        }
        w.fact(n, NodeFact::Healthy);
    }
}

fn describe(before: &State, after: &State, applied: &Applied, output: &mut String) {
    let replayed = if applied.replayed { " (replayed)" } else { "" };
    match &applied.outcome {
        Ok(outcome) => writeln!(output, "  {}{replayed}", serde_json::to_string(outcome).unwrap()).unwrap(),
        Err(no) => {
            writeln!(output, "  REJECTED {} field={}{replayed}", no.reason(), no.field()).unwrap();
            writeln!(output, "    {}", no.message()).unwrap();
            writeln!(output, "    -> {}", no.advice()).unwrap();
        }
    }
    if applied.outcome.is_err() {
        assert_eq!(without_trail(after.clone(), before), *before, "a refusal left more than its trail:\n{output}");
    }
    for event in &applied.events {
        let (was, is) = (resource(before, &event.resource), resource(after, &event.resource));
        writeln!(output, "  {:?} {}{}", event.change, event.resource, difference(&was, &is)).unwrap();
    }
    for record in &applied.records {
        match record {
            Record::Audit(_) => {}
            Record::Usage(usage) => writeln!(output, "  usage {}", serde_json::to_string(usage).unwrap()).unwrap(),
            Record::OperationLog(log) => {
                let step = log.step.as_deref().unwrap_or("operation");
                let detail = if log.detail.is_empty() { String::new() } else { format!(": {}", log.detail) };
                writeln!(output, "  log {} {step} {} {}{detail}", log.operation, log.target, log.state).unwrap();
            }
        }
    }
    if let Some(divergence) = applied.diverged {
        writeln!(output, "  DIVERGED at {}", divergence.revision).unwrap();
    }
}

/// The state after a request but for what every request leaves, refused or not: its number, time, digests, remembered
/// outcome and audit entry.
fn without_trail(after: State, before: &State) -> State {
    let State { revision, now, digest, digests, dedup, audit, .. } = before.clone();
    State { revision, now, digest, digests, dedup, audit, ..after }
}

/// Top-level fields that differ, with their new values.
fn difference(was: &Value, is: &Value) -> String {
    let (Value::Object(was), Value::Object(is)) = (was, is) else {
        return match is {
            Value::Object(is) => is.iter().map(|(key, value)| format!(" {key}={value}")).collect(),
            _ => String::new(),
        };
    };
    let changed = is.iter().filter(|(key, value)| was.get(*key) != Some(value));
    changed.map(|(key, value)| format!(" {key}={value}")).collect()
}

fn resource(state: &State, name: &str) -> Value {
    let parts: Vec<&str> = name.split('/').collect();
    fn json<T: serde::Serialize>(value: Option<&T>) -> Value {
        value.map_or(Value::Null, |value| serde_json::to_value(value).unwrap())
    }
    fn get<K, T>(map: &imbl::OrdMap<K, T>, key: &str) -> Value
    where
        K: Ord + std::str::FromStr<Err = hanse_state::Rejection>,
        T: serde::Serialize,
    {
        json(map.get(&key.parse::<K>().unwrap()))
    }
    match parts.as_slice() {
        ["cluster"] => json(state.cluster.as_ref()),
        ["accounts", id] => get(&state.accounts, id),
        ["tenants", id] => get(&state.tenants, id),
        ["clouds", id] => get(&state.clouds, id),
        ["machines", id] => get(&state.machines, id),
        ["hosts", id] => get(&state.hosts, id),
        ["replicas", id] => {
            json(state.cluster.as_ref().and_then(|it| it.replicas.by_id.get(&id.parse::<u64>().unwrap())))
        }
        ["plans", id] => get(&state.plans, id),
        ["artifacts", id] => get(&state.artifacts, id),
        ["publishers", id] => get(&state.publishers, id),
        ["operations", _] | ["usage"] => Value::Null,
        ["consortiums", id] => get(&state.consortiums, id),
        ["consortiums", c, "proposals", p] => get(&state.proposals, &format!("{c}/{p}")),
        ["consortiums", c, "chains", p] => get(&state.chains, &format!("{c}/{p}")),
        ["consortiums", c, "chains", p, "nodes", n] => get(&state.nodes, &format!("{c}/{p}/{n}")),
        ["consortiums", c, "chains", p, "contracts", n] => get(&state.contracts, &format!("{c}/{p}/{n}")),
        _ => panic!("unknown resource {name}"),
    }
}

fn show(world: &World, what: &str, output: &mut String) {
    let state = &world.state;
    match what {
        "nodes" => {
            for node in state.nodes.values() {
                let host = node.host.as_ref().map_or("-".into(), ToString::to_string);
                let (p2p, rpc) = (node.p2p_port, node.rpc_port);
                let line = format!("{} {host} {p2p} {rpc} {:?} {:?}", node.key, node.state, node.health);
                writeln!(output, "  {line} {}", node.state_reason).unwrap();
            }
        }
        "operations" => {
            for operation in state.operations.values() {
                let cause = operation.cause.as_deref().unwrap_or("-");
                writeln!(output, "  {} {:?} cause: {cause}", operation.id, operation.state).unwrap();
                for step in &operation.steps {
                    let said = if step.output.is_empty() { String::new() } else { format!(" said {:?}", step.output) };
                    let detail = &step.detail;
                    writeln!(output, "    {} {} {:?} {detail}{said}", step.name, step.target, step.state).unwrap();
                }
            }
        }
        "audit" => {
            for record in &world.records {
                if let Record::Audit(record) = record {
                    writeln!(output, "  {}", serde_json::to_string(record).unwrap()).unwrap();
                }
            }
        }
        "invoice" => {
            let month = state.now.month();
            for tenant in state.tenants.keys() {
                let draft = hanse_state::billing::query::invoice_draft(state, tenant, month);
                if !draft.lines.is_empty() {
                    writeln!(output, "  {}", serde_json::to_string(&draft).unwrap()).unwrap();
                }
            }
        }
        other => panic!("cannot show {other}"),
    }
}

impl World {
    fn send_with_id(&mut self, actor: hanse_state::Actor, command: hanse_state::Command, id: u64) -> Applied {
        self.at = self.at.plus(1_000);
        let id = super::world::request_id(id);
        self.apply(hanse_state::Request::new(id, actor, "192.0.2.1:5000", self.at, command))
    }
}
