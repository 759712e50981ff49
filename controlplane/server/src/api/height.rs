//! Whether the height that a vote names can still be met: heights are what the leader sees, and no part of the state.

use hanse_planner::height::{best, lead};
use hanse_state::chain::life::{Change, ChangeChain};
use hanse_state::consortium::proposal::Action;
use hanse_state::ids::{ChainKey, ConsortiumId};
use hanse_state::name;

use super::{Call, request_id};
use crate::error::ApiError;

const FIELD: &str = "action.change_chain.upgrade.at_height";

/// Checks that a change at a height, if `action` is one, leaves the time to tell all nodes of it. A request that is known was
/// checked then.
///
/// # Errors
/// The height is past or too near, or nobody knows how high the chain is.
pub(super) fn check(call: &Call, of: &ConsortiumId, id: &str, action: &Action) -> Result<(), ApiError> {
    let Action::ChangeChain(ChangeChain { chain, change, .. }) = action else { return Ok(()) };
    let Change::Upgrade { at_height: Some(height), .. } = change else { return Ok(()) };
    let key = ChainKey::new(of.clone(), chain.clone());
    let chain = call.sight().chain(&key)?;
    let is_known = !id.is_empty() && {
        let id = request_id(id, call.context.log_clock())?;
        call.state.dedup.seen.get(&id).is_some_and(|seen| seen.outcome.is_ok())
    };
    if is_known {
        return Ok(());
    }
    let Some(best) = best(&call.context.observed().for_planning(), &key) else {
        let why =
            "no node has told this leader its height yet, so nobody knows whether there is time to tell all of them";
        return Err(ApiError::node_unavailable(&name::chain(&key), why));
    };
    let least = best.saturating_add(lead(&call.state, chain));
    if *height >= least {
        return Ok(());
    }
    let why = match *height <= best {
        true => format!("is {height}, and the chain is at {best}: that block is made"),
        false => format!(
            "is {height}, and the chain is at {best}: too near to tell all its nodes, one after another, before"
        ),
    };
    let advice =
        format!("name {least} or a later one, and leave time for the vote: whatever passes too late is called off");
    Err(ApiError::invalid(FIELD, &why, &advice))
}
