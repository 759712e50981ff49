//! Operations follow facts: steps are computed from the thing that is made, and what differs is written.

use super::{OPERATIONS_MAX, OUTPUTS_KEPT, Operation, OperationKind, OperationLog, OperationState, Step, StepState};
use crate::apply::Cx;
use crate::chain::node::{Node, NodeAct, NodeState};
use crate::chain::{ChainState, query::nodes_of};
use crate::contract::ContractState;
use crate::event::Record;
use crate::ids::{ChainKey, ContractKey, NodeKey, OperationId};
use crate::{State, name};

/// What a step should be by the facts.
pub(super) struct Wanted {
    pub(super) name: &'static str,
    pub(super) target: String,
    pub(super) state: StepState,
    pub(super) detail: String,
}

/// Starts an operation; its steps come with the first [`sync`] of the entry.
pub(crate) fn start(state: &mut State, cx: &mut Cx<'_>, kind: OperationKind) -> OperationId {
    state.last_operation += 1;
    let id = OperationId::new(state.last_operation);
    let operation = Operation {
        id,
        kind,
        by: cx.request.actor.to_string(),
        request_id: cx.request.id.to_string(),
        state: OperationState::Running,
        steps: Vec::new(),
        started_at: cx.now,
        ended_at: None,
        cause: None,
        superseded_by: None,
    };
    state.operations.insert(id, operation);
    cx.created(name::operation(id));
    forget_outputs(state);
    if state.operations.len() > OPERATIONS_MAX {
        let finished = |operation: &&Operation| operation.state != OperationState::Running;
        if let Some(oldest) = state.operations.values().find(finished).map(|operation| operation.id) {
            state.operations.remove(&oldest);
            cx.deleted(name::operation(oldest));
        }
    }
    id
}

/// Brings an operation in line with the facts. One that succeeded never changes again.
pub(crate) fn sync(state: &mut State, cx: &mut Cx<'_>, id: OperationId) {
    let Some(mut operation) = state.operations.get(&id).cloned() else { return };
    if operation.state == OperationState::Succeeded || operation.superseded_by.is_some() {
        return;
    }
    let before = operation.clone();
    let wanted = match &operation.kind {
        OperationKind::CreateChain(chain) => chain_steps(state, chain),
        OperationKind::DeployContract(contract) => contract_steps(state, contract),
        OperationKind::ChangeChain { chain, work, nodes } => super::life::steps(state, chain, *work, nodes),
    };
    if operation.steps.is_empty() {
        operation.steps = wanted.iter().map(pending).collect();
    }
    for (step, wanted) in operation.steps.iter_mut().zip(&wanted) {
        if (step.state, &step.detail) == (wanted.state, &wanted.detail) {
            continue;
        }
        let is_over = matches!(wanted.state, StepState::Done | StepState::Failed);
        if wanted.state != StepState::Pending {
            step.started_at = step.started_at.or(Some(cx.now));
        }
        step.ended_at = if is_over { step.ended_at.or(Some(cx.now)) } else { None };
        step.state = wanted.state;
        step.detail.clone_from(&wanted.detail);
        let state_word = format!("{:?}", wanted.state);
        log(state, cx, id, Some(wanted.name), &wanted.target, state_word, &wanted.detail);
    }
    conclude(&mut operation, cx);
    if operation.state != before.state {
        let (target, detail) = (target_name(&operation.kind), operation.cause.clone().unwrap_or_default());
        log(state, cx, id, None, &target, format!("{:?}", operation.state), &detail);
    }
    if operation != before {
        state.operations.insert(id, operation);
        cx.updated(name::operation(id));
    }
}

/// Keeps memory bounded: what an operation printed long ago is of no use.
fn forget_outputs(state: &mut State) {
    let Some(old) = state.last_operation.checked_sub(OUTPUTS_KEPT).map(OperationId::new) else { return };
    if let Some(operation) = state.operations.get_mut(&old)
        && operation.steps.iter().any(|step| !step.output.is_empty())
    {
        operation.steps.iter_mut().for_each(|step| step.output = String::new());
    }
}

