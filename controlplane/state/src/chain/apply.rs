//! Rules of chains: what may be ordered, ordering it, its genesis, and its state as a function of its nodes.

use super::life::{NodeWish, Wish};
use super::node::{Health, Node, NodeState};
use super::outfit::Outfit;
use super::template::Template;
use super::{
    ALLOC_MAX, CHAIN_ID_MAX, Chain, ChainSpec, ChainState, GENESIS_BYTES_MAX, Genesis, REASON_MAX, RecordGenesis,
    RecordTransaction, anchor, governance, outfit_apply, query,
};
use crate::apply::Cx;
use crate::cluster::version::Version;
use crate::command::Outcome;
use crate::consortium::Consortium;
use crate::consortium::proposal::{Action, ProposalState};
use crate::contract::RAW_TRANSACTION_BYTES_MAX;
use crate::digest::Digest;
use crate::ids::{ChainKey, NodeId, NodeKey, OperationId, ProposalKey, TenantId};
use crate::operation::{self, OperationKind};
use crate::{Rejection, State, check, host, name};

/// Digits of a balance at genesis: every number of so many fits into 256 bits.
const WEI_DIGITS_MAX: usize = 77;

/// Checks that the chain can be ordered: nothing that is decided later can make it impossible.
pub(crate) fn check_spec(state: &State, consortium: &Consortium, spec: &ChainSpec) -> Result<(), Rejection> {
    let template = Template::find_at(&spec.template, spec.template_version, state.version())?;
    template.resolve(&spec.parameters)?;
    let (min, max) = (template.nodes_min as u64, template.nodes_max as u64);
    check::range("action.chain.nodes", spec.nodes.len() as u64, min, max)?;
    if let Some(node) = spec.nodes.iter().find(|node| !consortium.has_active(&node.owner)) {
        let what = name::consortium(&consortium.id);
        return Err(Rejection::NotAMember { field: "action.chain.nodes".into(), tenant: node.owner.to_string(), what });
    }
    check::range("action.chain.chain_id", spec.chain_id, 1, CHAIN_ID_MAX)?;
    check_alloc(spec)?;
    governance::check(consortium, template, spec)?;
    anchor::check(template, spec)?;
    check_unclaimed(state, consortium, spec)?;
    let ports = template.ports_per_node();
    let free = host::placement::slots_for_owners(&state.hosts, spec.nodes.iter().map(|node| &node.owner), ports);
    let needed = spec.nodes.len() as u64;
    if free < needed { Err(Rejection::TooFewHosts { needed, free }) } else { Ok(()) }
}

/// Name and number belong to no chain and to no other open vote, so that a vote that passes can always be carried out.
pub(super) fn check_unclaimed(state: &State, consortium: &Consortium, spec: &ChainSpec) -> Result<(), Rejection> {
    let key = ChainKey::new(consortium.id.clone(), spec.chain.clone());
    let existing = state.chains.values().map(|chain| (&chain.key.consortium, &chain.spec, name::chain(&chain.key)));
    let open = state.proposals.values().filter(|proposal| proposal.state == ProposalState::Open);
    let claimed = open.filter_map(|proposal| match &proposal.action {
        Action::CreateChain(spec) => Some((&proposal.key.consortium, spec, name::proposal(&proposal.key))),
        Action::ChangeChain(_) => None,
    });
    for (owner, other, what) in existing.chain(claimed) {
        if *owner == key.consortium && other.chain == key.chain {
            return Err(Rejection::AlreadyExists { field: "action.chain.chain".into(), what });
        }
        if other.chain_id == spec.chain_id {
            let what = format!("chain id {}", spec.chain_id);
            return Err(Rejection::AlreadyExists { field: "action.chain.chain_id".into(), what });
        }
    }
    Ok(())
}

