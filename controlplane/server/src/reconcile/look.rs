//! Looking at running nodes: the process on its host, and what the node says of itself. Heartbeats stay in the leader's
//! memory; only a change of health becomes an entry, through the planner.

use std::time::Duration;

use hanse_adapters_core::{AdapterError, InstanceStatus, RunState};
use hanse_engines_core::{EngineError, NodeHealth, NodePlan};
use hanse_planner::{InstanceView, Run};
use hanse_state::State;
use hanse_state::chain::height::HaltStage;
use hanse_state::chain::node::NodeFact;
use hanse_state::ids::NodeKey;

use super::World;
use super::act::Trouble;
use super::figures;
use super::node::Site;
use crate::observed::NodeView;

/// Looks at node `key` and keeps what was seen; a silent node is an error, so that it is asked again after a pause.
pub(super) async fn look(world: &World, state: &State, key: &NodeKey) -> Result<(), Trouble> {
    if state.nodes.get(key).is_some_and(|node| node.watched.is_some()) {
        return super::watch::look(world, state, key).await;
    }
    let result = look_at(world, state, key).await;
    if result.is_err() {
        world.observed.silent(key);
    }
    if let Err(Trouble::Engine(EngineError::Host(error))) = &result {
        // The host may be silent while the node lives: nothing is judged from that but the silence.
        let known = world.observed.for_planning().nodes.get(key).and_then(|view| view.instance.clone());
        let generation = known.map_or(0, |instance| instance.generation);
        world.observed.saw(key, InstanceView { generation, run: Run::Unreachable { reason: error.to_string() } });
    }
    result
}

async fn look_at(world: &World, state: &State, key: &NodeKey) -> Result<(), Trouble> {
    let site = Site::reach(world, state, key).await?;
    let Some(status) = site.adapter.look(&site.plan.key).await? else {
        world.observed.saw(key, InstanceView { generation: 0, run: Run::Missing });
        figures::saw(world, key, false);
        return Ok(());
    };
    world.observed.saw(key, view(&status));
    figures::saw(world, key, matches!(status.run, RunState::Running { .. }));
    // Afterwards, and whatever comes of it: what a replica without the program cannot ask keeps no health from being seen.
    let heard = hear(world, state, key, &site, &status).await;
    heard.and(watch_halt(world, state, key, &site, &status).await)
}

/// Keeps what the node itself says, if its process runs.
async fn hear(
    world: &World,
    state: &State,
    key: &NodeKey,
    site: &Site,
    status: &InstanceStatus,
) -> Result<(), Trouble> {
    let RunState::Running { pid, .. } = status.run else { return Ok(()) };
    let health = ask(world, key, site, status.generation).await?;
    let before = world.observed.node(key).map(|view| (view.height, view.block_time_ms));
    figures::heard(world, key, &health, before);
    let signed = super::node::watch_signed(world, key, site).await;
    let validators = super::node::watch_validators(world, state, site, health.syncing).await;
    world.observed.heard(
        key,
        NodeView {
            generation: status.generation,
            height: health.height,
            block_hash: health.block_hash,
            block_time_ms: health.block_time_ms,
            peers: health.peers,
            syncing: health.syncing,
            reasons: health.reasons.iter().take(REASONS_MAX).map(|reason| cut(reason)).collect(),
            pid,
            at_ms: (world.clock)().0,
        },
    );
    signed.and(validators)
}

/// Writes down that a node which was told to stop at a height stands there; whether its process lives or has ended with that.
async fn watch_halt(
    world: &World,
    state: &State,
    key: &NodeKey,
    site: &Site,
    status: &InstanceStatus,
) -> Result<(), Trouble> {
    let Some(halt) = site.node.halt.filter(|halt| halt.stage == HaltStage::Told) else { return Ok(()) };
    // What runs it is asked of the bundle that it runs.
    let program = world.programs.find(state, &site.node.outfit).await?;
    let plan = NodePlan { program, ..site.plan.clone() };
    let limit = Duration::from_millis(world.timing.hang_ms / 4);
    let asked = tokio::time::timeout(limit, site.engine.stands_at(site.adapter.as_ref(), &plan, halt.height)).await;
    let has_ended = matches!(status.run, RunState::Exited { .. });
    let told = match asked {
        Ok(Ok(true)) => {
            super::node::report(world, key, site.node.generation, NodeFact::Halted { height: halt.height }).await
        }
        Ok(Ok(false)) => Ok(()),
        // Of what runs and does not answer the look itself says so; what has ended is started again only once this is known.
        Ok(Err(error)) if has_ended => Err(error.into()),
        Err(_) if has_ended => Err(Trouble::Stale("its last words could not be read in time".into())),
        Ok(Err(_)) | Err(_) => Ok(()),
    };
    if told.is_ok() && has_ended {
        world.observed.placed(key, status.generation);
    }
    told
}

/// Asks a node whose process of `generation` runs how it is, for a quarter of the time after which silence counts as hanging.
async fn ask(world: &World, key: &NodeKey, site: &Site, generation: u64) -> Result<NodeHealth, Trouble> {
    let (began, limit) = ((world.clock)(), Duration::from_millis(world.timing.hang_ms / 4));
    let (why, is_silence) =
        match tokio::time::timeout(limit, site.engine.health(site.adapter.as_ref(), &site.plan)).await {
            Ok(Ok(health)) => return Ok(health),
            Ok(Err(error)) => (error.to_string(), is_silence(&error)),
            Err(_) => (format!("no answer within {} ms", limit.as_millis()), true),
        };
    match is_silence {
        true => world.observed.mute(key, generation, began, (world.clock)()),
        false => world.observed.unquiet(key),
    }
    Err(Trouble::Stale(format!("its process runs and does not answer: {why}")))
}

/// Whether an error means that nobody answered. One that says that it is busy lives, and of one whose host lets nobody through
/// nothing is known.
fn is_silence(error: &EngineError) -> bool {
    matches!(error, EngineError::Host(AdapterError::Transient { .. } | AdapterError::Unknown { .. }))
}

/// The planner's view of what a host said of a process.
pub(super) fn view(status: &InstanceStatus) -> InstanceView {
    let run = match &status.run {
        RunState::Prepared => Run::Prepared,
        RunState::Running { .. } => Run::Running,
        RunState::Exited { code, signal, last_log } => {
            let words = match signal {
                Some(signal) => format!("signal {signal}; last words: {}", last_log.trim()),
                None => last_log.trim().to_string(),
            };
            Run::Exited { code: *code, reason: cut(&words) }
        }
    };
    InstanceView { generation: status.generation, run }
}

/// Reasons kept of one node.
pub(super) const REASONS_MAX: usize = 8;

/// Longest part of a process's last words that goes into a reason.
const WORDS_MAX: usize = 300;

pub(super) fn cut(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(WORDS_MAX);
    text.chars().skip(skip).collect()
}
