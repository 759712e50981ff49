//! Life of a chain beside its nodes: its genesis, the end of its grace, and that one of others is taken over.

use hanse_state::chain::life::Wish;
use hanse_state::chain::query::nodes_of;
use hanse_state::chain::{Chain, ChainState};
use hanse_state::ids::ChainKey;
use hanse_state::{Millis, State};

use crate::height::plan_height;
use crate::moving::plan_drain;
use crate::rollout::{illness, plan_rollout};
use crate::seat::plan_seat;
use crate::{Act, Observed, Step};

/// Returns what to do next with a chain.
pub fn plan_chain(state: &State, key: &ChainKey, observed: &Observed, now: Millis) -> Step {
    let Some(chain) = state.chains.get(key) else { return Step::Done };
    match &chain.wish {
        Wish::Run => {}
        Wish::Delete { purging: false, purge_at, .. } if *purge_at <= now => {
            return Step::Do(Act::Purge { chain: key.clone() });
        }
        Wish::Watch => return plan_adoption(state, chain, observed, now),
        Wish::Pause { .. } | Wish::Delete { .. } => return Step::wait(chain.state_reason.clone()),
    }
    if chain.genesis.is_none() {
        let unprepared = nodes_of(state, key).filter(|node| node.identity.is_none()).count();
        return match unprepared {
            0 => Step::Do(Act::Genesis { chain: key.clone() }),
            _ => Step::wait(format!("{unprepared} nodes are not prepared yet")),
        };
    }
    // Depends on nothing else, and others wait for who counts.
    if let Some(step) = plan_lost(chain, observed) {
        return step;
    }
    if let Some(step) = plan_height(state, chain, observed, now) {
        return step;
    }
    if let Some(step) = plan_rollout(state, chain, observed, now) {
        return step;
    }
    if let Some(step) = plan_drain(state, chain) {
        return step;
    }
    if let Some(step) = plan_seat(state, chain, observed) {
        return step;
    }
    match chain.state {
        ChainState::Running => Step::Done,
        ChainState::Requested
        | ChainState::Provisioning
        | ChainState::Degraded
        | ChainState::Failed
        | ChainState::Stopping
        | ChainState::Paused
        | ChainState::Deleted
        | ChainState::Removing
        | ChainState::Imported
        | ChainState::Halted => Step::wait(chain.state_reason.clone()),
    }
}

/// A lost key that the ledger does not count any more; `None` if there is none, or if its validators are not known.
fn plan_lost(chain: &Chain, observed: &Observed) -> Option<Step> {
    let validators = observed.validators.get(&chain.key)?;
    let gone = chain.lost.iter().find(|key| !validators.contains(*key))?;
    Some(Step::Do(Act::Unseated { chain: chain.key.clone(), public_key: gone.clone() }))
}

/// What to do with a chain of others: nothing, unless it is taken over; then one node after another, as a rolling change.
fn plan_adoption(state: &State, chain: &Chain, observed: &Observed, now: Millis) -> Step {
    if chain.adoption.as_ref().is_none_or(|adoption| adoption.begun_at.is_none()) {
        return Step::Done;
    }
    if let Some(step) = plan_rollout(state, chain, observed, now) {
        return step;
    }
    let nodes: Vec<_> = nodes_of(state, &chain.key).collect();
    match nodes.iter().find_map(|node| Some((node.key.node, illness(node, &nodes, observed)?))) {
        Some((node, ill)) => Step::wait(format!("{node} is not well: {ill}")),
        None => Step::Do(Act::EndAdoption { chain: chain.key.clone() }),
    }
}
