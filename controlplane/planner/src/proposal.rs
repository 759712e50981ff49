//! Votes whose time is over.

use hanse_state::consortium::proposal::ProposalState;
use hanse_state::{Millis, State};

use crate::Act;

/// Returns an act for each open proposal whose deadline has come, by leader's clock and by log time.
///
/// Log time may be behind the leader's clock (nothing was logged) or ahead of it (a former leader's clock was): the
/// entry's own time is the later of both, so either is enough.
pub fn plan_proposals(state: &State, now: Millis) -> Vec<Act> {
    let now = now.max(state.now);
    let is_due = |p: &&hanse_state::consortium::proposal::Proposal| p.state == ProposalState::Open && p.deadline <= now;
    state.proposals.values().filter(is_due).map(|p| Act::CloseProposal { proposal: p.key.clone() }).collect()
}
