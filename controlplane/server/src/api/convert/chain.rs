//! Chains, nodes, contracts: what the state records, with what the leader last saw beside it.

use hanse_proto::v1 as pb;
use hanse_state::State;
use hanse_state::chain::life::Wish;
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::chain::repair;
use hanse_state::chain::rollout::Rollout;
use hanse_state::chain::seat::Seat;
use hanse_state::chain::{Chain, ChainState};
use hanse_state::contract::{Contract, ContractState};
use hanse_state::host::Reach;
use hanse_state::ids::{ChainKey, NodeKey};
use hanse_state::name;
use hanse_state::time::{HOUR_MS, Millis};

use super::{consortium, ms, outfit};
use crate::observed::{AnchorView, NodeView, Observed};

/// The nodes of a chain, in order.
pub(crate) fn nodes_of<'a>(state: &'a State, chain: &'a ChainKey) -> impl Iterator<Item = &'a Node> {
    let first = NodeKey::new(chain.clone(), hanse_state::ids::NodeId::new(0));
    state.nodes.range(first..).map(|(_, node)| node).take_while(move |node| node.key.chain == *chain)
}

/// A chain.
pub(crate) fn chain(state: &State, observed: &Observed, it: &Chain) -> pb::Chain {
    let nodes: Vec<&Node> = nodes_of(state, &it.key).collect();
    let highest = nodes.iter().filter_map(|node| observed.node(&node.key)).max_by_key(|view| view.height);
    let takes_part = |n: &&&Node| matches!(n.state, NodeState::Running | NodeState::Watched);
    let running = nodes.iter().filter(takes_part).filter(|n| n.health == Health::Healthy).count();
    let life = match it.state {
        ChainState::Requested => pb::ChainState::Requested,
        ChainState::Provisioning => pb::ChainState::Provisioning,
        ChainState::Running => pb::ChainState::Running,
        ChainState::Degraded => pb::ChainState::Degraded,
        ChainState::Failed => pb::ChainState::Failed,
        ChainState::Stopping => pb::ChainState::Stopping,
        ChainState::Paused => pb::ChainState::Paused,
        ChainState::Deleted => pb::ChainState::Deleted,
        ChainState::Removing => pb::ChainState::Removing,
        ChainState::Imported => pb::ChainState::Imported,
        ChainState::Halted => pb::ChainState::Halted,
    };
    pb::Chain {
        name: name::chain(&it.key),
        consortium: it.key.consortium.to_string(),
        chain: it.key.chain.to_string(),
        spec: Some(consortium::spec(&it.spec)),
        artifact_hash: made(it, || it.artifact_hash.to_string()),
        proposal: made(it, || it.proposal.proposal.to_string()),
        operation: made(it, || it.operation.to_string()),
        genesis_hash: it.genesis.as_ref().map(|genesis| genesis.sha256.to_string()).unwrap_or_default(),
        state: life.into(),
        state_reason: it.state_reason.clone(),
        state_since_ms: ms(it.state_since),
        height: highest.as_ref().map_or(0, |view| view.height),
        height_seen_at_ms: seen_at(highest.as_ref()),
        nodes_total: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
        nodes_running: u32::try_from(running).unwrap_or(u32::MAX),
        created_at_ms: ms(it.created_at),
        version: it.version,
        anchor: observed.anchor(&it.key).map(anchor),
        change_operation: it.change.map(|operation| operation.to_string()).unwrap_or_default(),
        rollout: it.rollout.as_ref().map(|rollout| self::rollout(rollout, &nodes)),
        imported: it.imported.as_ref().map(|imported| pb::ImportedChain {
            first_block: imported.first_block.clone(),
            since_ms: ms(imported.since),
            reason: imported.reason.clone(),
        }),
        program: it.outfit.program.as_ref().map(outfit::program),
        settings: it.outfit.settings.clone(),
        refit: it.refit.as_ref().map(outfit::refit),
        purge_at_ms: match it.wish {
            Wish::Delete { purge_at, .. } => ms(purge_at),
            Wish::Run | Wish::Pause { .. } | Wish::Watch => 0,
        },
        repairs_per_hour: u32::try_from(repair::budget(state, &it.key)).unwrap_or(u32::MAX),
        repairs_default: it.restarts_per_hour.is_none(),
        adoption: it.adoption.as_ref().map(|adoption| pb::ChainAdoption {
            owners: adoption.owners.iter().map(ToString::to_string).collect(),
            agreed_at_ms: ms(adoption.agreed_at),
            begun_at_ms: adoption.begun_at.map_or(0, ms),
        }),
    }
}

/// What only a chain that was made by the platform has; empty for others.
fn made(it: &Chain, what: impl FnOnce() -> String) -> String {
    if it.imported.is_some() { String::new() } else { what() }
}

fn rollout(it: &Rollout, nodes: &[&Node]) -> pb::Rollout {
    let of_it = || nodes.iter().filter(|node| node.wish.is_run());
    let reached = of_it().filter(|node| node.rolled >= it.number).count();
    pb::Rollout {
        number: it.number,
        reason: it.reason.clone(),
        since_ms: ms(it.since),
        halted: it.halted.clone().unwrap_or_default(),
        nodes_total: u32::try_from(of_it().count()).unwrap_or(u32::MAX),
        nodes_reached: u32::try_from(reached).unwrap_or(u32::MAX),
        limit_ms: it.limit_ms.map_or(0, |limit| ms(Millis(limit))),
    }
}

fn anchor(it: AnchorView) -> pb::AnchorStatus {
    pb::AnchorStatus {
        tree_size: it.size,
        root_hash: it.root,
        height: it.height,
        at_ms: ms(Millis(it.at_ms)),
        checked_at_ms: ms(Millis(it.checked_at_ms)),
        error: it.error,
    }
}

