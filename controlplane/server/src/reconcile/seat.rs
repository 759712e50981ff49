//! Seats among a chain's validators: the ledger's own transactions, made where those who must act have their keys.
//!
//! One call looks at the ledger and has the one act made that is due. While it waits it counts as tried without effect, so
//! that the ledger is asked again after a growing pause and not in every round.

use std::sync::Arc;

use hanse_adapters_core::Adapter;
use hanse_engines_core::{NodeIdentity, NodePlan, Progress, Role, Seat as EngineSeat};
use hanse_state::chain::node::{Node, NodeAct, NodeFact, RecordIntent};
use hanse_state::chain::query::nodes_of;
use hanse_state::chain::seat::Seat;
use hanse_state::chain::{Chain, ChainState};
use hanse_state::cloud::reason_kept;
use hanse_state::ids::NodeKey;
use hanse_state::{Command, State};

use super::World;
use super::act::Trouble;
use super::mask::masked;
use super::node::{Site, chain_plan, report};

/// How long after a decision was reversed the ledger's word on it is not the last, milliseconds; and not within so many blocks.
const SETTLE_MS: u64 = 30_000;
const SETTLE_BLOCKS: u64 = 3;

/// Makes the next step of the seat that was decided for node `key`.
pub(super) async fn step(world: &World, state: &State, key: &NodeKey, generation: u64) -> Result<(), Trouble> {
    let seat = state.nodes.get(key).and_then(|node| node.seat.clone()).filter(Seat::is_due);
    let Some(seat) = seat else { return Err(Trouble::Stale(format!("{key}: no seat waits for it"))) };
    world.order(Command::RecordIntent(RecordIntent { node: key.clone(), generation, act: NodeAct::Seat })).await?;
    let chain = state.chains.get(&key.chain).ok_or_else(|| Trouble::Stale(format!("{key}: its chain is gone")))?;
    let settles = settle_ms(chain)?.unwrap_or(u64::MAX);
    let reason = match act(world, state, key, &seat).await {
        // What was begun for the decision before may wait in somebody's pool; a block or two later the ledger would show it.
        Ok(Progress::Done) if seat.unsure && (world.clock)().since(seat.since) < settles => {
            "its ledger may still carry out what was begun before; it is asked again".into()
        }
        Ok(Progress::Done) => {
            return report(world, key, generation, NodeFact::Seated { validates: seat.wished }).await;
        }
        Ok(Progress::Waits { reason }) => reason,
        // Nothing was decided against: people see why, and it is tried again.
        Err(trouble) => trouble.to_string(),
    };
    // As the state keeps it, so that the same words are written once.
    let reason = reason_kept(&masked(&reason));
    if reason != seat.waits {
        report(world, key, generation, NodeFact::Seating { reason: reason.clone() }).await?;
    }
    Err(Trouble::Stale(reason))
}

/// How long the chain's ledger may still carry out what was begun before a decision was reversed, milliseconds; `None` while it makes
/// no block because its program is exchanged: it goes on later, with all that waits in its pools.
fn settle_ms(chain: &Chain) -> Result<Option<u64>, Trouble> {
    let block_ms = chain_plan(chain)?.parameters.get("block_time_ms").copied().unwrap_or_default();
    let stands = chain.state == ChainState::Halted;
    Ok((!stands).then(|| SETTLE_MS.max(block_ms.saturating_mul(SETTLE_BLOCKS))))
}

async fn act(world: &World, state: &State, key: &NodeKey, seat: &Seat) -> Result<Progress, Trouble> {
    let mut own = Site::reach(world, state, key).await?;
    // What its members voted for, put where it may not be yet.
    own.plan.program = world.programs.find(state, &own.node.outfit).await?;
    let plan = chain_plan(&own.chain)?;
    // Who leaves acts alone.
    let others = if seat.wished { consenting(world, state, key, seat).await } else { Vec::new() };
    let seats: Vec<EngineSeat<'_>> = others.iter().map(Other::seat).collect();
    let Some(identity) = &own.plan.identity else { return Err(Trouble::Stale(format!("{key}: has no identity"))) };
    let own_seat = EngineSeat { host: own.adapter.as_ref(), node: &own.plan, identity };
    let role = if seat.wished { Role::Validator } else { Role::Follower };
    Ok(own.engine.ensure_role(&plan, &own_seat, role, &seats).await?)
}

/// A validator whose owner voted for it.
struct Other {
    adapter: Arc<dyn Adapter>,
    plan: NodePlan,
    identity: NodeIdentity,
}

impl Other {
    fn seat(&self) -> EngineSeat<'_> {
        EngineSeat { host: self.adapter.as_ref(), node: &self.plan, identity: &self.identity }
    }
}

/// Those that can be reached: one that cannot keeps nobody else from acting.
async fn consenting(world: &World, state: &State, key: &NodeKey, seat: &Seat) -> Vec<Other> {
    let is_other = |node: &&Node| node.key != *key && node.validates() && seat.consent.contains(&node.owner);
    let mut others = Vec::new();
    for node in nodes_of(state, &key.chain).filter(is_other) {
        match Site::reach(world, state, &node.key).await {
            Ok(Site { adapter, mut plan, node, .. }) => {
                match world.programs.find(state, &node.outfit).await {
                    Ok(program) => plan.program = program,
                    Err(trouble) => {
                        tracing::info!(node = %node.key, %trouble, "cannot act for a seat");
                        continue;
                    }
                }
                if let Some(identity) = plan.identity.clone() {
                    others.push(Other { adapter, plan, identity });
                }
            }
            Err(trouble) => tracing::info!(node = %node.key, %trouble, "cannot act for a seat"),
        }
    }
    others
}
