//! What time alone makes due: votes past their deadline, usage to be metered.

use hanse_state::consortium::proposal::ProposalState;
use hanse_state::ids::ProposalKey;
use hanse_state::{Millis, State};

/// Returns the open proposals whose deadline is over at `now`, in order.
pub fn due_proposals(state: &State, now: Millis) -> Vec<ProposalKey> {
    let open = state.proposals.iter().filter(|(_, proposal)| proposal.state == ProposalState::Open);
    open.filter(|(_, proposal)| proposal.deadline <= now).map(|(key, _)| key.clone()).collect()
}

/// Returns up to when usage is to be metered, if some node's metered time is `period_ms` or more behind `now`.
pub fn due_metering(state: &State, now: Millis, period_ms: u64) -> Option<Millis> {
    let oldest = state.nodes.values().filter_map(|node| node.metered_until).min()?;
    (now.since(oldest) >= period_ms).then_some(now)
}
