//! Reads of this area, from a snapshot of the state.

use super::Host;
use crate::ids::HostId;
use crate::page::{Page, page};
use crate::{Rejection, State, name};

/// Returns the host.
///
/// # Errors
/// `NotFound`.
pub fn get<'a>(state: &'a State, id: &HostId) -> Result<&'a Host, Rejection> {
    state.hosts.get(id).ok_or_else(|| Rejection::NotFound { field: "host".into(), what: name::host(id) })
}

/// Returns those after key `after`, at most `limit`.
///
/// # Errors
/// `InvalidName` if `after` is not a key.
pub fn list(state: &State, after: Option<&str>, limit: usize) -> Result<Page<Host>, Rejection> {
    page(&state.hosts, after, limit, |_, _| true)
}

/// Returns the slots that each host could still give a node, by host; 0 unless it is ready.
pub fn free_slots(state: &State) -> std::collections::BTreeMap<HostId, u64> {
    state.hosts.iter().map(|(id, host)| (id.clone(), super::placement::free_slots(host))).collect()
}