/// Writes down what was done on a host for `step` of node `key`, in the operations that have such a step under way.
pub(crate) fn output(state: &mut State, cx: &mut Cx<'_>, key: &NodeKey, step: &str, output: &str) {
    let target = name::node(key);
    let is_meant =
        |it: &Step| it.target == target && (it.name == step || matches!(it.name.as_str(), "roll" | "tell" | "leave"));
    let goes_on = |it: &Operation| it.superseded_by.is_none() && it.state != OperationState::Succeeded;
    let meant = |it: &Operation| goes_on(it) && it.steps.iter().any(|it| is_meant(it) && it.output != output);
    let ids: Vec<OperationId> = state.operations.values().filter(|it| meant(it)).map(|it| it.id).collect();
    for id in ids {
        let Some(operation) = state.operations.get_mut(&id) else { continue };
        for step in operation.steps.iter_mut().filter(|it| is_meant(it)) {
            step.output = output.to_owned();
        }
        cx.updated(name::operation(id));
    }
}

/// Ends an operation that has not succeeded, because a later one wants something else of the same thing.
pub(crate) fn supersede(state: &mut State, cx: &mut Cx<'_>, id: OperationId, by: OperationId) {
    let Some(mut operation) = state.operations.get(&id).cloned() else { return };
    if operation.state == OperationState::Succeeded || operation.superseded_by.is_some() {
        return;
    }
    operation.superseded_by = Some(by);
    fail(state, cx, operation, format!("superseded by {}", name::operation(by)));
}

/// Ends what is under way with a chain that is about to be forgotten: nothing does it any more.
pub(crate) fn abandon(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey, cause: &str) {
    let is_of_it = |it: &&Operation| match &it.kind {
        OperationKind::CreateChain(chain) | OperationKind::ChangeChain { chain, .. } => chain == key,
        OperationKind::DeployContract(contract) => contract.chain == *key,
    };
    let under_way = state.operations.values().filter(|it| it.state == OperationState::Running).filter(is_of_it);
    for operation in under_way.cloned().collect::<Vec<_>>() {
        fail(state, cx, operation, cause.to_owned());
    }
}

fn fail(state: &mut State, cx: &mut Cx<'_>, mut operation: Operation, cause: String) {
    let id = operation.id;
    operation.state = OperationState::Failed;
    operation.ended_at = Some(cx.now);
    operation.cause = Some(cause.clone());
    log(state, cx, id, None, &target_name(&operation.kind), format!("{:?}", OperationState::Failed), &cause);
    state.operations.insert(id, operation);
    cx.updated(name::operation(id));
}

/// Name of the resource that an operation makes.
fn target_name(kind: &OperationKind) -> String {
    match kind {
        OperationKind::CreateChain(chain) => name::chain(chain),
        OperationKind::DeployContract(contract) => name::contract(contract),
        OperationKind::ChangeChain { chain, .. } => name::chain(chain),
    }
}

fn conclude(operation: &mut Operation, cx: &Cx<'_>) {
    let failed = operation.steps.iter().find(|step| step.state == StepState::Failed);
    let is_done = operation.steps.iter().all(|step| step.state == StepState::Done);
    operation.cause = failed.map(|step| format!("{} {}: {}", step.name, step.target, step.detail));
    operation.state = match (&operation.cause, is_done) {
        (Some(_), _) => OperationState::Failed,
        (None, true) => OperationState::Succeeded,
        (None, false) => OperationState::Running,
    };
    operation.ended_at = match operation.state {
        OperationState::Running => None,
        OperationState::Succeeded | OperationState::Failed => operation.ended_at.or(Some(cx.now)),
    };
}

fn log(
    state: &mut State,
    cx: &mut Cx<'_>,
    operation: OperationId,
    step: Option<&str>,
    target: &str,
    state_word: String,
    detail: &str,
) {
    state.last_operation_log += 1;
    let record = OperationLog {
        seq: state.last_operation_log,
        revision: cx.revision,
        at: cx.now,
        operation,
        step: step.map(Into::into),
        target: target.into(),
        state: state_word,
        detail: detail.into(),
    };
    cx.record(Record::OperationLog(record));
}

fn pending(wanted: &Wanted) -> Step {
    Step {
        name: wanted.name.into(),
        target: wanted.target.clone(),
        state: StepState::Pending,
        detail: String::new(),
        started_at: None,
        ended_at: None,
        output: String::new(),
    }
}

