//! How often the nodes of a chain are started again by the platform, and who may say so.
//!
//! Every node has its own budget within an hour of log time. A chain whose repair is off is left alone by the platform altogether:
//! whoever studies a fault wants it to stay as it is. A restart by hand gives a node its whole budget back.

use serde::{Deserialize, Serialize};

use super::life::Wish;
use super::node::{Node, RESTART_BUDGET};
use super::{REASON_MAX, query};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::ids::ChainKey;
use crate::{Rejection, State, check, name};

/// Most automatic restarts of a node within an hour: the pauses between them grow to five minutes, so more do not fit.
pub const RESTARTS_PER_HOUR_MAX: u32 = 15;

/// Says how often the nodes of a chain are started again by the platform. By an administrator or operator. Came with cluster
/// version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetChainRepair {
    /// Which chain.
    pub chain: ChainKey,
    /// Restarts of each node within an hour, to [`RESTARTS_PER_HOUR_MAX`]; 0: never; `None`: as for every chain, [`RESTART_BUDGET`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts_per_hour: Option<u32>,
    /// Why.
    pub reason: String,
}

/// Returns how often each node of a chain is started again by the platform within an hour; 0 if its repair is off.
pub fn budget(state: &State, chain: &ChainKey) -> usize {
    let said = state.chains.get(chain).and_then(|chain| chain.restarts_per_hour);
    said.map_or(RESTART_BUDGET, |said| usize::try_from(said).unwrap_or(usize::MAX))
}

/// Returns how many of them a node has left at that moment.
pub fn left(state: &State, node: &Node, now: crate::Millis) -> usize {
    budget(state, &node.key.chain).saturating_sub(super::node_apply::recent_restarts(node, now).len())
}

pub(crate) fn set(state: &mut State, cx: &mut Cx<'_>, c: &SetChainRepair) -> Result<Outcome, Rejection> {
    check::text("reason", &c.reason, REASON_MAX)?;
    let mut chain = query::get(state, &c.chain)?.clone();
    if let Some(number) = c.restarts_per_hour {
        check::range("restarts_per_hour", number.into(), 0, RESTARTS_PER_HOUR_MAX.into())?;
    }
    let resource = name::chain(&c.chain);
    if chain.wish == Wish::Watch {
        return Err(check::wrong_state("chain", resource, chain.state, super::adopting_apply::touches(&chain)));
    }
    if chain.restarts_per_hour == c.restarts_per_hour {
        return Ok(Outcome::Unchanged { resource });
    }

    chain.restarts_per_hour = c.restarts_per_hour;
    chain.version += 1;
    state.chains.insert(c.chain.clone(), chain);
    cx.updated(resource.clone());
    Ok(Outcome::Done { resource })
}