fn seen_at(view: Option<&NodeView>) -> i64 {
    view.map_or(0, |view| ms(Millis(view.at_ms)))
}

/// A node.
pub(crate) fn node(state: &State, observed: &Observed, it: &Node) -> pb::Node {
    let view = observed.node(&it.key);
    let hour_ago = Millis(state.now.0.saturating_sub(HOUR_MS));
    let restarts = it.restarts.iter().filter(|at| **at > hour_ago).count();
    let (node_id, public_key) =
        it.identity.as_ref().map(|id| (id.node_id.clone(), id.public_key.clone())).unwrap_or_default();
    pb::Node {
        name: name::node(&it.key),
        consortium: it.key.chain.consortium.to_string(),
        chain: it.key.chain.chain.to_string(),
        node: it.key.node.to_string(),
        owner: it.owner.to_string(),
        host: it.host.as_ref().map(ToString::to_string).unwrap_or_default(),
        p2p_port: it.p2p_port.into(),
        rpc_port: it.rpc_port.into(),
        rpc_url: rpc_url(state, it),
        generation: it.generation,
        moving_to: it.moving.as_ref().map(|moving| moving.to.to_string()).unwrap_or_default(),
        node_id,
        public_key,
        state: life(it.state).into(),
        state_reason: it.state_reason.clone(),
        state_since_ms: ms(it.state_since),
        health: health(it.health).into(),
        height: view.as_ref().map_or(0, |view| view.height),
        height_seen_at_ms: seen_at(view.as_ref()),
        peers: view.as_ref().map_or(0, |view| view.peers),
        restarts_last_hour: u32::try_from(restarts).unwrap_or(u32::MAX),
        repairs_left: u32::try_from(repair::left(state, it, state.now)).unwrap_or(u32::MAX),
        pid: view.as_ref().map_or(0, |view| view.pid),
        created_at_ms: state.chains.get(&it.key.chain).map_or(0, |chain| ms(chain.created_at)),
        validates: it.validates(),
        seat: it.seat.as_ref().map(seat),
        halt_height: it.halt.map_or(0, |halt| halt.height),
        halt_reached: it.stands_at().is_some(),
        program: it.outfit.program.as_ref().map(outfit::program),
        settings: it.outfit.settings.clone(),
        taken_from: it.adopting.as_ref().map(|adopting| adopting.home.clone()).unwrap_or_default(),
        health_reason: view.map_or_else(String::new, |view| view.reasons.join("; ")),
    }
}

fn seat(it: &Seat) -> pb::NodeSeat {
    pb::NodeSeat {
        wished: it.wished,
        held: it.held,
        consent: it.consent.iter().map(ToString::to_string).collect(),
        since_ms: ms(it.since),
        waits: it.waits.clone(),
    }
}

/// JSON-RPC listens on the loopback of the node's host, so this URL works there (or through a tunnel to it); in a container
/// on the container's own, where the platform alone gets at it.
fn rpc_url(state: &State, it: &Node) -> String {
    if let Some(endpoint) = &it.watched {
        return format!("http://{endpoint}");
    }
    let Some(host) = it.host.as_ref().and_then(|host| state.hosts.get(host)) else { return String::new() };
    match host.reach {
        Reach::Local { .. } | Reach::Ssh { .. } | Reach::Docker { .. } => format!("http://127.0.0.1:{}", it.rpc_port),
    }
}

fn life(state: NodeState) -> pb::NodeState {
    match state {
        NodeState::Requested => pb::NodeState::Requested,
        NodeState::Preparing => pb::NodeState::Preparing,
        NodeState::Prepared => pb::NodeState::Prepared,
        NodeState::Configured => pb::NodeState::Configured,
        NodeState::Starting => pb::NodeState::Starting,
        NodeState::Running => pb::NodeState::Running,
        NodeState::Restarting => pb::NodeState::Restarting,
        NodeState::Blocked => pb::NodeState::Blocked,
        NodeState::Stopping => pb::NodeState::Stopping,
        NodeState::Stopped => pb::NodeState::Stopped,
        NodeState::Removing => pb::NodeState::Removing,
        NodeState::Moving => pb::NodeState::Moving,
        NodeState::Watched => pb::NodeState::Watched,
    }
}

fn health(health: Health) -> pb::NodeHealth {
    match health {
        Health::Unknown => pb::NodeHealth::Unknown,
        Health::Healthy => pb::NodeHealth::Healthy,
        Health::Unhealthy => pb::NodeHealth::Unhealthy,
    }
}

/// A contract.
pub(crate) fn contract(it: &Contract) -> pb::Contract {
    let life = match it.state {
        ContractState::Requested => pb::ContractState::Requested,
        ContractState::Sent => pb::ContractState::Sent,
        ContractState::Deployed => pb::ContractState::Deployed,
        ContractState::Failed => pb::ContractState::Failed,
    };
    pb::Contract {
        name: name::contract(&it.key),
        consortium: it.key.chain.consortium.to_string(),
        chain: it.key.chain.chain.to_string(),
        contract: it.key.contract.to_string(),
        tenant: it.tenant.to_string(),
        transaction_hash: it.tx_hash.clone().unwrap_or_default(),
        address: it.address.clone().unwrap_or_default(),
        block: it.block.unwrap_or(0),
        operation: it.operation.to_string(),
        state: life.into(),
        state_reason: it.state_reason.clone(),
        state_since_ms: ms(it.state_since),
        created_at_ms: ms(it.created_at),
    }
}