fn chain_steps(state: &State, key: &ChainKey) -> Vec<Wanted> {
    let Some(chain) = state.chains.get(key) else { return Vec::new() };
    let nodes: Vec<&Node> = nodes_of(state, key).collect();
    let of_chain = |step: &'static str, (state, detail): (StepState, String)| Wanted {
        name: step,
        target: name::chain(key),
        state,
        detail,
    };
    let all = |of: &dyn Fn(&Node) -> bool| nodes.iter().all(|node| of(node));
    let done_or = |is_done: bool, is_begun: bool| match (is_done, is_begun) {
        (true, _) => StepState::Done,
        (false, true) => StepState::Running,
        (false, false) => StepState::Pending,
    };

    let unplaced = nodes.iter().filter(|node| node.host.is_none()).count();
    let place = if unplaced == 0 {
        (StepState::Done, String::new())
    } else {
        (StepState::Running, format!("{unplaced} of {} nodes wait for a slot on a host", nodes.len()))
    };
    let genesis = done_or(chain.genesis.is_some(), all(&|node| node.identity.is_some()));
    let verify = done_or(chain.state == ChainState::Running, all(&|node| node.state == NodeState::Running));

    let mut steps = vec![of_chain("place", place)];
    steps.extend(nodes.iter().map(|node| prepare_step(node)));
    steps.push(of_chain("genesis", (genesis, String::new())));
    steps.extend(nodes.iter().map(|node| configure_step(node)));
    steps.extend(nodes.iter().map(|node| start_step(node)));
    steps.push(of_chain("verify", (verify, String::new())));
    steps
}

pub(super) fn of_node(step: &'static str, node: &Node, state: StepState) -> Wanted {
    // The node's reason belongs to the step that is under way.
    let detail = match state {
        StepState::Running | StepState::Failed => node.state_reason.clone(),
        StepState::Pending | StepState::Done => String::new(),
    };
    Wanted { name: step, target: name::node(&node.key), state, detail }
}

pub(super) fn prepare_step(node: &Node) -> Wanted {
    let state = match (node.identity.is_some(), node.state) {
        (true, _) => StepState::Done,
        (false, NodeState::Requested) => StepState::Pending,
        (false, NodeState::Blocked) => StepState::Failed,
        (false, _) => StepState::Running,
    };
    of_node("prepare", node, state)
}

pub(super) fn configure_step(node: &Node) -> Wanted {
    let is_meant = node.intent.as_ref().is_some_and(|intent| intent.act == NodeAct::Configure);
    let state = match (node.configured, node.state) {
        (true, _) => StepState::Done,
        (false, NodeState::Blocked) if node.identity.is_some() => StepState::Failed,
        (false, _) if is_meant => StepState::Running,
        (false, _) => StepState::Pending,
    };
    of_node("configure", node, state)
}

pub(super) fn start_step(node: &Node) -> Wanted {
    let state = match node.state {
        NodeState::Running => StepState::Done,
        NodeState::Starting | NodeState::Restarting => StepState::Running,
        NodeState::Blocked if node.configured => StepState::Failed,
        NodeState::Requested
        | NodeState::Preparing
        | NodeState::Prepared
        | NodeState::Configured
        | NodeState::Blocked
        | NodeState::Stopping
        | NodeState::Stopped
        | NodeState::Moving
        | NodeState::Watched
        | NodeState::Removing => StepState::Pending,
    };
    of_node("start", node, state)
}

fn contract_steps(state: &State, key: &ContractKey) -> Vec<Wanted> {
    let Some(contract) = state.contracts.get(key) else { return Vec::new() };
    let (send, mine) = match (contract.state, contract.tx_hash.is_some()) {
        (ContractState::Requested, _) => (StepState::Running, StepState::Pending),
        (ContractState::Sent, _) => (StepState::Done, StepState::Running),
        (ContractState::Deployed, _) => (StepState::Done, StepState::Done),
        (ContractState::Failed, false) => (StepState::Failed, StepState::Pending),
        (ContractState::Failed, true) => (StepState::Done, StepState::Failed),
    };
    let step = |step: &'static str, state: StepState| Wanted {
        name: step,
        target: name::contract(key),
        state,
        detail: if state == StepState::Failed { contract.state_reason.clone() } else { String::new() },
    };
    vec![step("send", send), step("mine", mine)]
}
