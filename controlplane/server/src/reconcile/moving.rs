//! Moving a node to another host: stopped and fenced, its home carried over and compared, removed where it was; and removing
//! what is left on hosts that were given up.
//!
//! The key is in one running place at any moment: nothing is read before the host it leaves has fenced it, and nothing is
//! started before that host has nothing of it any more. What a home holds goes through this replica's memory, piece by piece, and
//! is written down nowhere.

use std::time::Duration;

use hanse_adapters_core::{Adapter, HomeFile, InstanceKey, Piece};
use hanse_planner::Run;
use hanse_state::chain::moving::RecordEvicted;
use hanse_state::chain::node::{Node, NodeAct, NodeFact, RecordIntent, instance_object};
use hanse_state::host::{Host, HostState};
use hanse_state::ids::{HostId, NodeKey};
use hanse_state::{Command, State, name};
use tracing::info;

use super::World;
use super::act::Trouble;
use super::driver::ActOn;
use super::node::{STOP_GRACE, explain, instance_key, report};

/// One step of a move: the intent, which only a leader can commit, then the step on the hosts, then the fact.
pub(super) async fn step(
    world: &World,
    state: &State,
    key: &NodeKey,
    generation: u64,
    act: NodeAct,
) -> Result<(), Trouble> {
    let node = state.nodes.get(key).ok_or_else(|| Trouble::Stale(format!("{key}: is gone")))?;
    world.order(Command::RecordIntent(RecordIntent { node: key.clone(), generation, act })).await?;
    let done = match node.adopting {
        Some(_) => super::adopting::attempt(world, state, node, act).await,
        None => attempt(world, state, node, act).await,
    };
    // Whatever it was, it is not what was seen last.
    world.observed.forget(key);
    match done {
        Ok(fact) => report(world, key, generation, fact).await,
        Err(trouble) => Err(explain(world, state, node, trouble, &None).await),
    }
}

async fn attempt(world: &World, state: &State, node: &Node, act: NodeAct) -> Result<NodeFact, Trouble> {
    let stale = |what: &str| Trouble::Stale(format!("{}: {what}", node.key));
    let instance = instance_key(state, node).ok_or_else(|| stale("cannot be named on a host"))?;
    let from = node.host.as_ref().and_then(|id| state.hosts.get(id)).ok_or_else(|| stale("has no host"))?;
    let moving = node.moving.as_ref().ok_or_else(|| stale("does not move"))?;
    let to = state.hosts.get(&moving.to).ok_or_else(|| stale("the host it goes to is gone"))?;
    match act {
        NodeAct::Fence => {
            let adapter = world.hosts.connect(from).await?;
            adapter.fence(&instance, node.generation, STOP_GRACE).await?;
            match adapter.look(&instance).await?.map(|status| super::look::view(&status).run) {
                Some(Run::Running) => Err(stale("still runs after it was fenced; it is fenced again")),
                _ => Ok(NodeFact::Fenced),
            }
        }
        NodeAct::Carry => {
            let (source, target) = (world.hosts.connect(from).await?, world.hosts.connect(to).await?);
            // Both refuse an attempt of a former leader, however late, once anything newer is there.
            source.fence(&instance, node.generation, STOP_GRACE).await?;
            target.fence(&instance, node.generation, Duration::ZERO).await?;
            carry(source.as_ref(), target.as_ref(), &instance, node.generation).await?;
            Ok(NodeFact::Carried)
        }
        NodeAct::Clear => {
            let (adapter, target) = (world.hosts.connect(from).await?, world.hosts.connect(to).await?);
            // What a former leader still carries, or would remove there, is refused from here on; then all is there for good.
            let next = node.generation + 1;
            target.fence(&instance, next, Duration::ZERO).await?;
            bring(adapter.as_ref(), target.as_ref(), &instance, next).await?;
            // An act of a former leader that comes when the node is here again is refused by its newer generation.
            adapter.fence(&instance, node.generation, STOP_GRACE).await?;
            adapter.remove_at(&instance, node.generation).await?;
            match adapter.look(&instance).await? {
                None => Ok(NodeFact::Cleared),
                Some(_) => Err(stale("is still on the host it leaves; it is removed again")),
            }
        }
        NodeAct::Prepare
        | NodeAct::Configure
        | NodeAct::Start
        | NodeAct::Stop
        | NodeAct::Remove
        | NodeAct::Seat
        | NodeAct::Return => Err(stale("moves, and this is no step of that")),
    }
}