fn check_alloc(spec: &ChainSpec) -> Result<(), Rejection> {
    let is_wei = |text: &str| {
        let digits = !text.is_empty() && text.len() <= WEI_DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit());
        digits && (text == "0" || !text.starts_with('0'))
    };
    if spec.alloc.len() > ALLOC_MAX {
        return Err(check::invalid("action.chain.alloc", spec.alloc.len(), format!("at most {ALLOC_MAX} accounts")));
    }
    if let Some(address) = spec.alloc.keys().find(|address| !governance::is_account(address)) {
        return Err(check::invalid("action.chain.alloc", address, "0x and 40 lower-case hex digits"));
    }
    if let Some(wei) = spec.alloc.values().find(|wei| !is_wei(wei)) {
        let rule = format!("whole wei of at most {WEI_DIGITS_MAX} digits without leading zeros");
        return Err(check::invalid("action.chain.alloc", wei, rule));
    }
    Ok(())
}

/// Orders the chain of a passed proposal: chain, nodes, places, operation, all in the deciding entry.
pub(crate) fn order(
    state: &mut State,
    cx: &mut Cx<'_>,
    proposal: &ProposalKey,
    artifact_hash: Digest,
    spec: &ChainSpec,
) -> OperationId {
    let key = ChainKey::new(proposal.consortium.clone(), spec.chain.clone());
    let operation = operation::apply::start(state, cx, OperationKind::CreateChain(key.clone()));
    let chain = Chain {
        key: key.clone(),
        spec: spec.clone(),
        artifact_hash,
        proposal: proposal.clone(),
        operation,
        state: ChainState::Requested,
        state_reason: "ordered".into(),
        state_since: cx.now,
        genesis: None,
        ran_at: None,
        version: 1,
        created_at: cx.now,
        wish: Wish::Run,
        change: None,
        rollout: None,
        nodes_ever: 0,
        outfit: Outfit::default(),
        refit: None,
        retired_keys: std::collections::BTreeSet::new(),
        lost: std::collections::BTreeSet::new(),
        imported: None,
        restarts_per_hour: None,
        adoption: None,
    };
    cx.created(name::chain(&key));
    state.chains.insert(key.clone(), chain);
    for (number, node) in (0..).zip(&spec.nodes) {
        let key = NodeKey::new(key.clone(), NodeId::new(number));
        cx.created(name::node(&key));
        let node = new_node(state, cx, key.clone(), node.owner.clone());
        state.nodes.insert(key, node);
    }
    host::apply::place_waiting(state, cx);
    sync(state, cx, &key);
    operation
}

pub(super) fn new_node(state: &State, cx: &Cx<'_>, key: NodeKey, owner: TenantId) -> Node {
    let generation = state.retired.get(&key.chain).copied().unwrap_or(0) + 1;
    Node {
        key,
        owner,
        host: None,
        p2p_port: 0,
        rpc_port: 0,
        generation,
        state: NodeState::Requested,
        state_reason: "waits for a slot on a host".into(),
        state_since: cx.now,
        health: Health::Unknown,
        identity: None,
        configured: false,
        intent: None,
        restarts: Vec::new(),
        metered_until: None,
        ports: std::collections::BTreeMap::new(),
        signed: None,
        wish: NodeWish::Run,
        leaves: false,
        rolled: 0,
        joined: 0,
        moving: None,
        outfit: Outfit::default(),
        seat: None,
        watched: None,
        halt: None,
        returns: false,
        adopting: None,
    }
}

pub(crate) fn genesis(state: &mut State, cx: &mut Cx<'_>, c: &RecordGenesis) -> Result<Outcome, Rejection> {
    let mut chain = query::get(state, &c.chain)?.clone();
    let resource = name::chain(&c.chain);
    let sha256 = Digest::of(&c.bytes.0);
    if let Some(genesis) = &chain.genesis {
        return if genesis.sha256 == sha256 {
            Ok(Outcome::Unchanged { resource })
        } else {
            let what = format!("the genesis of {resource} ({})", genesis.sha256);
            Err(Rejection::ConflictingFact { field: "bytes".into(), what })
        };
    }
    check::range("bytes", c.bytes.0.len() as u64, 1, GENESIS_BYTES_MAX as u64)?;
    if query::nodes_of(state, &c.chain).any(|node| node.identity.is_none()) {
        let needs = "every node must be prepared first";
        return Err(check::wrong_state("chain", resource, chain.state, needs));
    }

    chain.genesis = Some(Genesis { bytes: c.bytes.clone(), sha256, recorded_at: cx.now });
    chain.version += 1;
    state.chains.insert(c.chain.clone(), chain);
    cx.updated(resource.clone());
    sync(state, cx, &c.chain);
    Ok(Outcome::Done { resource })
}

