//! Reads of this area, from a snapshot of the state.

use super::Consortium;
use super::proposal::Proposal;
use crate::ids::{ConsortiumId, ProposalKey};
use crate::page::{Page, page};
use crate::{Rejection, State, name};

pub use super::proposal::tally;

/// Returns the consortium.
///
/// # Errors
/// `NotFound`.
pub fn get<'a>(state: &'a State, id: &ConsortiumId) -> Result<&'a Consortium, Rejection> {
    let missing = || Rejection::NotFound { field: "consortium".into(), what: name::consortium(id) };
    state.consortiums.get(id).ok_or_else(missing)
}

/// Returns consortiums after key `after`, at most `limit`.
///
/// # Errors
/// `InvalidName` if `after` is not a key.
pub fn list(state: &State, after: Option<&str>, limit: usize) -> Result<Page<Consortium>, Rejection> {
    page(&state.consortiums, after, limit, |_, _| true)
}

/// Returns the proposal.
///
/// # Errors
/// `NotFound`.
pub fn get_proposal<'a>(state: &'a State, key: &ProposalKey) -> Result<&'a Proposal, Rejection> {
    let missing = || Rejection::NotFound { field: "proposal".into(), what: name::proposal(key) };
    state.proposals.get(key).ok_or_else(missing)
}

/// Returns proposals, of one consortium or of all, after key `after`, at most `limit`.
///
/// # Errors
/// `InvalidName` if `after` is not a key.
pub fn list_proposals(
    state: &State,
    of: Option<&ConsortiumId>,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Proposal>, Rejection> {
    page(&state.proposals, after, limit, |key, _| of.is_none_or(|of| key.consortium == *of))
}