/// Brings the home at `target` to what it is at `source`; what is there already is not sent again.
async fn carry(
    source: &dyn Adapter,
    target: &dyn Adapter,
    instance: &InstanceKey,
    generation: u64,
) -> Result<(), Trouble> {
    let wanted = source.list_home(instance).await?;
    if wanted.is_empty() {
        return Err(Trouble::Stale(format!("{instance}: the host it leaves has no home of it")));
    }
    let mut there = target.list_home(instance).await?;
    if there.iter().any(|file| wanted.iter().all(|it| it.path != file.path)) {
        // Left by something else than this move.
        target.remove_at(instance, generation).await?;
        target.fence(instance, generation, Duration::ZERO).await?;
        there.clear();
    }
    send((source, &wanted), (target, &there), instance, generation).await?;
    let there = target.list_home(instance).await?;
    match there == wanted {
        true => Ok(()),
        false => Err(Trouble::Stale(format!("{instance}: what arrived is not what was sent; it is sent again"))),
    }
}

/// Sends what the home at `source` has and the one at `target` has not, and removes nothing: the one at `source` may be half
/// removed already.
async fn bring(
    source: &dyn Adapter,
    target: &dyn Adapter,
    instance: &InstanceKey,
    generation: u64,
) -> Result<(), Trouble> {
    let left = source.list_home(instance).await?;
    let there = target.list_home(instance).await?;
    send((source, &left), (target, &there), instance, generation).await
}

/// Sends the files that the target has not.
async fn send(
    (source, files): (&dyn Adapter, &[HomeFile]),
    (target, there): (&dyn Adapter, &[HomeFile]),
    instance: &InstanceKey,
    generation: u64,
) -> Result<(), Trouble> {
    for file in files.iter().filter(|file| !there.contains(file)) {
        copy(source, target, instance, generation, file).await?;
    }
    Ok(())
}

async fn copy(
    source: &dyn Adapter,
    target: &dyn Adapter,
    instance: &InstanceKey,
    generation: u64,
    file: &HomeFile,
) -> Result<(), Trouble> {
    let mut offset = 0;
    loop {
        let content = source.read_piece(instance, &file.path, offset).await?;
        let sent = content.len() as u64;
        if sent == 0 && offset < file.bytes {
            return Err(Trouble::Stale(format!("{instance}: {} became shorter while it was read", file.path)));
        }
        let piece = Piece { path: file.path.clone(), mode: file.mode, bytes: file.bytes, offset, content };
        target.write_piece(instance, generation, &piece).await?;
        offset += sent;
        if offset >= file.bytes {
            return Ok(());
        }
    }
}

/// Plans the removal of what was given up on hosts that may answer again.
pub(super) fn plan(world: &World, state: &State, mut due: impl FnMut(String, ActOn)) {
    let trusted = |host: &&Host| !matches!(host.state, HostState::Distrusted | HostState::Maintenance);
    for host in state.hosts.values().filter(trusted) {
        for node in host.evicted.keys() {
            let (world, id, node) = (world.clone(), host.id.clone(), node.clone());
            let name = format!("{}/evicted/{}", name::host(&id), name::node(&node));
            due(name, Box::pin(async move { evict(&world, &id, &node).await }));
        }
    }
}

async fn evict(world: &World, id: &HostId, node: &NodeKey) -> Result<(), Trouble> {
    let stale = |what: &str| Trouble::Stale(format!("host {id}: {what}"));
    // By the word of a majority: whoever is not the leader any more must not remove what is wished there again.
    let state = world.replica.read().await.map_err(|error| stale(&format!("no majority answers: {error}")))?;
    let Some(host) = state.hosts.get(id).filter(|host| host.evicted.contains_key(node)) else { return Ok(()) };
    let cluster = state.cluster.as_ref().ok_or_else(|| stale("the cluster has no name yet"))?.id.to_string();
    let key = InstanceKey::new(&cluster, &instance_object(node)).ok_or_else(|| stale("cannot be named"))?;
    let adapter = world.hosts.connect(host).await?;
    let generation = host.evicted.get(node).copied().unwrap_or(0);
    adapter.fence(&key, generation, STOP_GRACE).await?;
    adapter.remove_at(&key, generation).await?;
    if adapter.look(&key).await?.is_some() {
        return Err(stale("what was given up there is still there; it is removed again"));
    }
    info!(host = %id, %node, "what was given up there is removed");
    world.order(Command::RecordEvicted(RecordEvicted { host: id.clone(), node: node.clone() })).await?;
    Ok(())
}