/// Changes nothing: the audit record of the request is what it is for.
pub(crate) fn transaction(state: &State, c: &RecordTransaction) -> Result<Outcome, Rejection> {
    super::life_apply::check_runs(query::get(state, &c.chain)?)?;
    check::range("raw_transaction", c.bytes, 1, RAW_TRANSACTION_BYTES_MAX as u64)?;
    Ok(Outcome::Done { resource: name::chain(&c.chain) })
}

/// Brings the chain's state and its operation in line with its nodes.
pub(crate) fn sync(state: &mut State, cx: &mut Cx<'_>, key: &ChainKey) {
    let Some(chain) = state.chains.get(key) else { return };
    let nodes: Vec<&Node> = query::nodes_of(state, key).collect();
    let (next, reason) = state_of(chain, &nodes);
    if (next, &reason) != (chain.state, &chain.state_reason) {
        let mut chain = chain.clone();
        if next != chain.state {
            chain.state = next;
            chain.state_since = cx.now;
        }
        if next == ChainState::Running {
            chain.ran_at = chain.ran_at.or(Some(cx.now));
        }
        chain.state_reason = reason;
        chain.version += 1;
        cx.updated(name::chain(key));
        state.chains.insert(key.clone(), chain);
    }
    let version = state.version();
    let settled = state.chains.get(key).and_then(|chain| outfit_apply::settles(state, chain, cx.now));
    if let (Some(at), Some(chain)) = (settled, state.chains.get_mut(key)) {
        chain.refit.iter_mut().for_each(|refit| refit.settled_at = Some(at));
        if version >= Version::HEIGHTS {
            // All are well with it: what it was halted for is over.
            chain.rollout.iter_mut().for_each(|rollout| rollout.halted = None);
        }
        chain.version += 1;
        cx.updated(name::chain(key));
    }
    let operations = state.chains.get(key).map(|chain| [Some(chain.operation), chain.change]);
    for operation in operations.into_iter().flatten().flatten() {
        operation::apply::sync(state, cx, operation);
    }
}

fn state_of(chain: &Chain, nodes: &[&Node]) -> (ChainState, String) {
    let is_well = |node: &&&Node| node.state == NodeState::Running && node.health == Health::Healthy;
    let well = nodes.iter().filter(is_well).count();
    let say = |node: &&Node| {
        let state = match (node.state, node.health) {
            (NodeState::Running, Health::Unknown) => "not heard yet".to_owned(),
            (NodeState::Running, Health::Unhealthy) => "unhealthy".to_owned(),
            (state, _) => format!("{state:?}").to_lowercase(),
        };
        let reason = if node.state_reason.is_empty() { String::new() } else { format!(" ({})", node.state_reason) };
        format!("{} {state}{reason}", node.key.node)
    };
    let words = |of: &dyn Fn(&&&Node) -> bool| {
        let list: Vec<String> = nodes.iter().filter(|node| of(node)).map(say).collect();
        check::clip(&list.join("; "), REASON_MAX)
    };
    let count = nodes.len();
    if let Some(at_rest) = super::life_apply::state_of(chain, nodes) {
        return at_rest;
    }
    if let Some(halted) = super::height_apply::state_of(chain, nodes) {
        return halted;
    }
    if well == count {
        return (ChainState::Running, format!("all {count} nodes run and are healthy"));
    }
    if chain.ran_at.is_some() {
        return (ChainState::Degraded, words(&|node| !is_well(node)));
    }
    let is_blocked = |node: &&&Node| node.state == NodeState::Blocked;
    if nodes.iter().any(|node| is_blocked(&node)) {
        return (ChainState::Failed, words(&is_blocked));
    }
    let unplaced = nodes.iter().filter(|node| node.host.is_none()).count();
    if unplaced > 0 {
        let reason = format!("{unplaced} of {count} nodes wait for a slot on a host");
        return (ChainState::Requested, reason);
    }
    if nodes.iter().all(|node| node.state == NodeState::Requested) {
        return (ChainState::Requested, "ordered".into());
    }
    (ChainState::Provisioning, format!("{well} of {count} nodes run and are healthy"))
}
